//! Standard INQUIRY data.

use crate::bytes_util::{ascii, be16, put_ascii};

/// Peripheral qualifier and device type: the first byte of INQUIRY data and of every VPD page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Peripheral {
    /// PERIPHERAL QUALIFIER: 000b a device is connected, 001b it could be, 011b it cannot be.
    pub qualifier: u8,
    /// PERIPHERAL DEVICE TYPE: 00h direct access block device, 1Fh unknown.
    pub device_type: u8,
}

impl Peripheral {
    /// A connected direct access block device.
    pub const DISK: Self = Self { qualifier: 0, device_type: 0 };
    /// What INQUIRY answers for a LUN that has no logical unit: 7Fh.
    pub const NOT_CAPABLE: Self = Self { qualifier: 3, device_type: 0x1f };

    /// The byte.
    pub const fn byte(self) -> u8 {
        self.qualifier << 5 | self.device_type & 0x1f
    }

    /// The two fields of the byte.
    pub const fn from_byte(byte: u8) -> Self {
        Self { qualifier: byte >> 5, device_type: byte & 0x1f }
    }
}

/// The TPGS field: who changes the asymmetric access state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TargetPortGroupSupport {
    /// 00b: no asymmetric access, or none that can be asked about.
    #[default]
    None,
    /// 01b: the target only.
    Implicit,
    /// 10b: SET TARGET PORT GROUPS only.
    Explicit,
    /// 11b: both.
    Both,
}

/// A VERSION DESCRIPTOR: a standard that is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionDescriptor(pub u16);

impl VersionDescriptor {
    /// SAM-5 (no version claimed).
    pub const SAM_5: Self = Self(0x00a0);
    /// SAM-6 (no version claimed).
    pub const SAM_6: Self = Self(0x00c0);
    /// SPC-4 (no version claimed).
    pub const SPC_4: Self = Self(0x0460);
    /// SPC-5 (no version claimed).
    pub const SPC_5: Self = Self(0x05c0);
    /// SBC-3 (no version claimed).
    pub const SBC_3: Self = Self(0x04c0);
    /// SBC-4 (no version claimed).
    pub const SBC_4: Self = Self(0x0600);
    /// iSCSI (no version claimed).
    pub const ISCSI: Self = Self(0x0960);
    /// FCP-4 (no version claimed).
    pub const FCP_4: Self = Self(0x0a40);
    /// SRP (no version claimed).
    pub const SRP: Self = Self(0x0940);

    /// The descriptor of a transport protocol, `None` when it has none.
    pub const fn of_protocol(protocol: crate::ProtocolId) -> Option<Self> {
        match protocol {
            crate::ProtocolId::ISCSI => Some(Self::ISCSI),
            crate::ProtocolId::FIBRE_CHANNEL => Some(Self::FCP_4),
            crate::ProtocolId::SRP => Some(Self::SRP),
            _ => None,
        }
    }
}

/// Standard INQUIRY data (SPC-5, Standard INQUIRY data format).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandardInquiry {
    /// First byte.
    pub peripheral: Peripheral,
    /// RMB: the medium can be removed.
    pub removable: bool,
    /// VERSION: 06h SPC-4, 07h SPC-5.
    pub version: u8,
    /// NORMACA: the NACA bit is supported.
    pub normal_aca: bool,
    /// HISUP: LUNs are reported in the hierarchical form.
    pub hierarchical: bool,
    /// TPGS.
    pub target_port_groups: TargetPortGroupSupport,
    /// 3PC: third-party copies are supported.
    pub third_party_copy: bool,
    /// PROTECT: protection information is supported.
    pub protect: bool,
    /// MULTIP: more than one target port.
    pub multiport: bool,
    /// CMDQUE: the full task management model.
    pub command_queuing: bool,
    /// T10 VENDOR IDENTIFICATION, up to 8 ASCII characters.
    pub vendor: String,
    /// PRODUCT IDENTIFICATION, up to 16 ASCII characters.
    pub product: String,
    /// PRODUCT REVISION LEVEL, up to 4 ASCII characters.
    pub revision: String,
    /// Up to 8 VERSION DESCRIPTORs.
    pub version_descriptors: Vec<VersionDescriptor>,
}

impl Default for StandardInquiry {
    /// A fixed disk that claims SPC-5, with command queuing and several ports.
    fn default() -> Self {
        Self {
            peripheral: Peripheral::DISK,
            removable: false,
            version: 7,
            normal_aca: false,
            hierarchical: true,
            target_port_groups: TargetPortGroupSupport::None,
            third_party_copy: false,
            protect: false,
            multiport: true,
            command_queuing: true,
            vendor: "LUNETTE".into(),
            product: "VIRTUAL DISK".into(),
            revision: "1.0".into(),
            version_descriptors: vec![VersionDescriptor::SAM_5, VersionDescriptor::SPC_5, VersionDescriptor::SBC_4],
        }
    }
}

impl StandardInquiry {
    /// Bytes of the encoded form.
    pub const LENGTH: usize = 96;

    /// The answer for a LUN that has no logical unit: qualifier 011b, device type unknown.
    pub fn not_capable() -> Self {
        Self {
            peripheral: Peripheral::NOT_CAPABLE,
            multiport: false,
            command_queuing: false,
            version_descriptors: Vec::new(),
            ..Self::default()
        }
    }

    /// The 96 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; Self::LENGTH];
        out[0] = self.peripheral.byte();
        out[1] = u8::from(self.removable) << 7;
        out[2] = self.version;
        out[3] = u8::from(self.normal_aca) << 5 | u8::from(self.hierarchical) << 4 | 2;
        out[4] = (Self::LENGTH - 5) as u8;
        let tpgs = match self.target_port_groups {
            TargetPortGroupSupport::None => 0,
            TargetPortGroupSupport::Implicit => 1,
            TargetPortGroupSupport::Explicit => 2,
            TargetPortGroupSupport::Both => 3,
        };
        out[5] = tpgs << 4 | u8::from(self.third_party_copy) << 3 | u8::from(self.protect);
        out[6] = u8::from(self.multiport) << 4;
        out[7] = u8::from(self.command_queuing) << 1;
        put_ascii(&mut out[8..16], &self.vendor);
        put_ascii(&mut out[16..32], &self.product);
        put_ascii(&mut out[32..36], &self.revision);
        for (field, descriptor) in out[58..74].chunks_exact_mut(2).zip(&self.version_descriptors) {
            field.copy_from_slice(&descriptor.0.to_be_bytes());
        }
        out
    }

    /// Reads what a device answered; `None` when it is shorter than the 36 bytes every device gives.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let head: &[u8; 36] = data.first_chunk()?;
        let descriptors = (58..74).step_by(2).map_while(|at| be16(data, at)).filter(|&code| code != 0);
        Some(Self {
            peripheral: Peripheral::from_byte(head[0]),
            removable: head[1] & 0x80 != 0,
            version: head[2],
            normal_aca: head[3] & 0x20 != 0,
            hierarchical: head[3] & 0x10 != 0,
            target_port_groups: match head[5] >> 4 & 3 {
                0 => TargetPortGroupSupport::None,
                1 => TargetPortGroupSupport::Implicit,
                2 => TargetPortGroupSupport::Explicit,
                _ => TargetPortGroupSupport::Both,
            },
            third_party_copy: head[5] & 0x08 != 0,
            protect: head[5] & 0x01 != 0,
            multiport: head[6] & 0x10 != 0,
            command_queuing: head[7] & 0x02 != 0,
            vendor: ascii(&head[8..16]),
            product: ascii(&head[16..32]),
            revision: ascii(&head[32..36]),
            version_descriptors: descriptors.map(VersionDescriptor).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_round_trips() {
        let inquiry = StandardInquiry {
            removable: true,
            normal_aca: true,
            target_port_groups: TargetPortGroupSupport::Both,
            third_party_copy: true,
            ..StandardInquiry::default()
        };
        let bytes = inquiry.encode();
        assert_eq!(bytes.len(), 96);
        assert_eq!(&bytes[8..36], b"LUNETTE VIRTUAL DISK    1.0 ");
        assert_eq!(StandardInquiry::decode(&bytes), Some(inquiry));
        assert_eq!(StandardInquiry::decode(&bytes[..35]), None);
    }

    #[test]
    fn a_lun_without_a_unit_has_qualifier_3() {
        assert_eq!(StandardInquiry::not_capable().encode()[0], 0x7f);
    }
}
