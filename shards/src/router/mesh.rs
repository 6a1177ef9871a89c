//! The queues between the shards: one for each ordered pair, with one producer and one consumer, and the few flags by
//! which shards end together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

use super::message::Message;
use crate::engine::Log;
use crate::limits::{HOPS_IN_FLIGHT_MAX, ROUTER_QUEUE_MESSAGES};
use crate::ring::Doorbell;

/// One shard's ends of all its queues. Goes to the shard's thread; dropping it tells the others that the shard is gone.
pub struct Port<H = Log> {
    index: usize,
    /// By shard; none to itself.
    links: Vec<Option<Link<H>>>,
    shared: Arc<Shared>,
    /// Whether this shard is counted in [`Shared::drained`].
    is_drained: bool,
}

struct Link<H> {
    outgoing: Producer<Message<H>>,
    incoming: Consumer<Message<H>>,
}

struct Shared {
    doorbells: Vec<Doorbell>,
    gone: Vec<AtomicBool>,
    /// How many of `gone` are set.
    departures: AtomicUsize,
    /// How many shards have nothing more to ask.
    drained: AtomicUsize,
}

impl Shared {
    fn ring_all(&self) {
        self.doorbells.iter().for_each(Doorbell::ring);
    }
}

/// The ports of all shards, in their order.
pub fn mesh<H>(doorbells: Vec<Doorbell>) -> Vec<Port<H>> {
    let count = doorbells.len();
    let shared = Arc::new(Shared {
        gone: doorbells.iter().map(|_| AtomicBool::new(false)).collect(),
        departures: AtomicUsize::new(0),
        drained: AtomicUsize::new(0),
        doorbells,
    });
    let port = |index| Port {
        index,
        links: (0..count).map(|_| None).collect(),
        shared: Arc::clone(&shared),
        is_drained: false,
    };
    let mut ports: Vec<Port<H>> = (0..count).map(port).collect();
    for a in 0..count {
        for b in a + 1..count {
            let (to_b, from_a) = RingBuffer::new(ROUTER_QUEUE_MESSAGES);
            let (to_a, from_b) = RingBuffer::new(ROUTER_QUEUE_MESSAGES);
            ports[a].links[b] = Some(Link { outgoing: to_b, incoming: from_b });
            ports[b].links[a] = Some(Link { outgoing: to_a, incoming: from_a });
        }
    }
    ports
}

impl<H> Port<H> {
    /// Which shard's it is.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// How many shards there are.
    pub(super) fn count(&self) -> usize {
        self.links.len()
    }

    /// Sends a call that has a slot, or an answer.
    pub(super) fn send(&mut self, to: usize, message: Message<H>) {
        let sent = self.link(to).outgoing.push(message);
        assert!(sent.is_ok(), "a queue has room for every call and answer that the slots allow");
    }

    /// Sends a notice; gives it back if that would take room meant for calls and answers.
    pub(super) fn send_notice(&mut self, to: usize, message: Message<H>) -> Result<(), Message<H>> {
        if self.link(to).outgoing.slots() <= 2 * HOPS_IN_FLIGHT_MAX {
            return Err(message);
        }
        self.send(to, message);
        Ok(())
    }

    /// The next message of a shard.
    pub(super) fn receive(&mut self, from: usize) -> Option<Message<H>> {
        self.links[from].as_mut()?.incoming.pop().ok()
    }

    /// Whether a message has come.
    pub(super) fn has_incoming(&self) -> bool {
        self.links.iter().flatten().any(|link| !link.incoming.is_empty())
    }

    /// Wakes a shard that may be parked: after messages for it were sent.
    pub(super) fn ring(&self, to: usize) {
        self.shared.doorbells[to].ring();
    }

    /// How many shards are gone.
    pub(super) fn departures(&self) -> usize {
        self.shared.departures.load(Ordering::Acquire)
    }

    /// Whether a shard is gone. All that it ever sent can be received then.
    pub(super) fn is_gone(&self, shard: usize) -> bool {
        self.shared.gone[shard].load(Ordering::Acquire)
    }

    /// Declares that this shard has nothing more to ask.
    pub(super) fn declare_drained(&mut self) {
        if std::mem::replace(&mut self.is_drained, true) {
            return;
        }
        let before = self.shared.drained.fetch_add(1, Ordering::AcqRel);
        if before + 1 == self.links.len() {
            self.shared.ring_all();
        }
    }

    /// Whether it has.
    pub(super) fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// Whether no shard has anything more to ask.
    pub(super) fn are_all_drained(&self) -> bool {
        self.shared.drained.load(Ordering::Acquire) == self.links.len()
    }

    fn link(&mut self, to: usize) -> &mut Link<H> {
        self.links[to].as_mut().expect("a shard has a queue to each other shard and none to itself")
    }
}

impl<H> Drop for Port<H> {
    fn drop(&mut self) {
        self.declare_drained();
        self.shared.gone[self.index].store(true, Ordering::Release);
        self.shared.departures.fetch_add(1, Ordering::Release);
        self.shared.ring_all();
    }
}
