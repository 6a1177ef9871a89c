//! The memory in which journal groups are built: chunks of one mapping that outlives a killed process.
//!
//! ```text
//! mapping  | chunk 0            | chunk 1            | ...            chunks are equal and 4 KiB-aligned
//! chunk    | frozen: groups and published entries | writable          |
//! group    | header (open: writable) | entry | entry | ...             the header is closed last
//! ```
//!
//! A chunk has one writer, [`Chunk`]. What lies below its frozen mark can be lent as [`Slice`]s and is never written
//! again, but for the header of the group that is still open, which no slice may show. A chunk is handed out again only
//! when no slice of it lives; that its groups are durable by then is the journal's business.
//!
//! Every store goes through [`Chunk`] in program order, and [`Chunk::publish`] stores with release order, so a later
//! process that reads the mapping sees no published length without the bytes below it.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering, compiler_fence};

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::Slice;
use crate::limits::BLOCK_BYTES;

/// Zeroed or inherited memory at a fixed address, unmapped when dropped.
pub struct Mapping {
    start: NonNull<u8>,
    length: usize,
    /// Whether chunks were cut from it: one writer at a time is what their safety stands on.
    is_divided: Cell<bool>,
    #[cfg(feature = "sim")]
    fuse: Cell<Option<usize>>,
}

impl Mapping {
    /// Maps the first `length` bytes of `file`, shared: what is stored survives the death of the process.
    ///
    /// No other mapping of the file may be written while this one lives; the staging file's lock sees to that between
    /// processes. The file must already have its space allocated, or a later store may meet a full tmpfs and end the process.
    pub fn shared(file: &File, length: usize) -> io::Result<Mapping> {
        // SAFETY: a fresh mapping chosen by the kernel aliases nothing that Rust knows of.
        #[allow(unsafe_code)]
        let start = unsafe {
            mmap(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)?
        };
        Ok(Mapping::at(start.cast(), length))
    }

    /// Maps private memory, which dies with the process.
    pub fn private(length: usize) -> io::Result<Mapping> {
        // SAFETY: as above.
        #[allow(unsafe_code)]
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        Ok(Mapping::at(start.cast(), length))
    }

    fn at(start: *mut u8, length: usize) -> Mapping {
        Mapping {
            start: NonNull::new(start).expect("a mapping is never at address zero"),
            length,
            is_divided: Cell::new(false),
            #[cfg(feature = "sim")]
            fuse: Cell::new(None),
        }
    }

    /// Whether a store happens; with a blown fuse the process counts as dead and memory keeps what it had.
    fn stores(&self) -> bool {
        #[cfg(feature = "sim")]
        if let Some(left) = self.fuse.get() {
            self.fuse.set(Some(left.saturating_sub(1)));
            return left > 0;
        }
        true
    }
}

#[cfg(feature = "sim")]
impl Mapping {
    /// Lets `stores` more stores through and drops all later ones, as if the process died in between; `None` mends it.
    pub fn set_fuse(&self, stores: Option<usize>) {
        self.fuse.set(stores);
    }

    /// Whether the fuse has blown.
    pub fn is_dead(&self) -> bool {
        self.fuse.get() == Some(0)
    }

    /// What a later process would read.
    pub fn copy_out(&self) -> Vec<u8> {
        let mut copy = vec![0; self.length];
        // SAFETY: both ranges are `length` bytes, the vector is fresh, and the copy is made between two steps of a
        // simulated process, when no exclusive borrow of a chunk lives.
        #[allow(unsafe_code)]
        unsafe {
            std::ptr::copy_nonoverlapping(self.start.as_ptr(), copy.as_mut_ptr(), self.length);
        }
        copy
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `length` are the mapping's own, and its last holder goes here. A failure would leave
        // memory mapped, which harms nobody.
        #[allow(unsafe_code)]
        unsafe {
            let _unmapped = munmap(self.start.as_ptr().cast(), self.length);
        }
    }
}

/// Which chunk of the mapping, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkIndex(pub usize);

/// The part of the mapping that slices of one chunk keep alive.
struct Owner {
    mapping: Rc<Mapping>,
    start: NonNull<u8>,
}

/// A shard's staging memory, divided into chunks.
pub struct Staging {
    owners: Vec<Rc<Owner>>,
    chunk_bytes: usize,
}

impl Staging {
    /// Divides `mapping` into chunks of `chunk_bytes`; a rest at the end stays unused.
    ///
    /// # Panics
    /// If `chunk_bytes` is not a positive multiple of the block size, no chunk fits, or the mapping was divided before.
    pub fn new(mapping: Rc<Mapping>, chunk_bytes: usize) -> Staging {
        assert!(chunk_bytes > 0 && chunk_bytes.is_multiple_of(BLOCK_BYTES), "chunks are whole blocks");
        assert!(!mapping.is_divided.replace(true), "a mapping is divided once");
        let count = mapping.length / chunk_bytes;
        assert!(count > 0, "staging memory holds at least one chunk");
        let owners = (0..count).map(|i| {
            // SAFETY: `i * chunk_bytes` lies inside the mapping, by the division above.
            #[allow(unsafe_code)]
            let start = unsafe { mapping.start.add(i * chunk_bytes) };
            Rc::new(Owner { mapping: Rc::clone(&mapping), start })
        });
        Staging { owners: owners.collect(), chunk_bytes }
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> usize {
        self.owners.len()
    }

    /// Whether neither a writer nor a slice of the chunk lives.
    pub fn is_free(&self, index: ChunkIndex) -> bool {
        Rc::strong_count(&self.owners[index.0]) == 1
    }

    /// The chunk's one writer, with nothing frozen; `None` while a writer or a slice of it lives.
    pub fn take(&self, index: ChunkIndex) -> Option<Chunk> {
        self.is_free(index).then(|| Chunk {
            owner: Rc::clone(&self.owners[index.0]),
            index,
            capacity: self.chunk_bytes,
            frozen: 0,
            open_header: 0..0,
        })
    }
}

/// The one writer of a chunk.
pub struct Chunk {
    owner: Rc<Owner>,
    index: ChunkIndex,
    capacity: usize,
    frozen: usize,
    open_header: Range<usize>,
}

impl Chunk {
    /// Which chunk this is.
    pub fn index(&self) -> ChunkIndex {
        self.index
    }

    /// The chunk's size in bytes.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Everything below this position is frozen.
    pub fn frozen(&self) -> usize {
        self.frozen
    }

    /// Keeps the compiler from moving a later store before an earlier one: whoever reads the mapping after this process's
    /// death sees the stores before it if he sees one behind it.
    pub fn fence(&mut self) {
        compiler_fence(Ordering::Release);
    }

    /// Copies `bytes` to position `at`, at or above the frozen mark or inside the open header.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        self.check_writable(at..at + bytes.len());
        if self.owner.mapping.stores() {
            // SAFETY: the range lies inside the chunk and outside every slice (checked above), `&mut self` makes this
            // the only access, and `bytes` cannot overlap it: no reference to writable chunk memory is ever given out.
            #[allow(unsafe_code)]
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.owner.start.add(at).as_ptr(), bytes.len());
            }
        }
    }

    /// Zeroes `range`, at or above the frozen mark.
    pub fn zero(&mut self, range: Range<usize>) {
        self.check_writable(range.clone());
        if self.owner.mapping.stores() {
            // SAFETY: as in `write`.
            #[allow(unsafe_code)]
            unsafe {
                self.owner.start.add(range.start).as_ptr().write_bytes(0, range.len());
            }
        }
    }

    /// Stores a little-endian word so that nobody sees it without all that was written before it.
    ///
    /// # Panics
    /// If `at` is not a multiple of four, or frozen.
    pub fn publish(&mut self, at: usize, word: u32) {
        assert!(at.is_multiple_of(4), "a published word is aligned");
        self.check_writable(at..at + 4);
        if self.owner.mapping.stores() {
            // SAFETY: aligned (the chunk is block-aligned), inside the chunk, outside every slice, and this process
            // never reads the place non-atomically before it is frozen.
            #[allow(unsafe_code)]
            unsafe {
                let word_at = self.owner.start.add(at).as_ptr().cast::<AtomicU32>();
                (*word_at).store(word.to_le(), Ordering::Release);
            }
        }
    }

    /// Freezes everything below `at`, which may be lent from now on, but for the open header.
    pub fn freeze(&mut self, at: usize) {
        assert!(at >= self.frozen && at <= self.capacity, "the frozen mark moves forward, inside the chunk");
        self.frozen = at;
    }

    /// Keeps `header`, which lies at the frozen mark, writable while what follows it is frozen.
    pub fn open_header(&mut self, header: Range<usize>) {
        assert!(self.open_header.is_empty(), "one group is open at a time");
        assert!(
            header.start >= self.frozen && header.end <= self.capacity,
            "a header opens above the frozen mark"
        );
        self.open_header = header;
    }

    /// Ends the exemption: the header is frozen like the rest.
    pub fn close_header(&mut self) {
        self.open_header = 0..0;
    }

    /// The frozen bytes `range`, without the open header.
    pub fn slice(&self, range: Range<usize>) -> Slice {
        assert!(range.start <= range.end && range.end <= self.frozen, "only frozen bytes are lent");
        let header = &self.open_header;
        assert!(range.end <= header.start || range.start >= header.end, "an open header is not lent");
        // SAFETY: the range lies inside the mapping, which the owner keeps alive and in place; all of it is initialised
        // (mapped memory is); nothing below the frozen mark is written again but the open header, which is outside.
        #[allow(unsafe_code)]
        unsafe {
            let start = self.owner.start.add(range.start);
            Slice::from_raw(Rc::<Owner>::clone(&self.owner), start, range.len())
        }
    }

    fn check_writable(&self, range: Range<usize>) {
        assert!(range.start <= range.end, "a store's range runs forward");
        let header = &self.open_header;
        let in_header = range.start >= header.start && range.end <= header.end && !header.is_empty();
        assert!(range.start >= self.frozen || in_header, "frozen memory is not written");
        assert!(range.end <= self.capacity, "a store stays inside its chunk");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staging() -> Staging {
        Staging::new(Rc::new(Mapping::private(4 * BLOCK_BYTES).expect("memory")), 2 * BLOCK_BYTES)
    }

    #[test]
    fn a_chunk_comes_back_only_when_no_slice_of_it_lives() {
        let staging = staging();
        let mut chunk = staging.take(ChunkIndex(1)).expect("free");
        assert!(staging.take(ChunkIndex(1)).is_none(), "one writer at a time");
        chunk.write(0, b"hello");
        chunk.freeze(5);
        let slice = chunk.slice(1..5);
        drop(chunk);
        assert!(staging.take(ChunkIndex(1)).is_none());
        assert_eq!(&*slice, b"ello");
        drop(slice);
        assert!(staging.take(ChunkIndex(1)).is_some());
    }

    #[test]
    fn the_open_header_stays_writable_below_frozen_entries() {
        let staging = staging();
        let mut chunk = staging.take(ChunkIndex(0)).expect("free");
        chunk.open_header(0..16);
        chunk.write(16, b"entry");
        chunk.freeze(24);
        let entry = chunk.slice(16..21);
        chunk.write(4, b"late");
        chunk.publish(0, 0x0102_0304);
        chunk.close_header();
        assert_eq!(&*entry, b"entry");
        assert_eq!(&*chunk.slice(0..8), b"\x04\x03\x02\x01late");
    }

    #[test]
    #[should_panic(expected = "frozen memory is not written")]
    fn frozen_memory_is_not_written() {
        let staging = staging();
        let mut chunk = staging.take(ChunkIndex(0)).expect("free");
        chunk.freeze(8);
        chunk.write(7, b"x");
    }

    #[test]
    #[should_panic(expected = "an open header is not lent")]
    fn an_open_header_is_not_lent() {
        let staging = staging();
        let mut chunk = staging.take(ChunkIndex(0)).expect("free");
        chunk.open_header(0..16);
        chunk.freeze(32);
        let _header = chunk.slice(0..32);
    }

    #[test]
    #[should_panic(expected = "a store stays inside its chunk")]
    fn stores_stay_inside_their_chunk() {
        let staging = staging();
        let mut chunk = staging.take(ChunkIndex(0)).expect("free");
        chunk.write(2 * BLOCK_BYTES - 1, b"xy");
    }
}
