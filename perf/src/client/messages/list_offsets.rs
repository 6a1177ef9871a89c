//! ListOffsets (key 2), versions 1 to 10: the offset at a time, or at a named place of the log.
//!
//! Version 2 adds the isolation level and the throttle time, 4 leader epochs; 6 is flexible; 7, 8 and 9 add special
//! timestamps; 10 adds a time limit.

use std::ops::RangeInclusive;

use super::Request;
use crate::client::wire::{DecodeError, Reader, Writer};

/// Asks for the end of the log.
pub const LATEST: i64 = -1;
/// Asks for the log start offset.
pub const EARLIEST: i64 = -2;
/// Asks for the record with the largest timestamp (version 7 on).
pub const MAX_TIMESTAMP: i64 = -3;
/// Asks for the earliest offset on the broker's own disks (version 8 on).
pub const EARLIEST_LOCAL: i64 = -4;
/// Asks for the latest offset in remote storage (version 9 on).
pub const LATEST_TIERED: i64 = -5;

/// The request, of a consumer (replica -1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListOffsetsRequest {
    /// 0: the end is the high watermark; 1: the last stable offset (version 2 on).
    pub isolation_level: i8,
    /// The topics.
    pub topics: Vec<ListOffsetsTopic>,
    /// Milliseconds that the broker may take (version 10 on).
    pub timeout_ms: i32,
}

/// A topic's partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListOffsetsTopic {
    /// The topic's name.
    pub name: String,
    /// The partitions.
    pub partitions: Vec<ListOffsetsPartition>,
}

/// What to look up in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListOffsetsPartition {
    /// The partition's number.
    pub partition: i32,
    /// The leader epoch that the client knows, -1 for none (version 4 on).
    pub current_leader_epoch: i32,
    /// Milliseconds since 1970, or one of the constants of this module.
    pub timestamp: i64,
}

impl ListOffsetsRequest {
    /// Looks up one time in one partition.
    pub fn one(topic: &str, partition: i32, timestamp: i64) -> Self {
        let partitions = vec![ListOffsetsPartition { partition, current_leader_epoch: -1, timestamp }];
        let topics = vec![ListOffsetsTopic { name: topic.to_owned(), partitions }];
        Self { isolation_level: 0, topics, timeout_ms: 30_000 }
    }
}

/// The response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOffsetsResponse {
    /// Milliseconds for which the request was throttled (version 2 on).
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<ListedTopic>,
}

/// A topic's answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTopic {
    /// The topic's name.
    pub name: String,
    /// The partitions.
    pub partitions: Vec<ListedPartition>,
}

/// A partition's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedPartition {
    /// The partition's number.
    pub partition: i32,
    /// 0, or the error.
    pub error_code: i16,
    /// The timestamp of the record found, or -1.
    pub timestamp: i64,
    /// The offset found, or -1.
    pub offset: i64,
    /// The epoch of the record found, -1 when unknown or below version 4.
    pub leader_epoch: i32,
}

impl ListOffsetsResponse {
    /// The one partition's answer, when exactly one was asked for.
    pub fn only(&self) -> Option<&ListedPartition> {
        match self.topics.as_slice() {
            [topic] => match topic.partitions.as_slice() {
                [partition] => Some(partition),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Request for ListOffsetsRequest {
    const KEY: i16 = 2;
    const VERSIONS: RangeInclusive<i16> = 1..=10;
    const FIRST_FLEXIBLE: i16 = 6;
    type Response = ListOffsetsResponse;

    fn encode(&self, version: i16, writer: &mut Writer) {
        writer.int32(-1);
        if version >= 2 {
            writer.int8(self.isolation_level);
        }
        writer.array(&self.topics, |w, topic| {
            w.string(&topic.name);
            w.array(&topic.partitions, |w, partition| {
                w.int32(partition.partition);
                if version >= 4 {
                    w.int32(partition.current_leader_epoch);
                }
                w.int64(partition.timestamp);
                w.no_tagged_fields();
            });
            w.no_tagged_fields();
        });
        if version >= 10 {
            writer.int32(self.timeout_ms);
        }
        writer.no_tagged_fields();
    }

    fn decode(version: i16, reader: &mut Reader<'_>) -> Result<Self::Response, DecodeError> {
        let throttle_time_ms = if version >= 2 { reader.int32()? } else { 0 };
        let topics = reader.array(|r| {
            let name = r.string()?;
            let partitions = r.array(|r| partition(version, r))?;
            r.skip_tagged_fields()?;
            Ok(ListedTopic { name, partitions })
        })?;
        reader.skip_tagged_fields()?;
        Ok(ListOffsetsResponse { throttle_time_ms, topics })
    }
}

fn partition(version: i16, reader: &mut Reader<'_>) -> Result<ListedPartition, DecodeError> {
    let partition = ListedPartition {
        partition: reader.int32()?,
        error_code: reader.int16()?,
        timestamp: reader.int64()?,
        offset: reader.int64()?,
        leader_epoch: if version >= 4 { reader.int32()? } else { -1 },
    };
    reader.skip_tagged_fields()?;
    Ok(partition)
}
