//! The names of tasks, transfers, sessions and connections.

use core::fmt;

macro_rules! tag {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            /// FFFFFFFFh: no tag.
            pub const RESERVED: Self = Self(u32::MAX);

            /// Whether this is the reserved value, which names nothing.
            pub const fn is_reserved(self) -> bool {
                self.0 == Self::RESERVED.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::RESERVED
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#010x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:#010x})", stringify!($name), self.0)
            }
        }
    };
}

tag! {
    /// The initiator's name for a task, unique in its session while the task lives (RFC 7143 11.2.1.8).
    InitiatorTaskTag
}
tag! {
    /// The target's name for a transfer or exchange it asked for (RFC 7143 11.7.4, 11.8.5, 11.18.2).
    TargetTransferTag
}
/// The tag a target gives with a SCSI Response for a later R-Data SNACK (RFC 7143 11.4.6); 0 when unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct SnackTag(pub u32);

/// The initiator's part of a session's name: six bytes, type and qualifier (RFC 7143 11.12.5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Isid(pub [u8; 6]);

impl Isid {
    /// An ISID of the random format (T = 10b): 24 random bits and a qualifier.
    pub const fn random(random: [u8; 3], qualifier: u16) -> Self {
        let q = qualifier.to_be_bytes();
        Self([0x80, random[0], random[1], random[2], q[0], q[1]])
    }
}

impl fmt::Display for Isid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Isid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Isid({self})")
    }
}

/// The target's part of a session's name (RFC 7143 11.12.6). 0 asks for a new session in a Login Request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Tsih(pub u16);

impl Tsih {
    /// 0: no session yet.
    pub const NEW: Self = Self(0);

    /// Whether this is 0, the request for a new session.
    pub const fn is_new(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Tsih {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The initiator's name for a connection within its session (RFC 7143 11.12.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Cid(pub u16);

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
