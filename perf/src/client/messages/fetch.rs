//! Fetch (key 1), versions 4 to 16: reads record batches, waiting for them if asked to.
//!
//! Version 5 adds log start offsets, 7 fetch sessions (KIP-227), 9 leader epochs, 11 the rack; 12 is flexible and tells of
//! diverging epochs; 13 names topics by id alone; 15 moves the replica into a tagged field that consumers leave out; 16
//! adds the endpoints of new leaders, which are skipped here.

use std::ops::RangeInclusive;

use super::Request;
use crate::client::wire::{DecodeError, Reader, TopicId, Writer};

/// The request, of a consumer (replica -1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// Milliseconds to wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// Bytes that the broker collects before it answers early.
    pub min_bytes: i32,
    /// Bytes of the whole response; the first batch may be larger.
    pub max_bytes: i32,
    /// 0 reads all that is below the high watermark, 1 what is below the last stable offset.
    pub isolation_level: i8,
    /// The fetch session, 0 for none (version 7 on).
    pub session_id: i32,
    /// The epoch in the session: -1 without a session, 0 to ask for one (version 7 on).
    pub session_epoch: i32,
    /// What to read.
    pub topics: Vec<FetchTopic>,
    /// What to take out of the session (version 7 on).
    pub forgotten: Vec<ForgottenTopic>,
    /// The consumer's rack (version 11 on).
    pub rack_id: String,
}

/// A topic's partitions, by name below version 13 and by id from there on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchTopic {
    /// The name (up to version 12).
    pub name: String,
    /// The id (version 13 on).
    pub topic_id: TopicId,
    /// The partitions.
    pub partitions: Vec<FetchPartition>,
}

/// Where to read a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchPartition {
    /// The partition's number.
    pub partition: i32,
    /// The leader epoch that the consumer knows, -1 for none (version 9 on).
    pub current_leader_epoch: i32,
    /// The first offset wanted.
    pub fetch_offset: i64,
    /// The epoch of the last record read, -1 for none (version 12 on).
    pub last_fetched_epoch: i32,
    /// Bytes of this partition.
    pub max_bytes: i32,
}

/// A topic's partitions that leave a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgottenTopic {
    /// The name (up to version 12).
    pub name: String,
    /// The id (version 13 on).
    pub topic_id: TopicId,
    /// The partitions' numbers.
    pub partitions: Vec<i32>,
}

impl FetchRequest {
    /// A sessionless fetch of one partition: answered when one byte is there or `max_wait_ms` have passed.
    pub fn one(topic: &str, topic_id: TopicId, partition: i32, fetch_offset: i64, max_wait_ms: i32) -> Self {
        let max_bytes = 50 << 20;
        let partition = FetchPartition {
            partition,
            current_leader_epoch: -1,
            fetch_offset,
            last_fetched_epoch: -1,
            max_bytes,
        };
        Self {
            max_wait_ms,
            min_bytes: 1,
            max_bytes,
            isolation_level: 0,
            session_id: 0,
            session_epoch: -1,
            topics: vec![FetchTopic { name: topic.to_owned(), topic_id, partitions: vec![partition] }],
            forgotten: Vec::new(),
            rack_id: String::new(),
        }
    }
}

/// The response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchResponse {
    /// Milliseconds for which the request was throttled.
    pub throttle_time_ms: i32,
    /// 0, or the error of the whole (version 7 on).
    pub error_code: i16,
    /// The session, or 0 (version 7 on).
    pub session_id: i32,
    /// The topics.
    pub topics: Vec<FetchedTopic>,
}

/// What was read of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTopic {
    /// The name, empty from version 13 on.
    pub name: String,
    /// The id, none below version 13.
    pub topic_id: TopicId,
    /// The partitions.
    pub partitions: Vec<FetchedPartition>,
}

/// What was read of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPartition {
    /// The partition's number.
    pub partition: i32,
    /// 0, or the error.
    pub error_code: i16,
    /// The high watermark.
    pub high_watermark: i64,
    /// The last stable offset.
    pub last_stable_offset: i64,
    /// The log start offset, -1 below version 5.
    pub log_start_offset: i64,
    /// Producer id and first offset of each aborted transaction; null when the isolation level does not ask for them.
    pub aborted_transactions: Option<Vec<(i64, i64)>>,
    /// A replica that the consumer should read from instead, or -1 (version 11 on).
    pub preferred_read_replica: i32,
    /// Record batches, for [`crate::client::records`]; brokers must not answer null, and a test can see whether they do.
    pub records: Option<Vec<u8>>,
    /// Epoch and end offset where the consumer's log parts from the leader's (version 12 on).
    pub diverging_epoch: Option<(i32, i64)>,
    /// The leader's node id and epoch, if the broker gave the hint (version 12 on).
    pub current_leader: Option<(i32, i32)>,
}

impl FetchResponse {
    /// The one partition read, when exactly one was answered.
    pub fn only(&self) -> Option<&FetchedPartition> {
        match self.topics.as_slice() {
            [topic] => match topic.partitions.as_slice() {
                [partition] => Some(partition),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Request for FetchRequest {
    const KEY: i16 = 1;
    const VERSIONS: RangeInclusive<i16> = 4..=16;
    const FIRST_FLEXIBLE: i16 = 12;
    type Response = FetchResponse;

    fn encode(&self, version: i16, writer: &mut Writer) {
        if version <= 14 {
            writer.int32(-1);
        }
        writer.int32(self.max_wait_ms);
        writer.int32(self.min_bytes);
        writer.int32(self.max_bytes);
        writer.int8(self.isolation_level);
        if version >= 7 {
            writer.int32(self.session_id);
            writer.int32(self.session_epoch);
        }
        writer.array(&self.topics, |w, topic| {
            write_topic(version, w, &topic.name, topic.topic_id);
            w.array(&topic.partitions, |w, partition| write_partition(version, w, partition));
            w.no_tagged_fields();
        });
        if version >= 7 {
            writer.array(&self.forgotten, |w, topic| {
                write_topic(version, w, &topic.name, topic.topic_id);
                w.array(&topic.partitions, |w, partition| w.int32(*partition));
                w.no_tagged_fields();
            });
        }
        if version >= 11 {
            writer.string(&self.rack_id);
        }
        writer.no_tagged_fields();
    }

    fn decode(version: i16, reader: &mut Reader<'_>) -> Result<Self::Response, DecodeError> {
        let response = FetchResponse {
            throttle_time_ms: reader.int32()?,
            error_code: if version >= 7 { reader.int16()? } else { 0 },
            session_id: if version >= 7 { reader.int32()? } else { 0 },
            topics: reader.array(|r| read_topic(version, r))?,
        };
        reader.skip_tagged_fields()?;
        Ok(response)
    }
}

fn write_topic(version: i16, writer: &mut Writer, name: &str, topic_id: TopicId) {
    if version >= 13 { writer.topic_id(topic_id) } else { writer.string(name) }
}

fn write_partition(version: i16, writer: &mut Writer, partition: &FetchPartition) {
    writer.int32(partition.partition);
    if version >= 9 {
        writer.int32(partition.current_leader_epoch);
    }
    writer.int64(partition.fetch_offset);
    if version >= 12 {
        writer.int32(partition.last_fetched_epoch);
    }
    if version >= 5 {
        // The log start offset of a follower; a consumer has none.
        writer.int64(-1);
    }
    writer.int32(partition.max_bytes);
    writer.no_tagged_fields();
}

fn read_topic(version: i16, reader: &mut Reader<'_>) -> Result<FetchedTopic, DecodeError> {
    let (name, topic_id) =
        if version >= 13 { (String::new(), reader.topic_id()?) } else { (reader.string()?, TopicId::NONE) };
    let partitions = reader.array(|r| read_partition(version, r))?;
    reader.skip_tagged_fields()?;
    Ok(FetchedTopic { name, topic_id, partitions })
}

fn read_partition(version: i16, reader: &mut Reader<'_>) -> Result<FetchedPartition, DecodeError> {
    let mut partition = FetchedPartition {
        partition: reader.int32()?,
        error_code: reader.int16()?,
        high_watermark: reader.int64()?,
        last_stable_offset: reader.int64()?,
        log_start_offset: if version >= 5 { reader.int64()? } else { -1 },
        aborted_transactions: reader.nullable_array(aborted_transaction)?,
        preferred_read_replica: if version >= 11 { reader.int32()? } else { -1 },
        records: reader.nullable_bytes()?.map(<[u8]>::to_vec),
        diverging_epoch: None,
        current_leader: None,
    };
    reader.tagged_fields(|tag, field| {
        match tag {
            0 => partition.diverging_epoch = Some((field.int32()?, field.int64()?)),
            1 => partition.current_leader = Some((field.int32()?, field.int32()?)),
            _ => {}
        }
        Ok(())
    })?;
    Ok(partition)
}

fn aborted_transaction(reader: &mut Reader<'_>) -> Result<(i64, i64), DecodeError> {
    let transaction = (reader.int64()?, reader.int64()?);
    reader.skip_tagged_fields()?;
    Ok(transaction)
}
