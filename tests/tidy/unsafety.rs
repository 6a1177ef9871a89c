//! `unsafe` stays in named files, and each block says why it is sound.
//!
//! A place that no longer needs its permission loses it: a listed file or folder without `unsafe` is a
//! finding, and so is one that is missing although the code that uses it is there. The broker itself
//! forbids `unsafe` through its lints.

use crate::lexer::{Kind, Token};
use crate::source::Source;
use crate::tree::{Report, Tree, is_within};

/// A file or folder that may hold `unsafe`, and the file whose presence means that the place must exist.
struct Place {
    path: &'static str,
    expected_by: &'static str,
}

const PLACES: [Place; 3] = [
    Place { path: "shards/src/memory", expected_by: "shards/src/driver.rs" },
    Place { path: "shards/src/ring", expected_by: "shards/src/driver.rs" },
    Place { path: "perf/src/floor/ring.rs", expected_by: "perf/src/floor/mod.rs" },
];

/// `unsafe` outside of its places, without a reason, and places that need no permission.
pub(crate) fn check(tree: &Tree) -> Report {
    let mut report = Report::default();
    let mut used = [false; PLACES.len()];
    for source in tree.sources() {
        let place = PLACES.iter().position(|place| is_within(source.path, place.path));
        for (line, explained) in uses(&source) {
            report.compare(explained, || format!("{}:{line}: `unsafe` without `// SAFETY:`", source.path));
            report.compare(place.is_some(), || {
                format!("{}:{line}: `unsafe` is not allowed in this file", source.path)
            });
            used.iter_mut().enumerate().for_each(|(at, used)| *used |= place == Some(at));
        }
        report.compare(true, String::new);
    }
    for (place, used) in PLACES.iter().zip(used) {
        let due = tree.has(place.path) || tree.has(place.expected_by);
        report.compare(used || !due, || {
            format!("{}: holds no `unsafe`, take it off the list in tests/tidy/unsafety.rs", place.path)
        });
    }
    report
}

/// The line of each `unsafe`, and whether it needs no reason or has one.
fn uses(source: &Source<'_>) -> Vec<(usize, bool)> {
    let tokens = &source.tokens;
    let found = tokens.iter().enumerate().filter(|(_, token)| token.is_word("unsafe"));
    // `#[unsafe(no_mangle)]` is counted too: such an attribute claims something of the whole program.
    found.map(|(at, token)| (token.line, !needs_reason(tokens, at) || has_reason(tokens, at))).collect()
}

/// Blocks, implementations and attributes claim something here; declarations ask their callers to.
fn needs_reason(tokens: &[Token<'_>], at: usize) -> bool {
    let next = tokens[at + 1..].iter().find(|token| token.kind != Kind::Comment);
    next.is_none_or(|next| matches!(next.text, "{" | "impl" | "("))
}

/// Whether a comment with `SAFETY:` stands in front of the statement that holds the token.
fn has_reason(tokens: &[Token<'_>], at: usize) -> bool {
    let statement = tokens[..at]
        .iter()
        .rev()
        .take_while(|token| token.kind == Kind::Comment || !matches!(token.text, ";" | "{" | "}"));
    statement.filter(|token| token.kind == Kind::Comment).any(|comment| comment.text.contains("SAFETY:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).findings
    }

    #[test]
    fn unsafe_outside_of_its_places_is_found() {
        let text = "fn f() {\n    // SAFETY: a reason.\n    let x = unsafe { g() };\n}\n";
        assert!(findings("shards/src/ring/slab.rs", text).is_empty());
        assert_eq!(findings("shards/src/core/log.rs", text).len(), 1);
        assert!(findings("shards/src/core/log.rs", "#![deny(unsafe_code)] // unsafe\n").is_empty());
    }

    #[test]
    fn unsafe_without_a_reason_is_found() {
        for text in [
            "fn f() { unsafe { g() } }",
            "// SAFETY: of another statement.\nlet a = 1; let b = unsafe { g() };",
            "// a reason without its word\nunsafe impl Send for T {}",
        ] {
            assert_eq!(findings("shards/src/memory/slice.rs", text).len(), 1, "{text}");
        }
        let call = "// SAFETY: two\n// lines.\n#[allow(unsafe_code)]\nlet a = unsafe { g() };";
        assert!(findings("shards/src/memory/slice.rs", call).is_empty());
        assert!(findings("shards/src/memory/slice.rs", "pub unsafe fn f() {}").is_empty());
    }

    #[test]
    fn a_permission_that_nobody_needs_is_found() {
        assert_eq!(findings("shards/src/ring/slab.rs", "fn f() {}").len(), 1);
        assert_eq!(findings("shards/src/driver.rs", "fn f() {}").len(), 2);
        assert_eq!(findings("perf/src/floor/mod.rs", "fn f() {}").len(), 1);
        assert!(findings("perf/src/lib.rs", "").is_empty());
    }
}
