//! Page B2h: Logical Block Provisioning.

use super::VpdPage;
use crate::bytes_util::be16;
use crate::designator::Designator;

/// PROVISIONING TYPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ProvisioningType {
    /// 000b: not told, or fully provisioned.
    #[default]
    Full,
    /// 001b: resource provisioned: there is room for every block.
    Resource,
    /// 010b: thin provisioned.
    Thin,
    /// Any other value.
    Other(u8),
}

/// Logical Block Provisioning (B2h).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LogicalBlockProvisioning {
    /// THRESHOLD EXPONENT: thresholds count in sets of 2 to this power logical blocks; 0 no thresholds.
    pub threshold_exponent: u8,
    /// LBPU: UNMAP.
    pub unmap: bool,
    /// LBPWS: WRITE SAME(16) with UNMAP.
    pub write_same_16: bool,
    /// LBPWS10: WRITE SAME(10) with UNMAP.
    pub write_same_10: bool,
    /// LBPRZ, three bits: xx1b unmapped blocks read as zeros, 010b as a vendor specific pattern.
    pub reads_zeros: u8,
    /// ANC_SUP: anchored blocks.
    pub anchor: bool,
    /// MINIMUM PERCENTAGE, five bits.
    pub minimum_percentage: u8,
    /// PROVISIONING TYPE.
    pub provisioning_type: ProvisioningType,
    /// THRESHOLD PERCENTAGE.
    pub threshold_percentage: u8,
    /// PROVISIONING GROUP DESCRIPTOR (DP bit): who shares the same resources.
    pub group: Option<Designator>,
}

impl VpdPage for LogicalBlockProvisioning {
    const CODE: u8 = 0xb2;

    fn encode_body(&self, out: &mut Vec<u8>) {
        let kind = match self.provisioning_type {
            ProvisioningType::Full => 0,
            ProvisioningType::Resource => 1,
            ProvisioningType::Thin => 2,
            ProvisioningType::Other(kind) => kind & 7,
        };
        let flags = u8::from(self.unmap) << 7
            | u8::from(self.write_same_16) << 6
            | u8::from(self.write_same_10) << 5
            | (self.reads_zeros & 7) << 2
            | u8::from(self.anchor) << 1
            | u8::from(self.group.is_some());
        let kind = (self.minimum_percentage & 0x1f) << 3 | kind;
        out.extend_from_slice(&[self.threshold_exponent, flags, kind, self.threshold_percentage]);
        if let Some(group) = &self.group {
            group.encode(out);
        }
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        be16(body, 2)?;
        let kind = match body[2] & 7 {
            0 => ProvisioningType::Full,
            1 => ProvisioningType::Resource,
            2 => ProvisioningType::Thin,
            other => ProvisioningType::Other(other),
        };
        let group = if body[1] & 1 != 0 { Designator::decode(&body[4..]) } else { None };
        Some(Self {
            threshold_exponent: body[0],
            unmap: body[1] & 0x80 != 0,
            write_same_16: body[1] & 0x40 != 0,
            write_same_10: body[1] & 0x20 != 0,
            reads_zeros: body[1] >> 2 & 7,
            anchor: body[1] & 2 != 0,
            minimum_percentage: body[2] >> 3,
            provisioning_type: kind,
            threshold_percentage: body[3],
            group: group.map(|(designator, _)| designator),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inquiry::Peripheral;

    #[test]
    fn a_thin_unit_round_trips() {
        let page = LogicalBlockProvisioning {
            threshold_exponent: 11,
            unmap: true,
            write_same_16: true,
            write_same_10: true,
            reads_zeros: 1,
            provisioning_type: ProvisioningType::Thin,
            group: Some(Designator::logical_unit("600144f01eb3862c0000494b55cd0001".parse().unwrap())),
            ..LogicalBlockProvisioning::default()
        };
        let bytes = page.encode(Peripheral::DISK);
        assert_eq!(bytes[..8], [0, 0xb2, 0, 24, 11, 0xe5, 2, 0]);
        assert_eq!(LogicalBlockProvisioning::decode(&bytes), Some(page));
    }
}
