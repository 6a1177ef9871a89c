//! How long files and functions may be.
//!
//! A file should stay within 700 lines. `ratchet.txt` lists the files beyond that with their present
//! length, one `LINES PATH` a line: a listed file may not grow, and when it shrinks its number is lowered
//! with it, so that the list only ever gets better. Nothing is longer than 900 lines, listed or not, and
//! the two roots of the broker stay within 50.
//!
//! The length of a function is the number of lines between the braces of its body, blank lines and comments
//! included. No function is longer than 70 lines, test or not: a test that needs more hides its story. Nine
//! in ten of the functions outside of tests are under 26; tests are left out of that share because many
//! one-line tests would buy room for long functions.

use std::collections::BTreeMap;

use crate::tree::{Report, Tree};

const RATCHET: &str = "tests/tidy/ratchet.txt";
const FILE_LINES_WANTED: usize = 700;
const FILE_LINES_MAX: usize = 900;
const ROOT_LINES_MAX: usize = 50;
const ROOTS: [&str; 2] = ["src/main.rs", "src/lib.rs"];
const FUNCTION_LINES_MAX: usize = 70;
const SHORT_FUNCTION_LINES: usize = 25;
const SHORT_FUNCTION_PERCENT: usize = 90;

/// Lines of Rust files and shell scripts, against the limits and the ratchet.
pub(crate) fn files(tree: &Tree) -> Report {
    let mut report = Report::default();
    let mut listed = ratchet(tree, &mut report);
    for (path, text) in &tree.files {
        let is_script = text.starts_with("#!");
        if path.ends_with(".rs") || path.ends_with(".sh") || is_script {
            let finding = file_finding(path, text.lines().count(), listed.remove(path.as_str()));
            report.compare(finding.is_none(), || format!("{path}: {}", finding.unwrap_or_default()));
        }
    }
    for path in listed.keys() {
        report.findings.push(format!("{RATCHET}: {path} is listed and does not exist"));
    }
    report
}

fn ratchet<'a>(tree: &'a Tree, report: &mut Report) -> BTreeMap<&'a str, usize> {
    let mut listed = BTreeMap::new();
    for line in tree.text(RATCHET).unwrap_or_default().lines().filter(|line| !line.starts_with('#')) {
        match line.split_once(' ').map(|(lines, path)| (lines.parse(), path)) {
            Some((Ok(lines), path)) => drop(listed.insert(path, lines)),
            _ => report.findings.push(format!("{RATCHET}: `{line}` is not `LINES PATH`")),
        }
    }
    listed
}

fn file_finding(path: &str, lines: usize, listed: Option<usize>) -> Option<String> {
    match listed {
        _ if ROOTS.contains(&path) && lines > ROOT_LINES_MAX => {
            Some(format!("{lines} lines, a root has at most {ROOT_LINES_MAX}"))
        }
        _ if lines > FILE_LINES_MAX => Some(format!("{lines} lines, no file has more than {FILE_LINES_MAX}")),
        None if lines > FILE_LINES_WANTED => {
            Some(format!("{lines} lines: divide it, or list it in {RATCHET} and say why in the commit"))
        }
        Some(_) if lines <= FILE_LINES_WANTED => Some(format!("{lines} lines: take it off {RATCHET}")),
        Some(number) if lines < number => Some(format!("lower the number to {lines} in {RATCHET}")),
        Some(number) if lines > number => Some(format!("grew from {number} lines to {lines}")),
        _ => None,
    }
}

/// Lines of functions, each and over the tree.
pub(crate) fn functions(tree: &Tree) -> Report {
    let mut report = Report::default();
    let (mut short, mut total) = (0_usize, 0_usize);
    for source in tree.sources() {
        let test_file = source.crate_name().is_none();
        for function in source.functions() {
            report.compare(function.lines <= FUNCTION_LINES_MAX, || {
                let (path, name, lines) = (source.path, function.name, function.lines);
                format!("{path}:{}: `{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}", function.line)
            });
            if !test_file && !function.test {
                total += 1;
                short += usize::from(function.lines <= SHORT_FUNCTION_LINES);
            }
        }
    }
    report.compare(short * 100 >= total * SHORT_FUNCTION_PERCENT, || {
        format!("{short} of {total} functions are under {} lines, too few", SHORT_FUNCTION_LINES + 1)
    });
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_findings(lines: usize, ratchet: &str) -> Vec<String> {
        files(&Tree::of(&[("shards/src/a.rs", &"\n".repeat(lines)), (RATCHET, ratchet)])).findings
    }

    #[test]
    fn a_long_file_is_listed_or_divided() {
        assert!(file_findings(700, "").is_empty());
        assert_eq!(file_findings(701, "").len(), 1);
        assert!(file_findings(701, "# reason\n701 shards/src/a.rs\n").is_empty());
        assert_eq!(file_findings(901, "901 shards/src/a.rs\n").len(), 1);
    }

    #[test]
    fn the_ratchet_turns_one_way() {
        assert_eq!(
            file_findings(800, "799 shards/src/a.rs\n"),
            ["shards/src/a.rs: grew from 799 lines to 800"]
        );
        assert!(file_findings(800, "801 shards/src/a.rs\n")[0].contains("lower the number to 800"));
        assert!(file_findings(700, "701 shards/src/a.rs\n")[0].contains("take it off"));
        assert_eq!(file_findings(1, "701 shards/src/gone.rs\n").len(), 1);
        assert_eq!(file_findings(1, "many\n").len(), 1);
    }

    #[test]
    fn a_root_with_more_than_a_module_map_is_found() {
        assert_eq!(files(&Tree::of(&[("src/main.rs", &"\n".repeat(51))])).findings.len(), 1);
    }

    fn function(lines: usize) -> String {
        format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines))
    }

    #[test]
    fn a_long_function_is_found_in_tests_too() {
        let found = |path: &str, text: &str| functions(&Tree::of(&[(path, text)])).findings.len();
        let padding = function(1).repeat(9);
        assert_eq!(found("shards/src/a.rs", &(function(71) + &padding)), 1);
        assert_eq!(found("shards/src/a.rs", &(function(70) + &padding)), 0);
        assert_eq!(found("tests/engine/main.rs", &function(71)), 1);
    }

    #[test]
    fn tests_buy_no_room_for_long_functions() {
        let found = |text: &str| functions(&Tree::of(&[("shards/src/a.rs", text)])).findings.len();
        assert_eq!(found(&(function(26) + &function(25).repeat(9))), 0);
        assert_eq!(found(&(function(26) + &function(25).repeat(8))), 1);
        assert_eq!(
            found(
                &(function(26) + "#[cfg(test)] mod tests { fn a() {} fn b() {} }" + &function(1).repeat(8))
            ),
            1
        );
    }
}
