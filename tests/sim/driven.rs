//! One shard driven by hand: the few orders of events that a random walk meets too rarely, each with its story.

mod driver;

use corelane_shards::core::effect::{Effect, StopReason, Tag};
use corelane_shards::core::{Acks, AppendError, Config, FetchError, Tuning};
use corelane_shards::format::batch::{assign, fixture};
use corelane_shards::format::index::SparseIndex;
use corelane_shards::format::manifest;
use corelane_shards::limits::{BLOCK_BYTES, CHECKPOINT_FLUSHES_IN_FLIGHT, LAZY_RUNS_IN_FLIGHT};
use corelane_shards::types::{LeaderEpoch, Offset, Position, ProducerEpoch, ProducerId, Sequence, Timestamp};
use driver::{Driver, Size, config, id, tuning};

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
    shard.rest(300);
    shard.core.request_checkpoint();
    shard.rest(20);
    assert!(large > 400 && small > 400, "{large} large and {small} small appends of 500 each");
    assert!(shard.core.counts().runs_from_reserve > 0, "a run had to take reserved memory");
    assert!(
        shard.core.is_settled(),
        "{} live bytes, {} operations",
        shard.core.journal().bytes_live(),
        shard.core.operations_in_flight()
    );
}

/// Large batches filled the slab, each kept there by the fragments before its whole blocks, which were too few to be written
/// and which nothing else asked for: every later large append was refused as busy for ever, and so was every read.
#[test]
fn large_batches_that_wait_for_their_fragments_leave_the_slab() {
    let tuning = Tuning { lazy_write_bytes: 1 << 40, ..tuning() };
    for logs in [1, 7] {
        let mut shard =
            Driver::new(Size { group: 64 << 10, journal: 8 << 20, chunks: 64, slab: 1 << 20 }, tuning);
        (1..=logs).for_each(|n| shard.create(n));
        for round in 0..100 {
            let refused = (0..20).take_while(|_| {
                let refused = shard.append(1 + round % logs, 30_000, Acks::All).is_err();
                shard.rest(3);
                refused
            });
            assert!(refused.count() < 20, "append {round} of {logs} logs finds no room");
        }
        shard.rest(10);
        assert_eq!(shard.answers, vec![Ok(()); 100]);
        assert_eq!((shard.manifests.len(), shard.core.counts().chunks_evicted), (0, 0), "nothing else asked");
    }
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

/// The file of a quiet log could not be created. Its few batches pinned every chunk of staging memory.
#[test]
fn a_log_without_a_file_pins_no_staging_memory() {
    let mut shard =
        Driver::new(Size { group: 16 << 10, journal: 4 << 20, chunks: 4, slab: 8 << 20 }, tuning());
    shard.create(1);
    shard.create(2);
    let creates = |e: &Effect| matches!(e, Effect::CreateSegment { file, .. } if file.partition == id(1));
    for round in 0..60 {
        if round % 4 == 0 {
            let _refused_when_staging_is_full = shard.append(1, 100, Acks::All);
        }
        let _refused_when_staging_is_full = shard.append(2, 1900, Acks::All);
        shard.turn();
        shard.complete(|e| if creates(e) { None } else { Some(true) });
    }
    let mut accepted = 0;
    for _ in 0..1000 {
        accepted += usize::from(shard.append(2, 1900, Acks::All).is_ok());
        shard.turn();
        shard.complete(|e| Some(!creates(e)));
    }
    assert!(shard.core.partition(id(1)).expect("it is there").stopped_from.is_some());
    assert!(accepted > 900, "{accepted} of 1000 appends of the healthy log");
}

/// A large write failed on a healthy disk. What lies before it in its log is written and leaves the journal.
#[test]
fn what_lies_before_a_failed_large_batch_leaves_the_journal() {
    let tuning = Tuning { journal_bytes_max: 1 << 20, lazy_write_bytes: 1 << 40, ..tuning() };
    let mut shard =
        Driver::new(Size { group: 64 << 10, journal: 1 << 20, chunks: 32, slab: 16 << 20 }, tuning);
    shard.create(1);
    shard.create(2);
    for _ in 0..45 {
        shard.append(1, 8_000, Acks::All).expect("there is room");
        shard.turn();
        shard.complete(|_| Some(true));
    }
    shard.append(1, 30_000, Acks::All).expect("there is room");
    let is_large = |e: &Effect| {
        matches!(e, Effect::WriteSegment { file, bytes, .. }
            if file.partition == id(1) && (20_000..30_000).contains(&bytes.len()))
    };
    for _ in 0..600 {
        let _refused_when_busy = shard.append(2, 8_000, Acks::All);
        shard.turn();
        shard.complete(|e| Some(!is_large(e)));
    }
    assert_eq!(shard.core.stopped(), None);
    let log = shard.core.partition(id(1)).expect("it is there");
    assert_eq!(log.stopped_from, Some(Offset(45)));
    assert_eq!(log.flushed.boundary.end, Offset(45));
}

/// A journal that is more than half full of a frozen log's batches was checkpointed every turn, in vain; and one that such
/// a log fills for good stops the shard, after it has tried to grow.
#[test]
fn a_checkpoint_that_freed_nothing_is_not_repeated() {
    let tuning = Tuning { journal_bytes_max: 256 << 10, ..tuning() };
    let mut shard =
        Driver::new(Size { group: 16 << 10, journal: 128 << 10, chunks: 16, slab: 8 << 20 }, tuning);
    shard.create(1);
    shard.create(2);
    shard.append(1, 100, Acks::All).expect("there is room");
    shard.rest(5);
    shard.core.request_checkpoint();
    let flushes = |e: &Effect| matches!(e, Effect::FlushSegment { file, .. } if file.partition == id(1));
    for _ in 0..20 {
        shard.turn();
        shard.complete(|e| Some(!flushes(e)));
    }
    assert!(shard.core.partition(id(1)).expect("it is there").is_frozen);
    while shard.core.journal().bytes_live() * 2 <= 128 << 10 {
        shard.append(2, 1900, Acks::All).expect("there is room");
        shard.rest(1);
    }
    shard.rest(50);
    let before = shard.manifests.len();
    shard.rest(1000);
    assert_eq!(shard.manifests.len(), before, "nothing happens in idle turns");
    let mut grown = 0;
    for _ in 0..200 {
        let _refused_when_full = shard.append(2, 1900, Acks::All);
        shard.turn();
        grown += shard.queue.iter().filter(|e| matches!(e, Effect::GrowJournal { .. })).count();
        shard.complete(|_| Some(true));
    }
    assert_eq!((grown, shard.core.stopped()), (1, Some(StopReason::JournalFull)));
}

/// Growth that fails is not asked for again each turn.
#[test]
fn failed_growth_is_not_repeated() {
    let mut shard =
        Driver::new(Size { group: 16 << 10, journal: 64 << 10, chunks: 16, slab: 8 << 20 }, tuning());
    shard.create(1);
    let mut grown = 0;
    for _ in 0..300 {
        let _refused_when_full = shard.append(1, 1900, Acks::All);
        shard.turn();
        grown += shard.queue.iter().filter(|e| matches!(e, Effect::GrowJournal { .. })).count();
        shard.complete(|e| match e {
            Effect::GrowJournal { .. } => Some(false),
            Effect::CommitManifest { .. } => None,
            _ => Some(true),
        });
    }
    assert_eq!((grown, shard.core.stopped()), (1, None));
    shard.rest(300);
    shard.append(1, 1900, Acks::All).expect("the checkpoint made room");
}

/// A large batch that is flushed later than its group is vouched for by a group that says so: else, after a loss of power,
/// damage to an acknowledged batch looked like a write that never happened.
#[test]
fn a_large_batch_is_vouched_for_when_it_is_flushed() {
    let mut shard =
        Driver::new(Size { group: 64 << 10, journal: 1 << 20, chunks: 8, slab: 8 << 20 }, tuning());
    shard.create(1);
    shard.append(1, 30_000, Acks::All).expect("there is room");
    let mut settled = Vec::new();
    for turn in 0..300 {
        shard.turn();
        for effect in &shard.queue {
            if let Effect::WriteJournal { bytes, .. } = effect {
                let word: [u8; 8] = bytes[48..56].try_into().expect("a header is longer");
                settled.push(u64::from_le_bytes(word));
            }
        }
        shard.complete(|e| match e {
            Effect::FlushSegment { .. } if turn < 50 => None,
            _ => Some(true),
        });
    }
    assert_eq!(shard.answers, [Ok(())]);
    let first = settled.iter().position(|s| *s >= 1);
    assert_eq!(first, Some(settled.len() - 1), "vouched for once, and then never again: {settled:?}");
}

/// A group is vouched for by the next one. When none follows, an empty one does it, once: else damage to the last batches
/// looked like a torn end.
#[test]
fn an_idle_shard_vouches_once_for_its_last_batches() {
    let mut shard =
        Driver::new(Size { group: 64 << 10, journal: 1 << 20, chunks: 8, slab: 8 << 20 }, tuning());
    shard.create(1);
    shard.append(1, 100, Acks::All).expect("there is room");
    let mut groups = Vec::new();
    for _ in 0..300 {
        shard.turn();
        for effect in &shard.queue {
            if let Effect::WriteJournal { bytes, .. } = effect {
                let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a header"));
                groups.push((bytes.len(), word(40)));
            }
        }
        shard.complete(|_| Some(true));
    }
    assert_eq!(shard.answers, [Ok(())]);
    assert_eq!(groups, [(BLOCK_BYTES, 0), (BLOCK_BYTES, 1)], "blocks and what each says is durable");
}

/// The wall clock was set back while a shard fell idle: it took itself for busy, and vouched for nothing, until the time
/// was reached again.
#[test]
fn a_clock_that_is_set_back_puts_no_vouching_off() {
    let mut shard =
        Driver::new(Size { group: 64 << 10, journal: 1 << 20, chunks: 8, slab: 8 << 20 }, tuning());
    shard.create(1);
    shard.append(1, 100, Acks::All).expect("there is room");
    shard.now -= 500_000;
    shard.rest(300);
    assert_eq!(shard.answers, [Ok(())]);
    assert_eq!(shard.core.counts().groups, 2, "the batch's and the one that vouches for it");
}

/// A log that failed kept a broker that was told to stop from ever ending.
#[test]
fn a_failed_log_hinders_no_stop() {
    let mut shard =
        Driver::new(Size { group: 16 << 10, journal: 128 << 10, chunks: 16, slab: 8 << 20 }, tuning());
    shard.create(1);
    shard.create(2);
    shard.append(1, 100, Acks::All).expect("there is room");
    shard.append(2, 100, Acks::All).expect("there is room");
    shard.rest(5);
    shard.core.request_checkpoint();
    let flushes = |e: &Effect| matches!(e, Effect::FlushSegment { file, .. } if file.partition == id(1));
    for _ in 0..20 {
        shard.turn();
        shard.complete(|e| Some(!flushes(e)));
    }
    let mut turns = 0;
    while !shard.core.is_at_rest() && turns < 100 {
        shard.core.settle();
        shard.rest(1);
        turns += 1;
    }
    assert!(shard.core.is_at_rest() && !shard.core.is_settled(), "after {turns} turns");
    let end = |n| shard.core.partition(id(n)).expect("it is there").flushed.boundary.end;
    assert_eq!((end(1), end(2)), (Offset(0), Offset(1)), "the other log is in its manifest");
}

/// A file that ends before what the log says of it answered reads of nothing for ever.
#[test]
fn a_file_cut_short_is_damaged() {
    let mut shard =
        Driver::new(Size { group: 16 << 10, journal: 1 << 20, chunks: 4, slab: 1 << 20 }, tuning());
    let part = manifest::Partition {
        topic: id(1).topic.0,
        index: 0,
        log_start: 0,
        end: 10,
        segments: vec![manifest::Segment { base: 0, length: 8192, max_timestamp: 0, created: 0 }],
        tail_fragment: vec![],
        epochs: vec![],
        producers: vec![],
    };
    shard.core.open_partition(&part, config());
    let answer = shard.core.fetch(id(1), Offset(0), 1000, Tag(1)).expect("the offset is there");
    assert!(answer.is_none(), "it has to be read");
    shard.take();
    let mut reads = 0;
    while shard.fetched.is_empty() && reads < 100 {
        reads += shard.complete(|_| Some(true));
    }
    assert!(matches!(shard.fetched[..], [Err(FetchError::Damaged)]), "{:?}", shard.fetched);
}

/// Expired producers left memory, and came back with every manifest.
#[test]
fn expired_producers_leave_the_manifest() {
    let mut shard =
        Driver::new(Size { group: 64 << 10, journal: 1 << 20, chunks: 8, slab: 8 << 20 }, tuning());
    shard.create(1);
    for producer in 1..=100 {
        shard.append_as(1, ProducerId(producer), 0, 10, Acks::All).expect("there is room");
        shard.rest(1);
    }
    shard.core.request_checkpoint();
    shard.rest(20);
    assert_eq!(shard.manifests.last().expect("one was written").partitions[0].producers.len(), 100);
    shard.now += 1_000_000;
    assert_eq!(shard.core.expire_producers(shard.now), 100);
    shard.append(1, 10, Acks::All).expect("there is room");
    shard.core.request_checkpoint();
    shard.rest(20);
    assert_eq!(shard.manifests.last().expect("one was written").partitions[0].producers.len(), 0);
}

/// Room was announced every turn as long as an append was refused, so that its client tried in vain each time.
#[test]
fn room_is_told_when_something_was_freed() {
    let mut shard =
        Driver::new(Size { group: 16 << 10, journal: 64 << 10, chunks: 2, slab: 1 << 20 }, tuning());
    shard.create(1);
    while shard.append(1, 1900, Acks::All).is_ok() {
        shard.turn();
    }
    shard.turn();
    let before = shard.room;
    (0..10).for_each(|_| shard.turn());
    assert_eq!(shard.room, before, "nothing was freed");
    assert_eq!(shard.append(1, 1900, Acks::All), Err(AppendError::Busy));
    shard.rest(5);
    assert!(shard.room > before, "groups became durable");
    while shard.append(1, 1900, Acks::All).is_ok() {
        shard.turn();
    }
    let before = shard.room;
    shard.complete(|e| Some(!matches!(e, Effect::WriteJournal { .. })));
    shard.turn();
    assert!(shard.core.stopped().is_some());
    assert_eq!(shard.room, before + 1, "whoever waits for room is told that there will be none");
}

/// The files of a deleted log were removed while a write to them was under way, and the write made one of them again.
#[test]
fn files_are_removed_when_nothing_works_on_them() {
    let mut shard =
        Driver::new(Size { group: 16 << 10, journal: 1 << 20, chunks: 4, slab: 1 << 20 }, tuning());
    shard.create(1);
    shard.append(1, 12_000, Acks::All).expect("there is room");
    shard.rest(1);
    shard.turn();
    let writes = shard.queue.iter().filter(|e| matches!(e, Effect::WriteSegment { .. })).count();
    assert_eq!(writes, 1);
    shard.core.delete_partition(id(1));
    shard.turn();
    assert_eq!(shard.removed, []);
    shard.complete(|_| Some(true));
    assert_eq!(shard.removed, [id(1)]);
    shard.create(2);
    shard.core.delete_partition(id(2));
    shard.take();
    assert_eq!(shard.removed, [id(1), id(2)], "nothing works on the files of this one");
}

/// A checkpoint of many logs asked for all of its flushes at once.
#[test]
fn a_checkpoint_flushes_a_few_segments_at_a_time() {
    let mut shard =
        Driver::new(Size { group: 64 << 10, journal: 4 << 20, chunks: 16, slab: 8 << 20 }, tuning());
    for n in 1..=100 {
        shard.create(n);
        shard.append(n, 100, Acks::All).expect("there is room");
    }
    shard.rest(5);
    shard.core.request_checkpoint();
    let (mut flushes_max, mut writes_max) = (0, 0);
    for _ in 0..100 {
        shard.turn();
        let flushes = shard.queue.iter().filter(|e| matches!(e, Effect::FlushSegment { .. })).count();
        let writes = shard.queue.iter().filter(|e| matches!(e, Effect::WriteSegment { .. })).count();
        (flushes_max, writes_max) = (flushes_max.max(flushes), writes_max.max(writes));
        shard.complete(|_| Some(true));
    }
    assert_eq!((flushes_max, writes_max), (CHECKPOINT_FLUSHES_IN_FLIGHT, LAZY_RUNS_IN_FLIGHT));
    assert_eq!(shard.manifests.last().expect("one was written").partitions.len(), 100);
    assert!(shard.core.partitions().all(|p| p.flushed.boundary.end == Offset(1)));
}

/// Segments may be smaller than the largest batch: a batch that no segment of the log can hold is refused, and only it.
#[test]
fn a_batch_larger_than_a_segment_is_refused() {
    let mut shard =
        Driver::new(Size { group: 64 << 10, journal: 4 << 20, chunks: 16, slab: 8 << 20 }, tuning());
    shard.create_with(1, Config { segment_bytes: 5000, ..config() });
    assert_eq!(shard.append(1, 6000, Acks::All), Err(AppendError::LargerThanSegment));
    shard.append(1, 4000, Acks::All).expect("it fits");
    shard.append(1, 4000, Acks::All).expect("it fits the next segment");
    shard.rest(20);
    let partition = shard.core.partition(id(1)).expect("it is there");
    assert_eq!((partition.end, partition.segments.len()), (Offset(2), 2));
}

/// An ack of the leader waited for its shard's next turn, and so for the start of a disk write, though it waits for no disk.
#[test]
fn a_leader_ack_is_there_when_the_append_returns() {
    let mut shard =
        Driver::new(Size { group: 16 << 10, journal: 1 << 20, chunks: 16, slab: 8 << 20 }, tuning());
    shard.create(1);
    shard.append(1, 100, Acks::All).expect("there is room");
    assert_eq!((shard.answered_at_once, shard.answers.len()), (0, 0), "it waits for its flush");
    shard.append(1, 100, Acks::Leader).expect("there is room");
    assert_eq!((shard.answered_at_once, shard.answers.len()), (1, 1));
    shard.append(1, 30_000, Acks::Leader).expect("there is room");
    assert_eq!((shard.answered_at_once, shard.answers.len()), (1, 1), "a large batch waits for its write");
    shard.rest(10);
    assert_eq!((shard.answered_at_once, shard.answers.len()), (1, 3), "each is answered once");
}

/// A damaged batch behind the place that an index's files named was blamed on them, though what they named was there: they
/// were let go of, and nothing behind the damage could be found any more.
#[test]
fn damage_behind_the_place_an_index_names_costs_only_its_batch() {
    const BATCHES: i64 = 200;
    const DAMAGED: i64 = 152;
    let mut shard =
        Driver::new(Size { group: 16 << 10, journal: 1 << 20, chunks: 4, slab: 8 << 20 }, tuning());
    let (mut bytes, mut index) = (Vec::new(), SparseIndex::new(Offset(0)));
    for offset in 0..BATCHES {
        let header = fixture::Header::idempotent(ProducerId::NONE, ProducerEpoch(-1), Sequence(-1));
        let mut batch = fixture::batch(&header, &[vec![1; 900]]);
        assign(&mut batch, Offset(offset), LeaderEpoch(1));
        let length = u32::try_from(batch.len()).expect("small");
        let position = Position(u32::try_from(bytes.len()).expect("small"));
        index.append(Offset(offset), position, length, Timestamp(0));
        if offset == DAMAGED {
            batch[7] ^= 1;
        }
        bytes.extend(batch);
    }
    let segment = manifest::Segment { base: 0, length: bytes.len() as u64, max_timestamp: 0, created: 0 };
    let part = manifest::Partition {
        end: BATCHES,
        segments: vec![segment],
        tail_fragment: bytes[bytes.len() / BLOCK_BYTES * BLOCK_BYTES..].to_vec(),
        epochs: vec![manifest::Epoch { epoch: 1, start: 0 }],
        ..manifest::Partition::empty(id(1))
    };
    shard.core.open_partition(&part, config());
    shard.files = Some((bytes, index));
    let mut answered = |offset| {
        let answer = shard.core.fetch(id(1), Offset(offset), 1000, Tag(1)).expect("the offset is there");
        assert!(answer.is_none(), "it has to be read");
        shard.take();
        while shard.complete(|_| Some(true)) > 0 {}
        shard.fetched.pop().expect("it was answered").map(|fetched| fetched.batches.len())
    };
    assert_eq!(answered(DAMAGED), Err(FetchError::Damaged));
    assert_eq!(answered(DAMAGED + 20), Ok(1));
    assert_eq!(answered(DAMAGED - 20), Ok(1));
}
