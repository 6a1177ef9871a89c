//! Corelane's engine: one pinned thread per core, each with its partitions, its commit journal, its segment files and
//! its connections. The crate knows record batches; it knows no Kafka API.
//!
//! | module | holds |
//! |---|---|
//! | [`types`] | the newtypes that every other module speaks in |
//! | [`limits`] | the bound of every queue, buffer, loop and in-flight count |
//! | [`memory`] | shard-local memory that a disk or a socket may read: aligned slabs, staging chunks, lent slices |
//! | [`core`] | the synchronous heart: events in, effects out |
//! | [`mod@format`] | every byte we write |

#![deny(unsafe_code)]

pub mod core;
pub mod format;
pub mod limits;
pub mod memory;
#[cfg(feature = "sim")]
pub mod sim;
pub mod types;
