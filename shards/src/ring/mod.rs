//! The shard's own io_uring: sockets, journal and segments, submitted and completed on the shard's thread.
//!
//! | module | holds |
//! |---|---|
//! | `ring` | [`Ring`]: submit, complete, cancel, end |
//! | `completion` | what comes back: a typed result with the buffers that were lent |
//! | `operation` | the slab of operations in flight, which own all that the kernel may touch |
//! | `provided` | the buffers that the kernel picks for small receives |
//! | `wake` | the doorbell by which the ring and other threads wake a parked shard |
//! | `error` | why a ring could not be had, with the remedy |
//!
//! Invariants:
//! - An operation owns its buffers and holds its descriptor until its *final* completion. Cancelling changes nothing
//!   of that: a cancelled operation may still have happened.
//! - Keys carry a generation, so that a late cancellation never hits a stranger.
//! - Nothing is lost: what the submission queue has no room for waits in order; what overflows the completion queue is
//!   kept by the kernel and fetched.
//! - A ring that is dropped with operations in flight ends them first; what cannot be ended is leaked, not freed.
//!
//! The ring knows neither connections nor partitions. `unsafe` code of this folder lies in `ring`, `operation` and
//! `provided`.

mod completion;
mod error;
mod operation;
mod provided;
#[allow(clippy::module_inception)]
mod ring;
mod wake;

pub use completion::{Completion, NetworkEvent, StorageEvent, Token};
pub use error::Error;
pub use operation::Key;
pub use ring::Ring;
pub use wake::{Doorbell, Notify};

#[cfg(test)]
mod tests;
