//! The metadata store's files: commits one by one, or all keys as of one.

use std::io;

use bytes::Bytes;

use super::cell::{Cell, count};
use super::kind::Kind;
use super::report::{Report, Table};
use super::source::Source;
use crate::cluster::image;
use crate::cluster::store::{self, Operation, Piece};

static OPERATIONS: Table = Table {
    kind: "operation",
    columns: &["position", "revision", "operation", "key", "value"],
    more: &[],
    indent: 0,
};

/// Every record or entry of a file of the metadata store.
pub(super) fn metadata(report: &mut Report<'_>, source: &Source, kind: Kind) -> io::Result<()> {
    let bytes = match source.whole(store::INSPECTED_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) => return report.unreadable(source.path(), &error.to_string()),
    };
    let kind = if kind == Kind::MetadataLog { store::FileKind::Log } else { store::FileKind::Snapshot };
    let length = bytes.len();
    let pieces = store::inspect(kind, bytes);
    report.facts("metadata", vec![("bytes", count(length)), ("pieces", count(pieces.len()))])?;
    for (at, piece) in pieces {
        let position = u64::try_from(at).expect("a file's length");
        match piece {
            Piece::Commit(revision, operations) => {
                for operation in &operations {
                    let (word, value) = match operation {
                        Operation::Put { value, .. } => ("put", Some(value)),
                        Operation::Delete { .. } => ("delete", None),
                    };
                    report.row(&OPERATIONS, row(position, revision.0, word, operation.key(), value))?;
                }
            }
            Piece::Entry(entry) => {
                let row = row(position, entry.revision.0, "entry", &entry.key, Some(&entry.value));
                report.row(&OPERATIONS, row)?;
            }
            Piece::Seal(revision) => {
                report.row(&OPERATIONS, row(position, revision.0, "seal", &Bytes::new(), None))?;
            }
            Piece::Torn { bytes } => report.note(&format!(
                "the last {bytes} bytes are no whole record: a write that was never answered, which a start cuts off"
            ))?,
            Piece::Damaged(reason) => report.damage(Some(position), &reason)?,
        }
    }
    Ok(())
}

fn row(position: u64, revision: u64, operation: &str, key: &Bytes, value: Option<&Bytes>) -> Vec<Cell> {
    let said = value.map(|value| match image::describe(key, value) {
        Some(words) => Cell::Text(words),
        None => Cell::Bytes(value.to_vec()),
    });
    let key = match std::str::from_utf8(key) {
        Ok("") => Cell::Absent,
        Ok(text) if text.chars().all(|c| c.is_ascii_graphic()) => Cell::text(text),
        _ => Cell::Bytes(key.to_vec()),
    };
    vec![position.into(), revision.into(), Cell::text(operation), key, said.unwrap_or(Cell::Absent)]
}
