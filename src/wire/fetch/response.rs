//! Fetch 4-16, the response: segments of our own bytes in turn with the caller's records.
//!
//! Records are never copied: the caller hands in whatever lends bytes, and gets it back in its place among the
//! segments, ready for a gathered send. Empty records are an empty blob and never null, because librdkafka takes
//! null for an error.

use bytes::{Bytes, BytesMut};

use super::super::header::ResponseHeaderVersion;
use super::super::leader::{LeaderAndEpoch, NodeEndpoint, write_node_endpoints};
use super::super::{Encoding, Writer, frame};
use super::{FLEXIBLE_FROM, TOPIC_IDS_FROM, TopicRef, VERSIONS};

/// A run of bytes of a response.
#[derive(Clone, Debug)]
pub enum Segment<S> {
    /// Bytes that the encoder wrote.
    Owned(Bytes),
    /// Records of the caller's.
    Records(S),
}

impl<S: AsRef<[u8]>> AsRef<[u8]> for Segment<S> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Records(records) => records.as_ref(),
        }
    }
}

/// The answer for one partition, but for its records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Partition<'a> {
    /// The partition's number within the topic.
    pub index: i32,
    /// Kafka's error code, 0 for none.
    pub error_code: i16,
    /// The offset behind the last record that consumers may see.
    pub high_watermark: i64,
    /// The offset behind the last record whose transaction is decided.
    pub last_stable_offset: i64,
    /// The partition's first offset. From version 5.
    pub log_start_offset: i64,
    /// Where the client's log leaves ours. From version 12.
    pub diverging_epoch: Option<EpochEndOffset>,
    /// Who leads the partition now, if not this broker. From version 12.
    pub current_leader: Option<LeaderAndEpoch>,
    /// The aborted transactions among the records; null when the client reads uncommitted records.
    pub aborted_transactions: Option<&'a [AbortedTransaction]>,
    /// The replica to read from instead, -1 for none. From version 11.
    pub preferred_read_replica: i32,
}

/// The last epoch that two logs share, and where it ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EpochEndOffset {
    /// The epoch.
    pub epoch: i32,
    /// The offset behind its last record.
    pub end_offset: i64,
}

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AbortedTransaction {
    /// The producer that began it.
    pub producer_id: i64,
    /// Its first offset.
    pub first_offset: i64,
}

/// What the response says about itself, before its topics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Head {
    /// How long the client is throttled, in milliseconds.
    pub throttle_time_ms: i32,
    /// Kafka's error code for the whole request. From version 7.
    pub error_code: i16,
    /// The fetch session, 0 outside of one. From version 7.
    pub session_id: i32,
}

/// Writes a Fetch response from front to back. The counts promised are counts kept: [`ResponseEncoder::finish`]
/// stops the program if they are not.
#[derive(Debug)]
pub struct ResponseEncoder<S> {
    writer: Writer,
    version: i16,
    topics_left: usize,
    partitions_left: usize,
    /// Each record slice, with the number of our own bytes that come before it.
    records: Vec<(usize, S)>,
    records_bytes: usize,
}

impl<S: AsRef<[u8]>> ResponseEncoder<S> {
    /// Begins a response of `topics` topics.
    pub fn new(version: i16, correlation_id: i32, head: Head, topics: usize) -> Self {
        assert!(VERSIONS.contains(&version), "the request was parsed in this version");
        let encoding = Encoding::of(version, FLEXIBLE_FROM);
        let mut writer = frame::begin(correlation_id, ResponseHeaderVersion::of(encoding), encoding);
        writer.i32(head.throttle_time_ms);
        if version >= 7 {
            writer.i16(head.error_code);
            writer.i32(head.session_id);
        }
        writer.count(topics);
        Self {
            writer,
            version,
            topics_left: topics,
            partitions_left: 0,
            records: Vec::new(),
            records_bytes: 0,
        }
    }

    /// Begins a topic of `partitions` partitions, named as the request's version names topics.
    pub fn topic(&mut self, name: TopicRef<'_>, partitions: usize) {
        assert_eq!(self.partitions_left, 0, "the topic before is whole");
        self.topics_left = self.topics_left.checked_sub(1).expect("no more topics than promised");
        match name {
            TopicRef::Id(id) if self.version >= TOPIC_IDS_FROM => self.writer.uuid(id),
            TopicRef::Name(name) if self.version < TOPIC_IDS_FROM => self.writer.string(name),
            _ => panic!("the version says how a topic is named"),
        }
        self.writer.count(partitions);
        self.partitions_left = partitions;
        self.end_topic();
    }

    /// Writes one partition of the topic begun last, with its records in order.
    pub fn partition(&mut self, partition: &Partition<'_>, records: impl IntoIterator<Item = S>) {
        self.partitions_left = self.partitions_left.checked_sub(1).expect("no more partitions than promised");
        self.writer.i32(partition.index);
        self.writer.i16(partition.error_code);
        self.writer.i64(partition.high_watermark);
        self.writer.i64(partition.last_stable_offset);
        if self.version >= 5 {
            self.writer.i64(partition.log_start_offset);
        }
        self.aborted_transactions(partition.aborted_transactions);
        if self.version >= 11 {
            self.writer.i32(partition.preferred_read_replica);
        }
        self.records(records);
        self.partition_tags(partition);
        self.end_topic();
    }

    fn aborted_transactions(&mut self, transactions: Option<&[AbortedTransaction]>) {
        self.writer.nullable_count(transactions.map(<[_]>::len));
        for transaction in transactions.unwrap_or_default() {
            self.writer.i64(transaction.producer_id);
            self.writer.i64(transaction.first_offset);
            self.writer.no_tags();
        }
    }

    /// Takes the slices first, because their length is written before them.
    fn records(&mut self, records: impl IntoIterator<Item = S>) {
        let first = self.records.len();
        self.records.extend(records.into_iter().map(|slice| (0, slice)));
        let length = self.records[first..].iter().map(|(_, slice)| slice.as_ref().len()).sum();
        self.writer.count(length);
        self.records_bytes += length;
        for (ours_before, _) in &mut self.records[first..] {
            *ours_before = self.writer.length();
        }
    }

    fn partition_tags(&mut self, partition: &Partition<'_>) {
        let hints = self.version >= FLEXIBLE_FROM;
        let diverging = partition.diverging_epoch.filter(|_| hints);
        let leader = partition.current_leader.filter(|_| hints);
        self.writer.tag_count(u32::from(diverging.is_some()) + u32::from(leader.is_some()));
        if let Some(diverging) = diverging {
            self.writer.tag(0, |field| {
                field.i32(diverging.epoch);
                field.i64(diverging.end_offset);
                field.no_tags();
            });
        }
        if let Some(leader) = leader {
            self.writer.tag(1, |field| leader.write(field));
        }
    }

    fn end_topic(&mut self) {
        if self.partitions_left == 0 {
            self.writer.no_tags();
        }
    }

    /// Ends the response: the frame with its length, in segments. Endpoints belong to the leaders hinted at
    /// (version 16).
    pub fn finish(mut self, endpoints: &[NodeEndpoint<'_>]) -> Vec<Segment<S>> {
        assert_eq!((self.topics_left, self.partitions_left), (0, 0), "as many as promised");
        let endpoints = if self.version >= 16 { endpoints } else { &[] };
        write_node_endpoints(&mut self.writer, endpoints);
        let owned = frame::end_before(self.writer, self.records_bytes);
        interleave(owned, self.records)
    }
}

/// Cuts our own bytes where the records belong. Empty runs are left out.
fn interleave<S: AsRef<[u8]>>(mut owned: BytesMut, records: Vec<(usize, S)>) -> Vec<Segment<S>> {
    let mut segments = Vec::with_capacity(2 * records.len() + 1);
    let mut cut_off = 0;
    for (ours_before, slice) in records {
        let ours = owned.split_to(ours_before - cut_off).freeze();
        cut_off = ours_before;
        if !ours.is_empty() {
            segments.push(Segment::Owned(ours));
        }
        if !slice.as_ref().is_empty() {
            segments.push(Segment::Records(slice));
        }
    }
    if !owned.is_empty() {
        segments.push(Segment::Owned(owned.freeze()));
    }
    segments
}
