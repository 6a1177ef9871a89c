//! The synchronous core plugged into the driver: its effects are carried out on the ring and beside it, its answers are
//! handed to whoever asked.
//!
//! | module | holds |
//! |---|---|
//! | [`log`] | [`Log`]: the shard's logs as services see them: append, fetch, wait |
//! | [`storage`] | [`Storage`]: carries out what the core asks for; the driver's engine |
//! | `figures` | what is published of the core among the shard's counters |
//! | `files` | the open segment files, a bounded number of them |
//! | `notices` | what the operator is told in the log, throttled by cause |
//! | [`reply`] | answers that tasks of the same thread wait for |
//!
//! Both sides share one cell, borrowed for the length of a call and never across a wait.

mod figures;
mod files;
pub mod log;
mod notices;
pub mod reply;
pub mod storage;

pub use log::{Alarm, Log, Offsets, Watch};
pub use reply::Reply;
pub use storage::{Storage, StorageSettings};
