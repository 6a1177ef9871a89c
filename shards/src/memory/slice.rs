//! A counted, read-only view of memory that stays where it is and as it is.

use std::any::Any;
use std::fmt;
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::rc::Rc;

/// Read-only bytes whose owner lives at least as long as the slice. Cloning and narrowing copy no byte.
///
/// The bytes neither move nor change while any slice of them lives, so their address may be handed to the kernel for as
/// long as a clone is kept. Not `Send`: the count is the shard's own.
#[derive(Clone)]
pub struct Slice {
    owner: Rc<dyn Any>,
    start: NonNull<u8>,
    length: usize,
}

impl Slice {
    /// The view of `bytes` that lives as long as `owner`.
    ///
    /// # Safety
    /// `start` must point at `length` initialised bytes inside memory that `owner` keeps alive at a fixed address and
    /// that nobody writes to while a clone of `owner` exists.
    #[allow(unsafe_code)]
    pub(super) unsafe fn from_raw(owner: Rc<dyn Any>, start: NonNull<u8>, length: usize) -> Slice {
        Slice { owner, start, length }
    }

    /// A view of bytes that live as long as the program.
    pub fn from_static(bytes: &'static [u8]) -> Slice {
        Slice { owner: Rc::new(()), start: NonNull::from(bytes).cast(), length: bytes.len() }
    }

    /// A view over memory given up to it.
    pub fn from_vec(bytes: Vec<u8>) -> Slice {
        let (start, length) = (NonNull::from(bytes.as_slice()).cast(), bytes.len());
        Slice { owner: Rc::new(bytes), start, length }
    }

    /// The part `range` of this slice.
    ///
    /// # Panics
    /// If the range does not lie inside the slice.
    pub fn narrow(&self, range: Range<usize>) -> Slice {
        assert!(range.start <= range.end, "a slice's range runs forward");
        assert!(range.end <= self.length, "a slice is narrowed, never widened");
        // SAFETY: `range.start` is at most the slice's length, so the sum stays inside (or one past) the same allocation.
        #[allow(unsafe_code)]
        let start = unsafe { self.start.add(range.start) };
        Slice { owner: Rc::clone(&self.owner), start, length: range.end - range.start }
    }

    /// The address of the first byte, for the kernel; valid while this slice or a clone of it lives.
    pub fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: every constructor guarantees `length` initialised bytes at `start`, alive and unchanging as long as
        // `owner` is, and `owner` lives in this slice.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.start.as_ptr(), self.length)
        }
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_outlives_the_one_it_was_cut_from() {
        let whole = Slice::from_vec((0..100).collect());
        let part = whole.narrow(10..20).narrow(2..5);
        drop(whole);
        assert_eq!(&*part, &[12, 13, 14]);
    }

    #[test]
    fn an_empty_slice_is_fine_at_the_very_end() {
        let whole = Slice::from_vec(vec![1, 2, 3]);
        assert!(whole.narrow(3..3).is_empty());
        assert_eq!(&*Slice::from_static(b"abc").narrow(1..3), b"bc");
    }

    #[test]
    #[should_panic(expected = "narrowed, never widened")]
    fn a_slice_cannot_be_widened() {
        let part = Slice::from_vec(vec![1, 2, 3]).narrow(0..2);
        let _wider = part.narrow(0..3);
    }
}
