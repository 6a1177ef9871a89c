//! A run of `corelane dump --json`, and the files of a data directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What a dump printed and how it ended.
#[derive(Debug)]
pub(crate) struct Dumped {
    pub(crate) code: Option<i32>,
    objects: Vec<Value>,
    errors: String,
}

impl Dumped {
    pub(crate) fn of(paths: &[PathBuf], flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        let output = command.args(["dump", "--json"]).args(flags).args(paths).output().expect("it was built");
        let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        let object = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { code: output.status.code(), objects: text.lines().map(object).collect(), errors }
    }

    /// The objects of one kind.
    pub(crate) fn all(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The objects of one kind about the log `TOPIC/0`.
    pub(crate) fn of_log(&self, kind: &str, topic: &str) -> Vec<&Value> {
        let log = format!("{topic}/0");
        self.all(kind).into_iter().filter(|object| object["log"] == log.as_str()).collect()
    }

    /// Fails unless nothing was found wrong.
    pub(crate) fn expect_whole(&self) -> &Self {
        assert_eq!((self.code, self.errors.as_str()), (Some(0), ""), "{:?}", self.all("damage"));
        self
    }
}

/// The files in `folder` and below it whose name `is_wanted`, sorted.
pub(crate) fn files(folder: &Path, is_wanted: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            found.extend(files(&path, is_wanted));
        } else if path.file_name().is_some_and(|name| is_wanted(&name.to_string_lossy())) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every file of a data directory.
pub(crate) fn every_file(data: &Path) -> Vec<PathBuf> {
    files(data, &|_| true)
}
