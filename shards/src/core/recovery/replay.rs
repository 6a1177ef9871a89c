//! One shard's logs, rebuilt from its manifest and its journal, and written to their segments.
//!
//! Bytes that the journal holds by value are written again from there; whole blocks of large batches are read and
//! compared with their digest, and stay where they are. A batch that does not match ends its log, and only its log, unless
//! something durable says that it had been flushed: then it is damage.
//!
//! A batch that matches and of which nothing says that it was flushed may be there for readers only: after a flush that
//! failed, the next one succeeds without writing anything. Its log moves on: from this batch on everything is written
//! anew, to a segment that begins with it. The old blocks stay as they are until the root no longer needs them.

use std::collections::{BTreeMap, BTreeSet};

use super::disk::Disk;
use super::error::{Damage, Error};
use super::files;
use super::scan::Scan;
use crate::core::append::digest;
use crate::core::effect::{Millis, SegmentFile};
use crate::core::producers::{Numbered, Producers};
use crate::core::rules::{Rule, Rules};
use crate::format::batch::BatchView;
use crate::format::journal::{BatchEntry, Entry, fragments};
use crate::format::manifest::{self, Manifest};
use crate::limits::{BLOCK_BYTES, READ_BYTES_MAX, SEGMENT_BYTES_MAX};
use crate::types::{Generation, JournalSequence, Offset, PartitionId, Sequence, ShardIndex};

/// A log under reconstruction.
struct Log {
    part: manifest::Partition,
    producers: Producers,
    /// Bytes to be written to segments, in log order: where, and what.
    by_value: Vec<Piece>,
    touched: BTreeSet<Offset>,
    cut: bool,
    /// The segment that the journal's next entry continues, and its size as the journal counts it.
    journaled: Option<(Offset, u64)>,
    /// The segments that are written anew, and all that they hold.
    moved: Vec<(Offset, Vec<u8>)>,
    /// The first segment that may be longer than what it holds.
    first_to_cut: usize,
}

/// How many of the last segments of a manifest's log may be longer than the manifest says: the one appended to, and those
/// that an opening had still to cut when it was interrupted, behind its root: the segment that a log moved on from, and
/// one that was written anew. More are not: between two checkpoints, large batches are too few to fill two.
const UNCUT_SEGMENTS_MAX: usize = 3;

/// What replay says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Entries that brought something new.
    pub entries: usize,
    /// Entries from groups that only staging memory had.
    pub entries_staged: usize,
    /// Logs that ended at a batch that did not match its digest.
    pub logs_cut: usize,
    /// Logs with a large batch of which nothing says that it was flushed: its segment was rolled, and it was written anew.
    pub logs_moved: usize,
    /// Entries of logs that were deleted.
    pub entries_of_deleted: usize,
}

/// A log's part of the next manifest, and what is to be done when that counts.
pub(super) struct Finished {
    pub(super) part: manifest::Partition,
    /// From which of its segments on the files may be longer than they should be; `None` if they are as they should be.
    pub(super) first_to_cut: Option<usize>,
}

/// The logs of a shard that was stopped cleanly: everything is in its manifest and flushed, each last partial block too.
pub(super) fn as_stopped(
    manifest: &Manifest,
    known: &BTreeSet<PartitionId>,
    is_deleted: &dyn Fn(PartitionId) -> bool,
) -> Vec<Finished> {
    let is_alive = |id: PartitionId| known.contains(&id) || !is_deleted(id);
    let alive = manifest.partitions.iter().filter(|part| is_alive(part.id()));
    alive.map(|part| Finished { part: part.clone(), first_to_cut: None }).collect()
}

/// Everything a replay needs to know beside the disk.
pub(super) struct Input<'a> {
    pub(super) shard: ShardIndex,
    pub(super) manifest: &'a Manifest,
    pub(super) scan: &'a Scan,
    pub(super) known: &'a BTreeSet<PartitionId>,
    pub(super) is_deleted: &'a dyn Fn(PartitionId) -> bool,
    pub(super) now: Millis,
    pub(super) rules: &'a Rules,
}

/// Rebuilds the logs of one shard: their parts of the next manifest, all of whose bytes are flushed.
pub(super) fn replay(disk: &mut impl Disk, input: &Input<'_>) -> Result<(Vec<Finished>, Replayed), Error> {
    let mut logs = start(disk, input)?;
    let mut replayed = Replayed::default();
    let voids = voids(input)?;
    let first_staged = input.scan.groups.len() - input.scan.staged;
    'groups: for (i, group) in input.scan.groups.iter().enumerate() {
        for entry in group.view(input.manifest).entries() {
            let entry = entry.map_err(|error| input.damaged(Damage::Malformed(group.sequence, error)))?;
            let Some(log) = find_log(&mut logs, input, entry.partition()) else {
                replayed.entries_of_deleted += 1;
                continue;
            };
            if log.apply(disk, input, group.sequence, &voids, &entry)? {
                replayed.entries += 1;
                replayed.entries_staged += usize::from(i >= first_staged);
            }
            if log.cut && !input.rules.hold(Rule::cut_one_partition) {
                break 'groups;
            }
        }
    }
    replayed.logs_cut = logs.values().filter(|log| log.cut).count();
    replayed.logs_moved = logs.values().filter(|log| !log.moved.is_empty()).count();
    let mut parts = Vec::with_capacity(logs.len());
    for log in logs.into_values() {
        parts.push(log.finish(disk, input)?);
    }
    Ok((parts, replayed))
}

/// The logs as the manifest has them.
fn start(disk: &mut impl Disk, input: &Input<'_>) -> Result<BTreeMap<PartitionId, Log>, Error> {
    let mut logs = BTreeMap::new();
    for part in input.manifest.partitions.iter().filter(|part| input.is_alive(part.id())) {
        if input.rules.hold(Rule::damage_is_reported) {
            files::check(disk, input.shard, part)?;
        }
        let mut part = part.clone();
        if !input.rules.hold(Rule::journal_vouches) {
            extend_by_checksum(disk, &mut part)?;
        }
        logs.insert(part.id(), Log::new(part));
    }
    Ok(logs)
}

fn find_log<'a>(
    logs: &'a mut BTreeMap<PartitionId, Log>,
    input: &Input<'_>,
    id: PartitionId,
) -> Option<&'a mut Log> {
    if input.is_alive(id) {
        return Some(logs.entry(id).or_insert_with(|| Log::new(manifest::Partition::empty(id))));
    }
    if input.rules.hold(Rule::entries_name_the_incarnation) {
        return None;
    }
    // The mutant takes a topic's name for its identity: the entry goes to whatever log has the same number.
    logs.values_mut().find(|log| log.part.index == id.index.get())
}

/// The large batches that a later entry declares failed.
fn voids(input: &Input<'_>) -> Result<BTreeSet<(PartitionId, Offset)>, Error> {
    let mut voids = BTreeSet::new();
    for group in &input.scan.groups {
        for entry in group.view(input.manifest).entries() {
            if let Entry::Void(partition, offset) =
                entry.map_err(|error| input.damaged(Damage::Malformed(group.sequence, error)))?
            {
                voids.insert((partition, offset));
            }
        }
    }
    Ok(voids)
}

impl Input<'_> {
    fn damaged(&self, damage: Damage) -> Error {
        Error::Damaged { shard: self.shard, damage }
    }

    /// Whether a log is to be kept: it is known, or at least not known to be deleted.
    fn is_alive(&self, id: PartitionId) -> bool {
        self.known.contains(&id) || !(self.is_deleted)(id)
    }

    fn generation(&self) -> Generation {
        self.manifest.generation()
    }
}

impl Log {
    fn new(part: manifest::Partition) -> Log {
        let producers = Producers::from_manifest(&part.producers);
        let journaled = part.segments.last().map(|s| (Offset(s.base), s.length));
        let mut log = Log {
            first_to_cut: part.segments.len().saturating_sub(UNCUT_SEGMENTS_MAX),
            part,
            producers,
            by_value: Vec::new(),
            touched: BTreeSet::new(),
            cut: false,
            journaled,
            moved: Vec::new(),
        };
        // The last partial block is not trusted on disk: it is written again, with what follows.
        if let Some(last) = log.part.segments.last()
            && !log.part.tail_fragment.is_empty()
        {
            let file = SegmentFile { partition: log.part.id(), base: Offset(last.base) };
            let start = last.length - log.part.tail_fragment.len() as u64;
            log.by_value.push((file, start, log.part.tail_fragment.clone()));
        }
        log
    }

    /// Takes an entry in if it continues the log. True: it brought something.
    fn apply(
        &mut self,
        disk: &mut impl Disk,
        input: &Input<'_>,
        group: JournalSequence,
        voids: &BTreeSet<(PartitionId, Offset)>,
        entry: &Entry<'_>,
    ) -> Result<bool, Error> {
        match *entry {
            Entry::LogStart(_, offset) => {
                if offset.get() < 0 {
                    let what = "the log would start below zero";
                    let partition = self.part.id();
                    return Err(input.damaged(Damage::Inconsistent { partition, offset, what }));
                }
                let is_new = offset.get() > self.part.log_start;
                self.part.log_start = self.part.log_start.max(offset.get());
                Ok(is_new)
            }
            Entry::Void(..) => Ok(false),
            Entry::Small(batch, _) | Entry::Large { batch, .. } => {
                let continues = batch.base_offset.get() == self.part.end && !self.cut;
                let leaves_a_hole =
                    batch.base_offset.get() > self.part.end && !input.rules.hold(Rule::no_holes);
                if !continues && !leaves_a_hole {
                    return Ok(false);
                }
                self.check(&batch, entry, continues).map_err(|damage| input.damaged(damage))?;
                let Some(blocks) = self.blocks(disk, input, group, voids, entry)? else { return Ok(false) };
                self.append(input, &batch, entry, &blocks);
                Ok(true)
            }
        }
    }

    /// The whole blocks of a large batch; `None`, and the log is cut, if they are not what the digest says. Where nothing says
    /// that they were flushed the log moves on.
    fn blocks(
        &mut self,
        disk: &mut impl Disk,
        input: &Input<'_>,
        group: JournalSequence,
        voids: &BTreeSet<(PartitionId, Offset)>,
        entry: &Entry<'_>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let Entry::Large { batch, digest, head, .. } = entry else { return Ok(Some(Vec::new())) };
        let BatchEntry { partition, base_offset: offset, .. } = *batch;
        let is_vouched = group <= input.scan.settled && !voids.contains(&(partition, offset));
        let blocks = matching(disk, input, batch, *digest, head.len())?;
        match &blocks {
            None if is_vouched && input.rules.hold(Rule::damage_is_reported) => {
                return Err(input.damaged(Damage::BatchMismatch { partition, offset }));
            }
            None => self.cut = true,
            Some(_) if is_vouched || !input.rules.hold(Rule::unflushed_large_is_rewritten) => {}
            Some(_) if self.moved.is_empty() => self.moved.push((offset, Vec::new())),
            Some(_) => {}
        }
        Ok(blocks)
    }

    /// Whether an entry says what its log can hold: its checksum shows that the bytes are ours, not that they make sense.
    fn check(&self, batch: &BatchEntry, entry: &Entry<'_>, continues: bool) -> Result<(), Damage> {
        let (base, last) = (batch.base_offset, batch.last_offset);
        let inconsistent =
            |what| Err(Damage::Inconsistent { partition: batch.partition, offset: base, what });
        let records = last.get().checked_sub(base.get());
        if base.get() < 0 || records.is_none_or(|r| !(0..=i64::from(i32::MAX)).contains(&r)) {
            return inconsistent("its offsets are no range");
        }
        let length = u64::from(batch.length);
        if length > READ_BYTES_MAX as u64 || batch.position > SEGMENT_BYTES_MAX || last.get() == i64::MAX {
            return inconsistent("it is larger than any batch or log");
        }
        let follows = match self.journaled {
            Some((segment, length)) if segment == batch.segment => length == batch.position,
            last => {
                let after = last.is_none_or(|(segment, _)| segment < batch.segment);
                batch.position == 0 && batch.segment == base && after
            }
        };
        if continues && !follows {
            return inconsistent("its place does not follow the batch before it");
        }
        let is_whole = match *entry {
            Entry::Small(_, bytes) => bytes.len() == batch.length as usize,
            Entry::Large { head, tail, .. } => {
                fragments(batch.position, batch.length) == Some((head.len(), tail.len()))
            }
            Entry::LogStart(..) | Entry::Void(..) => true,
        };
        if is_whole { Ok(()) } else { inconsistent("its bytes are not as many as it says") }
    }

    fn append(&mut self, input: &Input<'_>, batch: &BatchEntry, entry: &Entry<'_>, blocks: &[u8]) {
        self.journaled = Some((batch.segment, batch.position + u64::from(batch.length)));
        let (segment, position) = match self.moved.is_empty() {
            true => (batch.segment, batch.position),
            false => self.move_on(batch, entry, blocks),
        };
        self.assign_segment(input, batch, segment, position);
        if self.moved.is_empty() {
            self.keep_by_value(input, batch, entry);
            self.touched.insert(segment);
        }
        self.part.end = batch.last_offset.get() + 1;
        let epoch = batch.epoch.get();
        if self.part.epochs.last().is_none_or(|last| last.epoch < epoch) {
            self.part.epochs.push(manifest::Epoch { epoch, start: batch.base_offset.get() });
        }
        let numbered = numbered(batch);
        self.producers.note(&numbered, batch.base_offset, batch.last_offset, input.now);
    }

    fn keep_by_value(&mut self, input: &Input<'_>, batch: &BatchEntry, entry: &Entry<'_>) {
        let file = SegmentFile { partition: self.part.id(), base: batch.segment };
        match *entry {
            Entry::Small(_, bytes) => {
                self.by_value.push((file, batch.position, bytes.to_vec()));
                self.carry_fragment(bytes);
            }
            Entry::Large { head, tail, .. } => {
                if input.rules.hold(Rule::fragments_by_value) {
                    let end = batch.position + u64::from(batch.length);
                    self.by_value.push((file, batch.position, head.to_vec()));
                    self.by_value.push((file, end - tail.len() as u64, tail.to_vec()));
                }
                self.part.tail_fragment = tail.to_vec();
            }
            Entry::LogStart(..) | Entry::Void(..) => unreachable!("these append nothing"),
        }
    }

    /// Puts the whole batch behind those that are written anew, and says where.
    fn move_on(&mut self, batch: &BatchEntry, entry: &Entry<'_>, blocks: &[u8]) -> (Offset, u64) {
        let is_full =
            |(_, bytes): &(Offset, Vec<u8>)| bytes.len() as u64 + u64::from(batch.length) > SEGMENT_BYTES_MAX;
        if self.moved.last().is_none_or(is_full) {
            self.moved.push((batch.base_offset, Vec::new()));
        }
        let (segment, bytes) = self.moved.last_mut().expect("just made sure");
        let position = bytes.len() as u64;
        match *entry {
            Entry::Small(_, whole) => bytes.extend_from_slice(whole),
            Entry::Large { head, tail, .. } => {
                [head, blocks, tail].into_iter().for_each(|part| bytes.extend_from_slice(part));
            }
            Entry::LogStart(..) | Entry::Void(..) => unreachable!("these append nothing"),
        }
        let partial = bytes.len() - bytes.len() % BLOCK_BYTES;
        self.part.tail_fragment = bytes[partial..].to_vec();
        (*segment, position)
    }

    fn assign_segment(&mut self, input: &Input<'_>, batch: &BatchEntry, base: Offset, position: u64) {
        if self.part.segments.last().is_none_or(|s| s.base != base.get()) {
            self.part.segments.push(manifest::Segment {
                base: base.get(),
                length: 0,
                max_timestamp: -1,
                created: input.now,
            });
            if self.moved.is_empty() {
                self.part.tail_fragment.clear();
            }
        }
        let segment = self.part.segments.last_mut().expect("just made sure");
        segment.length = position + u64::from(batch.length);
        segment.max_timestamp = segment.max_timestamp.max(batch.max_timestamp);
    }

    /// Keeps the bytes of the last partial block, which the next manifest holds by value.
    fn carry_fragment(&mut self, bytes: &[u8]) {
        self.part.tail_fragment.extend_from_slice(bytes);
        let whole = self.part.tail_fragment.len() - self.part.tail_fragment.len() % BLOCK_BYTES;
        self.part.tail_fragment.drain(..whole);
    }

    /// Writes what the journal had by value, and what moves, and flushes it. Nothing that the old root may need is lost.
    fn finish(mut self, disk: &mut impl Disk, input: &Input<'_>) -> Result<Finished, Error> {
        for (file, position, bytes) in
            runs(std::mem::take(&mut self.by_value)).map_err(|d| input.damaged(d))?
        {
            disk.write_segment(file, position, &bytes)?;
            self.touched.insert(file.base);
        }
        let partition = self.part.id();
        for base in &self.touched {
            if input.rules.hold(Rule::recovery_flushes) {
                disk.flush_segment(SegmentFile { partition, base: *base })?;
            }
        }
        for (base, mut bytes) in self.moved {
            bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
            disk.replace_segment(SegmentFile { partition, base }, &bytes)?;
        }
        self.part.producers = self.producers.to_manifest();
        self.part.log_start = self.part.log_start.min(self.part.end);
        Ok(Finished { part: self.part, first_to_cut: Some(self.first_to_cut) })
    }
}

/// Cuts a log's files to what they hold and removes those that do not count, once the root says so: what lies behind the
/// log's end belongs to batches that no later reader is to meet.
pub(super) fn tidy_up(disk: &mut impl Disk, part: &manifest::Partition, first: usize) -> Result<(), Error> {
    let partition = part.id();
    for (i, segment) in part.segments.iter().enumerate().skip(first) {
        let is_last = i + 1 == part.segments.len();
        let length =
            if is_last { segment.length.next_multiple_of(BLOCK_BYTES as u64) } else { segment.length };
        disk.trim_segment(SegmentFile { partition, base: Offset(segment.base) }, length)?;
    }
    let bases: Vec<i64> = part.segments.iter().map(|s| s.base).collect();
    Ok(disk.retain_segments(partition, &bases)?)
}

/// Bytes for a segment: where, and what.
type Piece = (SegmentFile, u64, Vec<u8>);

/// Joins neighbouring bytes into whole blocks, with zeros behind the last.
fn runs(by_value: Vec<Piece>) -> Result<Vec<Piece>, Damage> {
    let mut runs: Vec<Piece> = Vec::new();
    for (file, position, bytes) in by_value {
        match runs.last_mut() {
            Some((last, start, run)) if *last == file && *start + run.len() as u64 == position => {
                run.extend_from_slice(&bytes);
            }
            _ if bytes.is_empty() => {}
            _ if !position.is_multiple_of(BLOCK_BYTES as u64) => {
                let SegmentFile { partition, base: offset } = file;
                let what = "bytes begin inside a block and follow nothing";
                return Err(Damage::Inconsistent { partition, offset, what });
            }
            _ => runs.push((file, position, bytes)),
        }
    }
    for (_, _, run) in &mut runs {
        run.resize(run.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    Ok(runs)
}

/// The whole blocks of a large batch, if they are on disk as its digest says.
fn matching(
    disk: &mut impl Disk,
    input: &Input<'_>,
    batch: &BatchEntry,
    expected: [u8; 16],
    head: usize,
) -> Result<Option<Vec<u8>>, Error> {
    let Some((_, tail)) = fragments(batch.position, batch.length) else {
        return Ok(None);
    };
    let length = batch.length as usize - head - tail;
    let file = SegmentFile { partition: batch.partition, base: batch.segment };
    let blocks = disk.read_segment(file, batch.position + head as u64, length)?;
    Ok(blocks.filter(|blocks| blocks.len() == length && digest(input.generation(), blocks) == expected))
}

fn numbered(batch: &BatchEntry) -> Numbered {
    let records = u32::try_from(batch.last_offset.get() - batch.base_offset.get()).unwrap_or(0);
    let base_sequence = Sequence(batch.base_sequence);
    Numbered {
        id: batch.producer_id,
        epoch: batch.producer_epoch,
        base_sequence,
        last_sequence: base_sequence.wrapping_add(records),
    }
}

/// The mutant that believes what lies behind the manifest's position: batches with a good checksum and the next offset.
fn extend_by_checksum(disk: &mut impl Disk, part: &mut manifest::Partition) -> Result<(), Error> {
    let id = part.id();
    let Some(last) = part.segments.last_mut() else { return Ok(()) };
    let file = SegmentFile { partition: id, base: Offset(last.base) };
    let block = last.length - last.length % BLOCK_BYTES as u64;
    let lead = usize::try_from(last.length - block).expect("less than a block");
    let bytes = disk.read_segment(file, block, 1 << 20)?.unwrap_or_default();
    let mut at = lead;
    while let Some(Ok((batch, length))) = bytes.get(at..).map(BatchView::parse) {
        if batch.base_offset().get() != part.end || batch.check_crc().is_err() {
            break;
        }
        part.end = batch.last_offset().get() + 1;
        at += length;
    }
    last.length = block + at as u64;
    let partial = at - at % BLOCK_BYTES;
    part.tail_fragment = bytes.get(partial..at).unwrap_or_default().to_vec();
    Ok(())
}
