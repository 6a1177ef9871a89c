//! The seeded simulator: the core of one or more shards over a disk that tears, drops, delays and fails, with clients that
//! remember what they were promised. Never part of a build that serves.
//!
//! | module | holds |
//! |---|---|
//! | [`world`] | [`World`]: one broker and what happens to it, step by step |
//! | [`disk`] | [`SimDisk`](disk::SimDisk): sectors with a volatile cache |
//! | `directory` | the disk as recovery sees it |
//! | [`oracle`] | what was promised, and the comparison |
//! | `profile`, [`random`] | what a seed makes of a world |
//! | [`report`] | how often each branch was met |
//! | `run` | one seed from beginning to end |
//!
//! It cannot find: wrong use of the kernel (the ring, flags, alignment), memory ordering between threads, bugs of the file
//! system, and stalls that time alone would show. The tests on real disks are there for these.

pub(crate) mod directory;
pub mod disk;
pub mod oracle;
mod profile;
pub mod random;
pub mod report;
mod run;
pub mod world;

pub use oracle::{Compared, Violation};
pub use report::Hits;
pub use run::{Outcome, run};
pub use world::{Answers, World, open_changed};
