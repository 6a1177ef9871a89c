//! Records, one after the other, from the stream that a batch's body is.
//!
//! ```text
//! length varint | attributes 1 | timestamp delta varint | offset delta varint | key | value | headers varint ...
//! key, value, a header's name and value: length varint (-1: none), bytes
//! ```
//!
//! A record's length bounds everything inside it, and what is allocated is what the stream really has. After the first
//! malformed record nothing more is read: where the next one begins is not known.

use std::io::{BufRead, Read, Take};

use corelane_shards::format::batch::{BatchView, TimestampType};
use corelane_shards::types::{Offset, Timestamp};

use super::decompress;

/// One record, copied out of its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log.
    pub offset: Offset,
    /// Its own time, or that of the append, as its batch says.
    pub timestamp: Timestamp,
    /// Its key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Its value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers in order: names may come twice.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// The body of a batch does not hold the records that the header promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {index} of {count} cannot be read")]
pub struct Malformed {
    /// Of the first that cannot be read, from 0.
    pub index: i32,
    /// As in the batch's header.
    pub count: i32,
}

/// The records of one batch, in order; ends behind the last or with the first that is malformed.
pub struct Records<'a> {
    stream: Option<Box<dyn BufRead + 'a>>,
    batch: BatchView<'a>,
    index: i32,
}

impl<'a> Records<'a> {
    /// Reads from the first record on.
    pub fn of(batch: BatchView<'a>) -> Records<'a> {
        Records { stream: decompress::open(batch.codec(), batch.body()), batch, index: 0 }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let count = self.batch.record_count();
        if self.index >= count {
            return None;
        }
        let record = self.stream.as_mut().and_then(|stream| record(stream, &self.batch));
        let malformed = Malformed { index: self.index, count };
        self.index = if record.is_some() { self.index + 1 } else { count };
        Some(record.ok_or(malformed))
    }
}

fn record(stream: &mut impl BufRead, batch: &BatchView<'_>) -> Option<Record> {
    let length = u64::try_from(varint(stream)?).ok()?;
    let mut rest = stream.take(length);
    let _attributes = byte(&mut rest)?;
    let (time_delta, offset_delta) = (varint(&mut rest)?, varint(&mut rest)?);
    let timestamp = match batch.timestamp_type() {
        TimestampType::LogAppendTime => batch.max_timestamp(),
        TimestampType::CreateTime => Timestamp(batch.base_timestamp().get().checked_add(time_delta)?),
    };
    let offset = batch.base_offset().checked_add(offset_delta)?;
    let (key, value) = (nullable(&mut rest)?, nullable(&mut rest)?);
    let mut headers = Vec::new();
    for _ in 0..varint(&mut rest)? {
        headers.push((nullable(&mut rest)??, nullable(&mut rest)?));
    }
    (rest.limit() == 0).then_some(Record { offset, timestamp, key, value, headers })
}

/// Bytes behind their length, which a record's end bounds; -1 stands for none.
fn nullable(rest: &mut Take<impl BufRead>) -> Option<Option<Vec<u8>>> {
    let length = varint(rest)?;
    if length == -1 {
        return Some(None);
    }
    let length = u64::try_from(length).ok().filter(|length| *length <= rest.limit())?;
    let mut bytes = Vec::new();
    rest.by_ref().take(length).read_to_end(&mut bytes).ok()?;
    (u64::try_from(bytes.len()) == Ok(length)).then_some(Some(bytes))
}

/// The next byte, if there is one.
pub fn byte(bytes: &mut impl BufRead) -> Option<u8> {
    let mut byte = [0];
    bytes.read_exact(&mut byte).ok()?;
    Some(byte[0])
}

/// A zigzag varint of at most ten bytes.
pub fn varint(bytes: &mut impl BufRead) -> Option<i64> {
    let mut value = 0u64;
    for i in 0u32..10 {
        let byte = byte(bytes)?;
        value |= u64::from(byte & 0x7f).checked_shl(7 * i)?;
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One batch of each codec, whose records the directory's README lists.
    const BATCHES: [&[u8]; 5] = [
        include_bytes!("../../shards/src/format/testdata/none.batch"),
        include_bytes!("../../shards/src/format/testdata/gzip.batch"),
        include_bytes!("../../shards/src/format/testdata/snappy.batch"),
        include_bytes!("../../shards/src/format/testdata/lz4.batch"),
        include_bytes!("../../shards/src/format/testdata/zstd.batch"),
    ];

    fn expected(i: i64) -> Record {
        let value = format!("value {i} {}", "abcdefgh".repeat(8));
        Record {
            offset: Offset(i),
            timestamp: Timestamp(1_700_000_000_000 + 7 * i),
            key: (i % 2 == 0).then(|| format!("key-{i}").into_bytes()),
            value: Some(value.into_bytes()),
            headers: if i % 3 == 0 { vec![(b"h".to_vec(), Some(b"v".to_vec()))] } else { Vec::new() },
        }
    }

    #[test]
    fn a_foreign_clients_records_come_back_from_each_codec() {
        for bytes in BATCHES {
            let (batch, _) = BatchView::parse(bytes).unwrap();
            let records: Vec<Record> = Records::of(batch).collect::<Result<_, _>>().unwrap();
            assert_eq!(records, (0..10).map(expected).collect::<Vec<_>>(), "{:?}", batch.codec());
        }
    }

    #[test]
    fn reading_ends_with_the_first_malformed_record() {
        let mut bytes = BATCHES[0].to_vec();
        let first = BatchView::parse(&bytes).unwrap().0.body()[0];
        // The second record says that it is longer than the batch.
        let second =
            bytes.len() - BatchView::parse(&bytes).unwrap().0.body().len() + 2 + usize::from(first) / 2;
        bytes[second..second + 2].fill(0xff);
        let (batch, _) = BatchView::parse(&bytes).unwrap();
        let read: Vec<_> = Records::of(batch).collect();
        assert_eq!(read.last(), Some(&Err(Malformed { index: read.len() as i32 - 1, count: 10 })));
        assert!(read.len() < 10, "{read:?}");
    }

    #[test]
    fn every_flipped_bit_gives_records_or_an_end() {
        for bytes in BATCHES {
            let body = bytes.len() - BatchView::parse(bytes).unwrap().0.body().len();
            let mut read = 0;
            for bit in body * 8..bytes.len() * 8 {
                let mut flipped = bytes.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let (batch, _) = BatchView::parse(&flipped).unwrap();
                read += Records::of(batch).filter(Result::is_ok).count();
            }
            assert!(read > 0);
        }
    }

    #[test]
    fn varints_are_zigzag_and_bounded() {
        for (bytes, value) in [(&[0u8][..], 0), (&[1], -1), (&[2], 1), (&[0xac, 0x02], 150)] {
            assert_eq!(varint(&mut &*bytes), Some(value));
        }
        assert_eq!(varint(&mut &[0xff; 11][..]), None);
        assert_eq!(varint(&mut &[0x80][..]), None);
    }
}
