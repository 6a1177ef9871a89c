//! The ordered stream of committed changes, bounded: a watcher that falls behind is told so and reads the
//! range again.
//!
//! Cancellation safety: dropping the future of [`Watch::next`] loses nothing.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::transaction::{Change, Committed, Revision};
use crate::cluster::limits::WATCH_QUEUE_COMMITS;

/// Why a watch yields nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchEnd {
    /// More commits waited than the queue holds. What was yielded so far is without gaps; what follows was
    /// not kept.
    #[error("the watcher fell behind: read the range again and watch from its revision")]
    Lagged,
    /// The store is gone.
    #[error("the metadata store has closed")]
    Closed,
}

/// One watcher's end of the stream.
#[derive(Debug)]
pub struct Watch {
    backlog: VecDeque<Committed>,
    queue: mpsc::Receiver<Committed>,
    lagged: Arc<AtomicBool>,
    last: Revision,
}

impl Watch {
    /// The next commit that touched the watched prefix. After an end, every call answers with the same end.
    pub async fn next(&mut self) -> Result<Committed, WatchEnd> {
        let committed = match self.backlog.pop_front() {
            Some(committed) => committed,
            None => self.queue.recv().await.ok_or_else(|| self.end())?,
        };
        assert!(committed.revision > self.last, "a watch yields commits in ascending order");
        self.last = committed.revision;
        Ok(committed)
    }

    fn end(&self) -> WatchEnd {
        if self.lagged.load(Ordering::Acquire) { WatchEnd::Lagged } else { WatchEnd::Closed }
    }
}

/// The store's end of one watch.
#[derive(Debug)]
pub(super) struct Watcher {
    prefix: Bytes,
    queue: mpsc::Sender<Committed>,
    lagged: Arc<AtomicBool>,
}

impl Watcher {
    /// A watcher of `prefix` that first hands out what `history` holds for it.
    pub(super) fn new<'a>(prefix: &[u8], history: impl Iterator<Item = &'a Committed>) -> (Watcher, Watch) {
        let (sender, receiver) = mpsc::channel(WATCH_QUEUE_COMMITS);
        let lagged = Arc::new(AtomicBool::new(false));
        let watcher =
            Watcher { prefix: Bytes::copy_from_slice(prefix), queue: sender, lagged: Arc::clone(&lagged) };
        let backlog = history.filter_map(|committed| watcher.select(committed)).collect();
        (watcher, Watch { backlog, queue: receiver, lagged, last: Revision(0) })
    }

    /// Hands the commit on; `false` when this watcher is to be forgotten, because it lagged or was dropped.
    pub(super) fn offer(&self, committed: &Committed) -> bool {
        let Some(selected) = self.select(committed) else { return !self.queue.is_closed() };
        match self.queue.try_send(selected) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(_)) => {
                // Set before the sender goes: the receiver sees the end of the queue only after this.
                self.lagged.store(true, Ordering::Release);
                false
            }
        }
    }

    /// Whether the other end still exists.
    pub(super) fn is_open(&self) -> bool {
        !self.queue.is_closed()
    }

    fn select(&self, committed: &Committed) -> Option<Committed> {
        let changes: Vec<Change> =
            committed.changes.iter().filter(|change| change.key.starts_with(&self.prefix)).cloned().collect();
        (!changes.is_empty()).then_some(Committed { revision: committed.revision, changes })
    }
}
