//! Page B6h: Zoned Block Device Characteristics.

use super::{VpdPage, fixed_body, padded};
use crate::bytes_util::be32;

/// Zoned Block Device Characteristics (B6h); `u32::MAX` in a count means not told.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ZonedCharacteristics {
    /// URSWRZ: reads of sequential write required zones are not restricted.
    pub unrestricted_reads: bool,
    /// OPTIMAL NUMBER OF OPEN SEQUENTIAL WRITE PREFERRED ZONES.
    pub optimal_open_preferred: u32,
    /// OPTIMAL NUMBER OF NON-SEQUENTIALLY WRITTEN SEQUENTIAL WRITE PREFERRED ZONES.
    pub optimal_non_sequential: u32,
    /// MAXIMUM NUMBER OF OPEN SEQUENTIAL WRITE REQUIRED ZONES.
    pub max_open_required: u32,
}

const LENGTH: usize = 0x3c;

impl VpdPage for ZonedCharacteristics {
    const CODE: u8 = 0xb6;

    fn encode_body(&self, out: &mut Vec<u8>) {
        fixed_body(out, LENGTH, |body| {
            body.put8(4, u8::from(self.unrestricted_reads));
            body.put32(8, self.optimal_open_preferred);
            body.put32(12, self.optimal_non_sequential);
            body.put32(16, self.max_open_required);
        });
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let body = padded::<LENGTH>(body);
        Some(Self {
            unrestricted_reads: body[0] & 1 != 0,
            optimal_open_preferred: be32(&body, 4)?,
            optimal_non_sequential: be32(&body, 8)?,
            max_open_required: be32(&body, 12)?,
        })
    }
}
