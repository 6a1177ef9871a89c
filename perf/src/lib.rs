//! Corelane's instrument: it measures brokers and hosts from outside, over TCP, and imports nothing of the broker.
//!
//! - [`ack`]: how long a producer waits for its acks, closed loop.
//! - [`client`]: a raw-protocol Kafka client, blocking, for checkers and load.
//! - [`floor`]: what this host can do at best: echo, durable acks, durable writes, checksums, copies.

#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod ack;
pub mod client;
pub mod floor;
#[cfg(test)]
mod testing;
