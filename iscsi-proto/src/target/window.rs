//! The command window: which CmdSN is next, which may come, and what came early (RFC 7143 4.2.2.1).

use std::collections::VecDeque;

use scsi_core::mutation::{Mutation, is_active};

use crate::sn::CmdSn;

/// What to do with a numbered request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Its turn.
    Deliver,
    /// Early: others come before it.
    Hold,
    /// A duplicate, or outside the window: to be ignored without a word.
    Ignore,
}

/// A number inside the window.
#[derive(Debug)]
enum Slot<T> {
    /// Not come yet.
    Hole,
    /// Counted as come, nothing to deliver.
    Plugged,
    /// Came early.
    Held(Box<T>),
}

/// The window of one session.
///
/// `ExpCmdSN` goes up by one for each request delivered; `MaxCmdSN` is `ExpCmdSN + free - 1`, where `free` is the
/// depth without the open tasks. Delivering a task raises the one and lowers the other, ending it raises it again, so
/// MaxCmdSN never goes back.
#[derive(Debug)]
pub(super) struct Window<T> {
    expected: CmdSn,
    depth: u32,
    open: u32,
    /// MaxCmdSN as the initiator heard it last.
    told: CmdSn,
    /// Slot 0 is `expected`.
    slots: VecDeque<Slot<T>>,
}

impl<T> Window<T> {
    pub(super) fn new(expected: CmdSn, depth: u32) -> Self {
        Self { expected, depth, open: 0, told: expected.minus(1), slots: VecDeque::new() }
    }

    pub(super) fn expected(&self) -> CmdSn {
        if is_active(Mutation::ExpCmdSnAhead) {
            return self.expected.next();
        }
        self.expected
    }

    /// MaxCmdSN; one before ExpCmdSN when the window is closed.
    pub(super) fn max(&self) -> CmdSn {
        self.expected.plus(self.free()).minus(1)
    }

    /// The initiator hears of the window as it is.
    pub(super) fn tell(&mut self) {
        self.told = self.max();
    }

    /// Whether the initiator has used up every number that it was told of, though more may come.
    pub(super) fn is_untold(&self) -> bool {
        self.told.is_before(self.expected) && !self.is_closed() && !is_active(Mutation::WindowNotTold)
    }

    fn free(&self) -> u32 {
        self.depth.saturating_sub(self.open)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.free() == 0
    }

    /// Whether `number` may come: at or after ExpCmdSN, at or before MaxCmdSN.
    pub(super) fn contains(&self, number: CmdSn) -> bool {
        number.steps_from(self.expected) < self.free()
    }

    /// Whether a deliberate bug is there that takes this number, though it is outside of the window.
    #[inline]
    pub(super) fn takes_wrongly(&self, number: CmdSn) -> bool {
        is_active(Mutation::OldCmdSnTaken) && number.is_before(self.expected)
            || is_active(Mutation::CmdSnPastWindowTaken) && number.is_after(self.max())
    }

    pub(super) fn classify(&self, number: CmdSn) -> Arrival {
        if !self.contains(number) {
            return Arrival::Ignore;
        }
        match (number.steps_from(self.expected) as usize, self.slots.get(self.index(number))) {
            (_, Some(Slot::Plugged | Slot::Held(_))) => Arrival::Ignore,
            (0, _) => Arrival::Deliver,
            _ => Arrival::Hold,
        }
    }

    /// Counts the expected number as delivered.
    pub(super) fn advance(&mut self) {
        self.slots.pop_front();
        self.expected = self.expected.next();
    }

    /// Keeps a request for which [`classify`](Self::classify) said [`Arrival::Hold`].
    pub(super) fn hold(&mut self, number: CmdSn, request: T) {
        *self.slot_mut(number) = Slot::Held(Box::new(request));
    }

    /// Counts a number inside the window as come, without anything to deliver; gives back what was held there.
    pub(super) fn plug(&mut self, number: CmdSn) -> Option<T> {
        if !self.contains(number) {
            return None;
        }
        match std::mem::replace(self.slot_mut(number), Slot::Plugged) {
            Slot::Held(request) => Some(*request),
            Slot::Hole | Slot::Plugged => None,
        }
    }

    /// Counts every missing number before `end` as come.
    pub(super) fn plug_holes_before(&mut self, end: CmdSn) {
        let count = end.steps_from(self.expected);
        for steps in 0..count.min(self.free()) {
            let slot = self.slot_mut(self.expected.plus(steps));
            if matches!(slot, Slot::Hole) {
                *slot = Slot::Plugged;
            }
        }
    }

    /// The next held request whose turn has come, counted as delivered. Passes what is plugged.
    pub(super) fn next_held(&mut self) -> Option<T> {
        loop {
            match self.slots.front()? {
                Slot::Hole => return None,
                Slot::Plugged => self.advance(),
                Slot::Held(_) => {
                    let slot = self.slots.pop_front();
                    self.expected = self.expected.next();
                    if let Some(Slot::Held(request)) = slot {
                        return Some(*request);
                    }
                }
            }
        }
    }

    /// Whether something came early and waits for a number that is missing.
    pub(super) fn has_hole(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Turns held requests into plugged numbers where `gone` says so.
    pub(super) fn discard_held(&mut self, mut gone: impl FnMut(&T) -> bool) {
        for slot in &mut self.slots {
            if matches!(slot, Slot::Held(request) if gone(request)) {
                *slot = Slot::Plugged;
            }
        }
    }

    /// A delivered request stays open and takes a place.
    pub(super) fn occupy(&mut self) {
        self.open += 1;
    }

    /// An open request ended.
    pub(super) fn release(&mut self) {
        if is_active(Mutation::WindowNeverOpens) {
            return;
        }
        self.open = self.open.saturating_sub(1);
    }

    fn index(&self, number: CmdSn) -> usize {
        number.steps_from(self.expected) as usize
    }

    fn slot_mut(&mut self, number: CmdSn) -> &mut Slot<T> {
        let index = self.index(number);
        while self.slots.len() <= index {
            self.slots.push_back(Slot::Hole);
        }
        &mut self.slots[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(depth: u32) -> Window<u32> {
        Window::new(CmdSn(0xffff_fffe), depth)
    }

    fn arrive(window: &mut Window<u32>, number: u32, delivered: &mut Vec<u32>) {
        match window.classify(CmdSn(number)) {
            Arrival::Ignore => {}
            Arrival::Hold => window.hold(CmdSn(number), number),
            Arrival::Deliver => {
                window.advance();
                delivered.push(number);
                while let Some(held) = window.next_held() {
                    delivered.push(held);
                }
            }
        }
    }

    #[test]
    fn early_numbers_wait_for_their_turn_across_the_wrap() {
        let (mut window, mut delivered) = (window(8), Vec::new());
        for number in [0, 0xffff_ffff, 1, 0xffff_fffe] {
            arrive(&mut window, number, &mut delivered);
        }
        assert_eq!(delivered, [0xffff_fffe, 0xffff_ffff, 0, 1]);
        assert!(!window.has_hole());
    }

    #[test]
    fn duplicates_and_strangers_are_ignored() {
        let mut window = window(4);
        window.hold(CmdSn(0), 0);
        assert_eq!(window.classify(CmdSn(0)), Arrival::Ignore);
        assert_eq!(window.classify(CmdSn(2)), Arrival::Ignore);
        assert_eq!(window.classify(CmdSn(0xffff_fffd)), Arrival::Ignore);
        assert_eq!(window.classify(CmdSn(1)), Arrival::Hold);
    }

    #[test]
    fn open_tasks_close_the_window_and_max_never_goes_back() {
        let mut window = window(2);
        let mut last = window.max();
        for _ in 0..2 {
            window.advance();
            window.occupy();
            assert_eq!(window.max(), last);
        }
        assert!(window.is_closed());
        assert_eq!(window.classify(window.expected()), Arrival::Ignore);
        window.release();
        last = last.next();
        assert_eq!(window.max(), last);
    }

    #[test]
    fn a_window_that_was_used_up_and_opened_has_to_be_told() {
        let mut window = window(2);
        window.tell();
        for _ in 0..2 {
            assert!(!window.is_untold());
            window.advance();
            window.occupy();
        }
        assert!(!window.is_untold(), "it is closed");
        window.release();
        assert!(window.is_untold());
        window.tell();
        assert!(!window.is_untold());
    }

    #[test]
    fn a_plugged_hole_lets_the_held_pass() {
        let mut window = window(4);
        window.hold(CmdSn(0), 0);
        window.plug(CmdSn(0xffff_fffe));
        assert_eq!(window.next_held(), None);
        window.plug_holes_before(CmdSn(0));
        assert_eq!(window.next_held(), Some(0));
        assert_eq!(window.expected(), CmdSn(1));
    }
}
