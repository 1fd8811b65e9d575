//! The frame header.

use std::fmt;
use stmf::provider::hba::PortId;

use super::{be16, be24, be32};

/// R_CTL: what kind of frame it is (FC-FS-5, R_CTL field).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RoutingControl(pub u8);

impl RoutingControl {
    /// Solicited data: FCP_DATA.
    pub const DATA: Self = Self(0x01);
    /// Unsolicited control: a request of a generic service.
    pub const CT_REQUEST: Self = Self(0x02);
    /// Solicited control: the answer of a generic service; FCP_CONF.
    pub const SOLICITED_CONTROL: Self = Self(0x03);
    /// Data descriptor: FCP_XFER_RDY.
    pub const TRANSFER_READY: Self = Self(0x05);
    /// Unsolicited command: FCP_CMND.
    pub const COMMAND: Self = Self(0x06);
    /// Command status: FCP_RSP.
    pub const RESPONSE: Self = Self(0x07);
    /// Extended link service request.
    pub const ELS_REQUEST: Self = Self(0x22);
    /// Extended link service reply.
    pub const ELS_REPLY: Self = Self(0x23);
    /// FC-4 link service request: SRR.
    pub const FC4_REQUEST: Self = Self(0x32);
    /// FC-4 link service reply.
    pub const FC4_REPLY: Self = Self(0x33);
    /// Basic link service: no operation.
    pub const NOP: Self = Self(0x80);
    /// Basic link service: abort sequence, or with it the exchange.
    pub const ABTS: Self = Self(0x81);
    /// Basic accept.
    pub const BA_ACC: Self = Self(0x84);
    /// Basic reject.
    pub const BA_RJT: Self = Self(0x85);

    /// Whether it is a basic link service.
    pub const fn is_basic(self) -> bool {
        self.0 & 0xf0 == 0x80
    }
}

impl fmt::Debug for RoutingControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R_CTL({:02x})", self.0)
    }
}

/// TYPE: whose payload it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Type(pub u8);

impl Type {
    /// Basic link services.
    pub const BLS: Self = Self(0x00);
    /// Extended link services.
    pub const ELS: Self = Self(0x01);
    /// FCP.
    pub const FCP: Self = Self(0x08);
    /// Generic services by common transport.
    pub const CT: Self = Self(0x20);
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TYPE({:02x})", self.0)
    }
}

/// F_CTL: 24 bits (FC-FS-5, F_CTL field).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FrameControl(pub u32);

impl FrameControl {
    /// The sender is the responder of the exchange.
    pub const RESPONDER: Self = Self(1 << 23);
    /// The sender is the recipient of the sequence: link control and basic replies.
    pub const SEQUENCE_RECIPIENT: Self = Self(1 << 22);
    /// The first sequence of the exchange.
    pub const FIRST_SEQUENCE: Self = Self(1 << 21);
    /// The last sequence of the exchange.
    pub const LAST_SEQUENCE: Self = Self(1 << 20);
    /// The last frame of the sequence.
    pub const END_SEQUENCE: Self = Self(1 << 19);
    /// The other side sends next.
    pub const TRANSFER_INITIATIVE: Self = Self(1 << 16);
    /// PARAMETER is a relative offset.
    pub const RELATIVE_OFFSET: Self = Self(1 << 3);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This, and `other` if `condition`.
    #[must_use]
    pub const fn and_if(self, condition: bool, other: Self) -> Self {
        if condition { self.and(other) } else { self }
    }

    /// Whether all bits of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Fill bytes at the end of the data field, 0 to 3.
    pub const fn fill_bytes(self) -> usize {
        (self.0 & 3) as usize
    }
}

impl fmt::Debug for FrameControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "F_CTL({:06x})", self.0)
    }
}

/// The header of a frame: 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What kind of frame.
    pub r_ctl: RoutingControl,
    /// To whom.
    pub d_id: PortId,
    /// Class specific control.
    pub cs_ctl: u8,
    /// From whom.
    pub s_id: PortId,
    /// Whose payload.
    pub kind: Type,
    /// Frame control.
    pub f_ctl: FrameControl,
    /// The sequence, unique among those that are open between the two ports.
    pub seq_id: u8,
    /// Which optional headers stand before the payload; none are used here.
    pub df_ctl: u8,
    /// The frame's number in its sequence (or exchange), modulo 65536.
    pub seq_cnt: u16,
    /// The exchange's name at its originator.
    pub ox_id: u16,
    /// The exchange's name at its responder; FFFFh when not given.
    pub rx_id: u16,
    /// Relative offset of the payload, or what the kind of frame says.
    pub parameter: u32,
}

/// An exchange's name that is not given.
pub(crate) const UNASSIGNED: u16 = 0xffff;

impl FrameHeader {
    /// The wire form.
    pub fn encode(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[0] = self.r_ctl.0;
        bytes[1..4].copy_from_slice(&self.d_id.to_bytes());
        bytes[4] = self.cs_ctl;
        bytes[5..8].copy_from_slice(&self.s_id.to_bytes());
        bytes[8] = self.kind.0;
        bytes[9..12].copy_from_slice(&self.f_ctl.0.to_be_bytes()[1..]);
        bytes[12] = self.seq_id;
        bytes[13] = self.df_ctl;
        bytes[14..16].copy_from_slice(&self.seq_cnt.to_be_bytes());
        bytes[16..18].copy_from_slice(&self.ox_id.to_be_bytes());
        bytes[18..20].copy_from_slice(&self.rx_id.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.parameter.to_be_bytes());
        bytes
    }

    /// Reads the wire form; every 24 bytes are a header.
    pub fn decode(bytes: &[u8; 24]) -> Self {
        Self {
            r_ctl: RoutingControl(bytes[0]),
            d_id: PortId(be24(bytes, 1)),
            cs_ctl: bytes[4],
            s_id: PortId(be24(bytes, 5)),
            kind: Type(bytes[8]),
            f_ctl: FrameControl(be24(bytes, 9)),
            seq_id: bytes[12],
            df_ctl: bytes[13],
            seq_cnt: be16(bytes, 14),
            ox_id: be16(bytes, 16),
            rx_id: be16(bytes, 18),
            parameter: be32(bytes, 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_survives_the_wire() {
        let mut bytes = [0; 24];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = index as u8 * 7 + 3;
        }
        assert_eq!(FrameHeader::decode(&bytes).encode(), bytes);
    }

    #[test]
    fn a_command_frame_reads_as_the_standard_has_it() {
        // FCP_CMND from 010300h to 010400h: first sequence, end of sequence, initiative passed.
        let bytes = [
            0x06, 0x01, 0x04, 0x00, 0, 0x01, 0x03, 0x00, 0x08, 0x29, 0, 0, 0x05, 0, 0, 0, 0x12, 0x34, 0xff, 0xff, 0, 0,
            0, 0,
        ];
        let header = FrameHeader::decode(&bytes);
        assert_eq!((header.r_ctl, header.kind), (RoutingControl::COMMAND, Type::FCP));
        assert_eq!((header.d_id, header.s_id), (PortId(0x01_0400), PortId(0x01_0300)));
        assert!(
            header.f_ctl.has(
                FrameControl::FIRST_SEQUENCE.and(FrameControl::END_SEQUENCE).and(FrameControl::TRANSFER_INITIATIVE)
            )
        );
        assert!(!header.f_ctl.has(FrameControl::RESPONDER));
        assert_eq!((header.ox_id, header.rx_id), (0x1234, UNASSIGNED));
    }
}
