//! Why the store refused a start, a commit or a watch.

use std::io;

use bytes::Bytes;

use super::transaction::Revision;

/// What a metadata store answers instead of a result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A condition did not hold; nothing was changed. Read again and decide again.
    #[error("the key {} is not as the transaction expected it; nothing was changed", .key.escape_ascii())]
    Conflict {
        /// The first key whose condition failed.
        key: Bytes,
    },
    /// The transaction cannot be committed at any time; nothing was changed.
    #[error("the transaction is invalid: {0}")]
    Invalid(&'static str),
    /// The store has no room for it; nothing was changed.
    #[error("the metadata store holds all it may ({bytes_max} bytes); nothing was changed")]
    Full {
        /// The bound that would have been passed.
        bytes_max: usize,
    },
    /// A write or a flush failed, now or earlier. The commit that met it may or may not be there after the
    /// next start, whole in either case; the store commits nothing more until then.
    #[error("the metadata store takes no more commits until the broker restarts: {reason}")]
    Poisoned {
        /// What failed first.
        reason: String,
    },
    /// The watch was to begin before what is remembered. Read the range again and watch from there.
    #[error("changes before revision {oldest} are no longer remembered")]
    Compacted {
        /// The oldest revision from which a watch can begin.
        oldest: Revision,
    },
    /// The watch was to begin beyond the next commit.
    #[error("revision {0} has not been reached")]
    FutureRevision(Revision),
    /// As many watches are open as may be.
    #[error("{0} watches are open, which is the bound")]
    TooManyWatches(usize),
    /// The files are not what was written to them. Nothing was cut away or repaired.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// A file operation failed while the store was being opened.
    #[error("cannot {action} {file} of the metadata store: {source}")]
    Io {
        /// The operation.
        action: &'static str,
        /// The file's name within the directory.
        file: String,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// Whether reading the state again and deciding again can succeed.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Error::Conflict { .. })
    }
}

/// Where the store's files are not what was written to them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the metadata store's file {file} is damaged at byte {offset}: {reason}")]
pub struct Damage {
    /// The file's name within the directory.
    pub file: String,
    /// Where the damage was noticed, in bytes from the start of the file.
    pub offset: u64,
    /// What was found there.
    pub reason: String,
}
