//! Logs in memory that move between shards of one thread, under real routers and queues.
//!
//! A log is where its last owner put it. Whoever calls on a log that is not there fails the test, so a router that carries
//! out a call before the log has arrived is caught at once.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::super::mesh::mesh;
use super::super::*;
use crate::clock::Moment;
use crate::core::effect::{Appended, Fetched};
use crate::core::{Acks, AppendError, FetchError};
use crate::engine::Reply;
use crate::engine::reply::Promise;
use crate::net::{Counters, Snapshot};
use crate::ring::{Doorbell, Notify};
use crate::types::{Offset, PartitionId, PartitionIndex, ShardIndex, Timestamp, TopicId};

pub(super) fn log(index: u16) -> PartitionId {
    PartitionId { topic: TopicId([7; 16]), index: PartitionIndex(i32::from(index)) }
}

fn placement(id: PartitionId, shards: usize) -> ShardIndex {
    let index = usize::try_from(id.index.get()).expect("not negative");
    ShardIndex(u16::try_from(index % shards).expect("few"))
}

/// An append as its log keeps it: who made it, and its number among theirs.
pub(super) type Entry = (u16, u32);

type Taken = (PartitionId, Entry, Promise<Result<Appended, AppendError>>);

#[derive(Default)]
struct Library {
    logs: BTreeMap<PartitionId, Vec<Entry>>,
    /// Where each log is; nowhere while it is on its way.
    holders: BTreeMap<PartitionId, Option<usize>>,
    /// Appends that a shard took and has not answered.
    taken: BTreeMap<usize, VecDeque<Taken>>,
    watches: Vec<(usize, PartitionId, usize, Promise<()>)>,
    releasing: Vec<(usize, PartitionId, Promise<()>)>,
}

/// The logs of one shard.
#[derive(Clone)]
pub(super) struct Shelf {
    here: usize,
    library: Rc<RefCell<Library>>,
}

/// A wait of [`Shelf`].
pub(super) struct Waits(Reply<()>);

impl AsMut<Reply<()>> for Waits {
    fn as_mut(&mut self) -> &mut Reply<()> {
        &mut self.0
    }
}

impl Shelf {
    fn check(&self, partition: PartitionId) {
        let holder = self.library.borrow().holders.get(&partition).copied().flatten();
        assert_eq!(holder, Some(self.here), "a log is called on where it is");
    }

    /// Answers the `count` appends that were taken longest ago.
    fn settle(&self, count: usize) {
        for _ in 0..count {
            let mut library = self.library.borrow_mut();
            let taken = library.taken.entry(self.here).or_default().pop_front();
            let Some((partition, entry, promise)) = taken else { return };
            let log = library.logs.entry(partition).or_default();
            let base_offset = Offset(i64::try_from(log.len()).expect("few"));
            log.push(entry);
            let length = log.len();
            let over: Vec<_> =
                library.watches.extract_if(.., |(_, id, at, _)| *id == partition && *at < length).collect();
            drop(library);
            promise.answer(Ok(Appended { base_offset, append_time: -1, log_start: Offset(0) }));
            over.into_iter().for_each(|(.., promise)| promise.answer(()));
            self.let_go();
        }
    }

    /// Lets go of the logs that are to leave and have nothing unanswered.
    fn let_go(&self) {
        let mut library = self.library.borrow_mut();
        let Library { taken, releasing, holders, .. } = &mut *library;
        let taken = taken.entry(self.here).or_default();
        let is_done = |(here, id, _): &mut (usize, PartitionId, _)| {
            *here == self.here && !taken.iter().any(|(of, ..)| of == id)
        };
        let gone: Vec<_> = releasing.extract_if(.., is_done).collect();
        gone.iter().for_each(|(_, id, _)| *holders.get_mut(id).expect("it was here") = None);
        drop(library);
        gone.into_iter().for_each(|(.., promise)| promise.answer(()));
    }
}

impl Home for Shelf {
    type Watch = Waits;

    fn append(&self, id: PartitionId, batch: &[u8], _: Acks) -> Reply<Result<Appended, AppendError>> {
        self.check(id);
        let (sender, number) = batch.split_at(2);
        let sender = u16::from_be_bytes(sender.try_into().expect("two bytes"));
        let number = u32::from_be_bytes(number.try_into().expect("four bytes"));
        let (promise, reply) = Reply::new();
        let mut library = self.library.borrow_mut();
        library.taken.entry(self.here).or_default().push_back((id, (sender, number), promise));
        reply
    }

    fn fetch(&self, id: PartitionId, _: Offset, _: usize) -> Reply<Result<Fetched, FetchError>> {
        self.check(id);
        let end = self.library.borrow().logs.get(&id).map_or(0, Vec::len);
        let high_watermark = Offset(i64::try_from(end).expect("few"));
        Reply::ready(Ok(Fetched { batches: Vec::new(), high_watermark, log_start: Offset(0) }))
    }

    fn seek(&self, id: PartitionId, _: Timestamp, from: Offset) -> Reply<Result<Option<Offset>, FetchError>> {
        self.check(id);
        Reply::ready(Ok(Some(from)))
    }

    fn watch(&self, id: PartitionId, offset: Offset) -> Option<Waits> {
        self.check(id);
        let mut library = self.library.borrow_mut();
        let at = usize::try_from(offset.get()).expect("not negative");
        if library.logs.get(&id).map_or(0, Vec::len) > at {
            return None;
        }
        let (promise, reply) = Reply::new();
        library.watches.push((self.here, id, at, promise));
        Some(Waits(reply))
    }
}

impl Movable for Shelf {
    fn release(&self, id: PartitionId) -> Reply<()> {
        self.check(id);
        let (promise, reply) = Reply::new();
        let mut library = self.library.borrow_mut();
        library.releasing.push((self.here, id, promise));
        let over: Vec<_> =
            library.watches.extract_if(.., |(here, of, ..)| *here == self.here && *of == id).collect();
        drop(library);
        over.into_iter().for_each(|(.., promise)| promise.answer(()));
        self.let_go();
        reply
    }

    fn adopt(&self, id: PartitionId) {
        let before = self.library.borrow_mut().holders.insert(id, Some(self.here));
        assert_eq!(before, Some(None), "a log is adopted when its former owner has let go of it");
    }
}

/// One shard of the test.
pub(super) struct Desk {
    open: Open<Shelf>,
    pub(super) logs: Logs<Shelf>,
    counters: Arc<Counters>,
}

/// All of them.
pub(super) struct Desks {
    pub(super) desks: Vec<Desk>,
    library: Rc<RefCell<Library>>,
    pub(super) now: Moment,
}

impl Desks {
    pub(super) fn new(shards: usize, logs: u16) -> Desks {
        let doorbells = (0..shards).map(|_| Doorbell::new().expect("an eventfd")).collect();
        let library = Rc::new(RefCell::new(Library::default()));
        let holders = (0..logs).map(log).map(|id| (id, Some(usize::from(placement(id, shards).get()))));
        library.borrow_mut().holders = holders.collect();
        let desk = |(here, port)| {
            let counters = Arc::<Counters>::default();
            let open = Open::new(port, Rc::<Notify>::default(), Arc::clone(&counters));
            let shelf = Shelf { here, library: Rc::clone(&library) };
            let logs = Logs::over(shelf, Rc::clone(open.router()), placement);
            Desk { open, logs, counters }
        };
        let desks = mesh(doorbells).into_iter().enumerate().map(desk).collect();
        Desks { desks, library, now: Moment(1) }
    }

    /// A turn of one shard. Whether it found anything.
    pub(super) fn turn(&self, shard: usize) -> bool {
        let router = self.desks[shard].open.router();
        let any = router.turn(self.now);
        router.flush();
        any
    }

    /// Answers appends at one shard.
    pub(super) fn settle(&self, shard: usize, count: usize) {
        self.desks[shard].logs.home().settle(count);
    }

    pub(super) fn learn(&self, shard: usize, change: Move) {
        self.desks[shard].logs.learn(change);
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    /// Goes on until nothing is left to do.
    pub(super) fn finish(&self) {
        let shards = 0..self.desks.len();
        for _ in 0..10_000 {
            let mut any = false;
            for shard in shards.clone() {
                self.settle(shard, usize::MAX);
                any |= self.turn(shard);
            }
            if !any && self.desks.iter().all(|desk| !desk.open.router().has_work()) {
                return;
            }
        }
        panic!("the shards never come to rest");
    }

    pub(super) fn entries(&self, id: PartitionId) -> Vec<Entry> {
        self.library.borrow().logs.get(&id).cloned().unwrap_or_default()
    }

    /// What all shards together counted.
    pub(super) fn counted(&self, of: impl Fn(&Snapshot) -> u64) -> u64 {
        self.desks.iter().map(|desk| of(&desk.counters.snapshot())).sum()
    }
}
