//! A whole directory of one shard.

use std::collections::BTreeSet;
use std::rc::Rc;

use corelane_shards::core::effect::SegmentFile;
use corelane_shards::core::journal::{FlushMethod, Geometry};
use corelane_shards::core::recovery::{self, Error, Opened, Opening, Report};
use corelane_shards::core::{Config, Rules, Shard, Tuning};
use corelane_shards::format::batch::TimestampType;
use corelane_shards::format::envelope::{self, Kind};
use corelane_shards::format::journal::{GROUP_HEADER_BYTES, GroupHeader};
use corelane_shards::format::manifest::{self, Manifest};
use corelane_shards::format::root::Root;
use corelane_shards::limits::{BLOCK_BYTES, LARGE_BATCH_BYTES};
use corelane_shards::memory::{Mapping, Slab, Staging};
use corelane_shards::types::{JournalSequence, LeaderEpoch, Offset, PartitionId, ShardIndex};

use super::disk::{Blocks, MemoryDisk};
use super::input::Input;

/// The measures of a new journal.
pub(crate) const GEOMETRY: Geometry = Geometry { capacity: 64 << 10, group_bytes_max: 16 << 10 };

/// The longest journal that a directory here has. Bytes.
const JOURNAL_BYTES_MAX: u64 = 1 << 20;

/// The name of the only manifest.
pub(crate) const MANIFEST: &str = "m";

/// Makes a directory of `input`: a manifest, groups that follow it in the journal or only in staging memory, and segments;
/// all under right checksums. Then opens it. It may be refused; but what is opened can be started, and opens again to the
/// same logs.
pub fn recovery(input: &[u8]) {
    let mut input = Input(input);
    let mut disk = MemoryDisk { root: Some(root()), ..MemoryDisk::default() };
    let bytes = envelope::seal(Kind::Manifest, manifest::VERSION, input.piece());
    let manifest = Manifest::decode(&bytes);
    disk.manifests.insert(MANIFEST.to_owned(), bytes);
    let Ok(manifest) = manifest else {
        assert!(
            open(&mut disk, &BTreeSet::new()).is_err(),
            "a manifest that cannot be read is not passed over"
        );
        return;
    };
    disk.generation = manifest.generation;
    write_journal(&mut disk, &manifest, &mut input);
    write_segments(&mut disk, &manifest, &mut input);
    let known: BTreeSet<PartitionId> = manifest.partitions.iter().map(manifest::Partition::id).collect();
    let Ok((opened, report)) = open(&mut disk, &known) else { return };
    start(&opened, report.epoch, LARGE_BATCH_BYTES);
    let (again, report) = open(&mut disk, &known).expect("what was opened opens again");
    assert_eq!(report.groups, 0, "nothing is left in the journal");
    start(&again, report.epoch, LARGE_BATCH_BYTES);
    let logs = |opened: Vec<Opened>| opened.into_iter().flat_map(|o| o.partitions).collect::<Vec<_>>();
    assert_eq!(logs(opened), logs(again));
}

/// The root of a directory with one shard.
pub(crate) fn root() -> Vec<u8> {
    Root { epoch: 1, manifests: vec![MANIFEST.to_owned()] }.encode()
}

/// Opens the directory with one shard.
pub(crate) fn open(
    disk: &mut MemoryDisk,
    known: &BTreeSet<PartitionId>,
) -> Result<(Vec<Opened>, Report), Error> {
    let opening = Opening {
        shards: 1,
        known,
        is_deleted: &|_| false,
        owner: &|_| ShardIndex(0),
        geometry: GEOMETRY,
        flush_method: FlushMethod::Dsync,
        was_stopped_cleanly: false,
        epoch_floor: LeaderEpoch(0),
        now: 1_700_000_000_000,
        rules: &Rules::default(),
    };
    recovery::open(disk, &opening)
}

/// The shard of an opening, with its logs.
pub(crate) fn start(opened: &[Opened], epoch: LeaderEpoch, large_batch_bytes: usize) -> Shard {
    let [opened] = opened else { panic!("one shard was asked for") };
    let chunk_bytes = usize::try_from(opened.start.geometry.group_bytes_max).expect("64 bits");
    let staging = Staging::new(Rc::new(Mapping::private(2 * chunk_bytes).expect("memory")), chunk_bytes);
    let tuning = Tuning { large_batch_bytes, lazy_reserve_bytes: 0, ..Tuning::default() };
    let mut shard = Shard::new(opened.start, epoch, staging, Slab::new(1 << 20), tuning, Rules::default());
    let config = Config {
        segment_bytes: 1 << 30,
        segment_ms: 600_000,
        batch_bytes_max: 1 << 20,
        timestamp_type: TimestampType::CreateTime,
        producer_expiration_ms: 86_400_000,
    };
    opened.partitions.iter().for_each(|part| shard.open_partition(part, config));
    shard
}

/// The groups of the input, one after the other as a journal holds them: until a piece is empty. The first byte of each says
/// what it vouches for, and whether only staging memory has it.
fn write_journal(disk: &mut MemoryDisk, manifest: &Manifest, input: &mut Input<'_>) {
    let geometry = Geometry { capacity: manifest.capacity, group_bytes_max: manifest.group_bytes_max };
    let mut journal = Blocks::zeros(manifest.capacity.min(JOURNAL_BYTES_MAX));
    let (mut position, mut sequence) = (manifest.tail.position, manifest.tail_sequence());
    let (mut previous, mut staged) = (manifest.tail.previous, Vec::new());
    loop {
        let (how, entries) = (input.u8(), input.piece());
        if entries.is_empty() || position + entries.len() as u64 + 2 * BLOCK_BYTES as u64 > journal.bytes {
            break;
        }
        let header = GroupHeader {
            generation: manifest.generation(),
            sequence,
            previous,
            length: u32::try_from(GROUP_HEADER_BYTES + entries.len()).expect("a piece is short"),
            entries: 1,
            durable: JournalSequence(sequence.get().saturating_sub(u64::from(how & 7))),
            settled: JournalSequence(sequence.get().saturating_sub(u64::from(how >> 3 & 7))),
        };
        let (bytes, sum) = header.encode_closed(entries);
        let mut group = [&bytes[..], entries].concat();
        group.resize(group.len().next_multiple_of(BLOCK_BYTES), 0);
        if how & 0x80 == 0 {
            journal.write(position, &group);
        } else {
            staged.extend_from_slice(&group);
        }
        (position, previous) = (geometry.next_position(position + group.len() as u64), sum);
        sequence = sequence.next();
    }
    disk.journals.insert(ShardIndex(0), journal);
    disk.staged = Some(staged);
}

/// What lies in each log's last segment from its flushed blocks on.
fn write_segments(disk: &mut MemoryDisk, manifest: &Manifest, input: &mut Input<'_>) {
    for part in &manifest.partitions {
        let (base, length) = part.segments.last().map_or((0, 0), |segment| (segment.base, segment.length));
        let bytes = input.piece();
        if !bytes.is_empty() {
            let file = SegmentFile { partition: part.id(), base: Offset(base) };
            let whole = length - length % BLOCK_BYTES as u64;
            disk.segments.entry(file).or_default().write(whole, bytes);
        }
    }
}
