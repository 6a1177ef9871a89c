//! Small files that are replaced as a whole, directories that are flushed, and errors that name the path.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A call to the operating system failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}: {source}", path.display())]
pub struct FileError {
    /// What was being done, as "reading".
    pub doing: &'static str,
    /// To which file or folder.
    pub path: PathBuf,
    /// The reason.
    pub source: io::Error,
}

/// Gives an error of the operating system its path.
pub(super) fn naming(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { doing, path, source }
}

/// Where a file's next content is written before it takes the file's name.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// Replaces or creates a file, durably: after a crash it is the old one or the new one, whole.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let new = temporary(path);
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(naming("writing", &new))?;
    rename(&new, path)
}

/// Replaces or creates a file that nobody relies on: after a loss of power it is any of the old one, the new one, a part of it, or
/// none.
pub(super) fn replace_unflushed(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let new = temporary(path);
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)
    };
    write().map_err(naming("writing", &new))?;
    fs::rename(&new, path).map_err(naming("replacing", path))
}

/// Gives a flushed file its name, durably.
pub(super) fn rename(new: &Path, path: &Path) -> Result<(), FileError> {
    fs::rename(new, path).map_err(naming("replacing", path))?;
    flush_directory(parent(path))
}

/// The content of a file of at most `bytes_max` bytes; `None` if there is no such file.
pub(super) fn read(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, FileError> {
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(naming("reading", path)(error)),
    };
    if length > bytes_max {
        let error = io::Error::new(io::ErrorKind::InvalidData, "the file is longer than it can be");
        return Err(naming("reading", path)(error));
    }
    fs::read(path).map(Some).map_err(naming("reading", path))
}

/// Makes the entries of a directory durable.
pub(super) fn flush_directory(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(naming("flushing", path))
}

/// Creates a directory and those that lead to it, each durable in its parent.
pub(super) fn create_directories(path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent(path);
    create_directories(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(naming("creating", path)(error)),
        _ => flush_directory(parent),
    }
}

/// The directory that holds `path`; the current one for a bare name.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// The names of a directory's entries, sorted; none if there is no such directory. Names that are no text come out
/// with a placeholder, so they match nothing of ours.
pub(super) fn names(path: &Path) -> Result<Vec<String>, FileError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(naming("listing", path)(error)),
    };
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> =
        entries.map(name).collect::<io::Result<_>>().map_err(naming("listing", path))?;
    names.sort();
    Ok(names)
}

/// Removes a file that may be gone already.
pub(super) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(naming("removing", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::scratch::Scratch;

    #[test]
    fn a_file_is_replaced_whole_and_its_temporary_name_is_gone() {
        let scratch = Scratch::new();
        let path = scratch.path().join("file");
        assert!(read(&path, 100).expect("no file is no error").is_none());
        replace(&path, b"one").unwrap();
        replace(&path, b"three").unwrap();
        assert_eq!(read(&path, 100).unwrap().as_deref(), Some(&b"three"[..]));
        assert_eq!(names(scratch.path()).unwrap(), ["file"]);
        assert!(read(&path, 4).is_err(), "a file longer than its bound is not read");
    }

    #[test]
    fn errors_name_the_path_and_what_was_done() {
        let scratch = Scratch::new();
        let path = scratch.path().join("missing/file");
        let message = replace(&path, b"x").unwrap_err().to_string();
        assert!(message.starts_with("writing ") && message.contains("missing/file.new"), "{message}");
    }
}
