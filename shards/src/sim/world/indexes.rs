//! Index files: how they are read, written and hurt, and that nobody finds anything wrong because of them.

use super::super::directory::{index_paths, read_index};
use super::*;
use crate::core::{FetchError, Seek};
use crate::format::batch::BatchView;
use crate::format::index::SparseIndex;
use crate::limits::BLOCK_BYTES;

/// Turns of a quiet moment.
const QUIET_TURNS: usize = 6;

/// Looks for a time in one log at once.
const LOOKS: usize = 3;

impl World {
    /// What a segment's index files give.
    pub(super) fn index_on_disk(&mut self, file: SegmentFile) -> Option<Box<SparseIndex>> {
        let (index, problems) = read_index(&self.disk, file)?.index(file.base);
        self.hits.count("index read");
        self.hits.add("index page not used", problems.len() as u64);
        Some(Box::new(index))
    }

    /// Writes a segment's index files, or a part of them. What they were before may come back one day.
    pub(super) fn put_index(&mut self, file: SegmentFile, index: &SparseIndex, fails: bool) {
        let files = IndexFiles::of(index);
        for path in index_paths(file) {
            if let Some(bytes) = self.disk.read_all(&path) {
                self.old_indexes.insert(path, bytes);
            }
        }
        let random = &mut self.random;
        write_index(&mut self.disk, file, &files, || !fails || random.per_mille(500));
        // Nobody flushes them, but the kernel writes them back one day.
        if !fails && self.random.per_mille(500) {
            for path in index_paths(file) {
                self.disk.flush(&path, self.disk.next_write());
                self.disk.flush_directory(&path);
            }
        }
        self.hits.count("index written");
    }

    /// Something happens to an index file that no promise depends on.
    pub(super) fn hurt_an_index(&mut self) {
        let is_index = |path: &String| path.ends_with(".index") || path.ends_with(".time");
        let paths: Vec<_> = self.disk.paths("topics/").into_iter().filter(is_index).collect();
        let Some(path) = self.random.pick(&paths).cloned() else { return };
        let length = self.disk.length(&path).expect("just listed");
        match self.random.below(4) {
            0 if length > 0 => {
                let byte = self.random.below(usize::try_from(length).expect("small")) as u64;
                self.disk.flip(&path, byte, 3);
                self.hits.count("index bit flipped");
            }
            1 => {
                let blocks = usize::try_from(length).expect("small") / BLOCK_BYTES;
                self.disk.truncate(&path, (self.random.below(blocks + 1) * BLOCK_BYTES) as u64);
                self.hits.count("index cut");
            }
            2 => {
                self.disk.remove(&path);
                self.hits.count("index lost");
            }
            _ => {
                if let Some(bytes) = self.old_indexes.get(&path) {
                    self.disk.replace(&path, bytes);
                    self.hits.count("old index came back");
                }
            }
        }
    }

    /// Indexes get to their files, at times in a quiet moment, in which all that a shard has gets into a manifest first.
    pub(super) fn write_indexes(&mut self) -> Result<(), Violation> {
        let at = self.random.below(self.shards.len());
        let turns = [0, 0, QUIET_TURNS][self.random.below(3)];
        for _ in 0..turns {
            self.shards[at].core.request_checkpoint();
            self.shards[at].core.turn(self.now);
            self.take_effects(at)?;
            for _ in 0..self.shards[at].in_flight.len() {
                self.complete(at, 0)?;
            }
        }
        self.shards[at].core.write_indexes();
        self.take_effects(at)
    }

    pub(super) fn somebody_seeks(&mut self) -> Result<(), Violation> {
        let Some(id) = self.pick_log() else { return Ok(()) };
        self.check_times(id)
    }

    /// Looks for some times, and compares what is found with what was appended.
    pub(super) fn check_times(&mut self, id: PartitionId) -> Result<(), Violation> {
        self.compare_times(id)?;
        // What others were answered meanwhile is theirs now: the next step may be the end of their log.
        self.take_effects(self.owner(id))
    }

    fn compare_times(&mut self, id: PartitionId) -> Result<(), Violation> {
        let at = self.owner(id);
        let Some(partition) = self.shards[at].core.partition(id) else { return Ok(()) };
        let (start, end) = (partition.log_start, partition.high_watermark);
        if self.damaged || !self.rules.hold(Rule::high_watermark_is_durable) {
            return Ok(());
        }
        for _ in 0..LOOKS {
            let history = self.oracle.logs.get(&id).cloned().unwrap_or_default();
            let newest = history.batches.len().saturating_sub([8, usize::MAX][self.random.below(2)]);
            let Some(batch) = self.random.pick(&history.batches[newest..]) else { return Ok(()) };
            let around = self.random.below(3) as i64 - 1;
            let timestamp = Timestamp(batch.max_timestamp().get() + around);
            let expected = history.first_at_or_after(timestamp, start, end);
            let found = match self.find_time(at, id, timestamp, start) {
                Ok(found) => found,
                Err(FetchError::Busy) => return Ok(()),
                Err(error) => return Err(violation(id, format!("a search for a time failed: {error}"))),
            };
            if found != expected {
                let what = format!("the first batch at {timestamp:?} is {expected:?}, not {found:?}");
                return Err(violation(id, what));
            }
            self.oracle.compared.times += 1;
        }
        Ok(())
    }

    /// The first batch that is not older, found as a broker finds it.
    fn find_time(
        &mut self,
        at: usize,
        id: PartitionId,
        timestamp: Timestamp,
        start: Offset,
    ) -> Result<Option<Offset>, FetchError> {
        let mut from = start;
        while let Some(offset) = self.seek_now(at, id, timestamp, from)? {
            let fetched = self.fetch_now(at, id, offset)?;
            if fetched.batches.is_empty() {
                return Ok(None);
            }
            for bytes in &fetched.batches {
                let (batch, _) = BatchView::parse(bytes).map_err(|_| FetchError::Damaged)?;
                if batch.max_timestamp() >= timestamp {
                    return Ok(Some(batch.base_offset()));
                }
                from = Offset(batch.last_offset().get() + 1);
            }
        }
        Ok(None)
    }

    fn seek_now(
        &mut self,
        at: usize,
        id: PartitionId,
        timestamp: Timestamp,
        from: Offset,
    ) -> Result<Option<Offset>, FetchError> {
        self.last_tag += 1;
        let tag = Tag(self.last_tag);
        match self.shards[at].core.seek(id, timestamp, from, tag)? {
            Seek::At(offset) => Ok(Some(offset)),
            Seek::Nothing => Ok(None),
            Seek::Later => {
                let is_answer =
                    |effect: &Effect| matches!(effect, Effect::Sought { tag: t, .. } if *t == tag);
                match self.await_answer(at, is_answer) {
                    Effect::Sought { result, .. } => result,
                    other => unreachable!("{other:?} is no answer"),
                }
            }
        }
    }
}
