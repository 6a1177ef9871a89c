//! A segment's sparse index: where batches begin, and what is said of times.

use std::io;
use std::path::Path;

use corelane_shards::directory::layout::segment_base;
use corelane_shards::format::index::{File, PAGE_BYTES, SparseIndex};
use corelane_shards::types::Offset;

use super::cell::{Cell, count};
use super::kind::Kind;
use super::report::{Report, Table};
use super::source::Source;

/// Longer than the index of the largest segment. Bytes.
const INDEX_BYTES_MAX: u64 = 64 << 20;

static OFFSETS: Table =
    Table { kind: "offset_entry", columns: &["offset", "position"], more: &[], indent: 0 };

static TIMES: Table =
    Table { kind: "time_entry", columns: &["none_later_than", "before_position"], more: &[], indent: 0 };

/// All entries of whole pages, and each page that is not whole.
pub(super) fn index(report: &mut Report<'_>, source: &Source, kind: Kind) -> io::Result<()> {
    let file = if kind == Kind::Index { File::Offsets } else { File::Times };
    let bytes = match source.whole(INDEX_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) => return report.unreadable(source.path(), &error.to_string()),
    };
    // Where neither says whose index it is, no page is whole, and each is told as damage.
    let base = named_base(source.path()).or_else(|| file.base_offset(&bytes)).unwrap_or(Offset(0));
    let (index, errors) = match file {
        File::Offsets => SparseIndex::decode(base, &bytes, &[]),
        File::Times => SparseIndex::decode(base, &[], &bytes),
    };
    let entries = index.offset_entries().len() + index.time_entries().len();
    let pages = count(bytes.len().div_ceil(PAGE_BYTES));
    report.facts(
        "index",
        vec![("segment", base.get().into()), ("pages", pages), ("entries", count(entries))],
    )?;
    for (offset, position) in index.offset_entries() {
        report.row(&OFFSETS, vec![offset.get().into(), position.get().into()])?;
    }
    for (timestamp, position) in index.time_entries() {
        report.row(&TIMES, vec![Cell::Time(timestamp.get()), position.get().into()])?;
    }
    for error in errors.into_iter().filter(|error| error.file == file) {
        report.damage(Some(u64::from(error.page) * PAGE_BYTES as u64), &error.to_string())?;
    }
    Ok(())
}

fn named_base(path: &Path) -> Option<Offset> {
    segment_base(path.file_name()?.to_str()?)
}

#[cfg(test)]
mod tests {
    use corelane_shards::types::{Position, Timestamp};

    use super::super::testing::{Folder, dumped};
    use super::*;

    const BATCHES: u32 = 1100;

    fn sample() -> SparseIndex {
        let mut index = SparseIndex::new(Offset(7));
        for i in 0..BATCHES {
            let (offset, time) = (Offset(7 + i64::from(i)), Timestamp(1000 + i64::from(i)));
            index.append(offset, Position(i * 4096), 4096, time);
        }
        index
    }

    #[test]
    fn entries_of_both_files_are_told_under_any_name() {
        let folder = Folder::new("index");
        let named =
            dumped(&folder.write("00000000000000000007.index", &sample().encode_offsets()), &["--json"]);
        let entries = named.objects("offset_entry");
        assert_eq!((named.code, entries.len()), (0, BATCHES as usize - 1));
        assert_eq!((&entries[0]["offset"], &entries[0]["position"]), (&8.into(), &4096.into()));
        let renamed = dumped(&folder.write("times", &sample().encode_times()), &["--json"]);
        assert_eq!((renamed.code, renamed.objects("time_entry").len()), (0, BATCHES as usize));
        assert_eq!(renamed.objects("index")[0]["segment"], 7);
    }

    #[test]
    fn a_damaged_page_costs_what_it_held() {
        let mut bytes = sample().encode_offsets();
        bytes[PAGE_BYTES + 100] ^= 1;
        let dumped =
            dumped(&Folder::new("index-bit").write("00000000000000000007.index", &bytes), &["--json"]);
        assert_eq!(dumped.code, 1);
        assert_eq!(dumped.objects("damage")[0]["position"], PAGE_BYTES);
        let left = dumped.objects("offset_entry").len();
        assert!(left > 500 && left < BATCHES as usize - 1, "{left}");
    }
}
