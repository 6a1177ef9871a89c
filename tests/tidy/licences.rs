//! Licences of everything that is compiled in, as `cargo metadata` tells them, against the allow-list of
//! `deny.toml`.
//!
//! `deny.toml` is the one list: this rule and `cargo deny` read the same file. An expression holds when an
//! allowed choice exists: `OR` needs one side, `AND` both, `A WITH B` is allowed only as a whole, and the
//! older `A/B` means `OR`. The metadata is asked for with `--locked`, so that a `Cargo.lock` out of step
//! with the manifests is a finding too.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::tree::{Report, Tree};

/// The allow-list, and packages that are allowed a licence of their own.
struct Allowed {
    licences: Vec<String>,
    exceptions: Vec<(String, Vec<String>)>,
}

/// What `cargo metadata` says of the packages that are compiled for this kind of machine.
pub(crate) fn metadata(root: &Path) -> Result<Value, String> {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", &platform])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo metadata cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata --locked: {}", String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))
}

/// Packages whose licence is missing or not allowed.
pub(crate) fn check(tree: &Tree, metadata: &Result<Value, String>) -> Report {
    let mut report = Report::default();
    let (metadata, allowed) = match (metadata, read_allowed(tree)) {
        (Ok(metadata), Some(allowed)) => (metadata, allowed),
        (Err(error), _) => return finding(report, error.clone()),
        (_, None) => return finding(report, "deny.toml: no `licenses.allow`".to_owned()),
    };
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let expression = package["license"].as_str();
        let holds = expression.is_some_and(|expression| allowed.permits(name, expression));
        report.compare(holds, || format!("{name}: licence {expression:?} is not allowed"));
    }
    report
}

fn finding(mut report: Report, finding: String) -> Report {
    report.findings.push(finding);
    report
}

fn read_allowed(tree: &Tree) -> Option<Allowed> {
    let deny: toml::Table = tree.text("deny.toml")?.parse().ok()?;
    let licenses = deny.get("licenses")?;
    let exceptions = licenses.get("exceptions").and_then(toml::Value::as_array);
    let exceptions = exceptions.into_iter().flatten().filter_map(|exception| {
        Some((exception.get("name")?.as_str()?.to_owned(), strings(exception.get("allow")?)?))
    });
    Some(Allowed { licences: strings(licenses.get("allow")?)?, exceptions: exceptions.collect() })
}

fn strings(value: &toml::Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

impl Allowed {
    fn permits(&self, package: &str, expression: &str) -> bool {
        let own = self.exceptions.iter().find(|(name, _)| name == package);
        let own = own.map_or(&[][..], |(_, licences)| licences);
        let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let permitted = |licence: &str| self.licences.iter().chain(own).any(|allowed| allowed == licence);
        let mut reader = Expression { words: &words, permitted: &permitted };
        reader.either() == Some(true) && reader.words.is_empty()
    }
}

/// A reader of SPDX expressions: `OR` binds loosest, then `AND`, then `WITH`. `None` is an expression it
/// cannot read.
struct Expression<'a> {
    words: &'a [&'a str],
    permitted: &'a dyn Fn(&str) -> bool,
}

impl Expression<'_> {
    fn either(&mut self) -> Option<bool> {
        let mut holds = self.both()?;
        while self.take("OR") {
            holds |= self.both()?;
        }
        Some(holds)
    }

    fn both(&mut self) -> Option<bool> {
        let mut holds = self.one()?;
        while self.take("AND") {
            holds &= self.one()?;
        }
        Some(holds)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let holds = self.either()?;
            return self.take(")").then_some(holds);
        }
        let licence = self.word()?;
        if self.take("WITH") {
            let exception = self.word()?;
            return Some((self.permitted)(&format!("{licence} WITH {exception}")));
        }
        // `A+` is "A or any later version", which A itself satisfies.
        Some((self.permitted)(licence.trim_end_matches('+')))
    }

    fn take(&mut self, expected: &str) -> bool {
        let found = self.words.first() == Some(&expected);
        if found {
            self.words = &self.words[1..];
        }
        found
    }

    fn word(&mut self) -> Option<String> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        (!matches!(*first, "OR" | "AND" | "WITH" | "(" | ")")).then(|| (*first).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENY: &str = r#"
        [licenses]
        allow = ["MIT", "ISC", "A WITH B"]
        exceptions = [{ name = "odd", allow = ["MPL"] }]
    "#;

    fn findings(name: &str, licence: Value) -> usize {
        let metadata = serde_json::json!({ "packages": [{ "name": name, "license": licence }] });
        check(&Tree::of(&[("deny.toml", DENY)]), &Ok(metadata)).findings.len()
    }

    #[test]
    fn expressions_are_read() {
        for allowed in [
            "MIT",
            "GPL OR MIT",
            "GPL/MIT",
            "(MIT OR GPL) AND ISC",
            "A WITH B OR GPL",
            "MIT+",
            "GPL AND X OR ISC",
        ] {
            assert_eq!(findings("any", allowed.into()), 0, "{allowed}");
        }
        for refused in [
            "GPL",
            "MIT AND GPL",
            "A",
            "MIT WITH B",
            "(MIT OR ISC) AND GPL",
            "MIT MIT",
            "(MIT",
            "OR MIT",
            "",
            "MIT OR",
        ] {
            assert_eq!(findings("any", refused.into()), 1, "{refused}");
        }
    }

    #[test]
    fn a_package_without_a_licence_is_found() {
        assert_eq!(findings("any", Value::Null), 1);
    }

    #[test]
    fn an_exception_holds_for_its_package_alone() {
        assert_eq!(findings("odd", "MPL+".into()), 0);
        assert_eq!(findings("any", "MPL+".into()), 1);
    }

    #[test]
    fn a_lock_file_out_of_step_and_a_missing_list_are_found() {
        let tree = Tree::of(&[("deny.toml", DENY)]);
        assert_eq!(check(&tree, &Err("cargo metadata --locked: out of step".to_owned())).findings.len(), 1);
        assert_eq!(check(&Tree::of(&[]), &Ok(Value::Null)).findings.len(), 1);
        assert_eq!(check(&tree, &Ok(Value::Null)).compared, 0, "nothing compared, which main.rs refuses");
    }
}
