//! One suite over every implementation of [`Disk`]: the contract itself, and openings from end to end with shards that
//! are driven by hand.

mod real_only;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::direct::Direct;
use super::scratch::Scratch;
use super::{DataDirectory, RealDisk, StagingFile, StagingFolder};
use crate::core::effect::{Completion, Effect, Operation, SegmentFile, Tag};
use crate::core::journal::{FlushMethod, Geometry};
use crate::core::recovery::{self, Disk, IndexFiles, Opened, Opening, Report};
use crate::core::{Acks, Config, Rules, Shard, Tuning};
use crate::format::batch::{BatchView, TimestampType, fixture};
use crate::limits::BLOCK_BYTES;
use crate::memory::{Mapping, Slab, Staging};
use crate::types::{LeaderEpoch, Offset, PartitionId, PartitionIndex, ShardIndex, TopicId};

const NOW: i64 = 1_700_000_000_000;
const GROUP_BYTES: u64 = 256 << 10;
const JOURNAL_BYTES: u64 = 2 << 20;
const CHUNKS: usize = 4;
const SHARD: ShardIndex = ShardIndex(0);

/// A place with a data directory, which processes open one after the other.
trait Site {
    type Disk<'a>: Disk
    where
        Self: 'a;

    fn new() -> Self;
    /// The directory as a process sees it that has just started. The one before is dead.
    fn disk(&mut self) -> Self::Disk<'_>;
    /// Staging memory of an opening whose manifests are durable.
    fn stage(&mut self, shard: ShardIndex, epoch: LeaderEpoch, chunk_bytes: usize) -> Rc<Mapping>;
    /// The running process dies, its staging memory stays.
    fn kill(&mut self);
    /// The machine is started anew: nothing in memory stays.
    fn reboot(&mut self);
    fn write_journal(&mut self, shard: ShardIndex, position: u64, bytes: &[u8]);
}

/// On a real file system.
struct Real {
    scratch: Scratch,
    data: DataDirectory,
    staging: StagingFolder,
    files: Vec<StagingFile>,
}

impl Site for Real {
    type Disk<'a> = RealDisk;

    fn new() -> Real {
        let scratch = Scratch::new();
        let data = DataDirectory::open(&scratch.path().join("data"), Duration::from_secs(10)).unwrap();
        let staging = StagingFolder::open("/dev/shm".as_ref(), data.format().directory).unwrap();
        Real { scratch, data, staging, files: Vec::new() }
    }

    fn disk(&mut self) -> RealDisk {
        RealDisk::new(self.data.layout().clone(), Some(self.staging.clone()))
    }

    fn stage(&mut self, shard: ShardIndex, epoch: LeaderEpoch, chunk_bytes: usize) -> Rc<Mapping> {
        let file = self.staging.create(shard, epoch, CHUNKS, chunk_bytes).unwrap();
        self.staging.remove_before(epoch).unwrap();
        let mapping = Rc::new(file.map().unwrap());
        self.files.push(file);
        mapping
    }

    fn kill(&mut self) {
        self.files.clear();
    }

    fn reboot(&mut self) {
        self.files.clear();
        self.staging.remove_all().unwrap();
    }

    fn write_journal(&mut self, shard: ShardIndex, position: u64, bytes: &[u8]) {
        let file = Direct::open(&self.data.layout().journal(shard), true, false).unwrap();
        Direct::new().write(&file, position, bytes).unwrap();
        file.sync_data().unwrap();
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.staging.remove_all().expect("the files are ours");
        assert!(self.scratch.path().exists(), "the directory outlives the test");
    }
}

#[cfg(all(test, feature = "sim"))]
mod simulated {
    use super::*;
    use crate::sim::directory::{Directory, journal_path};
    use crate::sim::disk::SimDisk;
    use crate::sim::random::Random;

    pub(super) struct Simulated {
        disk: SimDisk,
        staged: Vec<Option<Rc<Mapping>>>,
        random: Random,
    }

    impl Site for Simulated {
        type Disk<'a> = Directory<'a>;

        fn new() -> Simulated {
            Simulated { disk: SimDisk::default(), staged: Vec::new(), random: Random::new(1) }
        }

        fn disk(&mut self) -> Directory<'_> {
            Directory {
                disk: &mut self.disk,
                staged: &self.staged,
                random: &mut self.random,
                steps_left: None,
            }
        }

        fn stage(&mut self, shard: ShardIndex, _: LeaderEpoch, chunk_bytes: usize) -> Rc<Mapping> {
            let mapping = Rc::new(Mapping::private(CHUNKS * chunk_bytes).unwrap());
            let index = usize::from(shard.get());
            self.staged.resize(self.staged.len().max(index + 1), None);
            self.staged[index] = Some(Rc::clone(&mapping));
            mapping
        }

        fn kill(&mut self) {}

        fn reboot(&mut self) {
            self.staged.clear();
        }

        fn write_journal(&mut self, shard: ShardIndex, position: u64, bytes: &[u8]) {
            self.disk.write(&journal_path(shard), position, bytes, || true);
            self.disk.flush(&journal_path(shard), self.disk.next_write());
        }
    }
}

/// Runs each test over each implementation.
macro_rules! over_every_disk {
    ($($test:ident,)*) => {
        mod real {
            $(#[test]
            fn $test() {
                super::$test::<super::Real>();
            })*
        }

        #[cfg(all(test, feature = "sim"))]
        mod over_the_simulated_disk {
            $(#[test]
            fn $test() {
                super::$test::<super::simulated::Simulated>();
            })*
        }
    };
}

over_every_disk! {
    a_root_is_absent_then_the_last_one,
    manifests_are_replaced_and_others_removed,
    a_new_journal_is_zeros_of_its_size,
    segments_are_read_back_up_to_their_end,
    a_trimmed_segment_ends_there_and_can_be_written_again,
    a_replaced_segment_is_whole_after_a_reboot,
    segments_that_are_not_named_go,
    index_files_are_there_as_long_as_their_segment,
    every_generation_is_new,
    an_empty_directory_opens_with_any_number_of_shards,
    logs_whose_root_is_lost_are_refused_and_kept,
    what_the_journal_has_is_there_after_a_reboot,
    what_only_staging_memory_has_is_there_after_a_kill,
    and_is_gone_after_a_reboot,
    a_checkpoint_is_where_the_next_opening_begins,
    logs_move_with_the_shard_count,
    a_segment_file_that_is_cut_or_gone_is_damage_and_left_alone,
}

fn partition(index: i32) -> PartitionId {
    PartitionId { topic: TopicId([0x5a; 16]), index: PartitionIndex(index) }
}

fn segment(index: i32, base: i64) -> SegmentFile {
    SegmentFile { partition: partition(index), base: Offset(base) }
}

// ---- the contract

fn a_root_is_absent_then_the_last_one<S: Site>() {
    let mut site = S::new();
    assert_eq!(site.disk().read_root().unwrap(), None);
    site.disk().replace_root(b"one").unwrap();
    assert_eq!(site.disk().read_root().unwrap().as_deref(), Some(&b"one"[..]));
    site.disk().replace_root(&[7; 10_000]).unwrap();
    assert_eq!(site.disk().read_root().unwrap(), Some(vec![7; 10_000]));
}

fn manifests_are_replaced_and_others_removed<S: Site>() {
    let mut site = S::new();
    assert!(site.disk().read_manifest("0000000001-0").is_err());
    for (name, content) in [("0000000001-0", "a"), ("0000000001-1", "b"), ("0000000001-0", "c")] {
        site.disk().replace_manifest(name, content.as_bytes()).unwrap();
    }
    assert_eq!(site.disk().read_manifest("0000000001-0").unwrap(), b"c");
    site.disk().retain_manifests(&["0000000001-1".to_owned()]).unwrap();
    assert!(site.disk().read_manifest("0000000001-0").is_err());
    assert_eq!(site.disk().read_manifest("0000000001-1").unwrap(), b"b");
}

fn a_new_journal_is_zeros_of_its_size<S: Site>() {
    let mut site = S::new();
    assert_eq!(site.disk().journal_bytes(SHARD).unwrap(), None);
    site.disk().create_journal(SHARD, JOURNAL_BYTES).unwrap();
    assert_eq!(site.disk().journal_bytes(SHARD).unwrap(), Some(JOURNAL_BYTES));
    let mut ring = vec![1; usize::try_from(JOURNAL_BYTES).unwrap()];
    site.disk().read_journal(SHARD, 0, &mut ring).unwrap();
    assert!(ring.iter().all(|byte| *byte == 0));
    site.write_journal(SHARD, 8192, &[9; BLOCK_BYTES]);
    let mut blocks = [1; 3 * BLOCK_BYTES];
    site.disk().read_journal(SHARD, 4096, &mut blocks).unwrap();
    let firsts = [blocks[0], blocks[BLOCK_BYTES], blocks[2 * BLOCK_BYTES - 1], blocks[2 * BLOCK_BYTES]];
    assert_eq!(firsts, [0, 9, 9, 0]);
}

fn segments_are_read_back_up_to_their_end<S: Site>() {
    let mut site = S::new();
    assert_eq!(site.disk().read_segment(segment(0, 0), 0, 100).unwrap(), None);
    assert_eq!(site.disk().segment_bytes(segment(0, 0)).unwrap(), None);
    let bytes: Vec<u8> = (0..3 * BLOCK_BYTES).map(|i| (i / 16 % 251).to_le_bytes()[0]).collect();
    site.disk().write_segment(segment(0, 0), 4096, &bytes).unwrap();
    site.disk().flush_segment(segment(0, 0)).unwrap();
    let read =
        |site: &mut S, position, length| site.disk().read_segment(segment(0, 0), position, length).unwrap();
    assert_eq!(site.disk().segment_bytes(segment(0, 0)).unwrap(), Some(4096 + bytes.len() as u64));
    assert_eq!(read(&mut site, 4096, 100).as_deref(), Some(&bytes[..100]));
    assert_eq!(read(&mut site, 8192, 1 << 20).as_deref(), Some(&bytes[BLOCK_BYTES..]));
    assert_eq!(read(&mut site, 0, BLOCK_BYTES), Some(vec![0; BLOCK_BYTES]), "a hole is zeros");
    assert_eq!(read(&mut site, 1 << 20, 100), Some(Vec::new()), "behind the end there is nothing");
    assert_eq!(site.disk().read_segment(segment(1, 0), 0, 100).unwrap(), None);
}

fn a_trimmed_segment_ends_there_and_can_be_written_again<S: Site>() {
    let mut site = S::new();
    let mut disk = site.disk();
    disk.write_segment(segment(0, 5), 0, &[1; 2 * BLOCK_BYTES]).unwrap();
    disk.trim_segment(segment(0, 5), 5_000).unwrap();
    disk.flush_segment(segment(0, 5)).unwrap();
    assert_eq!(disk.read_segment(segment(0, 5), 0, 1 << 20).unwrap(), Some(vec![1; 5_000]));
    disk.write_segment(segment(0, 5), 4096, &[2; BLOCK_BYTES]).unwrap();
    let bytes = disk.read_segment(segment(0, 5), 0, 1 << 20).unwrap().unwrap();
    assert!(bytes == [[1; BLOCK_BYTES], [2; BLOCK_BYTES]].concat());
}

fn a_replaced_segment_is_whole_after_a_reboot<S: Site>() {
    let mut site = S::new();
    let mut disk = site.disk();
    disk.replace_segment(segment(0, 5), &[1; BLOCK_BYTES]).unwrap();
    disk.write_segment(segment(0, 5), BLOCK_BYTES as u64, &[2; BLOCK_BYTES]).unwrap();
    let read = disk.read_segment(segment(0, 5), 0, 3 * BLOCK_BYTES).unwrap().unwrap();
    assert_eq!((read.len(), read[0], read[BLOCK_BYTES]), (2 * BLOCK_BYTES, 1, 2));
    disk.replace_segment(segment(0, 5), &[3; BLOCK_BYTES]).unwrap();
    drop(disk);
    site.reboot();
    let mut disk = site.disk();
    assert_eq!(disk.read_segment(segment(0, 5), 0, 3 * BLOCK_BYTES).unwrap().unwrap(), [3; BLOCK_BYTES]);
}

fn segments_that_are_not_named_go<S: Site>() {
    let mut site = S::new();
    let mut disk = site.disk();
    for file in [segment(0, 0), segment(0, 10), segment(0, 20), segment(1, 10)] {
        disk.write_segment(file, 0, &[1; BLOCK_BYTES]).unwrap();
    }
    disk.retain_segments(partition(0), &[0, 20]).unwrap();
    let mut exists = |file| disk.read_segment(file, 0, 1).unwrap().is_some();
    assert_eq!(
        [segment(0, 0), segment(0, 10), segment(0, 20), segment(1, 10)].map(&mut exists),
        [true, false, true, true]
    );
    disk.retain_segments(partition(7), &[]).expect("a log without files has none to lose");
}

fn index_files_are_there_as_long_as_their_segment<S: Site>() {
    let mut site = S::new();
    let (old, new) = (segment(0, 0), segment(0, 4000));
    for file in [old, new] {
        site.disk().write_segment(file, 0, &[7; BLOCK_BYTES]).unwrap();
        site.disk().flush_segment(file).unwrap();
        assert_eq!(site.disk().read_index(file).unwrap(), None);
    }
    let files = |pages: usize, fill: u8| IndexFiles {
        offsets: vec![fill; 2 * BLOCK_BYTES],
        times: vec![fill; pages * BLOCK_BYTES],
    };
    site.disk().write_index(old, &files(3, 1)).unwrap();
    site.disk().write_index(new, &files(3, 2)).unwrap();
    site.disk().write_index(new, &files(1, 3)).unwrap();
    assert_eq!(site.disk().read_index(old).unwrap(), Some(files(3, 1)));
    assert_eq!(site.disk().read_index(new).unwrap(), Some(files(1, 3)), "replaced as a whole");
    site.disk().retain_segments(partition(0), &[4000]).unwrap();
    assert_eq!(site.disk().read_index(old).unwrap(), None, "they go with their segment");
    assert_eq!(site.disk().read_index(new).unwrap(), Some(files(1, 3)));
}

fn every_generation_is_new<S: Site>() {
    let mut site = S::new();
    let generations: BTreeSet<u64> = (0..100).map(|_| site.disk().new_generation().get()).collect();
    assert_eq!(generations.len(), 100);
}

// ---- openings

fn an_empty_directory_opens_with_any_number_of_shards<S: Site>() {
    for shards in [1, 2, 4] {
        let mut site = S::new();
        let (opened, report) = open(&mut site, shards, 4);
        assert_eq!((opened.len(), report.groups, report.epoch), (usize::from(shards), 0, LeaderEpoch(1)));
        assert!(opened.iter().all(|shard| shard.start.geometry.capacity == JOURNAL_BYTES));
        assert_eq!(opened.iter().map(|shard| shard.partitions.len()).sum::<usize>(), 4);
        let (again, report) = open(&mut site, shards, 4);
        assert_eq!((again.len(), report.epoch), (opened.len(), LeaderEpoch(2)));
        let new = again.iter().zip(&opened).all(|(new, old)| new.start.generation != old.start.generation);
        assert!(new, "each opening has generations of its own");
    }
}

fn logs_whose_root_is_lost_are_refused_and_kept<S: Site>() {
    let mut site = S::new();
    // A first start that died before its root was durable: there are no logs yet, so nothing can be lost.
    assert!(try_open(&mut S::new(), 1, 0, LeaderEpoch(3)).is_ok());
    let error = try_open(&mut site, 1, 2, LeaderEpoch(3)).err().expect("the root is missing");
    assert!(matches!(error, recovery::Error::RootMissing(2)), "{error}");
    assert!(site.disk().read_root().unwrap().is_none(), "no new root hides the loss");
}

fn what_the_journal_has_is_there_after_a_reboot<S: Site>() {
    let mut broker = Broker::<S>::start(S::new(), 2, 4);
    let sent = broker.send(Acks::All, Carry::All);
    let mut site = broker.die();
    site.reboot();
    let (opened, report) = open(&mut site, 2, 4);
    assert!(report.groups > 0 && report.groups_staged == 0, "{report:?}");
    check(&mut site, &opened, &sent, 4);
}

fn what_only_staging_memory_has_is_there_after_a_kill<S: Site>() {
    let mut broker = Broker::<S>::start(S::new(), 2, 4);
    let sent = broker.send(Acks::Leader, Carry::AllButJournal);
    let mut site = broker.die();
    site.kill();
    let (opened, report) = open(&mut site, 2, 4);
    assert!(report.groups_staged > 0 && report.groups_staged == report.groups, "{report:?}");
    check(&mut site, &opened, &sent, 4);
}

fn and_is_gone_after_a_reboot<S: Site>() {
    let mut broker = Broker::<S>::start(S::new(), 1, 1);
    broker.send(Acks::Leader, Carry::AllButJournal);
    let mut site = broker.die();
    site.reboot();
    let (opened, report) = open(&mut site, 1, 1);
    assert_eq!((opened[0].partitions[0].end, report.groups), (0, 0));
}

fn a_checkpoint_is_where_the_next_opening_begins<S: Site>() {
    let mut broker = Broker::<S>::start(S::new(), 2, 4);
    let mut sent = broker.send(Acks::All, Carry::All);
    broker.checkpoint();
    let mut site = broker.die();
    site.reboot();
    let (opened, report) = open(&mut site, 2, 4);
    assert_eq!(report.groups, 0, "everything is in the manifests");
    check(&mut site, &opened, &sent, 4);
    let mut broker = Broker::resume(site, opened, report.epoch, 4);
    sent.extend(broker.send(Acks::All, Carry::All));
    let mut site = broker.die();
    site.kill();
    let (opened, _) = open(&mut site, 2, 4);
    check(&mut site, &opened, &sent, 4);
}

fn logs_move_with_the_shard_count<S: Site>() {
    let mut broker = Broker::<S>::start(S::new(), 4, 4);
    let mut sent = Vec::new();
    for shards in [1, 2, 4] {
        sent.extend(broker.send(Acks::Leader, Carry::AllButJournal));
        let mut site = broker.die();
        site.kill();
        let (opened, report) = open(&mut site, shards, 4);
        assert_eq!(opened.len(), usize::from(shards));
        check(&mut site, &opened, &sent, 4);
        broker = Broker::resume(site, opened, report.epoch, 4);
    }
}

// ---- shards driven by hand

/// What is carried out of what a core asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carry {
    All,
    AllButJournal,
}

/// Each batch that was acked, in order: its log and its bytes as sent.
type Sent = Vec<(PartitionId, Vec<u8>)>;

struct Broker<S: Site> {
    site: S,
    shards: Vec<(Shard, String)>,
    logs: i32,
}

/// A missing file was once made anew around the block that the manifest has by value, with zeros for its records.
fn a_segment_file_that_is_cut_or_gone_is_damage_and_left_alone<S: Site>() {
    let mut broker = Broker::<S>::start(S::new(), 1, 2);
    let sent = broker.send(Acks::All, Carry::All);
    broker.checkpoint();
    let mut site = broker.die();
    site.reboot();
    let file = segment(1, 0);
    let whole = site.disk().segment_bytes(file).unwrap().expect("a checkpoint wrote it");
    let bytes = site.disk().read_segment(file, 0, usize::try_from(whole).unwrap()).unwrap().unwrap();
    // All that lies in whole blocks is vouched for; what is behind them the manifest has by value.
    let vouched =
        sent.iter().filter(|(id, _)| *id == partition(1)).map(|(_, batch)| batch.len() as u64).sum::<u64>();
    let vouched = vouched - vouched % BLOCK_BYTES as u64;
    for cut in [Some(vouched - 1), Some(BLOCK_BYTES as u64), Some(0), None] {
        match cut {
            Some(length) => site.disk().trim_segment(file, length).unwrap(),
            None => site.disk().retain_segments(partition(1), &[]).unwrap(),
        }
        let error =
            try_open(&mut site, 1, 2, LeaderEpoch(0)).err().expect("bytes that are vouched for are gone");
        let recovery::Error::SegmentCut { file: named, vouched: asked, found, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!((*named, *asked, *found), (file, vouched, cut), "{error}");
        assert_eq!(site.disk().segment_bytes(file).unwrap(), cut, "nothing was written over the loss");
    }
    site.disk().write_segment(file, 0, &bytes).unwrap();
    site.disk().flush_segment(file).unwrap();
    let (opened, _) = open(&mut site, 1, 2);
    check(&mut site, &opened, &sent, 2);
}

fn owner(id: PartitionId, shards: u16) -> ShardIndex {
    ShardIndex(u16::try_from(id.index.get()).unwrap() % shards)
}

fn open<S: Site>(site: &mut S, shards: u16, logs: i32) -> (Vec<Opened>, Report) {
    try_open(site, shards, logs, LeaderEpoch(0)).unwrap()
}

fn try_open<S: Site>(
    site: &mut S,
    shards: u16,
    logs: i32,
    epoch_floor: LeaderEpoch,
) -> Result<(Vec<Opened>, Report), recovery::Error> {
    let known: BTreeSet<PartitionId> = (0..logs).map(partition).collect();
    let opening = Opening {
        shards,
        known: &known,
        is_deleted: &|_| false,
        owner: &|id| owner(id, shards),
        geometry: Geometry { capacity: JOURNAL_BYTES, group_bytes_max: GROUP_BYTES },
        flush_method: FlushMethod::Fdatasync,
        was_stopped_cleanly: false,
        epoch_floor,
        now: NOW,
        rules: &Rules::default(),
    };
    recovery::open(&mut site.disk(), &opening)
}

impl<S: Site> Broker<S> {
    fn start(mut site: S, shards: u16, logs: i32) -> Broker<S> {
        let (opened, report) = open(&mut site, shards, logs);
        Broker::resume(site, opened, report.epoch, logs)
    }

    fn resume(mut site: S, opened: Vec<Opened>, epoch: LeaderEpoch, logs: i32) -> Broker<S> {
        let chunk_bytes = usize::try_from(GROUP_BYTES).unwrap();
        let mut shards = Vec::new();
        for (i, opened) in (0..).zip(opened) {
            let staging = Staging::new(site.stage(ShardIndex(i), epoch, chunk_bytes), chunk_bytes);
            let (tuning, rules) = (Tuning::default(), Rules::default());
            let mut core = Shard::new(opened.start, epoch, staging, Slab::new(16 << 20), tuning, rules);
            for part in &opened.partitions {
                core.open_partition(part, config());
            }
            shards.push((core, opened.manifest));
        }
        Broker { site, shards, logs }
    }

    /// Sends small batches and a large one to every log; each must be acked by what is carried out.
    fn send(&mut self, acks: Acks, carry: Carry) -> Sent {
        let mut sent = Sent::new();
        for index in 0..self.logs {
            let id = partition(index);
            for (tag, bytes) in (0..).zip([10, 3_000, 200_000, 1]) {
                let value = vec![u8::try_from(index).unwrap() + 1; bytes];
                let batch = fixture::batch(&fixture::Header::default(), &[value, vec![tag]]);
                let shard = owner(id, u16::try_from(self.shards.len()).unwrap());
                let (core, _) = &mut self.shards[usize::from(shard.get())];
                core.append(NOW, id, &batch, acks, Tag(u64::from(tag))).unwrap();
                let answered = self.run(shard, carry);
                assert_eq!(answered, [Tag(u64::from(tag))], "the append is acked");
                sent.push((id, batch));
            }
        }
        sent
    }

    /// The process goes, without a word to the disk; its memory, and with it the lock of its staging files, goes too.
    fn die(self) -> S {
        let Broker { site, shards, .. } = self;
        drop(shards);
        site
    }

    fn checkpoint(&mut self) {
        for i in 0..self.shards.len() {
            self.shards[i].0.request_checkpoint();
            self.run(ShardIndex(u16::try_from(i).unwrap()), Carry::All);
            assert!(self.shards[i].0.is_settled(), "nothing is left to be done");
        }
    }

    /// Turns a core until it asks for nothing more; gives back which appends it answered.
    fn run(&mut self, shard: ShardIndex, carry: Carry) -> Vec<Tag> {
        let mut answered = Vec::new();
        loop {
            let (core, manifest) = &mut self.shards[usize::from(shard.get())];
            core.turn(NOW);
            let effects = core.take_effects();
            if effects.is_empty() {
                return answered;
            }
            for effect in effects {
                if let Effect::Appended { tag, result } = effect {
                    result.expect("nothing fails here");
                    answered.push(tag);
                    continue;
                }
                if let Some(operation) = carry_out(&mut self.site, shard, manifest, effect, carry) {
                    core.complete(Completion::of(operation, Ok(())));
                }
            }
        }
    }
}

/// Does what a core asks for, in one blocking call; `None` for what is left undone.
fn carry_out<S: Site>(
    site: &mut S,
    shard: ShardIndex,
    manifest_name: &str,
    effect: Effect,
    carry: Carry,
) -> Option<Operation> {
    match effect {
        Effect::WriteJournal { .. } | Effect::FlushJournal { .. } if carry == Carry::AllButJournal => {
            return None;
        }
        Effect::Room => return None,
        Effect::WriteJournal { operation, position, bytes, .. } => {
            site.write_journal(shard, position, &bytes);
            return Some(operation);
        }
        _ => {}
    }
    let mut disk = site.disk();
    let (operation, done) = match effect {
        Effect::FlushJournal { operation } => (operation, Ok(())),
        Effect::CreateSegment { operation, file } => (operation, disk.write_segment(file, 0, &[])),
        Effect::FlushDirectory { operation, file } | Effect::FlushSegment { operation, file } => {
            (operation, disk.flush_segment(file))
        }
        Effect::WriteSegment { operation, file, position, bytes } => {
            (operation, disk.write_segment(file, position, &bytes))
        }
        Effect::TrimSegment { operation, file, length } => (operation, disk.trim_segment(file, length)),
        Effect::CommitManifest { operation, manifest } => {
            (operation, disk.replace_manifest(manifest_name, &manifest.encode()))
        }
        other => panic!("nothing here asks for {other:?}"),
    };
    done.unwrap();
    Some(operation)
}

fn config() -> Config {
    Config {
        segment_bytes: 300 << 10,
        segment_ms: 600_000,
        batch_bytes_max: 1 << 20,
        timestamp_type: TimestampType::CreateTime,
        producer_expiration_ms: 86_400_000,
    }
}

/// Compares every log, read from its segments, with what was acked.
fn check<S: Site>(site: &mut S, opened: &[Opened], sent: &Sent, logs: i32) {
    let mut compared = 0;
    for index in 0..logs {
        let id = partition(index);
        let shard = owner(id, u16::try_from(opened.len()).unwrap());
        let parts = &opened[usize::from(shard.get())].partitions;
        let part = parts.iter().find(|part| part.id() == id).expect("its owner has the log");
        let mut bytes = Vec::new();
        for segment in &part.segments {
            let file = SegmentFile { partition: id, base: Offset(segment.base) };
            let length = usize::try_from(segment.length).unwrap();
            let read = site.disk().read_segment(file, 0, length).unwrap().expect("its file is there");
            assert_eq!(read.len(), length, "all of it is there");
            bytes.extend(read);
        }
        let mut at = 0;
        let mut next = Offset(0);
        for (_, batch) in sent.iter().filter(|(of, _)| *of == id) {
            let (view, length) = BatchView::parse(&bytes[at..]).unwrap();
            assert_eq!(view.base_offset(), next);
            assert_eq!(length, batch.len());
            // The offset, and behind the length the epoch, are assigned; all else is as it was sent.
            assert!(bytes[at..][16..length] == batch[16..], "batch at {next} of {id}");
            next = Offset(view.last_offset().get() + 1);
            at += length;
            compared += 1;
        }
        assert_eq!((bytes.len(), part.end), (at, next.get()), "nothing but what was sent");
    }
    assert_eq!(compared, sent.len());
    assert!(compared > 0, "a comparison of nothing shows nothing");
}
