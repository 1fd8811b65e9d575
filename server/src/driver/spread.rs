//! Which thread a new connection goes to.

use super::counters::Counters;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The least time over which it is counted how busy a thread is.
const LEAST_SPAN: Duration = Duration::from_secs(1);

/// What each connection of a thread counts that is busy all the time; those of an idle one count 1. A bound, so that a flood of
/// newcomers does not all go to one thread for as long as the others are busier.
const BUSY_WEIGHT: u64 = 4;

/// Parts of which a thread may be busy.
const PARTS: u64 = 256;

/// Remembers what the threads had done at an earlier look.
#[derive(Debug)]
pub(crate) struct Spread {
    counters: Box<[Arc<Counters>]>,
    looked: Instant,
    busy_ns: Box<[u64]>,
}

impl Spread {
    pub(crate) fn new(counters: impl IntoIterator<Item = Arc<Counters>>, now: Instant) -> Self {
        let counters: Box<[_]> = counters.into_iter().collect();
        let busy_ns = counters.iter().map(|thread| thread.busy_ns.value()).collect();
        Self { counters, looked: now, busy_ns }
    }

    /// The thread for a new connection, of the connections of each: the one with the fewest, where those of a busy thread count
    /// for more.
    pub(crate) fn choose(&mut self, now: Instant, connections: impl Iterator<Item = usize>) -> Option<usize> {
        let span = now.saturating_duration_since(self.looked);
        let shares = self.counters.iter().zip(&self.busy_ns).map(|(thread, before)| {
            let busy = thread.busy_ns.value().wrapping_sub(*before);
            share(busy, span)
        });
        let chosen = lightest(connections.zip(shares));
        if span >= LEAST_SPAN {
            self.looked = now;
            for (before, thread) in self.busy_ns.iter_mut().zip(&self.counters) {
                *before = thread.busy_ns.value();
            }
        }
        chosen
    }
}

/// How much of the time a thread was busy, in [`PARTS`]; of a short time, of the least that counts.
fn share(busy_ns: u64, span: Duration) -> u64 {
    let span = span.max(LEAST_SPAN).as_nanos();
    let share = u128::from(busy_ns) * u128::from(PARTS) / span;
    u64::try_from(share).unwrap_or(PARTS).min(PARTS)
}

/// The place of the thread that has the least to do, of the connections and the busy share of each.
fn lightest(threads: impl Iterator<Item = (usize, u64)>) -> Option<usize> {
    let weight = |(connections, share): (usize, u64)| {
        (connections as u64).saturating_add(1).saturating_mul(PARTS + (BUSY_WEIGHT - 1) * share)
    };
    threads.map(weight).enumerate().min_by_key(|(_, weight)| *weight).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_threads_get_as_many_connections_each() {
        assert_eq!(lightest([(2, 0), (1, 0), (2, 0)].into_iter()), Some(1));
        assert_eq!(lightest([(1, 0), (1, 0)].into_iter()), Some(0));
        assert_eq!(lightest([].into_iter()), None);
    }

    #[test]
    fn of_as_many_connections_the_idle_thread_gets_the_next() {
        assert_eq!(lightest([(3, PARTS), (3, PARTS / 2), (3, 1)].into_iter()), Some(2));
    }

    #[test]
    fn three_sleepers_weigh_less_than_one_stream() {
        // One connection that keeps its thread busy, beside paths that stand by.
        assert_eq!(lightest([(1, PARTS), (3, 0)].into_iter()), Some(1));
    }

    #[test]
    fn a_flood_does_not_all_go_to_the_idle_thread() {
        let mut threads = [(0, PARTS), (0, 0)];
        for _ in 0..1000 {
            let next = lightest(threads.into_iter()).unwrap();
            threads[next].0 += 1;
        }
        assert_eq!(threads.map(|(connections, _)| connections), [200, 800]);
    }

    #[test]
    fn only_what_happened_lately_counts() {
        let counters = [Arc::<Counters>::default(), Arc::default()];
        counters[0].busy_ns.add(Duration::from_secs(3600).as_nanos() as u64);
        let start = Instant::now();
        let mut spread = Spread::new(counters.iter().map(Arc::clone), start);
        counters[1].busy_ns.add(Duration::from_millis(1500).as_nanos() as u64);
        let later = start + Duration::from_secs(2);
        assert_eq!(spread.choose(later, [1, 1].into_iter()), Some(0), "the other was busy most of these two seconds");
        assert_eq!(spread.choose(later + Duration::from_secs(1), [2, 1].into_iter()), Some(1), "nothing since then");
    }

    #[test]
    fn a_short_look_does_not_make_a_login_a_burden() {
        assert_eq!(share(50_000, Duration::from_micros(60)), 0);
        assert_eq!(share(u64::MAX, Duration::from_secs(1)), PARTS);
    }
}
