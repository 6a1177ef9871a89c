//! The batches of a fetched blob, one after the other, each checked: length, magic, checksum.

use super::batch::{BatchHeader, Compression, HEADER_BYTES, LENGTH_OVERHEAD, MAGIC, checksum_of};
use super::record::Records;
use crate::client::wire::{DecodeError, Reader};

/// A checked batch, in place.
#[derive(Debug, Clone, Copy)]
pub struct BatchView<'a> {
    /// The header.
    pub header: BatchHeader,
    /// The checksum that the batch carries, which is that of its bytes.
    pub checksum: u32,
    /// What follows the header: records, or compressed records.
    pub payload: &'a [u8],
    /// The whole batch.
    pub bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The records, when they are not compressed. Otherwise decompress the payload and use [`Records::new`].
    pub fn records(&self) -> Result<Records<'a>, DecodeError> {
        match self.header.compression()? {
            Compression::None => Ok(Records::new(self.header, self.payload)),
            _ => Err(DecodeError::Batch("the records are compressed")),
        }
    }
}

/// Reads the batches of `blob`.
pub fn batches(blob: &[u8]) -> Batches<'_> {
    Batches { rest: blob, failed: false }
}

/// Batches in order. It ends behind the first error, and before a batch that the blob holds only a part of, as a
/// broker may send it; [`Batches::remainder`] then has that part.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
    failed: bool,
}

impl<'a> Batches<'a> {
    /// Bytes not read: behind the end of the iteration, the part of a batch that was cut off.
    pub fn remainder(&self) -> &'a [u8] {
        self.rest
    }

    fn read(&mut self) -> Result<Option<BatchView<'a>>, DecodeError> {
        let mut reader = Reader::new(self.rest, false);
        if reader.remaining() < LENGTH_OVERHEAD {
            return Ok(None);
        }
        let base_offset = reader.int64()?;
        let announced = reader.int32()?;
        let length = usize::try_from(announced).map_err(|_| DecodeError::Length(i64::from(announced)))?;
        if length < HEADER_BYTES - LENGTH_OVERHEAD {
            return Err(DecodeError::Batch("shorter than its header"));
        }
        let Some((bytes, rest)) = self.rest.split_at_checked(LENGTH_OVERHEAD + length) else {
            return Ok(None);
        };
        let view = read_whole(base_offset, bytes)?;
        self.rest = rest;
        Ok(Some(view))
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.read();
        self.failed = batch.is_err();
        batch.transpose()
    }
}

fn read_whole(base_offset: i64, bytes: &[u8]) -> Result<BatchView<'_>, DecodeError> {
    let mut reader = Reader::new(&bytes[LENGTH_OVERHEAD..], false);
    let partition_leader_epoch = reader.int32()?;
    if reader.int8()? != MAGIC {
        return Err(DecodeError::Batch("not of magic 2"));
    }
    let stored = reader.uint32()?;
    let computed = checksum_of(bytes);
    if stored != computed {
        return Err(DecodeError::Checksum { base_offset, stored, computed });
    }
    let header = BatchHeader::read_rest(base_offset, partition_leader_epoch, &mut reader)?;
    if header.record_count < 0 || header.last_offset_delta < 0 {
        return Err(DecodeError::Batch("a negative count"));
    }
    Ok(BatchView { header, checksum: stored, payload: &bytes[HEADER_BYTES..], bytes })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::super::batch::CHECKSUM_FROM;
    use super::super::record::{Header, Record, encode, encode_batch};
    use super::*;

    /// A batch that the console producer of Kafka 4.4.0 wrote: two records with keys and headers, idempotent.
    const FROM_KAFKA: [u8; 115] = [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 103, 0, 0, 0, 0, 2, 200, 185, 213, 213, 0, 0, 0, 0, 0, 1, 0, 0, 1,
        162, 16, 37, 69, 239, 0, 0, 1, 162, 16, 37, 69, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 2, 60, 0, 0, 0, 10, 107, 101, 121, 45, 49, 14, 118, 97, 108, 117, 101, 45, 49, 4, 4, 104, 49, 4,
        118, 49, 4, 104, 50, 4, 118, 50, 44, 0, 28, 2, 10, 107, 101, 121, 45, 50, 14, 118, 97, 108, 117, 101,
        45, 50, 2, 4, 104, 49, 0,
    ];

    fn records_of(batch: &BatchView<'_>) -> Vec<Record> {
        batch.records().unwrap().map(|record| record.unwrap().to_record()).collect()
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, b"123456789");
        assert_eq!(sum, 0xe306_9283);
    }

    #[test]
    fn kafkas_own_batch_is_read_and_written_byte_by_byte() {
        let read: Vec<_> = batches(&FROM_KAFKA).map(Result::unwrap).collect();
        assert_eq!(read.len(), 1);
        let records = records_of(&read[0]);
        assert_eq!(records[1].key.as_deref(), Some(b"key-2".as_slice()));
        assert_eq!(records[1].timestamp_ms - records[0].timestamp_ms, 14);
        assert_eq!(read[0].header.encode(&encode(&records)), FROM_KAFKA);
    }

    #[test]
    fn a_batch_cut_off_at_the_end_is_left_over() {
        let length = FROM_KAFKA.len();
        let blob = [FROM_KAFKA, FROM_KAFKA].concat();
        for cut in length..blob.len() {
            let mut reading = batches(&blob[..cut]);
            assert!(reading.next().unwrap().is_ok());
            assert!(reading.next().is_none());
            assert_eq!(reading.remainder().len(), cut - length);
        }
    }

    #[test]
    fn every_flipped_bit_behind_the_checksum_is_found() {
        for bit in CHECKSUM_FROM * 8..FROM_KAFKA.len() * 8 {
            let mut bytes = FROM_KAFKA.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(batches(&bytes).next(), Some(Err(DecodeError::Checksum { .. }))), "bit {bit}");
        }
    }

    #[test]
    fn illegal_lengths_and_other_magics_are_refused() {
        let with = |at: usize, bytes: &[u8]| {
            let mut batch = FROM_KAFKA.to_vec();
            batch[at..at + bytes.len()].copy_from_slice(bytes);
            batches(&batch).next().unwrap().unwrap_err()
        };
        assert_eq!(with(8, &(-1i32).to_be_bytes()), DecodeError::Length(-1));
        assert_eq!(with(8, &48i32.to_be_bytes()), DecodeError::Batch("shorter than its header"));
        assert_eq!(with(16, &[1]), DecodeError::Batch("not of magic 2"));
    }

    #[test]
    fn the_append_time_is_that_of_every_record() {
        let records = [Record::of(5, *b"a"), Record::of(7, *b"b")];
        let header = BatchHeader { attributes: 8, max_timestamp: 99, ..BatchHeader::of(&records) };
        let bytes = header.encode(&encode(&records));
        let view = batches(&bytes).next().unwrap().unwrap();
        assert!(view.records().unwrap().all(|record| record.unwrap().timestamp_ms == 99));
    }

    #[test]
    fn compressed_payloads_are_handed_to_the_caller() {
        let records = [Record::of(5, *b"a")];
        let header = BatchHeader::of(&records).compressed_with(Compression::Zstd).from_producer(7, 1, 3);
        let bytes = header.encode(b"as compressed by the caller");
        let view = batches(&bytes).next().unwrap().unwrap();
        assert_eq!(view.header, header);
        assert_eq!(view.header.compression(), Ok(Compression::Zstd));
        assert_eq!(view.payload, b"as compressed by the caller");
        assert!(view.records().is_err());
    }

    #[test]
    fn a_count_beyond_the_records_fails_at_their_end() {
        let records = [Record::of(5, *b"a")];
        let header = BatchHeader { record_count: i32::MAX, ..BatchHeader::of(&records) };
        let bytes = header.encode(&encode(&records));
        let view = batches(&bytes).next().unwrap().unwrap();
        let read: Vec<_> = view.records().unwrap().collect();
        assert_eq!(read.len(), 2);
        assert!(matches!(read[1], Err(DecodeError::Truncated { .. })));
    }

    fn blob(bytes: usize) -> impl Strategy<Value = Option<Vec<u8>>> {
        option::of(vec(any::<u8>(), 0..bytes))
    }

    fn record() -> impl Strategy<Value = Record> {
        let header = (".{0,12}", blob(20)).prop_map(|(key, value)| Header { key, value });
        (0..i64::MAX / 2, blob(40), blob(300), vec(header, 0..4))
            .prop_map(|(timestamp_ms, key, value, headers)| Record { timestamp_ms, key, value, headers })
    }

    proptest! {
        #![proptest_config(crate::testing::seeded())]

        #[test]
        fn records_survive_the_round_trip(lists in vec(vec(record(), 1..8), 1..4)) {
            let blob: Vec<u8> = lists.iter().flat_map(|records| encode_batch(records)).collect();
            let read: Vec<_> = batches(&blob).map(|batch| records_of(&batch.unwrap())).collect();
            prop_assert_eq!(read, lists);
        }

        #[test]
        fn arbitrary_bytes_give_errors_and_never_a_panic(
            header in vec(any::<u8>(), 40),
            payload in vec(any::<u8>(), 0..80),
        ) {
            // The checksum is right, so that what lies behind it is really read.
            let mut bytes = BatchHeader::of(&[]).encode(&payload);
            bytes[21..61].copy_from_slice(&header);
            let sum = checksum_of(&bytes);
            bytes[17..21].copy_from_slice(&sum.to_be_bytes());
            for batch in batches(&bytes).flatten() {
                prop_assert!(Records::new(batch.header, batch.payload).take(1000).count() <= 1000);
            }
        }
    }
}
