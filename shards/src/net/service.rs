//! What a broker implements, and what a request carries from birth.

use std::net::SocketAddr;
use std::ops::{Deref, Range};
use std::rc::Rc;

use super::ResponseSlot;
use crate::clock::Moment;
use crate::memory::Slice;
use crate::types::ShardIndex;

/// A connection's number: its shard above, a count below. Never used twice by one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// The `count`-th connection of `shard`.
    pub(super) fn new(shard: ShardIndex, count: u64) -> ConnectionId {
        assert!(count < 1 << 48, "a shard does not live to see so many connections");
        ConnectionId(u64::from(shard.get()) << 48 | count)
    }
}

/// Which of the configured listeners, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerIndex(pub u16);

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Nobody has authenticated.
    Anonymous,
}

/// Where a request came from; the same for all requests of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The connection.
    pub connection: ConnectionId,
    /// The listener that accepted it.
    pub listener: ListenerIndex,
    /// The peer's address.
    pub address: SocketAddr,
    /// Who is asking.
    pub principal: Principal,
}

/// A point of a request's way whose time is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The frame's first byte was received.
    Received,
    /// The frame was whole.
    Framed,
    /// The service took it up.
    Started,
    /// The service's first run was over: the shards had its batches, or its answer was ready.
    Handled,
    /// Its answer was ready.
    Answered,
}

/// When a request passed each stage; zero if it has not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamps([Moment; 5]);

impl Stamps {
    /// Notes that `stage` was passed at `moment`.
    pub fn set(&mut self, stage: Stage, moment: Moment) {
        self.0[stage as usize] = moment;
    }

    /// When `stage` was passed.
    pub fn get(&self, stage: Stage) -> Option<Moment> {
        Some(self.0[stage as usize]).filter(|moment| *moment != Moment::default())
    }
}

/// What a request knows of itself beside its bytes.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Where it came from.
    pub peer: Rc<Peer>,
    /// When it passed the stages of its way.
    pub stamps: Stamps,
}

/// The bytes of a request, without their length; keeps the buffer they lie in alive.
///
/// A service that lets a request wait for long drops the frame first: it holds receive memory.
#[derive(Clone, Debug)]
pub struct Frame(Slice);

impl Frame {
    pub(super) fn new(bytes: Slice) -> Frame {
        Frame(bytes)
    }

    /// A part of the frame that lives on by itself, without a copy.
    pub fn slice(&self, range: Range<usize>) -> Slice {
        self.0.narrow(range)
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// A request on its way to the service.
pub struct Request {
    /// Where it came from, and when.
    pub context: RequestContext,
    /// Its bytes.
    pub frame: Frame,
    /// Where its answer goes.
    pub slot: ResponseSlot,
}

/// The broker's side: one instance for each shard, called on the shard's thread.
///
/// A call must not block and must not wait; it may keep the slot and answer later from any task of the shard.
pub trait Service: 'static {
    /// A peer connected.
    fn connected(&self, _peer: &Rc<Peer>) {}

    /// A connection ended. Slots of it may still be answered; nobody will read that.
    fn disconnected(&self, _peer: &Rc<Peer>) {}

    /// A whole frame arrived.
    fn request(&self, request: Request);
}
