//! The sparse index of one segment: where to begin reading for an offset or a time.
//!
//! The index is a hint. It names a place at or before the batch that is looked for, and whoever reads verifies the batch
//! that it finds there; entries that are missing make a longer scan and never a wrong answer. What is said of times
//! cannot be verified by one batch, so a segment that was cut since its index was written must have the index built
//! again. Invariants:
//!
//! - an offset entry (o, p): the batch at position p has the base offset o;
//! - a time entry (t, p): no batch before position p has a max timestamp above t.
//!
//! In both lists both members strictly increase. A time entry's place may lie past the last batch whose time it knows,
//! which is how the end of the segment is stated. The module does not know files or batches' bytes; `pages` gives the
//! lists their form on disk.

mod pages;
#[cfg(test)]
mod tests;

pub use pages::{ENTRIES_PER_OFFSET_PAGE, ENTRIES_PER_TIME_PAGE, File, PAGE_BYTES, PageError, Reason};

use crate::types::{Offset, Position, Timestamp};

/// Bytes of batches between two entries, at least (Kafka's default for `index.interval.bytes`).
pub const INDEX_INTERVAL_BYTES: u32 = 4096;

/// The batch with this base offset begins at this position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OffsetEntry {
    /// Offset minus the segment's base offset.
    relative_offset: u32,
    position: Position,
}

/// No batch before this position has a max timestamp above this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TimeEntry {
    timestamp: Timestamp,
    position: Position,
}

/// Stated of the first position, where nothing lies before.
const BEFORE_ALL: TimeEntry = TimeEntry { timestamp: Timestamp(i64::MIN), position: Position(0) };

/// The index of one segment in memory. At most one entry of each kind for every [`INDEX_INTERVAL_BYTES`] of the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparseIndex {
    base_offset: Offset,
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    /// The furthest position before which the largest time is known: the segment's end, unless `times_cut`.
    reached: TimeEntry,
    /// Some times before what is appended are not known, so that `reached` can move no further.
    times_cut: bool,
    bytes_since_entry: u32,
}

impl SparseIndex {
    /// The index of an empty segment.
    pub fn new(base_offset: Offset) -> SparseIndex {
        SparseIndex {
            base_offset,
            offsets: Vec::new(),
            times: Vec::new(),
            reached: BEFORE_ALL,
            times_cut: false,
            bytes_since_entry: 0,
        }
    }

    /// The index of what is appended from `start` on, to be joined to one that ends there.
    pub fn starting_at(base_offset: Offset, start: Position) -> SparseIndex {
        let reached = TimeEntry { timestamp: BEFORE_ALL.timestamp, position: start };
        // The first batch is an entry, so that it is found whatever lies before it.
        SparseIndex { reached, bytes_since_entry: INDEX_INTERVAL_BYTES, ..SparseIndex::new(base_offset) }
    }

    /// Takes over what `newer`, which starts where this one ends, knows of the batches behind.
    pub fn join(&mut self, start: Position, newer: &SparseIndex) {
        assert_eq!(self.reached.position, start, "an index continues where the one before it ends");
        let latest = self.reached.timestamp;
        let later = |entry: &TimeEntry| TimeEntry { timestamp: entry.timestamp.max(latest), ..*entry };
        for entry in &newer.offsets {
            if self.offsets.last().is_none_or(|last| pages::Entry::follows(*entry, *last)) {
                self.offsets.push(*entry);
            }
        }
        newer.times.iter().for_each(|entry| put_time(&mut self.times, later(entry)));
        self.reached = later(&newer.reached);
        self.times_cut = newer.times_cut;
        self.bytes_since_entry = newer.bytes_since_entry;
    }

    /// What it takes of memory. Bytes.
    pub fn memory_bytes(&self) -> usize {
        self.offsets.capacity() * size_of::<OffsetEntry>() + self.times.capacity() * size_of::<TimeEntry>()
    }

    /// The offset that names the segment.
    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// How far the index knows the segment: after reading it from disk, batches from here on are still to be appended.
    pub fn end(&self) -> Position {
        self.reached.position
    }

    /// Takes note of the next batch of the segment. Every batch is told, in order; few become entries.
    ///
    /// `position` is where the batch begins and `bytes` its length. The segment ends before position 2^32.
    pub fn append(&mut self, base_offset: Offset, position: Position, bytes: u32, max_timestamp: Timestamp) {
        let end = position.get().checked_add(bytes).expect("a segment ends before position 2^32");
        assert!(base_offset >= self.base_offset, "offset {base_offset} is not in this segment");
        // What was read from disk may know less than the segment holds, and the largest time may be what it lacks.
        self.times_cut |= position != self.reached.position;
        if self.bytes_since_entry >= INDEX_INTERVAL_BYTES {
            self.add_entries(base_offset, position);
        }
        self.bytes_since_entry = self.bytes_since_entry.saturating_add(bytes);
        if !self.times_cut {
            let timestamp = self.reached.timestamp.max(max_timestamp);
            self.reached = TimeEntry { timestamp, position: Position(end) };
        }
    }

    /// Where to begin reading to find the batch that holds `offset`: the segment's start, or a batch whose base offset is
    /// not above it.
    pub fn floor(&self, offset: Offset) -> Position {
        let behind = self.offsets.partition_point(|entry| self.absolute(*entry) <= offset);
        behind.checked_sub(1).map_or(Position(0), |last| self.offsets[last].position)
    }

    /// As [`SparseIndex::floor`], with the base offset of the batch that begins there.
    pub fn floor_batch(&self, offset: Offset) -> (Offset, Position) {
        let behind = self.offsets.partition_point(|entry| self.absolute(*entry) <= offset);
        let last = behind.checked_sub(1).map(|last| self.offsets[last]);
        last.map_or((self.base_offset, Position(0)), |entry| (self.absolute(entry), entry.position))
    }

    /// The base offset of a batch at or before `position`: the nearest that is known, or the segment's first.
    pub fn offset_before(&self, position: Position) -> Offset {
        let behind = self.offsets.partition_point(|entry| entry.position <= position);
        behind.checked_sub(1).map_or(self.base_offset, |last| self.absolute(self.offsets[last]))
    }

    /// Where to begin reading to find the first batch whose max timestamp is not below `timestamp`: the start of a batch,
    /// or the segment's end if no batch is that late. All batches before it are earlier.
    pub fn first_at_or_after(&self, timestamp: Timestamp) -> Position {
        if self.reached.timestamp < timestamp {
            return self.reached.position;
        }
        let behind = self.times.partition_point(|entry| entry.timestamp < timestamp);
        behind.checked_sub(1).map_or(Position(0), |last| self.times[last].position)
    }

    /// Forgets all batches from `position` on, which is the segment's new end and the end of a batch.
    ///
    /// The largest time is not known to shrink: a search for a time between may begin early, never late.
    pub fn truncate(&mut self, position: Position) {
        if position == Position(0) {
            *self = SparseIndex::new(self.base_offset);
            return;
        }
        self.offsets.truncate(self.offsets.partition_point(|entry| entry.position < position));
        self.times.truncate(self.times.partition_point(|entry| entry.position < position));
        self.reached.position = self.reached.position.min(position);
        self.bytes_since_entry = position.get() - self.last_indexed().get();
    }

    /// The bytes of the `.index` file: whole pages.
    pub fn encode_offsets(&self) -> Vec<u8> {
        pages::encode(self.base_offset, &self.offsets)
    }

    /// The bytes of the `.time` file: whole pages.
    pub fn encode_times(&self) -> Vec<u8> {
        let mut times = self.times.clone();
        if self.reached.position > BEFORE_ALL.position {
            put_time(&mut times, self.reached);
        }
        pages::encode(self.base_offset, &times)
    }

    /// The index in these two files, with one error for each page that could not be used. What the other pages say is used.
    ///
    /// It may know less than the segment holds: then the batches from [`SparseIndex::end`] on are still to be appended, and
    /// if some are left out, it learns no times any more. Where it knows more, it is first cut with
    /// [`SparseIndex::truncate`].
    pub fn decode(base_offset: Offset, index: &[u8], time: &[u8]) -> (SparseIndex, Vec<PageError>) {
        let (offsets, mut errors) = pages::decode::<OffsetEntry>(base_offset, index);
        let (times, time_errors) = pages::decode::<TimeEntry>(base_offset, time);
        errors.extend(time_errors);
        let reached = times.last().copied().unwrap_or(BEFORE_ALL);
        let mut decoded = SparseIndex { offsets, times, reached, ..SparseIndex::new(base_offset) };
        decoded.bytes_since_entry = reached.position.get().saturating_sub(decoded.last_indexed().get());
        (decoded, errors)
    }

    /// Every batch that has an entry: its base offset, and where it begins.
    pub fn offset_entries(&self) -> impl ExactSizeIterator<Item = (Offset, Position)> {
        self.offsets.iter().map(|entry| (self.absolute(*entry), entry.position))
    }

    /// What is said of times: no batch before the position has a max timestamp above this one.
    pub fn time_entries(&self) -> impl ExactSizeIterator<Item = (Timestamp, Position)> {
        self.times.iter().map(|entry| (entry.timestamp, entry.position))
    }

    fn add_entries(&mut self, base_offset: Offset, position: Position) {
        // An entry that is too far from the segment's start, or does not follow what was read from disk, is left out.
        if let Ok(relative_offset) = u32::try_from(base_offset.get() - self.base_offset.get()) {
            let entry = OffsetEntry { relative_offset, position };
            if self.offsets.last().is_none_or(|last| pages::Entry::follows(entry, *last)) {
                self.offsets.push(entry);
            }
        }
        if !self.times_cut {
            put_time(&mut self.times, self.reached);
        }
        self.bytes_since_entry = 0;
    }

    fn absolute(&self, entry: OffsetEntry) -> Offset {
        Offset(self.base_offset.get().saturating_add(entry.relative_offset.into()))
    }

    fn last_indexed(&self) -> Position {
        self.offsets.last().map_or(Position(0), |entry| entry.position)
    }
}

/// Of two entries with one time, only the one further on is of use.
fn put_time(times: &mut Vec<TimeEntry>, entry: TimeEntry) {
    match times.last_mut() {
        Some(last) if last.timestamp == entry.timestamp => last.position = entry.position,
        _ => times.push(entry),
    }
}
