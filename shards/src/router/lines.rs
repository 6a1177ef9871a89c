//! Calls on logs that move: sent on at the shard that asks, held at the shard that will own the log.
//!
//! A call that meets a log that went elsewhere comes back to the shard that made it, whole, and is sent on from there. So
//! it holds one reply slot at a time, that of the shard where it is: calls that are sent on cannot wait for one another
//! in a circle, and a batch is never on a third shard.
//!
//! What keeps order, for the calls of one shard on one log:
//! - Calls that are under way when the log's owner changes are all answered or back before the next one leaves: until then
//!   those that came back, oldest first, and behind them those that were made since, wait in a [`Line`].
//! - A shard that owns a log again sends calls back that were meant for its earlier turn, as it did with those before them.
//! - The new owner carries nothing out before the old one has answered all that it took and handed the log over.
//!
//! Both kinds of waiting end: a call waits for at most [`HOP_HELD_MAX`] for a log or for news of it, and is sent on at most
//! [`SENT_ON_MAX`] times; then it is refused, and nothing of it was done.

use std::collections::VecDeque;
use std::rc::Rc;

use super::home::{self, Asker, Home, Movable};
use super::message::{Answer, Message, OwnershipEpoch, Question};
use super::ownership::{Change, Move, Place};
use super::router::{Inner, Pending, Router, Waiter};
use crate::clock::Moment;
use crate::limits::{HOP_HELD_MAX, HOPS_HELD_MAX, SENT_ON_MAX};
use crate::types::PartitionId;

/// A call of this shard.
pub(super) struct Asked<H> {
    pub(super) question: Question<H>,
    pub(super) waiter: Waiter<H>,
    /// How often it met a log that had moved.
    pub(super) times_sent_back: u32,
}

/// Calls of this shard on one log, whose order a move would upset.
pub(super) struct Line<H> {
    /// What this shard has to know of before they may go on.
    needs: OwnershipEpoch,
    /// When that was asked for.
    since: Moment,
    returned: VecDeque<Asked<H>>,
    behind: VecDeque<Asked<H>>,
}

/// A call that waits for its log to arrive here, or for this shard to learn whether it will.
pub(super) struct Held<H> {
    asker: Asker<H>,
    epoch: OwnershipEpoch,
    question: Question<H>,
    times_sent_back: u32,
    since: Moment,
}

impl<H: Home> Router<H> {
    /// Whether a call on the log is made on this shard's own logs, with nothing before it to wait for.
    pub(super) fn is_at_home(&self, partition: PartitionId) -> bool {
        let inner = self.inner.borrow();
        inner.place(partition, inner.epoch()) == Place::Here && !inner.is_in_line(partition)
    }

    /// Asks the log's owner.
    pub(super) fn call(self: &Rc<Router<H>>, question: Question<H>, waiter: Waiter<H>) {
        let asked = Asked { question, waiter, times_sent_back: 0 };
        let mut inner = self.inner.borrow_mut();
        if let Some(line) = inner.lines.get_mut(&asked.question.partition) {
            line.behind.push_back(asked);
            return;
        }
        let is_behind = inner.is_in_line(asked.question.partition);
        drop(inner);
        if is_behind { self.hold_own(asked) } else { self.route(asked) }
    }

    /// Sends a call to where its log is by what this shard knows.
    fn route(self: &Rc<Router<H>>, asked: Asked<H>) {
        let inner = self.inner.borrow();
        let epoch = inner.epoch();
        let place = inner.place(asked.question.partition, epoch);
        drop(inner);
        match place {
            Place::Elsewhere(to) => self.send(to, asked),
            Place::Awaited => self.hold_own(asked),
            Place::Here => self.carry_out(Asker::Here(asked.waiter), asked.question),
            Place::Outdated => unreachable!("a shard is not behind itself"),
        }
    }

    /// Takes another shard's call: carries it out, sends it back or holds it.
    pub(super) fn admit(self: &Rc<Router<H>>, asker: Asker<H>, epoch: OwnershipEpoch, question: Question<H>) {
        let inner = self.inner.borrow();
        let known = inner.epoch();
        let place = inner.place(question.partition, epoch);
        drop(inner);
        match place {
            Place::Here => self.carry_out(asker, question),
            Place::Elsewhere(_) | Place::Outdated => self.answer(asker, Answer::Moved(known, question)),
            Place::Awaited => self.hold(asker, epoch, question, 0),
        }
    }

    fn carry_out(self: &Rc<Router<H>>, asker: Asker<H>, question: Question<H>) {
        // The logs may not be borrowed while they work: answers can come at once.
        let home = self.home.borrow().clone();
        match home {
            Some(home) => {
                if matches!(asker, Asker::Here(_)) {
                    self.inner.borrow_mut().aim(&question, self.here);
                }
                home::serve(self, &home, asker, question);
                self.notify.raise();
            }
            None => self.answer(asker, Answer::Gone(Some(question))),
        }
    }

    fn hold_own(&self, asked: Asked<H>) {
        let epoch = self.inner.borrow().epoch();
        self.hold(Asker::Here(asked.waiter), epoch, asked.question, asked.times_sent_back);
    }

    fn hold(&self, asker: Asker<H>, epoch: OwnershipEpoch, question: Question<H>, times_sent_back: u32) {
        let mut inner = self.inner.borrow_mut();
        if inner.port.is_none() {
            drop(inner);
            return self.answer(asker, Answer::Gone(Some(question)));
        }
        if inner.is_held_enough(&asker) {
            inner.counters.hops_refused_total.add(1);
            drop(inner);
            return self.answer(asker, Answer::Refused(question));
        }
        inner.counters.hops_held_total.add(1);
        let since = self.now.get();
        inner.held.push_back(Held { asker, epoch, question, times_sent_back, since });
    }

    /// Looks at the held calls again, oldest first.
    fn admit_held(self: &Rc<Router<H>>) {
        let mut kept = VecDeque::new();
        loop {
            let Some(held) = self.inner.borrow_mut().held.pop_front() else { break };
            let inner = self.inner.borrow();
            let place = inner.place(held.question.partition, held.epoch);
            drop(inner);
            match (place, held.asker) {
                (Place::Awaited, asker) => kept.push_back(Held { asker, ..held }),
                (_, Asker::Here(waiter)) => {
                    let Held { question, times_sent_back, .. } = held;
                    self.route(Asked { question, waiter, times_sent_back });
                }
                (_, asker) => self.admit(asker, held.epoch, held.question),
            }
        }
        self.inner.borrow_mut().held = kept;
    }

    /// Gives an answer to who waits for it. A call that met a moved log is sent on instead.
    pub(super) fn give(self: &Rc<Router<H>>, pending: Pending<H>, answer: Answer<H>) {
        let partition = pending.partition;
        match answer {
            Answer::Moved(epoch, question) => self.take_back(pending, epoch, question),
            answer => (pending.waiter)(answer),
        }
        self.advance(partition);
    }

    fn take_back(&self, pending: Pending<H>, epoch: OwnershipEpoch, question: Question<H>) {
        let Pending { waiter, times_sent_back, .. } = pending;
        let mut inner = self.inner.borrow_mut();
        if times_sent_back == SENT_ON_MAX {
            inner.counters.hops_refused_total.add(1);
            drop(inner);
            return waiter(Answer::Refused(question));
        }
        inner.counters.hops_sent_on_total.add(1);
        let line = inner.line(question.partition);
        if line.needs < epoch {
            (line.needs, line.since) = (epoch, self.now.get());
        }
        line.returned.push_back(Asked { question, waiter, times_sent_back: times_sent_back + 1 });
    }

    /// Lets the calls of a line go on if nothing that was made before them is under way.
    fn advance(self: &Rc<Router<H>>, partition: PartitionId) {
        if !self.inner.borrow().may_advance(partition) {
            return;
        }
        loop {
            // Taken one by one: a call that is made meanwhile finds the line and stands behind.
            let Some(next) = self.inner.borrow_mut().next_in_line(partition) else { return };
            self.route(next);
        }
    }

    fn advance_all(self: &Rc<Router<H>>) {
        let partitions: Vec<PartitionId> = self.inner.borrow().lines.keys().copied().collect();
        partitions.into_iter().for_each(|partition| self.advance(partition));
    }

    /// Learns of a move.
    pub(super) fn learn(self: &Rc<Router<H>>, change: Move, movable: impl FnOnce() -> Rc<dyn Movable>) {
        self.movable.borrow_mut().get_or_insert_with(movable);
        let partition = change.partition;
        let mut inner = self.inner.borrow_mut();
        let ownership = inner.ownership.as_mut().expect("the logs are there");
        let before = ownership.owner(partition);
        let step = ownership.learn(change);
        if before != change.to && inner.is_under_way(partition) {
            inner.line(partition);
        }
        drop(inner);
        self.follow(partition, step);
        self.admit_held();
        self.advance_all();
        self.notify.raise();
    }

    /// Another shard handed a log over.
    pub(super) fn handed(self: &Rc<Router<H>>, partition: PartitionId, epoch: OwnershipEpoch) {
        let mut inner = self.inner.borrow_mut();
        let ownership = inner.ownership.as_mut().expect("a log is handed to a shard that has logs");
        let step = ownership.handed(partition, epoch);
        drop(inner);
        self.follow(partition, step);
        self.admit_held();
    }

    fn follow(self: &Rc<Router<H>>, partition: PartitionId, step: Change) {
        let Some(movable) = self.movable.borrow().clone() else { return };
        if step.arrives {
            movable.adopt(partition);
        }
        if step.leaves {
            let router = Rc::clone(self);
            movable.release(partition).call_back(move |()| router.released(partition));
        }
    }

    fn released(&self, partition: PartitionId) {
        let mut inner = self.inner.borrow_mut();
        let ownership = inner.ownership.as_mut().expect("there was a log to release");
        let (epoch, to) = ownership.released(partition);
        drop(inner);
        self.tell(usize::from(to.get()), Message::Handed(partition, epoch));
        self.notify.raise();
    }

    /// Refuses the calls that have waited for too long.
    pub(super) fn refuse_late(&self) {
        let mut inner = self.inner.borrow_mut();
        if inner.held.is_empty() && inner.lines.is_empty() {
            return;
        }
        let late = inner.take_late(self.now.get());
        inner.counters.hops_refused_total.add(late.len() as u64);
        drop(inner);
        late.into_iter().for_each(|(asker, question)| self.answer(asker, Answer::Refused(question)));
    }

    /// Ends all waits for logs and for news of them.
    pub(super) fn end_waits(&self, answer: impl Fn(Question<H>) -> Answer<H>) {
        let mut inner = self.inner.borrow_mut();
        let mut ended: Vec<_> = inner.held.drain(..).map(|held| (held.asker, held.question)).collect();
        for (_, line) in std::mem::take(&mut inner.lines) {
            ended.extend(line.askers());
        }
        drop(inner);
        ended.into_iter().for_each(|(asker, question)| self.answer(asker, answer(question)));
    }

    /// When a call has waited for too long.
    pub fn next_deadline(&self) -> Option<Moment> {
        let inner = self.inner.borrow();
        let epoch = inner.epoch();
        let lines = inner.lines.values().filter(|line| line.needs > epoch).map(|line| line.since);
        lines.chain(inner.held.front().map(|held| held.since)).min().map(|since| since.after(HOP_HELD_MAX))
    }
}

impl<H> Line<H> {
    fn askers(self) -> impl Iterator<Item = (Asker<H>, Question<H>)> {
        self.returned.into_iter().chain(self.behind).map(|asked| (Asker::Here(asked.waiter), asked.question))
    }
}

impl<H: Home> Inner<H> {
    /// The state of ownership that this shard knows of.
    pub(super) fn epoch(&self) -> OwnershipEpoch {
        self.ownership.as_ref().map_or(OwnershipEpoch::default(), |ownership| ownership.epoch())
    }

    fn place(&self, partition: PartitionId, epoch: OwnershipEpoch) -> Place {
        // A shard whose logs are not there answers so when it carries the call out.
        self.ownership.as_ref().map_or(Place::Here, |ownership| ownership.place(partition, epoch))
    }

    /// Whether calls of this shard on the log wait for their turn.
    fn is_in_line(&self, partition: PartitionId) -> bool {
        let is_own = |held: &Held<H>| held.question.partition == partition && held.asker.is_here();
        !self.lines.is_empty() && self.lines.contains_key(&partition)
            || !self.held.is_empty() && self.held.iter().any(is_own)
    }

    /// Whether calls of this shard wait for a log or for news of it.
    pub(super) fn any_waits_for_a_log(&self) -> bool {
        !self.lines.is_empty() || self.held.iter().any(|held| held.asker.is_here())
    }

    /// Whether a shard has as many calls held here as it may have. This shard's own are bounded by its network.
    fn is_held_enough(&self, asker: &Asker<H>) -> bool {
        let Asker::Shard(from, _) = asker else { return false };
        let is_same = |held: &&Held<H>| matches!(held.asker, Asker::Shard(shard, _) if shard == *from);
        self.held.iter().filter(is_same).count() >= HOPS_HELD_MAX
    }

    /// Whether this shard has calls on the log that are not answered.
    fn is_under_way(&self, partition: PartitionId) -> bool {
        let waits = |asked: &Asked<H>| asked.question.partition == partition;
        self.calls.values().any(|call| call.partition == partition)
            || self.waiting > 0 && self.peers.iter().any(|peer| peer.waiting.iter().any(waits))
    }

    /// The line of a log. A new one takes over what waits for a slot.
    fn line(&mut self, partition: PartitionId) -> &mut Line<H> {
        if !self.lines.contains_key(&partition) {
            let mut behind = VecDeque::new();
            for peer in self.peers.iter_mut().filter(|peer| !peer.waiting.is_empty()) {
                let (ours, others) =
                    peer.waiting.drain(..).partition(|asked| asked.question.partition == partition);
                peer.waiting = others;
                behind.extend::<VecDeque<_>>(ours);
            }
            self.waiting -= behind.len();
            let (needs, since) = (OwnershipEpoch::default(), Moment::default());
            self.lines.insert(partition, Line { needs, since, returned: VecDeque::new(), behind });
        }
        self.lines.get_mut(&partition).expect("just made sure")
    }

    fn may_advance(&self, partition: PartitionId) -> bool {
        let Some(line) = self.lines.get(&partition) else { return false };
        line.needs <= self.epoch() && !self.calls.values().any(|call| call.partition == partition)
    }

    fn next_in_line(&mut self, partition: PartitionId) -> Option<Asked<H>> {
        let line = self.lines.get_mut(&partition)?;
        let next = line.returned.pop_front().or_else(|| line.behind.pop_front());
        if next.is_none() {
            self.lines.remove(&partition);
        }
        next
    }

    fn take_late(&mut self, now: Moment) -> Vec<(Asker<H>, Question<H>)> {
        let is_late = |since: Moment| since.after(HOP_HELD_MAX) <= now;
        let mut late = Vec::new();
        while let Some(held) = self.held.pop_front_if(|held| is_late(held.since)) {
            late.push((held.asker, held.question));
        }
        let epoch = self.epoch();
        let lines = self.lines.extract_if(.., |_, line| line.needs > epoch && is_late(line.since));
        late.extend(lines.flat_map(|(_, line)| line.askers()));
        late
    }
}

impl<H> Asker<H> {
    fn is_here(&self) -> bool {
        matches!(self, Asker::Here(_))
    }
}
