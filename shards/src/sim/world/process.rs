//! The running process: its turns, and the operations it asked for, completed in any order or failing.

use super::*;
use crate::limits::BLOCK_BYTES;

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
        for effect in self.shards[at].core.take_effects() {
            match effect {
                Effect::Appended { tag, result } => self.appended(tag, result.map(|a| a.base_offset))?,
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
                Effect::Room | Effect::Advanced { .. } => {}
                Effect::Stopped { .. } => self.hits.count("shard stopped"),
                operation => {
                    let issued = self.disk.next_write();
                    self.shards[at].in_flight.push((operation, issued));
                }
            }
        }
        Ok(())
    }

    pub(super) fn appended(
        &mut self,
        tag: Tag,
        result: Result<Offset, AppendError>,
    ) -> Result<(), Violation> {
        let Some(Pending::Append(id, uid)) = self.tags.remove(&tag) else { return Ok(()) };
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
        if count > 0 {
            let pick = self.random.below(count);
            self.complete(at, pick)?;
        }
        Ok(())
    }

    pub(super) fn complete(&mut self, at: usize, pick: usize) -> Result<(), Violation> {
        let (effect, issued) = self.shards[at].in_flight.remove(pick);
        if let Effect::RemovePartition { partition } = effect {
            return self.remove_files(at, partition);
        }
        let is_journal_flush = matches!(effect, Effect::FlushJournal { .. });
        let has_no_space = self.full && self.needs_space(&effect, at);
        let fails = self.random.per_mille(self.profile.errors)
            || (is_journal_flush && self.random.per_mille(self.profile.flush_errors))
            || has_no_space;
        let (operation, buffer) = self.perform(at, effect, issued, fails);
        let error = match () {
            () if has_no_space => OperationError::Os(28),
            () if self.random.per_mille(500) => OperationError::Os(5),
            () => OperationError::Short,
        };
        if has_no_space {
            self.hits.count("no space left");
        }
        let result = if fails { Err(error) } else { Ok(()) };
        if fails {
            self.hits.count("operation failed");
        }
        self.shards[at].core.complete(Completion { operation, result, buffer });
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
    pub(super) fn perform(
        &mut self,
        at: usize,
        effect: Effect,
        issued: u64,
        fails: bool,
    ) -> (Operation, Option<crate::memory::AlignedBuffer>) {
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
                (operation, None)
            }
            Effect::WriteSegment { operation, bytes, .. } => {
                self.disk.write(&path, landing, &bytes, &mut lands);
                (operation, None)
            }
            Effect::FlushJournal { operation } => {
                if fails {
                    self.disk.fail_flush(&path, issued);
                } else {
                    self.disk.flush(&path, issued);
                }
                (operation, None)
            }
            Effect::FlushSegment { operation, .. } => {
                if !fails {
                    self.disk.flush(&path, issued);
                }
                (operation, None)
            }
            Effect::GrowJournal { operation, from, to } => {
                if fails {
                    self.disk.extend_in_part(&path, to);
                } else {
                    self.disk.extend(&path, from, to);
                    self.hits.count("journal grown");
                }
                (operation, None)
            }
            Effect::CreateSegment { operation, .. } => {
                if !fails {
                    self.disk.create(&path);
                }
                (operation, None)
            }
            Effect::FlushDirectory { operation, .. } => {
                if !fails {
                    self.disk.flush_directory(&path);
                }
                (operation, None)
            }
            Effect::TrimSegment { operation, length, .. } => {
                if !fails {
                    self.disk.truncate(&path, length);
                    self.hits.count("trim");
                }
                (operation, None)
            }
            Effect::ReadSegment { operation, position, mut buffer, .. } => {
                let mut read = self.disk.read(&path, position, &mut buffer);
                if random.per_mille(short_reads) && read > BLOCK_BYTES {
                    read = random.between(1, read / BLOCK_BYTES) * BLOCK_BYTES;
                    self.hits.count("read came up short");
                }
                buffer.set_length(read);
                (operation, Some(buffer))
            }
            Effect::CommitManifest { operation, manifest } => {
                if !fails {
                    self.disk.replace(&manifest_path(&self.shards[at].manifest), &manifest.encode());
                }
                (operation, None)
            }
            other => unreachable!("{other:?} is no operation"),
        }
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
                return Ok(());
            }
        }
        let stuck: Vec<_> = self.known.iter().filter(|id| !self.log_is_settled(**id)).copied().collect();
        Err(Violation(format!(
            "nothing moves any more in {stuck:?}, {} answers outstanding {}",
            self.tags.len(),
            self.describe()
        )))
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
        | Effect::ReadSegment { file, .. } => Some(segment_path(*file)),
        _ => None,
    }
}
