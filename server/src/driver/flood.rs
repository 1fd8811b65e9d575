//! Keeps a peer from filling the log.

use std::time::{Duration, Instant};

/// Lets a few messages of a kind through each interval and counts the rest.
#[derive(Debug)]
pub(crate) struct Flood {
    burst: u32,
    interval: Duration,
    since: Option<Instant>,
    passed: u32,
    suppressed: u64,
}

impl Flood {
    /// `burst` messages each `interval`.
    pub(crate) const fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, since: None, passed: 0, suppressed: 0 }
    }

    /// Whether to log one now; the value counts those suppressed since the last one logged.
    pub(crate) fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= self.interval) {
            self.since = Some(now);
            self.passed = 0;
        }
        if self.passed < self.burst {
            self.passed += 1;
            Some(std::mem::take(&mut self.suppressed))
        } else {
            self.suppressed += 1;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_told_later() {
        let mut flood = Flood::new(2, Duration::from_secs(10));
        let start = Instant::now();
        let logged: Vec<_> = (0..100).filter_map(|_| flood.pass(start)).collect();
        assert_eq!(logged, [0, 0]);
        assert_eq!(flood.pass(start + Duration::from_secs(10)), Some(98));
    }
}
