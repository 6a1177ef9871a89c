//! The store's state in memory: what is committed, what of it is recent, and who watches.
//!
//! Invariant: `apply` is called only with what is durable, once per revision and in order; so neither a
//! reader nor a watcher ever sees a commit that a crash could take back.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::{
    error::Error,
    layout::{State, Stored},
    transaction::{Change, Committed, Entry, Expected, Operation, Range, Revision, Transaction},
    watch::{Watch, Watcher},
};
use crate::cluster::limits::{
    HISTORY_BYTES_MAX, HISTORY_COMMITS_MAX, KEY_BYTES_MAX, OPERATIONS_PER_TRANSACTION_MAX,
    RECORD_PAYLOAD_BYTES_MAX, STATE_BYTES_MAX, VALUE_BYTES_MAX, WATCHES_MAX,
};

/// What an entry takes in a snapshot beside its key and value; also what an operation takes at most in a
/// record.
const ENTRY_OVERHEAD_BYTES: usize = 16;

#[derive(Debug)]
pub(super) struct Memory {
    revision: Revision,
    state: State,
    state_bytes: usize,
    history: VecDeque<Committed>,
    history_bytes: usize,
    watchers: Vec<Watcher>,
}

impl Memory {
    pub(super) fn new(revision: Revision, state: State) -> Memory {
        let state_bytes = state.iter().map(|(key, stored)| entry_bytes(key, &stored.value)).sum();
        let (history, watchers) = (VecDeque::new(), Vec::new());
        Memory { revision, state, state_bytes, history, history_bytes: 0, watchers }
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Entry> {
        self.state.get_key_value(key).map(entry)
    }

    pub(super) fn range(&self, prefix: &[u8]) -> Range {
        let from = self.state.range(Bytes::copy_from_slice(prefix)..);
        let entries = from.take_while(|(key, _)| key.starts_with(prefix)).map(entry).collect();
        Range { revision: self.revision, entries }
    }

    /// Whether the transaction may commit now.
    pub(super) fn check(&self, transaction: &Transaction) -> Result<(), Error> {
        check_shape(transaction)?;
        for condition in &transaction.conditions {
            let found = self.state.get(&condition.key).map(|stored| stored.revision);
            let holds = match condition.expected {
                Expected::Absent => found.is_none(),
                Expected::Revision(revision) => found == Some(revision),
            };
            if !holds {
                return Err(Error::Conflict { key: condition.key.clone() });
            }
        }
        if self.bytes_after(&transaction.operations) > STATE_BYTES_MAX {
            return Err(Error::Full { bytes_max: STATE_BYTES_MAX });
        }
        Ok(())
    }

    fn bytes_after(&self, operations: &[Operation]) -> usize {
        operations.iter().fold(self.state_bytes, |bytes, operation| {
            let key = operation.key();
            let removed = self.state.get(key).map_or(0, |stored| entry_bytes(key, &stored.value));
            let added = match operation {
                Operation::Put { key, value } => entry_bytes(key, value),
                Operation::Delete { .. } => 0,
            };
            bytes + added - removed
        })
    }

    /// Takes over a durable commit and tells the watchers.
    pub(super) fn apply(&mut self, revision: Revision, operations: Vec<Operation>) {
        assert_eq!(revision, self.revision.next(), "commits are applied in order and once");
        self.state_bytes = self.bytes_after(&operations);
        self.revision = revision;
        let changes = operations.into_iter().map(|operation| self.change(revision, operation)).collect();
        let committed = Committed { revision, changes };
        self.watchers.retain(|watcher| watcher.offer(&committed));
        self.remember(committed);
    }

    fn change(&mut self, revision: Revision, operation: Operation) -> Change {
        match operation {
            Operation::Put { key, value } => {
                self.state.insert(key.clone(), Stored { value: value.clone(), revision });
                Change { key, value: Some(value) }
            }
            Operation::Delete { key } => {
                self.state.remove(&key);
                Change { key, value: None }
            }
        }
    }

    fn remember(&mut self, committed: Committed) {
        self.history_bytes += committed_bytes(&committed);
        self.history.push_back(committed);
        while self.history.len() > HISTORY_COMMITS_MAX || self.history_bytes > HISTORY_BYTES_MAX {
            let forgotten =
                self.history.pop_front().expect("bytes or commits above a bound are of some commit");
            self.history_bytes -= committed_bytes(&forgotten);
        }
    }

    pub(super) fn watch(&mut self, prefix: &[u8], from: Revision) -> Result<Watch, Error> {
        let next = self.revision.next();
        let oldest = self.history.front().map_or(next, |committed| committed.revision);
        if from < oldest {
            return Err(Error::Compacted { oldest });
        }
        if from > next {
            return Err(Error::FutureRevision(from));
        }
        self.watchers.retain(Watcher::is_open);
        if self.watchers.len() == WATCHES_MAX {
            return Err(Error::TooManyWatches(WATCHES_MAX));
        }
        let past = self.history.iter().filter(|committed| committed.revision >= from);
        let (watcher, watch) = Watcher::new(prefix, past);
        self.watchers.push(watcher);
        Ok(watch)
    }
}

fn entry((key, stored): (&Bytes, &Stored)) -> Entry {
    Entry { key: key.clone(), value: stored.value.clone(), revision: stored.revision }
}

fn entry_bytes(key: &Bytes, value: &Bytes) -> usize {
    ENTRY_OVERHEAD_BYTES + key.len() + value.len()
}

fn committed_bytes(committed: &Committed) -> usize {
    let value_len = |change: &Change| change.value.as_ref().map_or(0, Bytes::len);
    committed.changes.iter().map(|change| ENTRY_OVERHEAD_BYTES + change.key.len() + value_len(change)).sum()
}

/// What can be said of a transaction without looking at the state.
fn check_shape(transaction: &Transaction) -> Result<(), Error> {
    let Transaction { conditions, operations } = transaction;
    if operations.is_empty() {
        return Err(Error::Invalid("it changes nothing"));
    }
    if operations.len() > OPERATIONS_PER_TRANSACTION_MAX || conditions.len() > OPERATIONS_PER_TRANSACTION_MAX
    {
        return Err(Error::Invalid("it has more operations or conditions than one may have"));
    }
    let keys = || operations.iter().map(Operation::key);
    if keys().any(|key| key.is_empty() || key.len() > KEY_BYTES_MAX) {
        return Err(Error::Invalid("a key is empty or too long"));
    }
    if keys().collect::<BTreeSet<_>>().len() != operations.len() {
        return Err(Error::Invalid("it changes a key twice"));
    }
    let value_len = |operation: &Operation| match operation {
        Operation::Put { value, .. } => value.len(),
        Operation::Delete { .. } => 0,
    };
    if operations.iter().any(|operation| value_len(operation) > VALUE_BYTES_MAX) {
        return Err(Error::Invalid("a value is too long"));
    }
    let payload: usize =
        operations.iter().map(|one| ENTRY_OVERHEAD_BYTES + one.key().len() + value_len(one)).sum();
    if payload > RECORD_PAYLOAD_BYTES_MAX - ENTRY_OVERHEAD_BYTES {
        return Err(Error::Invalid("it is larger than one transaction may be"));
    }
    Ok(())
}
