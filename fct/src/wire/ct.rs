//! Common transport and the name server (FC-GS-8).

use stmf::provider::hba::{PortId, Wwn};

use super::{WireError, be16, be24, be64, need};

/// A command or response code of the name server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CtCommand(pub u16);

impl CtCommand {
    /// Get port name by identifier.
    pub const GPN_ID: Self = Self(0x0112);
    /// Get node name by identifier.
    pub const GNN_ID: Self = Self(0x0113);
    /// Get symbolic port name by identifier.
    pub const GSPN_ID: Self = Self(0x0118);
    /// Get identifier by port name.
    pub const GID_PN: Self = Self(0x0121);
    /// Get identifiers by FC-4 type.
    pub const GID_FT: Self = Self(0x0171);
    /// Register node name.
    pub const RNN_ID: Self = Self(0x0213);
    /// Register class of service.
    pub const RCS_ID: Self = Self(0x0214);
    /// Register FC-4 types.
    pub const RFT_ID: Self = Self(0x0217);
    /// Register symbolic port name.
    pub const RSPN_ID: Self = Self(0x0218);
    /// Register FC-4 features.
    pub const RFF_ID: Self = Self(0x021f);
    /// Register symbolic node name.
    pub const RSNN_NN: Self = Self(0x0239);
    /// Rejected.
    pub const REJECT: Self = Self(0x8001);
    /// Accepted.
    pub const ACCEPT: Self = Self(0x8002);
}

/// Why the name server rejects, and what exactly is the matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CtReason(pub u8, pub u8);

impl CtReason {
    /// The name server cannot: it has no such port.
    pub const NOT_REGISTERED: Self = Self(0x09, 0x01);
    /// The command is not supported.
    pub const NOT_SUPPORTED: Self = Self(0x0b, 0x00);
    /// The information unit is too short.
    pub const INVALID_SIZE: Self = Self(0x03, 0x00);
}

/// The preamble of a common transport information unit: 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CtHeader {
    /// What it is.
    pub command: CtCommand,
    /// In a request: the longest answer in words, 0 for any; in an answer: what did not fit.
    pub words: u16,
    /// Why, in a rejection.
    pub reason: CtReason,
}

impl CtHeader {
    /// Bytes of the preamble.
    pub const LENGTH: usize = 16;
    const DIRECTORY: u8 = 0xfc;
    const NAME_SERVER: u8 = 0x02;

    /// The preamble, to which the body is appended.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1, 0, 0, 0, Self::DIRECTORY, Self::NAME_SERVER, 0, 0];
        out.extend_from_slice(&self.command.0.to_be_bytes());
        out.extend_from_slice(&self.words.to_be_bytes());
        out.extend_from_slice(&[0, self.reason.0, self.reason.1, 0]);
        out
    }

    /// Reads the preamble.
    ///
    /// # Errors
    /// [`WireError`]: too short, or not for the name server.
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        need(payload, Self::LENGTH)?;
        if payload[4] != Self::DIRECTORY {
            return Err(WireError::Field(4));
        }
        Ok(Self {
            command: CtCommand(be16(payload, 8)),
            words: be16(payload, 10),
            reason: CtReason(payload[13], payload[14]),
        })
    }

    fn request(command: CtCommand) -> Vec<u8> {
        Self { command, words: 0, reason: CtReason::default() }.encode()
    }

    /// A request about one port.
    pub fn about(command: CtCommand, port_id: PortId) -> Vec<u8> {
        let mut out = Self::request(command);
        out.push(0);
        out.extend_from_slice(&port_id.to_bytes());
        out
    }

    /// GID_PN.
    pub fn find(port_name: Wwn) -> Vec<u8> {
        let mut out = Self::request(CtCommand::GID_PN);
        out.extend_from_slice(&port_name.0.to_be_bytes());
        out
    }

    /// GID_FT for FCP.
    pub fn find_fcp() -> Vec<u8> {
        let mut out = Self::request(CtCommand::GID_FT);
        out.extend_from_slice(&[0, 0, 0, 0x08]);
        out
    }

    /// RNN_ID.
    pub fn register_node(port_id: PortId, node_name: Wwn) -> Vec<u8> {
        let mut out = Self::about(CtCommand::RNN_ID, port_id);
        out.extend_from_slice(&node_name.0.to_be_bytes());
        out
    }

    /// RCS_ID: class 3.
    pub fn register_class(port_id: PortId) -> Vec<u8> {
        let mut out = Self::about(CtCommand::RCS_ID, port_id);
        out.extend_from_slice(&[0, 0, 0, 0x08]);
        out
    }

    /// RFT_ID: FCP.
    pub fn register_fcp(port_id: PortId) -> Vec<u8> {
        let mut out = Self::about(CtCommand::RFT_ID, port_id);
        let mut types = [0; 32];
        types[2] = 0x01;
        out.extend_from_slice(&types);
        out
    }

    /// RFF_ID: target, initiator, or both.
    pub fn register_features(port_id: PortId, target: bool, initiator: bool) -> Vec<u8> {
        let mut out = Self::about(CtCommand::RFF_ID, port_id);
        out.extend_from_slice(&[0, 0, u8::from(target) | u8::from(initiator) << 1, 0x08]);
        out
    }

    /// RSPN_ID; the name is cut at 255 bytes.
    pub fn register_symbolic_port(port_id: PortId, name: &str) -> Vec<u8> {
        let mut out = Self::about(CtCommand::RSPN_ID, port_id);
        push_name(&mut out, name);
        out
    }

    /// RSNN_NN; the name is cut at 255 bytes.
    pub fn register_symbolic_node(node_name: Wwn, name: &str) -> Vec<u8> {
        let mut out = Self::request(CtCommand::RSNN_NN);
        out.extend_from_slice(&node_name.0.to_be_bytes());
        push_name(&mut out, name);
        out
    }

    /// The name in the answer to GSPN_ID: what is printable of it, `None` for an empty one.
    pub fn symbolic_name(payload: &[u8]) -> Option<String> {
        let body = payload.get(Self::LENGTH..)?;
        let length = usize::from(*body.first()?);
        let text = String::from_utf8_lossy(body.get(1..1 + length)?);
        let text: String = text.trim_end_matches('\0').chars().filter(|c| !c.is_control()).collect();
        (!text.is_empty()).then_some(text)
    }

    /// The identifiers in the answer to GID_FT, at most `limit`.
    pub fn port_ids(payload: &[u8], limit: usize) -> Vec<PortId> {
        let mut ids = Vec::new();
        for entry in payload.get(Self::LENGTH..).unwrap_or_default().chunks_exact(4).take(limit) {
            ids.push(PortId(be24(entry, 1)));
            if entry[0] & 0x80 != 0 {
                break;
            }
        }
        ids
    }

    /// The port that a request is about.
    pub(crate) fn subject(payload: &[u8]) -> Option<PortId> {
        payload.get(Self::LENGTH..Self::LENGTH + 4).map(|entry| PortId(be24(entry, 1)))
    }

    /// The eight-byte name that a body begins with.
    pub(crate) fn name(payload: &[u8]) -> Option<Wwn> {
        payload.get(Self::LENGTH..Self::LENGTH + 8).map(|name| Wwn(be64(name, 0)))
    }
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    let name = &name.as_bytes()[..name.len().min(255)];
    out.push(name.len() as u8);
    out.extend_from_slice(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_have_the_standards_layout() {
        let id = PortId(0x01_0300);
        let fcp = CtHeader::register_fcp(id);
        assert_eq!((fcp.len(), &fcp[16..20], fcp[22]), (52, &[0, 1, 3, 0][..], 1));
        assert_eq!(CtHeader::decode(&fcp).unwrap().command, CtCommand::RFT_ID);
        assert_eq!(CtHeader::register_features(id, true, false)[20..], [0, 0, 1, 8]);
        assert_eq!(CtHeader::subject(&fcp), Some(id));
    }

    #[test]
    fn lists_end_at_the_last_entry_or_the_limit() {
        let mut answer = CtHeader { command: CtCommand::ACCEPT, words: 0, reason: CtReason::default() }.encode();
        answer.extend_from_slice(&[0, 1, 2, 3, 0x80, 1, 2, 4, 0, 9, 9, 9]);
        assert_eq!(CtHeader::port_ids(&answer, 100), [PortId(0x01_0203), PortId(0x01_0204)]);
        assert_eq!(CtHeader::port_ids(&answer, 1).len(), 1);
    }
}
