//! Which shard owns which log, as one shard knows it, and how far a log that moves has come.
//!
//! ```text
//! move 5: A to B                A owns until 5        B owns since 5
//! A learns of it                releasing ══════════► handed over ══► has arrived
//! B learns of it                                      expected ═════► has arrived
//! ```
//!
//! Every shard learns of all moves in the same order, each at a time of its own. A log itself is in one place at a time:
//! it goes from owner to owner in the order of the moves, whatever else each of them knows by then, so an owner that was
//! named and replaced before the log reached it passes it on.
//!
//! The module sends nothing and knows no calls.

use std::collections::{BTreeMap, VecDeque};

use super::message::OwnershipEpoch;
use crate::types::{PartitionId, ShardIndex};

/// Where a log is that has never moved, among so many shards.
pub type Placement = fn(PartitionId, usize) -> ShardIndex;

/// A log gets another owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The state of ownership from then on, greater than before any earlier move.
    pub epoch: OwnershipEpoch,
    /// Which log.
    pub partition: PartitionId,
    /// Who owns it from then on.
    pub to: ShardIndex,
}

/// Where a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The log is here.
    Here,
    /// It will be here, or this shard does not know yet whether it will.
    Awaited,
    /// Another shard owns it.
    Elsewhere(ShardIndex),
    /// It is or will be here, but the caller means an earlier time of its being here. Calls before this one may have been
    /// sent back since, and have to come first.
    Outdated,
}

/// The map of one shard.
pub(super) struct Ownership {
    here: ShardIndex,
    shards: usize,
    placement: Placement,
    epoch: OwnershipEpoch,
    /// Owners that differ from the placement.
    moved: BTreeMap<PartitionId, ShardIndex>,
    /// This shard's turns at logs that move, oldest first. A log that stays where it is has none.
    tenures: BTreeMap<PartitionId, VecDeque<Tenure>>,
    /// Logs that were handed over before this shard learned why.
    early: BTreeMap<PartitionId, OwnershipEpoch>,
}

/// One time of owning a log.
struct Tenure {
    since: OwnershipEpoch,
    has_arrived: bool,
    /// When it ends, and to whom the log goes.
    until: Option<(OwnershipEpoch, ShardIndex)>,
}

/// What a change asks of the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The log is here now: take charge of it.
    pub(super) arrives: bool,
    /// The log is here, and goes: let go of it.
    pub(super) leaves: bool,
}

impl Ownership {
    /// The map of shard `here` before any move.
    pub(super) fn new(here: ShardIndex, shards: usize, placement: Placement) -> Ownership {
        Ownership {
            here,
            shards,
            placement,
            epoch: OwnershipEpoch::default(),
            moved: BTreeMap::new(),
            tenures: BTreeMap::new(),
            early: BTreeMap::new(),
        }
    }

    /// The newest move that this shard knows of.
    pub(super) fn epoch(&self) -> OwnershipEpoch {
        self.epoch
    }

    /// Who owns a log, as far as this shard knows.
    pub(super) fn owner(&self, partition: PartitionId) -> ShardIndex {
        let moved = if self.moved.is_empty() { None } else { self.moved.get(&partition) };
        moved.copied().unwrap_or_else(|| (self.placement)(partition, self.shards))
    }

    /// Where a call goes that was routed by `epoch`.
    pub(super) fn place(&self, partition: PartitionId, epoch: OwnershipEpoch) -> Place {
        if epoch > self.epoch {
            return Place::Awaited;
        }
        let owner = self.owner(partition);
        if owner != self.here {
            return Place::Elsewhere(owner);
        }
        match self.tenures.get(&partition).and_then(VecDeque::back) {
            Some(tenure) if epoch < tenure.since => Place::Outdated,
            Some(tenure) if !tenure.has_arrived => Place::Awaited,
            _ => Place::Here,
        }
    }

    /// Learns of a move.
    ///
    /// # Panics
    /// If it comes out of order.
    pub(super) fn learn(&mut self, change: Move) -> Change {
        let Move { epoch, partition, to } = change;
        assert!(epoch > self.epoch, "moves are learned in order, each once");
        assert!(usize::from(to.get()) < self.shards, "an owner is a shard of this process");
        let from = self.owner(partition);
        self.epoch = epoch;
        self.moved.insert(partition, to);
        if from == self.here && to != from {
            return Change { arrives: false, leaves: self.end(partition, epoch, to) };
        }
        if to == self.here && to != from {
            return Change { arrives: self.begin(partition, epoch), leaves: false };
        }
        Change { arrives: false, leaves: false }
    }

    fn end(&mut self, partition: PartitionId, epoch: OwnershipEpoch, to: ShardIndex) -> bool {
        let since = OwnershipEpoch::default();
        let tenures = self.tenures.entry(partition).or_default();
        if tenures.is_empty() {
            tenures.push_back(Tenure { since, has_arrived: true, until: None });
        }
        let tenure = tenures.back_mut().expect("there is one");
        assert!(tenure.until.is_none(), "an owner is replaced once");
        tenure.until = Some((epoch, to));
        tenure.has_arrived
    }

    fn begin(&mut self, partition: PartitionId, epoch: OwnershipEpoch) -> bool {
        let has_arrived = self.early.get(&partition) == Some(&epoch);
        if has_arrived {
            self.early.remove(&partition);
        }
        let tenures = self.tenures.entry(partition).or_default();
        tenures.push_back(Tenure { since: epoch, has_arrived, until: None });
        has_arrived
    }

    /// The log was handed to this shard, by the move of `epoch`.
    pub(super) fn handed(&mut self, partition: PartitionId, epoch: OwnershipEpoch) -> Change {
        let first = self.tenures.get_mut(&partition).and_then(VecDeque::front_mut);
        let Some(tenure) = first.filter(|tenure| tenure.since == epoch) else {
            assert!(epoch > self.epoch, "a log is handed over by a move that names its new owner");
            let before = self.early.insert(partition, epoch);
            assert!(before.is_none(), "a log is in one place");
            return Change { arrives: false, leaves: false };
        };
        assert!(!tenure.has_arrived, "a log is handed over once");
        tenure.has_arrived = true;
        Change { arrives: true, leaves: tenure.until.is_some() }
    }

    /// This shard has let go of the log. By which move, and to whom it goes.
    pub(super) fn released(&mut self, partition: PartitionId) -> (OwnershipEpoch, ShardIndex) {
        let tenures = self.tenures.get_mut(&partition).expect("only a log that moves is released");
        let ended = tenures.pop_front().expect("a turn at it ends");
        if tenures.is_empty() {
            self.tenures.remove(&partition);
        }
        assert!(ended.has_arrived, "what is released was here");
        ended.until.expect("a log is released to somebody")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{PartitionIndex, TopicId};

    const LOG: PartitionId = PartitionId { topic: TopicId([1; 16]), index: PartitionIndex(0) };
    const STAYS: Change = Change { arrives: false, leaves: false };
    const ARRIVES: Change = Change { arrives: true, leaves: false };

    fn map(here: u16) -> Ownership {
        Ownership::new(ShardIndex(here), 3, |_, _| ShardIndex(0))
    }

    fn to(epoch: u64, to: u16) -> Move {
        Move { epoch: OwnershipEpoch(epoch), partition: LOG, to: ShardIndex(to) }
    }

    #[test]
    fn a_new_owner_has_the_log_when_the_old_one_has_let_go_of_it() {
        let (mut old, mut new) = (map(0), map(1));
        assert_eq!(new.learn(to(5, 1)), STAYS);
        assert_eq!(new.place(LOG, OwnershipEpoch(5)), Place::Awaited);
        assert_eq!(old.place(LOG, OwnershipEpoch(5)), Place::Awaited, "the caller knows more");
        assert_eq!(old.place(LOG, OwnershipEpoch(4)), Place::Awaited);
        assert_eq!(old.place(LOG, OwnershipEpoch(0)), Place::Here);
        assert_eq!(old.learn(to(5, 1)), Change { arrives: false, leaves: true });
        assert_eq!(old.place(LOG, OwnershipEpoch(0)), Place::Elsewhere(ShardIndex(1)));
        assert_eq!(old.released(LOG), (OwnershipEpoch(5), ShardIndex(1)));
        assert_eq!(new.handed(LOG, OwnershipEpoch(5)), ARRIVES);
        assert_eq!(new.place(LOG, OwnershipEpoch(5)), Place::Here);
    }

    #[test]
    fn a_call_that_means_an_earlier_stay_is_told_so() {
        let mut map = map(0);
        assert!(map.learn(to(1, 1)).leaves);
        map.released(LOG);
        assert_eq!(map.learn(to(2, 0)), STAYS);
        assert_eq!(map.place(LOG, OwnershipEpoch(0)), Place::Outdated, "those before it were sent back");
        assert_eq!(map.handed(LOG, OwnershipEpoch(2)), ARRIVES);
        assert_eq!(map.place(LOG, OwnershipEpoch(1)), Place::Outdated);
        assert_eq!(map.place(LOG, OwnershipEpoch(2)), Place::Here);
    }

    #[test]
    fn a_log_that_comes_before_its_move_waits_for_it() {
        let mut new = map(1);
        assert_eq!(new.handed(LOG, OwnershipEpoch(2)), STAYS);
        assert_eq!(new.learn(to(1, 2)), STAYS);
        assert_eq!(new.learn(to(2, 1)), ARRIVES);
        assert_eq!(new.place(LOG, OwnershipEpoch(2)), Place::Here);
    }

    #[test]
    fn an_owner_that_was_replaced_meanwhile_passes_the_log_on_and_may_get_it_again() {
        let mut middle = map(1);
        for (epoch, owner) in [(1, 1), (2, 2), (3, 1)] {
            assert_eq!(middle.learn(to(epoch, owner)), STAYS);
        }
        assert_eq!(middle.handed(LOG, OwnershipEpoch(1)), Change { arrives: true, leaves: true });
        assert_eq!(middle.place(LOG, OwnershipEpoch(3)), Place::Awaited, "it is on its way out and back");
        assert_eq!(middle.released(LOG), (OwnershipEpoch(2), ShardIndex(2)));
        assert_eq!(middle.handed(LOG, OwnershipEpoch(3)), ARRIVES);
        assert_eq!(middle.place(LOG, OwnershipEpoch(3)), Place::Here);
    }

    #[test]
    #[should_panic(expected = "moves are learned in order")]
    fn moves_are_learned_in_order() {
        let mut map = map(0);
        map.learn(to(2, 1));
        map.learn(to(2, 0));
    }
}
