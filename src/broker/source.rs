//! What the admin listener shows: the shards' counters, each read by itself, and what recovery found.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use corelane_shards::core::recovery::Report;
use corelane_shards::net::Counters;

use crate::admin::{Family, Kind, Sample, ShardHealth, Snapshot, Source, Value};

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
            let stopped = counters.appends_stopped.get() > 0;
            let word = if stopped { "read-only: a write failed" } else { "running" };
            ShardHealth { shard, healthy: !stopped, state: word.to_owned() }
        });
        let mut families = shard_families(&state.counters);
        families.extend(recovery_families(&state.report));
        Snapshot { ready: state.ready.clone(), shards: shards.collect(), families }
    }
}

fn shard_families(counters: &[Arc<Counters>]) -> Vec<Family> {
    let snapshots: Vec<_> = counters.iter().map(|c| c.snapshot().values()).collect();
    let Some(first) = snapshots.first() else { return Vec::new() };
    let family = |(at, (name, help, _)): (usize, &(&'static str, &'static str, u64))| {
        let kind = if name.ends_with("_total") { Kind::Counter } else { Kind::Gauge };
        let samples = snapshots.iter().enumerate().map(|(shard, values)| Sample {
            labels: vec![("shard", shard.to_string())],
            value: Value::Integer(values[at].2),
        });
        Family { name, help, kind, samples: samples.collect() }
    };
    first.iter().enumerate().map(family).collect()
}

fn recovery_families(report: &Report) -> Vec<Family> {
    let gauge = |name, help, value: usize| Family {
        name,
        help,
        kind: Kind::Gauge,
        samples: vec![Sample { labels: Vec::new(), value: Value::Integer(value as u64) }],
    };
    let replayed = report.replayed;
    vec![
        gauge("recovery_groups", "Journal groups read at the last start.", report.groups),
        gauge(
            "recovery_groups_staged",
            "Of these, groups that only staging memory had.",
            report.groups_staged,
        ),
        gauge("recovery_entries", "Entries that the last start replayed.", replayed.entries),
        gauge(
            "recovery_entries_staged",
            "Of these, entries that only staging memory had.",
            replayed.entries_staged,
        ),
        gauge("recovery_logs_cut", "Logs that ended at a batch that was not whole.", replayed.logs_cut),
    ]
}
