//! The synchronous heart of a shard: calls and completions in, effects out.
//!
//! | module | holds |
//! |---|---|
//! | [`shard`] | [`Shard`]: the core as its driver sees it |
//! | [`effect`] | everything it asks for and is told |
//! | `append`, `commit`, `checkpoint`, `reads` | what happens to a batch, in this order |
//! | `ahead` | what is read before it is asked for |
//! | `counts`, [`notice`] | how often, and what an operator should hear of |
//! | [`journal`] | groups: staged, closed, written, flushed, trimmed |
//! | `indexes` | the segments' index files: when they are written, read, and let go of |
//! | [`partition`], `segment`, `segment_index`, `extents`, [`producers`] | one log |
//! | [`recovery`] | from what a dead process left to manifests that can be opened |
//! | [`rules`] | the protocol's rules, each of which a mutant breaks |
//!
//! Nothing here knows a clock, a disk, a socket or a future, so production drives it from completions and the simulator
//! from a seeded heap.

mod ahead;
mod append;
mod checkpoint;
mod commit;
mod counts;
pub mod effect;
mod extents;
mod indexes;
pub mod journal;
pub mod notice;
pub mod partition;
pub mod producers;
mod reads;
pub mod recovery;
pub mod rules;
mod segment;
mod segment_index;
pub mod shard;

pub use counts::{Counts, Fullness};
pub use effect::{
    Acks, AppendError, Completion, Effect, FetchError, Fetched, Operation, OperationError, Tag,
};
pub use indexes::Seek;
pub use notice::Notice;
pub use partition::Config;
pub use rules::{Rule, Rules};
pub use shard::{Shard, Tuning};
