//! One shard's side of the router: what waits to leave, who waits for answers, what comes in.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use super::home::{self, Watches};
use super::mesh::Port;
use super::message::{Answer, Call, Message, OwnershipEpoch, Question};
use super::slots::{Key, Slots};
use crate::engine::Log;
use crate::engine::reply::Promise;
use crate::limits::{HOPS_IN_FLIGHT_MAX, ROUTER_QUEUE_MESSAGES};
use crate::net::Counters;
use crate::ring::Notify;
use crate::types::{Offset, PartitionId, ShardIndex};

/// Who waits for the answer to a call. Called outside of all borrows.
pub(super) type Waiter = Box<dyn FnOnce(Answer)>;

/// The router of one shard. The driver turns it; [`super::Logs`] calls it.
pub struct Router {
    inner: RefCell<Inner>,
    /// The logs that other shards call on.
    home: RefCell<Option<Log>>,
    watches: RefCell<Watches>,
    notify: Rc<Notify>,
}

struct Inner {
    /// Gone when the shard has ended.
    port: Option<Port>,
    peers: Vec<Peer>,
    /// The reply slots.
    calls: Slots<Pending>,
    /// Waits on other shards' logs.
    waits: Slots<RemoteWait>,
    /// How many calls wait for a slot.
    waiting: usize,
    /// How many notices wait for room.
    notices: usize,
    /// Departures that were seen to.
    departures_seen: usize,
    counters: Arc<Counters>,
}

/// What is known of another shard.
#[derive(Default)]
struct Peer {
    /// Calls without a slot, oldest first.
    waiting: VecDeque<Waiting>,
    /// Notices that found the queue full, oldest first.
    notices: VecDeque<Message>,
    /// Calls that have a slot.
    in_flight: usize,
    /// Whether it was sent something since it was last woken.
    is_sent: bool,
    is_gone: bool,
}

struct Waiting {
    epoch: OwnershipEpoch,
    question: Question,
    waiter: Waiter,
}

struct Pending {
    to: usize,
    waiter: Waiter,
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
pub struct Open(Rc<Router>);

impl Open {
    /// The router of the shard that `port` is of; `notify` makes the driver turn.
    pub fn new(port: Port, notify: Rc<Notify>, counters: Arc<Counters>) -> Open {
        Open(Router::new(port, notify, counters))
    }

    /// The router, for the shard's services.
    pub fn router(&self) -> &Rc<Router> {
        &self.0
    }
}

impl Deref for Open {
    type Target = Rc<Router>;

    fn deref(&self) -> &Rc<Router> {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Router {
    fn new(port: Port, notify: Rc<Notify>, counters: Arc<Counters>) -> Rc<Router> {
        let inner = Inner {
            peers: (0..port.count()).map(|_| Peer::default()).collect(),
            port: Some(port),
            calls: Slots::new(),
            waits: Slots::new(),
            waiting: 0,
            notices: 0,
            departures_seen: 0,
            counters,
        };
        let (home, watches) = (RefCell::default(), RefCell::default());
        Rc::new(Router { inner: RefCell::new(inner), home, watches, notify })
    }

    /// Takes what came, once for each message that a queue can hold. Whether anything had come.
    ///
    /// Calls are carried out here, so that what they ask for is done in the engine's turn that follows.
    pub fn turn(self: &Rc<Router>) -> bool {
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
        let mut inner = self.inner.borrow_mut();
        over.into_iter().for_each(|(to, key)| inner.notice(to, Message::Advanced(key)));
        inner.send_notices();
        inner.wake_peers();
    }

    /// Whether a turn would find something.
    ///
    /// A notice that waits for room counts: nobody tells us of room, and the shard that makes it is at work.
    pub fn has_work(&self) -> bool {
        let inner = self.inner.borrow();
        let news = |port: &Port| port.has_incoming() || port.departures() != inner.departures_seen;
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
        let count = self.inner.borrow().peers.len();
        (0..count).for_each(|shard| self.give_up(shard));
    }

    /// Lets other shards call on `log`.
    pub(super) fn serve(&self, log: Log) {
        let before = self.home.replace(Some(log));
        assert!(before.is_none(), "a shard has one set of logs");
    }

    /// Asks another shard.
    pub(super) fn call(&self, to: ShardIndex, epoch: OwnershipEpoch, question: Question, waiter: Waiter) {
        let refused =
            self.inner.borrow_mut().call(usize::from(to.get()), Waiting { epoch, question, waiter });
        match refused {
            Some(waiter) => waiter(Answer::Gone),
            None => self.notify.raise(),
        }
    }

    /// How many waits of other shards there are here.
    #[cfg(test)]
    pub(super) fn watches(&self) -> usize {
        self.watches.borrow().len()
    }

    /// Answers another shard.
    pub(super) fn answer(&self, to: usize, key: Key, answer: Answer) {
        self.inner.borrow_mut().send(to, Message::Answer(key, answer));
    }

    /// Waits for a record of another shard's log.
    pub(super) fn watch(
        self: &Rc<Router>,
        to: ShardIndex,
        epoch: OwnershipEpoch,
        partition: PartitionId,
        offset: Offset,
        promise: Promise<()>,
    ) -> Key {
        let wait = RemoteWait { to: usize::from(to.get()), promise, state: WaitState::Asked };
        let watch = self.inner.borrow_mut().waits.put(wait);
        let router = Rc::clone(self);
        let waiter: Waiter =
            Box::new(move |answer| router.watched(watch, matches!(answer, Answer::Watching(true))));
        self.call(to, epoch, Question::Watch { partition, offset, watch }, waiter);
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
        if will_notify {
            inner.notice(to, Message::Unwatch(key));
        }
        drop(inner);
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
        inner.notice(to, Message::Unwatch(key));
        drop(inner);
        drop(taken);
        self.notify.raise();
    }

    fn take(self: &Rc<Router>, from: usize, message: Message) {
        match message {
            Message::Call(call) => {
                // The logs may not be borrowed while they work: answers can come at once.
                let log = self.home.borrow().clone();
                match log {
                    Some(log) => home::serve(self, &log, &self.watches, from, call),
                    None => self.answer(from, call.key, Answer::Gone),
                }
            }
            Message::Answer(key, answer) => {
                let waiter = self.inner.borrow_mut().answered(from, key);
                waiter(answer);
            }
            Message::Advanced(key) => {
                let wait = self.inner.borrow_mut().waits.take(key);
                wait.into_iter().for_each(|wait| wait.promise.answer(()));
            }
            Message::Unwatch(key) => self.watches.borrow_mut().cancel(from, key),
        }
    }

    /// Looks after shards that have gone since it last did: what they sent was taken or is now, then what waits for them
    /// is given up.
    fn see_departures(self: &Rc<Router>) -> bool {
        let departed = self.inner.borrow_mut().departed();
        for &shard in &departed {
            while let Some(message) = self.receive_last(shard) {
                self.take(shard, message);
            }
            self.give_up(shard);
        }
        !departed.is_empty()
    }

    fn receive_last(&self, from: usize) -> Option<Message> {
        self.inner.borrow_mut().receive(from)
    }

    /// Tells whoever waits for a shard that nothing will come from it.
    fn give_up(&self, shard: usize) {
        let mut inner = self.inner.borrow_mut();
        let (waiters, waits) = inner.give_up(shard);
        drop(inner);
        waiters.into_iter().for_each(|waiter| waiter(Answer::Gone));
        waits.into_iter().for_each(|wait| wait.promise.answer(()));
        self.watches.borrow_mut().forget(shard);
    }
}

impl Inner {
    /// Whether nobody waits for another shard's answer. A watch is no such wait: what it is for has an end of its own.
    fn is_idle(&self) -> bool {
        self.waiting == 0 && self.calls.len() == 0
    }

    /// Sends a call or puts it in line. Gives the waiter back if the shard is gone.
    fn call(&mut self, to: usize, call: Waiting) -> Option<Waiter> {
        assert!(to < self.peers.len(), "an owner is a shard of this process");
        let is_open = self.port.as_ref().is_some_and(|port| port.index() != to);
        let peer = &mut self.peers[to];
        if peer.is_gone || !is_open {
            return Some(call.waiter);
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

    fn send_call(&mut self, to: usize, call: Waiting) {
        let Waiting { epoch, question, waiter } = call;
        self.peers[to].in_flight += 1;
        let key = self.calls.put(Pending { to, waiter });
        self.counters.hops_sent_total.add(1);
        self.send(to, Message::Call(Call { key, epoch, question }));
    }

    /// Frees the slot of a call that is answered, for the call that waits longest.
    fn answered(&mut self, from: usize, key: Key) -> Waiter {
        let Pending { to, waiter } = self.calls.take(key).expect("a call is answered once");
        assert_eq!(to, from, "the shard that was asked answers");
        self.counters.hops_answered_total.add(1);
        self.peers[from].in_flight -= 1;
        if let Some(next) = self.peers[from].waiting.pop_front() {
            self.waiting -= 1;
            self.send_call(from, next);
        }
        waiter
    }

    /// Sends what is sure to have room; to nobody if the shard is gone.
    fn send(&mut self, to: usize, message: Message) {
        if let (Some(port), false) = (&mut self.port, self.peers[to].is_gone) {
            port.send(to, message);
            self.peers[to].is_sent = true;
        }
    }

    fn notice(&mut self, to: usize, message: Message) {
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

    fn receive(&mut self, from: usize) -> Option<Message> {
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

    fn give_up(&mut self, shard: usize) -> (Vec<Waiter>, Vec<RemoteWait>) {
        let peer = &mut self.peers[shard];
        peer.is_gone = true;
        peer.in_flight = 0;
        self.notices -= peer.notices.len();
        peer.notices.clear();
        self.waiting -= peer.waiting.len();
        let waiting = std::mem::take(&mut peer.waiting);
        let pending =
            self.calls.take_if(|pending| pending.to == shard).into_iter().map(|pending| pending.waiter);
        let waiters = pending.chain(waiting.into_iter().map(|waiting| waiting.waiter)).collect();
        (waiters, self.waits.take_if(|wait| wait.to == shard))
    }
}
