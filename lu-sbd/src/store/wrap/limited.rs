//! So much a second and no more.

use super::{Access, Intercepted, Interceptor, Wrap};
use crate::store::{BackingStore, Error};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest time that may be saved up while nothing happens, and spent at once.
const BURST: Duration = Duration::from_millis(100);

/// Holds operations back to a rate. Made by [`RateLimited::new`].
///
/// Operations are booked one behind the other, each for the time that it takes at the rate, and wait for their turn; a
/// tenth of a second that was not used may be spent at once.
#[derive(Debug)]
pub struct RateLimited {
    bytes_per_second: Option<u64>,
    operations_per_second: Option<u64>,
    /// When all that is booked is over.
    booked_until: Mutex<Option<Instant>>,
}

impl RateLimited {
    /// `store` with at most so many bytes and operations a second; `None` (or 0) for no limit.
    pub fn new<S: BackingStore>(
        store: S,
        bytes_per_second: Option<u64>,
        operations_per_second: Option<u64>,
    ) -> Intercepted<S, Self> {
        let bytes_per_second = bytes_per_second.filter(|&rate| rate > 0);
        let operations_per_second = operations_per_second.filter(|&rate| rate > 0);
        store.wrap(Self { bytes_per_second, operations_per_second, booked_until: Mutex::new(None) })
    }

    fn cost(&self, length: u64) -> Duration {
        let part = |amount: u64, rate: Option<u64>| {
            rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(amount as f64 / rate as f64))
        };
        part(length, self.bytes_per_second).max(part(1, self.operations_per_second))
    }

    /// Books an operation; gives how long it has to wait.
    fn book(&self, now: Instant, length: u64) -> Duration {
        let mut until = self.booked_until.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let end = until.map_or(earliest, |until| until.max(earliest)) + self.cost(length);
        *until = Some(end);
        end.saturating_duration_since(now)
    }
}

impl Interceptor for RateLimited {
    fn intercept(&self, access: Access, carry_out: &mut dyn FnMut() -> Result<(), Error>) -> Result<(), Error> {
        let wait = self.book(Instant::now(), access.length);
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        carry_out()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_wait_for_those_before_them() {
        let limit = RateLimited {
            bytes_per_second: Some(1 << 20),
            operations_per_second: Some(1000),
            booked_until: Mutex::new(None),
        };
        let now = Instant::now() + Duration::from_secs(1);
        // The saved tenth of a second.
        assert_eq!(limit.book(now, 1 << 16), Duration::ZERO);
        let waits: Vec<Duration> = (0..32).map(|_| limit.book(now, 1 << 16)).collect();
        assert!(waits.is_sorted());
        let last = waits[31].as_secs_f64();
        assert!((last - (33.0 / 16.0 - 0.1)).abs() < 0.001, "{last}");
        // Later, what was booked is over.
        assert_eq!(limit.book(now + Duration::from_secs(60), 512), Duration::ZERO);
    }
}
