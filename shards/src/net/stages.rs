//! Where a request's time went, between the stamps that it carries.
//!
//! ```text
//! Received ─receive─ Framed ─queue─ Started ─handle─ Handled ─wait─ Answered ─send─ left
//! ```
//!
//! All of a request's times are counted at once, when its answer has left, so that every stage has counted the same
//! requests. A request that wants no answer counts when the answers before it have left; one whose connection ended
//! first does not count.

use super::histogram::Histogram;
use super::service::{Stage, Stamps};
use crate::clock::Moment;

/// What a request wants, as far as its times are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Records are appended.
    Append,
    /// Records are read.
    Read,
    /// Anything else.
    Other,
}

impl RequestKind {
    /// All of them, in order.
    pub const ALL: [RequestKind; 3] = [RequestKind::Append, RequestKind::Read, RequestKind::Other];
}

/// What lies between two stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// From the frame's first byte to its last.
    Receive,
    /// From there until the service took it up: behind other completions and requests of its shard's turn.
    Queue,
    /// The service's first run: decoded, routed, its batches checked and appended, or read from memory.
    Handle,
    /// From there to its answer: for a flush, for another shard, for the disk, for records to come.
    Wait,
    /// Until the kernel had the answer's last byte, behind the answers to the requests before it.
    Send,
    /// All of it.
    Whole,
}

impl Interval {
    /// The parts, in order, without [`Interval::Whole`].
    pub const PARTS: [Interval; 5] =
        [Interval::Receive, Interval::Queue, Interval::Handle, Interval::Wait, Interval::Send];
}

/// The times of a shard's requests.
#[derive(Debug, Default)]
pub struct RequestTimes([[Histogram; 6]; 3]);

impl RequestTimes {
    /// The times of one kind between two stamps.
    pub fn of(&self, kind: RequestKind, interval: Interval) -> &Histogram {
        &self.0[kind as usize][interval as usize]
    }

    /// Counts a request whose answer has left. A stamp that is missing counts as the one before it.
    /// Only the owning shard may call this.
    pub fn record(&self, kind: RequestKind, stamps: &Stamps, left: Moment) {
        let times = &self.0[kind as usize];
        let first = stamps.get(Stage::Received).unwrap_or(left);
        let mut before = first;
        let mut record = |interval: Interval, at: Option<Moment>| {
            let at = at.unwrap_or(before).max(before);
            times[interval as usize].record(at.since(before));
            before = at;
        };
        record(Interval::Receive, stamps.get(Stage::Framed));
        record(Interval::Queue, stamps.get(Stage::Started));
        record(Interval::Handle, stamps.get(Stage::Handled));
        record(Interval::Wait, stamps.get(Stage::Answered));
        record(Interval::Send, Some(left));
        times[Interval::Whole as usize].record(before.since(first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interval_counts_each_request_and_the_parts_make_the_whole() {
        let times = RequestTimes::default();
        let mut stamps = Stamps::default();
        let passed = [Stage::Received, Stage::Framed, Stage::Started, Stage::Handled, Stage::Answered];
        for (stage, at) in passed.into_iter().zip([100, 300, 350, 1_350, 9_350]) {
            stamps.set(stage, Moment(at));
        }
        times.record(RequestKind::Append, &stamps, Moment(10_000));
        // A clock that was read for an earlier stage later than for a later one gives no negative time.
        stamps.set(Stage::Started, Moment(2_000));
        times.record(RequestKind::Append, &stamps, Moment(10_000));
        let sum = |interval| times.of(RequestKind::Append, interval).read().nanoseconds;
        let parts = Interval::PARTS.map(sum);
        assert_eq!(parts, [400, 50 + 1_700, 1_000, 8_000 + 7_350, 1_300]);
        assert_eq!(parts.iter().sum::<u64>(), sum(Interval::Whole));
        for interval in Interval::PARTS.into_iter().chain([Interval::Whole]) {
            assert_eq!(times.of(RequestKind::Append, interval).read().count(), 2);
            assert_eq!(times.of(RequestKind::Read, interval).read().count(), 0);
        }
    }
}
