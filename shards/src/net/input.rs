//! Received bytes that nobody has looked at yet, in the buffers they arrived in.

use std::collections::VecDeque;

use crate::memory::Slice;

/// A queue of slices read as one stream.
#[derive(Default)]
pub(super) struct Input {
    slices: VecDeque<Slice>,
    bytes: usize,
}

impl Input {
    pub(super) fn push(&mut self, slice: Slice) {
        if !slice.is_empty() {
            self.bytes += slice.len();
            self.slices.push_back(slice);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.slices.clear();
        self.bytes = 0;
    }

    /// Copies bytes out until `target` is full or nothing is left; how many.
    pub(super) fn copy_to(&mut self, target: &mut [u8]) -> usize {
        let mut copied = 0;
        while copied < target.len() {
            let Some(front) = self.slices.front() else { break };
            let count = front.len().min(target.len() - copied);
            target[copied..copied + count].copy_from_slice(&front[..count]);
            copied += count;
            self.advance(count);
        }
        copied
    }

    /// The next `length` bytes if they lie in one buffer.
    pub(super) fn take_in_place(&mut self, length: usize) -> Option<Slice> {
        if length == 0 {
            return Some(Slice::from_static(&[]));
        }
        let front = self.slices.front().filter(|front| front.len() >= length)?;
        let slice = front.narrow(0..length);
        self.advance(length);
        Some(slice)
    }

    /// Moves what is left into memory of its own, so that no receive buffer and no request memory is held.
    pub(super) fn detach(&mut self) {
        if self.bytes > 0 {
            let mut copy = Vec::with_capacity(self.bytes);
            self.slices.iter().for_each(|slice| copy.extend_from_slice(slice));
            self.slices.clear();
            self.slices.push_back(Slice::from_vec(copy));
        }
    }

    /// Passes over `count` bytes of the front slice.
    fn advance(&mut self, count: usize) {
        let front = self.slices.front_mut().expect("only bytes that are there are passed over");
        if count == front.len() {
            self.slices.pop_front();
        } else {
            *front = front.narrow(count..front.len());
        }
        self.bytes -= count;
    }
}
