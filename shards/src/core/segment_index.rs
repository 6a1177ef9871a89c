//! What the running shard knows of where batches begin in one segment.
//!
//! ```text
//!   0        known.end       newer's start      the segment's end
//!   | known: appended,  | not known since the  | newer: appended by |
//!   | read, or loaded   | last start           | this process       |
//! ```
//!
//! `known` grows as batches are appended or passed by readers behind its end, and takes `newer` over when it gets there.
//! Everything here is a hint: to forget any of it makes a longer scan. While the index is away, being read from its files
//! or written to them, nobody can look into it, and what is appended is noted in `newer`.

use super::segment::Noted;
use crate::format::index::SparseIndex;
use crate::types::{Offset, Position, Timestamp};

/// The index of one segment.
#[derive(Clone, Debug)]
pub struct SegmentIndex {
    base: Offset,
    known: SparseIndex,
    /// What was appended behind what is not known, and where that begins.
    newer: Option<(Position, SparseIndex)>,
    place: Whereabouts,
    /// How much of the segment its files on disk know. Bytes.
    on_disk: u64,
    /// Whether `known` begins with what files said.
    is_from_files: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whereabouts {
    Here,
    /// Files may know more than memory does, and were not looked at.
    OnDisk,
    Away,
}

impl SegmentIndex {
    /// The index of an empty segment.
    pub fn new(base: Offset) -> SegmentIndex {
        SegmentIndex {
            base,
            known: SparseIndex::new(base),
            newer: None,
            place: Whereabouts::Here,
            on_disk: 0,
            is_from_files: false,
        }
    }

    /// The index of a segment that a former process wrote: perhaps there are files.
    pub fn recovered(base: Offset) -> SegmentIndex {
        SegmentIndex { place: Whereabouts::OnDisk, ..SegmentIndex::new(base) }
    }

    /// Whether the files are to be read before it is looked into.
    pub fn is_unread(&self) -> bool {
        self.place == Whereabouts::OnDisk
    }

    /// Whether it is being read or written.
    pub fn is_away(&self) -> bool {
        self.place == Whereabouts::Away
    }

    /// Whether it knows all of a segment of this length.
    pub fn is_whole(&self, length: u64) -> bool {
        self.place == Whereabouts::Here && self.newer.is_none() && self.end() == length
    }

    /// Whether its files know all of a segment of this length.
    pub fn is_on_disk(&self, length: u64) -> bool {
        self.on_disk == length
    }

    /// Whether it may know more than files that were not looked at.
    pub fn has_news(&self) -> bool {
        !self.is_unread() || self.newer.is_some()
    }

    /// Whether files were believed to find a batch.
    pub fn is_from_files(&self) -> bool {
        self.is_from_files
    }

    /// How far it knows the segment from its beginning on. Bytes.
    pub fn end(&self) -> u64 {
        self.known.end().get().into()
    }

    /// What it takes of memory. Bytes.
    pub fn memory_bytes(&self) -> usize {
        self.known.memory_bytes() + self.newer.as_ref().map_or(0, |(_, newer)| newer.memory_bytes())
    }

    /// Takes note of a batch that was appended.
    pub fn appended(&mut self, batch: &Noted) {
        let Some(position) = self.position_of(batch) else { return };
        if let Some((_, newer)) = &mut self.newer {
            newer.append(batch.base, position, batch.length, batch.max_timestamp);
        } else if self.place == Whereabouts::Here && self.known.end() == position {
            self.known.append(batch.base, position, batch.length, batch.max_timestamp);
        } else {
            let mut newer = SparseIndex::starting_at(self.base, position);
            newer.append(batch.base, position, batch.length, batch.max_timestamp);
            self.newer = Some((position, newer));
        }
    }

    /// Takes note of a batch that a reader met, if it is the next one that is not known.
    pub fn passed(&mut self, batch: &Noted) {
        let Some(position) = self.position_of(batch) else { return };
        if self.place == Whereabouts::Here && self.known.end() == position {
            self.known.append(batch.base, position, batch.length, batch.max_timestamp);
            self.join();
        }
    }

    /// A batch at or before the one that holds `offset`: its first offset, and where it begins.
    pub fn floor_batch(&self, offset: Offset) -> (Offset, Position) {
        let newer = self.newer.as_ref().map(|(_, newer)| newer.floor_batch(offset));
        newer
            .filter(|(_, position)| *position > Position(0))
            .unwrap_or_else(|| self.known.floor_batch(offset))
    }

    /// The first offset of a batch before which all batches of the segment are older than `timestamp`, and which is not
    /// far before the first that is not.
    pub fn offset_for(&self, timestamp: Timestamp) -> Offset {
        self.known.offset_before(self.known.first_at_or_after(timestamp))
    }

    /// Lends the index to whoever writes it to disk.
    ///
    /// # Panics
    /// If it is not here.
    pub fn lend(&mut self) -> SparseIndex {
        assert_eq!(self.place, Whereabouts::Here, "an index is lent once");
        self.place = Whereabouts::Away;
        std::mem::replace(&mut self.known, SparseIndex::new(self.base))
    }

    /// What was lent is back; `is_written` if the files now say the same.
    pub fn take_back(&mut self, index: SparseIndex, is_written: bool) {
        assert_eq!(self.place, Whereabouts::Away, "only what is lent comes back");
        self.on_disk = if is_written { index.end().get().into() } else { 0 };
        self.place = Whereabouts::Here;
        self.known = index;
        self.join();
    }

    /// The files are being read.
    pub fn await_files(&mut self) {
        self.place = Whereabouts::Away;
    }

    /// What the files of a segment of `length` bytes say. Returns false for what cannot be said of this segment.
    pub fn loaded(&mut self, index: Option<SparseIndex>, length: u64, believes_all: bool) -> bool {
        self.place = Whereabouts::Here;
        let Some(index) = index else { return true };
        let limit = self.newer.as_ref().map_or(length, |(start, _)| start.get().into());
        let end = u64::from(index.end().get());
        if end > limit && !believes_all {
            return false;
        }
        self.on_disk = end;
        if index.end() > self.known.end() {
            self.known = index;
            self.is_from_files = true;
        }
        self.join();
        true
    }

    /// Forgets what was learnt, which the files may have.
    pub fn forget(&mut self) {
        let place = if self.on_disk > 0 { Whereabouts::OnDisk } else { Whereabouts::Here };
        *self = SegmentIndex { place, on_disk: self.on_disk, ..SegmentIndex::new(self.base) };
    }

    /// The files were believed and were wrong: they are not looked at again. An index that is away is left as it is.
    pub fn distrust(&mut self) {
        if self.is_away() {
            return;
        }
        *self = SegmentIndex { newer: self.newer.take(), ..SegmentIndex::new(self.base) };
    }

    /// Takes the newer part over once nothing is missing before it.
    fn join(&mut self) {
        if let Some((start, newer)) = self.newer.take_if(|(start, _)| *start == self.known.end()) {
            self.known.join(start, &newer);
        }
    }

    fn position_of(&self, batch: &Noted) -> Option<Position> {
        let position = u32::try_from(batch.position).ok()?;
        position.checked_add(batch.length)?;
        (batch.base >= self.base).then_some(Position(position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Offset = Offset(1000);

    /// Batch number `n`, of 3000 bytes; times go up and down.
    fn batch(n: u32) -> Noted {
        let base = Offset(BASE.get() + i64::from(n) * 10);
        let max_timestamp = Timestamp(i64::from(n * 7 % 50));
        Noted { base, position: u64::from(n) * 3000, length: 3000, max_timestamp }
    }

    fn appended(batches: std::ops::Range<u32>) -> SegmentIndex {
        let mut index = SegmentIndex::new(BASE);
        batches.for_each(|n| index.appended(&batch(n)));
        index
    }

    /// Every batch is found by offset and by time, never behind where it is; gives back the longest way to an offset.
    fn assert_finds(index: &SegmentIndex, batches: u32) -> u32 {
        let mut way_max = 0;
        for n in 0..batches {
            let (base, position) = index.floor_batch(Offset(batch(n).base.get() + 3));
            assert_eq!(base, batch(position.get() / 3000).base, "place and offset are of one batch");
            way_max = way_max.max(n - position.get() / 3000);
            let time = batch(n).max_timestamp;
            let first = (0..batches).find(|n| batch(*n).max_timestamp >= time).unwrap();
            assert!(index.offset_for(time) <= batch(first).base, "time {time:?} is not missed");
        }
        way_max
    }

    #[test]
    fn what_is_missing_between_is_learnt_by_reading_and_then_all_is_one() {
        let mut index = SegmentIndex::recovered(BASE);
        (40..80).for_each(|n| index.appended(&batch(n)));
        assert!(index.is_unread() && !index.is_whole(240_000));
        index.await_files();
        let files = appended(0..20).lend();
        assert!(index.loaded(Some(files), 240_000, false));
        assert_eq!(index.end(), 60_000);
        assert!(assert_finds(&index, 80) >= 19, "nothing between is known");
        (20..40).for_each(|n| index.passed(&batch(n)));
        assert!(index.is_whole(240_000) && assert_finds(&index, 80) <= 2);
        assert_eq!(index.known.encode_times(), appended(0..80).known.encode_times());
    }

    #[test]
    fn batches_appended_while_it_is_lent_are_not_lost() {
        let mut index = appended(0..20);
        let lent = index.lend();
        (20..30).for_each(|n| index.appended(&batch(n)));
        index.passed(&batch(0));
        assert!(index.is_away() && !index.is_whole(90_000));
        index.take_back(lent, true);
        assert!(index.is_whole(90_000) && index.is_on_disk(60_000) && assert_finds(&index, 30) <= 2);
    }

    #[test]
    fn files_that_say_more_than_the_segment_holds_are_refused() {
        let mut index = SegmentIndex::recovered(BASE);
        index.await_files();
        assert!(!index.loaded(Some(appended(0..20).lend()), 59_999, false));
        assert_eq!((index.end(), index.is_unread(), index.is_from_files()), (0, false, false));
    }

    #[test]
    fn what_was_forgotten_is_read_again_and_what_was_wrong_is_not() {
        let mut index = appended(0..20);
        let lent = index.lend();
        index.take_back(lent, true);
        index.forget();
        assert!(index.is_unread() && index.memory_bytes() == 0);
        index.distrust();
        assert!(!index.is_unread() && index.end() == 0);
    }
}
