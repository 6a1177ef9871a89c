//! How long something took, counted in buckets of a fixed number. The shard alone writes; any thread reads, without
//! stopping it.
//!
//! ```text
//! bucket   0              1 2 3 4              5 6 7 8            ..  105
//! up to    1.024 us       1.28 .. 2.048 us     2.56 .. 4.096 us   ..  for ever
//! ```
//!
//! Buckets are logarithmic and within each power of two linear, so that a quantile is known to a quarter of its power. To
//! count is a shift, and a load and a store for the bucket and for the sum. A reader sees each number by itself: how many
//! values there are is the sum of the buckets, so a count always fits its buckets, and the sum may be a value ahead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The first bucket holds what took up to this power of two of nanoseconds.
const LEAST_POWER: u32 = 10;
/// The last but one holds what took up to this one: 69 seconds.
const GREATEST_POWER: u32 = 36;
/// Parts of each power of two, as a power of two.
const PART_BITS: u32 = 2;
const PARTS: usize = 1 << PART_BITS;

/// The buckets of a histogram.
pub const BUCKETS: usize = 2 + (GREATEST_POWER - LEAST_POWER) as usize * PARTS;

/// A distribution of times with one writer.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: [const { AtomicU64::new(0) }; BUCKETS], nanoseconds: AtomicU64::new(0) }
    }
}

/// A distribution at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    buckets: [u64; BUCKETS],
    /// The sum of all values, in nanoseconds.
    pub nanoseconds: u64,
}

impl Histogram {
    /// Counts a time. Only the owning shard may call this: its steps are not one.
    pub fn record(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        add(&self.buckets[bucket_of(nanoseconds)], 1);
        add(&self.nanoseconds, nanoseconds);
    }

    /// Reads all buckets.
    pub fn read(&self) -> Distribution {
        let buckets = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        Distribution { buckets, nanoseconds: self.nanoseconds.load(Ordering::Relaxed) }
    }
}

fn add(to: &AtomicU64, count: u64) {
    to.store(to.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

/// The bucket for a time; each holds its upper bound.
fn bucket_of(nanoseconds: u64) -> usize {
    let below = nanoseconds.saturating_sub(1);
    if below < 1 << LEAST_POWER {
        return 0;
    }
    let power = below.ilog2();
    let part = usize::try_from((below >> (power - PART_BITS)) % PARTS as u64).expect("there are few parts");
    (1 + (power - LEAST_POWER) as usize * PARTS + part).min(BUCKETS - 1)
}

/// The longest time that a bucket holds, in nanoseconds; `None` for the last one.
fn bound_of(bucket: usize) -> Option<u64> {
    let Some(bucket) = bucket.checked_sub(1) else { return Some(1 << LEAST_POWER) };
    let (power, part) = (bucket / PARTS, bucket % PARTS);
    let step = 1 << (power + (LEAST_POWER - PART_BITS) as usize);
    (bucket < BUCKETS - 2).then(|| (PARTS + part + 1) as u64 * step)
}

impl Distribution {
    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// How many took up to so many nanoseconds, a power of two.
    ///
    /// # Panics
    /// If it is no bound of a whole power.
    pub fn up_to(&self, nanoseconds: u64) -> u64 {
        let last = bucket_of(nanoseconds);
        assert_eq!(bound_of(last), Some(nanoseconds), "a whole power is the bound of a bucket");
        self.buckets[..=last].iter().sum()
    }

    /// A time that is not exceeded by this share of the values: the bound of the bucket in which it lies. `None` without
    /// values, or if it lies beyond all bounds.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count is one"
        )]
        let rank = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let holds = |bucket: &u64| {
            seen += bucket;
            seen >= rank
        };
        let bucket = self.buckets.iter().position(holds)?;
        bound_of(bucket).map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_holds_its_bound_and_what_follows_the_one_before() {
        for bucket in 0..BUCKETS - 1 {
            let bound = bound_of(bucket).expect("only the last one has no bound");
            assert_eq!((bucket_of(bound), bucket_of(bound + 1)), (bucket, bucket + 1), "{bound} ns");
        }
        assert_eq!((bound_of(BUCKETS - 2), bound_of(BUCKETS - 1)), (Some(1 << GREATEST_POWER), None));
        assert_eq!([0, 1, 1024, 1025, u64::MAX].map(bucket_of), [0, 0, 0, 1, BUCKETS - 1]);
    }

    #[test]
    fn counts_sums_and_quantiles_are_those_of_the_values() {
        let histogram = Histogram::default();
        let values: Vec<u64> = (0..10_000_u64).map(|i| i * i % 3_000_017 + 900).collect();
        values.iter().for_each(|value| histogram.record(Duration::from_nanos(*value)));
        let read = histogram.read();
        assert_eq!((read.count(), read.nanoseconds), (10_000, values.iter().sum()));
        let up_to = |bound| values.iter().filter(|value| **value <= bound).count() as u64;
        for power in LEAST_POWER..=GREATEST_POWER {
            assert_eq!(read.up_to(1 << power), up_to(1 << power));
        }
        for share in [0.01, 0.5, 0.99, 1.0] {
            let bound = u64::try_from(read.quantile(share).expect("a value").as_nanos()).expect("short");
            let wanted = 10_000.0 * share;
            assert!(up_to(bound) as f64 >= wanted, "{share}: enough lie at or below {bound}");
            assert!((up_to(bound * 3 / 4) as f64) < wanted, "{share}: too few lie a quarter lower");
        }
    }

    #[test]
    fn what_takes_longer_than_all_bounds_is_counted() {
        let histogram = Histogram::default();
        assert_eq!(histogram.read().quantile(0.5), None, "nothing has no quantile");
        histogram.record(Duration::MAX);
        let read = histogram.read();
        assert_eq!((read.count(), read.up_to(1 << GREATEST_POWER), read.quantile(0.5)), (1, 0, None));
    }
}
