//! SAM status codes.

use core::fmt;

/// The status byte that ends a command (SAM-5, Status codes).
///
/// A newtype over the wire value, so that a code this crate does not name survives and prints as hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status(pub u8);

impl Status {
    /// The command completed without error.
    pub const GOOD: Self = Self(0x00);
    /// Sense data says what happened.
    pub const CHECK_CONDITION: Self = Self(0x02);
    /// The requested condition is satisfied (PRE-FETCH).
    pub const CONDITION_MET: Self = Self(0x04);
    /// The logical unit cannot accept the command now; nothing happened.
    pub const BUSY: Self = Self(0x08);
    /// A reservation of another I_T nexus forbids the command.
    pub const RESERVATION_CONFLICT: Self = Self(0x18);
    /// The task set has no room for this I_T nexus; nothing happened.
    pub const TASK_SET_FULL: Self = Self(0x28);
    /// An auto contingent allegiance condition is active.
    pub const ACA_ACTIVE: Self = Self(0x30);
    /// Another I_T nexus aborted the task and TAS is set.
    pub const TASK_ABORTED: Self = Self(0x40);

    /// The standard's name of the code, if it has one.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::GOOD => "GOOD",
            Self::CHECK_CONDITION => "CHECK CONDITION",
            Self::CONDITION_MET => "CONDITION MET",
            Self::BUSY => "BUSY",
            Self::RESERVATION_CONFLICT => "RESERVATION CONFLICT",
            Self::TASK_SET_FULL => "TASK SET FULL",
            Self::ACA_ACTIVE => "ACA ACTIVE",
            Self::TASK_ABORTED => "TASK ABORTED",
            _ => return None,
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "status {:#04x}", self.0),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
