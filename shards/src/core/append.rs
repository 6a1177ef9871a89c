//! Appending: a batch is judged, given its offsets and place, copied once, and published.

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::effect::{Acks, AppendError, Effect, Millis, Tag};
use super::extents::{Content, Place};
use super::partition::{Cached, Large, Partition, TailBatch, Waiting};
use super::producers::{Numbered, Verdict};
use super::rules::Rule;
use super::segment::{Noted, Segment};
use super::shard::{LogStartWaiting, Shard};
use crate::format::batch::{BatchView, HEADER_BYTES, TimestampType, assigned_header};
use crate::format::journal::{BatchEntry, ENTRY_ALIGN, ENTRY_HEADER_BYTES, Entry, fragments};
use crate::limits::{BLOCK_BYTES, SEGMENT_BYTES_MAX};
use crate::types::{Generation, Offset, PartitionId, Timestamp};

/// A batch with its place, ready to be staged.
struct Placed<'a> {
    view: BatchView<'a>,
    header: [u8; HEADER_BYTES],
    entry: BatchEntry,
    numbered: Numbered,
    end: Offset,
    place: Place,
    append_time: Millis,
}

impl Shard {
    /// Appends one batch, exactly as its producer sent it, and answers through [`Effect::Appended`] when `acks` is met.
    ///
    /// An error is the answer: nothing was appended and no effect follows, but [`Effect::Room`] after
    /// [`AppendError::Busy`].
    pub fn append(
        &mut self,
        now: Millis,
        id: PartitionId,
        batch: &[u8],
        acks: Acks,
        tag: Tag,
    ) -> Result<(), AppendError> {
        if self.stopped.is_some() {
            return Err(AppendError::Stopped);
        }
        let partition = self.partitions.get_mut(&id).ok_or(AppendError::UnknownPartition)?;
        if partition.stopped_from.is_some() {
            return Err(AppendError::PartitionStopped);
        }
        let view =
            BatchView::exactly_one(batch, partition.config.batch_bytes_max).map_err(AppendError::Invalid)?;
        if view.bytes().len() as u64 > partition.config.segment_bytes {
            return Err(AppendError::LargerThanSegment);
        }
        view.check_crc().map_err(AppendError::Invalid)?;
        let numbered = numbered(&view);
        let gaps_are_refused = self.rules.hold(Rule::sequence_gaps_are_refused);
        if view.has_producer()
            && let Verdict::Duplicate(known) = partition.producers.check(&numbered, gaps_are_refused)?
        {
            let end = Offset(known.last_offset.get() + 1);
            self.counts.duplicates += 1;
            self.await_acks(id, acks, Waiting { tag, base: known.base_offset, end, append_time: -1 }, true);
            return Ok(());
        }
        let placed = place(partition, view, numbered, now)?;
        let roll = roll(partition, placed.entry.length.into(), now);
        let waiting =
            Waiting { tag, base: placed.entry.base_offset, end: placed.end, append_time: placed.append_time };
        if self.goes_directly(&placed) {
            self.append_large(&placed, now)?
        } else {
            self.append_small(&placed, now)?;
            let is_large = placed.view.bytes().len() >= self.tuning.large_batch_bytes;
            self.counts.large_by_value += u64::from(is_large);
        }
        self.counts.rolled_by_size += u64::from(roll == Roll::Full);
        self.counts.rolled_by_time += u64::from(roll == Roll::Old);
        self.quiet_since = now;
        self.await_acks(id, acks, waiting, false);
        Ok(())
    }

    /// Deletes the records before `offset`; answered through [`Effect::RecordsDeleted`] when that is durable.
    pub fn delete_records(&mut self, id: PartitionId, offset: Offset, tag: Tag) -> Result<(), AppendError> {
        if self.stopped.is_some() {
            return Err(AppendError::Stopped);
        }
        let partition = self.partitions.get(&id).ok_or(AppendError::UnknownPartition)?;
        if offset > partition.high_watermark {
            return Err(AppendError::OffsetOutOfRange);
        }
        let entry = Entry::LogStart(id, offset);
        if self.rules.hold(Rule::log_start_is_journaled) {
            self.reserve(entry.encoded_bytes())?;
            let staged = self.journal.stage(&entry, offset, &[]);
            self.log_starts.push(LogStartWaiting { group: staged.group, tag, offset });
        } else {
            self.effects.push(Effect::RecordsDeleted { tag, result: Ok(offset) });
        }
        let partition = self.partitions.get_mut(&id).expect("found above");
        partition.log_start = partition.log_start.max(offset);
        Ok(())
    }

    fn await_acks(&mut self, id: PartitionId, acks: Acks, waiting: Waiting, is_duplicate: bool) {
        let acks = if cfg!(feature = "planted-bug-ack-before-flush") { Acks::Leader } else { acks };
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let large_hold_back = self.rules.hold(Rule::leader_ack_waits_for_large)
            || partition.tail.back().is_some_and(|b| b.large == Some(Large::Writing));
        let reached = match acks {
            Acks::Leader if large_hold_back => partition.written_end(),
            Acks::Leader => partition.end,
            Acks::All => partition.high_watermark,
        };
        let duplicate_at_once = is_duplicate && !self.rules.hold(Rule::duplicates_wait);
        if waiting.end <= reached || duplicate_at_once {
            self.answer_append(id, waiting);
        } else {
            partition.wait(acks, waiting);
        }
    }

    /// Makes room in the open group, closing a full one if that is allowed now.
    pub(super) fn reserve(&mut self, bytes: usize) -> Result<(), AppendError> {
        if self.journal.reserve(bytes) {
            return Ok(());
        }
        // Also an empty group, which a refused append may have left with too little of its chunk.
        if self.journal.can_close() {
            self.close_group();
            if self.journal.reserve(bytes) {
                return Ok(());
            }
        }
        Err(self.is_busy())
    }

    /// Whether the batch goes straight to its segment: it is large, and its commit does not flush too many segments yet.
    fn goes_directly(&self, placed: &Placed<'_>) -> bool {
        let bytes = placed.view.bytes().len();
        if bytes > self.journal.payload_bytes_max() {
            return true;
        }
        let file =
            super::effect::SegmentFile { partition: placed.entry.partition, base: placed.place.segment };
        bytes >= self.tuning.large_batch_bytes
            && fragments(placed.place.position, placed.entry.length).is_some()
            && (self.large_segments.contains(&file)
                || self.large_segments.len() < self.tuning.large_segments_per_commit)
    }

    fn append_small(&mut self, placed: &Placed<'_>, now: Millis) -> Result<(), AppendError> {
        let entry = Entry::Small(placed.entry, placed.view.bytes());
        self.reserve(entry.encoded_bytes())?;
        let staged = self.journal.stage(&entry, placed.end, &[&placed.header, placed.view.body()]);
        let partition = self.partitions.get_mut(&placed.entry.partition).expect("its batch was just placed");
        let bytes = staged.payload;
        partition.cache.push_back(Cached {
            base: placed.entry.base_offset,
            end: placed.end,
            place: placed.place,
            bytes: bytes.clone(),
            is_staged: true,
        });
        let content =
            Content::Bytes { bytes, chunk: Some(staged.chunk), whole_batch: Some(placed.entry.base_offset) };
        partition.extents.push(placed.place, placed.entry.length.into(), content, Some(placed.end));
        record(partition, placed, staged.group, None, now);
        if partition.extents.bytes_waiting() >= self.tuning.lazy_write_bytes {
            self.unsettled.insert(placed.entry.partition);
        }
        Ok(())
    }

    fn append_large(&mut self, placed: &Placed<'_>, now: Millis) -> Result<(), AppendError> {
        let id = placed.entry.partition;
        let length = placed.view.bytes().len();
        let (head, tail) =
            fragments(placed.place.position, placed.entry.length).expect("a large batch has whole blocks");
        let entry_bytes = (ENTRY_HEADER_BYTES + head + tail).next_multiple_of(ENTRY_ALIGN);
        self.reserve(entry_bytes)?;
        let lead = usize::try_from(placed.place.position % BLOCK_BYTES as u64).expect("less than a block");
        let Some(mut buffer) = self.take_memory(lead + length) else {
            return Err(self.is_busy());
        };
        buffer[lead..lead + HEADER_BYTES].copy_from_slice(&placed.header);
        buffer[lead + HEADER_BYTES..lead + length].copy_from_slice(placed.view.body());
        let batch = buffer.freeze().narrow(lead..lead + length);
        let blocks = batch.narrow(head..length - tail);
        let digest = digest(self.journal.generation(), &blocks);
        let entry =
            Entry::Large { batch: placed.entry, digest, head: &batch[..head], tail: &batch[length - tail..] };
        self.journal.unsettle();
        let staged = self.journal.stage(&entry, placed.end, &entry.payload());
        let partition = self.partitions.get_mut(&id).expect("its batch was just placed");
        let fragment = |range| Content::Bytes {
            bytes: staged.payload.narrow(range),
            chunk: Some(staged.chunk),
            whole_batch: None,
        };
        let base = placed.entry.base_offset;
        let Place { segment, position } = placed.place;
        let at = |bytes: usize| Place { segment, position: position + bytes as u64 };
        if head > 0 {
            partition.extents.push(at(0), head as u64, fragment(0..head), None);
        }
        let blocks_end = (tail == 0).then_some(placed.end);
        let blocks_length = blocks.len() as u64;
        partition.extents.push(at(head), blocks_length, Content::Blocks { blocks, batch: base }, blocks_end);
        if tail > 0 {
            partition.extents.push(
                at(length - tail),
                tail as u64,
                fragment(head..head + tail),
                Some(placed.end),
            );
        }
        let (end, place) = (placed.end, placed.place);
        partition.cache.push_back(Cached { base, end, place, bytes: batch, is_staged: false });
        record(partition, placed, staged.group, Some(Large::Writing), now);
        self.large_segments.insert(partition.file(segment));
        self.digested_bytes += length as u64;
        self.cache_order.push_back((id, base));
        self.unsettled.insert(id);
        Ok(())
    }
}

/// The digest of a large batch's whole blocks, keyed with the opening's secret so that no client can aim at it.
pub(super) fn digest(generation: Generation, blocks: &[u8]) -> [u8; 16] {
    xxh3_128_with_seed(blocks, generation.get()).to_le_bytes()
}

fn numbered(view: &BatchView<'_>) -> Numbered {
    Numbered {
        id: view.producer_id(),
        epoch: view.producer_epoch(),
        base_sequence: view.base_sequence(),
        last_sequence: view.last_sequence(),
    }
}

/// Gives a batch its offsets and its place, without changing anything yet.
fn place<'a>(
    partition: &Partition,
    view: BatchView<'a>,
    numbered: Numbered,
    now: Millis,
) -> Result<Placed<'a>, AppendError> {
    let base = partition.end;
    let records = i64::from(view.last_offset_delta()) + 1;
    let end = base.checked_add(records).ok_or(AppendError::OffsetOutOfRange)?;
    let append_time = (partition.config.timestamp_type == TimestampType::LogAppendTime).then_some(now);
    let header = assigned_header(&view, base, partition.epoch, append_time.map(Timestamp));
    let length = u32::try_from(view.bytes().len()).expect("a batch's length field has 31 bits");
    let place = next_place(partition, length.into(), now);
    let entry = BatchEntry {
        partition: partition.id,
        epoch: partition.epoch,
        base_offset: base,
        last_offset: Offset(end.get() - 1),
        segment: place.segment,
        position: place.position,
        length,
        producer_id: numbered.id,
        producer_epoch: numbered.epoch,
        base_sequence: numbered.base_sequence.get(),
        max_timestamp: append_time.unwrap_or(view.max_timestamp().get()),
    };
    Ok(Placed { view, header, entry, numbered, end, place, append_time: append_time.unwrap_or(-1) })
}

/// Where the next batch goes: behind the last one, or to the start of a new segment.
fn next_place(partition: &Partition, length: u64, now: Millis) -> Place {
    let fresh = Place { segment: partition.end, position: 0 };
    let Some(active) = partition.segments.last() else { return fresh };
    if roll(partition, length, now) == Roll::No { active.end_place() } else { fresh }
}

/// Whether a batch begins a new segment behind one that holds batches, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Roll {
    No,
    Full,
    Old,
}

fn roll(partition: &Partition, length: u64, now: Millis) -> Roll {
    let Some(active) = partition.segments.last().filter(|s| s.length > 0) else { return Roll::No };
    if active.length + length > partition.config.segment_bytes.min(SEGMENT_BYTES_MAX) {
        Roll::Full
    } else if now.saturating_sub(active.created) >= partition.config.segment_ms {
        Roll::Old
    } else {
        Roll::No
    }
}

/// Notes a staged batch in its log.
fn record(
    partition: &mut Partition,
    placed: &Placed<'_>,
    group: crate::types::JournalSequence,
    large: Option<Large>,
    now: Millis,
) {
    let entry = &placed.entry;
    if partition.segments.last().is_none_or(|s| s.base != placed.place.segment) {
        partition.segments.push(Segment::new(placed.place.segment, now));
    }
    let segment = partition.segments.last_mut().expect("just made sure");
    segment.length = placed.place.position + u64::from(entry.length);
    segment.max_timestamp = segment.max_timestamp.max(entry.max_timestamp);
    segment.index.appended(&Noted {
        base: entry.base_offset,
        position: placed.place.position,
        length: entry.length,
        max_timestamp: Timestamp(entry.max_timestamp),
    });
    if partition.epochs.last().is_none_or(|(epoch, _)| *epoch < entry.epoch) {
        partition.epochs.push((entry.epoch, entry.base_offset));
    }
    if placed.view.has_producer() {
        partition.producers.note(&placed.numbered, entry.base_offset, entry.last_offset, now);
    }
    partition.push_tail(TailBatch {
        base: entry.base_offset,
        end: placed.end,
        group,
        numbered: placed.numbered,
        appended_at: now,
        large,
    });
}
