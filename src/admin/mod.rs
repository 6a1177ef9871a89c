//! The admin listener: HTTP on the control thread, for people, probes and Prometheus.
//!
//! | module | what it holds |
//! |---|---|
//! | `source` | what the broker tells: the `Source` trait and its snapshot |
//! | `routes` | which path answers what |
//! | `prometheus` | the snapshot as Prometheus text |
//! | `json` | the snapshot as JSON |
//! | `server` | connections, and the bounds on them |

mod json;
mod prometheus;
mod routes;
mod server;
mod source;

#[cfg(test)]
mod tests;

pub use server::{CONNECTIONS_MAX, EXCHANGE_TIMEOUT, HEADER_BYTES_MAX, HEADER_TIMEOUT, HEADERS_MAX, serve};
pub use source::{Family, Histogram, Kind, Sample, ShardHealth, Snapshot, Source, Value};
