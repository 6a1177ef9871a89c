//! What the tests of this folder have in common: a folder of files, and a dump into memory.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use corelane_shards::directory::Incarnation;
use corelane_shards::directory::format_file::Format;
use corelane_shards::format::manifest::{Manifest, Tail};
use corelane_shards::format::root::Root;
use serde_json::Value;

use super::run::dump_into;
use crate::cli::args::{Arguments, Command};

/// The secret of the opening that wrote the tests' journals.
pub(super) const GENERATION: u64 = 0xfeed_c0de_5ec2_e75e;

/// A folder of one test, removed with everything in it when the test ends.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// An empty one.
    pub(super) fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("corelane-dump-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, in folders that are made for it.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Makes it a data directory with one shard, whose manifest this is. The journal is left to the test.
    pub(super) fn directory(&self, manifest: &Manifest) {
        let name = "0000000001-0".to_owned();
        self.write("format", Format::new(Incarnation([3; 16])).encode().as_bytes());
        self.write(&format!("manifest/{name}"), &manifest.encode());
        self.write("root", &Root { epoch: 1, manifests: vec![name] }.encode());
        fs::create_dir_all(self.0.join("metadata")).unwrap();
    }
}

/// A manifest without logs. Its generation is one that cannot stand in a dump by chance.
pub(super) fn manifest() -> Manifest {
    Manifest {
        generation: GENERATION,
        epoch: 1,
        tail: Tail { sequence: 3, position: 8192, previous: 0 },
        capacity: 65_536,
        group_bytes_max: 8192,
        durable: 2,
        settled: 2,
        partitions: Vec::new(),
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a dump writes and how it ends.
pub(super) struct Dumped {
    /// Standard output.
    pub(super) text: String,
    /// The exit code.
    pub(super) code: u8,
}

impl Dumped {
    /// The objects of one kind, if JSON was asked for.
    pub(super) fn objects(&self, kind: &str) -> Vec<Value> {
        let objects = self.text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        objects.filter(|object| object["kind"] == kind).collect()
    }
}

/// Dumps one path.
pub(super) fn dumped(path: &Path, flags: &[&str]) -> Dumped {
    let path = path.to_str().unwrap();
    let arguments = ["corelane", "dump"].iter().chain(flags).chain([&path]);
    let Some(Command::Dump(arguments)) = Arguments::parse_from(arguments).command else {
        panic!("it is a dump")
    };
    let mut out = Vec::new();
    let code = dump_into(Box::new(&mut out), &arguments).map_or_else(|failure| failure.exit_code(), |()| 0);
    Dumped { text: String::from_utf8(out).unwrap(), code }
}
