//! The names a session gives to what its owner deals with.

use core::fmt;

/// Names a task or a task management request in its session; never used twice in the session's life.
///
/// An operation on a task that is gone is ignored, so that an owner may answer late.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskHandle(u64);

impl TaskHandle {
    /// The low bits are the place in the table, the rest counts.
    const SLOT_BITS: u32 = 16;

    pub(super) const fn new(slot: u16, sequence: u64) -> Self {
        Self(sequence << Self::SLOT_BITS | slot as u64)
    }

    pub(super) const fn slot(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    /// Whether the task arrived before the other one.
    pub(super) const fn is_older_than(self, other: Self) -> bool {
        self.0 >> Self::SLOT_BITS < other.0 >> Self::SLOT_BITS
    }

    /// The handle as a number, to be kept elsewhere (as a task tag, say).
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The task's place in the session's table: less than 65,536, small, and no other open task has it.
    pub const fn place(self) -> usize {
        self.slot()
    }

    /// The inverse of [`to_u64`](Self::to_u64). A number that never was a handle names nothing.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskHandle({}@{})", self.0 >> Self::SLOT_BITS, self.slot())
    }
}

/// Names a connection in its session. The key of a connection that is gone names nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(u32);

impl ConnectionKey {
    pub(super) const fn new(slot: u16, generation: u16) -> Self {
        Self((generation as u32) << 16 | slot as u32)
    }

    pub(super) const fn slot(self) -> usize {
        (self.0 & 0xffff) as usize
    }
}

impl fmt::Debug for ConnectionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionKey({}.{})", self.slot(), self.0 >> 16)
    }
}

/// Names a text exchange that waits for its owner's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TextHandle {
    pub(super) connection: ConnectionKey,
    pub(super) number: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_handle_survives_as_a_number() {
        let handle = TaskHandle::new(300, 77);
        assert_eq!(TaskHandle::from_u64(handle.to_u64()), handle);
        assert_eq!(handle.slot(), 300);
    }

    #[test]
    fn age_does_not_depend_on_the_slot() {
        assert!(TaskHandle::new(9, 1).is_older_than(TaskHandle::new(0, 2)));
        assert!(!TaskHandle::new(0, 2).is_older_than(TaskHandle::new(9, 2)));
    }
}
