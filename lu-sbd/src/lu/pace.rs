//! Limits of operations and bytes in a second.
//!
//! ```text
//!   hand_out --> nothing waits and both buckets have room ----------------------------> the host
//!      |                                                                                  ^
//!      +-------> a queue for each nexus --> nexuses in turn, as soon as there is room ----+
//!                                             ^
//!                StoreOp::Wait, one at a time: the host's timer calls again
//! ```
//!
//! An operation that waits was not handed out: to abort its task is to drop it. Time is the unit's clock, which the
//! host tells with each call; a unit without a clock has no limits.

use std::collections::VecDeque;
use std::time::Duration;
use stmf::NexusId;
use stmf::provider::{Effect, Effects, StoreOp, StoreRequest, StoreToken};

use super::Lu;
use super::ops::Purpose;
use super::slab::Key;
use crate::rates::IoLimits;

const SECOND_US: u128 = 1_000_000;

/// The longest time after which the host calls again.
const LONGEST_WAIT_US: u64 = 100_000;

/// A host may be late by so much without anything being lost of the rate.
const LATENESS_US: u64 = 100_000;

/// The virtual time of one limit (the generic cell rate algorithm): each unit that passes moves it on by the time that the
/// unit takes at the rate, and none passes while it is ahead of the clock by more than the burst.
///
/// Times are counted in microseconds times the rate, so that each unit is a whole number and nothing is ever rounded.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    rate: u128,
    /// How far virtual time may be ahead when a unit passes.
    ahead: u128,
    time: u128,
}

impl Bucket {
    fn new(rate: u64, burst: Option<u64>, least_burst: u64) -> Self {
        let burst = burst.unwrap_or_else(|| (rate / 10).max(least_burst));
        Self { rate: rate.max(1).into(), ahead: u128::from(burst.max(1) - 1) * SECOND_US, time: 0 }
    }

    /// Microseconds until a unit may pass; 0 for now.
    fn wait_us(&self, now_us: u64) -> u64 {
        let late = self.time.saturating_sub(u128::from(now_us) * self.rate + self.ahead);
        u64::try_from(late.div_ceil(self.rate)).unwrap_or(u64::MAX)
    }

    /// Lets `units` pass that came at `arrived_us`.
    fn pass(&mut self, arrived_us: u64, units: u64) {
        self.time = self.time.max(u128::from(arrived_us) * self.rate) + u128::from(units) * SECOND_US;
    }
}

/// An operation that waits for its turn.
#[derive(Debug)]
struct Paced {
    key: Key,
    op: StoreOp,
    weight: Weight,
    arrived_us: u64,
}

/// The limits of a unit and what waits because of them.
#[derive(Debug, Default)]
pub(super) struct Pace {
    operations: Option<Bucket>,
    bytes: Option<Bucket>,
    /// The nexuses of which something waits, the next in turn first; no queue is empty.
    queues: VecDeque<(NexusId, VecDeque<Paced>)>,
    /// The host was asked to call again.
    is_called: bool,
    /// The operation that is handed out next goes on with one that was counted already.
    pub(super) continues: bool,
}

impl Pace {
    /// Whether anything is limited, or waits although nothing is any more.
    pub(super) fn is_idle(&self) -> bool {
        self.operations.is_none() && self.bytes.is_none() && self.queues.is_empty()
    }

    /// Takes over new limits. Virtual time begins anew: with a burst.
    pub(super) fn set(&mut self, limits: &IoLimits) {
        self.operations = limits.iops.map(|rate| Bucket::new(rate, limits.iops_burst, 1));
        self.bytes = limits.bandwidth.map(|rate| Bucket::new(rate, limits.bandwidth_burst, 1 << 20));
    }

    fn weigh(&mut self, bytes: u64) -> Weight {
        Weight { operations: u64::from(!std::mem::take(&mut self.continues)), bytes }
    }

    fn wait_us(&self, now_us: u64, weight: Weight) -> u64 {
        let wait = |bucket: &Option<Bucket>, units| match bucket {
            Some(bucket) if units > 0 => bucket.wait_us(now_us),
            _ => 0,
        };
        wait(&self.operations, weight.operations).max(wait(&self.bytes, weight.bytes))
    }

    /// How long the next in turn has to wait, and whose it is; `None` if nothing waits.
    fn head(&self, now_us: u64) -> Option<(NexusId, u64)> {
        let (nexus, queue) = self.queues.front()?;
        Some((*nexus, self.wait_us(now_us, queue.front()?.weight)))
    }

    fn pass(&mut self, arrived_us: u64, weight: Weight) {
        for (bucket, units) in [(&mut self.operations, weight.operations), (&mut self.bytes, weight.bytes)] {
            if let Some(bucket) = bucket {
                bucket.pass(arrived_us, units);
            }
        }
    }

    /// Whether an operation that has just come may go at once; it has passed then.
    fn admits(&mut self, now_us: u64, weight: Weight) -> bool {
        let admits = self.queues.is_empty() && self.wait_us(now_us, weight) == 0;
        if admits {
            self.pass(now_us, weight);
        }
        admits
    }

    fn queue(&mut self, nexus: NexusId, paced: Paced) {
        match self.queues.iter_mut().find(|(known, _)| *known == nexus) {
            Some((_, queue)) => queue.push_back(paced),
            None => self.queues.push_back((nexus, VecDeque::from([paced]))),
        }
    }

    /// The next whose turn has come.
    fn next(&mut self, now_us: u64) -> Option<(NexusId, Paced)> {
        if self.head(now_us)?.1 > 0 {
            return None;
        }
        let (nexus, mut queue) = self.queues.pop_front()?;
        let paced = queue.pop_front()?;
        if !queue.is_empty() {
            self.queues.push_back((nexus, queue));
        }
        // A late call costs nothing of the rate.
        self.pass(paced.arrived_us.max(now_us.saturating_sub(LATENESS_US)).min(now_us), paced.weight);
        Some((nexus, paced))
    }

    /// Drops what is not to be kept.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(Key) -> bool) {
        self.queues.retain_mut(|(_, queue)| {
            queue.retain(|paced| keep(paced.key));
            !queue.is_empty()
        });
    }
}

/// What an operation counts for.
#[derive(Clone, Copy, Debug)]
struct Weight {
    operations: u64,
    bytes: u64,
}

/// What an operation moves, in bytes; `None` for one that does not count.
fn bytes_of(op: &StoreOp) -> Option<u64> {
    match op {
        StoreOp::Read { length, .. } => Some((*length).into()),
        StoreOp::Write { data, .. } | StoreOp::WriteAtomic { data, .. } => {
            Some(data.iter().map(|bytes| bytes.len() as u64).sum())
        }
        StoreOp::Copy { length, .. } => Some(*length),
        _ => None,
    }
}

impl Lu {
    /// Hands an operation to the host, or has it wait for its turn.
    #[inline]
    pub(super) fn send_out(&mut self, key: Key, nexus: NexusId, op: StoreOp, fx: &mut Effects) {
        if self.pace.is_idle() || self.clock_us == 0 {
            return self.give(key, nexus, op, fx);
        }
        self.send_paced(key, nexus, op, fx);
    }

    /// The same where there are limits.
    #[inline(never)]
    fn send_paced(&mut self, key: Key, nexus: NexusId, op: StoreOp, fx: &mut Effects) {
        if let Some(bytes) = bytes_of(&op)
            && let weight = self.pace.weigh(bytes)
            && !self.pace.admits(self.clock_us, weight)
        {
            self.set_issued(key, false);
            self.pace.queue(nexus, Paced { key, op, weight, arrived_us: self.clock_us });
            return self.release_paced(fx);
        }
        self.give(key, nexus, op, fx);
    }

    #[inline]
    fn give(&self, key: Key, nexus: NexusId, op: StoreOp, fx: &mut Effects) {
        fx.push(Effect::Store(StoreRequest { nexus, token: StoreToken(key.to_u64()), op }));
    }

    /// Hands out whatever may go now, and sees that somebody calls for the rest.
    pub(super) fn release_paced(&mut self, fx: &mut Effects) {
        while let Some((nexus, paced)) = self.pace.next(self.clock_us) {
            self.set_issued(paced.key, true);
            self.give(paced.key, nexus, paced.op, fx);
        }
        if !self.pace.is_called
            && let Some((nexus, wait)) = self.pace.head(self.clock_us)
        {
            self.pace.is_called = true;
            let time = Duration::from_micros(wait.clamp(1, LONGEST_WAIT_US));
            let op = StoreOp::Wait { time };
            self.issue_detached(nexus, Purpose::Wait, op, fx);
        }
    }

    /// The host calls again.
    pub(super) fn waited(&mut self, fx: &mut Effects) {
        self.pace.is_called = false;
        self.release_paced(fx);
    }

    /// The limits have changed: what they held back and do not any more goes out.
    pub fn pace_changed(&mut self, fx: &mut Effects) {
        self.release_paced(fx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units that pass in `span_us` when there is always one waiting and the clock is looked at each `step_us`.
    fn passed(rate: u64, burst: u64, span_us: u64, step_us: u64) -> u64 {
        let mut bucket = Bucket::new(rate, Some(burst), 1);
        let start = 1_700_000_000_000_000;
        let mut count = 0;
        for now in (start..start + span_us).step_by(step_us as usize) {
            while bucket.wait_us(now) == 0 {
                bucket.pass(start, 1);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn a_second_has_the_burst_and_the_rate() {
        for (rate, burst) in [(1, 1), (3, 1), (7, 3), (1000, 1), (1000, 100), (999_983, 17)] {
            // The first unit passes at the very start; the last of the ten seconds at their end, which is left out.
            assert_eq!(passed(rate, burst, 10_000_000, 1), 10 * rate + burst - 1, "{rate} with {burst}");
        }
    }

    #[test]
    fn a_coarse_clock_loses_nothing() {
        let fine = passed(1000, 10, 10_000_000, 1);
        let coarse = passed(1000, 10, 10_000_000, 7);
        assert!(fine - coarse <= 1, "{fine} {coarse}");
    }

    #[test]
    fn the_wait_that_is_told_is_neither_too_short_nor_too_long() {
        let mut bucket = Bucket::new(7, Some(1), 1);
        bucket.pass(1_000_000, 1);
        let wait = bucket.wait_us(1_000_000);
        assert!(bucket.wait_us(1_000_000 + wait - 1) > 0);
        assert_eq!(bucket.wait_us(1_000_000 + wait), 0);
    }
}
