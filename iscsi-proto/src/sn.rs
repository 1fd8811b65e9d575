//! Serial numbers: CmdSN, StatSN, DataSN and R2TSN and their arithmetic (RFC 1982 with 32 bits; RFC 7143 4.2.2.1).
//!
//! The types have no `Ord`: half of all pairs of serial numbers have no total order, and a `<` on the integers is wrong
//! once in four billion commands. Compare with [`CmdSn::is_before`] and its kin.

macro_rules! serial {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name(pub u32);

        impl $name {
            /// The number after this one; wraps after 2^32 - 1.
            #[must_use]
            pub const fn next(self) -> Self {
                self.plus(1)
            }

            /// The number `count` steps after this one.
            #[must_use]
            pub const fn plus(self, count: u32) -> Self {
                Self(self.0.wrapping_add(count))
            }

            /// The number `count` steps before this one.
            #[must_use]
            pub const fn minus(self, count: u32) -> Self {
                Self(self.0.wrapping_sub(count))
            }

            /// Takes the current number and steps to the next: the usual way to number what is sent.
            pub const fn take(&mut self) -> Self {
                let taken = *self;
                *self = taken.next();
                taken
            }

            /// How many steps lead from `base` up to this number, counting around the end of the range.
            pub const fn steps_from(self, base: Self) -> u32 {
                self.0.wrapping_sub(base.0)
            }

            /// Whether this number comes before `other`. Two numbers 2^31 apart are neither before nor after one
            /// another (RFC 1982 3.2).
            pub const fn is_before(self, other: Self) -> bool {
                let steps = other.0.wrapping_sub(self.0);
                steps != 0 && steps < 1 << 31
            }

            /// Whether this number comes after `other`.
            pub const fn is_after(self, other: Self) -> bool {
                other.is_before(self)
            }

            /// Whether this number comes at or after `first` and at or before `last`.
            pub const fn is_within(self, first: Self, last: Self) -> bool {
                !self.is_before(first) && !self.is_after(last)
            }
        }

        impl From<u32> for $name {
            fn from(value: u32) -> Self {
                Self(value)
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{:#010x}", self.0)
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}({:#010x})", stringify!($name), self.0)
            }
        }
    };
}

serial! {
    /// Command sequence number, counted per session. CmdSN, ExpCmdSN, MaxCmdSN and RefCmdSN are all of this type
    /// (RFC 7143 4.2.2.1).
    CmdSn
}
serial! {
    /// Status sequence number, counted per connection. StatSN and ExpStatSN are of this type (RFC 7143 4.2.2.2).
    StatSn
}
serial! {
    /// Number of a Data-In or Data-Out PDU within its sequence. DataSN and ExpDataSN are of this type
    /// (RFC 7143 4.2.2.3).
    DataSn
}
serial! {
    /// Number of an R2T within its task (RFC 7143 11.8.3). Shares its numbering with DataSN of Data-In for
    /// bidirectional commands.
    R2tSn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparison_crosses_the_wrap() {
        assert!(CmdSn(0xffff_ffff).is_before(CmdSn(0)));
        assert!(CmdSn(3).is_after(CmdSn(0xffff_fff0)));
        assert!(!CmdSn(7).is_before(CmdSn(7)));
    }

    #[test]
    fn numbers_half_the_range_apart_have_no_order() {
        assert!(!StatSn(0).is_before(StatSn(1 << 31)));
        assert!(!StatSn(0).is_after(StatSn(1 << 31)));
    }

    #[test]
    fn take_returns_the_number_before_the_step() {
        let mut sn = DataSn(u32::MAX);
        assert_eq!(sn.take(), DataSn(u32::MAX));
        assert_eq!(sn, DataSn(0));
    }

    #[test]
    fn a_window_may_span_the_wrap() {
        assert!(CmdSn(1).is_within(CmdSn(0xffff_fffe), CmdSn(4)));
        assert!(!CmdSn(5).is_within(CmdSn(0xffff_fffe), CmdSn(4)));
        assert_eq!(CmdSn(4).steps_from(CmdSn(0xffff_fffe)), 6);
    }
}
