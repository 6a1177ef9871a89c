//! Twenty cuts for each file system, with and without the planted bug.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::sectors::{self, Verdict};
use super::writer::{self, Ack, Flush, Writer};
use crate::powercut::{CutReport, FileSystem, PowerCut, Random, left_out};

const CYCLES: u64 = 20;

/// How long a writer may take for its few hundred writes.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct Totals {
    cuts: CutReport,
    acks: u64,
    verdict: Verdict,
}

/// Cuts the power `CYCLES` times under a writer and checks after each cut; ways to flush take turns.
fn cut_repeatedly(file_system: FileSystem, ack: Ack, garbage: bool, seed: u64) -> Totals {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut powercut =
        PowerCut::new(directory, file_system.bytes_min(), file_system, seed).expect("the instrument starts");
    powercut.allow_garbage(garbage);
    let mut random = Random::new(seed);
    let mut totals = Totals::default();
    for cycle in 0..CYCLES {
        let flush = if cycle % 2 == 0 { Flush::Fdatasync } else { Flush::Dsync };
        // Far enough from the numbers of the cycle before that none of them can pass for one of this cycle.
        let base = (cycle + 1) << 32;
        let requests = 1 + random.below(200);
        cut_once(&mut powercut, (flush, ack), base, requests, &mut totals);
    }
    println!(
        "{}, ack {ack:?}, seed {seed}: {CYCLES} cycles, {} flushes, {totals:?}",
        file_system.name(),
        powercut.flushes()
    );
    totals
}

/// Starts a writer, cuts the power at the disk's `requests`-th request, and checks what survived.
fn cut_once(
    powercut: &mut PowerCut,
    (flush, ack): (Flush, Ack),
    base: u64,
    requests: u64,
    totals: &mut Totals,
) {
    let path = powercut.mount_point().join("blocks");
    let writer = Writer::new(&path, base, flush, ack).expect("the blocks are written");
    let writer = thread::spawn(move || writer.run());
    let report = powercut.cut_at(requests, PATIENCE).expect("the writer goes on while the power is on");
    let (ledger, error) = writer.join().expect("the writer ends with an error, not with a panic");
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::IO.raw_os_error()),
        "the writer ended with {error}"
    );
    powercut.remount().expect("what survived can be mounted");
    let content = writer::read_back(&path).expect("what survived can be read");
    totals.verdict.add(sectors::check(&content, &ledger));
    totals.acks += ledger.acks;
    totals.cuts += report;
}

fn expect_nothing_lost(totals: &Totals) {
    assert_eq!(totals.verdict.lost, 0, "a flushed write was lost: {totals:?}");
    assert_eq!(totals.verdict.wrong, 0, "a sector holds what nobody wrote: {totals:?}");
    assert!(totals.verdict.compared > 0, "nothing was compared: {totals:?}");
    assert!(totals.cuts.writes_dropped > 0, "no cut dropped anything: {totals:?}");
}

fn expect_loss_seen(totals: &Totals) {
    assert!(totals.verdict.lost > 0, "no cut saw the ack before the flush: {totals:?}");
    assert!(totals.verdict.compared > 0, "nothing was compared: {totals:?}");
}

#[test]
fn acks_after_the_flush_survive_on_ext4() {
    if !left_out("powercut") {
        expect_nothing_lost(&cut_repeatedly(FileSystem::Ext4, Ack::AfterFlush, false, 1));
    }
}

#[test]
fn acks_after_the_flush_survive_garbage_on_ext4() {
    if !left_out("powercut") {
        let totals = cut_repeatedly(FileSystem::Ext4, Ack::AfterFlush, true, 2);
        expect_nothing_lost(&totals);
        assert!(totals.cuts.sectors_garbled > 0, "no sector was garbled: {totals:?}");
    }
}

#[test]
fn acks_after_the_flush_survive_on_xfs() {
    if !left_out("powercut") && !left_out("xfs") {
        expect_nothing_lost(&cut_repeatedly(FileSystem::Xfs, Ack::AfterFlush, false, 3));
    }
}

#[test]
fn an_ack_before_the_flush_is_seen_on_ext4() {
    if !left_out("powercut") {
        expect_loss_seen(&cut_repeatedly(FileSystem::Ext4, Ack::BeforeFlush, false, 4));
    }
}

#[test]
fn an_ack_before_the_flush_is_seen_on_xfs() {
    if !left_out("powercut") && !left_out("xfs") {
        expect_loss_seen(&cut_repeatedly(FileSystem::Xfs, Ack::BeforeFlush, false, 5));
    }
}
