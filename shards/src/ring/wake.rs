//! How a parked shard is woken: by its ring or another thread through the [`Doorbell`], by a task of its own executor
//! through [`Notify`].

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use rustix::event::{EventfdFlags, eventfd};

/// An eventfd that wakes one shard. The ring signals it for each completion; other threads ring it.
#[derive(Clone, Debug)]
pub struct Doorbell {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    descriptor: OwnedFd,
    parked: AtomicBool,
}

impl Doorbell {
    /// A doorbell of a shard that is awake.
    pub fn new() -> io::Result<Doorbell> {
        let descriptor = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Doorbell { inner: Arc::new(Inner { descriptor, parked: AtomicBool::new(false) }) })
    }

    /// Wakes the shard if it is parked or about to park. Called after the message that it shall see was stored.
    ///
    /// The store of the message and the load here, like the store in [`Doorbell::park`] and the shard's look for
    /// messages after it, are kept in order by fences: either the shard sees the message or we see it parked.
    pub fn ring(&self) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.inner.parked.load(Ordering::Relaxed) {
            self.signal();
        }
    }

    /// Declares the shard about to park and forgets old signals. The shard must look for work once more before it does.
    pub fn park(&self) {
        self.inner.parked.store(true, Ordering::Relaxed);
        let mut count = [0; 8];
        // It holds no signal, or we take them: both are fine.
        let _drained = rustix::io::read(&self.inner.descriptor, &mut count);
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    /// Declares the shard awake.
    pub fn unpark(&self) {
        self.inner.parked.store(false, Ordering::Relaxed);
    }

    #[expect(clippy::disallowed_methods, reason = "an eventfd counts in the host's byte order")]
    fn signal(&self) {
        // The only failure of a non-blocking eventfd is a full counter, and then the shard is being woken already.
        let _signalled = rustix::io::write(&self.inner.descriptor, &1u64.to_ne_bytes());
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.descriptor.as_fd()
    }
}

impl AsRawFd for Doorbell {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.descriptor.as_raw_fd()
    }
}

/// A flag by which code of the shard's own thread tells its driver that there is something to do.
#[derive(Debug, Default)]
pub struct Notify {
    raised: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Notify {
    /// Raises the flag and wakes the driver, should it be parked.
    pub fn raise(&self) {
        self.raised.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether the flag is up.
    pub fn is_raised(&self) -> bool {
        self.raised.get()
    }

    /// Takes the flag down.
    pub fn clear(&self) {
        self.raised.set(false);
    }

    /// Who is woken when the flag is raised next.
    pub fn wake_with(&self, waker: &Waker) {
        self.waker.replace(Some(waker.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doorbell_is_silent_unless_the_shard_parks() {
        let doorbell = Doorbell::new().expect("an eventfd");
        let mut count = [0; 8];
        doorbell.ring();
        assert!(rustix::io::read(&doorbell, &mut count).is_err(), "awake: no signal");
        doorbell.park();
        doorbell.ring();
        assert_eq!(rustix::io::read(&doorbell, &mut count).expect("signalled"), 8);
        doorbell.ring();
        doorbell.park();
        assert!(rustix::io::read(&doorbell, &mut count).is_err(), "parking forgets old signals");
    }
}
