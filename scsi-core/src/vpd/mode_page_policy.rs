//! Page 87h: Mode Page Policy.

use super::VpdPage;

/// For whom a mode page has one set of values (MODE PAGE POLICY field).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyKind {
    /// 00b: one for all.
    Shared,
    /// 01b: one per target port.
    PerTargetPort,
    /// 11b: one per I_T nexus.
    PerItNexus,
    /// 10b: obsolete.
    Obsolete,
}

/// The policy of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModePagePolicy {
    /// POLICY PAGE CODE; 3Fh every page not listed.
    pub page_code: u8,
    /// POLICY SUBPAGE CODE; FFh every subpage not listed.
    pub subpage_code: u8,
    /// MLUS: the page is shared with other logical units.
    pub multiple_logical_units: bool,
    /// For whom it is.
    pub policy: PolicyKind,
}

/// Mode Page Policy (87h).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ModePagePolicies {
    /// The descriptors.
    pub policies: Vec<ModePagePolicy>,
}

impl ModePagePolicies {
    /// Every page and subpage is shared by all I_T nexuses.
    pub fn all_shared() -> Self {
        let all = ModePagePolicy {
            page_code: 0x3f,
            subpage_code: 0xff,
            multiple_logical_units: false,
            policy: PolicyKind::Shared,
        };
        Self { policies: vec![all] }
    }
}

impl VpdPage for ModePagePolicies {
    const CODE: u8 = 0x87;

    fn encode_body(&self, out: &mut Vec<u8>) {
        for policy in &self.policies {
            let kind = match policy.policy {
                PolicyKind::Shared => 0,
                PolicyKind::PerTargetPort => 1,
                PolicyKind::Obsolete => 2,
                PolicyKind::PerItNexus => 3,
            };
            let flags = u8::from(policy.multiple_logical_units) << 7 | kind;
            out.extend_from_slice(&[policy.page_code & 0x3f, policy.subpage_code, flags, 0]);
        }
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let policies = body.chunks_exact(4).map(|bytes| ModePagePolicy {
            page_code: bytes[0] & 0x3f,
            subpage_code: bytes[1],
            multiple_logical_units: bytes[2] & 0x80 != 0,
            policy: match bytes[2] & 3 {
                0 => PolicyKind::Shared,
                1 => PolicyKind::PerTargetPort,
                2 => PolicyKind::Obsolete,
                _ => PolicyKind::PerItNexus,
            },
        });
        Some(Self { policies: policies.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inquiry::Peripheral;

    #[test]
    fn all_shared_is_one_descriptor() {
        let page = ModePagePolicies::all_shared();
        let bytes = page.encode(Peripheral::DISK);
        assert_eq!(bytes, [0, 0x87, 0, 4, 0x3f, 0xff, 0, 0]);
        assert_eq!(ModePagePolicies::decode(&bytes), Some(page));
    }
}
