//! Kills of the broker under load: what acks=1 and acks=all acknowledged is there after each, once, and in order, also
//! where the start that recovers it has another number of shards.

use std::collections::BTreeMap;
use std::thread;

use crate::broker::{Broker, Home};
use crate::checker::{self, After, Seen, Verdict};
use crate::load::{self, Load};
use crate::powercut::{Random, left_out};

const KILLS: usize = 3 * SHARDS.len();

/// The shards of successive starts: every change from 1, 2 or 4 to 1, 2 or 4 comes up once in a round.
const SHARDS: [usize; 9] = [1, 1, 2, 2, 4, 4, 1, 4, 2];

/// Requests that must be without an answer at each kill.
const UNANSWERED_MIN: usize = 32;

#[test]
fn what_was_acknowledged_survives_kills_under_load() {
    if left_out("kill") {
        return;
    }
    let mut home = Home::new("kill").over(&SHARDS);
    let mut broker = home.start();
    load::create_topics(broker.address());
    let mut random = Random::new(1);
    let mut load = Load::new(1);
    let mut seen = Seen::default();
    let mut totals = Verdict::default();
    let mut staged_in = BTreeMap::<usize, Staged>::new();
    for kill in 0..KILLS {
        let (address, shards) = (broker.address(), broker.shards());
        let running = load.start(address, seen.ends());
        let follower = thread::spawn(move || checker::follow(address, seen));
        running.await_acks(200 + random.below(800));
        load = running.kill_in_a_burst(broker, &mut random);
        assert_eq!(load.take_refusals(), Vec::<String>::new());
        let unanswered = load.unanswered();
        assert!(unanswered >= UNANSWERED_MIN, "{unanswered} requests were without an answer");
        load.after_kill();

        broker = home.start();
        let staged = broker.metric("corelane_recovery_entries_staged");
        let (shown, mut verdict) = follower.join().expect("the follower does not panic");
        seen = checker::read_all(broker.address(), &mut verdict);
        checker::judge(&seen, &shown, &mut load, After::Kill, &mut verdict);
        println!(
            "kill {kill}: {shards} shards, then {}; {} records read, {} acknowledged, {unanswered} requests \
             unanswered, {staged} entries that only staging memory had",
            broker.shards(),
            verdict.records,
            verdict.acked
        );
        expect_hops(&broker);
        verdict.expect_clean(&broker.said());
        totals.add(verdict);
        staged_in.entry(shards).or_default().add(staged);
    }
    let load = load.start(broker.address(), seen.ends()).finish();
    let duplicates = load.duplicates();
    println!(
        "{KILLS} kills, entries that only staging memory had, by shards: {staged_in:?}; {duplicates} duplicates \
         answered, {totals:?}"
    );
    let with_staged: usize = staged_in.values().map(|staged| staged.kills_with).sum();
    assert!(2 * with_staged >= KILLS, "the kills came when no group was open");
    assert!(
        staged_in.values().all(|staged| staged.kills_with > 0),
        "staging memory was not needed everywhere"
    );
    assert!(duplicates > 0, "no resent batch was a duplicate");
    stop_and_start(home, broker, load, &seen);
}

/// What recovery found in staging memory alone.
#[derive(Debug, Default)]
struct Staged {
    kills: usize,
    kills_with: usize,
    entries: u64,
}

impl Staged {
    fn add(&mut self, entries: u64) {
        self.kills += 1;
        self.kills_with += usize::from(entries > 0);
        self.entries += entries;
    }
}

/// A reader of all logs on one connection makes several shards work together.
fn expect_hops(broker: &Broker) {
    let hops = broker.metric("corelane_hops_answered_total");
    assert_eq!(hops > 0, broker.shards() > 1, "{hops} hops between {} shards", broker.shards());
}

/// A clean stop leaves nothing to recover.
fn stop_and_start(mut home: Home, broker: Broker, mut load: Load, seen: &Seen) {
    let status = broker.stop();
    assert!(status.success(), "SIGTERM ends it with {status}");
    let broker = home.start();
    for metric in [
        "corelane_recovery_groups",
        "corelane_recovery_groups_staged",
        "corelane_recovery_entries",
        "corelane_recovery_entries_staged",
    ] {
        assert_eq!(broker.metric(metric), 0, "{metric} after a clean stop");
    }
    let mut verdict = Verdict::default();
    let now = checker::read_all(broker.address(), &mut verdict);
    checker::judge(&now, seen, &mut load, After::Kill, &mut verdict);
    println!("after a clean stop: {verdict:?}");
    verdict.expect_clean(&broker.said());
    assert!(broker.stop().success());
}
