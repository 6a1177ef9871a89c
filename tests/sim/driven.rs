//! One shard driven by hand: the few orders of events that a random walk meets too rarely, each with its story.

mod driver;

use corelane_shards::core::effect::{Effect, Tag};
use corelane_shards::core::{Acks, Tuning};
use corelane_shards::types::Offset;
use driver::{Driver, Size, id, tuning};

/// The slab was full of large batches on their way to the disk; the attempt to make room forgot every one of them, and runs
/// of small batches waited for memory that could never come back: every later append was refused as busy.
#[test]
fn a_slab_full_of_large_writes_empties_again() {
    let tuning = Tuning { large_segments_per_commit: 4, ..tuning() };
    let mut shard =
        Driver::new(Size { group: 64 << 10, journal: 8 << 20, chunks: 64, slab: 1 << 20 }, tuning);
    (1..=60).for_each(|n| shard.create(n));
    for n in 1..=40 {
        if shard.append(n, 30_000, Acks::All).is_err() {
            break;
        }
        shard.turn();
        shard.complete(|e| if matches!(e, Effect::CreateSegment { .. }) { None } else { Some(true) });
    }
    shard.rest(300);
    let (mut large, mut small) = (0, 0);
    for i in 0..500 {
        shard.rest(2);
        large += usize::from(shard.append(50, 30_000, Acks::All).is_ok());
        small += usize::from(shard.append(51, 1000, Acks::All).is_ok());
        if i % 10 == 0 {
            shard.core.request_checkpoint();
        }
    }
    shard.core.request_checkpoint();
    shard.rest(300);
    assert!(large > 400 && small > 400, "{large} large and {small} small appends of 500 each");
    assert!(shard.core.counts().runs_from_reserve > 0, "a run had to take reserved memory");
    assert!(shard.core.is_settled());
}

/// A consumer that took what it fetched and did not read it held the staging chunks that this lay in, and appends stopped.
#[test]
fn a_slow_consumer_stops_no_append() {
    let mut shard =
        Driver::new(Size { group: 16 << 10, journal: 4 << 20, chunks: 4, slab: 8 << 20 }, tuning());
    shard.create(1);
    let (mut held, mut at) = (Vec::new(), 0);
    for _ in 0..400 {
        shard.append(1, 1900, Acks::All).expect("there is room");
        shard.rest(2);
        if held.len() < 40
            && let Ok(Some(fetched)) = shard.core.fetch(id(1), Offset(at), 4000, Tag(2))
        {
            at += i64::try_from(fetched.batches.len()).expect("few");
            held.push(fetched);
        }
    }
    assert_eq!(held.len(), 40);
    let record = held[0].batches[0][held[0].batches[0].len() - 2];
    assert_eq!(record, 1, "what was handed out is what was appended");
}

/// Only the logs that staged something into a chunk are asked for it when it is to be freed; all of them must be.
#[test]
fn staging_memory_is_freed_for_the_logs_that_lie_in_it() {
    let mut shard =
        Driver::new(Size { group: 16 << 10, journal: 4 << 20, chunks: 4, slab: 8 << 20 }, tuning());
    (1..=20).for_each(|n| shard.create(n));
    for round in 0..200 {
        shard.append(1 + round % 20, 1900, Acks::All).expect("there is room");
        shard.rest(2);
    }
    assert!(shard.core.counts().chunks_evicted > 0);
    shard.core.request_checkpoint();
    shard.rest(20);
    assert!(shard.core.is_settled());
    assert_eq!(shard.core.journal().bytes_live(), 0);
}
