//! One shard's logs, rebuilt from its manifest and its journal, and written to their segments.
//!
//! Bytes that the journal holds by value are written again from there; whole blocks of large batches are read and
//! compared with their digest, and never written. A batch that does not match ends its log, and only its log, unless
//! something durable says that it had been flushed: then it is damage.

use std::collections::{BTreeMap, BTreeSet};

use super::disk::Disk;
use super::error::{Damage, Error};
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
}

/// What replay says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Entries that brought something new.
    pub entries: usize,
    /// Entries from groups that only staging memory had.
    pub entries_staged: usize,
    /// Logs that ended at a batch that did not match its digest.
    pub logs_cut: usize,
    /// Entries of logs that were deleted.
    pub entries_of_deleted: usize,
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
pub(super) fn replay(
    disk: &mut impl Disk,
    input: &Input<'_>,
) -> Result<(Vec<manifest::Partition>, Replayed), Error> {
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
        let mut log = Log { part, producers, by_value: Vec::new(), touched: BTreeSet::new(), cut: false };
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
                if let Entry::Large { digest, head, .. } = entry
                    && !matches(disk, input, &batch, *digest, head.len())?
                {
                    let is_vouched =
                        group <= input.scan.settled && !voids.contains(&(batch.partition, batch.base_offset));
                    if is_vouched && input.rules.hold(Rule::damage_is_reported) {
                        let damage =
                            Damage::BatchMismatch { partition: batch.partition, offset: batch.base_offset };
                        return Err(input.damaged(damage));
                    }
                    self.cut = true;
                    return Ok(false);
                }
                self.append(input, &batch, entry);
                Ok(true)
            }
        }
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
        let active = self.part.segments.last().filter(|s| s.base == batch.segment.get());
        let follows = match active {
            Some(segment) => segment.length == batch.position,
            None => {
                let after = self.part.segments.last().is_none_or(|s| s.base < batch.segment.get());
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

    fn append(&mut self, input: &Input<'_>, batch: &BatchEntry, entry: &Entry<'_>) {
        self.assign_segment(input, batch);
        let file = SegmentFile { partition: self.part.id(), base: batch.segment };
        let end = batch.position + u64::from(batch.length);
        match *entry {
            Entry::Small(_, bytes) => self.by_value.push((file, batch.position, bytes.to_vec())),
            Entry::Large { head, tail, .. } => {
                if input.rules.hold(Rule::fragments_by_value) {
                    self.by_value.push((file, batch.position, head.to_vec()));
                    self.by_value.push((file, end - tail.len() as u64, tail.to_vec()));
                }
                self.part.tail_fragment = tail.to_vec();
            }
            Entry::LogStart(..) | Entry::Void(..) => unreachable!("these append nothing"),
        }
        if let Entry::Small(_, bytes) = *entry {
            self.carry_fragment(bytes);
        }
        self.touched.insert(batch.segment);
        self.part.end = batch.last_offset.get() + 1;
        let epoch = batch.epoch.get();
        if self.part.epochs.last().is_none_or(|last| last.epoch < epoch) {
            self.part.epochs.push(manifest::Epoch { epoch, start: batch.base_offset.get() });
        }
        let numbered = numbered(batch);
        self.producers.note(&numbered, batch.base_offset, batch.last_offset, input.now);
    }

    fn assign_segment(&mut self, input: &Input<'_>, batch: &BatchEntry) {
        let is_new = self.part.segments.last().is_none_or(|s| s.base != batch.segment.get());
        if is_new {
            self.part.segments.push(manifest::Segment {
                base: batch.segment.get(),
                length: 0,
                max_timestamp: -1,
                created: input.now,
            });
            self.part.tail_fragment.clear();
        }
        let segment = self.part.segments.last_mut().expect("just made sure");
        segment.length = batch.position + u64::from(batch.length);
        segment.max_timestamp = segment.max_timestamp.max(batch.max_timestamp);
    }

    /// Keeps the bytes of the last partial block, which the next manifest holds by value.
    fn carry_fragment(&mut self, bytes: &[u8]) {
        self.part.tail_fragment.extend_from_slice(bytes);
        let whole = self.part.tail_fragment.len() - self.part.tail_fragment.len() % BLOCK_BYTES;
        self.part.tail_fragment.drain(..whole);
    }

    /// Writes what the journal had by value and flushes what was touched.
    fn finish(mut self, disk: &mut impl Disk, input: &Input<'_>) -> Result<manifest::Partition, Error> {
        for (file, position, bytes) in
            runs(std::mem::take(&mut self.by_value)).map_err(|d| input.damaged(d))?
        {
            disk.write_segment(file, position, &bytes)?;
            self.touched.insert(file.base);
        }
        let id = self.part.id();
        let last = self.part.segments.last().map(|s| s.base);
        for base in &self.touched {
            let file = SegmentFile { partition: id, base: *base };
            let segment = self.part.segments.iter().find(|s| s.base == base.get());
            if let Some(segment) = segment.filter(|s| Some(s.base) != last) {
                disk.trim_segment(file, segment.length)?;
            }
            if input.rules.hold(Rule::recovery_flushes) {
                disk.flush_segment(file)?;
            }
        }
        // What lies behind the log's end belongs to batches that do not count: no later reader is to meet it.
        if let Some(segment) = self.part.segments.last() {
            let file = SegmentFile { partition: id, base: Offset(segment.base) };
            disk.trim_segment(file, segment.length.next_multiple_of(BLOCK_BYTES as u64))?;
        }
        let bases: Vec<i64> = self.part.segments.iter().map(|s| s.base).collect();
        disk.retain_segments(id, &bases)?;
        self.part.producers = self.producers.to_manifest();
        self.part.log_start = self.part.log_start.min(self.part.end);
        Ok(self.part)
    }
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

/// Whether the whole blocks of a large batch are on disk.
fn matches(
    disk: &mut impl Disk,
    input: &Input<'_>,
    batch: &BatchEntry,
    expected: [u8; 16],
    head: usize,
) -> Result<bool, Error> {
    let Some((_, tail)) = fragments(batch.position, batch.length) else {
        return Ok(false);
    };
    let length = batch.length as usize - head - tail;
    let file = SegmentFile { partition: batch.partition, base: batch.segment };
    let blocks = disk.read_segment(file, batch.position + head as u64, length)?;
    Ok(blocks.is_some_and(|blocks| blocks.len() == length && digest(input.generation(), &blocks) == expected))
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
