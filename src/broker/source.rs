//! What the admin listener shows: the shards' counters, each read by itself, and what recovery found.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use corelane_shards::core::recovery::Report;
use corelane_shards::net::Counters;

use super::metrics;
use crate::admin::{ShardHealth, Snapshot, Source};

/// The broker's state as the admin listener sees it.
#[derive(Clone)]
pub(super) struct BrokerSource {
    state: Rc<RefCell<State>>,
}

struct State {
    ready: Result<(), String>,
    counters: Vec<Arc<Counters>>,
    report: Report,
}

impl BrokerSource {
    /// A broker that is not ready.
    pub(super) fn starting(why: &str) -> BrokerSource {
        let state = State { ready: Err(why.to_owned()), counters: Vec::new(), report: Report::default() };
        BrokerSource { state: Rc::new(RefCell::new(state)) }
    }

    /// The broker serves.
    pub(super) fn ready(&self, counters: &[Arc<Counters>], report: Report) {
        let mut state = self.state.borrow_mut();
        (state.ready, state.counters, state.report) = (Ok(()), counters.to_vec(), report);
    }

    /// The broker serves no more.
    pub(super) fn stopping(&self) {
        self.state.borrow_mut().ready = Err("stopping".to_owned());
    }
}

impl Source for BrokerSource {
    fn snapshot(&self) -> Snapshot {
        let state = self.state.borrow();
        let shards = (0..).zip(&state.counters).map(|(shard, counters)| {
            let stopped = counters.shard_read_only.get() > 0;
            let state = match (stopped, counters.logs_read_only.get()) {
                (true, _) => "read-only: a write failed".to_owned(),
                (false, 0) => "running".to_owned(),
                (false, logs) => format!("running; logs that are read-only after a failed write: {logs}"),
            };
            ShardHealth { shard, healthy: !stopped, state }
        });
        let families = metrics::families(&state.counters, &state.report);
        Snapshot { ready: state.ready.clone(), shards: shards.collect(), families }
    }
}
