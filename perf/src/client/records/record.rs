//! Records: what lies behind a batch's header, uncompressed.

use super::batch::BatchHeader;
use crate::client::wire::{DecodeError, Reader, Writer};

/// A record to write, or a copy of one read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key, or null.
    pub key: Option<Vec<u8>>,
    /// The value, or null for a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers, in order; keys may repeat.
    pub headers: Vec<Header>,
}

/// A record's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The key.
    pub key: String,
    /// The value, or null.
    pub value: Option<Vec<u8>>,
}

impl Record {
    /// A record with a value alone.
    pub fn of(timestamp_ms: i64, value: impl Into<Vec<u8>>) -> Self {
        Self { timestamp_ms, value: Some(value.into()), ..Self::default() }
    }
}

/// The records as a batch's payload. Offsets count from 0, times from the first record's, as [`BatchHeader::of`] has it.
pub fn encode(records: &[Record]) -> Vec<u8> {
    let base = records.first().map_or(-1, |record| record.timestamp_ms);
    let mut payload = Writer::new(false);
    for (delta, record) in (0..).zip(records) {
        let mut body = Writer::new(false);
        body.int8(0);
        body.varlong(record.timestamp_ms.wrapping_sub(base));
        body.varint(delta);
        write_bytes(&mut body, record.key.as_deref());
        write_bytes(&mut body, record.value.as_deref());
        body.varint(length(record.headers.len()));
        for header in &record.headers {
            write_bytes(&mut body, Some(header.key.as_bytes()));
            write_bytes(&mut body, header.value.as_deref());
        }
        let body = body.into_bytes();
        payload.varint(length(body.len()));
        payload.raw(&body);
    }
    payload.into_bytes()
}

/// An uncompressed batch of these records, of a producer without an id.
pub fn encode_batch(records: &[Record]) -> Vec<u8> {
    BatchHeader::of(records).encode(&encode(records))
}

fn write_bytes(writer: &mut Writer, bytes: Option<&[u8]>) {
    writer.varint(bytes.map_or(-1, |bytes| length(bytes.len())));
    writer.raw(bytes.unwrap_or_default());
}

fn length(length: usize) -> i32 {
    i32::try_from(length).expect("a caller's record is below 2 GiB")
}

/// A record, in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// The offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970: the producer's, or the broker's where the batch says so.
    pub timestamp_ms: i64,
    /// The key, or null.
    pub key: Option<&'a [u8]>,
    /// The value, or null.
    pub value: Option<&'a [u8]>,
    /// Keys and values of the headers.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl RecordView<'_> {
    /// A copy.
    pub fn to_record(&self) -> Record {
        let header = |(key, value): &(&str, Option<&[u8]>)| Header {
            key: (*key).to_owned(),
            value: value.map(<[u8]>::to_vec),
        };
        Record {
            timestamp_ms: self.timestamp_ms,
            key: self.key.map(<[u8]>::to_vec),
            value: self.value.map(<[u8]>::to_vec),
            headers: self.headers.iter().map(header).collect(),
        }
    }
}

/// Reads the records of an uncompressed, or decompressed, payload. It ends behind the first error.
///
/// Bytes behind the last record are an error, and so are offsets outside the range that the header states.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    header: BatchHeader,
    reader: Reader<'a>,
    left: i32,
}

impl<'a> Records<'a> {
    /// The records of `payload` under `header`.
    pub fn new(header: BatchHeader, payload: &'a [u8]) -> Self {
        Self { header, reader: Reader::new(payload, false), left: header.record_count }
    }

    fn read(&mut self) -> Result<RecordView<'a>, DecodeError> {
        let length = nonnegative(self.reader.varint()?)?;
        let mut body = Reader::new(self.reader.raw(length)?, false);
        body.int8()?;
        let timestamp_delta = body.varlong()?;
        let offset_delta = body.varint()?;
        if !(0..=self.header.last_offset_delta).contains(&offset_delta) {
            return Err(DecodeError::Batch("a record's offset lies outside its batch"));
        }
        let record = RecordView {
            offset: sum(self.header.base_offset, i64::from(offset_delta))?,
            timestamp_ms: self.timestamp(timestamp_delta)?,
            key: read_bytes(&mut body)?,
            value: read_bytes(&mut body)?,
            headers: read_headers(&mut body)?,
        };
        body.finish()?;
        if self.left == 1 && self.reader.remaining() > 0 {
            return Err(DecodeError::Trailing(self.reader.remaining()));
        }
        Ok(record)
    }

    fn timestamp(&self, delta: i64) -> Result<i64, DecodeError> {
        if self.header.has_log_append_time() {
            return Ok(self.header.max_timestamp);
        }
        sum(self.header.base_timestamp, delta)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        let record = self.read();
        self.left = if record.is_ok() { self.left - 1 } else { 0 };
        Some(record)
    }
}

fn sum(base: i64, delta: i64) -> Result<i64, DecodeError> {
    base.checked_add(delta).ok_or(DecodeError::Batch("an offset or a time overflows 64 bits"))
}

fn nonnegative(length: i32) -> Result<usize, DecodeError> {
    usize::try_from(length).map_err(|_| DecodeError::Length(i64::from(length)))
}

fn read_bytes<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, DecodeError> {
    match reader.varint()? {
        -1 => Ok(None),
        length => reader.raw(nonnegative(length)?).map(Some),
    }
}

type HeaderViews<'a> = Vec<(&'a str, Option<&'a [u8]>)>;

/// The vector grows as headers are really read, so a count beyond the bytes fails at their end.
fn read_headers<'a>(reader: &mut Reader<'a>) -> Result<HeaderViews<'a>, DecodeError> {
    let mut headers = Vec::new();
    for _ in 0..nonnegative(reader.varint()?)? {
        let key = read_bytes(reader)?.ok_or(DecodeError::Length(-1))?;
        let key = std::str::from_utf8(key).map_err(|_| DecodeError::Utf8)?;
        headers.push((key, read_bytes(reader)?));
    }
    Ok(headers)
}
