//! The index files of a segment.

use corelane_shards::format::index::SparseIndex;
use corelane_shards::types::{Offset, Position, Timestamp};

use super::input::Input;

/// The segment's first offset.
pub(crate) const BASE: Offset = Offset(1_000_000);

const PAGE_BYTES: usize = 4096;
/// Where a page's checksum lies.
const CRC: std::ops::Range<usize> = 28..32;

/// Reads `input` as the pages of both files, as they are and under right checksums; asks the index for what a fetch and a
/// look-up by time ask, appends to it, and reads it back.
pub fn index(input: &[u8]) {
    let mut input = Input(input);
    let (wanted, cut) = (input.u64().cast_signed(), input.u64());
    // Pages are mostly zeros, and an input need not spell these out.
    let (offsets, times) = (pages(input.piece()), pages(input.piece()));
    check(SparseIndex::decode(BASE, &offsets, &times).0, wanted, cut);
    let (sealed, _) = SparseIndex::decode(BASE, &seal(&offsets), &seal(&times));
    let (again, none) = SparseIndex::decode(BASE, &sealed.encode_offsets(), &sealed.encode_times());
    assert!(none.is_empty(), "what was written is read without an error: {none:?}");
    assert_eq!(again.end(), sealed.end());
    check(sealed, wanted, cut);
}

/// The bytes up to the next whole page.
fn pages(bytes: &[u8]) -> Vec<u8> {
    let mut pages = bytes.to_vec();
    pages.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
    pages
}

fn seal(pages: &[u8]) -> Vec<u8> {
    let mut sealed = pages.to_vec();
    for page in sealed.chunks_exact_mut(PAGE_BYTES) {
        let crc = crc32fast::hash(&[&page[..CRC.start], &page[CRC.end..]].concat());
        page[CRC].copy_from_slice(&crc.to_le_bytes());
    }
    sealed
}

fn check(mut index: SparseIndex, wanted: i64, cut: u64) {
    look_up(&index, wanted);
    index.truncate(Position(u32::from_le_bytes(*cut.to_le_bytes().first_chunk().expect("eight bytes"))));
    look_up(&index, wanted);
    let end = index.end();
    if end.get() < u32::MAX >> 1 {
        index.append(Offset(BASE.get() + i64::from(u32::MAX)), end, 1 << 16, Timestamp(wanted));
        look_up(&index, wanted);
    }
}

fn look_up(index: &SparseIndex, wanted: i64) {
    let (base, position) = index.floor_batch(Offset(wanted));
    assert_eq!(position, index.floor(Offset(wanted)));
    assert!(
        base <= Offset(wanted) || position == Position(0),
        "the floor is no later than what is looked for"
    );
    let _ = index.first_at_or_after(Timestamp(wanted));
}
