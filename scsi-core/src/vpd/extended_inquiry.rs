//! Page 86h: Extended INQUIRY Data.

use super::{VpdPage, fixed_body, padded};

/// Extended INQUIRY Data (86h). Protection information is not described: its bits are zero.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ExtendedInquiry {
    /// UASK_SUP: sense-key-specific data comes with unit attentions.
    pub unit_attention_specific: bool,
    /// GROUP_SUP: the grouping function.
    pub grouping: bool,
    /// PRIOR_SUP: command priority.
    pub priority: bool,
    /// HEADSUP: head of queue tasks.
    pub head_of_queue: bool,
    /// ORDSUP: ordered tasks.
    pub ordered: bool,
    /// SIMPSUP: simple tasks.
    pub simple: bool,
    /// WU_SUP: WRITE UNCORRECTABLE.
    pub write_uncorrectable: bool,
    /// NV_SUP: a non-volatile cache.
    pub non_volatile_cache: bool,
    /// V_SUP: a volatile cache.
    pub volatile_cache: bool,
    /// LUICLR: unit attentions of LU inventory changes are cleared as SPC has it.
    pub lu_inventory_clear: bool,
    /// CBCS: capability-based command security.
    pub capability_security: bool,
    /// EXTENDED SELF-TEST COMPLETION MINUTES.
    pub extended_self_test_minutes: u16,
    /// POA_SUP: power on activation.
    pub power_on_activation: bool,
    /// HRA_SUP: hard reset activation.
    pub hard_reset_activation: bool,
    /// MAXIMUM SUPPORTED SENSE DATA LENGTH, 0 not told, at most 252.
    pub max_sense_length: u8,
}

const LENGTH: usize = 0x3c;

impl VpdPage for ExtendedInquiry {
    const CODE: u8 = 0x86;

    fn encode_body(&self, out: &mut Vec<u8>) {
        fixed_body(out, LENGTH, |body| {
            body.put8(
                5,
                u8::from(self.unit_attention_specific) << 5
                    | u8::from(self.grouping) << 4
                    | u8::from(self.priority) << 3
                    | u8::from(self.head_of_queue) << 2
                    | u8::from(self.ordered) << 1
                    | u8::from(self.simple),
            );
            body.put8(
                6,
                u8::from(self.write_uncorrectable) << 3
                    | u8::from(self.non_volatile_cache) << 1
                    | u8::from(self.volatile_cache),
            );
            body.put8(7, u8::from(self.lu_inventory_clear));
            body.put8(8, u8::from(self.capability_security));
            body.put16(10, self.extended_self_test_minutes);
            body.put8(12, u8::from(self.power_on_activation) << 7 | u8::from(self.hard_reset_activation) << 6);
            body.put8(13, self.max_sense_length);
        });
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let body = padded::<LENGTH>(body);
        let flag = |at: usize, bit: u8| body[at - 4] >> bit & 1 != 0;
        Some(Self {
            unit_attention_specific: flag(5, 5),
            grouping: flag(5, 4),
            priority: flag(5, 3),
            head_of_queue: flag(5, 2),
            ordered: flag(5, 1),
            simple: flag(5, 0),
            write_uncorrectable: flag(6, 3),
            non_volatile_cache: flag(6, 1),
            volatile_cache: flag(6, 0),
            lu_inventory_clear: flag(7, 0),
            capability_security: flag(8, 0),
            extended_self_test_minutes: u16::from_be_bytes([body[6], body[7]]),
            power_on_activation: flag(12, 7),
            hard_reset_activation: flag(12, 6),
            max_sense_length: body[9],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inquiry::Peripheral;

    #[test]
    fn it_round_trips() {
        let page = ExtendedInquiry {
            head_of_queue: true,
            ordered: true,
            simple: true,
            volatile_cache: true,
            extended_self_test_minutes: 0x102,
            max_sense_length: 252,
            lu_inventory_clear: true,
            ..ExtendedInquiry::default()
        };
        let bytes = page.encode(Peripheral::DISK);
        assert_eq!(bytes.len(), 64);
        assert_eq!(bytes[5], 7);
        assert_eq!(ExtendedInquiry::decode(&bytes), Some(page));
    }
}
