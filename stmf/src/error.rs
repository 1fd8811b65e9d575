//! What can be wrong with a change of the configuration, in COMSTAR's words.

use crate::view::MAX_LUN;
use scsi_core::Guid;

/// Host or target groups: they follow the same rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupKind {
    /// Groups of initiators.
    Host,
    /// Groups of targets.
    Target,
}

impl GroupKind {
    /// "host group" or "target group".
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Host => "host group",
            Self::Target => "target group",
        }
    }

    /// The letters in `stmfadm`'s subcommands: `hg` or `tg`.
    const fn letters(self) -> &'static str {
        match self {
            Self::Host => "hg",
            Self::Target => "tg",
        }
    }
}

/// Why a change of the configuration is refused. Nothing has changed when one of these comes back.
///
/// The message is what `stmfadm` prints after its own name; [`ConfigError::hint`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The name of an initiator or target has no known form.
    #[error("{0}: unrecognized device id")]
    UnrecognizedDevice(String),
    /// The name of a logical unit is not 32 hexadecimal digits.
    #[error("{0}: must be 32 hexadecimal digits long")]
    InvalidGuid(String),
    /// The name of a group is empty, longer than 255 bytes, begins with `*` or has control characters.
    #[error("{name}: invalid group name")]
    InvalidGroupName {
        /// Host or target group.
        kind: GroupKind,
        /// The name given.
        name: String,
    },
    /// There is a group of that name.
    #[error("{name}: already exists")]
    GroupExists {
        /// Host or target group.
        kind: GroupKind,
        /// The name given.
        name: String,
    },
    /// There is no group of that name.
    #[error("{name}: not found")]
    GroupNotFound {
        /// Host or target group.
        kind: GroupKind,
        /// The name given.
        name: String,
    },
    /// View entries refer to the group.
    #[error("group is in use by existing view entry")]
    GroupInUse {
        /// Host or target group.
        kind: GroupKind,
        /// The group.
        name: String,
        /// A logical unit with such a view entry.
        lu: Guid,
        /// The index of that entry.
        index: u32,
    },
    /// The device is a member of that group or another.
    #[error("{member}: already exists")]
    MemberExists {
        /// Host or target group.
        kind: GroupKind,
        /// The device.
        member: String,
        /// The group it is in.
        group: String,
    },
    /// The device is not a member of the group.
    #[error("{member}: not found")]
    MemberNotFound {
        /// Host or target group.
        kind: GroupKind,
        /// The device.
        member: String,
        /// The group that was searched.
        group: String,
        /// The group in which it is instead.
        elsewhere: Option<String>,
    },
    /// A view entry names a host group that does not exist.
    #[error("invalid host group")]
    InvalidHostGroup(String),
    /// A view entry names a target group that does not exist.
    #[error("invalid target group")]
    InvalidTargetGroup(String),
    /// The logical unit has a view entry that overlaps the new one: one nexus would have two LUNs for it.
    #[error("view entry exists")]
    ViewExists {
        /// The logical unit.
        lu: Guid,
        /// The index of the entry in the way.
        index: u32,
        /// Its LUN.
        lun: u16,
    },
    /// Another logical unit has the LUN for some nexus that the new entry covers.
    #[error("LUN already in use")]
    LunInUse {
        /// The LUN.
        lun: u16,
        /// Who has it.
        lu: Guid,
        /// By which of its entries.
        index: u32,
    },
    /// A logical unit number above 16383.
    #[error("{0}: Logical unit number must be less than 16384")]
    LunTooLarge(u64),
    /// All 16384 LUNs are taken for some nexus that the new entry covers.
    #[error("no logical unit number is free")]
    NoFreeLun,
    /// The logical unit has no view entries.
    #[error("{0:X}: no views found")]
    NoViews(Guid),
    /// The logical unit has no view entry of that index.
    #[error("{lu:X}: {index}: not found")]
    ViewNotFound {
        /// The logical unit.
        lu: Guid,
        /// The index asked for.
        index: u32,
    },
}

impl ConfigError {
    /// What to do about it: one sentence, lower case, no full stop.
    pub fn hint(&self) -> String {
        match self {
            Self::UnrecognizedDevice(_) => {
                "names are iqn.<name>, eui.<16 hex digits>, naa.<16 or 32 hex digits> or wwn.<16 hex digits>".into()
            }
            Self::InvalidGuid(_) => "'stmfadm list-lu' shows the names of the logical units".into(),
            Self::InvalidGroupName { .. } => {
                "a group name has 1 to 255 bytes, no control characters, and does not begin with '*'".into()
            }
            Self::GroupExists { kind, name } => {
                format!("add to the existing group with 'stmfadm add-{0}-member -g {name} NAME'", kind.letters())
            }
            Self::GroupNotFound { kind, name } => format!(
                "names are case sensitive: see 'stmfadm list-{0}', or create it with 'stmfadm create-{0} {name}'",
                kind.letters()
            ),
            Self::GroupInUse { lu, index, .. } => {
                format!("remove the view entries first, such as 'stmfadm remove-view -l {lu:X} {index}'")
            }
            Self::MemberExists { kind, member, group } => format!(
                "it is a member of {} {group}, and a device is in one group only: 'stmfadm remove-{}-member -g {group} \
                 {member}' takes it out",
                kind.noun(),
                kind.letters()
            ),
            Self::MemberNotFound { kind, elsewhere: Some(group), .. } => {
                format!("it is a member of {} {group}", kind.noun())
            }
            Self::MemberNotFound { kind, group, elsewhere: None, .. } => {
                format!("'stmfadm list-{} -v {group}' shows the members", kind.letters())
            }
            Self::InvalidHostGroup(name) => {
                format!("there is no host group {name}: see 'stmfadm list-hg', or 'stmfadm create-hg {name}'")
            }
            Self::InvalidTargetGroup(name) => {
                format!("there is no target group {name}: see 'stmfadm list-tg', or 'stmfadm create-tg {name}'")
            }
            Self::ViewExists { lu, index, lun } => format!(
                "view entry {index} already shows the logical unit as LUN {lun}; to change it: 'stmfadm remove-view -l \
                 {lu:X} {index}'"
            ),
            Self::LunInUse { lun, lu, index } => format!(
                "LUN {lun} belongs to logical unit {lu:X} (view entry {index}); leave out -n to have a free one chosen"
            ),
            Self::LunTooLarge(_) => format!("logical unit numbers go from 0 to {MAX_LUN}"),
            Self::NoFreeLun => "remove view entries, or divide the hosts among more groups".into(),
            Self::NoViews(lu) => format!("'stmfadm add-view {lu:X}' adds one"),
            Self::ViewNotFound { lu, .. } => format!("'stmfadm list-view -l {lu:X}' shows the entries"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_that_scripts_know() {
        let lu = Guid::generate(Guid::DEFAULT_OUI, scsi_core::GuidHost::HostId(1), 2, 3);
        for (error, text) in [
            (ConfigError::LunInUse { lun: 1, lu, index: 0 }, "LUN already in use".to_owned()),
            (ConfigError::ViewExists { lu, index: 0, lun: 1 }, "view entry exists".to_owned()),
            (ConfigError::NoViews(lu), format!("{lu:X}: no views found")),
            (ConfigError::ViewNotFound { lu, index: 7 }, format!("{lu:X}: 7: not found")),
            (
                ConfigError::GroupExists { kind: GroupKind::Host, name: "prod-esx1".into() },
                "prod-esx1: already exists".to_owned(),
            ),
            (ConfigError::LunTooLarge(16384), "16384: Logical unit number must be less than 16384".to_owned()),
        ] {
            assert_eq!(error.to_string(), text);
            assert!(!error.hint().is_empty());
        }
    }
}
