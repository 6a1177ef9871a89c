//! Produce 3-12 by hand: a view of the request in its frame, and the response.
//!
//! [`Request::parse`] walks the whole request once; after it, every iterator is infallible and allocates nothing.
//! Records are lent as slices with their place in the frame, so the engine can keep the frame and copy none of them.
//! Version 13 names topics by id and is not served. What the records hold is not looked at here.
//!
//! Versions: 5 answers the log start offset, 8 record errors (KIP-467), 9 is flexible, 10 hints at a new leader
//! (KIP-951), 11 and 12 differ only in what errors and transactions mean (KIP-890).

use std::ops::Range;

use bytes::Bytes;

use super::header::ResponseHeaderVersion;
use super::leader::{LeaderAndEpoch, NodeEndpoint, write_node_endpoints};
use super::{Encoding, Error, Reader, Result, Writer, frame};

/// The first flexible version.
pub const FLEXIBLE_FROM: i16 = 9;
/// The versions that this codec reads and writes.
pub const VERSIONS: std::ops::RangeInclusive<i16> = 3..=12;

/// A validated Produce request in its frame.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The transaction's name, or none.
    pub transactional_id: Option<&'a str>,
    /// 0: no answer; 1: the leader has it; -1: all in-sync replicas have it. Other values are the caller's to refuse.
    pub acks: i16,
    /// How long the client waits for replicas, in milliseconds.
    pub timeout_ms: i32,
    topics: usize,
    topics_reader: Reader<'a>,
}

impl<'a> Request<'a> {
    /// Checks the request whose body begins at byte `body_at` of `frame`. Bytes behind it are ignored, as by Kafka.
    pub fn parse(frame: &'a [u8], body_at: usize, version: i16) -> Result<Self> {
        if !VERSIONS.contains(&version) {
            return Err(Error::Version { what: "Produce", version });
        }
        let mut reader = Reader::new(frame, body_at, Encoding::of(version, FLEXIBLE_FROM));
        let transactional_id = reader.nullable_string("transactional id")?;
        let acks = reader.i16("acks")?;
        let timeout_ms = reader.i32("timeout")?;
        let topics = reader.count("topics", Topic::least(reader.encoding()))?;
        let topics_reader = reader;
        for _ in 0..topics {
            Topic::read(&mut reader)?;
        }
        reader.skip_tags()?;
        Ok(Self { transactional_id, acks, timeout_ms, topics, topics_reader })
    }

    /// The topics, in the order of the request.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = Topic<'a>> + use<'a> {
        let mut reader = self.topics_reader;
        (0..self.topics).map(move |_| Topic::read(&mut reader).expect("parse has walked it"))
    }
}

/// One topic of a Produce request.
#[derive(Clone, Copy, Debug)]
pub struct Topic<'a> {
    /// Its name, not checked against Kafka's rules for names.
    pub name: &'a str,
    partitions: usize,
    partitions_reader: Reader<'a>,
}

impl<'a> Topic<'a> {
    const fn least(encoding: Encoding) -> usize {
        encoding.least_string() + encoding.least_array() + encoding.least_tags()
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let name = reader.string("topic name")?;
        let partitions = reader.count("partitions", Partition::least(reader.encoding()))?;
        let partitions_reader = *reader;
        for _ in 0..partitions {
            Partition::read(reader)?;
        }
        reader.skip_tags()?;
        Ok(Self { name, partitions, partitions_reader })
    }

    /// The partitions, in the order of the request.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = Partition<'a>> + use<'a> {
        let mut reader = self.partitions_reader;
        (0..self.partitions).map(move |_| Partition::read(&mut reader).expect("parse has walked it"))
    }
}

/// One partition of a Produce request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Partition<'a> {
    /// Its number within the topic.
    pub index: i32,
    /// Its records, or null.
    pub records: Option<Records<'a>>,
}

impl<'a> Partition<'a> {
    const fn least(encoding: Encoding) -> usize {
        4 + encoding.least_array() + encoding.least_tags()
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let index = reader.i32("partition")?;
        let bytes = reader.nullable_bytes("records")?;
        let end = reader.position();
        reader.skip_tags()?;
        let records = bytes.map(|bytes| Records { bytes, range: end - bytes.len()..end });
        Ok(Self { index, records })
    }
}

/// The records of one partition, in their frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Records<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Where they are in the frame.
    pub range: Range<usize>,
}

/// The answer for one partition. Offsets and times of -1 mean none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartitionResponse<'a> {
    /// The partition's number within the topic.
    pub index: i32,
    /// Kafka's error code, 0 for none.
    pub error_code: i16,
    /// The offset of the first record.
    pub base_offset: i64,
    /// The broker's time at the append, in milliseconds, where the topic uses LogAppendTime.
    pub log_append_time_ms: i64,
    /// The partition's first offset. From version 5.
    pub log_start_offset: i64,
    /// The records that had the batch refused. From version 8.
    pub record_errors: &'a [RecordError<'a>],
    /// Why the batch was refused, for people. From version 8.
    pub error_message: Option<&'a str>,
    /// Who leads the partition now, if not this broker. From version 10.
    pub current_leader: Option<LeaderAndEpoch>,
}

/// A record that had its batch refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordError<'a> {
    /// The record's place in the batch.
    pub batch_index: i32,
    /// What is wrong with it, for people.
    pub message: Option<&'a str>,
}

/// Writes a Produce response from front to back. The counts promised are counts kept: [`ResponseEncoder::finish`]
/// stops the program if they are not.
#[derive(Debug)]
pub struct ResponseEncoder {
    writer: Writer,
    version: i16,
    topics_left: usize,
    partitions_left: usize,
}

impl ResponseEncoder {
    /// Begins a response of `topics` topics.
    pub fn new(version: i16, correlation_id: i32, topics: usize) -> Self {
        assert!(VERSIONS.contains(&version), "the request was parsed in this version");
        let encoding = Encoding::of(version, FLEXIBLE_FROM);
        let mut writer = frame::begin(correlation_id, ResponseHeaderVersion::of(encoding), encoding);
        writer.count(topics);
        Self { writer, version, topics_left: topics, partitions_left: 0 }
    }

    /// Begins a topic of `partitions` partitions.
    pub fn topic(&mut self, name: &str, partitions: usize) {
        assert_eq!(self.partitions_left, 0, "the topic before is whole");
        self.topics_left = self.topics_left.checked_sub(1).expect("no more topics than promised");
        self.writer.string(name);
        self.writer.count(partitions);
        self.partitions_left = partitions;
        self.end_topic();
    }

    /// Writes one partition of the topic begun last.
    pub fn partition(&mut self, partition: &PartitionResponse<'_>) {
        self.partitions_left = self.partitions_left.checked_sub(1).expect("no more partitions than promised");
        self.writer.i32(partition.index);
        self.writer.i16(partition.error_code);
        self.writer.i64(partition.base_offset);
        self.writer.i64(partition.log_append_time_ms);
        if self.version >= 5 {
            self.writer.i64(partition.log_start_offset);
        }
        if self.version >= 8 {
            self.record_errors(partition.record_errors);
            self.writer.nullable_text(partition.error_message);
        }
        match partition.current_leader.filter(|_| self.version >= 10) {
            Some(leader) => {
                self.writer.tag_count(1);
                self.writer.tag(0, |field| leader.write(field));
            }
            None => self.writer.no_tags(),
        }
        self.end_topic();
    }

    fn record_errors(&mut self, errors: &[RecordError<'_>]) {
        self.writer.count(errors.len());
        for error in errors {
            self.writer.i32(error.batch_index);
            self.writer.nullable_text(error.message);
            self.writer.no_tags();
        }
    }

    fn end_topic(&mut self) {
        if self.partitions_left == 0 {
            self.writer.no_tags();
        }
    }

    /// Ends the response: the frame with its length. Endpoints belong to the leaders hinted at (version 10).
    pub fn finish(mut self, throttle_time_ms: i32, endpoints: &[NodeEndpoint<'_>]) -> Bytes {
        assert_eq!((self.topics_left, self.partitions_left), (0, 0), "as many as promised");
        self.writer.i32(throttle_time_ms);
        let endpoints = if self.version >= 10 { endpoints } else { &[] };
        write_node_endpoints(&mut self.writer, endpoints);
        frame::end(self.writer)
    }
}
