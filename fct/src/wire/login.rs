//! Service parameters: FLOGI, PLOGI, PRLI.

use stmf::provider::hba::Wwn;

use super::{WireError, be16, be32, be64, need};

/// The payload of FLOGI, PLOGI, PDISC and their accepts (FC-LS-4, N_Port login), as far as class 3 has a use for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginParameters {
    /// Port name.
    pub port_name: Wwn,
    /// Node name, or the fabric's.
    pub node_name: Wwn,
    /// The sender is an F_Port: this is a fabric's answer.
    pub f_port: bool,
    /// Buffer credit.
    pub credit: u16,
    /// Longest data field that the sender takes, in bytes: 256 to 2112.
    pub max_frame_payload: u16,
    /// Class 3 is offered.
    pub class3: bool,
    /// E_D_TOV in milliseconds.
    pub e_d_tov_ms: u32,
    /// R_A_TOV in milliseconds; only a fabric's answer has it.
    pub r_a_tov_ms: u32,
}

const COMMON_FEATURES_N_PORT: u16 = 0x8000;
const F_PORT: u16 = 0x1000;
const CLASS_VALID: u16 = 0x8000;
const CLASS3_AT: usize = 68;

impl LoginParameters {
    /// Length of the payload, its command word included.
    pub const LENGTH: usize = 116;

    /// The payload with `command` as its first byte.
    pub fn encode(&self, command: u8) -> Vec<u8> {
        let mut out = vec![0; Self::LENGTH];
        out[0] = command;
        out[4..6].copy_from_slice(&[0x20, 0x20]);
        out[6..8].copy_from_slice(&self.credit.to_be_bytes());
        // Continuously increasing relative offset; for a fabric's answer its own bit.
        let features = if self.f_port { F_PORT } else { COMMON_FEATURES_N_PORT };
        out[8..10].copy_from_slice(&features.to_be_bytes());
        out[10..12].copy_from_slice(&self.max_frame_payload.to_be_bytes());
        if self.f_port {
            out[12..16].copy_from_slice(&self.r_a_tov_ms.to_be_bytes());
        } else {
            // 255 concurrent sequences; relative offset by information category: all.
            out[12..16].copy_from_slice(&[0, 0xff, 0, 0x1f]);
        }
        out[16..20].copy_from_slice(&self.e_d_tov_ms.to_be_bytes());
        out[20..28].copy_from_slice(&self.port_name.0.to_be_bytes());
        out[28..36].copy_from_slice(&self.node_name.0.to_be_bytes());
        if self.class3 {
            let class3 = &mut out[CLASS3_AT..CLASS3_AT + 16];
            class3[..2].copy_from_slice(&CLASS_VALID.to_be_bytes());
            class3[6..8].copy_from_slice(&self.max_frame_payload.to_be_bytes());
            class3[8..10].copy_from_slice(&255u16.to_be_bytes());
            class3[12..14].copy_from_slice(&1u16.to_be_bytes());
        }
        out
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`WireError`]: too short, or a data field size that no port may have.
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        need(payload, Self::LENGTH)?;
        let features = be16(payload, 8);
        let common = be16(payload, 10) & 0x0fff;
        let class3 = be16(payload, CLASS3_AT) & CLASS_VALID != 0;
        let class_size = be16(payload, CLASS3_AT + 6) & 0x0fff;
        // The smaller of both counts; a fabric's answer may leave the class's out.
        let max_frame_payload = if class3 && class_size != 0 { common.min(class_size) } else { common };
        if !(256..=2112).contains(&max_frame_payload) {
            return Err(WireError::Field(10));
        }
        let f_port = features & F_PORT != 0;
        Ok(Self {
            port_name: Wwn(be64(payload, 20)),
            node_name: Wwn(be64(payload, 28)),
            f_port,
            credit: be16(payload, 6),
            // Frames are cut in words.
            max_frame_payload: max_frame_payload & !3,
            class3,
            e_d_tov_ms: be32(payload, 16),
            r_a_tov_ms: if f_port { be32(payload, 12) } else { 0 },
        })
    }
}

/// FCP's service parameters: a bit each (FCP-4, FCP service parameter page).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FcpService(pub u32);

impl FcpService {
    /// XFER_RDY before data of a read is left out; always so.
    pub const READ_XFER_RDY_DISABLED: Self = Self(0x0002);
    /// A target.
    pub const TARGET: Self = Self(0x0010);
    /// An initiator.
    pub const INITIATOR: Self = Self(0x0020);
    /// FCP_CONF may be asked for.
    pub const CONFIRMED_COMPLETION: Self = Self(0x0080);
    /// Sequences can be sent again: REC and SRR.
    pub const RETRY: Self = Self(0x0100);
    /// Tasks keep an identifier over retries.
    pub const TASK_RETRY_IDENTIFICATION: Self = Self(0x0200);
    /// REC is answered.
    pub const REC_SUPPORTED: Self = Self(0x0400);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all bits of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The one service parameter page of PRLI, PRLO, TPRLO or their accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrliPage {
    /// The protocol: 08h FCP.
    pub kind: u8,
    /// Flags and, in an accept, the response code in bits 11 to 8.
    pub flags: u16,
    /// Process associators, which nobody uses, and for TPRLO the port that logs out.
    pub words: [u32; 2],
    /// The service parameters, or for TPRLO a port identifier.
    pub parameters: u32,
}

impl PrliPage {
    /// Establish an image pair; in an accept: established.
    pub const IMAGE_PAIR: u16 = 0x2000;
    /// Response code: request executed.
    pub const EXECUTED: u16 = 0x0100;
    /// Response code: no resources for an image.
    pub const NO_RESOURCES: u16 = 0x0200;
    /// Response code: the image pair of that type does not exist, or cannot be made.
    pub const NO_IMAGE: u16 = 0x0700;
    /// TPRLO: a port is named.
    pub const THIRD_PARTY: u16 = 0x2000;
    /// TPRLO: every image pair.
    pub const GLOBAL: u16 = 0x1000;
    /// Bytes of a page.
    pub const LENGTH: usize = 16;

    /// The payload with `command` as its first byte.
    pub fn encode(&self, command: u8) -> Vec<u8> {
        let mut out = vec![command, Self::LENGTH as u8, 0, 4 + Self::LENGTH as u8, self.kind, 0];
        out.extend_from_slice(&self.flags.to_be_bytes());
        self.words.iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
        out.extend_from_slice(&self.parameters.to_be_bytes());
        out
    }

    /// Reads the first page of a payload.
    ///
    /// # Errors
    /// [`WireError`]: too short, or lengths that contradict each other.
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        need(payload, 4 + Self::LENGTH)?;
        if usize::from(payload[1]) != Self::LENGTH {
            return Err(WireError::Field(1));
        }
        let length = usize::from(be16(payload, 2));
        if length < 4 + Self::LENGTH || length > payload.len() || !(length - 4).is_multiple_of(Self::LENGTH) {
            return Err(WireError::Field(2));
        }
        Ok(Self {
            kind: payload[4],
            flags: be16(payload, 6),
            words: [be32(payload, 8), be32(payload, 12)],
            parameters: be32(payload, 16),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_parameters_survive_the_wire() {
        let parameters = LoginParameters {
            port_name: Wwn(0x2100_00e0_8b10_0163),
            node_name: Wwn(0x2000_00e0_8b10_0163),
            f_port: false,
            credit: 8,
            max_frame_payload: 2048,
            class3: true,
            e_d_tov_ms: 2000,
            r_a_tov_ms: 0,
        };
        let payload = parameters.encode(0x03);
        assert_eq!((payload.len(), payload[0]), (116, 3));
        assert_eq!(LoginParameters::decode(&payload), Ok(parameters));
        let fabric = LoginParameters { f_port: true, r_a_tov_ms: 10_000, ..parameters };
        assert_eq!(LoginParameters::decode(&fabric.encode(0x02)), Ok(fabric));
    }

    #[test]
    fn a_data_field_that_no_port_may_have_is_refused() {
        let mut payload = vec![0; 116];
        payload[10] = 0;
        payload[11] = 128;
        assert_eq!(LoginParameters::decode(&payload), Err(WireError::Field(10)));
        assert!(matches!(LoginParameters::decode(&payload[..115]), Err(WireError::Short { .. })));
    }

    #[test]
    fn pages_whose_lengths_contradict_are_refused() {
        let page = PrliPage { kind: 8, flags: PrliPage::IMAGE_PAIR, words: [0; 2], parameters: 0x22 };
        let payload = page.encode(0x20);
        assert_eq!(PrliPage::decode(&payload), Ok(page));
        for (at, value) in [(1, 12), (3, 16), (3, 24), (3, 36)] {
            let mut bad = payload.clone();
            bad[at] = value;
            assert!(PrliPage::decode(&bad).is_err(), "byte {at} = {value}");
        }
    }
}
