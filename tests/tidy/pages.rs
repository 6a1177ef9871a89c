//! Each error that a user meets has a page, and each page says the same three things.
//!
//! A page under `docs/errors` is named by the slug that `src/errors.rs` gives its error. That every slug
//! has a page is tested beside `src/errors.rs`, where the slugs can be listed; here the pages are read.

use crate::lexer::{self, Kind};
use crate::tree::{Report, Tree, is_within};

const FOLDER: &str = "docs/errors";
const ERRORS: &str = "src/errors.rs";
const SECTIONS: [&str; 3] = ["## What happened", "## What was kept", "## What to do"];

/// Pages without their sections, and pages that no error names.
pub(crate) fn check(tree: &Tree) -> Report {
    let mut report = Report::default();
    if !tree.has(ERRORS) {
        report.nothing_yet = Some("the errors that a user meets are not listed yet");
    }
    let slugs = slugs(tree.text(ERRORS).unwrap_or_default());
    for (path, text) in &tree.files {
        let Some(slug) = slug(path) else { continue };
        let sections: Vec<&str> = text.lines().filter(|line| line.starts_with("## ")).collect();
        report.compare(sections == SECTIONS, || format!("{path}: its sections are not {SECTIONS:?}"));
        let named = report.nothing_yet.is_some() || slugs.contains(&slug);
        report.compare(named, || format!("{path}: {ERRORS} has no slug \"{slug}\""));
    }
    report
}

fn slug(path: &str) -> Option<&str> {
    let name = path.strip_prefix(FOLDER).filter(|_| is_within(path, FOLDER))?.trim_start_matches('/');
    name.strip_suffix(".md").filter(|slug| *slug != "README")
}

/// The strings of the code, as a slug would be written.
fn slugs(text: &str) -> Vec<&str> {
    let literals = lexer::tokens(text).into_iter().filter(|token| token.kind == Kind::Literal);
    literals.map(|token| token.text.trim_matches('"')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# E-A: a\n\n## What happened\n\n## What was kept\n\n## What to do\n";

    fn findings(page: &str, errors: &str) -> usize {
        check(&Tree::of(&[("docs/errors/port-taken.md", page), (ERRORS, errors)])).findings.len()
    }

    #[test]
    fn a_page_without_its_sections_is_found() {
        assert_eq!(findings(PAGE, "const A: &str = \"port-taken\";"), 0);
        assert_eq!(findings(&PAGE.replace("kept", "lost"), "const A: &str = \"port-taken\";"), 1);
        assert_eq!(findings("", "const A: &str = \"port-taken\";"), 1);
    }

    #[test]
    fn a_page_that_no_error_names_is_found() {
        assert_eq!(findings(PAGE, "// \"port-taken\"\nconst A: &str = \"port-taken-twice\";"), 1);
    }

    #[test]
    fn nothing_to_compare_is_a_finding_once_errors_are_listed() {
        assert!(check(&Tree::of(&[])).nothing_yet.is_some());
        let report = check(&Tree::of(&[(ERRORS, "")]));
        assert_eq!((report.compared, report.nothing_yet), (0, None));
    }
}
