//! What a group commit costs beside its write: entries staged, the group closed with its checksum; and what recovery pays to
//! believe it again.

#[allow(dead_code, reason = "each bench needs a part of it")]
mod support;

use std::hint::black_box;

use corelane_shards::core::journal::{FlushMethod, Geometry, Journal, Start};
use corelane_shards::core::{Effect, Operation, Rules};
use corelane_shards::format::journal::{BatchEntry, Entry, GroupView};
use corelane_shards::format::manifest::Tail;
use corelane_shards::memory::{Mapping, Slice, Staging};
use corelane_shards::types::{Generation, LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use support::batches::batch;
use support::heart::log;

const GENERATION: Generation = Generation(0x1234_5678_9abc_def0);
const GROUP_BYTES_MAX: usize = 2 << 20;
const CHUNKS: usize = 8;

/// How many batches of 1 KiB share a group: a lone producer's, a busy shard's, and as many as nearly fill one.
const ENTRIES: [usize; 3] = [1, 64, 1500];

fn stage_and_close(criterion: &mut Criterion) {
    let batch = batch(1, 1 << 10);
    let mut group = criterion.benchmark_group("journal group");
    for entries in ENTRIES {
        group.throughput(Throughput::Elements(entries as u64));
        let mut journal = journal();
        group.bench_function(BenchmarkId::new("stage and close", entries), |bencher| {
            bencher.iter(|| commit(&mut journal, &batch, entries));
        });
        let whole = std::iter::repeat_with(|| commit(&mut journal, &batch, entries));
        let bytes = whole.take(CHUNKS).find_map(|mut groups| groups.pop().filter(|_| groups.is_empty()));
        let bytes = bytes.expect("a new chunk has room for all entries");
        group.bench_function(BenchmarkId::new("check and read", entries), |bencher| {
            bencher.iter(|| {
                let view =
                    GroupView::closed(black_box(&bytes), GENERATION, GROUP_BYTES_MAX).expect("a group");
                assert_eq!(view.entries().filter(Result::is_ok).count(), entries);
            });
        });
    }
}

fn journal() -> Journal {
    let start = Start {
        generation: GENERATION,
        geometry: Geometry { capacity: 16 << 20, group_bytes_max: GROUP_BYTES_MAX as u64 },
        tail: Tail { sequence: 1, position: 0, previous: 0 },
        flush_method: FlushMethod::Dsync,
    };
    let mapping = Mapping::private(CHUNKS * GROUP_BYTES_MAX).expect("memory");
    Journal::new(start, Staging::new(mapping.into(), GROUP_BYTES_MAX), Rules::default())
}

/// Stages `entries` entries and closes their group: two groups, if the chunk in use has no room for all. Gives their bytes.
fn commit(journal: &mut Journal, batch: &[u8], entries: usize) -> Vec<Slice> {
    let mut groups = Vec::new();
    for index in 0..entries {
        let entry = Entry::Small(entry(index, batch.len()), batch);
        if !journal.reserve(entry.encoded_bytes()) {
            groups.push(close(journal));
            assert!(journal.reserve(entry.encoded_bytes()), "the other chunks are free");
        }
        journal.stage(&entry, Offset(1), &[batch]);
    }
    groups.push(close(journal));
    assert!(groups.iter().map(|group| group.len()).sum::<usize>() > entries * batch.len());
    groups
}

/// Closes the open group and lets it be written, flushed and trimmed at once.
fn close(journal: &mut Journal) -> Slice {
    let Effect::WriteJournal { operation, bytes, .. } = journal.close(Operation(journal.next().get())) else {
        panic!("a closed group is written")
    };
    journal.written(operation);
    let tail = journal.tail_behind(|_, _| true);
    journal.trim(tail, journal.geometry().capacity);
    bytes
}

fn entry(index: usize, batch_bytes: usize) -> BatchEntry {
    BatchEntry {
        partition: log(index % 64),
        epoch: LeaderEpoch(1),
        base_offset: Offset(0),
        last_offset: Offset(0),
        segment: Offset(0),
        position: 0,
        length: u32::try_from(batch_bytes).expect("a small batch"),
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch(-1),
        base_sequence: -1,
        max_timestamp: 1_700_000_000_000,
    }
}

criterion_group!(benches, stage_and_close);
criterion_main!(benches);
