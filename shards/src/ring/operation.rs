//! The slab of operations in flight. An operation owns whatever the kernel may read, write or use until its final
//! completion, so that nothing of it can be freed or reused before.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use io_uring::types;

use super::Token;
use crate::limits::RING_OPERATIONS_MAX;
use crate::memory::{AlignedBuffer, Slice};

/// Names an operation in flight. It never comes to name another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The key as the kernel carries it.
    pub(super) fn to_user_data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The key that the kernel carried.
    #[allow(clippy::cast_possible_truncation)]
    pub(super) fn from_user_data(user_data: u64) -> Key {
        Key { index: user_data as u32, generation: (user_data >> 32) as u32 }
    }
}

/// Slices laid out as the kernel reads them. The vectors' memory stays where it is when the gathering moves.
pub(super) struct Gather {
    slices: Vec<Slice>,
    vectors: Vec<libc::iovec>,
}

impl Gather {
    pub(super) fn new(slices: Vec<Slice>) -> Gather {
        let vector =
            |slice: &Slice| libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() };
        let vectors = slices.iter().map(vector).collect();
        Gather { slices, vectors }
    }

    pub(super) fn vectors(&self) -> (*const libc::iovec, usize) {
        (self.vectors.as_ptr(), self.vectors.len())
    }

    pub(super) fn into_slices(self) -> Vec<Slice> {
        self.slices
    }
}

/// A gathered send; boxed, because the kernel is given the header's address.
pub(super) struct Message {
    gather: Gather,
    header: libc::msghdr,
}

impl Message {
    pub(super) fn new(slices: Vec<Slice>) -> Box<Message> {
        let gather = Gather::new(slices);
        let (vectors, count) = gather.vectors();
        // SAFETY: the header is plain integers and pointers, for which zero is a value: no name, no control data.
        #[allow(unsafe_code)]
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = vectors.cast_mut();
        header.msg_iovlen = count as _;
        Box::new(Message { gather, header })
    }

    pub(super) fn header(&self) -> *const libc::msghdr {
        &raw const self.header
    }

    pub(super) fn into_slices(self) -> Vec<Slice> {
        self.gather.into_slices()
    }
}

/// What the kernel is at, with all that it may touch.
pub(super) enum Operation {
    Accept {
        _listener: Rc<OwnedFd>,
    },
    ReceivePooled {
        _socket: Rc<OwnedFd>,
    },
    Receive {
        _socket: Rc<OwnedFd>,
        buffer: AlignedBuffer,
    },
    Send {
        _socket: Rc<OwnedFd>,
        message: Box<Message>,
    },
    Write {
        _file: Rc<OwnedFd>,
        gather: Gather,
    },
    Flush {
        _file: Rc<OwnedFd>,
    },
    Read {
        _file: Rc<OwnedFd>,
        buffer: AlignedBuffer,
        length: usize,
    },
    /// Wakes the shard; boxed, because the kernel is given the time's address.
    Alarm {
        _time: Box<types::Timespec>,
    },
    /// Asks for another operation's end, for the so-manieth time.
    Cancel {
        target: Key,
        attempt: u32,
    },
}

struct Entry {
    generation: u32,
    live: Option<(Token, Operation)>,
}

/// The operations in flight, by key.
pub(super) struct Operations {
    entries: Vec<Entry>,
    free: Vec<u32>,
    live: usize,
}

impl Operations {
    pub(super) fn new() -> Operations {
        Operations { entries: Vec::new(), free: Vec::new(), live: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// Takes an operation in and names it.
    ///
    /// # Panics
    /// Beyond [`RING_OPERATIONS_MAX`], which the bounds on connections, listeners and disk operations exclude.
    pub(super) fn insert(&mut self, token: Token, operation: Operation) -> Key {
        assert!(self.live < RING_OPERATIONS_MAX, "a ring's operations are bounded by those who submit them");
        self.live += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, live: None });
            u32::try_from(self.entries.len() - 1).expect("bounded above")
        });
        let entry = &mut self.entries[index as usize];
        entry.live = Some((token, operation));
        Key { index, generation: entry.generation }
    }

    /// Whether an operation has not completed finally.
    pub(super) fn is_live(&self, key: Key) -> bool {
        let entry = self.entries.get(key.index as usize);
        entry.is_some_and(|entry| entry.generation == key.generation && entry.live.is_some())
    }

    /// The operation that a completion speaks of.
    ///
    /// # Panics
    /// If there is none: every completion before the final one finds its operation here.
    pub(super) fn get(&self, key: Key) -> &(Token, Operation) {
        let entry = &self.entries[key.index as usize];
        assert_eq!(entry.generation, key.generation, "a completion speaks of an operation in flight");
        entry.live.as_ref().expect("an operation stays until its final completion")
    }

    /// Ends an operation: what it owned comes back.
    ///
    /// # Panics
    /// If it is not in flight.
    pub(super) fn remove(&mut self, key: Key) -> (Token, Operation) {
        let entry = &mut self.entries[key.index as usize];
        assert_eq!(entry.generation, key.generation, "an operation completes finally once");
        let operation = entry.live.take().expect("an operation stays until its final completion");
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.index);
        self.live -= 1;
        operation
    }

    /// The keys of all operations in flight that can be cancelled.
    pub(super) fn cancellable(&self) -> Vec<Key> {
        let live = self.entries.iter().enumerate().filter_map(|(index, entry)| match entry.live {
            Some((_, Operation::Cancel { .. })) | None => None,
            Some(_) => Some(Key { index: u32::try_from(index).ok()?, generation: entry.generation }),
        });
        live.collect()
    }
}

/// The number by which the kernel knows `descriptor`.
pub(super) fn raw(descriptor: &Rc<OwnedFd>) -> RawFd {
    descriptor.as_raw_fd()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm() -> Operation {
        Operation::Alarm { _time: Box::new(types::Timespec::new()) }
    }

    #[test]
    fn a_key_never_comes_to_name_another_operation() {
        let mut operations = Operations::new();
        let first = operations.insert(Token(1), alarm());
        operations.remove(first);
        let second = operations.insert(Token(2), alarm());
        assert_ne!(first, second);
        assert!(operations.is_live(second) && !operations.is_live(first));
        assert_eq!(Key::from_user_data(second.to_user_data()), second);
        assert_eq!(operations.get(second).0, Token(2));
        assert_eq!(operations.len(), 1);
    }

    #[test]
    #[should_panic(expected = "completes finally once")]
    fn a_second_final_completion_is_our_own_bug() {
        let mut operations = Operations::new();
        let key = operations.insert(Token(1), alarm());
        operations.remove(key);
        operations.remove(key);
    }
}
