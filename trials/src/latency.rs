//! Answer times of many threads, counted by size.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Steps in a doubling: a quantile is right to an eighth.
const STEPS: usize = 8;
const CLASSES: usize = 40 * STEPS;

/// How many answers took how long. Threads count at the same time.
#[derive(Debug)]
pub struct Histogram(Vec<AtomicU64>);

impl Default for Histogram {
    fn default() -> Self {
        Self((0..CLASSES).map(|_| AtomicU64::new(0)).collect())
    }
}

/// What a histogram held at one moment.
#[derive(Clone, Debug, Default)]
pub struct Counts(Vec<u64>);

impl Histogram {
    /// Counts one answer.
    pub fn add(&self, time: Duration) {
        self.0[class(time)].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes what was counted since the last call.
    pub fn take(&self) -> Counts {
        Counts(self.0.iter().map(|count| count.swap(0, Ordering::Relaxed)).collect())
    }
}

impl Counts {
    /// Adds others.
    pub fn merge(&mut self, other: &Self) {
        self.0.resize(CLASSES, 0);
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            *sum += more;
        }
    }

    /// How many answers.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The time within which this share of the answers came; zero if there were none.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.total() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (class, count) in self.0.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted {
                return upper(class);
            }
        }
        Duration::ZERO
    }
}

/// Times up to a microsecond are one class.
fn class(time: Duration) -> usize {
    let units = (time.as_nanos() / 125).max(STEPS as u128) as u64;
    let doubling = units.ilog2() as usize - 3;
    let step = (units >> doubling) as usize - STEPS;
    (doubling * STEPS + step).min(CLASSES - 1)
}

/// The longest time of a class.
fn upper(class: usize) -> Duration {
    let (doubling, step) = (class / STEPS, class % STEPS);
    Duration::from_nanos((((STEPS + step + 1) as u64) << doubling) * 125)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_an_eighth() {
        let histogram = Histogram::default();
        for micros in 1..=1000 {
            histogram.add(Duration::from_micros(micros));
        }
        let counts = histogram.take();
        assert_eq!(counts.total(), 1000);
        for (share, micros) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let told = counts.quantile(share).as_secs_f64() * 1e6;
            assert!(told >= micros && told <= micros * 1.13, "{share}: {told}");
        }
        assert_eq!(histogram.take().quantile(0.5), Duration::ZERO);
    }

    #[test]
    fn times_without_measure_have_a_class() {
        let histogram = Histogram::default();
        histogram.add(Duration::ZERO);
        histogram.add(Duration::MAX);
        assert_eq!(histogram.take().total(), 2);
    }
}
