//! Journals and segments, whole and damaged, alone and in a data directory.

use std::path::PathBuf;

use corelane_shards::format::batch;
use corelane_shards::format::journal::{BatchEntry, Entry, GroupHeader};
use corelane_shards::format::manifest::{Manifest, Partition, Segment};
use corelane_shards::types::{
    Generation, JournalSequence, LeaderEpoch, Offset, PartitionId, PartitionIndex, ProducerEpoch, ProducerId,
    TopicId,
};

use super::testing::{Dumped, Folder, GENERATION, dumped, manifest};

const LOG: PartitionId = PartitionId { topic: TopicId([9; 16]), index: PartitionIndex(0) };
const BLOCK: usize = 4096;

/// A batch of ten records by a foreign client.
const BATCH: &[u8] = include_bytes!("../../../shards/src/format/testdata/none.batch");

/// Groups one after the other, each in a block and with one batch, from position 0 and sequence 1.
struct Groups {
    bytes: Vec<u8>,
    previous: u32,
    next: u64,
    /// The checksum of each.
    sums: Vec<u32>,
}

impl Groups {
    fn new(count: u64) -> Groups {
        let mut groups = Groups { bytes: Vec::new(), previous: 0, next: 1, sums: Vec::new() };
        (0..count).for_each(|_| groups.push(GENERATION, 10));
        groups
    }

    /// Adds a group that says that all before it were flushed. Its one batch has ten bytes, whatever its entry says.
    fn push(&mut self, generation: u64, batch_bytes: u32) {
        let offset = Offset(self.next.cast_signed() * 10);
        let batch = BatchEntry {
            partition: LOG,
            epoch: LeaderEpoch(1),
            base_offset: offset,
            last_offset: Offset(offset.get() + 9),
            segment: Offset(0),
            position: 0,
            length: batch_bytes,
            producer_id: ProducerId(4711),
            producer_epoch: ProducerEpoch(1),
            base_sequence: 0,
            max_timestamp: 1_700_000_000_000,
        };
        let bytes = vec![7; 10];
        let (mut entry, length) = Entry::Small(batch, &bytes).encode_header();
        entry[..4].copy_from_slice(&length.to_le_bytes());
        let mut entries = [&entry[..], &bytes].concat();
        entries.resize(length as usize, 0);
        let header = GroupHeader {
            generation: Generation(generation),
            sequence: JournalSequence(self.next),
            previous: self.previous,
            length: 64 + length,
            entries: 1,
            durable: JournalSequence(self.next - 1),
            settled: JournalSequence(self.next - 1),
        };
        let (header, sum) = header.encode_closed(&entries);
        self.bytes.extend([&header[..], &entries].concat());
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        (self.previous, self.next) = (sum, self.next + 1);
        self.sums.push(sum);
    }

    /// A directory whose manifest covers the first two; `change` is made to the journal's bytes.
    fn in_directory(mut self, test: &str, change: impl FnOnce(&mut [u8])) -> (Folder, PathBuf) {
        let folder = Folder::new(test);
        let mut manifest = manifest();
        manifest.tail.previous = self.sums[1];
        folder.directory(&manifest);
        self.bytes.resize(usize::try_from(manifest.capacity).unwrap(), 0);
        change(&mut self.bytes);
        let path = folder.write("journal/0", &self.bytes);
        (folder, path)
    }
}

fn states(dumped: &Dumped) -> Vec<String> {
    dumped.objects("group").iter().map(|group| group["state"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_journals_groups_are_told_by_what_a_start_would_do_with_them() {
    let mut groups = Groups::new(5);
    groups.push(77, 10);
    let (folder, path) = groups.in_directory("journal", |_| {});
    let json = dumped(&path, &["--json"]);
    assert_eq!(json.code, 0, "{}", json.text);
    assert_eq!(
        states(&json),
        ["in manifest", "in manifest", "to replay", "to replay", "to replay", "former"]
    );
    let summary = &json.objects("journal_summary")[0];
    assert_eq!((&summary["groups_to_replay"], &summary["flushed_up_to_sequence"]), (&3.into(), &4.into()));
    let entry = &json.objects("entry")[2];
    assert_eq!(
        (&entry["base_offset"], &entry["producer"], &entry["group"]),
        (&30.into(), &4711.into(), &3.into())
    );
    let overview = dumped(folder.path(), &["--json"]);
    let log = &overview.objects("log")[0];
    assert_eq!((&log["batches_to_replay"], &log["end"]), (&3.into(), &60.into()));
    for text in [json.text, dumped(&path, &[]).text] {
        let bytes = GENERATION.to_le_bytes().map(|byte| format!("{byte:02x}")).concat();
        for secret in [format!("{GENERATION:x}"), GENERATION.to_string(), bytes] {
            assert!(!text.contains(&secret), "the generation is shown: {text}");
        }
    }
}

#[test]
fn a_group_is_damage_only_where_something_vouches_for_it() {
    let flipped = |group: usize| {
        let mut groups = Groups::new(5);
        groups.push(77, 10);
        let (_folder, path) =
            groups.in_directory(&format!("journal-{group}"), |bytes| bytes[group * BLOCK + 100] ^= 1);
        dumped(&path, &["--json"])
    };
    let covered = flipped(0);
    assert_eq!((covered.code, &covered.objects("damage")[0]["position"]), (1, &0.into()));
    let vouched = flipped(2);
    assert_eq!(vouched.code, 1, "{}", vouched.text);
    let damage = &vouched.objects("damage")[0];
    assert_eq!(damage["position"], 2 * BLOCK);
    assert!(damage["reason"].as_str().unwrap().starts_with("group 3 should begin here"), "{damage}");
    assert_eq!(states(&vouched)[2..5], ["bad checksum", "unreached", "unreached"]);
    let torn = flipped(4);
    assert_eq!((torn.code, states(&torn)[4].as_str()), (0, "bad checksum"), "{}", torn.text);
    assert_eq!(flipped(5).code, 0, "what a former opening left may be torn");
}

#[test]
fn a_covered_group_that_a_torn_write_may_have_hit_is_no_damage() {
    // The tail lies before the covered groups, as after a lap of the ring: a write that was under way ends there.
    let mut groups = Groups::new(6);
    groups.bytes[3 * BLOCK + 100] ^= 1;
    let folder = Folder::new("journal-lap");
    let mut manifest = manifest();
    (manifest.tail.sequence, manifest.tail.position, manifest.durable) = (50, BLOCK as u64, 49);
    folder.directory(&manifest);
    groups.bytes.resize(65_536, 0);
    let path = folder.write("journal/0", &groups.bytes);
    assert_eq!(dumped(&path, &[]).code, 0);
    (manifest.tail.position, manifest.tail.sequence) = (8 * BLOCK as u64, 50);
    folder.directory(&manifest);
    let dumped = dumped(&path, &[]);
    assert_eq!(dumped.code, 1, "{}", dumped.text);
}

#[test]
fn a_journal_without_its_manifest_and_one_with_nonsense_in_it_are_told() {
    let mut groups = Groups::new(2);
    let folder = Folder::new("journal-alone");
    let whole = dumped(&folder.write("copy", &groups.bytes), &["--json"]);
    assert_eq!((whole.code, whole.objects("group").len()), (0, 2), "{}", whole.text);
    assert!(whole.objects("group").iter().all(|group| group["state"].is_null()));
    // A small batch that says it has more bytes than its entry.
    groups.push(GENERATION, 5000);
    let nonsense = dumped(&folder.write("copy", &groups.bytes), &["--json"]);
    assert_eq!((nonsense.code, &nonsense.objects("damage")[0]["position"]), (1, &(2 * BLOCK).into()));
    groups.bytes[100] ^= 1;
    let damaged = dumped(&folder.write("copy", &groups.bytes), &["--json"]);
    assert_eq!(damaged.objects("damage")[0]["position"], 0);
}

#[test]
fn a_journal_that_lost_its_end_is_damage() {
    let (folder, path) = Groups::new(3).in_directory("journal-short", |_| {});
    let bytes = std::fs::read(&path).unwrap();
    let dumped = dumped(&folder.write("journal/0", &bytes[..32_768]), &[]);
    assert!(dumped.code == 1 && dumped.text.contains("at byte 32768"), "{}", dumped.text);
}

/// Three batches of ten records.
fn segment() -> Vec<u8> {
    let batch = |base: i64| {
        let mut batch = BATCH.to_vec();
        batch::assign(&mut batch, Offset(base), LeaderEpoch(1));
        batch
    };
    [batch(0), batch(10), batch(20)].concat()
}

fn dumped_segment(test: &str, bytes: &[u8], flags: &[&str]) -> Dumped {
    let folder = Folder::new(test);
    dumped(&folder.write("00000000000000000000.log", bytes), flags)
}

#[test]
fn a_segments_batches_and_records_are_told() {
    let json = dumped_segment("segment", &segment(), &["--json", "--records"]);
    assert_eq!((json.code, json.objects("batch").len(), json.objects("record").len()), (0, 3, 30));
    let record = &json.objects("record")[16];
    assert_eq!((&record["offset"], &record["key"]), (&16.into(), &"key-6".into()));
    assert_eq!(record["headers"], serde_json::json!([["h", "v"]]));
    let summary = &json.objects("segment_summary")[0];
    assert_eq!((&summary["records"], &summary["end_offset"]), (&30.into(), &30.into()));
    let human = dumped_segment("segment", &[segment(), vec![0; 5000]].concat(), &["--records"]);
    assert_eq!(human.code, 0, "zeros behind the last batch are room for more");
    assert!(human.text.contains("\"key-6\"  \"value 6 abcdefgh") && human.text.contains("5000 zero bytes"));
}

#[test]
fn a_damaged_batch_is_told_and_the_others_are_shown() {
    let mut body = segment();
    body[BATCH.len() + 100] ^= 1;
    let dumped = dumped_segment("segment-body", &body, &["--json"]);
    assert_eq!((dumped.code, &dumped.objects("damage")[0]["position"]), (1, &BATCH.len().into()));
    let crcs: Vec<_> = dumped.objects("batch").iter().map(|batch| batch["crc"].clone()).collect();
    assert_eq!(crcs, ["ok", "BAD", "ok"]);
    for at in [8, 16, 21] {
        let mut header = segment();
        header[BATCH.len() + at] ^= 0x40;
        let dumped = dumped_segment("segment-header", &header, &["--json"]);
        let places: Vec<_> =
            dumped.objects("batch").iter().map(|batch| batch["base_offset"].clone()).collect();
        assert_eq!((dumped.code, places), (1, vec![0.into(), 20.into()]), "byte {at}: {}", dumped.text);
    }
    let cut = &segment()[..3 * BATCH.len() - 1];
    assert_eq!(dumped_segment("segment-cut", cut, &[]).code, 1);
    let mut swapped = segment();
    swapped.rotate_left(BATCH.len());
    assert_eq!(dumped_segment("segment-order", &swapped, &[]).code, 1, "offsets go up");
}

/// A directory whose manifest has this log, and the log's segment.
fn log_in_directory(test: &str, length: usize, fragment: &[u8], bytes: &[u8]) -> Dumped {
    let folder = Folder::new(test);
    let segment = Segment { base: 0, length: length as u64, max_timestamp: -1, created: 1 };
    let mut part = Partition { end: 30, segments: vec![segment], ..Partition::empty(LOG) };
    part.tail_fragment = fragment.to_vec();
    folder.directory(&Manifest { partitions: vec![part], ..manifest() });
    let name = format!("topics/{}/0/00000000000000000000.log", LOG.topic);
    dumped(&folder.write(&name, bytes), &["--json"])
}

#[test]
fn what_lies_behind_the_flushed_bytes_is_no_damage() {
    // Enough batches for two whole blocks.
    let many: Vec<u8> = (0..8)
        .flat_map(|i| {
            let mut batch = BATCH.to_vec();
            batch::assign(&mut batch, Offset(i * 10), LeaderEpoch(1));
            batch
        })
        .collect();
    let flushed = 7 * BATCH.len();
    let start = flushed - flushed % BLOCK;
    assert!(start > 0 && start < flushed, "the fragment begins inside");
    let fragment = &many[start..flushed];
    let flip = |at: usize| {
        let mut bytes = many.clone();
        bytes[at] ^= 1;
        log_in_directory("segment-in", flushed, fragment, &bytes)
    };
    let whole = log_in_directory("segment-in", flushed, fragment, &many);
    assert_eq!((whole.code, whole.objects("batch").len(), whole.objects("note").len()), (0, 8, 0));
    assert_eq!(flip(flushed + 100).code, 0, "not flushed, so a start takes it from the journal");
    let kept = flip(flushed - 1);
    assert_eq!((kept.code, kept.objects("note").len()), (0, 1), "the manifest has the last block");
    assert_eq!(flip(100).code, 1);
    let lost = log_in_directory("segment-in", flushed, fragment, &many[..start - 1]);
    assert_eq!(lost.code, 1, "{}", lost.text);
}
