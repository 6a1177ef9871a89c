//! The log: one line for each event on standard error, with its shard, connection and partition as fields.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// Sends events of level info and above to standard error; `CORELANE_LOG` may say otherwise, in the filter syntax of
/// `tracing`.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("CORELANE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_thread_names(true);
    // A second start in one process, as in tests, keeps the first one's log.
    let _ = log.try_init();
}
