//! How long a thread that has nothing to do looks on before it sleeps.

use std::time::Duration;

/// The span with which looking begins, as a share of the longest.
const FIRST_SHARE: u32 = 16;

/// Learns from each wait whether looking on would have been worth it: what comes within the longest span makes the next one
/// longer, what does not makes it shorter, down to sleeping at once. So a thread whose initiator asks again at once pays for no
/// sleep, and one that waits for long does not burn its processor each time before it does.
#[derive(Debug)]
pub(crate) struct Spin {
    longest: Duration,
    span: Duration,
}

impl Spin {
    /// Looks for `longest` at most; zero never looks.
    pub(crate) fn new(longest: Duration) -> Self {
        Self { longest, span: longest / FIRST_SHARE }
    }

    /// How long to look now.
    pub(crate) fn span(&self) -> Duration {
        self.span
    }

    /// The wait is over: how long it was, looking and sleeping, and whether there is work, not only a timer.
    pub(crate) fn learn(&mut self, waited: Duration, work: bool) {
        let least = self.longest / FIRST_SHARE;
        self.span = match (work && waited <= self.longest, self.span / 2) {
            (true, _) => (self.span * 2).clamp(least, self.longest),
            (false, half) if half < least => Duration::ZERO,
            (false, half) => half,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_micros(160);
    const SOON: Duration = Duration::from_micros(30);
    const LATE: Duration = Duration::from_millis(5);

    fn learned(waits: impl IntoIterator<Item = (Duration, bool)>) -> Spin {
        let mut spin = Spin::new(LONGEST);
        for (waited, work) in waits {
            spin.learn(waited, work);
        }
        spin
    }

    #[test]
    fn work_that_comes_soon_makes_it_look_for_the_longest_span() {
        let spin = learned([(SOON, true); 4]);
        assert_eq!(spin.span(), LONGEST);
    }

    #[test]
    fn work_that_comes_late_makes_it_sleep_at_once() {
        let soon = [(SOON, true); 8];
        let spin = learned(soon.into_iter().chain([(LATE, true); 4]));
        assert_eq!(spin.span(), LONGEST / FIRST_SHARE);
        assert_eq!(learned(soon.into_iter().chain([(LATE, true); 5])).span(), Duration::ZERO);
    }

    #[test]
    fn a_timer_is_no_work() {
        assert_eq!(learned([(SOON, false); 8]).span(), Duration::ZERO);
    }

    #[test]
    fn it_looks_again_once_work_comes_soon_after_it_slept() {
        let spin = learned([(LATE, true); 8].into_iter().chain([(SOON, true)]));
        assert_eq!(spin.span(), LONGEST / FIRST_SHARE);
    }

    #[test]
    fn a_span_of_nothing_stays_nothing() {
        let mut spin = Spin::new(Duration::ZERO);
        spin.learn(Duration::ZERO, true);
        assert_eq!(spin.span(), Duration::ZERO);
    }
}
