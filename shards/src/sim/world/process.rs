//! The running process: its turns, and the operations it asked for, completed in any order or failing.

use super::*;
use crate::limits::BLOCK_BYTES;

/// Per mille of the times that a directory's flush is picked to end: it goes on.
const DIRECTORY_STAYS: u32 = 700;

/// Turns for which a shard at rest is watched, and what it may do in them: vouch, flush, write the last runs, and
/// commit: what is under way, what was asked for behind it, space that was grown, and the attempt that frees nothing.
const IDLE_TURNS: usize = 60;
const IDLE_OPERATIONS_MAX: usize = 40;
const IDLE_MANIFESTS_MAX: usize = 4;

impl World {
    pub(super) fn turn(&mut self) -> Result<(), Violation> {
        let (at, now) = (self.random.below(self.shards.len()), self.now);
        if self.random.per_mille(self.profile.die_in_append) {
            let stores = self.random.below(8);
            self.staged[at].as_ref().expect("a running shard has staging memory").set_fuse(Some(stores));
        }
        self.shards[at].core.turn(now);
        if self.staged[at].as_ref().is_some_and(|m| m.is_dead()) {
            self.hits.count("died in a turn");
            return self.restart(Some(Loss::Process));
        }
        self.staged[at].as_ref().expect("as above").set_fuse(None);
        self.take_effects(at)
    }

    /// The clock jumps, and producers that have been silent for too long are forgotten.
    pub(super) fn jump(&mut self) {
        self.now += [-3_600_000, 3_600_000, 90_000_000][self.random.below(3)];
        for shard in &mut self.shards {
            let expired = shard.core.expire_producers(self.now);
            self.hits.add("producer expired", expired as u64);
        }
    }

    pub(super) fn take_effects(&mut self, at: usize) -> Result<(), Violation> {
        let mut effects = std::mem::take(&mut self.shards[at].not_taken);
        effects.extend(self.shards[at].core.take_effects());
        for effect in effects {
            match effect {
                Effect::Appended { tag, result } => self.appended(at, tag, result.map(|a| a.base_offset))?,
                Effect::Fetched { tag, result } => {
                    let Some(Pending::Fetch(id)) = self.tags.remove(&tag) else { continue };
                    match result {
                        Ok(fetched) => self.consumed(id, &fetched)?,
                        Err(crate::core::FetchError::Busy | crate::core::FetchError::OffsetOutOfRange) => {}
                        Err(crate::core::FetchError::Failed(_)) if self.profile.errors > 0 => {}
                        Err(crate::core::FetchError::Damaged) if self.damaged => {
                            self.hits.count("damage reported by a fetch");
                            self.halted = true;
                        }
                        Err(error) => return Err(violation(id, format!("a fetch failed: {error}"))),
                    }
                }
                Effect::RecordsDeleted { tag, result } => {
                    if let (Some(Pending::DeleteRecords(id)), Ok(offset)) = (self.tags.remove(&tag), result)
                        && let Some(log) = self.oracle.logs.get_mut(&id)
                    {
                        log.start_answered = log.start_answered.max(offset);
                    }
                }
                Effect::Advanced { tag } => self.advanced(at, tag)?,
                Effect::Room => self.hits.count("room told"),
                Effect::Stopped { .. } => self.hits.count("shard stopped"),
                operation => {
                    let issued = self.disk.next_write();
                    self.shards[at].in_flight.push((operation, issued));
                }
            }
        }
        Ok(())
    }

    /// A watcher is told once, and only when the record is visible or the log is gone.
    fn advanced(&mut self, at: usize, tag: Tag) -> Result<(), Violation> {
        let Some(Pending::Watch(id, offset)) = self.tags.remove(&tag) else {
            return Err(Violation(format!("{tag:?} was told of a record and did not wait for one")));
        };
        match self.shards[at].core.partition(id) {
            Some(log) if log.high_watermark <= offset => {
                Err(violation(id, format!("a wait for {offset} ended at {}", log.high_watermark)))
            }
            Some(_) => {
                self.hits.count("record awaited");
                Ok(())
            }
            None => {
                self.hits.count("watched log deleted");
                Ok(())
            }
        }
    }

    pub(super) fn appended(
        &mut self,
        at: usize,
        tag: Tag,
        result: Result<Offset, AppendError>,
    ) -> Result<(), Violation> {
        let Some(Pending::Append(id, uid)) = self.tags.remove(&tag) else {
            return Err(Violation(format!("{tag:?} was answered and did not wait for an answer")));
        };
        if let Err(error) = result {
            let core = &self.shards[at].core;
            let is_stopped = core.partition(id).is_some_and(|p| p.stopped_from.is_some());
            let is_right = match error {
                AppendError::Stopped => core.stopped().is_some(),
                AppendError::PartitionStopped => is_stopped,
                AppendError::Deleted => core.partition(id).is_none(),
                _ => false,
            };
            let what = || violation(id, format!("batch {uid} was answered with: {error}"));
            return if is_right { Ok(()) } else { Err(what()) };
        }
        let Some(log) = self.oracle.logs.get_mut(&id) else { return Ok(()) };
        let Ok(base) = result else { return Ok(()) };
        let sent = log.batches.iter_mut().find(|b| b.uid == uid);
        let sent =
            sent.ok_or_else(|| violation(id, format!("batch {uid} was acknowledged and not appended")))?;
        if sent.base != base {
            return Err(violation(id, format!("batch {uid} at {} was acknowledged at {base}", sent.base)));
        }
        sent.acked = true;
        Ok(())
    }

    pub(super) fn complete_one(&mut self) -> Result<(), Violation> {
        let at = self.random.below(self.shards.len());
        let count = self.shards[at].in_flight.len();
        if count == 0 {
            return Ok(());
        }
        let pick = self.random.below(count);
        // A directory's flush is slower than a file's, so that batches are met that lack nothing else.
        let is_slow = matches!(self.shards[at].in_flight[pick].0, Effect::FlushDirectory { .. });
        if is_slow && self.random.per_mille(DIRECTORY_STAYS) {
            return Ok(());
        }
        self.complete(at, pick)
    }

    pub(super) fn complete(&mut self, at: usize, pick: usize) -> Result<(), Violation> {
        let (effect, issued) = self.shards[at].in_flight.remove(pick);
        if let Effect::RemovePartition { partition } = effect {
            return self.remove_files(at, partition);
        }
        let is_flush = matches!(effect, Effect::FlushJournal { .. } | Effect::FlushSegment { .. });
        let has_no_space = self.full && self.needs_space(&effect, at);
        let fails = self.random.per_mille(self.profile.errors)
            || (is_flush && self.random.per_mille(self.profile.flush_errors))
            || has_no_space;
        let mut completion = self.perform(at, effect, issued, fails);
        let error = match () {
            () if has_no_space => OperationError::Os(28),
            () if self.random.per_mille(500) => OperationError::Os(5),
            () => OperationError::Short,
        };
        if has_no_space {
            self.hits.count("no space left");
        }
        if fails {
            completion.result = Err(error);
            self.hits.count("operation failed");
        }
        self.shards[at].core.complete(completion);
        self.take_effects(at)
    }

    /// Whether an operation needs space that a full disk does not have.
    fn needs_space(&self, effect: &Effect, at: usize) -> bool {
        let length = path_of(effect, at).and_then(|path| self.disk.length(&path)).unwrap_or(0);
        match effect {
            Effect::CreateSegment { .. } | Effect::GrowJournal { .. } | Effect::CommitManifest { .. } => true,
            Effect::WriteSegment { position, bytes, .. } => position + bytes.len() as u64 > length,
            _ => false,
        }
    }

    /// Where a write lands: where it should, or, misdirected, at another block of its file.
    fn landing(&mut self, path: &str, position: u64) -> u64 {
        let blocks = self.disk.length(path).unwrap_or(0) / BLOCK_BYTES as u64;
        if blocks == 0 || !self.random.per_mille(self.profile.misdirected) {
            return position;
        }
        self.hits.count("write misdirected");
        self.damaged = true;
        self.random.below(usize::try_from(blocks).expect("small")) as u64 * BLOCK_BYTES as u64
    }

    /// Removes a deleted log's files once no operation on them is under way.
    pub(super) fn remove_files(&mut self, at: usize, partition: PartitionId) -> Result<(), Violation> {
        let prefix = partition_path(partition);
        let is_busy = self.shards[at]
            .in_flight
            .iter()
            .any(|(e, _)| path_of(e, at).is_some_and(|p| p.starts_with(&prefix)));
        if is_busy {
            self.shards[at].in_flight.push((Effect::RemovePartition { partition }, 0));
            return Ok(());
        }
        for path in self.disk.paths(&prefix) {
            self.disk.remove(&path);
        }
        Ok(())
    }

    /// Does what an operation says, or a part of it if it fails.
    pub(super) fn perform(&mut self, at: usize, effect: Effect, issued: u64, fails: bool) -> Completion {
        let path = path_of(&effect, at).unwrap_or_default();
        let landing = match &effect {
            Effect::WriteJournal { position, .. } | Effect::WriteSegment { position, .. } => {
                self.landing(&path, *position)
            }
            _ => 0,
        };
        let short_reads = self.profile.short_reads;
        let random = &mut self.random;
        let mut lands = || !fails || random.per_mille(500);
        match effect {
            Effect::WriteJournal { operation, bytes, durable, .. } => {
                self.disk.write(&path, landing, &bytes, &mut lands);
                if durable && !fails {
                    self.disk.flush_write(&path, landing, bytes.len());
                }
                Completion::of(operation, Ok(()))
            }
            Effect::WriteSegment { operation, bytes, .. } => {
                self.disk.write(&path, landing, &bytes, &mut lands);
                Completion::of(operation, Ok(()))
            }
            Effect::FlushJournal { operation } | Effect::FlushSegment { operation, .. } => {
                if fails {
                    self.disk.fail_flush(&path, issued);
                } else {
                    self.disk.flush(&path, issued);
                }
                Completion::of(operation, Ok(()))
            }
            change @ (Effect::GrowJournal { .. }
            | Effect::CreateSegment { .. }
            | Effect::FlushDirectory { .. }
            | Effect::TrimSegment { .. }) => Completion::of(self.change_file(&path, &change, fails), Ok(())),
            Effect::ReadSegment { operation, position, mut buffer, .. } => {
                let mut read = self.disk.read(&path, position, &mut buffer);
                if random.per_mille(short_reads) && read > BLOCK_BYTES {
                    read = random.between(1, read / BLOCK_BYTES) * BLOCK_BYTES;
                    self.hits.count("read came up short");
                }
                buffer.set_length(read);
                Completion { buffer: Some(buffer), ..Completion::of(operation, Ok(())) }
            }
            Effect::ReadIndex { operation, file } => {
                Completion { index: self.index_on_disk(file), ..Completion::of(operation, Ok(())) }
            }
            Effect::WriteIndex { operation, file, index } => {
                self.put_index(file, &index, fails);
                Completion { index: Some(index), ..Completion::of(operation, Ok(())) }
            }
            Effect::CommitManifest { operation, manifest } => {
                if !fails {
                    self.disk.replace(&manifest_path(&self.shards[at].manifest), &manifest.encode());
                }
                Completion::of(operation, Ok(()))
            }
            other => unreachable!("{other:?} is no operation"),
        }
    }

    /// Does what an operation says that changes a file's size or directory; if it fails, nothing of it, or no more than the longer size.
    fn change_file(&mut self, path: &str, change: &Effect, fails: bool) -> Operation {
        let (operation, name) = match change {
            Effect::GrowJournal { operation, from, to } => {
                if fails {
                    self.disk.extend_in_part(path, *to);
                } else {
                    self.disk.extend(path, *from, *to);
                }
                (*operation, "journal grown")
            }
            Effect::CreateSegment { operation, .. } => {
                if !fails {
                    self.disk.create(path);
                }
                (*operation, "segment created")
            }
            Effect::FlushDirectory { operation, .. } => {
                if !fails {
                    self.disk.flush_directory(path);
                }
                (*operation, "directory flushed")
            }
            Effect::TrimSegment { operation, length, .. } => {
                if !fails {
                    self.disk.truncate(path, *length);
                }
                (*operation, "trim")
            }
            other => unreachable!("{other:?} is no change of a file"),
        };
        self.hits.add(name, u64::from(!fails));
        operation
    }

    /// Lets everything that is under way come to its end.
    pub(super) fn settle(&mut self) -> Result<(), Violation> {
        for round in 0..2000 {
            for id in self.known.clone() {
                while self.send_next(id)? {}
            }
            for at in 0..self.shards.len() {
                self.shards[at].core.turn(self.now);
                self.take_effects(at)?;
                while !self.shards[at].in_flight.is_empty() {
                    let before = self.shards[at].in_flight.len();
                    self.complete(at, 0)?;
                    if before == self.shards[at].in_flight.len() && before == 1 {
                        break;
                    }
                }
                if round % 8 == 0 {
                    self.shards[at].core.request_checkpoint();
                }
            }
            self.now += 20;
            if self.is_settled() {
                self.hits.count("settled");
                self.check_answered()?;
                return self.check_idle();
            }
        }
        let stuck: Vec<_> = self.known.iter().filter(|id| !self.log_is_settled(**id)).copied().collect();
        Err(Violation(format!(
            "nothing moves any more in {stuck:?}, {} answers outstanding {}",
            self.tags.len(),
            self.describe()
        )))
    }

    /// With nothing under way any more, every append has its answer, and nobody waits for what is visible.
    fn check_answered(&self) -> Result<(), Violation> {
        for pending in self.tags.values() {
            match pending {
                Pending::Append(id, uid) => {
                    return Err(violation(*id, format!("batch {uid} was never answered")));
                }
                Pending::Watch(id, offset) => {
                    let log = self.shards[self.owner(*id)].core.partition(*id);
                    if log.is_none_or(|log| log.high_watermark > *offset) {
                        return Err(violation(*id, format!("the wait for {offset} never ended")));
                    }
                }
                Pending::Fetch(_) | Pending::DeleteRecords(_) => {}
            }
        }
        Ok(())
    }

    /// A shard that nobody asks anything of comes to rest: what it still does is bounded.
    fn check_idle(&mut self) -> Result<(), Violation> {
        for at in 0..self.shards.len() {
            let (mut operations, mut manifests) = (0, 0);
            for _ in 0..IDLE_TURNS {
                self.now += 20;
                self.shards[at].core.turn(self.now);
                self.take_effects(at)?;
                operations += self.shards[at].in_flight.len();
                let is_manifest = |(e, _): &&(Effect, u64)| matches!(e, Effect::CommitManifest { .. });
                manifests += self.shards[at].in_flight.iter().filter(is_manifest).count();
                self.settle_in_flight()?;
            }
            if operations > IDLE_OPERATIONS_MAX || manifests > IDLE_MANIFESTS_MAX {
                let what =
                    format!("{operations} operations and {manifests} manifests in {IDLE_TURNS} idle turns");
                return Err(Violation(format!("shard {at}: {what}: {}", self.describe())));
            }
            self.hits.count("idle shard");
        }
        Ok(())
    }

    pub(super) fn is_settled(&self) -> bool {
        let stopped = |at: usize| self.shards[at].core.stopped().is_some();
        self.known.iter().all(|id| self.log_is_settled(*id) || stopped(self.owner(*id)))
            && (0..self.shards.len())
                .all(|at| self.shards[at].core.is_settled() || stopped(at) || self.has_stopped_log(at))
    }

    pub(super) fn has_stopped_log(&self, at: usize) -> bool {
        self.shards[at].core.partitions().any(|p| p.stopped_from.is_some())
    }

    pub(super) fn log_is_settled(&self, id: PartitionId) -> bool {
        let at = self.owner(id);
        let Some(partition) = self.shards[at].core.partition(id) else { return true };
        partition.stopped_from.is_some()
            || (self.clients[&id].queue.is_empty() && partition.high_watermark == partition.end)
    }

    pub(super) fn settle_in_flight(&mut self) -> Result<(), Violation> {
        for at in 0..self.shards.len() {
            for _ in 0..200 {
                if self.shards[at].in_flight.is_empty() {
                    break;
                }
                self.complete(at, 0)?;
            }
        }
        Ok(())
    }
}

/// The file that an operation works on.
pub(super) fn path_of(effect: &Effect, at: usize) -> Option<String> {
    let shard = ShardIndex(u16::try_from(at).expect("few"));
    match effect {
        Effect::WriteJournal { .. } | Effect::FlushJournal { .. } | Effect::GrowJournal { .. } => {
            Some(journal_path(shard))
        }
        Effect::CreateSegment { file, .. }
        | Effect::FlushDirectory { file, .. }
        | Effect::WriteSegment { file, .. }
        | Effect::FlushSegment { file, .. }
        | Effect::TrimSegment { file, .. }
        | Effect::ReadSegment { file, .. }
        | Effect::ReadIndex { file, .. }
        | Effect::WriteIndex { file, .. } => Some(segment_path(*file)),
        _ => None,
    }
}
