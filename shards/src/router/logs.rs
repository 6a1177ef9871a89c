//! The logs of all shards as the services of one shard see them.

use std::any::Any;
use std::rc::Rc;

use super::home::{Home, Movable};
use super::message::{Answer, Ask, Copied, Question};
use super::ownership::{Move, Ownership, Placement};
use super::router::Waiter;
use super::{Gone, Router, Watching};
use crate::core::effect::{Appended, Fetched};
use crate::core::{Acks, AppendError, FetchError};
use crate::engine::{Log, Reply};
use crate::memory::Slice;
use crate::types::{Offset, PartitionId, Timestamp};

/// A handle on the logs of all shards, for the shard that the calling code runs on.
///
/// A call finds its log's owner, also one that moves meanwhile. As with [`Log`], it hands its work over at once and in
/// order; what it gives back is only waited for, and dropping it undoes nothing. An error that says that the log is
/// unknown can also mean that it would not stay in one place.
#[derive(Clone)]
pub struct Logs<H: Home = Log> {
    home: H,
    router: Rc<Router<H>>,
}

impl Logs {
    /// The logs as `log`'s shard sees them, each on the shard that `placement` says; from now on other shards may call on
    /// `log`.
    ///
    /// Called while the shard is built: its first message comes later.
    pub fn new(log: Log, placement: Placement) -> Logs {
        let router = Rc::clone(log.shard().router());
        Logs::over(log, router, placement)
    }
}

impl<H: Home + Movable> Logs<H> {
    /// Learns that a log gets another owner. Every shard is told of every move, in the same order.
    ///
    /// Calls on the log go on: see the documentation of `lines` and of [`Movable`].
    pub fn learn(&self, change: Move) {
        self.router.learn(change, || Rc::new(self.home.clone()));
    }
}

impl<H: Home> Logs<H> {
    pub(super) fn over(home: H, router: Rc<Router<H>>, placement: Placement) -> Logs<H> {
        let ownership = Ownership::new(router.here(), router.count(), placement);
        router.serve(home.clone(), ownership);
        Logs { home, router }
    }

    /// The logs of this shard.
    pub fn home(&self) -> &H {
        &self.home
    }

    /// Whether the log is one of this shard's, or will be when it has arrived.
    pub fn is_owned_here(&self, partition: PartitionId) -> bool {
        self.router.owner(partition) == self.router.here()
    }

    /// When a call of another shard, or of this one, will have waited for too long.
    #[cfg(test)]
    pub(super) fn deadline(&self) -> Option<crate::clock::Moment> {
        self.router.next_deadline()
    }

    /// Appends a batch as its producer sent it; see [`Log::append`]. Its memory is kept until the answer.
    ///
    /// [`AppendError::Stopped`] if the owner ended before it answered: the batch may or may not be there.
    pub fn append(
        &self,
        partition: PartitionId,
        batch: &Slice,
        acks: Acks,
    ) -> Reply<Result<Appended, AppendError>> {
        if self.router.is_at_home(partition) {
            return self.home.append(partition, batch, acks);
        }
        let (promise, reply) = Reply::new();
        let (loan, batch) = batch.lend();
        let waiter: Waiter<H> = Box::new(move |answer| {
            let (result, batch) = match answer {
                Answer::Appended(result, batch) => (result, Some(batch)),
                Answer::Refused(question) => (Err(AppendError::UnknownPartition), question.into_batch()),
                Answer::Gone(question) => {
                    (Err(AppendError::Stopped), question.and_then(Question::into_batch))
                }
                _ => unreachable!("an append is answered as one"),
            };
            if let Some(batch) = batch {
                loan.end(batch);
            }
            promise.answer(result);
        });
        self.router.call(Question { partition, ask: Ask::Append { batch, acks } }, waiter);
        reply
    }

    /// Batches from `offset` on; see [`Log::fetch`].
    ///
    /// [`FetchError::UnknownPartition`] if the owner ended before it answered.
    pub fn fetch(
        &self,
        partition: PartitionId,
        offset: Offset,
        bytes_max: usize,
    ) -> Reply<Result<Fetched, FetchError>> {
        if self.router.is_at_home(partition) {
            return self.home.fetch(partition, offset, bytes_max);
        }
        let (promise, reply) = Reply::new();
        let question = Question { partition, ask: Ask::Fetch { offset, bytes_max } };
        let waiter: Waiter<H> = Box::new(move |answer| {
            promise.answer(match answer {
                Answer::Fetched(result) => result.map(|copied| arrived(*copied)),
                _ => Err(FetchError::UnknownPartition),
            });
        });
        self.router.call(question, waiter);
        reply
    }

    /// Where to look for a time; see [`Log::seek`].
    ///
    /// [`FetchError::UnknownPartition`] if the owner ended before it answered.
    pub fn seek(
        &self,
        partition: PartitionId,
        timestamp: Timestamp,
        from: Offset,
    ) -> Reply<Result<Option<Offset>, FetchError>> {
        if self.router.is_at_home(partition) {
            return self.home.seek(partition, timestamp, from);
        }
        let (promise, reply) = Reply::new();
        let question = Question { partition, ask: Ask::Seek { timestamp, from } };
        let waiter: Waiter<H> = Box::new(move |answer| {
            promise.answer(match answer {
                Answer::Sought(result) => result,
                _ => Err(FetchError::UnknownPartition),
            });
        });
        self.router.call(question, waiter);
        reply
    }

    /// Waits for a record at `offset` to become visible; over at once if it is.
    pub fn watch(&self, partition: PartitionId, offset: Offset) -> Watching<H> {
        if self.router.is_at_home(partition) {
            return Watching::home(self.home.watch(partition, offset));
        }
        let (promise, reply) = Reply::new();
        let key = self.router.watch(partition, offset, promise);
        Watching::away(Rc::clone(&self.router), key, reply)
    }

    /// What `look` sees of the logs of the owner of `partition`: for what is asked rarely.
    ///
    /// It runs on the owner's thread, in order with the calls before it, and must not block.
    pub fn ask<T: Send + 'static>(
        &self,
        partition: PartitionId,
        look: impl FnOnce(&H) -> T + Send + 'static,
    ) -> Reply<Result<T, Gone>> {
        if self.router.is_at_home(partition) {
            return Reply::ready(Ok(look(&self.home)));
        }
        let (promise, reply) = Reply::new();
        let ask = Ask::Look(Box::new(|home| Box::new(look(home)) as Box<dyn Any + Send>));
        let waiter: Waiter<H> = Box::new(move |answer| {
            promise.answer(match answer {
                Answer::Seen(value) => Ok(*value.downcast().expect("a look is answered with its own value")),
                _ => Err(Gone),
            });
        });
        self.router.call(Question { partition, ask }, waiter);
        reply
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
