//! What a shard of our own writes: journal groups, and the directory that a killed process leaves.

use std::collections::{BTreeMap, BTreeSet};

use corelane_shards::core::effect::SegmentFile;
use corelane_shards::core::{Acks, Completion, Effect, Operation, Shard, Tag};
use corelane_shards::format::batch::fixture;
use corelane_shards::format::journal::{BatchEntry, Entry, GROUP_HEADER_BYTES};
use corelane_shards::types::{
    JournalSequence, LeaderEpoch, Offset, PartitionId, PartitionIndex, ProducerEpoch, ProducerId, Sequence,
    TopicId,
};

use super::super::disk::{Blocks, MemoryDisk};
use super::super::input::piece;
use super::super::journal::{close, encode};
use super::super::recovery::{open, start};
use super::Put;

/// From this size on a batch goes to its segment directly. Bytes.
const LARGE_BATCH_BYTES: usize = 9000;

/// Bytes of an envelope before its payload.
const ENVELOPE_BYTES: usize = 24;

pub(super) fn put(put: &mut Put<'_>) {
    for (name, entry) in [
        ("log-start", Entry::LogStart(log(1), Offset(7))),
        ("void", Entry::Void(log(1), Offset(9))),
        ("small", Entry::Small(batch_entry(11), b"eleven byte")),
        (
            "large",
            Entry::Large { batch: batch_entry(9000), digest: [9; 16], head: &[1; 4093], tail: &[2; 811] },
        ),
    ] {
        let entries = encode(&entry);
        put("journal", &format!("{name}-closed"), close(JournalSequence(1), 0, &entries));
        put("journal", &format!("{name}-entries"), entries);
    }
    put("recovery", "empty", piece(&Killed::after(0).manifest));
    for turns in [1, 3] {
        let killed = Killed::after(turns);
        put("recovery", &format!("{turns}-turns"), killed.input(|_| 0));
        put("recovery", &format!("{turns}-turns-staged"), killed.input(|_| 0x80));
        // Every group but the last says that the ones before it are durable and settled; the first is missing.
        put(
            "recovery",
            &format!("{turns}-turns-vouched"),
            killed.input(|group| if group == 0 { 0x80 } else { 0o11 }),
        );
    }
}

fn log(index: i32) -> PartitionId {
    PartitionId { topic: TopicId([7; 16]), index: PartitionIndex(index) }
}

/// A batch that begins three bytes into a block.
fn batch_entry(length: u32) -> BatchEntry {
    BatchEntry {
        partition: log(1),
        epoch: LeaderEpoch(2),
        base_offset: Offset(7),
        last_offset: Offset(8),
        segment: Offset(0),
        position: 3,
        length,
        producer_id: ProducerId(4),
        producer_epoch: ProducerEpoch(0),
        base_sequence: 0,
        max_timestamp: 1_700_000_000_000,
    }
}

/// What a killed process left.
struct Killed {
    /// Its manifest's payload.
    manifest: Vec<u8>,
    /// The entries of its groups.
    groups: Vec<Vec<u8>>,
    segments: BTreeMap<SegmentFile, Blocks>,
}

impl Killed {
    /// A shard with two logs that lived for so many turns.
    fn after(turns: i32) -> Killed {
        let known: BTreeSet<PartitionId> = [log(0), log(1)].into();
        let mut disk = MemoryDisk::default();
        let (opened, report) = open(&mut disk, &known).expect("a new directory opens");
        let manifest = disk.manifests[&opened[0].manifest][ENVELOPE_BYTES..].to_vec();
        let mut killed = Killed { manifest, groups: Vec::new(), segments: BTreeMap::new() };
        let mut shard = start(&opened, report.epoch, LARGE_BATCH_BYTES);
        for turn in 0..turns {
            append(&mut shard, turn);
            shard.turn(i64::from(turn));
            for effect in shard.take_effects() {
                killed.perform(&mut shard, effect);
            }
        }
        killed
    }

    /// Does what the shard asks for, but for manifests: what is in the journal stays there.
    fn perform(&mut self, shard: &mut Shard, effect: Effect) {
        let operation: Operation = match effect {
            Effect::WriteJournal { operation, bytes, .. } => {
                let entries = bytes[GROUP_HEADER_BYTES..].to_vec();
                let length = u32::from_le_bytes(*bytes[32..].first_chunk().expect("a header"));
                self.groups.push(entries[..length as usize - GROUP_HEADER_BYTES].to_vec());
                operation
            }
            Effect::WriteSegment { operation, file, position, bytes } => {
                self.segments.entry(file).or_default().write(position, &bytes);
                operation
            }
            Effect::FlushJournal { operation }
            | Effect::CreateSegment { operation, .. }
            | Effect::FlushDirectory { operation, .. }
            | Effect::FlushSegment { operation, .. } => operation,
            _ => return,
        };
        shard.complete(Completion::of(operation, Ok(())));
    }

    /// As the target's input; `how` gives the byte before each group.
    fn input(&self, how: impl Fn(usize) -> u8) -> Vec<u8> {
        let mut input = piece(&self.manifest);
        for (number, entries) in self.groups.iter().enumerate() {
            input.push(how(number));
            input.extend(piece(entries));
        }
        input.extend([0; 3]);
        for index in 0..2 {
            let segment = self.segments.get(&SegmentFile { partition: log(index), base: Offset(0) });
            input.extend(piece(&segment.map(Blocks::content).unwrap_or_default()));
        }
        input
    }
}

/// A small batch, one of an idempotent producer, and in every second turn a large one.
fn append(shard: &mut Shard, turn: i32) {
    let mut append = |log, batch: &[u8]| {
        let tag = Tag(turn.unsigned_abs().into());
        shard.append(0, log, batch, Acks::All, tag).expect("there is room");
    };
    append(log(0), &fixture::batch(&fixture::Header::default(), &[b"one", b"two"]));
    let producer = fixture::Header::idempotent(ProducerId(4), ProducerEpoch(0), Sequence(turn));
    append(log(1), &fixture::batch(&producer, &[b"once"]));
    if turn % 2 == 1 {
        append(log(0), &fixture::batch(&fixture::Header::default(), &[vec![b'x'; LARGE_BATCH_BYTES]]));
    }
}
