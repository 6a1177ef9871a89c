//! The loop. See the folder's documentation for its invariants.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use glommio::io::{PollState, PollableFd};

use super::tasks::panic_text;
use super::{Context, Engine, Tasks};
use crate::clock::Moment;
use crate::limits::COMPLETIONS_PER_TURN_MAX;
use crate::net::{Counters, Mailbox, Network, Phase, Service};
use crate::ring::{Completion, Doorbell, Notify, Ring};
use crate::router;

/// What a shard does when it has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spin {
    /// Sleeps at once.
    Park,
    /// Looks for work for so long, then sleeps.
    For(Duration),
    /// Looks for work for ever.
    Always,
}

/// A shard's loop ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service, the engine or a task panicked.
    #[error("panicked: {0}")]
    Panicked(String),
    /// The ring failed.
    #[error("its io_uring failed: {0}")]
    Ring(io::Error),
    /// The executor failed.
    #[error("its executor failed: {0}")]
    Executor(String),
}

/// What a driver drives.
pub struct Parts<S, E> {
    /// Its way to the other shards; first, so that they learn first when this one is dropped.
    pub router: router::Open,
    /// The shard's ring.
    pub ring: Ring,
    /// Its connections.
    pub network: Network<S>,
    /// Its core.
    pub engine: E,
    /// Its mailbox, whose doorbell the ring signals.
    pub mailbox: Mailbox,
    /// The flag that its tasks raise.
    pub notify: Rc<Notify>,
    /// Its other tasks.
    pub tasks: Rc<Tasks>,
    /// Where the time of the turn is put.
    pub clock: Rc<Cell<Moment>>,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// What it does when there is nothing to do.
    pub spin: Spin,
    /// How long connections may take to end when the shard stops.
    pub drain_max: Duration,
}

/// The loop of one shard.
pub struct Driver<S, E> {
    parts: Parts<S, E>,
    doorbell: PollableFd<Doorbell>,
    /// A wait for the doorbell that goes on over several parkings.
    doorbell_wait: PollState,
    storage_in_flight: usize,
    close_at: Option<Moment>,
    engine_told: bool,
}

impl<S: Service, E: Engine> Driver<S, E> {
    /// A driver on the calling thread's executor.
    pub fn new(parts: Parts<S, E>) -> Result<Driver<S, E>, Error> {
        let doorbell = PollableFd::new(parts.mailbox.doorbell().clone()).map_err(executor_error)?;
        Ok(Driver {
            parts,
            doorbell,
            doorbell_wait: PollState::new(),
            storage_in_flight: 0,
            close_at: None,
            engine_told: false,
        })
    }

    /// Runs until the shard was told to stop and has, or fails.
    pub async fn run(mut self) -> Result<(), Error> {
        loop {
            let busy = match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(result) => result.map_err(Error::Ring)?,
                Err(panic) => return Err(Error::Panicked(panic_text(&*panic))),
            };
            if let Some(text) = self.parts.tasks.take_panic() {
                return Err(Error::Panicked(text));
            }
            if self.is_finished() {
                return Ok(());
            }
            if busy {
                self.give_way().await;
            } else {
                self.rest().await?;
            }
        }
    }

    /// One turn. Whether there is more to do at once.
    fn turn(&mut self) -> io::Result<bool> {
        let now = Moment::now();
        self.parts.clock.set(now);
        self.parts.counters.turns_total.add(1);
        if self.parts.ring.is_work_put_off() {
            // What woke the shard is mostly such work; without this its completions were found a whole turn later.
            self.parts.ring.submit()?;
        }
        let completed = self.take_completions(now);
        let Parts { ring, network, .. } = &mut self.parts;
        let messages = network.take_messages(ring, now);
        let hops = self.parts.router.turn(now);
        self.follow_stop_order(now);
        self.with_engine(now, |engine, context| engine.turn(context));
        let Parts { ring, network, router, counters, .. } = &mut self.parts;
        network.turn(ring, now);
        router.flush();
        ring.submit()?;
        counters.ring_operations.set(ring.in_flight() as u64);
        Ok(completed || messages || hops || self.has_work())
    }

    fn take_completions(&mut self, now: Moment) -> bool {
        for taken in 0..COMPLETIONS_PER_TURN_MAX {
            let Parts { ring, network, .. } = &mut self.parts;
            match ring.next_completion() {
                None => return taken > 0,
                Some(Completion::Network(token, event)) => network.completed(ring, token, event, now),
                Some(Completion::Storage(token, event)) => {
                    self.storage_in_flight -= 1;
                    self.with_engine(now, |engine, context| engine.completed(token.0, event, context));
                }
            }
        }
        true
    }

    fn with_engine(&mut self, now: Moment, call: impl FnOnce(&mut E, &mut Context<'_>)) {
        let Parts { ring, engine, counters, .. } = &mut self.parts;
        let mut context = Context { ring, in_flight: &mut self.storage_in_flight, counters, now };
        call(engine, &mut context);
    }

    /// Goes the steps to the end: drain the network, close it, and when that is so on all shards stop the engine.
    ///
    /// Until then the shard serves the others.
    fn follow_stop_order(&mut self, now: Moment) {
        if !self.parts.mailbox.is_stop_ordered() {
            return;
        }
        let Parts { ring, network, router, mailbox, drain_max, .. } = &mut self.parts;
        if network.phase() == Phase::Serving {
            self.close_at = Some(now.after(*drain_max));
            network.drain(ring, now);
        }
        let late = mailbox.is_stop_now_ordered() || self.close_at.is_some_and(|at| at <= now);
        if late && network.phase() == Phase::Draining {
            self.close_at = None;
            network.close(ring, now);
        }
        if network.is_empty() {
            router.drain();
        }
        if router.are_all_drained() && !self.engine_told {
            self.engine_told = true;
            self.with_engine(now, |engine, context| engine.stop(context));
        }
    }

    fn is_finished(&self) -> bool {
        let Parts { ring, network, engine, .. } = &self.parts;
        self.engine_told && engine.is_stopped() && network.is_empty() && ring.in_flight() == 0
    }

    /// Lets other tasks run: those of this queue if there are any, those of other queues when their time has come.
    async fn give_way(&self) {
        if self.parts.tasks.any() {
            glommio::executor().yield_now().await;
        }
        glommio::yield_if_needed().await;
    }

    /// Whether the next turn would find something.
    fn has_work(&mut self) -> bool {
        let Parts { ring, network, router, mailbox, notify, .. } = &mut self.parts;
        let stop = mailbox.is_stop_ordered() && network.phase() == Phase::Serving;
        let close = mailbox.is_stop_now_ordered() && network.phase() == Phase::Draining;
        let drained = mailbox.is_stop_ordered() && network.is_empty() && router.can_drain();
        let told = router.are_all_drained() && !self.engine_told;
        let news = !ring.is_quiet() || mailbox.is_pending() || notify.is_raised() || router.has_work();
        news || stop || close || drained || told
    }

    fn next_deadline(&self) -> Option<Moment> {
        let Parts { network, engine, router, .. } = &self.parts;
        [network.next_deadline(), engine.next_deadline(), router.next_deadline(), self.close_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Spins as long as the policy says, then parks; returns when there is, or may be, something to do.
    async fn rest(&mut self) -> Result<(), Error> {
        let deadline = self.next_deadline();
        let start = self.parts.clock.get();
        while self.parts.spin != Spin::Park {
            let now = Moment::now();
            if self.has_work() || deadline.is_some_and(|at| at <= now) {
                return Ok(());
            }
            if matches!(self.parts.spin, Spin::For(time) if now.since(start) >= time) {
                break;
            }
            if glommio::executor().need_preempt() {
                self.give_way().await;
            }
            std::hint::spin_loop();
        }
        self.park(deadline).await
    }

    async fn park(&mut self, deadline: Option<Moment>) -> Result<(), Error> {
        if let Some(deadline) = deadline {
            self.parts.ring.wake_at(deadline);
            self.parts.ring.submit().map_err(Error::Ring)?;
        }
        self.parts.mailbox.doorbell().park();
        if self.has_work() {
            self.parts.mailbox.doorbell().unpark();
            return Ok(());
        }
        self.parts.counters.parks_total.add(1);
        let result = self.woken().await;
        self.parts.mailbox.doorbell().unpark();
        self.parts.counters.wakes_total.add(1);
        result
    }

    /// Waits for the doorbell or for the flag.
    async fn woken(&mut self) -> Result<(), Error> {
        let Driver { parts, doorbell, doorbell_wait, .. } = self;
        poll_fn(|context| {
            parts.notify.wake_with(context.waker());
            if parts.notify.is_raised() {
                return Poll::Ready(Ok(()));
            }
            doorbell.poll_readable(context, doorbell_wait).map_err(executor_error)
        })
        .await
    }
}

fn executor_error<T>(error: glommio::GlommioError<T>) -> Error {
    Error::Executor(error.to_string())
}
