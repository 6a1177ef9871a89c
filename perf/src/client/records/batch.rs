//! A batch's header as a structure, and the bytes of a batch.
//!
//! Every field can be set, legal or not: tests build batches that a broker must refuse. Only the length, the magic and the
//! checksum are always computed; a test that wants them wrong changes the bytes.

use crc_fast::{CrcAlgorithm, checksum};

use super::record::Record;
use crate::client::wire::{DecodeError, Reader, Writer};

/// Bytes in front of the records.
pub const HEADER_BYTES: usize = 61;
/// Bytes that the length field does not count: the base offset and the length itself.
pub const LENGTH_OVERHEAD: usize = 12;
/// Where the bytes begin that the checksum covers.
pub const CHECKSUM_FROM: usize = 21;
/// The format's number.
pub const MAGIC: i8 = 2;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip
    Gzip,
    /// Snappy, in the framing of Java's library.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// The number that the attributes hold.
    pub fn code(self) -> i16 {
        self as i16
    }
}

/// The fields of a batch's header, but for length, magic and checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; a producer says 0.
    pub base_offset: i64,
    /// Epoch of the leader that appended it; a producer says -1.
    pub partition_leader_epoch: i32,
    /// Bits 0-2 compression, 3 time of append, 4 transactional, 5 control.
    pub attributes: i16,
    /// The last record's offset less the base offset.
    pub last_offset_delta: i32,
    /// Milliseconds that the records' time deltas are added to.
    pub base_timestamp: i64,
    /// The largest time, in milliseconds.
    pub max_timestamp: i64,
    /// The producer's id, or -1.
    pub producer_id: i64,
    /// The producer's epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Records in the batch.
    pub record_count: i32,
}

impl BatchHeader {
    /// The header for these records, of a producer without an id. The first record's time is the base.
    ///
    /// # Panics
    ///
    /// With more than 2^31 records.
    pub fn of(records: &[Record]) -> Self {
        let count = i32::try_from(records.len()).expect("a caller's batch has less than 2^31 records");
        Self {
            base_offset: 0,
            partition_leader_epoch: -1,
            attributes: 0,
            last_offset_delta: count - 1,
            base_timestamp: records.first().map_or(-1, |record| record.timestamp_ms),
            max_timestamp: records.iter().map(|record| record.timestamp_ms).max().unwrap_or(-1),
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: count,
        }
    }

    /// The same header, of an idempotent producer.
    #[must_use]
    pub fn from_producer(self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        Self { producer_id, producer_epoch, base_sequence, ..self }
    }

    /// The same header, saying that the payload is compressed.
    #[must_use]
    pub fn compressed_with(self, compression: Compression) -> Self {
        Self { attributes: self.attributes & !COMPRESSION_MASK | compression.code(), ..self }
    }

    /// How the payload is compressed.
    pub fn compression(&self) -> Result<Compression, DecodeError> {
        match self.attributes & COMPRESSION_MASK {
            0 => Ok(Compression::None),
            1 => Ok(Compression::Gzip),
            2 => Ok(Compression::Snappy),
            3 => Ok(Compression::Lz4),
            4 => Ok(Compression::Zstd),
            _ => Err(DecodeError::Batch("unknown compression")),
        }
    }

    /// Whether the records carry the broker's time of the append (all the same) rather than the producer's.
    pub fn has_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Whether the batch is part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch holds markers of the broker's own and no client's records.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Offset of the last record, or where it was before compaction took it.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The batch: this header, and `payload` as it is.
    pub fn encode(&self, payload: &[u8]) -> Vec<u8> {
        let length = HEADER_BYTES - LENGTH_OVERHEAD + payload.len();
        let mut writer = Writer::appending(Vec::with_capacity(LENGTH_OVERHEAD + length), false);
        writer.int64(self.base_offset);
        writer.int32(i32::try_from(length).expect("a caller's batch is below 2 GiB"));
        writer.int32(self.partition_leader_epoch);
        writer.int8(MAGIC);
        writer.uint32(0);
        writer.int16(self.attributes);
        writer.int32(self.last_offset_delta);
        writer.int64(self.base_timestamp);
        writer.int64(self.max_timestamp);
        writer.int64(self.producer_id);
        writer.int16(self.producer_epoch);
        writer.int32(self.base_sequence);
        writer.int32(self.record_count);
        writer.raw(payload);
        let mut bytes = writer.into_bytes();
        let sum = checksum_of(&bytes);
        bytes[CHECKSUM_FROM - 4..CHECKSUM_FROM].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// Reads the fields from the attributes on; the reader stands there.
    pub(super) fn read_rest(
        base_offset: i64,
        partition_leader_epoch: i32,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        Ok(Self {
            base_offset,
            partition_leader_epoch,
            attributes: reader.int16()?,
            last_offset_delta: reader.int32()?,
            base_timestamp: reader.int64()?,
            max_timestamp: reader.int64()?,
            producer_id: reader.int64()?,
            producer_epoch: reader.int16()?,
            base_sequence: reader.int32()?,
            record_count: reader.int32()?,
        })
    }
}

/// The CRC32C of a whole batch's bytes from the attributes on.
///
/// # Panics
///
/// When `batch` is shorter than that.
pub fn checksum_of(batch: &[u8]) -> u32 {
    let sum = checksum(CrcAlgorithm::Crc32Iscsi, &batch[CHECKSUM_FROM..]);
    u32::try_from(sum).expect("a CRC32C has 32 bits")
}
