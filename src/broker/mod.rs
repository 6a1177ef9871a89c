//! The broker put together: data directory, metadata, recovery, shards, admin listener; started, run and stopped.
//!
//! | module | holds |
//! |---|---|
//! | `start` | [`serve`]: from settings to a running broker, and to its end |
//! | `control` | changes of the metadata, on the control thread, for all shards |
//! | `descriptors` | how many files and sockets each shard may have open |
//! | `placement` | which shard owns a log |
//! | `logs` | each shard's logs follow the metadata image |
//! | `engine` | the APIs' view of the logs, wherever they are |
//! | `service` | from a frame to its answer |
//! | `source`, `metrics` | what the admin listener shows |
//! | `banner` | the start-up lines |
//! | `times` | looking records up by time |
//! | `error` | why a broker cannot be started or did not end well |
//!
//! One control thread (tokio, current-thread) owns the metadata store, the admin listener and the signals; the shards own
//! everything else and learn of the metadata through immutable images.

mod banner;
mod control;
mod descriptors;
mod engine;
mod error;
mod logs;
mod metrics;
mod placement;
mod service;
mod source;
mod start;
mod times;

pub use error::Error;
pub use start::serve;
