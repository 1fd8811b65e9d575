//! Who reserves, and how.

use core::fmt;
use core::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::transport_id::TransportId;

/// A target port, known by its name. Its relative identifier may change over a restart and does not count when ports
/// are compared.
#[derive(Clone)]
pub struct TargetPort {
    /// SCSI name of the port: `<iSCSI name>,t,0x<tag>`, `wwn.` and 16 digits.
    pub name: Arc<str>,
    /// RELATIVE TARGET PORT IDENTIFIER, 1 to 65535.
    pub relative_id: u16,
}

impl PartialEq for TargetPort {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for TargetPort {}

impl Hash for TargetPort {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for TargetPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.relative_id)
    }
}

/// An I_T nexus by the names of its two ports: what a registration belongs to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct NexusName {
    /// The initiator port.
    pub initiator: TransportId,
    /// The target port.
    pub port: TargetPort,
}

impl NexusName {
    /// The nexus of these ports.
    pub fn new(initiator: TransportId, port_name: &str, relative_id: u16) -> Self {
        Self { initiator, port: TargetPort { name: port_name.into(), relative_id } }
    }
}

impl fmt::Debug for NexusName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {:?}", self.initiator, self.port)
    }
}

/// The type of a persistent reservation (SPC-5, TYPE field).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReservationType {
    /// 1h: only the holder writes, everybody reads.
    WriteExclusive,
    /// 3h: only the holder reads and writes.
    ExclusiveAccess,
    /// 5h: registrants write, everybody reads.
    WriteExclusiveRegistrantsOnly,
    /// 6h: registrants read and write.
    ExclusiveAccessRegistrantsOnly,
    /// 7h: as 5h, and every registrant holds the reservation.
    WriteExclusiveAllRegistrants,
    /// 8h: as 6h, and every registrant holds the reservation.
    ExclusiveAccessAllRegistrants,
}

impl ReservationType {
    /// Every type.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// The four-bit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::WriteExclusive => 1,
            Self::ExclusiveAccess => 3,
            Self::WriteExclusiveRegistrantsOnly => 5,
            Self::ExclusiveAccessRegistrantsOnly => 6,
            Self::WriteExclusiveAllRegistrants => 7,
            Self::ExclusiveAccessAllRegistrants => 8,
        }
    }

    /// The type of a code, `None` for reserved and obsolete ones.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::WriteExclusive,
            3 => Self::ExclusiveAccess,
            5 => Self::WriteExclusiveRegistrantsOnly,
            6 => Self::ExclusiveAccessRegistrantsOnly,
            7 => Self::WriteExclusiveAllRegistrants,
            8 => Self::ExclusiveAccessAllRegistrants,
            _ => return None,
        })
    }

    /// Others cannot even read.
    pub const fn is_exclusive_access(self) -> bool {
        matches!(
            self,
            Self::ExclusiveAccess | Self::ExclusiveAccessRegistrantsOnly | Self::ExclusiveAccessAllRegistrants
        )
    }

    /// Registrants have the access of the holder: registrants only and all registrants types.
    pub const fn admits_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// Every registrant holds the reservation.
    pub const fn is_all_registrants(self) -> bool {
        matches!(self, Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants)
    }
}
