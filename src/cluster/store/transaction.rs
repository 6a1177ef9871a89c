//! Keys, revisions and transactions: the vocabulary that every metadata store shares.

use std::fmt;

use bytes::Bytes;

/// The number of a commit: dense, from 1; 0 stands for the empty store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision of the following commit.
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One key as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key; never empty.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// The commit that wrote this value: what a condition compares.
    pub revision: Revision,
}

/// The entries under a prefix, in the order of their keys, as of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The commit that this reading includes, with all before it. A watch that is to continue it starts at
    /// `revision.next()`.
    pub revision: Revision,
    /// Ascending by key.
    pub entries: Vec<Entry>,
}

/// What a condition expects of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The store has no such key.
    Absent,
    /// The key was last written by this commit.
    Revision(Revision),
}

/// A transaction commits only if each of its conditions holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The key compared.
    pub key: Bytes,
    /// What it is compared with.
    pub expected: Expected,
}

/// One change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sets a key, whether or not it existed.
    Put {
        /// The key; not empty.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Removes a key; one that does not exist is no error.
    Delete {
        /// The key; not empty.
        key: Bytes,
    },
}

impl Operation {
    /// The key that it changes.
    pub fn key(&self) -> &Bytes {
        match self {
            Operation::Put { key, .. } | Operation::Delete { key } => key,
        }
    }
}

/// Operations that take effect together or not at all, if all conditions hold. No key is changed twice in
/// one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// All of them must hold.
    pub conditions: Vec<Condition>,
    /// In the order in which watchers see them; at least one.
    pub operations: Vec<Operation>,
}

impl Transaction {
    /// A transaction that does nothing yet; the store refuses it until an operation is added.
    pub fn new() -> Transaction {
        Transaction::default()
    }

    /// Requires that `key` is `expected`.
    #[must_use]
    pub fn expect(mut self, key: impl Into<Bytes>, expected: Expected) -> Transaction {
        self.conditions.push(Condition { key: key.into(), expected });
        self
    }

    /// Sets `key`.
    #[must_use]
    pub fn put(mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Transaction {
        self.operations.push(Operation::Put { key: key.into(), value: value.into() });
        self
    }

    /// Removes `key`.
    #[must_use]
    pub fn delete(mut self, key: impl Into<Bytes>) -> Transaction {
        self.operations.push(Operation::Delete { key: key.into() });
        self
    }
}

/// What one commit did to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// Its new value; `None` when it was removed.
    pub value: Option<Bytes>,
}

/// One commit as a watcher sees it: all of its changes under the watched prefix, never a part of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The commit's number.
    pub revision: Revision,
    /// In the order of the transaction; never empty.
    pub changes: Vec<Change>,
}
