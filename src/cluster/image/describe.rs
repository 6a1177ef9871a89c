//! A key's value in words, for people who read the store's files.

use bytes::Bytes;
use corelane_shards::types::TopicId;

use super::{
    layout::{Key, decode_broker, decode_cluster, decode_epoch, decode_name, decode_topic},
    values::{Broker, Topic, TopicState},
};
use crate::cluster::store::Malformed;

/// What the value of this key says; none if it is a key, or a value, that this version cannot read. Strings that somebody
/// chose come quoted, so that a terminal shows them and does nothing else.
pub fn describe(key: &[u8], value: &Bytes) -> Option<String> {
    let value = value.clone();
    let said: Result<String, Malformed> = match Key::decode(key)? {
        Key::Cluster => decode_cluster(value).map(|id| TopicId(id.0).to_string()),
        Key::Epoch => decode_epoch(value).map(|epoch| epoch.to_string()),
        Key::Name(_) => decode_name(value).map(|id| id.to_string()),
        Key::Topic(_) => decode_topic(value).map(|topic| of_topic(&topic)),
        Key::Broker(_) => decode_broker(value).map(|broker| of_broker(&broker)),
    };
    said.ok()
}

fn of_topic(topic: &Topic) -> String {
    let state = match topic.state {
        TopicState::Live => "live",
        TopicState::Deleting => "deleting",
    };
    let overrides: Vec<String> =
        topic.overrides.iter().map(|(key, value)| format!(", {key:?}={value:?}")).collect();
    let Topic { name, partitions, replication_factor, epoch_base, .. } = topic;
    let plural = if *partitions == 1 { "" } else { "s" };
    format!(
        "{name} {state}, {partitions} partition{plural}, replication factor {replication_factor}, epoch base {epoch_base}{}",
        overrides.concat()
    )
}

fn of_broker(broker: &Broker) -> String {
    let endpoint =
        |one: &super::Endpoint| format!(", {:?} at {:?} port {}", one.listener, one.host, one.port);
    let endpoints: String = broker.endpoints.iter().map(endpoint).collect();
    let rack = broker.rack.as_ref().map(|rack| format!(", rack {rack:?}")).unwrap_or_default();
    format!("incarnation {}{rack}{endpoints}", TopicId(broker.incarnation))
}

#[cfg(test)]
mod tests {
    use corelane_shards::types::LeaderEpoch;

    use super::super::layout::{encode_epoch, encode_topic};
    use super::*;

    #[test]
    fn values_are_told_in_words_and_unknown_ones_are_not() {
        let topic = Topic {
            id: TopicId([7; 16]),
            name: "orders".to_owned(),
            state: TopicState::Live,
            partitions: 1,
            replication_factor: 1,
            epoch_base: LeaderEpoch(3),
            overrides: [("retention.ms".to_owned(), "\u{1b}[2J".to_owned())].into(),
        };
        let said = describe(&Key::Topic(topic.id).encode(), &encode_topic(&topic).into());
        let expected =
            "orders live, 1 partition, replication factor 1, epoch base 3, \"retention.ms\"=\"\\u{1b}[2J\"";
        assert_eq!(said.as_deref(), Some(expected));
        assert_eq!(describe(b"epoch", &encode_epoch(LeaderEpoch(9)).into()).as_deref(), Some("9"));
        assert_eq!(describe(b"epoch", &Bytes::from_static(b"\x02")), None);
        assert_eq!(describe(b"acl/x", &Bytes::new()), None);
    }
}
