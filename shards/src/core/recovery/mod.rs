//! Opening a data directory: from what a dead process left to manifests from which shards can start.
//!
//! | module | holds |
//! |---|---|
//! | [`disk`] | [`Disk`]: what recovery asks of a directory, real or simulated |
//! | [`mod@open`] | all old shards under one root, whatever the new shard count |
//! | `scan` | which journal groups of one shard count, and what is missing or damaged |
//! | `files` | whether segment files are as long as the manifests vouch for |
//! | `replay` | one shard's logs, rebuilt and written to their segments |
//!
//! It runs before any shard does, with blocking calls, and may be interrupted at any of them and started again: it writes
//! nothing that the old root needs until the new root is durable.

pub mod disk;
pub mod error;
pub(crate) mod files;
pub mod open;
mod replay;
mod scan;

pub use disk::{Disk, DiskError, IndexFiles};
pub use error::{Damage, Error};
pub use open::{Opened, Opening, Report, open};
