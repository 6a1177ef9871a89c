//! What drives a shard's core in these tests: it keeps what the core asked for until a test lets it happen or fail.

use std::collections::VecDeque;
use std::rc::Rc;

use corelane_shards::core::effect::{Completion, Effect, OperationError, Tag};
use corelane_shards::core::journal::{FlushMethod, Geometry, Start};
use corelane_shards::core::{Acks, AppendError, Config, FetchError, Fetched, Rules, Shard, Tuning};
use corelane_shards::format::batch::{TimestampType, fixture};
use corelane_shards::format::index::SparseIndex;
use corelane_shards::format::manifest::{Manifest, Tail};
use corelane_shards::memory::{Mapping, Slab, Staging};
use corelane_shards::types::{
    Generation, LeaderEpoch, PartitionId, PartitionIndex, ProducerEpoch, ProducerId, Sequence, TopicId,
};

/// The memory and journal of a shard, in bytes and chunks.
pub struct Size {
    pub group: u64,
    pub journal: u64,
    pub chunks: usize,
    pub slab: usize,
}

/// A shard, and everything it asked for and answered.
pub struct Driver {
    pub core: Shard,
    pub queue: VecDeque<Effect>,
    pub answers: Vec<Result<(), AppendError>>,
    /// Answers that were there when the append returned.
    pub answered_at_once: usize,
    pub fetched: Vec<Result<Fetched, FetchError>>,
    pub manifests: Vec<Manifest>,
    pub removed: Vec<PartitionId>,
    pub room: usize,
    pub now: i64,
    /// The bytes of the only segment that can be read, and what the files of its index say; without, nothing is there.
    pub files: Option<(Vec<u8>, SparseIndex)>,
}

/// The log of topic number `n`.
pub fn id(n: u8) -> PartitionId {
    PartitionId { topic: TopicId([n; 16]), index: PartitionIndex(0) }
}

/// Small batches up to 9000 bytes, written by the dozen KiB.
pub fn tuning() -> Tuning {
    Tuning {
        large_batch_bytes: 9_000,
        lazy_write_bytes: 12 << 10,
        lazy_reserve_bytes: 0,
        ..Tuning::default()
    }
}

/// A topic's settings: nothing rolls by time, producers expire after a second.
pub fn config() -> Config {
    Config {
        segment_bytes: 1 << 30,
        segment_ms: i64::MAX / 2,
        batch_bytes_max: 1 << 20,
        timestamp_type: TimestampType::CreateTime,
        producer_expiration_ms: 1000,
    }
}

impl Driver {
    pub fn new(size: Size, tuning: Tuning) -> Driver {
        let group = usize::try_from(size.group).expect("small");
        let mapping = Rc::new(Mapping::private(size.chunks * group).expect("memory"));
        let start = Start {
            generation: Generation(7),
            geometry: Geometry { capacity: size.journal, group_bytes_max: size.group },
            tail: Tail { sequence: 1, position: 0, previous: 0 },
            flush_method: FlushMethod::Dsync,
        };
        let (staging, slab) = (Staging::new(mapping, group), Slab::new(size.slab));
        Driver {
            core: Shard::new(start, LeaderEpoch(1), staging, slab, tuning, Rules::default()),
            queue: VecDeque::new(),
            answers: Vec::new(),
            answered_at_once: 0,
            fetched: Vec::new(),
            manifests: Vec::new(),
            removed: Vec::new(),
            room: 0,
            now: 1_000_000,
            files: None,
        }
    }

    pub fn create(&mut self, n: u8) {
        self.create_with(n, config());
    }

    pub fn create_with(&mut self, n: u8, config: Config) {
        self.core.create_partition(id(n), LeaderEpoch(1), config);
    }

    /// Sorts what the core asked for and answered.
    pub fn take(&mut self) {
        for effect in self.core.take_effects() {
            match effect {
                Effect::Appended { result, .. } => self.answers.push(result.map(|_| ())),
                Effect::Fetched { result, .. } => self.fetched.push(result),
                Effect::RemovePartition { partition } => self.removed.push(partition),
                Effect::Room => self.room += 1,
                Effect::Stopped { .. }
                | Effect::Advanced { .. }
                | Effect::Sought { .. }
                | Effect::RecordsDeleted { .. } => {}
                operation => self.queue.push_back(operation),
            }
        }
    }

    /// A millisecond passes, and the core turns.
    pub fn turn(&mut self) {
        self.now += 1;
        self.core.turn(self.now);
        self.take();
    }

    /// Ends what is queued now, as `outcome` says: it happens, fails, or stays under way. Returns how many ended.
    pub fn complete(&mut self, mut outcome: impl FnMut(&Effect) -> Option<bool>) -> usize {
        let mut ended = 0;
        for effect in std::mem::take(&mut self.queue) {
            let Some(happens) = outcome(&effect) else {
                self.queue.push_back(effect);
                continue;
            };
            ended += 1;
            let mut index = None;
            let (operation, buffer) = match effect {
                Effect::WriteJournal { operation, .. }
                | Effect::FlushJournal { operation }
                | Effect::GrowJournal { operation, .. }
                | Effect::CreateSegment { operation, .. }
                | Effect::FlushDirectory { operation, .. }
                | Effect::WriteSegment { operation, .. }
                | Effect::FlushSegment { operation, .. }
                | Effect::TrimSegment { operation, .. } => (operation, None),
                Effect::CommitManifest { operation, manifest } => {
                    self.manifests.push(*manifest);
                    (operation, None)
                }
                Effect::ReadSegment { operation, position, mut buffer, .. } => {
                    // Without files, one that ends before the place asked for.
                    let bytes = self.files.as_ref().map_or(&[][..], |(bytes, _)| bytes);
                    let start = usize::try_from(position).expect("small").min(bytes.len());
                    let length = buffer.len().min(bytes.len() - start);
                    buffer[..length].copy_from_slice(&bytes[start..start + length]);
                    buffer.set_length(length);
                    (operation, Some(buffer))
                }
                Effect::ReadIndex { operation, .. } => {
                    index = self.files.as_ref().map(|(_, index)| Box::new(index.clone()));
                    (operation, None)
                }
                Effect::WriteIndex { operation, index: written, .. } => {
                    index = Some(written);
                    (operation, None)
                }
                other => unreachable!("{other:?} is no operation"),
            };
            let result = if happens { Ok(()) } else { Err(OperationError::Os(28)) };
            self.core.complete(Completion { operation, result, buffer, index });
        }
        self.take();
        ended
    }

    /// So many turns in which everything happens at once.
    pub fn rest(&mut self, turns: usize) {
        for _ in 0..turns {
            self.turn();
            self.complete(|_| Some(true));
        }
    }

    /// Appends a batch of one record of so many bytes, by nobody in particular.
    pub fn append(&mut self, n: u8, bytes: usize, acks: Acks) -> Result<(), AppendError> {
        self.append_as(n, ProducerId::NONE, 0, bytes, acks)
    }

    /// Appends a batch of one record as a producer numbers it.
    pub fn append_as(
        &mut self,
        n: u8,
        producer: ProducerId,
        sequence: i32,
        bytes: usize,
        acks: Acks,
    ) -> Result<(), AppendError> {
        let is_idempotent = producer != ProducerId::NONE;
        let (epoch, sequence) = if is_idempotent { (0, sequence) } else { (-1, -1) };
        let header = fixture::Header::idempotent(producer, ProducerEpoch(epoch), Sequence(sequence));
        let batch = fixture::batch(&header, &[vec![n; bytes]]);
        let result = self.core.append(self.now, id(n), &batch, acks, Tag(1));
        if self.core.take_appended(Tag(1)).is_some() {
            self.answered_at_once += 1;
            self.answers.push(Ok(()));
        }
        self.take();
        result
    }
}
