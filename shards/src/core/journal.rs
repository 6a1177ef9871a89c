//! The commit journal of a shard: groups are built in staging memory, closed, written, flushed, and trimmed.
//!
//! ```text
//!   tail                durable           next
//!   | flushed, not yet  | writing, at     | open: entries are published one by one
//!   | in a manifest     | most two        |
//! ```
//!
//! Invariants:
//! * A group begins at a fresh block, and no block is written twice before a manifest has set it free.
//! * Where a group begins follows from the end of the one before it and the journal's size alone, so recovery finds it.
//! * A chunk of staging memory is reused when all its groups are durable and no slice of it lives.
//! * `durable` and `settled` are contiguous; a failed write or flush is never followed by another one.
//!
//! The journal does not know what a partition is, beyond its name; it is told which groups are below a checkpoint.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use super::effect::{Effect, Operation};
use super::rules::{Rule, Rules};
use crate::format::journal::{ENTRY_HEADER_BYTES, Entry, GROUP_HEADER_BYTES, GroupHeader};
use crate::format::manifest::Tail;
use crate::limits::{BLOCK_BYTES, JOURNAL_GROUPS_IN_FLIGHT};
use crate::memory::{Chunk, ChunkIndex, Slice, Staging};
use crate::types::{Generation, JournalSequence, Offset, PartitionId};

/// How a group becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMethod {
    /// Each write is durable by itself.
    Dsync,
    /// A flush follows the write.
    Fdatasync,
}

/// The bytes that a journal's positions are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The journal's size.
    pub capacity: u64,
    /// The longest group, which is the size of a staging chunk.
    pub group_bytes_max: u64,
}

impl Geometry {
    /// Where the group behind one that ends at `end` begins: there, or at the start, if the longest group would not fit.
    pub fn next_position(&self, end: u64) -> u64 {
        if end + self.group_bytes_max > self.capacity { 0 } else { end }
    }
}

/// Where an opening starts its journal.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The opening's generation.
    pub generation: Generation,
    /// The journal's size and the longest group's.
    pub geometry: Geometry,
    /// The first group.
    pub tail: Tail,
    /// How groups become durable.
    pub flush_method: FlushMethod,
}

/// The journal of one shard.
pub struct Journal {
    rules: Rules,
    generation: Generation,
    geometry: Geometry,
    flush_method: FlushMethod,
    staging: Staging,
    /// Chunks from the one used longest ago to the one in use, with the last group that lies in each.
    chunks: VecDeque<(ChunkIndex, JournalSequence)>,
    chunk: Option<Chunk>,
    /// The logs that staged something into each chunk since it was taken.
    logs: Vec<BTreeSet<PartitionId>>,
    open: Option<OpenGroup>,
    /// The groups that no manifest has set free, without a gap in their sequence.
    groups: VecDeque<Group>,
    /// Their bytes.
    bytes_live: u64,
    next: JournalSequence,
    /// The position behind the last closed group; `None` before the first, which begins where the tail says.
    end: Option<u64>,
    tail: Tail,
    previous: u32,
    durable: JournalSequence,
    /// The last closed group with entries, and what the last closed group says is durable and settled.
    last_with_entries: JournalSequence,
    said: (JournalSequence, JournalSequence),
    unsettled: BTreeMap<JournalSequence, usize>,
    flush: Option<Vec<JournalSequence>>,
    /// Logs with entries in groups that became durable since somebody asked.
    newly_durable: BTreeSet<PartitionId>,
    grown: u64,
    adopting: bool,
}

struct OpenGroup {
    start: usize,
    end: usize,
    entries: u32,
    reach: Reach,
    unpublished: Vec<(usize, u32)>,
}

/// How far a group's entries reach in each log they belong to.
type Reach = BTreeMap<PartitionId, Offset>;

struct Group {
    sequence: JournalSequence,
    position: u64,
    bytes: u64,
    state: State,
    previous: u32,
    reach: Reach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Writing(Operation),
    Written,
    Durable,
}

/// An entry in staging memory.
#[derive(Debug)]
pub struct Staged {
    /// The group it belongs to.
    pub group: JournalSequence,
    /// The chunk it lies in.
    pub chunk: ChunkIndex,
    /// Its bytes behind the entry header.
    pub payload: Slice,
}

impl Journal {
    /// The journal of a new opening, empty.
    pub fn new(start: Start, staging: Staging, rules: Rules) -> Journal {
        let chunks = (0..staging.chunks()).map(|i| (ChunkIndex(i), JournalSequence(0))).collect();
        let logs = vec![BTreeSet::new(); staging.chunks()];
        let before = JournalSequence(start.tail.sequence - 1);
        assert!(
            start.geometry.capacity >= 2 * start.geometry.group_bytes_max,
            "a journal holds two groups or more"
        );
        Journal {
            rules,
            generation: start.generation,
            geometry: start.geometry,
            flush_method: start.flush_method,
            staging,
            chunks,
            chunk: None,
            logs,
            open: None,
            groups: VecDeque::new(),
            bytes_live: 0,
            next: before.next(),
            end: None,
            tail: start.tail,
            previous: start.tail.previous,
            durable: before,
            last_with_entries: before,
            said: (before, before),
            unsettled: BTreeMap::new(),
            flush: None,
            newly_durable: BTreeSet::new(),
            grown: start.geometry.capacity,
            adopting: false,
        }
    }

    /// Every group up to this one is flushed.
    pub fn durable(&self) -> JournalSequence {
        self.durable
    }

    /// And every large batch digested up to this one.
    pub fn settled(&self) -> JournalSequence {
        let unsettled = self.unsettled.keys().next();
        unsettled.map_or(self.durable, |first| self.durable.min(JournalSequence(first.get() - 1)))
    }

    /// The group that entries are staged into now.
    pub fn next(&self) -> JournalSequence {
        self.next
    }

    /// The opening's generation.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The journal's size and the longest group's.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The longest payload an entry may have and still fit into a group.
    pub fn payload_bytes_max(&self) -> usize {
        self.group_capacity() - GROUP_HEADER_BYTES - ENTRY_HEADER_BYTES - crate::format::journal::ENTRY_ALIGN
    }

    /// How much of the journal is waiting for a manifest to set it free, in bytes.
    pub fn bytes_live(&self) -> u64 {
        self.bytes_live
    }

    /// Bytes of entries and groups that no flush is known to cover.
    pub fn bytes_unflushed(&self) -> u64 {
        let open = self.open.as_ref().filter(|open| open.entries > 0);
        let open = open.map_or(0, |open| (open.end - open.start) as u64);
        open + self.groups.range(self.first_not_durable()..).map(|g| g.bytes).sum::<u64>()
    }

    /// Large batches that are digested and neither flushed nor void.
    pub fn large_unsettled(&self) -> usize {
        self.unsettled.values().sum()
    }

    /// How many entries the open group holds.
    pub fn entries_open(&self) -> u32 {
        self.open.as_ref().map_or(0, |open| open.entries)
    }

    /// Whether the open group holds entries.
    pub fn has_entries(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.entries > 0)
    }

    /// Whether the open group cannot be written for want of space, though nothing before it is under way.
    pub fn is_full(&self) -> bool {
        self.open.is_some() && self.is_written() && !self.can_close()
    }

    /// How far the entries of the first group that no manifest has set free reach in each log.
    pub fn oldest_reach(&self) -> impl Iterator<Item = (PartitionId, Offset)> {
        self.groups.front().into_iter().flat_map(|g| g.reach.iter().map(|(id, end)| (*id, *end)))
    }

    /// Whether nothing is open, being written or being flushed.
    pub fn is_idle(&self) -> bool {
        !self.has_entries() && self.is_written() && self.flush.is_none()
    }

    /// Whether no group is being written or flushed.
    pub fn is_written(&self) -> bool {
        self.groups.range(self.first_not_durable()..).all(|g| g.state == State::Durable)
    }

    /// Where in `groups` the first one lies that is not known to be durable with all before it: few lie behind.
    fn first_not_durable(&self) -> usize {
        let Some(first) = self.groups.front() else { return 0 };
        let behind = (self.durable.get() + 1).saturating_sub(first.sequence.get());
        usize::try_from(behind).expect("groups lie in memory").min(self.groups.len())
    }

    /// Whether the last group with entries is live and durable, or settled too, and no later group says so.
    pub fn last_is_unvouched(&self) -> bool {
        let last = self.last_with_entries;
        let is_live = self.groups.front().is_some_and(|first| first.sequence <= last);
        let (durable, settled) = self.said;
        is_live && self.durable >= last && (durable < last || settled < self.settled().min(last))
    }

    // ---- staging

    /// Makes room for an entry of `bytes` in the open group, opening chunk and group as needed. False: not now.
    pub fn reserve(&mut self, bytes: usize) -> bool {
        assert!(bytes <= self.group_capacity() - GROUP_HEADER_BYTES, "the caller bounds an entry's size");
        let capacity = self.group_capacity();
        if let Some(open) = &self.open {
            return open.end + bytes <= capacity;
        }
        let frozen = self.chunk.as_ref().map_or(capacity, Chunk::frozen);
        if frozen + GROUP_HEADER_BYTES + bytes > capacity && !self.take_chunk() {
            return false;
        }
        self.open_group();
        true
    }

    /// Copies an entry into the open group, which has room for it, and publishes it. `parts` are its payload.
    pub fn stage(&mut self, entry: &Entry<'_>, reach: Offset, parts: &[&[u8]]) -> Staged {
        let (header, length) = entry.encode_header();
        let (open, chunk) = match (&mut self.open, &mut self.chunk) {
            (Some(open), Some(chunk)) => (open, chunk),
            _ => panic!("an entry is staged behind a reservation"),
        };
        let (start, end) = (open.end, open.end + length as usize);
        if end + 4 <= chunk.capacity() {
            chunk.zero(end..end + 4);
        }
        chunk.write(start, &header);
        let mut at = start + ENTRY_HEADER_BYTES;
        for part in parts {
            chunk.write(at, part);
            at += part.len();
        }
        chunk.zero(at..end);
        let is_large = matches!(entry, Entry::Large { .. });
        let at_once = self.rules.hold(Rule::publish_before_ack)
            && (!is_large || self.rules.hold(Rule::large_is_staged));
        if at_once && open.unpublished.is_empty() {
            chunk.publish(start, length);
        } else {
            open.unpublished.push((start, length));
        }
        open.end = end;
        open.entries += 1;
        let partition = entry.partition();
        let furthest = open.reach.entry(partition).or_insert(reach);
        *furthest = (*furthest).max(reach);
        self.logs[chunk.index().0].insert(partition);
        if open.unpublished.is_empty() {
            chunk.freeze(end);
        }
        let payload = if open.unpublished.is_empty() {
            chunk.slice(start + ENTRY_HEADER_BYTES..at)
        } else {
            Slice::from_vec(parts.concat())
        };
        Staged { group: self.next, chunk: chunk.index(), payload }
    }

    /// How many chunks of staging memory there are, each for one group of the greatest length.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The size of a chunk.
    pub fn chunk_bytes(&self) -> usize {
        self.group_capacity()
    }

    /// How many chunks nobody writes or refers to.
    pub fn chunks_free(&self) -> usize {
        self.chunks.iter().filter(|(chunk, _)| self.staging.is_free(*chunk)).count()
    }

    /// The chunk that has been in use longest and is not free yet, if fewer than a quarter of all are free.
    pub fn chunk_to_evict(&self) -> Option<ChunkIndex> {
        if self.chunks_free() * 4 > self.chunks.len() {
            return None;
        }
        let in_use = self.chunk.as_ref().map(Chunk::index);
        self.chunks.iter().map(|c| c.0).find(|chunk| !self.staging.is_free(*chunk) && Some(*chunk) != in_use)
    }

    /// The logs that staged something into the chunk since it was taken.
    pub fn logs_in(&self, chunk: ChunkIndex) -> impl Iterator<Item = PartitionId> {
        self.logs[chunk.0].iter().copied()
    }

    fn group_capacity(&self) -> usize {
        usize::try_from(self.geometry.group_bytes_max).expect("a group fits into memory")
    }

    fn take_chunk(&mut self) -> bool {
        self.chunk = None;
        let durable = if self.rules.hold(Rule::staging_waits_for_durable) { self.durable } else { self.next };
        let reusable = |c: &(ChunkIndex, JournalSequence)| c.1 <= durable && self.staging.is_free(c.0);
        let Some(at) = self.chunks.iter().position(reusable) else { return false };
        let (index, last) = self.chunks.remove(at).expect("just found");
        self.chunk = self.staging.take(index);
        self.logs[index.0].clear();
        assert!(self.chunk.is_some(), "a free chunk can be taken");
        self.chunks.push_back((index, last));
        true
    }

    /// Begins a group at the chunk's frozen mark, in an order that leaves no half header for a later process to believe.
    fn open_group(&mut self) {
        let chunk = self.chunk.as_mut().expect("a group is opened in a chunk");
        let start = chunk.frozen();
        let body = start + GROUP_HEADER_BYTES;
        let header = GroupHeader::encode_open(self.generation, self.next, self.previous);
        chunk.open_header(start..body);
        chunk.zero(body..body + 4);
        chunk.zero(start..start + 8);
        chunk.fence();
        chunk.write(start + 8, &header[8..]);
        chunk.fence();
        chunk.write(start, &header[..8]);
        chunk.fence();
        self.chunks.back_mut().expect("the chunk in use").1 = self.next;
        let reach = Reach::new();
        self.open = Some(OpenGroup { start, end: body, entries: 0, reach, unpublished: Vec::new() });
    }

    // ---- closing, writing, flushing

    /// Whether the open group may be closed and written now.
    pub fn can_close(&self) -> bool {
        let Some(open) = &self.open else { return false };
        let behind = self.groups.range(self.first_not_durable()..);
        let in_flight = behind.filter(|g| g.state != State::Durable).count();
        if in_flight >= JOURNAL_GROUPS_IN_FLIGHT {
            return false;
        }
        let position = self.next_position();
        let wraps = self.end.is_some_and(|end| position < end);
        if wraps && self.adopting && self.rules.hold(Rule::growth_by_manifest) {
            return false;
        }
        let bytes = (open.end - open.start).next_multiple_of(BLOCK_BYTES) as u64;
        self.has_space(position, bytes)
    }

    /// Whether the ring has `bytes` at `position` that belong to no group a manifest may still need.
    fn has_space(&self, position: u64, bytes: u64) -> bool {
        let Some(first) = self.groups.front() else { return true };
        position > first.position || position + bytes <= first.position
    }

    /// Opens an empty group that vouches for what is durable, to be closed at once.
    pub fn open_vouching(&mut self) -> bool {
        self.reserve(0)
    }

    /// Closes the open group and asks for its write.
    ///
    /// # Panics
    /// If it may not be closed now.
    pub fn close(&mut self, operation: Operation) -> Effect {
        assert!(self.can_close(), "the caller asked before");
        let (position, settled) = (self.next_position(), self.settled());
        let (open, chunk) = match (self.open.take(), &mut self.chunk) {
            (Some(open), Some(chunk)) => (open, chunk),
            _ => panic!("an open group lies in a chunk"),
        };
        for (at, length) in &open.unpublished {
            chunk.publish(*at, *length);
        }
        let padded = open.start..open.start + (open.end - open.start).next_multiple_of(BLOCK_BYTES);
        chunk.zero(open.end..padded.end);
        chunk.freeze(padded.end);
        let header = GroupHeader {
            generation: self.generation,
            sequence: self.next,
            previous: self.previous,
            length: u32::try_from(open.end - open.start).expect("a group is shorter than 4 GiB"),
            entries: open.entries,
            durable: self.durable,
            settled,
        };
        let sum = close_header(chunk, &header, open.start, open.start + GROUP_HEADER_BYTES..open.end);
        let bytes = match self.rules.hold(Rule::writes_hold_their_memory) {
            true => chunk.slice(padded),
            false => Slice::from_vec(chunk.slice(padded).to_vec()),
        };
        self.groups.push_back(Group {
            sequence: self.next,
            position,
            bytes: bytes.len() as u64,
            state: State::Writing(operation),
            previous: self.previous,
            reach: open.reach,
        });
        self.said = (self.durable, settled);
        if open.entries > 0 {
            self.last_with_entries = self.next;
        }
        self.bytes_live += bytes.len() as u64;
        self.end = Some(position + bytes.len() as u64);
        self.previous = sum;
        self.next = self.next.next();
        Effect::WriteJournal { operation, position, bytes, durable: self.flush_method == FlushMethod::Dsync }
    }

    /// A group's write completed.
    pub fn written(&mut self, operation: Operation) {
        let behind = self.first_not_durable();
        let group = self.groups.range_mut(behind..).find(|g| g.state == State::Writing(operation));
        let group = group.expect("a write completes once, before its group is trimmed");
        group.state = match self.flush_method {
            FlushMethod::Dsync => State::Durable,
            FlushMethod::Fdatasync => State::Written,
        };
        self.advance();
    }

    /// Asks for a flush, if some group is written and no flush is in flight. It will cover what is written by now.
    pub fn flush(&mut self, begin: impl FnOnce() -> Operation) -> Option<Effect> {
        let behind = self.groups.range(self.first_not_durable()..);
        let written: Vec<_> = behind.filter(|g| g.state == State::Written).map(|g| g.sequence).collect();
        if self.flush.is_some() || written.is_empty() {
            return None;
        }
        self.flush = Some(written);
        Some(Effect::FlushJournal { operation: begin() })
    }

    /// The flush completed.
    pub fn flushed(&mut self) {
        let covered = self.flush.take().expect("one flush is in flight");
        let all = !self.rules.hold(Rule::flush_covers_completed);
        let behind = self.first_not_durable();
        for group in self.groups.range_mut(behind..) {
            if covered.contains(&group.sequence) || (all && group.state == State::Written) {
                group.state = State::Durable;
            }
        }
        self.advance();
    }

    fn advance(&mut self) {
        let behind = self.groups.range(self.first_not_durable()..);
        for group in behind.take_while(|g| g.state == State::Durable) {
            self.durable = group.sequence;
            self.newly_durable.extend(group.reach.keys());
        }
    }

    /// The logs with entries in groups that became durable since this was asked last.
    pub fn take_newly_durable(&mut self) -> BTreeSet<PartitionId> {
        std::mem::take(&mut self.newly_durable)
    }

    /// The first group that no manifest has set free.
    pub fn oldest(&self) -> Option<JournalSequence> {
        self.groups.front().map(|g| g.sequence)
    }

    /// What a mutant does with a failed flush: it takes the next one for an answer.
    pub fn forget_failed_flush(&mut self) {
        self.flush = None;
    }

    // ---- large batches

    /// A large batch is digested in the open group and not flushed yet.
    pub fn unsettle(&mut self) -> JournalSequence {
        *self.unsettled.entry(self.next).or_default() += 1;
        self.next
    }

    /// A large batch digested in `group` is flushed, void or deleted.
    pub fn settle(&mut self, group: JournalSequence) {
        let count = self.unsettled.get_mut(&group).expect("a batch is settled once");
        *count -= 1;
        if *count == 0 {
            self.unsettled.remove(&group);
        }
    }

    // ---- trimming and growth

    /// The tail that a manifest may name: before the first group that is not durable or not wholly below.
    pub fn tail_behind(&self, is_below: impl Fn(PartitionId, Offset) -> bool) -> Tail {
        let stays =
            |g: &&Group| g.sequence > self.durable || !g.reach.iter().all(|(p, end)| is_below(*p, *end));
        match self.groups.iter().find(stays) {
            Some(g) => Tail { sequence: g.sequence.get(), position: g.position, previous: g.previous },
            None => {
                Tail { sequence: self.next.get(), position: self.next_position(), previous: self.previous }
            }
        }
    }

    /// The size that a manifest with this tail may name, and with it the tail: the grown one, if what lives behind the
    /// tail does not wrap. From here to [`Journal::trim`] the writer waits instead of wrapping.
    pub fn adopt(&mut self, tail: Tail) -> (Tail, u64) {
        let live: Vec<u64> =
            self.groups.iter().filter(|g| g.sequence.get() >= tail.sequence).map(|g| g.position).collect();
        let wraps =
            !live.is_sorted() || self.end.is_some_and(|end| live.first().is_some_and(|first| *first > end));
        if self.grown == self.geometry.capacity || wraps {
            return (tail, self.geometry.capacity);
        }
        self.adopting = true;
        let grown = Geometry { capacity: self.grown, ..self.geometry };
        let position = match (live.first(), self.end) {
            (None, Some(end)) => grown.next_position(end),
            _ => tail.position,
        };
        (Tail { position, ..tail }, self.grown)
    }

    /// The manifest with this tail and size is durable: what lies before is free.
    pub fn trim(&mut self, tail: Tail, capacity: u64) {
        while let Some(freed) = self.groups.pop_front_if(|g| g.sequence.get() < tail.sequence) {
            self.bytes_live -= freed.bytes;
        }
        if self.groups.is_empty() && self.end.is_some() {
            assert_eq!(tail.sequence, self.next.get(), "an empty journal's tail is its next group");
        }
        self.geometry.capacity = capacity;
        self.adopting = false;
    }

    /// The file is `bytes` long now, all of it written and flushed.
    pub fn grown(&mut self, bytes: u64) {
        assert!(bytes >= self.grown, "a journal never shrinks");
        self.grown = bytes;
        if !self.rules.hold(Rule::growth_by_manifest) {
            self.geometry.capacity = bytes;
        }
    }

    /// Whether space was grown that no manifest has named yet.
    pub fn has_grown_space(&self) -> bool {
        self.grown > self.geometry.capacity
    }

    fn next_position(&self) -> u64 {
        self.end.map_or(self.tail.position, |end| self.geometry.next_position(end))
    }
}

/// Fills the group's header in place, its state last, and returns the checksum.
fn close_header(chunk: &mut Chunk, header: &GroupHeader, start: usize, entries: Range<usize>) -> u32 {
    let entries = chunk.slice(entries);
    let (bytes, sum) = header.encode_closed(&entries);
    let (state_at, state) = GroupHeader::CLOSED;
    chunk.write(start, &bytes[..state_at]);
    chunk.write(start + state_at + 4, &bytes[state_at + 4..]);
    chunk.publish(start + state_at, state);
    chunk.close_header();
    sum
}
