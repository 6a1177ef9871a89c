//! Fetching: whole batches from memory where they are, from the disk where they are not.
//!
//! A read begins where a batch begins and skips batches before the offset asked for. Each batch from disk is checked by
//! its checksum before it is served. The cache reaches back at least to what the disk does not have yet, so a disk read
//! never meets bytes that are still to be written.

use super::effect::{Effect, FetchError, Fetched, Operation, OperationError, Tag};
use super::extents::Place;
use super::partition::Partition;
use super::rules::Rule;
use super::shard::{Purpose, Shard};
use crate::format::batch::{Batches, HEADER_BYTES};
use crate::limits::BLOCK_BYTES;
use crate::memory::{AlignedBuffer, Slice};
use crate::types::{Offset, PartitionId};

/// A fetch that waits for the disk.
pub(super) struct Read {
    tag: Tag,
    partition: PartitionId,
    offset: Offset,
    bytes_max: usize,
    /// Where the bytes read begin, at a batch.
    place: Place,
}

/// What a piece of a segment gave.
enum Scanned {
    /// Batches to serve.
    Found(Vec<Slice>),
    /// Nothing yet; go on at this position with a read of at least so many bytes.
    GoOn(u64, usize),
    /// A batch that is not what was written.
    Damaged,
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
        if let Some(cached) = partition.cached_from(offset) {
            let mut batches = Vec::new();
            let mut bytes = 0;
            for batch in cached.take_while(|c| c.end <= visible_end) {
                if !batches.is_empty() && bytes + batch.bytes.len() > bytes_max {
                    break;
                }
                bytes += batch.bytes.len();
                batches.push(batch.bytes.clone());
            }
            return Ok(Some(fetched(partition, visible_end, batches)));
        }
        let place = partition.place_before(offset).ok_or(FetchError::Damaged)?;
        let read = Read { tag, partition: id, offset, bytes_max, place };
        let bytes = self.tuning.read_bytes.max(bytes_max.min(crate::limits::READ_BYTES_MAX));
        self.read(read, bytes)?;
        Ok(None)
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
        let operation = self.operations.begin(Purpose::Read);
        let file = super::effect::SegmentFile { partition: read.partition, base: read.place.segment };
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
            (Err(error), _) => Err(FetchError::Failed(error)),
            (Ok(()), None) => panic!("a read gives its buffer back"),
            (Ok(()), Some(buffer)) => self.scanned(read, buffer.freeze()),
        };
        match answer {
            Ok(None) => {}
            Ok(Some(fetched)) => self.effects.push(Effect::Fetched { tag, result: Ok(fetched) }),
            Err(error) => self.effects.push(Effect::Fetched { tag, result: Err(error) }),
        }
    }

    fn scanned(&mut self, read: Read, bytes: Slice) -> Result<Option<Fetched>, FetchError> {
        let visible_end = self.visible_end(read.partition).ok_or(FetchError::UnknownPartition)?;
        let checks = self.rules.hold(Rule::reads_are_checked);
        let partition = self.partitions.get(&read.partition).ok_or(FetchError::UnknownPartition)?;
        let segment_end = partition.segment_end(read.place.segment).ok_or(FetchError::OffsetOutOfRange)?;
        match scan(&read, &bytes, segment_end, visible_end, checks) {
            Scanned::Found(batches) => Ok(Some(fetched(partition, visible_end, batches))),
            Scanned::Damaged => Err(FetchError::Damaged),
            Scanned::GoOn(position, bytes) if position < segment_end => {
                let place = Place { position, ..read.place };
                let bytes = bytes.max(self.tuning.read_bytes);
                self.read(Read { place, ..read }, bytes).map(|()| None)
            }
            Scanned::GoOn(..) => {
                // The offset lies in a gap at the segment's end, so it is answered by the next segment's first batch.
                let next = partition.segment_after(read.place.segment).ok_or(FetchError::Damaged)?;
                let place = Place { segment: next, position: 0 };
                if let Some(first) = partition.cached_from(next) {
                    let batches = first.take_while(|c| c.end <= visible_end).take(1).map(|c| c.bytes.clone());
                    return Ok(Some(fetched(partition, visible_end, batches.collect())));
                }
                self.read(Read { place, ..read }, self.tuning.read_bytes).map(|()| None)
            }
        }
    }
}

fn fetched(partition: &Partition, visible_end: Offset, batches: Vec<Slice>) -> Fetched {
    Fetched { batches, high_watermark: visible_end, log_start: partition.log_start }
}

/// Looks for batches from the read's offset on in the blocks it got.
fn scan(read: &Read, blocks: &Slice, segment_end: u64, visible_end: Offset, checks: bool) -> Scanned {
    let lead = usize::try_from(read.place.position % BLOCK_BYTES as u64).expect("less than a block");
    let in_segment = usize::try_from(segment_end - read.place.position).unwrap_or(usize::MAX);
    let available = blocks.len().saturating_sub(lead);
    let bytes = blocks.narrow(lead.min(blocks.len())..lead.min(blocks.len()) + available.min(in_segment));
    let mut batches = Batches::new(&bytes);
    let mut found: Vec<Slice> = Vec::new();
    let mut size = 0;
    while let Some(next) = batches.next() {
        let (at, batch) = match next {
            Ok(next) => next,
            Err(error) if error.is_truncated() && found.is_empty() => {
                let is_end_of_file = available < in_segment && blocks.len() % BLOCK_BYTES != 0;
                return if is_end_of_file { Scanned::Damaged } else { more(read, &batches, bytes.len()) };
            }
            Err(error) if error.is_truncated() => break,
            Err(_) if found.is_empty() => return Scanned::Damaged,
            Err(_) => break,
        };
        let length = batch.bytes().len();
        if batch.last_offset() < read.offset {
            continue;
        }
        let fits = found.is_empty() || size + length <= read.bytes_max;
        if !fits || batch.last_offset() >= visible_end {
            break;
        }
        if checks && batch.check_crc().is_err() {
            if found.is_empty() {
                return Scanned::Damaged;
            }
            break;
        }
        size += length;
        found.push(bytes.narrow(at..at + length));
    }
    if found.is_empty() { more(read, &batches, bytes.len()) } else { Scanned::Found(found) }
}

/// Goes on where the batches read so far end, with enough bytes for the one that was cut off.
fn more(read: &Read, batches: &Batches<'_>, read_bytes: usize) -> Scanned {
    let position = read.place.position + batches.position() as u64;
    let rest = batches.rest();
    let needed = match crate::format::batch::BatchView::parse(rest) {
        Err(crate::format::batch::Error::Truncated { needed, .. }) => needed,
        _ => HEADER_BYTES,
    };
    // A length that the file cannot hold is damage, and not a reason to read without end.
    if needed > crate::limits::READ_BYTES_MAX || (batches.position() == 0 && needed <= read_bytes) {
        return Scanned::Damaged;
    }
    Scanned::GoOn(position, needed)
}
