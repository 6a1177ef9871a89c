//! Every metric, from the shards' counters and times and from what the start recovered. Runs on the control thread; a
//! shard is not asked for anything.
//!
//! `docs/metrics.md` has each of them, with the same words: a test compares.

use std::sync::Arc;

use corelane_shards::core::recovery::Report;
use corelane_shards::net::{Counters, DiskOperation, Distribution, Interval, RequestKind};

use crate::admin::{Family, Histogram, Kind, Sample, Value};

/// The bounds that Prometheus is told, as powers of two of nanoseconds: 8 microseconds to 8.6 seconds.
const BOUNDS: std::ops::RangeInclusive<u32> = 13..=33;

/// The quantiles that people are told.
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

const NANOSECONDS: f64 = 1e9;

const REQUEST_HELP: &str = "From a request's first byte until the kernel had its answer's last one.";
const STAGE_HELP: &str = "Parts of corelane_request_seconds. receive: first to last byte. queue: until its shard took \
     it up. handle: decoded, routed, appended or read from memory. wait: for a flush, another shard, the disk, or records \
     to come. send: behind the answers before it, until the kernel had it.";
const DISK_HELP: &str =
    "Operations on the disk, from the turn that started one to the turn that learned of its end.";
const CHECKPOINT_HELP: &str = "Checkpoints: segments flushed, the manifest replaced, journal space set free.";
const CHECKPOINT_LAST_HELP: &str = "How long the last checkpoint took.";

/// Every metric of these shards.
pub(super) fn families(shards: &[Arc<Counters>], report: &Report) -> Vec<Family> {
    let mut families = counted(shards);
    if !shards.is_empty() {
        families.extend([requests(shards), stages(shards), disk(shards), checkpoints(shards), last(shards)]);
    }
    families.extend(recovered(report));
    families
}

fn counted(shards: &[Arc<Counters>]) -> Vec<Family> {
    let snapshots: Vec<_> = shards.iter().map(|counters| counters.snapshot().values()).collect();
    let Some(first) = snapshots.first() else { return Vec::new() };
    let family = |(at, (name, help, _)): (usize, &(&'static str, &'static str, u64))| {
        let kind = if name.ends_with("_total") { Kind::Counter } else { Kind::Gauge };
        let samples = snapshots.iter().enumerate();
        let samples = samples.map(|(shard, values)| sample(shard, &[], Value::Integer(values[at].2)));
        Family { name, help, kind, samples: samples.collect() }
    };
    first.iter().enumerate().map(family).collect()
}

fn requests(shards: &[Arc<Counters>]) -> Family {
    let sample = |(shard, counters, kind): (usize, &Arc<Counters>, RequestKind)| {
        let times = counters.requests.of(kind, Interval::Whole).read();
        sample(shard, &[("api", api(kind))], histogram(&times))
    };
    let samples = each(shards, &RequestKind::ALL).map(sample).collect();
    Family { name: "corelane_request_seconds", help: REQUEST_HELP, kind: Kind::Histogram, samples }
}

fn stages(shards: &[Arc<Counters>]) -> Family {
    let samples = each(shards, &RequestKind::ALL).flat_map(|(shard, counters, kind)| {
        Interval::PARTS.map(|interval| {
            let times = counters.requests.of(kind, interval).read();
            sample(shard, &[("api", api(kind)), ("stage", stage(interval))], histogram(&times))
        })
    });
    let samples = samples.collect();
    Family { name: "corelane_request_stage_seconds", help: STAGE_HELP, kind: Kind::Histogram, samples }
}

fn disk(shards: &[Arc<Counters>]) -> Family {
    let sample = |(shard, counters, operation): (usize, &Arc<Counters>, DiskOperation)| {
        let times = counters.disk.of(operation).read();
        sample(shard, &[("operation", disk_operation(operation))], histogram(&times))
    };
    let samples = each(shards, &DiskOperation::ALL).map(sample).collect();
    Family { name: "corelane_storage_operation_seconds", help: DISK_HELP, kind: Kind::Histogram, samples }
}

fn checkpoints(shards: &[Arc<Counters>]) -> Family {
    let samples = shards.iter().enumerate();
    let samples = samples.map(|(shard, c)| sample(shard, &[], histogram(&c.checkpoints.read()))).collect();
    Family { name: "corelane_checkpoint_seconds", help: CHECKPOINT_HELP, kind: Kind::Histogram, samples }
}

fn last(shards: &[Arc<Counters>]) -> Family {
    let samples = shards.iter().enumerate();
    let seconds = |counters: &Counters| Value::Number(seconds(counters.checkpoint_last_nanoseconds.get()));
    let samples = samples.map(|(shard, counters)| sample(shard, &[], seconds(counters))).collect();
    Family {
        name: "corelane_checkpoint_last_seconds",
        help: CHECKPOINT_LAST_HELP,
        kind: Kind::Gauge,
        samples,
    }
}

fn recovered(report: &Report) -> Vec<Family> {
    let gauge = |name, help, value: usize| Family {
        name,
        help,
        kind: Kind::Gauge,
        samples: vec![Sample { labels: Vec::new(), value: Value::Integer(value as u64) }],
    };
    let replayed = report.replayed;
    vec![
        gauge("corelane_recovery_groups", "Journal groups read at the last start.", report.groups),
        gauge(
            "corelane_recovery_groups_staged",
            "Of these, groups that only staging memory had.",
            report.groups_staged,
        ),
        gauge("corelane_recovery_entries", "Entries that the last start replayed.", replayed.entries),
        gauge(
            "corelane_recovery_entries_staged",
            "Of these, entries that only staging memory had.",
            replayed.entries_staged,
        ),
        gauge(
            "corelane_recovery_logs_cut",
            "Logs that the last start ended at a batch that was not whole.",
            replayed.logs_cut,
        ),
    ]
}

fn each<'a, T: Copy>(
    shards: &'a [Arc<Counters>],
    kinds: &'a [T],
) -> impl Iterator<Item = (usize, &'a Arc<Counters>, T)> {
    let shards = shards.iter().enumerate();
    shards.flat_map(move |(shard, counters)| kinds.iter().map(move |kind| (shard, counters, *kind)))
}

fn sample(shard: usize, labels: &[(&'static str, &str)], value: Value) -> Sample {
    let shard = [("shard", shard.to_string())].into_iter();
    let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned()));
    Sample { labels: shard.chain(labels).collect(), value }
}

fn histogram(times: &Distribution) -> Value {
    let bound = |power| {
        let nanoseconds = 1_u64 << power;
        (seconds(nanoseconds), times.up_to(nanoseconds))
    };
    let count = times.count();
    let quantile =
        |share: f64| (share, times.quantile(share).map_or(f64::INFINITY, |time| time.as_secs_f64()));
    let quantiles = QUANTILES.into_iter().filter(|_| count > 0).map(quantile).collect();
    let buckets = BOUNDS.map(bound).collect();
    Value::Histogram(Histogram { count, sum: seconds(times.nanoseconds), buckets, quantiles })
}

#[allow(
    clippy::cast_precision_loss,
    reason = "what a double cannot tell apart are nanoseconds in a hundred days"
)]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / NANOSECONDS
}

fn api(kind: RequestKind) -> &'static str {
    match kind {
        RequestKind::Append => "Produce",
        RequestKind::Read => "Fetch",
        RequestKind::Other => "other",
    }
}

fn stage(interval: Interval) -> &'static str {
    match interval {
        Interval::Receive => "receive",
        Interval::Queue => "queue",
        Interval::Handle => "handle",
        Interval::Wait => "wait",
        Interval::Send => "send",
        Interval::Whole => "whole",
    }
}

fn disk_operation(operation: DiskOperation) -> &'static str {
    match operation {
        DiskOperation::JournalWrite => "journal_write",
        DiskOperation::JournalFlush => "journal_flush",
        DiskOperation::SegmentWrite => "segment_write",
        DiskOperation::SegmentFlush => "segment_flush",
        DiskOperation::SegmentRead => "segment_read",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    fn all() -> Vec<Family> {
        families(&[Arc::default(), Arc::default()], &Report::default())
    }

    /// A row of the page's tables.
    fn row(family: &Family) -> String {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        format!("| `{}` | {kind} | {} |", family.name, family.help)
    }

    #[test]
    fn the_page_has_every_metric_in_the_words_of_the_code() {
        let page = include_str!("../../docs/metrics.md");
        let told: BTreeSet<String> =
            page.lines().filter(|line| line.starts_with("| `corelane_")).map(str::to_owned).collect();
        let known: BTreeSet<String> = all().iter().map(row).collect();
        let missing: Vec<_> = known.difference(&told).cloned().collect();
        let unknown: Vec<_> = told.difference(&known).cloned().collect();
        assert!(missing.is_empty(), "docs/metrics.md lacks these lines:\n{}", missing.join("\n"));
        assert!(unknown.is_empty(), "docs/metrics.md has lines that no metric has:\n{}", unknown.join("\n"));
        assert!(known.len() > 50, "a comparison of few shows little");
    }

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let families = all();
        let names: BTreeSet<_> = families.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), families.len(), "a name occurs once");
        for Family { name, help, kind, samples } in &families {
            assert!(name.starts_with("corelane_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert_eq!(*kind == Kind::Histogram, matches!(samples[0].value, Value::Histogram(_)), "{name}");
            assert!(
                *kind != Kind::Histogram || name.ends_with("_seconds"),
                "{name}: the base unit is the second"
            );
            assert!(help.ends_with('.') && help.len() > 10, "{name}: {help}");
            for unit in ["milli", "micro", "nano", "kilo", "mega"] {
                assert!(!name.contains(unit), "{name}: base units only");
            }
        }
    }

    #[test]
    fn each_shard_has_its_samples_and_a_histogram_counts_what_was_recorded() {
        let shards: [Arc<Counters>; 4] = Default::default();
        for (shard, counters) in shards.iter().enumerate() {
            counters.requests_total.set(shard as u64 + 1);
            for _ in 0..=shard {
                let time = Duration::from_micros(100);
                counters.requests.of(RequestKind::Append, Interval::Wait).record(time);
            }
        }
        let families = families(&shards, &Report::default());
        let family = |name| families.iter().find(|family| family.name == name).expect("it is told");
        let counts = family("corelane_requests_total").samples.iter().map(|sample| sample.value.clone());
        assert_eq!(counts.collect::<Vec<_>>(), [1, 2, 3, 4].map(Value::Integer));
        let stages = &family("corelane_request_stage_seconds").samples;
        assert_eq!(stages.len(), 4 * 3 * 5);
        let is_wait = |sample: &&Sample| {
            sample.labels[1..].iter().map(|(_, value)| value.as_str()).eq(["Produce", "wait"])
        };
        for (shard, sample) in stages.iter().filter(is_wait).enumerate() {
            let Value::Histogram(histogram) = &sample.value else { panic!("stages are histograms") };
            assert_eq!(sample.labels[0], ("shard", shard.to_string()));
            assert_eq!(histogram.count, shard as u64 + 1);
            assert_eq!(histogram.buckets.last(), Some(&(8.589_934_592, histogram.count)));
            assert!(histogram.buckets.iter().all(|(le, count)| (*count > 0) == (*le > 0.000_1)));
            assert!(histogram.quantiles.iter().all(|(_, time)| (0.000_1..0.000_125).contains(time)));
        }
    }
}
