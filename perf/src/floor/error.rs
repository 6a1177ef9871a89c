//! Why nothing could be measured.

use std::io;
use std::path::PathBuf;

/// Why a run ended without a report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument out of range.
    #[error("{0}")]
    Arguments(&'static str),
    /// The directory's file system keeps files in memory.
    #[error(
        "{directory} lies on {name}, which keeps files in memory: nothing there is durable and a floor would be meaningless; \
         choose a directory on a disk with --directory"
    )]
    Memory {
        /// The directory.
        directory: PathBuf,
        /// The file system.
        name: &'static str,
    },
    /// The directory cannot be used.
    #[error("cannot use the directory {directory}: {source}")]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file could not be opened for direct I/O, or written.
    #[error("cannot {action} {path} with direct I/O: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A write or flush that was being measured failed.
    #[error("a measured write failed: {0}")]
    Storage(#[source] io::Error),
    /// A loopback socket failed.
    #[error("a loopback socket failed: {0}")]
    Network(#[source] io::Error),
    /// A thread could not be bound to its CPU, or the CPUs could not be asked for.
    #[error("cannot place threads on CPUs: {0}")]
    Placement(#[source] io::Error),
    /// No io_uring with the features needed; the rows that need it are left out.
    #[error("io_uring is not available: {0}")]
    RingUnavailable(#[source] io::Error),
    /// The ring failed at work.
    #[error("io_uring failed: {0}")]
    Ring(#[source] io::Error),
}
