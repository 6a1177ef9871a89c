//! CreateTopics (key 19), versions 2 to 7.
//!
//! Version 4 lets partitions and replication be -1 for the broker's defaults; 5 is flexible and answers the topic's
//! shape and configuration; 7 answers topic ids.

use std::ops::RangeInclusive;

use super::Request;
use crate::client::wire::{DecodeError, Reader, TopicId, Writer};

/// The request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTopicsRequest {
    /// The topics to create.
    pub topics: Vec<CreatableTopic>,
    /// Milliseconds that the broker may take.
    pub timeout_ms: i32,
    /// Check, and create nothing.
    pub validate_only: bool,
}

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatableTopic {
    /// The name.
    pub name: String,
    /// Partitions; -1 for the default, or with assignments.
    pub num_partitions: i32,
    /// Replicas of each; -1 for the default, or with assignments.
    pub replication_factor: i16,
    /// For each partition the nodes that are to hold it; mostly empty.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// Configuration, by key.
    pub configs: Vec<(String, Option<String>)>,
}

impl CreateTopicsRequest {
    /// One topic with one replica.
    pub fn one(name: &str, num_partitions: i32) -> Self {
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions,
            replication_factor: 1,
            assignments: Vec::new(),
            configs: Vec::new(),
        };
        Self { topics: vec![topic], timeout_ms: 30_000, validate_only: false }
    }
}

/// The response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateTopicsResponse {
    /// Milliseconds for which the request was throttled.
    pub throttle_time_ms: i32,
    /// The results.
    pub topics: Vec<CreatedTopic>,
}

/// A topic's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// The name.
    pub name: String,
    /// The id (version 7 on).
    pub topic_id: TopicId,
    /// 0, or the error.
    pub error_code: i16,
    /// What was wrong, in words.
    pub error_message: Option<String>,
    /// Partitions, or -1 (version 5 on).
    pub num_partitions: i32,
    /// Replicas, or -1 (version 5 on).
    pub replication_factor: i16,
    /// The configuration, if the client may see it (version 5 on).
    pub configs: Option<Vec<CreatedConfig>>,
}

/// One key of a created topic's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedConfig {
    /// The key.
    pub name: String,
    /// The value; null when sensitive.
    pub value: Option<String>,
    /// Whether it cannot be changed.
    pub read_only: bool,
    /// Where it comes from (1 topic, 5 default, and so on).
    pub config_source: i8,
    /// Whether the value is a secret.
    pub is_sensitive: bool,
}

impl Request for CreateTopicsRequest {
    const KEY: i16 = 19;
    const VERSIONS: RangeInclusive<i16> = 2..=7;
    const FIRST_FLEXIBLE: i16 = 5;
    type Response = CreateTopicsResponse;

    fn encode(&self, _version: i16, writer: &mut Writer) {
        writer.array(&self.topics, write_topic);
        writer.int32(self.timeout_ms);
        writer.boolean(self.validate_only);
        writer.no_tagged_fields();
    }

    fn decode(version: i16, reader: &mut Reader<'_>) -> Result<Self::Response, DecodeError> {
        let response = CreateTopicsResponse {
            throttle_time_ms: reader.int32()?,
            topics: reader.array(|r| read_topic(version, r))?,
        };
        reader.skip_tagged_fields()?;
        Ok(response)
    }
}

fn write_topic(writer: &mut Writer, topic: &CreatableTopic) {
    writer.string(&topic.name);
    writer.int32(topic.num_partitions);
    writer.int16(topic.replication_factor);
    writer.array(&topic.assignments, |w, (partition, nodes)| {
        w.int32(*partition);
        w.array(nodes, |w, node| w.int32(*node));
        w.no_tagged_fields();
    });
    writer.array(&topic.configs, |w, (name, value)| {
        w.string(name);
        w.nullable_string(value.as_deref());
        w.no_tagged_fields();
    });
    writer.no_tagged_fields();
}

fn read_topic(version: i16, reader: &mut Reader<'_>) -> Result<CreatedTopic, DecodeError> {
    let topic = CreatedTopic {
        name: reader.string()?,
        topic_id: if version >= 7 { reader.topic_id()? } else { TopicId::NONE },
        error_code: reader.int16()?,
        error_message: reader.nullable_string()?,
        num_partitions: if version >= 5 { reader.int32()? } else { -1 },
        replication_factor: if version >= 5 { reader.int16()? } else { -1 },
        configs: if version >= 5 { reader.nullable_array(read_config)? } else { None },
    };
    reader.skip_tagged_fields()?;
    Ok(topic)
}

fn read_config(reader: &mut Reader<'_>) -> Result<CreatedConfig, DecodeError> {
    let config = CreatedConfig {
        name: reader.string()?,
        value: reader.nullable_string()?,
        read_only: reader.boolean()?,
        config_source: reader.int8()?,
        is_sensitive: reader.boolean()?,
    };
    reader.skip_tagged_fields()?;
    Ok(config)
}
