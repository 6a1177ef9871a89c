//! A shard's manifest: everything that was flushed when it was committed, so that recovery starts here and reads on in
//! the journal. Replaced as a whole, or not at all.

use std::collections::BTreeSet;

use rkyv::rancor;

use crate::format::envelope::{self, Kind};
use crate::limits::{JOURNAL_BYTES_MAX, SEGMENT_BYTES_MAX};
use crate::types::{
    Generation, JournalSequence, LeaderEpoch, Offset, PartitionId, PartitionIndex, ProducerEpoch, ProducerId,
    TopicId,
};

const BLOCK: u64 = crate::limits::BLOCK_BYTES as u64;

/// A longer group than any that a release writes. Bytes.
const GROUP_BYTES_MAX: u64 = 256 << 20;

/// A larger sequence than any that a journal reaches, so that counting on from it cannot overflow.
const SEQUENCE_MAX: u64 = u64::MAX / 2;

/// The version of this layout; see `docs/formats/manifest.md`.
pub const VERSION: u16 = 1;

/// The whole manifest.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Manifest {
    /// The opening whose journal continues this manifest. Random, 64 bits, secret.
    pub generation: u64,
    /// The leader epoch that this opening stamps.
    pub epoch: i32,
    /// Where the journal goes on.
    pub tail: Tail,
    /// The journal's size in bytes.
    pub capacity: u64,
    /// The longest group, in bytes; decides where the journal wraps.
    pub group_bytes_max: u64,
    /// Every group up to this sequence was flushed.
    pub durable: u64,
    /// And every large batch digested up to this one.
    pub settled: u64,
    /// One part for each log.
    pub partitions: Vec<Partition>,
}

/// The first group that the manifest does not cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Tail {
    /// Its sequence.
    pub sequence: u64,
    /// Its byte position in the journal.
    pub position: u64,
    /// The checksum of the group before it.
    pub previous: u32,
}

/// One log, at a batch boundary below which every byte is flushed.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Partition {
    /// The topic's id.
    pub topic: [u8; 16],
    /// The partition's number.
    pub index: i32,
    /// The first offset that exists for clients.
    pub log_start: i64,
    /// The offset behind the last flushed batch.
    pub end: i64,
    /// The segments in order; the last one is being appended to.
    pub segments: Vec<Segment>,
    /// The flushed bytes of the last segment's last, partial 4 KiB block, which is not trusted on disk.
    pub tail_fragment: Vec<u8>,
    /// Where each leader epoch begins.
    pub epochs: Vec<Epoch>,
    /// The idempotent producers as of `end`.
    pub producers: Vec<Producer>,
}

/// One segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Segment {
    /// The offset that names it.
    pub base: i64,
    /// Its flushed bytes.
    pub length: u64,
    /// The largest timestamp in it, in milliseconds; -1 for none.
    pub max_timestamp: i64,
    /// When its first batch was appended, in milliseconds since 1970.
    pub created: i64,
}

/// A leader epoch and the first offset appended under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Epoch {
    /// The epoch.
    pub epoch: i32,
    /// Its first offset.
    pub start: i64,
}

/// A producer's last batches.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Producer {
    /// Its id.
    pub id: i64,
    /// Its incarnation.
    pub epoch: i16,
    /// When its last batch was appended: what it expires by. Milliseconds since 1970.
    pub appended_at: i64,
    /// The first offset of its open transaction; -1 for none. Kept for transactions.
    pub open_transaction: i64,
    /// Its last batches, oldest first.
    pub batches: Vec<ProducerBatch>,
}

/// What is remembered of a batch to recognise it when it comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ProducerBatch {
    /// The sequence number of its first record.
    pub base_sequence: i32,
    /// The sequence number of its last record.
    pub last_sequence: i32,
    /// Its first offset.
    pub base_offset: i64,
    /// Its last offset.
    pub last_offset: i64,
}

impl Manifest {
    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let payload = rkyv::to_bytes::<rancor::Error>(self).expect("writing into memory cannot fail");
        envelope::seal(Kind::Manifest, VERSION, &payload)
    }

    /// The manifest in a file's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, Error> {
        let (_, payload) = envelope::open(Kind::Manifest, VERSION..=VERSION, bytes)?;
        let manifest = rkyv::from_bytes::<Manifest, rancor::Error>(payload).map_err(|_| Error::Malformed)?;
        let mut ids = BTreeSet::new();
        let each_once = manifest.partitions.iter().all(|part| ids.insert(part.id()));
        if each_once && manifest.has_a_journal() && manifest.partitions.iter().all(Partition::is_consistent) {
            Ok(manifest)
        } else {
            Err(Error::Inconsistent)
        }
    }

    /// Whether the journal's measures can be right: positions are computed from them.
    fn has_a_journal(&self) -> bool {
        let group = self.group_bytes_max;
        let is_ring = group >= BLOCK
            && group.is_multiple_of(BLOCK)
            && group <= GROUP_BYTES_MAX
            && self.capacity >= 2 * group
            && self.capacity <= JOURNAL_BYTES_MAX;
        let tail = &self.tail;
        let has_tail = tail.position.is_multiple_of(BLOCK)
            && tail.position < self.capacity
            && (1..=SEQUENCE_MAX).contains(&tail.sequence);
        is_ring && has_tail && self.epoch >= 0
    }

    /// The generation as a type of its own.
    pub fn generation(&self) -> Generation {
        Generation(self.generation)
    }

    /// The sequence at the tail.
    pub fn tail_sequence(&self) -> JournalSequence {
        JournalSequence(self.tail.sequence)
    }
}

impl Partition {
    /// The part of a log that no manifest has seen yet.
    pub fn empty(id: PartitionId) -> Partition {
        Partition {
            topic: id.topic.0,
            index: id.index.get(),
            log_start: 0,
            end: 0,
            segments: Vec::new(),
            tail_fragment: Vec::new(),
            epochs: Vec::new(),
            producers: Vec::new(),
        }
    }

    /// Which log this is.
    pub fn id(&self) -> PartitionId {
        PartitionId { topic: TopicId(self.topic), index: PartitionIndex(self.index) }
    }

    /// Whether the parts agree: recovery relies on it, and a checksum does not show who wrote the bytes.
    fn is_consistent(&self) -> bool {
        let fragment = self.segments.last().map_or(0, |segment| segment.length % BLOCK);
        let is_batch = |b: &ProducerBatch| b.base_offset <= b.last_offset && b.last_offset < i64::MAX;
        self.log_start <= self.end
            && self.log_start >= 0
            && self.tail_fragment.len() as u64 == fragment
            && self.segments.is_sorted_by(|a, b| a.base < b.base)
            && self
                .segments
                .iter()
                .all(|s| s.base >= 0 && s.base <= self.end && s.length <= SEGMENT_BYTES_MAX)
            && self.producers.iter().flat_map(|p| &p.batches).all(is_batch)
            && self.epochs.is_sorted_by(|a, b| a.epoch < b.epoch && a.start <= b.start)
    }
}

impl Producer {
    /// Its id and incarnation as types of their own.
    pub fn identity(&self) -> (ProducerId, ProducerEpoch) {
        (ProducerId(self.id), ProducerEpoch(self.epoch))
    }
}

impl Epoch {
    /// The pair as types of their own.
    pub fn get(&self) -> (LeaderEpoch, Offset) {
        (LeaderEpoch(self.epoch), Offset(self.start))
    }
}

/// Why a file is no manifest that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The envelope around it is not whole.
    #[error(transparent)]
    Envelope(#[from] envelope::Error),
    /// The checksum is right and the content is not what the version promises.
    #[error("the manifest's content does not have the layout its version promises")]
    Malformed,
    /// The parts contradict each other.
    #[error("the manifest's parts contradict each other")]
    Inconsistent,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manifest that uses every field; its bytes in version 1 are committed.
    fn sample() -> Manifest {
        let batch =
            ProducerBatch { base_sequence: 40, last_sequence: 49, base_offset: 100, last_offset: 109 };
        Manifest {
            generation: 0x0123_4567_89ab_cdef,
            epoch: 7,
            tail: Tail { sequence: 42, position: 8192, previous: 0xdead_beef },
            capacity: 16 << 20,
            group_bytes_max: 1 << 20,
            durable: 44,
            settled: 43,
            partitions: vec![Partition {
                topic: [9; 16],
                index: 3,
                log_start: 5,
                end: 110,
                segments: vec![
                    Segment {
                        base: 0,
                        length: 65_536,
                        max_timestamp: 1_700_000_000_000,
                        created: 1_700_000_000_001,
                    },
                    Segment { base: 90, length: 4101, max_timestamp: -1, created: 1_700_000_000_002 },
                ],
                tail_fragment: b"tails".to_vec(),
                epochs: vec![Epoch { epoch: 2, start: 0 }, Epoch { epoch: 6, start: 90 }],
                producers: vec![Producer {
                    id: 77,
                    epoch: 1,
                    appended_at: 1_700_000_000_003,
                    open_transaction: -1,
                    batches: vec![batch],
                }],
            }],
        }
    }

    #[test]
    fn version_1_is_read_and_written_byte_for_byte() {
        let golden = include_bytes!("testdata/manifest.v1");
        assert_eq!(Manifest::decode(golden).expect("a manifest of version 1"), sample());
        assert_eq!(sample().encode(), golden, "the layout changed: it needs a new version");
    }

    #[test]
    fn parts_that_contradict_each_other_are_refused() {
        type Change = fn(&mut Manifest);
        let changes: &[(&str, Change)] = &[
            ("the ring is no two groups", |m| m.capacity = m.group_bytes_max),
            ("groups are no blocks", |m| m.group_bytes_max += 1),
            ("a group of nothing", |m| m.group_bytes_max = 0),
            ("the tail lies inside a block", |m| m.tail.position += 1),
            ("the tail lies outside the ring", |m| m.tail.position = m.capacity),
            ("there is no group 0", |m| m.tail.sequence = 0),
            ("counting on would overflow", |m| m.tail.sequence = u64::MAX),
            ("the log starts behind its end", |m| m.partitions[0].log_start = 111),
            ("the log starts below zero", |m| m.partitions[0].log_start = -1),
            ("the fragment does not fit the place", |m| m.partitions[0].tail_fragment.push(0)),
            ("segments overlap", |m| m.partitions[0].segments[1].base = 0),
            ("a segment begins behind the end", |m| m.partitions[0].segments[1].base = 111),
            ("a segment is larger than any", |m| m.partitions[0].segments[0].length = 1 << 40),
            ("epochs go back", |m| m.partitions[0].epochs[1].epoch = 1),
            ("a producer's batch ends before it begins", |m| {
                m.partitions[0].producers[0].batches[0].last_offset = 99;
            }),
            ("a log is there twice", |m| m.partitions.push(m.partitions[0].clone())),
        ];
        for (what, change) in changes {
            let mut manifest = sample();
            change(&mut manifest);
            let refused = matches!(Manifest::decode(&manifest.encode()), Err(Error::Inconsistent));
            assert!(refused, "{what}");
        }
    }
}
