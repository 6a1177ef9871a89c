//! A disk whose power can be cut: a file system on a loop device over a file that forgets what was not
//! flushed.
//!
//! ```text
//!   program under test
//!   ext4 or XFS          device.rs      made, mounted, and unmounted again whatever happens
//!   /dev/loopN           device.rs      direct I/O; hands every flush down as FSYNC
//!   export/volume        server.rs      FUSE, one file, no page cache
//!   Volume               volume.rs      durable and pending sectors; the seeded cut
//! ```

mod device;
mod instrument;
mod leftovers;
mod random;
mod server;
mod volume;

pub(crate) use self::device::{FileSystem, left_out};
pub(crate) use self::instrument::PowerCut;
pub(crate) use self::random::Random;
pub(crate) use self::volume::CutReport;
