//! What may not be written: unfinished code, tests that are skipped or that sleep, and lines that belong to
//! one machine.
//!
//! Code is judged by its tokens, so that a string or a comment may speak of `todo!`. The rules about text
//! hold in every text file.

use crate::source::{Source, attribute_end};
use crate::tree::{Report, Tree, is_within};

/// Macros of code that is not finished or was being looked at.
const MACROS: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// Notes of unfinished work; written in two halves, or this file would be its own finding.
const NOTES: [&str; 3] = [concat!("FIX", "ME"), concat!("XX", "X"), concat!("TO", "DO")];

/// Folders of one machine.
const MACHINE_FOLDERS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// A folder beside the repository that a clone does not have.
const NEIGHBOUR: &str = concat!("../sha", "red");

/// The constant that holds the pause between two looks at a condition, in a loop with a deadline.
const PAUSE: &str = "POLL_INTERVAL";

/// Files that tools write or the world agrees on: their text is not ours.
const NOT_OURS: [&str; 2] = ["Cargo.lock", "LICENSE"];

/// Unfinished code, skipped tests and sleeping tests.
pub(crate) fn code(tree: &Tree) -> Report {
    let mut report = Report::default();
    for source in tree.sources() {
        report.compare(true, String::new);
        for at in 0..source.code.len() {
            let finding = unfinished(&source, at);
            report
                .findings
                .extend(finding.map(|what| format!("{}:{}: {what}", source.path, source.code[at].line)));
        }
    }
    report
}

fn unfinished(source: &Source<'_>, at: usize) -> Option<String> {
    let code = &source.code;
    if code[at].is_mark('#') {
        let end = attribute_end(code, at)?;
        let skips = code[at..end].iter().any(|token| token.is_word("ignore"));
        return skips.then(|| "a skipped test shows nothing".to_owned());
    }
    if sleeps(source, at) {
        return Some("a test waits for a condition, it does not sleep".to_owned());
    }
    let called = code.get(at + 1).is_some_and(|next| next.is_mark('!'));
    let found = MACROS.iter().find(|name| code[at].is_word(name))?;
    called.then(|| format!("`{found}!` is not finished code"))
}

/// A call of a function `sleep` in test code. The pause between two looks at a condition of the outside
/// world is no such wait: it says so by its name.
fn sleeps(source: &Source<'_>, at: usize) -> bool {
    let code = &source.code;
    let in_test = source.test[at] || source.crate_name().is_none();
    let is_call = code[at].is_word("sleep") && code.get(at + 1).is_some_and(|next| next.is_mark('('));
    let is_method = at > 0 && (code[at - 1].is_mark('.') || code[at - 1].is_word("fn"));
    let is_pause = code.get(at + 2).is_some_and(|argument| argument.is_word(PAUSE));
    in_test && is_call && !is_method && !is_pause
}

/// Blanks at the ends of lines, notes of unfinished work, and paths of one machine.
pub(crate) fn text(tree: &Tree) -> Report {
    let mut report = Report::default();
    for (path, text) in &tree.files {
        let not_ours = NOT_OURS.iter().any(|name| path == name) || is_within(path, "fuzz/corpus");
        for (line, content) in (1..).zip(text.lines()).filter(|_| !not_ours) {
            let finding = text_finding(content);
            report.compare(finding.is_none(), || format!("{path}:{line}: {}", finding.unwrap_or_default()));
        }
    }
    report
}

fn text_finding(line: &str) -> Option<String> {
    if line.trim_end() != line {
        return Some("blanks at the end of the line".to_owned());
    }
    if let Some(note) = NOTES.iter().find(|note| has_word(line, note)) {
        return Some(format!("`{note}`: do it, or file it"));
    }
    let folder = MACHINE_FOLDERS.iter().find(|folder| has_absolute(line, folder));
    let outside = folder.or_else(|| Some(&NEIGHBOUR).filter(|neighbour| line.contains(**neighbour)));
    outside.map(|outside| format!("`{outside}` is a place on one machine"))
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|character: char| !character.is_alphanumeric() && character != '_').any(|part| part == word)
}

/// A folder's name in the middle of a longer path or of a URL is not the machine's folder.
fn has_absolute(line: &str, folder: &str) -> bool {
    let continues = |character: char| character.is_alphanumeric() || "_.-})".contains(character);
    line.match_indices(folder).any(|(at, _)| !line[..at].ends_with(continues))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(rule: fn(&Tree) -> Report, path: &str, text: &str) -> usize {
        rule(&Tree::of(&[(path, text)])).findings.len()
    }

    #[test]
    fn unfinished_code_is_found() {
        for text in ["fn f() { todo!() }", "fn f() { unimplemented!(\"x\") }", "fn f() { dbg!(1); }"] {
            assert_eq!(findings(code, "src/a.rs", text), 1, "{text}");
        }
        assert_eq!(findings(code, "src/a.rs", "// todo!()\nfn f() { g(\"dbg!\"); let todo = !x; }"), 0);
    }

    #[test]
    fn a_skipped_test_is_found() {
        assert_eq!(findings(code, "src/a.rs", "#[test] #[ignore] fn f() {}"), 1);
        assert_eq!(findings(code, "src/a.rs", "#[cfg_attr(slow, ignore = \"slow\")] fn f() {}"), 1);
        assert_eq!(findings(code, "src/a.rs", "fn ignore() { ignore() }"), 0);
    }

    #[test]
    fn a_sleeping_test_is_found() {
        assert_eq!(findings(code, "tests/engine/main.rs", "use std::thread; fn f() { thread::sleep(D) }"), 1);
        assert_eq!(findings(code, "tests/engine/main.rs", "use std::thread::sleep; fn f() { sleep(D) }"), 1);
        assert_eq!(
            findings(code, "tests/engine/main.rs", "fn f() { while g() { thread::sleep(POLL_INTERVAL) } }"),
            0
        );
        assert_eq!(findings(code, "tests/engine/main.rs", "fn sleep(c: C) { c.sleep(D) }"), 0);
        assert_eq!(
            findings(code, "src/a.rs", "#[cfg(test)] mod tests { fn f() { std::thread::sleep(D) } }"),
            1
        );
        assert_eq!(findings(code, "src/a.rs", "fn f() { std::thread::sleep(D) }"), 0);
    }

    #[test]
    fn notes_and_blanks_are_found_in_any_file() {
        for note in NOTES {
            assert_eq!(findings(text, "docs/a.md", &format!("well, {note}: later\n")), 1, "{note}");
            assert_eq!(findings(text, "docs/a.md", &format!("mktemp a{note}\n")), 0, "{note}");
        }
        assert_eq!(findings(text, "docs/a.md", "a \nb\t\nc\r\nd\n"), 2);
        assert_eq!(findings(text, "Cargo.lock", "a \n"), 0);
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        for folder in MACHINE_FOLDERS {
            assert_eq!(findings(text, "run", &format!("cd {folder}x")), 1, "{folder}");
            assert_eq!(findings(text, "run", &format!("cd target{folder}x")), 0, "{folder}");
        }
        assert_eq!(findings(text, "run", &format!("cat {NEIGHBOUR}/x")), 1);
    }
}
