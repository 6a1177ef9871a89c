//! The logs of all shards as the services of one shard see them.

use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;

use super::message::{Answer, Copied, Question};
use super::router::Waiter;
use super::{Gone, OwnershipEpoch, Router, Watching};
use crate::core::effect::{Appended, Fetched};
use crate::core::{Acks, AppendError, FetchError};
use crate::engine::{Log, Reply};
use crate::memory::Slice;
use crate::types::{Offset, PartitionId, ShardIndex};

/// A handle on the logs of all shards, for the shard that the calling code runs on.
///
/// Who owns a log is the caller's knowledge. As with [`Log`], a call hands its work over at once and in order; what it
/// gives back is only waited for, and dropping it undoes nothing.
#[derive(Clone)]
pub struct Logs {
    log: Log,
    router: Rc<Router>,
    epoch: Rc<Cell<OwnershipEpoch>>,
}

impl Logs {
    /// The logs as `log`'s shard sees them; from now on other shards may call on `log`.
    ///
    /// Called while the shard is built: its first message comes later.
    pub fn new(log: Log) -> Logs {
        let router = Rc::clone(log.shard().router());
        router.serve(log.clone());
        Logs { log, router, epoch: Rc::default() }
    }

    /// The logs of this shard.
    pub fn home(&self) -> &Log {
        &self.log
    }

    /// Names the state of ownership that the caller routes by from now on.
    pub fn set_epoch(&self, epoch: OwnershipEpoch) {
        self.epoch.set(epoch);
    }

    /// Appends a batch as its producer sent it; see [`Log::append`].
    ///
    /// [`AppendError::Stopped`] if the owner ended before it answered: the batch may or may not be there.
    pub fn append(
        &self,
        owner: ShardIndex,
        partition: PartitionId,
        batch: &[u8],
        acks: Acks,
    ) -> Reply<Result<Appended, AppendError>> {
        if self.is_home(owner) {
            return self.log.append(partition, batch, acks);
        }
        let (promise, reply) = Reply::new();
        let question = Question::Append { partition, batch: batch.into(), acks };
        let waiter: Waiter = Box::new(move |answer| {
            promise.answer(match answer {
                Answer::Appended(result) => result,
                _ => Err(AppendError::Stopped),
            });
        });
        self.router.call(owner, self.epoch.get(), question, waiter);
        reply
    }

    /// Batches from `offset` on; see [`Log::fetch`].
    ///
    /// [`FetchError::UnknownPartition`] if the owner ended before it answered.
    pub fn fetch(
        &self,
        owner: ShardIndex,
        partition: PartitionId,
        offset: Offset,
        bytes_max: usize,
    ) -> Reply<Result<Fetched, FetchError>> {
        if self.is_home(owner) {
            return self.log.fetch(partition, offset, bytes_max);
        }
        let (promise, reply) = Reply::new();
        let question = Question::Fetch { partition, offset, bytes_max };
        let waiter: Waiter = Box::new(move |answer| {
            promise.answer(match answer {
                Answer::Fetched(result) => result.map(|copied| arrived(*copied)),
                _ => Err(FetchError::UnknownPartition),
            });
        });
        self.router.call(owner, self.epoch.get(), question, waiter);
        reply
    }

    /// Waits for a record at `offset` to become visible; over at once if it is.
    pub fn watch(&self, owner: ShardIndex, partition: PartitionId, offset: Offset) -> Watching {
        if self.is_home(owner) {
            return Watching::home(self.log.watch(partition, offset));
        }
        let (promise, reply) = Reply::new();
        let key = self.router.watch(owner, self.epoch.get(), partition, offset, promise);
        Watching::away(Rc::clone(&self.router), key, reply)
    }

    /// What `look` sees of the owner's logs: for what is asked rarely.
    ///
    /// It runs on the owner's thread, in order with the calls before it, and must not block.
    pub fn ask<T: Send + 'static>(
        &self,
        owner: ShardIndex,
        look: impl FnOnce(&Log) -> T + Send + 'static,
    ) -> Reply<Result<T, Gone>> {
        if self.is_home(owner) {
            return Reply::ready(Ok(look(&self.log)));
        }
        let (promise, reply) = Reply::new();
        let question = Question::Look(Box::new(|log| Box::new(look(log)) as Box<dyn Any + Send>));
        let waiter: Waiter = Box::new(move |answer| {
            promise.answer(match answer {
                Answer::Seen(value) => Ok(*value.downcast().expect("a look is answered with its own value")),
                _ => Err(Gone),
            });
        });
        self.router.call(owner, self.epoch.get(), question, waiter);
        reply
    }

    fn is_home(&self, owner: ShardIndex) -> bool {
        owner == self.log.shard().index()
    }
}

/// Batches that crossed, as the shard's own slices again.
fn arrived(copied: Copied) -> Fetched {
    let Copied { bytes, ends, high_watermark, log_start } = copied;
    let whole = Slice::from_vec(bytes);
    let mut start = 0;
    let batches = ends.into_iter().map(|end| whole.narrow(std::mem::replace(&mut start, end)..end)).collect();
    Fetched { batches, high_watermark, log_start }
}
