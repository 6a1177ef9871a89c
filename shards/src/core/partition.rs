//! One log: its offsets, watermarks, producers and epochs, its newest batches in memory, and who waits for what.
//!
//! ```text
//!   log start      flushed           high watermark        end
//!   | on disk, in a  | durable: in the   | staged: survives  |
//!   | manifest       | journal           | the process       |
//! ```
//!
//! Invariants: the four marks never cross and never move back; a batch leaves `tail` only when a manifest covers it and
//! consumers may see it; `cache` has no gap and reaches back at least to what is not written yet, and on to the
//! end, or to where batches were given up.
//! The partition emits no effect of its own: what became due is handed to the shard.

use std::collections::{BTreeSet, VecDeque};

use super::effect::{Acks, Millis, Operation, SegmentFile, Tag};
use super::extents::{Boundary, Extents, Place};
use super::producers::{Numbered, Producers};
use super::segment::Segment;
use crate::format::batch::TimestampType;
use crate::format::manifest;
use crate::memory::Slice;
use crate::types::{JournalSequence, LeaderEpoch, Offset, PartitionId, Timestamp};

/// What a topic's settings say of each of its logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// A segment is rolled before it grows beyond this. Bytes.
    pub segment_bytes: u64,
    /// A segment is rolled when its first batch is older than this. Milliseconds.
    pub segment_ms: Millis,
    /// The largest batch accepted. Bytes.
    pub batch_bytes_max: usize,
    /// Whether batches keep their producers' times or get the time of their append.
    pub timestamp_type: TimestampType,
    /// A producer that appends nothing for so long is forgotten. Milliseconds.
    pub producer_expiration_ms: Millis,
}

/// A log of this shard.
pub struct Partition {
    /// Which one.
    pub id: PartitionId,
    /// Its topic's settings.
    pub config: Config,
    /// The epoch stamped into its batches.
    pub epoch: LeaderEpoch,
    /// The first offset that clients see.
    pub log_start: Offset,
    /// The offset behind the last batch.
    pub end: Offset,
    /// The offset behind the last durable batch: what consumers see ends here.
    pub high_watermark: Offset,
    /// Set when a write failed: batches from this offset on are not acknowledged any more.
    pub stopped_from: Option<Offset>,
    /// Whether what the segments hold can be trusted no further: no manifest moves this log any more.
    pub is_frozen: bool,
    /// The last batch of a run in reserved memory: up to it, batches leave the cache when they are on disk.
    pub drop_when_written: Option<Offset>,
    /// Up to where a checkpoint, or whoever needs memory, wants the log on disk.
    pub lazy_target: Option<Offset>,
    /// Where each leader epoch begins.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
    /// The live producers.
    pub producers: Producers,
    /// The files, oldest first; the last one is appended to.
    pub segments: Vec<Segment>,
    /// What is to be written.
    pub extents: Extents,
    /// Batches that no manifest covers yet.
    pub tail: VecDeque<TailBatch>,
    /// Of these, the large ones that are not written, by base offset.
    unwritten: BTreeSet<Offset>,
    /// The newest batches' bytes.
    pub cache: VecDeque<Cached>,
    /// The log as the last committed manifest has it.
    pub flushed: Flushed,
    waiting: [VecDeque<Waiting>; 2],
    watchers: Vec<(Offset, Tag)>,
}

/// A batch on its way from the journal to a manifest.
#[derive(Clone, Debug)]
pub struct TailBatch {
    /// Its first offset.
    pub base: Offset,
    /// The offset behind its last record.
    pub end: Offset,
    /// The group that its entry lies in.
    pub group: JournalSequence,
    /// Its producer's numbering.
    pub numbered: Numbered,
    /// When it was appended.
    pub appended_at: Millis,
    /// For a large batch, how far its own write got.
    pub large: Option<Large>,
}

/// The state of a large batch's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Large {
    /// Not all of them are written.
    Writing,
    /// Written, not flushed.
    Written,
    /// Flushed.
    Flushed,
    /// Its write failed: it counts as never written, and its void entry settles it.
    Void,
}

/// A batch in memory.
#[derive(Clone, Debug)]
pub struct Cached {
    /// Its first offset.
    pub base: Offset,
    /// The offset behind its last record.
    pub end: Offset,
    /// Where it lies in the log.
    pub place: Place,
    /// Its bytes: in staging memory until they are gathered for their segment, in slab memory from then on.
    pub bytes: Slice,
    /// Whether they lie in staging memory.
    pub is_staged: bool,
}

/// How late the records of a segment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentTime {
    /// Its first offset.
    pub base: Offset,
    /// The offset behind its last record.
    pub end: Offset,
    /// No record in it is later; the last one that was may have been cut off.
    pub max_timestamp: Timestamp,
}

/// The state that a manifest has of a log.
#[derive(Clone, Debug)]
pub struct Flushed {
    /// Up to where, and the bytes of the last partial block.
    pub boundary: Boundary,
    /// The producers exactly there.
    pub producers: Producers,
}

/// Who is answered when the log gets far enough.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// The request.
    pub tag: Tag,
    /// The first offset of its batch.
    pub base: Offset,
    /// The offset behind its batch.
    pub end: Offset,
    /// The append time to report.
    pub append_time: Millis,
}

impl Partition {
    /// A log as a manifest has it, with nothing in memory. All of it is durable.
    pub fn open(part: &manifest::Partition, epoch: LeaderEpoch, config: Config) -> Partition {
        let end = Offset(part.end);
        let mut segments: Vec<_> = part.segments.iter().map(Segment::recovered).collect();
        if let Some((_, rolled)) = segments.split_last_mut() {
            // Recovery, or the checkpoint before, has cut them.
            rolled.iter_mut().for_each(|segment| segment.is_trimmed = true);
        }
        let place = segments.last().map_or(Place { segment: end, position: 0 }, Segment::end_place);
        let boundary = Boundary { end, place, fragment: part.tail_fragment.clone() };
        let producers = Producers::from_manifest(&part.producers);
        Partition {
            id: part.id(),
            config,
            epoch,
            log_start: Offset(part.log_start),
            end,
            high_watermark: end,
            stopped_from: None,
            is_frozen: false,
            drop_when_written: None,
            lazy_target: None,
            epochs: part.epochs.iter().map(manifest::Epoch::get).collect(),
            producers: producers.clone(),
            segments,
            extents: Extents::new(boundary.clone()),
            tail: VecDeque::new(),
            unwritten: BTreeSet::new(),
            cache: VecDeque::new(),
            flushed: Flushed { boundary, producers },
            waiting: [VecDeque::new(), VecDeque::new()],
            watchers: Vec::new(),
        }
    }

    /// The file of the segment at `base`.
    pub fn file(&self, base: Offset) -> SegmentFile {
        SegmentFile { partition: self.id, base }
    }

    /// The segment named by `base`.
    pub fn segment(&mut self, base: Offset) -> Option<&mut Segment> {
        let at = self.segments.binary_search_by_key(&base, |s| s.base).ok()?;
        self.segments.get_mut(at)
    }

    /// Where the bytes of the segment at `base` end, on disk or not. Bytes from its start.
    pub fn segment_end(&self, base: Offset) -> Option<u64> {
        let at = self.segments.binary_search_by_key(&base, |s| s.base).ok()?;
        Some(self.segments[at].length)
    }

    /// The segment behind the one at `base`.
    pub fn segment_after(&self, base: Offset) -> Option<Offset> {
        let at = self.segments.partition_point(|s| s.base <= base);
        self.segments.get(at).map(|s| s.base)
    }

    /// The segment whose range `offset` lies in.
    pub fn segment_at(&self, offset: Offset) -> Option<&Segment> {
        let at = self.segments.partition_point(|s| s.base <= offset);
        self.segments.get(at.checked_sub(1)?)
    }

    /// A place at or before the batch that holds `offset`, where a batch begins, and that batch's first offset.
    pub fn place_before(&self, offset: Offset) -> Option<(Place, Offset)> {
        let segment = self.segment_at(offset)?;
        let (base, position) = segment.index.floor_batch(offset);
        Some((Place { segment: segment.base, position: position.get().into() }, base))
    }

    /// The first segment that reaches beyond `from` and may hold a record not older than `timestamp`.
    pub fn segment_for_time(&self, timestamp: Timestamp, from: Offset) -> Option<&Segment> {
        let first = self.segments.partition_point(|s| s.base <= from).saturating_sub(1);
        self.segments[first..].iter().find(|s| s.max_timestamp >= timestamp.get())
    }

    /// The times of the segments that hold anything from `start` on.
    pub fn segment_times(&self, start: Offset) -> Vec<SegmentTime> {
        let ends = self.segments.iter().skip(1).map(|s| s.base).chain([self.end]);
        let times = self.segments.iter().zip(ends).map(|(segment, end)| SegmentTime {
            base: segment.base,
            end,
            max_timestamp: Timestamp(segment.max_timestamp),
        });
        times.filter(|segment| segment.end > start).collect()
    }

    /// The epoch under which the batch at `base` was appended.
    pub fn epoch_of(&self, base: Offset) -> Option<LeaderEpoch> {
        let at = self.epochs.partition_point(|(_, start)| *start <= base);
        Some(self.epochs.get(at.checked_sub(1)?)?.0)
    }

    /// Where the records of `epoch`, or of the newest epoch before it, end: Kafka's OffsetForLeaderEpoch. `None` for an
    /// epoch that is newer than this log's.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        if epoch > self.epoch || epoch < LeaderEpoch(0) {
            return None;
        }
        if epoch == self.epoch {
            return Some((epoch, self.end));
        }
        let newer = self.epochs.partition_point(|(known, _)| *known <= epoch);
        // The present epoch begins at the log's end as long as nothing was appended under it.
        let end = self.epochs.get(newer).map_or(self.end, |(_, start)| *start);
        let found = newer.checked_sub(1).map_or(epoch, |last| self.epochs[last].0);
        Some((found, end))
    }

    /// Notes a batch behind all others.
    pub fn push_tail(&mut self, batch: TailBatch) {
        if batch.large == Some(Large::Writing) {
            self.unwritten.insert(batch.base);
        }
        self.end = batch.end;
        self.tail.push_back(batch);
    }

    /// Notes how far a large batch got; gives back its group. One that was given up goes no further.
    pub fn set_large(&mut self, base: Offset, state: Large) -> Option<JournalSequence> {
        let at = self.tail.binary_search_by_key(&base, |b| b.base).ok()?;
        let batch = self.tail.get_mut(at).filter(|b| b.large != Some(Large::Void))?;
        batch.large = Some(state);
        match state {
            Large::Writing | Large::Void => self.unwritten.insert(base),
            Large::Written | Large::Flushed => self.unwritten.remove(&base),
        };
        Some(batch.group)
    }

    /// Batches from here on were never acknowledged and never will be.
    pub fn given_up_from(&self) -> Offset {
        if self.is_frozen { Offset(i64::MAX) } else { self.stopped_from.unwrap_or(Offset(i64::MAX)) }
    }

    /// Whether what is not in a manifest yet still gets there: a failed large batch alone does not hinder what lies before.
    pub fn can_be_flushed(&self) -> bool {
        !self.is_frozen && !self.extents.has_failed()
    }

    /// The newest batch boundary on disk.
    pub fn flushable_end(&self) -> Offset {
        self.extents.newest_boundary().end
    }

    /// The offset behind what survives the death of the process: before it, every large batch is written.
    pub fn written_end(&self) -> Offset {
        self.unwritten.first().copied().unwrap_or(self.end)
    }

    /// Moves the high watermark over every batch that is durable, in order. Returns whether it moved.
    pub fn advance_high_watermark(&mut self, is_durable: impl Fn(&TailBatch) -> bool) -> bool {
        let before = self.high_watermark;
        let first = self.tail.partition_point(|b| b.end <= before);
        for batch in self.tail.range(first..) {
            let stopped = self.stopped_from.is_some_and(|from| batch.base >= from);
            if stopped || !is_durable(batch) {
                break;
            }
            self.high_watermark = batch.end;
        }
        self.forget_settled();
        self.high_watermark > before
    }

    /// Who asked to be answered with `acks` and now can be, the log having got to `reached`.
    pub fn take_answered(&mut self, acks: Acks, reached: Offset) -> Vec<Waiting> {
        let waiting = &mut self.waiting[acks as usize];
        let answered = waiting.partition_point(|w| w.end <= reached);
        waiting.drain(..answered).collect()
    }

    /// Everybody who still waits for an answer.
    pub fn take_waiting(&mut self) -> Vec<Waiting> {
        self.waiting.iter_mut().flat_map(|waiting| waiting.drain(..)).collect()
    }

    /// Queues an answer, by the offset it waits for: a duplicate waits for what its original waits for.
    pub fn wait(&mut self, acks: Acks, waiting: Waiting) {
        let queue = &mut self.waiting[acks as usize];
        let at = queue.partition_point(|w| w.end <= waiting.end);
        queue.insert(at, waiting);
    }

    /// Tells `tag` when the high watermark passes `offset`.
    pub fn watch(&mut self, offset: Offset, tag: Tag) {
        self.watchers.push((offset, tag));
    }

    /// Nobody is to be told under `tag` any more.
    pub fn unwatch(&mut self, tag: Tag) {
        self.watchers.retain(|(_, t)| *t != tag);
    }

    /// The watchers whose offset the high watermark has passed.
    pub fn take_watchers(&mut self) -> Vec<Tag> {
        let reached = self.high_watermark;
        self.watchers.extract_if(.., |(offset, _)| *offset < reached).map(|(_, tag)| tag).collect()
    }

    /// All watchers.
    pub fn take_all_watchers(&mut self) -> Vec<Tag> {
        self.watchers.drain(..).map(|(_, tag)| tag).collect()
    }

    /// The log at the newest boundary that is on disk, with the producers exactly there.
    pub fn flushable(&self, live_producers: bool, stale_producers: bool) -> Flushed {
        let boundary = self.extents.newest_boundary();
        if boundary.end <= self.flushed.boundary.end {
            return self.flushed.clone();
        }
        let mut producers = self.flushed.producers.clone();
        let newer = |b: &&TailBatch| b.base >= self.flushed.boundary.end && b.end <= boundary.end;
        for batch in self.tail.iter().filter(newer) {
            let last = Offset(batch.end.get() - 1);
            producers.note(&batch.numbered, batch.base, last, batch.appended_at);
        }
        if live_producers {
            producers = self.producers.clone();
        } else if stale_producers {
            producers = self.flushed.producers.clone();
        }
        Flushed { boundary: boundary.clone(), producers }
    }

    /// A manifest with this state of the log is durable.
    pub fn commit(&mut self, flushed: Flushed) {
        self.flushed = flushed;
        self.forget_settled();
    }

    /// Forgets batches that a manifest covers and consumers may see.
    fn forget_settled(&mut self) {
        let end = self.flushed.boundary.end.min(self.high_watermark);
        while let Some(batch) = self.tail.pop_front_if(|b| b.end <= end) {
            self.unwritten.remove(&batch.base);
        }
    }

    /// The log's part of a manifest at `flushed`.
    pub fn to_manifest(&self, flushed: &Flushed) -> manifest::Partition {
        let Place { segment, position } = flushed.boundary.place;
        let covered = |s: &&Segment| s.base < segment || (s.base == segment && position > 0);
        let segments = self.segments.iter().filter(covered);
        let end = flushed.boundary.end;
        manifest::Partition {
            topic: self.id.topic.0,
            index: self.id.index.get(),
            log_start: self.log_start.min(end).get(),
            end: end.get(),
            segments: segments.map(|s| s.to_manifest(flushed.boundary.place)).collect(),
            tail_fragment: flushed.boundary.fragment.clone(),
            epochs: self
                .epochs
                .iter()
                .filter(|(_, start)| *start < end)
                .map(|(epoch, start)| manifest::Epoch { epoch: epoch.get(), start: start.get() })
                .collect(),
            producers: flushed.producers.to_manifest(),
        }
    }

    // ---- the cache

    /// The cached batches from the one that holds `offset` on, up to `visible_end`: the first one whatever its size, the
    /// others while they fit `bytes_max`. `None` if the cache begins later.
    pub fn cached_from(&self, offset: Offset, visible_end: Offset, bytes_max: usize) -> Option<Vec<Cached>> {
        self.cache.front().filter(|first| first.base <= offset)?;
        let at = self.cache.partition_point(|c| c.end <= offset);
        let mut batches: Vec<Cached> = Vec::new();
        let mut bytes = 0;
        for batch in self.cache.range(at..).take_while(|c| c.end <= visible_end) {
            bytes += batch.bytes.len();
            if !batches.is_empty() && bytes > bytes_max {
                break;
            }
            batches.push(batch.clone());
        }
        Some(batches)
    }

    /// Batches from here on are never acknowledged nor shown: their memory is free.
    pub fn give_up(&mut self, from: Offset) {
        self.stopped_from = Some(from.min(self.stopped_from.unwrap_or(from)));
        while self.cache.pop_back_if(|c| c.base >= from).is_some() {}
        let files = &self.segments;
        let has_file = |base| {
            let at = files.binary_search_by_key(&base, |s: &Segment| s.base);
            at.is_ok_and(|at| files[at].file != super::segment::File::Failed)
        };
        self.extents.give_up(from, has_file);
    }

    /// Nothing of the log is written any more: what consumers do not see yet they never will, and its memory serves reads.
    pub fn abandon_unseen(&mut self) {
        let from = self.high_watermark;
        self.give_up(from);
        self.extents.give_up(from, |_| false);
    }

    /// Lets producers go that have appended nothing for the log's expiration time; the next manifest lacks them too.
    pub fn expire_producers(&mut self, now: Millis) -> usize {
        let expired = self.producers.expire(now.saturating_sub(self.config.producer_expiration_ms));
        self.flushed.producers.keep_known(&self.producers);
        expired
    }

    /// Gives up the large batches that are not flushed; gives back their bases and groups.
    pub fn void_unflushed(&mut self) -> Vec<(Offset, JournalSequence)> {
        let mut voided = Vec::new();
        for batch in &mut self.tail {
            if matches!(batch.large, Some(Large::Writing | Large::Written)) {
                batch.large = Some(Large::Void);
                self.unwritten.insert(batch.base);
                voided.push((batch.base, batch.group));
            }
        }
        voided
    }

    /// A whole batch moved from staging memory into `bytes`.
    pub fn moved(&mut self, base: Offset, bytes: Slice) {
        if let Ok(at) = self.cache.binary_search_by_key(&base, |c| c.base) {
            self.cache[at].bytes = bytes;
            self.cache[at].is_staged = false;
        }
    }

    /// Drops cached batches up to and with the one at `base`, as far as the disk has them. Returns whether all went.
    pub fn drop_cached(&mut self, base: Offset) -> bool {
        let completed = self.extents.completed();
        let on_disk = |c: &Cached| completed.is_none_or(|place| c.end_place() <= place);
        while self.cache.front().is_some_and(|c| c.base <= base && on_disk(c)) {
            self.cache.pop_front();
        }
        self.cache.front().is_none_or(|c| c.base > base)
    }

    /// A write of this log is on disk.
    pub fn completed_write(&mut self, operation: Operation) {
        self.extents.completed_write(operation);
        if let Some(base) = self.drop_when_written
            && self.drop_cached(base)
        {
            self.drop_when_written = None;
        }
    }
}

impl Cached {
    fn end_place(&self) -> Place {
        Place { segment: self.place.segment, position: self.place.position + self.bytes.len() as u64 }
    }
}
