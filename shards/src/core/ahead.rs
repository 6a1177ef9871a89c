//! Reading ahead of consumers that read a log in order below what memory holds.
//!
//! Where a fetch from disk ended is remembered; one that begins there is in order, and the next piece is then read before it
//! is asked for, one for each consumer. A fetch that comes before its piece waits for it. Pieces take slab memory that is
//! free, up to a limit, and no batch leaves the cache for them; when memory runs short they go first.
//!
//! A piece may have been read before all of its batches were on disk. Who finds no whole batch in it reads for himself.

use std::collections::{BTreeMap, VecDeque};

use super::effect::SegmentFile;
use super::extents::Place;
use super::reads::{Read, lead_of};
use super::shard::Shard;
use crate::limits::{BLOCK_BYTES, READ_CURSORS_MAX};
use crate::memory::Slice;
use crate::types::{Offset, PartitionId};

/// Where fetches from disk ended: the places of the batches behind, by log and offset.
#[derive(Default)]
pub(super) struct Cursors {
    places: BTreeMap<(PartitionId, Offset), (Place, u64)>,
    /// Oldest first. An entry whose number is not the place's is out of date.
    order: VecDeque<(PartitionId, Offset, u64)>,
    last: u64,
}

/// Pieces that were read and not asked for yet, by log and by where they begin.
#[derive(Default)]
pub(super) struct Aheads {
    ready: BTreeMap<(PartitionId, Place), Piece>,
    /// What they take of memory, those being read included. Bytes.
    bytes: usize,
    last: u64,
}

struct Piece {
    bytes: Slice,
    /// Its memory. Bytes.
    capacity: usize,
    number: u64,
}

impl Cursors {
    /// Where the batch at `offset` begins, if a fetch ended there lately.
    pub(super) fn get(&self, id: PartitionId, offset: Offset) -> Option<Place> {
        self.places.get(&(id, offset)).map(|(place, _)| *place)
    }

    fn put(&mut self, id: PartitionId, offset: Offset, place: Place) {
        self.last += 1;
        self.places.insert((id, offset), (place, self.last));
        self.order.push_back((id, offset, self.last));
        if self.order.len() > 2 * READ_CURSORS_MAX {
            let places = &self.places;
            self.order
                .retain(|(id, offset, number)| places.get(&(*id, *offset)).is_some_and(|p| p.1 == *number));
        }
        while self.places.len() > READ_CURSORS_MAX {
            let (id, offset, number) = self.order.pop_front().expect("every place is in order");
            if self.places.get(&(id, offset)).is_some_and(|(_, current)| *current == number) {
                self.places.remove(&(id, offset));
            }
        }
    }

    /// Forgets a deleted log.
    pub(super) fn forget(&mut self, id: PartitionId) {
        self.places.retain(|(log, _), _| *log != id);
    }
}

impl Aheads {
    /// The piece that begins there.
    pub(super) fn take(&mut self, id: PartitionId, place: Place) -> Option<Slice> {
        let piece = self.ready.remove(&(id, place))?;
        self.bytes -= piece.capacity;
        Some(piece.bytes)
    }

    /// Lets the piece go that has waited longest. False: there is none.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let oldest = self.ready.iter().min_by_key(|(_, piece)| piece.number).map(|(key, _)| *key);
        oldest.is_some_and(|(id, place)| self.take(id, place).is_some())
    }

    /// Forgets a deleted log.
    pub(super) fn forget(&mut self, id: PartitionId) {
        for (_, piece) in self.ready.extract_if(.., |(log, _), _| *log == id) {
            self.bytes -= piece.capacity;
        }
    }

    fn put(&mut self, id: PartitionId, place: Place, bytes: Slice, capacity: usize) {
        self.last += 1;
        let piece = Piece { bytes, capacity, number: self.last };
        self.bytes += capacity;
        if let Some(before) = self.ready.insert((id, place), piece) {
            self.bytes -= before.capacity;
        }
    }

    /// Makes room for a piece of so many bytes.
    fn make_room(&mut self, bytes: usize, bytes_max: usize) -> bool {
        while self.bytes + bytes > bytes_max {
            if !self.drop_oldest() {
                return false;
            }
        }
        true
    }
}

impl Shard {
    /// A fetch was served from `blocks` up to a batch boundary: the next one may begin there.
    pub(super) fn served(&mut self, read: &Read, blocks: &Slice, end: Offset, position: u64) {
        let id = read.partition();
        let Some(place) = self.place_behind(id, end, Place { position, ..read.place() }) else { return };
        self.cursors.put(id, end, place);
        if !read.is_in_order() {
            return;
        }
        let rest = Some(place).filter(|p| p.segment == read.place().segment).and_then(|place| {
            let start = read.place().position - lead_of(read.place()) as u64;
            let block = usize::try_from(place.position - lead_of(place) as u64 - start).ok()?;
            let is_enough = blocks.len() >= block + lead_of(place) + read.bytes_max();
            is_enough.then(|| blocks.narrow(block..blocks.len()))
        });
        match rest {
            // The memory is the consumer's already; what counts is what the rest keeps alive.
            Some(rest) if self.aheads.make_room(rest.len(), self.tuning.read_ahead_bytes_max) => {
                let capacity = rest.len();
                self.aheads.put(id, place, rest, capacity);
            }
            _ => self.read_ahead(id, place, read.bytes_max()),
        }
    }

    /// Where the batch at `end` begins, behind `place`, if it is to be read from disk.
    fn place_behind(&self, id: PartitionId, end: Offset, place: Place) -> Option<Place> {
        let partition = self.partitions.get(&id)?;
        let is_cached = partition.cache.front().is_some_and(|first| first.base <= end);
        if is_cached || end >= partition.high_watermark {
            return None;
        }
        if place.position < partition.segment_end(place.segment)? {
            return Some(place);
        }
        let next = partition.segment_after(place.segment).filter(|next| *next == end)?;
        Some(Place { segment: next, position: 0 })
    }

    /// Reads the piece at `place`, if there is memory for it.
    fn read_ahead(&mut self, id: PartitionId, place: Place, bytes_max: usize) {
        let Some(end) = self.partitions.get(&id).and_then(|p| p.segment_end(place.segment)) else { return };
        self.prepare_index(SegmentFile { partition: id, base: place.segment });
        let is_known =
            self.aheads.ready.contains_key(&(id, place)) || self.reading.contains_key(&(id, place));
        let in_segment = usize::try_from(end - place.position).expect("a segment fits into memory");
        // Of a piece that begins inside a block, no more is read than a buffer of its size holds.
        let wanted = self.read_bytes(bytes_max).min(lead_of(place) + in_segment);
        let length = wanted.next_multiple_of(BLOCK_BYTES).max(BLOCK_BYTES);
        if is_known || !self.aheads.make_room(length.next_power_of_two(), self.tuning.read_ahead_bytes_max) {
            return;
        }
        let Some(mut buffer) = self.slab.take(length) else { return };
        buffer.set_length(length);
        let capacity = buffer.capacity();
        self.aheads.bytes += capacity;
        self.begin_read(id, place, Vec::new(), buffer);
        self.counts.reads_ahead += 1;
    }

    /// A read ended that began ahead of its consumer and took so much memory. With `bytes`, nobody has asked for them yet.
    pub(super) fn read_ahead_ended(
        &mut self,
        id: PartitionId,
        place: Place,
        capacity: usize,
        bytes: Option<Slice>,
    ) {
        self.aheads.bytes -= capacity;
        if let Some(bytes) = bytes.filter(|_| self.partitions.contains_key(&id)) {
            self.aheads.put(id, place, bytes, capacity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{PartitionIndex, TopicId};

    const LOG: PartitionId = PartitionId { topic: TopicId([1; 16]), index: PartitionIndex(0) };

    fn place(position: u64) -> Place {
        Place { segment: Offset(0), position }
    }

    #[test]
    fn the_newest_ends_are_remembered_and_no_more() {
        let mut cursors = Cursors::default();
        let many = 5 * i64::try_from(READ_CURSORS_MAX).expect("small");
        for offset in 0..many {
            cursors.put(LOG, Offset(offset), place(offset.unsigned_abs() * 10));
            cursors.put(LOG, Offset(0), place(7));
        }
        assert_eq!(cursors.get(LOG, Offset(many - 1)), Some(place((many - 1).unsigned_abs() * 10)));
        assert_eq!(cursors.get(LOG, Offset(0)), Some(place(7)), "put again, it is new again");
        assert_eq!(cursors.get(LOG, Offset(1)), None);
        assert!(cursors.places.len() <= READ_CURSORS_MAX && cursors.order.len() <= 2 * READ_CURSORS_MAX + 1);
        cursors.forget(LOG);
        assert_eq!(cursors.get(LOG, Offset(0)), None);
    }

    #[test]
    fn pieces_that_waited_longest_make_room() {
        let mut aheads = Aheads::default();
        for position in 0..3 {
            assert!(aheads.make_room(100, 250));
            aheads.put(LOG, place(position), Slice::from_vec(vec![0; 100]), 100);
        }
        assert_eq!(aheads.bytes, 200);
        assert!(aheads.take(LOG, place(0)).is_none(), "the first one went for the third");
        assert!(aheads.take(LOG, place(2)).is_some() && aheads.bytes == 100);
        assert!(!aheads.make_room(300, 250), "more than there is at all");
        assert!(!aheads.drop_oldest() && aheads.bytes == 0);
    }
}
