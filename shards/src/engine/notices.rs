//! What a shard's engine tells its operator, in the log: one line for each event, throttled by cause. Runs on the shard's
//! thread. The counts of all of it are among the shard's counters.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::clock::Moment;
use crate::core::effect::{SegmentFile, StopReason};
use crate::core::recovery::DiskError;
use crate::core::{FetchError, Notice};
use crate::limits::UNREADABLE_FILES_TOLD_MAX;
use crate::throttle::Throttle;
use crate::types::ShardIndex;

/// Where an operator reads on.
const SEGMENT_DAMAGED: &str = "docs/errors/segment-damaged.md";
const LOG_READ_ONLY: &str = "docs/errors/log-read-only.md";
const SHARD_READ_ONLY: &str = "docs/errors/shard-read-only.md";

/// The lines of one shard's engine.
pub(super) struct Notices {
    shard: ShardIndex,
    unreadable: Throttle,
    /// Segments that a line has named. The first meeting with each is told whatever was told before.
    named: RefCell<BTreeSet<SegmentFile>>,
    stopped: Throttle,
    failed: Throttle,
    files: Throttle,
}

impl Notices {
    pub(super) fn new(shard: ShardIndex) -> Notices {
        let (unreadable, named) = (Throttle::default(), RefCell::default());
        let (stopped, failed, files) = (Throttle::default(), Throttle::default(), Throttle::default());
        Notices { shard, unreadable, named, stopped, failed, files }
    }

    /// Tells of what the core noted.
    pub(super) fn tell(&self, now: Moment, notice: &Notice) {
        match notice {
            Notice::Unreadable { file, position, offset, error } => {
                self.unreadable(now, *file, *position, offset.get(), *error);
            }
            Notice::LogStopped { partition, doing, error } => {
                let Some(untold) = self.stopped.admit(now) else { return };
                let see = LOG_READ_ONLY;
                tracing::error!(shard = %self.shard, %partition, %error, untold, see,
                    "{doing} failed: the log takes no more appends until a restart; reads go on");
            }
            Notice::Failed { doing, partition, error } => {
                let Some(untold) = self.failed.admit(now) else { return };
                let partition = partition.map(tracing::field::display);
                tracing::error!(shard = %self.shard, partition, %error, untold, "{doing} failed");
            }
        }
    }

    fn unreadable(&self, now: Moment, file: SegmentFile, position: u64, offset: i64, error: FetchError) {
        let is_new = {
            let mut named = self.named.borrow_mut();
            named.len() < UNREADABLE_FILES_TOLD_MAX && named.insert(file)
        };
        let admitted = self.unreadable.admit(now);
        let Some(untold) = admitted.or_else(|| is_new.then_some(0)) else { return };
        let (partition, segment, see) = (file.partition, file.base.get(), SEGMENT_DAMAGED);
        tracing::warn!(shard = %self.shard, %partition, segment, position, offset, %error, untold, see,
            "a consumer was refused what a segment holds");
    }

    /// The shard takes no more appends. Happens once.
    pub(super) fn shard_stopped(&self, reason: StopReason) {
        let see = SHARD_READ_ONLY;
        tracing::error!(shard = %self.shard, %reason, see, "the shard takes no more appends; reads go on");
    }

    /// A step on a file failed; what it means for a log is told apart.
    pub(super) fn file_failed(&self, now: Moment, error: &DiskError) {
        let Some(untold) = self.files.admit(now) else { return };
        tracing::error!(shard = %self.shard, %error, untold, "a file operation failed");
    }
}
