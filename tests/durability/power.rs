//! Cuts of the power under load: what acks=all acknowledged and what a consumer was shown is there after each; acks=1
//! may lose the end of a log. And the proof that such a loss would be seen.
//!
//! A cut takes the machine's memory with it, so the broker is killed and its staging files are removed before the disk
//! comes back.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::Home;
use crate::checker::{self, After, Seen, Verdict};
use crate::load::{self, Load};
use crate::powercut::{CutReport, FileSystem, PowerCut, Random, left_out};

/// How long the disk may take to be asked for what a cut waits for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Room for journals, segments and their logs.
const BYTES: u64 = 512 << 20;

/// The shards of successive starts. Each cut takes two, one that is cut off and one that recovers: every pair of one and two
/// comes up within five cuts.
const SHARDS: [usize; 5] = [1, 1, 2, 2, 1];

/// The most writes and flushes of the disk before a cut.
const REQUESTS_MAX: u64 = 400;

#[derive(Debug, Default)]
struct Totals {
    cycles: u64,
    cuts: CutReport,
    staging_files_removed: usize,
    refused: usize,
    duplicates: u64,
    recoveries: Vec<Duration>,
    verdict: Verdict,
}

/// A broker on a disk that can be cut off, and its clients.
struct Bench {
    powercut: PowerCut,
    /// Kept beside the broker that `cycle` starts.
    home: Option<Home>,
    random: Random,
    load: Load,
    seen: Seen,
    totals: Totals,
}

impl Bench {
    fn new(name: &str, program: Option<PathBuf>, file_system: FileSystem, seed: u64) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-disk"));
        let powercut = PowerCut::new(&directory, BYTES, file_system, seed).expect("the instrument starts");
        let home = Home::with_data(name, powercut.mount_point().join("data")).over(&SHARDS);
        let mut home = program.into_iter().fold(home, Home::running);
        let broker = home.start();
        load::create_topics(broker.address());
        assert!(broker.stop().success());
        let (random, load) = (Random::new(seed), Load::new(seed));
        Self { powercut, home: Some(home), random, load, seen: Seen::default(), totals: Totals::default() }
    }

    /// Produces, cuts the power, brings it back, and compares.
    fn cycle(mut self) -> (Self, String) {
        let mut home = self.home.take().expect("it is given back below");
        let broker = home.start();
        let address = broker.address();
        let running = self.load.start(address, self.seen.ends());
        let shown = self.seen;
        let follower = thread::spawn(move || checker::follow(address, shown));
        running.await_acks(1 + self.random.below(300));
        let requests = 1 + self.random.below(REQUESTS_MAX);
        let report =
            self.powercut.cut_at(requests, PATIENCE).expect("the load goes on while the power is on");
        broker.kill();
        self.load = running.join();
        let (shown, mut verdict) = follower.join().expect("the follower does not panic");
        self.totals.refused += self.load.take_refusals().len();
        self.load.after_cut();
        self.totals.staging_files_removed += home.lose_memory();
        self.powercut.remount().expect("what survived can be mounted");

        let begin = Instant::now();
        let broker = home.start();
        self.totals.recoveries.push(begin.elapsed());
        assert_eq!(
            broker.metric("corelane_recovery_entries_staged"),
            0,
            "there is no memory to recover from"
        );
        self.seen = checker::read_all(broker.address(), &mut verdict);
        checker::judge(&self.seen, &shown, &mut self.load, After::Cut, &mut verdict);
        let said = broker.said();
        assert!(broker.stop().success());
        self.totals.cycles += 1;
        self.totals.cuts += report;
        self.totals.verdict.add(verdict);
        self.home = Some(home);
        (self, said)
    }
}

fn cut_repeatedly(name: &str, file_system: FileSystem, cycles: u64, seed: u64) {
    let mut bench = Bench::new(name, None, file_system, seed);
    for _ in 0..cycles {
        let said;
        (bench, said) = bench.cycle();
        bench.totals.verdict.expect_clean(&said);
    }
    bench.totals.duplicates = bench.load.duplicates();
    bench.totals.recoveries.sort_unstable();
    let Totals { recoveries, .. } = &bench.totals;
    let (median, slowest) = (recoveries[recoveries.len() / 2], recoveries[recoveries.len() - 1]);
    println!(
        "{}, seed {seed}: start p50 {median:?}, max {slowest:?}, {:?}",
        file_system.name(),
        bench.totals
    );
    let CutReport { writes_dropped, writes_torn, .. } = bench.totals.cuts;
    assert!(writes_dropped + writes_torn > 0, "no cut took anything");
    assert!(bench.totals.duplicates > 0, "no resent batch was a duplicate");
}

#[test]
fn what_acks_all_acknowledged_survives_power_cuts_on_ext4() {
    if !left_out("powercut") {
        cut_repeatedly("power-ext4", FileSystem::Ext4, 15, 1);
    }
}

#[test]
fn what_acks_all_acknowledged_survives_power_cuts_on_xfs() {
    if !left_out("powercut") && !left_out("xfs") {
        cut_repeatedly("power-xfs", FileSystem::Xfs, 8, 2);
    }
}

/// Cuts after which a broker that acknowledges before the flush must have been found out.
const CYCLES_TO_FIND: u64 = 20;

/// The broker with the planted bug. It is an example, so that it is built with what the tests are built with and
/// replaces no program.
fn planted() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--quiet", "--example", "ack_before_flush"])
        .args(["--features", "planted-bug-ack-before-flush"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs this test");
    assert!(built.success(), "the broker with the planted bug is built");
    Path::new(env!("CARGO_BIN_EXE_corelane")).with_file_name("examples").join("ack_before_flush")
}

#[test]
fn an_ack_before_the_flush_is_seen() {
    if left_out("powercut") {
        return;
    }
    let mut bench = Bench::new("power-planted", Some(planted()), FileSystem::Ext4, 3);
    while bench.totals.verdict.lost == 0 {
        assert!(
            bench.totals.cycles < CYCLES_TO_FIND,
            "no cut saw the ack before the flush: {:?}",
            bench.totals
        );
        (bench, _) = bench.cycle();
    }
    println!("the planted bug was seen after {} cuts: {:?}", bench.totals.cycles, bench.totals);
}
