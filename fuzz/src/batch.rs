//! Record batches.

use corelane::records::Records;
use corelane_shards::format::batch::{self, BatchView, Batches};
use corelane_shards::types::{LeaderEpoch, Offset, Timestamp};

/// Reads `input` as a log's bytes, batch by batch, and each batch as a producer's.
pub fn batch(input: &[u8]) {
    let mut batches = Batches::new(input);
    let mut read_bytes = 0;
    while let Some(Ok((position, batch))) = batches.next() {
        assert_eq!(position, read_bytes, "batches follow one another");
        read_bytes += batch.bytes().len();
        look_at(&batch);
    }
    assert_eq!(batches.position() + batches.rest().len(), input.len());
}

fn look_at(batch: &BatchView<'_>) {
    let bytes = batch.bytes();
    assert!(batch.last_offset() >= batch.base_offset() && batch.record_count() >= 0);
    let _ = (batch.last_sequence(), format!("{batch:?}"));
    let records = Records::of(*batch).filter(Result::is_ok).count();
    assert!(records <= batch.record_count().unsigned_abs() as usize, "no more records than the header says");
    if BatchView::exactly_one(bytes, bytes.len()).is_ok() {
        append(batch);
    }
}

/// What an append writes into the header leaves the checksum as right or wrong as it was, and a batch a batch.
fn append(batch: &BatchView<'_>) {
    let mut appended = batch.bytes().to_vec();
    batch::assign(&mut appended, Offset(1 << 40), LeaderEpoch(7));
    let (view, length) = BatchView::parse(&appended).expect("an assigned batch is a batch");
    assert_eq!(
        (length, view.base_offset(), view.leader_epoch()),
        (appended.len(), Offset(1 << 40), LeaderEpoch(7))
    );
    assert_eq!(view.check_crc().is_ok(), batch.check_crc().is_ok());
    batch::set_log_append_time(&mut appended, Timestamp(1_700_000_000_000));
    let (view, _) = BatchView::parse(&appended).expect("a stamped batch is a batch");
    assert_eq!(view.check_crc().is_ok(), batch.check_crc().is_ok());
}
