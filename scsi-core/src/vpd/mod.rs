//! Vital product data pages, one file a page.
//!
//! Each page is a struct of its fields and implements [`VpdPage`]: `encode` for the device server, `decode` for
//! clients.

mod block_characteristics;
mod block_limits;
mod block_limits_extension;
mod extended_inquiry;
mod identification;
mod management;
mod mode_page_policy;
mod provisioning;
mod referrals;
mod third_party_copy;
mod zoned;

pub use self::block_characteristics::BlockDeviceCharacteristics;
pub use self::block_limits::BlockLimits;
pub use self::block_limits_extension::BlockLimitsExtension;
pub use self::extended_inquiry::ExtendedInquiry;
pub use self::identification::{DeviceIdentification, SupportedPages, UnitSerialNumber};
pub use self::management::{ManagementNetworkAddresses, NetworkService};
pub use self::mode_page_policy::{ModePagePolicies, ModePagePolicy, PolicyKind};
pub use self::provisioning::{LogicalBlockProvisioning, ProvisioningType};
pub use self::referrals::Referrals;
pub use self::third_party_copy::{RodTokenLimits, ThirdPartyCopy, ThirdPartyCopyCommand};
pub use self::zoned::ZonedCharacteristics;
use crate::bytes_util::be16;
use crate::inquiry::Peripheral;

/// A vital product data page.
pub trait VpdPage: Sized {
    /// PAGE CODE.
    const CODE: u8;

    /// Appends what stands behind the four bytes of header.
    fn encode_body(&self, out: &mut Vec<u8>);

    /// Reads what stands behind the header; what is missing at the end is as zero. `None` when it makes no sense.
    fn decode_body(body: &[u8]) -> Option<Self>;

    /// The page with its header. At most 65535 bytes of body count.
    fn encode(&self, peripheral: Peripheral) -> Vec<u8> {
        let mut out = vec![peripheral.byte(), Self::CODE, 0, 0];
        self.encode_body(&mut out);
        let length = (out.len() - 4).min(0xffff) as u16;
        out.truncate(4 + usize::from(length));
        out[2..4].copy_from_slice(&length.to_be_bytes());
        out
    }

    /// Reads a page that a device sent; `None` when it is another page or makes no sense.
    fn decode(data: &[u8]) -> Option<Self> {
        if *data.get(1)? != Self::CODE {
            return None;
        }
        let length = usize::from(be16(data, 2)?);
        let body = &data[4..];
        Self::decode_body(&body[..body.len().min(length)])
    }
}

/// A body of fixed length, what is missing zero.
fn padded<const N: usize>(body: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(body) {
        *to = *from;
    }
    bytes
}

/// Fields of a body by their offset in the page, header included, as the standards count.
struct Body<'a>(&'a mut [u8]);

impl Body<'_> {
    fn put8(&mut self, at: usize, value: u8) {
        self.0[at - 4] = value;
    }

    fn put16(&mut self, at: usize, value: u16) {
        self.0[at - 4..at - 2].copy_from_slice(&value.to_be_bytes());
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.0[at - 4..at].copy_from_slice(&value.to_be_bytes());
    }

    fn put64(&mut self, at: usize, value: u64) {
        self.0[at - 4..at + 4].copy_from_slice(&value.to_be_bytes());
    }
}

/// Appends a body of `length` zeros and lets `fill` set its fields.
fn fixed_body(out: &mut Vec<u8>, length: usize, fill: impl FnOnce(&mut Body<'_>)) {
    let start = out.len();
    out.resize(start + length, 0);
    fill(&mut Body(&mut out[start..]));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode_any(data: &[u8]) {
        let _ = SupportedPages::decode(data);
        let _ = UnitSerialNumber::decode(data);
        let _ = DeviceIdentification::decode(data);
        let _ = ManagementNetworkAddresses::decode(data);
        let _ = ExtendedInquiry::decode(data);
        let _ = ModePagePolicies::decode(data);
        let _ = ThirdPartyCopy::decode(data);
        let _ = BlockLimits::decode(data);
        let _ = BlockDeviceCharacteristics::decode(data);
        let _ = LogicalBlockProvisioning::decode(data);
        let _ = Referrals::decode(data);
        let _ = ZonedCharacteristics::decode(data);
        let _ = BlockLimitsExtension::decode(data);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(page in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..200)) {
            decode_any(&body);
            let length = body.len() as u16;
            for code in [page, 0x00, 0x80, 0x83, 0x85, 0x86, 0x87, 0x8f, 0xb0, 0xb1, 0xb2, 0xb3, 0xb6, 0xb7] {
                let mut data = vec![0, code, (length >> 8) as u8, length as u8];
                data.extend_from_slice(&body);
                decode_any(&data);
            }
        }
    }
}
