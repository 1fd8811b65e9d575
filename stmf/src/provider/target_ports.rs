//! Target ports in their groups: what asymmetric logical unit access (ALUA) tells initiators about paths.

use scsi_core::data::AsymmetricAccessState;

/// A target port group: target ports by which a unit is reached equally well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortGroup {
    /// TARGET PORT GROUP: 0 for ports of targets in no target group, else the target group's number.
    pub id: u16,
    /// The state that the administrator has given.
    pub state: AsymmetricAccessState,
    /// The group that initiators should like best.
    pub preferred: bool,
    /// Relative target port identifiers, ascending.
    pub ports: Vec<u16>,
}

/// All target ports, in their groups. The same for every unit; states that an initiator has set for one unit are that
/// unit's.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TargetPorts {
    /// The groups that have ports, ascending by number.
    pub groups: Vec<PortGroup>,
}

impl TargetPorts {
    /// The group of a relative target port.
    pub fn group_of(&self, port: u16) -> Option<&PortGroup> {
        self.groups.iter().find(|group| group.ports.contains(&port))
    }

    /// The group of that number.
    pub fn group(&self, id: u16) -> Option<&PortGroup> {
        self.groups.iter().find(|group| group.id == id)
    }
}
