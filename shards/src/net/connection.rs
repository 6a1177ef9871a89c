//! One connection's state, and what it may do next. Decides; `super::network` acts.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::connections::ConnectionKey;
use super::input::Input;
use super::outbox::{Answer, Outbox};
use super::parser::Parser;
use super::transport::Transport;
use super::{Peer, RequestKind, Settings, Stamps};
use crate::clock::Moment;
use crate::limits::{LARGE_FRAME_BYTES, SEND_SLICES_MAX, UNPARSED_BYTES_MAX};
use crate::memory::Slice;
use crate::ring::Key;

/// So many large frames in a row, net of small ones, make the next one expected to be large, too.
const LARGE_EXPECTED: u8 = 2;
const LARGE_SCORE_MAX: u8 = 4;

/// Which receive is with the kernel.
#[derive(Clone, Copy)]
pub(super) enum Receiving {
    No,
    /// A multishot into pool buffers, perhaps already cancelled.
    Many {
        key: Key,
        cancelled: bool,
    },
    /// A single one into a pool buffer.
    One {
        key: Key,
    },
    /// A single one into the memory of a frame of `length` bytes, of which `filled` were there.
    Body {
        key: Key,
        filled: usize,
        length: usize,
    },
}

/// What a connection should receive into next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Leave things as they are.
    Nothing,
    /// Stop the multishot receive.
    Cancel,
    /// Start a multishot receive into pool buffers.
    Many,
    /// Start a single receive into a pool buffer.
    One,
    /// Start a single receive into the frame's memory, of which at least so much is missing.
    Body(usize),
}

/// Why the time is up for a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    Idle,
    Stalled,
    /// It is not.
    None,
}

pub(super) struct Connection {
    pub(super) key: ConnectionKey,
    pub(super) peer: Rc<Peer>,
    pub(super) transport: Transport,
    pub(super) outbox: Rc<Outbox>,
    pub(super) parser: Parser,
    pub(super) input: Input,
    pub(super) receiving: Receiving,
    pub(super) sending: Option<Key>,
    /// Slices of answers whose turn has come, in order.
    pub(super) outgoing: VecDeque<Slice>,
    /// Bytes of answers that were put into `outgoing`, and those of them that were sent, since the connection began.
    collected_bytes: u64,
    pub(super) sent_bytes: u64,
    /// Requests whose times are to be counted once so many bytes were sent; in order.
    leaving: VecDeque<(u64, RequestKind, Stamps)>,
    /// The last answer to be sent is in `outgoing` or gone.
    pub(super) close_when_sent: bool,
    /// The peer sends no more.
    pub(super) peer_done: bool,
    /// The connection is over; only the kernel still holds something of it.
    pub(super) closing: bool,
    /// The peer sent what is no frame: nothing more of it is looked at, what it asked before is answered.
    pub(super) rejected: bool,
    pub(super) waits_for_memory: bool,
    pub(super) muted_until: Moment,
    pub(super) received_at: Moment,
    pub(super) sent_at: Moment,
    pub(super) frame_began_at: Moment,
    /// When the connection is to be looked at, if that is noted.
    pub(super) scheduled: Option<Moment>,
    large_score: u8,
}

impl Connection {
    pub(super) fn new(
        key: ConnectionKey,
        peer: Rc<Peer>,
        transport: Transport,
        outbox: Rc<Outbox>,
        settings: &Settings,
        now: Moment,
    ) -> Connection {
        Connection {
            key,
            peer,
            transport,
            outbox,
            parser: Parser::new(settings.request_bytes_max),
            input: Input::default(),
            receiving: Receiving::No,
            sending: None,
            outgoing: VecDeque::new(),
            collected_bytes: 0,
            sent_bytes: 0,
            leaving: VecDeque::new(),
            close_when_sent: false,
            peer_done: false,
            closing: false,
            rejected: false,
            waits_for_memory: false,
            muted_until: Moment::default(),
            received_at: now,
            sent_at: now,
            frame_began_at: now,
            scheduled: None,
            large_score: 0,
        }
    }

    /// Takes received bytes in.
    pub(super) fn take_in(&mut self, bytes: Slice, now: Moment) {
        if !self.parser.is_mid_frame() && self.input.bytes() == 0 {
            self.frame_began_at = now;
        }
        self.received_at = now;
        self.input.push(bytes);
    }

    /// Notes the size of a whole frame, by which the next one's is guessed.
    pub(super) fn note_frame(&mut self, length: usize) {
        self.large_score = match length >= LARGE_FRAME_BYTES {
            true => (self.large_score + 1).min(LARGE_SCORE_MAX),
            false => self.large_score.saturating_sub(1),
        };
        self.frame_began_at = self.received_at;
    }

    /// Whether frames are left unlooked-at for now: a bound is reached, or the connection is muted or about to end.
    pub(super) fn is_held(&self, settings: &Settings, now: Moment) -> bool {
        self.wants_no_bytes()
            || now < self.muted_until
            || self.outbox.waiting() >= settings.requests_per_connection_max
            || self.outbox.bytes() > settings.send_queue_bytes_max
    }

    /// Whether received bytes are of no use any more.
    pub(super) fn wants_no_bytes(&self) -> bool {
        self.closing || self.close_when_sent || self.rejected
    }

    /// What to receive into next, for a connection whose input has been looked at as far as possible.
    pub(super) fn wish(&self, settings: &Settings, now: Moment) -> Wish {
        let held = self.is_held(settings, now) || self.waits_for_memory;
        let large_expected = self.large_score >= LARGE_EXPECTED;
        let missing = if large_expected { 1 } else { LARGE_FRAME_BYTES };
        match self.receiving {
            _ if self.closing || self.peer_done => Wish::Nothing,
            Receiving::Many { cancelled: false, .. } if self.wants_no_bytes() => Wish::Cancel,
            Receiving::Many { cancelled: false, .. } if held && self.input.bytes() >= UNPARSED_BYTES_MAX => {
                Wish::Cancel
            }
            Receiving::Many { cancelled: false, .. } if self.parser.is_missing(LARGE_FRAME_BYTES) => {
                Wish::Cancel
            }
            Receiving::No if held => Wish::Nothing,
            Receiving::No if self.parser.is_missing(missing) => Wish::Body(missing),
            Receiving::No if large_expected => Wish::One,
            Receiving::No => Wish::Many,
            _ => Wish::Nothing,
        }
    }

    /// Moves the completed prefix of the answers to what is sent next.
    pub(super) fn collect_answers(&mut self, now: Moment) {
        while !self.close_when_sent {
            let Some(filled) = self.outbox.take() else { return };
            match filled.answer {
                Answer::Response(slices) => {
                    self.collected_bytes += slices.iter().map(|slice| slice.len() as u64).sum::<u64>();
                    self.outgoing.extend(slices.into_iter().filter(|slice| !slice.is_empty()))
                }
                Answer::Skip => {}
                Answer::Close => return self.end_requests(),
            }
            if let Some((kind, stamps)) = filled.passed {
                self.leaving.push_back((self.collected_bytes, kind, stamps));
            }
            if filled.mute > Duration::ZERO {
                self.muted_until = self.muted_until.max(now.after(filled.mute));
            }
        }
    }

    /// The next request whose answer has left, with all answers before it.
    pub(super) fn take_left(&mut self) -> Option<(RequestKind, Stamps)> {
        let (_, kind, stamps) = self.leaving.pop_front_if(|(end, ..)| *end <= self.sent_bytes)?;
        Some((kind, stamps))
    }

    /// Takes the slices of the next send out.
    pub(super) fn next_send(&mut self) -> Vec<Slice> {
        let count = self.outgoing.len().min(SEND_SLICES_MAX);
        self.outgoing.drain(..count).collect()
    }

    /// Puts back what a short send of `slices` left.
    pub(super) fn put_back(&mut self, mut slices: Vec<Slice>, mut sent: usize) {
        let whole = slices.iter().take_while(|slice| {
            let gone = sent >= slice.len();
            sent -= if gone { slice.len() } else { 0 };
            gone
        });
        let whole = whole.count();
        slices.drain(..whole);
        if let Some(first) = slices.first_mut() {
            *first = first.narrow(sent..first.len());
        }
        slices.into_iter().rev().for_each(|slice| self.outgoing.push_front(slice));
    }

    /// No further request is looked at or answered; what is outgoing still is sent.
    fn end_requests(&mut self) {
        self.close_when_sent = true;
        let outgoing: usize = self.outgoing.iter().map(|slice| slice.len()).sum();
        tracing::debug!(connection = self.peer.connection.0, outgoing, "closing after the answers sent");
        self.outbox.close();
        self.input.clear();
        self.parser.clear();
    }

    /// Whether the kernel has nothing of the connection.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.receiving, Receiving::No) && self.sending.is_none()
    }

    /// Whether nothing is left to answer or send.
    pub(super) fn is_drained(&self) -> bool {
        self.all_sent() && self.outbox.waiting() == 0
    }

    /// Whether the connection has come to its orderly end.
    pub(super) fn is_finished(&self, settings: &Settings, stopping: bool, now: Moment) -> bool {
        let all_read = self.peer_done && !self.is_held(settings, now) && !self.waits_for_memory;
        (self.close_when_sent && self.all_sent()) || (self.is_drained() && (stopping || all_read))
    }

    fn all_sent(&self) -> bool {
        self.sending.is_none() && self.outgoing.is_empty()
    }

    /// When the connection must be looked at next even if nothing happens.
    pub(super) fn deadline(&self, settings: &Settings, now: Moment) -> Option<Moment> {
        let muted = (now < self.muted_until).then_some(self.muted_until);
        let idle = self.is_drained().then(|| self.received_at.max(self.sent_at).after(settings.idle_max));
        let sending = self.sending.map(|_| self.sent_at.after(settings.stall_max));
        let receiving = self.expects_bytes().then(|| self.received_at.after(settings.stall_max));
        [muted, idle, sending, receiving].into_iter().flatten().min()
    }

    /// Whether the time is up.
    pub(super) fn expiry(&self, settings: &Settings, now: Moment) -> Expiry {
        let stalled_send = self.sending.is_some() && now >= self.sent_at.after(settings.stall_max);
        let stalled_frame = self.expects_bytes() && now >= self.received_at.after(settings.stall_max);
        let idle = self.is_drained() && now >= self.received_at.max(self.sent_at).after(settings.idle_max);
        match (stalled_send || stalled_frame, idle) {
            (true, _) => Expiry::Stalled,
            (false, true) => Expiry::Idle,
            (false, false) => Expiry::None,
        }
    }

    /// Whether it is the peer's turn to send the rest of a frame.
    fn expects_bytes(&self) -> bool {
        let in_body = matches!(self.receiving, Receiving::Body { .. });
        let receives = !matches!(self.receiving, Receiving::No);
        in_body
            || (receives && self.parser.is_mid_frame() && !self.waits_for_memory && self.input.bytes() == 0)
    }
}
