//! Each rule of the commit protocol, broken: the simulator must notice. A test that has not been seen failing proves
//! nothing.

use std::sync::Mutex;

use corelane_shards::core::{Rule, Rules};

use crate::seeds::{for_each_seed, run};

/// Within so many seeds a mutant must be found.
const SEEDS_MAX: u64 = 1000;

/// Rules whose breaking another rule masks: they are broken in pairs.
const PAIRS: &[&[Rule]] = &[
    &[Rule::generation_is_new, Rule::groups_are_chained],
    &[Rule::staging_waits_for_durable, Rule::writes_hold_their_memory],
];

/// Rules that are found in pairs only.
const MASKED: &[Rule] = &[
    Rule::generation_is_new,
    Rule::groups_are_chained,
    Rule::staging_waits_for_durable,
    Rule::writes_hold_their_memory,
];

#[test]
fn every_mutant_is_found() {
    let singles = Rule::ALL.iter().filter(|rule| !MASKED.contains(rule)).map(std::slice::from_ref);
    let mut survivors = Vec::new();
    let mut killed = 0;
    for mutant in singles.chain(PAIRS.iter().copied()) {
        match hunt(mutant) {
            Some((seed, failure)) => {
                killed += 1;
                println!("{mutant:?} found by seed {seed}: {failure}");
            }
            None => survivors.push(mutant),
        }
    }
    println!("{killed} mutants found, each within {SEEDS_MAX} seeds");
    assert!(survivors.is_empty(), "not found within {SEEDS_MAX} seeds: {survivors:?}");
    assert!(killed > 0);
}

fn hunt(mutant: &[Rule]) -> Option<(u64, String)> {
    let found = Mutex::new(None);
    let rules = Rules::without(mutant);
    for_each_seed(SEEDS_MAX, |seed| match run(seed, &rules) {
        Ok(_) => true,
        Err(failure) => {
            found.lock().expect("no panic while it is held").get_or_insert((seed, failure));
            false
        }
    });
    found.into_inner().expect("no panic while it is held")
}
