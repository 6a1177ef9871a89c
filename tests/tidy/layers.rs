//! Which module may name which.
//!
//! In `src`, names go down: `main -> cli -> broker -> api -> {coordinator, cluster, security} -> shards`.
//! Modules of one height do not name each other, `admin` stands beside `api`, and what everybody uses
//! (`config`, `errors`, `limits`, `types`, for tests `testing`) lies below. `wire` is a leaf that only `api` and the transport
//! between brokers name. A new module at the top of `src` needs a height here first.
//!
//! Across the repository, a library that must stay replaceable is named only where it is at home, and the
//! synchronous heart of the engine names neither a runtime, a clock, a file nor a socket: that is what lets
//! a simulator drive it.

use crate::source::{Named, Source};
use crate::tree::{Report, Tree, is_within};

/// Modules at the top of `src` by height; a module names only lower ones. The engine is below them all.
const HEIGHTS: [(&str, u8); 15] = [
    ("main", 9),
    ("cli", 8),
    ("broker", 7),
    ("api", 6),
    ("admin", 6),
    ("coordinator", 5),
    ("cluster", 5),
    ("security", 5),
    ("wire", 4),
    ("config", 3),
    ("records", 3),
    ("errors", 2),
    ("limits", 1),
    ("types", 0),
    ("testing", 0),
];

/// Where `wire` may be named.
const WIRE_USERS: [&str; 3] = ["src/wire", "src/api", "src/cluster/transport"];

/// Everything of ours that `wire` may name.
const WIRE_NAMES: [&[&str]; 3] =
    [&["corelane", "wire"], &["corelane", "types"], &["corelane_shards", "types"]];

/// Crates with a home: the files and folders that may name them.
const HOMES: [(&str, &[&str]); 4] = [
    (
        "glommio",
        &[
            "shards/src/runtime.rs",
            "shards/src/runtime",
            "shards/src/driver.rs",
            "shards/src/driver",
            "shards/src/background.rs",
            "shards/src/background",
            "src/broker.rs",
        ],
    ),
    ("io_uring", &["shards/src/ring.rs", "shards/src/ring", "perf/src/floor/ring.rs"]),
    ("tokio", &["src", "tests"]),
    ("corelane_perf", &["src/cli.rs", "src/cli", "perf", "tests", "benches"]),
];

/// Names that a package's manifest may not depend on.
const REFUSED_DEPENDENCIES: [(&str, &[&str]); 2] = [
    ("perf/Cargo.toml", &["corelane", "corelane-shards", "glommio", "kafka-protocol", "tokio"]),
    ("shards/Cargo.toml", &["corelane", "corelane-perf", "kafka-protocol", "tokio"]),
];

/// The part of the engine that is a state machine.
const HEART: [&str; 4] =
    ["shards/src/core", "shards/src/core.rs", "shards/src/format", "shards/src/format.rs"];

/// Crates by which the heart could reach the machine.
const OUTSIDE_CRATES: [&str; 5] = ["glommio", "io_uring", "tokio", "rustix", "libc"];

/// The order of modules in `src`, and who may name `wire`.
pub(crate) fn order(tree: &Tree) -> Report {
    let mut report = Report::default();
    for source in tree.sources().iter().filter(|source| is_within(source.path, "src")) {
        let module = source.module().first().copied().unwrap_or("main");
        report.compare(height(module).is_some(), || {
            format!("{}: `{module}` has no height in tests/tidy/layers.rs", source.path)
        });
        for named in source.named() {
            check_order(&mut report, source, module, &named);
            check_wire(&mut report, source, &named);
        }
    }
    report
}

fn height(module: &str) -> Option<u8> {
    HEIGHTS.iter().find(|(name, _)| *name == module).map(|(_, height)| *height)
}

fn check_order(report: &mut Report, source: &Source<'_>, module: &str, named: &Named) {
    let [first, target, ..] = &named.segments[..] else { return };
    let Some((from, to)) = height(module).zip(height(target)) else { return };
    if first == "corelane" && target != module {
        report.compare(to < from, || {
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
        report.compare(allowed, || {
            format!(
                "{}:{}: only `api` and the transport between brokers name `wire`",
                source.path, named.line
            )
        });
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
        assert_eq!(findings(order, "src/coordinator/group.rs", "fn f() { crate::cluster::g() }"), 1);
        assert_eq!(findings(order, "src/main.rs", "fn main() { corelane::cli::run() }"), 0);
        assert_eq!(findings(order, "src/api/fetch.rs", "use crate::cluster::Image; use super::registry;"), 0);
    }

    #[test]
    fn a_module_without_a_height_is_found() {
        assert_eq!(findings(order, "src/helpers.rs", ""), 1);
    }

    #[test]
    fn wire_is_a_leaf_with_two_users() {
        assert_eq!(findings(order, "src/broker.rs", "use crate::wire::frame;"), 1);
        assert_eq!(findings(order, "src/api/fetch.rs", "use crate::wire::frame;"), 0);
        assert_eq!(findings(order, "src/wire/frame.rs", "use crate::config::Config;"), 1);
        assert_eq!(findings(order, "src/wire/frame.rs", "use corelane_shards::core::Log;"), 1);
        assert_eq!(findings(order, "src/wire/frame.rs", "use super::header; use crate::types::Offset;"), 0);
    }

    #[test]
    fn a_library_away_from_home_is_found() {
        assert_eq!(findings(homes, "shards/src/net/listener.rs", "use glommio::Task;"), 1);
        assert_eq!(findings(homes, "shards/src/driver.rs", "use ::glommio::Task;"), 0);
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
