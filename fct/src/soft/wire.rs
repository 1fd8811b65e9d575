//! A wire between two ends, in memory.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stmf::provider::hba::FcFrame;

use crate::Wake;

/// What a wire does to frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Frames of a thousand that are lost.
    pub loss_per_mille: u16,
    /// Frames of a thousand that overtake up to three that were sent before them.
    pub reorder_per_mille: u16,
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
    queues: [VecDeque<FcFrame>; 2],
    /// Whether each end is switched on.
    on: [bool; 2],
    /// Whether each end is dropped.
    gone: [bool; 2],
    wakes: [Option<Wake>; 2],
    lost: u64,
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
            state.queues.iter_mut().for_each(VecDeque::clear);
        }
        state.wake(0);
        state.wake(1);
    }

    /// Unplugs it and plugs it in, so fast that nobody looks meanwhile; both ends notice.
    pub fn flap(&self) {
        self.set_up(false);
        self.set_up(true);
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
        state.queues.iter_mut().for_each(VecDeque::clear);
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
        if state.queues[to].len() >= CAPACITY {
            return Err(frame);
        }
        let faults = state.faults;
        let chosen = faults.lose_nth == 1;
        state.faults.lose_nth = faults.lose_nth.saturating_sub(1);
        if chosen || state.per_mille(faults.loss_per_mille) {
            state.lost += 1;
            return Ok(());
        }
        let behind = if state.per_mille(faults.reorder_per_mille) { state.next() as usize % 3 + 1 } else { 0 };
        let at = state.queues[to].len().saturating_sub(behind);
        state.queues[to].insert(at, frame);
        state.wake(to);
        Ok(())
    }

    /// Whether a frame could be sent now.
    pub fn has_room(&self) -> bool {
        lock(&self.state).queues[1 - self.end].len() < CAPACITY
    }

    /// The next frame that has arrived.
    pub fn receive(&self) -> Option<FcFrame> {
        let mut state = lock(&self.state);
        let was_full = state.queues[self.end].len() >= CAPACITY;
        let frame = state.queues[self.end].pop_front();
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
