//! One round of reading: partitions in turn, within the limits of the request and of each of them.
//!
//! Reads are started together for as many partitions as may all be answered in full, so that hops to other shards
//! overlap, and nothing is read that the limits would throw away, but for the first batch of a partition that is
//! reached when little is left.

use corelane_shards::types::{LeaderEpoch, Offset};

use super::super::engine::{Engine, FetchError, Fetched};
use super::super::located::Located;
use super::wanted::Wanted;
use crate::api::ErrorCode;
use crate::wire::fetch::response::EpochEndOffset;

/// The request's limit, and how much of it is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Bytes of records, but for the first batch.
    pub(super) bytes_max: usize,
    /// Bytes of records in all outcomes.
    pub(super) taken: usize,
}

impl Budget {
    fn left(self) -> usize {
        self.bytes_max.saturating_sub(self.taken)
    }
}

/// What a partition is answered with.
#[derive(Debug)]
pub(super) struct Outcome<S> {
    pub(super) error: ErrorCode,
    pub(super) high_watermark: Offset,
    pub(super) log_start: Offset,
    pub(super) diverging_epoch: Option<EpochEndOffset>,
    pub(super) batches: Vec<S>,
}

impl<S: AsRef<[u8]>> Outcome<S> {
    /// Kafka's shape for a partition that was not read: no offset is known.
    pub(super) fn refused(error: ErrorCode) -> Self {
        let unknown = Offset(-1);
        Self {
            error,
            high_watermark: unknown,
            log_start: unknown,
            diverging_epoch: None,
            batches: Vec::new(),
        }
    }

    fn empty(high_watermark: Offset, log_start: Offset) -> Self {
        Self { high_watermark, log_start, ..Self::refused(ErrorCode::None) }
    }

    /// How many bytes of records it has.
    pub(super) fn bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.as_ref().len()).sum()
    }

    /// Whether the client is to know at once, however few bytes there are.
    pub(super) fn is_final(&self) -> bool {
        self.error != ErrorCode::None || self.diverging_epoch.is_some()
    }
}

/// Reads the partitions at these places of `wanted`, in this order, and replaces their outcomes.
pub(super) async fn read<E: Engine>(
    engine: &E,
    budget: &mut Budget,
    wanted: &[Wanted<'_>],
    places: &[usize],
    outcomes: &mut [Outcome<E::Slice>],
) {
    for place in places {
        budget.taken -= outcomes[*place].bytes();
        outcomes[*place] = Outcome::refused(ErrorCode::None);
    }
    let mut places = places;
    while !places.is_empty() {
        let (now, later) = places.split_at(window(wanted, places, budget.left()));
        read_together(engine, budget, wanted, now, outcomes).await;
        places = later;
    }
}

/// How many of the next partitions can be answered in full; at least one.
fn window(wanted: &[Wanted<'_>], places: &[usize], left: usize) -> usize {
    let mut promised = 0_usize;
    let fits = |place: &&usize| {
        promised = promised.saturating_add(wanted[**place].bytes_max);
        promised <= left
    };
    places.iter().take_while(fits).count().max(1)
}

async fn read_together<E: Engine>(
    engine: &E,
    budget: &mut Budget,
    wanted: &[Wanted<'_>],
    places: &[usize],
    outcomes: &mut [Outcome<E::Slice>],
) {
    let mut reads = Vec::with_capacity(places.len());
    for place in places {
        let one = &wanted[*place];
        let limit = one.bytes_max.min(budget.left());
        match check(engine, one).await {
            Err(outcome) => outcomes[*place] = outcome,
            Ok(located) if limit == 0 && budget.taken > 0 => {
                outcomes[*place] = look(engine, located, one.offset).await;
            }
            Ok(located) => reads.push((*place, engine.start_fetch(located.id, Offset(one.offset), limit))),
        }
    }
    for (place, read) in reads {
        let limit = wanted[place].bytes_max.min(budget.left());
        outcomes[place] = match read.await {
            Ok(fetched) => trim(fetched, limit, budget.taken == 0),
            Err(error) => Outcome::refused(error.into()),
        };
        budget.taken += outcomes[place].bytes();
    }
}

/// The checks before a read: the leader epoch, and whether the client's log is a part of ours.
async fn check<E: Engine>(engine: &E, wanted: &Wanted<'_>) -> Result<Located, Outcome<E::Slice>> {
    let located = wanted.located.map_err(Outcome::refused)?;
    located.check_epoch(wanted.current_leader_epoch).map_err(Outcome::refused)?;
    if wanted.last_fetched_epoch != -1 {
        check_divergence(engine, wanted, located).await?;
    }
    Ok(located)
}

async fn check_divergence<E: Engine>(
    engine: &E,
    wanted: &Wanted<'_>,
    located: Located,
) -> Result<(), Outcome<E::Slice>> {
    let refused = |error: FetchError| Outcome::refused(error.into());
    let epoch = wanted.last_fetched_epoch;
    if !(0..=located.epoch.get()).contains(&epoch) {
        return Err(Outcome::refused(ErrorCode::OffsetOutOfRange));
    }
    let end = engine.end_offset_for_epoch(located.id, LeaderEpoch(epoch)).await.map_err(refused)?;
    let offsets = engine.offsets(located.id).await.map_err(refused)?;
    if wanted.offset < offsets.log_start.get() {
        return Err(Outcome::refused(ErrorCode::OffsetOutOfRange));
    }
    if end.epoch.get() < epoch || end.end.get() < wanted.offset {
        let diverging = EpochEndOffset { epoch: end.epoch.get(), end_offset: end.end.get() };
        let empty = Outcome::empty(offsets.high_watermark, offsets.log_start);
        return Err(Outcome { diverging_epoch: Some(diverging), ..empty });
    }
    Ok(())
}

/// Where no room is left for records, only the log's bounds are looked at.
async fn look<E: Engine>(engine: &E, located: Located, offset: i64) -> Outcome<E::Slice> {
    match engine.offsets(located.id).await {
        Ok(offsets) if (offsets.log_start.get()..=offsets.end.get()).contains(&offset) => {
            Outcome::empty(offsets.high_watermark, offsets.log_start)
        }
        Ok(_) => Outcome::refused(ErrorCode::OffsetOutOfRange),
        Err(error) => Outcome::refused(error.into()),
    }
}

/// Keeps the batches that fit, and the first of the whole answer whatever its size.
fn trim<S: AsRef<[u8]>>(fetched: Fetched<S>, limit: usize, is_first: bool) -> Outcome<S> {
    let mut outcome = Outcome::empty(fetched.high_watermark, fetched.log_start);
    let mut bytes = 0_usize;
    for batch in fetched.batches {
        bytes += batch.as_ref().len();
        let must_go = is_first && outcome.batches.is_empty();
        if bytes > limit && !must_go {
            break;
        }
        outcome.batches.push(batch);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(sizes: &[usize], limit: usize, is_first: bool) -> usize {
        let batches = sizes.iter().map(|size| vec![0; *size]).collect();
        let fetched = Fetched { batches, high_watermark: Offset(9), log_start: Offset(0) };
        trim(fetched, limit, is_first).batches.len()
    }

    #[test]
    fn the_first_batch_of_an_answer_is_kept_whatever_its_size() {
        assert_eq!(kept(&[10, 10], 5, true), 1);
        assert_eq!(kept(&[10, 10], 5, false), 0);
        assert_eq!(kept(&[10, 10], 20, false), 2);
        assert_eq!(kept(&[10, 10, 1], 19, true), 1);
        assert_eq!(kept(&[], 19, true), 0);
    }
}
