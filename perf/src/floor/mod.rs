//! What this host can do at best, measured with as little code as possible, so that a broker's figures can be held against
//! it: echo over loopback, a durable ack, durable writes, checksums, copies.
//!
//! - [`run`] takes [`FloorArguments`], measures every row in turn over several rounds, and gives a [`FloorReport`].
//! - `mode` lists the rows; `exchange` has both ends of a measured connection, `blocking` and `ring` the servers.
//! - `file` has the file that is overwritten, `single` the rows without a network, `host` says where this was.
//!
//! Nothing here knows Kafka, or any broker.

mod arguments;
mod blocking;
mod error;
mod exchange;
mod file;
mod host;
mod mode;
mod report;
mod ring;
mod run;
mod single;

pub use arguments::FloorArguments;
pub use error::Error;
pub use host::{Host, Placement};
pub use mode::{Calls, Flush, Mode, Wait};
pub use report::{
    ComputeRow, ExchangeRow, Floor, FloorReport, Latencies, SCHEMA, Skipped, Spread, Work, WriteRow,
};
pub use run::run;
