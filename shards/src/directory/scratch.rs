//! A folder for a test, on the disk that the build lies on: direct I/O means nothing on a file system in memory.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Removed, with everything in it, when dropped.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let build = std::env::current_exe().expect("a test runs from a file");
        let name = format!("directory-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = build.with_file_name(name);
        std::fs::create_dir(&path).expect("the build's folder can be written");
        Scratch { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _best_effort = std::fs::remove_dir_all(&self.path);
    }
}
