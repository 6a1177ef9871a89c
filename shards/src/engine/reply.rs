//! An answer that somebody on the same thread waits for.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The waiting side. Dropping it undoes nothing; the answer is then thrown away.
#[derive(Debug)]
pub struct Reply<T> {
    state: Rc<RefCell<State<T>>>,
}

/// The answering side.
#[derive(Debug)]
pub(super) struct Promise<T> {
    state: Rc<RefCell<State<T>>>,
}

#[derive(Debug)]
enum State<T> {
    Waiting(Option<Waker>),
    Answered(T),
    Taken,
}

impl<T> Reply<T> {
    /// An answer to come, and who gives it.
    pub(super) fn new() -> (Promise<T>, Reply<T>) {
        let state = Rc::new(RefCell::new(State::Waiting(None)));
        (Promise { state: Rc::clone(&state) }, Reply { state })
    }

    /// An answer that is there already.
    pub(super) fn ready(value: T) -> Reply<T> {
        Reply { state: Rc::new(RefCell::new(State::Answered(value))) }
    }
}

impl<T> Promise<T> {
    /// Answers.
    pub(super) fn answer(self, value: T) {
        let before = self.state.replace(State::Answered(value));
        if let State::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }
}

impl<T> Future for Reply<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.state.borrow_mut();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Answered(value) => Poll::Ready(value),
            State::Waiting(_) => {
                *state = State::Waiting(Some(context.waker().clone()));
                Poll::Pending
            }
            State::Taken => panic!("an answer is taken once"),
        }
    }
}
