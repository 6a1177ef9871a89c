//! From settings to a running broker, and to its end.
//!
//! The order matters: ports are bound and every shard has its thread and rings before the directory is opened, so that a
//! broker that the system refuses something changes nothing; the metadata is opened before the logs, since a log exists because the metadata say so; the logs of all former shards
//! are recovered before any shard runs; only then is anybody let in.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use corelane_shards::core::journal::{FlushMethod, Geometry};
use corelane_shards::core::recovery::{self, Opened, Opening, Report};
use corelane_shards::core::{Rules, Shard as Core, Tuning};
use corelane_shards::directory::{
    DEAD_WAIT, DataDirectory, RealDisk, StagingFile, StagingFolder, staging_file,
};
use corelane_shards::driver::Spin;
use corelane_shards::engine::{Storage, StorageSettings};
use corelane_shards::memory::{Mapping, Slab, Staging};
use corelane_shards::router::Logs;
use corelane_shards::runtime::{self, BoxError, Shard};
use corelane_shards::types::{LeaderEpoch, PartitionId, ShardIndex};
use corelane_shards::{clock, net};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};

use super::banner::Banner;
use super::control;
use super::descriptors::{self, Descriptors};
use super::engine::{BrokerEngine, Shared};
use super::error::Error;
use super::logs;
use super::placement::owner;
use super::service::BrokerService;
use super::source::BrokerSource;
use crate::admin;
use crate::cluster::image::{
    Broker, ClusterId, Endpoint, ImageSubscription, Metadata, MetadataImage, NodeId, TopicState,
};
use crate::cluster::store::{DirectoryFiles, EmbeddedStore, MetadataStore, Options, Revision};
use crate::config::{self, Address, Settings};
use crate::errors::Page;

/// The longest journal group, and a chunk of staging memory. Bytes.
const GROUP_BYTES_MAX: u64 = 2 << 20;

/// How long connections may take to end when the broker stops.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How long an address that is taken is waited for, and how often it is tried.
const PORT_WAIT: Duration = Duration::from_secs(2);
const PORT_POLL: Duration = Duration::from_millis(20);

/// Where staging memory lies: a tmpfs that every Linux host has.
const STAGING_PATH: &str = "/dev/shm";

type Prepared = runtime::Prepared<BrokerService, Storage>;

/// Runs a broker until a signal stops it.
pub fn serve(mut settings: Settings) -> Result<(), Error> {
    warn_of_shared_cpus(&settings);
    let admin = check_ports(&mut settings)?;
    let flush_method = flush_method(&settings)?;
    let descriptors = descriptors::claim(settings.cpus.len());
    let prepared = prepare(&settings, descriptors)?;
    let directory = DataDirectory::open(&settings.log_dir, DEAD_WAIT)?;
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let control = control.map_err(Error::system("starting the control thread"))?;
    let local = LocalSet::new();
    let start = Start { flush_method, admin, prepared, descriptors };
    control.block_on(local.run_until(run(Rc::new(settings), directory, start)))
}

/// What a start has before the data directory is opened.
struct Start {
    flush_method: FlushMethod,
    admin: TcpListener,
    prepared: Prepared,
    descriptors: Descriptors,
}

async fn run(settings: Rc<Settings>, mut directory: DataDirectory, start: Start) -> Result<(), Error> {
    let Start { flush_method, admin, prepared, descriptors } = start;
    let admin_address = admin.local_addr().map_err(Error::system("reading the admin listener's address"))?;
    let source = BrokerSource::starting("recovering");
    spawn_local(serve_admin(admin, source.clone())?);
    let staging_folder = StagingFolder::open(Path::new(STAGING_PATH), directory.format().directory);
    if let Ok(folder) = &staging_folder {
        refuse_copy(folder)?;
    }
    let metadata = open_metadata(&directory, &settings).await?;
    let (metadata, epoch) = metadata;
    let (opened, report) = recover(
        &directory,
        &settings,
        &metadata.subscribe().latest(),
        epoch,
        flush_method,
        staging_folder.as_ref().ok(),
    )?;
    finish_deletions(&directory, &metadata).await?;
    let staging = match &staging_folder {
        Ok(folder) => create_staging(folder, &settings, report.epoch),
        Err(error) => {
            warn_of_no_staging(error);
            Err(error.to_string())
        }
    };
    let staging_line = staging.as_ref().map(|_| STAGING_PATH.to_owned()).map_err(Clone::clone);
    let (shards, followed) = seeds(opened, staging.ok());
    let left_over = Arc::<AtomicBool>::default();
    let (control, commands) = control::channel(followed);
    let commands = spawn_local(commands.run(Rc::clone(&metadata)));
    let shared = Shared {
        images: metadata.subscribe(),
        control,
        epoch: report.epoch,
        settings: Arc::new(Settings::clone(&settings)),
    };
    let runtime =
        start_shards(&directory, prepared, shared, shards, &left_over, descriptors).inspect_err(|_| {
            // Nobody was served yet, and the manifests hold everything.
            remove_staging(&staging_folder);
        })?;
    source.ready(runtime.counters(), report);
    let banner = Banner {
        settings: &settings,
        flush_method: match flush_method {
            FlushMethod::Dsync => "dsync",
            FlushMethod::Fdatasync => "fdatasync",
        },
        staging: staging_line,
        addresses: runtime.addresses(),
        admin: admin_address,
        report: &report,
    };
    print(&banner.text());
    let result = until_stopped(runtime, &source).await;
    commands.abort();
    result?;
    if left_over.load(Ordering::Relaxed) {
        tracing::warn!(
            "stopped; what could not be written to its segments is left for the next start to recover"
        );
        return Ok(());
    }
    remove_staging(&staging_folder);
    directory.mark_stopped()?;
    tracing::info!("stopped; the next start has nothing to recover");
    Ok(())
}

/// Waits for a signal or a shard's failure, then stops everything.
async fn until_stopped(runtime: runtime::Runtime, source: &BrokerSource) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::system("waiting for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::system("waiting for SIGINT"))?;
    let mut failed = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = failed.tick() => if runtime.has_failed() { break },
        }
    }
    tracing::info!("stopping");
    source.stopping();
    runtime.stop();
    // The shards may still ask this thread for something: it must go on while they end.
    let joined = tokio::task::spawn_blocking(move || runtime.join()).await;
    joined.map_err(|_| Error::NotServed("the shards' end could not be waited for"))?.map_err(Error::from)
}

fn print(text: &str) {
    use std::io::Write;
    // A broker whose output nobody reads serves all the same.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}

fn warn_of_shared_cpus(settings: &Settings) {
    let shared: Vec<String> = settings.cpus_shared().iter().map(ToString::to_string).collect();
    if !shared.is_empty() {
        tracing::warn!(
            cpus = shared.join(","),
            "shards share CPUs: each waits while another runs, and latency suffers; meant for tests and small machines"
        );
    }
}

// ---- what must be right before anything is opened

/// Tries each address, and keeps the admin listener's. Port 0 becomes a free port here, because clients have to be told it.
fn check_ports(settings: &mut Settings) -> Result<TcpListener, Error> {
    for listener in &mut settings.listeners {
        let bound = listen(&listener.address)?;
        if listener.address.port == 0 {
            let address = bound.local_addr().map_err(Error::system("reading a listener's address"))?;
            listener.address.port = address.port();
            let advertised = settings.advertised_listeners.iter_mut().find(|a| a.name == listener.name);
            if let Some(advertised) = advertised.filter(|a| a.address.port == 0) {
                advertised.address.port = address.port();
            }
        }
    }
    listen(&settings.admin_listener)
}

/// Gives each shard its thread and rings, and binds the listeners.
fn prepare(settings: &Settings, descriptors: Descriptors) -> Result<Prepared, Error> {
    let listeners = settings.listeners.iter().map(|l| resolve(&l.address)).collect::<Result<Vec<_>, _>>()?;
    Ok(runtime::prepare(runtime::Settings {
        cpus: settings.cpus.iter().map(|cpu| usize::from(cpu.0)).collect(),
        spin: match settings.spin {
            config::Spin::Park => Spin::Park,
            config::Spin::Microseconds(0) => Spin::Park,
            config::Spin::Microseconds(time) => Spin::For(Duration::from_micros(time.into())),
            config::Spin::Always => Spin::Always,
        },
        listeners,
        network: network(settings, descriptors),
        slab_bytes_max: bytes(settings.memory_bytes),
        drain_max: DRAIN_MAX,
    })?)
}

/// Binds an address. One that is taken is tried again for a moment: the ring of a process that was just killed holds its
/// sockets until its last operation has ended.
fn listen(address: &Address) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { address: format!("{}:{}", address.host, address.port), source };
    let start = Instant::now();
    loop {
        match TcpListener::bind((address.host.as_str(), address.port)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && start.elapsed() < PORT_WAIT => {
                std::thread::sleep(PORT_POLL);
            }
            result => return result.map_err(failed),
        }
    }
}

fn resolve(address: &Address) -> Result<SocketAddr, Error> {
    let failed = |source| Error::Listen { address: format!("{}:{}", address.host, address.port), source };
    let mut found = (address.host.as_str(), address.port).to_socket_addrs().map_err(failed)?;
    found.next().ok_or_else(|| failed(ErrorKind::NotFound.into()))
}

fn flush_method(settings: &Settings) -> Result<FlushMethod, Error> {
    match settings.flush_method {
        config::FlushMethod::Dsync => Ok(FlushMethod::Dsync),
        config::FlushMethod::Fdatasync => Ok(FlushMethod::Fdatasync),
        config::FlushMethod::Auto => {
            Err(Error::NotServed("corelane.flush.method = auto is not served yet; choose dsync or fdatasync"))
        }
    }
}

fn serve_admin(listener: TcpListener, source: BrokerSource) -> Result<impl Future<Output = ()>, Error> {
    listener.set_nonblocking(true).map_err(Error::system("preparing the admin listener"))?;
    let listener =
        tokio::net::TcpListener::from_std(listener).map_err(Error::system("preparing the admin listener"))?;
    Ok(async move {
        admin::serve(listener, source).await;
    })
}

// ---- metadata

type Store = EmbeddedStore<DirectoryFiles>;

/// Opens the metadata and registers this start.
async fn open_metadata(
    directory: &DataDirectory,
    settings: &Settings,
) -> Result<(Rc<Metadata<Store>>, LeaderEpoch), Error> {
    let files = DirectoryFiles::open(&directory.layout().metadata())
        .map_err(Error::system("opening the metadata"))?;
    let (metadata, follower) = Metadata::open(EmbeddedStore::open(files, Options::default())?).await?;
    spawn_local(async move {
        let ended = follower.run().await;
        tracing::error!(%ended, "the metadata are followed no more");
    });
    let metadata = Rc::new(metadata);
    if metadata.subscribe().latest().cluster_id().is_none() {
        let id = ClusterId(directory.format().cluster.0);
        metadata.change(|image| image.initialise(id).map(|transaction| (transaction, ()))).await?;
    }
    let broker = Broker {
        node_id: NodeId(settings.node_id),
        incarnation: directory.format().incarnation.0,
        rack: None,
        endpoints: settings.advertised_listeners.iter().map(endpoint).collect(),
    };
    let epoch = metadata.change(|image| image.start_broker(&broker)).await?;
    Ok((metadata, epoch))
}

fn endpoint(listener: &config::Listener) -> Endpoint {
    let Address { host, port } = &listener.address;
    Endpoint { listener: listener.name.clone(), host: host.clone(), port: *port }
}

/// Topics whose deletion was durable before this start: no journal names them any more, so their files and then their
/// ids may go.
async fn finish_deletions<S: MetadataStore>(
    directory: &DataDirectory,
    metadata: &Metadata<S>,
) -> Result<(), Error> {
    let image = metadata.subscribe().latest();
    let mut disk = RealDisk::new(directory.layout().clone(), None);
    for topic in image.deleting_topics() {
        for id in logs::partitions(topic) {
            disk.remove_partition(id).map_err(recovery::Error::from)?;
        }
        let id = topic.id;
        metadata.change(|image| image.finish_delete(id).map(|transaction| (transaction, ()))).await?;
    }
    Ok(())
}

// ---- logs

fn recover(
    directory: &DataDirectory,
    settings: &Settings,
    image: &MetadataImage,
    epoch: LeaderEpoch,
    flush_method: FlushMethod,
    staging: Option<&StagingFolder>,
) -> Result<(Vec<Opened>, Report), Error> {
    let shards = settings.cpus.len();
    let known: BTreeSet<PartitionId> = image
        .topics()
        .filter(|topic| topic.state == TopicState::Live)
        .flat_map(|t| logs::partitions(t))
        .collect();
    let deleted: BTreeSet<_> = image.deleting_topics().map(|topic| topic.id).collect();
    let opening = Opening {
        shards: u16::try_from(shards)
            .map_err(|_| Error::NotServed("more CPUs than shards can be numbered"))?,
        known: &known,
        is_deleted: &|id| deleted.contains(&id.topic),
        owner: &|id| owner(id, shards),
        geometry: Geometry {
            capacity: settings.journal_bytes.max(2 * GROUP_BYTES_MAX),
            group_bytes_max: GROUP_BYTES_MAX,
        },
        flush_method,
        was_stopped_cleanly: directory.was_stopped_cleanly(),
        epoch_floor: LeaderEpoch(epoch.get() - 1),
        now: clock::wall_millis(),
        rules: &Rules::default(),
    };
    let mut disk = RealDisk::new(directory.layout().clone(), staging.cloned());
    Ok(recovery::open(&mut disk, &opening)?)
}

fn warn_of_no_staging(error: &staging_file::Error) {
    let see = Page::StagingTooSmall.path();
    tracing::warn!(%error, see, "acks=1 waits for the flush: there is no staging memory");
}

/// Refuses to run beside another process on a copy of this data directory. Whatever else is wrong with the folder shows when
/// files are read from it or made in it.
fn refuse_copy(folder: &StagingFolder) -> Result<(), Error> {
    match folder.check_unused() {
        Err(error) if !error.is_lack_of_memory() => Err(error.into()),
        _ => Ok(()),
    }
}

/// A staging file for each shard, or why there is none: then acks=1 waits for the flush.
fn create_staging(
    folder: &StagingFolder,
    settings: &Settings,
    epoch: LeaderEpoch,
) -> Result<Vec<StagingFile>, String> {
    let chunk = usize::try_from(GROUP_BYTES_MAX).expect("a chunk fits into memory");
    let shards = u16::try_from(settings.cpus.len()).expect("checked by recovery");
    let (mut created, mut failed) = (Vec::new(), None);
    for shard in 0..shards {
        match folder.create(ShardIndex(shard), epoch, staging_chunks(settings), chunk) {
            Ok(file) => created.push(file),
            Err(error) => {
                warn_of_no_staging(&error);
                created.drain(..).for_each(StagingFile::discard);
                failed = Some(error.to_string());
                break;
            }
        }
    }
    if let Err(error) = folder.remove_before(epoch) {
        tracing::warn!(%error, "old staging files cannot be removed");
    }
    failed.map_or(Ok(created), Err)
}

/// Removes the staging files when nothing in them counts any more.
fn remove_staging(folder: &Result<StagingFolder, staging_file::Error>) {
    if let Ok(folder) = folder
        && let Err(error) = folder.remove_all()
    {
        tracing::warn!(%error, "the staging files cannot be removed; the next start ignores them");
    }
}

fn staging_chunks(settings: &Settings) -> usize {
    usize::try_from(settings.staging_bytes / GROUP_BYTES_MAX).unwrap_or(usize::MAX).max(4)
}

// ---- shards

/// What a shard is born with, handed to its thread once.
struct Seed {
    opened: Opened,
    staging: Option<StagingFile>,
    followed: watch::Sender<Revision>,
}

fn seeds(
    opened: Vec<Opened>,
    staging: Option<Vec<StagingFile>>,
) -> (Vec<Seed>, Vec<watch::Receiver<Revision>>) {
    let mut staging = staging.unwrap_or_default().into_iter();
    let shards = opened.into_iter().map(|opened| {
        let (sender, receiver) = watch::channel(Revision::default());
        (Seed { opened, staging: staging.next(), followed: sender }, receiver)
    });
    shards.unzip()
}

fn start_shards(
    directory: &DataDirectory,
    prepared: Prepared,
    shared: Shared,
    seeds: Vec<Seed>,
    left_over: &Arc<AtomicBool>,
    descriptors: Descriptors,
) -> Result<runtime::Runtime, Error> {
    let fence = directory
        .lock()
        .fence()
        .try_clone_to_owned()
        .map_err(Error::system("sharing the directory's lock"))?;
    let birth = Arc::new(Birth {
        seeds: Mutex::new(seeds.into_iter().map(Some).collect()),
        layout: directory.layout().clone(),
        memory_bytes: bytes(shared.settings.memory_bytes),
        staging_chunks: staging_chunks(&shared.settings),
        shared,
        left_over: Arc::clone(left_over),
        segment_files_open_max: descriptors.segments_per_shard,
    });
    Ok(prepared.start(Some(Arc::new(fence)), move |shard| birth.give(shard))?)
}

fn network(settings: &Settings, descriptors: Descriptors) -> net::Settings {
    let memory = settings.queued_max_request_bytes.unwrap_or(settings.memory_bytes);
    net::Settings {
        request_bytes_max: bytes(settings.socket_request_max_bytes.into()),
        queued_request_bytes_max: bytes(memory),
        idle_max: settings.connections_max_idle.unwrap_or(Duration::MAX),
        connections_max: descriptors.connections_per_shard,
        ..net::Settings::default()
    }
}

fn bytes(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Gives each shard its core, on its own thread.
struct Birth {
    seeds: Mutex<Vec<Option<Seed>>>,
    shared: Shared,
    layout: corelane_shards::directory::Layout,
    memory_bytes: usize,
    staging_chunks: usize,
    left_over: Arc<AtomicBool>,
    segment_files_open_max: usize,
}

impl Birth {
    fn give(&self, shard: &Shard) -> Result<(Rc<BrokerService>, Storage), BoxError> {
        let at = usize::from(shard.index().get());
        let seed = self.seeds.lock().unwrap_or_else(PoisonError::into_inner)[at].take();
        let Seed { opened, staging, followed } = seed.ok_or("a shard is born once")?;
        let chunk = usize::try_from(GROUP_BYTES_MAX)?;
        let is_staged = staging.is_some();
        let mapping = match &staging {
            Some(file) => file.map()?,
            None => Mapping::private(self.staging_chunks * chunk)?,
        };
        let staging = Staging::new(Rc::new(mapping), chunk);
        let image = self.shared.images.latest();
        let mut core = Core::new(
            opened.start,
            self.shared.epoch,
            staging,
            Slab::new(self.memory_bytes),
            Tuning::default(),
            Rules::default(),
        );
        for part in &opened.partitions {
            let topic = image.topic_by_id(part.id().topic).ok_or("recovery gives known logs only")?;
            core.open_partition(part, logs::config(topic, &self.shared.settings.values));
        }
        for part in opened.set_aside {
            tracing::warn!(partition = %part.id(), "the metadata do not know this log's topic; it is set aside");
            core.set_aside(part);
        }
        let journal = RealDisk::open_journal(&self.layout, shard.index())?;
        let storage = StorageSettings {
            layout: self.layout.clone(),
            manifest: opened.manifest,
            journal,
            left_over: Arc::clone(&self.left_over),
            segment_files_open_max: self.segment_files_open_max,
        };
        let (log, storage) = Storage::new(shard, core, storage)?;
        let logs = Logs::new(log, owner);
        self.follow(shard, &logs, followed);
        let engine = BrokerEngine::new(logs, self.shared.clone(), is_staged);
        Ok((Rc::new(BrokerService::new(Rc::new(engine))), storage))
    }

    fn follow(&self, shard: &Shard, logs: &Logs, followed: watch::Sender<Revision>) {
        let images: ImageSubscription = self.shared.images.clone();
        shard.spawn_local(logs::follow(logs.clone(), images, self.shared.settings.values.clone(), followed));
    }
}
