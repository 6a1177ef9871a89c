//! The small files: `format`, `lock` and `root`.

use std::io;

use corelane_shards::directory::format_file::{self, Format};
use corelane_shards::format::root::{self, Root};

use super::cell::{Cell, count};
use super::report::Report;
use super::source::Source;
use super::surroundings::{MANIFEST_BYTES_MAX, Surroundings};

/// Neither is longer than a few hundred bytes; no more is read. Bytes.
const TEXT_BYTES_MAX: u64 = 1 << 16;

/// `format`: whose directory it is.
pub(super) fn format(report: &mut Report<'_>, source: &Source) -> io::Result<()> {
    let decoded = source.whole(TEXT_BYTES_MAX).map(|bytes| Format::decode(&bytes));
    match decoded {
        Ok(Ok(format)) => report.facts("format", format_facts(&format)),
        Ok(Err(error)) => report.damage(None, &error.to_string()),
        Err(error) => report.unreadable(source.path(), &error.to_string()),
    }
}

/// What a format file says.
pub(super) fn format_facts(format: &Format) -> Vec<(&'static str, Cell)> {
    vec![
        ("version", format_file::VERSION.into()),
        ("cluster", Cell::text(format.cluster)),
        ("directory", Cell::text(format.directory)),
        ("incarnation", Cell::text(format.incarnation)),
        ("stopped", format.stopped.map_or(Cell::Absent, Cell::text)),
        ("stopped_cleanly", Cell::Flag(format.was_stopped_cleanly())),
    ]
}

/// `lock`: who used the directory last, and whether it still does.
pub(super) fn lock(
    report: &mut Report<'_>,
    source: &Source,
    around: Option<&Surroundings>,
) -> io::Result<()> {
    match source.whole(TEXT_BYTES_MAX) {
        Ok(bytes) => {
            let held = around.map_or(Cell::Absent, |around| Cell::Flag(around.is_in_use()));
            report.facts("lock", vec![("text", Cell::Bytes(bytes)), ("held", held)])
        }
        Err(error) => report.unreadable(source.path(), &error.to_string()),
    }
}

/// `root`: which manifests count.
pub(super) fn root(report: &mut Report<'_>, source: &Source) -> io::Result<()> {
    let bytes = match source.whole(MANIFEST_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) => return report.unreadable(source.path(), &error.to_string()),
    };
    match Root::decode(&bytes) {
        Ok(root) => report.facts(
            "root",
            vec![
                ("version", root::VERSION.into()),
                ("epoch", root.epoch.into()),
                ("shards", count(root.manifests.len())),
                ("manifests", Cell::List(root.manifests)),
            ],
        ),
        Err(error) => report.damage(None, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use corelane_shards::directory::Incarnation;

    use super::super::testing::{Folder, dumped};
    use super::*;

    #[test]
    fn the_golden_root_is_told_and_its_damage_is_found() {
        let golden = include_bytes!("../../../shards/src/format/testdata/root.v1");
        let folder = Folder::new("root");
        let whole = dumped(&folder.write("root", golden), &["--json"]);
        let root = &whole.objects("root")[0];
        assert_eq!((whole.code, &root["epoch"]), (0, &7.into()));
        assert_eq!(root["manifests"], serde_json::json!(["0000000007-0", "0000000007-1"]));
        for bit in 0..golden.len() * 8 {
            let mut flipped = golden.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let dumped = dumped(&folder.write("root", &flipped), &["--json"]);
            assert_eq!((dumped.code, dumped.objects("damage").len()), (1, 1), "bit {bit}");
        }
    }

    #[test]
    fn a_format_file_is_told_and_its_damage_is_found() {
        let folder = Folder::new("format");
        let format = Format::new(Incarnation([3; 16]));
        let path = folder.write("format", format.encode().as_bytes());
        let whole = dumped(&path, &[]);
        assert!(whole.text.contains(&format.cluster.to_string()), "{}", whole.text);
        assert!(whole.text.contains("stopped cleanly  no"), "{}", whole.text);
        let damaged = format.encode().replace("stopped: none", "stopped: some");
        assert_eq!((whole.code, dumped(&folder.write("format", damaged.as_bytes()), &[]).code), (0, 1));
    }
}
