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
//! | `lines` | calls on logs that move: sent on where they were made, held where the log is to arrive |
//! | `ownership` | who owns which log, as one shard knows it, and how far a log that moves has come |
//! | `home` | calls carried out on this shard's logs; [`Home`] and [`Movable`]: what the router needs of them |
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
//! What a call on the wrong shard costs: one trip through each queue and, if a shard is parked, an eventfd. A batch is lent
//! to the owner and its bytes come home with the answer, so it is copied once, by the append. Fetched batches are copied
//! once more, into one piece of memory for the whole answer, because the memory that they lie in is counted at the owner.
//!
//! A log's owner may change while calls on it are under way. Each call names the ownership epoch that the asking shard
//! routed by, and each shard learns of all moves in the same order, at a time of its own. A call that meets a log that
//! has gone comes back to the shard that made it and is sent on from there; one that comes before its log, or before the
//! owner has heard of the move, is held; and the old owner has answered all that it took before the new one begins. So a
//! call is lost at no time, and those of one shard on one log keep their order: `lines` says how. What moves the log itself is
//! [`Movable`]'s concern; [`Log`](crate::engine::Log) does not implement it, so in a running broker no log moves yet.
//!
//! The module knows no connection and no request; what answers mean is the caller's concern.

mod home;
mod lines;
pub mod logs;
mod mesh;
mod message;
mod ownership;
#[allow(clippy::module_inception)]
mod router;
mod slots;
mod watching;

pub use home::{Home, Movable};
pub use logs::Logs;
pub use mesh::{Port, mesh};
pub use message::{Gone, OwnershipEpoch};
pub use ownership::{Move, Placement};
pub use router::{Open, Router};
pub use watching::Watching;

#[cfg(test)]
mod tests;
