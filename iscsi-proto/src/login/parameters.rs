//! What two sides agree on, and what one side would like.

use crate::digest::Digests;
use crate::text::{Key, KeyType};

/// What holds for a whole session (RFC 7143 13). [`Default`] is what holds without negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionParameters {
    /// MaxConnections, 1 to 65,535.
    pub max_connections: u16,
    /// InitialR2T: no unsolicited Data-Out.
    pub initial_r2t: bool,
    /// ImmediateData: a command may carry data.
    pub immediate_data: bool,
    /// MaxBurstLength, in bytes: most data of one R2T or one Data-In sequence.
    pub max_burst_length: u32,
    /// FirstBurstLength, in bytes: most unsolicited data of a command. Never above `max_burst_length`.
    pub first_burst_length: u32,
    /// DefaultTime2Wait, in seconds.
    pub default_time2wait: u16,
    /// DefaultTime2Retain, in seconds.
    pub default_time2retain: u16,
    /// MaxOutstandingR2T per task, 1 to 65,535.
    pub max_outstanding_r2t: u16,
    /// DataPDUInOrder.
    pub data_pdu_in_order: bool,
    /// DataSequenceInOrder.
    pub data_sequence_in_order: bool,
    /// ErrorRecoveryLevel, 0 to 2.
    pub error_recovery_level: u8,
    /// TaskReporting.
    pub task_reporting: TaskReporting,
    /// iSCSIProtocolLevel; 2 brings the additions of RFC 7144.
    pub protocol_level: u8,
}

impl Default for SessionParameters {
    fn default() -> Self {
        Self {
            max_connections: 1,
            initial_r2t: true,
            immediate_data: true,
            max_burst_length: 262_144,
            first_burst_length: 65536,
            default_time2wait: 2,
            default_time2retain: 20,
            max_outstanding_r2t: 1,
            data_pdu_in_order: true,
            data_sequence_in_order: true,
            error_recovery_level: 0,
            task_reporting: TaskReporting::Rfc3720,
            protocol_level: 1,
        }
    }
}

/// What holds for one connection (RFC 7143 13). [`Default`] is what holds without negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionParameters {
    /// HeaderDigest and DataDigest.
    pub digests: Digests,
    /// The MaxRecvDataSegmentLength we declared, in bytes: the longest data segment we take.
    pub max_recv_data_segment_length: u32,
    /// The MaxRecvDataSegmentLength the peer declared, in bytes: the longest data segment we may send.
    pub max_send_data_segment_length: u32,
}

impl Default for ConnectionParameters {
    fn default() -> Self {
        Self { digests: Digests::default(), max_recv_data_segment_length: 8192, max_send_data_segment_length: 8192 }
    }
}

/// The whole outcome of a negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Parameters {
    /// Of the session; a further connection has the values of the first.
    pub session: SessionParameters,
    /// Of the connection.
    pub connection: ConnectionParameters,
}

/// TaskReporting: how task management that affects several tasks is reported (RFC 7143 13.23).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum TaskReporting {
    /// As RFC 3720 had it.
    #[default]
    Rfc3720,
    /// With a response fence.
    ResponseFence,
    /// With fast abort.
    FastAbort,
}

impl TaskReporting {
    /// Its value in text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rfc3720 => "RFC3720",
            Self::ResponseFence => "ResponseFence",
            Self::FastAbort => "FastAbort",
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        [Self::Rfc3720, Self::ResponseFence, Self::FastAbort].into_iter().find(|value| value.as_str() == name)
    }
}

/// What one side thinks of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum DigestPreference {
    /// Never.
    Refuse,
    /// Rather not; a target takes what the initiator puts first.
    #[default]
    PreferNone,
    /// Rather yes; a target takes what the initiator puts first.
    PreferCrc32c,
    /// Nothing without it.
    Require,
}

impl DigestPreference {
    const fn accepts(self, crc32c: bool) -> bool {
        match self {
            Self::Refuse => !crc32c,
            Self::Require => crc32c,
            Self::PreferNone | Self::PreferCrc32c => true,
        }
    }

    const fn list(self) -> &'static str {
        match self {
            Self::Refuse => "None",
            Self::PreferNone => "None,CRC32C",
            Self::PreferCrc32c => "CRC32C,None",
            Self::Require => "CRC32C",
        }
    }
}

/// What one side would like: the value it puts into the result function, or declares.
///
/// [`Default`] is generous: large bursts, unsolicited data, several R2Ts at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preferences {
    /// The values of a session. `task_reporting` is the highest accepted: ResponseFence includes RFC3720, FastAbort
    /// both.
    pub session: SessionParameters,
    /// HeaderDigest.
    pub header_digest: DigestPreference,
    /// DataDigest.
    pub data_digest: DigestPreference,
    /// The MaxRecvDataSegmentLength to declare, in bytes, 512 to 2^24 - 1.
    pub max_recv_data_segment_length: u32,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            session: SessionParameters {
                max_connections: 8,
                initial_r2t: false,
                immediate_data: true,
                // The largest multiple of 1 KiB below 2^24: bursts stay whole blocks.
                max_burst_length: 16_776_192,
                first_burst_length: 262_144,
                default_time2wait: 2,
                default_time2retain: 20,
                max_outstanding_r2t: 8,
                data_pdu_in_order: true,
                data_sequence_in_order: true,
                error_recovery_level: 0,
                task_reporting: TaskReporting::Rfc3720,
                protocol_level: 2,
            },
            header_digest: DigestPreference::PreferNone,
            data_digest: DigestPreference::PreferNone,
            max_recv_data_segment_length: 262_144,
        }
    }
}

impl Preferences {
    /// The list for a key of that type.
    pub(super) fn list(&self, key: Key) -> &'static str {
        match key {
            Key::HeaderDigest => self.header_digest.list(),
            Key::DataDigest => self.data_digest.list(),
            Key::TaskReporting => match self.session.task_reporting {
                TaskReporting::Rfc3720 => "RFC3720",
                TaskReporting::ResponseFence => "ResponseFence,RFC3720",
                TaskReporting::FastAbort => "FastAbort,ResponseFence,RFC3720",
            },
            _ => "None",
        }
    }

    /// Whether a value of a list is fine.
    pub(super) fn accepts(&self, key: Key, value: &str) -> bool {
        match key {
            Key::HeaderDigest => crc32c(value).is_some_and(|crc32c| self.header_digest.accepts(crc32c)),
            Key::DataDigest => crc32c(value).is_some_and(|crc32c| self.data_digest.accepts(crc32c)),
            Key::TaskReporting => {
                TaskReporting::by_name(value).is_some_and(|value| value <= self.session.task_reporting)
            }
            _ => false,
        }
    }

    /// Whether the outcome has the digests that are required.
    pub(super) const fn satisfied_by(&self, digests: Digests) -> bool {
        self.header_satisfied_by(digests) && self.data_satisfied_by(digests)
    }

    /// Whether the outcome's header digest is fine.
    pub(super) const fn header_satisfied_by(&self, digests: Digests) -> bool {
        self.header_digest.accepts(digests.header)
    }

    /// Whether the outcome's data digest is fine.
    pub(super) const fn data_satisfied_by(&self, digests: Digests) -> bool {
        self.data_digest.accepts(digests.data)
    }
}

fn crc32c(value: &str) -> Option<bool> {
    match value {
        "None" => Some(false),
        "CRC32C" => Some(true),
        _ => None,
    }
}

impl SessionParameters {
    /// The value of a numeric or boolean key; 0 for keys that are neither.
    pub(super) fn number(&self, key: Key) -> u32 {
        match key {
            Key::MaxConnections => self.max_connections.into(),
            Key::InitialR2T => self.initial_r2t.into(),
            Key::ImmediateData => self.immediate_data.into(),
            Key::MaxBurstLength => self.max_burst_length,
            Key::FirstBurstLength => self.first_burst_length,
            Key::DefaultTime2Wait => self.default_time2wait.into(),
            Key::DefaultTime2Retain => self.default_time2retain.into(),
            Key::MaxOutstandingR2T => self.max_outstanding_r2t.into(),
            Key::DataPduInOrder => self.data_pdu_in_order.into(),
            Key::DataSequenceInOrder => self.data_sequence_in_order.into(),
            Key::ErrorRecoveryLevel => self.error_recovery_level.into(),
            Key::ProtocolLevel => self.protocol_level.into(),
            _ => 0,
        }
    }

    /// Sets a numeric or boolean key. The value is within the key's range, so that no cast cuts anything.
    pub(super) fn set_number(&mut self, key: Key, value: u32) {
        match key {
            Key::MaxConnections => self.max_connections = value as u16,
            Key::InitialR2T => self.initial_r2t = value != 0,
            Key::ImmediateData => self.immediate_data = value != 0,
            Key::MaxBurstLength => self.max_burst_length = value,
            Key::FirstBurstLength => self.first_burst_length = value,
            Key::DefaultTime2Wait => self.default_time2wait = value as u16,
            Key::DefaultTime2Retain => self.default_time2retain = value as u16,
            Key::MaxOutstandingR2T => self.max_outstanding_r2t = value as u16,
            Key::DataPduInOrder => self.data_pdu_in_order = value != 0,
            Key::DataSequenceInOrder => self.data_sequence_in_order = value != 0,
            Key::ErrorRecoveryLevel => self.error_recovery_level = value as u8,
            Key::ProtocolLevel => self.protocol_level = value as u8,
            _ => {}
        }
    }
}

impl Parameters {
    /// Sets the chosen value of a list.
    pub(super) fn set_choice(&mut self, key: Key, value: &str) {
        match key {
            Key::HeaderDigest => self.connection.digests.header = value == "CRC32C",
            Key::DataDigest => self.connection.digests.data = value == "CRC32C",
            Key::TaskReporting => self.session.task_reporting = TaskReporting::by_name(value).unwrap_or_default(),
            _ => {}
        }
    }
}

/// Brings a configured number into its key's range, so that a careless configuration cannot break the protocol.
pub(super) fn clamp(key: Key, value: u32) -> u32 {
    match key.spec().key_type {
        KeyType::Minimum { range, .. } | KeyType::Maximum { range, .. } | KeyType::DeclaredNumber { range, .. } => {
            value.clamp(range.0, range.1)
        }
        _ => value,
    }
}
