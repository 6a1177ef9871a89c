//! The source tree as the rules see it: paths relative to the root, and the text of each file.
//!
//! A rule is a function from a [`Tree`] to a [`Report`], so that a test can plant a violation as a string.
//! Only [`Tree::load`] touches the disk. Files that are not UTF-8 (golden files, captured frames) are left
//! out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::source::Source;

/// Folders that hold no source of ours: build output, a broker's data, other languages' packages, version
/// control, changed dependencies.
const SKIPPED: [&str; 6] = ["target", "corelane-data", "node_modules", ".git", ".venv", "vendor"];

/// Text files by path, with `/` between folders.
#[derive(Default)]
pub(crate) struct Tree {
    pub(crate) files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the tree below `root`.
    pub(crate) fn load(root: &Path) -> Self {
        let mut tree = Self::default();
        tree.load_folder(root, "");
        tree
    }

    /// A tree of the given paths and texts.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        Self { files: files.collect() }
    }

    fn load_folder(&mut self, folder: &Path, prefix: &str) {
        for entry in fs::read_dir(folder).expect("a folder of the source tree can be read") {
            let entry = entry.expect("an entry of the source tree can be read");
            let name = entry.file_name().into_string().expect("names in the source tree are UTF-8");
            let kind = entry.file_type().expect("an entry of the source tree has a type");
            let path = format!("{prefix}{name}");
            if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
                self.load_folder(&entry.path(), &format!("{path}/"));
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).expect("a file of the source tree can be read");
                self.files.extend(String::from_utf8(bytes).ok().map(|text| (path, text)));
            }
        }
    }

    /// Every Rust file, parsed.
    pub(crate) fn sources(&self) -> Vec<Source<'_>> {
        let rust = self.files.iter().filter(|(path, _)| path.ends_with(".rs"));
        rust.map(|(path, text)| Source::parse(path, text)).collect()
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether `place` is a file of the tree, or a folder with a file in it.
    pub(crate) fn has(&self, place: &str) -> bool {
        self.files.keys().any(|path| is_within(path, place))
    }
}

/// Whether `path` is the file `place`, or lies in the folder `place`.
pub(crate) fn is_within(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a rule compared, and what it found against it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) compared: usize,
    pub(crate) findings: Vec<String>,
    /// Why there may be nothing to compare yet; without a reason, nothing compared is a finding.
    pub(crate) nothing_yet: Option<&'static str>,
}

impl Report {
    /// Counts one comparison and keeps `finding` when it does not hold.
    pub(crate) fn compare(&mut self, holds: bool, finding: impl FnOnce() -> String) {
        self.compared += 1;
        if !holds {
            self.findings.push(finding());
        }
    }
}
