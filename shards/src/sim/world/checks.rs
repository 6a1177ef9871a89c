//! What is compared: whole logs after a restart, the living with its replay, files with what they should hold.

use super::*;
use crate::format::batch::{Batches, HEADER_BYTES};

impl World {
    pub(super) fn check_recovered(
        &mut self,
        id: PartitionId,
        loss: Loss,
        live: Option<&(Offset, crate::core::producers::Producers, bool)>,
    ) -> Result<(), Violation> {
        let (found, start, end) = self.read_whole(id)?;
        if self.halted {
            return Ok(());
        }
        let survivors = self.oracle.recovered(id, &found, start, end, loss)?;
        self.check_times(id)?;
        let at = self.owner(id);
        let partition =
            self.shards[at].core.partition(id).ok_or_else(|| violation(id, "a known log is not open"))?;
        if let Some((live_end, producers, stopped)) = live
            && loss != Loss::Damage
            && *live_end == end
            && !stopped
            && self.profile.jump == 0
        {
            self.oracle.compared.replays += 1;
            if *producers != partition.producers.without_times() {
                return Err(violation(id, "the producers differ from those before the restart"));
            }
        }
        self.check_epochs(id, survivors)?;
        self.resume_client(id, survivors)
    }

    /// A restart keeps the epochs of what is left, and appends under one that no log had before.
    fn check_epochs(&mut self, id: PartitionId, survivors: usize) -> Result<(), Violation> {
        let at = self.owner(id);
        let partition = self.shards[at].core.partition(id).expect("just compared");
        let mut history = self.oracle.logs.get(&id).cloned().unwrap_or_default();
        history.batches.truncate(survivors);
        let epochs = history.epochs();
        if partition.epochs != epochs {
            return Err(violation(id, format!("its epochs are {:?} and not {epochs:?}", partition.epochs)));
        }
        if epochs.last().is_some_and(|(last, _)| *last >= partition.epoch) {
            return Err(violation(id, format!("the epoch {} was there before", partition.epoch)));
        }
        for (i, (epoch, _)) in epochs.iter().enumerate() {
            let end = epochs.get(i + 1).map_or(partition.end, |(_, start)| *start);
            if partition.end_offset_for_epoch(*epoch) != Some((*epoch, end)) {
                return Err(violation(id, format!("the epoch {epoch} does not end at {end}")));
            }
        }
        self.oracle.compared.epochs += epochs.len() as u64;
        Ok(())
    }

    /// Compares a log's files, as they lie on disk, with its batches: nothing else is in them, and behind them zeros only.
    pub(super) fn check_files(&mut self, id: PartitionId) -> Result<(), Violation> {
        let at = self.owner(id);
        let core = &self.shards[at].core;
        let Some(partition) = core.partition(id).filter(|p| p.stopped_from.is_none()) else { return Ok(()) };
        if !core.is_settled() || self.damaged {
            return Ok(());
        }
        let Some(log) = self.oracle.logs.get(&id) else { return Ok(()) };
        let mut expected = log.batches.iter();
        for segment in &partition.segments {
            let path = segment_path(partition.file(segment.base));
            let bytes = self.disk.read_all(&path).unwrap_or_default();
            let length = usize::try_from(segment.length).expect("small");
            if bytes.len() < length
                || (segment.is_trimmed
                    && !self.hits.counts.contains_key("operation failed")
                    && bytes.len() > length)
            {
                let what = format!("{path} has {} bytes instead of {length}", bytes.len());
                return Err(violation(id, what));
            }
            if let Some(stray) = bytes[length..].iter().position(|byte| *byte != 0) {
                return Err(violation(
                    id,
                    format!("{path} holds something at {} behind its end", length + stray),
                ));
            }
            let mut batches = Batches::new(&bytes[..length]);
            for batch in batches.by_ref() {
                let (_, batch) = batch.map_err(|e| violation(id, format!("{path}: {e}")))?;
                let sent = expected.next().filter(|sent| sent.base == batch.base_offset());
                let is_sent = sent.is_some_and(|sent| sent.bytes[HEADER_BYTES..] == *batch.body());
                if !is_sent || batch.check_crc().is_err() {
                    return Err(violation(id, format!("{path} holds a stranger at {}", batch.base_offset())));
                }
            }
            self.oracle.compared.file_bytes += bytes.len() as u64;
        }
        match expected.next() {
            Some(missing) => Err(violation(id, format!("batch {} is in no file", missing.uid))),
            None => Ok(()),
        }
    }

    /// Reads a log from its start to its high watermark through the core, disk reads included.
    pub(super) fn read_whole(
        &mut self,
        id: PartitionId,
    ) -> Result<(Vec<Vec<u8>>, Offset, Offset), Violation> {
        let at = self.owner(id);
        let partition =
            self.shards[at].core.partition(id).ok_or_else(|| violation(id, "a known log is not open"))?;
        let (start, end) = (partition.log_start, partition.high_watermark);
        let mut found = Vec::new();
        let mut offset = start;
        while offset < end {
            let fetched = match self.fetch_now(at, id, offset) {
                Err(_) if self.damaged => {
                    self.hits.count("damage reported by a fetch");
                    self.halted = true;
                    break;
                }
                Err(crate::core::FetchError::Busy) if self.has_stopped_log(at) => {
                    // Batches that never get to the disk fill a small slab for good.
                    self.hits.count("no memory beside a stopped log");
                    break;
                }
                other => other.map_err(|e| violation(id, format!("reading at {offset} of {end}: {e}")))?,
            };
            if fetched.batches.is_empty() {
                return Err(violation(id, format!("nothing to read at {offset} of {end}")));
            }
            for bytes in &fetched.batches {
                let (batch, _) = crate::format::batch::BatchView::parse(bytes)
                    .map_err(|e| violation(id, format!("at {offset}: {e}")))?;
                batch.check_crc().map_err(|e| violation(id, format!("at {offset}: {e}")))?;
                let batch_end = Offset(batch.last_offset().get() + 1);
                found.push(bytes.to_vec());
                if batch_end <= offset {
                    return Err(violation(id, format!("the log steps back at {offset}")));
                }
                offset = batch_end;
            }
        }
        Ok((found, start, end))
    }

    /// Fetches and performs the reads at once.
    pub(super) fn fetch_now(
        &mut self,
        at: usize,
        id: PartitionId,
        offset: Offset,
    ) -> Result<crate::core::Fetched, crate::core::FetchError> {
        self.last_tag += 1;
        let tag = Tag(self.last_tag);
        if let Some(fetched) = self.shards[at].core.fetch(id, offset, 64 << 10, tag)? {
            return Ok(fetched);
        }
        let is_answer = |effect: &Effect| matches!(effect, Effect::Fetched { tag: t, .. } if *t == tag);
        match self.await_answer(at, is_answer) {
            Effect::Fetched { result, .. } => result,
            other => unreachable!("{other:?} is no answer"),
        }
    }

    /// Performs reads, and whatever works on index files, until an answer is there.
    pub(super) fn await_answer(&mut self, at: usize, is_answer: impl Fn(&Effect) -> bool) -> Effect {
        loop {
            let mut answer = None;
            for effect in self.shards[at].core.take_effects() {
                if is_answer(&effect) {
                    answer = Some(effect);
                } else {
                    self.shards[at].not_taken.push(effect);
                }
            }
            if let Some(answer) = answer {
                return answer;
            }
            let issued = self.disk.next_write();
            let shard = &mut self.shards[at];
            let reads = shard.not_taken.extract_if(.., |effect| is_of_reading(effect));
            shard.in_flight.extend(reads.map(|effect| (effect, issued)));
            let is_needed = |(effect, _): &(Effect, u64)| is_of_reading(effect);
            let next = self.shards[at].in_flight.iter().position(is_needed);
            let (effect, issued) = self.shards[at].in_flight.remove(next.expect("an answer waits for reads"));
            let completion = self.perform(at, effect, issued, false);
            self.shards[at].core.complete(completion);
        }
    }

    /// Recovers a copy of everything as if the process died here, and compares it with the living.
    pub(super) fn compare_with_replay(&mut self) -> Result<(), Violation> {
        if self.damaged {
            return Ok(());
        }
        let mut disk = self.disk.clone();
        let mut random = Random::new(self.random.bits());
        let deleted = &self.deleted;
        let opening = Opening {
            shards: 1,
            known: &self.known,
            is_deleted: &|id| deleted.contains(&id),
            owner: &|_| ShardIndex(0),
            geometry: Geometry { capacity: JOURNAL_BYTES, group_bytes_max: GROUP_BYTES_MAX },
            flush_method: FlushMethod::Dsync,
            was_stopped_cleanly: false,
            epoch_floor: LeaderEpoch(self.epoch_floor),
            now: self.now,
            rules: &self.rules,
        };
        let mut directory =
            Directory { disk: &mut disk, staged: &self.staged, random: &mut random, steps_left: None };
        let (opened, _) = recovery::open(&mut directory, &opening)
            .map_err(|error| Violation(format!("a replay failed: {error}")))?;
        let live = self.shards.iter().flat_map(|s| s.core.partitions());
        for partition in live {
            let id = partition.id;
            let replayed = opened[0].partitions.iter().find(|p| p.id() == id);
            let replayed = replayed.ok_or_else(|| violation(id, "a log is missing in its replay"))?;
            let (end, written) = (Offset(replayed.end), partition.written_end());
            let is_stopped =
                partition.stopped_from.is_some() || self.shards[self.owner(id)].core.stopped().is_some();
            if !is_stopped && (end < written || end > partition.end) {
                return Err(violation(
                    id,
                    format!("its replay ends at {end}; it is {written} to {}", partition.end),
                ));
            }
            if end == partition.end && self.profile.jump == 0 {
                let producers = crate::core::producers::Producers::from_manifest(&replayed.producers);
                if producers.without_times() != partition.producers.without_times() {
                    return Err(violation(id, "the producers differ from their replay"));
                }
            }
            if replayed.log_start != partition.log_start.min(end).get()
                && self.rules.hold(Rule::log_start_is_journaled)
            {
                return Err(violation(id, "the log start differs from its replay"));
            }
            self.oracle.compared.replays += 1;
        }
        Ok(())
    }
}

/// What a fetch or a search may wait for.
fn is_of_reading(effect: &Effect) -> bool {
    matches!(effect, Effect::ReadSegment { .. } | Effect::ReadIndex { .. } | Effect::WriteIndex { .. })
}
