//! From a path to a data directory that is ours and locked, or the reason why not.
//!
//! The order is what makes a crash harmless: nothing is written before the folder is known to be empty or ours; the
//! lock's file comes first, and `format` second. A folder with nothing but these is still an empty one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::StatFs;

use super::direct::Direct;
use super::files::{self, FileError, naming};
use super::format_file::{self, Format};
use super::identity::Incarnation;
use super::layout::Layout;
use super::lock::{self, Lock};

/// What `statfs` calls a tmpfs (statfs(2)).
pub(super) const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// Names that a folder may have and still count as empty: our own first files, and what mkfs makes.
const FOUND_IN_EMPTY: [&str; 3] = ["lock", "format.new", "lost+found"];

/// How many foreign names an error lists.
const NAMES_LISTED: usize = 8;

/// A data directory in this process's hands.
#[derive(Debug)]
pub struct DataDirectory {
    layout: Layout,
    lock: Lock,
    format: Format,
    was_stopped_cleanly: bool,
    is_new: bool,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be created or written.
    #[error("the data directory cannot be used: {0}")]
    Unwritable(#[from] FileError),
    /// It lies in memory.
    #[error("the data directory {} lies in memory ({kind})", path.display())]
    InMemory {
        /// The directory.
        path: PathBuf,
        /// What kind of file system it is.
        kind: &'static str,
    },
    /// Its file system knows no direct I/O.
    #[error(
        "the file system of the data directory {} ({kind}) refuses direct I/O; choose a directory on ext4 or XFS",
        path.display()
    )]
    NoDirectIo {
        /// The directory.
        path: PathBuf,
        /// What kind of file system it is.
        kind: String,
    },
    /// It holds files and is no data directory.
    #[error(
        "{} is not a data directory: it has no file `format`, and contains {}",
        path.display(), names.join(", ")
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Some of what is there.
        names: Vec<String>,
    },
    /// Another process has it.
    #[error("the data directory {} is locked: {source}", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// By whom.
        source: lock::Error,
    },
    /// A later release wrote it.
    #[error(
        "the data directory {} has format version {found}, and this release knows up to version {newest}",
        path.display(), newest = format_file::VERSION
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Its format file is not what was written.
    #[error("{} cannot be believed: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl DataDirectory {
    /// Opens the directory at `path`, creating it if it is missing or empty, and begins a new incarnation in it.
    ///
    /// When this returns, no other process uses the directory and no write of a former one is under way.
    pub fn open(path: &Path, dead_wait: Duration) -> Result<DataDirectory, OpenError> {
        let layout = Layout::new(path);
        refuse_memory(path)?;
        refuse_foreign(&layout)?;
        files::create_directories(path)?;
        let lock = Lock::take(&layout, dead_wait).map_err(|error| match error {
            lock::Error::File(error) => OpenError::Unwritable(error),
            source => OpenError::Locked { path: path.to_owned(), source },
        })?;
        // Who held the lock a moment ago may have made it a data directory, or filled it with something else.
        refuse_foreign(&layout)?;
        refuse_buffered(&layout)?;
        let incarnation = Incarnation::random();
        let found = Format::read(&layout).map_err(|error| named(&layout, error))?;
        let was_stopped_cleanly = found.is_some_and(|format| format.was_stopped_cleanly());
        let format = match found {
            Some(format) => Format { incarnation, ..format },
            None => Format::new(incarnation),
        };
        format.replace(&layout).map_err(|error| named(&layout, error))?;
        Ok(DataDirectory { layout, lock, format, was_stopped_cleanly, is_new: found.is_none() })
    }

    /// Where things lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The lock, which every ring that writes here must hold.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Whose directory it is.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Whether the former start was stopped cleanly, so that its journals are empty.
    pub fn was_stopped_cleanly(&self) -> bool {
        self.was_stopped_cleanly
    }

    /// Whether there was no data directory here before.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Marks this start as stopped cleanly, durably. Everything appended is in the manifests, and nothing writes any more.
    pub fn mark_stopped(&mut self) -> Result<(), OpenError> {
        self.format.stopped = Some(self.format.incarnation);
        self.format.replace(&self.layout).map_err(|error| named(&self.layout, error))
    }
}

fn named(layout: &Layout, error: format_file::Error) -> OpenError {
    match error {
        format_file::Error::File(error) => OpenError::Unwritable(error),
        format_file::Error::Newer { found } => OpenError::Newer { path: layout.base().to_owned(), found },
        format_file::Error::Damaged(reason) => OpenError::Damaged { path: layout.format(), reason },
    }
}

/// Looks at the directory, or at the nearest one above it that exists, so that nothing is created in memory either.
fn refuse_memory(path: &Path) -> Result<(), OpenError> {
    let nearest = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let kind = match magic(&statfs(nearest)?) {
        TMPFS => "tmpfs",
        RAMFS => "ramfs",
        _ => return Ok(()),
    };
    Err(OpenError::InMemory { path: path.to_owned(), kind })
}

fn refuse_foreign(layout: &Layout) -> Result<(), OpenError> {
    let mut names = files::names(layout.base())?;
    if names.iter().any(|name| name == "format") {
        return Ok(());
    }
    names.retain(|name| !FOUND_IN_EMPTY.contains(&name.as_str()));
    if names.is_empty() {
        return Ok(());
    }
    names.truncate(NAMES_LISTED);
    Err(OpenError::NotOurs { path: layout.base().to_owned(), names })
}

fn refuse_buffered(layout: &Layout) -> Result<(), OpenError> {
    let path = layout.lock();
    match Direct::open(&path, false, false) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            let kind = format!("type {:#x}", magic(&statfs(&path)?));
            Err(OpenError::NoDirectIo { path: layout.base().to_owned(), kind })
        }
        Err(error) => Err(naming("opening", &path)(error).into()),
    }
}

pub(super) fn statfs(path: &Path) -> Result<StatFs, FileError> {
    rustix::fs::statfs(path).map_err(|error| naming("examining", path)(error.into()))
}

/// The number that names the kind of file system.
pub(super) fn magic(found: &StatFs) -> u64 {
    // The field's width and sign differ between machines; the numbers have 32 bits on all of them.
    u64::try_from(i128::from(found.f_type) & 0xffff_ffff).expect("masked to 32 bits")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::directory::scratch::Scratch;

    const WAIT: Duration = Duration::from_millis(20);

    #[test]
    fn a_missing_folder_becomes_a_data_directory_and_stays_the_same_one() {
        let scratch = Scratch::new();
        let path = scratch.path().join("a/b");
        let first = DataDirectory::open(&path, WAIT).unwrap();
        assert!(first.is_new() && !first.was_stopped_cleanly());
        let format = *first.format();
        drop(first);
        let second = DataDirectory::open(&path, WAIT).unwrap();
        assert!(!second.is_new() && !second.was_stopped_cleanly());
        assert_eq!(second.format().directory, format.directory);
        assert_eq!(second.format().cluster, format.cluster);
        assert_ne!(second.format().incarnation, format.incarnation);
    }

    #[test]
    fn a_clean_stop_is_seen_once() {
        let scratch = Scratch::new();
        let mut first = DataDirectory::open(scratch.path(), WAIT).unwrap();
        first.mark_stopped().unwrap();
        drop(first);
        assert!(DataDirectory::open(scratch.path(), WAIT).unwrap().was_stopped_cleanly());
        assert!(!DataDirectory::open(scratch.path(), WAIT).unwrap().was_stopped_cleanly());
    }

    #[test]
    fn a_start_that_died_before_its_format_file_was_there_is_begun_again() {
        let scratch = Scratch::new();
        fs::write(scratch.path().join("lock"), "1 1\n").unwrap();
        fs::write(scratch.path().join("format.new"), "Corel").unwrap();
        fs::create_dir(scratch.path().join("lost+found")).unwrap();
        assert!(DataDirectory::open(scratch.path(), WAIT).unwrap().is_new());
    }

    #[test]
    fn a_folder_of_something_else_is_refused_and_left_as_it_was() {
        let scratch = Scratch::new();
        fs::write(scratch.path().join("meta.properties"), "").unwrap();
        let error = DataDirectory::open(scratch.path(), WAIT).unwrap_err();
        assert!(matches!(error, OpenError::NotOurs { .. }), "{error}");
        assert!(error.to_string().contains("contains meta.properties"), "{error}");
        assert_eq!(files::names(scratch.path()).unwrap(), ["meta.properties"]);
    }

    #[test]
    fn a_second_opening_is_refused_and_changes_nothing() {
        let scratch = Scratch::new();
        let first = DataDirectory::open(scratch.path(), WAIT).unwrap();
        let error = DataDirectory::open(scratch.path(), WAIT).unwrap_err();
        assert!(matches!(error, OpenError::Locked { .. }), "{error}");
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        assert_eq!(Format::read(first.layout()).unwrap().as_ref(), Some(first.format()));
    }

    #[test]
    fn a_newer_or_damaged_format_is_refused_and_kept() {
        let lines = "Corelane data directory\nversion: 9\n";
        let newer = format!("{lines}checksum: {:08x}\n", crc32fast::hash(lines.as_bytes()));
        for text in [newer.as_str(), "x"] {
            let scratch = Scratch::new();
            fs::write(scratch.path().join("format"), text).unwrap();
            let error = DataDirectory::open(scratch.path(), WAIT).unwrap_err();
            let is_newer = matches!(error, OpenError::Newer { found: 9, .. });
            assert!(is_newer || matches!(error, OpenError::Damaged { .. }), "{error}");
            assert_eq!(is_newer, text == newer, "{error}");
            assert_eq!(fs::read_to_string(scratch.path().join("format")).unwrap(), text);
        }
    }

    #[test]
    fn a_folder_in_memory_is_refused_before_it_is_created() {
        let path = Path::new("/dev/shm/corelane-test-never-created/data");
        let error = DataDirectory::open(path, WAIT).unwrap_err();
        assert!(matches!(error, OpenError::InMemory { kind: "tmpfs", .. }), "{error}");
        assert!(!path.parent().expect("it has one").exists());
    }

    #[test]
    fn a_path_that_is_a_file_is_unwritable() {
        let scratch = Scratch::new();
        fs::write(scratch.path().join("file"), "").unwrap();
        let error = DataDirectory::open(&scratch.path().join("file"), WAIT).unwrap_err();
        assert!(matches!(error, OpenError::Unwritable(_)), "{error}");
    }
}
