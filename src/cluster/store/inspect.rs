//! Reading the store's files without opening the store: all of them for what they hold together, or one record by record.
//!
//! For people who look into a directory, possibly beside a running broker or one that does not start: nothing is written,
//! nothing is locked, and what is damaged is told and stepped over. In a log, records lie at multiples of eight bytes and
//! name the log's salt in their checksums, so the next whole one is found wherever the damage ends.

use bytes::Bytes;

use super::{
    bytes::Malformed,
    error::Error,
    files::Files,
    layout::{
        self, FileName, Flaw, LOG_HEADER_BYTES, LogHeader, RECORD_ALIGNMENT, RecordKind, State,
        decode_operations, decode_record, decode_snapshot,
    },
    recovery::{Inventory, recover},
    transaction::{Entry, Operation, Range, Revision},
};
use crate::cluster::limits::FILE_BYTES_MAX;

/// Everything that the store in these files holds; none if there is no store yet.
pub fn read(files: &impl Files) -> Result<Option<Range>, Error> {
    let inventory = Inventory::take(files)?;
    Ok(recover(files, &inventory)?.map(|found| found.memory.range(b"")))
}

/// The two kinds of file that a store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Commits.
    Log,
    /// All keys as of one commit.
    Snapshot,
}

impl FileKind {
    /// What begins like this, if it is one of them.
    pub fn of_bytes(bytes: &[u8]) -> Option<FileKind> {
        match bytes.first_chunk()? {
            magic if *magic == layout::LOG_MAGIC => Some(FileKind::Log),
            magic if *magic == layout::SNAPSHOT_MAGIC => Some(FileKind::Snapshot),
            _ => None,
        }
    }

    /// What a file of this name is.
    pub fn of_name(name: &str) -> Option<FileKind> {
        match FileName::parse(name.strip_suffix(".tmp").unwrap_or(name)) {
            FileName::Log(_) => Some(FileKind::Log),
            FileName::Snapshot(_) => Some(FileKind::Snapshot),
            FileName::Temporary | FileName::Foreign => None,
        }
    }
}

/// One thing found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A commit of a log.
    Commit(Revision, Vec<Operation>),
    /// The mark behind the last commit: all before it was flushed.
    Seal(Revision),
    /// A key of a snapshot.
    Entry(Entry),
    /// Behind a log's last record: what a write that was never answered left, or damage to the very last commit.
    Torn {
        /// Up to the file's end.
        bytes: usize,
    },
    /// Bytes that are not what was written.
    Damaged(String),
}

/// What a file holds, in order, each with its place in bytes from the file's start.
pub type Pieces = Vec<(usize, Piece)>;

/// The longest file that is read. Bytes.
pub const INSPECTED_BYTES_MAX: u64 = FILE_BYTES_MAX;

/// Everything in one file, of which whole records share the memory.
pub fn inspect(kind: FileKind, bytes: Vec<u8>) -> Pieces {
    let bytes = Bytes::from(bytes);
    let pieces = match kind {
        FileKind::Log => log(&bytes),
        FileKind::Snapshot => decode_snapshot(&bytes).map(|(_, state)| entries(state)),
    };
    pieces.unwrap_or_else(|Flaw { offset, reason }| vec![(offset, Piece::Damaged(reason))])
}

fn entries(state: State) -> Pieces {
    let mut at = layout::SNAPSHOT_ENTRIES_AT;
    let place = |(key, stored): (Bytes, layout::Stored)| {
        let here = at;
        at += layout::SNAPSHOT_ENTRY_HEADER_BYTES + key.len() + stored.value.len();
        (here, Piece::Entry(Entry { key, value: stored.value, revision: stored.revision }))
    };
    state.into_iter().map(place).collect()
}

fn log(bytes: &Bytes) -> Result<Pieces, Flaw> {
    let header = LogHeader::decode(bytes)?;
    let mut pieces = Pieces::new();
    let mut at = LOG_HEADER_BYTES;
    while at < bytes.len() {
        match decode_record(header.salt, bytes, at) {
            Some(record) => {
                pieces.push((at, piece(record.kind, record.revision, record.payload)));
                at += record.len;
            }
            None => {
                let next = (at..bytes.len())
                    .step_by(RECORD_ALIGNMENT)
                    .find(|next| decode_record(header.salt, bytes, *next).is_some());
                let end = next.unwrap_or(bytes.len());
                pieces.push((at, unreadable(next, end - at)));
                at = end;
            }
        }
    }
    Ok(pieces)
}

fn piece(kind: RecordKind, revision: Revision, payload: Bytes) -> Piece {
    match (kind, decode_operations(payload)) {
        (RecordKind::Seal, _) => Piece::Seal(revision),
        (RecordKind::Commit, Ok(operations)) => Piece::Commit(revision, operations),
        (RecordKind::Commit, Err(Malformed)) => {
            Piece::Damaged(format!("the operations of commit {revision} are malformed"))
        }
    }
}

/// With a whole record behind it, it was durable once; without one, nobody can tell.
fn unreadable(next: Option<usize>, bytes: usize) -> Piece {
    match next {
        Some(next) => {
            Piece::Damaged(format!("{bytes} bytes are no whole record, yet one follows at byte {next}"))
        }
        None => Piece::Torn { bytes },
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::{encode_operations, encode_record, encode_snapshot};
    use super::*;

    const SALT: u64 = 7;

    fn commit(revision: u64) -> Vec<u8> {
        let put = Operation::Put { key: "k".into(), value: "v".into() };
        encode_record(SALT, RecordKind::Commit, Revision(revision), &encode_operations(&[put]))
    }

    fn sample() -> Vec<u8> {
        let header = LogHeader { first: Revision(1), salt: SALT }.encode();
        let seal = encode_record(SALT, RecordKind::Seal, Revision(2), b"");
        [header, commit(1), commit(2), seal].concat()
    }

    fn kinds(bytes: Vec<u8>) -> Vec<&'static str> {
        let pieces = inspect(FileKind::Log, bytes);
        pieces
            .iter()
            .map(|(_, piece)| match piece {
                Piece::Commit(..) => "commit",
                Piece::Seal(_) => "seal",
                Piece::Entry(_) => "entry",
                Piece::Torn { .. } => "torn",
                Piece::Damaged(_) => "damaged",
            })
            .collect()
    }

    #[test]
    fn damage_is_stepped_over_and_a_torn_end_is_told_from_it() {
        assert_eq!(kinds(sample()), ["commit", "commit", "seal"]);
        let mut damaged = sample();
        damaged[LOG_HEADER_BYTES + 30] ^= 1;
        assert_eq!(kinds(damaged), ["damaged", "commit", "seal"]);
        let mut torn = sample();
        torn.pop();
        assert_eq!(kinds(torn), ["commit", "commit", "torn"]);
        let mut headless = sample();
        headless[20] ^= 1;
        assert_eq!(kinds(headless), ["damaged"]);
    }

    #[test]
    fn a_snapshots_entries_come_with_their_places() {
        let stored = |value: &'static str, revision| layout::Stored {
            value: value.into(),
            revision: Revision(revision),
        };
        let state = State::from([("a".into(), stored("1", 1)), ("bb".into(), stored("22", 2))]);
        let bytes = encode_snapshot(Revision(2), &state);
        for (at, piece) in inspect(FileKind::Snapshot, bytes.clone()) {
            let Piece::Entry(entry) = piece else { panic!("{piece:?}") };
            assert!(bytes[at + layout::SNAPSHOT_ENTRY_HEADER_BYTES..].starts_with(&entry.key));
        }
    }

    #[test]
    fn files_are_told_apart_by_magic_and_by_name() {
        assert_eq!(FileKind::of_bytes(&sample()), Some(FileKind::Log));
        assert_eq!(
            FileKind::of_bytes(&encode_snapshot(Revision(1), &State::new())),
            Some(FileKind::Snapshot)
        );
        assert_eq!(FileKind::of_bytes(b"CLMET"), None);
        assert_eq!(FileKind::of_name(&layout::log_name(Revision(1))), Some(FileKind::Log));
        assert_eq!(FileKind::of_name("snapshot-00000000000000000007.tmp"), Some(FileKind::Snapshot));
        assert_eq!(FileKind::of_name("log-7"), None);
    }
}
