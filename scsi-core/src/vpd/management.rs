//! Page 85h: Management Network Addresses.

use super::VpdPage;
use crate::bytes_util::be16;

/// A service at a network address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkService {
    /// SERVICE TYPE: 00h unspecified, 01h storage configuration service, 02h diagnostics, 03h status, 04h logging,
    /// 05h code download, 06h copy service, 07h administrative configuration service.
    pub service_type: u8,
    /// URL, at most 65535 bytes with its NUL.
    pub url: String,
}

/// Management Network Addresses (85h), all of the logical unit.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ManagementNetworkAddresses {
    /// The services.
    pub services: Vec<NetworkService>,
}

impl VpdPage for ManagementNetworkAddresses {
    const CODE: u8 = 0x85;

    fn encode_body(&self, out: &mut Vec<u8>) {
        for service in &self.services {
            let url = &service.url.as_bytes()[..service.url.len().min(0xfff0)];
            let length = (url.len() + 1).next_multiple_of(4);
            out.extend_from_slice(&[service.service_type & 0x1f, 0]);
            out.extend_from_slice(&(length as u16).to_be_bytes());
            out.extend_from_slice(url);
            out.resize(out.len() + length - url.len(), 0);
        }
    }

    fn decode_body(mut body: &[u8]) -> Option<Self> {
        let mut services = Vec::new();
        while let Some(length) = be16(body, 2) {
            let end = 4 + usize::from(length);
            let text = body.get(4..end)?;
            let text = text.split(|&byte| byte == 0).next().unwrap_or(&[]);
            let url = core::str::from_utf8(text).ok()?.to_owned();
            services.push(NetworkService { service_type: body[0] & 0x1f, url });
            body = &body[end..];
        }
        Some(Self { services })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inquiry::Peripheral;

    #[test]
    fn urls_are_padded_to_four() {
        let page = ManagementNetworkAddresses {
            services: vec![
                NetworkService { service_type: 1, url: "http://a".into() },
                NetworkService { service_type: 3, url: "https://b.example/x".into() },
            ],
        };
        let bytes = page.encode(Peripheral::DISK);
        assert_eq!(&bytes[4..20], b"\x01\0\0\x0chttp://a\0\0\0\0");
        assert_eq!(ManagementNetworkAddresses::decode(&bytes), Some(page));
    }
}
