//! DeleteTopics (key 20), versions 1 to 6.
//!
//! Version 4 is flexible; 5 answers messages; 6 names topics by name or by id.

use std::ops::RangeInclusive;

use super::Request;
use crate::client::wire::{DecodeError, Reader, TopicId, Writer};

/// The request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteTopicsRequest {
    /// The topics to delete: a name, or from version 6 on an id instead.
    pub topics: Vec<(Option<String>, TopicId)>,
    /// Milliseconds that the broker may take.
    pub timeout_ms: i32,
}

impl DeleteTopicsRequest {
    /// One topic, by name.
    pub fn one(name: &str) -> Self {
        Self { topics: vec![(Some(name.to_owned()), TopicId::NONE)], timeout_ms: 30_000 }
    }
}

/// The response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteTopicsResponse {
    /// Milliseconds for which the request was throttled.
    pub throttle_time_ms: i32,
    /// The results.
    pub topics: Vec<DeletedTopic>,
}

/// A topic's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedTopic {
    /// The name; null when an unknown id was given.
    pub name: Option<String>,
    /// The id (version 6 on).
    pub topic_id: TopicId,
    /// 0, or the error.
    pub error_code: i16,
    /// What was wrong, in words (version 5 on).
    pub error_message: Option<String>,
}

impl Request for DeleteTopicsRequest {
    const KEY: i16 = 20;
    const VERSIONS: RangeInclusive<i16> = 1..=6;
    const FIRST_FLEXIBLE: i16 = 4;
    type Response = DeleteTopicsResponse;

    fn encode(&self, version: i16, writer: &mut Writer) {
        writer.array(&self.topics, |w, (name, topic_id)| {
            if version >= 6 {
                w.nullable_string(name.as_deref());
                w.topic_id(*topic_id);
                w.no_tagged_fields();
            } else {
                w.string(name.as_deref().unwrap_or_default());
            }
        });
        writer.int32(self.timeout_ms);
        writer.no_tagged_fields();
    }

    fn decode(version: i16, reader: &mut Reader<'_>) -> Result<Self::Response, DecodeError> {
        let response = DeleteTopicsResponse {
            throttle_time_ms: reader.int32()?,
            topics: reader.array(|r| topic(version, r))?,
        };
        reader.skip_tagged_fields()?;
        Ok(response)
    }
}

fn topic(version: i16, reader: &mut Reader<'_>) -> Result<DeletedTopic, DecodeError> {
    let topic = DeletedTopic {
        name: if version >= 6 { reader.nullable_string()? } else { Some(reader.string()?) },
        topic_id: if version >= 6 { reader.topic_id()? } else { TopicId::NONE },
        error_code: reader.int16()?,
        error_message: if version >= 5 { reader.nullable_string()? } else { None },
    };
    reader.skip_tagged_fields()?;
    Ok(topic)
}
