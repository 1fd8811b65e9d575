//! TransportID: the name of an initiator port as persistent reservations carry it.

use core::fmt;
use std::sync::Arc;

use crate::bytes_util::{be16, be64};
use crate::designator::ProtocolId;

/// The name of an initiator port, independent of any session (SPC-5, TransportID identifiers).
///
/// Cheap to clone. iSCSI names compare byte for byte; [`TransportId::iscsi`] and [`TransportId::decode`] fold ASCII
/// letters to lower case, as RFC 3722 has it, so that names of either origin are equal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TransportId {
    /// An iSCSI initiator device, all its ports: format 00b.
    Iscsi {
        /// The iSCSI name, at most 223 bytes.
        name: Arc<str>,
    },
    /// One iSCSI initiator port: format 01b.
    IscsiPort {
        /// The iSCSI name, at most 223 bytes.
        name: Arc<str>,
        /// The initiator session identifier.
        isid: [u8; 6],
    },
    /// A Fibre Channel port name (WWPN).
    FibreChannel(u64),
    /// A SAS address.
    Sas(u64),
    /// An SRP initiator port identifier.
    Srp([u8; 16]),
    /// A protocol or format this crate does not know, kept whole (24 bytes).
    Other([u8; 24]),
}

/// Why bytes are no TransportID; the offset is that of the byte in error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of the TransportID is not as the standard has it")]
pub struct TransportIdError {
    /// Where, counted from the beginning of this TransportID.
    pub offset: usize,
}

const LENGTH: usize = 24;
/// Longest name field: 223 bytes, the ISID suffix of 17, a NUL, all padded to four.
const MAX_ISCSI_ADDITIONAL: usize = 244;

impl TransportId {
    /// The initiator device `name`, letters folded to lower case.
    pub fn iscsi(name: &str) -> Self {
        Self::Iscsi { name: name.to_ascii_lowercase().into() }
    }

    /// The initiator port `name` with `isid`, letters folded to lower case.
    pub fn iscsi_port(name: &str, isid: [u8; 6]) -> Self {
        Self::IscsiPort { name: name.to_ascii_lowercase().into(), isid }
    }

    /// The protocol it belongs to.
    pub fn protocol(&self) -> ProtocolId {
        match self {
            Self::Iscsi { .. } | Self::IscsiPort { .. } => ProtocolId::ISCSI,
            Self::FibreChannel(_) => ProtocolId::FIBRE_CHANNEL,
            Self::Sas(_) => ProtocolId::SAS,
            Self::Srp(_) => ProtocolId::SRP,
            Self::Other(bytes) => ProtocolId(bytes[0] & 0x0f),
        }
    }

    /// Whether a registration made for `self` is one of the initiator port `port`: the same name, or an iSCSI device
    /// name (no ISID) that covers the port.
    pub fn covers(&self, port: &Self) -> bool {
        match (self, port) {
            (Self::Iscsi { name }, Self::IscsiPort { name: of_port, .. }) => name == of_port,
            _ => self == port,
        }
    }

    /// Appends the encoded form: 24 bytes, or for iSCSI 4 and a multiple of four.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            Self::Iscsi { name } => encode_iscsi(out, 0x05, name, None),
            Self::IscsiPort { name, isid } => encode_iscsi(out, 0x45, name, Some(*isid)),
            Self::FibreChannel(name) => {
                out.resize(start + LENGTH, 0);
                out[start + 8..start + 16].copy_from_slice(&name.to_be_bytes());
            }
            Self::Sas(address) => {
                out.resize(start + LENGTH, 0);
                out[start] = 0x06;
                out[start + 4..start + 12].copy_from_slice(&address.to_be_bytes());
            }
            Self::Srp(id) => {
                out.resize(start + LENGTH, 0);
                out[start] = 0x04;
                out[start + 8..start + 24].copy_from_slice(id);
            }
            Self::Other(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// Takes one TransportID from the front of `data`: it and the bytes it took.
    ///
    /// # Errors
    /// [`TransportIdError`] with the byte in error when `data` ends inside, a length is no multiple of four, a name is
    /// no UTF-8 or not ended by NUL, or an ISID is malformed.
    pub fn decode(data: &[u8]) -> Result<(Self, usize), TransportIdError> {
        let error = |offset| TransportIdError { offset };
        let fixed: Result<&[u8; LENGTH], _> = data.first_chunk().ok_or(error(0));
        let first = *data.first().ok_or(error(0))?;
        match first {
            0x05 | 0x45 => decode_iscsi(data, first == 0x45),
            0x85 | 0xc5 => Err(error(0)),
            0x00 => Ok((Self::FibreChannel(be64(fixed?, 8).ok_or(error(8))?), LENGTH)),
            0x06 => Ok((Self::Sas(be64(fixed?, 4).ok_or(error(4))?), LENGTH)),
            0x04 => {
                let mut id = [0; 16];
                id.copy_from_slice(&fixed?[8..]);
                Ok((Self::Srp(id), LENGTH))
            }
            _ => Ok((Self::Other(*fixed?), LENGTH)),
        }
    }
}

fn encode_iscsi(out: &mut Vec<u8>, first: u8, name: &str, isid: Option<[u8; 6]>) {
    let start = out.len();
    out.extend_from_slice(&[first, 0, 0, 0]);
    out.extend_from_slice(&name.as_bytes()[..name.len().min(223)]);
    if let Some(isid) = isid {
        out.extend_from_slice(b",i,0x");
        for byte in isid {
            out.extend_from_slice(format!("{byte:02x}").as_bytes());
        }
    }
    out.push(0);
    // The name field is at least 20 bytes and a multiple of four.
    let length = (out.len() - start - 4).next_multiple_of(4).max(20);
    out.resize(start + 4 + length, 0);
    out[start + 2..start + 4].copy_from_slice(&(length as u16).to_be_bytes());
}

fn decode_iscsi(data: &[u8], port: bool) -> Result<(TransportId, usize), TransportIdError> {
    let error = |offset| TransportIdError { offset };
    let length = usize::from(be16(data, 2).ok_or(error(2))?);
    if !(20..=MAX_ISCSI_ADDITIONAL).contains(&length) || !length.is_multiple_of(4) {
        return Err(error(2));
    }
    let field = data.get(4..4 + length).ok_or(error(2))?;
    let end = field.iter().position(|&byte| byte == 0).ok_or(error(4))?;
    let text = core::str::from_utf8(&field[..end]).map_err(|_| error(4))?;
    let id = if port {
        let (name, isid) = text.split_once(",i,0x").ok_or(error(4))?;
        if name.is_empty() || name.len() > 223 || name.contains(',') || isid.len() > 12 || isid.is_empty() {
            return Err(error(4));
        }
        if !isid.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(error(4));
        }
        let isid = u64::from_str_radix(isid, 16).map_err(|_| error(4))?;
        let [_, _, a, b, c, d, e, f] = isid.to_be_bytes();
        TransportId::iscsi_port(name, [a, b, c, d, e, f])
    } else {
        if text.is_empty() || text.len() > 223 || text.contains(',') {
            return Err(error(4));
        }
        TransportId::iscsi(text)
    };
    Ok((id, 4 + length))
}

impl fmt::Display for TransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iscsi { name } => f.write_str(name),
            Self::IscsiPort { name, isid } => {
                write!(f, "{name},i,0x")?;
                isid.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::FibreChannel(name) => write!(f, "wwn.{name:016X}"),
            Self::Sas(address) => write!(f, "naa.{address:016x}"),
            Self::Srp(id) => {
                f.write_str("srp.")?;
                id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Other(bytes) => write!(f, "protocol {:#x}", bytes[0] & 0x0f),
        }
    }
}

impl fmt::Debug for TransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransportId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(id: &TransportId, length: usize) {
        let mut out = Vec::new();
        id.encode(&mut out);
        assert_eq!(out.len(), length);
        assert_eq!(TransportId::decode(&out), Ok((id.clone(), length)));
    }

    /// Folded to lower case, such a name would hold a second ISID, and what was kept of it could not be read again.
    #[test]
    fn a_port_whose_name_has_a_comma_is_refused() {
        let mut bytes = vec![0x45, 0, 0, 32];
        bytes.extend_from_slice(b"iqn.test:a,i,0X8.b,i,0x8\0\0\0\0\0\0\0\0");
        assert_eq!(TransportId::decode(&bytes), Err(TransportIdError { offset: 4 }));
    }

    #[test]
    fn each_protocol_round_trips() {
        round_trip(&TransportId::iscsi("iqn.x:y"), 24);
        round_trip(&TransportId::iscsi_port("iqn.2026-11.org.example:host", [0x80, 1, 2, 3, 4, 5]), 52);
        round_trip(&TransportId::FibreChannel(0x2100_00e0_8b10_0163), 24);
        round_trip(&TransportId::Sas(0x5000_0000_0000_0001), 24);
        round_trip(&TransportId::Srp([7; 16]), 24);
        let mut other = [9; 24];
        other[0] = 0x0a;
        round_trip(&TransportId::Other(other), 24);
    }

    #[test]
    fn a_device_name_covers_its_ports() {
        let device = TransportId::iscsi("IQN.X:Y");
        assert!(device.covers(&TransportId::iscsi_port("iqn.x:y", [1; 6])));
        assert!(!device.covers(&TransportId::iscsi_port("iqn.x:z", [1; 6])));
        assert!(!TransportId::iscsi_port("iqn.x:y", [1; 6]).covers(&device));
    }

    #[test]
    fn malformed_names_tell_the_byte() {
        assert_eq!(TransportId::decode(&[5, 0, 0, 19]), Err(TransportIdError { offset: 2 }));
        assert_eq!(TransportId::decode(&[5, 0, 0, 20, 1]), Err(TransportIdError { offset: 2 }));
        let mut unended = vec![5, 0, 0, 20];
        unended.extend_from_slice(&[b'a'; 20]);
        assert_eq!(TransportId::decode(&unended), Err(TransportIdError { offset: 4 }));
    }
}
