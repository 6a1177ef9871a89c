//! The network of a shard: listeners, connections, frames in, answers out.
//!
//! ```text
//!            shard 0                                            every shard
//!  listener ──accept──► least loaded shard ──mailbox──► connection
//!                                                          │
//!    socket ──pool buffers (small) ──────────► input ──► parser ──► Service::request(frame, slot)
//!       └────the frame's own memory (large) ─────┘         │ index                       │ now or later
//!                                                          ▼                             ▼
//!    socket ◄──one gathered send◄── outgoing ◄──completed prefix── outbox ◄────── ResponseSlot::answer
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `service` | [`Service`], which the broker implements, and what a request carries from birth |
//! | `outbox` | [`ResponseSlot`]: answers in any order, leaving in request order |
//! | `settings` | limits that a user may set |
//! | `counters` | what a shard counts, read by other threads |
//! | `histogram`, `stages` | how long things took, and requests between their stamps |
//! | `input` | received bytes that nobody has looked at yet |
//! | `parser` | frames out of received bytes, in place where they lie in one buffer |
//! | `connection` | one connection's state, and what it may do next |
//! | `connections` | the slab of connections, and the order of their deadlines |
//! | `network` | [`Network`]: completions in, operations out, for all connections of a shard |
//! | `transport` | what lies between the socket and the frames; where TLS will go |
//! | `listener` | listening sockets, bound before the shards start |
//! | `mailbox` | what other threads send a shard: sockets and the order to stop |
//!
//! How bytes are received: small frames come by a multishot receive into buffers of the shard's pool, and a frame inside
//! one buffer is a view of it. A frame that does not lie in one buffer gets memory of its own, taken whole from the
//! request memory (`queued.max.request.bytes`) before a byte of it is copied. If much of it is missing the rest is
//! received straight into that memory, with room for the start of the next frames, which are then looked at in place.
//! A connection whose recent frames were large asks for single receives, so that no multishot need be cancelled.
//!
//! Invariants:
//! - Nothing is dropped: at every bound the connection's frames stay unlooked-at, then its receiving stops, then the
//!   peer's window closes.
//! - No deadlock on request memory: a frame's memory is taken whole; who waits for it holds none; waiters are served in
//!   order; a peer that does not deliver what it announced is evicted.
//! - Answers leave in request order. A slot that is dropped unanswered closes its connection.
//! - A connection is forgotten only when the kernel holds none of its buffers.
//!
//! The module knows length-prefixed frames and nothing of what is in them.

mod connection;
mod connections;
mod counters;
mod histogram;
mod input;
mod listener;
mod mailbox;
mod network;
mod outbox;
mod parser;
mod service;
mod settings;
mod stages;
mod transport;

pub use counters::{Counters, DiskOperation, DiskTimes, Snapshot};
pub use histogram::{Distribution, Histogram};
pub use listener::{BindError, Listeners};
pub use mailbox::{Mailbox, Message};
pub use network::{Network, Phase};
pub use outbox::{Answer, ResponseSlot};
pub use parser::FrameError;
pub use service::{
    ConnectionId, Frame, ListenerIndex, Peer, Principal, Request, RequestContext, Service, Stage, Stamps,
};
pub use settings::Settings;
pub use stages::{Interval, RequestKind, RequestTimes};

#[cfg(test)]
mod tests;
