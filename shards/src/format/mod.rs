//! Every byte we write.

pub mod batch;
pub mod crc;
pub mod envelope;
pub mod index;
