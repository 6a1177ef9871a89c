//! The data directory on a real disk, by blocking calls: used before the shards start, and by jobs in the background.
//!
//! | module | holds |
//! |---|---|
//! | [`layout`] | [`Layout`]: every path, in one place |
//! | [`identity`] | the random names of cluster, directory and start |
//! | [`opening`] | [`DataDirectory`]: from a path to a locked directory that is ours, or the reason why not |
//! | [`format_file`] | the file `format`: whose directory it is, and whether it was stopped cleanly |
//! | [`lock`] | [`Lock`]: one process at a time, and no write of a dead one |
//! | [`real_disk`] | [`RealDisk`]: what recovery asks of a disk, with direct I/O |
//! | [`staging_file`] | [`StagingFolder`]: staging memory that outlives a killed process |
//! | `files`, `direct` | small durable files; reads and writes around the page cache |
//!
//! Invariants: nothing is written into a directory before it is known to be ours and locked; a file that others rely on
//! is replaced, never overwritten, and its directory flushed behind it. The modules know nothing of what manifests and
//! journals say, nor of rings. `docs/formats/directory.md` shows the tree and what each crash leaves behind.

#[cfg(test)]
mod contract;
mod direct;
mod files;
pub mod format_file;
pub mod identity;
pub mod layout;
pub mod lock;
pub mod opening;
pub mod real_disk;
#[cfg(test)]
pub(crate) mod scratch;
pub mod staging_file;

pub use files::FileError;
pub use identity::{ClusterId, DirectoryId, Incarnation};
pub use layout::Layout;
pub use lock::{DEAD_WAIT, Lock, Usage};
pub use opening::{DataDirectory, OpenError};
pub use real_disk::RealDisk;
pub use staging_file::{StagingFile, StagingFolder};
