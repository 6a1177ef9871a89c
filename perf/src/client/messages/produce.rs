//! Produce (key 0), versions 3 to 12: appends record batches.
//!
//! Version 5 answers the log start offset, 8 record errors; 9 is flexible; 10 adds hints of new leaders as tagged fields
//! (KIP-951), of which the partition's is read. A request with `acks` 0 gets no answer at all.

use std::ops::RangeInclusive;

use super::Request;
use crate::client::wire::{DecodeError, Reader, Writer};

/// The request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceRequest {
    /// The transactional id, if the producer has one.
    pub transactional_id: Option<String>,
    /// 0, 1, or -1 for all in-sync replicas.
    pub acks: i16,
    /// Milliseconds that the broker may wait for the acks.
    pub timeout_ms: i32,
    /// The topics.
    pub topics: Vec<ProduceTopic>,
}

/// A topic's partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceTopic {
    /// The topic's name.
    pub name: String,
    /// The partitions.
    pub partitions: Vec<ProducePartition>,
}

/// A partition's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducePartition {
    /// The partition's number.
    pub partition: i32,
    /// One record batch, as [`crate::client::records`] builds it, or whatever a test wants to send.
    pub records: Option<Vec<u8>>,
}

impl ProduceRequest {
    /// One partition's batch, outside any transaction, with 30 s to be acknowledged.
    pub fn one(acks: i16, topic: &str, partition: i32, records: Vec<u8>) -> Self {
        let partitions = vec![ProducePartition { partition, records: Some(records) }];
        Self {
            transactional_id: None,
            acks,
            timeout_ms: 30_000,
            topics: vec![ProduceTopic { name: topic.to_owned(), partitions }],
        }
    }
}

/// The response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProduceResponse {
    /// The topics.
    pub topics: Vec<ProducedTopic>,
    /// Milliseconds for which the request was throttled.
    pub throttle_time_ms: i32,
}

/// A topic's results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducedTopic {
    /// The topic's name.
    pub name: String,
    /// Its partitions.
    pub partitions: Vec<ProducedPartition>,
}

/// A partition's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducedPartition {
    /// The partition's number.
    pub partition: i32,
    /// 0, or the error.
    pub error_code: i16,
    /// The offset given to the batch's first record.
    pub base_offset: i64,
    /// The broker's time of the append, or -1 where the producer's times are kept.
    pub log_append_time_ms: i64,
    /// The log start offset, -1 below version 5.
    pub log_start_offset: i64,
    /// Records that were the reason of a refusal, with messages (version 8 on).
    pub record_errors: Vec<(i32, Option<String>)>,
    /// What was wrong, in words (version 8 on).
    pub error_message: Option<String>,
    /// A new leader's node id and epoch, if the broker gave the hint (version 10 on).
    pub current_leader: Option<(i32, i32)>,
}

impl ProduceResponse {
    /// The one partition's result, when exactly one was asked for.
    pub fn only(&self) -> Option<&ProducedPartition> {
        match self.topics.as_slice() {
            [topic] => match topic.partitions.as_slice() {
                [partition] => Some(partition),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Request for ProduceRequest {
    const KEY: i16 = 0;
    const VERSIONS: RangeInclusive<i16> = 3..=12;
    const FIRST_FLEXIBLE: i16 = 9;
    type Response = ProduceResponse;

    fn encode(&self, _version: i16, writer: &mut Writer) {
        writer.nullable_string(self.transactional_id.as_deref());
        writer.int16(self.acks);
        writer.int32(self.timeout_ms);
        writer.array(&self.topics, |w, topic| {
            w.string(&topic.name);
            w.array(&topic.partitions, |w, partition| {
                w.int32(partition.partition);
                w.nullable_bytes(partition.records.as_deref());
                w.no_tagged_fields();
            });
            w.no_tagged_fields();
        });
        writer.no_tagged_fields();
    }

    fn decode(version: i16, reader: &mut Reader<'_>) -> Result<Self::Response, DecodeError> {
        let topics = reader.array(|r| {
            let name = r.string()?;
            let partitions = r.array(|r| partition(version, r))?;
            r.skip_tagged_fields()?;
            Ok(ProducedTopic { name, partitions })
        })?;
        let throttle_time_ms = reader.int32()?;
        reader.skip_tagged_fields()?;
        Ok(ProduceResponse { topics, throttle_time_ms })
    }
}

fn partition(version: i16, reader: &mut Reader<'_>) -> Result<ProducedPartition, DecodeError> {
    let mut partition = ProducedPartition {
        partition: reader.int32()?,
        error_code: reader.int16()?,
        base_offset: reader.int64()?,
        log_append_time_ms: reader.int64()?,
        log_start_offset: if version >= 5 { reader.int64()? } else { -1 },
        record_errors: if version >= 8 { reader.array(record_error)? } else { Vec::new() },
        error_message: if version >= 8 { reader.nullable_string()? } else { None },
        current_leader: None,
    };
    reader.tagged_fields(|tag, field| {
        if tag == 0 {
            partition.current_leader = Some((field.int32()?, field.int32()?));
        }
        Ok(())
    })?;
    Ok(partition)
}

fn record_error(reader: &mut Reader<'_>) -> Result<(i32, Option<String>), DecodeError> {
    let error = (reader.int32()?, reader.nullable_string()?);
    reader.skip_tagged_fields()?;
    Ok(error)
}
