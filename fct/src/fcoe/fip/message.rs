//! Messages of the initialisation protocol: a header and descriptors (FC-BB-6, FIP frame format).

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;
use stmf::provider::hba::{PortId, Wwn};

use super::super::MacAddress;
use crate::wire::{be16, be32, be64};

/// Version, operation, lengths and flags.
const HEADER: usize = 10;
/// Descriptors in a message; more are none that anybody sends.
const MAX_DESCRIPTORS: usize = 128;
/// Descriptors from this number on may be passed over by those who do not know them.
const FIRST_NON_CRITICAL: u8 = 128;

/// What a message is: its operation and subcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operation(pub u16, pub u8);

impl Operation {
    /// Who is a forwarder here?
    pub const SOLICITATION: Self = Self(1, 1);
    /// A forwarder tells of itself.
    pub const ADVERTISEMENT: Self = Self(1, 2);
    /// A link service that is asked.
    pub const LINK_SERVICE_REQUEST: Self = Self(2, 1);
    /// A link service that answers.
    pub const LINK_SERVICE_REPLY: Self = Self(2, 2);
    /// A node or a port is still here.
    pub const KEEP_ALIVE: Self = Self(3, 1);
    /// Virtual links are no more.
    pub const CLEAR_VIRTUAL_LINK: Self = Self(3, 2);
    /// On which VLANs is FCoE?
    pub const VLAN_REQUEST: Self = Self(4, 1);
    /// On these.
    pub const VLAN_NOTIFICATION: Self = Self(4, 2);
    /// Does anybody have this identifier?
    pub const PROBE_REQUEST: Self = Self(5, 1);
    /// I do.
    pub const PROBE_REPLY: Self = Self(5, 2);
    /// This identifier is mine from now on.
    pub const CLAIM_NOTIFICATION: Self = Self(5, 3);
    /// I have seen it, and this one is mine.
    pub const CLAIM_RESPONSE: Self = Self(5, 4);
    /// I am still here.
    pub const BEACON: Self = Self(5, 5);
}

/// Flags of the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u16);

impl Flags {
    /// Addresses that the fabric makes of identifiers.
    pub const FPMA: Self = Self(0x8000);
    /// Addresses that servers bring along.
    pub const SPMA: Self = Self(0x4000);
    /// The identifier is one that was kept, or its sender knows of one other port only.
    pub const RECORDED: Self = Self(0x0008);
    /// The forwarder takes logins.
    pub const AVAILABLE: Self = Self(0x0004);
    /// An answer to a solicitation.
    pub const SOLICITED: Self = Self(0x0002);
    /// Sent by a forwarder.
    pub const FORWARDER: Self = Self(0x0001);

    /// Whether all bits of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Which link service a descriptor holds: FLOGI, FDISC, LOGO or ELP, or the answer to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceKind(pub u8);

impl ServiceKind {
    /// FLOGI.
    pub const FLOGI: Self = Self(7);
    /// FDISC.
    pub const FDISC: Self = Self(8);
    /// LOGO.
    pub const LOGO: Self = Self(9);
    /// ELP, between switches.
    pub const ELP: Self = Self(10);
}

/// A descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Descriptor {
    /// Which forwarder is taken: the lower number.
    Priority(u8),
    /// An address.
    Mac(MacAddress),
    /// The first three bytes of mapped addresses.
    FcMap([u8; 3]),
    /// The name of a switch or a node.
    Name(Wwn),
    /// A fabric.
    Fabric {
        /// Number of the virtual fabric.
        virtual_fabric: u16,
        /// The first three bytes of mapped addresses.
        fc_map: [u8; 3],
        /// Its name.
        name: Wwn,
    },
    /// The longest FCoE frame that its sender takes: payload of an Ethernet frame in bytes.
    MaxSize(u16),
    /// A link service: a whole FC frame without delimiters and CRC.
    Service(ServiceKind, Bytes),
    /// A port.
    VnPort {
        /// Its address.
        mac: MacAddress,
        /// Its identifier.
        id: PortId,
        /// Its port name.
        name: Wwn,
    },
    /// How often a forwarder tells of itself, and wants to hear of nodes.
    KeepAlive {
        /// In milliseconds.
        period_ms: u32,
        /// It does not want to hear of nodes.
        silent: bool,
    },
    /// A manufacturer.
    Vendor([u8; 8]),
    /// A VLAN's number.
    Vlan(u16),
    /// What a port speaks: 32 bytes of types, 128 of their features.
    Fc4(Bytes),
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub operation: Operation,
    /// Flags of its header.
    pub flags: Flags,
    /// Descriptors in their order.
    pub descriptors: SmallVec<[Descriptor; 6]>,
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FipError {
    /// It ends before its descriptors do.
    #[error("a FIP message of {0} bytes ends too early")]
    Short(usize),
    /// Another version than 1.
    #[error("FIP version {0}")]
    Version(u8),
    /// A descriptor that must be known is not, or its length is wrong.
    #[error("FIP descriptor {kind} of {words} words")]
    Descriptor {
        /// Its type.
        kind: u8,
        /// Its length in words.
        words: u8,
    },
    /// More descriptors than any message has.
    #[error("more than 128 FIP descriptors")]
    TooMany,
}

impl Message {
    /// A message without descriptors.
    pub fn new(operation: Operation, flags: Flags) -> Self {
        Self { operation, flags, descriptors: SmallVec::new() }
    }

    /// With one more descriptor.
    #[must_use]
    pub fn with(mut self, descriptor: Descriptor) -> Self {
        self.descriptors.push(descriptor);
        self
    }

    /// Reads an Ethernet frame's payload. What follows the descriptors is padding.
    ///
    /// # Errors
    /// [`FipError`]; the standard has such messages ignored.
    pub fn decode(bytes: &Bytes) -> Result<Self, FipError> {
        let version = bytes.first().ok_or(FipError::Short(0))? >> 4;
        if version != 1 {
            return Err(FipError::Version(version));
        }
        let end = HEADER + usize::from(be16(bytes, 6)) * 4;
        if bytes.len() < end {
            return Err(FipError::Short(bytes.len()));
        }
        let mut message = Self::new(Operation(be16(bytes, 2), bytes[5]), Flags(be16(bytes, 8)));
        let mut at = HEADER;
        while at < end {
            let (kind, words) = (bytes[at], bytes[at + 1]);
            let length = usize::from(words) * 4;
            if length == 0 || length > end - at {
                return Err(FipError::Descriptor { kind, words });
            }
            if message.descriptors.len() >= MAX_DESCRIPTORS {
                return Err(FipError::TooMany);
            }
            let body = bytes.slice(at + 2..at + length);
            match Descriptor::decode(kind, &body) {
                Some(descriptor) => message.descriptors.push(descriptor),
                None if kind >= FIRST_NON_CRITICAL => {}
                None => return Err(FipError::Descriptor { kind, words }),
            }
            at += length;
        }
        Ok(message)
    }

    /// The payload of an Ethernet frame, without padding.
    pub fn encode(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(256);
        out.put_slice(&[0x10, 0]);
        out.put_u16(self.operation.0);
        out.put_slice(&[0, self.operation.1, 0, 0]);
        out.put_u16(self.flags.0);
        self.descriptors.iter().for_each(|descriptor| descriptor.encode(&mut out));
        let words = ((out.len() - HEADER) / 4) as u16;
        out[6..8].copy_from_slice(&words.to_be_bytes());
        out
    }

    /// The first address in it.
    pub fn mac(&self) -> Option<MacAddress> {
        self.find(|descriptor| if let Descriptor::Mac(mac) = descriptor { Some(*mac) } else { None })
    }

    /// The first name in it.
    pub fn name(&self) -> Option<Wwn> {
        self.find(|descriptor| if let Descriptor::Name(name) = descriptor { Some(*name) } else { None })
    }

    /// The first port in it.
    pub fn port(&self) -> Option<(MacAddress, PortId, Wwn)> {
        self.find(|descriptor| match descriptor {
            Descriptor::VnPort { mac, id, name } => Some((*mac, *id, *name)),
            _ => None,
        })
    }

    /// The longest frame that its sender takes.
    pub fn max_size(&self) -> Option<u16> {
        self.find(|descriptor| if let Descriptor::MaxSize(size) = descriptor { Some(*size) } else { None })
    }

    /// The link service in it.
    pub fn service(&self) -> Option<(ServiceKind, Bytes)> {
        self.find(|descriptor| match descriptor {
            Descriptor::Service(kind, frame) => Some((*kind, frame.clone())),
            _ => None,
        })
    }

    fn find<T>(&self, pick: impl Fn(&Descriptor) -> Option<T>) -> Option<T> {
        self.descriptors.iter().find_map(pick)
    }
}

impl Descriptor {
    /// Reads one without its type and length; `None` when it is unknown or its length is none that it may have.
    fn decode(kind: u8, body: &Bytes) -> Option<Self> {
        let three = |at: usize| [body[at], body[at + 1], body[at + 2]];
        let mac =
            |at: usize| MacAddress([body[at], body[at + 1], body[at + 2], body[at + 3], body[at + 4], body[at + 5]]);
        Some(match (kind, body.len()) {
            (1, 2) => Self::Priority(body[1]),
            (2, 6) => Self::Mac(mac(0)),
            (3, 6) => Self::FcMap(three(3)),
            (4, 10) => Self::Name(Wwn(be64(body, 2))),
            (5, 14) => Self::Fabric { virtual_fabric: be16(body, 0), fc_map: three(3), name: Wwn(be64(body, 6)) },
            (6, 2) => Self::MaxSize(be16(body, 0)),
            // A frame has a header and a command at least.
            (7..=10, 30..) => Self::Service(ServiceKind(kind), body.slice(2..)),
            (11, 18) => Self::VnPort { mac: mac(0), id: PortId::from_bytes(three(7)), name: Wwn(be64(body, 10)) },
            (12, 6) => Self::KeepAlive { period_ms: be32(body, 2), silent: body[1] & 1 != 0 },
            (13, 10) => Self::Vendor(be64(body, 2).to_be_bytes()),
            (14, 2) => Self::Vlan(be16(body, 0) & 0x0fff),
            (15, 162) => Self::Fc4(body.slice(2..)),
            _ => return None,
        })
    }

    fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_slice(&[0, 0]);
        let kind = match self {
            Self::Priority(priority) => {
                out.put_slice(&[0, *priority]);
                1
            }
            Self::Mac(mac) => {
                out.put_slice(&mac.0);
                2
            }
            Self::FcMap(map) => {
                out.put_slice(&[0; 3]);
                out.put_slice(map);
                3
            }
            Self::Name(name) => {
                out.put_slice(&[0; 2]);
                out.put_u64(name.0);
                4
            }
            Self::Fabric { virtual_fabric, fc_map, name } => {
                out.put_u16(*virtual_fabric);
                out.put_u8(0);
                out.put_slice(fc_map);
                out.put_u64(name.0);
                5
            }
            Self::MaxSize(size) => {
                out.put_u16(*size);
                6
            }
            Self::Service(kind, frame) => {
                out.put_slice(&[0; 2]);
                out.put_slice(frame);
                kind.0
            }
            Self::VnPort { mac, id, name } => {
                out.put_slice(&mac.0);
                out.put_u8(0);
                out.put_slice(&id.to_bytes());
                out.put_u64(name.0);
                11
            }
            Self::KeepAlive { period_ms, silent } => {
                out.put_slice(&[0, u8::from(*silent)]);
                out.put_u32(*period_ms);
                12
            }
            Self::Vendor(vendor) => {
                out.put_slice(&[0; 2]);
                out.put_slice(vendor);
                13
            }
            Self::Vlan(vlan) => {
                out.put_u16(*vlan);
                14
            }
            Self::Fc4(features) => {
                out.put_slice(&[0; 2]);
                out.put_slice(features);
                15
            }
        };
        // Link services are whole words; anything else is a caller's own.
        while !(out.len() - start).is_multiple_of(4) {
            out.put_u8(0);
        }
        out[start] = kind;
        out[start + 1] = ((out.len() - start) / 4).min(255) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all() -> Message {
        Message::new(Operation::ADVERTISEMENT, Flags(0x8005))
            .with(Descriptor::Priority(128))
            .with(Descriptor::Mac(MacAddress([2, 0, 0, 0, 0, 1])))
            .with(Descriptor::FcMap([0x0e, 0xfc, 0]))
            .with(Descriptor::Name(Wwn(0x1000_0000_0000_0001)))
            .with(Descriptor::Fabric { virtual_fabric: 7, fc_map: [0x0e, 0xfc, 1], name: Wwn(9) })
            .with(Descriptor::MaxSize(2158))
            .with(Descriptor::Service(ServiceKind::FLOGI, Bytes::from(vec![4; 140])))
            .with(Descriptor::VnPort { mac: MacAddress([0x0e, 0xfd, 0, 0, 0, 1]), id: PortId(1), name: Wwn(3) })
            .with(Descriptor::KeepAlive { period_ms: 8000, silent: true })
            .with(Descriptor::Vendor(*b"Lunette "))
            .with(Descriptor::Vlan(1002))
            .with(Descriptor::Fc4(Bytes::from(vec![5; 160])))
    }

    #[test]
    fn every_descriptor_survives_the_wire() {
        assert_eq!(Message::decode(&all().encode().freeze()), Ok(all()));
    }

    #[test]
    fn a_probe_reads_as_linux_sends_it() {
        // Probe request of 52:54:00:12:fc:01, which would be FC01h.
        let mut bytes = vec![0x10, 0, 0, 5, 0, 1, 0, 10, 0, 0];
        bytes.extend([2, 2, 0x52, 0x54, 0, 0x12, 0xfc, 1]);
        bytes.extend([4, 3, 0, 0, 0x10, 0, 0x52, 0x54, 0, 0x12, 0xfc, 1]);
        bytes.extend([11, 5, 0x0e, 0xfd, 0, 0, 0xfc, 1, 0, 0, 0xfc, 1, 0x20, 0, 0x52, 0x54, 0, 0x12, 0xfc, 1]);
        let enode = MacAddress([0x52, 0x54, 0, 0x12, 0xfc, 1]);
        let probe = Message::decode(&Bytes::from(bytes.clone())).unwrap();
        assert_eq!((probe.operation, probe.mac()), (Operation::PROBE_REQUEST, Some(enode)));
        assert_eq!(probe.name(), Some(enode.node_name()));
        let mapped = MacAddress::mapped([0x0e, 0xfd, 0], PortId(0xfc01));
        assert_eq!(probe.port(), Some((mapped, PortId(0xfc01), enode.port_name())));
        assert_eq!(probe.encode(), bytes);
    }

    #[test]
    fn unknown_descriptors_are_passed_over_only_when_they_may_be() {
        let with = |kind: u8| {
            let mut bytes = Message::new(Operation::BEACON, Flags(0)).encode();
            bytes.put_slice(&[kind, 1, 0, 0]);
            bytes[7] = 1;
            Message::decode(&bytes.freeze())
        };
        assert_eq!(with(200), Ok(Message::new(Operation::BEACON, Flags(0))));
        assert_eq!(with(16), Err(FipError::Descriptor { kind: 16, words: 1 }));
        assert_eq!(with(2), Err(FipError::Descriptor { kind: 2, words: 1 }), "an address of one word");
    }

    #[test]
    fn a_message_ends_where_it_says() {
        let whole = all().encode().freeze();
        for length in 0..whole.len() {
            assert!(Message::decode(&whole.slice(..length)).is_err(), "{length} bytes");
        }
        let mut padded = BytesMut::from(&whole[..]);
        padded.resize(whole.len() + 100, 0);
        assert_eq!(Message::decode(&padded.freeze()), Ok(all()));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_alike(bytes in prop::collection::vec(any::<u8>(), 0..200), words in 0u8..50) {
            let mut bytes = bytes;
            if bytes.len() > 8 {
                bytes[0] = 0x10;
                bytes[6] = 0;
                bytes[7] = words;
            }
            if let Ok(message) = Message::decode(&Bytes::from(bytes)) {
                prop_assert_eq!(Message::decode(&message.encode().freeze()), Ok(message));
            }
        }
    }
}
