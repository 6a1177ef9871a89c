//! How often each kind of event, fault and branch was met: a simulation that never meets a branch shows nothing of it.

use std::collections::BTreeMap;

/// Counts by name.
#[derive(Clone, Debug, Default)]
pub struct Hits {
    /// By name.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Hits {
    /// Counts one.
    pub fn count(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    /// Counts many; none counts as known and never met.
    pub fn add(&mut self, name: &'static str, count: u64) {
        *self.counts.entry(name).or_default() += count;
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Hits) {
        for (name, count) in &other.counts {
            self.add(name, *count);
        }
    }
}
