//! The records inside a batch: decompressed, and read one by one.
//!
//! | module | holds |
//! |---|---|
//! | `decompress` | a batch's body as a stream of bytes, whatever its codec |
//! | `read` | records in that stream |
//!
//! The engine never looks into a batch; who does (lookups by time, `corelane dump`) does it through this module, on its own
//! thread. Every byte was chosen by a producer: nothing is believed that was not checked, and memory is bounded by what a
//! body may become.

mod decompress;
mod read;

pub use decompress::{open, open_capped};
pub use read::{Malformed, Record, Records, byte, varint};
