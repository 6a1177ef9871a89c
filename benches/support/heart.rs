//! A shard's core over an empty directory in memory, and whoever carries out what it asks for: at once, and without a disk.

use std::collections::BTreeSet;
use std::rc::Rc;

use corelane_shards::core::journal::{FlushMethod, Geometry};
use corelane_shards::core::recovery::{self, Error, Opened, Opening, Report};
use corelane_shards::core::{
    Acks, AppendError, Completion, Config, Effect, Operation, Rules, Shard, Tag, Tuning,
};
use corelane_shards::format::batch::TimestampType;
use corelane_shards::memory::{Mapping, Slab, Slice, Staging};
use corelane_shards::types::{LeaderEpoch, PartitionId, PartitionIndex, ShardIndex, TopicId};

pub(crate) use disk::MemoryDisk;

#[path = "../../fuzz/src/disk.rs"]
#[allow(dead_code, reason = "the fuzz targets ask more of it")]
mod disk;

/// The longest group, as in the broker. Bytes.
const GROUP_BYTES_MAX: u64 = 2 << 20;

/// Chunks of staging memory.
const CHUNKS: usize = 32;

/// Turns after which there must be room.
const TURNS_FOR_ROOM_MAX: usize = 1000;

/// The time of everything. Milliseconds.
const NOW: i64 = 1_700_000_000_000;

/// One of the logs.
pub(crate) fn log(index: usize) -> PartitionId {
    let index = PartitionIndex(i32::try_from(index).expect("few logs"));
    PartitionId { topic: TopicId([7; 16]), index }
}

/// Opens a directory with one shard and so many logs.
pub(crate) fn open(
    disk: &mut MemoryDisk,
    logs: usize,
    journal_bytes: u64,
) -> Result<(Vec<Opened>, Report), Error> {
    let known: BTreeSet<PartitionId> = (0..logs).map(log).collect();
    let opening = Opening {
        shards: 1,
        known: &known,
        is_deleted: &|_| false,
        owner: &|_| ShardIndex(0),
        geometry: Geometry { capacity: journal_bytes, group_bytes_max: GROUP_BYTES_MAX },
        flush_method: FlushMethod::Dsync,
        was_stopped_cleanly: false,
        epoch_floor: LeaderEpoch(0),
        now: NOW,
        rules: &Rules::default(),
    };
    recovery::open(disk, &opening)
}

/// A shard and what was answered by it.
pub(crate) struct Heart {
    pub(crate) shard: Shard,
    /// Appends that were answered.
    pub(crate) answered: u64,
    tag: u64,
}

impl Heart {
    /// A shard that was just opened.
    pub(crate) fn start(opened: &Opened, epoch: LeaderEpoch) -> Heart {
        let chunk_bytes = usize::try_from(GROUP_BYTES_MAX).expect("64 bits");
        let staging =
            Staging::new(Rc::new(Mapping::private(CHUNKS * chunk_bytes).expect("memory")), chunk_bytes);
        let (slab, tuning, rules) = (Slab::new(64 << 20), Tuning::default(), Rules::default());
        let mut shard = Shard::new(opened.start, epoch, staging, slab, tuning, rules);
        let config = Config {
            segment_bytes: 1 << 30,
            segment_ms: i64::MAX,
            batch_bytes_max: 4 << 20,
            timestamp_type: TimestampType::CreateTime,
            producer_expiration_ms: 86_400_000,
        };
        opened.partitions.iter().for_each(|part| shard.open_partition(part, config));
        Heart { shard, answered: 0, tag: 0 }
    }

    /// A shard with so many logs and a journal of 16 MiB, in a new directory.
    pub(crate) fn new(logs: usize) -> Heart {
        let (opened, report) =
            open(&mut MemoryDisk::default(), logs, 16 << 20).expect("a new directory opens");
        Heart::start(&opened[0], report.epoch)
    }

    /// Appends a batch, after turns that make room if there is none.
    ///
    /// # Panics
    /// If they make none.
    pub(crate) fn append(&mut self, log: PartitionId, batch: &[u8]) {
        self.tag += 1;
        for _ in 0..TURNS_FOR_ROOM_MAX {
            match self.shard.append(NOW, log, batch, Acks::All, Tag(self.tag)) {
                Ok(()) => return,
                Err(AppendError::Busy) => self.turn(|_, _| {}),
                Err(error) => panic!("{error}"),
            }
        }
        panic!("no room after {TURNS_FOR_ROOM_MAX} turns");
    }

    /// A turn, and everything that follows from it, until nothing does: each operation succeeds at once. `journal` sees what is
    /// written to the journal, and where.
    pub(crate) fn turn(&mut self, mut journal: impl FnMut(u64, &Slice)) {
        loop {
            self.shard.turn(NOW);
            let effects = self.shard.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.perform(effect, &mut journal);
            }
        }
    }

    fn perform(&mut self, effect: Effect, journal: &mut impl FnMut(u64, &Slice)) {
        let operation: Operation = match effect {
            Effect::Appended { result, .. } => {
                result.expect("no operation fails");
                self.answered += 1;
                return;
            }
            Effect::WriteJournal { operation, position, bytes, .. } => {
                journal(position, &bytes);
                operation
            }
            Effect::WriteSegment { operation, .. }
            | Effect::FlushJournal { operation }
            | Effect::GrowJournal { operation, .. }
            | Effect::CreateSegment { operation, .. }
            | Effect::FlushDirectory { operation, .. }
            | Effect::FlushSegment { operation, .. }
            | Effect::TrimSegment { operation, .. }
            | Effect::CommitManifest { operation, .. } => operation,
            Effect::WriteIndex { operation, index, .. } => {
                let completion = Completion::of(operation, Ok(()));
                return self.shard.complete(Completion { index: Some(index), ..completion });
            }
            Effect::Room => return,
            other => panic!("not asked for: {other:?}"),
        };
        self.shard.complete(Completion::of(operation, Ok(())));
    }
}
