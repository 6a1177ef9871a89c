//! Metadata (key 3), versions 1 to 12: brokers, topics, partitions and their leaders.
//!
//! Version 2 adds the cluster id, 3 the throttle time, 4 `allow_auto_topic_creation`, 5 offline replicas, 7 leader
//! epochs, 8 authorized operations; 9 is flexible; 10 adds topic ids; 11 drops the cluster's operations; 12 lets a topic be
//! asked for by id alone.

use std::ops::RangeInclusive;

use super::Request;
use crate::client::wire::{DecodeError, Reader, TopicId, Writer};

/// The request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataRequest {
    /// The topics asked for; `None` asks for all, an empty list for none.
    pub topics: Option<Vec<MetadataRequestTopic>>,
    /// Whether a topic that does not exist may be created (version 4 on; below it always may).
    pub allow_auto_topic_creation: bool,
}

/// A topic asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataRequestTopic {
    /// The id (version 10 on).
    pub topic_id: TopicId,
    /// The name; it may be left out from version 12 on.
    pub name: Option<String>,
}

impl MetadataRequest {
    /// Asks for the named topics, creating none.
    pub fn of(names: &[&str]) -> Self {
        let topic =
            |name: &&str| MetadataRequestTopic { topic_id: TopicId::NONE, name: Some((*name).to_owned()) };
        Self { topics: Some(names.iter().map(topic).collect()), allow_auto_topic_creation: false }
    }
}

/// The response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataResponse {
    /// Milliseconds for which the request was throttled (version 3 on).
    pub throttle_time_ms: i32,
    /// The brokers.
    pub brokers: Vec<MetadataBroker>,
    /// The cluster's id (version 2 on).
    pub cluster_id: Option<String>,
    /// The controller's node id, or -1.
    pub controller_id: i32,
    /// The topics.
    pub topics: Vec<MetadataTopic>,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataBroker {
    /// Its node id.
    pub node_id: i32,
    /// Where it listens.
    pub host: String,
    /// The port it listens on.
    pub port: i32,
    /// Its rack, if it has one.
    pub rack: Option<String>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataTopic {
    /// 0, or the error.
    pub error_code: i16,
    /// The name; null from version 12 on when an unknown id was asked for.
    pub name: Option<String>,
    /// The id (version 10 on).
    pub topic_id: TopicId,
    /// Whether it is one of Kafka's own.
    pub is_internal: bool,
    /// Its partitions.
    pub partitions: Vec<MetadataPartition>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataPartition {
    /// 0, or the error.
    pub error_code: i16,
    /// Its number.
    pub partition: i32,
    /// The leader's node id, or -1.
    pub leader_id: i32,
    /// The leader's epoch, -1 below version 7.
    pub leader_epoch: i32,
    /// Nodes that hold it.
    pub replicas: Vec<i32>,
    /// Nodes that are in sync.
    pub in_sync_replicas: Vec<i32>,
    /// Nodes that are offline (version 5 on).
    pub offline_replicas: Vec<i32>,
}

impl Request for MetadataRequest {
    const KEY: i16 = 3;
    const VERSIONS: RangeInclusive<i16> = 1..=12;
    const FIRST_FLEXIBLE: i16 = 9;
    type Response = MetadataResponse;

    fn encode(&self, version: i16, writer: &mut Writer) {
        writer.nullable_array(self.topics.as_deref(), |w, topic| {
            if version >= 10 {
                w.topic_id(topic.topic_id);
            }
            match &topic.name {
                None if version >= 12 => w.nullable_string(None),
                name => w.string(name.as_deref().unwrap_or_default()),
            }
            w.no_tagged_fields();
        });
        if version >= 4 {
            writer.boolean(self.allow_auto_topic_creation);
        }
        if (8..=10).contains(&version) {
            writer.boolean(false);
        }
        if version >= 8 {
            writer.boolean(false);
        }
        writer.no_tagged_fields();
    }

    fn decode(version: i16, reader: &mut Reader<'_>) -> Result<Self::Response, DecodeError> {
        let response = MetadataResponse {
            throttle_time_ms: if version >= 3 { reader.int32()? } else { 0 },
            brokers: reader.array(broker)?,
            cluster_id: if version >= 2 { reader.nullable_string()? } else { None },
            controller_id: reader.int32()?,
            topics: reader.array(|r| topic(version, r))?,
        };
        if (8..=10).contains(&version) {
            reader.int32()?;
        }
        reader.skip_tagged_fields()?;
        Ok(response)
    }
}

fn broker(reader: &mut Reader<'_>) -> Result<MetadataBroker, DecodeError> {
    let broker = MetadataBroker {
        node_id: reader.int32()?,
        host: reader.string()?,
        port: reader.int32()?,
        rack: reader.nullable_string()?,
    };
    reader.skip_tagged_fields()?;
    Ok(broker)
}

fn topic(version: i16, reader: &mut Reader<'_>) -> Result<MetadataTopic, DecodeError> {
    let topic = MetadataTopic {
        error_code: reader.int16()?,
        name: if version >= 12 { reader.nullable_string()? } else { Some(reader.string()?) },
        topic_id: if version >= 10 { reader.topic_id()? } else { TopicId::NONE },
        is_internal: reader.boolean()?,
        partitions: reader.array(|r| partition(version, r))?,
    };
    if version >= 8 {
        reader.int32()?;
    }
    reader.skip_tagged_fields()?;
    Ok(topic)
}

fn partition(version: i16, reader: &mut Reader<'_>) -> Result<MetadataPartition, DecodeError> {
    let partition = MetadataPartition {
        error_code: reader.int16()?,
        partition: reader.int32()?,
        leader_id: reader.int32()?,
        leader_epoch: if version >= 7 { reader.int32()? } else { -1 },
        replicas: reader.array(Reader::int32)?,
        in_sync_replicas: reader.array(Reader::int32)?,
        offline_replicas: if version >= 5 { reader.array(Reader::int32)? } else { Vec::new() },
    };
    reader.skip_tagged_fields()?;
    Ok(partition)
}
