//! Other shards' calls, carried out on this shard's logs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::Router;
use super::message::{Answer, Call, Copied, Question};
use super::slots::Key;
use crate::core::effect::Fetched;
use crate::core::{AppendError, FetchError};
use crate::engine::Log;
use crate::engine::log::Watch;

/// The waits of other shards: by the shard, and its name for the wait.
#[derive(Default)]
pub(super) struct Watches {
    live: BTreeMap<(usize, Key), Watch>,
    /// Those that are over. A watch ends inside a call of the core, where it cannot be dropped.
    over: Rc<RefCell<Vec<(usize, Key)>>>,
}

impl Watches {
    fn keep(&mut self, from: usize, key: Key, watch: Watch) {
        let over = Rc::clone(&self.over);
        watch.reply.call_back(move |()| over.borrow_mut().push((from, key)));
        let before = self.live.insert((from, key), watch);
        assert!(before.is_none(), "a wait has a name of its own");
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// Ends a wait that nobody is interested in any more. It may be over.
    pub(super) fn cancel(&mut self, from: usize, key: Key) {
        self.live.remove(&(from, key));
    }

    /// Ends all waits of a shard that is gone.
    pub(super) fn forget(&mut self, from: usize) {
        self.live.retain(|(shard, _), _| *shard != from);
    }

    /// Those that are over and were not cancelled, once.
    pub(super) fn take_over(&mut self) -> Vec<(usize, Key)> {
        let mut over = self.over.take();
        over.retain(|name| self.live.remove(name).is_some());
        over
    }
}

/// Hands a call to the logs; its answer goes back when it is there.
pub(super) fn serve(router: &Rc<Router>, log: &Log, watches: &RefCell<Watches>, from: usize, call: Call) {
    let Call { key, epoch, question } = call;
    let back = Rc::clone(router);
    match question {
        Question::Append { partition, batch, acks } => {
            log.append(partition, &batch, acks).call_back(move |result| {
                if matches!(result, Err(AppendError::UnknownPartition)) {
                    tracing::debug!(%partition, epoch = epoch.0, from, "an append found no log");
                }
                back.answer(from, key, Answer::Appended(result));
            });
        }
        Question::Fetch { partition, offset, bytes_max } => {
            log.fetch(partition, offset, bytes_max).call_back(move |result| {
                if matches!(result, Err(FetchError::UnknownPartition)) {
                    tracing::debug!(%partition, epoch = epoch.0, from, "a fetch found no log");
                }
                back.answer(from, key, Answer::Fetched(result.map(|fetched| Box::new(copied(&fetched)))));
            });
        }
        Question::Watch { partition, offset, watch } => {
            let found = log.watch(partition, offset);
            router.answer(from, key, Answer::Watching(found.is_some()));
            if let Some(found) = found {
                watches.borrow_mut().keep(from, watch, found);
            }
        }
        Question::Look(look) => {
            let seen = look(log);
            router.answer(from, key, Answer::Seen(seen));
        }
    }
}

fn copied(fetched: &Fetched) -> Copied {
    let mut bytes = Vec::with_capacity(fetched.batches.iter().map(|batch| batch.len()).sum());
    let mut ends = Vec::with_capacity(fetched.batches.len());
    for batch in &fetched.batches {
        bytes.extend_from_slice(batch);
        ends.push(bytes.len());
    }
    Copied { bytes, ends, high_watermark: fetched.high_watermark, log_start: fetched.log_start }
}
