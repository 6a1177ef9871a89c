//! Memory lent to another thread of the process: its bytes cross, its count stays at home.
//!
//! ```text
//! home                                   abroad
//! Slice ── lend ──► Loan      Lent ════► reads
//!                   Loan.end(Lent) ◄════ Lent
//! ```
//!
//! A [`Lent`] is one of its kind and cannot be copied, so whoever holds it at home again knows that nobody reads abroad any
//! more. Only with it can the [`Loan`] be ended. A loan that is dropped without it (the other thread is gone, and what it had
//! with it) keeps its memory for ever: that is the end of the process, and not of the memory's rules.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

use super::Slice;

/// What stays at home of a slice that was lent.
pub struct Loan {
    slice: ManuallyDrop<Slice>,
}

/// The bytes of a slice on a thread that is not the slice's own.
pub struct Lent {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the bytes are read and never written while a slice of them lives, and the slice that the loan keeps lives until
// this value, which cannot be copied, is back. The slice's count, which is not for other threads, is not reached from here.
#[allow(unsafe_code)]
unsafe impl Send for Lent {}

impl Slice {
    /// Lends the bytes, for a thread that is not this slice's.
    pub fn lend(&self) -> (Loan, Lent) {
        let lent = Lent { start: NonNull::from(&**self).cast(), length: self.len() };
        (Loan { slice: ManuallyDrop::new(self.clone()) }, lent)
    }
}

impl Loan {
    /// The bytes are back: the memory is its owner's again.
    ///
    /// # Panics
    /// If these are not the bytes that were lent.
    pub fn end(self, lent: Lent) {
        assert_eq!(lent.start, NonNull::from(&**self.slice).cast(), "a loan ends with what was lent");
        assert_eq!(lent.length, self.slice.len(), "a loan ends with all that was lent");
        drop(ManuallyDrop::into_inner(self.slice));
    }
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the slice that these are the bytes of is kept by the loan, which frees it for nothing but this value.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.start.as_ptr(), self.length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Slab;
    use super::*;

    fn slice(slab: &Slab, byte: u8) -> Slice {
        let mut buffer = slab.take(5000).expect("room");
        buffer.fill(byte);
        buffer.freeze().narrow(10..4990)
    }

    #[test]
    fn what_is_lent_counts_at_home_until_it_is_back() {
        let slab = Slab::new(1 << 20);
        let slice = slice(&slab, 7);
        let (loan, lent) = slice.lend();
        drop(slice);
        let abroad = std::thread::spawn(move || {
            assert!(lent.len() == 4980 && lent.iter().all(|byte| *byte == 7));
            lent
        });
        let lent = abroad.join().expect("reads");
        assert_eq!(slab.bytes_lent(), 8192);
        loan.end(lent);
        assert_eq!(slab.bytes_lent(), 0);
    }

    #[test]
    fn memory_that_does_not_come_back_is_nobodys_again() {
        let slab = Slab::new(1 << 20);
        let (_, lent) = slice(&slab, 9).lend();
        assert_eq!(slab.bytes_lent(), 8192, "it may still be read");
        assert!(lent.iter().all(|byte| *byte == 9));
    }

    #[test]
    #[should_panic(expected = "a loan ends with what was lent")]
    fn a_loan_does_not_end_with_other_bytes() {
        let slab = Slab::new(1 << 20);
        let (one, other) = (slice(&slab, 1), slice(&slab, 2));
        let ((loan, _lent), (_loan, lent)) = (one.lend(), other.lend());
        loan.end(lent);
    }
}
