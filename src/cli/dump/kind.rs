//! Which file is which: by its first bytes, and where these say nothing, by its name and its folder's.
//!
//! Bytes come first, since files are copied and renamed. A segment has no magic of its own and a damaged file has lost its
//! own, so that the name is asked after them, and a file that only its name knows is shown as what it should be.

use std::path::Path;

use clap::ValueEnum;
use corelane_shards::directory::format_file::Format;
use corelane_shards::directory::layout::segment_base;
use corelane_shards::format::batch::{self, BatchView};
use corelane_shards::format::envelope;
use corelane_shards::format::index;
use corelane_shards::format::journal::GroupHeader;

use crate::cluster::store;

/// The bytes that are looked at.
pub(super) const PROBE_BYTES: usize = 64;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Whose directory it is
    Format,
    /// Who uses the directory
    Lock,
    /// Which manifests count
    Root,
    /// What a shard had flushed
    Manifest,
    /// A shard's commit journal
    Journal,
    /// Record batches
    Segment,
    /// A segment's index by offset
    Index,
    /// A segment's index by time
    Time,
    /// Commits of the metadata store
    MetadataLog,
    /// All keys of the metadata store
    MetadataSnapshot,
}

impl Kind {
    /// What a file is that begins like this and lies there.
    pub(super) fn of(path: &Path, beginning: &[u8]) -> Option<Kind> {
        let by_bytes = Kind::of_bytes(beginning);
        by_bytes.or_else(|| Kind::of_name(path)).or_else(|| is_batch(beginning).then_some(Kind::Segment))
    }

    /// In words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Format => "format of a data directory",
            Kind::Lock => "lock of a data directory",
            Kind::Root => "root",
            Kind::Manifest => "manifest",
            Kind::Journal => "journal",
            Kind::Segment => "segment",
            Kind::Index => "offset index",
            Kind::Time => "time index",
            Kind::MetadataLog => "metadata log",
            Kind::MetadataSnapshot => "metadata snapshot",
        }
    }

    fn of_bytes(beginning: &[u8]) -> Option<Kind> {
        if Format::begins(beginning) {
            return Some(Kind::Format);
        }
        if GroupHeader::read(beginning).is_some() {
            return Some(Kind::Journal);
        }
        if beginning.starts_with(&envelope::Kind::Root.magic()) {
            return Some(Kind::Root);
        }
        if beginning.starts_with(&envelope::Kind::Manifest.magic()) {
            return Some(Kind::Manifest);
        }
        let index = index::File::of(beginning).map(|file| match file {
            index::File::Offsets => Kind::Index,
            index::File::Times => Kind::Time,
        });
        index.or_else(|| store::FileKind::of_bytes(beginning).map(Kind::of_store))
    }

    fn of_name(path: &Path) -> Option<Kind> {
        let name = path.file_name()?.to_str()?;
        let name = name.strip_suffix(".new").unwrap_or(name);
        let folder = path.parent().and_then(Path::file_name).and_then(|folder| folder.to_str());
        let named = match (name, folder) {
            ("format", _) => Some(Kind::Format),
            ("lock", _) => Some(Kind::Lock),
            ("root", _) => Some(Kind::Root),
            (_, Some("manifest")) => Some(Kind::Manifest),
            (_, Some("journal")) => Some(Kind::Journal),
            _ => None,
        };
        named
            .or_else(|| store::FileKind::of_name(name).map(Kind::of_store))
            .or_else(|| Kind::of_segment(name))
    }

    fn of_segment(name: &str) -> Option<Kind> {
        segment_base(name)?;
        match name.rsplit_once('.')?.1 {
            "log" => Some(Kind::Segment),
            "index" => Some(Kind::Index),
            "time" => Some(Kind::Time),
            _ => None,
        }
    }

    fn of_store(kind: store::FileKind) -> Kind {
        match kind {
            store::FileKind::Log => Kind::MetadataLog,
            store::FileKind::Snapshot => Kind::MetadataSnapshot,
        }
    }
}

/// Whether a batch begins here, as far as its header shows.
fn is_batch(beginning: &[u8]) -> bool {
    beginning.len() >= batch::HEADER_BYTES
        && match BatchView::parse(beginning) {
            Ok(_) => true,
            Err(error) => error.is_truncated(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_decide_before_names() {
        let root = include_bytes!("../../../shards/src/format/testdata/root.v1");
        let batch = include_bytes!("../../../shards/src/format/testdata/none.batch");
        assert_eq!(Kind::of(Path::new("manifest/0000000001-0"), root), Some(Kind::Root));
        assert_eq!(Kind::of(Path::new("copy"), batch), Some(Kind::Segment));
        assert_eq!(Kind::of(Path::new("copy"), b"Corelane data directory\nversion"), Some(Kind::Format));
    }

    #[test]
    fn a_file_that_lost_its_magic_is_known_by_its_name() {
        for (path, kind) in [
            ("d/format", Kind::Format),
            ("d/lock", Kind::Lock),
            ("d/root.new", Kind::Root),
            ("d/manifest/0000000001-0", Kind::Manifest),
            ("d/journal/3", Kind::Journal),
            ("d/topics/x/0/00000000000000000007.log", Kind::Segment),
            ("00000000000000000007.index", Kind::Index),
            ("00000000000000000007.time", Kind::Time),
            ("log-00000000000000000001.records", Kind::MetadataLog),
            ("snapshot-00000000000000000001", Kind::MetadataSnapshot),
        ] {
            assert_eq!(Kind::of(Path::new(path), &[0; 64]), Some(kind), "{path}");
        }
        assert_eq!(Kind::of(Path::new("d/7.log"), &[0; 64]), None);
        assert_eq!(Kind::of(Path::new("d/README"), b"hello"), None);
    }
}
