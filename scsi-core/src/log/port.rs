//! Page 18h: Protocol Specific Port.

use super::{LogPage, LogPageId, LogParameter};
use crate::designator::ProtocolId;

/// The target ports with their protocol; iSCSI defines nothing more to tell.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ProtocolSpecificPorts {
    /// (relative target port identifier, protocol), ascending.
    pub ports: Vec<(u16, ProtocolId)>,
}

impl ProtocolSpecificPorts {
    /// The page.
    pub fn page(&self) -> LogPage {
        let parameter =
            |&(port, protocol): &(u16, ProtocolId)| LogParameter::list(port, vec![protocol.0 & 0x0f, 0, 0, 0]);
        LogPage { id: LogPageId::PROTOCOL_SPECIFIC_PORT, parameters: self.ports.iter().map(parameter).collect() }
    }
}
