//! The logs of a shard as its services see them.
//!
//! A call hands its work over at once and in order; what it gives back is only waited for. An append that the core has no
//! room for queues here, behind all that queued before it, and is tried again when there is room: nothing is dropped and
//! nothing overtakes.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::reply::{Promise, Reply};
use crate::clock::{Moment, wall_millis};
use crate::core::effect::{Appended, Fetched, Millis};
use crate::core::{Acks, AppendError, Config, Effect, FetchError, Seek, Shard as Core, Tag};
use crate::runtime::Shard;
use crate::types::{LeaderEpoch, Offset, PartitionId, Timestamp};

/// A handle on the logs of the shard that the calling code runs on.
#[derive(Clone)]
pub struct Log {
    inner: Rc<RefCell<Inner>>,
    shard: Shard,
}

/// The core, and who waits for it.
pub(super) struct Inner {
    pub(super) core: Core,
    pub(super) answers: Answers,
}

/// Who waits for what.
#[derive(Default)]
pub(super) struct Answers {
    last_tag: u64,
    appends: BTreeMap<Tag, Promise<Result<Appended, AppendError>>>,
    fetches: BTreeMap<Tag, Promise<Result<Fetched, FetchError>>>,
    seeks: BTreeMap<Tag, Promise<Result<Option<Offset>, FetchError>>>,
    watches: BTreeMap<Tag, Promise<()>>,
    alarms: BTreeMap<(Moment, Tag), Promise<()>>,
    /// Appends that found no room, oldest first.
    queued: VecDeque<Queued>,
}

struct Queued {
    partition: PartitionId,
    batch: Vec<u8>,
    acks: Acks,
    promise: Promise<Result<Appended, AppendError>>,
}

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// The first offset.
    pub log_start: Offset,
    /// The offset behind the last durable record.
    pub high_watermark: Offset,
    /// The offset that the next record gets.
    pub end: Offset,
    /// The epoch of the log's first batch, if it has one.
    pub first_epoch: Option<LeaderEpoch>,
}

/// An alarm that is taken back when it is dropped.
pub struct Alarm {
    inner: Rc<RefCell<Inner>>,
    key: (Moment, Tag),
    reply: Reply<()>,
}

/// A wait for data that ends when it is dropped.
pub struct Watch {
    inner: Rc<RefCell<Inner>>,
    partition: PartitionId,
    tag: Tag,
    /// Answers when the record is visible or the log is gone.
    pub reply: Reply<()>,
}

impl Log {
    pub(super) fn new(inner: Rc<RefCell<Inner>>, shard: Shard) -> Log {
        Log { inner, shard }
    }

    /// The shard that this is.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Appends a batch as its producer sent it; the order of calls is the order of the log.
    pub fn append(
        &self,
        partition: PartitionId,
        batch: &[u8],
        acks: Acks,
    ) -> Reply<Result<Appended, AppendError>> {
        let mut inner = self.inner.borrow_mut();
        let (promise, reply) = Reply::new();
        if inner.answers.queued.is_empty() {
            if let Some(promise) = inner.append(wall_millis(), partition, batch, acks, promise) {
                inner.answers.queued.push_back(Queued { partition, batch: batch.to_vec(), acks, promise });
            }
        } else {
            inner.answers.queued.push_back(Queued { partition, batch: batch.to_vec(), acks, promise });
        }
        self.shard.notify();
        reply
    }

    /// Batches from `offset` on; see [`Core::fetch`].
    pub fn fetch(
        &self,
        partition: PartitionId,
        offset: Offset,
        bytes_max: usize,
    ) -> Reply<Result<Fetched, FetchError>> {
        let mut inner = self.inner.borrow_mut();
        let tag = inner.answers.tag();
        let result = inner.core.fetch(partition, offset, bytes_max, tag);
        if inner.core.has_effects() {
            // Also a fetch that was answered may have asked for what comes behind.
            self.shard.notify();
        }
        match result {
            Ok(Some(fetched)) => Reply::ready(Ok(fetched)),
            Err(error) => Reply::ready(Err(error)),
            Ok(None) => {
                let (promise, reply) = Reply::new();
                inner.answers.fetches.insert(tag, promise);
                reply
            }
        }
    }

    /// An offset from which to look for the first record that is not before `from` and not older than `timestamp`; `None`
    /// if no record is that late. See [`Core::seek`].
    pub fn seek(
        &self,
        partition: PartitionId,
        timestamp: Timestamp,
        from: Offset,
    ) -> Reply<Result<Option<Offset>, FetchError>> {
        let mut inner = self.inner.borrow_mut();
        let tag = inner.answers.tag();
        match inner.core.seek(partition, timestamp, from, tag) {
            Ok(Seek::At(offset)) => Reply::ready(Ok(Some(offset))),
            Ok(Seek::Nothing) => Reply::ready(Ok(None)),
            Err(error) => Reply::ready(Err(error)),
            Ok(Seek::Later) => {
                let (promise, reply) = Reply::new();
                inner.answers.seeks.insert(tag, promise);
                self.shard.notify();
                reply
            }
        }
    }

    /// Waits for a record at `offset` to become visible; `None` if it is, or the shard has no such log.
    pub fn watch(&self, partition: PartitionId, offset: Offset) -> Option<Watch> {
        let mut inner = self.inner.borrow_mut();
        let tag = inner.answers.tag();
        if !inner.core.watch(partition, offset, tag) {
            return None;
        }
        let (promise, reply) = Reply::new();
        inner.answers.watches.insert(tag, promise);
        Some(Watch { inner: Rc::clone(&self.inner), partition, tag, reply })
    }

    /// Answers at `moment`, or at the shard's next turn behind it.
    pub fn alarm(&self, moment: Moment) -> Alarm {
        let mut inner = self.inner.borrow_mut();
        let (promise, reply) = Reply::new();
        let key = (moment, inner.answers.tag());
        inner.answers.alarms.insert(key, promise);
        // The driver shall wait no longer than until then.
        self.shard.notify();
        Alarm { inner: Rc::clone(&self.inner), key, reply }
    }

    /// The shard's logs.
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.inner.borrow().core.partitions().map(|p| p.id).collect()
    }

    /// Where a log begins and ends.
    pub fn offsets(&self, partition: PartitionId) -> Option<Offsets> {
        let inner = self.inner.borrow();
        inner.core.partition(partition).map(|p| Offsets {
            log_start: p.log_start,
            high_watermark: p.high_watermark,
            end: p.end,
            first_epoch: p.epochs.first().map(|(epoch, _)| *epoch),
        })
    }

    /// What `look` sees of a log, if the shard has it.
    pub fn with_partition<T>(
        &self,
        partition: PartitionId,
        look: impl FnOnce(&crate::core::partition::Partition) -> T,
    ) -> Option<T> {
        self.inner.borrow().core.partition(partition).map(look)
    }

    /// Takes charge of a new log; see [`Core::create_partition`].
    pub fn create_partition(&self, partition: PartitionId, epoch: LeaderEpoch, config: Config) {
        self.inner.borrow_mut().core.create_partition(partition, epoch, config);
        self.shard.notify();
    }

    /// Lets go of a deleted log; see [`Core::delete_partition`].
    pub fn delete_partition(&self, partition: PartitionId) {
        self.inner.borrow_mut().core.delete_partition(partition);
        self.shard.notify();
    }

    /// Whether the shard has the log.
    pub fn has_partition(&self, partition: PartitionId) -> bool {
        self.inner.borrow().core.partition(partition).is_some()
    }

    /// Why the shard takes no appends, if it does not.
    pub fn stopped(&self) -> Option<String> {
        self.inner.borrow().core.stopped().map(|reason| reason.to_string())
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.reply).poll(context)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.inner.borrow_mut().answers.alarms.remove(&self.key);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut inner = self.inner.borrow_mut();
        if inner.answers.watches.remove(&self.tag).is_some() {
            inner.core.unwatch(self.partition, self.tag);
        }
    }
}

impl Answers {
    /// Appends that wait for room.
    pub(super) fn appends_waiting(&self) -> usize {
        self.queued.len()
    }

    /// Answers the alarms that are due.
    pub(super) fn ring_alarms(&mut self, now: Moment) {
        while let Some(entry) = self.alarms.first_entry()
            && entry.key().0 <= now
        {
            entry.remove().answer(());
        }
    }

    /// When the next alarm is due.
    pub(super) fn next_alarm(&self) -> Option<Moment> {
        self.alarms.first_key_value().map(|((moment, _), _)| *moment)
    }

    fn tag(&mut self) -> Tag {
        self.last_tag += 1;
        Tag(self.last_tag)
    }
}

impl Inner {
    /// Hands an append to the core. Gives the promise back if there is no room.
    fn append(
        &mut self,
        now: Millis,
        partition: PartitionId,
        batch: &[u8],
        acks: Acks,
        promise: Promise<Result<Appended, AppendError>>,
    ) -> Option<Promise<Result<Appended, AppendError>>> {
        let tag = self.answers.tag();
        match self.core.append(now, partition, batch, acks, tag) {
            Ok(()) => {
                match self.core.take_appended(tag) {
                    Some(appended) => promise.answer(Ok(appended)),
                    None => _ = self.answers.appends.insert(tag, promise),
                }
                None
            }
            Err(AppendError::Busy) => Some(promise),
            Err(error) => {
                promise.answer(Err(error));
                None
            }
        }
    }

    /// Tries queued appends again, in order, until one finds no room.
    pub(super) fn retry_appends(&mut self, now: Millis) {
        while let Some(Queued { partition, batch, acks, promise }) = self.answers.queued.pop_front() {
            if let Some(promise) = self.append(now, partition, &batch, acks, promise) {
                self.answers.queued.push_front(Queued { partition, batch, acks, promise });
                return;
            }
        }
    }

    /// Answers whoever waits for this.
    pub(super) fn hand_back(&mut self, effect: Effect) {
        match effect {
            Effect::Appended { tag, result } => {
                if let Some(promise) = self.answers.appends.remove(&tag) {
                    promise.answer(result);
                }
            }
            Effect::Fetched { tag, result } => {
                if let Some(promise) = self.answers.fetches.remove(&tag) {
                    promise.answer(result);
                }
            }
            Effect::Sought { tag, result } => {
                if let Some(promise) = self.answers.seeks.remove(&tag) {
                    promise.answer(result);
                }
            }
            Effect::Advanced { tag } => {
                if let Some(promise) = self.answers.watches.remove(&tag) {
                    promise.answer(());
                }
            }
            // Queued appends are tried again each turn, and whatever makes room makes a turn.
            Effect::Room | Effect::RecordsDeleted { .. } => {}
            other => unreachable!("{other:?} is an operation"),
        }
    }
}
