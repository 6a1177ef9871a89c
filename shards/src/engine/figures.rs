//! What the engine publishes of its core among the shard's counters, for other threads to read. Runs on the shard's thread.
//!
//! Counts and sizes are copied at the end of a turn: of every turn after which nothing is under way, so that what is read
//! of a quiet shard is exact, and otherwise of one turn in a millisecond.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::core::Shard as Core;
use crate::net::{Counters, DiskOperation};

/// Between two copies on a busy shard.
const PAUSE: Duration = Duration::from_millis(1);

/// The engine's side of a shard's counters.
pub(super) struct Figures {
    counters: Arc<Counters>,
    next: Moment,
    /// When the checkpoint under way began.
    checkpoint: Option<Moment>,
    checkpoints_done: u64,
}

impl Figures {
    pub(super) fn new(counters: Arc<Counters>) -> Figures {
        Figures { counters, next: Moment::default(), checkpoint: None, checkpoints_done: 0 }
    }

    /// An operation on the disk ended.
    pub(super) fn ended(&self, operation: DiskOperation, began: Moment, now: Moment) {
        self.counters.disk.of(operation).record(now.since(began));
    }

    /// The shard takes no more appends.
    pub(super) fn stopped(&self) {
        self.counters.shard_read_only.set(1);
    }

    /// A turn is over.
    pub(super) fn turned(&mut self, now: Moment, core: &Core, appends_waiting: usize) {
        self.follow_checkpoint(now, core);
        if now < self.next && core.operations_in_flight() > 0 {
            return;
        }
        self.next = now.after(PAUSE);
        self.counters.appends_waiting.set(appends_waiting as u64);
        self.publish_counts(core);
        self.publish_fullness(core);
    }

    /// One checkpoint may begin in the turn that learned of the end of another.
    fn follow_checkpoint(&mut self, now: Moment, core: &Core) {
        let done = core.counts().checkpoints;
        if done > self.checkpoints_done {
            let time = now.since(self.checkpoint.take().unwrap_or(now));
            self.counters.checkpoints.record(time);
            let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            self.counters.checkpoint_last_nanoseconds.set(nanoseconds);
            self.checkpoints_done = done;
        }
        if core.is_checkpointing() {
            self.checkpoint.get_or_insert(now);
        }
    }

    fn publish_counts(&self, core: &Core) {
        let (counters, counts) = (&self.counters, core.counts());
        counters.journal_groups_total.set(counts.groups);
        counters.journal_written_bytes_total.set(counts.group_bytes);
        counters.journal_entries_total.set(counts.entries);
        counters.duplicates_total.set(counts.duplicates);
        counters.reads_damaged_total.set(counts.reads_damaged);
        counters.reads_failed_total.set(counts.reads_failed);
        counters.operations_failed_total.set(counts.operations_failed);
    }

    fn publish_fullness(&self, core: &Core) {
        let (counters, fullness) = (&self.counters, core.fullness());
        counters.partitions.set(fullness.partitions as u64);
        counters.logs_read_only.set(fullness.logs_stopped as u64);
        counters.journal_bytes.set(fullness.journal);
        counters.journal_capacity_bytes.set(fullness.journal_capacity);
        counters.journal_unflushed_bytes.set(fullness.journal_unflushed);
        counters.large_batches_unflushed.set(fullness.large_unflushed as u64);
        counters.staging_bytes.set(fullness.staging as u64);
        counters.staging_capacity_bytes.set(fullness.staging_capacity as u64);
        counters.cache_bytes.set(fullness.slab as u64);
        counters.cache_capacity_bytes.set(fullness.slab_capacity as u64);
        counters.write_reserve_bytes.set(fullness.reserve as u64);
        counters.write_reserve_capacity_bytes.set(fullness.reserve_capacity as u64);
    }
}
