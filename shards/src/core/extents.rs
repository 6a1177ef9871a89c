//! What of a log is still to be written to its segments, in order, and how far everything is there.
//!
//! ```text
//!   bytes  bytes  bytes | whole blocks of a large batch | bytes  bytes     extents, in log order
//!   done   in flight    | in flight                     | waiting
//!          ^ completed
//! ```
//!
//! Bytes are written lazily: a run of neighbouring waiting extents is gathered into one aligned buffer, together with
//! what its first block already holds, and zeros behind it. Whole blocks are written as they are, many at a time. At
//! most one run is in flight, so no two writes overlap: a run shares blocks with the runs before and behind it only.
//!
//! Invariant: a whole block that was completed is never written again.

use std::collections::VecDeque;

use super::effect::Operation;
use crate::limits::BLOCK_BYTES;
use crate::memory::{AlignedBuffer, ChunkIndex, Slice};
use crate::types::Offset;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// A place in a log's segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The segment, named by its first offset.
    pub segment: Offset,
    /// The byte position inside it.
    pub position: u64,
}

/// A contiguous part of a log on its way to the disk.
#[derive(Debug)]
pub struct Extent {
    /// Where it begins.
    pub start: Place,
    /// Its size in bytes.
    pub length: u64,
    /// What it holds.
    pub content: Content,
    /// If it is the last extent of a batch, the offset behind that batch.
    pub batch_end: Option<Offset>,
    state: State,
}

/// What an extent holds.
#[derive(Debug)]
pub enum Content {
    /// Bytes that the journal holds by value too.
    Bytes {
        /// The bytes.
        bytes: Slice,
        /// The staging chunk they lie in, if they do.
        chunk: Option<ChunkIndex>,
        /// The base offset of the batch that these bytes are the whole of, if they are.
        whole_batch: Option<Offset>,
    },
    /// Whole blocks of a large batch, of which the journal has the digest only.
    Blocks {
        /// The blocks.
        blocks: Slice,
        /// The batch's base offset.
        batch: Offset,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    InFlight(Operation),
    Done,
}

/// A batch boundary up to which a log is on disk, with the bytes that are not trusted there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// The offset behind the last batch.
    pub end: Offset,
    /// The place behind its last byte.
    pub place: Place,
    /// The bytes of the partial block before that place.
    pub fragment: Vec<u8>,
}

/// A run ready to be gathered.
#[derive(Debug)]
pub struct Run {
    /// The segment it lies in.
    pub segment: Offset,
    /// The position of its first block.
    pub position: u64,
    /// The bytes it needs a buffer for: whole blocks.
    pub buffer_bytes: usize,
    /// Whether its buffer serves readers once it is gathered. One in reserved memory does not: the batches stay where they
    /// are until they are written, and the buffer is free again as soon as its write has ended.
    pub serves_readers: bool,
    first: usize,
    count: usize,
}

/// A whole batch that was moved from staging memory into a run's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// The batch's base offset.
    pub base_offset: Offset,
    /// Where in the buffer it lies.
    pub at: usize,
    /// Its size in bytes.
    pub length: usize,
}

/// The extents of one log.
#[derive(Debug)]
pub struct Extents {
    queue: VecDeque<Extent>,
    bytes_waiting: u64,
    /// A run could not be written: no later one may be, or the segment would have a hole that looks like data.
    failed: bool,
    run: Option<RunInFlight>,
    /// The place behind the last completed run, and the bytes of the partial block before it.
    carried_end: Place,
    carried: Vec<u8>,
    /// The same for the last batch that ends in each completed run, as far as something before it is not written.
    batch_ends: VecDeque<(Place, Vec<u8>)>,
    boundary: Boundary,
}

#[derive(Debug)]
struct RunInFlight {
    operation: Operation,
    end: Place,
    fragment: Vec<u8>,
    batch_end: Option<(Place, Vec<u8>)>,
}

impl Extents {
    /// The extents of a log that is on disk up to `boundary`.
    pub fn new(boundary: Boundary) -> Extents {
        assert_eq!(
            boundary.fragment.len() as u64,
            boundary.place.position % BLOCK,
            "a fragment fills up to its place"
        );
        Extents {
            queue: VecDeque::new(),
            bytes_waiting: 0,
            failed: false,
            run: None,
            carried_end: boundary.place,
            carried: boundary.fragment.clone(),
            batch_ends: VecDeque::new(),
            boundary,
        }
    }

    /// Queues bytes or blocks behind all others.
    pub fn push(&mut self, start: Place, length: u64, content: Content, batch_end: Option<Offset>) {
        if matches!(content, Content::Blocks { .. }) {
            assert!(
                start.position.is_multiple_of(BLOCK) && length.is_multiple_of(BLOCK),
                "whole blocks are aligned"
            );
        }
        if matches!(content, Content::Bytes { .. }) {
            self.bytes_waiting += length;
        }
        self.queue.push_back(Extent { start, length, content, batch_end, state: State::Waiting });
    }

    /// How many bytes wait to be gathered.
    pub fn bytes_waiting(&self) -> u64 {
        self.bytes_waiting
    }

    /// Whether an extent still refers to the staging chunk.
    pub fn refers_to(&self, chunk: ChunkIndex) -> bool {
        self.queue.iter().any(|e| matches!(e.content, Content::Bytes { chunk: Some(c), .. } if c == chunk))
    }

    /// The place up to which everything is on disk; the log's end is told by who knows it, if nothing is queued.
    pub fn completed(&self) -> Option<Place> {
        self.queue.front().map(|e| e.start)
    }

    /// The newest batch boundary on disk.
    pub fn newest_boundary(&self) -> &Boundary {
        &self.boundary
    }

    /// The first blocks of a large batch that wait to be written in a segment that `is_ready`.
    /// From now on they are in flight under the operation that `begin` gives for the batch's base offset.
    pub fn next_blocks(
        &mut self,
        is_ready: impl Fn(Offset) -> bool,
        begin: impl FnOnce(Place, Offset) -> Operation,
    ) -> Option<(Operation, Place, Slice)> {
        let waiting =
            self.queue.iter_mut().filter(|e| e.state == State::Waiting && is_ready(e.start.segment));
        for extent in waiting {
            if let Content::Blocks { blocks, batch } = &extent.content {
                let operation = begin(extent.start, *batch);
                extent.state = State::InFlight(operation);
                return Some((operation, extent.start, blocks.clone()));
            }
        }
        None
    }

    /// The first run of waiting bytes, if none is in flight: so many bytes at most, but one extent at least.
    pub fn next_run(&self, bytes_max: u64) -> Option<Run> {
        if self.run.is_some() || self.failed {
            return None;
        }
        let first = self.queue.iter().position(Extent::is_waiting_bytes)?;
        let start = self.queue[first].start;
        let mut end = start.position;
        let mut count = 0;
        for extent in self.queue.range(first..) {
            let continues = extent.is_waiting_bytes()
                && extent.start == Place { segment: start.segment, position: end }
                && (count == 0 || end + extent.length - start.position <= bytes_max);
            if !continues {
                break;
            }
            end += extent.length;
            count += 1;
        }
        let position = start.position - start.position % BLOCK;
        let buffer_bytes = usize::try_from(end.next_multiple_of(BLOCK) - position).expect("a run is bounded");
        Some(Run { segment: start.segment, position, buffer_bytes, serves_readers: true, first, count })
    }

    /// The run in flight failed; nobody knows what of it is on disk.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    /// Whether a run failed.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// The bytes that lie in the staging chunk, in order.
    pub fn bytes_in(&self, chunk: ChunkIndex) -> Vec<Slice> {
        let in_chunk = self.queue.iter().filter_map(|e| match &e.content {
            Content::Bytes { bytes, chunk: Some(c), .. } if *c == chunk => Some(bytes.clone()),
            _ => None,
        });
        in_chunk.collect()
    }

    /// Replaces the bytes that lie in the staging chunk by their copy, which has them one behind the other; gives back each
    /// whole batch among them.
    pub fn replace_in(&mut self, chunk: ChunkIndex, copy: &Slice) -> Vec<(Offset, Slice)> {
        let mut batches = Vec::new();
        let mut position = 0;
        for extent in &mut self.queue {
            if let Content::Bytes { bytes, chunk: at, whole_batch } = &mut extent.content
                && *at == Some(chunk)
            {
                let end = position + bytes.len();
                (*bytes, *at) = (copy.narrow(position..end), None);
                position = end;
                batches.extend(whole_batch.map(|base| (base, bytes.clone())));
            }
        }
        assert_eq!(position, copy.len(), "a copy is as long as its original");
        batches
    }

    /// Lets go of the blocks of large batches from `from` on that are with the disk or have no file: nobody will see them.
    pub fn give_up(&mut self, from: Offset, has_file: impl Fn(Offset) -> bool) {
        for extent in &mut self.queue {
            let is_lost = extent.state != State::Waiting || !has_file(extent.start.segment);
            if matches!(extent.content, Content::Blocks { batch, .. } if batch >= from) && is_lost {
                extent.release();
            }
        }
    }

    /// Copies a run into `buffer`; the frozen buffer is what is to be written. If it serves readers, the memory that the
    /// run's bytes lay in is free. `moved` learns of each whole batch that now lies there.
    pub fn gather(
        &mut self,
        run: &Run,
        operation: Operation,
        mut buffer: AlignedBuffer,
        zero_padding: bool,
        mut moved: impl FnMut(Moved, &Slice),
    ) -> Slice {
        let start = self.queue[run.first].start;
        let lead = usize::try_from(start.position - run.position).expect("less than a block");
        if lead > 0 {
            assert_eq!(self.carried_end, start, "a run that begins inside a block follows the one before it");
            buffer[..lead].copy_from_slice(&self.carried);
        }
        let mut at = lead;
        let mut batches = Vec::new();
        let mut batch_end = None;
        for extent in self.queue.range_mut(run.first..run.first + run.count) {
            let Content::Bytes { bytes, whole_batch, .. } = &extent.content else {
                unreachable!("a run holds bytes")
            };
            buffer[at..at + bytes.len()].copy_from_slice(bytes);
            batches.extend(whole_batch.map(|base_offset| Moved { base_offset, at, length: bytes.len() }));
            at += bytes.len();
            batch_end = extent.batch_end.map(|_| at).or(batch_end);
            extent.state = State::InFlight(operation);
            self.bytes_waiting -= extent.length;
        }
        if zero_padding {
            buffer[at..].fill(0);
        }
        let upto = |at: usize| {
            let place = Place { segment: run.segment, position: run.position + at as u64 };
            (place, buffer[at - at % BLOCK_BYTES..at].to_vec())
        };
        let (end, fragment) = upto(at);
        self.run = Some(RunInFlight { operation, end, fragment, batch_end: batch_end.map(upto) });
        let gathered = buffer.freeze();
        if run.serves_readers {
            self.point_into(run, lead, &gathered);
        }
        batches.into_iter().for_each(|batch| moved(batch, &gathered));
        gathered
    }

    /// From now on the run's extents show the gathered bytes, and their staging memory is free.
    fn point_into(&mut self, run: &Run, lead: usize, gathered: &Slice) {
        let mut at = lead;
        for extent in self.queue.range_mut(run.first..run.first + run.count) {
            let length = usize::try_from(extent.length).expect("a run is bounded");
            if let Content::Bytes { bytes, chunk, .. } = &mut extent.content {
                *bytes = gathered.narrow(at..at + length);
                *chunk = None;
            }
            at += length;
        }
    }

    /// A write of this log is on disk (not yet flushed). Reached boundaries are remembered.
    pub fn completed_write(&mut self, operation: Operation) {
        for extent in self.queue.iter_mut().filter(|e| e.state == State::InFlight(operation)) {
            extent.state = State::Done;
            extent.release();
        }
        if let Some(run) = self.run.take_if(|run| run.operation == operation) {
            self.carried_end = run.end;
            self.carried = run.fragment;
            self.batch_ends.extend(run.batch_end);
        }
        while self.queue.front().is_some_and(|e| e.state == State::Done) {
            let extent = self.queue.pop_front().expect("just seen");
            if let Some(end) = extent.batch_end {
                self.reach(end, extent.end());
            }
        }
    }

    /// Remembers a boundary if the bytes of its partial block are at hand.
    fn reach(&mut self, end: Offset, place: Place) {
        while self.batch_ends.pop_front_if(|(known, _)| *known < place).is_some() {}
        if place.position.is_multiple_of(BLOCK) {
            self.boundary = Boundary { end, place, fragment: Vec::new() };
        } else if let Some((_, fragment)) = self.batch_ends.pop_front_if(|(known, _)| *known == place) {
            self.boundary = Boundary { end, place, fragment };
        }
    }
}

impl Run {
    /// Whether no shorter run can be made of it.
    pub fn is_shortest(&self) -> bool {
        self.count == 1 || self.buffer_bytes == BLOCK_BYTES
    }
}

impl Extent {
    /// Lets go of the memory of what is on disk, though something before it is not. Staging memory, which readers may still
    /// be served from, is left to whoever frees its chunk.
    fn release(&mut self) {
        match &mut self.content {
            Content::Bytes { chunk: Some(_), .. } => {}
            Content::Bytes { bytes, chunk: None, .. } => *bytes = Slice::from_static(&[]),
            Content::Blocks { blocks, .. } => *blocks = Slice::from_static(&[]),
        }
    }

    fn end(&self) -> Place {
        Place { segment: self.start.segment, position: self.start.position + self.length }
    }

    fn is_waiting_bytes(&self) -> bool {
        self.state == State::Waiting && matches!(self.content, Content::Bytes { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Slab;

    const RUN_BYTES: u64 = 256 << 10;

    fn place(position: u64) -> Place {
        Place { segment: Offset(0), position }
    }

    fn empty() -> Extents {
        Extents::new(Boundary { end: Offset(0), place: place(0), fragment: Vec::new() })
    }

    fn bytes(extents: &mut Extents, at: u64, length: usize, fill: u8, end: i64) {
        let content =
            Content::Bytes { bytes: Slice::from_vec(vec![fill; length]), chunk: None, whole_batch: None };
        extents.push(place(at), length as u64, content, Some(Offset(end)));
    }

    fn write_run(extents: &mut Extents, operation: u64) -> (u64, Slice) {
        let run = extents.next_run(RUN_BYTES).expect("a run waits");
        let mut buffer = Slab::new(1 << 20).take(run.buffer_bytes).expect("memory");
        buffer.fill(0xee);
        (run.position, extents.gather(&run, Operation(operation), buffer, true, |_, _| {}))
    }

    #[test]
    fn runs_carry_the_partial_block_on() {
        let mut extents = empty();
        bytes(&mut extents, 0, 5000, 1, 5);
        let (position, first) = write_run(&mut extents, 1);
        assert_eq!((position, first.len(), first[4999], first[5000]), (0, 8192, 1, 0));
        bytes(&mut extents, 5000, 100, 2, 6);
        assert!(extents.next_run(RUN_BYTES).is_none(), "one run is in flight at a time");
        extents.completed_write(Operation(1));
        let (position, second) = write_run(&mut extents, 2);
        assert_eq!((position, second.len()), (4096, 4096));
        assert_eq!((second[903], second[904], second[1003], second[1004]), (1, 2, 2, 0));
        extents.completed_write(Operation(2));
        let boundary = extents.newest_boundary();
        assert_eq!(
            (boundary.end, boundary.place, &boundary.fragment[..]),
            (Offset(6), place(5100), &second[..1004])
        );
        assert_eq!(extents.completed(), None);
    }

    #[test]
    fn boundaries_count_only_behind_everything_before_them() {
        let mut extents = empty();
        bytes(&mut extents, 0, 4096, 1, 1);
        let blocks = Content::Blocks { blocks: Slice::from_vec(vec![2; 8192]), batch: Offset(1) };
        extents.push(place(4096), 8192, blocks, Some(Offset(2)));
        bytes(&mut extents, 12288, 10, 3, 3);
        let (_, start, blocks) = extents.next_blocks(|_| true, |_, _| Operation(1)).expect("blocks wait");
        assert_eq!((start, blocks.len()), (place(4096), 8192));
        extents.completed_write(Operation(1));
        assert_eq!(extents.newest_boundary().end, Offset(0), "the bytes before it are missing");
        let (position, run) = write_run(&mut extents, 2);
        assert_eq!((position, run.len()), (0, 4096), "a run ends before whole blocks");
        extents.completed_write(Operation(2));
        assert_eq!(extents.newest_boundary().end, Offset(2));
    }

    #[test]
    fn a_run_is_bounded_but_never_empty() {
        let mut extents = empty();
        let big = usize::try_from(RUN_BYTES).expect("small") + 1;
        bytes(&mut extents, 0, big, 1, 1);
        bytes(&mut extents, big as u64, 5, 2, 2);
        let run = extents.next_run(RUN_BYTES).expect("a run waits");
        assert_eq!((run.buffer_bytes, run.is_shortest()), (big.next_multiple_of(BLOCK_BYTES), true));
    }
}
