//! One shard driven by hand: the few orders of events that a random walk meets too rarely, each with its story.

mod driver;

use corelane_shards::core::effect::Effect;
use corelane_shards::core::{Acks, Tuning};
use driver::{Driver, Size, tuning};

/// The slab was full of large batches on their way to the disk; the attempt to make room forgot every one of them, and runs
/// of small batches waited for memory that could never come back: every later append was refused as busy.
#[test]
fn a_slab_full_of_large_writes_empties_again() {
    let tuning = Tuning { large_segments_per_commit: 4, ..tuning() };
    let mut shard = Driver::new(Size { group: 64 << 10, journal: 8 << 20, chunks: 64, slab: 1 << 20 }, tuning);
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
