//! Every path of a data directory, in one place.
//!
//! ```text
//! format  lock  root  metadata/  journal/<shard>  manifest/<name>
//! topics/<topic id>/<partition>/<first offset, 20 digits>.log|.index|.time
//! ```

use std::path::{Path, PathBuf};

use crate::core::effect::SegmentFile;
use crate::types::{Offset, PartitionId, ShardIndex};

/// Digits of the offset that names a segment: enough for every offset, so that names sort as offsets do.
const OFFSET_DIGITS: usize = 20;

/// Where things lie in one data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    base: PathBuf,
}

/// The files of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentPart {
    /// Its record batches, exactly as clients get them.
    Log,
    /// Its sparse index by offset.
    Index,
    /// Its sparse index by time.
    Time,
}

impl SegmentPart {
    const ALL: [SegmentPart; 3] = [SegmentPart::Log, SegmentPart::Index, SegmentPart::Time];

    /// The ending of its file's name, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            SegmentPart::Log => "log",
            SegmentPart::Index => "index",
            SegmentPart::Time => "time",
        }
    }
}

impl Layout {
    /// The layout of the data directory at `base`.
    pub fn new(base: impl Into<PathBuf>) -> Layout {
        Layout { base: base.into() }
    }

    /// The data directory itself.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Whose directory it is.
    pub fn format(&self) -> PathBuf {
        self.base.join("format")
    }

    /// What a process locks while it uses the directory. Never replaced: a lock belongs to this one inode.
    pub fn lock(&self) -> PathBuf {
        self.base.join("lock")
    }

    /// Which manifests count.
    pub fn root(&self) -> PathBuf {
        self.base.join("root")
    }

    /// The metadata store's own folder.
    pub fn metadata(&self) -> PathBuf {
        self.base.join("metadata")
    }

    /// The folder of all journals.
    pub fn journals(&self) -> PathBuf {
        self.base.join("journal")
    }

    /// A shard's journal.
    pub fn journal(&self, shard: ShardIndex) -> PathBuf {
        self.journals().join(shard.to_string())
    }

    /// The folder of all manifests.
    pub fn manifests(&self) -> PathBuf {
        self.base.join("manifest")
    }

    /// The manifest of this name, or `None` if the name would lead out of the folder.
    pub fn manifest(&self, name: &str) -> Option<PathBuf> {
        let is_plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        is_plain.then(|| self.manifests().join(name))
    }

    /// The folder of all topics.
    pub fn topics(&self) -> PathBuf {
        self.base.join("topics")
    }

    /// The folder of a log's topic.
    pub fn topic(&self, id: PartitionId) -> PathBuf {
        self.topics().join(id.topic.to_string())
    }

    /// A log's folder.
    pub fn partition(&self, id: PartitionId) -> PathBuf {
        self.topic(id).join(id.index.to_string())
    }

    /// One file of a segment.
    pub fn segment(&self, file: SegmentFile, part: SegmentPart) -> PathBuf {
        let name = format!("{:0OFFSET_DIGITS$}.{}", file.base.get(), part.extension());
        self.partition(file.partition).join(name)
    }
}

/// The offset in the name of a segment's file; `None` for any other name.
pub fn segment_base(name: &str) -> Option<Offset> {
    let (digits, extension) = name.split_once('.')?;
    let is_ours = SegmentPart::ALL.iter().any(|part| part.extension() == extension);
    let is_number = digits.len() == OFFSET_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    (is_ours && is_number).then(|| digits.parse().ok().map(Offset))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{PartitionIndex, TopicId};

    #[test]
    fn segments_lie_under_their_topics_id() {
        let partition = PartitionId { topic: TopicId([0xab; 16]), index: PartitionIndex(7) };
        let path =
            Layout::new("/data").segment(SegmentFile { partition, base: Offset(1_234) }, SegmentPart::Index);
        let expected = "/data/topics/abababab-abab-abab-abab-abababababab/7/00000000000000001234.index";
        assert_eq!(path, Path::new(expected));
    }

    #[test]
    fn a_segments_name_gives_its_offset_back() {
        let largest = format!("{:020}.log", i64::MAX);
        assert_eq!(segment_base(&largest), Some(Offset(i64::MAX)));
        assert_eq!(segment_base("00000000000000000000.time"), Some(Offset(0)));
        for other in
            ["0.log", "00000000000000000000.swap", "0000000000000000000x.log", "99999999999999999999.log"]
        {
            assert_eq!(segment_base(other), None, "{other}");
        }
    }

    #[test]
    fn a_manifests_name_cannot_lead_out_of_its_folder() {
        let layout = Layout::new("/data");
        assert_eq!(layout.manifest("0000000001-0"), Some(PathBuf::from("/data/manifest/0000000001-0")));
        for name in ["", ".", "..", "../root", "a/b", "a.new"] {
            assert_eq!(layout.manifest(name), None, "{name}");
        }
    }
}
