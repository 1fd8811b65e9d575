//! Why a change of the configuration is refused, in `itadm`'s words.

use super::NameError;

/// The object whose properties were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyOwner {
    /// A target.
    Target,
    /// An initiator.
    Initiator,
    /// The defaults.
    Defaults,
}

/// One property that cannot be set, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{property}: {reason}")]
pub struct PropertyError {
    /// COMSTAR's name of the property (`auth`, `targetchapsecret`, `radiusserver` ...).
    pub property: &'static str,
    /// What is wrong with it.
    pub reason: PropertyReason,
}

/// What is wrong with a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertyReason {
    /// Not an authentication method.
    #[error("must be none, chap or radius")]
    NotAMethod,
    /// Not a CHAP algorithm.
    #[error("must be md5, sha1, sha256 or sha3-256")]
    NotAnAlgorithm,
    /// Not a text, or too long a one.
    #[error("must be a string value")]
    NotAString,
    /// Not a switch.
    #[error("must be a boolean value")]
    NotABoolean,
    /// No address that can be reached.
    #[error("invalid address")]
    InvalidAddress,
    /// Another property needs this one.
    #[error("missing required property")]
    Missing,
    /// No such property.
    #[error("unrecognized property")]
    Unrecognized,
    /// A secret under 12 bytes.
    #[error("secret too short")]
    SecretTooShort,
    /// A secret over 255 bytes.
    #[error("secret too long")]
    SecretTooLong,
}

/// Why a change is refused. `Display` gives the lines that `itadm` prints, [`hint`](Self::hint) what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not a name of any known type.
    #[error("Invalid name {name}")]
    UnknownNameType {
        /// As typed.
        name: String,
    },
    /// A name of a known type, ill formed.
    #[error("Invalid iSCSI name {name}")]
    InvalidName {
        /// As typed.
        name: String,
    },
    /// A target of this name exists and one is to be created.
    #[error("iSCSI target {name} already configured")]
    TargetExists {
        /// Folded.
        name: String,
    },
    /// A target of this name exists and another is to be renamed to it.
    #[error("A target with name {name} already exists")]
    RenameTaken {
        /// Folded.
        name: String,
    },
    /// No more targets.
    #[error("Maximum of {limit} iSCSI targets")]
    TooManyTargets {
        /// How many there may be.
        limit: usize,
    },
    /// No such target.
    #[error("Target {name} not found")]
    TargetNotFound {
        /// As typed.
        name: String,
    },
    /// A target is to be deleted or renamed while it is online.
    #[error("The target is online or busy. Use the -f (force) option, or 'stmfadm offline-target {name}'")]
    TargetBusy {
        /// Folded.
        name: String,
    },
    /// A target is to be created with a portal group that does not exist.
    #[error("Invalid tpg-tag {name}, tag not defined")]
    CreateWithUnknownGroup {
        /// The portal group.
        name: String,
    },
    /// A target is to get a portal group that does not exist.
    #[error("Invalid tpg-name {name}: not defined")]
    ModifyWithUnknownGroup {
        /// The portal group.
        name: String,
    },
    /// A target has as many portal groups as it may.
    #[error("Maximum of {limit} portal groups per target")]
    TooManyGroups {
        /// How many there may be.
        limit: usize,
    },
    /// A portal group without portals.
    #[error("Error, no portal addresses specified")]
    NoPortals,
    /// A text that is no portal.
    #[error("Invalid portal address {text}")]
    InvalidPortal {
        /// As typed.
        text: String,
    },
    /// The portal is in this or another group already.
    #[error("Portal {portal} already in use")]
    PortalInUse {
        /// The portal.
        portal: String,
        /// The group that has it; the one to be created, if it was given twice.
        group: String,
    },
    /// A portal group name that cannot be used.
    #[error("Invalid name {name}")]
    InvalidGroupName {
        /// As typed.
        name: String,
    },
    /// A portal group of this name exists.
    #[error("Target Portal Group {name} already exists")]
    GroupExists {
        /// The name.
        name: String,
    },
    /// Targets use the portal group.
    #[error("Target portal group associated with one or more targets.  Cannot delete.")]
    GroupInUse {
        /// The portal group.
        name: String,
        /// The targets.
        targets: Vec<String>,
    },
    /// No such portal group.
    #[error("Target Portal Group {name} not found")]
    GroupNotFound {
        /// As typed.
        name: String,
    },
    /// An initiator of this name exists.
    #[error("Initiator {name} already exists")]
    InitiatorExists {
        /// Folded.
        name: String,
    },
    /// No such initiator.
    #[error("Error, initiator {name} not found")]
    InitiatorNotFound {
        /// As typed.
        name: String,
    },
    /// More iSNS servers than there may be.
    #[error("Too many iSNS servers specified, maximum of {limit} allowed")]
    TooManyIsnsServers {
        /// How many there may be.
        limit: usize,
    },
    /// Properties that cannot be set so.
    #[error("{}", property_lines(*owner, errors))]
    Properties {
        /// Whose.
        owner: PropertyOwner,
        /// Each of them; at least one.
        errors: Vec<PropertyError>,
    },
}

fn property_hint(error: &PropertyError) -> String {
    match error {
        PropertyError { property: "radiusserver" | "radiussecret", reason: PropertyReason::Missing } => {
            "radius needs a server: itadm modify-defaults -r ADDRESS -d".into()
        }
        PropertyError { reason: PropertyReason::SecretTooShort | PropertyReason::SecretTooLong, .. } => {
            "a secret has 12 to 255 bytes".into()
        }
        PropertyError { reason: PropertyReason::InvalidAddress, .. } => {
            "write an address as 192.0.2.5, 192.0.2.5:1812 or [2001:db8::5]:1812".into()
        }
        PropertyError { property, .. } => format!("'itadm' without arguments shows which values {property} takes"),
    }
}

fn property_lines(owner: PropertyOwner, errors: &[PropertyError]) -> String {
    let owner = match owner {
        PropertyOwner::Target => "target",
        PropertyOwner::Initiator => "initiator",
        PropertyOwner::Defaults => "global",
    };
    let mut lines = format!("Error setting {owner} properties: {}", errno::EINVAL);
    for error in errors {
        lines.push_str(&format!("\n\t{error}"));
    }
    lines
}

/// The numbers by which `itadm` reports failures, as Solaris and Linux have them alike.
mod errno {
    pub(super) const ENOENT: u8 = 2;
    pub(super) const E2BIG: u8 = 7;
    pub(super) const EBUSY: u8 = 16;
    pub(super) const EEXIST: u8 = 17;
    pub(super) const EINVAL: u8 = 22;
}

impl ConfigError {
    /// For a text that `reason` says is no name.
    pub(super) fn name(text: &str, reason: NameError) -> Self {
        match reason {
            NameError::Type => Self::UnknownNameType { name: text.into() },
            NameError::Form => Self::InvalidName { name: text.into() },
        }
    }

    /// The exit status of `itadm`: an errno value.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::TargetExists { .. }
            | Self::RenameTaken { .. }
            | Self::PortalInUse { .. }
            | Self::GroupExists { .. }
            | Self::InitiatorExists { .. } => errno::EEXIST,
            Self::TargetNotFound { .. } | Self::GroupNotFound { .. } | Self::InitiatorNotFound { .. } => errno::ENOENT,
            Self::TargetBusy { .. } | Self::GroupInUse { .. } => errno::EBUSY,
            Self::TooManyTargets { .. } | Self::TooManyGroups { .. } => errno::E2BIG,
            Self::UnknownNameType { .. }
            | Self::InvalidName { .. }
            | Self::InvalidGroupName { .. }
            | Self::CreateWithUnknownGroup { .. }
            | Self::ModifyWithUnknownGroup { .. }
            | Self::NoPortals
            | Self::InvalidPortal { .. }
            | Self::TooManyIsnsServers { .. }
            | Self::Properties { .. } => errno::EINVAL,
        }
    }

    /// What to do about it, where there is something to say beyond the message.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownNameType { .. } => {
                Some("an iSCSI name begins with iqn., eui. or naa., as in iqn.2026-11.org.example:disk1".into())
            }
            Self::InvalidName { .. } => Some(
                "iqn.yyyy-mm. and a reversed domain name, of letters, digits, '-', '.' and ':', 223 bytes at most; \
                 eui. and 16 or naa. and 16 or 32 hexadecimal digits"
                    .into(),
            ),
            Self::InvalidGroupName { .. } => {
                Some("a portal group's name has 1 to 255 bytes, no comma, and is not 'default'".into())
            }
            Self::TargetExists { name } => {
                Some(format!("'itadm modify-target' changes it; 'itadm list-target -v {name}' shows it"))
            }
            Self::CreateWithUnknownGroup { name } | Self::ModifyWithUnknownGroup { name } => {
                Some(format!("create it first: itadm create-tpg {name} ADDRESS[:PORT]"))
            }
            Self::NoPortals => Some("itadm create-tpg NAME ADDRESS[:PORT] ...; port 3260 unless given".into()),
            Self::InvalidPortal { .. } => {
                Some("give an address of this machine: 192.0.2.1, 192.0.2.1:3260 or [2001:db8::1]:3260".into())
            }
            Self::PortalInUse { group, .. } => {
                Some(format!("portal group {group} has it; a portal is in one group only"))
            }
            Self::GroupInUse { name, targets } => {
                Some(format!("{} used by {}; -f deletes it all the same", name, targets.join(", ")))
            }
            Self::Properties { errors, .. } => errors.first().map(property_hint),
            Self::RenameTaken { name } => Some(format!("'itadm list-target -v {name}' shows it; take another name")),
            Self::TooManyTargets { .. } => Some("one target is enough: views say which host sees which disk".into()),
            Self::TargetNotFound { .. } => Some("'itadm list-target' shows the targets".into()),
            Self::TargetBusy { .. } => Some("'lunette session list' shows who is logged in".into()),
            Self::TooManyGroups { .. } => Some("put several portals into one group: itadm create-tpg".into()),
            Self::GroupExists { name } => {
                Some(format!("'itadm list-tpg -v {name}' shows it; to change its portals, delete it and make it anew"))
            }
            Self::GroupNotFound { .. } => Some("'itadm list-tpg' shows the portal groups".into()),
            Self::InitiatorExists { .. } => Some("'itadm modify-initiator' changes it".into()),
            Self::InitiatorNotFound { .. } => {
                Some("'itadm list-initiator' shows the initiators; 'itadm create-initiator' makes an entry".into())
            }
            Self::TooManyIsnsServers { .. } => Some("servers that keep each other's data are one server here".into()),
        }
    }
}
