//! All shards, started or not at all, stopped and joined.

use std::cell::Cell;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use glommio::{ExecutorJoinHandle, Latency, LocalExecutorBuilder, Placement, Shares};

use super::Shard;
use super::shard::Inner;
use crate::clock::Moment;
use crate::driver::{self, Driver, Engine, Parts, Spin, Tasks};
use crate::limits::{RECEIVE_POOL_BYTES_MAX, SHARDS_MAX};
use crate::memory::Slab;
use crate::net::{self, BindError, Counters, Listeners, Mailbox, Network, Service};
use crate::ring::{self, Doorbell, Notify, Ring};
use crate::router::{Open, Port, mesh};
use crate::types::ShardIndex;

/// glommio's own minimum for the memory that it pins; we use none of it.
const EXECUTOR_IO_BYTES: usize = 64 * 1024;

/// How long the driver may keep other queues waiting while they have something to run.
const LATENCY: Duration = Duration::from_millis(1);

/// Why a user's code could not be built on a shard.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How the shards run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The CPUs, one shard on each, in order.
    pub cpus: Vec<usize>,
    /// What an idle shard does.
    pub spin: Spin,
    /// Where to listen.
    pub listeners: Vec<SocketAddr>,
    /// Limits of connections.
    pub network: net::Settings,
    /// Aligned memory of each shard, in bytes.
    pub slab_bytes_max: usize,
    /// How long connections may take to end when the shards stop.
    pub drain_max: Duration,
    /// What every ring keeps open until its last operation has ended: a data directory's lock.
    pub fence: Option<Arc<OwnedFd>>,
}

/// The shards could not be started, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no CPU to run on, or there are too many.
    #[error("{0} CPUs are configured for shards; there must be 1 to {SHARDS_MAX}")]
    Cpus(usize),
    /// A listener could not be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A shard could not be started.
    #[error("shard {shard} on CPU {cpu} could not be started: {reason}")]
    Start {
        /// Which.
        shard: ShardIndex,
        /// Where.
        cpu: usize,
        /// Why.
        reason: String,
    },
    /// A shard failed while it ran. The others were stopped.
    #[error("shard {shard} {reason}")]
    Failed {
        /// Which.
        shard: ShardIndex,
        /// Why.
        reason: String,
    },
}

/// What the shards share with whoever started them.
struct Shared {
    mailboxes: Vec<Mailbox>,
    counters: Vec<Arc<Counters>>,
    /// The first failure.
    failure: Mutex<Option<Error>>,
}

impl Shared {
    fn stop(&self, now: bool) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.order_stop(now));
    }

    fn fail(&self, error: Error) {
        tracing::error!(%error, "a shard failed: all shards stop");
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop(true);
    }
}

/// Running shards.
pub struct Runtime {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    threads: Vec<ExecutorJoinHandle<()>>,
}

impl Runtime {
    /// Where the listeners listen, in the order of the settings.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Each shard's counters, for any thread to read.
    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.shared.counters
    }

    /// Whether a shard has failed; [`Runtime::join`] says which and why.
    pub fn has_failed(&self) -> bool {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Orders all shards to stop: listeners close, what was read is answered until the deadline, rings empty.
    pub fn stop(&self) {
        self.shared.stop(false);
    }

    /// Orders all shards to stop without answering.
    pub fn stop_now(&self) {
        self.shared.stop(true);
    }

    /// Waits for all shards to end.
    pub fn join(self) -> Result<(), Error> {
        for (index, thread) in self.threads.into_iter().enumerate() {
            if let Err(error) = thread.join() {
                self.shared.fail(Error::Failed { shard: shard_index(index), reason: error.to_string() });
            }
        }
        let failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(()), Err)
    }
}

/// Starts a shard on each CPU; `build` is called on each shard's thread for its service and engine.
///
/// Returns when all are ready; if one is not, the others are stopped and its reason is returned.
pub fn start<S, E, F>(settings: Settings, build: F) -> Result<Runtime, Error>
where
    S: Service,
    E: Engine,
    F: Fn(&Shard) -> Result<(Rc<S>, E), BoxError> + Send + Sync + 'static,
{
    if settings.cpus.is_empty() || settings.cpus.len() > SHARDS_MAX {
        return Err(Error::Cpus(settings.cpus.len()));
    }
    let listeners = Listeners::bind(&settings.listeners)?;
    let addresses = listeners.addresses().to_vec();
    let sockets = listeners.into_sockets();
    let shared = Arc::new(share(&settings)?);
    let (settings, build) = (Arc::new(settings), Arc::new(build));
    let mut runtime = Runtime { shared, addresses, threads: Vec::new() };
    match launch(&mut runtime, &settings, sockets, &build) {
        Ok(()) => Ok(runtime),
        Err((index, reason)) => abandon(runtime, index, settings.cpus[index], reason),
    }
}

/// Starts the shards and waits until all are ready. On failure, which could not be and why; the ports of those that were
/// not started are dropped then, so that the others do not wait for them.
fn launch<S, E, F>(
    runtime: &mut Runtime,
    settings: &Arc<Settings>,
    sockets: Vec<OwnedFd>,
    build: &Arc<F>,
) -> Result<(), (usize, String)>
where
    S: Service,
    E: Engine,
    F: Fn(&Shard) -> Result<(Rc<S>, E), BoxError> + Send + Sync + 'static,
{
    let ports = mesh(runtime.shared.mailboxes.iter().map(|mailbox| mailbox.doorbell().clone()).collect());
    let mut sockets = Some(sockets);
    let mut started = Vec::new();
    for (index, port) in ports.into_iter().enumerate() {
        let (ready, is_ready) = mpsc::channel();
        let seed = Seed {
            index: shard_index(index),
            settings: Arc::clone(settings),
            shared: Arc::clone(&runtime.shared),
            sockets: sockets.take().unwrap_or_default(),
            port,
            build: Arc::clone(build),
        };
        let thread = spawn(seed, settings.cpus[index], ready).map_err(|reason| (index, reason))?;
        runtime.threads.push(thread);
        started.push(is_ready);
    }
    for (index, is_ready) in started.into_iter().enumerate() {
        // If nothing is said the executor itself could not be created: its thread knows why.
        let told = is_ready.recv().unwrap_or_else(|_: mpsc::RecvError| Err(String::new()));
        told.map_err(|reason| (index, reason))?;
    }
    Ok(())
}

fn share(settings: &Settings) -> Result<Shared, Error> {
    let mailbox = |(index, &cpu): (usize, &usize)| {
        let failed = |error: std::io::Error| Error::Start {
            shard: shard_index(index),
            cpu,
            reason: format!("no eventfd: {error}"),
        };
        Doorbell::new().map(Mailbox::new).map_err(failed)
    };
    let mailboxes = settings.cpus.iter().enumerate().map(mailbox).collect::<Result<Vec<_>, _>>()?;
    let counters = mailboxes.iter().map(|_| Arc::default()).collect();
    Ok(Shared { mailboxes, counters, failure: Mutex::new(None) })
}

/// Ends what has been started, after shard `index` could not be.
fn abandon(runtime: Runtime, index: usize, cpu: usize, reason: String) -> Result<Runtime, Error> {
    runtime.stop_now();
    let joined = runtime.join();
    let reason = match joined {
        Err(Error::Failed { reason: told, .. }) if reason.is_empty() => told,
        _ => reason,
    };
    Err(Error::Start { shard: shard_index(index), cpu, reason })
}

fn shard_index(index: usize) -> ShardIndex {
    ShardIndex(u16::try_from(index).expect("shards are bounded"))
}

/// What a shard's thread is born with.
struct Seed<F> {
    index: ShardIndex,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    sockets: Vec<OwnedFd>,
    port: Port,
    build: Arc<F>,
}

type Ready = mpsc::Sender<Result<(), String>>;

fn spawn<S, E, F>(seed: Seed<F>, cpu: usize, ready: Ready) -> Result<ExecutorJoinHandle<()>, String>
where
    S: Service,
    E: Engine,
    F: Fn(&Shard) -> Result<(Rc<S>, E), BoxError> + Send + Sync + 'static,
{
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(&format!("shard-{}", seed.index))
        .io_memory(EXECUTOR_IO_BYTES)
        .spawn(move || live(seed, ready))
        .map_err(|error| error.to_string())
}

/// A shard's life.
async fn live<S, E, F>(seed: Seed<F>, ready: Ready)
where
    S: Service,
    E: Engine,
    F: Fn(&Shard) -> Result<(Rc<S>, E), BoxError> + Send + Sync + 'static,
{
    let (index, shared) = (seed.index, Arc::clone(&seed.shared));
    let latency =
        glommio::executor().create_task_queue(Shares::Static(1000), Latency::Matters(LATENCY), "latency");
    let background =
        glommio::executor().create_task_queue(Shares::Static(100), Latency::NotImportant, "background");
    let result = match assemble(seed, latency, background) {
        Ok(driver) => {
            // Whoever waited is gone only if another shard failed, which orders us to stop.
            let _told = ready.send(Ok(()));
            let task = glommio::spawn_local_into(driver.run(), latency).expect("the queue was just made");
            task.await
        }
        Err(reason) => {
            let _told = ready.send(Err(reason));
            return;
        }
    };
    if let Err(error) = result {
        shared.fail(Error::Failed { shard: index, reason: error.to_string() });
    }
}

/// Builds everything that a shard is made of, on its thread.
fn assemble<S, E, F>(
    seed: Seed<F>,
    latency: glommio::TaskQueueHandle,
    background: glommio::TaskQueueHandle,
) -> Result<Driver<S, E>, String>
where
    S: Service,
    E: Engine,
    F: Fn(&Shard) -> Result<(Rc<S>, E), BoxError>,
{
    let Seed { index, settings, shared, sockets, port, build } = seed;
    let at = usize::from(index.get());
    let (mailbox, counters) = (shared.mailboxes[at].clone(), Arc::clone(&shared.counters[at]));
    let ring = Ring::new(mailbox.doorbell(), Slab::new(RECEIVE_POOL_BYTES_MAX));
    let mut ring = ring.map_err(|error: ring::Error| error.to_string())?;
    if let Some(fence) = &settings.fence {
        ring.hold(fence).map_err(|error| format!("its io_uring does not hold the lock: {error}"))?;
    }
    let notify = Rc::<Notify>::default();
    let tasks = Tasks::new(Rc::clone(&notify));
    let router = Open::new(port, Rc::clone(&notify), Arc::clone(&counters));
    let clock = Rc::new(Cell::new(Moment::now()));
    let shard = Shard {
        inner: Rc::new(Inner {
            index,
            shards: settings.cpus.len(),
            slab: Slab::new(settings.slab_bytes_max),
            clock: Rc::clone(&clock),
            notify: Rc::clone(&notify),
            tasks: Rc::clone(&tasks),
            counters: Arc::clone(&counters),
            router: Rc::clone(router.router()),
            latency,
            background,
        }),
    };
    let (service, engine) = build(&shard).map_err(|error| error.to_string())?;
    let (limits, mailboxes) = (settings.network.clone(), shared.mailboxes.clone());
    let mut network =
        Network::new(index, service, limits, mailboxes, Arc::clone(&counters), Rc::clone(&notify));
    network.listen(&mut ring, sockets);
    let (spin, drain_max) = (settings.spin, settings.drain_max);
    let parts =
        Parts { ring, network, engine, router, mailbox, notify, tasks, clock, counters, spin, drain_max };
    Driver::new(parts).map_err(|error: driver::Error| error.to_string())
}
