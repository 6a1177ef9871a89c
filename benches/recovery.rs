//! What a start after `kill -9` costs beside its disk: the journal is scanned and checked, its entries are replayed, and what
//! they hold is gathered for the segments. The directory lies in memory; the disk's own share is its bandwidth.

#[allow(dead_code, reason = "each bench needs a part of it")]
mod support;

use corelane_shards::types::{Offset, ShardIndex};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use support::batches::batch;
use support::heart::{Heart, MemoryDisk, log, open};

/// Records in a batch, of 100 bytes each.
const RECORDS: u64 = 10;
const VALUE_BYTES: usize = 100;
const LOGS: usize = 64;
/// Batches that share a group.
const BATCHES_PER_GROUP: usize = 64;

fn recovery(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recovery");
    group.sample_size(10);
    for mib in [4_u64, 16, 64] {
        let killed = Killed::after(mib << 20);
        group.throughput(Throughput::Elements(killed.batches * RECORDS));
        group.bench_function(BenchmarkId::new("records, MiB in the journal", mib), |bencher| {
            bencher.iter_batched(|| killed.disk.clone(), |disk| killed.open(disk), BatchSize::PerIteration);
        });
    }
}

/// A directory whose broker was killed before its first checkpoint.
struct Killed {
    disk: MemoryDisk,
    journal_bytes: u64,
    groups: usize,
    batches: u64,
}

impl Killed {
    /// A broker that wrote so many bytes to its journal, a quarter of which they are.
    fn after(written_bytes: u64) -> Killed {
        let journal_bytes = 4 * written_bytes;
        let mut disk = MemoryDisk::default();
        let (opened, report) = open(&mut disk, LOGS, journal_bytes).expect("a new directory opens");
        let mut heart = Heart::start(&opened[0], report.epoch);
        let (batch, mut reached, mut groups, mut batches) = (batch(10, VALUE_BYTES), 0, 0, 0);
        let journal = disk.journals.get_mut(&ShardIndex(0)).expect("it was made");
        while reached < written_bytes {
            for _ in 0..BATCHES_PER_GROUP {
                heart.append(log(usize::try_from(batches).expect("64 bits") % LOGS), &batch);
                batches += 1;
            }
            heart.turn(|position, bytes| {
                journal.write(position, bytes);
                reached = position + bytes.len() as u64;
                groups += 1;
            });
        }
        Killed { disk, journal_bytes, groups, batches }
    }

    fn open(&self, mut disk: MemoryDisk) -> MemoryDisk {
        let (opened, report) = open(&mut disk, LOGS, self.journal_bytes).expect("it opens");
        assert_eq!(report.groups, self.groups);
        let records: i64 = opened[0].partitions.iter().map(|part| part.end).sum();
        assert_eq!(Offset(records), Offset(i64::try_from(self.batches * RECORDS).expect("few")));
        disk
    }
}

criterion_group!(benches, recovery);
criterion_main!(benches);
