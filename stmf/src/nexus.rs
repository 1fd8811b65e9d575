//! I_T nexuses and tasks by name.

use std::fmt;

/// Names one I_T nexus (one session between an initiator port and a target port) in this process; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NexusId(pub u64);

/// Names a task among those of its nexus that are in flight. Chosen by the port provider, unique for the life of the
/// session (an initiator task tag may be reused early; this must not be).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskTag(pub u64);

/// Names a task in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    /// Whose task.
    pub nexus: NexusId,
    /// Which one.
    pub tag: TaskTag,
}

/// Who talks to whom: the two ends of an I_T nexus as a logical unit needs to know them.
#[derive(Clone, PartialEq, Eq)]
pub struct Nexus {
    /// The nexus's name.
    pub id: NexusId,
    /// The initiator's device name, folded: `iqn.` lower case, `wwn.`, `eui.`, `naa.` hexadecimal upper case.
    pub initiator: String,
    /// The initiator port's TransportID descriptor (SPC-5), with the iSCSI ISID where there is one: reservations
    /// survive a session under this name.
    pub transport_id: Vec<u8>,
    /// The target port's name: an iSCSI target name or `wwn.` and 16 hexadecimal digits.
    pub target: String,
    /// The target port's SCSI name: `<iSCSI name>,t,0x<tag>` for iSCSI, the same as `target` elsewhere.
    pub target_port_name: String,
    /// Relative target port identifier, from 1.
    pub relative_target_port: u16,
    /// The SCSI protocol identifier (SPC-5): 0 FCP, 5 iSCSI.
    pub protocol: u8,
}

impl fmt::Debug for Nexus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nexus({}: {} -> {})", self.id.0, self.initiator, self.target_port_name)
    }
}
