//! One line of the log for each cause and pause, however often the cause arises: a client or a disk that goes wrong again
//! and again must not fill the disk with lines. Each cause has a throttle of its own, on its shard's thread.
//!
//! What is not told is counted and told with the next line; a metric counts all of it.

use std::cell::Cell;
use std::time::Duration;

use crate::clock::Moment;

/// Between two lines about the same cause.
pub const LOG_PAUSE: Duration = Duration::from_secs(1);

/// The lines about one cause.
#[derive(Debug, Default)]
pub struct Throttle {
    next: Cell<Moment>,
    untold: Cell<u64>,
}

impl Throttle {
    /// Whether what happened at `now` is told, and then how many times it had happened untold; else it is counted.
    pub fn admit(&self, now: Moment) -> Option<u64> {
        if now < self.next.get() {
            self.untold.set(self.untold.get() + 1);
            return None;
        }
        self.next.set(now.after(LOG_PAUSE));
        Some(self.untold.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_then_one_a_pause_with_the_count_of_the_others() {
        let throttle = Throttle::default();
        let start = Moment(7);
        let later = |part: u32| start.after(LOG_PAUSE * part / 10);
        assert_eq!(throttle.admit(start), Some(0));
        assert_eq!([1, 5, 9].map(|part| throttle.admit(later(part))), [None; 3]);
        assert_eq!(throttle.admit(later(10)), Some(3));
        assert_eq!(throttle.admit(later(19)), None);
        assert_eq!(throttle.admit(later(40)), Some(1));
    }
}
