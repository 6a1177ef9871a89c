//! The machine stops after every file operation in turn. Whatever part of the unflushed work survives, with
//! the last write whole or torn at any byte or in any sectors: every commit that was acknowledged or shown is
//! there, and none is there by half.

use super::{
    disk::{Fault, SimulatedFiles, Survivors, Tear},
    workload::{Model, OPTIONS, models, now, observed, run, transaction},
};
use crate::cluster::store::{contract::MetadataStore, embedded::EmbeddedStore};

const COMMITS: u64 = 24;

/// What the test compared; nothing may stay zero.
#[derive(Debug, Default)]
struct Compared {
    stops: u64,
    crashes: u64,
    torn: u64,
    recovered_unacknowledged: u64,
    cut_unacknowledged: u64,
    stopped_recoveries: u64,
}

#[test]
fn every_stop_with_every_survival_keeps_what_was_acknowledged() {
    let states = models(COMMITS + 4);
    let mut compared = Compared::default();
    let whole = SimulatedFiles::new();
    assert!(run(&whole, COMMITS).1.is_none());
    for stop in 0..=whole.operations() {
        let files = SimulatedFiles::new();
        files.set_fault(Fault::StopAt(stop));
        let (acknowledged, _) = run(&files, COMMITS);
        compared.stops += 1;
        for survivors in survivals(&files) {
            check(&files, survivors, acknowledged, &states, &mut compared);
        }
    }
    println!("{compared:?}");
    let Compared { stops, crashes, torn, recovered_unacknowledged, cut_unacknowledged, stopped_recoveries } =
        compared;
    assert!(stops > 100 && crashes > 10_000 && torn > 5_000 && stopped_recoveries > 10_000);
    assert!(recovered_unacknowledged > 50 && cut_unacknowledged > 100);
}

#[test]
fn a_power_cut_after_a_kill_keeps_what_the_next_start_acknowledged() {
    // A killed process leaves its unflushed work in the page cache, where the next start finds it whole; it
    // is durable only if that start makes it so.
    let states = models(COMMITS + 4);
    let whole = SimulatedFiles::new();
    assert!(run(&whole, COMMITS).1.is_none());
    let (mut kills, mut cuts) = (0, 0);
    for stop in 0..=whole.operations() {
        let files = SimulatedFiles::new();
        files.set_fault(Fault::StopAt(stop));
        let (acknowledged, _) = run(&files, COMMITS);
        files.set_fault(Fault::None);
        let store = EmbeddedStore::open(files.clone(), OPTIONS).unwrap();
        let shown = check_state(&store, acknowledged, &states, "after a kill");
        now(store.commit(transaction(shown + 1))).unwrap();
        kills += 1;
        for survivors in survivals(&files) {
            let store = EmbeddedStore::open(files.crashed(survivors), OPTIONS)
                .unwrap_or_else(|error| panic!("stop {stop}, {survivors:?}: {error}"));
            let revision = check_state(&store, shown + 1, &states, "after the power cut");
            assert_eq!(revision, shown + 1, "stop {stop}, {survivors:?}");
            cuts += 1;
        }
    }
    println!("{kills} kills, {cuts} power cuts");
    assert!(kills > 100 && cuts > 1000);
}

/// Every subset of the pending operations, and every tear of the last write in it.
fn survivals(files: &SimulatedFiles) -> Vec<Survivors> {
    let pending = files.pending();
    assert!(pending <= 10, "{pending} pending operations are too many to try all subsets");
    let mut survivals = Vec::new();
    for kept in 0..1 << pending {
        survivals.push(Survivors { kept, tear: Tear::Whole });
        let Some((offset, len)) = files.last_survivor(kept) else { continue };
        let prefixes = (0..len).map(Tear::Prefix);
        let sectors = (offset + len).div_ceil(512) - offset / 512;
        let masks = (0..(1 << sectors) - 1).map(Tear::Sectors);
        survivals.extend(prefixes.chain(masks).map(|tear| Survivors { kept, tear }));
    }
    survivals
}

fn check(
    files: &SimulatedFiles,
    survivors: Survivors,
    acknowledged: u64,
    states: &[Model],
    compared: &mut Compared,
) {
    let crashed = files.crashed(survivors);
    let context = format!("{survivors:?} after {acknowledged} commits");
    check_stopped_recovery(&crashed, acknowledged, states, compared);
    let store =
        EmbeddedStore::open(crashed.clone(), OPTIONS).unwrap_or_else(|error| panic!("{context}: {error}"));
    let shown = check_state(&store, acknowledged, states, &context);
    compared.crashes += 1;
    compared.torn += u64::from(!matches!(survivors.tear, Tear::Whole));
    compared.recovered_unacknowledged += u64::from(shown > acknowledged);
    compared.cut_unacknowledged += u64::from(shown == acknowledged && survivors.kept != 0);

    // What recovery has shown, a second crash that keeps nothing unflushed must not take back.
    let again = crashed.crashed(Survivors { kept: 0, tear: Tear::Whole });
    let store = EmbeddedStore::open(again, OPTIONS).unwrap();
    assert_eq!(check_state(&store, shown, states, &context), shown, "{context}");
    for revision in shown + 1..=shown + 2 {
        assert_eq!(now(store.commit(transaction(revision))).unwrap().0, revision, "{context}");
    }
    check_state(&store, shown + 2, states, &context);
}

/// Recovery itself is stopped at an operation that changes from case to case, and crashes keeping all or
/// nothing.
fn check_stopped_recovery(
    crashed: &SimulatedFiles,
    acknowledged: u64,
    states: &[Model],
    compared: &mut Compared,
) {
    let kept = if compared.crashes.is_multiple_of(2) { 0 } else { u64::MAX };
    let stopped = crashed.crashed(Survivors { kept: 0, tear: Tear::Whole });
    let stop = compared.crashes / 2 % 14;
    stopped.set_fault(Fault::StopAt(stop));
    let shown = match EmbeddedStore::open(stopped.clone(), OPTIONS) {
        Ok(store) => check_state(&store, acknowledged, states, "before the second crash"),
        Err(_) => acknowledged,
    };
    let again = stopped.crashed(Survivors { kept, tear: Tear::Whole });
    let store = EmbeddedStore::open(again, OPTIONS).unwrap_or_else(|error| panic!("stop {stop}: {error}"));
    check_state(&store, shown, states, "after a stopped recovery");
    compared.stopped_recoveries += 1;
}

fn check_state(store: &EmbeddedStore<SimulatedFiles>, at_least: u64, states: &[Model], context: &str) -> u64 {
    let (revision, state) = observed(store);
    // At most the one commit that was in flight is there beyond what was answered.
    assert!((at_least..=at_least + 1).contains(&revision.0), "{context}: revision {revision}");
    let index = usize::try_from(revision.0).unwrap();
    assert_eq!(state, states[index], "{context}: revision {revision}");
    revision.0
}
