//! Why a broker cannot be started, or did not end well.

use std::io;

use corelane_shards::core::recovery;
use corelane_shards::directory::{OpenError, staging_file};
use corelane_shards::net::BindError;
use corelane_shards::runtime;

use crate::cluster::image::{ChangeError, MetadataError};
use crate::cluster::store;
use crate::errors::{Explained, Page};

/// See each variant for what was kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address is in use or no address of this machine, before anything was opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// Another process runs on a copy of the data directory, or on its original; the logs and metadata were not changed.
    #[error(transparent)]
    Staging(#[from] staging_file::Error),
    /// The metadata store cannot be opened.
    #[error("the metadata cannot be read: {0}")]
    Store(#[from] store::Error),
    /// The metadata cannot be understood.
    #[error("the metadata cannot be read: {0}")]
    Metadata(#[from] MetadataError),
    /// The start could not be recorded in the metadata.
    #[error("the metadata cannot be changed: {0}")]
    Change(#[from] ChangeError),
    /// The logs could not be recovered; nothing was changed that the next attempt needs.
    #[error("the logs cannot be recovered: {0}")]
    Recovery(#[from] recovery::Error),
    /// The shards could not be started, or one failed.
    #[error(transparent)]
    Shards(#[from] runtime::Error),
    /// Anything else that the system refused.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A setting that this release does not carry out.
    #[error("{0}")]
    NotServed(&'static str),
}

impl Error {
    /// Names what was being done when the system refused.
    pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::System { what, source }
    }
}

impl Explained for Error {
    fn page(&self) -> Page {
        match self {
            Error::Listen { source, .. } if source.kind() != io::ErrorKind::AddrInUse => {
                Page::AddressUnusable
            }
            Error::Listen { .. } => Page::PortTaken,
            Error::Shards(runtime::Error::Bind(error)) => page_of_listener(error),
            Error::Directory(error) => page_of_directory(error),
            Error::Staging(_) => Page::DirectoryLocked,
            Error::Shards(error) if says(error, "memlock") => Page::MemlockTooLow,
            Error::Shards(error) if says(error, "io_uring") => Page::IoUringDisabled,
            Error::Store(_) | Error::Metadata(_) | Error::Recovery(_) => Page::DirectoryDamaged,
            Error::NotServed(_) => Page::BadValue,
            Error::Change(_) | Error::Shards(_) | Error::System { .. } => Page::BrokerFailed,
        }
    }
}

/// Whether a failed shard's reason, which is text only, contains a word in small letters.
fn says(error: &runtime::Error, word: &str) -> bool {
    error.to_string().to_lowercase().contains(word)
}

fn page_of_listener(error: &BindError) -> Page {
    match error {
        BindError::InUse(_) => Page::PortTaken,
        BindError::NoSuchAddress(_) | BindError::Denied(_) | BindError::Other { .. } => Page::AddressUnusable,
        BindError::TooMany(_) => Page::BadValue,
    }
}

fn page_of_directory(error: &OpenError) -> Page {
    match error {
        OpenError::Unwritable(_) => Page::DirectoryUnwritable,
        OpenError::InMemory { .. } | OpenError::NoDirectIo { .. } => Page::DirectoryOnTmpfs,
        OpenError::NotOurs { .. } => Page::NotADataDirectory,
        OpenError::Damaged { .. } => Page::DirectoryDamaged,
        OpenError::Locked { .. } => Page::DirectoryLocked,
        OpenError::Newer { .. } => Page::DirectoryFormatNewer,
    }
}

#[cfg(test)]
mod tests {
    use corelane_shards::types::ShardIndex;

    use super::*;

    #[test]
    fn each_reason_has_the_page_that_mends_it() {
        let listen = |kind: io::ErrorKind| Error::Listen { address: "h:1".to_owned(), source: kind.into() };
        assert_eq!(listen(io::ErrorKind::AddrInUse).page(), Page::PortTaken);
        assert_eq!(listen(io::ErrorKind::AddrNotAvailable).page(), Page::AddressUnusable);
        assert_eq!(listen(io::ErrorKind::PermissionDenied).page(), Page::AddressUnusable);
        let address = "127.0.0.1:1".parse().expect("an address");
        let bind = |error| Error::Shards(runtime::Error::Bind(error));
        assert_eq!(bind(BindError::InUse(address)).page(), Page::PortTaken);
        assert_eq!(bind(BindError::NoSuchAddress(address)).page(), Page::AddressUnusable);
        assert_eq!(bind(BindError::Denied(address)).page(), Page::AddressUnusable);
        let other = BindError::Other { address, source: io::ErrorKind::Unsupported.into() };
        assert_eq!(bind(other).page(), Page::AddressUnusable);
        assert_eq!(bind(BindError::TooMany(65)).page(), Page::BadValue);
        let start = |reason: &str| {
            let reason = reason.to_owned();
            Error::Shards(runtime::Error::Start { shard: ShardIndex(0), cpu: 0, reason })
        };
        assert_eq!(start("IO error occurred: MemLockLimit(0/524288)").page(), Page::MemlockTooLow);
        assert_eq!(start("failed to create an io_uring: EPERM").page(), Page::IoUringDisabled);
        assert_eq!(start("a panic").page(), Page::BrokerFailed);
    }
}
