//! OffsetForLeaderEpoch (key 23), versions 2 to 4: where an epoch of a partition ended (KIP-320).
//!
//! Version 3 adds the replica, for which a consumer says -1; 4 is flexible.

use std::ops::RangeInclusive;

use super::Request;
use crate::client::wire::{DecodeError, Reader, Writer};

/// The request, of a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetForLeaderEpochRequest {
    /// The topics.
    pub topics: Vec<EpochTopic>,
}

/// A topic's partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochTopic {
    /// The topic's name.
    pub name: String,
    /// The partitions.
    pub partitions: Vec<EpochPartition>,
}

/// The epoch asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochPartition {
    /// The partition's number.
    pub partition: i32,
    /// The leader epoch that the client knows, -1 for none.
    pub current_leader_epoch: i32,
    /// The epoch whose end is wanted.
    pub leader_epoch: i32,
}

impl OffsetForLeaderEpochRequest {
    /// Asks for the end of one epoch of one partition.
    pub fn one(topic: &str, partition: i32, leader_epoch: i32) -> Self {
        let partitions = vec![EpochPartition { partition, current_leader_epoch: -1, leader_epoch }];
        Self { topics: vec![EpochTopic { name: topic.to_owned(), partitions }] }
    }
}

/// The response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetForLeaderEpochResponse {
    /// Milliseconds for which the request was throttled.
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<EpochTopicEnds>,
}

/// A topic's answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochTopicEnds {
    /// The topic's name.
    pub name: String,
    /// The partitions.
    pub partitions: Vec<EpochEnd>,
}

/// Where an epoch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// 0, or the error.
    pub error_code: i16,
    /// The partition's number.
    pub partition: i32,
    /// The largest epoch that the log has, up to the one asked about; -1 for none.
    pub leader_epoch: i32,
    /// The offset behind that epoch's last record; -1 for none.
    pub end_offset: i64,
}

impl Request for OffsetForLeaderEpochRequest {
    const KEY: i16 = 23;
    const VERSIONS: RangeInclusive<i16> = 2..=4;
    const FIRST_FLEXIBLE: i16 = 4;
    type Response = OffsetForLeaderEpochResponse;

    fn encode(&self, version: i16, writer: &mut Writer) {
        if version >= 3 {
            writer.int32(-1);
        }
        writer.array(&self.topics, |w, topic| {
            w.string(&topic.name);
            w.array(&topic.partitions, |w, partition| {
                w.int32(partition.partition);
                w.int32(partition.current_leader_epoch);
                w.int32(partition.leader_epoch);
                w.no_tagged_fields();
            });
            w.no_tagged_fields();
        });
        writer.no_tagged_fields();
    }

    fn decode(_version: i16, reader: &mut Reader<'_>) -> Result<Self::Response, DecodeError> {
        let throttle_time_ms = reader.int32()?;
        let topics = reader.array(|r| {
            let name = r.string()?;
            let partitions = r.array(epoch_end)?;
            r.skip_tagged_fields()?;
            Ok(EpochTopicEnds { name, partitions })
        })?;
        reader.skip_tagged_fields()?;
        Ok(OffsetForLeaderEpochResponse { throttle_time_ms, topics })
    }
}

fn epoch_end(reader: &mut Reader<'_>) -> Result<EpochEnd, DecodeError> {
    let end = EpochEnd {
        error_code: reader.int16()?,
        partition: reader.int32()?,
        leader_epoch: reader.int32()?,
        end_offset: reader.int64()?,
    };
    reader.skip_tagged_fields()?;
    Ok(end)
}
