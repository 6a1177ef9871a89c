//! The program under test: overwrites blocks by direct I/O until its disk is gone, and says what it
//! acknowledged.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::ReadWriteFlags;

use super::sectors::{self, BLOCK_BYTES, BLOCKS, Ledger};
use crate::powercut::Random;

/// Direct I/O wants memory aligned to the sectors of the device; a page satisfies every device.
const ALIGNMENT: usize = 4096;

/// Most writes that are flushed together.
const BATCH_MAX: u64 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flush {
    /// Several direct writes, then one fdatasync.
    Fdatasync,
    /// Every write with RWF_DSYNC.
    Dsync,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ack {
    AfterFlush,
    /// The planted bug.
    BeforeFlush,
}

pub(super) struct Writer {
    file: File,
    buffer: AlignedBuffer,
    random: Random,
    flush: Flush,
    ack: Ack,
    number: u64,
    ledger: Ledger,
}

impl Writer {
    /// Writes `base` into every block, flushed with the file and its directory, so that all that follows are
    /// overwrites by greater numbers.
    pub(super) fn new(path: &Path, base: u64, flush: Flush, ack: Ack) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(direct())
            .open(path)?;
        let mut writer = Self {
            file,
            buffer: AlignedBuffer::new(BLOCK_BYTES),
            random: Random::new(base),
            flush,
            ack,
            number: base,
            ledger: Ledger::new(base),
        };
        for block in 0..BLOCKS {
            sectors::fill(writer.buffer.bytes_mut(), block, base);
            writer.file.write_all_at(writer.buffer.bytes(), offset(block))?;
        }
        writer.file.sync_all()?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
        Ok(writer)
    }

    /// Writes until the disk fails, and returns what was attempted and acknowledged.
    pub(super) fn run(mut self) -> (Ledger, io::Error) {
        loop {
            if let Err(error) = self.write_batch() {
                return (self.ledger, error);
            }
        }
    }

    fn write_batch(&mut self) -> io::Result<()> {
        let mut written = Vec::new();
        for _ in 0..=self.random.below(BATCH_MAX) {
            let block = usize::try_from(self.random.below(BLOCKS as u64)).expect("a block's index");
            self.number += 1;
            self.write_block(block)?;
            written.push((block, self.number));
            if self.ack == Ack::BeforeFlush || self.flush == Flush::Dsync {
                self.acknowledge(&mut written);
            }
        }
        if self.ack == Ack::BeforeFlush || self.flush == Flush::Fdatasync {
            self.file.sync_data()?;
        }
        self.acknowledge(&mut written);
        Ok(())
    }

    fn write_block(&mut self, block: usize) -> io::Result<()> {
        sectors::fill(self.buffer.bytes_mut(), block, self.number);
        self.ledger.attempted[block] = self.number;
        let flags = match (self.flush, self.ack) {
            (Flush::Dsync, Ack::AfterFlush) => ReadWriteFlags::DSYNC,
            _ => ReadWriteFlags::empty(),
        };
        let written =
            rustix::io::pwritev2(&self.file, &[IoSlice::new(self.buffer.bytes())], offset(block), flags)?;
        assert_eq!(written, BLOCK_BYTES, "a direct write of one block is whole or fails");
        Ok(())
    }

    fn acknowledge(&mut self, written: &mut Vec<(usize, u64)>) {
        for (block, number) in written.drain(..) {
            self.ledger.acked[block] = number;
            self.ledger.acks += 1;
        }
    }
}

/// Reads the blocks back past the page cache.
pub(super) fn read_back(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(direct()).open(path)?;
    let mut buffer = AlignedBuffer::new(BLOCKS * BLOCK_BYTES);
    file.read_exact_at(buffer.bytes_mut(), 0)?;
    Ok(buffer.bytes().to_vec())
}

pub(super) fn direct() -> i32 {
    OFlags::DIRECT.bits().cast_signed()
}

fn offset(block: usize) -> u64 {
    (block * BLOCK_BYTES) as u64
}

/// Memory that direct I/O accepts, cut out of a larger allocation.
pub(super) struct AlignedBuffer {
    memory: Vec<u8>,
    range: Range<usize>,
}

impl AlignedBuffer {
    pub(super) fn new(bytes: usize) -> Self {
        let memory = vec![0; bytes + ALIGNMENT];
        let start = memory.as_ptr().addr().next_multiple_of(ALIGNMENT) - memory.as_ptr().addr();
        Self { memory, range: start..start + bytes }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.range.clone()]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.range.clone()]
    }
}
