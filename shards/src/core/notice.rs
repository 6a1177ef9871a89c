//! What an operator should hear of, as the core meets it. Whoever drives the core decides how often it is told.

use super::effect::{FetchError, OperationError, SegmentFile};
use super::shard::{Purpose, Shard};
use crate::limits::NOTICES_MAX;
use crate::types::{Offset, PartitionId};

/// Something that went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A fetch met bytes that are not what was written, or that could not be read.
    Unreadable {
        /// Where.
        file: SegmentFile,
        /// The byte from which on the batch was looked for.
        position: u64,
        /// The first offset that was expected there.
        offset: Offset,
        /// What was wrong: [`FetchError::Damaged`] or [`FetchError::Failed`].
        error: FetchError,
    },
    /// A write or flush failed and its log takes no more appends.
    LogStopped {
        /// The log.
        partition: PartitionId,
        /// What was being done.
        doing: &'static str,
        /// The reason.
        error: OperationError,
    },
    /// Any other operation failed.
    Failed {
        /// What was being done.
        doing: &'static str,
        /// The log whose files it worked on.
        partition: Option<PartitionId>,
        /// The reason.
        error: OperationError,
    },
}

impl Shard {
    /// What happened since this was asked last, as far as there was room; the counts have all of it.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// How many logs take no more appends.
    pub fn logs_stopped(&self) -> usize {
        if self.stopped.is_some() { self.partitions.len() } else { self.logs_stopped }
    }

    pub(super) fn note(&mut self, notice: Notice) {
        if self.notices.len() < NOTICES_MAX {
            self.notices.push(notice);
        }
    }

    /// A fetch cannot be served by what the disk gave.
    pub(super) fn note_unreadable(
        &mut self,
        file: SegmentFile,
        position: u64,
        offset: Offset,
        error: FetchError,
    ) {
        match error {
            FetchError::Damaged => self.counts.reads_damaged += 1,
            FetchError::Failed(_) => self.counts.reads_failed += 1,
            FetchError::UnknownPartition | FetchError::OffsetOutOfRange | FetchError::Busy => return,
        }
        self.note(Notice::Unreadable { file, position, offset, error });
    }

    /// An operation failed. `stopped_before` is whether its log had stopped already.
    pub(super) fn note_failed(&mut self, purpose: Purpose, error: OperationError, stopped_before: bool) {
        let (doing, partition) = (purpose.doing(), purpose.log());
        self.counts.operations_failed += 1;
        let stops = partition.filter(|id| !stopped_before && self.is_log_stopped(*id));
        match stops {
            Some(partition) => {
                self.logs_stopped += 1;
                self.note(Notice::LogStopped { partition, doing, error });
            }
            None => self.note(Notice::Failed { doing, partition, error }),
        }
    }

    pub(super) fn is_log_stopped(&self, id: PartitionId) -> bool {
        self.partitions.get(&id).is_some_and(|p| p.stopped_from.is_some())
    }
}

impl Purpose {
    fn doing(self) -> &'static str {
        match self {
            Purpose::JournalWrite => "writing the journal",
            Purpose::JournalFlush => "flushing the journal",
            Purpose::JournalGrowth(_) => "growing the journal",
            Purpose::Creation(_) => "creating a segment",
            Purpose::DirectoryFlush(_) => "flushing a log's directory",
            Purpose::LazyWrite(_) | Purpose::LargeWrite(..) => "writing a segment",
            Purpose::SegmentFlush(..) => "flushing a segment",
            Purpose::Trim(_) => "trimming a segment",
            Purpose::Manifest => "replacing the manifest",
            Purpose::Read(_) => "reading a segment",
            Purpose::IndexRead(_) => "reading a segment's index",
            Purpose::IndexWrite(_) => "writing a segment's index",
        }
    }
}
