//! Which commands a device server supports.

use super::CommandFlags;
use super::table::{COMMANDS, CommandEntry, CommandKind};

/// A set of commands, and whether the NACA bit is supported: what a kind of logical unit can do.
///
/// A value of 24 bytes; every operation is constant time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct CommandSet {
    bits: u128,
    naca: bool,
}

impl CommandSet {
    /// No command at all.
    pub const EMPTY: Self = Self { bits: 0, naca: false };

    /// Every command of the table but those refused by design.
    pub fn all() -> Self {
        let supported = COMMANDS.iter().filter(|entry| !entry.flags.contains(CommandFlags::REFUSED));
        supported.fold(Self::EMPTY, |set, entry| set.with(entry.kind))
    }

    /// The set of `kinds`.
    pub const fn of(kinds: &[CommandKind]) -> Self {
        let mut set = Self::EMPTY;
        let mut at = 0;
        while at < kinds.len() {
            set = set.with(kinds[at]);
            at += 1;
        }
        set
    }

    /// The set and `kind`.
    #[must_use]
    pub const fn with(mut self, kind: CommandKind) -> Self {
        self.bits |= 1 << kind as u32;
        self
    }

    /// The set without `kind`.
    #[must_use]
    pub const fn without(mut self, kind: CommandKind) -> Self {
        self.bits &= !(1 << kind as u32);
        self
    }

    /// The set without any of `kinds`.
    #[must_use]
    pub const fn without_all(mut self, kinds: &[CommandKind]) -> Self {
        self.bits &= !Self::of(kinds).bits;
        self
    }

    /// The set with NACA supported or not (NORMACA of the standard INQUIRY data must say the same).
    #[must_use]
    pub const fn with_naca(mut self, naca: bool) -> Self {
        self.naca = naca;
        self
    }

    /// Whether `kind` is in the set.
    pub const fn contains(self, kind: CommandKind) -> bool {
        self.bits & (1 << kind as u32) != 0
    }

    /// Whether the NACA bit of CONTROL is supported.
    pub const fn naca(self) -> bool {
        self.naca
    }

    /// How many commands are in the set.
    pub const fn len(self) -> usize {
        self.bits.count_ones() as usize
    }

    /// Whether no command is in the set.
    pub const fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// The rows of the set, in the order of the table.
    pub fn entries(self) -> impl Iterator<Item = &'static CommandEntry> {
        COMMANDS.iter().filter(move |entry| self.contains(entry.kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_leaves_out_what_is_refused_by_design() {
        let all = CommandSet::all();
        assert!(all.contains(CommandKind::Read10));
        assert!(!all.contains(CommandKind::WriteLong10));
        assert_eq!(all.entries().count(), all.len());
    }

    #[test]
    fn sets_add_and_take_away() {
        let set = CommandSet::of(&[CommandKind::Read10, CommandKind::ReadDefectData12]);
        assert_eq!(set.len(), 2);
        assert!(set.without(CommandKind::Read10).without(CommandKind::ReadDefectData12).is_empty());
    }
}
