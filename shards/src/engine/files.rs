//! The open segment files of a shard: opened on first use, a bounded number kept; and what a step on files does while the
//! process has no descriptor for it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::core::Effect;
use crate::core::effect::SegmentFile;
use crate::core::recovery::DiskError;
use crate::limits::RETRY_AFTER;
use crate::types::PartitionId;

/// How long a step waits for a descriptor before it fails.
const DESCRIPTORS_WAIT_MAX: Duration = Duration::from_secs(10);

/// Does a step on files, and does it anew while the process has no descriptor for it. Runs on a pool thread.
///
/// The kernel gives a descriptor to every connection that it accepts, before we can close those that are too many. Only
/// opening a file fails for want of one, so no write or flush that failed is ever tried again here.
pub(super) fn until_descriptors<T>(mut step: impl FnMut() -> Result<T, DiskError>) -> Result<T, DiskError> {
    let give_up = Instant::now() + DESCRIPTORS_WAIT_MAX;
    loop {
        match step() {
            Err(error) if lacks_descriptors(&error) && Instant::now() < give_up => thread::sleep(RETRY_AFTER),
            result => return result,
        }
    }
}

fn lacks_descriptors(error: &DiskError) -> bool {
    let DiskError::Io { source, .. } = error else { return false };
    matches!(Errno::from_io_error(source), Some(Errno::MFILE | Errno::NFILE))
}

/// A file, or who waits for it.
enum State {
    Opening(Vec<Effect>),
    Open { file: Rc<OwnedFd>, used: u64 },
}

/// The files by segment.
pub(super) struct Files {
    /// So many are kept open.
    open_max: usize,
    by_segment: BTreeMap<SegmentFile, State>,
    uses: u64,
}

/// What to do with an operation on a file.
pub(super) enum Use {
    /// Do it.
    Now(Rc<OwnedFd>, Effect),
    /// It waits for a file that is being opened.
    Later,
    /// It waits, and the file is to be opened.
    Open,
}

impl Files {
    pub(super) fn new(open_max: usize) -> Files {
        Files { open_max, by_segment: BTreeMap::new(), uses: 0 }
    }

    /// The open file for an operation; the operation waits here if there is none.
    pub(super) fn use_for(&mut self, segment: SegmentFile, operation: Effect) -> Use {
        self.uses += 1;
        match self.by_segment.get_mut(&segment) {
            Some(State::Open { file, used }) => {
                *used = self.uses;
                Use::Now(Rc::clone(file), operation)
            }
            Some(State::Opening(waiting)) => {
                waiting.push(operation);
                Use::Later
            }
            None => {
                self.by_segment.insert(segment, State::Opening(vec![operation]));
                Use::Open
            }
        }
    }

    /// The file is open. Gives back what waited for it.
    pub(super) fn opened(&mut self, segment: SegmentFile, file: OwnedFd) -> Vec<Effect> {
        self.uses += 1;
        let open = State::Open { file: Rc::new(file), used: self.uses };
        let before = self.by_segment.insert(segment, open);
        self.close_unused();
        match before {
            Some(State::Opening(waiting)) => waiting,
            _ => Vec::new(),
        }
    }

    /// The file could not be opened. Gives back what waited for it.
    pub(super) fn not_opened(&mut self, segment: SegmentFile) -> Vec<Effect> {
        match self.by_segment.remove(&segment) {
            Some(State::Opening(waiting)) => waiting,
            _ => Vec::new(),
        }
    }

    /// Closes a log's files; an operation in flight keeps its own until it ends.
    pub(super) fn close(&mut self, partition: PartitionId) {
        self.by_segment
            .retain(|file, state| file.partition != partition || matches!(state, State::Opening(_)));
    }

    /// Closes the half of the files that was not used for longest, when there are too many.
    fn close_unused(&mut self) {
        if self.by_segment.len() <= self.open_max {
            return;
        }
        let used_at = |state: &State| match state {
            State::Open { used, .. } => Some(*used),
            State::Opening(_) => None,
        };
        let mut uses: Vec<u64> = self.by_segment.values().filter_map(used_at).collect();
        uses.sort_unstable();
        let keep_from = uses.get(uses.len() / 2).copied().unwrap_or(0);
        self.by_segment.retain(|_, state| used_at(state).is_none_or(|used| used >= keep_from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(error: Errno) -> DiskError {
        DiskError::Io { what: "opening".to_owned(), source: error.into() }
    }

    #[test]
    fn only_a_want_of_descriptors_is_waited_for() {
        let mut wants = vec![Errno::NFILE, Errno::MFILE];
        let opened = until_descriptors(|| wants.pop().map_or(Ok(7), |error| Err(failing(error))));
        assert_eq!((opened.ok(), wants.len()), (Some(7), 0));
        let mut steps = 0;
        let refused: Result<(), DiskError> = until_descriptors(|| {
            steps += 1;
            Err(failing(Errno::IO))
        });
        assert!(refused.is_err() && steps == 1, "a step that failed otherwise was tried {steps} times");
    }
}
