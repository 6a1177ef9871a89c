//! Shard-local memory that a disk or a socket may read while we hold on to it.
//!
//! | module | holds |
//! |---|---|
//! | [`mod@slice`] | [`Slice`]: a cheap, counted, read-only view that never moves and never changes |
//! | [`aligned`] | [`AlignedBuffer`]: 4 KiB-aligned memory for direct I/O, with a ceiling per shard |
//! | [`lent`] | [`Loan`] and [`Lent`]: a slice's bytes on another thread, until they come home |
//! | [`staging`] | [`Staging`]: the chunks in which journal groups are built, outliving a killed process |
//!
//! Invariants: memory that a [`Slice`] shows is never written again while the slice lives; no type here
//! crosses threads but [`Lent`], whose memory stays counted at home. The modules know nothing of partitions, journals or sockets. This folder is one of the few places that may
//! hold `unsafe` code; what it exports is safe to use.

pub mod aligned;
pub mod lent;
pub mod slice;
pub mod staging;

pub use aligned::{AlignedBuffer, Slab};
pub use lent::{Lent, Loan};
pub use slice::Slice;
pub use staging::{Chunk, ChunkIndex, Mapping, Staging};
