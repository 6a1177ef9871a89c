//! Calls, answers and waits.

use std::sync::mpsc::{self, Sender};

use super::harness::*;
use crate::core::{Acks, AppendError, FetchError};
use crate::engine::log::Offsets;
use crate::limits::HOPS_IN_FLIGHT_MAX;
use crate::types::Offset;

const ELSEWHERE: ShardIndex = ShardIndex(1);

/// Runs `act` on shard 0 of `count` and gives its value, in bounded time.
fn on_first<T: Send + 'static, F: Future<Output = T> + 'static>(
    count: u16,
    spin: Spin,
    act: impl Fn(Logs) -> F + Send + Sync + 'static,
) -> T {
    let (sender, receiver) = mpsc::channel();
    let act = Arc::new(act);
    let shards = shards(count, spin, move |logs| {
        if logs.home().shard().index() == ShardIndex(0) {
            let (logs, act, sender) = (logs.clone(), Arc::clone(&act), sender.clone());
            let shard = logs.home().shard().clone();
            shard.spawn_local(async move {
                let value = act(logs).await;
                sender.send(value).expect("the test waits");
            });
        }
    });
    let value = receiver.recv_timeout(PATIENCE).expect("every call is answered");
    shards.stop();
    value
}

/// Everything in a log whose batches are all of one length: who sent each, and its count.
async fn read(logs: &Logs, owner: ShardIndex, batches: usize) -> Vec<(u16, u32)> {
    let (length, mut found) = (batch(0, 0).len(), Vec::new());
    while found.len() < batches {
        let from = Offset(i64::try_from(found.len()).expect("few"));
        let fetched = logs.fetch(partition(owner.get()), from, 1 << 20).await.expect("is there");
        let bytes = fetched.batches.iter().map(|slice| slice.to_vec()).collect::<Vec<_>>().concat();
        assert!(!bytes.is_empty() && bytes.len().is_multiple_of(length), "whole batches, and some");
        found.extend(bytes.chunks(length).map(|batch| {
            let value = &batch[length - 7..length - 1];
            let (sender, count) = value.split_at(2);
            (u16::from_be_bytes(sender.try_into().unwrap()), u32::from_be_bytes(count.try_into().unwrap()))
        }));
    }
    found
}

/// Appends to every log, far more than there are slots and without waiting in between, then reads every log.
async fn append_to_all(logs: Logs, batches: u32, report: Sender<(u16, Vec<(u16, u32)>)>) {
    let (sender, count) = (logs.home().shard().index().get(), logs.home().shard().count());
    let owners = || (0..u16::try_from(count).unwrap()).map(ShardIndex);
    let mut replies = Vec::new();
    for number in 0..batches {
        for owner in owners() {
            let partition = partition(owner.get());
            replies.push(logs.append(partition, &batch(sender, number), Acks::All));
        }
    }
    for reply in replies {
        reply.await.expect("appended");
    }
    for owner in owners() {
        let all = read(&logs, owner, batches as usize).await;
        report.send((owner.get(), all)).expect("the test waits");
    }
}

#[test]
fn full_lines_in_all_directions_move_on_and_keep_the_order_of_each_sender() {
    let batches = u32::try_from(3 * HOPS_IN_FLIGHT_MAX).expect("few");
    for (count, spin) in [(2, Spin::Park), (4, Spin::Park), (2, Spin::For(Duration::from_micros(50)))] {
        let (sender, receiver) = mpsc::channel();
        let shards = shards(count, spin, move |logs| {
            let task = append_to_all(logs.clone(), batches, sender.clone());
            logs.home().shard().spawn_local(task);
        });
        let mut compared = 0;
        for _ in 0..count * count {
            let (_, log) = receiver.recv_timeout(PATIENCE).expect("nobody waits for ever");
            for sender in 0..count {
                let counts = log.iter().filter(|(from, _)| *from == sender).map(|(_, count)| *count);
                for (count, expected) in counts.zip(0..) {
                    assert_eq!(count, expected, "the order of shard {sender} is the order of the log");
                    compared += 1;
                }
            }
        }
        assert!(compared >= u32::from(count * count) * batches, "{compared}");
        let counters = shards.runtime.counters().to_vec();
        shards.stop();
        for counters in counters {
            let seen = counters.snapshot();
            assert!(seen.hops_waited_total > 0, "the slots did not suffice");
            assert!(seen.hops_sent_total >= u64::from(batches) * u64::from(count - 1));
            assert_eq!(seen.hops_answered_total, seen.hops_sent_total);
        }
    }
}

#[test]
fn a_parked_shard_is_woken_for_each_call() {
    let answers = on_first(2, Spin::Park, |logs| async move {
        let mut answers = 0;
        for number in 0..1000 {
            let answer = logs.ask(partition(1), move |log| (log.shard().index(), number)).await;
            assert_eq!(answer, Ok((ELSEWHERE, number)));
            answers += 1;
        }
        answers
    });
    assert_eq!(answers, 1000);
}

#[test]
fn dropping_a_reply_undoes_nothing_and_calls_keep_their_order() {
    let offsets = on_first(2, Spin::Park, |logs| async move {
        for number in 0..10 {
            drop(logs.append(partition(1), &batch(0, number), Acks::All));
        }
        logs.ask(partition(1), |log| log.offsets(partition(1))).await
    });
    let Ok(Some(Offsets { end, .. })) = offsets else { panic!("{offsets:?}") };
    assert_eq!(end, Offset(10), "a call sees all that was asked before it");
}

#[test]
fn a_log_that_is_not_there_is_unknown() {
    on_first(2, Spin::Park, |logs| async move {
        let missing = PartitionId { topic: TopicId([8; 16]), ..partition(1) };
        let appended = logs.append(missing, &batch(0, 0), Acks::All).await;
        assert_eq!(appended, Err(AppendError::UnknownPartition));
        let fetched = logs.fetch(missing, Offset(0), 1 << 20).await;
        assert_eq!(fetched.err(), Some(FetchError::UnknownPartition));
        logs.watch(missing, Offset(0)).await;
    });
}

#[test]
fn a_watch_ends_with_its_record_and_a_dropped_one_ends_where_the_log_is() {
    on_first(2, Spin::Park, |logs| async move {
        let watches = |logs: &Logs| logs.ask(partition(1), |log| log.shard().router().watch_count());
        let watch = |offset| logs.watch(partition(1), Offset(offset));
        let kept: Vec<_> = (0..1000).map(|_| watch(0)).collect();
        let (at_once, known) = (watch(0), watch(0));
        drop(at_once);
        assert!(watches(&logs).await.expect("lives") >= 1001, "more than there are slots");
        drop(known);
        while watches(&logs).await != Ok(1000) {}
        logs.append(partition(1), &batch(0, 0), Acks::All).await.expect("appended");
        for watch in kept {
            watch.await;
        }
        watch(0).await;
        assert_eq!(watches(&logs).await, Ok(0));
    });
}
