//! What an append costs a shard without its disk and its network: a batch through the synchronous core, from the producer's
//! bytes to the answer for acks=all, and all that follows from it on average: groups, runs to the segments, checkpoints.
//! Every operation that the core asks for succeeds at once.

#[allow(dead_code, reason = "each bench needs a part of it")]
mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use support::batches::{SIZES, batch};
use support::heart::{Heart, log};

/// One batch for each turn: a single producer that waits for each answer. Small ones by value through the journal, the large
/// one straight to its segment, in memory that earlier ones had to leave.
fn one_by_one(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append, a batch a turn");
    for (name, records, value_bytes) in SIZES {
        let batch = batch(records, value_bytes);
        let (mut heart, mut appended) = (Heart::new(1), 0);
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                heart.append(log(0), &batch);
                heart.turn(|_, _| {});
                appended += 1;
            });
        });
        assert_appended(&heart, appended, appended * records as u64);
    }
}

/// Many batches for each turn, each to a log of its own: what a group commit shares.
fn together(criterion: &mut Criterion) {
    let batch = batch(1, 1 << 10);
    let mut group = criterion.benchmark_group("append, 1 KiB to each log in a turn");
    for logs in [64_u64, 1000] {
        let (mut heart, mut turns) = (Heart::new(logs as usize), 0);
        group.throughput(Throughput::Elements(logs));
        group.bench_function(BenchmarkId::from_parameter(format!("{logs} logs")), |bencher| {
            bencher.iter(|| {
                (0..logs as usize).for_each(|index| heart.append(log(index), &batch));
                heart.turn(|_, _| {});
                turns += 1;
            });
        });
        assert_appended(&heart, turns * logs, turns);
    }
}

/// All appends were answered, and the first log holds as many records as were given to it.
fn assert_appended(heart: &Heart, appended: u64, records: u64) {
    assert_eq!(heart.answered, appended);
    let end = heart.shard.partition(log(0)).expect("it was opened").high_watermark;
    assert_eq!(end.get().unsigned_abs(), records);
}

criterion_group!(benches, one_by_one, together);
criterion_main!(benches);
