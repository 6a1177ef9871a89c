//! What the core asks for, and what it is told: the whole of its contact with disks, clients and time.

use crate::format::index::SparseIndex;
use crate::format::manifest::Manifest;
use crate::memory::{AlignedBuffer, Slice};
use crate::types::{Offset, PartitionId};

/// Milliseconds since 1970: the time of a log. The core has no clock; each call brings the time along.
pub type Millis = i64;

/// Names an input or output operation from its request to its completion. Never reused by a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operation(pub u64);

/// Names a caller's request, chosen by the caller, given back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

/// A segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentFile {
    /// The log it belongs to.
    pub partition: PartitionId,
    /// The offset that names it.
    pub base: Offset,
}

/// What an append waits for before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// acks=1 (and acks=0): survives the death of the process.
    Leader,
    /// acks=all: survives the loss of power.
    All,
}

/// Something the core wants done. Operations are answered by [`Completion`]s, in any order.
#[derive(Debug)]
pub enum Effect {
    /// Write a group to the journal.
    WriteJournal {
        /// Its name.
        operation: Operation,
        /// Where, in bytes from the journal's start: the start of a block.
        position: u64,
        /// Whole blocks; they stay as they are until the operation has completed.
        bytes: Slice,
        /// Whether completion means that they are flushed.
        durable: bool,
    },
    /// Flush all journal writes that have completed.
    FlushJournal {
        /// Its name.
        operation: Operation,
    },
    /// Make the journal longer: write the space between the two sizes, whatever lies there, and flush it.
    GrowJournal {
        /// Its name.
        operation: Operation,
        /// The size in bytes up to which the journal is in use.
        from: u64,
        /// The new size in bytes.
        to: u64,
    },
    /// Create a segment file, and its directories where they are missing.
    CreateSegment {
        /// Its name.
        operation: Operation,
        /// Which file.
        file: SegmentFile,
    },
    /// Flush the directories that lead to a segment file.
    FlushDirectory {
        /// Its name.
        operation: Operation,
        /// Which file.
        file: SegmentFile,
    },
    /// Write whole, aligned blocks to a segment file.
    WriteSegment {
        /// Its name.
        operation: Operation,
        /// Which file.
        file: SegmentFile,
        /// Where, in bytes from the file's start: the start of a block.
        position: u64,
        /// Whole blocks; they stay as they are until the operation has completed.
        bytes: Slice,
    },
    /// Flush all writes to a segment file that have completed.
    FlushSegment {
        /// Its name.
        operation: Operation,
        /// Which file.
        file: SegmentFile,
    },
    /// Cut a segment file that will not be appended to any more.
    TrimSegment {
        /// Its name.
        operation: Operation,
        /// Which file.
        file: SegmentFile,
        /// Its size from then on, in bytes.
        length: u64,
    },
    /// Read whole, aligned blocks of a segment file; the file may end earlier.
    ReadSegment {
        /// Its name.
        operation: Operation,
        /// Which file.
        file: SegmentFile,
        /// Where, in bytes from the file's start: the start of a block.
        position: u64,
        /// What is to be filled, and given back with the completion.
        buffer: AlignedBuffer,
    },
    /// Read the index files of a segment. What they lack or say wrongly is nobody's fault: the completion says what they
    /// gave, and does not fail.
    ReadIndex {
        /// Its name.
        operation: Operation,
        /// Which segment.
        file: SegmentFile,
    },
    /// Replace the index files of a segment. They need not be durable.
    WriteIndex {
        /// Its name.
        operation: Operation,
        /// Which segment.
        file: SegmentFile,
        /// What they say from then on, given back with the completion.
        index: Box<SparseIndex>,
    },
    /// Replace the shard's manifest atomically and durably.
    CommitManifest {
        /// Its name.
        operation: Operation,
        /// The new content.
        manifest: Box<Manifest>,
    },
    /// Remove a deleted log's files. Nobody waits for it.
    RemovePartition {
        /// Which log.
        partition: PartitionId,
    },
    /// An append is answered.
    Appended {
        /// Whose.
        tag: Tag,
        /// The answer.
        result: Result<Appended, AppendError>,
    },
    /// A fetch that had to read is answered.
    Fetched {
        /// Whose.
        tag: Tag,
        /// The answer.
        result: Result<Fetched, FetchError>,
    },
    /// A search for a time that had to read an index is answered.
    Sought {
        /// Whose.
        tag: Tag,
        /// From where on to look, if any record is that late.
        result: Result<Option<Offset>, FetchError>,
    },
    /// The high watermark passed what a watcher waited for, or its partition is gone.
    Advanced {
        /// Whose.
        tag: Tag,
    },
    /// A deletion of records is answered.
    RecordsDeleted {
        /// Whose.
        tag: Tag,
        /// The offset before which records are deleted.
        result: Result<Offset, AppendError>,
    },
    /// Appends that were [`AppendError::Busy`] may be tried again: something was freed since, or the shard stopped.
    Room,
    /// The shard takes no more appends; reads go on.
    Stopped {
        /// Why.
        reason: StopReason,
    },
}

/// How an operation ended.
#[derive(Debug)]
pub struct Completion {
    /// Which one.
    pub operation: Operation,
    /// Whether all of it was done. A short write counts as failed.
    pub result: Result<(), OperationError>,
    /// The buffer of a read, its length set to what the file had.
    pub buffer: Option<AlignedBuffer>,
    /// The index that files gave, or that was written to them.
    pub index: Option<Box<SparseIndex>>,
}

impl Completion {
    /// The end of an operation that gives nothing back.
    pub fn of(operation: Operation, result: Result<(), OperationError>) -> Completion {
        Completion { operation, result, buffer: None, index: None }
    }
}

/// An operation failed; it may have happened in part, or wholly, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// The disk or the kernel refused or failed it.
    #[error("the operating system answered {0}")]
    Os(i32),
    /// Fewer bytes were written than asked.
    #[error("the write came up short")]
    Short,
}

/// Why a shard takes no more appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// The journal could not be written or flushed.
    #[error("a journal write or flush failed ({0}); it is never tried again")]
    Journal(OperationError),
    /// A checkpoint could not be flushed or its manifest not be replaced.
    #[error("a checkpoint failed ({0}); it is never tried again")]
    Checkpoint(OperationError),
    /// The journal holds batches of a log whose segment cannot be written, and has no space left.
    #[error("the journal is full of batches whose segments cannot be written")]
    JournalFull,
}

/// The answer to an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the batch's first record.
    pub base_offset: Offset,
    /// The append time, where the topic stamps it; -1 otherwise.
    pub append_time: Millis,
    /// The first offset of the log.
    pub log_start: Offset,
}

/// Why an append is refused. Nothing was appended, but for what [`AppendError::Stopped`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The shard has no such partition.
    #[error("the partition is not on this shard")]
    UnknownPartition,
    /// Memory or the journal is full for the moment; [`Effect::Room`] follows. The only error to retry on its own.
    #[error("the shard has no room for the moment")]
    Busy,
    /// The bytes are not one valid batch.
    #[error("the batch is not valid: {0}")]
    Invalid(crate::format::batch::Error),
    /// The batch is larger than a segment of its log may become.
    #[error("the batch is larger than a segment may become")]
    LargerThanSegment,
    /// The producer's sequence leaves a gap.
    #[error("the producer's sequence is out of order")]
    OutOfOrderSequence,
    /// A newer incarnation of the producer has appended.
    #[error("the producer's epoch is old")]
    StaleProducerEpoch,
    /// The partition could not be written and takes no more appends until a restart. A batch that was in flight may or
    /// may not be there afterwards.
    #[error("the partition stopped after a failed write")]
    PartitionStopped,
    /// The shard stopped; the same holds for all its partitions.
    #[error("the shard stopped after a failed write")]
    Stopped,
    /// The partition was deleted while the append waited.
    #[error("the partition was deleted")]
    Deleted,
    /// The offset lies outside the log.
    #[error("the offset is out of range")]
    OffsetOutOfRange,
}

/// Record batches, whole, in order, the first one holding the offset asked for.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The batches' bytes.
    pub batches: Vec<Slice>,
    /// The offset behind the last durable record.
    pub high_watermark: Offset,
    /// The first offset of the log.
    pub log_start: Offset,
}

/// Why a fetch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The shard has no such partition.
    #[error("the partition is not on this shard")]
    UnknownPartition,
    /// The offset is before the log's start or behind its end.
    #[error("the offset is out of range")]
    OffsetOutOfRange,
    /// No memory for a read at the moment; tried again later it will do.
    #[error("the shard has no memory for a read")]
    Busy,
    /// What the disk gave back is not what was written there.
    #[error("the log's bytes on disk are damaged")]
    Damaged,
    /// The read failed.
    #[error("the read failed: {0}")]
    Failed(OperationError),
}
