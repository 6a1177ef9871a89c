//! Deterministic commits, and the state that each must lead to.

use std::{collections::BTreeMap, pin::pin, task};

use bytes::Bytes;

use super::disk::SimulatedFiles;
use crate::cluster::store::{
    contract::MetadataStore,
    embedded::{EmbeddedStore, Options},
    error::Error,
    files::Files,
    transaction::{Operation, Revision, Transaction},
};

/// Small enough that a workload passes through several snapshots.
pub(super) const OPTIONS: Options = Options { log_bytes_before_snapshot: 2500 };

/// A state as the workload knows it: its own bookkeeping, not the store's.
pub(super) type Model = BTreeMap<Bytes, (Bytes, Revision)>;

/// Runs a future of a store that never waits.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = task::Context::from_waker(task::Waker::noop());
    match pin!(future).poll(&mut context) {
        task::Poll::Ready(value) => value,
        task::Poll::Pending => panic!("the embedded store never waits"),
    }
}

/// The transaction of one revision: an overwritten key, a growing set, a removed key, and now and then a
/// value of several sectors.
pub(super) fn transaction(revision: u64) -> Transaction {
    let value = format!("value of {revision}");
    let large = vec![u8::try_from(revision).unwrap(); if revision.is_multiple_of(3) { 1300 } else { 40 }];
    let mut transaction = Transaction::new()
        .put("last", value.clone())
        .put(format!("keys/{:03}", revision % 7), value)
        .put("large", large);
    if revision.is_multiple_of(4) {
        transaction = transaction.delete(format!("keys/{:03}", (revision + 3) % 7));
    }
    transaction
}

/// The states after 0, 1, ... `count` commits.
pub(super) fn models(count: u64) -> Vec<Model> {
    let mut states = vec![Model::new()];
    for revision in 1..=count {
        let mut state = states.last().unwrap().clone();
        for operation in transaction(revision).operations {
            match operation {
                Operation::Put { key, value } => _ = state.insert(key, (value, Revision(revision))),
                Operation::Delete { key } => _ = state.remove(&key),
            }
        }
        states.push(state);
    }
    states
}

/// What the store shows.
pub(super) fn observed<F: Files>(store: &EmbeddedStore<F>) -> (Revision, Model) {
    let range = now(store.range(b"")).unwrap();
    let entries = range.entries.into_iter();
    (range.revision, entries.map(|entry| (entry.key, (entry.value, entry.revision))).collect())
}

/// Opens the store and commits until revision `last` or until something fails; the last revision shown or
/// acknowledged, and the failure.
pub(super) fn run(files: &SimulatedFiles, last: u64) -> (u64, Option<Error>) {
    let store = match EmbeddedStore::open(files.clone(), OPTIONS) {
        Ok(store) => store,
        Err(error) => return (0, Some(error)),
    };
    let mut acknowledged = observed(&store).0.0;
    while acknowledged < last {
        match now(store.commit(transaction(acknowledged + 1))) {
            Ok(revision) => {
                assert_eq!(revision.0, acknowledged + 1);
                acknowledged += 1;
            }
            Err(error) => return (acknowledged, Some(error)),
        }
    }
    (acknowledged, None)
}
