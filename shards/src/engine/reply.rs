//! An answer that somebody on the same thread waits for.

use std::cell::RefCell;
use std::fmt;
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
pub(crate) struct Promise<T> {
    state: Rc<RefCell<State<T>>>,
}

enum State<T> {
    Waiting(Option<Waker>),
    /// The answer goes to code instead of a task.
    CallBack(Box<dyn FnOnce(T)>),
    Answered(T),
    Taken,
}

impl<T> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Waiting(_) | State::CallBack(_) => "waiting",
            State::Answered(_) => "answered",
            State::Taken => "taken",
        })
    }
}

impl<T> Reply<T> {
    /// An answer to come, and who gives it.
    pub(crate) fn new() -> (Promise<T>, Reply<T>) {
        let state = Rc::new(RefCell::new(State::Waiting(None)));
        (Promise { state: Rc::clone(&state) }, Reply { state })
    }

    /// An answer that is there already.
    pub(crate) fn ready(value: T) -> Reply<T> {
        Reply { state: Rc::new(RefCell::new(State::Answered(value))) }
    }

    /// Calls `back` with the answer: now if it is there, or else from inside the call that gives it, where neither the
    /// core nor its answers can be borrowed. Instead of waiting for it.
    pub(crate) fn call_back(&self, back: impl FnOnce(T) + 'static) {
        let before = self.state.replace(State::Taken);
        match before {
            State::Answered(value) => back(value),
            State::Waiting(_) => drop(self.state.replace(State::CallBack(Box::new(back)))),
            State::CallBack(_) | State::Taken => panic!("an answer is taken once"),
        }
    }
}

impl<T> Promise<T> {
    /// Answers.
    pub(crate) fn answer(self, value: T) {
        let before = self.state.replace(State::Taken);
        if let State::CallBack(back) = before {
            return back(value);
        }
        self.state.replace(State::Answered(value));
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
            State::CallBack(_) | State::Taken => panic!("an answer is taken once"),
        }
    }
}
