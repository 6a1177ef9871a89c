//! One file operation fails and all others work: the store says so, commits nothing more, touches the disk no
//! more, and what it had acknowledged is there after a restart.

use super::{
    disk::{Fault, SimulatedFiles, Survivors, Tear},
    workload::{OPTIONS, models, now, observed, run, transaction},
};
use crate::cluster::store::{
    contract::MetadataStore, embedded::EmbeddedStore, error::Error, transaction::Transaction,
};

const COMMITS: u64 = 14;

#[test]
fn a_failed_operation_poisons_the_store_until_restart() {
    let states = models(COMMITS + 1);
    let whole = SimulatedFiles::new();
    assert!(run(&whole, COMMITS).1.is_none());
    let opening = SimulatedFiles::new();
    EmbeddedStore::open(opening.clone(), OPTIONS).unwrap();
    let (mut poisoned, mut silent) = (0, 0);
    for failing in opening.operations()..whole.operations() {
        let files = SimulatedFiles::new();
        files.set_fault(Fault::FailAt(failing));
        let store = EmbeddedStore::open(files.clone(), OPTIONS).unwrap();
        let mut acknowledged = 0;
        while acknowledged < COMMITS && now(store.commit(transaction(acknowledged + 1))).is_ok() {
            acknowledged += 1;
        }
        let refused = now(store.commit(Transaction::new().put("more", "")));
        assert!(matches!(refused, Err(Error::Poisoned { .. })), "operation {failing}: {refused:?}");
        assert_eq!(files.changes_after_failure(), 0, "operation {failing}");
        // Reads go on, with what is committed and nothing else.
        assert_eq!(observed(&store).1, states[usize::try_from(acknowledged).unwrap()]);
        assert!(matches!(store.close(), Err(Error::Poisoned { .. })));
        for kept in [0, u64::MAX] {
            let store =
                EmbeddedStore::open(files.crashed(Survivors { kept, tear: Tear::Whole }), OPTIONS).unwrap();
            let (revision, state) = observed(&store);
            assert!((acknowledged..=acknowledged + 1).contains(&revision.0), "operation {failing}");
            assert_eq!(state, states[usize::try_from(revision.0).unwrap()]);
            silent += 1;
        }
        poisoned += 1;
    }
    println!("{poisoned} failing operations, {silent} restarts");
    assert!(poisoned > 60);
}

#[test]
fn a_failed_operation_while_opening_refuses_the_start() {
    let seeded = SimulatedFiles::new();
    run(&seeded, 9);
    let reopened = seeded.crashed(Survivors { kept: u64::MAX, tear: Tear::Whole });
    EmbeddedStore::open(reopened.clone(), OPTIONS).unwrap();
    assert!(reopened.operations() >= 6);
    for failing in 0..reopened.operations() {
        let files = seeded.crashed(Survivors { kept: u64::MAX, tear: Tear::Whole });
        files.set_fault(Fault::FailAt(failing));
        let error = EmbeddedStore::open(files.clone(), OPTIONS).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "operation {failing}: {error}");
        assert_eq!(files.changes_after_failure(), 0);
    }
}
