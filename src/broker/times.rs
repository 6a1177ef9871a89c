//! Looking records up by time: segments by their largest timestamp, batches by the segment's index and then by theirs,
//! records by decoding the one batch that holds the answer. So a look reads one segment's index and one or a few batches; where
//! a segment has no index, it is read through, and none but it.
//!
//! A batch that cannot be decompressed (malformed, or larger than a body may become) is answered as a whole, by its first
//! offset and base time: at most one batch too early, never too late.

use std::cmp::Reverse;
use std::io::{self, Read};

use corelane_shards::format::batch::{BatchView, TimestampType};
use corelane_shards::types::{Offset, PartitionId, Timestamp};

use super::engine::BrokerEngine;
use crate::api::engine::{Engine, FetchError, TimestampOffset};
use crate::records::{self, byte, varint};

/// What is read first where an index says where to look. Bytes.
const LOOK_BYTES: usize = 64 << 10;

/// How much is read at a time while looking on. Bytes.
const READ_BYTES: usize = 1 << 20;

/// A part of a log.
#[derive(Clone, Copy)]
struct Part {
    partition: PartitionId,
    start: Offset,
    end: Offset,
}

/// The first visible record whose time is at least `timestamp`.
pub(super) async fn first_at_or_after(
    engine: &BrokerEngine,
    partition: PartitionId,
    timestamp: Timestamp,
) -> Result<Option<TimestampOffset>, FetchError> {
    let start = engine.offsets(partition).await?.log_start;
    first_in(engine, Part { partition, start, end: Offset(i64::MAX) }, timestamp).await
}

/// The visible record with the greatest time, the first of them if there are several.
///
/// Segments are looked at from the latest on, and mostly one of them. A segment may be less late than it is said to be, where
/// its latest records are deleted or not visible or were cut off.
pub(super) async fn latest(
    engine: &BrokerEngine,
    partition: PartitionId,
) -> Result<Option<TimestampOffset>, FetchError> {
    let start = engine.offsets(partition).await?.log_start;
    let mut segments = engine.segment_times(partition, start).await?;
    segments.sort_by_key(|segment| (Reverse(segment.max_timestamp), segment.base));
    let mut latest: Option<TimestampOffset> = None;
    for segment in segments {
        let rank = |found: &TimestampOffset| (Reverse(found.timestamp), found.offset);
        if latest.is_some_and(|found| rank(&found) < (Reverse(segment.max_timestamp), segment.base)) {
            break;
        }
        let part = Part { partition, start: segment.base.max(start), end: segment.end };
        let found = latest_in(engine, part, segment.max_timestamp).await?;
        latest = latest.into_iter().chain(found).min_by_key(rank);
    }
    Ok(latest)
}

/// The first visible record in a part of a log whose time is at least `timestamp`.
async fn first_in(
    engine: &BrokerEngine,
    part: Part,
    timestamp: Timestamp,
) -> Result<Option<TimestampOffset>, FetchError> {
    let (mut from, mut bytes_max) = (part.start, LOOK_BYTES);
    // Asked again behind each piece, a segment that ends without an answer leads on to the next one that may have it.
    while let Some(offset) = engine.seek(part.partition, timestamp, from).await? {
        let fetched = engine.start_fetch(part.partition, offset, bytes_max).await?;
        for bytes in &fetched.batches {
            let (batch, _) = BatchView::parse(bytes).map_err(|_| FetchError::Damaged)?;
            if batch.base_offset() >= part.end {
                return Ok(None);
            }
            if batch.max_timestamp() >= timestamp
                && let Some(found) = record_at_or_after(&batch, timestamp, part.start)
            {
                return Ok(Some(found));
            }
            from = Offset(batch.last_offset().get() + 1);
        }
        if fetched.batches.is_empty() || from >= part.end {
            return Ok(None);
        }
        bytes_max = READ_BYTES;
    }
    Ok(None)
}

/// The visible record with the greatest time in a part of a log, none of whose records is later than `expected`.
async fn latest_in(
    engine: &BrokerEngine,
    part: Part,
    expected: Timestamp,
) -> Result<Option<TimestampOffset>, FetchError> {
    if let Some(found) = first_in(engine, part, expected).await? {
        return Ok(Some(found));
    }
    let mut latest: Option<(Timestamp, Offset)> = None;
    scan(engine, part, |batch| {
        if latest.is_none_or(|(time, _)| time < batch.max_timestamp()) {
            latest = Some((batch.max_timestamp(), batch.base_offset()));
        }
        true
    })
    .await?;
    let Some((time, offset)) = latest else { return Ok(None) };
    // Times mostly grow, so decoding each new latest batch would be decoding the whole part: only the last is.
    let mut found = None;
    scan(engine, Part { start: offset.max(part.start), ..part }, |batch| {
        found = record_at_or_after(batch, time, part.start);
        false
    })
    .await?;
    Ok(found)
}

/// Shows each visible batch of a part, in order, until `look` has seen enough.
async fn scan(
    engine: &BrokerEngine,
    part: Part,
    mut look: impl FnMut(&BatchView<'_>) -> bool,
) -> Result<(), FetchError> {
    let mut offset = part.start;
    while offset < part.end {
        let fetched = engine.start_fetch(part.partition, offset, READ_BYTES).await?;
        if fetched.batches.is_empty() {
            return Ok(());
        }
        for bytes in &fetched.batches {
            let (batch, _) = BatchView::parse(bytes).map_err(|_| FetchError::Damaged)?;
            if batch.base_offset() >= part.end || !look(&batch) {
                return Ok(());
            }
            offset = Offset(batch.last_offset().get() + 1);
        }
    }
    Ok(())
}

/// The first record of the batch from `start` on whose time is at least `timestamp`.
fn record_at_or_after(batch: &BatchView<'_>, timestamp: Timestamp, start: Offset) -> Option<TimestampOffset> {
    let at = |offset, timestamp| TimestampOffset { timestamp, offset, epoch: batch.leader_epoch() };
    let base_offset = batch.base_offset();
    if batch.timestamp_type() == TimestampType::LogAppendTime {
        return Some(at(base_offset.max(start), batch.max_timestamp()));
    }
    let base = batch.base_timestamp();
    let wanted = timestamp.get().saturating_sub(base.get());
    match search(batch, wanted, start.get().saturating_sub(base_offset.get())) {
        Some(found) => found.map(|(time_delta, offset_delta)| {
            let offset = Offset(base_offset.get().saturating_add(offset_delta));
            at(offset, Timestamp(base.get().saturating_add(time_delta)))
        }),
        None => Some(at(base_offset.max(start), base)),
    }
}

/// The time and offset deltas of the first record whose time delta is at least `wanted` and whose offset delta at least
/// `first`, if there is one; none if the records cannot be read that far. Nothing is read beyond that record's deltas.
fn search(batch: &BatchView<'_>, wanted: i64, first: i64) -> Option<Option<(i64, i64)>> {
    let mut records = records::open(batch.codec(), batch.body())?;
    for _ in 0..batch.record_count() {
        let length = u64::try_from(varint(&mut records)?).ok()?;
        let mut record = records.by_ref().take(length);
        let _attributes = byte(&mut record)?;
        let (time_delta, offset_delta) = (varint(&mut record)?, varint(&mut record)?);
        if time_delta >= wanted && offset_delta >= first {
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
        found_from(batch, timestamp, Offset(0))
    }

    fn found_from(batch: &BatchView<'_>, timestamp: i64, start: Offset) -> Option<(i64, i64)> {
        let found = record_at_or_after(batch, Timestamp(timestamp), start)?;
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
    fn a_record_before_the_logs_start_is_not_found() {
        for bytes in BATCHES {
            let (batch, _) = BatchView::parse(bytes).unwrap();
            let start = Offset(batch.base_offset().get() + 5);
            assert_eq!(found_from(&batch, BASE + 15, start), Some((5, 35)), "{:?}", batch.codec());
            assert_eq!(found_from(&batch, BASE + 63, start), Some((9, 63)), "{:?}", batch.codec());
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
