//! Why a directory cannot be opened.

use super::disk::DiskError;
use crate::core::effect::SegmentFile;
use crate::format::{journal, manifest, root};
use crate::types::{JournalSequence, Offset, PartitionId, ShardIndex};

/// Opening failed. Nothing was changed that the next attempt needs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step on the disk failed; the next attempt may get further.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The root is not whole.
    #[error("the root of the data directory cannot be read: {0}")]
    Root(#[from] root::Error),
    /// There is no root, though logs were served from here. To begin anew would delete their segments.
    #[error(
        "the root of the data directory is missing, though the metadata name {0} logs that it must vouch for"
    )]
    RootMissing(usize),
    /// A manifest is not whole.
    #[error("the manifest {name} cannot be read: {source}")]
    Manifest {
        /// Its file name.
        name: String,
        /// The reason.
        source: manifest::Error,
    },
    /// The journal of a shard lacks a group that was durable, or holds nonsense.
    #[error("the journal of shard {shard} is damaged: {damage}")]
    Damaged {
        /// The shard.
        shard: ShardIndex,
        /// What was found.
        damage: Damage,
    },
    /// A journal that the root needs is not there.
    #[error("the journal of shard {0} is missing or shorter than its manifest says")]
    JournalMissing(ShardIndex),
    /// A segment file is missing, or shorter than what was flushed of it.
    #[error(
        "the segment {} of partition {} {}, though the manifest of shard {shard} vouches for {vouched} bytes of it",
        file.base, file.partition, length(*found)
    )]
    SegmentCut {
        /// The shard whose manifest names it.
        shard: ShardIndex,
        /// The segment.
        file: SegmentFile,
        /// How many bytes the manifest vouches for.
        vouched: u64,
        /// How many there are, if there is a file.
        found: Option<u64>,
    },
    /// The epochs are used up.
    #[error("the leader epochs are used up")]
    EpochsUsedUp,
}

fn length(found: Option<u64>) -> String {
    found.map_or_else(|| "is missing".to_owned(), |bytes| format!("has {bytes} bytes"))
}

/// Bytes that something durable vouches for are not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A later group, or the manifest, says that this group was durable.
    #[error("group {missing} is missing, though everything up to group {vouched} was durable")]
    GroupMissing {
        /// The first group that is not there.
        missing: JournalSequence,
        /// The last one vouched for.
        vouched: JournalSequence,
    },
    /// A group's checksum is right and its entries are not.
    #[error("group {0}: {1}")]
    Malformed(JournalSequence, journal::MalformedEntry),
    /// A group or a manifest whose checksum is right says what its log cannot hold.
    #[error("what is said of offset {offset} of partition {partition} contradicts the log: {what}")]
    Inconsistent {
        /// The log.
        partition: PartitionId,
        /// The offset spoken of.
        offset: Offset,
        /// The contradiction.
        what: &'static str,
    },
    /// A large batch that was settled does not match its digest.
    #[error("the batch at offset {offset} of partition {partition} does not match its digest")]
    BatchMismatch {
        /// The log.
        partition: PartitionId,
        /// The batch's first offset.
        offset: Offset,
    },
}
