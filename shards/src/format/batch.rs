//! Kafka's record batch, version 2: a checked view over bytes that stay where they are.
//!
//! ```text
//!  0  base offset            8     outside the checksum, rewritten on append
//!  8  length                 4     of everything after this field
//! 12  partition leader epoch 4     outside the checksum, rewritten on append
//! 16  magic                  1     2
//! 17  crc                    4     CRC32C from here on
//! 21  attributes             2     codec 0-2, timestamp type 3, transactional 4, control 5, delete horizon 6
//! 23  last offset delta      4
//! 27  base timestamp         8
//! 35  max timestamp          8
//! 43  producer id            8
//! 51  producer epoch         2
//! 53  base sequence          4
//! 57  record count           4
//! 61  records                      compressed as one, or as they are
//! ```
//!
//! All integers are big-endian. [`BatchView::parse`] checks what every batch must satisfy, in a segment as on the wire;
//! [`BatchView::exactly_one`] adds what a broker demands of a producer. Neither computes the checksum, which is
//! [`BatchView::check_crc`]'s, because where it is computed decides what it costs. A view never panics, whatever bytes
//! it was made from.
//!
//! The rules are those of Kafka's `DefaultRecordBatch`, `LogValidator.validateBatch`,
//! `UnifiedLog.analyzeAndValidateRecords` and `ProduceRequest.validateRecords`, as far as they need no decompression;
//! `docs/formats/record-batch.md` lists each, and where this is stricter. The view does not know the records in the
//! body, nor what a partition expects next.

#[cfg(any(test, feature = "sim"))]
pub mod fixture;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::format::crc::{crc32c, replace_prefix};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// The fixed part in front of the records, in bytes.
pub const HEADER_BYTES: usize = 61;

/// The only version of the format that is served.
pub const MAGIC: u8 = 2;

/// Attribute bit: the batch belongs to a transaction.
pub const TRANSACTIONAL: u16 = 1 << 4;

/// Attribute bit: the batch holds a marker for consumers, not data.
pub const CONTROL: u16 = 1 << 5;

/// Attribute bit: the base timestamp is the time from which compaction may drop tombstones.
pub const DELETE_HORIZON: u16 = 1 << 6;

/// Attribute bit: every record's time is the max timestamp, set by the broker.
pub const LOG_APPEND_TIME: u16 = 1 << 3;

const CODEC_MASK: u16 = 0b111;
const KNOWN_ATTRIBUTES: u16 = CODEC_MASK | LOG_APPEND_TIME | TRANSACTIONAL | CONTROL | DELETE_HORIZON;

/// Bytes before the part that the length field counts.
const LENGTH_PREFIX_BYTES: usize = 12;

/// The shortest record: length, attributes, two deltas, no key, no value, no headers, a byte each.
const RECORD_BYTES_MIN: usize = 7;

const BASE_OFFSET: usize = 0;
const LENGTH: usize = 8;
const LEADER_EPOCH: usize = 12;
const MAGIC_AT: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const RECORD_COUNT: usize = 57;

/// The part of the header that the checksum covers.
const COVERED_HEADER: Range<usize> = ATTRIBUTES..HEADER_BYTES;

const _: () = assert!(RECORD_COUNT + 4 == HEADER_BYTES);

/// What is wrong with a batch. None of these heals by trying again with the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end before the batch does: a request cut short, or the tail of a log.
    #[error("the batch needs {needed} bytes and {available} are there")]
    Truncated {
        /// Bytes from the batch's start to its end, as far as known; at least a header's.
        needed: usize,
        /// Bytes from the batch's start.
        available: usize,
    },
    /// Another version of the format, or no batch.
    #[error("magic {0}: only record batches of magic 2 are supported")]
    Magic(u8),
    /// The length field leaves no room for a header.
    #[error("a batch cannot have a length field of {0}")]
    Length(i32),
    /// Not one of the five codecs.
    #[error("compression codec {0} is unknown")]
    Codec(u8),
    /// Attribute bits without a meaning are set, so that what the batch asks for cannot be honoured.
    #[error("attributes {0:#06x} use bits without a meaning")]
    Attributes(u16),
    /// A negative offset or delta, or a last offset beyond the offset space.
    #[error("base offset {base_offset} and last offset delta {last_offset_delta} are no range of offsets")]
    Offsets {
        /// As in the header.
        base_offset: i64,
        /// As in the header.
        last_offset_delta: i32,
    },
    /// The records cannot have the offsets, or the bytes, that the header gives them.
    #[error(
        "{count} records cannot lie in {body_bytes} bytes with a last offset delta of {last_offset_delta}"
    )]
    RecordCount {
        /// As in the header.
        count: i32,
        /// As in the header.
        last_offset_delta: i32,
        /// Bytes after the header.
        body_bytes: usize,
    },
    /// A producer id without its epoch, or a transaction without a producer.
    #[error("producer id {id} does not go with epoch {epoch} in a batch with attributes {attributes:#06x}")]
    Producer {
        /// As in the header.
        id: i64,
        /// As in the header.
        epoch: i16,
        /// As in the header.
        attributes: u16,
    },
    /// The bytes are not those that were checksummed.
    #[error("the batch says CRC32C {stored:#010x} and its bytes give {computed:#010x}")]
    Crc {
        /// As in the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// From a producer: no batch at all.
    #[error("there is no batch where exactly one is due")]
    NoBatch,
    /// From a producer: something follows the one batch.
    #[error("{trailing_bytes} bytes follow the one batch that is due")]
    NotOneBatch {
        /// After the first batch.
        trailing_bytes: usize,
    },
    /// From a producer: over the topic's limit.
    #[error("the batch has {bytes} bytes and at most {bytes_max} are allowed")]
    TooLarge {
        /// Header included.
        bytes: usize,
        /// The limit given.
        bytes_max: usize,
    },
    /// From a producer: offsets are the broker's to assign.
    #[error("a producer's batch starts at offset 0, not {0}")]
    BaseOffsetNotZero(i64),
    /// From a producer: gaps in a batch are made by compaction only, and an empty batch has nothing to say.
    #[error("{count} records do not fill a last offset delta of {last_offset_delta}")]
    Gaps {
        /// As in the header.
        count: i32,
        /// As in the header.
        last_offset_delta: i32,
    },
    /// From a producer: the control bit, or the delete horizon, which brokers set.
    #[error("attributes {0:#06x} hold a bit that only a broker sets")]
    BrokerAttributes(u16),
    /// From a producer: the timestamp type is the topic's to decide.
    #[error("a producer cannot set the timestamp type to LogAppendTime")]
    LogAppendTime,
    /// From a producer: idempotence without a sequence.
    #[error("sequence {sequence} does not go with producer id {producer_id}")]
    Sequence {
        /// As in the header.
        producer_id: i64,
        /// As in the header.
        sequence: i32,
    },
}

impl Error {
    /// The bytes merely end too early: in a fetch or at the end of a log that is not damage by itself.
    pub fn is_truncated(&self) -> bool {
        matches!(self, Error::Truncated { .. })
    }
}

/// How the records of a batch are compressed. The engine passes them through as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy in the framing of Java's library.
    Snappy,
    /// An LZ4 frame.
    Lz4,
    /// A zstd frame; not before version 7 of Produce and version 10 of Fetch.
    Zstd,
}

impl Codec {
    /// The number in the attributes.
    pub fn id(self) -> u8 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// The codec with this number, if there is one.
    pub fn from_id(id: u8) -> Option<Codec> {
        [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd].get(usize::from(id)).copied()
    }
}

/// What a record's time means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// Each record carries the time its producer gave it.
    CreateTime,
    /// All records have the batch's max timestamp, the time of the append.
    LogAppendTime,
}

/// One whole batch whose header holds what [`BatchView::parse`] checks. Its checksum may still be wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BatchView<'a> {
    /// Exactly the batch.
    bytes: &'a [u8],
    codec: Codec,
}

impl<'a> BatchView<'a> {
    /// The batch at the start of `bytes`, and its length in bytes. What follows it is not looked at.
    ///
    /// Accepts what may lie in a log: records that compaction removed leave gaps, and a batch may be empty.
    pub fn parse(bytes: &'a [u8]) -> Result<(BatchView<'a>, usize), Error> {
        let whole = delimit(bytes)?;
        let attributes = u16::from_be_bytes(field(whole, ATTRIBUTES));
        let codec_id = attributes.to_be_bytes()[1] & CODEC_MASK.to_be_bytes()[1];
        let codec = Codec::from_id(codec_id).ok_or(Error::Codec(codec_id))?;
        if attributes & !KNOWN_ATTRIBUTES != 0 {
            return Err(Error::Attributes(attributes));
        }
        let batch = BatchView { bytes: whole, codec };
        batch.check_offsets()?;
        batch.check_record_count()?;
        batch.check_producer()?;
        Ok((batch, whole.len()))
    }

    /// The one batch that a producer may send to a partition in a request; `bytes_max` is the topic's limit.
    ///
    /// Transactional batches pass: whether transactions are served is not the format's to say.
    pub fn exactly_one(bytes: &'a [u8], bytes_max: usize) -> Result<BatchView<'a>, Error> {
        if bytes.is_empty() {
            return Err(Error::NoBatch);
        }
        let (batch, length) = BatchView::parse(bytes)?;
        if length != bytes.len() {
            return Err(Error::NotOneBatch { trailing_bytes: bytes.len() - length });
        }
        if length > bytes_max {
            return Err(Error::TooLarge { bytes: length, bytes_max });
        }
        batch.check_from_producer()?;
        Ok(batch)
    }

    /// Whether the bytes are those that the batch's maker checksummed. Reads every byte of the batch.
    pub fn check_crc(&self) -> Result<(), Error> {
        let (stored, computed) = (self.stored_crc(), crc32c(&self.bytes[ATTRIBUTES..]));
        if stored == computed { Ok(()) } else { Err(Error::Crc { stored, computed }) }
    }

    /// The batch as it lies there, header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records, compressed as [`BatchView::codec`] says.
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// The first record's offset (or, after compaction, that of the first record there once was).
    pub fn base_offset(&self) -> Offset {
        Offset(i64::from_be_bytes(field(self.bytes, BASE_OFFSET)))
    }

    /// The last record's offset, in the same sense. Never below the base offset.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset().get() + i64::from(self.last_offset_delta()))
    }

    /// How far the last offset lies behind the base offset. Never negative.
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(field(self.bytes, LAST_OFFSET_DELTA))
    }

    /// The epoch under which the batch was appended; from a producer, nothing of meaning.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(i32::from_be_bytes(field(self.bytes, LEADER_EPOCH)))
    }

    /// The checksum in the header.
    pub fn stored_crc(&self) -> u32 {
        u32::from_be_bytes(field(self.bytes, CRC))
    }

    /// How the body is compressed.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// What the records' times mean.
    pub fn timestamp_type(&self) -> TimestampType {
        match self.attributes() & LOG_APPEND_TIME {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    /// The batch is part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL != 0
    }

    /// The batch holds a marker, which consumers skip.
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL != 0
    }

    /// The base timestamp is the delete horizon that compaction noted.
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes() & DELETE_HORIZON != 0
    }

    /// What the records' timestamp deltas count from.
    pub fn base_timestamp(&self) -> Timestamp {
        Timestamp(i64::from_be_bytes(field(self.bytes, BASE_TIMESTAMP)))
    }

    /// The largest time of any record, as the batch's maker says.
    pub fn max_timestamp(&self) -> Timestamp {
        Timestamp(i64::from_be_bytes(field(self.bytes, MAX_TIMESTAMP)))
    }

    /// The idempotent producer, or a negative number.
    pub fn producer_id(&self) -> ProducerId {
        ProducerId(i64::from_be_bytes(field(self.bytes, PRODUCER_ID)))
    }

    /// The batch is deduplicated by its producer's sequence.
    pub fn has_producer(&self) -> bool {
        self.producer_id().get() >= 0
    }

    /// The producer's incarnation; not negative where there is a producer.
    pub fn producer_epoch(&self) -> ProducerEpoch {
        ProducerEpoch(i16::from_be_bytes(field(self.bytes, PRODUCER_EPOCH)))
    }

    /// The first record's sequence, where there is a producer; negative in a control batch.
    pub fn base_sequence(&self) -> Sequence {
        Sequence(i32::from_be_bytes(field(self.bytes, BASE_SEQUENCE)))
    }

    /// The last record's sequence: wrapped past 2^31-1, and none if the base sequence is none.
    pub fn last_sequence(&self) -> Sequence {
        self.base_sequence().wrapping_add(self.last_offset_delta().unsigned_abs())
    }

    /// How many records the body holds. At most one more than the last offset delta; never negative.
    pub fn record_count(&self) -> i32 {
        i32::from_be_bytes(field(self.bytes, RECORD_COUNT))
    }

    fn attributes(&self) -> u16 {
        u16::from_be_bytes(field(self.bytes, ATTRIBUTES))
    }

    fn check_offsets(&self) -> Result<(), Error> {
        let (base, delta) = (self.base_offset(), self.last_offset_delta());
        if base.get() < 0 || delta < 0 || base.checked_add(delta.into()).is_none() {
            return Err(Error::Offsets { base_offset: base.get(), last_offset_delta: delta });
        }
        Ok(())
    }

    fn check_record_count(&self) -> Result<(), Error> {
        let (count, delta, body_bytes) = (self.record_count(), self.last_offset_delta(), self.body().len());
        let fits = usize::try_from(count).is_ok_and(|records| match (records, self.codec) {
            (0, _) => body_bytes == 0,
            (_, Codec::None) => body_bytes / RECORD_BYTES_MIN >= records,
            _ => body_bytes > 0,
        });
        // The delta is not negative, so that the subtraction cannot overflow.
        if !fits || count.saturating_sub(1) > delta {
            return Err(Error::RecordCount { count, last_offset_delta: delta, body_bytes });
        }
        Ok(())
    }

    fn check_producer(&self) -> Result<(), Error> {
        let (id, epoch) = (self.producer_id().get(), self.producer_epoch().get());
        // Some clients send a sequence of 0 without a producer; only what a producer id promises is held against it.
        let consistent = if self.has_producer() { epoch >= 0 } else { !self.is_transactional() };
        if !consistent {
            return Err(Error::Producer { id, epoch, attributes: self.attributes() });
        }
        Ok(())
    }

    fn check_from_producer(&self) -> Result<(), Error> {
        let (count, delta, sequence) =
            (self.record_count(), self.last_offset_delta(), self.base_sequence().get());
        if self.base_offset() != Offset(0) {
            return Err(Error::BaseOffsetNotZero(self.base_offset().get()));
        }
        if count == 0 || count - 1 != delta {
            return Err(Error::Gaps { count, last_offset_delta: delta });
        }
        if self.is_control() || self.has_delete_horizon() {
            return Err(Error::BrokerAttributes(self.attributes()));
        }
        if self.timestamp_type() == TimestampType::LogAppendTime {
            return Err(Error::LogAppendTime);
        }
        if self.has_producer() && sequence < 0 {
            return Err(Error::Sequence { producer_id: self.producer_id().get(), sequence });
        }
        Ok(())
    }
}

impl std::fmt::Debug for BatchView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchView")
            .field("base_offset", &self.base_offset())
            .field("last_offset", &self.last_offset())
            .field("leader_epoch", &self.leader_epoch())
            .field("attributes", &self.attributes())
            .field("producer_id", &self.producer_id())
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// The batches in a segment or a fetched range, one after the other, each with its position in the bytes.
///
/// Ends at the end of the bytes, or with the first error: then [`Batches::rest`] is what could not be read, which the
/// error calls truncated if it is only the start of a batch.
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    failed: bool,
}

impl<'a> Batches<'a> {
    /// Reads from the start of `bytes`, where a batch must begin.
    pub fn new(bytes: &'a [u8]) -> Batches<'a> {
        Batches { bytes, position: 0, failed: false }
    }

    /// Where the next batch would begin: all bytes before it are whole batches.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The bytes from [`Batches::position`] on: at the end of the iteration, what is no whole batch.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.position..]
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<(usize, BatchView<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest().is_empty() {
            return None;
        }
        match BatchView::parse(self.rest()) {
            Ok((batch, length)) => {
                let position = self.position;
                self.position += length;
                Some(Ok((position, batch)))
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

impl std::iter::FusedIterator for Batches<'_> {}

/// Gives a checked batch its place in the log. The checksum stays right, because it does not cover these two fields.
///
/// `batch` is exactly one parsed batch, and its last offset stays inside the offset space.
pub fn assign(batch: &mut [u8], base_offset: Offset, leader_epoch: LeaderEpoch) {
    assert_is_one_batch(batch);
    let delta = i32::from_be_bytes(field(batch, LAST_OFFSET_DELTA));
    assert!(base_offset.get() >= 0, "offset {base_offset} assigned");
    assert!(
        base_offset.checked_add(delta.into()).is_some(),
        "offsets from {base_offset} leave the offset space"
    );
    set_field(batch, BASE_OFFSET, base_offset.get().to_be_bytes());
    set_field(batch, LEADER_EPOCH, leader_epoch.get().to_be_bytes());
}

/// Gives every record of a checked batch the time of its append: timestamp type and max timestamp change, and the
/// checksum with them, without a second pass over the body.
///
/// `batch` is exactly one parsed batch. If its checksum was wrong before, it is wrong afterwards.
pub fn set_log_append_time(batch: &mut [u8], now: Timestamp) {
    assert_is_one_batch(batch);
    let body_bytes = batch.len() - HEADER_BYTES;
    stamp_append_time(&mut batch[..HEADER_BYTES], now, body_bytes);
}

fn stamp_append_time(header: &mut [u8], now: Timestamp, body_bytes: usize) {
    let whole = u32::from_be_bytes(field(header, CRC));
    let before = crc32c(&header[COVERED_HEADER]);
    let attributes = u16::from_be_bytes(field(header, ATTRIBUTES)) | LOG_APPEND_TIME;
    set_field(header, ATTRIBUTES, attributes.to_be_bytes());
    set_field(header, MAX_TIMESTAMP, now.get().to_be_bytes());
    let after = crc32c(&header[COVERED_HEADER]);
    let crc = replace_prefix(whole, before, after, body_bytes);
    set_field(header, CRC, crc.to_be_bytes());
}

/// The header of a checked batch with its place in the log, for a copy that is made header first, body second.
///
/// With an append time, every record gets it, and the checksum changes along without a second pass over the body. The
/// last offset must stay inside the offset space.
pub fn assigned_header(
    batch: &BatchView<'_>,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    append_time: Option<Timestamp>,
) -> [u8; HEADER_BYTES] {
    let mut header: [u8; HEADER_BYTES] = field(batch.bytes, 0);
    assert!(base_offset.get() >= 0, "offset {base_offset} assigned");
    assert!(
        base_offset.checked_add(batch.last_offset_delta().into()).is_some(),
        "an offset beyond the offset space"
    );
    set_field(&mut header, BASE_OFFSET, base_offset.get().to_be_bytes());
    set_field(&mut header, LEADER_EPOCH, leader_epoch.get().to_be_bytes());
    if let Some(now) = append_time {
        stamp_append_time(&mut header, now, batch.body().len());
    }
    header
}

/// The first batch's bytes, if they are of the right version and all there.
fn delimit(bytes: &[u8]) -> Result<&[u8], Error> {
    let available = bytes.len();
    // Every version keeps magic and length at these places, so that older ones can be told from noise.
    let magic = *bytes.get(MAGIC_AT).ok_or(Error::Truncated { needed: HEADER_BYTES, available })?;
    if magic != MAGIC {
        return Err(Error::Magic(magic));
    }
    let length = i32::from_be_bytes(field(bytes, LENGTH));
    let needed = usize::try_from(length).map_err(|_| Error::Length(length))? + LENGTH_PREFIX_BYTES;
    if needed < HEADER_BYTES {
        return Err(Error::Length(length));
    }
    bytes.get(..needed).ok_or(Error::Truncated { needed, available })
}

fn assert_is_one_batch(batch: &[u8]) {
    assert!(
        delimit(batch).is_ok_and(|whole| whole.len() == batch.len()),
        "not one whole batch in {} bytes",
        batch.len()
    );
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes is an array of N bytes")
}

fn set_field<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}
