//! A client that speaks Kafka's protocol byte by byte: what the checkers of Corelane's tests and the load generator use.
//!
//! It is written from the protocol's definition and shares no code with any broker, so what it finds is found
//! independently. It does no more than it is told: no retries, no metadata cache, no batching, no compression.
//!
//! - [`connection`]: frames, headers, correlation ids, pipelining, time limits, and raw bytes for hostile tests.
//! - [`messages`]: one file per API, each with the versions that it speaks.
//! - [`records`]: record batches of magic 2, built and read.
//! - [`wire`]: the primitive types under all of them.

pub mod connection;
pub mod messages;
pub mod records;
pub mod wire;
