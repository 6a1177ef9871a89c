//! What the admin listener shows, as the broker hands it over. This module does not know how it was gathered.

/// Who can tell how the broker is. Called on the control thread, once per request; it must not block.
pub trait Source {
    /// The state now.
    fn snapshot(&self) -> Snapshot;
}

/// The broker at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// `Ok` when clients are served, otherwise why not yet or not any more.
    pub ready: Result<(), String>,
    /// In the order of their indices.
    pub shards: Vec<ShardHealth>,
    /// In the order in which they are shown. A name occurs once.
    pub families: Vec<Family>,
}

/// How one shard is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardHealth {
    /// Its index.
    pub shard: u16,
    /// Whether it takes and acknowledges writes.
    pub healthy: bool,
    /// Its state in a few words, such as `running`, `recovering` or `read-only: the journal failed`.
    pub state: String,
}

/// What a metric's values mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until a restart.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// All samples of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The metric's name: ASCII letters, digits and `_`, not beginning with a digit. A counter's ends in
    /// `_total`.
    pub name: &'static str,
    /// One line for people.
    pub help: &'static str,
    /// What the values mean; values are [`Value::Histogram`] if and only if this is [`Kind::Histogram`].
    pub kind: Kind,
    /// One for each set of labels.
    pub samples: Vec<Sample>,
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// A name (as a metric's) and any text, for each.
    pub labels: Vec<(&'static str, String)>,
    /// What was counted or measured.
    pub value: Value,
}

/// A counted or measured value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Integer(u64),
    /// A measurement.
    Number(f64),
    /// A distribution.
    Histogram(Histogram),
}

/// What is told of a distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// How many values it holds.
    pub count: u64,
    /// Their sum, in the metric's unit.
    pub sum: f64,
    /// A bound and how many values do not exceed it, ascending; the bound above all values is left out.
    pub buckets: Vec<(f64, u64)>,
    /// A quantile (0 to 1) and a value that it does not exceed, ascending; infinite beyond all bounds. None without values.
    pub quantiles: Vec<(f64, f64)>,
}

impl Kind {
    /// Prometheus' word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}
