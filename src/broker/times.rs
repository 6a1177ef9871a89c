//! Looking records up by time: segments and batches by their largest timestamp, records by decoding the one batch that
//! holds the answer.
//!
//! A compressed batch is answered as a whole, by its first offset: it is decompressed nowhere in the broker yet. The answer
//! is then at most one batch too early, never too late.

use corelane_shards::format::batch::{BatchView, Codec, TimestampType};
use corelane_shards::types::{Offset, PartitionId, Timestamp};

use super::engine::BrokerEngine;
use crate::api::engine::{Engine, FetchError, TimestampOffset};

/// How much of a log is read at a time while looking. Bytes.
const READ_BYTES: usize = 1 << 20;

/// The first visible record whose time is at least `timestamp`.
pub(super) async fn first_at_or_after(
    engine: &BrokerEngine,
    partition: PartitionId,
    timestamp: Timestamp,
) -> Result<Option<TimestampOffset>, FetchError> {
    let mut found = None;
    scan(engine, partition, |batch| {
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
    let mut latest: Option<TimestampOffset> = None;
    scan(engine, partition, |batch| {
        let time = batch.max_timestamp();
        if latest.as_ref().is_none_or(|known| known.timestamp < time) {
            latest = record_at_or_after(batch, time).or(latest);
        }
        true
    })
    .await?;
    Ok(latest)
}

/// Shows each visible batch in order until `look` has seen enough.
async fn scan(
    engine: &BrokerEngine,
    partition: PartitionId,
    mut look: impl FnMut(&BatchView<'_>) -> bool,
) -> Result<(), FetchError> {
    let mut offset = engine.offsets(partition).await?.log_start;
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
    if batch.timestamp_type() == TimestampType::LogAppendTime || batch.codec() != Codec::None {
        return Some(at(batch.base_offset(), batch.max_timestamp()));
    }
    let mut records = batch.body();
    for _ in 0..batch.record_count() {
        let (record, rest) = split_record(records)?;
        let (time_delta, offset_delta) = record;
        let time = Timestamp(batch.base_timestamp().get().saturating_add(time_delta));
        if time >= timestamp {
            return Some(at(Offset(batch.base_offset().get().saturating_add(offset_delta)), time));
        }
        records = rest;
    }
    None
}

/// The time and offset deltas of the first record in `bytes`, and what follows it.
fn split_record(bytes: &[u8]) -> Option<((i64, i64), &[u8])> {
    let (length, rest) = varint(bytes)?;
    let (record, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let (_attributes, record) = record.split_first()?;
    let (time_delta, record) = varint(record)?;
    let (offset_delta, _) = varint(record)?;
    Some(((time_delta, offset_delta), rest))
}

/// A zigzag varint of at most ten bytes, and what follows it.
fn varint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0u64;
    for (i, byte) in (0u32..10).zip(bytes) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * i)?;
        if byte & 0x80 == 0 {
            let zigzag = (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
            return Some((zigzag, &bytes[usize::try_from(i).ok()? + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_zigzag_and_bounded() {
        for (bytes, value) in [(&[0][..], 0), (&[1], -1), (&[2], 1), (&[0xac, 0x02], 150)] {
            assert_eq!(varint(bytes).map(|v| v.0), Some(value));
        }
        assert_eq!(varint(&[0xff; 11]), None);
        assert_eq!(varint(&[0x80]), None);
    }

    #[test]
    fn records_are_split_and_a_length_beyond_the_bytes_is_none() {
        // Length 7, attributes 0, time delta 4, offset delta 1, no key, no value, no headers.
        let record = [14, 0, 8, 2, 1, 1, 0, 0];
        assert_eq!(split_record(&record), Some(((4, 1), &[][..])));
        assert_eq!(split_record(&record[..5]), None);
    }
}
