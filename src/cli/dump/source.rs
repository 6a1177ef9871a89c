//! A file's bytes, read in place. Nothing holds more of them than was asked for.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// An open file. Its length is the one it had when it was opened: what a broker appends meanwhile is not looked at.
pub(super) struct Source {
    file: File,
    path: PathBuf,
    length: u64,
    /// Bytes that stand for those in the file: a manifest's copy of a segment's last block.
    patch: (u64, Vec<u8>),
}

impl Source {
    /// Opens a file for reading.
    pub(super) fn open(path: &Path) -> io::Result<Source> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
        }
        Ok(Source { file, path: path.to_owned(), length: metadata.len(), patch: (0, Vec::new()) })
    }

    /// Where the file lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in the file.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// From now on `bytes` are read at `position`, whatever the file has there. Whether it has something else there.
    pub(super) fn patch(&mut self, position: u64, bytes: Vec<u8>) -> io::Result<bool> {
        let mut there = vec![0; bytes.len()];
        let read = self.read(position, &mut there)?;
        let differs = there[..read] != bytes[..];
        self.length = self.length.max(position + bytes.len() as u64);
        self.patch = (position, bytes);
        Ok(differs)
    }

    /// Fills `buffer` from `position` on, as far as the file goes. Gives the bytes read.
    pub(super) fn read(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.file.read_at(&mut buffer[read..], position + read as u64) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let left = self.length.saturating_sub(position);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        Ok(self.lay_patch(position, buffer, read.min(wanted)))
    }

    /// The whole file, if it has no more than so many bytes.
    pub(super) fn whole(&self, bytes_max: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.length).ok().filter(|_| self.length <= bytes_max);
        let too_long =
            || io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {bytes_max} bytes"));
        let mut bytes = vec![0; length.ok_or_else(too_long)?];
        let read = self.read(0, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Puts what of the patch belongs here over the first `read` bytes and behind them; how many are right then.
    fn lay_patch(&self, position: u64, buffer: &mut [u8], read: usize) -> usize {
        let (start, bytes) = &self.patch;
        let from = position.max(*start);
        let to = (position + buffer.len() as u64).min(start + bytes.len() as u64);
        let index = |at: u64| usize::try_from(at).expect("within a buffer");
        if from >= to || index(from - position) > read {
            return read;
        }
        buffer[index(from - position)..index(to - position)]
            .copy_from_slice(&bytes[index(from - start)..index(to - start)]);
        read.max(index(to - position))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Folder;
    use super::*;

    #[test]
    fn a_patch_stands_for_the_bytes_of_the_file_and_behind_it() {
        let folder = Folder::new("source");
        let mut source = Source::open(&folder.write("file", b"0123456789")).unwrap();
        assert!(source.patch(8, b"abcd".to_vec()).unwrap());
        assert_eq!((source.length(), source.whole(100).unwrap().as_slice()), (12, &b"01234567abcd"[..]));
        let mut middle = [0; 3];
        assert_eq!(source.read(9, &mut middle).unwrap(), 3);
        assert_eq!(&middle, b"bcd");
        assert_eq!(source.read(11, &mut middle).unwrap(), 1);
        assert_eq!(source.read(1, &mut middle).unwrap(), 3);
        assert_eq!(&middle, b"123");
        assert!(source.whole(11).is_err());
        assert!(!source.patch(0, b"0123".to_vec()).unwrap());
    }

    #[test]
    fn folders_are_no_files() {
        assert!(Source::open(Folder::new("no-source").path()).is_err());
    }
}
