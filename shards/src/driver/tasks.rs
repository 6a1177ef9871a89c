//! The tasks that services spawned on a shard: counted, and their panics kept for the driver to report.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Poll;

use crate::ring::Notify;

/// What the driver knows of its shard's other tasks.
pub struct Tasks {
    live: Cell<usize>,
    panic: RefCell<Option<String>>,
    notify: Rc<Notify>,
}

impl Tasks {
    /// No tasks; `notify` is raised when one panics.
    pub fn new(notify: Rc<Notify>) -> Rc<Tasks> {
        Rc::new(Tasks { live: Cell::new(0), panic: RefCell::new(None), notify })
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.live.get() > 0
    }

    /// The text of a panic in one of them.
    pub fn take_panic(&self) -> Option<String> {
        self.panic.take()
    }

    /// `future`, counted while it lives, its panic kept from the executor.
    pub fn watch(
        self: &Rc<Tasks>,
        future: impl Future<Output = ()> + 'static,
    ) -> impl Future<Output = ()> + 'static {
        let guard = Guard::new(self);
        let mut future = Box::pin(future);
        poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(panic) => {
                guard.0.panic.replace(Some(panic_text(&*panic)));
                guard.0.notify.raise();
                Poll::Ready(())
            }
        })
    }
}

struct Guard(Rc<Tasks>);

impl Guard {
    fn new(tasks: &Rc<Tasks>) -> Guard {
        tasks.live.set(tasks.live.get() + 1);
        Guard(Rc::clone(tasks))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.live.set(self.0.live.get() - 1);
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without text".into())
}
