//! The segments' index files: when they are written, when they are read, and what of them stays in memory.
//!
//! A rolled segment's index is written once a manifest vouches for all of the segment, and an active one's when the shard
//! stops: so no file ever speaks of bytes that a crash may take back, and what it says stays true whatever happens to the
//! files. They are flushed by nobody. Files are read when somebody looks for something inside a segment of a former
//! process; who asks meanwhile waits. Indexes of segments that are not appended to are let go of, the ones used longest ago first,
//! when together they take more memory than a shard has for them.

use std::collections::{BTreeMap, BTreeSet};

use super::effect::{Effect, FetchError, SegmentFile, Tag};
use super::partition::Partition;
use super::reads::Wanted;
use super::rules::Rule;
use super::segment::Segment;
use super::shard::{Purpose, Shard};
use crate::format::index::SparseIndex;
use crate::limits::INDEX_WRITES_IN_FLIGHT;
use crate::types::{Offset, PartitionId, Timestamp};

/// The indexes of a shard's segments, apart from what each of them knows.
#[derive(Default)]
pub(super) struct Indexes {
    /// Those that are to be written.
    due: BTreeSet<SegmentFile>,
    writes_in_flight: usize,
    reads_in_flight: usize,
    /// Who waits for an index that is being read or written. No more than the shard has fetches under way.
    waiting: BTreeMap<SegmentFile, Vec<Wait>>,
    /// Those in memory whose segments are not appended to.
    kept: BTreeMap<SegmentFile, Kept>,
    kept_bytes: usize,
    uses: u64,
    /// Whether those of active segments were asked for, since the shard is to stop.
    are_final: bool,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    used: u64,
    bytes: usize,
}

/// Something that goes on when an index is there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    Fetch(Wanted),
    Seek(Sought),
}

/// A look for a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought {
    tag: Tag,
    partition: PartitionId,
    timestamp: Timestamp,
    from: Offset,
}

/// Where a time is to be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// From this offset on: all batches before it are older.
    At(Offset),
    /// No record is that late.
    Nothing,
    /// An index is being read, and [`Effect::Sought`] follows.
    Later,
}

impl Indexes {
    /// Operations under way.
    pub(super) fn in_flight(&self) -> usize {
        self.writes_in_flight + self.reads_in_flight
    }

    /// Forgets a deleted log.
    pub(super) fn forget(&mut self, id: PartitionId) {
        self.due.retain(|file| file.partition != id);
        for (_, kept) in self.kept.extract_if(.., |file, _| file.partition == id) {
            self.kept_bytes -= kept.bytes;
        }
    }
}

impl Shard {
    /// Nothing more will be asked of the shard: what it has goes to its manifest, and then the indexes to their files. To
    /// be called with each turn until [`Shard::is_prepared_to_stop`].
    pub fn prepare_stop(&mut self) {
        self.settle();
        if !self.indexes.are_final && (self.is_settled() || self.is_at_rest()) {
            self.indexes.are_final = true;
            self.write_indexes();
        }
    }

    /// Whether a later stop would leave no less to be recovered, and no index to be learnt again.
    pub fn is_prepared_to_stop(&self) -> bool {
        (self.is_settled() || self.is_at_rest())
            && self.indexes.are_final
            && self.indexes.due.is_empty()
            && self.indexes.in_flight() == 0
    }

    /// Asks for the index of each log's active segment to be written, where a manifest vouches for the whole segment and
    /// its files do not have it yet.
    pub fn write_indexes(&mut self) {
        let due = self.partitions.values().filter_map(|partition| {
            let active = partition.segments.last()?;
            self.is_index_due(partition, active).then(|| partition.file(active.base))
        });
        let due: Vec<_> = due.collect();
        self.indexes.due.extend(due);
        self.advance_indexes();
    }

    /// What the indexes of segments that are not appended to take of memory. Bytes.
    pub fn index_bytes_kept(&self) -> usize {
        self.indexes.kept_bytes
    }

    /// A place to look for the first record that is not before `from` and not older than `timestamp`.
    pub fn seek(
        &mut self,
        partition: PartitionId,
        timestamp: Timestamp,
        from: Offset,
        tag: Tag,
    ) -> Result<Seek, FetchError> {
        self.seek_in(Sought { tag, partition, timestamp, from })
    }

    fn seek_in(&mut self, sought: Sought) -> Result<Seek, FetchError> {
        let Sought { partition: id, timestamp, from, .. } = sought;
        let partition = self.partitions.get(&id).ok_or(FetchError::UnknownPartition)?;
        let Some(segment) = partition.segment_for_time(timestamp, from) else { return Ok(Seek::Nothing) };
        let file = partition.file(segment.base);
        if self.waits_for_index(file, Wait::Seek(sought)) {
            return Ok(Seek::Later);
        }
        self.index_used(file);
        let segment = self.segment_of(file).ok_or(FetchError::UnknownPartition)?;
        Ok(Seek::At(segment.index.offset_for(timestamp).max(from)))
    }

    /// Whether the index of a segment is not here. Then `wait` goes on when it is.
    pub(super) fn waits_for_index(&mut self, file: SegmentFile, wait: Wait) -> bool {
        let Some(segment) = self.segment_of(file) else { return false };
        if segment.index.is_unread() {
            self.read_index(file);
        } else if !segment.index.is_away() {
            return false;
        }
        self.indexes.waiting.entry(file).or_default().push(wait);
        true
    }

    /// Has the index of a segment read that a reader comes to soon, so that it learns what its files lack.
    pub(super) fn prepare_index(&mut self, file: SegmentFile) {
        if self.segment_of(file).is_some_and(|segment| segment.index.is_unread()) {
            self.read_index(file);
        }
    }

    fn read_index(&mut self, file: SegmentFile) {
        let segment = self.segment_of(file).expect("it was just looked at");
        segment.index.await_files();
        let operation = self.operations.begin(Purpose::IndexRead(file));
        self.indexes.reads_in_flight += 1;
        self.effects.push(Effect::ReadIndex { operation, file });
    }

    /// Files were read: `None` if there are none that can be used.
    pub(super) fn index_read(&mut self, file: SegmentFile, index: Option<SparseIndex>) {
        self.indexes.reads_in_flight -= 1;
        let believes_all = !self.rules.hold(Rule::index_files_follow_the_manifest);
        if let Some(segment) = self.segment_of(file) {
            let length = segment.length;
            if !segment.index.loaded(index, length, believes_all) {
                tracing::warn!(partition = %file.partition, segment = file.base.get(), "index files say more than their segment holds and are not used");
            }
        }
        self.index_is_here(file);
    }

    /// Files were written, or could not be.
    pub(super) fn index_written(&mut self, file: SegmentFile, index: SparseIndex, is_written: bool) {
        self.indexes.writes_in_flight -= 1;
        if !is_written {
            tracing::warn!(partition = %file.partition, segment = file.base.get(), "index files cannot be written; the segment stays readable without");
        }
        if let Some(segment) = self.segment_of(file) {
            segment.index.take_back(index, is_written);
        }
        self.index_is_here(file);
    }

    /// Whoever waited for an index goes on.
    fn index_is_here(&mut self, file: SegmentFile) {
        for wait in self.indexes.waiting.remove(&file).unwrap_or_default() {
            match wait {
                Wait::Fetch(wanted) => self.fetch_again(wanted),
                Wait::Seek(sought) => {
                    let result = match self.seek_in(sought) {
                        Ok(Seek::Later) => continue,
                        Ok(Seek::At(offset)) => Ok(Some(offset)),
                        Ok(Seek::Nothing) => Ok(None),
                        Err(error) => Err(error),
                    };
                    self.effects.push(Effect::Sought { tag: sought.tag, result });
                }
            }
        }
        self.index_used(file);
    }

    /// A manifest vouches for more of a log, whose flushed part ended in the segment at `from` before.
    pub(super) fn manifest_covers(&mut self, id: PartitionId, from: Offset) {
        let Some(partition) = self.partitions.get(&id) else { return };
        let upto = partition.flushed.boundary.place.segment;
        let first = partition.segments.partition_point(|s| s.base < from);
        let Some((_, rolled)) = partition.segments.split_last() else { return };
        let covered = rolled.get(first..).unwrap_or_default().iter().take_while(|s| s.base <= upto);
        let due = covered.filter(|s| self.is_index_due(partition, s)).map(|s| partition.file(s.base));
        let due: Vec<_> = due.collect();
        self.indexes.due.extend(due);
    }

    /// All bytes of a rolled segment are on disk.
    pub(super) fn segment_rolled(&mut self, file: SegmentFile) {
        self.index_used(file);
    }

    /// Readers met batches of a segment that its index did not know.
    pub(super) fn index_learnt(&mut self, file: SegmentFile) {
        let Some(partition) = self.partitions.get(&file.partition) else { return };
        let is_rolled = partition.segments.last().is_some_and(|active| active.base > file.base);
        let segment = partition.segments.binary_search_by_key(&file.base, |s| s.base);
        let Ok(segment) = segment.map(|at| &partition.segments[at]) else { return };
        if is_rolled && segment.index.is_whole(segment.length) && self.is_index_due(partition, segment) {
            self.indexes.due.insert(file);
        }
        self.index_used(file);
    }

    /// Whether a manifest vouches for all of a segment, and its files do not have its index yet.
    fn is_index_due(&self, partition: &Partition, segment: &Segment) -> bool {
        let is_covered = partition.flushed.boundary.place >= segment.end_place();
        segment.length >= self.tuning.index_files_from_bytes
            && (is_covered || !self.rules.hold(Rule::index_files_follow_the_manifest))
            && segment.index.has_news()
            && !segment.index.is_on_disk(segment.length)
    }

    /// Goes on with the indexes that are to be written. One that is not known whole is left until readers have learnt it.
    pub(super) fn advance_indexes(&mut self) {
        if self.stopped.is_some() {
            self.indexes.due.clear();
            return;
        }
        for file in self.indexes.due.clone() {
            if self.indexes.writes_in_flight >= INDEX_WRITES_IN_FLIGHT {
                return;
            }
            let Some(segment) = self.segment_of(file) else {
                self.indexes.due.remove(&file);
                continue;
            };
            if segment.index.is_away() {
                continue;
            }
            if segment.index.is_unread() {
                self.read_index(file);
                continue;
            }
            self.indexes.due.remove(&file);
            self.write_index(file);
        }
    }

    fn write_index(&mut self, file: SegmentFile) {
        let Some(partition) = self.partitions.get(&file.partition) else { return };
        let found = partition.segments.binary_search_by_key(&file.base, |s| s.base);
        let Ok(segment) = found.map(|at| &partition.segments[at]) else { return };
        // It may have grown beyond what the manifest vouches for while its files were read.
        if !segment.index.is_whole(segment.length) || !self.is_index_due(partition, segment) {
            return;
        }
        let Some(segment) = self.segment_of(file) else { return };
        let index = Box::new(segment.index.lend());
        let operation = self.operations.begin(Purpose::IndexWrite(file));
        self.indexes.writes_in_flight += 1;
        self.effects.push(Effect::WriteIndex { operation, file, index });
    }

    // ---- memory

    /// Notes that an index is in use, and lets others go if all together are too large.
    fn index_used(&mut self, file: SegmentFile) {
        let Some(partition) = self.partitions.get(&file.partition) else { return };
        let is_rolled = partition.segments.last().is_some_and(|active| active.base > file.base);
        let segment = partition.segments.binary_search_by_key(&file.base, |s| s.base);
        let Ok(segment) = segment.map(|at| &partition.segments[at]) else { return };
        if !is_rolled {
            return;
        }
        let bytes = segment.index.memory_bytes();
        self.indexes.uses += 1;
        let kept = Kept { used: self.indexes.uses, bytes };
        let before = self.indexes.kept.insert(file, kept);
        self.indexes.kept_bytes += bytes;
        self.indexes.kept_bytes -= before.map_or(0, |before| before.bytes);
        if self.indexes.kept_bytes > self.tuning.index_bytes_max {
            self.forget_indexes();
        }
    }

    /// Lets a quarter go, those used longest ago.
    fn forget_indexes(&mut self) {
        let mut oldest: Vec<_> = self.indexes.kept.iter().map(|(file, kept)| (kept.used, *file)).collect();
        oldest.sort_unstable();
        for (_, file) in oldest {
            if self.indexes.kept_bytes <= self.tuning.index_bytes_max / 4 * 3 {
                return;
            }
            if self.indexes.due.contains(&file) {
                continue;
            }
            match self.segment_of(file) {
                Some(segment) if segment.index.is_away() => continue,
                Some(segment) => segment.index.forget(),
                None => {}
            }
            let kept = self.indexes.kept.remove(&file).expect("just listed");
            self.indexes.kept_bytes -= kept.bytes;
            self.counts.indexes_forgotten += 1;
        }
    }

    fn segment_of(&mut self, file: SegmentFile) -> Option<&mut Segment> {
        self.partitions.get_mut(&file.partition)?.segment(file.base)
    }
}
