//! Page B3h: Referrals.

use super::{VpdPage, fixed_body, padded};

/// Referrals (B3h).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Referrals {
    /// USER DATA SEGMENT SIZE in logical blocks.
    pub user_data_segment_size: u32,
    /// USER DATA SEGMENT MULTIPLIER.
    pub user_data_segment_multiplier: u32,
}

impl VpdPage for Referrals {
    const CODE: u8 = 0xb3;

    fn encode_body(&self, out: &mut Vec<u8>) {
        fixed_body(out, 12, |body| {
            body.put32(8, self.user_data_segment_size);
            body.put32(12, self.user_data_segment_multiplier);
        });
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let [_, _, _, _, a, b, c, d, e, f, g, h] = padded::<12>(body);
        Some(Self {
            user_data_segment_size: u32::from_be_bytes([a, b, c, d]),
            user_data_segment_multiplier: u32::from_be_bytes([e, f, g, h]),
        })
    }
}
