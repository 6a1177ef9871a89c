//! Answers in any order, leaving in request order.
//!
//! ```text
//! requests   17   18   19   20            slots are reserved in order of arrival
//! answers    yes  yes  no   yes           17 and 18 are the completed prefix and may leave
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::connections::ConnectionKey;
use super::service::Stamps;
use super::stages::RequestKind;

use crate::memory::Slice;
use crate::ring::Notify;

/// What becomes of a request.
pub enum Answer {
    /// These bytes are sent: whole frames, their length included.
    Response(Vec<Slice>),
    /// Nothing is sent: the client does not expect an answer.
    Skip,
    /// The connection is closed once the answers before this one are sent.
    Close,
}

impl Answer {
    fn bytes(&self) -> usize {
        match self {
            Answer::Response(slices) => slices.iter().map(|slice| slice.len()).sum(),
            Answer::Skip | Answer::Close => 0,
        }
    }
}

/// An answer that waits for those before it.
pub(super) struct Filled {
    pub(super) answer: Answer,
    /// How long the connection stays mute after this answer left.
    pub(super) mute: Duration,
    /// What the request was and when it passed the stages of its way, if that is to be counted.
    pub(super) passed: Option<(RequestKind, Stamps)>,
}

/// The connections whose completed prefix grew since they were looked at.
pub(super) struct Ready {
    keys: RefCell<VecDeque<ConnectionKey>>,
    notify: Rc<Notify>,
}

impl Ready {
    pub(super) fn new(notify: Rc<Notify>) -> Rc<Ready> {
        Rc::new(Ready { keys: RefCell::default(), notify })
    }

    pub(super) fn pop(&self) -> Option<ConnectionKey> {
        self.keys.borrow_mut().pop_front()
    }
}

/// A connection's answers, shared between the connection and the slots of its requests.
pub(super) struct Outbox {
    key: ConnectionKey,
    ready: Rc<Ready>,
    /// Whether the connection is in `ready`.
    listed: Cell<bool>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// One place for each request that is not answered yet, or whose answer has not left; in order.
    places: VecDeque<Option<Filled>>,
    /// The index of the first place.
    first: u64,
    /// Bytes of answers that the kernel has not taken over.
    bytes: usize,
    closed: bool,
}

impl Outbox {
    pub(super) fn new(key: ConnectionKey, ready: Rc<Ready>) -> Rc<Outbox> {
        Rc::new(Outbox { key, ready, listed: Cell::new(false), state: RefCell::default() })
    }

    /// The place of the next request.
    pub(super) fn reserve(self: &Rc<Outbox>) -> ResponseSlot {
        let mut state = self.state.borrow_mut();
        let index = state.first + state.places.len() as u64;
        state.places.push_back(None);
        ResponseSlot { outbox: Rc::clone(self), index, answered: false }
    }

    /// Requests whose answers have not left.
    pub(super) fn waiting(&self) -> usize {
        self.state.borrow().places.len()
    }

    /// Bytes of answers that the kernel has not taken over.
    pub(super) fn bytes(&self) -> usize {
        self.state.borrow().bytes
    }

    /// Notes that the kernel took over so many bytes.
    pub(super) fn sent(&self, bytes: usize) {
        let mut state = self.state.borrow_mut();
        assert!(state.bytes >= bytes, "no more is sent than was queued");
        state.bytes -= bytes;
    }

    /// The next answer of the completed prefix.
    pub(super) fn take(&self) -> Option<Filled> {
        let mut state = self.state.borrow_mut();
        if !state.places.front()?.is_some() {
            return None;
        }
        state.first += 1;
        state.places.pop_front().flatten()
    }

    /// The connection was taken out of the list of the ready.
    pub(super) fn unlist(&self) {
        self.listed.set(false);
    }

    /// No answer will leave any more: those here go, those to come go as they come.
    pub(super) fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.closed = true;
        state.first += state.places.len() as u64;
        let places = std::mem::take(&mut state.places);
        drop(state);
        drop(places);
    }

    fn fill(&self, index: u64, filled: Filled) {
        let mut state = self.state.borrow_mut();
        if state.closed {
            return;
        }
        state.bytes += filled.answer.bytes();
        let at = usize::try_from(index - state.first).expect("a connection's requests are few");
        let place = &mut state.places[at];
        assert!(place.is_none(), "a request is answered once");
        *place = Some(filled);
        if at == 0 && !self.listed.replace(true) {
            self.ready.keys.borrow_mut().push_back(self.key);
            self.ready.notify.raise();
        }
    }
}

/// The place of one request's answer. Dropped unanswered, it closes its connection: an answer out of order would be worse.
pub struct ResponseSlot {
    outbox: Rc<Outbox>,
    index: u64,
    answered: bool,
}

impl ResponseSlot {
    /// Gives the answer.
    pub fn answer(self, answer: Answer) {
        self.answer_and_mute(answer, Duration::ZERO);
    }

    /// Gives the answer, after which no request of the connection is looked at for a while (KIP-219).
    pub fn answer_and_mute(mut self, answer: Answer, mute: Duration) {
        self.answered = true;
        self.outbox.fill(self.index, Filled { answer, mute, passed: None });
    }

    /// Gives the answer to a request whose times are counted when it has left.
    pub fn answer_stamped(mut self, answer: Answer, kind: RequestKind, stamps: Stamps) {
        self.answered = true;
        let passed = Some((kind, stamps));
        self.outbox.fill(self.index, Filled { answer, mute: Duration::ZERO, passed });
    }
}

impl Drop for ResponseSlot {
    fn drop(&mut self) {
        if !self.answered {
            self.outbox
                .fill(self.index, Filled { answer: Answer::Close, mute: Duration::ZERO, passed: None });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> (Rc<Outbox>, Rc<Ready>) {
        let ready = Ready::new(Rc::default());
        (Outbox::new(ConnectionKey::default(), Rc::clone(&ready)), ready)
    }

    fn response(text: &'static str) -> Answer {
        Answer::Response(vec![Slice::from_static(text.as_bytes())])
    }

    fn text(filled: Option<Filled>) -> Option<String> {
        match filled?.answer {
            Answer::Response(slices) => Some(String::from_utf8_lossy(&slices[0]).into_owned()),
            Answer::Skip => Some("skip".into()),
            Answer::Close => Some("close".into()),
        }
    }

    #[test]
    fn answers_leave_in_request_order() {
        let (outbox, ready) = outbox();
        let (first, second, third) = (outbox.reserve(), outbox.reserve(), outbox.reserve());
        second.answer(response("two"));
        assert!(ready.pop().is_none() && outbox.take().is_none(), "the first is still missing");
        first.answer(response("one"));
        assert!(ready.pop().is_some());
        assert_eq!((text(outbox.take()), text(outbox.take())), (Some("one".into()), Some("two".into())));
        drop(third);
        assert_eq!(text(outbox.take()), Some("close".into()), "a lost slot closes");
        assert_eq!((outbox.waiting(), outbox.bytes()), (0, 6));
        outbox.sent(6);
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn a_connection_is_listed_once() {
        let (outbox, ready) = outbox();
        outbox.reserve().answer(Answer::Skip);
        assert_eq!(text(outbox.take()), Some("skip".into()));
        outbox.reserve().answer(Answer::Skip);
        assert!(ready.pop().is_some() && ready.pop().is_none());
    }

    #[test]
    fn answers_to_a_closed_connection_go_nowhere() {
        let (outbox, ready) = outbox();
        let slots: Vec<_> = (0..3).map(|_| outbox.reserve()).collect();
        outbox.close();
        slots.into_iter().for_each(|slot| slot.answer(response("late")));
        assert!(ready.pop().is_none() && outbox.take().is_none());
        assert_eq!(outbox.bytes(), 0);
    }
}
