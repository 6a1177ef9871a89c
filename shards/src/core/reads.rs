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
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    tag: Tag,
    partition: PartitionId,
    offset: Offset,
    bytes_max: usize,
    /// Whether the fetch continues another one.
    is_in_order: bool,
    /// Whether the bytes were asked for before this fetch came, and may lack what it wants.
    may_be_old: bool,
    /// Where files of an index said that a batch begins, until one was found there.
    is_hinted: bool,
    /// Where the bytes read begin, at a batch.
    place: Place,
    /// The first offset of the batch there.
    expected: Offset,
    /// Reads of this place that gave too little to go on.
    short_reads: u32,
}

/// A disk read under way, and who waits for it: nobody, if it is ahead of its consumer.
pub(super) struct Reading {
    partition: PartitionId,
    /// Where it begins, at a batch.
    place: Place,
    waiting: Vec<Read>,
    /// What it takes of the memory for reading ahead.
    ahead_bytes: usize,
}

impl Read {
    /// The log.
    pub(super) fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Where it began.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// What its consumer takes at a time. Bytes.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Whether its fetch continues another one.
    pub(super) fn is_in_order(&self) -> bool {
        self.is_in_order
    }
}

/// What a piece of a segment gave.
enum Scanned {
    /// Batches to serve, the offset behind them, and the position.
    Found(Vec<Slice>, Offset, u64),
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
        let wanted = Wanted { tag, partition: id, offset, bytes_max };
        if let Some(cursor) = self.cursors.get(id, offset) {
            return self.fetch_in_order(wanted, cursor);
        }
        self.fetch_from_disk(wanted)?;
        Ok(None)
    }

    /// Goes on where another fetch ended: from the piece that was read ahead, or with a read of its own.
    fn fetch_in_order(&mut self, wanted: Wanted, place: Place) -> Result<Option<Fetched>, FetchError> {
        let Wanted { tag, partition, offset, bytes_max } = wanted;
        let read = Read {
            tag,
            partition,
            offset,
            bytes_max,
            is_in_order: true,
            may_be_old: false,
            is_hinted: false,
            place,
            expected: offset,
            short_reads: 0,
        };
        if let Some(bytes) = self.aheads.take(partition, place) {
            self.counts.reads_ahead_used += 1;
            return self.scanned(Read { may_be_old: true, ..read }, bytes);
        }
        self.read_or_join(read).map(|()| None)
    }

    /// Reads what is wanted, once the index of its segment is here.
    fn fetch_from_disk(&mut self, wanted: Wanted) -> Result<(), FetchError> {
        let Wanted { tag, partition: id, offset, bytes_max } = wanted;
        let partition = self.partitions.get(&id).ok_or(FetchError::UnknownPartition)?;
        let Some(base) = partition.segment_at(offset).map(|segment| segment.base) else {
            return Err(self.damaged(id, Place { segment: offset, position: 0 }, offset));
        };
        let file = partition.file(base);
        // Also at the segment's first batch: what a reader passes while its index is away is not learnt.
        if self.waits_for_index(file, Wait::Fetch(wanted)) {
            return Ok(());
        }
        let partition = self.partitions.get(&id).expect("just seen");
        let (place, expected) = partition.place_before(offset).ok_or(FetchError::Damaged)?;
        let is_hinted = partition.segment_at(offset).is_some_and(|s| s.index.is_from_files());
        let is_hinted = is_hinted && place.position > 0;
        let read = Read {
            tag,
            partition: id,
            offset,
            bytes_max,
            is_in_order: false,
            may_be_old: false,
            is_hinted,
            place,
            expected,
            short_reads: 0,
        };
        self.read_or_join(read)
    }

    /// How much is read for a fetch at first. Bytes.
    pub(super) fn read_bytes(&self, bytes_max: usize) -> usize {
        self.tuning.read_bytes.max(bytes_max.min(crate::limits::FETCH_READ_BYTES_MAX))
    }

    /// Waits for a read of the same place that is under way, or begins one.
    fn read_or_join(&mut self, read: Read) -> Result<(), FetchError> {
        let under_way = self.reading.get(&(read.partition, read.place)).copied();
        if let Some(reading) = under_way.and_then(|operation| self.reads.get_mut(&operation)) {
            reading.waiting.push(Read { may_be_old: true, ..read });
            self.counts.reads_joined += 1;
            return Ok(());
        }
        self.read(read, self.read_bytes(read.bytes_max))
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
        let lead = lead_of(read.place);
        let length = (lead + bytes).next_multiple_of(BLOCK_BYTES);
        let mut buffer = self.take_memory(length).ok_or(FetchError::Busy)?;
        buffer.set_length(length);
        let read = Read { may_be_old: false, ..read };
        self.begin_read(read.partition, read.place, vec![read], buffer);
        Ok(())
    }

    /// Asks for the blocks from the one that `place` lies in.
    pub(super) fn begin_read(
        &mut self,
        partition: PartitionId,
        place: Place,
        waiting: Vec<Read>,
        buffer: AlignedBuffer,
    ) {
        let file = SegmentFile { partition, base: place.segment };
        let operation = self.operations.begin(Purpose::Read(file));
        let position = place.position - lead_of(place) as u64;
        let ahead_bytes = if waiting.is_empty() { buffer.capacity() } else { 0 };
        self.reads.insert(operation, Reading { partition, place, waiting, ahead_bytes });
        self.reading.insert((partition, place), operation);
        self.effects.push(Effect::ReadSegment { operation, file, position, buffer });
    }

    pub(super) fn read_completed(
        &mut self,
        operation: Operation,
        result: Result<(), OperationError>,
        buffer: Option<AlignedBuffer>,
    ) {
        let Reading { partition, place, waiting, ahead_bytes } =
            self.reads.remove(&operation).expect("a read completes once");
        if self.reading.get(&(partition, place)) == Some(&operation) {
            self.reading.remove(&(partition, place));
        }
        let bytes = buffer.expect("a read gives its buffer back").freeze();
        let unasked = (waiting.is_empty() && result.is_ok()).then(|| bytes.clone());
        self.read_ahead_ended(partition, place, ahead_bytes, unasked);
        for read in waiting {
            let answer = match result {
                Err(error) => {
                    let (file, error) = (read.file(), FetchError::Failed(error));
                    self.note_unreadable(file, read.place.position, read.expected, error);
                    Err(error)
                }
                Ok(()) => self.scanned(read, bytes.clone()),
            };
            if let Some(result) = answer.transpose() {
                self.effects.push(Effect::Fetched { tag: read.tag, result });
            }
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
        let mut scan = Scan { read: &read, partition, visible_end, checks, noted: Vec::new() };
        let scanned = scan.batches(&bytes, segment_end);
        let noted = scan.noted;
        if let Some(segment) = partition.segment(read.place.segment) {
            noted.iter().for_each(|batch| segment.index.passed(batch));
        }
        let file = partition.file(read.place.segment);
        if !noted.is_empty() {
            self.index_learnt(file);
        }
        let partition = self.partitions.get(&read.partition).expect("just seen");
        match scanned {
            Scanned::Found(batches, end, position) => {
                let answer = fetched(partition, visible_end, batches);
                self.served(&read, &bytes, end, position);
                Ok(Some(answer))
            }
            Scanned::Damaged(..) if read.may_be_old => {
                self.read(read, self.read_bytes(read.bytes_max)).map(|()| None)
            }
            // A batch that was where the files said clears them of what lies behind it.
            Scanned::Damaged(_, position) if read.is_hinted && position == read.place.position => {
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

/// How far inside its block a place lies. Bytes.
pub(super) fn lead_of(place: Place) -> usize {
    usize::try_from(place.position % BLOCK_BYTES as u64).expect("less than a block")
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
    /// Whole batches that the index does not know.
    noted: Vec<Noted>,
}

impl Scan<'_> {
    /// Looks for batches from the read's offset on in the blocks it got.
    fn batches(&mut self, blocks: &Slice, segment_end: u64) -> Scanned {
        let read = self.read;
        let lead = lead_of(read.place);
        let in_segment =
            usize::try_from(segment_end.saturating_sub(read.place.position)).unwrap_or(usize::MAX);
        let available = blocks.len().saturating_sub(lead);
        let start = lead.min(blocks.len());
        let bytes = blocks.narrow(start..start + available.min(in_segment));
        let mut batches = Batches::new(&bytes);
        let mut found: Vec<Slice> = Vec::new();
        let (mut size, mut expected) = (0, read.expected);
        let position = |at: usize| read.place.position + at as u64;
        let mut end = (read.offset, 0);
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
            end = (expected, at + length);
            if self.checks {
                self.note(at, &batch);
            }
        }
        if found.is_empty() {
            return more(read, expected, &batches, bytes.len());
        }
        Scanned::Found(found, end.0, read.place.position + end.1 as u64)
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
        if self.is_news(at) && batch.check_crc().is_ok() {
            self.note(at, batch);
        }
    }

    /// Remembers a batch whose checksum is right.
    fn note(&mut self, at: usize, batch: &BatchView<'_>) {
        if !self.is_news(at) {
            return;
        }
        self.noted.push(Noted {
            base: batch.base_offset(),
            position: self.read.place.position + at as u64,
            length: u32::try_from(batch.bytes().len()).expect("a batch's length field has 31 bits"),
            max_timestamp: batch.max_timestamp(),
        });
    }

    /// Whether the segment's index does not know the batch there.
    fn is_news(&self, at: usize) -> bool {
        let segment = self.partition.segment_at(self.read.place.segment);
        segment.is_none_or(|segment| self.read.place.position + at as u64 >= segment.index.end())
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
