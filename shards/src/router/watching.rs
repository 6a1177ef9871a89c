//! A wait for a record, on whichever shard its log is.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::Router;
use super::slots::Key;
use crate::engine::Reply;
use crate::engine::log::Watch;

/// Resolves when the record is visible, or its log or shard is gone: in each case a fetch says which. Dropping it ends
/// the wait where the log is.
pub struct Watching {
    wait: Wait,
}

enum Wait {
    /// There is nothing to wait for.
    Over,
    Home(Watch),
    Away(Away),
}

struct Away {
    router: Rc<Router>,
    key: Key,
    reply: Reply<()>,
}

impl Watching {
    /// A wait on the shard's own logs; none if the record is visible or there is no such log.
    pub(super) fn home(watch: Option<Watch>) -> Watching {
        Watching { wait: watch.map_or(Wait::Over, Wait::Home) }
    }

    /// A wait on another shard's.
    pub(super) fn away(router: Rc<Router>, key: Key, reply: Reply<()>) -> Watching {
        Watching { wait: Wait::Away(Away { router, key, reply }) }
    }
}

impl Future for Watching {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let reply = match &mut self.wait {
            Wait::Over => return Poll::Ready(()),
            Wait::Home(watch) => &mut watch.reply,
            Wait::Away(away) => &mut away.reply,
        };
        let poll = Pin::new(reply).poll(context);
        if poll.is_ready() {
            self.wait = Wait::Over;
        }
        poll
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        self.router.unwatch(self.key);
    }
}
