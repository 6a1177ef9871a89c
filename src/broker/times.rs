//! Looking records up by time: segments and batches by their largest timestamp, records by decoding the one batch that
//! holds the answer.
//!
//! A batch that cannot be decompressed (malformed, or larger than a body may become) is answered as a whole, by its first
//! offset and base time: at most one batch too early, never too late.

use std::io::{self, Read};

use corelane_shards::format::batch::{BatchView, TimestampType};
use corelane_shards::types::{Offset, PartitionId, Timestamp};

use super::engine::BrokerEngine;
use crate::api::engine::{Engine, FetchError, TimestampOffset};
use crate::records::{self, byte, varint};

/// How much of a log is read at a time while looking. Bytes.
const READ_BYTES: usize = 1 << 20;

/// The first visible record whose time is at least `timestamp`.
pub(super) async fn first_at_or_after(
    engine: &BrokerEngine,
    partition: PartitionId,
    timestamp: Timestamp,
) -> Result<Option<TimestampOffset>, FetchError> {
    let mut found = None;
    let start = engine.offsets(partition).await?.log_start;
    scan(engine, partition, start, |batch| {
        if batch.max_timestamp() >= timestamp {
            found = record_at_or_after(batch, timestamp);
        }
        found.is_none()
    })
    .await?;
    Ok(found)
}

/// The visible record with the greatest time, the first of them if there are several.
pub(super) async fn latest(
    engine: &BrokerEngine,
    partition: PartitionId,
) -> Result<Option<TimestampOffset>, FetchError> {
    let mut latest: Option<(Timestamp, Offset)> = None;
    let start = engine.offsets(partition).await?.log_start;
    scan(engine, partition, start, |batch| {
        if latest.is_none_or(|(time, _)| time < batch.max_timestamp()) {
            latest = Some((batch.max_timestamp(), batch.base_offset()));
        }
        true
    })
    .await?;
    let Some((time, offset)) = latest else { return Ok(None) };
    // Times mostly grow, so decoding each new latest batch would be decoding the whole log: only the last is.
    let mut found = None;
    scan(engine, partition, offset.max(start), |batch| {
        found = record_at_or_after(batch, time);
        false
    })
    .await?;
    Ok(found)
}

/// Shows each visible batch from `offset` on, in order, until `look` has seen enough.
async fn scan(
    engine: &BrokerEngine,
    partition: PartitionId,
    mut offset: Offset,
    mut look: impl FnMut(&BatchView<'_>) -> bool,
) -> Result<(), FetchError> {
    loop {
        let fetched = engine.start_fetch(partition, offset, READ_BYTES).await?;
        if fetched.batches.is_empty() {
            return Ok(());
        }
        for bytes in &fetched.batches {
            let (batch, _) = BatchView::parse(bytes).map_err(|_| FetchError::Damaged)?;
            if !look(&batch) {
                return Ok(());
            }
            offset = Offset(batch.last_offset().get() + 1);
        }
    }
}

/// The first record of the batch whose time is at least `timestamp`.
fn record_at_or_after(batch: &BatchView<'_>, timestamp: Timestamp) -> Option<TimestampOffset> {
    let at = |offset, timestamp| TimestampOffset { timestamp, offset, epoch: batch.leader_epoch() };
    if batch.timestamp_type() == TimestampType::LogAppendTime {
        return Some(at(batch.base_offset(), batch.max_timestamp()));
    }
    let base = batch.base_timestamp();
    match search(batch, timestamp.get().saturating_sub(base.get())) {
        Some(found) => found.map(|(time_delta, offset_delta)| {
            let offset = Offset(batch.base_offset().get().saturating_add(offset_delta));
            at(offset, Timestamp(base.get().saturating_add(time_delta)))
        }),
        None => Some(at(batch.base_offset(), base)),
    }
}

/// The time and offset deltas of the first record whose time delta is at least `wanted`, if there is one; none if the
/// records cannot be read that far. Nothing is read beyond that record's deltas.
fn search(batch: &BatchView<'_>, wanted: i64) -> Option<Option<(i64, i64)>> {
    let mut records = records::open(batch.codec(), batch.body())?;
    for _ in 0..batch.record_count() {
        let length = u64::try_from(varint(&mut records)?).ok()?;
        let mut record = records.by_ref().take(length);
        let _attributes = byte(&mut record)?;
        let (time_delta, offset_delta) = (varint(&mut record)?, varint(&mut record)?);
        if time_delta >= wanted {
            return Some(Some((time_delta, offset_delta)));
        }
        let unread = record.limit();
        if io::copy(&mut record, &mut io::sink()).ok()? != unread {
            return None;
        }
    }
    Some(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One batch of each codec, ten records seven milliseconds apart; the directory's README says who made them.
    const BATCHES: [&[u8]; 5] = [
        include_bytes!("../../shards/src/format/testdata/none.batch"),
        include_bytes!("../../shards/src/format/testdata/gzip.batch"),
        include_bytes!("../../shards/src/format/testdata/snappy.batch"),
        include_bytes!("../../shards/src/format/testdata/lz4.batch"),
        include_bytes!("../../shards/src/format/testdata/zstd.batch"),
    ];
    const BASE: i64 = 1_700_000_000_000;

    fn found(batch: &BatchView<'_>, timestamp: i64) -> Option<(i64, i64)> {
        let found = record_at_or_after(batch, Timestamp(timestamp))?;
        Some((found.offset.get() - batch.base_offset().get(), found.timestamp.get() - BASE))
    }

    #[test]
    fn the_exact_record_is_found_in_a_batch_of_each_codec() {
        for bytes in BATCHES {
            let (batch, _) = BatchView::parse(bytes).unwrap();
            for (wanted, answer) in
                [(-1, Some((0, 0))), (0, Some((0, 0))), (15, Some((3, 21))), (63, Some((9, 63))), (64, None)]
            {
                assert_eq!(found(&batch, BASE + wanted), answer, "{:?} {wanted}", batch.codec());
            }
        }
    }

    #[test]
    fn a_batch_with_an_unreadable_body_is_answered_by_its_beginning() {
        for bytes in BATCHES {
            let mut damaged = bytes.to_vec();
            let body = bytes.len() - BatchView::parse(bytes).unwrap().0.body().len();
            damaged[body..].fill(0xff);
            let (batch, _) = BatchView::parse(&damaged).unwrap();
            assert_eq!(found(&batch, BASE + 63), Some((0, 0)), "{:?}", batch.codec());
        }
    }
}
