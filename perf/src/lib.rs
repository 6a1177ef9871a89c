//! Corelane's instrument: it measures brokers and hosts from outside, over TCP, and imports nothing of the broker.
//!
//! - [`client`]: a raw-protocol Kafka client, blocking, for checkers and load.

#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod client;
#[cfg(test)]
mod testing;
