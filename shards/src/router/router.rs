//! One shard's side of the router: what waits to leave, who waits for answers, what comes in.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use super::home::{Asker, Home, Movable, Watches};
use super::lines::{Asked, Held, Line};
use super::mesh::Port;
use super::message::{Answer, Ask, Call, Message, Question};
use super::ownership::Ownership;
use super::slots::{Key, Slots};
use crate::clock::Moment;
use crate::engine::Log;
use crate::engine::reply::Promise;
use crate::limits::{HOPS_IN_FLIGHT_MAX, ROUTER_QUEUE_MESSAGES};
use crate::net::Counters;
use crate::ring::Notify;
use crate::types::{Offset, PartitionId, ShardIndex};

/// Who waits for the answer to a call. Called outside of all borrows.
pub(super) type Waiter<H> = Box<dyn FnOnce(Answer<H>)>;

/// The router of one shard. The driver turns it; [`super::Logs`] calls it.
pub struct Router<H: Home = Log> {
    pub(super) here: usize,
    pub(super) inner: RefCell<Inner<H>>,
    /// The logs that other shards call on.
    pub(super) home: RefCell<Option<H>>,
    /// The same, once one of them has moved.
    pub(super) movable: RefCell<Option<Rc<dyn Movable>>>,
    pub(super) watches: RefCell<Watches<H::Watch>>,
    pub(super) notify: Rc<Notify>,
    /// The time of the turn.
    pub(super) now: Cell<Moment>,
}

pub(super) struct Inner<H> {
    /// Gone when the shard has ended.
    pub(super) port: Option<Port<H>>,
    pub(super) peers: Vec<Peer<H>>,
    /// None until the shard's logs are there.
    pub(super) ownership: Option<Ownership>,
    /// The reply slots.
    pub(super) calls: Slots<Pending<H>>,
    /// Waits on other shards' logs.
    waits: Slots<RemoteWait>,
    /// Calls of this shard on logs that move.
    pub(super) lines: BTreeMap<PartitionId, Line<H>>,
    /// Calls on logs that are awaited here, oldest first.
    pub(super) held: VecDeque<Held<H>>,
    /// How many calls wait for a slot.
    pub(super) waiting: usize,
    /// How many notices wait for room.
    notices: usize,
    /// Departures that were seen to.
    departures_seen: usize,
    pub(super) counters: Arc<Counters>,
}

/// What is known of another shard.
pub(super) struct Peer<H> {
    /// Calls without a slot, oldest first.
    pub(super) waiting: VecDeque<Asked<H>>,
    /// Notices that found the queue full, oldest first.
    notices: VecDeque<Message<H>>,
    /// Calls that have a slot.
    in_flight: usize,
    /// Whether it was sent something since it was last woken.
    is_sent: bool,
    is_gone: bool,
}

impl<H> Default for Peer<H> {
    fn default() -> Peer<H> {
        let (waiting, notices) = (VecDeque::new(), VecDeque::new());
        Peer { waiting, notices, in_flight: 0, is_sent: false, is_gone: false }
    }
}

/// A call that has a slot.
pub(super) struct Pending<H> {
    to: usize,
    pub(super) partition: PartitionId,
    pub(super) waiter: Waiter<H>,
    pub(super) times_sent_back: u32,
}

struct RemoteWait {
    to: usize,
    promise: Promise<()>,
    state: WaitState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitState {
    /// The owner does not know of it yet, or its answer is on the way.
    Asked,
    /// The owner will send a notice.
    Watched,
    /// Nobody waits any more; the owner is told when it has answered.
    Dropped,
}

/// An open router. However the shard ends, dropping this is what the others learn of it.
pub struct Open<H: Home = Log>(Rc<Router<H>>);

impl<H: Home> Open<H> {
    /// The router of the shard that `port` is of; `notify` makes the driver turn.
    pub fn new(port: Port<H>, notify: Rc<Notify>, counters: Arc<Counters>) -> Open<H> {
        Open(Router::new(port, notify, counters))
    }

    /// The router, for the shard's services.
    pub fn router(&self) -> &Rc<Router<H>> {
        &self.0
    }
}

impl<H: Home> Deref for Open<H> {
    type Target = Rc<Router<H>>;

    fn deref(&self) -> &Rc<Router<H>> {
        &self.0
    }
}

impl<H: Home> Drop for Open<H> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<H: Home> Router<H> {
    fn new(port: Port<H>, notify: Rc<Notify>, counters: Arc<Counters>) -> Rc<Router<H>> {
        let here = port.index();
        let inner = Inner {
            peers: (0..port.count()).map(|_| Peer::default()).collect(),
            port: Some(port),
            ownership: None,
            calls: Slots::new(),
            waits: Slots::new(),
            lines: BTreeMap::new(),
            held: VecDeque::new(),
            waiting: 0,
            notices: 0,
            departures_seen: 0,
            counters,
        };
        Rc::new(Router {
            here,
            inner: RefCell::new(inner),
            home: RefCell::new(None),
            movable: RefCell::new(None),
            watches: RefCell::default(),
            notify,
            now: Cell::default(),
        })
    }

    /// Takes what came, once for each message that a queue can hold. Whether anything had come.
    ///
    /// Calls are carried out here, so that what they ask for is done in the engine's turn that follows.
    pub fn turn(self: &Rc<Router<H>>, now: Moment) -> bool {
        self.now.set(now);
        self.refuse_late();
        let count = self.inner.borrow().peers.len();
        let mut any = false;
        for from in 0..count {
            for _ in 0..ROUTER_QUEUE_MESSAGES {
                let Some(message) = self.inner.borrow_mut().receive(from) else { break };
                any = true;
                self.take(from, message);
            }
        }
        self.see_departures() || any
    }

    /// Sends what waits and can go, and wakes those who were sent something. Called after everything else of a turn.
    pub fn flush(&self) {
        let over = self.watches.borrow_mut().take_over();
        over.into_iter().for_each(|(to, key)| self.tell(to, Message::Advanced(key)));
        let mut inner = self.inner.borrow_mut();
        inner.send_notices();
        inner.wake_peers();
    }

    /// Whether a turn would find something.
    ///
    /// A notice that waits for room counts: nobody tells us of room, and the shard that makes it is at work.
    pub fn has_work(&self) -> bool {
        let inner = self.inner.borrow();
        let news = |port: &Port<H>| port.has_incoming() || port.departures() != inner.departures_seen;
        inner.notices > 0 || inner.port.as_ref().is_some_and(news)
    }

    /// Declares, once nobody of this shard waits for another one's answer, that it has nothing more to ask. To be
    /// called when the shard stops and its connections are gone.
    pub fn drain(&self) {
        let mut inner = self.inner.borrow_mut();
        if inner.is_idle()
            && let Some(port) = &mut inner.port
        {
            port.declare_drained();
        }
    }

    /// Whether [`Router::drain`] would now do what it did not before.
    pub fn can_drain(&self) -> bool {
        let inner = self.inner.borrow();
        inner.is_idle() && inner.port.as_ref().is_some_and(|port| !port.is_drained())
    }

    /// Whether no shard has anything more to ask. Then engines may stop.
    pub fn are_all_drained(&self) -> bool {
        self.inner.borrow().port.as_ref().is_none_or(Port::are_all_drained)
    }

    /// Ends: the other shards learn that this one is gone, and who waits here is told that nothing will come.
    fn close(&self) {
        let port = self.inner.borrow_mut().port.take();
        drop(port);
        let watches = self.watches.take();
        drop(watches);
        self.home.take();
        self.movable.take();
        self.end_waits(|question| Answer::Gone(Some(question)));
        let count = self.inner.borrow().peers.len();
        (0..count).for_each(|shard| self.give_up(shard));
    }

    /// Lets other shards call on `home`, whose logs are where `ownership` says.
    pub(super) fn serve(&self, home: H, ownership: Ownership) {
        let before = self.home.replace(Some(home));
        assert!(before.is_none(), "a shard has one set of logs");
        self.inner.borrow_mut().ownership = Some(ownership);
    }

    /// Which shard this is.
    pub(super) fn here(&self) -> ShardIndex {
        ShardIndex(u16::try_from(self.here).expect("there are at most 1,024 shards"))
    }

    /// Who owns a log, as far as this shard knows.
    pub(super) fn owner(&self, partition: PartitionId) -> ShardIndex {
        let inner = self.inner.borrow();
        inner.ownership.as_ref().expect("the logs are there").owner(partition)
    }

    /// How many shards there are.
    pub(super) fn count(&self) -> usize {
        self.inner.borrow().peers.len()
    }

    /// Sends a call to another shard or puts it in line.
    pub(super) fn send(&self, to: ShardIndex, asked: Asked<H>) {
        let refused = self.inner.borrow_mut().call(usize::from(to.get()), asked);
        match refused {
            Some(Asked { waiter, question, .. }) => waiter(Answer::Gone(Some(question))),
            None => self.notify.raise(),
        }
    }

    /// How many waits of other shards there are here.
    #[cfg(test)]
    pub(super) fn watch_count(&self) -> usize {
        self.watches.borrow().len()
    }

    /// Answers whoever asked. Called outside of all borrows.
    pub(super) fn answer(&self, asker: Asker<H>, answer: Answer<H>) {
        match asker {
            Asker::Shard(to, key) => self.inner.borrow_mut().send(to, Message::Answer(key, answer)),
            Asker::Here(waiter) => waiter(answer),
        }
    }

    /// Tells a shard, which may be this one, of a wait or a log.
    pub(super) fn tell(&self, to: usize, message: Message<H>) {
        match message {
            Message::Advanced(key) if to == self.here => self.advanced(key),
            Message::Unwatch(key) if to == self.here => self.watches.borrow_mut().cancel(to, key),
            message => self.inner.borrow_mut().notice(to, message),
        }
    }

    /// Waits for a record of another shard's log.
    pub(super) fn watch(
        self: &Rc<Router<H>>,
        partition: PartitionId,
        offset: Offset,
        promise: Promise<()>,
    ) -> Key {
        let wait = RemoteWait { to: self.here, promise, state: WaitState::Asked };
        let watch = self.inner.borrow_mut().waits.put(wait);
        let router = Rc::clone(self);
        let waiter: Waiter<H> =
            Box::new(move |answer| router.watched(watch, matches!(answer, Answer::Watching(true))));
        self.call(Question { partition, ask: Ask::Watch { offset, watch } }, waiter);
        watch
    }

    /// The owner answered a watch: it will send a notice, or there is nothing to wait for.
    fn watched(&self, key: Key, will_notify: bool) {
        let mut inner = self.inner.borrow_mut();
        let Some(wait) = inner.waits.get_mut(key) else { return };
        let (to, state) = (wait.to, wait.state);
        if will_notify && state == WaitState::Asked {
            wait.state = WaitState::Watched;
            return;
        }
        let wait = inner.waits.take(key);
        drop(inner);
        if will_notify {
            self.tell(to, Message::Unwatch(key));
        }
        wait.into_iter().for_each(|wait| wait.promise.answer(()));
    }

    /// Nobody waits for the record any more.
    pub(super) fn unwatch(&self, key: Key) {
        let mut inner = self.inner.borrow_mut();
        let Some(wait) = inner.waits.get_mut(key) else { return };
        if wait.state == WaitState::Asked {
            wait.state = WaitState::Dropped;
            return;
        }
        let to = wait.to;
        let taken = inner.waits.take(key);
        drop(inner);
        drop(taken);
        self.tell(to, Message::Unwatch(key));
        self.notify.raise();
    }

    /// A watched record is visible, or its log is gone.
    fn advanced(&self, key: Key) {
        let wait = self.inner.borrow_mut().waits.take(key);
        wait.into_iter().for_each(|wait| wait.promise.answer(()));
    }

    fn take(self: &Rc<Router<H>>, from: usize, message: Message<H>) {
        match message {
            Message::Call(Call { key, epoch, question }) => {
                self.admit(Asker::Shard(from, key), epoch, question);
            }
            Message::Answer(key, answer) => {
                let pending = self.inner.borrow_mut().answered(from, key);
                self.give(pending, answer);
            }
            Message::Advanced(key) => self.advanced(key),
            Message::Unwatch(key) => self.watches.borrow_mut().cancel(from, key),
            Message::Handed(partition, epoch) => self.handed(partition, epoch),
        }
    }

    /// Looks after shards that have gone since it last did: what they sent was taken or is now, then what waits for them
    /// is given up.
    fn see_departures(self: &Rc<Router<H>>) -> bool {
        let departed = self.inner.borrow_mut().departed();
        for &shard in &departed {
            while let Some(message) = self.receive_last(shard) {
                self.take(shard, message);
            }
            self.give_up(shard);
        }
        if !departed.is_empty() {
            // A log on its way from there does not come, and the others end as well.
            self.end_waits(Answer::Refused);
        }
        !departed.is_empty()
    }

    fn receive_last(&self, from: usize) -> Option<Message<H>> {
        self.inner.borrow_mut().receive(from)
    }

    /// Tells whoever waits for a shard that nothing will come from it.
    fn give_up(&self, shard: usize) {
        let mut inner = self.inner.borrow_mut();
        let (pending, waiting, waits) = inner.give_up(shard);
        drop(inner);
        pending.into_iter().for_each(|pending| (pending.waiter)(Answer::Gone(None)));
        waiting.into_iter().for_each(|asked| (asked.waiter)(Answer::Gone(Some(asked.question))));
        waits.into_iter().for_each(|wait| wait.promise.answer(()));
        self.watches.borrow_mut().forget(shard);
    }
}

impl<H: Home> Inner<H> {
    /// Whether nobody waits for another shard's answer. A watch is no such wait: what it is for has an end of its own.
    fn is_idle(&self) -> bool {
        self.waiting == 0 && self.calls.len() == 0 && !self.any_waits_for_a_log()
    }

    /// Remembers where a wait goes to.
    pub(super) fn aim(&mut self, question: &Question<H>, to: usize) {
        if let Ask::Watch { watch, .. } = question.ask
            && let Some(wait) = self.waits.get_mut(watch)
        {
            wait.to = to;
        }
    }

    /// Sends a call or puts it in line. Gives it back if the shard is gone.
    fn call(&mut self, to: usize, call: Asked<H>) -> Option<Asked<H>> {
        assert!(to < self.peers.len(), "an owner is a shard of this process");
        let is_open = self.port.as_ref().is_some_and(|port| port.index() != to);
        let peer = &mut self.peers[to];
        if peer.is_gone || !is_open {
            return Some(call);
        }
        if peer.in_flight == HOPS_IN_FLIGHT_MAX {
            self.counters.hops_waited_total.add(1);
            self.waiting += 1;
            peer.waiting.push_back(call);
        } else {
            assert!(peer.waiting.is_empty(), "a free slot is given to the one that waits longest");
            self.send_call(to, call);
        }
        None
    }

    fn send_call(&mut self, to: usize, call: Asked<H>) {
        let Asked { question, waiter, times_sent_back } = call;
        self.peers[to].in_flight += 1;
        self.aim(&question, to);
        let epoch = self.epoch();
        let key = self.calls.put(Pending { to, partition: question.partition, waiter, times_sent_back });
        self.counters.hops_sent_total.add(1);
        self.send(to, Message::Call(Call { key, epoch, question }));
    }

    /// Frees the slot of a call that is answered, for the call that waits longest.
    fn answered(&mut self, from: usize, key: Key) -> Pending<H> {
        let pending = self.calls.take(key).expect("a call is answered once");
        assert_eq!(pending.to, from, "the shard that was asked answers");
        self.counters.hops_answered_total.add(1);
        self.peers[from].in_flight -= 1;
        if let Some(next) = self.peers[from].waiting.pop_front() {
            self.waiting -= 1;
            self.send_call(from, next);
        }
        pending
    }

    /// Sends what is sure to have room; to nobody if the shard is gone.
    fn send(&mut self, to: usize, message: Message<H>) {
        if let (Some(port), false) = (&mut self.port, self.peers[to].is_gone) {
            port.send(to, message);
            self.peers[to].is_sent = true;
        }
    }

    fn notice(&mut self, to: usize, message: Message<H>) {
        if self.port.is_some() && !self.peers[to].is_gone {
            self.peers[to].notices.push_back(message);
            self.notices += 1;
        }
    }

    fn send_notices(&mut self) {
        let Some(port) = &mut self.port else { return };
        for (to, peer) in self.peers.iter_mut().enumerate() {
            while let Some(message) = peer.notices.pop_front() {
                if let Err(message) = port.send_notice(to, message) {
                    peer.notices.push_front(message);
                    break;
                }
                self.notices -= 1;
                peer.is_sent = true;
            }
        }
    }

    fn wake_peers(&mut self) {
        let Some(port) = &self.port else { return };
        for (to, peer) in self.peers.iter_mut().enumerate() {
            if std::mem::take(&mut peer.is_sent) {
                port.ring(to);
            }
        }
    }

    fn receive(&mut self, from: usize) -> Option<Message<H>> {
        self.port.as_mut()?.receive(from)
    }

    /// Shards that are gone and were not before. All that they sent can be received.
    fn departed(&mut self) -> Vec<usize> {
        let Some(port) = &self.port else { return Vec::new() };
        // Counted first: a shard that goes in between is seen to again.
        let departures = port.departures();
        if departures == self.departures_seen {
            return Vec::new();
        }
        self.departures_seen = departures;
        let peers = self.peers.iter().enumerate();
        peers.filter(|(shard, peer)| !peer.is_gone && port.is_gone(*shard)).map(|(shard, _)| shard).collect()
    }

    fn give_up(&mut self, shard: usize) -> (Vec<Pending<H>>, VecDeque<Asked<H>>, Vec<RemoteWait>) {
        let peer = &mut self.peers[shard];
        peer.is_gone = true;
        peer.in_flight = 0;
        self.notices -= peer.notices.len();
        peer.notices.clear();
        self.waiting -= peer.waiting.len();
        let waiting = std::mem::take(&mut peer.waiting);
        let pending = self.calls.take_if(|pending| pending.to == shard);
        (pending, waiting, self.waits.take_if(|wait| wait.to == shard))
    }
}
