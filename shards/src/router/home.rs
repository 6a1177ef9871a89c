//! Calls carried out on this shard's logs, for other shards and, where a log has moved here, for its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::Router;
use super::message::{Answer, Ask, Copied, Question};
use super::router::Waiter;
use super::slots::Key;
use crate::core::effect::{Appended, Fetched};
use crate::core::{Acks, AppendError, FetchError};
use crate::engine::{Log, Reply, Watch};
use crate::types::{Offset, PartitionId, Timestamp};

/// The logs of one shard as the router calls on them, see [`Log`]. Clones are the same logs.
pub trait Home: Clone + 'static {
    /// A wait for data, which ends when it is dropped.
    type Watch: AsMut<Reply<()>> + Unpin + 'static;

    /// Appends a batch; the order of calls is the order of the log.
    fn append(
        &self,
        partition: PartitionId,
        batch: &[u8],
        acks: Acks,
    ) -> Reply<Result<Appended, AppendError>>;

    /// Batches from `offset` on.
    fn fetch(
        &self,
        partition: PartitionId,
        offset: Offset,
        bytes_max: usize,
    ) -> Reply<Result<Fetched, FetchError>>;

    /// Where to look for the first record that is not before `from` and not older than `timestamp`.
    fn seek(
        &self,
        partition: PartitionId,
        timestamp: Timestamp,
        from: Offset,
    ) -> Reply<Result<Option<Offset>, FetchError>>;

    /// Waits for a record at `offset` to become visible; `None` if it is, or there is no such log.
    fn watch(&self, partition: PartitionId, offset: Offset) -> Option<Self::Watch>;
}

/// Logs that can go from shard to shard while they are written to.
///
/// [`Log`] is none: its files, its journal's groups and its cache belong to one core, and nothing hands them over yet. The
/// router's part of a move is complete without it, and whoever builds the rest implements this.
pub trait Movable {
    /// Lets go of a log, which gets no more calls: its watches end at once. Answers when all that was appended to it is
    /// answered and another shard may take charge of it.
    fn release(&self, partition: PartitionId) -> Reply<()>;

    /// Takes charge of a log that its former owner has let go of.
    fn adopt(&self, partition: PartitionId);
}

impl Home for Log {
    type Watch = Watch;

    fn append(
        &self,
        partition: PartitionId,
        batch: &[u8],
        acks: Acks,
    ) -> Reply<Result<Appended, AppendError>> {
        Log::append(self, partition, batch, acks)
    }

    fn fetch(
        &self,
        partition: PartitionId,
        offset: Offset,
        bytes_max: usize,
    ) -> Reply<Result<Fetched, FetchError>> {
        Log::fetch(self, partition, offset, bytes_max)
    }

    fn seek(
        &self,
        partition: PartitionId,
        timestamp: Timestamp,
        from: Offset,
    ) -> Reply<Result<Option<Offset>, FetchError>> {
        Log::seek(self, partition, timestamp, from)
    }

    fn watch(&self, partition: PartitionId, offset: Offset) -> Option<Watch> {
        Log::watch(self, partition, offset)
    }
}

impl AsMut<Reply<()>> for Watch {
    fn as_mut(&mut self) -> &mut Reply<()> {
        &mut self.reply
    }
}

/// Who made a call.
pub(super) enum Asker<H> {
    /// Another shard, under this key.
    Shard(usize, Key),
    /// This shard.
    Here(Waiter<H>),
}

/// Waits that the router keeps: by the asking shard, and its name for the wait.
pub(super) struct Watches<W> {
    live: BTreeMap<(usize, Key), W>,
    /// Those that are over. A watch ends inside a call of the core, where it cannot be dropped.
    over: Rc<RefCell<Vec<(usize, Key)>>>,
}

impl<W> Default for Watches<W> {
    fn default() -> Watches<W> {
        Watches { live: BTreeMap::new(), over: Rc::default() }
    }
}

impl<W: AsMut<Reply<()>>> Watches<W> {
    fn keep(&mut self, from: usize, key: Key, mut watch: W) {
        let over = Rc::clone(&self.over);
        watch.as_mut().call_back(move |()| over.borrow_mut().push((from, key)));
        let before = self.live.insert((from, key), watch);
        assert!(before.is_none(), "a wait has a name of its own");
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// Ends a wait that nobody is interested in any more. It may be over.
    pub(super) fn cancel(&mut self, from: usize, key: Key) {
        self.live.remove(&(from, key));
    }

    /// Ends all waits of a shard that is gone.
    pub(super) fn forget(&mut self, from: usize) {
        self.live.retain(|(shard, _), _| *shard != from);
    }

    /// Those that are over and were not cancelled, once.
    pub(super) fn take_over(&mut self) -> Vec<(usize, Key)> {
        let mut over = self.over.take();
        over.retain(|name| self.live.remove(name).is_some());
        over
    }
}

/// Hands a call to the logs; its answer goes back when it is there.
pub(super) fn serve<H: Home>(router: &Rc<Router<H>>, home: &H, asker: Asker<H>, question: Question<H>) {
    let (back, Question { partition, ask }) = (Rc::clone(router), question);
    match ask {
        Ask::Append { batch, acks } => {
            let reply = home.append(partition, &batch, acks);
            reply.call_back(move |result| back.answer(asker, Answer::Appended(result, batch)));
        }
        Ask::Fetch { offset, bytes_max } => {
            let reply = home.fetch(partition, offset, bytes_max);
            reply.call_back(move |result| {
                back.answer(asker, Answer::Fetched(result.map(|fetched| Box::new(copied(&fetched)))));
            });
        }
        Ask::Seek { timestamp, from } => {
            let reply = home.seek(partition, timestamp, from);
            reply.call_back(move |result| back.answer(asker, Answer::Sought(result)));
        }
        Ask::Watch { offset, watch } => {
            let from = match &asker {
                Asker::Shard(shard, _) => *shard,
                Asker::Here(_) => router.here,
            };
            let found = home.watch(partition, offset);
            let is_found = found.is_some();
            if let Some(found) = found {
                router.watches.borrow_mut().keep(from, watch, found);
            }
            router.answer(asker, Answer::Watching(is_found));
        }
        Ask::Look(look) => router.answer(asker, Answer::Seen(look(home))),
    }
}

fn copied(fetched: &Fetched) -> Copied {
    let mut bytes = Vec::with_capacity(fetched.batches.iter().map(|batch| batch.len()).sum());
    let mut ends = Vec::with_capacity(fetched.batches.len());
    for batch in &fetched.batches {
        bytes.extend_from_slice(batch);
        ends.push(bytes.len());
    }
    Copied { bytes, ends, high_watermark: fetched.high_watermark, log_start: fetched.log_start }
}
