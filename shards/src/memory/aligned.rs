//! Memory for direct I/O: aligned to the disk's blocks, taken from a shard's slab under a ceiling, given back on drop.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::Slice;
use crate::limits::{BLOCK_BYTES, MAPPED_BYTES, SLAB_CLASSES, SLAB_FREE_PER_CLASS};

/// A shard's store of aligned buffers: power-of-two classes, recycled, with a ceiling on what is lent out and kept.
#[derive(Clone)]
pub struct Slab {
    state: Rc<RefCell<State>>,
}

struct State {
    /// Free buffers by class; class `i` holds buffers of `BLOCK_BYTES << i` bytes.
    free: [Vec<NonNull<u8>>; SLAB_CLASSES],
    bytes_free: usize,
    bytes_lent: usize,
    bytes_max: usize,
}

impl Slab {
    /// A slab that never holds more than `bytes_max` bytes, lent and free together. Memory is touched on first use.
    pub fn new(bytes_max: usize) -> Slab {
        let free = std::array::from_fn(|_| Vec::new());
        Slab { state: Rc::new(RefCell::new(State { free, bytes_free: 0, bytes_lent: 0, bytes_max })) }
    }

    /// A zeroed-or-recycled buffer of at least `bytes` bytes, or `None` at the ceiling (or beyond the largest class).
    ///
    /// Its content is whatever its last user left; a caller that lends it to the kernel fills it or zeroes the rest.
    pub fn take(&self, bytes: usize) -> Option<AlignedBuffer> {
        let class = class_of(bytes)?;
        let size = BLOCK_BYTES << class;
        let mut state = self.state.borrow_mut();
        let start = match state.free[class].pop() {
            Some(start) => {
                state.bytes_free -= size;
                start
            }
            None => {
                if state.bytes_lent + state.bytes_free + size > state.bytes_max {
                    state.release_free();
                }
                if state.bytes_lent + size > state.bytes_max {
                    return None;
                }
                allocate(size)
            }
        };
        state.bytes_lent += size;
        Some(AlignedBuffer { start, class, length: bytes, slab: self.clone() })
    }

    /// What the slab never holds more than, in bytes.
    pub fn bytes_max(&self) -> usize {
        self.state.borrow().bytes_max
    }

    /// Bytes lent out at this moment, in whole classes.
    pub fn bytes_lent(&self) -> usize {
        self.state.borrow().bytes_lent
    }
}

impl State {
    fn release_free(&mut self) {
        for (class, list) in self.free.iter_mut().enumerate() {
            for start in list.drain(..) {
                release(start, BLOCK_BYTES << class);
            }
        }
        self.bytes_free = 0;
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.release_free();
    }
}

/// The smallest class that holds `bytes`.
fn class_of(bytes: usize) -> Option<usize> {
    let blocks = bytes.div_ceil(BLOCK_BYTES).max(1).checked_next_power_of_two()?;
    let class = blocks.trailing_zeros() as usize;
    (class < SLAB_CLASSES).then_some(class)
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, BLOCK_BYTES).expect("a class is a power of two of at least one block")
}

/// Zeroed memory. The allocator zeroes aligned memory by writing to it; large memory is mapped instead, so that only
/// what is used of it is ever there.
fn allocate(size: usize) -> NonNull<u8> {
    if size >= MAPPED_BYTES {
        return map(size).unwrap_or_else(|| handle_alloc_error(layout(size)));
    }
    // SAFETY: a class is never of size zero.
    #[allow(unsafe_code)]
    let start = unsafe { alloc_zeroed(layout(size)) };
    NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout(size)))
}

fn map(size: usize) -> Option<NonNull<u8>> {
    let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a new mapping, at an address that the kernel chooses, touches nobody's memory.
    #[allow(unsafe_code)]
    let start = unsafe { mmap_anonymous(std::ptr::null_mut(), size, access, flags) };
    NonNull::new(start.ok()?.cast())
}

fn release(start: NonNull<u8>, size: usize) {
    // SAFETY: `start` came from `allocate(size)`, by the same of its two ways, and leaves the slab here, its last holder.
    #[allow(unsafe_code)]
    unsafe {
        if size >= MAPPED_BYTES {
            munmap(start.as_ptr().cast(), size).expect("what was mapped whole is unmapped whole");
        } else {
            dealloc(start.as_ptr(), layout(size));
        }
    }
}

/// Exclusive, block-aligned memory; frozen into [`Slice`]s once written.
pub struct AlignedBuffer {
    start: NonNull<u8>,
    class: usize,
    length: usize,
    slab: Slab,
}

impl AlignedBuffer {
    /// What the buffer can hold, in bytes: its whole class.
    pub fn capacity(&self) -> usize {
        BLOCK_BYTES << self.class
    }

    /// Makes the first `length` bytes of the class visible.
    ///
    /// # Panics
    /// If the class is smaller.
    pub fn set_length(&mut self, length: usize) {
        assert!(length <= self.capacity(), "a buffer's length lies within its class");
        self.length = length;
    }

    /// Gives up writing; from here on the bytes can be shared.
    pub fn freeze(self) -> Slice {
        let (start, length) = (self.start, self.length);
        // SAFETY: the buffer moves into the owner, so nobody can write to it again; its memory stays put (the struct
        // holds a pointer) and all `length` bytes were initialised by zeroing or by a former user.
        #[allow(unsafe_code)]
        unsafe {
            Slice::from_raw(Rc::new(self), start, length)
        }
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.length)
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the class holds at least `length` initialised bytes, and `self` owns them.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.start.as_ptr(), self.length)
        }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` is exclusive: no slice exists before `freeze`, which consumes the buffer.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length)
        }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        let mut state = self.slab.state.borrow_mut();
        let size = self.capacity();
        state.bytes_lent -= size;
        if state.free[self.class].len() < SLAB_FREE_PER_CLASS {
            state.free[self.class].push(self.start);
            state.bytes_free += size;
        } else {
            release(self.start, size);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn buffers_are_aligned_and_come_back() {
        let slab = Slab::new(1 << 20);
        let mut buffer = slab.take(5000).expect("within the ceiling");
        assert_eq!((buffer.len(), buffer.capacity()), (5000, 8192));
        assert_eq!(buffer.as_ptr() as usize % BLOCK_BYTES, 0);
        buffer[4999] = 7;
        let slice = buffer.freeze();
        let part = slice.narrow(4999..5000);
        drop(slice);
        assert_eq!((slab.bytes_lent(), part[0]), (8192, 7));
        drop(part);
        assert_eq!(slab.bytes_lent(), 0);
    }

    #[test]
    fn the_ceiling_holds_and_free_memory_is_not_held_against_another_class() {
        let slab = Slab::new(16 * BLOCK_BYTES);
        let small: Vec<_> = (0..16).map(|_| slab.take(1).expect("sixteen blocks fit")).collect();
        assert!(slab.take(1).is_none());
        drop(small);
        assert!(slab.take(16 * BLOCK_BYTES).is_some(), "free small buffers make room for a large one");
        assert!(slab.take(17 * BLOCK_BYTES).is_none());
    }

    /// Pages of this process's memory that lie in `buffer` and are there.
    fn pages_present(buffer: &AlignedBuffer) -> usize {
        let first = buffer.as_ptr() as u64 / BLOCK_BYTES as u64;
        let mut entries = vec![0; buffer.capacity() / BLOCK_BYTES * 8];
        let map = std::fs::File::open("/proc/self/pagemap").expect("there is a page map");
        map.read_exact_at(&mut entries, first * 8).expect("it covers all memory");
        // An entry's highest bit says whether its page is there.
        let present =
            |entry: &&[u8]| u64::from_le_bytes((*entry).try_into().expect("eight bytes")) >> 63 == 1;
        entries.chunks_exact(8).filter(present).count()
    }

    #[test]
    fn large_memory_is_there_once_it_is_used() {
        let slab = Slab::new(256 << 20);
        for bytes in [MAPPED_BYTES, 32 << 20] {
            let mut buffer = slab.take(bytes).expect("room");
            assert_eq!(
                (pages_present(&buffer), buffer.as_ptr() as usize % BLOCK_BYTES),
                (0, 0),
                "{bytes} bytes"
            );
            buffer[0] = 1;
            buffer[bytes - 1] = 1;
            assert!(pages_present(&buffer) > 0, "the page map tells what is there");
            assert!(buffer[1..bytes - 1].iter().all(|byte| *byte == 0), "{bytes} bytes");
        }
        let tight = Slab::new(MAPPED_BYTES);
        drop(tight.take(MAPPED_BYTES));
        assert!(tight.take(1).is_some(), "mapped memory was given back for another class");
    }

    #[test]
    fn sizes_beyond_the_largest_class_are_refused() {
        assert!(Slab::new(usize::MAX).take(usize::MAX).is_none());
        assert!(Slab::new(usize::MAX).take((BLOCK_BYTES << SLAB_CLASSES) + 1).is_none());
    }
}
