//! A wire between two ends, in memory.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use stmf::provider::hba::FcFrame;

use crate::Wake;
use crate::wire::RoutingControl;

/// What a wire does to frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Frames of a thousand that are lost.
    pub loss_per_mille: u16,
    /// Frames of a thousand that overtake up to three that were sent before them.
    pub reorder_per_mille: u16,
    /// Frames of data of a thousand that overtake up to three others of data directly before them, as where a sequence
    /// takes several paths.
    pub reorder_data_per_mille: u16,
    /// Longest time that a frame takes, each its own and all in order. Only where somebody tells the time:
    /// [`Wire::set_time`].
    pub longest_delay: Duration,
    /// The n-th frame from now on is lost, counted from 1 over both directions; 0: none.
    pub lose_nth: u32,
}

/// Frames that a direction holds; then the sender has to wait.
const CAPACITY: usize = 512;

struct State {
    up: bool,
    /// Counts how often it went down.
    flaps: u32,
    faults: Faults,
    random: u64,
    /// What each end will receive.
    queues: [Queue; 2],
    now: Option<Instant>,
    /// Whether each end is switched on.
    on: [bool; 2],
    /// Whether each end is dropped.
    gone: [bool; 2],
    wakes: [Option<Wake>; 2],
    lost: u64,
}

/// Frames on their way, and when each place in their order arrives.
#[derive(Default)]
struct Queue {
    frames: VecDeque<FcFrame>,
    due: VecDeque<Option<Instant>>,
}

impl Queue {
    fn clear(&mut self) {
        self.frames.clear();
        self.due.clear();
    }

    /// Whether the first has arrived.
    fn has_arrived(&self, now: Option<Instant>) -> bool {
        self.due.front().is_some_and(|due| due.is_none_or(|due| now.is_some_and(|now| due <= now)))
    }

    /// Frames of data at the end.
    fn data_at_end(&self) -> usize {
        self.frames.iter().rev().take_while(|frame| is_data(frame)).count()
    }
}

fn is_data(frame: &FcFrame) -> bool {
    frame.header[0] == RoutingControl::DATA.0
}

impl State {
    fn next(&mut self) -> u64 {
        // Xorshift: any sequence will do, so long as the seed decides it.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn per_mille(&mut self, chance: u16) -> bool {
        chance > 0 && self.next() % 1000 < u64::from(chance)
    }

    fn carries(&self) -> bool {
        self.up && self.on == [true; 2]
    }

    fn wake(&self, end: usize) {
        if let Some(wake) = &self.wakes[end] {
            wake();
        }
    }
}

/// A wire; [`ends`](Self::ends) are given to what it joins, this handle does it harm.
#[derive(Clone)]
pub struct Wire(Arc<Mutex<State>>);

/// One end of a wire. Dropping it switches it off for the other.
pub struct WireEnd {
    state: Arc<Mutex<State>>,
    end: usize,
}

impl Wire {
    /// A wire that is plugged in. Both ends are switched off.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            up: true,
            flaps: 0,
            faults: Faults::default(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            queues: Default::default(),
            now: None,
            on: [false; 2],
            gone: [false; 2],
            wakes: [None, None],
            lost: 0,
        })))
    }

    /// Both ends. They are made once; a second pair would be the same ends.
    pub fn ends(&self) -> (WireEnd, WireEnd) {
        (WireEnd { state: Arc::clone(&self.0), end: 0 }, WireEnd { state: Arc::clone(&self.0), end: 1 })
    }

    /// Sets what it does to frames from now on.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.0).faults = faults;
    }

    /// Unplugs it, or plugs it in. What is on its way is lost.
    pub fn set_up(&self, up: bool) {
        let mut state = lock(&self.0);
        if state.up != up {
            state.up = up;
            state.flaps += u32::from(!up);
            state.queues.iter_mut().for_each(Queue::clear);
        }
        state.wake(0);
        state.wake(1);
    }

    /// Unplugs it and plugs it in, so fast that nobody looks meanwhile; both ends notice.
    pub fn flap(&self) {
        self.set_up(false);
        self.set_up(true);
    }

    /// Says what time it is. Without it every frame arrives at once.
    pub fn set_time(&self, now: Instant) {
        let mut state = lock(&self.0);
        state.now = Some(now);
        for end in [0, 1] {
            if state.queues[end].has_arrived(Some(now)) {
                state.wake(end);
            }
        }
    }

    /// When the next frame arrives that is still on its way.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let state = lock(&self.0);
        let first = state.queues.iter().filter_map(|queue| queue.due.front().copied().flatten());
        first.filter(|due| state.now.is_none_or(|now| *due > now)).min()
    }

    /// Frames that were lost.
    pub fn lost(&self) -> u64 {
        lock(&self.0).lost
    }
}

impl WireEnd {
    /// Who is told when there is something to do.
    pub fn set_wake(&self, wake: Wake) {
        lock(&self.state).wakes[self.end] = Some(wake);
    }

    /// Switches the end on or off; off, the link is down for both.
    pub fn switch(&self, on: bool) {
        let mut state = lock(&self.state);
        if state.on[self.end] == on {
            return;
        }
        state.on[self.end] = on;
        state.flaps += u32::from(!on);
        state.queues.iter_mut().for_each(Queue::clear);
        state.wake(1 - self.end);
    }

    /// Whether frames get through, and how often the link has gone down so far.
    pub fn link(&self) -> (bool, u32) {
        let state = lock(&self.state);
        (state.carries(), state.flaps)
    }

    /// Whether the other end was dropped: nobody will switch it on again.
    pub fn is_alone(&self) -> bool {
        lock(&self.state).gone[1 - self.end]
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The frame itself, when there is no room for it now.
    pub fn send(&self, frame: FcFrame) -> Result<(), FcFrame> {
        let mut state = lock(&self.state);
        if !state.carries() {
            return Ok(());
        }
        let to = 1 - self.end;
        if state.queues[to].frames.len() >= CAPACITY {
            return Err(frame);
        }
        let faults = state.faults;
        let chosen = faults.lose_nth == 1;
        state.faults.lose_nth = faults.lose_nth.saturating_sub(1);
        if chosen || state.per_mille(faults.loss_per_mille) {
            state.lost += 1;
            return Ok(());
        }
        let behind = if state.per_mille(faults.reorder_per_mille) {
            state.next() as usize % 3 + 1
        } else if is_data(&frame) && state.per_mille(faults.reorder_data_per_mille) {
            (state.next() as usize % 3 + 1).min(state.queues[to].data_at_end())
        } else {
            0
        };
        let longest = u64::try_from(faults.longest_delay.as_nanos()).unwrap_or(u64::MAX);
        let delay = if longest > 0 { Duration::from_nanos(state.next() % longest) } else { Duration::ZERO };
        let own = state.now.map(|now| now + delay);
        let queue = &mut state.queues[to];
        let at = queue.frames.len().saturating_sub(behind);
        queue.frames.insert(at, frame);
        let before = queue.due.back().copied().flatten();
        queue.due.push_back(own.max(before));
        state.wake(to);
        Ok(())
    }

    /// Whether a frame could be sent now.
    pub fn has_room(&self) -> bool {
        lock(&self.state).queues[1 - self.end].frames.len() < CAPACITY
    }

    /// The next frame that has arrived.
    pub fn receive(&self) -> Option<FcFrame> {
        let mut state = lock(&self.state);
        let now = state.now;
        let queue = &mut state.queues[self.end];
        if !queue.has_arrived(now) {
            return None;
        }
        let was_full = queue.frames.len() >= CAPACITY;
        queue.due.pop_front();
        let frame = queue.frames.pop_front();
        if was_full {
            // The other side may be waiting for room.
            state.wake(1 - self.end);
        }
        frame
    }
}

impl Drop for WireEnd {
    fn drop(&mut self) {
        self.switch(false);
        let mut state = lock(&self.state);
        state.wakes[self.end] = None;
        state.gone[self.end] = true;
        state.wake(1 - self.end);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.0);
        f.debug_struct("Wire").field("up", &state.up).field("lost", &state.lost).finish_non_exhaustive()
    }
}

impl fmt::Debug for WireEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireEnd").field("end", &self.end).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(r_ctl: RoutingControl, number: u8) -> FcFrame {
        let mut header = [0; 24];
        (header[0], header[12]) = (r_ctl.0, number);
        FcFrame { header, payload: Default::default() }
    }

    /// What arrives: kind and number of each.
    fn arrive(end: &WireEnd) -> Vec<(u8, u8)> {
        std::iter::from_fn(|| end.receive()).map(|frame| (frame.header[0], frame.header[12])).collect()
    }

    fn joined(faults: Faults) -> (Wire, WireEnd, WireEnd) {
        let wire = Wire::new(1);
        wire.set_faults(faults);
        let (a, b) = wire.ends();
        a.switch(true);
        b.switch(true);
        (wire, a, b)
    }

    #[test]
    fn delayed_frames_arrive_later_and_in_order() {
        let faults = Faults { longest_delay: Duration::from_millis(5), ..Faults::default() };
        let (wire, a, b) = joined(faults);
        let mut now = Instant::now();
        wire.set_time(now);
        (0..50).for_each(|number| a.send(frame(RoutingControl::COMMAND, number)).unwrap());
        let mut arrived = arrive(&b);
        assert!(arrived.len() < 50);
        while let Some(next) = wire.poll_timeout() {
            assert!(next > now);
            now = next;
            wire.set_time(now);
            arrived.extend(arrive(&b));
        }
        assert_eq!(arrived, (0..50).map(|number| (RoutingControl::COMMAND.0, number)).collect::<Vec<_>>());
    }

    #[test]
    fn frames_of_data_overtake_each_other_and_nothing_else() {
        let (_wire, a, b) = joined(Faults { reorder_data_per_mille: 500, ..Faults::default() });
        for round in 0..10 {
            a.send(frame(RoutingControl::COMMAND, round)).unwrap();
            (0..8).for_each(|piece| a.send(frame(RoutingControl::DATA, round * 8 + piece)).unwrap());
        }
        let arrived = arrive(&b);
        let mut overtaken = false;
        for (round, group) in arrived.chunks(9).enumerate() {
            assert_eq!(group[0], (RoutingControl::COMMAND.0, round as u8));
            let numbers: Vec<u8> = group[1..].iter().map(|(_, number)| *number).collect();
            overtaken |= !numbers.is_sorted();
            assert!(numbers.iter().all(|number| usize::from(number / 8) == round));
        }
        assert!(overtaken);
    }
}
