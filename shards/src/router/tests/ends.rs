//! What becomes of calls when shards end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use super::harness::*;
use crate::core::{Acks, AppendError};
use crate::limits::HOPS_IN_FLIGHT_MAX;
use crate::runtime::Error;
use crate::types::Offset;

const CALLS: usize = 4 * HOPS_IN_FLIGHT_MAX;

fn other(shard: ShardIndex, count: usize) -> ShardIndex {
    ShardIndex((shard.get() + 1) % u16::try_from(count).expect("few"))
}

#[test]
fn stopping_answers_every_call_that_was_made() {
    for count in [2, 4] {
        let (made, all_made) = mpsc::channel();
        let appended = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&appended);
        let shards = shards(count, Spin::Park, move |logs| {
            let shard = logs.home().shard();
            let owner = other(shard.index(), shard.count());
            for number in (0u32..).take(CALLS) {
                let seen = Arc::clone(&seen);
                let reply =
                    logs.append(partition(owner.get()), &batch(shard.index().get(), number), Acks::All);
                reply.call_back(move |result| {
                    result.expect("a shard that stops serves the others");
                    seen.fetch_add(1, Ordering::Release);
                });
            }
            made.send(()).expect("the test waits");
        });
        (0..count).for_each(|_| all_made.recv_timeout(PATIENCE).expect("each shard begins"));
        shards.stop();
        assert_eq!(appended.load(Ordering::Acquire), CALLS as u64 * u64::from(count));
    }
}

#[test]
fn a_shard_that_panics_leaves_nobody_waiting() {
    let (sender, receiver) = mpsc::channel();
    let shards = shards(4, Spin::Park, move |logs| {
        let (shard, sender) = (logs.home().shard().clone(), sender.clone());
        if shard.index() != ShardIndex(0) {
            return;
        }
        let watch = logs.watch(partition(1), Offset(0));
        let asked = logs.ask(partition(1), |_| -> u8 { panic!("asked to panic") });
        asked.call_back({
            let sender = sender.clone();
            move |answer| {
                sender.send(answer.map(|_| ()).map_err(|_: Gone| AppendError::Stopped)).expect("waits")
            }
        });
        for number in (0u32..).take(CALLS) {
            let sender = sender.clone();
            let reply = logs.append(partition(1), &batch(0, number), Acks::All);
            reply.call_back(move |result| sender.send(result.map(|_| ())).expect("the test waits"));
        }
        // It ends, whether anybody is left to see it or not.
        shard.spawn_local(watch);
    });
    let error = shards.runtime.join().expect_err("a shard panicked");
    let Error::Failed { shard, reason } = &error else { panic!("{error}") };
    assert!(*shard == ShardIndex(1) && reason.contains("asked to panic"), "{error}");
    let answers: Vec<_> = receiver.iter().collect();
    assert_eq!(answers.len(), CALLS + 1, "each call was answered");
    assert!(answers.iter().all(|answer| *answer == Err(AppendError::Stopped)), "by an error");
}
