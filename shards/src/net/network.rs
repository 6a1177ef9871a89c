//! The network of one shard: completions in, operations out. `super::connection` decides, this acts.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use rustix::io::Errno;

use super::connection::{Connection, Expiry, Receiving, Wish};
use super::connections::{ConnectionKey, Connections};
use super::outbox::{Outbox, Ready};
use super::parser::{Body, FrameError, Step};
use super::transport::Transport;
use super::{
    ConnectionId, Counters, Frame, ListenerIndex, Mailbox, Message, Peer, Principal, Request, RequestContext,
    Service, Settings, Stage, Stamps,
};
use crate::clock::Moment;
use crate::limits::{BLOCK_BYTES, RECEIVE_AHEAD_BYTES, RETRY_AFTER};
use crate::memory::{AlignedBuffer, Slab, Slice};
use crate::ring::{Key, NetworkEvent, Notify, Ring, Token};
use crate::throttle::Throttle;
use crate::types::ShardIndex;

/// How far a shard's network is on its way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connections are accepted and served.
    Serving,
    /// Requests that were read are still answered.
    Draining,
    /// Everything is being closed.
    Closing,
}

struct Accepting {
    /// Gone once the network no longer serves and the kernel has let go.
    socket: Option<Rc<OwnedFd>>,
    /// The accept with the kernel, if there is one.
    key: Option<Key>,
}

/// The connections and listeners of one shard.
pub struct Network<S> {
    shard: ShardIndex,
    service: Rc<S>,
    settings: Settings,
    counters: Arc<Counters>,
    /// The mailboxes of all shards, by index.
    mailboxes: Vec<Mailbox>,
    listeners: Vec<Accepting>,
    connections: Connections,
    connections_total: u64,
    ready: Rc<Ready>,
    notify: Rc<Notify>,
    /// Where frames of several buffers go: `queued.max.request.bytes`.
    memory: Slab,
    /// Connections whose next frame waits for memory, in order. Only the first may take some.
    memory_waiters: VecDeque<ConnectionKey>,
    /// Connections whose receive ended for want of a pool buffer.
    without_buffer: VecDeque<ConnectionKey>,
    /// Lines about connections closed for their frames.
    rejected: Throttle,
    /// Lines about accepts that failed.
    accept_failed: Throttle,
    /// When something that nobody reports is tried again.
    retry_at: Option<Moment>,
    phase: Phase,
}

impl<S: Service> Network<S> {
    /// The network of `shard`, without listeners.
    pub fn new(
        shard: ShardIndex,
        service: Rc<S>,
        settings: Settings,
        mailboxes: Vec<Mailbox>,
        counters: Arc<Counters>,
        notify: Rc<Notify>,
    ) -> Network<S> {
        let largest = (settings.request_bytes_max + RECEIVE_AHEAD_BYTES).max(BLOCK_BYTES).next_power_of_two();
        let memory = Slab::new(settings.queued_request_bytes_max.max(largest));
        counters.request_memory_capacity_bytes.set(memory.bytes_max() as u64);
        Network {
            shard,
            service,
            settings,
            counters,
            mailboxes,
            listeners: Vec::new(),
            connections: Connections::default(),
            connections_total: 0,
            ready: Ready::new(Rc::clone(&notify)),
            notify,
            memory,
            memory_waiters: VecDeque::new(),
            without_buffer: VecDeque::new(),
            rejected: Throttle::default(),
            accept_failed: Throttle::default(),
            retry_at: None,
            phase: Phase::Serving,
        }
    }

    /// Accepts from these listeners from now on.
    pub fn listen(&mut self, ring: &mut Ring, sockets: Vec<OwnedFd>) {
        let accepting = |socket| Accepting { socket: Some(Rc::new(socket)), key: None };
        self.listeners = sockets.into_iter().map(accepting).collect();
        self.accept(ring);
    }

    /// Takes the messages of other threads.
    pub fn take_messages(&mut self, ring: &mut Ring, now: Moment) -> bool {
        let mut any = false;
        while let Some(Message::Connection { socket, listener, address }) = self.mailbox().take() {
            any = true;
            match self.phase {
                Phase::Serving => self.adopt(ring, socket, listener, address, now),
                Phase::Draining | Phase::Closing => self.mailbox().load_less(),
            }
        }
        any
    }

    /// Takes what happened on a socket.
    pub fn completed(&mut self, ring: &mut Ring, token: Token, event: NetworkEvent, now: Moment) {
        if let NetworkEvent::Accepted { result, last } = event {
            return self.accepted(ring, token, result, last, now);
        }
        let key = ConnectionKey::from_token(token);
        let mut connection =
            self.connections.take(key).expect("a connection stays while the kernel has some of it");
        match event {
            NetworkEvent::Received { result, last } => self.received(&mut connection, result, last, now),
            NetworkEvent::ReceivedInto { result, buffer } => {
                self.received_into(&mut connection, result, buffer, now)
            }
            NetworkEvent::Sent { result, slices } => self.sent(&mut connection, result, slices, now),
            NetworkEvent::Accepted { .. } => unreachable!("handled above"),
        }
        self.progress(ring, connection, now);
    }

    /// Goes on with every connection for which something changed that is no completion.
    pub fn turn(&mut self, ring: &mut Ring, now: Moment) {
        while let Some(key) = self.ready.pop() {
            self.visit(ring, key, now, |connection| connection.outbox.unlist());
        }
        self.notify.clear();
        self.serve_memory_waiters(ring, now);
        for _ in 0..self.without_buffer.len() {
            if ring.receive_buffers_available() == 0 {
                break;
            }
            let Some(key) = self.without_buffer.pop_front() else { break };
            self.visit(ring, key, now, |_| {});
        }
        while let Some(key) = self.connections.due(now) {
            self.expire(ring, key, now);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.accept(ring);
        }
        let waiting = !self.memory_waiters.is_empty() || !self.without_buffer.is_empty();
        let idle_listener = self.phase == Phase::Serving && self.listeners.iter().any(|l| l.key.is_none());
        self.retry_at = (waiting || idle_listener).then(|| now.after(RETRY_AFTER));
        self.counters.request_memory_bytes.set(self.memory.bytes_lent() as u64);
    }

    /// When [`Network::turn`] must run even if nothing happens.
    pub fn next_deadline(&self) -> Option<Moment> {
        [self.connections.next_deadline(), self.retry_at].into_iter().flatten().min()
    }

    /// Whether no connection and no accept is left.
    pub fn is_empty(&self) -> bool {
        self.connections.len() == 0 && self.listeners.iter().all(|listener| listener.key.is_none())
    }

    /// Where the network is on its way to the end.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Closes the listeners; connections end as what was read of them is answered.
    pub fn drain(&mut self, ring: &mut Ring, now: Moment) {
        self.phase = Phase::Draining;
        self.listeners.iter().filter_map(|listener| listener.key).for_each(|key| ring.cancel(key));
        for key in self.connections.keys() {
            self.visit(ring, key, now, |_| {});
        }
    }

    /// Closes everything.
    pub fn close(&mut self, ring: &mut Ring, now: Moment) {
        if self.phase == Phase::Serving {
            self.drain(ring, now);
        }
        self.phase = Phase::Closing;
        for key in self.connections.keys() {
            if let Some(mut connection) = self.connections.take(key) {
                self.end(ring, &mut connection);
                self.settle(connection, now);
            }
        }
    }

    fn mailbox(&self) -> &Mailbox {
        &self.mailboxes[usize::from(self.shard.get())]
    }

    /// Starts an accept on each listener that has none with the kernel.
    fn accept(&mut self, ring: &mut Ring) {
        if self.phase != Phase::Serving {
            return;
        }
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if let (None, Some(socket)) = (listener.key, &listener.socket) {
                listener.key = Some(ring.accept(Token(index as u64), Rc::clone(socket)));
            }
        }
    }

    fn accepted(
        &mut self,
        ring: &mut Ring,
        token: Token,
        result: io::Result<OwnedFd>,
        last: bool,
        now: Moment,
    ) {
        let index = usize::try_from(token.0).expect("listeners are few");
        if last {
            self.listeners[index].key = None;
            self.retry_at = Some(now.after(RETRY_AFTER));
        }
        match result {
            Ok(socket) => {
                self.counters.connections_accepted_total.add(1);
                let listener = ListenerIndex(u16::try_from(index).expect("listeners are few"));
                self.hand_over(ring, socket, listener, now);
            }
            Err(_) if self.phase != Phase::Serving => {}
            Err(error) => {
                self.counters.accept_errors_total.add(1);
                if let Some(untold) = self.accept_failed.admit(now) {
                    let shard = self.shard.get();
                    tracing::warn!(shard, listener = index, %error, untold, "accepting a connection failed");
                }
            }
        }
        if self.phase != Phase::Serving && last {
            self.listeners[index].socket = None;
        }
    }

    /// Gives a new socket to the shard with the least connections; keeps it if that one's mailbox is full.
    fn hand_over(&mut self, ring: &mut Ring, socket: OwnedFd, listener: ListenerIndex, now: Moment) {
        // A peer that is gone already has no address, and a socket that is none takes no option.
        let Some(address) = peer_address(&socket) else { return };
        if rustix::net::sockopt::set_tcp_nodelay(&socket, true).is_err() || self.phase != Phase::Serving {
            return;
        }
        let least = self.mailboxes.iter().enumerate().min_by_key(|(index, mailbox)| {
            let away = *index != usize::from(self.shard.get());
            (mailbox.load(), away)
        });
        let (target, mailbox) = least.expect("there is at least our own");
        if mailbox.load() >= self.settings.connections_max {
            self.counters.connections_refused_total.add(1);
            return;
        }
        mailbox.load_more();
        if target == usize::from(self.shard.get()) {
            return self.adopt(ring, socket, listener, address, now);
        }
        let returned = mailbox.send(Message::Connection { socket, listener, address });
        let Err(Message::Connection { socket, .. }) = returned else { return };
        mailbox.load_less();
        self.mailbox().load_more();
        self.adopt(ring, socket, listener, address, now);
    }

    /// Takes a socket, already counted in the load, as a connection of this shard.
    fn adopt(
        &mut self,
        ring: &mut Ring,
        socket: OwnedFd,
        listener: ListenerIndex,
        address: SocketAddr,
        now: Moment,
    ) {
        if self.connections.len() >= self.settings.connections_max {
            self.counters.connections_refused_total.add(1);
            return self.mailbox().load_less();
        }
        self.connections_total += 1;
        let connection = ConnectionId::new(self.shard, self.connections_total);
        let peer = Rc::new(Peer { connection, listener, address, principal: Principal::Anonymous });
        let key = self.connections.reserve();
        let outbox = Outbox::new(key, Rc::clone(&self.ready));
        let transport = Transport::Plain(Rc::new(socket));
        let connection = Connection::new(key, Rc::clone(&peer), transport, outbox, &self.settings, now);
        self.counters.connections_total.add(1);
        self.counters.connections_open.set(self.connections.len() as u64);
        self.service.connected(&peer);
        self.progress(ring, Box::new(connection), now);
    }

    fn received(&mut self, connection: &mut Connection, result: io::Result<Slice>, last: bool, now: Moment) {
        if last {
            connection.receiving = Receiving::No;
        }
        match result {
            Ok(bytes) if bytes.is_empty() => connection.peer_done = true,
            Ok(bytes) => {
                self.counters.received_bytes_total.add(bytes.len() as u64);
                if !connection.wants_no_bytes() {
                    connection.take_in(bytes, now);
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                self.counters.receive_pool_empty_total.add(1);
                self.without_buffer.push_back(connection.key);
            }
            Err(error) => self.receive_failed(connection, &error),
        }
    }

    /// A cancelled receive is no failure: it was cancelled to receive otherwise, or not for now.
    fn receive_failed(&mut self, connection: &mut Connection, error: &io::Error) {
        if error.raw_os_error() != Some(libc::ECANCELED) {
            self.failed(connection, error);
        }
    }

    fn received_into(
        &mut self,
        connection: &mut Connection,
        result: io::Result<usize>,
        buffer: AlignedBuffer,
        now: Moment,
    ) {
        let Receiving::Body { filled, length, .. } = connection.receiving else {
            unreachable!("the buffer was lent by this receive")
        };
        connection.receiving = Receiving::No;
        if connection.wants_no_bytes() || self.phase != Phase::Serving {
            return;
        }
        let count = match result {
            Ok(0) => {
                connection.peer_done = true;
                return;
            }
            Ok(count) => count,
            Err(error) => {
                self.receive_failed(connection, &error);
                0
            }
        };
        self.counters.received_bytes_total.add(count as u64);
        connection.received_at = if count > 0 { now } else { connection.received_at };
        let whole = connection.parser.return_body(Body { buffer, filled: filled + count, length });
        if let Some((frame, ahead)) = whole {
            self.deliver(connection, frame, now);
            connection.take_in(ahead, now);
        }
    }

    fn sent(
        &mut self,
        connection: &mut Connection,
        result: io::Result<usize>,
        slices: Vec<Slice>,
        now: Moment,
    ) {
        connection.sending = None;
        match result {
            Ok(count) => {
                self.counters.sent_bytes_total.add(count as u64);
                connection.sent_at = now;
                connection.sent_bytes += count as u64;
                if !connection.closing {
                    // A closed outbox counts no more, but what was on its way when it closed is in its sum.
                    connection.outbox.sent(count);
                    connection.put_back(slices, count);
                }
            }
            Err(error) => self.failed(connection, &error),
        }
    }

    fn failed(&mut self, connection: &mut Connection, error: &io::Error) {
        if !connection.closing {
            self.counters.socket_errors_total.add(1);
            tracing::debug!(connection = connection.peer.connection.0, %error, "connection lost");
            connection.close_when_sent = true;
            connection.outgoing.clear();
            connection.peer_done = true;
        }
    }

    /// Works on a connection that may be gone.
    fn visit(
        &mut self,
        ring: &mut Ring,
        key: ConnectionKey,
        now: Moment,
        first: impl FnOnce(&mut Connection),
    ) {
        if let Some(mut connection) = self.connections.take(key) {
            first(&mut connection);
            self.progress(ring, connection, now);
        }
    }

    /// Does all that the connection's state allows: answers out, frames in, receives; or its end.
    fn progress(&mut self, ring: &mut Ring, mut connection: Box<Connection>, now: Moment) {
        if !connection.closing {
            connection.collect_answers(now);
            while let Some((kind, stamps)) = connection.take_left() {
                self.counters.requests.record(kind, &stamps, now);
            }
            self.send(ring, &mut connection, now);
            self.parse(&mut connection, now);
            self.receive(ring, &mut connection, now);
            let stopping = self.phase != Phase::Serving;
            if connection.is_finished(&self.settings, stopping, now) {
                self.end(ring, &mut connection);
            }
        }
        self.settle(connection, now);
    }

    fn send(&mut self, ring: &mut Ring, connection: &mut Connection, now: Moment) {
        if connection.sending.is_none() && !connection.outgoing.is_empty() {
            let slices = connection.next_send();
            let token = connection.key.to_token();
            connection.sending = Some(ring.send(token, connection.transport.socket(), slices));
            connection.sent_at = now;
        }
    }

    /// Hands whole frames to the service until a bound is reached.
    fn parse(&mut self, connection: &mut Connection, now: Moment) {
        let mut out_of_memory = false;
        while self.phase == Phase::Serving && !connection.is_held(&self.settings, now) {
            if matches!(connection.receiving, Receiving::Body { .. }) {
                break;
            }
            let first = self.memory_waiters.front().is_none_or(|first| *first == connection.key);
            let memory = first.then_some(&self.memory);
            match connection.parser.next(&mut connection.input, memory) {
                Ok(Step::Frame(frame)) => self.deliver(connection, frame, now),
                Ok(Step::NeedInput) => break,
                Ok(Step::NeedMemory) => {
                    out_of_memory = true;
                    break;
                }
                Err(error) => return self.reject(connection, error, now),
            }
        }
        self.note_memory_wait(connection, out_of_memory);
    }

    /// Keeps the queue of those who wait for memory. A waiter holds neither request memory nor pool buffers.
    fn note_memory_wait(&mut self, connection: &mut Connection, waits: bool) {
        if waits {
            connection.input.detach();
        }
        if waits == connection.waits_for_memory {
            return;
        }
        connection.waits_for_memory = waits;
        if waits {
            self.counters.request_memory_waits_total.add(1);
            self.memory_waiters.push_back(connection.key);
        } else {
            self.memory_waiters.retain(|key| *key != connection.key);
        }
    }

    fn serve_memory_waiters(&mut self, ring: &mut Ring, now: Moment) {
        while let Some(&first) = self.memory_waiters.front() {
            self.visit(ring, first, now, |_| {});
            if self.memory_waiters.front() == Some(&first) {
                return;
            }
        }
    }

    fn deliver(&mut self, connection: &mut Connection, frame: Slice, now: Moment) {
        self.counters.requests_total.add(1);
        let mut stamps = Stamps::default();
        stamps.set(Stage::Received, connection.frame_began_at);
        stamps.set(Stage::Framed, now);
        connection.note_frame(frame.len());
        let context = RequestContext { peer: Rc::clone(&connection.peer), stamps };
        self.service.request(Request {
            context,
            frame: Frame::new(frame),
            slot: connection.outbox.reserve(),
        });
    }

    /// Ends a connection that does not speak in frames; what was asked before is still answered.
    fn reject(&mut self, connection: &mut Connection, error: FrameError, now: Moment) {
        self.counters.frame_errors_total.add(1);
        let peer = &connection.peer;
        if let Some(untold) = self.rejected.admit(now) {
            tracing::warn!(connection = peer.connection.0, address = %peer.address, %error, untold, "closing the connection");
        }
        self.note_memory_wait(connection, false);
        connection.rejected = true;
        connection.input.clear();
        connection.parser.clear();
        // A slot that nobody answers closes the connection in its turn.
        drop(connection.outbox.reserve());
    }

    fn receive(&mut self, ring: &mut Ring, connection: &mut Connection, now: Moment) {
        if self.phase != Phase::Serving {
            if let Receiving::Many { key, cancelled: false } = connection.receiving {
                ring.cancel(key);
                connection.receiving = Receiving::Many { key, cancelled: true };
            }
            return;
        }
        let (token, socket) = (connection.key.to_token(), connection.transport.socket());
        match (connection.wish(&self.settings, now), connection.receiving) {
            (Wish::Nothing, _) => {}
            (Wish::Cancel, Receiving::Many { key, .. }) => {
                ring.cancel(key);
                connection.receiving = Receiving::Many { key, cancelled: true };
            }
            (Wish::Cancel, _) => unreachable!("only a multishot receive is wished to stop"),
            (Wish::Many | Wish::One, _) if self.without_buffer.contains(&connection.key) => {}
            (Wish::Many, _) => {
                let key = ring.receive_many(token, socket);
                connection.receiving = Receiving::Many { key, cancelled: false };
            }
            (Wish::One, _) => connection.receiving = Receiving::One { key: ring.receive_one(token, socket) },
            (Wish::Body(missing), _) => {
                let body = connection.parser.lend_body(missing).expect("so much is missing");
                let (filled, length, until) = (body.filled, body.length, body.receive_until());
                let key = ring.receive(token, socket, body.buffer, filled, until);
                connection.receiving = Receiving::Body { key, filled, length };
            }
        }
    }

    /// Evicts a connection whose time is up, or goes on with it.
    fn expire(&mut self, ring: &mut Ring, key: ConnectionKey, now: Moment) {
        let mut connection = self.connections.take(key).expect("a deadline goes with its connection");
        self.connections.unschedule(&mut connection);
        let counter = match connection.expiry(&self.settings, now) {
            Expiry::None => return self.progress(ring, connection, now),
            Expiry::Idle => &self.counters.connections_evicted_idle_total,
            Expiry::Stalled => &self.counters.connections_evicted_stalled_total,
        };
        counter.add(1);
        tracing::debug!(connection = connection.peer.connection.0, "evicted");
        self.end(ring, &mut connection);
        self.settle(connection, now);
    }

    /// Ends a connection: nothing more is read, answered or sent. It is forgotten once the kernel has let go of it.
    fn end(&mut self, ring: &mut Ring, connection: &mut Connection) {
        if connection.closing {
            return;
        }
        connection.closing = true;
        self.note_memory_wait(connection, false);
        self.without_buffer.retain(|key| *key != connection.key);
        connection.outbox.close();
        connection.outgoing.clear();
        connection.input.clear();
        connection.parser.clear();
        connection.transport.shut_down();
        let receiving = match connection.receiving {
            Receiving::No | Receiving::Many { cancelled: true, .. } => None,
            Receiving::Many { key, .. } | Receiving::One { key } | Receiving::Body { key, .. } => Some(key),
        };
        receiving.into_iter().chain(connection.sending).for_each(|key| ring.cancel(key));
        self.service.disconnected(&connection.peer);
    }

    /// Puts a connection back, or forgets it if it has ended and the kernel has nothing of it.
    fn settle(&mut self, mut connection: Box<Connection>, now: Moment) {
        if connection.closing && connection.is_free() {
            self.connections.forget(connection);
            self.counters.connections_open.set(self.connections.len() as u64);
            self.mailbox().load_less();
            return;
        }
        if connection.closing {
            self.connections.unschedule(&mut connection);
        } else {
            let deadline = connection.deadline(&self.settings, now);
            self.connections.schedule(&mut connection, deadline);
        }
        self.connections.put(connection);
    }
}

fn peer_address(socket: &OwnedFd) -> Option<SocketAddr> {
    SocketAddr::try_from(rustix::net::getpeername(socket).ok()??).map_err(|_: Errno| ()).ok()
}
