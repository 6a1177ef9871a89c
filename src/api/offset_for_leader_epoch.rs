//! OffsetForLeaderEpoch 2-4: where an epoch ends in our log, so that a client finds where its own log left it (KIP-320).
//!
//! - An epoch that the log was never written under, or that is still to come, has no end: -1 and -1, without an error.
//! - A client that believes in another leader epoch is answered with FENCED_LEADER_EPOCH or UNKNOWN_LEADER_EPOCH.
//! - Version 3 names the replica that asks, which makes no difference here; version 4 is flexible.

use bytes::Bytes;
use corelane_shards::types::LeaderEpoch;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::engine::{Engine, EpochEnd};
use super::located::Located;
use super::registry::Api;
use super::{CloseReason, ErrorCode, Request};
use crate::cluster::image::MetadataImage;

/// OffsetForLeaderEpoch.
pub const API: Api =
    Api { key: 23, name: "OffsetForLeaderEpoch", advertised: 2..=4, served: 2..=4, flexible_from: 4 };

/// Answers a request.
pub async fn handle(request: &Request<'_>, engine: &impl Engine) -> Result<Bytes, CloseReason> {
    let body: OffsetForLeaderEpochRequest = request.decode()?;
    let image = engine.image();
    let mut topics = Vec::with_capacity(body.topics.len());
    for topic in body.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let found = end_of_epoch(engine, &image, &topic.topic, asked).await;
            partitions.push(describe(asked.partition, found));
        }
        topics
            .push(OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions));
    }
    request.encode(&OffsetForLeaderEpochResponse::default().with_topics(topics))
}

async fn end_of_epoch(
    engine: &impl Engine,
    image: &MetadataImage,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<Option<EpochEnd>, ErrorCode> {
    let located = Located::by_name(engine, image, topic, asked.partition)?;
    located.check_epoch(asked.current_leader_epoch)?;
    if !(0..=located.epoch.get()).contains(&asked.leader_epoch) {
        return Ok(None);
    }
    Ok(Some(engine.end_offset_for_epoch(located.id, LeaderEpoch(asked.leader_epoch)).await?))
}

fn describe(index: i32, found: Result<Option<EpochEnd>, ErrorCode>) -> EpochEndOffset {
    let response = EpochEndOffset::default().with_partition(index);
    match found {
        Ok(Some(end)) => response.with_leader_epoch(end.epoch.get()).with_end_offset(end.end.get()),
        Ok(None) => response,
        Err(error) => response.with_error_code(error.code()),
    }
}
