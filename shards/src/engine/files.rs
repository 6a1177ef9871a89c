//! The open segment files of a shard: opened on first use, a bounded number kept.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::core::Effect;
use crate::core::effect::SegmentFile;
use crate::limits::SEGMENT_FILES_OPEN_MAX;
use crate::types::PartitionId;

/// A file, or who waits for it.
enum State {
    Opening(Vec<Effect>),
    Open { file: Rc<OwnedFd>, used: u64 },
}

/// The files by segment.
#[derive(Default)]
pub(super) struct Files {
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
        if self.by_segment.len() <= SEGMENT_FILES_OPEN_MAX {
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
