//! The fuzz targets on a stable toolchain, without a fuzzer: every input of `fuzz/corpus`, then a fixed sequence of changed
//! ones. `CORELANE_FUZZ_INPUTS` says how many of these each target reads.
//!
//! It finds what is near to a known input. What is further away is the fuzzer's: CONTRIBUTING.md says how to run it. An
//! input that it finds goes into the corpus, and so into this test.

mod attempt;
mod corpus;
mod mutation;

use std::collections::BTreeSet;
use std::path::Path;

use attempt::{attempt, one_at_a_time};
use corelane_shards::sim::random::Random;
use fuzz::{ALL, Target, seeds};

#[path = "../../fuzz/src/lib.rs"]
#[allow(unused_imports, reason = "the targets are run from their table")]
mod fuzz;

/// Changed inputs for each target, unless the environment says otherwise.
const INPUTS: usize = 3_000;

#[test]
fn every_input_of_the_corpus_is_read() {
    let _alone = one_at_a_time();
    for target in ALL {
        let inputs = corpus::of(target.name);
        assert!(!inputs.is_empty(), "fuzz/corpus/{}: nothing to replay", target.name);
        for input in &inputs {
            attempt(target, &input.name, &input.bytes).unwrap_or_else(|harm| panic!("{harm}"));
        }
        println!("{}: {} inputs replayed", target.name, inputs.len());
    }
}

#[test]
fn changed_inputs_do_no_harm() {
    let _alone = one_at_a_time();
    let count = std::env::var("CORELANE_FUZZ_INPUTS").map_or(INPUTS, |text| text.parse().expect("a number"));
    for (seed, target) in (1..).zip(ALL) {
        let inputs = corpus::of(target.name);
        let mut random = Random::new(seed);
        for number in 0..count {
            let (from, bytes) = mutation::change(&mut random, &inputs);
            let name = format!("changed input {number} of seed {seed}, from {from}");
            attempt(target, &name, &bytes).unwrap_or_else(|harm| panic!("{harm}"));
        }
        println!("{}: {count} changed inputs read", target.name);
    }
}

#[test]
fn the_corpus_holds_every_seed() {
    let mut compared = 0;
    for seed in seeds() {
        let path = corpus::folder(seed.target).join(&seed.name);
        if std::env::var_os("CORELANE_WRITE_SEEDS").is_some() {
            std::fs::write(&path, &seed.bytes).expect("the corpus can be written");
        }
        let held = std::fs::read(&path).unwrap_or_default();
        assert!(held == seed.bytes, "{}: CORELANE_WRITE_SEEDS=1 makes this test write it", path.display());
        compared += 1;
    }
    println!("{compared} seeds compared");
    assert!(compared >= 100, "{compared} seeds");
}

/// A target that the fuzzer cannot run, or a corpus that nobody reads, would look tested.
#[test]
fn targets_programs_and_corpora_are_the_same() {
    let names: BTreeSet<String> = ALL.iter().map(|target| target.name.to_owned()).collect();
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let programs = corpus::names_in(&fuzz.join("fuzz_targets"));
    let programs: BTreeSet<String> =
        programs.iter().map(|name| name.trim_end_matches(".rs").to_owned()).collect();
    assert_eq!(programs, names);
    assert_eq!(corpus::names_in(&fuzz.join("corpus")), names);
    for name in &names {
        let program =
            std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).expect("just listed");
        assert!(program.contains(&format!("corelane_fuzz::{name}(")), "{name} runs another target");
    }
}

#[test]
fn harm_is_noticed_and_says_what_did_it() {
    let _alone = one_at_a_time();
    let panics = Target { name: "planted", run: |input| assert!(input.len() < 3) };
    assert_eq!(attempt(panics, "short", &[1, 2]), Ok(()));
    let harm = attempt(panics, "long", &[1, 2, 0xab]).expect_err("it panicked");
    assert!(["planted", "long", "0102ab"].iter().all(|part| harm.contains(part)), "{harm}");
    let hoards =
        Target { name: "hoards", run: |_| drop(std::hint::black_box(Vec::<u8>::with_capacity(1 << 30))) };
    let harm = attempt(hoards, "any", &[]).expect_err("it took a GiB");
    assert!(harm.contains("hoards") && harm.contains("MiB"), "{harm}");
}
