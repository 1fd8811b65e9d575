//! Deadlines of many connections and sessions in one heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::{ConnectionId, SessionKey, WaitKey};

/// Whose deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A login.
    Connection(ConnectionId),
    /// A session.
    Session(SessionKey),
    /// A unit that asked to be called again.
    Wait(WaitKey),
}

/// A heap that is corrected late: moving a deadline back costs nothing, since an early call does nothing and files the
/// timer anew; only moving it forward adds an entry. A busy session, whose keep-alive moves with every PDU, therefore
/// touches the heap once a keep-alive interval and not once a PDU.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Timer)>>,
}

impl Timers {
    /// Makes sure that `timer` is popped at `deadline` or earlier. `scheduled` is the timer's own note of its earliest
    /// entry, `None` after it was popped.
    pub(super) fn schedule(&mut self, timer: Timer, scheduled: &mut Option<Instant>, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if scheduled.is_none_or(|earlier| deadline < earlier) {
            *scheduled = Some(deadline);
            self.heap.push(Reverse((deadline, timer)));
        }
    }

    /// Takes a timer whose entry is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, timer))| timer)
    }

    /// The earliest entry.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((deadline, _))| *deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::SlotMap;
    use std::time::Duration;

    #[test]
    fn a_deadline_that_moves_back_adds_no_entry() {
        let mut timers = Timers::default();
        let timer = Timer::Session(SlotMap::<SessionKey, ()>::with_key().insert(()));
        let start = Instant::now();
        let mut scheduled = None;
        for second in 1..100 {
            timers.schedule(timer, &mut scheduled, Some(start + Duration::from_secs(second)));
        }
        assert_eq!(timers.heap.len(), 1);
        assert_eq!(timers.next(), Some(start + Duration::from_secs(1)));
    }

    #[test]
    fn the_earlier_deadline_wins() {
        let mut timers = Timers::default();
        let timer = Timer::Session(SlotMap::<SessionKey, ()>::with_key().insert(()));
        let start = Instant::now();
        let mut scheduled = None;
        timers.schedule(timer, &mut scheduled, Some(start + Duration::from_secs(20)));
        timers.schedule(timer, &mut scheduled, Some(start + Duration::from_secs(2)));
        assert_eq!(timers.pop_due(start + Duration::from_secs(1)), None);
        assert_eq!(timers.pop_due(start + Duration::from_secs(2)), Some(timer));
    }
}
