//! Time that passes when the test says so.

use std::time::{Duration, Instant};

/// A clock for code that takes the time as an argument. It begins at some instant and only moves when told.
#[derive(Clone, Copy, Debug)]
pub struct VirtualTime {
    start: Instant,
    now: Instant,
}

impl Default for VirtualTime {
    fn default() -> Self {
        Self::new()
    }
}

impl VirtualTime {
    /// A clock at its beginning.
    pub fn new() -> Self {
        let start = Instant::now();
        Self { start, now: start }
    }

    /// The time.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// How long the clock has run.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Lets time pass.
    pub fn advance(&mut self, by: Duration) {
        self.now += by;
    }

    /// Jumps to the earliest of these deadlines, if that lies ahead. False when there is none: nothing will ever
    /// happen again by itself.
    pub fn jump(&mut self, deadlines: impl IntoIterator<Item = Option<Instant>>) -> bool {
        let Some(next) = deadlines.into_iter().flatten().min() else { return false };
        self.now = self.now.max(next);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_goes_to_the_earliest_deadline_and_never_back() {
        let mut time = VirtualTime::new();
        let at = |seconds| Some(time.start + Duration::from_secs(seconds));
        let (first, second) = (at(3), at(5));
        assert!(time.jump([second, None, first]));
        assert_eq!(time.elapsed(), Duration::from_secs(3));
        time.advance(Duration::from_secs(10));
        assert!(time.jump([second]));
        assert_eq!(time.elapsed(), Duration::from_secs(13));
        assert!(!time.jump([None]));
    }
}
