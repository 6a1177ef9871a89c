//! The only crossing between shards: calls of one shard on the logs of another.
//!
//! ```text
//!  asking shard                                                            owning shard
//!  Logs::append ─► waiting line ─► reply slot ═══ queue a→b ═══► Log::append ─► engine's turn
//!       Reply ◄──── reply slot, by key ◄══════════ queue b→a ═════════ answer ◄──────┘
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`logs`] | [`Logs`]: the logs of all shards as services see them; at home a direct call, elsewhere one hop |
//! | `watching` | [`Watching`]: a wait for a record on whichever shard |
//! | `message` | what crosses: calls, answers, notices |
//! | `mesh` | [`Port`]: one bounded queue for each ordered pair of shards, and how far each shard is on its way to the end |
//! | `slots` | reply slots with keys that are never valid twice |
//! | `router` | [`Router`]: one shard's side: lines, slots, what comes in |
//! | `home` | other shards' calls carried out on this shard's logs |
//!
//! Invariants:
//! - A reply slot is reserved before its call leaves, and a pair of shards has a bounded number of them. A queue has room
//!   for every call and every answer that the slots of its two shards allow, so a call that has a slot and an answer
//!   always find room: a shard never waits to be rid of a message, and two shards cannot block each other.
//! - Calls of one shard on one other are carried out in the order they were made. A call that finds no slot waits at the
//!   asking shard behind those before it; nothing is dropped, nothing overtakes. These lines have no bound of their own:
//!   each call in them belongs to a request that some connection has read, and the network bounds these, in number and in
//!   bytes.
//! - A long wait (a watch) holds no call slot: it would keep away the very append that ends it. Its notice, and the
//!   notice that cancels it, are at most one each, have room of their own in the queue, and wait in a line when that is
//!   full.
//! - The clock of the end: each shard declares once that its connections are gone and its calls are answered; only when
//!   all have does any engine stop. So no call meets an engine that has stopped while somebody waits for its answer.
//!   A shard that fails counts as having declared it, and what waits for its answers is told that it is gone.
//!
//! What a call on the wrong shard costs: a batch is copied into memory of its own for the hop, because the frame that it
//! lies in is counted on the asking shard alone; fetched batches are copied once, into one piece of memory for the whole
//! answer, for the same reason on the other side. At home neither copy is made. On top come one trip through each queue
//! and, if a shard is parked, an eventfd.
//!
//! Each call names the ownership epoch that the asking shard routed by. The owner of today answers a call for a log that
//! it does not have as it answers one at home; whoever moves logs while they are written to will forward by this epoch.
//!
//! The module knows no connection and no request; what answers mean is the caller's concern.

mod home;
pub mod logs;
mod mesh;
mod message;
#[allow(clippy::module_inception)]
mod router;
mod slots;
mod watching;

pub use logs::Logs;
pub use mesh::{Port, mesh};
pub use message::{Gone, OwnershipEpoch};
pub use router::{Open, Router};
pub use watching::Watching;

#[cfg(test)]
mod tests;
