//! What the synchronous core looks like from the driver, and what it may ask for.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::clock::Moment;
use crate::limits::STORAGE_OPERATIONS_MAX;
use crate::memory::{AlignedBuffer, Slice};
use crate::net::Counters;
use crate::ring::{Ring, StorageEvent, Token};

/// A shard's engine: told of the time and of what completed, it asks for disk operations through [`Context`].
///
/// All calls come from the driver, on the shard's thread. None may block.
pub trait Engine: 'static {
    /// Does what can be done now; called once a turn, after the turn's completions and requests, and before the answers
    /// of the turn leave.
    fn turn(&mut self, context: &mut Context<'_>);

    /// Takes the end of the disk operation that was asked for with `tag`. Its buffers are in `event`.
    fn completed(&mut self, tag: u64, event: StorageEvent, context: &mut Context<'_>);

    /// When [`Engine::turn`] must be called even if nothing happens.
    fn next_deadline(&self) -> Option<Moment>;

    /// The connections are gone: make durable what must be, then be [`Engine::is_stopped`].
    fn stop(&mut self, context: &mut Context<'_>);

    /// Whether the engine has nothing more to do after [`Engine::stop`].
    fn is_stopped(&self) -> bool;
}

/// A shard without storage.
impl Engine for () {
    fn turn(&mut self, _context: &mut Context<'_>) {}

    fn completed(&mut self, _tag: u64, _event: StorageEvent, _context: &mut Context<'_>) {
        unreachable!("nothing was asked for")
    }

    fn next_deadline(&self) -> Option<Moment> {
        None
    }

    fn stop(&mut self, _context: &mut Context<'_>) {}

    fn is_stopped(&self) -> bool {
        true
    }
}

/// What an engine may ask for during one of its calls.
pub struct Context<'a> {
    pub(super) ring: &'a mut Ring,
    pub(super) in_flight: &'a mut usize,
    pub(super) counters: &'a Counters,
    pub(super) now: Moment,
}

impl Context<'_> {
    /// The time of this turn.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// How many more disk operations may be asked for at this moment.
    pub fn room(&self) -> usize {
        STORAGE_OPERATIONS_MAX - *self.in_flight
    }

    /// Writes `slices` one after the other from byte `position` of `file`, durably if so asked. May end short.
    ///
    /// # Panics
    /// Without [`Context::room`]; without slices, or with more than [`crate::limits::WRITE_SLICES_MAX`].
    pub fn write(&mut self, tag: u64, file: &Rc<OwnedFd>, position: u64, slices: Vec<Slice>, durable: bool) {
        self.count();
        self.ring.write(Token(tag), Rc::clone(file), position, slices, durable);
    }

    /// Makes durable what was written to `file` by operations that have completed.
    ///
    /// # Panics
    /// Without [`Context::room`].
    pub fn flush(&mut self, tag: u64, file: &Rc<OwnedFd>) {
        self.count();
        self.ring.flush(Token(tag), Rc::clone(file));
    }

    /// Fills `buffer` from byte `position` of `file`. May end short.
    ///
    /// # Panics
    /// Without [`Context::room`].
    pub fn read(&mut self, tag: u64, file: &Rc<OwnedFd>, position: u64, buffer: AlignedBuffer) {
        self.count();
        self.ring.read(Token(tag), Rc::clone(file), position, buffer);
    }

    fn count(&mut self) {
        assert!(*self.in_flight < STORAGE_OPERATIONS_MAX, "an engine looks for room before it asks");
        *self.in_flight += 1;
        self.counters.storage_operations_total.add(1);
    }
}
