//! Which module may name which.
//!
//! In `src`, names go down: `main -> cli -> broker -> api -> cluster -> shards`. Modules of one height do not name
//! each other, `admin` stands beside `api`, and what everybody uses (`config`, `errors`, for tests `testing`) lies
//! below. `wire` is a leaf that only `api` names.
//!
//! In the engine names go down too, outside of tests: a shard's parts at the top, which run together and name each
//! other, the network and the disk below them, then the core and the ring, then bytes, memory and time.
//!
//! A new module at the top of either needs a height here first, and what is named here has to exist.
//!
//! Across the repository, a library that must stay replaceable is named only where it is at home, and the
//! synchronous heart of the engine names neither a runtime, a clock, a file nor a socket: that is what lets
//! a simulator drive it.

use crate::modules::test_files;
use crate::source::{Named, Source};
use crate::tree::{Report, Tree, is_within};

/// The modules at the top of a crate, by height; a module names only lower ones.
struct Heights {
    folder: &'static str,
    crate_name: &'static str,
    /// What stands for the root, `main.rs` and `lib.rs`, which may name all.
    root: &'static str,
    modules: &'static [(&'static str, u8)],
    /// The height whose modules may name each other.
    knot: Option<u8>,
}

/// The broker's. The engine is below them all.
const BROKER: Heights = Heights {
    folder: "src",
    crate_name: "corelane",
    root: "main",
    modules: &[
        ("main", 9),
        ("cli", 8),
        ("broker", 7),
        ("api", 6),
        ("admin", 6),
        ("cluster", 5),
        ("wire", 4),
        ("config", 3),
        ("records", 3),
        ("errors", 2),
        ("testing", 0),
    ],
    knot: None,
};

/// The engine's.
const ENGINE: Heights = Heights {
    folder: "shards/src",
    crate_name: "corelane_shards",
    root: "lib",
    modules: &[
        ("lib", 9),
        ("runtime", 5),
        ("router", 5),
        ("engine", 5),
        ("driver", 5),
        ("background", 5),
        ("net", 4),
        ("directory", 4),
        ("sim", 4),
        ("core", 3),
        ("ring", 3),
        ("format", 2),
        ("memory", 2),
        ("throttle", 2),
        ("clock", 1),
        ("limits", 0),
        ("types", 0),
        ("testing", 0),
    ],
    knot: Some(5),
};

/// Where `wire` may be named.
const WIRE_USERS: [&str; 2] = ["src/wire", "src/api"];

/// Everything of ours that `wire` may name.
const WIRE_NAMES: [&[&str]; 2] = [&["corelane", "wire"], &["corelane_shards", "types"]];

/// Crates with a home: the files and folders that may name them.
const HOMES: [(&str, &[&str]); 4] = [
    ("glommio", &["shards/src/runtime", "shards/src/driver", "shards/src/background.rs"]),
    ("io_uring", &["shards/src/ring", "perf/src/floor/ring.rs"]),
    ("tokio", &["src", "tests"]),
    ("corelane_perf", &["src/cli", "perf", "tests", "benches"]),
];

/// Names that a package's manifest may not depend on.
const REFUSED_DEPENDENCIES: [(&str, &[&str]); 2] = [
    ("perf/Cargo.toml", &["corelane", "corelane-shards", "glommio", "kafka-protocol", "tokio"]),
    ("shards/Cargo.toml", &["corelane", "corelane-perf", "kafka-protocol", "tokio"]),
];

/// The part of the engine that is a state machine.
const HEART: [&str; 2] = ["shards/src/core", "shards/src/format"];

/// Crates by which the heart could reach the machine.
const OUTSIDE_CRATES: [&str; 5] = ["glommio", "io_uring", "tokio", "rustix", "libc"];

/// The order of modules in the broker and in the engine, and who may name `wire`.
pub(crate) fn order(tree: &Tree) -> Report {
    let mut report = Report::default();
    let sources = tree.sources();
    let tests = test_files(&sources);
    for (heights, counts_tests) in [(&BROKER, true), (&ENGINE, false)] {
        for source in sources.iter().filter(|source| is_within(source.path, heights.folder)) {
            let module = source.module().first().copied().unwrap_or(heights.root);
            report.compare(heights.of(module).is_some(), || {
                format!("{}: `{module}` has no height in tests/tidy/layers.rs", source.path)
            });
            for named in source.named() {
                if counts_tests || !(named.test || tests.contains(source.path)) {
                    check_order(&mut report, heights, source, module, &named);
                }
            }
        }
    }
    for source in sources.iter().filter(|source| is_within(source.path, BROKER.folder)) {
        source.named().iter().for_each(|named| check_wire(&mut report, source, named));
    }
    report
}

/// The modules, files and folders that the rules here name exist: a rule about nothing is taken for one that holds.
pub(crate) fn places(tree: &Tree) -> Report {
    let mut report = Report::default();
    let homes = HOMES.iter().flat_map(|(_, places)| places.iter());
    for place in homes.chain(&WIRE_USERS).chain(&HEART) {
        report.compare(tree.has(place), || format!("tests/tidy/layers.rs: {place} does not exist"));
    }
    for Heights { folder, modules, .. } in [&BROKER, &ENGINE] {
        for (module, _) in *modules {
            let file = format!("{folder}/{module}.rs");
            let exists = tree.has(&file) || tree.has(&format!("{folder}/{module}/mod.rs"));
            report.compare(exists, || format!("tests/tidy/layers.rs: there is no {file} or folder"));
        }
    }
    report
}

impl Heights {
    fn of(&self, module: &str) -> Option<u8> {
        self.modules.iter().find(|(name, _)| *name == module).map(|(_, height)| *height)
    }
}

fn check_order(report: &mut Report, heights: &Heights, source: &Source<'_>, module: &str, named: &Named) {
    let [first, target, ..] = &named.segments[..] else { return };
    let Some((from, to)) = heights.of(module).zip(heights.of(target)) else { return };
    if first == heights.crate_name && target != module {
        let is_knot = from == to && heights.knot == Some(from);
        report.compare(to < from || is_knot, || {
            format!("{}:{}: `{module}` may not name `{target}`", source.path, named.line)
        });
    }
}

fn check_wire(report: &mut Report, source: &Source<'_>, named: &Named) {
    if is_within(source.path, "src/wire") {
        let ours = named.segments[0].starts_with("corelane");
        let allowed = WIRE_NAMES.iter().any(|prefix| named.starts_with(prefix));
        report.compare(!ours || allowed, || {
            format!("{}:{}: `wire` names nothing of ours but types", source.path, named.line)
        });
    } else if named.starts_with(&["corelane", "wire"]) {
        let allowed = WIRE_USERS.iter().any(|place| is_within(source.path, place));
        report.compare(allowed, || format!("{}:{}: only `api` names `wire`", source.path, named.line));
    }
}

/// Crates named outside their homes, and what `perf` and the engine may not depend on.
pub(crate) fn homes(tree: &Tree) -> Report {
    let mut report = Report::default();
    for source in tree.sources() {
        for named in source.named() {
            check_home(&mut report, &source, &named);
        }
    }
    for (manifest, refused) in REFUSED_DEPENDENCIES {
        let lines = tree.text(manifest).unwrap_or_default().lines();
        let keys = lines.map(|line| line.split(['.', ' ', '=']).next().unwrap_or_default());
        for key in keys.filter(|key| !key.is_empty()) {
            report.compare(!refused.contains(&key), || format!("{manifest}: may not depend on {key}"));
        }
    }
    report
}

fn check_home(report: &mut Report, source: &Source<'_>, named: &Named) {
    let first = named.segments[0].as_str();
    let home = HOMES.iter().find(|(name, _)| *name == first);
    let at_home = home.is_none_or(|(_, places)| places.iter().any(|place| is_within(source.path, place)));
    report.compare(at_home, || format!("{}:{}: `{first}` is not at home here", source.path, named.line));
    if is_within(source.path, "perf") {
        report.compare(!matches!(first, "corelane" | "corelane_shards"), || {
            format!("{}:{}: perf speaks TCP and names nothing of the broker", source.path, named.line)
        });
    }
}

/// The heart of the engine names no runtime at all, and outside of tests no clock, file or socket.
pub(crate) fn heart(tree: &Tree) -> Report {
    let mut report = Report::default();
    if !HEART.iter().any(|place| tree.has(place)) {
        report.nothing_yet = Some("the engine has no core and no formats yet");
    }
    for source in tree.sources() {
        if !HEART.iter().any(|place| is_within(source.path, place)) {
            continue;
        }
        report.compare(true, String::new);
        for named in source.named() {
            report.compare(!reaches_outside(&named), || {
                let path = named.segments.join("::");
                format!("{}:{}: `{path}` reaches out of the synchronous core", source.path, named.line)
            });
        }
    }
    report
}

fn reaches_outside(named: &Named) -> bool {
    let segments: Vec<&str> = named.segments.iter().map(String::as_str).collect();
    match segments[..] {
        [first, ..] if OUTSIDE_CRATES.contains(&first) => true,
        ["std", "fs" | "net", ..] => !named.test,
        ["std", "time", "Duration", ..] => false,
        ["std", "time", ..] => !named.test,
        _ => false,
    }
}

/// The simulator is named by itself and by tests; production code does not know that it exists.
pub(crate) fn simulator(tree: &Tree) -> Report {
    let mut report = Report::default();
    for source in tree.sources() {
        let Some(_) = source.crate_name() else { continue };
        let inside =
            ["shards/src/sim", "shards/src/sim.rs"].iter().any(|place| is_within(source.path, place));
        report.compare(true, String::new);
        for named in source.named().iter().filter(|named| !named.test && !inside) {
            report.compare(!named.starts_with(&["corelane_shards", "sim"]), || {
                format!("{}:{}: only tests and the simulator itself name `sim`", source.path, named.line)
            });
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(rule: fn(&Tree) -> Report, path: &str, text: &str) -> usize {
        rule(&Tree::of(&[(path, text)])).findings.len()
    }

    #[test]
    fn a_name_that_goes_up_is_found() {
        assert_eq!(findings(order, "src/cluster/image.rs", "use crate::{types, api::Reply};"), 1);
        assert_eq!(findings(order, "src/admin/server.rs", "fn f() { crate::api::g() }"), 1);
        assert_eq!(findings(order, "src/main.rs", "fn main() { corelane::cli::run() }"), 0);
        assert_eq!(findings(order, "src/api/fetch.rs", "use crate::cluster::Image; use super::registry;"), 0);
    }

    #[test]
    fn a_name_that_goes_up_in_the_engine_is_found_outside_of_tests() {
        let names_up = "use crate::runtime::Shard;";
        assert_eq!(findings(order, "shards/src/net/listener.rs", names_up), 1);
        assert_eq!(findings(order, "shards/src/net/listener.rs", "use crate::{ring, directory};"), 1);
        assert_eq!(findings(order, "shards/src/engine/log.rs", names_up), 0, "the top ones name each other");
        let in_test = format!("#[cfg(test)] mod tests {{ {names_up} }}");
        assert_eq!(findings(order, "shards/src/net/listener.rs", &in_test), 0);
        let files = [
            ("shards/src/net/mod.rs", "mod listener; #[cfg(test)] mod tests;"),
            ("shards/src/net/listener.rs", names_up),
            ("shards/src/net/tests/mod.rs", "mod harness;"),
            ("shards/src/net/tests/harness.rs", names_up),
        ];
        assert_eq!(
            order(&Tree::of(&files)).findings,
            ["shards/src/net/listener.rs:1: `net` may not name `runtime`"]
        );
    }

    #[test]
    fn a_module_without_a_height_is_found() {
        assert_eq!(findings(order, "src/helpers.rs", ""), 1);
        assert_eq!(findings(order, "shards/src/helpers.rs", ""), 1);
    }

    #[test]
    fn a_rule_about_what_does_not_exist_is_found() {
        let all = places(&Tree::of(&[]));
        assert_eq!(all.findings.len(), all.compared);
        let without_it = places(&Tree::of(&[("shards/src/ring/mod.rs", "")]));
        // As a home of io_uring and as a module of the engine.
        assert_eq!(without_it.findings.len() + 2, all.findings.len());
    }

    #[test]
    fn wire_is_a_leaf_with_one_user() {
        assert_eq!(findings(order, "src/broker.rs", "use crate::wire::frame;"), 1);
        assert_eq!(findings(order, "src/api/fetch.rs", "use crate::wire::frame;"), 0);
        assert_eq!(findings(order, "src/wire/frame.rs", "use crate::config::Config;"), 1);
        assert_eq!(findings(order, "src/wire/frame.rs", "use corelane_shards::core::Log;"), 1);
        assert_eq!(
            findings(order, "src/wire/frame.rs", "use super::header; use corelane_shards::types::Offset;"),
            0
        );
    }

    #[test]
    fn a_library_away_from_home_is_found() {
        assert_eq!(findings(homes, "shards/src/net/listener.rs", "use glommio::Task;"), 1);
        assert_eq!(findings(homes, "shards/src/driver/park.rs", "use ::glommio::Task;"), 0);
        assert_eq!(findings(homes, "shards/src/runtime/pin.rs", "fn f() { io_uring::IoUring::new(8); }"), 1);
        assert_eq!(findings(homes, "shards/src/router.rs", "use tokio::sync;"), 1);
        assert_eq!(findings(homes, "perf/src/floor/mod.rs", "use corelane_shards::types;"), 1);
        assert_eq!(findings(homes, "src/api/fetch.rs", "use corelane_perf::client;"), 1);
        assert_eq!(
            findings(
                homes,
                "src/admin/http.rs",
                "// glommio::x\nconst A: &str = \"io_uring::y\"; use tokio::net;"
            ),
            0
        );
    }

    #[test]
    fn a_refused_dependency_is_found() {
        let manifest = "[package]\nname = \"corelane-perf\"\n[dependencies]\n";
        assert_eq!(findings(homes, "perf/Cargo.toml", manifest), 0);
        assert_eq!(
            findings(homes, "perf/Cargo.toml", &format!("{manifest}corelane-shards.workspace = true\n")),
            1
        );
        assert_eq!(findings(homes, "shards/Cargo.toml", "tokio = \"1\"\n"), 1);
    }

    #[test]
    fn a_clock_or_a_file_in_the_core_is_found() {
        let path = "shards/src/core/partition.rs";
        assert_eq!(findings(heart, path, "use std::time::{Duration, Instant};"), 1);
        assert_eq!(findings(heart, path, "use std::{fs, time};"), 2);
        assert_eq!(findings(heart, path, "#[cfg(test)] mod tests { use std::fs; use rustix::io; }"), 1);
        assert_eq!(findings(heart, "shards/src/background/roll.rs", "use std::time::Instant;"), 0);
    }

    #[test]
    fn an_absent_core_says_so() {
        assert!(heart(&Tree::of(&[("src/lib.rs", "")])).nothing_yet.is_some());
        assert!(heart(&Tree::of(&[("shards/src/core/mod.rs", "")])).nothing_yet.is_none());
    }

    #[test]
    fn the_simulator_is_named_by_tests_alone() {
        assert_eq!(findings(simulator, "shards/src/core/log.rs", "use crate::sim::Disk;"), 1);
        assert_eq!(findings(simulator, "src/broker.rs", "fn f() { corelane_shards::sim::run() }"), 1);
        assert_eq!(
            findings(simulator, "shards/src/core/log.rs", "#[cfg(test)] mod tests { use crate::sim::Disk; }"),
            0
        );
        assert_eq!(findings(simulator, "shards/src/sim/disk.rs", "use crate::sim::clock;"), 0);
        assert_eq!(findings(simulator, "shards/src/lib.rs", "#[cfg(feature = \"sim\")] pub mod sim;"), 0);
    }
}
