//! All shards, started or not at all, stopped and joined.
//!
//! A start has two halves. [`prepare`] binds the listeners and gives each shard its thread and its rings, which is what a
//! system may refuse; nothing is accepted yet. [`Prepared::start`] then builds every shard's service and engine, and lets
//! the shards run once all are built. Whoever opens a data directory does so in between, so that what the system refuses
//! is told before a byte of it was changed. A `Prepared` that is dropped ends its threads.

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
    prepare(settings)?.start(None, build)
}

/// Binds the listeners and gives each shard its thread and its rings.
pub fn prepare<S: Service, E: Engine>(settings: Settings) -> Result<Prepared<S, E>, Error> {
    if settings.cpus.is_empty() || settings.cpus.len() > SHARDS_MAX {
        return Err(Error::Cpus(settings.cpus.len()));
    }
    let listeners = Listeners::bind(&settings.listeners)?;
    let addresses = listeners.addresses().to_vec();
    let shared = Arc::new(share(&settings)?);
    let runtime = Runtime { shared, addresses, threads: Vec::new() };
    let mut prepared = Prepared { runtime, settings: Arc::new(settings), lines: Vec::new() };
    match prepared.launch(listeners.into_sockets()) {
        Ok(()) => Ok(prepared),
        Err((index, reason)) => Err(prepared.abandon(index, reason)),
    }
}

/// Shards that have what the system gives them, and wait for what they are to do.
pub struct Prepared<S, E> {
    runtime: Runtime,
    settings: Arc<Settings>,
    lines: Vec<Line<S, E>>,
}

/// The way to a shard's thread and back while it is being started.
struct Line<S, E> {
    orders: mpsc::Sender<Order<S, E>>,
    reports: mpsc::Receiver<Result<(), String>>,
}

/// The next step of a shard's start.
enum Order<S, E> {
    /// Build service and engine; every ring keeps what is given open until its last operation has ended.
    Build(Build<S, E>, Option<Arc<OwnedFd>>),
    Run,
}

type Build<S, E> = Arc<dyn Fn(&Shard) -> Result<(Rc<S>, E), BoxError> + Send + Sync>;

impl<S: Service, E: Engine> Prepared<S, E> {
    /// Builds all shards on their threads and lets them run. If one cannot be built none has run, and its reason is
    /// returned. `fence` is what every ring keeps open until its last operation has ended: a data directory's lock.
    pub fn start(
        self,
        fence: Option<Arc<OwnedFd>>,
        build: impl Fn(&Shard) -> Result<(Rc<S>, E), BoxError> + Send + Sync + 'static,
    ) -> Result<Runtime, Error> {
        let build: Build<S, E> = Arc::new(build);
        for line in &self.lines {
            // A thread that is gone says so when its report is waited for.
            let _told = line.orders.send(Order::Build(Arc::clone(&build), fence.clone()));
        }
        if let Err((index, reason)) = self.wait() {
            return Err(self.abandon(index, reason));
        }
        self.lines.iter().for_each(|line| _ = line.orders.send(Order::Run));
        Ok(self.runtime)
    }

    /// Starts the threads and waits until all have their rings. On failure, which could not be and why; the ports of those
    /// that were not started are dropped then, so that the others do not wait for them.
    fn launch(&mut self, sockets: Vec<OwnedFd>) -> Result<(), (usize, String)> {
        let mailboxes = &self.runtime.shared.mailboxes;
        let ports = mesh(mailboxes.iter().map(|mailbox| mailbox.doorbell().clone()).collect());
        let mut sockets = Some(sockets);
        for (index, port) in ports.into_iter().enumerate() {
            let (orders, to_do) = mpsc::channel();
            let (reporting, reports) = mpsc::channel();
            let seed = Seed {
                index: shard_index(index),
                settings: Arc::clone(&self.settings),
                shared: Arc::clone(&self.runtime.shared),
                sockets: sockets.take().unwrap_or_default(),
                port,
            };
            let thread =
                spawn(seed, self.settings.cpus[index], to_do, reporting).map_err(|reason| (index, reason))?;
            self.runtime.threads.push(thread);
            self.lines.push(Line { orders, reports });
        }
        self.wait()
    }

    /// Waits until every shard has reported, up to the first that failed.
    fn wait(&self) -> Result<(), (usize, String)> {
        for (index, line) in self.lines.iter().enumerate() {
            // If nothing is said the executor itself could not be created: its thread knows why.
            let told = line.reports.recv().unwrap_or_else(|_: mpsc::RecvError| Err(String::new()));
            told.map_err(|reason| (index, reason))?;
        }
        Ok(())
    }

    /// Ends what has been started, after shard `index` could not be. A shard that was built runs just long enough to obey.
    fn abandon(self, index: usize, reason: String) -> Error {
        let Prepared { runtime, settings, lines } = self;
        runtime.stop_now();
        for line in lines {
            let _told = line.orders.send(Order::Run);
        }
        let joined = runtime.join();
        let reason = match joined {
            Err(Error::Failed { reason: told, .. }) if reason.is_empty() => told,
            _ => reason,
        };
        Error::Start { shard: shard_index(index), cpu: settings.cpus[index], reason }
    }
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

fn shard_index(index: usize) -> ShardIndex {
    ShardIndex(u16::try_from(index).expect("shards are bounded"))
}

/// What a shard's thread is born with.
struct Seed {
    index: ShardIndex,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    sockets: Vec<OwnedFd>,
    port: Port,
}

type Reports = mpsc::Sender<Result<(), String>>;
type Orders<S, E> = mpsc::Receiver<Order<S, E>>;

fn spawn<S: Service, E: Engine>(
    seed: Seed,
    cpu: usize,
    orders: Orders<S, E>,
    reports: Reports,
) -> Result<ExecutorJoinHandle<()>, String> {
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(&format!("shard-{}", seed.index))
        .io_memory(EXECUTOR_IO_BYTES)
        .spawn(move || live(seed, orders, reports))
        .map_err(|error| error.to_string())
}

/// A shard's life.
async fn live<S: Service, E: Engine>(seed: Seed, orders: Orders<S, E>, reports: Reports) {
    let (index, shared) = (seed.index, Arc::clone(&seed.shared));
    let latency =
        glommio::executor().create_task_queue(Shares::Static(1000), Latency::Matters(LATENCY), "latency");
    let background =
        glommio::executor().create_task_queue(Shares::Static(100), Latency::NotImportant, "background");
    let Some(driver) = be_started(seed, &orders, &reports, (latency, background)) else { return };
    let task = glommio::spawn_local_into(driver.run(), latency).expect("the queue was just made");
    if let Err(error) = task.await {
        shared.fail(Error::Failed { shard: index, reason: error.to_string() });
    }
}

/// Goes through the steps of a start as they are ordered, each with a report. `None` if a step failed, or if no order
/// follows: another shard, or whoever starts the shards, failed. Nothing else runs on this thread yet, so it may wait.
fn be_started<S: Service, E: Engine>(
    seed: Seed,
    orders: &Orders<S, E>,
    reports: &Reports,
    queues: (glommio::TaskQueueHandle, glommio::TaskQueueHandle),
) -> Option<Driver<S, E>> {
    let mailbox = &seed.shared.mailboxes[usize::from(seed.index.get())];
    let ring = Ring::new(mailbox.doorbell(), Slab::new(RECEIVE_POOL_BYTES_MAX));
    let ring = reported(ring.map_err(|error: ring::Error| error.to_string()), reports)?;
    let Ok(Order::Build(build, fence)) = orders.recv() else { return None };
    let driver = reported(assemble(seed, ring, fence, &build, queues), reports)?;
    orders.recv().ok().map(|_run| driver)
}

/// Tells how a step ended. Whoever waits is gone only if another shard failed.
fn reported<T>(result: Result<T, String>, reports: &Reports) -> Option<T> {
    let (value, report) = match result {
        Ok(value) => (Some(value), Ok(())),
        Err(reason) => (None, Err(reason)),
    };
    let _told = reports.send(report);
    value
}

/// Builds everything that a shard is made of, on its thread.
fn assemble<S: Service, E: Engine>(
    seed: Seed,
    mut ring: Ring,
    fence: Option<Arc<OwnedFd>>,
    build: &Build<S, E>,
    (latency, background): (glommio::TaskQueueHandle, glommio::TaskQueueHandle),
) -> Result<Driver<S, E>, String> {
    let Seed { index, settings, shared, sockets, port } = seed;
    let at = usize::from(index.get());
    let (mailbox, counters) = (shared.mailboxes[at].clone(), Arc::clone(&shared.counters[at]));
    if let Some(fence) = &fence {
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
