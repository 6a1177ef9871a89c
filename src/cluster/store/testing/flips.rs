//! Every byte of every file is changed, one at a time: the start is refused with the file's name, or the
//! state is exactly what it was.

use super::{
    disk::{SimulatedFiles, Survivors, Tear},
    workload::{OPTIONS, models, now, observed, run, transaction},
};
use crate::cluster::store::{
    contract::MetadataStore,
    embedded::EmbeddedStore,
    error::{Damage, Error},
    files::Files,
    layout::{FileName, LOG_HEADER_BYTES, log_name, snapshot_name},
    transaction::{Revision, Transaction},
};

/// Opens the store over each changed byte; how many were detected and how many were harmless, and checks
/// both.
fn flip_all(files: &SimulatedFiles, name: &str, expected_revision: u64) -> (u64, u64) {
    let states = models(expected_revision);
    let len = files.read(name, u64::MAX).unwrap().len();
    let (mut detected, mut harmless) = (0, 0);
    for offset in 0..len {
        for mask in [0x01, 0x80, 0xff] {
            match EmbeddedStore::open(files.with_flip(name, offset, mask), OPTIONS) {
                Ok(store) => {
                    let (revision, state) = observed(&store);
                    assert_eq!(revision.0, expected_revision, "{name} at {offset}");
                    assert_eq!(
                        state,
                        states[usize::try_from(expected_revision).unwrap()],
                        "{name} at {offset}"
                    );
                    harmless += 1;
                }
                Err(Error::Damaged(Damage { file, offset: at, .. })) => {
                    assert_eq!(file, name);
                    assert!(at <= offset as u64, "{name}: changed at {offset}, reported at {at}");
                    detected += 1;
                }
                Err(other) => panic!("{name} at {offset}: {other}"),
            }
        }
    }
    (detected, harmless)
}

#[test]
fn a_changed_byte_is_detected_or_harmless_in_every_file() {
    let (mut logs, mut snapshots) = ((0, 0), (0, 0));
    for commits in [2, 9, 14] {
        let files = SimulatedFiles::new();
        run(&files, commits);
        for name in files.list().unwrap() {
            let (detected, harmless) = flip_all(&files, &name, commits);
            let sum = match FileName::parse(&name) {
                FileName::Log(_) => &mut logs,
                FileName::Snapshot(_) => &mut snapshots,
                other => panic!("{name} is {other:?}"),
            };
            *sum = (sum.0 + detected, sum.1 + harmless);
        }
    }
    println!("logs (detected, harmless): {logs:?}, snapshots: {snapshots:?}");
    // Snapshots are all harmless here, since the one before and its logs are kept.
    assert!(logs.0 > 1000 && logs.1 > 1000 && snapshots.1 > 1000);
}

#[test]
fn a_damaged_snapshot_without_an_older_whole_one_refuses_the_start() {
    let files = SimulatedFiles::new();
    run(&files, 14);
    let names = files.list().unwrap();
    let newest = names.iter().filter(|name| name.starts_with("snapshot")).max().unwrap();
    for name in names.iter().filter(|name| *name != newest) {
        let keep = matches!(FileName::parse(name), FileName::Log(first) if snapshot_name(Revision(first.0 - 1)) == *newest);
        if !keep {
            files.remove(name).unwrap();
        }
    }
    assert_eq!(files.list().unwrap().len(), 2);
    EmbeddedStore::open(files.clone(), OPTIONS).unwrap();
    let (detected, harmless) = flip_all(&files, newest, 14);
    println!("{newest}: {detected} detected");
    assert!(detected > 100 && harmless == 0);
}

#[test]
fn damage_before_a_whole_record_is_not_cut_away() {
    let files = SimulatedFiles::new();
    run(&files, 2);
    let name = log_name(Revision(1));
    let damaged = files.with_flip(&name, LOG_HEADER_BYTES + 30, 0x10);
    let before = damaged.read(&name, u64::MAX).unwrap();
    let error = EmbeddedStore::open(damaged.clone(), OPTIONS).unwrap_err();
    assert!(error.to_string().contains(&format!("{name} is damaged at byte {LOG_HEADER_BYTES}")), "{error}");
    assert_eq!(damaged.read(&name, u64::MAX).unwrap(), before);
}

#[test]
fn a_name_beyond_every_revision_is_not_ours() {
    // Found by the fuzz target `metadata`: to look for the commit behind this one stopped the program.
    for name in ["snapshot-18446744073709551615", "log-18446744073709551615.records"] {
        let files = SimulatedFiles::new();
        run(&files, 2);
        files.create(name).unwrap();
        let store = EmbeddedStore::open(files, OPTIONS).unwrap();
        assert_eq!(observed(&store).0, Revision(2), "{name}");
    }
}

#[test]
fn a_value_that_imitates_a_record_is_not_taken_for_one() {
    // A client knows the format, but not the salt: what it sends may stand in a torn record and must not make
    // that look like damage.
    let files = SimulatedFiles::new();
    let store = EmbeddedStore::open(files.clone(), OPTIONS).unwrap();
    let forged = crate::cluster::store::layout::encode_record(
        0,
        crate::cluster::store::layout::RecordKind::Seal,
        Revision(0),
        &[],
    );
    let mut value = vec![0; 3];
    while value.len() < 600 {
        value.extend_from_slice(&forged);
        value.push(0);
    }
    now(store.commit(Transaction::new().put("k", value))).unwrap();
    let name = log_name(Revision(1));
    let len = files.read(&name, u64::MAX).unwrap().len();
    let file = files.open(&name).unwrap();
    // The seal and the record's end go, as in a torn write.
    files.truncate(&file, len as u64 - 100).unwrap();
    let store = EmbeddedStore::open(files.clone(), OPTIONS).unwrap();
    assert_eq!(observed(&store).0, Revision(0));
    // The torn end was cut durably before anything could follow it: after a power cut, the log is its header.
    let after_cut = files.crashed(Survivors { kept: 0, tear: Tear::Whole });
    assert_eq!(after_cut.read(&name, u64::MAX).unwrap().len(), LOG_HEADER_BYTES);
    assert!(now(store.commit(transaction(1))).is_ok());
}
