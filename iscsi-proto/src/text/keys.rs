//! The keys of RFC 7143, one table entry each: who may send it, when, what its values are and how two sides agree.

use bitflags::bitflags;

bitflags! {
    /// Who may send a key.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Senders: u8 {
        /// The initiator.
        const INITIATOR = 1;
        /// The target.
        const TARGET = 2;
    }

    /// When a key may be sent.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Phases: u8 {
        /// Security negotiation stage of a login.
        const SECURITY = 1;
        /// Operational negotiation stage of a login.
        const OPERATIONAL = 2;
        /// Full feature phase, in Text Requests and Responses.
        const FULL_FEATURE = 4;
        /// Any stage of a login.
        const LOGIN = 3;
    }
}

/// In which sessions a key means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// All.
    Any,
    /// Normal sessions; the answer in a discovery session is `Irrelevant`.
    Normal,
}

/// How a negotiated value follows from the two offered, or that it is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// `Yes` if both say `Yes`.
    And {
        /// Without negotiation.
        default: bool,
    },
    /// `Yes` if one says `Yes`.
    Or {
        /// Without negotiation.
        default: bool,
    },
    /// The smaller number.
    Minimum {
        /// Without negotiation.
        default: u32,
        /// Least and greatest value allowed.
        range: (u32, u32),
    },
    /// The greater number.
    Maximum {
        /// Without negotiation.
        default: u32,
        /// Least and greatest value allowed.
        range: (u32, u32),
    },
    /// A number each side declares for itself.
    DeclaredNumber {
        /// Without declaration.
        default: u32,
        /// Least and greatest value allowed.
        range: (u32, u32),
    },
    /// The first value of the offering side's list that the other accepts.
    List {
        /// Without negotiation.
        default: &'static str,
        /// The values the standard has.
        values: &'static [&'static str],
    },
    /// One of these values, declared.
    DeclaredChoice {
        /// Without declaration.
        default: &'static str,
        /// The values the standard has.
        values: &'static [&'static str],
    },
    /// A text, declared, of at most so many bytes.
    DeclaredText {
        /// Bytes.
        limit: usize,
    },
    /// A text that asks for an action; the answer is other keys.
    Request,
    /// Belongs to an authentication method (RFC 7143 12), whose exchange says what may come when.
    Security,
    /// Obsolete: whatever is offered, this is the answer (RFC 7143 13.25).
    Obsolete {
        /// The answer.
        answer: &'static str,
    },
}

/// What the standard says about one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// The key.
    pub key: Key,
    /// Its name on the wire; letter case counts.
    pub name: &'static str,
    /// Who may send it.
    pub senders: Senders,
    /// When.
    pub phases: Phases,
    /// Only in the login of a session's first connection (LO).
    pub leading_only: bool,
    /// In which sessions it means something.
    pub sessions: Sessions,
    /// Its values.
    pub key_type: KeyType,
}

macro_rules! keys {
    ($( $(#[$meta:meta])* $key:ident = $name:literal, $senders:ident, $phases:expr, $leading:ident, $sessions:ident, $type:expr; )*) => {
        /// A key the standard defines.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Key {
            $( $(#[$meta])* $key, )*
        }

        impl Key {
            /// Every key, in the table's order.
            pub const TABLE: &'static [KeySpec] = &[
                $( KeySpec {
                    key: Key::$key,
                    name: $name,
                    senders: $senders,
                    phases: $phases,
                    leading_only: $leading,
                    sessions: Sessions::$sessions,
                    key_type: $type,
                }, )*
            ];
        }
    };
}

use KeyType::*;

const BOTH: Senders = Senders::all();
const INITIATOR: Senders = Senders::INITIATOR;
const TARGET: Senders = Senders::TARGET;
const SECURITY: Phases = Phases::SECURITY;
const OPERATIONAL: Phases = Phases::OPERATIONAL;
const LOGIN: Phases = Phases::LOGIN;
const ANY_TIME: Phases = Phases::all();
const AFTER_SECURITY: Phases = Phases::OPERATIONAL.union(Phases::FULL_FEATURE);
const LEADING: bool = true;
const EACH: bool = false;

const DIGESTS: KeyType = List { default: "None", values: &["None", "CRC32C"] };
const NAME: KeyType = DeclaredText { limit: 223 };
const ALIAS: KeyType = DeclaredText { limit: 255 };
/// 2^24 - 1, the longest data segment.
const SEGMENT: (u32, u32) = (512, 0xff_ffff);

keys! {
    /// RFC 7143 12.
    AuthMethod = "AuthMethod", BOTH, SECURITY, EACH, Any, Security;
    /// Algorithms, RFC 7143 12.1.3.
    ChapA = "CHAP_A", BOTH, SECURITY, EACH, Any, Security;
    /// Name, RFC 7143 12.1.3.
    ChapN = "CHAP_N", BOTH, SECURITY, EACH, Any, Security;
    /// Response, RFC 7143 12.1.3.
    ChapR = "CHAP_R", BOTH, SECURITY, EACH, Any, Security;
    /// Identifier, RFC 7143 12.1.3.
    ChapI = "CHAP_I", BOTH, SECURITY, EACH, Any, Security;
    /// Challenge, RFC 7143 12.1.3.
    ChapC = "CHAP_C", BOTH, SECURITY, EACH, Any, Security;
    /// Kerberos, RFC 7143 12.1.1.
    KrbApReq = "KRB_AP_REQ", INITIATOR, SECURITY, EACH, Any, Security;
    /// Kerberos, RFC 7143 12.1.1.
    KrbApRep = "KRB_AP_REP", TARGET, SECURITY, EACH, Any, Security;
    /// Secure Remote Password, RFC 7143 12.1.2.
    SrpU = "SRP_U", INITIATOR, SECURITY, EACH, Any, Security;
    /// Secure Remote Password, RFC 7143 12.1.2.
    SrpGroup = "SRP_GROUP", BOTH, SECURITY, EACH, Any, Security;
    /// Secure Remote Password, RFC 7143 12.1.2.
    SrpA = "SRP_A", INITIATOR, SECURITY, EACH, Any, Security;
    /// Secure Remote Password, RFC 7143 12.1.2.
    SrpB = "SRP_B", TARGET, SECURITY, EACH, Any, Security;
    /// Secure Remote Password, RFC 7143 12.1.2.
    SrpM = "SRP_M", INITIATOR, SECURITY, EACH, Any, Security;
    /// Secure Remote Password, RFC 7143 12.1.2.
    SrpHm = "SRP_HM", TARGET, SECURITY, EACH, Any, Security;
    /// Secure Remote Password, RFC 7143 12.1.2.
    SrpS = "SRP_s", TARGET, SECURITY, EACH, Any, Security;
    /// RFC 7143 13.1.
    HeaderDigest = "HeaderDigest", BOTH, OPERATIONAL, EACH, Any, DIGESTS;
    /// RFC 7143 13.1.
    DataDigest = "DataDigest", BOTH, OPERATIONAL, EACH, Any, DIGESTS;
    /// RFC 7143 13.2.
    MaxConnections = "MaxConnections", BOTH, OPERATIONAL, LEADING, Normal, Minimum { default: 1, range: (1, 65535) };
    /// RFC 7143 13.3.
    SendTargets = "SendTargets", INITIATOR, Phases::FULL_FEATURE, EACH, Any, Request;
    /// RFC 7143 13.4. A target sends it only in its answer to SendTargets.
    TargetName = "TargetName", BOTH, LOGIN, EACH, Any, NAME;
    /// RFC 7143 13.5.
    InitiatorName = "InitiatorName", INITIATOR, LOGIN, EACH, Any, NAME;
    /// RFC 7143 13.6.
    TargetAlias = "TargetAlias", TARGET, ANY_TIME, EACH, Any, ALIAS;
    /// RFC 7143 13.7.
    InitiatorAlias = "InitiatorAlias", INITIATOR, ANY_TIME, EACH, Any, ALIAS;
    /// RFC 7143 13.8. May come several times.
    TargetAddress = "TargetAddress", TARGET, ANY_TIME, EACH, Any, DeclaredText { limit: 512 };
    /// RFC 7143 13.9.
    TargetPortalGroupTag = "TargetPortalGroupTag", TARGET, LOGIN, EACH, Any,
        DeclaredNumber { default: 0, range: (0, 65535) };
    /// RFC 7143 13.10.
    InitialR2T = "InitialR2T", BOTH, OPERATIONAL, LEADING, Normal, Or { default: true };
    /// RFC 7143 13.11.
    ImmediateData = "ImmediateData", BOTH, OPERATIONAL, LEADING, Normal, And { default: true };
    /// RFC 7143 13.12, in bytes.
    MaxRecvDataSegmentLength = "MaxRecvDataSegmentLength", BOTH, AFTER_SECURITY, EACH, Any,
        DeclaredNumber { default: 8192, range: SEGMENT };
    /// RFC 7143 13.13, in bytes.
    MaxBurstLength = "MaxBurstLength", BOTH, OPERATIONAL, LEADING, Normal,
        Minimum { default: 262_144, range: SEGMENT };
    /// RFC 7143 13.14, in bytes.
    FirstBurstLength = "FirstBurstLength", BOTH, OPERATIONAL, LEADING, Normal,
        Minimum { default: 65536, range: SEGMENT };
    /// RFC 7143 13.15, in seconds.
    DefaultTime2Wait = "DefaultTime2Wait", BOTH, OPERATIONAL, LEADING, Any, Maximum { default: 2, range: (0, 3600) };
    /// RFC 7143 13.16, in seconds.
    DefaultTime2Retain = "DefaultTime2Retain", BOTH, OPERATIONAL, LEADING, Any,
        Minimum { default: 20, range: (0, 3600) };
    /// RFC 7143 13.17.
    MaxOutstandingR2T = "MaxOutstandingR2T", BOTH, OPERATIONAL, LEADING, Normal,
        Minimum { default: 1, range: (1, 65535) };
    /// RFC 7143 13.18.
    DataPduInOrder = "DataPDUInOrder", BOTH, OPERATIONAL, LEADING, Normal, Or { default: true };
    /// RFC 7143 13.19.
    DataSequenceInOrder = "DataSequenceInOrder", BOTH, OPERATIONAL, LEADING, Normal, Or { default: true };
    /// RFC 7143 13.20.
    ErrorRecoveryLevel = "ErrorRecoveryLevel", BOTH, OPERATIONAL, LEADING, Any, Minimum { default: 0, range: (0, 2) };
    /// RFC 7143 13.21.
    SessionType = "SessionType", INITIATOR, LOGIN, LEADING, Any,
        DeclaredChoice { default: "Normal", values: &["Normal", "Discovery"] };
    /// RFC 7143 13.23.
    TaskReporting = "TaskReporting", BOTH, OPERATIONAL, LEADING, Normal,
        List { default: "RFC3720", values: &["RFC3720", "ResponseFence", "FastAbort"] };
    /// RFC 7143 13.24.
    ProtocolLevel = "iSCSIProtocolLevel", BOTH, OPERATIONAL, LEADING, Normal, Minimum { default: 1, range: (0, 31) };
    /// RFC 7143 13.25. `No` is allowed beside `Reject`, and initiators of RFC 3720's time expect it.
    IfMarker = "IFMarker", BOTH, OPERATIONAL, EACH, Any, Obsolete { answer: "No" };
    /// RFC 7143 13.25.
    OfMarker = "OFMarker", BOTH, OPERATIONAL, EACH, Any, Obsolete { answer: "No" };
    /// RFC 7143 13.25.
    IfMarkInt = "IFMarkInt", BOTH, OPERATIONAL, EACH, Any, Obsolete { answer: "Reject" };
    /// RFC 7143 13.25.
    OfMarkInt = "OFMarkInt", BOTH, OPERATIONAL, EACH, Any, Obsolete { answer: "Reject" };
    /// RFC 7143 13.26.
    NodeArchitecture = "X#NodeArchitecture", BOTH, LOGIN, LEADING, Any, DeclaredText { limit: 255 };
}

impl Key {
    /// The key of this name; `None` for private keys and unknown ones.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|spec| spec.name == name).map(|spec| spec.key)
    }

    /// What the standard says about it.
    pub const fn spec(self) -> &'static KeySpec {
        // The macro writes both in one order.
        &Self::TABLE[self as usize]
    }

    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        self.spec().name
    }

    /// This key's bit in a set of keys.
    pub(crate) const fn bit(self) -> u64 {
        1 << self as u8
    }
}

// One bit per key must fit.
const _: () = assert!(Key::TABLE.len() <= 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_keys() {
        for (index, spec) in Key::TABLE.iter().enumerate() {
            assert_eq!(spec.key as usize, index);
            assert_eq!(Key::by_name(spec.name), Some(spec.key));
            assert_eq!(spec.key.spec(), spec);
        }
    }

    #[test]
    fn defaults_lie_in_their_ranges() {
        for spec in Key::TABLE {
            match spec.key_type {
                Minimum { default, range } | Maximum { default, range } | DeclaredNumber { default, range } => {
                    assert!((range.0..=range.1).contains(&default), "{}", spec.name);
                }
                List { default, values } | DeclaredChoice { default, values } => assert!(values.contains(&default)),
                _ => {}
            }
        }
    }

    #[test]
    fn private_keys_are_not_in_the_table() {
        assert_eq!(Key::by_name("X-com.example.key"), None);
        assert_eq!(Key::by_name("initiatorname"), None);
    }
}
