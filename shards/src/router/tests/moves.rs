//! Logs that move while they are called on.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::*;
use super::library::*;
use crate::core::{Acks, AppendError};
use crate::limits::{HOP_HELD_MAX, HOPS_HELD_MAX, HOPS_IN_FLIGHT_MAX, SENT_ON_MAX};
use crate::memory::Slice;
use crate::types::{Offset, ShardIndex};

const SHARDS: usize = 3;
const LOGS: u16 = 3;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// A shard appends so many batches to a log.
    Append(usize, u16, usize),
    Fetch(usize, u16),
    /// A shard waits for the next record, or for one a little later.
    Watch(usize, u16, i64),
    Turn(usize),
    /// A shard answers so many of the appends that it took.
    Settle(usize, usize),
    /// It is decided that a log moves.
    Move(u16, u16),
    /// A shard learns of the next move that it does not know of.
    Learn(usize),
    /// Time passes, in seconds.
    Pass(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let count = prop_oneof![8 => 1..4usize, 1 => Just(HOPS_IN_FLIGHT_MAX + 50)];
    prop_oneof![
        8 => (0..SHARDS, 0..LOGS, count).prop_map(|(shard, log, count)| Step::Append(shard, log, count)),
        2 => (0..SHARDS, 0..LOGS).prop_map(|(shard, log)| Step::Fetch(shard, log)),
        2 => (0..SHARDS, 0..LOGS, 0..4i64).prop_map(|(shard, log, ahead)| Step::Watch(shard, log, ahead)),
        12 => (0..SHARDS).prop_map(Step::Turn),
        6 => (0..SHARDS, 1..6usize).prop_map(|(shard, count)| Step::Settle(shard, count)),
        3 => (0..LOGS, 0..u16::try_from(SHARDS).expect("few")).prop_map(|(log, to)| Step::Move(log, to)),
        6 => (0..SHARDS).prop_map(Step::Learn),
        1 => (1..8u64).prop_map(Step::Pass),
    ]
}

/// A log, an append to it, and what became of it.
type Told = (u16, Entry, Result<(), AppendError>);

/// The clients of all shards, and what they were told.
struct Clients {
    desks: Desks,
    moves: Vec<Move>,
    learned: [usize; SHARDS],
    appended: u32,
    fetched: usize,
    answers: Rc<RefCell<Vec<Told>>>,
    fetch_answers: Rc<RefCell<Vec<bool>>>,
    watches: Vec<(u16, Offset, Watching<Shelf>)>,
}

impl Clients {
    fn new() -> Clients {
        Clients {
            desks: Desks::new(SHARDS, LOGS),
            moves: Vec::new(),
            learned: [0; SHARDS],
            appended: 0,
            fetched: 0,
            answers: Rc::default(),
            fetch_answers: Rc::default(),
            watches: Vec::new(),
        }
    }

    fn append(&mut self, shard: usize, index: u16) {
        let entry = (u16::try_from(shard).expect("few"), self.appended);
        self.appended += 1;
        let batch = Slice::from_vec([entry.0.to_be_bytes().as_slice(), &entry.1.to_be_bytes()].concat());
        let answers = Rc::clone(&self.answers);
        let reply = self.desks.desks[shard].logs.append(log(index), &batch, Acks::All);
        reply.call_back(move |result| answers.borrow_mut().push((index, entry, result.map(|_| ()))));
    }

    fn fetch(&mut self, shard: usize, index: u16) {
        self.fetched += 1;
        let answers = Rc::clone(&self.fetch_answers);
        let reply = self.desks.desks[shard].logs.fetch(log(index), Offset(0), 1);
        reply.call_back(move |result| answers.borrow_mut().push(result.is_ok()));
    }

    fn watch(&mut self, shard: usize, index: u16, ahead: i64) {
        let end = i64::try_from(self.desks.entries(log(index)).len()).expect("few");
        let offset = Offset(end + ahead);
        self.watches.push((index, offset, self.desks.desks[shard].logs.watch(log(index), offset)));
    }

    fn order(&mut self, index: u16, to: u16) {
        let epoch = OwnershipEpoch(self.moves.len() as u64 + 1);
        self.moves.push(Move { epoch, partition: log(index), to: ShardIndex(to) });
    }

    fn learn(&mut self, shard: usize) {
        if let Some(change) = self.moves.get(self.learned[shard]) {
            self.learned[shard] += 1;
            self.desks.learn(shard, *change);
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Append(shard, log, count) => (0..count).for_each(|_| self.append(shard, log)),
            Step::Fetch(shard, log) => self.fetch(shard, log),
            Step::Watch(shard, log, ahead) => self.watch(shard, log, ahead),
            Step::Turn(shard) => drop(self.desks.turn(shard)),
            Step::Settle(shard, count) => self.desks.settle(shard, count),
            Step::Move(log, to) => self.order(log, to),
            Step::Learn(shard) => self.learn(shard),
            Step::Pass(seconds) => self.desks.pass(Duration::from_secs(seconds)),
        }
    }

    /// All learn of all moves, everything is answered, and what was said is compared with what the logs hold.
    fn finish(&mut self) -> usize {
        for shard in 0..SHARDS {
            (self.learned[shard]..self.moves.len()).for_each(|_| self.learn(shard));
        }
        self.desks.finish();
        let answers = std::mem::take(&mut *self.answers.borrow_mut());
        assert_eq!(answers.len(), self.appended as usize, "each append is answered");
        let mut compared = answers.len();
        for index in 0..LOGS {
            compared += check(&self.desks.entries(log(index)), index, &answers);
        }
        self.check_fetches_and_refusals(&answers);
        compared + self.check_watches()
    }

    fn check_fetches_and_refusals(&self, answers: &[Told]) {
        let fetches = self.fetch_answers.borrow();
        assert_eq!(fetches.len(), self.fetched, "each fetch is answered");
        let refusals = answers.iter().filter(|(.., result)| result.is_err()).count()
            + fetches.iter().filter(|is_ok| !**is_ok).count();
        assert!(refusals as u64 <= self.desks.counted(|c| c.hops_refused_total), "what fails was refused");
        let unlike = |(.., result): &&Told| !matches!(result, Ok(()) | Err(AppendError::UnknownPartition));
        assert_eq!(answers.iter().find(unlike), None, "a refusal is one that a client tries again");
    }

    fn check_watches(&mut self) -> usize {
        let mut context = Context::from_waker(Waker::noop());
        let mut due = 0;
        for (index, offset, watch) in &mut self.watches {
            let end = i64::try_from(self.desks.entries(log(*index)).len()).expect("few");
            if offset.get() < end {
                assert!(Pin::new(watch).poll(&mut context).is_ready(), "a watch ends with its record");
                due += 1;
            }
        }
        due
    }
}

/// Compares one log with what its clients were told: nothing lost, nothing doubled, each sender's order kept.
fn check(entries: &[Entry], index: u16, answers: &[Told]) -> usize {
    let kept: BTreeSet<Entry> = entries.iter().copied().collect();
    assert_eq!(kept.len(), entries.len(), "nothing is doubled");
    let told = answers.iter().filter(|(of, _, result)| *of == index && result.is_ok());
    assert_eq!(told.map(|(_, entry, _)| *entry).collect::<BTreeSet<_>>(), kept, "the log is what was told");
    for sender in 0..u16::try_from(SHARDS).expect("few") {
        let numbers: Vec<u32> = entries.iter().filter(|(of, _)| *of == sender).map(|(_, n)| *n).collect();
        assert!(numbers.is_sorted(), "log {index} has shard {sender}'s appends out of order: {numbers:?}");
    }
    entries.len()
}

#[test]
fn whatever_moves_nothing_is_lost_or_doubled_and_order_stays() {
    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(any_step(), 1..150);
    let totals = RefCell::new([0u64; 5]);
    let config = Config { cases: 2000, failure_persistence: None, ..Config::default() };
    runner = TestRunner::new_with_rng(config, runner.new_rng());
    let result = runner.run(&strategy, |steps| {
        let mut clients = Clients::new();
        steps.iter().for_each(|step| clients.take(step));
        let compared = clients.finish();
        let mut totals = totals.borrow_mut();
        totals[0] += compared as u64;
        totals[1] += clients.desks.counted(|c| c.hops_sent_on_total);
        totals[2] += clients.desks.counted(|c| c.hops_held_total);
        totals[3] += clients.desks.counted(|c| c.hops_refused_total);
        totals[4] += clients.desks.counted(|c| c.hops_waited_total);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let totals = totals.into_inner();
    println!("compared, sent on, held, refused, waited for a slot: {totals:?}");
    assert!(totals.iter().all(|total| *total > 1000), "every way was gone often: {totals:?}");
}

#[test]
fn a_call_waits_for_news_and_is_refused_when_none_comes() {
    let mut clients = Clients::new();
    clients.order(0, 1);
    clients.learn(2);
    // Shard 2 knows that log 0 is shard 1's now, shard 1 does not.
    (0..HOPS_HELD_MAX + 10).for_each(|_| clients.append(2, 0));
    clients.desks.turn(1);
    clients.desks.turn(2);
    assert_eq!(clients.answers.borrow().len(), 10, "what does not wait is refused at once");
    clients.append(2, 2);
    assert_eq!(clients.answers.borrow().len(), 10);
    clients.desks.settle(2, 1);
    assert!(clients.answers.borrow().last().is_some_and(|(of, _, result)| *of == 2 && result.is_ok()));
    let deadline = clients.desks.desks[1].logs.deadline().expect("somebody waits");
    assert_eq!(deadline, clients.desks.now.after(HOP_HELD_MAX));
    clients.desks.now = deadline;
    clients.desks.turn(1);
    clients.desks.turn(2);
    assert_eq!(clients.answers.borrow().len(), HOPS_HELD_MAX + 11);
    assert!(clients.finish() > 0);
}

#[test]
fn a_log_that_does_not_stay_has_its_callers_refused_at_last() {
    let mut clients = Clients::new();
    clients.append(2, 0);
    let mut times = 0;
    // Whoever gets the call learns, just before, that the log has gone to the other one.
    while clients.answers.borrow().is_empty() {
        let (owner, next) = (times % 2, (times + 1) % 2);
        clients.order(0, u16::try_from(next).expect("few"));
        clients.learn(owner);
        clients.desks.turn(owner);
        clients.desks.turn(2);
        clients.learn(2);
        clients.learn(next);
        times += 1;
        assert!(times < 100, "it is refused at last");
    }
    assert_eq!(clients.answers.borrow()[0].2, Err(AppendError::UnknownPartition));
    assert_eq!(clients.desks.counted(|c| c.hops_sent_on_total), u64::from(SENT_ON_MAX));
    assert_eq!(clients.desks.counted(|c| c.hops_refused_total), 1);
    clients.finish();
}
