//! Why a ring could not be had, with the remedy in the message.

use std::io;

use rustix::io::Errno;

/// The ring could not be created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel, or a sandbox around us, refuses io_uring.
    #[error(
        "io_uring is disabled here ({0}): set the sysctl kernel.io_uring_disabled to 0, or allow the io_uring calls in \
         the container's seccomp profile"
    )]
    Disabled(io::Error),
    /// The limit on locked memory is too low.
    #[error(
        "the limit on locked memory is too low for an io_uring ({0}): raise it (ulimit -l, LimitMEMLOCK= in a systemd \
         unit) to 8 MiB or more for each shard"
    )]
    LockedMemory(io::Error),
    /// The kernel lacks what we rely on.
    #[error("this kernel's io_uring lacks {0}: Linux 6.1 or later is needed")]
    Unsupported(&'static str),
    /// Memory for the receive buffers could not be had.
    #[error("no memory for the receive buffers of the ring")]
    Memory,
    /// Anything else.
    #[error("io_uring could not be set up: {0}")]
    Other(io::Error),
}

impl Error {
    /// Sorts a failed set-up by what its user can do about it.
    pub(super) fn from_setup(error: io::Error) -> Error {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::PERM | Errno::NOSYS | Errno::ACCESS) => Error::Disabled(error),
            Some(Errno::NOMEM) => Error::LockedMemory(error),
            Some(Errno::INVAL) => Error::Unsupported("single-issuer rings with deferred task work"),
            _ => Error::Other(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_setup_names_its_remedy() {
        let text = |errno: Errno| Error::from_setup(errno.into()).to_string();
        assert!(text(Errno::PERM).contains("kernel.io_uring_disabled"));
        assert!(text(Errno::NOSYS).contains("seccomp"));
        assert!(text(Errno::NOMEM).contains("ulimit -l"));
        assert!(text(Errno::INVAL).contains("Linux 6.1"));
        assert!(text(Errno::MFILE).contains("could not be set up"));
    }
}
