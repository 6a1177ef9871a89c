//! Each shard's logs follow the metadata image: what it names is opened, what it names no more is let go of.

use corelane_shards::core::Config;
use corelane_shards::format::batch;
use corelane_shards::router::Logs;
use corelane_shards::types::{PartitionId, PartitionIndex};
use tokio::sync::watch;

use crate::cluster::image::{ImageSubscription, MetadataImage, Topic, TopicState};
use crate::cluster::store::Revision;
use crate::config::{TimestampType, TopicSettings, Values};

/// How long an idempotent producer is remembered: Kafka's `producer.id.expiration.ms`, a day. Milliseconds.
const PRODUCER_EXPIRATION_MS: i64 = 86_400_000;

/// Follows the images until there are no more. Runs as a task of the shard.
pub(super) async fn follow(
    logs: Logs,
    mut images: ImageSubscription,
    values: Values,
    followed: watch::Sender<Revision>,
) {
    let mut next = images.latest();
    loop {
        apply(&logs, &next, &values);
        followed.send_replace(next.revision());
        match images.reached(next.revision().next()).await {
            Some(image) => next = image,
            None => return,
        }
    }
}

fn apply(logs: &Logs, image: &MetadataImage, values: &Values) {
    let log = logs.home();
    for id in log.partitions() {
        if image.topic_by_id(id.topic).is_none_or(|topic| topic.state != TopicState::Live) {
            tracing::info!(partition = %id, "the log's topic is deleted");
            log.delete_partition(id);
        }
    }
    for topic in image.topics().filter(|topic| topic.state == TopicState::Live) {
        for id in partitions(topic).filter(|id| logs.is_owned_here(*id)) {
            if !log.has_partition(id) {
                log.create_partition(id, topic.epoch_base, config(topic, values));
            }
        }
    }
}

/// The logs of a topic.
pub(super) fn partitions(topic: &Topic) -> impl Iterator<Item = PartitionId> + use<> {
    let id = topic.id;
    (0..topic.partitions).map(move |index| PartitionId { topic: id, index: PartitionIndex(index) })
}

/// What a topic's settings say of its logs.
pub(super) fn config(topic: &Topic, values: &Values) -> Config {
    let overrides = topic.overrides.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let settings = TopicSettings::new(values, overrides).unwrap_or_else(|error| {
        // They were checked when the topic was created; a later release may have narrowed them.
        tracing::warn!(topic = topic.name, %error, "the topic's settings are not valid any more; the broker's apply");
        TopicSettings::new(values, []).expect("the broker's own settings are valid")
    });
    Config {
        segment_bytes: settings.segment_bytes.into(),
        segment_ms: i64::try_from(settings.segment.as_millis()).unwrap_or(i64::MAX),
        batch_bytes_max: usize::try_from(settings.max_message_bytes).expect("a usize holds 32 bits"),
        timestamp_type: match settings.message_timestamp_type {
            TimestampType::CreateTime => batch::TimestampType::CreateTime,
            TimestampType::LogAppendTime => batch::TimestampType::LogAppendTime,
        },
        producer_expiration_ms: PRODUCER_EXPIRATION_MS,
    }
}
