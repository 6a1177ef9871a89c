//! The one loop of a shard: what completed goes in, what is wanted goes out, then the shard spins, then it parks.
//!
//! ```text
//!  ┌─► completions ─► messages, hops ─► engine's ─► network's turn ─► submit ─┐
//!  │                                                                          │ something to do
//!  ├──────────────────────────────────────────────────────────────────────────┤
//!  │                                                                          │ nothing
//!  └── woken ◄── park (doorbell, notify, deadline) ◄── spin (park | for a while | always)
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `driver` | [`Driver`]: the loop, as one task of the shard's latency queue |
//! | `engine` | [`Engine`]: what the synchronous core looks like from here; [`Context`]: what it may ask for |
//! | `tasks` | [`Tasks`]: the tasks that services spawned on the shard |
//!
//! Invariants: the clock is read once a turn. The shard parks only when the ring is quiet, the mailbox and the
//! router's queues are empty and nothing is notified, looked at once more after it was declared parked; so no wake-up is
//! lost. Engines stop when the networks of all shards are empty and no shard waits for another's answer; the loop ends
//! when then the engine has stopped and the ring has nothing in flight. Cancelling the task in the middle loses
//! nothing in the kernel's hands: the ring's drop sees to that.

#[allow(clippy::module_inception)]
mod driver;
mod engine;
mod tasks;

pub use driver::{Driver, Error, Parts, Spin};
pub use engine::{Context, Engine};
pub use tasks::Tasks;

#[cfg(test)]
mod tests;
