//! The inputs under `fuzz/corpus`, in the order of their names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// An input and its file's name.
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// A target's inputs.
pub(crate) fn of(target: &str) -> Vec<Input> {
    let folder = folder(target);
    let read = |name: String| Input { bytes: fs::read(folder.join(&name)).expect("just listed"), name };
    names_in(&folder).into_iter().map(read).collect()
}

/// The names in a folder.
pub(crate) fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("readable").file_name().into_string();
    entries.map(|entry| name(entry).expect("names in the source tree are UTF-8")).collect()
}
