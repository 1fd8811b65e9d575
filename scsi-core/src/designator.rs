//! Designation descriptors: the names of VPD page 83h, also used by EXTENDED COPY and TransportID peers.

use crate::bytes_util::{be16, be32};
use crate::guid::Guid;

/// A transport protocol's number (SPC-5, PROTOCOL IDENTIFIER field).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ProtocolId(pub u8);

impl ProtocolId {
    /// Fibre Channel (FCP).
    pub const FIBRE_CHANNEL: Self = Self(0x0);
    /// SCSI RDMA Protocol.
    pub const SRP: Self = Self(0x4);
    /// Internet SCSI.
    pub const ISCSI: Self = Self(0x5);
    /// Serial Attached SCSI.
    pub const SAS: Self = Self(0x6);
    /// No specific protocol.
    pub const NONE: Self = Self(0xf);
}

/// What a designator names (SPC-5, ASSOCIATION field).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Association {
    /// The logical unit.
    LogicalUnit,
    /// The target port that received the command.
    TargetPort,
    /// The target device that holds the logical unit.
    TargetDevice,
    /// The reserved value 11b.
    Reserved,
}

/// The name itself, by its type.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum DesignatorName {
    /// Type 0: vendor specific bytes.
    VendorSpecific(Vec<u8>),
    /// Type 1: eight bytes of vendor, then what the vendor chose.
    T10Vendor {
        /// T10 vendor identification, at most 8 ASCII characters.
        vendor: String,
        /// What makes it unique; binary when it is not ASCII.
        specific: Vec<u8>,
    },
    /// Type 2: EUI-64 in its 8, 12 or 16-byte form.
    Eui64(Vec<u8>),
    /// Type 3: NAA 6, sixteen bytes.
    Naa6(Guid),
    /// Type 3: eight bytes of NAA 2, 3 or 5 (Fibre Channel and SAS names).
    Naa(u64),
    /// Type 4: relative target port identifier.
    RelativeTargetPort(u16),
    /// Type 5: target port group.
    TargetPortGroup(u16),
    /// Type 6: logical unit group.
    LogicalUnitGroup(u16),
    /// Type 8: SCSI name string (`iqn.`, `eui.`, `naa.`).
    ScsiName(String),
    /// Any other type, or a known one whose length is not as the standard has it.
    Other {
        /// CODE SET.
        code_set: u8,
        /// DESIGNATOR TYPE.
        kind: u8,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// One designation descriptor.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Designator {
    /// What is named.
    pub association: Association,
    /// The protocol the name belongs to; only meaningful for target ports and devices (PIV bit).
    pub protocol: Option<ProtocolId>,
    /// The name.
    pub name: DesignatorName,
}

const CODE_SET_BINARY: u8 = 1;
const CODE_SET_ASCII: u8 = 2;
const CODE_SET_UTF8: u8 = 3;

impl Designator {
    /// The longest descriptor: four bytes of header and 255 of name.
    pub const MAX_LENGTH: usize = 4 + 255;

    /// The logical unit's NAA-6 name.
    pub const fn logical_unit(guid: Guid) -> Self {
        Self { association: Association::LogicalUnit, protocol: None, name: DesignatorName::Naa6(guid) }
    }

    /// A T10 vendor identification based name of the logical unit.
    pub fn t10_vendor(vendor: &str, specific: &str) -> Self {
        let name = DesignatorName::T10Vendor { vendor: vendor.to_owned(), specific: specific.as_bytes().to_vec() };
        Self { association: Association::LogicalUnit, protocol: None, name }
    }

    /// A SCSI name string of the target port: for iSCSI the target name, `,t,0x` and the portal group tag.
    pub fn iscsi_target_port(target_name: &str, portal_group_tag: u16) -> Self {
        Self {
            association: Association::TargetPort,
            protocol: Some(ProtocolId::ISCSI),
            name: DesignatorName::ScsiName(format!("{target_name},t,0x{portal_group_tag:04x}")),
        }
    }

    /// A SCSI name string of the target device: for iSCSI the target name.
    pub fn iscsi_target_device(target_name: &str) -> Self {
        Self {
            association: Association::TargetDevice,
            protocol: Some(ProtocolId::ISCSI),
            name: DesignatorName::ScsiName(target_name.to_owned()),
        }
    }

    /// The relative port identifier of the target port that received the command, 1..=65535.
    pub const fn relative_target_port(protocol: ProtocolId, port: u16) -> Self {
        let name = DesignatorName::RelativeTargetPort(port);
        Self { association: Association::TargetPort, protocol: Some(protocol), name }
    }

    /// The port group of the target port that received the command.
    pub const fn target_port_group(protocol: ProtocolId, group: u16) -> Self {
        let name = DesignatorName::TargetPortGroup(group);
        Self { association: Association::TargetPort, protocol: Some(protocol), name }
    }

    /// Appends the descriptor to `out`. A name longer than 255 bytes is cut at that (an iSCSI name has at most 223).
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        let (code_set, kind) = match &self.name {
            DesignatorName::VendorSpecific(bytes) => {
                out.extend_from_slice(bytes);
                (CODE_SET_BINARY, 0)
            }
            DesignatorName::T10Vendor { vendor, specific } => {
                let mut field = [b' '; 8];
                crate::bytes_util::put_ascii(&mut field, vendor);
                out.extend_from_slice(&field);
                out.extend_from_slice(specific);
                let ascii = specific.iter().all(|byte| (0x20..0x7f).contains(byte));
                (if ascii { CODE_SET_ASCII } else { CODE_SET_BINARY }, 1)
            }
            DesignatorName::Eui64(bytes) => {
                out.extend_from_slice(bytes);
                (CODE_SET_BINARY, 2)
            }
            DesignatorName::Naa6(guid) => {
                out.extend_from_slice(guid.as_bytes());
                (CODE_SET_BINARY, 3)
            }
            DesignatorName::Naa(name) => {
                out.extend_from_slice(&name.to_be_bytes());
                (CODE_SET_BINARY, 3)
            }
            DesignatorName::RelativeTargetPort(number) => {
                out.extend_from_slice(&u32::from(*number).to_be_bytes());
                (CODE_SET_BINARY, 4)
            }
            DesignatorName::TargetPortGroup(number) => {
                out.extend_from_slice(&u32::from(*number).to_be_bytes());
                (CODE_SET_BINARY, 5)
            }
            DesignatorName::LogicalUnitGroup(number) => {
                out.extend_from_slice(&u32::from(*number).to_be_bytes());
                (CODE_SET_BINARY, 6)
            }
            DesignatorName::ScsiName(name) => {
                let name = name.as_bytes();
                let name = &name[..name.len().min(251)];
                out.extend_from_slice(name);
                // At least one NUL ends the string, and the length is a multiple of four.
                out.resize(out.len() + 4 - name.len() % 4, 0);
                (CODE_SET_UTF8, 8)
            }
            DesignatorName::Other { code_set, kind, bytes } => {
                out.extend_from_slice(bytes);
                (*code_set, *kind)
            }
        };
        out.truncate(start + Self::MAX_LENGTH);
        let association = match self.association {
            Association::LogicalUnit => 0,
            Association::TargetPort => 1,
            Association::TargetDevice => 2,
            Association::Reserved => 3,
        };
        let length = (out.len() - start - 4) as u8;
        out[start] = self.protocol.map_or(0, |protocol| protocol.0 << 4) | code_set & 0x0f;
        out[start + 1] = u8::from(self.protocol.is_some()) << 7 | association << 4 | kind & 0x0f;
        out[start + 3] = length;
    }

    /// Takes one descriptor from the front of `data`: it and the bytes it took; `None` when `data` ends inside.
    pub fn decode(data: &[u8]) -> Option<(Self, usize)> {
        let [first, second, _, length, rest @ ..] = data else { return None };
        let length = usize::from(*length);
        let bytes = rest.get(..length)?;
        let code_set = first & 0x0f;
        let kind = second & 0x0f;
        let association = match second >> 4 & 3 {
            0 => Association::LogicalUnit,
            1 => Association::TargetPort,
            2 => Association::TargetDevice,
            _ => Association::Reserved,
        };
        let number = || (bytes.len() == 4 && be16(bytes, 0) == Some(0)).then(|| be32(bytes, 0).unwrap_or(0) as u16);
        let known = match kind {
            0 if code_set == CODE_SET_BINARY => Some(DesignatorName::VendorSpecific(bytes.to_vec())),
            1 if bytes.len() >= 8 => Some(DesignatorName::T10Vendor {
                vendor: crate::bytes_util::ascii(&bytes[..8]),
                specific: bytes[8..].to_vec(),
            }),
            2 if matches!(bytes.len(), 8 | 12 | 16) => Some(DesignatorName::Eui64(bytes.to_vec())),
            3 => match bytes.len() {
                8 => crate::bytes_util::be64(bytes, 0).map(DesignatorName::Naa),
                16 => bytes.first_chunk().and_then(|&b| Guid::from_bytes(b).ok()).map(DesignatorName::Naa6),
                _ => None,
            },
            4 => number().map(DesignatorName::RelativeTargetPort),
            5 => number().map(DesignatorName::TargetPortGroup),
            6 => number().map(DesignatorName::LogicalUnitGroup),
            8 => {
                let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
                core::str::from_utf8(&bytes[..end]).ok().map(|name| DesignatorName::ScsiName(name.to_owned()))
            }
            _ => None,
        };
        let name = known.unwrap_or_else(|| DesignatorName::Other { code_set, kind, bytes: bytes.to_vec() });
        let protocol = (second & 0x80 != 0).then_some(ProtocolId(first >> 4));
        Some((Self { association, protocol, name }, 4 + length))
    }

    /// Takes descriptors from `data` until it ends; a last one that is cut is left out.
    pub fn decode_all(mut data: &[u8]) -> Vec<Self> {
        let mut all = Vec::new();
        while let Some((designator, length)) = Self::decode(data) {
            all.push(designator);
            data = &data[length..];
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(designator: &Designator, bytes: &[u8]) {
        let mut out = Vec::new();
        designator.encode(&mut out);
        assert_eq!(out, bytes);
        assert_eq!(Designator::decode(&out), Some((designator.clone(), out.len())));
    }

    #[test]
    fn the_logical_unit_name_has_the_header_1_3_0_10h() {
        let guid: Guid = "600144f01eb3862c0000494b55cd0001".parse().unwrap();
        let mut expected = vec![0x01, 0x03, 0x00, 0x10];
        expected.extend_from_slice(guid.as_bytes());
        check(&Designator::logical_unit(guid), &expected);
    }

    #[test]
    fn port_numbers_carry_the_protocol() {
        check(&Designator::relative_target_port(ProtocolId::ISCSI, 1), &[0x51, 0x94, 0, 4, 0, 0, 0, 1]);
        check(&Designator::target_port_group(ProtocolId::ISCSI, 2), &[0x51, 0x95, 0, 4, 0, 0, 0, 2]);
    }

    #[test]
    fn a_scsi_name_ends_in_nul_and_is_padded_to_four() {
        let designator = Designator::iscsi_target_port("iqn.x:y", 1);
        check(&designator, b"\x53\x98\x00\x14iqn.x:y,t,0x0001\0\0\0\0");
        check(&Designator::iscsi_target_device("iqn.x:yz"), b"\x53\xa8\x00\x0ciqn.x:yz\0\0\0\0");
    }

    #[test]
    fn a_cut_descriptor_is_none() {
        assert_eq!(Designator::decode(&[1, 3, 0, 16, 0x60]), None);
        assert_eq!(Designator::decode(&[1, 3]), None);
    }
}
