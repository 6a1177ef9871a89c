//! The one clock of the engine's shell: monotonic, in nanoseconds, read once per turn of a shard and handed on.
//!
//! The synchronous core never reads it; it is told the time.

use std::fmt;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point of the monotonic clock, in nanoseconds since an arbitrary origin that all threads of a process share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Reads the clock.
    pub fn now() -> Moment {
        let time = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(time.tv_sec).expect("the monotonic clock starts at zero");
        let nanoseconds = u64::try_from(time.tv_nsec).expect("nanoseconds lie within a second");
        Moment(seconds * 1_000_000_000 + nanoseconds)
    }

    /// The moment `wait` later; the end of time if that is beyond it.
    pub fn after(self, wait: Duration) -> Moment {
        let nanoseconds = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        Moment(self.0.saturating_add(nanoseconds))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Something that is due once in a while, by the clock and not by how often it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Every {
    pause: Duration,
    next: Moment,
}

impl Every {
    /// Due first when `pause` has passed since `now`.
    pub fn new(pause: Duration, now: Moment) -> Every {
        Every { pause, next: now.after(pause) }
    }

    /// Whether it is due at `now`; not again before another pause has passed.
    pub fn is_due(&mut self, now: Moment) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now.after(self.pause);
        }
        due
    }
}

/// The time of day, in milliseconds since 1970; it may jump.
pub fn wall_millis() -> i64 {
    let time = clock_gettime(ClockId::Realtime);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ns", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_every_minute_is_due_however_seldom_one_asks() {
        let (start, minute) = (Moment(5), Duration::from_secs(60));
        let mut every = Every::new(minute, start);
        let asked = [59, 60, 61, 119, 120, 700, 701]
            .map(|second| every.is_due(start.after(Duration::from_secs(second))));
        assert_eq!(asked, [false, true, false, false, true, true, false]);
    }

    #[test]
    fn moments_run_forward_and_saturate() {
        let (first, second) = (Moment::now(), Moment::now());
        assert!(second >= first);
        assert_eq!(first.after(Duration::from_micros(3)).since(first), Duration::from_micros(3));
        assert_eq!(first.since(first.after(Duration::from_secs(1))), Duration::ZERO);
        assert_eq!(first.after(Duration::MAX), Moment(u64::MAX));
    }
}
