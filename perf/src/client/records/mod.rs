//! Record batches of magic 2, the only format that Kafka 4 stores.
//!
//! ```text
//!  0 base offset          8   21 attributes            2   43 producer id      8   61 records, or the
//!  8 length behind here   4   23 last offset delta     4   51 producer epoch   2      compressed records
//! 12 leader epoch         4   27 base timestamp        8   53 base sequence    4
//! 16 magic                1   35 max timestamp         8   57 record count     4
//! 17 CRC32C of 21..       4
//! ```
//!
//! - [`batch`]: the header's fields, and a batch's bytes from them.
//! - [`record`]: records, written and read.
//! - [`reader`]: the batches of a fetched blob.
//!
//! Nothing here compresses: a caller compresses what [`record::encode`] gives, or decompresses a batch's payload.

pub mod batch;
pub mod reader;
pub mod record;

pub use batch::{BatchHeader, Compression};
pub use reader::{BatchView, Batches, batches};
pub use record::{Header, Record, RecordView, Records};
