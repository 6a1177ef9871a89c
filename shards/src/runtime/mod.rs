//! Threads, pinning, task queues, start and stop: one executor for each configured CPU.
//!
//! | module | holds |
//! |---|---|
//! | `shard` | [`Shard`]: what a service knows of the shard it runs on |
//! | `start` | [`Runtime`]: all shards, started or not at all, stopped and joined |
//!
//! Invariants: either all shards are ready or none is left running. A shard that fails makes the others stop at once;
//! which one failed and why comes out of [`Runtime::join`].

mod shard;
mod start;

pub use shard::Shard;
pub use start::{BoxError, Error, Prepared, Runtime, Settings, prepare, start};
