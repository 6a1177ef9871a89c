//! Valid uncompressed batches for tests and the simulator. Never part of a production build.

use super::{Codec, HEADER_BYTES, MAGIC};
use crate::format::crc::crc32c;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// What the header of a made batch says; the default is what a plain producer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// 0 from a producer.
    pub base_offset: Offset,
    /// -1 from a producer.
    pub leader_epoch: LeaderEpoch,
    /// The first record's time; each record is a millisecond later than the one before it.
    pub base_timestamp: Timestamp,
    /// [`ProducerId::NONE`] for a producer that is not idempotent.
    pub producer_id: ProducerId,
    /// -1 without a producer.
    pub producer_epoch: ProducerEpoch,
    /// The first record's sequence; -1 without a producer.
    pub base_sequence: Sequence,
    /// Attribute bits besides the codec, such as [`super::TRANSACTIONAL`].
    pub attributes: u16,
}

impl Default for Header {
    fn default() -> Header {
        Header {
            base_offset: Offset(0),
            leader_epoch: LeaderEpoch(-1),
            base_timestamp: Timestamp(1_700_000_000_000),
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(-1),
            base_sequence: Sequence(-1),
            attributes: 0,
        }
    }
}

impl Header {
    /// A header of an idempotent producer.
    pub fn idempotent(id: ProducerId, epoch: ProducerEpoch, base_sequence: Sequence) -> Header {
        Header { producer_id: id, producer_epoch: epoch, base_sequence, ..Header::default() }
    }
}

/// A batch with one keyless record for each of `values`, its checksum right. At least one value is needed.
pub fn batch<V: AsRef<[u8]>>(header: &Header, values: &[V]) -> Vec<u8> {
    let count = i32::try_from(values.len()).expect("a test's batch has few records");
    assert!(count > 0, "a producer sends no empty batch");
    let mut body = Vec::new();
    for (delta, value) in (0i64..).zip(values) {
        put_record(&mut body, delta, value.as_ref());
    }
    with_body(header, Codec::None, count, &body)
}

/// A batch of `count` records around a body that is taken as it is: compressed bytes, or bytes meant to be wrong.
pub fn with_body(header: &Header, codec: Codec, count: i32, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(HEADER_BYTES - 12 + body.len()).expect("a test's batch is small");
    let mut covered = Vec::with_capacity(HEADER_BYTES + body.len());
    covered.extend((header.attributes | u16::from(codec.id())).to_be_bytes());
    covered.extend((count - 1).to_be_bytes());
    covered.extend(header.base_timestamp.get().to_be_bytes());
    covered.extend((header.base_timestamp.get() + i64::from(count - 1)).to_be_bytes());
    covered.extend(header.producer_id.get().to_be_bytes());
    covered.extend(header.producer_epoch.get().to_be_bytes());
    covered.extend(header.base_sequence.get().to_be_bytes());
    covered.extend(count.to_be_bytes());
    covered.extend(body);

    let mut batch = Vec::with_capacity(HEADER_BYTES + body.len());
    batch.extend(header.base_offset.get().to_be_bytes());
    batch.extend(length.to_be_bytes());
    batch.extend(header.leader_epoch.get().to_be_bytes());
    batch.push(MAGIC);
    batch.extend(crc32c(&covered).to_be_bytes());
    batch.extend(covered);
    batch
}

fn put_record(body: &mut Vec<u8>, delta: i64, value: &[u8]) {
    let mut record = vec![0]; // Attributes: none are defined.
    put_varint(&mut record, delta); // Timestamp delta.
    put_varint(&mut record, delta); // Offset delta.
    put_varint(&mut record, -1); // No key.
    put_varint(&mut record, i64::try_from(value.len()).expect("a length fits"));
    record.extend(value);
    put_varint(&mut record, 0); // No headers.
    put_varint(body, i64::try_from(record.len()).expect("a length fits"));
    body.extend(record);
}

/// Kafka's varint: zigzag, then seven bits a byte, lowest first.
fn put_varint(into: &mut Vec<u8>, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)).cast_unsigned();
    loop {
        let low = left.to_le_bytes()[0] & 0x7f;
        left >>= 7;
        if left == 0 {
            return into.push(low);
        }
        into.push(low | 0x80);
    }
}
