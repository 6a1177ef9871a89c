//! What a log remembers of its idempotent producers, so that a batch sent again is recognised and a gap refused.
//!
//! Follows KIP-98 and KIP-360: the last five batches of a producer are remembered; a producer that is not known (it is
//! new, or its state expired) may begin at any sequence; a newer producer epoch begins at sequence 0. Synchronous and
//! without a clock; the table of a manifest is the same type, advanced to the flushed position only.

use std::collections::{BTreeMap, VecDeque};

use super::effect::{AppendError, Millis};
use crate::format::manifest;
use crate::limits::PRODUCER_BATCHES;
use crate::types::{Offset, ProducerEpoch, ProducerId, Sequence};

/// The idempotent producers of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    appended_at: Millis,
    batches: VecDeque<Remembered>,
}

/// A batch as its producer numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Who sent it; [`ProducerId::NONE`] is never remembered.
    pub id: ProducerId,
    /// Its incarnation.
    pub epoch: ProducerEpoch,
    /// The sequence number of the first record.
    pub base_sequence: Sequence,
    /// The sequence number of the last record; it wraps to 0 behind 2^31 - 1.
    pub last_sequence: Sequence,
}

/// A batch that can be recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    base_sequence: Sequence,
    last_sequence: Sequence,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The offset of its last record.
    pub last_offset: Offset,
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Append it.
    New,
    /// It was appended before, here.
    Duplicate(Remembered),
}

impl Producers {
    /// Judges a batch. `gaps_are_refused` is off in a mutant only.
    pub fn check(&self, batch: &Numbered, gaps_are_refused: bool) -> Result<Verdict, AppendError> {
        let Some(producer) = self.by_id.get(&batch.id) else { return Ok(Verdict::New) };
        if batch.epoch < producer.epoch {
            return Err(AppendError::StaleProducerEpoch);
        }
        let follows = if batch.epoch > producer.epoch {
            batch.base_sequence == Sequence(0)
        } else {
            let same = |b: &&Remembered| {
                b.base_sequence == batch.base_sequence && b.last_sequence == batch.last_sequence
            };
            if let Some(known) = producer.batches.iter().find(same) {
                return Ok(Verdict::Duplicate(*known));
            }
            producer
                .batches
                .back()
                .is_none_or(|last| batch.base_sequence == last.last_sequence.wrapping_add(1))
        };
        if follows || !gaps_are_refused { Ok(Verdict::New) } else { Err(AppendError::OutOfOrderSequence) }
    }

    /// Remembers a batch that was appended.
    pub fn note(&mut self, batch: &Numbered, base_offset: Offset, last_offset: Offset, now: Millis) {
        if batch.id == ProducerId::NONE {
            return;
        }
        let fresh = || Producer { epoch: batch.epoch, appended_at: now, batches: VecDeque::new() };
        let producer = self.by_id.entry(batch.id).or_insert_with(fresh);
        if producer.epoch != batch.epoch {
            *producer = fresh();
        }
        if producer.batches.len() == PRODUCER_BATCHES {
            producer.batches.pop_front();
        }
        producer.appended_at = now;
        let Numbered { base_sequence, last_sequence, .. } = *batch;
        producer.batches.push_back(Remembered { base_sequence, last_sequence, base_offset, last_offset });
    }

    /// Forgets who has appended nothing since `before`. Returns how many.
    pub fn expire(&mut self, before: Millis) -> usize {
        let known = self.by_id.len();
        self.by_id.retain(|_, producer| producer.appended_at >= before);
        known - self.by_id.len()
    }

    /// Forgets who is not in `live` any more.
    pub fn keep_known(&mut self, live: &Producers) {
        self.by_id.retain(|id, _| live.by_id.contains_key(id));
    }

    /// How many producers are known.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The same table without the times, for comparing a live one with one that was replayed.
    #[cfg(any(test, feature = "sim"))]
    pub fn without_times(&self) -> Producers {
        let mut copy = self.clone();
        copy.by_id.values_mut().for_each(|producer| producer.appended_at = 0);
        copy
    }

    /// The table as a manifest holds it.
    pub fn to_manifest(&self) -> Vec<manifest::Producer> {
        let batch = |b: &Remembered| manifest::ProducerBatch {
            base_sequence: b.base_sequence.get(),
            last_sequence: b.last_sequence.get(),
            base_offset: b.base_offset.get(),
            last_offset: b.last_offset.get(),
        };
        let producer = |(id, p): (&ProducerId, &Producer)| manifest::Producer {
            id: id.get(),
            epoch: p.epoch.get(),
            appended_at: p.appended_at,
            open_transaction: -1,
            batches: p.batches.iter().map(batch).collect(),
        };
        self.by_id.iter().map(producer).collect()
    }

    /// The table in a manifest.
    pub fn from_manifest(producers: &[manifest::Producer]) -> Producers {
        let batch = |b: &manifest::ProducerBatch| Remembered {
            base_sequence: Sequence(b.base_sequence),
            last_sequence: Sequence(b.last_sequence),
            base_offset: Offset(b.base_offset),
            last_offset: Offset(b.last_offset),
        };
        let producer = |p: &manifest::Producer| {
            let newest = p.batches.len().saturating_sub(PRODUCER_BATCHES);
            let batches = p.batches[newest..].iter().map(batch).collect();
            let epoch = ProducerEpoch(p.epoch);
            (ProducerId(p.id), Producer { epoch, appended_at: p.appended_at, batches })
        };
        Producers { by_id: producers.iter().map(producer).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, base_sequence: i32, records: i32) -> Numbered {
        let last_sequence = Sequence(base_sequence + (records - 1));
        Numbered {
            id: ProducerId(9),
            epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(base_sequence),
            last_sequence,
        }
    }

    fn after(batches: &[Numbered]) -> Producers {
        let mut producers = Producers::default();
        for (i, b) in (0i64..).zip(batches) {
            assert_eq!(producers.check(b, true), Ok(Verdict::New));
            producers.note(b, Offset(10 * i), Offset(10 * i + 9), 1000 + i);
        }
        producers
    }

    #[test]
    fn the_last_five_batches_are_recognised() {
        let batches: Vec<_> = (0..6).map(|i| batch(0, i * 10, 10)).collect();
        let producers = after(&batches);
        for (i, b) in (0i64..).zip(&batches).skip(1) {
            let Ok(Verdict::Duplicate(known)) = producers.check(b, true) else {
                panic!("batch {i} is remembered")
            };
            assert_eq!((known.base_offset, known.last_offset), (Offset(10 * i), Offset(10 * i + 9)));
        }
        assert_eq!(producers.check(&batches[0], true), Err(AppendError::OutOfOrderSequence), "forgotten");
    }

    #[test]
    fn gaps_and_old_epochs_are_refused() {
        let producers = after(&[batch(3, 0, 10)]);
        assert_eq!(producers.check(&batch(3, 11, 1), true), Err(AppendError::OutOfOrderSequence));
        assert_eq!(producers.check(&batch(3, 5, 10), true), Err(AppendError::OutOfOrderSequence));
        assert_eq!(producers.check(&batch(2, 10, 1), true), Err(AppendError::StaleProducerEpoch));
        assert_eq!(producers.check(&batch(4, 10, 1), true), Err(AppendError::OutOfOrderSequence));
        assert_eq!(producers.check(&batch(4, 0, 1), true), Ok(Verdict::New));
        assert_eq!(producers.check(&batch(3, 10, 1), true), Ok(Verdict::New));
    }

    #[test]
    fn sequences_wrap_behind_the_largest() {
        let producers = after(&[batch(0, i32::MAX - 4, 5)]);
        assert_eq!(producers.check(&batch(0, 0, 3), true), Ok(Verdict::New));
        assert_eq!(producers.check(&batch(0, 1, 3), true), Err(AppendError::OutOfOrderSequence));
    }

    #[test]
    fn a_forgotten_producer_may_go_on_where_it_was() {
        let mut producers = after(&[batch(0, 0, 10)]);
        assert_eq!((producers.expire(1000), producers.len()), (0, 1));
        assert_eq!((producers.expire(1001), producers.len()), (1, 0));
        assert_eq!(producers.check(&batch(0, 10, 10), true), Ok(Verdict::New));
    }

    #[test]
    fn a_manifest_gives_back_the_same_table() {
        let producers = after(&(0..7).map(|i| batch(1, i * 10, 10)).collect::<Vec<_>>());
        assert_eq!(Producers::from_manifest(&producers.to_manifest()), producers);
    }
}
