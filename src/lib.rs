//! The broker: everything that knows Kafka's APIs, its settings and its command line.
//!
//! The engine below it, the crate `corelane-shards`, knows record batches but no Kafka API.

pub mod admin;
pub mod api;
pub mod broker;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod errors;
pub mod records;
#[cfg(test)]
mod testing;
pub mod wire;
