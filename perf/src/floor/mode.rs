//! The rows that exchange requests and answers: every way to wait, with every way to write, through either interface.

use std::fmt;

use serde::Serialize;

/// How a server waits for what it cannot do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wait {
    /// It sleeps in the kernel at once; so does the client.
    Parked,
    /// It spins for 50 us, then sleeps; the client sleeps at once.
    Brief,
    /// It never sleeps, nor does the client. Only a blocking write or flush still does.
    Spinning,
}

/// How a block is made durable before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flush {
    /// Nothing is written: an echo.
    None,
    /// One write that returns when it is durable (`RWF_DSYNC`).
    Dsync,
    /// A write, and `fdatasync` once it is done.
    Fdatasync,
}

/// Through which interface the server calls the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Calls {
    /// One blocking system call after the other.
    Blocking,
    /// An io_uring with a single issuer and deferred task work.
    Ring,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Mode {
    /// How the server waits.
    pub wait: Wait,
    /// What it does before it answers.
    pub flush: Flush,
    /// How it calls the kernel.
    pub calls: Calls,
}

impl Mode {
    /// All rows, in the order in which each round takes them.
    pub(super) fn all() -> Vec<Self> {
        let mut modes = Vec::new();
        for flush in [Flush::None, Flush::Fdatasync, Flush::Dsync] {
            for calls in [Calls::Blocking, Calls::Ring] {
                for wait in Wait::ALL {
                    modes.push(Self { wait, flush, calls });
                }
            }
        }
        modes
    }
}

impl Wait {
    /// Every way to wait.
    pub(super) const ALL: [Self; 3] = [Self::Parked, Self::Brief, Self::Spinning];

    /// Whether the client spins too.
    pub(super) fn client(self) -> Self {
        if self == Self::Spinning { Self::Spinning } else { Self::Parked }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Parked => "parked",
            Self::Brief => "brief",
            Self::Spinning => "spinning",
        })
    }
}

impl fmt::Display for Flush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Dsync => "dsync write",
            Self::Fdatasync => "write, fdatasync",
        })
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Blocking => "blocking",
            Self::Ring => "io_uring",
        })
    }
}
