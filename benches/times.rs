//! What it costs a request to have its times kept: reading the clock, and counting six intervals in our buckets or in an
//! HDR histogram, which another thread could not read without a copy being published besides.
//!
//! `cargo bench --bench times`

use std::hint::black_box;

use corelane_shards::clock::Moment;
use corelane_shards::net::{Counters, Interval, RequestKind, Stage, Stamps};
use criterion::{Criterion, criterion_group, criterion_main};
use hdrhistogram::Histogram;

/// The intervals of a request, the whole among them.
const INTERVALS: usize = Interval::PARTS.len() + 1;

/// Lengths of time as requests have them, in nanoseconds: from a few to a millisecond.
fn lengths() -> impl FnMut() -> u64 {
    let mut state = 1_u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 44) % (1 << (state >> 60))
    }
}

fn times(criterion: &mut Criterion) {
    criterion.bench_function("read the clock", |bencher| bencher.iter(Moment::now));
    criterion.bench_function("six intervals in buckets", |bencher| {
        let (counters, mut length) = (Counters::default(), lengths());
        bencher.iter(|| {
            let mut at = 1_000_000;
            let mut stamps = Stamps::default();
            for stage in [Stage::Received, Stage::Framed, Stage::Started, Stage::Handled, Stage::Answered] {
                stamps.set(stage, Moment(at));
                at += length();
            }
            counters.requests.record(RequestKind::Append, black_box(&stamps), Moment(at));
        });
    });
    criterion.bench_function("six intervals in HDR histograms", |bencher| {
        let new = || Histogram::<u64>::new_with_bounds(1, 1 << 36, 2).expect("these bounds are valid");
        let (mut histograms, mut length): ([_; INTERVALS], _) = (std::array::from_fn(|_| new()), lengths());
        bencher.iter(|| {
            let mut whole = 0;
            for histogram in &mut histograms[1..] {
                let part = black_box(length());
                whole += part;
                histogram.saturating_record(part);
            }
            histograms[0].saturating_record(whole);
        });
    });
    criterion.bench_function("read all times of a shard", |bencher| {
        let counters = Counters::default();
        bencher.iter(|| {
            let intervals = Interval::PARTS.into_iter().chain([Interval::Whole]);
            let counts = intervals.map(|interval| {
                RequestKind::ALL.map(|kind| counters.requests.of(kind, interval).read().count())
            });
            counts.flatten().sum::<u64>()
        });
    });
}

criterion_group!(benches, times);
criterion_main!(benches);
