//! The file whose blocks are overwritten: written once before measuring, so that no overwrite needs space or a commit of the
//! file system's own journal, opened for direct I/O, and removed when dropped, whether or not the run succeeded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{OFlags, fdatasync, fsync};
use rustix::io::{ReadWriteFlags, pwrite, pwritev2};

use super::error::Error;
use super::mode::Flush;

/// Bytes of the file: more than any write, and small enough to prepare in a moment.
pub(super) const FILE_BYTES: u64 = 16 << 20;
/// Alignment of addresses, offsets and lengths, which satisfies direct I/O on every disk in use.
const ALIGNMENT: usize = 4096;

const PREPARE_BYTES: usize = 1 << 20;
const _: () = assert!(FILE_BYTES.is_multiple_of(PREPARE_BYTES as u64));

/// File systems that keep files in memory, by the magic number of `statfs`.
const MEMORY_FILE_SYSTEMS: [(u32, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];

/// Distinguishes files of one process.
static NEXT_FILE: AtomicU32 = AtomicU32::new(0);

/// The prepared file.
#[derive(Debug)]
pub(super) struct PreparedFile {
    file: File,
    _removal: Removal,
}

impl PreparedFile {
    /// Makes the file in `directory`, which must not lie in memory.
    pub(super) fn create(directory: &Path) -> Result<Self, Error> {
        refuse_memory(directory)?;
        let number = NEXT_FILE.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!(".corelane-perf-floor-{}-{number}.data", std::process::id()));
        let failed = |action| {
            let path = path.clone();
            move |source| Error::File { action, path, source }
        };
        let flags = OFlags::DIRECT.bits().cast_signed();
        let opened = OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(&path);
        let file = opened.map_err(|source| {
            // A file system without direct I/O refuses the flag after it has made the name.
            if source.kind() == io::ErrorKind::InvalidInput {
                let _ = fs::remove_file(&path);
            }
            failed("open")(source)
        })?;
        let prepared = Self { file, _removal: Removal(path.clone()) };
        prepared.fill().map_err(failed("write"))?;
        Ok(prepared)
    }

    /// The open file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    fn fill(&self) -> io::Result<()> {
        let block = AlignedBlock::new(PREPARE_BYTES);
        for at in (0..FILE_BYTES).step_by(PREPARE_BYTES) {
            expect_whole(pwrite(&self.file, block.bytes(), at)?, PREPARE_BYTES)?;
        }
        Ok(fsync(&self.file)?)
    }
}

/// Removes the file when dropped.
#[derive(Debug)]
struct Removal(PathBuf);

impl Drop for Removal {
    fn drop(&mut self) {
        // Nobody is left to tell: the run has its result, and the name says whose file it is.
        let _ = fs::remove_file(&self.0);
    }
}

fn refuse_memory(directory: &Path) -> Result<(), Error> {
    let status = rustix::fs::statfs(directory)
        .map_err(|errno| Error::Directory { directory: directory.to_owned(), source: errno.into() })?;
    // The magic numbers have 32 bits; the field has more.
    let magic = status.f_type & 0xffff_ffff;
    match MEMORY_FILE_SYSTEMS.iter().find(|(number, _)| i64::from(*number) == magic) {
        Some((_, name)) => Err(Error::Memory { directory: directory.to_owned(), name }),
        None => Ok(()),
    }
}

/// Bytes at an aligned address, of a content that no disk can shorten.
#[derive(Debug, Default)]
pub(super) struct AlignedBlock {
    storage: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBlock {
    pub(super) fn new(length: usize) -> Self {
        let mut storage = vec![0; length + ALIGNMENT];
        let start = storage.as_ptr().align_offset(ALIGNMENT);
        assert!(start < ALIGNMENT, "a byte address can always be aligned within the spare bytes");
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for byte in &mut storage {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            [*byte, ..] = state.to_le_bytes();
        }
        Self { storage, start, length }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.length]
    }
}

/// Offsets of consecutive blocks, over and over.
#[derive(Debug)]
pub(super) struct Cycle {
    next: u64,
    block: u64,
}

impl Cycle {
    pub(super) fn new(block: usize) -> Self {
        let block = u64::try_from(block).expect("a block is smaller than the file");
        assert!(block > 0 && FILE_BYTES.is_multiple_of(block));
        Self { next: 0, block }
    }

    pub(super) fn next(&mut self) -> u64 {
        let at = self.next;
        self.next = (at + self.block) % FILE_BYTES;
        at
    }
}

/// Overwrites blocks one by one with blocking calls.
#[derive(Debug)]
pub(super) struct BlockWriter<'a> {
    file: &'a File,
    block: AlignedBlock,
    cycle: Cycle,
    flush: Flush,
}

impl<'a> BlockWriter<'a> {
    pub(super) fn new(file: &'a File, block: usize, flush: Flush) -> Self {
        Self { file, block: AlignedBlock::new(block), cycle: Cycle::new(block), flush }
    }

    /// Makes the next block durable, or does nothing where nothing is to be flushed.
    pub(super) fn write(&mut self) -> Result<(), Error> {
        self.try_write().map_err(Error::Storage)
    }

    fn try_write(&mut self) -> io::Result<()> {
        let bytes = self.block.bytes();
        match self.flush {
            Flush::None => Ok(()),
            Flush::Dsync => {
                let slices = [IoSlice::new(bytes)];
                let count = pwritev2(self.file, &slices, self.cycle.next(), ReadWriteFlags::DSYNC)?;
                expect_whole(count, bytes.len())
            }
            Flush::Fdatasync => {
                expect_whole(pwrite(self.file, bytes, self.cycle.next())?, bytes.len())?;
                Ok(fdatasync(self.file)?)
            }
        }
    }
}

/// A direct write of a regular file is whole or has failed; anything else would make the row a lie.
pub(super) fn expect_whole(count: usize, wanted: usize) -> io::Result<()> {
    if count == wanted {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::WriteZero, format!("only {count} of {wanted} bytes were written")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_file_systems_are_refused() {
        let error = PreparedFile::create(Path::new("/dev/shm")).unwrap_err();
        assert!(matches!(error, Error::Memory { name: "tmpfs", .. }), "{error}");
        assert!(error.to_string().contains("--directory"));
    }

    #[test]
    fn a_directory_that_does_not_exist_is_named() {
        let error = PreparedFile::create(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(matches!(error, Error::Directory { .. }), "{error}");
        assert!(error.to_string().contains("/nowhere/at/all"));
    }

    #[test]
    fn the_file_is_there_while_it_is_used_and_gone_afterwards() {
        let prepared = PreparedFile::create(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        let path = prepared._removal.0.clone();
        assert_eq!(fs::metadata(&path).unwrap().len(), FILE_BYTES);
        for flush in [Flush::Dsync, Flush::Fdatasync] {
            BlockWriter::new(prepared.file(), 4096, flush).write().unwrap();
        }
        drop(prepared);
        assert!(!path.exists());
    }

    #[test]
    fn the_file_is_removed_after_a_panic_too() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = std::sync::Mutex::new(PathBuf::new());
        let panicked = std::panic::catch_unwind(|| {
            let prepared = PreparedFile::create(directory).unwrap();
            path.lock().unwrap().clone_from(&prepared._removal.0);
            // Not aligned: the assertion of the cycle fails.
            BlockWriter::new(prepared.file(), 4097, Flush::Dsync).write().unwrap();
        });
        assert!(panicked.is_err());
        let path = path.into_inner().unwrap();
        assert!(path.starts_with(directory) && !path.exists());
    }

    #[test]
    fn offsets_come_round_again() {
        let mut cycle = Cycle::new(1 << 20);
        let offsets: Vec<_> = (0..17).map(|_| cycle.next() >> 20).collect();
        assert_eq!(offsets, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0]);
    }

    #[test]
    fn blocks_are_aligned() {
        for length in [1, 4096, 1 << 20] {
            let block = AlignedBlock::new(length);
            assert_eq!(block.bytes().as_ptr().addr() % ALIGNMENT, 0);
            assert_eq!(block.bytes().len(), length);
        }
    }
}
