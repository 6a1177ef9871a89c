//! A wait for a record, on whichever shard its log is.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::Router;
use super::home::Home;
use super::slots::Key;
use crate::engine::{Log, Reply};

/// Resolves when the record is visible, its log moves, or its log or shard is gone: in each case a fetch says which.
/// Dropping it ends the wait where the log is.
pub struct Watching<H: Home = Log> {
    wait: Wait<H>,
}

enum Wait<H: Home> {
    /// There is nothing to wait for.
    Over,
    Home(H::Watch),
    Away(Away<H>),
}

struct Away<H: Home> {
    router: Rc<Router<H>>,
    key: Key,
    reply: Reply<()>,
}

impl<H: Home> Watching<H> {
    /// A wait on the shard's own logs; none if the record is visible or there is no such log.
    pub(super) fn home(watch: Option<H::Watch>) -> Watching<H> {
        Watching { wait: watch.map_or(Wait::Over, Wait::Home) }
    }

    /// A wait on another shard's.
    pub(super) fn away(router: Rc<Router<H>>, key: Key, reply: Reply<()>) -> Watching<H> {
        Watching { wait: Wait::Away(Away { router, key, reply }) }
    }
}

impl<H: Home> Future for Watching<H> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let reply = match &mut self.wait {
            Wait::Over => return Poll::Ready(()),
            Wait::Home(watch) => watch.as_mut(),
            Wait::Away(away) => &mut away.reply,
        };
        let poll = Pin::new(reply).poll(context);
        if poll.is_ready() {
            self.wait = Wait::Over;
        }
        poll
    }
}

impl<H: Home> Drop for Away<H> {
    fn drop(&mut self) {
        self.router.unwatch(self.key);
    }
}
