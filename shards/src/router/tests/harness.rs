//! Real shards with real logs on a real disk, for the router's tests.

pub(super) use std::collections::BTreeSet;
pub(super) use std::net::SocketAddr;
pub(super) use std::rc::Rc;
pub(super) use std::sync::{Arc, Mutex};
pub(super) use std::time::Duration;

pub(super) use super::super::*;
pub(super) use crate::core::journal::{FlushMethod, Geometry};
pub(super) use crate::core::recovery::{self, Opened, Opening};
pub(super) use crate::core::{Config, Rules, Shard as Core, Tuning};
pub(super) use crate::directory::scratch::Scratch;
pub(super) use crate::directory::{DataDirectory, RealDisk};
pub(super) use crate::driver::Spin;
pub(super) use crate::engine::{Storage, StorageSettings};
pub(super) use crate::format::batch::{TimestampType, fixture};
pub(super) use crate::limits::SEGMENT_FILES_OPEN_MAX;
pub(super) use crate::memory::{Mapping, Slab, Slice, Staging};
pub(super) use crate::net::{Request, Service};
pub(super) use crate::runtime::{BoxError, Runtime, Settings, Shard, start};
pub(super) use crate::types::{LeaderEpoch, PartitionId, PartitionIndex, ShardIndex, TopicId};

pub(super) const PATIENCE: Duration = Duration::from_secs(60);
pub(super) const GROUP_BYTES: u64 = 256 << 10;

pub(super) struct Deaf;

impl Service for Deaf {
    fn request(&self, _request: Request) {
        unreachable!("nobody connects")
    }
}

/// The one log of a shard.
pub(super) fn partition(owner: u16) -> PartitionId {
    PartitionId { topic: TopicId([7; 16]), index: PartitionIndex(i32::from(owner)) }
}

pub(super) fn placement(id: PartitionId, _shards: usize) -> ShardIndex {
    ShardIndex(u16::try_from(id.index.get()).expect("a shard"))
}

/// A batch of one record: who sent it, and a count.
pub(super) fn batch(sender: u16, count: u32) -> Slice {
    let value = [sender.to_be_bytes().as_slice(), &count.to_be_bytes()].concat();
    Slice::from_vec(fixture::batch(&fixture::Header::default(), &[value]))
}

pub(super) struct Shards {
    pub(super) runtime: Runtime,
    pub(super) _data: DataDirectory,
    pub(super) _scratch: Scratch,
}

impl Shards {
    /// Stops; all must end well.
    pub(super) fn stop(self) {
        self.runtime.stop();
        self.runtime.join().expect("ends well");
    }
}

/// Shards with a log each, on CPUs that they share if there are too few; `begin` is called on each before its first turn.
pub(super) fn shards(count: u16, spin: Spin, begin: impl Fn(&Logs) + Send + Sync + 'static) -> Shards {
    serving(count, spin, Vec::new(), move |logs| {
        begin(logs);
        Rc::new(Deaf)
    })
}

/// The same behind sockets, each with the service that `serve` gives.
pub(super) fn serving<S: Service>(
    count: u16,
    spin: Spin,
    listeners: Vec<SocketAddr>,
    serve: impl Fn(&Logs) -> Rc<S> + Send + Sync + 'static,
) -> Shards {
    let scratch = Scratch::new();
    let data = DataDirectory::open(&scratch.path().join("data"), Duration::from_secs(10)).expect("opens");
    let layout = data.layout().clone();
    let known: BTreeSet<PartitionId> = (0..count).map(partition).collect();
    let owner = |id: PartitionId| placement(id, usize::from(count));
    let opening = Opening {
        shards: count,
        known: &known,
        is_deleted: &|_| false,
        owner: &owner,
        geometry: Geometry { capacity: 4 << 20, group_bytes_max: GROUP_BYTES },
        flush_method: FlushMethod::Fdatasync,
        was_stopped_cleanly: false,
        epoch_floor: LeaderEpoch(0),
        now: 1_700_000_000_000,
        rules: &Rules::default(),
    };
    let mut disk = RealDisk::new(layout.clone(), None);
    let (opened, report) = recovery::open(&mut disk, &opening).expect("opens");
    let opened: Arc<Mutex<Vec<_>>> = Arc::new(Mutex::new(opened.into_iter().map(Some).collect()));
    let cpus = std::thread::available_parallelism().expect("known").get();
    let settings = Settings {
        cpus: (0..usize::from(count)).map(|shard| shard % cpus).collect(),
        spin,
        listeners,
        network: Default::default(),
        slab_bytes_max: 1 << 20,
        drain_max: PATIENCE,
    };
    let build = move |shard: &Shard| {
        let index = usize::from(shard.index().get());
        let opened = opened.lock().expect("whole")[index].take().expect("each shard is built once");
        let journal = RealDisk::open_journal(&layout, shard.index())?;
        let (layout, manifest) = (layout.clone(), opened.manifest.clone());
        let settings = StorageSettings {
            layout,
            manifest,
            journal,
            left_over: Arc::default(),
            segment_files_open_max: SEGMENT_FILES_OPEN_MAX,
        };
        let (log, storage) = Storage::new(shard, core(&opened, report.epoch)?, settings)?;
        Ok::<_, BoxError>((serve(&Logs::new(log, placement)), storage))
    };
    Shards { runtime: start(settings, build).expect("starts"), _data: data, _scratch: scratch }
}

pub(super) fn core(opened: &Opened, epoch: LeaderEpoch) -> std::io::Result<Core> {
    let chunk_bytes = usize::try_from(GROUP_BYTES).expect("fits");
    let staging = Staging::new(Rc::new(Mapping::private(4 * chunk_bytes)?), chunk_bytes);
    let (tuning, rules) = (Tuning::default(), Rules::default());
    let mut core = Core::new(opened.start, epoch, staging, Slab::new(16 << 20), tuning, rules);
    let config = Config {
        segment_bytes: 1 << 30,
        segment_ms: 600_000,
        batch_bytes_max: 1 << 20,
        timestamp_type: TimestampType::CreateTime,
        producer_expiration_ms: 86_400_000,
    };
    opened.partitions.iter().for_each(|part| core.open_partition(part, config));
    Ok(core)
}
