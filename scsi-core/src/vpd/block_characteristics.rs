//! Page B1h: Block Device Characteristics.

use super::{VpdPage, fixed_body, padded};

/// Block Device Characteristics (B1h).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BlockDeviceCharacteristics {
    /// MEDIUM ROTATION RATE: 0 not told, 1 does not rotate, else revolutions per minute.
    pub rotation_rate: u16,
    /// PRODUCT TYPE.
    pub product_type: u8,
    /// WABEREQ: what BLOCK ERASE of SANITIZE leaves to read, two bits.
    pub after_block_erase: u8,
    /// WACEREQ: what CRYPTOGRAPHIC ERASE of SANITIZE leaves to read, two bits.
    pub after_cryptographic_erase: u8,
    /// NOMINAL FORM FACTOR, four bits.
    pub form_factor: u8,
    /// FUAB: FUA of a write means that the data is on the medium, not only in a non-volatile cache.
    pub fua_behaviour: bool,
    /// VBULS: VERIFY with BYTCHK zero of unmapped blocks is supported.
    pub verify_unmapped: bool,
}

const LENGTH: usize = 0x3c;

impl VpdPage for BlockDeviceCharacteristics {
    const CODE: u8 = 0xb1;

    fn encode_body(&self, out: &mut Vec<u8>) {
        fixed_body(out, LENGTH, |body| {
            body.put16(4, self.rotation_rate);
            body.put8(6, self.product_type);
            body.put8(
                7,
                (self.after_block_erase & 3) << 6 | (self.after_cryptographic_erase & 3) << 4 | self.form_factor & 0x0f,
            );
            body.put8(8, u8::from(self.fua_behaviour) << 1 | u8::from(self.verify_unmapped));
        });
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let body = padded::<LENGTH>(body);
        Some(Self {
            rotation_rate: u16::from_be_bytes([body[0], body[1]]),
            product_type: body[2],
            after_block_erase: body[3] >> 6,
            after_cryptographic_erase: body[3] >> 4 & 3,
            form_factor: body[3] & 0x0f,
            fua_behaviour: body[4] & 2 != 0,
            verify_unmapped: body[4] & 1 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inquiry::Peripheral;

    #[test]
    fn it_round_trips() {
        let page = BlockDeviceCharacteristics {
            rotation_rate: 1,
            after_block_erase: 2,
            after_cryptographic_erase: 1,
            form_factor: 3,
            fua_behaviour: true,
            ..BlockDeviceCharacteristics::default()
        };
        let bytes = page.encode(Peripheral::DISK);
        assert_eq!(bytes[..9], [0, 0xb1, 0, 0x3c, 0, 1, 0, 0x93, 2]);
        assert_eq!(BlockDeviceCharacteristics::decode(&bytes), Some(page));
    }
}
