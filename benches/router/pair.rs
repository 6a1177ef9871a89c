//! Two shards with a log each, on CPUs of their own, over a data directory beside the build.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelane_shards::core::journal::{FlushMethod, Geometry};
use corelane_shards::core::recovery::{self, Opened, Opening};
use corelane_shards::core::{Config, Rules, Shard as Core, Tuning};
use corelane_shards::directory::{DataDirectory, RealDisk};
use corelane_shards::driver::Spin;
use corelane_shards::engine::{Storage, StorageSettings};
use corelane_shards::format::batch::TimestampType;
use corelane_shards::limits::SEGMENT_FILES_OPEN_MAX;
use corelane_shards::memory::{Mapping, Slab, Staging};
use corelane_shards::net::{Request, Service};
use corelane_shards::router::Logs;
use corelane_shards::runtime::{BoxError, Runtime, Settings, Shard, start};
use corelane_shards::types::{LeaderEpoch, PartitionId, ShardIndex};

use crate::support::heart::log;

const SHARDS: u16 = 2;
const GROUP_BYTES_MAX: u64 = 2 << 20;
const CHUNKS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(60);

/// Nobody connects.
struct Deaf;

impl Service for Deaf {
    fn request(&self, _request: Request) {
        unreachable!("there is no listener")
    }
}

/// The shards and their directory.
pub(crate) struct Pair {
    runtime: Runtime,
    _data: DataDirectory,
    path: PathBuf,
}

impl Pair {
    /// Starts the shards; `begin` is called on each before its first turn.
    pub(crate) fn start(spin: Spin, begin: impl Fn(&Logs) + Send + Sync + 'static) -> Pair {
        let name = format!("bench-router-{}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let data = DataDirectory::open(&path, PATIENCE).expect("a new directory opens");
        let layout = data.layout().clone();
        let (opened, epoch) = open(&mut RealDisk::new(layout.clone(), None));
        let opened = Mutex::new(opened.into_iter().map(Some).collect::<Vec<_>>());
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
            let (log, storage) = Storage::new(shard, core(&opened, epoch)?, settings)?;
            begin(&Logs::new(log, placement));
            Ok::<_, BoxError>((Rc::new(Deaf), storage))
        };
        let runtime = start(settings(spin), build).expect("the shards start");
        Pair { runtime, _data: data, path }
    }

    /// Stops the shards and removes their directory.
    pub(crate) fn stop(self) {
        self.runtime.stop();
        self.runtime.join().expect("the shards end well");
        std::fs::remove_dir_all(&self.path).expect("nobody holds the directory");
    }
}

/// Each log on the shard of its number.
fn placement(id: PartitionId, _shards: usize) -> ShardIndex {
    ShardIndex(u16::try_from(id.index.get()).expect("a shard"))
}

fn open(disk: &mut RealDisk) -> (Vec<Opened>, LeaderEpoch) {
    let known: BTreeSet<PartitionId> = (0..usize::from(SHARDS)).map(log).collect();
    let owner = |id: PartitionId| placement(id, usize::from(SHARDS));
    let opening = Opening {
        shards: SHARDS,
        known: &known,
        is_deleted: &|_| false,
        owner: &owner,
        geometry: Geometry { capacity: 16 << 20, group_bytes_max: GROUP_BYTES_MAX },
        flush_method: FlushMethod::Dsync,
        was_stopped_cleanly: false,
        epoch_floor: LeaderEpoch(0),
        now: 1_700_000_000_000,
        rules: &Rules::default(),
    };
    let (opened, report) = recovery::open(disk, &opening).expect("a new directory opens");
    (opened, report.epoch)
}

fn settings(spin: Spin) -> Settings {
    let cpus = std::thread::available_parallelism().expect("known").get();
    Settings {
        cpus: (0..usize::from(SHARDS)).map(|shard| shard % cpus).collect(),
        spin,
        listeners: Vec::new(),
        network: Default::default(),
        slab_bytes_max: 1 << 20,
        drain_max: PATIENCE,
    }
}

fn core(opened: &Opened, epoch: LeaderEpoch) -> std::io::Result<Core> {
    let chunk_bytes = usize::try_from(GROUP_BYTES_MAX).expect("64 bits");
    let staging = Staging::new(Rc::new(Mapping::private(CHUNKS * chunk_bytes)?), chunk_bytes);
    let mut core =
        Core::new(opened.start, epoch, staging, Slab::new(16 << 20), Tuning::default(), Rules::default());
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
