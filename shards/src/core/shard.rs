//! A shard's core: calls and completions in, effects out. No future, clock, disk or socket inside.
//!
//! Who drives it calls [`Shard::append`], [`Shard::fetch`] and the like as requests come, [`Shard::complete`] as
//! operations end, and [`Shard::turn`] after each handful of these; then it carries out what [`Shard::take_effects`]
//! gives. All appends of a turn share one journal group, and thereby one flush.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::ahead::{Aheads, Cursors};
use super::checkpoint::Checkpoint;
use super::counts::Counts;
use super::effect::{Acks, AppendError, Appended, Effect, Millis, Operation, SegmentFile, StopReason, Tag};
use super::extents::Place;
use super::indexes::Indexes;
use super::journal::{Journal, Start};
use super::notice::Notice;
use super::partition::{Config, Large, Partition, TailBatch, Waiting};
use super::reads::Reading;
use super::rules::Rules;
use crate::format::manifest;
use crate::limits;
use crate::memory::{AlignedBuffer, ChunkIndex, Slab, Staging};
use crate::types::{JournalSequence, LeaderEpoch, Offset, PartitionId};

/// Measured constants that a simulation shrinks, so that it meets every branch within few events.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// From this size on a batch goes straight to its segment. Bytes.
    pub large_batch_bytes: usize,
    /// How many segments one commit may flush for large batches.
    pub large_segments_per_commit: usize,
    /// Small batches are written to their segment when so many bytes wait.
    pub lazy_write_bytes: u64,
    /// The longest run that is gathered into one write. Bytes.
    pub lazy_run_bytes: u64,
    /// Memory for runs that nothing else may take; never less than the longest group needs. Bytes.
    pub lazy_reserve_bytes: usize,
    /// Large batches' bytes after which a checkpoint is due.
    pub digested_bytes_per_checkpoint: u64,
    /// A disk read's least size. Bytes.
    pub read_bytes: usize,
    /// The size to which a full journal may grow. Bytes.
    pub journal_bytes_max: u64,
    /// Memory for what is read ahead of consumers. Bytes.
    pub read_ahead_bytes_max: usize,
    /// Memory for the indexes of segments that are not appended to. Bytes.
    pub index_bytes_max: usize,
    /// From this size on a segment has index files. Bytes.
    pub index_files_from_bytes: u64,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            large_batch_bytes: limits::LARGE_BATCH_BYTES,
            large_segments_per_commit: limits::LARGE_SEGMENTS_PER_COMMIT,
            lazy_write_bytes: limits::LAZY_WRITE_BYTES,
            lazy_run_bytes: limits::LAZY_WRITE_BYTES,
            lazy_reserve_bytes: limits::LAZY_RESERVE_BYTES,
            digested_bytes_per_checkpoint: limits::DIGESTED_BYTES_PER_CHECKPOINT,
            read_bytes: limits::READ_BYTES,
            journal_bytes_max: limits::JOURNAL_BYTES_MAX,
            read_ahead_bytes_max: limits::READ_AHEAD_BYTES_MAX,
            index_bytes_max: limits::INDEX_BYTES_MAX,
            index_files_from_bytes: limits::INDEX_FILES_FROM_BYTES,
        }
    }
}

/// What an operation in flight is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    JournalWrite,
    JournalFlush,
    JournalGrowth(u64),
    Creation(SegmentFile),
    DirectoryFlush(SegmentFile),
    LazyWrite(SegmentFile),
    LargeWrite(SegmentFile, Offset),
    /// And whether a checkpoint waits for it.
    SegmentFlush(SegmentFile, bool),
    Trim(SegmentFile),
    Manifest,
    Read(SegmentFile),
    IndexRead(SegmentFile),
    IndexWrite(SegmentFile),
}

impl Purpose {
    /// The log whose files it works on.
    pub(super) fn log(self) -> Option<PartitionId> {
        match self {
            Purpose::Creation(file)
            | Purpose::DirectoryFlush(file)
            | Purpose::LazyWrite(file)
            | Purpose::LargeWrite(file, _)
            | Purpose::SegmentFlush(file, _)
            | Purpose::Trim(file)
            | Purpose::Read(file)
            | Purpose::IndexRead(file)
            | Purpose::IndexWrite(file) => Some(file.partition),
            Purpose::JournalWrite | Purpose::JournalFlush | Purpose::JournalGrowth(_) | Purpose::Manifest => {
                None
            }
        }
    }
}

/// The operations in flight.
#[derive(Debug, Default)]
pub(super) struct Operations {
    last: u64,
    in_flight: BTreeMap<Operation, Purpose>,
    /// How many of them work on the files of each log.
    by_log: BTreeMap<PartitionId, usize>,
    /// Runs of small batches among them, and flushes that a checkpoint waits for.
    pub(super) runs: usize,
    pub(super) checkpoint_flushes: usize,
}

impl Operations {
    pub(super) fn begin(&mut self, purpose: Purpose) -> Operation {
        self.last += 1;
        self.in_flight.insert(Operation(self.last), purpose);
        if let Some(log) = purpose.log() {
            *self.by_log.entry(log).or_default() += 1;
        }
        self.runs += usize::from(matches!(purpose, Purpose::LazyWrite(_)));
        self.checkpoint_flushes += usize::from(matches!(purpose, Purpose::SegmentFlush(_, true)));
        Operation(self.last)
    }

    pub(super) fn end(&mut self, operation: Operation) -> Purpose {
        let purpose = self.in_flight.remove(&operation).expect("an operation completes once");
        if let Some(log) = purpose.log()
            && let Some(count) = self.by_log.get_mut(&log)
        {
            *count -= 1;
            if *count == 0 {
                self.by_log.remove(&log);
            }
        }
        self.runs -= usize::from(matches!(purpose, Purpose::LazyWrite(_)));
        self.checkpoint_flushes -= usize::from(matches!(purpose, Purpose::SegmentFlush(_, true)));
        purpose
    }

    /// Whether some work on the log's files.
    fn work_on(&self, log: PartitionId) -> bool {
        self.by_log.contains_key(&log)
    }
}

/// The core of one shard.
pub struct Shard {
    pub(super) rules: Rules,
    pub(super) tuning: Tuning,
    pub(super) epoch: LeaderEpoch,
    pub(super) journal: Journal,
    pub(super) slab: Slab,
    /// Memory for runs, for when the slab is short: a run that cannot be written keeps staging memory from being freed.
    pub(super) reserve: Slab,
    pub(super) partitions: BTreeMap<PartitionId, Partition>,
    pub(super) effects: Vec<Effect>,
    pub(super) operations: Operations,
    pub(super) checkpoint: Checkpoint,
    pub(super) checkpoint_wanted: bool,
    /// Rises whenever something happened that may let a checkpoint free more of the journal than the one before it.
    pub(super) progress: u64,
    /// How far that was when the checkpoint under way, or the last one, began.
    pub(super) checkpoint_progress: u64,
    /// Whether the last checkpoint set nothing free and adopted no space.
    pub(super) checkpoint_was_fruitless: bool,
    pub(super) growth_in_flight: bool,
    /// Whether growth failed since a checkpoint set something free.
    pub(super) growth_failed: bool,
    pub(super) digested_bytes: u64,
    /// Logs with something to be written, flushed or created.
    pub(super) unsettled: BTreeSet<PartitionId>,
    /// Logs whose watermarks may have moved.
    pub(super) touched: BTreeSet<PartitionId>,
    /// The segments that the open group's large batches go to.
    pub(super) large_segments: BTreeSet<SegmentFile>,
    pub(super) evicting: Option<ChunkIndex>,
    /// What lies in slab memory, oldest first, by its last batch: where to begin when it runs short.
    pub(super) cache_order: VecDeque<(PartitionId, Offset)>,
    pub(super) voids_wanted: Vec<(PartitionId, Offset, JournalSequence)>,
    pub(super) voids_staged: Vec<VoidStaged>,
    /// Deleted logs whose files are still worked on.
    removals: BTreeSet<PartitionId>,
    set_aside: Vec<manifest::Partition>,
    pub(super) log_starts: Vec<LogStartWaiting>,
    pub(super) reads: BTreeMap<Operation, Reading>,
    /// Of these, the newest of each place that others may wait for.
    pub(super) reading: BTreeMap<(PartitionId, Place), Operation>,
    pub(super) cursors: Cursors,
    pub(super) aheads: Aheads,
    pub(super) indexes: Indexes,
    /// How scarce memory was when an append found none; nobody has been told of room since.
    pub(super) busy: Option<Scarcity>,
    /// Rises with everything that may make room: groups closed and durable, writes ended, manifests committed.
    pub(super) made_room: u64,
    pub(super) stopped: Option<StopReason>,
    pub(super) quiet_since: Millis,
    pub(super) counts: Counts,
    pub(super) notices: Vec<Notice>,
    /// Logs that stopped by themselves.
    pub(super) logs_stopped: usize,
}

/// How much there was of what an append needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scarcity {
    made_room: u64,
    slab_bytes: usize,
    chunks_free: usize,
}

/// A failed large batch whose void entry is in a group that is not durable yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct VoidStaged {
    pub(super) void_group: JournalSequence,
    pub(super) batch_group: JournalSequence,
}

/// A deletion of records that is answered when its journal group is durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogStartWaiting {
    pub(super) group: JournalSequence,
    pub(super) tag: Tag,
    pub(super) offset: Offset,
}

impl Shard {
    /// The core of a shard whose journal starts empty, behind a manifest that is durable.
    pub fn new(
        start: Start,
        epoch: LeaderEpoch,
        staging: Staging,
        slab: Slab,
        tuning: Tuning,
        rules: Rules,
    ) -> Shard {
        // The longest entry of a group, and the block before it.
        let longest_run = start.geometry.group_bytes_max.saturating_add(limits::BLOCK_BYTES as u64);
        let longest_run = usize::try_from(longest_run).expect("a group fits into memory").next_power_of_two();
        Shard {
            reserve: Slab::new(tuning.lazy_reserve_bytes.max(longest_run)),
            journal: Journal::new(start, staging, rules.clone()),
            rules,
            tuning,
            epoch,
            slab,
            partitions: BTreeMap::new(),
            effects: Vec::new(),
            operations: Operations::default(),
            checkpoint: Checkpoint::Idle,
            checkpoint_wanted: false,
            progress: 0,
            checkpoint_progress: 0,
            checkpoint_was_fruitless: false,
            growth_in_flight: false,
            growth_failed: false,
            digested_bytes: 0,
            unsettled: BTreeSet::new(),
            touched: BTreeSet::new(),
            large_segments: BTreeSet::new(),
            evicting: None,
            cache_order: VecDeque::new(),
            voids_wanted: Vec::new(),
            voids_staged: Vec::new(),
            removals: BTreeSet::new(),
            set_aside: Vec::new(),
            log_starts: Vec::new(),
            reads: BTreeMap::new(),
            reading: BTreeMap::new(),
            cursors: Cursors::default(),
            aheads: Aheads::default(),
            indexes: Indexes::default(),
            busy: None,
            made_room: 0,
            stopped: None,
            quiet_since: 0,
            counts: Counts::default(),
            notices: Vec::new(),
            logs_stopped: 0,
        }
    }

    /// Takes charge of a log that a manifest knows.
    pub fn open_partition(&mut self, part: &manifest::Partition, config: Config) {
        let partition = Partition::open(part, self.epoch, config);
        let before = self.partitions.insert(partition.id, partition);
        assert!(before.is_none(), "a log has one owner and is opened once");
    }

    /// Takes charge of a new log, whose topic is durable in the metadata store. `epoch` was never given to a log before.
    pub fn create_partition(&mut self, id: PartitionId, epoch: LeaderEpoch, config: Config) {
        let part = manifest::Partition::empty(id);
        let before = self.partitions.insert(id, Partition::open(&part, epoch, config));
        assert!(before.is_none(), "a log is created once");
    }

    /// Lets go of a log whose topic the metadata store has deleted, and asks for the removal of its files.
    pub fn delete_partition(&mut self, id: PartitionId) {
        self.logs_stopped -= usize::from(self.stopped.is_none() && self.is_log_stopped(id));
        let Some(mut partition) = self.partitions.remove(&id) else { return };
        for waiting in partition.take_waiting() {
            self.effects.push(Effect::Appended { tag: waiting.tag, result: Err(AppendError::Deleted) });
        }
        let watchers = partition.take_all_watchers();
        self.effects.extend(watchers.into_iter().map(|tag| Effect::Advanced { tag }));
        let unsettled = |b: &&TailBatch| matches!(b.large, Some(Large::Writing | Large::Written));
        for batch in partition.tail.iter().filter(unsettled) {
            self.journal.settle(batch.group);
        }
        for (_, _, group) in self.voids_wanted.extract_if(.., |(p, ..)| *p == id) {
            self.journal.settle(group);
        }
        self.unsettled.remove(&id);
        self.touched.remove(&id);
        self.cache_order.retain(|(p, _)| *p != id);
        self.forget_in_checkpoint(id);
        self.indexes.forget(id);
        self.aheads.forget(id);
        self.cursors.forget(id);
        self.progress += 1;
        self.removals.insert(id);
        self.remove_files();
    }

    /// Asks for the removal of deleted logs' files once no operation is under way on them.
    pub(super) fn remove_files(&mut self) {
        let operations = &self.operations;
        let due = self.removals.extract_if(.., |id| !operations.work_on(*id));
        self.effects.extend(due.map(|partition| Effect::RemovePartition { partition }));
    }

    /// Keeps a log whose topic the metadata store does not know in every manifest, without opening it.
    pub fn set_aside(&mut self, part: manifest::Partition) {
        self.set_aside.push(part);
    }

    /// The logs that are kept and not opened.
    pub fn logs_set_aside(&self) -> &[manifest::Partition] {
        &self.set_aside
    }

    /// A log of this shard.
    pub fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.partitions.get(&id)
    }

    /// All logs of this shard.
    pub fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.partitions.values()
    }

    /// Whether [`Shard::take_effects`] would give some.
    pub fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    /// What is to be done, in order, since this was asked last.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The answer to the append just made, if its condition held at once: not one effect among many, so that whoever
    /// asked can have it before the shard turns.
    pub fn take_appended(&mut self, tag: Tag) -> Option<Appended> {
        let answers =
            |effect: &mut Effect| matches!(effect, Effect::Appended { tag: t, result: Ok(_) } if *t == tag);
        match self.effects.pop_if(answers) {
            Some(Effect::Appended { result: Ok(appended), .. }) => Some(appended),
            _ => None,
        }
    }

    /// Why the shard takes no more appends, if it does not.
    pub fn stopped(&self) -> Option<StopReason> {
        self.stopped
    }

    /// The operations whose completion is outstanding.
    pub fn operations_in_flight(&self) -> usize {
        self.operations.in_flight.len()
    }

    /// The journal, to look at.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Lets idempotent producers go that have appended nothing for their log's expiration time.
    pub fn expire_producers(&mut self, now: Millis) -> usize {
        self.partitions.values_mut().map(|p| p.expire_producers(now)).sum()
    }

    /// After a handful of calls and completions: closes the group, asks for writes and flushes, goes on with whatever is
    /// under way.
    pub fn turn(&mut self, now: Millis) {
        self.journal_voids();
        self.write_segments();
        self.commit(now);
        self.answer();
        self.evict();
        self.advance_checkpoint();
        self.write_segments();
        self.advance_indexes();
        if let Some(before) = self.busy
            && (self.made_room > before.made_room
                || self.slab.bytes_lent() < before.slab_bytes
                || self.journal.chunks_free() > before.chunks_free)
        {
            self.tell_of_room();
        }
    }

    /// An append finds no room, and will be told when there may be some.
    pub(super) fn is_busy(&mut self) -> AppendError {
        let (slab_bytes, chunks_free) = (self.slab.bytes_lent(), self.journal.chunks_free());
        self.busy.get_or_insert(Scarcity { made_room: self.made_room, slab_bytes, chunks_free });
        AppendError::Busy
    }

    pub(super) fn tell_of_room(&mut self) {
        if self.busy.take().is_some() {
            self.effects.push(Effect::Room);
        }
    }

    /// Slab memory, at the cost of what was read ahead and then of the oldest cached batches if it must be. Whoever gets none
    /// may try again when there is room: what stands in the way is on its way to the disk by then.
    pub(super) fn take_memory(&mut self, bytes: usize) -> Option<AlignedBuffer> {
        let taken = self.take_memory_at_hand(bytes);
        if taken.is_none() {
            self.write_oldest_cached();
        }
        taken
    }

    /// The same, for what writes to the disk itself.
    pub(super) fn take_memory_at_hand(&mut self, bytes: usize) -> Option<AlignedBuffer> {
        let mut taken = self.slab.take(bytes);
        while taken.is_none() && self.aheads.drop_oldest() {
            taken = self.slab.take(bytes);
        }
        // What the disk does not have yet keeps its turn.
        let mut kept = Vec::new();
        while taken.is_none()
            && let Some((id, base)) = self.cache_order.pop_front()
        {
            if self.partitions.get_mut(&id).is_none_or(|p| p.drop_cached(base)) {
                taken = self.slab.take(bytes);
            } else {
                kept.push((id, base));
            }
        }
        kept.into_iter().rev().for_each(|entry| self.cache_order.push_front(entry));
        taken
    }

    /// Has the log written whose batches lie in slab memory longest and that nobody has asked for: a large batch leaves
    /// memory when the fragments before it are on disk too, and these alone are too few to be written by themselves.
    fn write_oldest_cached(&mut self) {
        for (id, _) in &self.cache_order {
            let Some(partition) = self.partitions.get_mut(id).filter(|p| p.can_be_flushed()) else {
                continue;
            };
            let target = Some(partition.end.min(partition.given_up_from()));
            if partition.lazy_target < target {
                partition.lazy_target = target;
                self.unsettled.insert(*id);
                return;
            }
        }
    }

    pub(super) fn answer_append(&mut self, id: PartitionId, waiting: Waiting) {
        let log_start = self.partitions.get(&id).map_or(Offset(0), |p| p.log_start);
        let Waiting { tag, base: base_offset, append_time, .. } = waiting;
        self.effects
            .push(Effect::Appended { tag, result: Ok(Appended { base_offset, append_time, log_start }) });
    }

    /// Answers every append whose condition holds, and tells watchers.
    pub(super) fn answer(&mut self) {
        for id in std::mem::take(&mut self.touched) {
            let durable = self.journal.durable();
            let rules = &self.rules;
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            partition.advance_high_watermark(|batch| super::commit::is_durable(batch, durable, rules));
            let mut answered = partition.take_answered(Acks::Leader, partition.written_end());
            answered.extend(partition.take_answered(Acks::All, partition.high_watermark));
            let watchers = partition.take_watchers();
            for waiting in answered {
                self.answer_append(id, waiting);
            }
            self.effects.extend(watchers.into_iter().map(|tag| Effect::Advanced { tag }));
        }
    }
}
