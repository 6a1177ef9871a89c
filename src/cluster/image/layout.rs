//! The bytes of the image's keys and values. The tables are in `docs/formats/metadata.md`.
//!
//! Every value begins with its version; a version or a key that this program does not know is an error and
//! not skipped, because it may change the meaning of what is known.

use std::collections::BTreeMap;

use bytes::Bytes;
use corelane_shards::types::{LeaderEpoch, TopicId};

use super::{
    ids::{ClusterId, NodeId, is_reserved_topic_id},
    topic_name::{TOPIC_NAME_BYTES_MAX, collision_form, validate_topic_name},
    values::{Broker, Endpoint, Topic, TopicState},
};
use crate::cluster::{
    limits::{ENDPOINTS_PER_BROKER_MAX, OVERRIDES_PER_TOPIC_MAX, PARTITIONS_PER_TOPIC_MAX, STRING_BYTES_MAX},
    store::{Malformed, Reader, Writer},
};

const VERSION: u8 = 1;

/// A key, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Cluster,
    Epoch,
    Broker(NodeId),
    Topic(TopicId),
    /// In its collision form, so that "absent" excludes a colliding name as well.
    Name(String),
}

impl Key {
    pub(super) fn of_name(name: &str) -> Key {
        Key::Name(collision_form(name))
    }

    pub(super) fn encode(&self) -> Bytes {
        match self {
            Key::Cluster => "cluster".into(),
            Key::Epoch => "epoch".into(),
            Key::Broker(id) => format!("broker/{:010}", id.0).into(),
            Key::Topic(id) => format!("topic/{:032x}", u128::from_be_bytes(id.0)).into(),
            Key::Name(form) => format!("name/{form}").into(),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Key> {
        let text = std::str::from_utf8(bytes).ok()?;
        let key = match text.split_once('/') {
            None if text == "cluster" => Key::Cluster,
            None if text == "epoch" => Key::Epoch,
            Some(("broker", id)) => Key::Broker(NodeId(id.parse().ok().filter(|id| *id >= 0)?)),
            Some(("topic", id)) => Key::Topic(TopicId(u128::from_str_radix(id, 16).ok()?.to_be_bytes())),
            Some(("name", form)) => Key::Name(form.to_owned()),
            _ => return None,
        };
        // One key has one spelling.
        (key.encode() == bytes).then_some(key)
    }
}

fn begin() -> Writer {
    let mut writer = Writer::new();
    writer.u8(VERSION);
    writer
}

/// Reads a value of the known version, all of it.
fn value<T>(bytes: Bytes, read: impl FnOnce(&mut Reader) -> Result<T, Malformed>) -> Result<T, Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != VERSION {
        return Err(Malformed);
    }
    let value = read(&mut reader)?;
    if reader.is_empty() { Ok(value) } else { Err(Malformed) }
}

fn check(holds: bool) -> Result<(), Malformed> {
    if holds { Ok(()) } else { Err(Malformed) }
}

pub(super) fn encode_cluster(id: ClusterId) -> Vec<u8> {
    let mut writer = begin();
    writer.raw(&id.0);
    writer.into_vec()
}

pub(super) fn decode_cluster(bytes: Bytes) -> Result<ClusterId, Malformed> {
    value(bytes, |reader| reader.bytes16().map(ClusterId))
}

pub(super) fn encode_epoch(epoch: LeaderEpoch) -> Vec<u8> {
    let mut writer = begin();
    writer.i32(epoch.0);
    writer.into_vec()
}

pub(super) fn decode_epoch(bytes: Bytes) -> Result<LeaderEpoch, Malformed> {
    value(bytes, |reader| {
        let epoch = reader.i32()?;
        check(epoch >= 0)?;
        Ok(LeaderEpoch(epoch))
    })
}

pub(super) fn encode_name(id: TopicId) -> Vec<u8> {
    let mut writer = begin();
    writer.raw(&id.0);
    writer.into_vec()
}

pub(super) fn decode_name(bytes: Bytes) -> Result<TopicId, Malformed> {
    value(bytes, |reader| reader.bytes16().map(TopicId))
}

/// Whether the broker's strings and endpoints keep to their bounds, so that it can be written.
pub(super) fn broker_fits(broker: &Broker) -> bool {
    let strings = broker.endpoints.iter().flat_map(|one| [&one.listener, &one.host]).chain(&broker.rack);
    broker.node_id.0 >= 0
        && broker.endpoints.len() <= ENDPOINTS_PER_BROKER_MAX
        && strings.fold(0, |sum, string| sum + string.len()) <= STRING_BYTES_MAX
}

pub(super) fn encode_broker(broker: &Broker) -> Vec<u8> {
    assert!(broker_fits(broker));
    let mut writer = begin();
    writer.i32(broker.node_id.0);
    writer.raw(&broker.incarnation);
    writer.u8(u8::from(broker.rack.is_some()));
    if let Some(rack) = &broker.rack {
        writer.string(rack);
    }
    writer.u16(count_u16(broker.endpoints.len()));
    for endpoint in &broker.endpoints {
        writer.string(&endpoint.listener);
        writer.string(&endpoint.host);
        writer.u16(endpoint.port);
    }
    writer.into_vec()
}

pub(super) fn decode_broker(bytes: Bytes) -> Result<Broker, Malformed> {
    let broker = value(bytes, |reader| {
        let (node_id, incarnation) = (NodeId(reader.i32()?), reader.bytes16()?);
        let rack = match reader.u8()? {
            0 => None,
            1 => Some(reader.string(STRING_BYTES_MAX)?),
            _ => return Err(Malformed),
        };
        let mut endpoints = Vec::new();
        for _ in 0..reader.u16()? {
            check(endpoints.len() < ENDPOINTS_PER_BROKER_MAX)?;
            let (listener, host) = (reader.string(STRING_BYTES_MAX)?, reader.string(STRING_BYTES_MAX)?);
            endpoints.push(Endpoint { listener, host, port: reader.u16()? });
        }
        Ok(Broker { node_id, incarnation, rack, endpoints })
    })?;
    check(broker_fits(&broker))?;
    Ok(broker)
}

/// Whether a topic's overrides keep to their bounds, so that it can be written.
pub(super) fn overrides_fit(overrides: &BTreeMap<String, String>) -> bool {
    let bytes: usize = overrides.iter().map(|(key, value)| key.len() + value.len()).sum();
    overrides.len() <= OVERRIDES_PER_TOPIC_MAX && bytes <= STRING_BYTES_MAX
}

fn topic_is_sound(topic: &Topic) -> bool {
    validate_topic_name(&topic.name).is_ok()
        && !is_reserved_topic_id(topic.id)
        && (1..=PARTITIONS_PER_TOPIC_MAX).contains(&topic.partitions)
        && topic.replication_factor >= 1
        && topic.epoch_base.0 >= 0
        && overrides_fit(&topic.overrides)
}

pub(super) fn encode_topic(topic: &Topic) -> Vec<u8> {
    assert!(topic_is_sound(topic));
    let mut writer = begin();
    writer.u8(match topic.state {
        TopicState::Live => 1,
        TopicState::Deleting => 2,
    });
    writer.raw(&topic.id.0);
    writer.string(&topic.name);
    writer.i32(topic.partitions);
    writer.u16(topic.replication_factor.cast_unsigned());
    writer.i32(topic.epoch_base.0);
    writer.u16(count_u16(topic.overrides.len()));
    for (key, value) in &topic.overrides {
        writer.string(key);
        writer.string(value);
    }
    writer.into_vec()
}

pub(super) fn decode_topic(bytes: Bytes) -> Result<Topic, Malformed> {
    let topic = value(bytes, |reader| {
        let state = match reader.u8()? {
            1 => TopicState::Live,
            2 => TopicState::Deleting,
            _ => return Err(Malformed),
        };
        let (id, name) = (TopicId(reader.bytes16()?), reader.string(TOPIC_NAME_BYTES_MAX)?);
        let (partitions, replication_factor) = (reader.i32()?, reader.u16()?.cast_signed());
        let epoch_base = LeaderEpoch(reader.i32()?);
        let overrides = decode_overrides(reader)?;
        Ok(Topic { id, name, state, partitions, replication_factor, epoch_base, overrides })
    })?;
    check(topic_is_sound(&topic))?;
    Ok(topic)
}

fn decode_overrides(reader: &mut Reader) -> Result<BTreeMap<String, String>, Malformed> {
    let mut overrides = BTreeMap::new();
    for _ in 0..reader.u16()? {
        check(overrides.len() < OVERRIDES_PER_TOPIC_MAX)?;
        let (key, value) = (reader.string(STRING_BYTES_MAX)?, reader.string(STRING_BYTES_MAX)?);
        check(overrides.last_key_value().is_none_or(|(last, _)| *last < key))?;
        overrides.insert(key, value);
    }
    Ok(overrides)
}

fn count_u16(count: usize) -> u16 {
    u16::try_from(count).expect("counts are bounded far below 65536")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic() -> Topic {
        Topic {
            id: TopicId(*b"0123456789abcdef"),
            name: "orders".into(),
            state: TopicState::Live,
            partitions: 12,
            replication_factor: 1,
            epoch_base: LeaderEpoch(7),
            overrides: [("retention.ms".into(), "5".into())].into(),
        }
    }

    fn broker() -> Broker {
        let endpoint = Endpoint { listener: "PLAIN".into(), host: "h".into(), port: 9092 };
        Broker { node_id: NodeId(3), incarnation: [9; 16], rack: Some("r".into()), endpoints: vec![endpoint] }
    }

    #[test]
    fn the_bytes_of_each_value_are_fixed() {
        let expected = b"\x01\x010123456789abcdef\x06\x00orders\x0c\0\0\0\x01\0\x07\0\0\0\x01\0\x0c\x00retention.ms\x01\x005";
        assert_eq!(encode_topic(&topic()), expected);
        let expected = b"\x01\x03\0\0\0\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\
            \x01\x01\x00r\x01\x00\x05\x00PLAIN\x01\x00h\x84\x23";
        assert_eq!(encode_broker(&broker()), expected);
        assert_eq!(encode_epoch(LeaderEpoch(258)), b"\x01\x02\x01\0\0");
        assert_eq!(encode_cluster(ClusterId(*b"0123456789abcdef")), b"\x010123456789abcdef");
        assert_eq!(encode_name(TopicId(*b"0123456789abcdef")), b"\x010123456789abcdef");
    }

    #[test]
    fn the_spelling_of_each_key_is_fixed_and_unique() {
        let keys = [
            (Key::Cluster, "cluster"),
            (Key::Epoch, "epoch"),
            (Key::Broker(NodeId(7)), "broker/0000000007"),
            (Key::Topic(TopicId(0xabc_u128.to_be_bytes())), "topic/00000000000000000000000000000abc"),
            (Key::of_name("a.b_c"), "name/a_b_c"),
        ];
        for (key, text) in keys {
            assert_eq!(key.encode(), text);
            assert_eq!(Key::decode(text.as_bytes()), Some(key));
        }
        for other in
            ["", "clusters", "broker/7", "broker/-000000001", "topic/ABC", "topic/+0", "acl/x", "name"]
        {
            assert_eq!(Key::decode(other.as_bytes()), None, "{other}");
        }
        assert_eq!(Key::decode(b"topic/00000000000000000000000000000ABC"), None);
    }

    #[test]
    fn values_with_impossible_contents_are_malformed() {
        let mut bytes = encode_topic(&topic());
        let changes: [(usize, u8); 4] = [(0, 2), (1, 3), (20, b' '), (29, 0xff)];
        for (at, byte) in changes {
            let before = std::mem::replace(&mut bytes[at], byte);
            assert_eq!(decode_topic(bytes.clone().into()), Err(Malformed), "byte {at}");
            bytes[at] = before;
        }
        bytes.push(0);
        assert_eq!(decode_topic(bytes.into()), Err(Malformed));
        assert_eq!(decode_epoch(Bytes::from_static(b"\x01\xff\xff\xff\xff")), Err(Malformed));
    }

    proptest! {
        #![proptest_config(crate::testing::seeded())]

        #[test]
        fn what_was_written_is_read(
            name in "[a-zA-Z0-9_-]{1,249}", id in 2u128.., partitions in 1i32..=100_000, deleting: bool, epoch in 0i32..,
            overrides in prop::collection::btree_map("\\PC{0,20}", "\\PC{0,40}", 0..8), rack: Option<String>,
            hosts in prop::collection::vec(("[A-Z]{1,9}", "\\PC{0,30}", any::<u16>()), 0..5),
        ) {
            let state = if deleting { TopicState::Deleting } else { TopicState::Live };
            let (id, epoch_base) = (TopicId(id.to_be_bytes()), LeaderEpoch(epoch));
            let topic = Topic { id, name, state, partitions, replication_factor: 1, epoch_base, overrides };
            prop_assert_eq!(decode_topic(encode_topic(&topic).into()).unwrap(), topic);
            let endpoints = hosts.into_iter().map(|(listener, host, port)| Endpoint { listener, host, port }).collect();
            let broker = Broker { node_id: NodeId(epoch), incarnation: id.0, rack, endpoints };
            prop_assert_eq!(decode_broker(encode_broker(&broker).into()).unwrap(), broker);
        }

        #[test]
        fn any_bytes_give_a_value_or_an_error(
            noise in prop::collection::vec(any::<u8>(), 0..80), at in 0usize..60, byte: u8, cut in 0usize..70,
        ) {
            let mut changed = encode_topic(&topic());
            let place = at % changed.len();
            changed[place] = byte;
            changed.truncate(cut);
            for bytes in [Bytes::from(noise), changed.into()] {
                // Whatever is accepted is written again as it was read: one value has one encoding.
                if let Ok(topic) = decode_topic(bytes.clone()) {
                    prop_assert_eq!(&encode_topic(&topic), &bytes);
                }
                if let Ok(broker) = decode_broker(bytes.clone()) {
                    prop_assert_eq!(&encode_broker(&broker), &bytes);
                }
            }
        }
    }
}
