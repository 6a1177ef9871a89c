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
//! | [`clock`] | the monotonic clock, read once per turn |
//! | [`throttle`] | how often the log tells of one cause |
//! | [`ring`] | a shard's own io_uring: sockets and hot storage |
//! | [`net`] | listeners, connections, frames in, answers out; the trait that a broker implements |
//! | [`engine`] | the core plugged into the driver: effects carried out, answers handed back |
//! | [`background`] | blocking file jobs beside the shards' threads |
//! | [`directory`] | the real data directory, and the disk that recovery reads |
//! | [`driver`] | the one loop of a shard |
//! | [`router`] | the only crossing between shards: the logs of all of them |
//! | [`runtime`] | threads, pinning, start and stop |

#![deny(unsafe_code)]

pub mod background;
pub mod clock;
pub mod core;
pub mod directory;
pub mod driver;
pub mod engine;
pub mod format;
pub mod limits;
pub mod memory;
pub mod net;
pub mod ring;
pub mod router;
pub mod runtime;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(test)]
mod testing;
pub mod throttle;
pub mod types;
