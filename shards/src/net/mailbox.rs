//! What other threads send a shard: accepted sockets, and the order to stop. Bounded; rings the doorbell.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::ListenerIndex;
use crate::limits::MAILBOX_MESSAGES_MAX;
use crate::ring::Doorbell;

/// A message to a shard.
#[derive(Debug)]
pub enum Message {
    /// A connection that the shard shall serve; counted in its load already.
    Connection {
        /// The accepted socket.
        socket: OwnedFd,
        /// Who accepted it.
        listener: ListenerIndex,
        /// The peer.
        address: SocketAddr,
    },
}

/// One shard's mailbox; clones are the same mailbox.
#[derive(Clone, Debug)]
pub struct Mailbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    doorbell: Doorbell,
    messages: Mutex<VecDeque<Message>>,
    /// Whether `messages` may hold some: looked at by a spinning shard without the lock.
    pending: AtomicBool,
    /// Connections that the shard has or will get.
    load: AtomicUsize,
    stop: AtomicU8,
}

const STOP_DRAINED: u8 = 1;
const STOP_NOW: u8 = 2;

impl Mailbox {
    /// An empty mailbox that rings `doorbell`.
    pub fn new(doorbell: Doorbell) -> Mailbox {
        let inner = Inner {
            doorbell,
            messages: Mutex::default(),
            pending: AtomicBool::new(false),
            load: AtomicUsize::new(0),
            stop: AtomicU8::new(0),
        };
        Mailbox { inner: Arc::new(inner) }
    }

    /// The shard's doorbell.
    pub fn doorbell(&self) -> &Doorbell {
        &self.inner.doorbell
    }

    /// Puts a message in; gives it back if the mailbox is full.
    pub fn send(&self, message: Message) -> Result<(), Message> {
        let mut messages = self.inner.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.len() == MAILBOX_MESSAGES_MAX {
            return Err(message);
        }
        messages.push_back(message);
        self.inner.pending.store(true, Ordering::Release);
        drop(messages);
        self.inner.doorbell.ring();
        Ok(())
    }

    /// Takes the oldest message out.
    pub fn take(&self) -> Option<Message> {
        if !self.inner.pending.load(Ordering::Acquire) {
            return None;
        }
        let mut messages = self.inner.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let message = messages.pop_front();
        self.inner.pending.store(!messages.is_empty(), Ordering::Release);
        message
    }

    /// Whether there is, or may be, a message.
    pub fn is_pending(&self) -> bool {
        self.inner.pending.load(Ordering::Acquire)
    }

    /// Orders the shard to stop: after answering what it has read, or `now`.
    pub fn order_stop(&self, now: bool) {
        self.inner.stop.fetch_max(if now { STOP_NOW } else { STOP_DRAINED }, Ordering::Release);
        self.inner.doorbell.ring();
    }

    /// Whether the shard shall stop.
    pub fn is_stop_ordered(&self) -> bool {
        self.inner.stop.load(Ordering::Acquire) >= STOP_DRAINED
    }

    /// Whether it shall stop without answering.
    pub fn is_stop_now_ordered(&self) -> bool {
        self.inner.stop.load(Ordering::Acquire) == STOP_NOW
    }

    /// Connections that the shard has or will get.
    pub(super) fn load(&self) -> usize {
        self.inner.load.load(Ordering::Relaxed)
    }

    pub(super) fn load_more(&self) {
        self.inner.load.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn load_less(&self) {
        let before = self.inner.load.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a connection is counted before it ends");
    }
}
