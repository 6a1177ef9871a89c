//! What comes back from the kernel: a result, and the buffers that the operation was lent.

use std::io;
use std::os::fd::OwnedFd;

use crate::memory::{AlignedBuffer, Slice};

/// The submitter's own name for an operation; comes back with each of its completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// One completion, sorted by who waits for it.
pub enum Completion {
    /// Something happened on a socket.
    Network(Token, NetworkEvent),
    /// A disk operation ended.
    Storage(Token, StorageEvent),
}

/// What happened on a socket. Buffers come back whatever the result.
pub enum NetworkEvent {
    /// A peer connected. `last`: no more will be accepted by this operation.
    Accepted {
        /// The new socket.
        result: io::Result<OwnedFd>,
        /// Whether the operation has ended.
        last: bool,
    },
    /// Bytes arrived in a buffer of the pool; no bytes mean that the peer sends no more.
    Received {
        /// The bytes.
        result: io::Result<Slice>,
        /// Whether the operation has ended.
        last: bool,
    },
    /// So many bytes arrived in the buffer that was lent; none mean that the peer sends no more.
    ReceivedInto {
        /// How many bytes.
        result: io::Result<usize>,
        /// The buffer, its length set to its capacity.
        buffer: AlignedBuffer,
    },
    /// So many bytes of the slices were taken over by the kernel, perhaps not all.
    Sent {
        /// How many bytes.
        result: io::Result<usize>,
        /// All the slices.
        slices: Vec<Slice>,
    },
}

/// How a disk operation ended. Buffers come back whatever the result.
pub enum StorageEvent {
    /// A write ended, perhaps short.
    Written {
        /// Bytes written.
        result: io::Result<usize>,
        /// All the slices.
        slices: Vec<Slice>,
    },
    /// A flush ended.
    Flushed {
        /// Whether what was written before it is durable.
        result: io::Result<()>,
    },
    /// A read ended, perhaps short.
    Read {
        /// Bytes read.
        result: io::Result<usize>,
        /// The buffer, its length as it was lent.
        buffer: AlignedBuffer,
    },
}

impl StorageEvent {
    /// The error, if the operation failed.
    pub fn error(&self) -> Option<&io::Error> {
        match self {
            StorageEvent::Written { result, .. } | StorageEvent::Read { result, .. } => result.as_ref().err(),
            StorageEvent::Flushed { result } => result.as_ref().err(),
        }
    }
}
