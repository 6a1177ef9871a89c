//! What recovery asks of a data directory.

use crate::core::effect::SegmentFile;
use crate::format::index::{PageError, SparseIndex};
use crate::types::{Generation, Offset, PartitionId, ShardIndex};

/// A blocking view of a data directory. Each call is one step at which a crash may fall.
///
/// The contract, which one suite of tests holds every implementation to: what a write stored is read back by this process;
/// it survives a crash once a later flush of the same file returned; a file that was created survives once its directory
/// was flushed; a replaced file is after a crash the old one or the new one, whole.
pub trait Disk {
    /// The content of `root`, or `None` in a new directory.
    fn read_root(&mut self) -> Result<Option<Vec<u8>>, DiskError>;
    /// Replaces `root`, durably.
    fn replace_root(&mut self, bytes: &[u8]) -> Result<(), DiskError>;
    /// The content of a manifest.
    fn read_manifest(&mut self, name: &str) -> Result<Vec<u8>, DiskError>;
    /// Replaces or creates a manifest, durably.
    fn replace_manifest(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError>;
    /// Removes manifests that are not among `names`. Need not be durable.
    fn retain_manifests(&mut self, names: &[String]) -> Result<(), DiskError>;

    /// The size of a shard's journal; `None` if there is none.
    fn journal_bytes(&mut self, shard: ShardIndex) -> Result<Option<u64>, DiskError>;
    /// Creates a shard's journal of this size, all of it written and flushed, durably.
    fn create_journal(&mut self, shard: ShardIndex, bytes: u64) -> Result<(), DiskError>;
    /// Makes a shard's journal at least `to` bytes long: what lies between `from` and `to`, which nothing vouches for, is
    /// written and flushed; what lies before stays.
    fn extend_journal(&mut self, shard: ShardIndex, from: u64, to: u64) -> Result<(), DiskError>;
    /// Fills `buffer`, which is whole blocks, from a block-aligned position of a shard's journal.
    fn read_journal(&mut self, shard: ShardIndex, position: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// The content of a shard's staging memory, if it is of this boot and this directory.
    fn staged(&mut self, shard: ShardIndex) -> Result<Option<Vec<u8>>, DiskError>;

    /// The size of a segment file; `None` if there is none.
    fn segment_bytes(&mut self, file: SegmentFile) -> Result<Option<u64>, DiskError>;
    /// The bytes of a segment file from a block-aligned position on, as many as there are up to `length`; `None` if there
    /// is no such file.
    fn read_segment(
        &mut self,
        file: SegmentFile,
        position: u64,
        length: usize,
    ) -> Result<Option<Vec<u8>>, DiskError>;
    /// Writes whole blocks at a block-aligned position of a segment file, creating file and directories as needed.
    fn write_segment(&mut self, file: SegmentFile, position: u64, bytes: &[u8]) -> Result<(), DiskError>;
    /// Replaces or creates a segment file with whole blocks, durably, and with the directories that lead to it.
    fn replace_segment(&mut self, file: SegmentFile, bytes: &[u8]) -> Result<(), DiskError>;
    /// Cuts a segment file to `length`, durably, if it is longer.
    fn trim_segment(&mut self, file: SegmentFile, length: u64) -> Result<(), DiskError>;
    /// Flushes a segment file and the directories that lead to it.
    fn flush_segment(&mut self, file: SegmentFile) -> Result<(), DiskError>;
    /// Removes segment files of a log whose first offset is none of `bases`.
    fn retain_segments(&mut self, partition: PartitionId, bases: &[i64]) -> Result<(), DiskError>;

    /// A segment's index files as they are, which need not be as they were written; `None` if there are none. One that is
    /// missing beside the other is empty.
    fn read_index(&mut self, file: SegmentFile) -> Result<Option<IndexFiles>, DiskError>;
    /// Replaces the index files of a segment whose file exists. Need not be durable.
    fn write_index(&mut self, file: SegmentFile, files: &IndexFiles) -> Result<(), DiskError>;

    /// A new secret.
    fn new_generation(&mut self) -> Generation;
}

/// The content of a segment's index files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFiles {
    /// From offsets to positions.
    pub offsets: Vec<u8>,
    /// From times to positions.
    pub times: Vec<u8>,
}

impl IndexFiles {
    /// The files of an index.
    pub fn of(index: &SparseIndex) -> IndexFiles {
        IndexFiles { offsets: index.encode_offsets(), times: index.encode_times() }
    }

    /// The index in the files, and what is wrong with them.
    pub fn index(&self, base: Offset) -> (SparseIndex, Vec<PageError>) {
        SparseIndex::decode(base, &self.offsets, &self.times)
    }
}

/// A step on the disk failed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The operating system said so.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, to what.
        what: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The simulated process died here.
    #[error("the simulated process died")]
    Died,
}
