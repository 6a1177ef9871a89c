//! Every file is part of a crate, and a module map holds no logic.
//!
//! A `.rs` file that no `mod` reaches is compiled by nobody and lies about the code. `lib.rs` and `mod.rs`
//! are maps: documentation, attributes, `mod`, `use` and `type`. What they would otherwise hold belongs in
//! a file with a name.

use std::collections::BTreeSet;

use crate::lexer::Token;
use crate::source::{Declared, Source, attribute_end, group_end, item_end};
use crate::tree::{Report, Tree};

/// Packages of the repository, as prefixes of paths.
const PACKAGES: [&str; 4] = ["", "shards/", "perf/", "fuzz/"];

/// Files that no chain of `mod` leads to from a root.
pub(crate) fn dead(tree: &Tree) -> Report {
    let mut report = Report::default();
    let sources = tree.sources();
    let mut reached: BTreeSet<String> = BTreeSet::new();
    let mut waiting: Vec<String> =
        sources.iter().map(|source| source.path.to_owned()).filter(|path| is_root(path)).collect();
    while let Some(path) = waiting.pop() {
        let Some(source) = sources.iter().find(|source| source.path == path) else { continue };
        if reached.insert(path) {
            waiting.extend(children(source));
        }
    }
    for source in &sources {
        report.compare(reached.contains(source.path), || format!("{}: no `mod` leads here", source.path));
    }
    report
}

/// Whether cargo compiles the file without a `mod`: the roots of libraries, programs, tests, benches and
/// fuzz targets.
fn is_root(path: &str) -> bool {
    PACKAGES.iter().filter_map(|package| path.strip_prefix(package)).any(|inner| {
        let parts: Vec<&str> = inner.split('/').collect();
        let package = matches!(parts[..], ["build.rs"] | ["src", "main.rs" | "lib.rs"]);
        let program = matches!(parts[..], ["src", "bin", _] | ["src", "bin", _, "main.rs"]);
        let kind = matches!(parts[0], "tests" | "benches" | "examples" | "fuzz_targets");
        package || program || (kind && matches!(parts[1..], [_] | [_, "main.rs"]))
    })
}

/// Files that are compiled for tests alone: a `mod` under `#[cfg(test)]` leads there.
pub(crate) fn test_files(sources: &[Source<'_>]) -> BTreeSet<String> {
    let declared = |source: &Source<'_>| children_where(source, |declared| declared.test);
    let mut waiting: Vec<String> = sources.iter().flat_map(declared).collect();
    let mut found = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        let Some(source) = sources.iter().find(|source| source.path == path) else { continue };
        if found.insert(path) {
            waiting.extend(children(source));
        }
    }
    found
}

/// The files that the `mod` declarations of a file may stand for.
fn children(source: &Source<'_>) -> Vec<String> {
    children_where(source, |_| true)
}

fn children_where(source: &Source<'_>, is_wanted: impl Fn(&Declared<'_>) -> bool) -> Vec<String> {
    let (folder, name) = source.path.rsplit_once('/').unwrap_or(("", source.path));
    let own = match name {
        "mod.rs" => folder.to_owned(),
        _ if is_root(source.path) => folder.to_owned(),
        _ => format!("{folder}/{}", name.trim_end_matches(".rs")),
    };
    let mut files = Vec::new();
    for declared in source.declared().iter().filter(|declared| is_wanted(declared)) {
        let below = [&[own.as_str()], &declared.within[..]].concat().join("/");
        match declared.file {
            Some(file) if declared.within.is_empty() => files.push(format!("{folder}/{file}")),
            Some(file) => files.push(format!("{below}/{file}")),
            None => {
                let name = declared.name;
                files.extend([format!("{below}/{name}.rs"), format!("{below}/{name}/mod.rs")]);
            }
        }
    }
    files
}

/// Items of a module map that are more than a map.
pub(crate) fn maps(tree: &Tree) -> Report {
    let mut report = Report::default();
    for source in tree.sources() {
        let name = source.path.rsplit('/').next();
        if !matches!(name, Some("lib.rs" | "mod.rs")) {
            continue;
        }
        report.compare(true, String::new);
        let mut at = 0;
        while at < source.code.len() {
            let (is_map, next) = item(&source.code, at);
            report.compare(is_map, || {
                format!("{}:{}: a module map holds no logic", source.path, source.code[at].line)
            });
            at = next;
        }
    }
    report
}

/// Whether the item at `at` belongs in a map, and where the next one begins.
fn item(code: &[Token<'_>], at: usize) -> (bool, usize) {
    if let Some(end) = attribute_end(code, at) {
        return (true, end);
    }
    let end = item_end(code, at).max(at + 1);
    let visibility = match code[at..] {
        [public, open, ..] if public.is_word("pub") && open.is_mark('(') => group_end(code, at + 1) - at,
        [public, ..] if public.is_word("pub") => 1,
        _ => 0,
    };
    // An import with braces ends before its semicolon, which then stands alone.
    let is_map = match &code[at..end][visibility..] {
        [keyword, rest @ ..] if keyword.is_word("mod") => !rest.iter().any(|token| token.is_mark('{')),
        [keyword, ..] => matches!(keyword.text, "use" | "type" | ";"),
        [] => false,
    };
    (is_map, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_nothing_declares_is_found() {
        let tree = Tree::of(&[
            (
                "shards/src/lib.rs",
                "mod core; #[cfg(test)] mod tests; /* mod lost; */ #[path = \"odd.rs\"] mod even;",
            ),
            ("shards/src/core/mod.rs", "mod log; mod inner { mod deep; }"),
            ("shards/src/core/log.rs", "mod index;"),
            ("shards/src/core/log/index.rs", ""),
            ("shards/src/core/inner/deep.rs", ""),
            ("shards/src/tests.rs", ""),
            ("shards/src/odd.rs", ""),
            ("shards/src/lost.rs", ""),
            ("shards/src/core/index.rs", ""),
        ]);
        let expected =
            ["shards/src/core/index.rs: no `mod` leads here", "shards/src/lost.rs: no `mod` leads here"];
        assert_eq!(dead(&tree).findings, expected);
    }

    #[test]
    fn targets_need_no_declaration() {
        let tree = Tree::of(&[
            ("src/main.rs", ""),
            ("tests/tidy/main.rs", "mod tree;"),
            ("tests/tidy/tree.rs", ""),
            ("tests/tidy/stray.rs", ""),
            ("benches/append.rs", ""),
            ("fuzz/fuzz_targets/frame.rs", ""),
        ]);
        assert_eq!(dead(&tree).findings, ["tests/tidy/stray.rs: no `mod` leads here"]);
    }

    #[test]
    fn logic_in_a_map_is_found() {
        let found = |text: &str| maps(&Tree::of(&[("src/api/mod.rs", text)])).findings.len();
        let map = "//! Doc.\n#![warn(x)]\n#[cfg(a)] pub mod b; mod c;\n\
                   pub(crate) use b::{D, e}; pub type F = b::D<[u8; 4]>;";
        assert_eq!(found(map), 0);
        for logic in [
            "fn f() {}",
            "pub struct S;",
            "const C: u8 = 1;",
            "mod inline { fn f() {} }",
            "pub(crate) enum E {}",
        ] {
            assert_ne!(found(&format!("mod a; {logic}")), 0, "{logic}");
        }
        assert_eq!(maps(&Tree::of(&[("src/api/fetch.rs", "fn f() {}")])).findings.len(), 0);
    }
}
