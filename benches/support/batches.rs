//! Record batches as a producer sends them.

use corelane_shards::format::batch::fixture;

/// A batch of `records` records with values of `value_bytes` bytes.
pub(crate) fn batch(records: usize, value_bytes: usize) -> Vec<u8> {
    fixture::batch(&fixture::Header::default(), &vec![vec![b'v'; value_bytes]; records])
}

/// The size of a batch's value and its name: one record of 1 KiB, a linger's worth, and the most that a topic takes by
/// default.
pub(crate) const SIZES: [(&str, usize, usize); 3] =
    [("1 KiB", 1, 1 << 10), ("16 KiB", 16, 1 << 10), ("1 MiB", 1000, 1 << 10)];
