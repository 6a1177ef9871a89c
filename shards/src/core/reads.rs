//! Fetching: whole batches from memory where they are, from the disk where they are not.
//!
//! A read begins where a batch begins and skips batches before the offset asked for. Each batch from disk is checked
//! before it is served: by its checksum, and, since that covers neither offset nor epoch, by following the batch before it. The cache reaches back at least to what the disk does not have yet, so a disk read
//! never meets bytes that are still to be written.
//!
//! Nobody is lent staging memory: a consumer that does not read would keep it, and stop the shard's appends.

use super::effect::{Effect, FetchError, Fetched, Operation, OperationError, SegmentFile, Tag};
use super::extents::Place;
use super::indexes::Wait;
use super::partition::{Cached, Partition};
use super::rules::Rule;
use super::segment::Noted;
use super::shard::{Purpose, Shard};
use crate::format::batch::{BatchView, Batches, HEADER_BYTES};
use crate::limits::BLOCK_BYTES;
use crate::memory::{AlignedBuffer, Slice};
use crate::types::{Offset, PartitionId};

/// What a fetch asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    tag: Tag,
    partition: PartitionId,
    offset: Offset,
    bytes_max: usize,
}

/// A fetch that waits for the disk.
pub(super) struct Read {
    tag: Tag,
    partition: PartitionId,
    offset: Offset,
    bytes_max: usize,
    /// Where files of an index said that a batch begins, until one was found there.
    is_hinted: bool,
    /// Where the bytes read begin, at a batch.
    place: Place,
    /// The first offset of the batch there.
    expected: Offset,
    /// Reads of this place that gave too little to go on.
    short_reads: u32,
}

/// What a piece of a segment gave.
enum Scanned {
    /// Batches to serve.
    Found(Vec<Slice>),
    /// Nothing yet; go on where this offset is expected, at this position, with a read of at least so many bytes.
    GoOn(Offset, u64, usize),
    /// What should begin with this offset, at this position, is not what was written.
    Damaged(Offset, u64),
}

impl Shard {
    /// Batches from `offset` on: whole ones, the first one whatever its size, the others while they fit `bytes_max`.
    ///
    /// `Ok(None)`: a read is under way and [`Effect::Fetched`] follows. At the high watermark the answer is empty.
    pub fn fetch(
        &mut self,
        id: PartitionId,
        offset: Offset,
        bytes_max: usize,
        tag: Tag,
    ) -> Result<Option<Fetched>, FetchError> {
        let visible_end = self.visible_end(id).ok_or(FetchError::UnknownPartition)?;
        let partition = self.partitions.get(&id).ok_or(FetchError::UnknownPartition)?;
        if offset < partition.log_start || offset > partition.end {
            return Err(FetchError::OffsetOutOfRange);
        }
        if offset >= visible_end {
            return Ok(Some(fetched(partition, visible_end, Vec::new())));
        }
        if let Some(batches) = partition.cached_from(offset, visible_end, bytes_max) {
            return Ok(Some(self.lend(id, visible_end, batches)));
        }
        self.fetch_from_disk(Wanted { tag, partition: id, offset, bytes_max })?;
        Ok(None)
    }

    /// Reads what is wanted, once the index of its segment is here.
    fn fetch_from_disk(&mut self, wanted: Wanted) -> Result<(), FetchError> {
        let Wanted { tag, partition: id, offset, bytes_max } = wanted;
        let partition = self.partitions.get(&id).ok_or(FetchError::UnknownPartition)?;
        let Some(base) = partition.segment_at(offset).map(|segment| segment.base) else {
            return Err(self.damaged(id, Place { segment: offset, position: 0 }, offset));
        };
        let file = partition.file(base);
        if offset > base && self.waits_for_index(file, Wait::Fetch(wanted)) {
            return Ok(());
        }
        let partition = self.partitions.get(&id).expect("just seen");
        let (place, expected) = partition.place_before(offset).ok_or(FetchError::Damaged)?;
        let is_hinted = partition.segment_at(offset).is_some_and(|s| s.index.is_from_files());
        let is_hinted = is_hinted && place.position > 0;
        let read = Read { tag, partition: id, offset, bytes_max, is_hinted, place, expected, short_reads: 0 };
        let bytes = self.tuning.read_bytes.max(bytes_max.min(crate::limits::FETCH_READ_BYTES_MAX));
        self.read(read, bytes)
    }

    /// A fetch goes on that waited for an index.
    pub(super) fn fetch_again(&mut self, wanted: Wanted) {
        if let Err(error) = self.fetch_from_disk(wanted) {
            self.effects.push(Effect::Fetched { tag: wanted.tag, result: Err(error) });
        }
    }

    /// Hands batches in memory out: those in slab memory as they are, those in staging memory in one copy.
    fn lend(&mut self, id: PartitionId, visible_end: Offset, batches: Vec<Cached>) -> Fetched {
        let staged: Vec<_> = batches.iter().filter(|b| b.is_staged).map(|b| b.bytes.clone()).collect();
        let copy = self.copy_of(&staged);
        let mut at = 0;
        let lent = batches.into_iter().map(|batch| {
            if !batch.is_staged {
                return batch.bytes;
            }
            at += batch.bytes.len();
            copy.narrow(at - batch.bytes.len()..at)
        });
        let lent = lent.collect();
        let partition = self.partitions.get(&id).expect("its batches were just found");
        fetched(partition, visible_end, lent)
    }

    /// The parts one behind the other, in slab memory if there is some.
    pub(super) fn copy_of(&mut self, parts: &[Slice]) -> Slice {
        let length = parts.iter().map(|part| part.len()).sum();
        if length == 0 {
            return Slice::from_static(&[]);
        }
        let Some(mut buffer) = self.take_memory(length) else {
            let mut bytes = Vec::with_capacity(length);
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
            return Slice::from_vec(bytes);
        };
        let mut at = 0;
        for part in parts {
            buffer[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        buffer.freeze()
    }

    /// Tells `tag` through [`Effect::Advanced`] when a record at `offset` becomes visible. False: it is already, or the
    /// shard has no such partition.
    pub fn watch(&mut self, id: PartitionId, offset: Offset, tag: Tag) -> bool {
        let Some(partition) = self.partitions.get_mut(&id) else { return false };
        let waits = partition.high_watermark <= offset;
        if waits {
            partition.watch(offset, tag);
        }
        waits
    }

    /// Ends a watch that is not wanted any more.
    pub fn unwatch(&mut self, id: PartitionId, tag: Tag) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.unwatch(tag);
        }
    }

    fn visible_end(&self, id: PartitionId) -> Option<Offset> {
        let partition = self.partitions.get(&id)?;
        let durable_only = self.rules.hold(Rule::high_watermark_is_durable);
        Some(if durable_only { partition.high_watermark } else { partition.end })
    }

    fn read(&mut self, read: Read, bytes: usize) -> Result<(), FetchError> {
        let lead = read.place.position % BLOCK_BYTES as u64;
        let lead = usize::try_from(lead).expect("less than a block");
        let mut buffer =
            self.take_memory((lead + bytes).next_multiple_of(BLOCK_BYTES)).ok_or(FetchError::Busy)?;
        buffer.set_length((lead + bytes).next_multiple_of(BLOCK_BYTES));
        let file = read.file();
        let operation = self.operations.begin(Purpose::Read(file));
        let position = read.place.position - lead as u64;
        self.reads.insert(operation, read);
        self.effects.push(Effect::ReadSegment { operation, file, position, buffer });
        Ok(())
    }

    pub(super) fn read_completed(
        &mut self,
        operation: Operation,
        result: Result<(), OperationError>,
        buffer: Option<AlignedBuffer>,
    ) {
        let read = self.reads.remove(&operation).expect("a read completes once");
        let tag = read.tag;
        let answer = match (result, buffer) {
            (Err(error), _) => {
                let (file, error) = (read.file(), FetchError::Failed(error));
                self.note_unreadable(file, read.place.position, read.expected, error);
                Err(error)
            }
            (Ok(()), None) => panic!("a read gives its buffer back"),
            (Ok(()), Some(buffer)) => self.scanned(read, buffer.freeze()),
        };
        match answer {
            Ok(None) => {}
            Ok(Some(fetched)) => self.effects.push(Effect::Fetched { tag, result: Ok(fetched) }),
            Err(error) => self.effects.push(Effect::Fetched { tag, result: Err(error) }),
        }
    }

    /// What should begin with `expected` at a place is not what was written there.
    fn damaged(&mut self, partition: PartitionId, place: Place, expected: Offset) -> FetchError {
        let file = SegmentFile { partition, base: place.segment };
        self.note_unreadable(file, place.position, expected, FetchError::Damaged);
        FetchError::Damaged
    }

    fn scanned(&mut self, read: Read, bytes: Slice) -> Result<Option<Fetched>, FetchError> {
        let visible_end = self.visible_end(read.partition).ok_or(FetchError::UnknownPartition)?;
        let checks = self.rules.hold(Rule::reads_are_checked);
        let partition = self.partitions.get_mut(&read.partition).ok_or(FetchError::UnknownPartition)?;
        let segment_end = partition.segment_end(read.place.segment).ok_or(FetchError::OffsetOutOfRange)?;
        let mut scan = Scan { read: &read, partition, visible_end, checks, passed: Vec::new() };
        let scanned = scan.batches(&bytes, segment_end);
        let passed = scan.passed;
        if let Some(segment) = partition.segment(read.place.segment) {
            passed.iter().for_each(|batch| segment.index.passed(batch));
        }
        let file = partition.file(read.place.segment);
        if !passed.is_empty() {
            self.index_learnt(file);
        }
        let partition = self.partitions.get(&read.partition).expect("just seen");
        match scanned {
            Scanned::Found(batches) => Ok(Some(fetched(partition, visible_end, batches))),
            Scanned::Damaged(..) if read.is_hinted && passed.is_empty() => {
                self.read_without_files(read).map(|()| None)
            }
            Scanned::Damaged(expected, position) => {
                Err(self.damaged(read.partition, Place { position, ..read.place }, expected))
            }
            Scanned::GoOn(expected, position, bytes) if position < segment_end => {
                let stays = position == read.place.position;
                let short_reads = if stays { read.short_reads + 1 } else { 0 };
                if short_reads > crate::limits::SHORT_READS_MAX {
                    return Err(self.damaged(read.partition, Place { position, ..read.place }, expected));
                }
                let place = Place { position, ..read.place };
                let bytes = bytes.max(self.tuning.read_bytes);
                let is_hinted = read.is_hinted && stays;
                self.read(Read { is_hinted, place, expected, short_reads, ..read }, bytes).map(|()| None)
            }
            Scanned::GoOn(expected, position, _) => {
                // The offset lies in a gap at the segment's end, so it is answered by the next segment's first batch.
                let Some(next) = partition.segment_after(read.place.segment) else {
                    return Err(self.damaged(read.partition, Place { position, ..read.place }, expected));
                };
                let place = Place { segment: next, position: 0 };
                if let Some(batches) = partition.cached_from(next, visible_end, 0) {
                    return Ok(Some(self.lend(read.partition, visible_end, batches)));
                }
                self.read(Read { place, expected: next, short_reads: 0, ..read }, self.tuning.read_bytes)
                    .map(|()| None)
            }
        }
    }
}

impl Read {
    fn file(&self) -> SegmentFile {
        SegmentFile { partition: self.partition, base: self.place.segment }
    }
}

impl Shard {
    /// No batch is where files of an index said: they are wrong, or the log is damaged. Without them that shows.
    fn read_without_files(&mut self, read: Read) -> Result<(), FetchError> {
        let base = read.place.segment;
        tracing::warn!(partition = %read.partition, segment = base.get(), "no batch is where the segment's index files say; they are not used");
        let partition = self.partitions.get_mut(&read.partition).ok_or(FetchError::UnknownPartition)?;
        let segment = partition.segment(base).ok_or(FetchError::OffsetOutOfRange)?;
        segment.index.distrust();
        let place = Place { segment: base, position: 0 };
        let read = Read { is_hinted: false, place, expected: base, short_reads: 0, ..read };
        self.read(read, self.tuning.read_bytes)
    }
}

fn fetched(partition: &Partition, visible_end: Offset, batches: Vec<Slice>) -> Fetched {
    Fetched { batches, high_watermark: visible_end, log_start: partition.log_start }
}

/// A look at a piece of a segment.
struct Scan<'a> {
    read: &'a Read,
    partition: &'a Partition,
    visible_end: Offset,
    checks: bool,
    /// The batches before the offset asked for, for the index.
    passed: Vec<Noted>,
}

impl Scan<'_> {
    /// Looks for batches from the read's offset on in the blocks it got.
    fn batches(&mut self, blocks: &Slice, segment_end: u64) -> Scanned {
        let read = self.read;
        let lead = usize::try_from(read.place.position % BLOCK_BYTES as u64).expect("less than a block");
        let in_segment =
            usize::try_from(segment_end.saturating_sub(read.place.position)).unwrap_or(usize::MAX);
        let available = blocks.len().saturating_sub(lead);
        let start = lead.min(blocks.len());
        let bytes = blocks.narrow(start..start + available.min(in_segment));
        let mut batches = Batches::new(&bytes);
        let mut found: Vec<Slice> = Vec::new();
        let (mut size, mut expected) = (0, read.expected);
        let position = |at: usize| read.place.position + at as u64;
        while let Some(next) = batches.next() {
            let (at, batch) = match next {
                Ok((at, batch)) if self.belongs(&batch, expected) => (at, batch),
                Err(error) if error.is_truncated() && found.is_empty() => {
                    let is_end_of_file = available < in_segment && !blocks.len().is_multiple_of(BLOCK_BYTES);
                    return if is_end_of_file {
                        Scanned::Damaged(expected, position(batches.position()))
                    } else {
                        more(read, expected, &batches, bytes.len())
                    };
                }
                Ok((at, _)) if found.is_empty() => return Scanned::Damaged(expected, position(at)),
                Err(_) if found.is_empty() => {
                    return Scanned::Damaged(expected, position(batches.position()));
                }
                _ => break,
            };
            let length = batch.bytes().len();
            let first = std::mem::replace(&mut expected, Offset(batch.last_offset().get() + 1));
            if batch.last_offset() < read.offset {
                self.pass(at, &batch);
                continue;
            }
            let fits = found.is_empty() || size + length <= read.bytes_max;
            if !fits || batch.last_offset() >= self.visible_end {
                break;
            }
            if self.checks && batch.check_crc().is_err() {
                if found.is_empty() {
                    return Scanned::Damaged(first, position(at));
                }
                break;
            }
            size += length;
            found.push(bytes.narrow(at..at + length));
        }
        if found.is_empty() { more(read, expected, &batches, bytes.len()) } else { Scanned::Found(found) }
    }

    /// Whether the batch is the one that was written here, as far as its header shows. Offset and epoch lie outside the
    /// checksum, so that a flipped bit in them, or a batch that a misdirected write left here, shows in nothing else.
    fn belongs(&self, batch: &BatchView<'_>, expected: Offset) -> bool {
        let (base, last) = (batch.base_offset(), batch.last_offset());
        let next_segment = self.partition.segment_after(self.read.place.segment);
        let is_in_place = base == expected
            && last >= base
            && last < self.partition.end
            && next_segment.is_none_or(|next| last < next);
        let has_its_epoch = self.partition.epoch_of(base) == Some(batch.leader_epoch());
        is_in_place && has_its_epoch || !self.checks
    }

    /// Remembers a batch before the offset asked for, if it is whole: its time is believed from then on.
    fn pass(&mut self, at: usize, batch: &BatchView<'_>) {
        let position = self.read.place.position + at as u64;
        let known = self.partition.segments.binary_search_by_key(&self.read.place.segment, |s| s.base);
        let known = known.map_or(0, |i| self.partition.segments[i].index.end());
        if position < known || batch.check_crc().is_err() {
            return;
        }
        self.passed.push(Noted {
            base: batch.base_offset(),
            position,
            length: u32::try_from(batch.bytes().len()).expect("a batch's length field has 31 bits"),
            max_timestamp: batch.max_timestamp(),
        });
    }
}

/// Goes on where the batches read so far end, with enough bytes for the one that was cut off.
fn more(read: &Read, expected: Offset, batches: &Batches<'_>, read_bytes: usize) -> Scanned {
    let position = read.place.position + batches.position() as u64;
    let needed = match BatchView::parse(batches.rest()) {
        Err(crate::format::batch::Error::Truncated { needed, .. }) => needed,
        _ => HEADER_BYTES,
    };
    // A length that the file cannot hold is damage, and not a reason to read without end.
    if needed > crate::limits::READ_BYTES_MAX || (batches.position() == 0 && needed <= read_bytes) {
        return Scanned::Damaged(expected, position);
    }
    Scanned::GoOn(expected, position, needed)
}
