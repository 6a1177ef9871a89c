//! Moving a log's bytes from the journal's care into the manifest's, so that the journal can be reused.
//!
//! ```text
//! Idle -> Writing: every batch of the groups to be freed is written to its segment
//!      -> Flushing: the segments and directories that the manifest will vouch for are flushed
//!      -> Committing: the manifest is replaced; only then does the journal's tail move
//! ```
//!
//! One checkpoint at a time. What the manifest says of a log is fixed before its segments are flushed, at a boundary that
//! is durable in the journal and on disk. Also here: giving back staging memory, and growing a journal that is too small.

use std::collections::{BTreeMap, BTreeSet};

use super::effect::{Effect, SegmentFile, StopReason};
use super::partition::Flushed;
use super::rules::Rule;
use super::shard::{Purpose, Shard};
use crate::format::manifest::{Manifest, Tail};
use crate::types::{Offset, PartitionId};

/// The checkpoint under way.
pub(super) enum Checkpoint {
    /// None.
    Idle,
    /// Waiting until each of these logs is on disk up to its offset.
    Writing(BTreeMap<PartitionId, Offset>),
    /// Waiting for flushes.
    Flushing { states: BTreeMap<PartitionId, Flushed>, files: BTreeSet<SegmentFile> },
    /// Waiting for the manifest.
    Committing { states: BTreeMap<PartitionId, Flushed>, tail: Tail, capacity: u64 },
}

impl Shard {
    /// Asks for a checkpoint, or for another one behind the one under way.
    pub fn request_checkpoint(&mut self) {
        self.checkpoint_wanted = true;
    }

    /// Asks for a checkpoint until everything is settled, but for what a failed log holds back. Whoever stops asks each turn.
    pub fn settle(&mut self) {
        let is_held_back = self.partitions.values().any(|p| p.stopped_from.is_some());
        // A group that only vouches is freed by a checkpoint too, and is no progress.
        let would_help = !is_held_back || self.would_checkpoint_help();
        self.checkpoint_wanted |= !self.is_settled() && would_help;
    }

    /// Whether the last checkpoint freed something, or something happened since.
    fn would_checkpoint_help(&self) -> bool {
        !self.checkpoint_was_fruitless || self.progress > self.checkpoint_progress
    }

    /// Whether a checkpoint is under way.
    pub fn is_checkpointing(&self) -> bool {
        !matches!(self.checkpoint, Checkpoint::Idle)
    }

    /// Whether everything appended is in the manifest and the journal is empty: a stop now needs no recovery.
    pub fn is_settled(&self) -> bool {
        matches!(self.checkpoint, Checkpoint::Idle)
            && self.journal.is_idle()
            && self.journal.bytes_live() == 0
            && self.operations_in_flight() == self.indexes.in_flight()
            && self.partitions.values().all(|p| p.flushed.boundary.end == p.end)
    }

    /// Whether another checkpoint would change nothing, though the journal holds what a log that failed cannot let go: the
    /// next start has to recover that.
    pub fn is_at_rest(&self) -> bool {
        let is_done =
            |p: &super::partition::Partition| p.stopped_from.is_some() || p.flushed.boundary.end == p.end;
        matches!(self.checkpoint, Checkpoint::Idle)
            && !self.checkpoint_wanted
            && self.checkpoint_was_fruitless
            && self.journal.is_idle()
            && self.operations_in_flight() == self.indexes.in_flight()
            && self.partitions.values().any(|p| p.stopped_from.is_some())
            && self.partitions.values().all(is_done)
    }

    pub(super) fn advance_checkpoint(&mut self) {
        if self.stopped.is_some() {
            return;
        }
        self.start_checkpoint_if_due();
        if let Checkpoint::Writing(targets) = &self.checkpoint
            && targets.iter().all(|(id, target)| {
                self.partitions.get(id).is_none_or(|p| {
                    p.flushable_end() >= (*target).min(p.given_up_from()) || !p.can_be_flushed()
                })
            })
        {
            self.begin_flushing();
        }
        if let Checkpoint::Flushing { files, .. } = &self.checkpoint
            && files.is_empty()
        {
            self.commit_manifest();
        }
    }

    fn start_checkpoint_if_due(&mut self) {
        let capacity = self.journal.geometry().capacity;
        let is_large = self.journal.bytes_live() * 2 > capacity
            || self.journal.is_full()
            || self.digested_bytes > self.tuning.digested_bytes_per_checkpoint
            || self.journal.has_grown_space();
        let is_due = self.checkpoint_wanted || (is_large && self.would_checkpoint_help());
        if !is_due || !matches!(self.checkpoint, Checkpoint::Idle) {
            self.grow_if_full();
            return;
        }
        self.checkpoint_wanted = false;
        self.checkpoint_progress = self.progress;
        let mut targets = BTreeMap::new();
        for partition in self.partitions.values_mut().filter(|p| p.flushed.boundary.end < p.high_watermark) {
            partition.lazy_target = Some(partition.high_watermark);
            targets.insert(partition.id, partition.high_watermark);
        }
        self.unsettled.extend(targets.keys());
        self.checkpoint = Checkpoint::Writing(targets);
        self.write_segments();
    }

    /// A journal that fills up while it is being freed is too small for its load. One that can neither be freed nor grow is
    /// full for good if a log pins it that no manifest will move.
    fn grow_if_full(&mut self) {
        let capacity = self.journal.geometry().capacity;
        let is_full = self.journal.has_entries()
            && !self.journal.can_close()
            && self.journal.bytes_live() * 2 > capacity;
        let larger = (capacity * 2).min(self.tuning.journal_bytes_max);
        let may_grow = larger > capacity && !self.growth_failed && !self.journal.has_grown_space();
        if is_full && may_grow && !self.growth_in_flight {
            self.growth_in_flight = true;
            let operation = self.operations.begin(Purpose::JournalGrowth(larger));
            self.effects.push(Effect::GrowJournal { operation, from: capacity, to: larger });
        }
        let was_tried = matches!(self.checkpoint, Checkpoint::Idle) && self.checkpoint_was_fruitless;
        if self.journal.is_full()
            && was_tried
            && !may_grow
            && !self.growth_in_flight
            && self.oldest_group_is_pinned()
        {
            self.stop(StopReason::JournalFull);
        }
    }

    /// Whether the first group holds batches of a log that no manifest will move any more.
    fn oldest_group_is_pinned(&self) -> bool {
        self.journal.oldest_reach().any(|(id, end)| {
            let log = self.partitions.get(&id).filter(|p| !p.can_be_flushed());
            log.is_some_and(|p| end.min(p.given_up_from()) > p.flushed.boundary.end)
        })
    }

    fn begin_flushing(&mut self) {
        let live_producers = !self.rules.hold(Rule::producers_are_exact);
        let stale_producers = !self.rules.hold(Rule::producers_are_fresh);
        let flushes = self.rules.hold(Rule::flush_before_manifest);
        let mut states = BTreeMap::new();
        let mut files = BTreeSet::new();
        for partition in self.partitions.values_mut() {
            partition.lazy_target = None;
            let state = partition.flushable(live_producers, stale_producers);
            if state.boundary.end <= partition.flushed.boundary.end || partition.is_frozen {
                continue;
            }
            let (from, to) = (partition.flushed.boundary.place, state.boundary.place);
            let id = partition.id;
            for segment in partition.segments.iter_mut() {
                let is_covered = segment.base >= from.segment && segment.base <= to.segment;
                let is_to_be_cut = segment.base < to.segment && segment.is_to_be_cut();
                if is_covered && flushes && (segment.is_dirty || segment.flush.is_some() || is_to_be_cut) {
                    segment.checkpoint_wants_flush = true;
                    files.insert(SegmentFile { partition: id, base: segment.base });
                }
                if is_covered && flushes && !segment.directory_is_durable {
                    files.insert(SegmentFile { partition: id, base: segment.base });
                }
            }
            states.insert(id, state);
        }
        self.unsettled.extend(files.iter().map(|f| f.partition));
        self.checkpoint = Checkpoint::Flushing { states, files };
        self.write_segments();
    }

    /// A flush that a checkpoint waits for, of a file or of the directories above it, is done.
    pub(super) fn checkpoint_flushed(&mut self, file: SegmentFile) {
        let Checkpoint::Flushing { files, .. } = &mut self.checkpoint else { return };
        let is_flushed = self.partitions.get_mut(&file.partition).is_none_or(|p| {
            p.segment(file.base).is_none_or(|s| {
                s.directory_is_durable && !s.checkpoint_wants_flush && !s.flushes_for_checkpoint
            })
        });
        if is_flushed {
            files.remove(&file);
        }
    }

    /// A log that can be flushed no more leaves a checkpoint that waits for it. One whose manifest is being written keeps
    /// it: what that manifest says of the log was flushed before.
    pub(super) fn leave_checkpoint(&mut self, id: PartitionId) {
        if !matches!(self.checkpoint, Checkpoint::Committing { .. }) {
            self.forget_in_checkpoint(id);
        }
    }

    /// A deleted log is no checkpoint's business.
    pub(super) fn forget_in_checkpoint(&mut self, id: PartitionId) {
        match &mut self.checkpoint {
            Checkpoint::Idle => {}
            Checkpoint::Writing(targets) => {
                targets.remove(&id);
            }
            Checkpoint::Flushing { states, files } => {
                states.remove(&id);
                files.retain(|f| f.partition != id);
            }
            Checkpoint::Committing { states, .. } => {
                states.remove(&id);
            }
        }
    }

    fn commit_manifest(&mut self) {
        let Checkpoint::Flushing { states, .. } = std::mem::replace(&mut self.checkpoint, Checkpoint::Idle)
        else {
            unreachable!("a checkpoint commits once it has flushed")
        };
        let tail = self.journal.tail_behind(|id, end| match self.partitions.get(&id) {
            None => true,
            Some(p) => {
                let flushed = states.get(&id).unwrap_or(&p.flushed).boundary.end;
                end.min(p.given_up_from()) <= flushed
            }
        });
        let (tail, capacity) = self.journal.adopt(tail);
        let geometry = self.journal.geometry();
        let manifest = Manifest {
            generation: self.journal.generation().get(),
            epoch: self.epoch.get(),
            tail,
            capacity,
            group_bytes_max: geometry.group_bytes_max,
            durable: self.journal.durable().get(),
            settled: self.journal.settled().get(),
            partitions: self
                .partitions
                .values()
                .map(|p| p.to_manifest(states.get(&p.id).unwrap_or(&p.flushed)))
                .chain(self.logs_set_aside().iter().cloned())
                .collect(),
        };
        if !self.rules.hold(Rule::trim_after_commit) {
            self.journal.trim(tail, capacity);
        }
        self.checkpoint = Checkpoint::Committing { states, tail, capacity };
        let operation = self.operations.begin(Purpose::Manifest);
        self.effects.push(Effect::CommitManifest { operation, manifest: Box::new(manifest) });
    }

    pub(super) fn manifest_committed(&mut self) {
        let Checkpoint::Committing { states, tail, capacity } =
            std::mem::replace(&mut self.checkpoint, Checkpoint::Idle)
        else {
            panic!("a manifest is committed by a checkpoint")
        };
        for (id, flushed) in states {
            if let Some(partition) = self.partitions.get_mut(&id) {
                let from = partition.flushed.boundary.place.segment;
                partition.commit(flushed);
                self.manifest_covers(id, from);
            }
        }
        let before = (self.journal.oldest(), self.journal.geometry().capacity);
        self.journal.trim(tail, capacity);
        self.checkpoint_was_fruitless = before == (self.journal.oldest(), self.journal.geometry().capacity);
        self.growth_failed &= self.checkpoint_was_fruitless;
        self.digested_bytes = 0;
        self.counts.checkpoints += 1;
        self.made_room += 1;
    }

    // ---- staging memory

    /// Frees the staging chunk that has been in use longest, when few are left: its unwritten batches are gathered.
    pub(super) fn evict(&mut self) {
        if self.stopped.is_some() {
            return;
        }
        let chunk = self.journal.chunk_to_evict();
        if self.evicting == chunk {
            // Whoever still holds it is tried again whenever one of its writes completes.
            return;
        }
        self.evicting = chunk;
        let Some(chunk) = chunk else { return };
        self.counts.chunks_evicted += 1;
        self.unsettled.extend(self.journal.logs_in(chunk));
    }
}
