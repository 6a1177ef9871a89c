//! Planted bugs stay where they are planted: no feature or dependency of a manifest switches one on.
//!
//! A durability test needs a broker that fails, and nobody else may get it. A feature named `planted-bug-...` may
//! forward to another package's, and a target may require it; whatever else lists one is a finding.

use toml::{Table, Value};

use crate::tree::{Report, Tree};

const PLANTED: &str = "planted-bug";

/// Lists of features that switch a planted bug on.
pub(crate) fn check(tree: &Tree) -> Report {
    let mut report = Report::default();
    for (path, text) in tree.files.iter().filter(|(path, _)| path.ends_with("Cargo.toml")) {
        match text.parse::<Table>() {
            Ok(manifest) => walk(path, &mut Vec::new(), &Value::Table(manifest), &mut report),
            Err(error) => report.compare(false, || format!("{path}: {error}")),
        }
    }
    report
}

fn walk<'a>(file: &str, keys: &mut Vec<&'a str>, value: &'a Value, report: &mut Report) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                keys.push(key);
                walk(file, keys, value, report);
                keys.pop();
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(file, keys, item, report)),
        Value::String(text) => {
            let holds = !text.contains(PLANTED) || may_list(keys);
            report.compare(holds, || format!("{file}: `{}` switches on `{text}`", keys.join(".")));
        }
        _ => {}
    }
}

fn may_list(keys: &[&str]) -> bool {
    match keys {
        ["features", name] => name.starts_with(PLANTED),
        [.., last] => *last == "required-features",
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(manifest: &str) -> usize {
        check(&Tree::of(&[("Cargo.toml", manifest)])).findings.len()
    }

    #[test]
    fn a_planted_bug_that_is_switched_on_is_found() {
        assert_eq!(findings("[features]\ndefault = ['planted-bug-x']"), 1);
        assert_eq!(findings("[features]\nsim = ['shards/planted-bug-x']"), 1);
        assert_eq!(findings("[dependencies]\nshards = { features = ['planted-bug-x'] }"), 1);
        assert_eq!(findings("[features]\nplanted-bug-x = ['shards/planted-bug-x']"), 0);
        assert_eq!(findings("[[example]]\nname = 'x'\nrequired-features = ['planted-bug-x']"), 0);
    }
}
