//! The house rules as tests: each `#[test]` here holds one rule against the whole repository.
//!
//! | module | holds |
//! |---|---|
//! | [`layers`] | which module may name which; where glommio, io_uring and tokio are at home |
//! | [`lengths`] | lines of files (a ratchet) and of functions |
//! | [`modules`] | no dead file, no logic in a module map |
//! | [`unsafety`] | `unsafe` in named files, each with its reason |
//! | [`words`] | unfinished code, sleeping tests, paths of one machine |
//! | [`pages`] | the pages of the errors that a user meets |
//! | [`planted`] | planted bugs are switched on by no manifest |
//! | [`licences`] | licences of all dependencies, and `Cargo.lock` in step |
//! | [`tree`], [`source`], [`lexer`] | the repository as text, parsed as far as the rules need |
//!
//! Rules read text, not a compiler's tree: they run in a second, need no build of what they judge, and a
//! planted violation is a string. Each rule prints how much it compared. A rule that compared nothing
//! fails, unless it names what does not exist yet.

mod layers;
mod lengths;
mod lexer;
mod licences;
mod modules;
mod pages;
mod planted;
mod source;
mod tree;
mod unsafety;
mod words;

use std::io::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use tree::{Report, Tree};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

static TREE: LazyLock<Tree> = LazyLock::new(|| Tree::load(root()));

/// Prints what a rule compared, past the capture of test output, and fails on what it found.
fn hold(rule: &str, report: &Report) {
    let reason = report.nothing_yet.filter(|_| report.compared == 0);
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let line =
        format!("tidy: {rule}: {} compared, {} found{reason}\n", report.compared, report.findings.len());
    std::io::stderr().write_all(line.as_bytes()).expect("standard error is open");
    assert!(report.findings.is_empty(), "{rule}:\n  {}", report.findings.join("\n  "));
    assert!(compared_enough(report), "{rule}: nothing was compared");
}

fn compared_enough(report: &Report) -> bool {
    report.compared > 0 || report.nothing_yet.is_some()
}

#[test]
fn names_go_down() {
    hold("names go down", &layers::order(&TREE));
}

#[test]
fn rules_name_what_exists() {
    hold("rules name what exists", &layers::places(&TREE));
}

#[test]
fn libraries_stay_at_home() {
    hold("libraries stay at home", &layers::homes(&TREE));
}

#[test]
fn the_core_is_synchronous() {
    hold("the core is synchronous", &layers::heart(&TREE));
}

#[test]
fn only_tests_name_the_simulator() {
    hold("only tests name the simulator", &layers::simulator(&TREE));
}

#[test]
fn files_stay_short() {
    hold("files stay short", &lengths::files(&TREE));
}

#[test]
fn functions_stay_short() {
    hold("functions stay short", &lengths::functions(&TREE));
}

#[test]
fn every_file_is_compiled() {
    hold("every file is compiled", &modules::dead(&TREE));
}

#[test]
fn module_maps_hold_no_logic() {
    hold("module maps hold no logic", &modules::maps(&TREE));
}

#[test]
fn unsafe_stays_in_its_places() {
    hold("unsafe stays in its places", &unsafety::check(&TREE));
}

#[test]
fn code_is_finished() {
    hold("code is finished", &words::code(&TREE));
}

#[test]
fn text_is_clean() {
    hold("text is clean", &words::text(&TREE));
}

#[test]
fn errors_have_their_pages() {
    hold("errors have their pages", &pages::check(&TREE));
}

#[test]
fn planted_bugs_stay_planted() {
    hold("planted bugs stay planted", &planted::check(&TREE));
}

#[test]
fn licences_are_allowed() {
    for package in [root().to_owned(), root().join("fuzz")] {
        hold("licences are allowed", &licences::check(&TREE, &licences::metadata(&package)));
    }
}

#[test]
fn nothing_compared_is_not_enough() {
    assert!(!compared_enough(&Report::default()));
    assert!(compared_enough(&Report { compared: 1, ..Report::default() }));
    assert!(compared_enough(&Report { nothing_yet: Some("an example"), ..Report::default() }));
}
