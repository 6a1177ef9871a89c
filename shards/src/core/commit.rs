//! From appended to durable: segment writes and flushes, the group's close, and what each completion makes true.

use super::effect::{
    AppendError, Completion, Effect, Millis, Operation, OperationError, SegmentFile, StopReason,
};
use super::extents::{Place, Run};
use super::partition::{Large, Partition, TailBatch};
use super::rules::{Rule, Rules};
use super::segment::File;
use super::shard::{Purpose, Shard, VoidStaged};
use crate::format::journal::Entry;
use crate::limits::{CHECKPOINT_FLUSHES_IN_FLIGHT, LAZY_RUNS_IN_FLIGHT, VOUCH_AFTER_MS};
use crate::memory::AlignedBuffer;
use crate::types::{JournalSequence, Offset, PartitionId};

/// Whether a batch survives the loss of power.
pub(super) fn is_durable(batch: &TailBatch, durable: JournalSequence, rules: &Rules) -> bool {
    let is_flushed = batch.large.is_none_or(|large| large == Large::Flushed);
    batch.group <= durable && (is_flushed || !rules.hold(Rule::full_ack_waits_for_segment))
}

impl Shard {
    // ---- the journal

    /// Closes and writes the open group if it may be, and flushes what is written.
    pub(super) fn commit(&mut self, now: Millis) {
        if self.stopped.is_some() {
            return;
        }
        // The clock may be set back: a time that is still to come says nothing.
        let is_quiet = now.abs_diff(self.quiet_since) >= VOUCH_AFTER_MS.unsigned_abs();
        if is_quiet
            && self.journal.is_idle()
            && self.journal.last_is_unvouched()
            && self.journal.open_vouching()
        {
            self.close_if_allowed();
        }
        if self.journal.has_entries() {
            self.close_if_allowed();
        }
        self.flush_journal();
    }

    fn close_if_allowed(&mut self) {
        if self.journal.can_close() {
            self.close_group();
        }
    }

    pub(super) fn close_group(&mut self) {
        let operation = self.operations.begin(Purpose::JournalWrite);
        let live = self.journal.bytes_live();
        self.counts.entries += u64::from(self.journal.entries_open());
        let effect = self.journal.close(operation);
        self.counts.groups += 1;
        self.counts.group_bytes += self.journal.bytes_live() - live;
        self.effects.push(effect);
        self.made_room += 1;
        self.large_segments.clear();
    }

    fn flush_journal(&mut self) {
        let flush = self.journal.flush(|| self.operations.begin(Purpose::JournalFlush));
        self.effects.extend(flush);
    }

    /// Journals that large batches failed, so that recovery takes their missing bytes for no damage.
    pub(super) fn journal_voids(&mut self) {
        if !self.rules.hold(Rule::failed_large_is_void) || self.stopped.is_some() {
            return;
        }
        while let Some((partition, base, group)) = self.voids_wanted.pop() {
            let entry = Entry::Void(partition, base);
            if self.reserve(entry.encoded_bytes()).is_err() {
                self.voids_wanted.push((partition, base, group));
                return;
            }
            let staged = self.journal.stage(&entry, Offset(0), &[]);
            self.voids_staged.push(VoidStaged { void_group: staged.group, batch_group: group });
        }
    }

    /// Groups became durable: what waited for them goes on.
    fn journal_advanced(&mut self, before: JournalSequence) {
        let durable = self.journal.durable();
        if durable == before {
            return;
        }
        let newly_durable = self.journal.take_newly_durable();
        // A group that only vouches for others gives a checkpoint nothing to free.
        self.progress += u64::from(!newly_durable.is_empty());
        self.made_room += 1;
        self.touched.extend(newly_durable);
        for void in self.voids_staged.extract_if(.., |v| v.void_group <= durable) {
            self.journal.settle(void.batch_group);
        }
        for waiting in self.log_starts.extract_if(.., |w| w.group <= durable) {
            self.effects.push(Effect::RecordsDeleted { tag: waiting.tag, result: Ok(waiting.offset) });
        }
    }

    // ---- segments

    /// Asks for every creation, write, flush and trim that is due.
    pub(super) fn write_segments(&mut self) {
        if self.stopped.is_some() {
            return;
        }
        for id in std::mem::take(&mut self.unsettled) {
            self.create_segments(id);
            self.write_large(id);
            self.write_lazily(id);
            self.flush_segments(id);
            self.trim_segments(id);
        }
    }

    fn create_segments(&mut self, id: PartitionId) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let missing: Vec<_> = partition.segments.iter_mut().filter(|s| s.file == File::Missing).collect();
        let mut files = Vec::new();
        for segment in missing {
            segment.file = File::Creating;
            files.push(SegmentFile { partition: id, base: segment.base });
        }
        for file in files {
            let operation = self.operations.begin(Purpose::Creation(file));
            self.effects.push(Effect::CreateSegment { operation, file });
        }
    }

    fn write_large(&mut self, id: PartitionId) {
        let Some(Partition { segments, extents, .. }) = self.partitions.get_mut(&id) else { return };
        let ready: Vec<_> = segments.iter().filter(|s| s.file == File::Ready).map(|s| s.base).collect();
        let file = |place: Place| SegmentFile { partition: id, base: place.segment };
        let operations = &mut self.operations;
        while let Some((operation, place, bytes)) = extents.next_blocks(
            |base| ready.binary_search(&base).is_ok(),
            |place, batch| operations.begin(Purpose::LargeWrite(file(place), batch)),
        ) {
            let write =
                Effect::WriteSegment { operation, file: file(place), position: place.position, bytes };
            self.effects.push(write);
        }
    }

    /// Gathers small batches into a write if enough of them wait, or a checkpoint or staging memory needs it.
    fn write_lazily(&mut self, id: PartitionId) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let evicted = self.evicting.filter(|chunk| partition.extents.refers_to(*chunk));
        if partition.extents.has_failed() {
            return self.move_out_of_staging(id);
        }
        let is_due = partition.extents.bytes_waiting() >= self.tuning.lazy_write_bytes
            || partition.lazy_target.is_some_and(|target| partition.flushable_end() < target)
            || evicted.is_some();
        if is_due && self.operations.runs >= LAZY_RUNS_IN_FLIGHT {
            self.unsettled.insert(id);
            return;
        }
        let run = partition.extents.next_run(self.tuning.lazy_run_bytes).filter(|_| is_due);
        let Some(run) = run else {
            // Behind a failed large batch, what is written stays in the queue.
            if evicted.is_some() && partition.stopped_from.is_some() {
                self.move_out_of_staging(id);
            }
            return;
        };
        if partition.segment(run.segment).is_none_or(|s| s.file != File::Ready) {
            return;
        }
        match self.take_run_memory(id, run) {
            Some((run, buffer)) => self.gather(id, &run, buffer),
            // Some run in flight has the reserve, and gives it back.
            None => _ = self.unsettled.insert(id),
        }
    }

    /// Memory for a run, or for a shorter one: of the slab, or else of the reserve, which readers never hold.
    fn take_run_memory(&mut self, id: PartitionId, mut run: Run) -> Option<(Run, AlignedBuffer)> {
        if let Some(buffer) = self.take_memory_at_hand(run.buffer_bytes) {
            return Some((run, buffer));
        }
        let mut bytes_max = run.buffer_bytes as u64;
        loop {
            if let Some(buffer) = self.reserve.take(run.buffer_bytes) {
                run.serves_readers = false;
                self.counts.runs_from_reserve += 1;
                return Some((run, buffer));
            }
            if run.is_shortest() {
                return None;
            }
            bytes_max /= 2;
            run = self.partitions.get(&id)?.extents.next_run(bytes_max)?;
        }
    }

    /// Copies what a stopped log has in the chunk to be freed and cannot write, or not in order: it stays readable until a restart
    /// writes it again from the journal. Such a log takes no more appends, so that memory beyond the slab, if that is short,
    /// is never more than what staging memory held of it.
    fn move_out_of_staging(&mut self, id: PartitionId) {
        let Some(chunk) = self.evicting else { return };
        let Some(partition) = self.partitions.get(&id) else { return };
        let staged = partition.extents.bytes_in(chunk);
        let copy = self.copy_of(&staged);
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        for (base, bytes) in partition.extents.replace_in(chunk, &copy) {
            partition.moved(base, bytes);
        }
    }

    fn gather(&mut self, id: PartitionId, run: &Run, buffer: AlignedBuffer) {
        let file = SegmentFile { partition: id, base: run.segment };
        let operation = self.operations.begin(Purpose::LazyWrite(file));
        self.counts.lazy_writes += 1;
        let zero_padding = self.rules.hold(Rule::padding_is_zeroed);
        let partition = self.partitions.get_mut(&id).expect("its run was just found");
        let mut moved = Vec::new();
        let bytes = partition.extents.gather(run, operation, buffer, zero_padding, |batch, gathered| {
            moved.push((batch.base_offset, gathered.narrow(batch.at..batch.at + batch.length)));
        });
        let last = moved.last().map(|(base, _)| *base);
        if run.serves_readers {
            moved.into_iter().for_each(|(base, bytes)| partition.moved(base, bytes));
            self.cache_order.extend(last.map(|base| (id, base)));
        } else {
            partition.drop_when_written = last.or(partition.drop_when_written);
        }
        if !self.rules.hold(Rule::checkpoint_covers_completed) {
            partition.extents.completed_write(operation);
        }
        self.effects.push(Effect::WriteSegment { operation, file, position: run.position, bytes });
    }

    /// Flushes segments with large batches that wait for it, or that a checkpoint waits for.
    fn flush_segments(&mut self, id: PartitionId) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let mut due = Vec::new();
        let mut room = CHECKPOINT_FLUSHES_IN_FLIGHT.saturating_sub(self.operations.checkpoint_flushes);
        let (active, completed) = (partition.segments.len().saturating_sub(1), partition.extents.completed());
        for (i, segment) in partition.segments.iter_mut().enumerate() {
            let is_complete = i < active && completed.is_none_or(|place| place >= segment.end_place());
            let for_large = !segment.large_written.is_empty();
            // The end of a cut that is under way asks again.
            let for_checkpoint = segment.checkpoint_wants_flush && !(is_complete && segment.is_to_be_cut());
            let has_turn = for_checkpoint && room > 0;
            if for_checkpoint && !has_turn && !for_large {
                self.unsettled.insert(id);
            }
            let wanted = for_large || has_turn;
            if wanted && segment.flush.is_none() && segment.file == File::Ready {
                room = room.saturating_sub(usize::from(for_checkpoint));
                due.push((segment.base, for_checkpoint));
            }
        }
        for (base, for_checkpoint) in due {
            let file = SegmentFile { partition: id, base };
            let segment = self.partitions.get_mut(&id).and_then(|p| p.segment(base)).expect("just found");
            let operation = self.operations.begin(Purpose::SegmentFlush(file, for_checkpoint));
            segment.flush = Some(operation);
            segment.is_dirty = false;
            segment.flushes_for_checkpoint = for_checkpoint;
            segment.checkpoint_wants_flush &= !for_checkpoint;
            segment.large_flushing = std::mem::take(&mut segment.large_written);
            self.effects.push(Effect::FlushSegment { operation, file });
        }
    }

    /// Cuts rolled segments to their length once all of their bytes are on disk.
    fn trim_segments(&mut self, id: PartitionId) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let completed = partition.extents.completed();
        let Some((_, rolled)) = partition.segments.split_last_mut() else { return };
        let mut due = Vec::new();
        for segment in rolled.iter_mut().filter(|s| !s.is_trimmed && s.file == File::Ready) {
            if completed.is_none_or(|place| place >= segment.end_place()) {
                (segment.is_trimmed, segment.is_being_trimmed) = (true, true);
                due.push((SegmentFile { partition: id, base: segment.base }, segment.length));
            }
        }
        for (file, length) in due {
            self.segment_rolled(file);
            let operation = self.operations.begin(Purpose::Trim(file));
            self.effects.push(Effect::TrimSegment { operation, file, length });
        }
    }

    // ---- completions

    /// An operation ended.
    ///
    /// # Panics
    /// If no such operation is in flight.
    pub fn complete(&mut self, completion: Completion) {
        let Completion { operation, result, buffer, index } = completion;
        let purpose = self.operations.end(operation);
        match (purpose, result) {
            (Purpose::Read(_), _) => self.read_completed(operation, result, buffer),
            (Purpose::IndexRead(file), _) => self.index_read(file, index.map(|index| *index)),
            (Purpose::IndexWrite(file), result) => {
                let index = index.expect("an index that was lent comes back");
                self.index_written(file, *index, result.is_ok());
            }
            (_, Ok(())) => self.succeeded(operation, purpose),
            (_, Err(error)) => self.failed(purpose, error),
        }
        self.remove_files();
    }

    fn succeeded(&mut self, operation: Operation, purpose: Purpose) {
        let durable = self.journal.durable();
        match purpose {
            Purpose::JournalWrite => self.journal.written(operation),
            Purpose::JournalFlush => self.journal.flushed(),
            Purpose::JournalGrowth(bytes) => {
                self.growth_in_flight = false;
                self.journal.grown(bytes);
                self.checkpoint_wanted = true;
            }
            Purpose::Creation(file) => self.segment_created(file),
            Purpose::DirectoryFlush(file) => self.directory_flushed(file),
            Purpose::LazyWrite(file) => self.segment_written(operation, file, None),
            Purpose::LargeWrite(file, base) => self.segment_written(operation, file, Some(base)),
            Purpose::SegmentFlush(file, _) => self.segment_flushed(file),
            Purpose::Trim(file) => self.trim_ended(file),
            Purpose::Manifest => self.manifest_committed(),
            Purpose::Read(_) | Purpose::IndexRead(_) | Purpose::IndexWrite(_) => {
                unreachable!("reads and indexes are handled apart")
            }
        }
        self.journal_advanced(durable);
    }

    fn segment_created(&mut self, file: SegmentFile) {
        let Some(segment) = self.partitions.get_mut(&file.partition).and_then(|p| p.segment(file.base))
        else {
            return;
        };
        segment.file = File::Ready;
        self.unsettled.insert(file.partition);
        let operation = self.operations.begin(Purpose::DirectoryFlush(file));
        self.effects.push(Effect::FlushDirectory { operation, file });
    }

    fn directory_flushed(&mut self, file: SegmentFile) {
        let Some(partition) = self.partitions.get_mut(&file.partition) else { return };
        let Some(segment) = partition.segment(file.base) else { return };
        segment.directory_is_durable = true;
        let flushed = std::mem::take(&mut segment.large_without_directory);
        self.large_flushed(file.partition, &flushed);
        self.checkpoint_flushed(file);
    }

    fn segment_written(&mut self, operation: Operation, file: SegmentFile, large: Option<Offset>) {
        self.made_room += 1;
        let Some(partition) = self.partitions.get_mut(&file.partition) else { return };
        partition.completed_write(operation);
        let large = large.filter(|base| partition.set_large(*base, Large::Written).is_some());
        let segment = partition.segment(file.base).expect("a segment outlives its writes");
        segment.is_dirty = true;
        segment.large_written.extend(large);
        self.unsettled.insert(file.partition);
        self.touched.insert(file.partition);
    }

    fn trim_ended(&mut self, file: SegmentFile) {
        let Some(segment) = self.partitions.get_mut(&file.partition).and_then(|p| p.segment(file.base))
        else {
            return;
        };
        segment.is_being_trimmed = false;
        self.unsettled.insert(file.partition);
    }

    fn segment_flushed(&mut self, file: SegmentFile) {
        let every_flush_counts = !self.rules.hold(Rule::full_ack_waits_for_directory);
        let Some(partition) = self.partitions.get_mut(&file.partition) else { return };
        let Some(segment) = partition.segment(file.base) else { return };
        segment.flush = None;
        let for_checkpoint = std::mem::take(&mut segment.flushes_for_checkpoint);
        let flushed = std::mem::take(&mut segment.large_flushing);
        self.unsettled.insert(file.partition);
        if segment.directory_is_durable || every_flush_counts {
            self.large_flushed(file.partition, &flushed);
        } else {
            segment.large_without_directory.extend(flushed);
        }
        if for_checkpoint {
            self.checkpoint_flushed(file);
        }
    }

    fn large_flushed(&mut self, id: PartitionId, bases: &[Offset]) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let groups: Vec<_> =
            bases.iter().filter_map(|base| partition.set_large(*base, Large::Flushed)).collect();
        for group in groups {
            self.journal.settle(group);
        }
        self.progress += 1;
        self.touched.insert(id);
    }

    // ---- failures

    fn failed(&mut self, purpose: Purpose, error: OperationError) {
        let stopped_before = purpose.log().is_some_and(|id| self.is_log_stopped(id));
        self.follow_failure(purpose, error);
        self.note_failed(purpose, error, stopped_before);
    }

    fn follow_failure(&mut self, purpose: Purpose, error: OperationError) {
        match purpose {
            Purpose::JournalFlush if !self.rules.hold(Rule::failures_stop) => {
                self.journal.forget_failed_flush()
            }
            Purpose::JournalWrite | Purpose::JournalFlush => self.stop(StopReason::Journal(error)),
            Purpose::Manifest => self.stop(StopReason::Checkpoint(error)),
            Purpose::JournalGrowth(_) => {
                self.growth_in_flight = false;
                self.growth_failed = true;
            }
            Purpose::LargeWrite(file, base) => self.large_failed(file.partition, base),
            Purpose::LazyWrite(file) => {
                if let Some(partition) = self.partitions.get_mut(&file.partition) {
                    partition.extents.fail();
                }
                self.unsettled.insert(file.partition);
                self.stop_partition(file.partition, None);
            }
            Purpose::Creation(file) => {
                if let Some(partition) = self.partitions.get_mut(&file.partition) {
                    partition.extents.fail();
                    if let Some(segment) = partition.segment(file.base) {
                        segment.file = File::Failed;
                    }
                }
                self.unsettled.insert(file.partition);
                self.freeze(file.partition);
            }
            Purpose::DirectoryFlush(file) | Purpose::SegmentFlush(file, _) => self.freeze(file.partition),
            // The file stays longer than what it holds, which costs space and nothing else.
            Purpose::Trim(file) => self.trim_ended(file),
            Purpose::Read(_) | Purpose::IndexRead(_) | Purpose::IndexWrite(_) => {
                unreachable!("reads and indexes are handled apart")
            }
        }
    }

    /// The shard takes no more appends, and answers those that wait with an error: nobody knows what is durable.
    pub(super) fn stop(&mut self, reason: StopReason) {
        if self.stopped.is_some() {
            return;
        }
        self.stopped = Some(reason);
        for partition in self.partitions.values_mut() {
            partition.abandon_unseen();
            for waiting in partition.take_waiting() {
                self.effects.push(Effect::Appended { tag: waiting.tag, result: Err(AppendError::Stopped) });
            }
        }
        for waiting in self.log_starts.drain(..) {
            self.effects.push(Effect::RecordsDeleted { tag: waiting.tag, result: Err(AppendError::Stopped) });
        }
        self.effects.push(Effect::Stopped { reason });
        self.tell_of_room();
    }

    /// What the segments of a log hold cannot be trusted to be durable: no manifest will move it any more, and its large
    /// batches that are not flushed will never be.
    fn freeze(&mut self, id: PartitionId) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        partition.is_frozen = true;
        let voided = partition.void_unflushed();
        self.voids_wanted.extend(voided.iter().map(|(base, group)| (id, *base, *group)));
        self.leave_checkpoint(id);
        self.stop_partition(id, voided.first().map(|(base, _)| *base));
    }

    fn large_failed(&mut self, id: PartitionId, base: Offset) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let Some(group) = partition.set_large(base, Large::Void) else { return };
        self.voids_wanted.push((id, base, group));
        self.stop_partition(id, Some(base));
    }

    /// The log takes no more appends. With `from`, batches from there on are given up; else what is journaled stays valid
    /// and only its way to the segment is closed.
    fn stop_partition(&mut self, id: PartitionId, from: Option<Offset>) {
        let rejects = self.rules.hold(Rule::failed_large_is_void);
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        if !rejects {
            return;
        }
        partition.give_up(from.unwrap_or(partition.end));
        self.progress += 1;
        for waiting in partition.take_waiting() {
            self.effects
                .push(Effect::Appended { tag: waiting.tag, result: Err(AppendError::PartitionStopped) });
        }
    }
}
