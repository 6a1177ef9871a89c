//! Every byte we write.
//!
//! | module | bytes |
//! |---|---|
//! | [`batch`] | Kafka's record batches, checked and assigned |
//! | [`crc`] | CRC-32C, which Kafka's batches carry |
//! | [`envelope`] | the header before manifests and the root |
//! | [`index`] | the sparse offset and time index of a segment |
//! | [`journal`] | groups of the commit journal and of staging memory, and their entries |
//! | [`manifest`] | what a shard had flushed at its last checkpoint |
//! | [`root`] | which manifests count: the commit point of every opening |
//!
//! All integers on disk are little-endian, but for record batches, which are Kafka's and big-endian. Decoding is total:
//! any bytes give a value or an error, never a panic, and nothing is allocated by a length that was not checked.

pub mod batch;
pub mod crc;
pub mod envelope;
pub mod index;
pub mod journal;
pub mod manifest;
pub mod root;
