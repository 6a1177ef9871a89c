//! Kills of the broker under load: what acks=1 and acks=all acknowledged is there after each, once, and in order.

use std::thread;

use crate::broker::{Broker, Home};
use crate::checker::{self, After, Seen, Verdict};
use crate::load::{self, Load};
use crate::powercut::{Random, left_out};

const KILLS: u64 = 20;

/// Requests that must be without an answer at each kill.
const UNANSWERED_MIN: usize = 32;

#[test]
fn what_was_acknowledged_survives_kills_under_load() {
    if left_out("kill") {
        return;
    }
    let mut home = Home::new("kill");
    let mut broker = home.start();
    load::create_topics(broker.address());
    let mut random = Random::new(1);
    let mut load = Load::new(1);
    let mut seen = Seen::default();
    let mut totals = Verdict::default();
    let (mut kills_with_staged, mut staged_total) = (0, 0);
    for kill in 0..KILLS {
        let address = broker.address();
        let running = load.start(address, seen.ends());
        let follower = thread::spawn(move || checker::follow(address, seen));
        running.await_acks(200 + random.below(800));
        load = running.kill_in_a_burst(broker, &mut random);
        assert_eq!(load.take_refusals(), Vec::<String>::new());
        let unanswered = load.unanswered();
        assert!(unanswered >= UNANSWERED_MIN, "{unanswered} requests were without an answer");
        load.after_kill();

        broker = home.start();
        let staged = broker.metric("recovery_entries_staged");
        let (shown, mut verdict) = follower.join().expect("the follower does not panic");
        seen = checker::read_all(broker.address(), &mut verdict);
        checker::judge(&seen, &shown, &mut load, After::Kill, &mut verdict);
        println!(
            "kill {kill}: {} records read, {} acknowledged, {unanswered} requests unanswered, {staged} entries from staging",
            verdict.records, verdict.acked
        );
        verdict.expect_clean(&broker.said());
        totals.add(verdict);
        kills_with_staged += u64::from(staged > 0);
        staged_total += staged;
    }
    let load = load.start(broker.address(), seen.ends()).finish();
    let duplicates = load.duplicates();
    println!(
        "{KILLS} kills, {kills_with_staged} with entries that only staging memory had ({staged_total}), \
         {duplicates} duplicates answered, {totals:?}"
    );
    assert!(2 * kills_with_staged >= KILLS, "the kills came when no group was open");
    assert!(duplicates > 0, "no resent batch was a duplicate");
    stop_and_start(home, broker, load, &seen);
}

/// A clean stop leaves nothing to recover.
fn stop_and_start(mut home: Home, broker: Broker, mut load: Load, seen: &Seen) {
    let status = broker.stop();
    assert!(status.success(), "SIGTERM ends it with {status}");
    let broker = home.start();
    for metric in ["recovery_groups", "recovery_groups_staged", "recovery_entries", "recovery_entries_staged"]
    {
        assert_eq!(broker.metric(metric), 0, "{metric} after a clean stop");
    }
    let mut verdict = Verdict::default();
    let now = checker::read_all(broker.address(), &mut verdict);
    checker::judge(&now, seen, &mut load, After::Kill, &mut verdict);
    println!("after a clean stop: {verdict:?}");
    verdict.expect_clean(&broker.said());
    assert!(broker.stop().success());
}
