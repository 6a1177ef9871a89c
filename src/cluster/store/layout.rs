//! Every byte of the embedded store's files, both ways. The tables are in `docs/formats/metadata.md`.
//!
//! ```text
//! log-<20 digits>.records   header { magic, version, length, crc } { first revision, salt }, then records
//! snapshot-<20 digits>      header { magic, version, length, crc } { revision, entries }
//! record                    { magic, kind, version, 0, length, crc, revision } payload, zeroes up to 8 bytes
//! ```
//!
//! A record's checksum starts from its log's random salt, so that no value which a client chose can contain a
//! record of this log. This module knows neither files nor which of them are current; it does not decide what
//! a damaged byte means.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    bytes::{Malformed, Reader, Writer, length_u32},
    transaction::{Operation, Revision},
};
use crate::cluster::limits::{
    KEY_BYTES_MAX, OPERATIONS_PER_TRANSACTION_MAX, RECORD_PAYLOAD_BYTES_MAX, REVISION_MAX, VALUE_BYTES_MAX,
};

/// The version that both files' headers and every record carry.
pub(super) const VERSION: u32 = 1;
pub(super) const LOG_MAGIC: [u8; 8] = *b"CLMETLOG";
pub(super) const SNAPSHOT_MAGIC: [u8; 8] = *b"CLMETSNP";
const RECORD_MAGIC: [u8; 4] = *b"CLMR";
const RECORD_VERSION: u8 = 1;

/// Bytes of a file header before its body.
pub(super) const FILE_HEADER_BYTES: usize = 24;
const LOG_BODY_BYTES: usize = 16;
/// Where a log's first record starts.
pub(super) const LOG_HEADER_BYTES: usize = FILE_HEADER_BYTES + LOG_BODY_BYTES;
/// Where a snapshot's first entry starts, behind the revision.
pub(super) const SNAPSHOT_ENTRIES_AT: usize = FILE_HEADER_BYTES + 8;
/// Bytes of a snapshot's entry before its key.
pub(super) const SNAPSHOT_ENTRY_HEADER_BYTES: usize = 16;
/// Bytes of a record before its payload; a seal has no other.
pub(super) const RECORD_HEADER_BYTES: usize = 24;
/// Records start at multiples of this.
pub(super) const RECORD_ALIGNMENT: usize = 8;

const _: () = assert!(LOG_HEADER_BYTES.is_multiple_of(RECORD_ALIGNMENT));
const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(RECORD_ALIGNMENT));
const _: () = assert!(RECORD_PAYLOAD_BYTES_MAX.is_multiple_of(RECORD_ALIGNMENT));

/// The keys of the store with their values and the commits that wrote them.
pub(super) type State = BTreeMap<Bytes, Stored>;

/// A value and the commit that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) value: Bytes,
    pub(super) revision: Revision,
}

/// A log's name says which commit its first record is.
pub(super) fn log_name(first: Revision) -> String {
    format!("log-{:020}.records", first.0)
}

/// A snapshot's name says which commit is its last.
pub(super) fn snapshot_name(revision: Revision) -> String {
    format!("snapshot-{:020}", revision.0)
}

/// Where a file is written before it gets its name.
pub(super) fn temporary_name(name: &str) -> String {
    format!("{name}.tmp")
}

/// What a name in the directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileName {
    Log(Revision),
    Snapshot(Revision),
    /// A file of ours that never got its name: whatever it holds was not relied on.
    Temporary,
    Foreign,
}

impl FileName {
    pub(super) fn parse(name: &str) -> FileName {
        if let Some(rest) = name.strip_suffix(".tmp") {
            return match FileName::parse(rest) {
                FileName::Log(_) | FileName::Snapshot(_) => FileName::Temporary,
                other => other,
            };
        }
        let number = |digits: &str| {
            let well_formed = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
            let number: Option<u64> = well_formed.then(|| digits.parse().ok()).flatten();
            number.filter(|number| *number <= REVISION_MAX).map(Revision)
        };
        let log = name.strip_prefix("log-").and_then(|rest| rest.strip_suffix(".records")).and_then(number);
        let snapshot = name.strip_prefix("snapshot-").and_then(number);
        log.map(FileName::Log).or(snapshot.map(FileName::Snapshot)).unwrap_or(FileName::Foreign)
    }
}

/// A file's bytes: its header, then `body`.
fn encode_file(magic: [u8; 8], body: &[u8]) -> Vec<u8> {
    let mut prefix = Writer::new();
    prefix.raw(&magic);
    prefix.u32(VERSION);
    prefix.u64(body.len() as u64);
    let mut file = prefix.into_vec();
    let crc = file_crc(&file, body);
    file.extend_from_slice(&crc.to_le_bytes());
    file.extend_from_slice(body);
    file
}

fn file_crc(prefix: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(prefix);
    hasher.update(body);
    hasher.finalize()
}

/// Why a file is not whole: where, and what was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) offset: usize,
    pub(super) reason: String,
}

fn flaw<T>(offset: usize, reason: impl Into<String>) -> Result<T, Flaw> {
    Err(Flaw { offset, reason: reason.into() })
}

/// Checks a file's header and gives the body of `body_len` bytes (a log's is followed by records), or of all
/// the rest.
fn open_file(magic: [u8; 8], bytes: &Bytes, body_len: Option<usize>) -> Result<Bytes, Flaw> {
    let (Some(prefix), Some(crc)) = (bytes.first_chunk::<20>(), bytes.get(20..24)) else {
        return flaw(bytes.len(), "it ends within its header");
    };
    if prefix[..8] != magic {
        return flaw(0, "it does not begin with its magic bytes");
    }
    if prefix[8..12] != VERSION.to_le_bytes() {
        return flaw(8, format!("its version is not {VERSION}, the only one this program reads"));
    }
    let body_len = body_len.unwrap_or(bytes.len() - FILE_HEADER_BYTES);
    if prefix[12..] != (body_len as u64).to_le_bytes() {
        return flaw(12, "the length in its header is not its own");
    }
    if bytes.len() < FILE_HEADER_BYTES + body_len {
        return flaw(bytes.len(), "it ends within its header");
    }
    let body = bytes.slice(FILE_HEADER_BYTES..FILE_HEADER_BYTES + body_len);
    if file_crc(prefix, &body).to_le_bytes() != crc {
        return flaw(20, "its checksum does not match");
    }
    Ok(body)
}

/// What a log's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogHeader {
    /// The commit that the first record is to be.
    pub(super) first: Revision,
    /// What the checksums of this log's records start from.
    pub(super) salt: u64,
}

impl LogHeader {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut body = Writer::new();
        body.u64(self.first.0);
        body.u64(self.salt);
        encode_file(LOG_MAGIC, &body.into_vec())
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<LogHeader, Flaw> {
        let mut reader = Reader::new(open_file(LOG_MAGIC, bytes, Some(LOG_BODY_BYTES))?);
        let fields = reader.u64().and_then(|first| Ok((first, reader.u64()?)));
        let (first, salt) = fields.expect("the body's length was checked");
        Ok(LogHeader { first: Revision(first), salt })
    }
}

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// One transaction.
    Commit,
    /// Written without a flush after a commit was flushed: says that everything before it was durable. The
    /// next record takes its place.
    Seal,
}

/// A record that passed its checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: RecordKind,
    /// A commit's own number; for a seal, that of the last commit before it.
    pub(super) revision: Revision,
    pub(super) payload: Bytes,
    /// Bytes from this record's start to the next one's.
    pub(super) len: usize,
}

/// A record's bytes, its padding included.
pub(super) fn encode_record(salt: u64, kind: RecordKind, revision: Revision, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= RECORD_PAYLOAD_BYTES_MAX);
    let mut writer = Writer::new();
    writer.raw(&RECORD_MAGIC);
    writer.u8(match kind {
        RecordKind::Commit => 1,
        RecordKind::Seal => 2,
    });
    writer.u8(RECORD_VERSION);
    writer.u16(0);
    writer.u32(length_u32(payload.len()));
    writer.u32(0);
    writer.u64(revision.0);
    writer.raw(payload);
    let mut record = writer.into_vec();
    record.resize(record.len().next_multiple_of(RECORD_ALIGNMENT), 0);
    let crc = record_crc(salt, &record);
    record[12..16].copy_from_slice(&crc.to_le_bytes());
    record
}

/// Over the salt, then the record with its padding and without the checksum itself.
fn record_crc(salt: u64, record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&record[..12]);
    hasher.update(&record[16..]);
    hasher.finalize()
}

/// The record at `offset` of a log's bytes; `None` when what is there is not a whole record of this log.
pub(super) fn decode_record(salt: u64, log: &Bytes, offset: usize) -> Option<Record> {
    let rest = log.get(offset..)?;
    if rest.len() < RECORD_HEADER_BYTES || rest[..4] != RECORD_MAGIC {
        return None;
    }
    let field = |at: usize| u32::from_le_bytes(*rest[at..].first_chunk().expect("within the header"));
    let payload_len = usize::try_from(field(8)).ok().filter(|len| *len <= RECORD_PAYLOAD_BYTES_MAX)?;
    let len = RECORD_HEADER_BYTES + payload_len.next_multiple_of(RECORD_ALIGNMENT);
    if record_crc(salt, rest.get(..len)?) != field(12) {
        return None;
    }
    let kind = match (rest[4], rest[5]) {
        (1, RECORD_VERSION) => RecordKind::Commit,
        (2, RECORD_VERSION) => RecordKind::Seal,
        _ => return None,
    };
    let revision = Revision(u64::from_le_bytes(*rest[16..].first_chunk().expect("within the header")));
    let payload_at = offset + RECORD_HEADER_BYTES;
    Some(Record { kind, revision, payload: log.slice(payload_at..payload_at + payload_len), len })
}

/// A transaction's operations as a record's payload.
pub(super) fn encode_operations(operations: &[Operation]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.u32(length_u32(operations.len()));
    for operation in operations {
        let (kind, key, value): (u8, &Bytes, &[u8]) = match operation {
            Operation::Put { key, value } => (1, key, value),
            Operation::Delete { key } => (2, key, &[]),
        };
        writer.u8(kind);
        writer.u32(length_u32(key.len()));
        writer.u32(length_u32(value.len()));
        writer.raw(key);
        writer.raw(value);
    }
    writer.into_vec()
}

pub(super) fn decode_operations(payload: Bytes) -> Result<Vec<Operation>, Malformed> {
    let mut reader = Reader::new(payload);
    let count = reader.u32()?;
    let mut operations = Vec::new();
    for _ in 0..count {
        if operations.len() == OPERATIONS_PER_TRANSACTION_MAX {
            return Err(Malformed);
        }
        let (kind, key_len, value_len) = (reader.u8()?, reader.u32()?, reader.u32()?);
        let key = reader.slice(key_len, KEY_BYTES_MAX)?;
        let value = reader.slice(value_len, VALUE_BYTES_MAX)?;
        operations.push(match kind {
            1 => Operation::Put { key, value },
            2 if value.is_empty() => Operation::Delete { key },
            _ => return Err(Malformed),
        });
    }
    if reader.is_empty() { Ok(operations) } else { Err(Malformed) }
}

/// A snapshot file's bytes.
pub(super) fn encode_snapshot(revision: Revision, state: &State) -> Vec<u8> {
    let mut body = Writer::new();
    body.u64(revision.0);
    for (key, stored) in state {
        body.u32(length_u32(key.len()));
        body.u32(length_u32(stored.value.len()));
        body.u64(stored.revision.0);
        body.raw(key);
        body.raw(&stored.value);
    }
    encode_file(SNAPSHOT_MAGIC, &body.into_vec())
}

pub(super) fn decode_snapshot(bytes: &Bytes) -> Result<(Revision, State), Flaw> {
    let body = open_file(SNAPSHOT_MAGIC, bytes, None)?;
    decode_snapshot_body(body).or_else(|Malformed| flaw(FILE_HEADER_BYTES, "its entries are malformed"))
}

fn decode_snapshot_body(body: Bytes) -> Result<(Revision, State), Malformed> {
    let mut reader = Reader::new(body);
    let revision = Revision(reader.u64()?);
    let mut state = State::new();
    while !reader.is_empty() {
        let (key_len, value_len) = (reader.u32()?, reader.u32()?);
        let written = Revision(reader.u64()?);
        let key = reader.slice(key_len, KEY_BYTES_MAX)?;
        let value = reader.slice(value_len, VALUE_BYTES_MAX)?;
        let ascending = state.last_key_value().is_none_or(|(last, _)| *last < key);
        if key.is_empty() || !ascending || written > revision {
            return Err(Malformed);
        }
        state.insert(key, Stored { value, revision: written });
    }
    Ok((revision, state))
}
