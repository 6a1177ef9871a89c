//! Many seeds, each a world of its own; what they met is printed, and a branch that none met is a failure.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use corelane_shards::core::Rules;
use corelane_shards::sim::{self, Hits, Outcome};

/// Events in each world, before it is let come to rest.
pub const STEPS: usize = 500;

/// Branches and faults that a run of all seeds must have met.
const MUST_BE_MET: &[&str] = &[
    "append",
    "complete",
    "turn",
    "fetch",
    "watch",
    "seek",
    "write indexes",
    "index written",
    "index read",
    "index page not used",
    "index bit flipped",
    "index cut",
    "index lost",
    "old index came back",
    "index forgotten",
    "read ahead",
    "read ahead used",
    "read joined",
    "watch given up",
    "record awaited",
    "watched log deleted",
    "survivor sent again",
    "idle shard",
    "room told",
    "checkpoint",
    "wait",
    "jump",
    "delete records",
    "recreate",
    "kill",
    "power",
    "fork",
    "busy",
    "settled",
    "bit flipped",
    "damage reported at a restart",
    "damage reported by a fetch",
    "damage of root or manifest reported",
    "damage of a durable group reported",
    "damage of a settled batch reported",
    "segment file removed",
    "segment file cut",
    "cut segment file reported",
    "gap refused",
    "journal grown",
    "partition stopped",
    "checkpoint completed",
    "chunk evicted",
    "lazy write",
    "run from reserve",
    "large by value",
    "roll by size",
    "roll by time",
    "trim",
    "no space left",
    "write misdirected",
    "read came up short",
    "producer expired",
    "log set aside",
    "log known again",
    "calm world",
    "died in append",
    "died in a turn",
    "died in recovery",
    "died behind a manifest",
    "died while the journal grew",
    "died before a failed flush was told",
    "duplicate recognised",
    "acks=1 lost with the power",
    "operation failed",
    "shard stopped",
    "groups from the journal",
    "groups from staging memory",
    "entries replayed",
    "entries from staging memory",
    "logs cut at a digest",
    "logs moved on",
    "stop",
    "stopped cleanly",
    "stopped with something left to recover",
    "entries of deleted logs",
];

/// How many seeds to run: the environment may say.
fn seeds() -> u64 {
    std::env::var("CORELANE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(500)
}

/// Runs one seed; a panic of the core is a finding like any other.
pub fn run(seed: u64, rules: &Rules) -> Result<Outcome, String> {
    let is_traced = std::env::var("CORELANE_SEED").is_ok();
    let trace = |event: &str, world: &sim::World| {
        if is_traced {
            println!("{event:14} {}", world.describe());
        }
    };
    match catch_unwind(AssertUnwindSafe(|| sim::run(seed, STEPS, rules, trace))) {
        Ok(result) => result.map_err(|violation| violation.0),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(format!("panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("of no text")))
        }
    }
}

/// Applies `work` to every seed below `seeds`, on as many threads as there are CPUs, until it says stop.
pub fn for_each_seed(seeds: u64, work: impl Fn(u64) -> bool + Sync) {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || !work(seed) {
                        next.store(seeds, Ordering::Relaxed);
                        return;
                    }
                }
            });
        }
    });
}

#[test]
fn every_promise_is_kept() {
    let seeds = seeds();
    let failures: Mutex<BTreeMap<u64, String>> = Mutex::default();
    let total: Mutex<(Hits, BTreeMap<&str, u64>)> = Mutex::default();
    let started = std::time::Instant::now();
    let only = std::env::var("CORELANE_SEED").ok().and_then(|text| text.parse::<u64>().ok());
    for_each_seed(seeds, |seed| {
        if only.is_some_and(|only| only != seed) {
            return true;
        }
        match run(seed, &Rules::default()) {
            Ok(outcome) => add(&mut total.lock().expect("no panic while it is held"), &outcome),
            Err(failure) => {
                failures.lock().expect("no panic while it is held").insert(seed, failure);
            }
        }
        failures.lock().expect("no panic while it is held").len() < 20
    });
    let (hits, compared) = total.into_inner().expect("no panic while it is held");
    println!("{seeds} seeds of {STEPS} events and their end in {:.1?}", started.elapsed());
    println!("compared: {compared:?}");
    for (name, count) in &hits.counts {
        println!("  {count:>10}  {name}");
    }
    let failures = failures.into_inner().expect("no panic while it is held");
    for (seed, failure) in failures.iter().take(20) {
        println!("seed {seed}: {failure}");
    }
    assert!(failures.is_empty(), "{} of {seeds} seeds failed", failures.len());
    let unmet: Vec<_> =
        MUST_BE_MET.iter().filter(|name| hits.counts.get(*name).is_none_or(|c| *c == 0)).collect();
    assert!(unmet.is_empty(), "no seed met {unmet:?}");
    assert!(compared.values().all(|count| *count > 0), "something was compared nowhere: {compared:?}");
}

fn add(total: &mut (Hits, BTreeMap<&str, u64>), outcome: &Outcome) {
    total.0.merge(&outcome.hits);
    let c = outcome.compared;
    for (name, count) in [
        ("batches read", c.batches_read),
        ("logs after a restart", c.logs),
        ("batches recovered", c.batches_recovered),
        ("acknowledged batches", c.acked_checked),
        ("looks for a time", c.times),
        ("epochs after a restart", c.epochs),
        ("bytes of segment files", c.file_bytes),
        ("states against their replay", c.replays),
        ("sectors dropped by power loss", outcome.faults.sectors_dropped),
        ("sectors turned to garbage", outcome.faults.sectors_garbled),
        ("files lost with their directory", outcome.faults.files_lost),
    ] {
        *total.1.entry(name).or_default() += count;
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let compared = AtomicU64::new(0);
    for_each_seed(1000.min(seeds() * 2), |seed| {
        let fingerprint =
            || run(seed, &Rules::default()).map(|outcome| (outcome.fingerprint, outcome.hits.counts));
        assert_eq!(fingerprint(), fingerprint(), "seed {seed}");
        compared.fetch_add(1, Ordering::Relaxed);
        true
    });
    let compared = compared.into_inner();
    println!("{compared} of {compared} seeds ran the same twice");
    assert!(compared > 0);
}
