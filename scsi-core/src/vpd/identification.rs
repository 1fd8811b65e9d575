//! Pages 00h, 80h and 83h: which pages there are, the serial number, the names.

use super::VpdPage;
use crate::bytes_util::ascii;
use crate::designator::Designator;

/// Supported VPD pages (00h).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SupportedPages {
    /// The page codes, ascending, 00h first.
    pub pages: Vec<u8>,
}

impl VpdPage for SupportedPages {
    const CODE: u8 = 0x00;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.pages);
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        Some(Self { pages: body.to_vec() })
    }
}

/// Unit Serial Number (80h).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct UnitSerialNumber {
    /// The serial number, ASCII; without one four spaces are sent.
    pub serial: String,
}

impl VpdPage for UnitSerialNumber {
    const CODE: u8 = 0x80;

    fn encode_body(&self, out: &mut Vec<u8>) {
        if self.serial.is_empty() {
            out.extend_from_slice(b"    ");
            return;
        }
        out.extend(self.serial.bytes().map(|byte| if (0x20..0x7f).contains(&byte) { byte } else { b'?' }));
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        Some(Self { serial: ascii(body) })
    }
}

/// Device Identification (83h).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DeviceIdentification {
    /// The designation descriptors.
    pub designators: Vec<Designator>,
}

impl VpdPage for DeviceIdentification {
    const CODE: u8 = 0x83;

    fn encode_body(&self, out: &mut Vec<u8>) {
        self.designators.iter().for_each(|designator| designator.encode(out));
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        Some(Self { designators: Designator::decode_all(body) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::designator::ProtocolId;
    use crate::inquiry::Peripheral;

    #[test]
    fn a_unit_without_serial_number_sends_four_spaces() {
        let page = UnitSerialNumber::default().encode(Peripheral::DISK);
        assert_eq!(page, [0, 0x80, 0, 4, b' ', b' ', b' ', b' ']);
    }

    #[test]
    fn the_names_round_trip() {
        let guid = "600144f01eb3862c0000494b55cd0001".parse().unwrap();
        let page = DeviceIdentification {
            designators: vec![
                Designator::logical_unit(guid),
                Designator::relative_target_port(ProtocolId::ISCSI, 3),
                Designator::target_port_group(ProtocolId::ISCSI, 1),
                Designator::iscsi_target_port("iqn.2026-11.org.lunette:02:a", 1),
            ],
        };
        assert_eq!(DeviceIdentification::decode(&page.encode(Peripheral::DISK)), Some(page));
    }

    #[test]
    fn another_page_is_not_decoded() {
        let page = SupportedPages { pages: vec![0, 0x83] }.encode(Peripheral::DISK);
        assert_eq!(page, [0, 0, 0, 2, 0, 0x83]);
        assert_eq!(UnitSerialNumber::decode(&page), None);
    }
}
