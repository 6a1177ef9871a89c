//! What was promised, kept apart from the code that promised it: every batch of every log, who was told what of it, and
//! what consumers saw. It compares whole logs after each restart, and every batch that a consumer is given.

use std::collections::BTreeMap;

use crate::core::Acks;
use crate::format::batch::{BatchView, HEADER_BYTES, TimestampType};
use crate::types::{LeaderEpoch, Offset, PartitionId, Timestamp};

/// A batch as its client made it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Unique in a run; its records' values carry it.
    pub uid: u64,
    /// The bytes sent.
    pub bytes: Vec<u8>,
    /// The offset it was given.
    pub base: Offset,
    /// The offset behind it.
    pub end: Offset,
    /// The level its client asked for.
    pub acks: Acks,
    /// Whether its client was told that it is safe at that level.
    pub acked: bool,
    /// The epoch under which it was appended.
    pub epoch: LeaderEpoch,
    /// When it was appended, where the topic stamps that.
    pub append_time: Option<Timestamp>,
}

impl Sent {
    /// Whether a batch is this one, as it had to be stored.
    pub fn is(&self, batch: &BatchView<'_>) -> bool {
        let log_append_time = batch.timestamp_type() == TimestampType::LogAppendTime;
        let has_its_time = match self.append_time {
            Some(time) => log_append_time && batch.max_timestamp() == time,
            None => !log_append_time,
        };
        batch.body() == &self.bytes[HEADER_BYTES..]
            && batch.base_offset() == self.base
            && batch.last_offset().get() + 1 == self.end.get()
            && batch.leader_epoch() == self.epoch
            && has_its_time
    }
}

/// What is known of one log.
#[derive(Clone, Debug, Default)]
pub struct LogHistory {
    /// Its batches in order, as the last process appended them.
    pub batches: Vec<Sent>,
    /// The first offset, as far as its deletion was answered, and as far as it was asked for.
    pub start_answered: Offset,
    /// See above.
    pub start_asked: Offset,
    /// The offset behind the last record that a consumer was given.
    pub seen_end: Offset,
}

/// What kind of restart a log went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The process died; what the kernel and tmpfs had stays.
    Process,
    /// The power failed.
    Power,
    /// A bit flipped on disk. The last groups, for which nothing vouches, may be gone without a word.
    Damage,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

/// Everything compared in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    /// Batches given to consumers.
    pub batches_read: u64,
    /// Logs compared whole after a restart.
    pub logs: u64,
    /// Batches in these.
    pub batches_recovered: u64,
    /// Acknowledged batches that had to be there.
    pub acked_checked: u64,
    /// States compared with their replay.
    pub replays: u64,
    /// Epochs of logs compared after a restart.
    pub epochs: u64,
    /// Looks for a time.
    pub times: u64,
    /// Bytes of segment files compared at the end.
    pub file_bytes: u64,
}

impl Sent {
    /// Its largest time, as it is stored.
    pub fn max_timestamp(&self) -> Timestamp {
        let own = || BatchView::parse(&self.bytes).map_or(Timestamp(-1), |(batch, _)| batch.max_timestamp());
        self.append_time.unwrap_or_else(own)
    }
}

impl LogHistory {
    /// The first batch that reaches beyond `start`, ends before `end`, and is not older than `timestamp`.
    pub fn first_at_or_after(&self, timestamp: Timestamp, start: Offset, end: Offset) -> Option<Offset> {
        let visible = self.batches.iter().filter(|b| b.end > start && b.end <= end);
        visible.into_iter().find(|b| b.max_timestamp() >= timestamp).map(|b| b.base)
    }

    /// Where each epoch begins, by what was appended.
    pub fn epochs(&self) -> Vec<(LeaderEpoch, Offset)> {
        let mut epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
        for batch in &self.batches {
            if epochs.last().is_none_or(|(last, _)| *last < batch.epoch) {
                epochs.push((batch.epoch, batch.base));
            }
        }
        epochs
    }
}

/// All logs that are alive.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    /// By log.
    pub logs: BTreeMap<PartitionId, LogHistory>,
    /// What was compared.
    pub compared: Compared,
}

impl Oracle {
    /// A batch that a consumer is given at a place.
    pub fn read(&mut self, id: PartitionId, bytes: &[u8]) -> Result<Offset, Violation> {
        let log = self.logs.get_mut(&id).ok_or_else(|| violation(id, "a deleted log was read"))?;
        let (batch, length) =
            BatchView::parse(bytes).map_err(|e| violation(id, format!("served bytes: {e}")))?;
        if length != bytes.len() || batch.check_crc().is_err() {
            return Err(violation(id, format!("a bad checksum was served at {}", batch.base_offset())));
        }
        let base = batch.base_offset();
        let at = log.batches.binary_search_by_key(&base, |b| b.base);
        let sent = at
            .ok()
            .map(|i| &log.batches[i])
            .ok_or_else(|| violation(id, format!("nothing was appended at {base}")))?;
        if !sent.is(&batch) {
            return Err(violation(id, format!("another batch than {} was served at {base}", sent.uid)));
        }
        self.compared.batches_read += 1;
        log.seen_end = log.seen_end.max(sent.end);
        Ok(sent.end)
    }

    /// The first offset of the batch that ends there.
    pub fn base_of(&self, id: PartitionId, end: Offset) -> Option<Offset> {
        let batches = &self.logs.get(&id)?.batches;
        let at = batches.binary_search_by_key(&end, |b| b.end).ok()?;
        Some(batches[at].base)
    }

    /// Compares a recovered log, batch by batch, with what it was and what was promised of it.
    ///
    /// Gives back how many of the former batches survived.
    pub fn recovered(
        &mut self,
        id: PartitionId,
        found: &[Vec<u8>],
        start: Offset,
        end: Offset,
        loss: Loss,
    ) -> Result<usize, Violation> {
        let log = self.logs.entry(id).or_default();
        self.compared.logs += 1;
        self.compared.batches_recovered += found.len() as u64;
        let undone = start < log.start_answered && loss != Loss::Damage;
        if undone || start > log.start_asked.max(log.start_answered) {
            return Err(violation(
                id,
                format!("the log starts at {start}; a deletion up to {} was answered", log.start_answered),
            ));
        }
        let first = log.batches.partition_point(|b| b.end <= start);
        let survivors = log.batches.partition_point(|b| b.end <= end);
        if survivors < log.batches.len() && log.batches[survivors].base < end {
            return Err(violation(id, format!("the log ends at {end}, inside a batch")));
        }
        let expected_end = log.batches[..survivors].last().map_or(Offset(0), |b| b.end);
        if end != expected_end {
            return Err(violation(id, format!("the log ends at {end}; its batches end at {expected_end}")));
        }
        let expected = &log.batches[first.min(survivors)..survivors];
        if expected.len() != found.len() {
            return Err(violation(
                id,
                format!("{} batches are there instead of {}", found.len(), expected.len()),
            ));
        }
        for (sent, bytes) in expected.iter().zip(found) {
            let (batch, _) = BatchView::parse(bytes).map_err(|e| violation(id, e.to_string()))?;
            if !sent.is(&batch) {
                let base = batch.base_offset();
                return Err(violation(id, format!("at {base} there is another batch than {}", sent.uid)));
            }
        }
        for lost in &log.batches[survivors..] {
            let promised = match loss {
                Loss::Process => lost.acked,
                Loss::Power => lost.acked && lost.acks == Acks::All,
                Loss::Damage => false,
            };
            if promised {
                return Err(violation(
                    id,
                    format!(
                        "batch {} at {} was acknowledged ({:?}) and is gone after a loss of {loss:?}",
                        lost.uid, lost.base, lost.acks
                    ),
                ));
            }
        }
        self.compared.acked_checked += log.batches[..survivors].iter().filter(|b| b.acked).count() as u64;
        if loss == Loss::Damage {
            log.seen_end = log.seen_end.min(end);
            log.start_answered = log.start_answered.min(start);
        }
        if log.seen_end > end {
            return Err(violation(
                id,
                format!("a consumer saw the log up to {}; it ends at {end}", log.seen_end),
            ));
        }
        Ok(survivors)
    }
}

/// A broken promise of a log.
pub fn violation(id: PartitionId, what: impl Into<String>) -> Violation {
    Violation(format!("{id}: {}", what.into()))
}
