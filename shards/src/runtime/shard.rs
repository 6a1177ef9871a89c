//! What a service knows of the shard it runs on.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use glommio::TaskQueueHandle;

use crate::clock::Moment;
use crate::driver::Tasks;
use crate::memory::Slab;
use crate::net::Counters;
use crate::ring::Notify;
use crate::router::Router;
use crate::types::ShardIndex;

/// A handle on the shard that the calling code runs on. Clones are the same shard.
#[derive(Clone)]
pub struct Shard {
    pub(super) inner: Rc<Inner>,
}

pub(super) struct Inner {
    pub(super) index: ShardIndex,
    pub(super) shards: usize,
    pub(super) slab: Slab,
    pub(super) clock: Rc<Cell<Moment>>,
    pub(super) notify: Rc<Notify>,
    pub(super) tasks: Rc<Tasks>,
    pub(super) counters: Arc<Counters>,
    pub(super) router: Rc<Router>,
    pub(super) latency: TaskQueueHandle,
    pub(super) background: TaskQueueHandle,
}

impl Shard {
    /// Which shard.
    pub fn index(&self) -> ShardIndex {
        self.inner.index
    }

    /// How many shards there are.
    pub fn count(&self) -> usize {
        self.inner.shards
    }

    /// The time of the driver's turn.
    pub fn now(&self) -> Moment {
        self.inner.clock.get()
    }

    /// The shard's store of aligned memory.
    pub fn slab(&self) -> &Slab {
        &self.inner.slab
    }

    /// What the shard counts.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.inner.counters
    }

    /// The shard's way to the others.
    pub fn router(&self) -> &Rc<Router> {
        &self.inner.router
    }

    /// Makes the driver take a turn: something was changed, from a task, that the engine shall look at.
    pub fn notify(&self) {
        self.inner.notify.raise();
    }

    /// Runs `future` on this shard beside the driver. Its panic stops the process's shards.
    ///
    /// It should answer soon; what may take long goes to [`Shard::spawn_background`].
    pub fn spawn_local(&self, future: impl Future<Output = ()> + 'static) {
        self.spawn_into(future, self.inner.latency);
    }

    /// Runs `future` on this shard when requests leave time.
    pub fn spawn_background(&self, future: impl Future<Output = ()> + 'static) {
        self.spawn_into(future, self.inner.background);
    }

    fn spawn_into(&self, future: impl Future<Output = ()> + 'static, queue: TaskQueueHandle) {
        let watched = self.inner.tasks.watch(future);
        let task =
            glommio::spawn_local_into(watched, queue).expect("the shard's queues live as long as it does");
        drop(task.detach());
    }
}
