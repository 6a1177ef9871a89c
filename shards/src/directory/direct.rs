//! Reads and writes around the page cache: whole blocks, through aligned memory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::limits::BLOCK_BYTES;
use crate::memory::{AlignedBuffer, Slab};

/// The largest single transfer. Bytes.
pub(super) const TRANSFER_BYTES: usize = 1 << 20;

/// Transfers whole blocks between files and memory that need not be aligned, by way of one buffer that is.
pub(super) struct Direct {
    buffer: AlignedBuffer,
}

impl Direct {
    pub(super) fn new() -> Direct {
        let slab = Slab::new(TRANSFER_BYTES);
        Direct { buffer: slab.take(TRANSFER_BYTES).expect("an empty slab has room for its ceiling") }
    }

    /// Opens a file for direct reads, and for writes if asked for; `create` makes it if it is missing.
    pub(super) fn open(path: &Path, write: bool, create: bool) -> io::Result<File> {
        let flags =
            i32::try_from((OFlags::DIRECT | OFlags::NOFOLLOW).bits()).expect("open's flags are an int");
        OpenOptions::new().read(true).write(write).create(create).mode(0o600).custom_flags(flags).open(path)
    }

    /// Writes whole blocks at a block-aligned position.
    pub(super) fn write(&mut self, file: &File, position: u64, bytes: &[u8]) -> io::Result<()> {
        assert!(position.is_multiple_of(BLOCK_BYTES as u64), "a direct write begins at a block");
        assert!(bytes.len().is_multiple_of(BLOCK_BYTES), "a direct write is whole blocks");
        for (i, part) in (0..).zip(bytes.chunks(TRANSFER_BYTES)) {
            let aligned = &mut self.buffer[..part.len()];
            aligned.copy_from_slice(part);
            file.write_all_at(aligned, position + i * TRANSFER_BYTES as u64)?;
        }
        Ok(())
    }

    /// Writes zeros from one block-aligned position up to another.
    pub(super) fn write_zeros(&mut self, file: &File, from: u64, to: u64) -> io::Result<()> {
        let block = BLOCK_BYTES as u64;
        assert!(from.is_multiple_of(block) && to.is_multiple_of(block), "zeros are whole blocks");
        self.buffer.fill(0);
        let mut at = from;
        while at < to {
            let length = (to - at).min(TRANSFER_BYTES as u64);
            let length_in_memory = usize::try_from(length).expect("at most one transfer");
            file.write_all_at(&self.buffer[..length_in_memory], at)?;
            at += length;
        }
        Ok(())
    }

    /// Fills `into` from a block-aligned position as far as the file goes; gives back how many bytes it had.
    pub(super) fn read(&mut self, file: &File, position: u64, into: &mut [u8]) -> io::Result<usize> {
        assert!(position.is_multiple_of(BLOCK_BYTES as u64), "a direct read begins at a block");
        let mut filled = 0;
        for part in into.chunks_mut(TRANSFER_BYTES) {
            let blocks = part.len().next_multiple_of(BLOCK_BYTES);
            let read = read_up_to(file, position + filled as u64, &mut self.buffer[..blocks])?;
            let kept = read.min(part.len());
            part[..kept].copy_from_slice(&self.buffer[..kept]);
            filled += kept;
            if kept < part.len() {
                break;
            }
        }
        Ok(filled)
    }
}

/// Reads until the buffer is full or the file ends. A count that is no multiple of a block is the end: only there may a
/// direct read stop in the middle of one.
fn read_up_to(file: &File, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if !filled.is_multiple_of(BLOCK_BYTES) {
            break;
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::scratch::Scratch;

    #[test]
    fn what_is_written_is_read_back_across_transfers_and_up_to_the_files_end() {
        let scratch = Scratch::new();
        let mut direct = Direct::new();
        let file = Direct::open(&scratch.path().join("file"), true, true).unwrap();
        let bytes: Vec<u8> =
            (0..2 * TRANSFER_BYTES + BLOCK_BYTES).map(|i| (i % 251).to_le_bytes()[0]).collect();
        direct.write(&file, BLOCK_BYTES as u64, &bytes).unwrap();
        file.set_len((bytes.len() - 100 + BLOCK_BYTES) as u64).unwrap();
        let mut back = vec![0; bytes.len() + 5_000];
        assert_eq!(direct.read(&file, BLOCK_BYTES as u64, &mut back).unwrap(), bytes.len() - 100);
        assert!(back[..bytes.len() - 100] == bytes[..bytes.len() - 100]);
        let mut few = [0; 10];
        assert_eq!(direct.read(&file, BLOCK_BYTES as u64, &mut few).unwrap(), 10);
        assert_eq!(few, bytes[..10]);
    }

    #[test]
    fn zeros_replace_what_was_there() {
        let scratch = Scratch::new();
        let mut direct = Direct::new();
        let file = Direct::open(&scratch.path().join("file"), true, true).unwrap();
        direct.write(&file, 0, &[7; 3 * BLOCK_BYTES]).unwrap();
        direct.write_zeros(&file, BLOCK_BYTES as u64, 2 * BLOCK_BYTES as u64).unwrap();
        let mut back = [1; 3 * BLOCK_BYTES];
        direct.read(&file, 0, &mut back).unwrap();
        for (block, expected) in [(0, 7), (1, 0), (2, 7)] {
            assert!(
                back[block * BLOCK_BYTES..][..BLOCK_BYTES].iter().all(|b| *b == expected),
                "block {block}"
            );
        }
    }
}
