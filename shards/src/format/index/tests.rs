use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const BASE: Offset = Offset(1_000);

/// A batch as the index is told of it.
#[derive(Clone, Copy, Debug)]
struct Batch {
    base: Offset,
    last: Offset,
    position: Position,
    bytes: u32,
    max_timestamp: Timestamp,
}

/// A segment as a list of batches, which is what the index must agree with.
#[derive(Clone, Debug)]
struct Segment(Vec<Batch>);

impl Segment {
    fn end(&self) -> Position {
        self.0.last().map_or(Position(0), |batch| Position(batch.position.get() + batch.bytes))
    }

    fn index(&self) -> SparseIndex {
        let mut index = SparseIndex::new(BASE);
        self.append_to(&mut index, 0);
        index
    }

    fn append_to(&self, index: &mut SparseIndex, from: usize) {
        for batch in &self.0[from..] {
            index.append(batch.base, batch.position, batch.bytes, batch.max_timestamp);
        }
    }

    /// The first batch from `start` on, which must be a batch's start or the end, that satisfies `wanted`.
    fn scan(&self, start: Position, wanted: impl Fn(&Batch) -> bool) -> Option<Position> {
        let first = self.0.iter().position(|batch| batch.position == start).unwrap_or_else(|| {
            assert_eq!(start, self.end(), "no batch begins there");
            self.0.len()
        });
        self.0[first..].iter().find(|batch| wanted(batch)).map(|batch| batch.position)
    }

    /// Looks for every batch's offsets and times, and around them; returns the longest way in bytes to an offset.
    fn assert_found_by(&self, index: &SparseIndex) -> u32 {
        let mut way_max = 0;
        for batch in &self.0 {
            for offset in [batch.base.get() - 1, batch.base.get(), batch.last.get(), batch.last.get() + 1] {
                let wanted = |batch: &Batch| batch.last >= Offset(offset);
                let (start, truth) = (index.floor(Offset(offset)), self.scan(Position(0), wanted));
                assert_eq!(self.scan(start, wanted), truth, "offset {offset}");
                way_max = way_max.max(truth.unwrap_or(self.end()).get() - start.get());
            }
            for time in
                [batch.max_timestamp.get() - 1, batch.max_timestamp.get(), batch.max_timestamp.get() + 1]
            {
                let wanted = |batch: &Batch| batch.max_timestamp >= Timestamp(time);
                let start = index.first_at_or_after(Timestamp(time));
                assert_eq!(self.scan(start, wanted), self.scan(Position(0), wanted), "time {time}");
            }
        }
        way_max
    }
}

/// Batches with gaps between and inside them, and times that go back and forth.
fn segment(sizes: std::ops::Range<usize>) -> impl Strategy<Value = Segment> {
    let batch = (0i64..3, 0i64..5, 61u32..6000, -1i64..500);
    prop::collection::vec(batch, sizes).prop_map(|shapes| {
        let (mut next, mut position) = (BASE.get(), 0);
        let batches = shapes.into_iter().zip(0i64..).map(|((gap, delta, bytes, jitter), number)| {
            let base = next + gap;
            let batch = Batch {
                base: Offset(base),
                last: Offset(base + delta),
                position: Position(position),
                bytes,
                max_timestamp: Timestamp(number * 20 + jitter),
            };
            next = base + delta + 1;
            position += bytes;
            batch
        });
        Segment(batches.collect())
    })
}

fn read_back(index: &SparseIndex) -> SparseIndex {
    let (read, errors) = SparseIndex::decode(BASE, &index.encode_offsets(), &index.encode_times());
    assert_eq!(errors, []);
    read
}

/// A long segment whose index has several pages in both files.
fn long_segment() -> Segment {
    let batches = (0..2000u32).map(|number| Batch {
        base: Offset(BASE.get() + i64::from(number)),
        last: Offset(BASE.get() + i64::from(number)),
        position: Position(number * 4100),
        bytes: 4100,
        max_timestamp: Timestamp(i64::from(number) * 10),
    });
    Segment(batches.collect())
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
}

#[test]
fn an_entry_is_added_once_enough_bytes_lie_before_it() {
    let mut index = SparseIndex::new(BASE);
    for (number, at) in (0i64..).zip([0, 2048, 4095, 4096, 8191, 8193]) {
        let next = [2048, 4095, 4096, 8191, 8193, 9000][usize::try_from(number).expect("it counts from 0")];
        index.append(Offset(BASE.get() + number), Position(at), next - at, Timestamp(number));
    }
    let entry = |relative_offset, position| OffsetEntry { relative_offset, position: Position(position) };
    assert_eq!(index.offsets, [entry(3, 4096), entry(5, 8193)]);
    let entry =
        |timestamp, position| TimeEntry { timestamp: Timestamp(timestamp), position: Position(position) };
    assert_eq!(index.times, [entry(2, 4096), entry(4, 8193)]);
    let found = [999, 1000, 1002, 1003, 1004, 1005, 9999].map(|offset| index.floor(Offset(offset)).get());
    assert_eq!(found, [0, 0, 0, 4096, 4096, 8193, 8193]);
    let found = [-1, 2, 3, 4, 5, 6].map(|time| index.first_at_or_after(Timestamp(time)).get());
    assert_eq!(found, [0, 0, 4096, 4096, 8193, 9000]);

    index.truncate(Position(8193));
    assert_eq!((index.offsets.len(), index.end()), (1, Position(8193)), "nothing begins at the end");
}

#[test]
fn an_empty_index_is_a_page_without_entries() {
    let index = SparseIndex::new(BASE);
    assert_eq!(index.encode_offsets().len(), PAGE_BYTES);
    assert_eq!(read_back(&index), index);
    assert_eq!(index.floor(Offset(i64::MAX)), Position(0));
    assert_eq!(index.first_at_or_after(Timestamp(0)), Position(0));
}

#[test]
fn times_that_do_not_advance_share_one_entry_at_the_furthest_place() {
    let mut index = SparseIndex::new(BASE);
    for number in 0..10u32 {
        let base = Offset(BASE.get() + i64::from(number));
        index.append(base, Position(number * 5000), 5000, Timestamp(if number == 0 { 70 } else { 50 }));
    }
    let shared = TimeEntry { timestamp: Timestamp(70), position: Position(9 * 5000) };
    assert_eq!(index.times, [shared]);
    assert_eq!(index.first_at_or_after(Timestamp(70)), Position(0));
    assert_eq!(index.first_at_or_after(Timestamp(71)), Position(10 * 5000));
}

#[test]
fn offsets_too_far_for_an_entry_are_scanned_for() {
    let mut index = SparseIndex::new(BASE);
    index.append(BASE, Position(0), 5000, Timestamp(1));
    index.append(Offset(BASE.get() + (1 << 32)), Position(5000), 5000, Timestamp(2));
    assert_eq!(index.floor(Offset(i64::MAX)), Position(0));
    assert_eq!(index.end(), Position(10_000));
}

#[test]
fn the_first_page_has_the_bytes_that_the_format_page_shows() {
    let index = long_segment().index();
    let (offsets, times) = (index.encode_offsets(), index.encode_times());
    assert_eq!(offsets.len(), 1999usize.div_ceil(ENTRIES_PER_OFFSET_PAGE) * PAGE_BYTES);
    assert_eq!(times.len(), 2000usize.div_ceil(ENTRIES_PER_TIME_PAGE) * PAGE_BYTES);
    assert_eq!(offsets[..16], *b"CLindex\0\x01\0\xfc\x01\0\0\0\0");
    assert_eq!(offsets[16..28], *b"\xe8\x03\0\0\0\0\0\0\x04\0\0\0");
    assert_eq!(offsets[32..40], *b"\x01\0\0\0\x04\x10\0\0");
    assert_eq!(times[..16], *b"CLtime\0\0\x01\0\x52\x01\0\0\0\0");
    assert_eq!(times[32..44], *b"\0\0\0\0\0\0\0\0\x04\x10\0\0");
}

#[test]
fn every_flipped_bit_of_a_page_is_noticed_and_costs_that_page_only() {
    let index = long_segment().index();
    let (mut offsets, times) = (index.encode_offsets(), index.encode_times());
    for bit in PAGE_BYTES * 8..2 * PAGE_BYTES * 8 {
        flip(&mut offsets, bit);
        let (read, errors) = SparseIndex::decode(BASE, &offsets, &times);
        flip(&mut offsets, bit);
        assert_eq!(
            errors.iter().map(|error| (error.file, error.page)).collect::<Vec<_>>(),
            [(File::Offsets, 1)]
        );
        assert_eq!(read.offsets.len(), index.offsets.len() - ENTRIES_PER_OFFSET_PAGE);
    }
}

#[test]
fn a_segment_is_found_in_whatever_pages_are_left() {
    let segment = long_segment();
    let index = segment.index();
    let (offsets, times) = (index.encode_offsets(), index.encode_times());
    for lost in 0..times.len() / PAGE_BYTES {
        let (mut offsets, mut times) = (offsets.clone(), times.clone());
        if let Some(page) = offsets.chunks_mut(PAGE_BYTES).nth(lost) {
            page.fill(0);
        }
        times[lost * PAGE_BYTES..][..PAGE_BYTES].fill(0);
        let (read, errors) = SparseIndex::decode(BASE, &offsets, &times);
        assert!(errors.iter().any(|error| error.file == File::Times && error.reason == Reason::NotOurs));
        segment.assert_found_by(&read);
        // A batch behind what was lost, earlier or later than all of it, does not make that seem known.
        for time in [0, i64::MAX - 1] {
            let mut longer = segment.clone();
            longer.0.push(Batch {
                base: Offset(9000),
                last: Offset(9000),
                position: segment.end(),
                bytes: 5000,
                max_timestamp: Timestamp(time),
            });
            let mut read = read.clone();
            longer.append_to(&mut read, segment.0.len());
            longer.assert_found_by(&read);
        }
    }
}

#[test]
fn a_file_that_lost_its_end_or_all_of_it_is_noticed() {
    let index = long_segment().index();
    let (offsets, times) = (index.encode_offsets(), index.encode_times());
    let missing = |file, page| PageError { file, page, reason: Reason::Missing };
    let (_, errors) = SparseIndex::decode(BASE, &offsets[..2 * PAGE_BYTES], &times[..PAGE_BYTES + 100]);
    assert_eq!(errors[..2], [missing(File::Offsets, 2), missing(File::Times, 1)]);
    let (read, errors) = SparseIndex::decode(BASE, &[], &[]);
    assert_eq!(errors, [missing(File::Offsets, 0), missing(File::Times, 0)]);
    assert_eq!(read.floor(Offset(5000)), Position(0));
}

#[test]
fn pages_of_elsewhere_are_not_used() {
    let index = long_segment().index();
    let (offsets, times) = (index.encode_offsets(), index.encode_times());
    let (read, errors) = SparseIndex::decode(Offset(7), &offsets, &times);
    assert_eq!(read.offsets, []);
    assert!(errors.iter().all(|error| error.reason == Reason::OtherSegment { base_offset: BASE }));
    assert_eq!(errors.len(), (offsets.len() + times.len()) / PAGE_BYTES);

    let (_, errors) = SparseIndex::decode(BASE, &times, &times);
    assert!(errors.iter().all(|error| error.file == File::Offsets && error.reason == Reason::NotOurs));

    let swapped =
        [&offsets[PAGE_BYTES..2 * PAGE_BYTES], &offsets[..PAGE_BYTES], &offsets[2 * PAGE_BYTES..]].concat();
    let (_, errors) = SparseIndex::decode(BASE, &swapped, &times);
    let moved = |page, number| PageError {
        file: File::Offsets,
        page,
        reason: Reason::OtherPage { number, pages: 4 },
    };
    assert_eq!(errors, [moved(0, 1), moved(1, 0)]);
}

#[test]
fn entries_that_do_not_increase_are_not_used() {
    let entry = |relative_offset, position| OffsetEntry { relative_offset, position: Position(position) };
    for wrong in [[entry(5, 10), entry(5, 20)], [entry(5, 10), entry(6, 10)], [entry(5, 10), entry(4, 20)]] {
        let (read, errors) = pages::decode::<OffsetEntry>(BASE, &pages::encode(BASE, &wrong));
        assert_eq!((read.len(), errors[0].reason), (0, Reason::Entries));
    }
    let entry =
        |timestamp, position| TimeEntry { timestamp: Timestamp(timestamp), position: Position(position) };
    let wrong = [entry(5, 10), entry(5, 20)];
    let (read, errors) = pages::decode::<TimeEntry>(BASE, &pages::encode(BASE, &wrong));
    assert_eq!((read.len(), errors[0].reason), (0, Reason::Entries));
}

proptest! {
    #![proptest_config(crate::testing::seeded())]

    #[test]
    fn lookups_equal_a_naive_search(segment in segment(0..150)) {
        let index = segment.index();
        let way = segment.assert_found_by(&index);
        // A whole interval less a byte, the batch that completes it, and the batch that is looked for.
        prop_assert!(way < INDEX_INTERVAL_BYTES + 2 * 6000, "{way} bytes to scan");
        let read = read_back(&index);
        segment.assert_found_by(&read);
        prop_assert_eq!(read.end(), segment.end());
    }

    #[test]
    fn a_cut_index_equals_a_naive_search(before in segment(1..100), after in segment(1..100), cut in any::<Index>(), stored in any::<bool>()) {
        let mut index = before.index();
        if stored {
            index = read_back(&index);
        }
        let mut segment = before.clone();
        segment.0.truncate(cut.index(before.0.len() + 1));
        index.truncate(segment.end());
        segment.assert_found_by(&index);

        let (kept, end) = (segment.0.len(), segment.end());
        let next = segment.0.last().map_or(0, |batch| batch.last.get() + 1 - BASE.get());
        segment.0.extend(after.0.iter().map(|batch| Batch {
            base: Offset(batch.base.get() + next),
            last: Offset(batch.last.get() + next),
            position: Position(batch.position.get() + end.get()),
            ..*batch
        }));
        segment.append_to(&mut index, kept);
        segment.assert_found_by(&index);
        segment.assert_found_by(&read_back(&index));
    }

    #[test]
    fn a_continued_index_equals_one_never_stored(segment in segment(1..150), at in any::<Index>()) {
        let mut first = segment.clone();
        first.0.truncate(at.index(segment.0.len()));
        let mut index = read_back(&first.index());
        segment.append_to(&mut index, first.0.len());
        segment.assert_found_by(&index);
        prop_assert_eq!(index.offsets, segment.index().offsets);
    }

    #[test]
    fn arbitrary_bytes_never_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..9000), sealed in any::<bool>()) {
        if sealed && bytes.len() >= PAGE_BYTES {
            bytes[..12].copy_from_slice(&SparseIndex::new(BASE).encode_offsets()[..12]);
            let crc = {
                let mut hasher = crc32fast::Hasher::new();
                hasher.update(&bytes[..28]);
                hasher.update(&bytes[32..PAGE_BYTES]);
                hasher.finalize()
            };
            bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        }
        let (mut read, errors) = SparseIndex::decode(BASE, &bytes, &bytes);
        prop_assert!(!errors.is_empty());
        read.append(Offset(5000), Position(1 << 20), 5000, Timestamp(3));
        read.append(Offset(6000), Position((1 << 20) + 5000), 5000, Timestamp(3));
        read.truncate(Position(4096));
        let _ = (read.floor(Offset(5000)), read.first_at_or_after(Timestamp(5)));
    }
}
