//! Manifests and journal groups that make no sense, under right checksums: opening them gives an answer, never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use corelane_shards::sim;

use crate::seeds::for_each_seed;

/// Events before the process is killed.
const STEPS: usize = 150;
/// Changed copies opened for each seed.
const ROUNDS: usize = 40;

#[test]
fn nonsense_under_a_right_checksum_is_no_panic() {
    let (opened, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    for_each_seed(500, |seed| {
        let answer = catch_unwind(AssertUnwindSafe(|| sim::open_changed(seed, STEPS, ROUNDS)));
        let answers =
            answer.unwrap_or_else(|_| panic!("seed {seed} panicked")).expect("no fault was injected");
        opened.fetch_add(answers.opened, Ordering::Relaxed);
        refused.fetch_add(answers.refused, Ordering::Relaxed);
        true
    });
    let (opened, refused) = (opened.into_inner(), refused.into_inner());
    println!("{opened} changed directories opened, {refused} refused");
    assert!(opened > 0 && refused > 0, "both must happen: {opened} and {refused}");
}
