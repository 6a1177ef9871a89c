//! What finding a place in a segment of 1 GiB costs: by offset, by time, and reading the index files when it is opened.

use std::hint::black_box;

use corelane_shards::format::index::SparseIndex;
use corelane_shards::sim::random::Random;
use corelane_shards::types::{Offset, Position, Timestamp};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// The segment: batches of 16 KiB with 16 records each, a millisecond apart.
const SEGMENT_BYTES: u32 = 1 << 30;
const BATCH_BYTES: u32 = 16 << 10;
const RECORDS: i64 = 16;
const BASE: Offset = Offset(1_000_000);
const BASE_TIME: i64 = 1_700_000_000_000;

fn index() -> SparseIndex {
    let mut index = SparseIndex::new(BASE);
    for number in 0..SEGMENT_BYTES / BATCH_BYTES {
        let offset = Offset(BASE.get() + RECORDS * i64::from(number));
        let time = Timestamp(BASE_TIME + i64::from(number));
        index.append(offset, Position(number * BATCH_BYTES), BATCH_BYTES, time);
    }
    index
}

fn look_ups(criterion: &mut Criterion) {
    let (index, mut random) = (index(), Random::new(1));
    let batches = (SEGMENT_BYTES / BATCH_BYTES) as usize;
    let wanted: Vec<u32> = (0..4096).map(|_| u32::try_from(random.below(batches)).expect("few")).collect();
    let mut wanted = wanted.iter().copied().cycle();
    let mut group = criterion.benchmark_group("index look-up");
    group.throughput(Throughput::Elements(1));
    group.bench_function("by offset", |bencher| {
        bencher.iter(|| {
            let number = wanted.next().expect("it goes round");
            let position = index.floor(black_box(Offset(BASE.get() + RECORDS * i64::from(number) + 7)));
            // The entry of this batch, or, where it has none, of the one before.
            assert!(number * BATCH_BYTES - position.get() <= BATCH_BYTES);
        });
    });
    group.bench_function("by time", |bencher| {
        bencher.iter(|| {
            let number = wanted.next().expect("it goes round");
            let position = index.first_at_or_after(black_box(Timestamp(BASE_TIME + i64::from(number))));
            assert!(number * BATCH_BYTES - position.get() <= BATCH_BYTES);
        });
    });
}

fn files(criterion: &mut Criterion) {
    let index = index();
    let (offsets, times) = (index.encode_offsets(), index.encode_times());
    let mut group = criterion.benchmark_group("index files");
    group.throughput(Throughput::Bytes((offsets.len() + times.len()) as u64));
    group.bench_function("read", |bencher| {
        bencher.iter(|| {
            let (read, errors) = SparseIndex::decode(BASE, black_box(&offsets), black_box(&times));
            assert!(errors.is_empty() && read.end() == Position(SEGMENT_BYTES));
        });
    });
    group.bench_function("write", |bencher| {
        bencher.iter(|| {
            let written = black_box(&index).encode_offsets().len() + black_box(&index).encode_times().len();
            assert_eq!(written, offsets.len() + times.len());
        });
    });
}

criterion_group!(benches, look_ups, files);
criterion_main!(benches);
