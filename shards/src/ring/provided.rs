//! The buffers that the kernel picks for small receives: a ring of addresses in memory that both sides see.
//!
//! Each buffer is an [`AlignedBuffer`] of the receive pool, owned here while the kernel may fill it. When it is filled
//! it leaves as a [`Slice`] and a fresh one takes its number; when its last slice goes it returns to the pool. At the
//! pool's ceiling numbers stay empty, receives end for want of buffers, and connections wait: back-pressure.

use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, types::BufRingEntry};

use super::Error;
use crate::limits::{RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS};
use crate::memory::{AlignedBuffer, Slab, Slice};

/// The number of our only group of buffers.
pub(super) const GROUP: u16 = 0;

pub(super) struct Provided {
    /// The ring of addresses itself, registered with the kernel.
    shared: AlignedBuffer,
    /// What has been offered so far, modulo 2^16.
    tail: u16,
    buffers: Vec<Option<AlignedBuffer>>,
    /// Numbers without a buffer.
    empty: Vec<u16>,
    pool: Slab,
}

impl Provided {
    /// Registers a ring of buffers from `pool` with `uring`.
    pub(super) fn new(uring: &IoUring, pool: Slab) -> Result<Provided, Error> {
        let bytes = usize::from(RECEIVE_BUFFERS) * size_of::<BufRingEntry>();
        let mut shared = pool.take(bytes).ok_or(Error::Memory)?;
        shared.fill(0);
        // SAFETY: the memory is block-aligned, zeroed, as long as the entries are, and lives in `Provided` at a fixed
        // address, which the ring outlives in no case: its owner drops the kernel's side first.
        #[allow(unsafe_code)]
        let registered = unsafe {
            uring.submitter().register_buf_ring_with_flags(shared.as_ptr() as u64, RECEIVE_BUFFERS, GROUP, 0)
        };
        registered.map_err(Error::from_setup)?;
        let buffers = (0..RECEIVE_BUFFERS).map(|_| None).collect();
        let mut provided = Provided { shared, tail: 0, buffers, empty: (0..RECEIVE_BUFFERS).collect(), pool };
        provided.refill();
        Ok(provided)
    }

    /// How many buffers the kernel may pick from.
    pub(super) fn available(&self) -> usize {
        self.buffers.len() - self.empty.len()
    }

    /// Gives the numbers without a buffer one, as far as the pool goes.
    pub(super) fn refill(&mut self) {
        while let Some(&number) = self.empty.last() {
            let Some(buffer) = self.pool.take(RECEIVE_BUFFER_BYTES) else { return };
            self.empty.pop();
            self.offer(number, buffer);
        }
    }

    /// The first `length` bytes of the buffer that the kernel picked and filled; its number gets another one.
    pub(super) fn take(&mut self, number: u16, length: usize) -> Slice {
        let mut buffer =
            self.buffers[usize::from(number)].take().expect("the kernel fills a buffer it was offered");
        buffer.set_length(length);
        self.empty.push(number);
        self.refill();
        buffer.freeze()
    }

    /// Puts a buffer where the kernel picks from.
    fn offer(&mut self, number: u16, mut buffer: AlignedBuffer) {
        let at = usize::from(self.tail % RECEIVE_BUFFERS);
        let entries: *mut BufRingEntry = self.shared.as_mut_ptr().cast();
        // SAFETY: `at` lies inside the ring. The kernel reads an entry only below the tail, and this one is published by
        // the store below; at most `RECEIVE_BUFFERS` numbers exist, so a published entry is not overwritten before the
        // kernel took it. The fields are written through a pointer: the first entry's last field is the shared tail.
        #[allow(unsafe_code)]
        unsafe {
            let entry = &mut *entries.add(at);
            entry.set_addr(buffer.as_mut_ptr() as u64);
            entry.set_len(u32::try_from(RECEIVE_BUFFER_BYTES).expect("a receive buffer is small"));
            entry.set_bid(number);
        }
        self.buffers[usize::from(number)] = Some(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies inside the shared memory, is aligned, and is accessed by atomics on both sides.
        #[allow(unsafe_code)]
        unsafe {
            let tail = BufRingEntry::tail(entries).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}
