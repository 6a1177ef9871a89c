//! The file operations that the embedded store uses, few enough to be replaced by a disk that fails and
//! crashes in tests.
//!
//! Durability contract: nothing is durable before the matching flush returned. A file's bytes need `flush`,
//! its length after `truncate` and its name need more: `flush_all` and `flush_directory`. A failed call says
//! nothing about what reached the disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::cluster::limits::FILES_MAX;

/// One directory's files, named without a path.
pub trait Files {
    /// An open file.
    type File: std::fmt::Debug;

    /// The names in the directory, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// All bytes of a file; an error when there are more than `bytes_max`.
    fn read(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>>;
    /// Creates an empty file; an error when the name exists.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens an existing file for writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to `len` bytes.
    fn truncate(&self, file: &Self::File, len: u64) -> io::Result<()>;
    /// Makes the bytes written before durable (fdatasync).
    fn flush(&self, file: &Self::File) -> io::Result<()>;
    /// Makes bytes and length durable (fsync).
    fn flush_all(&self, file: &Self::File) -> io::Result<()>;
    /// Gives a file another name, replacing what has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn flush_directory(&self) -> io::Result<()>;
    /// Bytes that nobody can predict.
    fn random(&self) -> io::Result<[u8; 8]>;
}

/// A directory of the file system.
#[derive(Debug)]
pub struct DirectoryFiles {
    path: PathBuf,
    directory: File,
}

impl DirectoryFiles {
    /// Opens the directory, creating it (and making its own name durable) when it is not there. Its parent
    /// must exist.
    pub fn open(path: &Path) -> io::Result<DirectoryFiles> {
        match fs::create_dir(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // Also when it was there: the start that created it may have died before this flush.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        DirectoryFiles::existing(path)
    }

    /// The directory as it is: nothing is created or flushed.
    pub fn existing(path: &Path) -> io::Result<DirectoryFiles> {
        Ok(DirectoryFiles { path: path.to_owned(), directory: File::open(path)? })
    }
}

impl Files for DirectoryFiles {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            if names.len() == FILES_MAX {
                return Err(io::Error::other(format!("more than {FILES_MAX} files")));
            }
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn read(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let file = File::open(self.path.join(name))?;
        if file.metadata()?.len() > bytes_max {
            return Err(io::Error::other(format!("larger than {bytes_max} bytes")));
        }
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.path.join(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path.join(name))
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn flush(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn flush_all(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn flush_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn random(&self) -> io::Result<[u8; 8]> {
        random_bytes()
    }
}

/// Bytes from the operating system's generator.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
