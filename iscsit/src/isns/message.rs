//! Messages: a header, then attributes as tag, length and value (RFC 4171 5).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::registrar::Registration;

/// How long a server keeps a registration that it hears nothing of.
pub const REGISTRATION_PERIOD: Duration = Duration::from_secs(900);
/// How often a server is to ask whether we are alive (Entity Status Inquiry).
pub const ESI_INTERVAL: Duration = Duration::from_secs(20);

const VERSION: u16 = 1;
const HEADER_BYTES: usize = 12;
/// Most bytes of the payload of one PDU: a multiple of 4 that its length field can say.
const MAX_PAYLOAD_BYTES: usize = 65532;
/// Most bytes of a whole message that comes in; answers repeat what was registered.
pub(super) const MAX_MESSAGE_BYTES: usize = 4 << 20;

const DEV_ATTR_REG: u16 = 0x0001;
const DEV_DEREG: u16 = 0x0004;
const ESI: u16 = 0x000d;
const RESPONSE: u16 = 0x8000;

const FLAG_CLIENT: u16 = 0x8000;
const FLAG_REPLACE: u16 = 0x1000;
const FLAG_LAST: u16 = 0x0800;
const FLAG_FIRST: u16 = 0x0400;

const TAG_DELIMITER: u32 = 0;
const TAG_ENTITY: u32 = 1;
const TAG_ENTITY_PROTOCOL: u32 = 2;
const TAG_REGISTRATION_PERIOD: u32 = 6;
const TAG_PORTAL_ADDRESS: u32 = 16;
const TAG_PORTAL_PORT: u32 = 17;
const TAG_ESI_INTERVAL: u32 = 19;
const TAG_ESI_PORT: u32 = 20;
const TAG_ISCSI_NAME: u32 = 32;
const TAG_NODE_TYPE: u32 = 33;
const TAG_ALIAS: u32 = 34;
const TAG_PG_ADDRESS: u32 = 49;
const TAG_PG_PORT: u32 = 50;
const TAG_PG_TAG: u32 = 51;

const PROTOCOL_ISCSI: u32 = 2;
const NODE_TARGET: u32 = 1;

/// A whole message: of one PDU, or put together from several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it asks or answers.
    pub function: u16,
    /// Joins question and answer.
    pub transaction: u16,
    flags: u16,
    payload: Vec<u8>,
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Not iSNS version 1.
    #[error("iSNS version {0}, not 1")]
    Version(u16),
    /// Its PDUs or attributes contradict each other.
    #[error("malformed")]
    Malformed,
    /// Longer than any answer to what we ask.
    #[error("longer than {MAX_MESSAGE_BYTES} bytes")]
    TooLong,
}

impl Message {
    /// Takes a message from the front of `bytes`, with the bytes it took. `None`: there is more to come.
    ///
    /// # Errors
    /// [`MessageError`]: the connection has no future.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, MessageError> {
        let mut message: Option<Self> = None;
        let mut at = 0;
        while let Some(header) = bytes.get(at..at + HEADER_BYTES) {
            let field = |place: usize| u16::from_be_bytes([header[place], header[place + 1]]);
            if field(0) != VERSION {
                return Err(MessageError::Version(field(0)));
            }
            let (function, length, flags, transaction) = (field(2), usize::from(field(4)), field(6), field(8));
            if length % 4 != 0 {
                return Err(MessageError::Malformed);
            }
            let Some(payload) = bytes.get(at + HEADER_BYTES..at + HEADER_BYTES + length) else { break };
            at += HEADER_BYTES + length;
            match &mut message {
                None if flags & FLAG_FIRST == 0 => return Err(MessageError::Malformed),
                None => message = Some(Self { function, transaction, flags, payload: payload.to_vec() }),
                Some(message) if (message.function, message.transaction) != (function, transaction) => {
                    return Err(MessageError::Malformed);
                }
                Some(message) => message.payload.extend_from_slice(payload),
            }
            if flags & FLAG_LAST != 0 {
                return Ok(message.map(|message| (message, at)));
            }
            if at > MAX_MESSAGE_BYTES {
                return Err(MessageError::TooLong);
            }
        }
        if bytes.len() > MAX_MESSAGE_BYTES { Err(MessageError::TooLong) } else { Ok(None) }
    }

    /// The bytes: several PDUs, cut between attributes, when one has not room enough.
    pub fn encode(&self) -> Vec<u8> {
        let mut pieces: Vec<&[u8]> = Vec::new();
        let (mut begin, mut at) = (0, 0);
        while at < self.payload.len() {
            let next = at + attribute_bytes(&self.payload[at..]);
            if next - begin > MAX_PAYLOAD_BYTES {
                pieces.push(&self.payload[begin..at]);
                begin = at;
            }
            at = next;
        }
        pieces.push(&self.payload[begin..]);
        let mut bytes = Vec::with_capacity(self.payload.len() + pieces.len() * HEADER_BYTES);
        for (number, piece) in pieces.iter().enumerate() {
            let first = if number == 0 { FLAG_FIRST } else { 0 };
            let last = if number + 1 == pieces.len() { FLAG_LAST } else { 0 };
            let flags = self.flags & !(FLAG_FIRST | FLAG_LAST) | first | last;
            // Pieces are cut to fit, and 4,095 targets make far fewer than 65,536 of them.
            for field in [VERSION, self.function, piece.len() as u16, flags, self.transaction, number as u16] {
                bytes.extend(field.to_be_bytes());
            }
            bytes.extend_from_slice(piece);
        }
        bytes
    }

    /// Whether it answers `question`; then its status: 0 is success.
    pub(super) fn status_for(&self, question: &Self) -> Option<u32> {
        let answers = (self.function, self.transaction) == (question.function | RESPONSE, question.transaction);
        let status = self.payload.first_chunk::<4>().filter(|_| answers)?;
        Some(u32::from_be_bytes(*status))
    }

    /// DevAttrReg that replaces all that is registered of the entity.
    pub(super) fn register(registration: &Registration, transaction: u16) -> Option<Self> {
        let source = registration.nodes.first()?;
        let mut payload = Vec::new();
        put_text(&mut payload, TAG_ISCSI_NAME, &source.name);
        put_text(&mut payload, TAG_ENTITY, &registration.entity);
        put(&mut payload, TAG_DELIMITER, &[]);
        put_text(&mut payload, TAG_ENTITY, &registration.entity);
        put(&mut payload, TAG_ENTITY_PROTOCOL, &PROTOCOL_ISCSI.to_be_bytes());
        put(&mut payload, TAG_REGISTRATION_PERIOD, &(REGISTRATION_PERIOD.as_secs() as u32).to_be_bytes());
        let mut portals: Vec<SocketAddr> =
            registration.nodes.iter().flat_map(|n| &n.portals).map(|(p, _)| *p).collect();
        portals.sort_unstable();
        portals.dedup();
        for portal in portals {
            put(&mut payload, TAG_PORTAL_ADDRESS, &address(portal.ip()));
            put(&mut payload, TAG_PORTAL_PORT, &u32::from(portal.port()).to_be_bytes());
            if let Some(port) = registration.esi_port {
                put(&mut payload, TAG_ESI_INTERVAL, &(ESI_INTERVAL.as_secs() as u32).to_be_bytes());
                put(&mut payload, TAG_ESI_PORT, &u32::from(port).to_be_bytes());
            }
        }
        for node in &registration.nodes {
            put_text(&mut payload, TAG_ISCSI_NAME, &node.name);
            put(&mut payload, TAG_NODE_TYPE, &NODE_TARGET.to_be_bytes());
            if let Some(alias) = &node.alias {
                put_text(&mut payload, TAG_ALIAS, alias);
            }
            // A portal group tag, then the portals that bear it on this node (RFC 4171 5.6.5.1).
            let mut tag = None;
            for (portal, of) in &node.portals {
                if tag != Some(of) {
                    put(&mut payload, TAG_PG_TAG, &u32::from(*of).to_be_bytes());
                    tag = Some(of);
                }
                put(&mut payload, TAG_PG_ADDRESS, &address(portal.ip()));
                put(&mut payload, TAG_PG_PORT, &u32::from(portal.port()).to_be_bytes());
            }
        }
        Some(Self { function: DEV_ATTR_REG, transaction, flags: FLAG_CLIENT | FLAG_REPLACE, payload })
    }

    /// DevDereg of the whole entity, with everything that belongs to it. `source` is a node of it.
    pub(super) fn deregister(source: &str, entity: &str, transaction: u16) -> Self {
        let mut payload = Vec::new();
        put_text(&mut payload, TAG_ISCSI_NAME, source);
        put(&mut payload, TAG_DELIMITER, &[]);
        put_text(&mut payload, TAG_ENTITY, entity);
        Self { function: DEV_DEREG, transaction, flags: FLAG_CLIENT, payload }
    }

    #[cfg(test)]
    pub(super) fn answer(&self, status: u32) -> Self {
        let payload = status.to_be_bytes().to_vec();
        Self { function: self.function | RESPONSE, transaction: self.transaction, flags: 0x4000, payload }
    }
}

/// The answer to an Entity Status Inquiry: success, and the inquiry's own attributes. `None` if it is none.
pub fn answer_esi(inquiry: &Message) -> Option<Message> {
    if inquiry.function != ESI {
        return None;
    }
    let payload = [&0u32.to_be_bytes()[..], &inquiry.payload].concat();
    Some(Message { function: ESI | RESPONSE, transaction: inquiry.transaction, flags: FLAG_CLIENT, payload })
}

fn put(payload: &mut Vec<u8>, tag: u32, value: &[u8]) {
    payload.extend(tag.to_be_bytes());
    payload.extend((value.len() as u32).to_be_bytes());
    payload.extend_from_slice(value);
}

/// Text ends with a NUL and is filled up to a multiple of 4 bytes (RFC 4171 5.1.1).
fn put_text(payload: &mut Vec<u8>, tag: u32, text: &str) {
    let mut value = text.as_bytes().to_vec();
    value.push(0);
    value.resize(value.len().next_multiple_of(4), 0);
    put(payload, tag, &value);
}

/// IPv4 addresses in their IPv6-mapped form.
fn address(ip: IpAddr) -> [u8; 16] {
    let v6: Ipv6Addr = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    v6.octets()
}

fn attribute_bytes(payload: &[u8]) -> usize {
    let length = payload.get(4..8).and_then(|bytes| bytes.first_chunk::<4>()).map_or(0, |b| u32::from_be_bytes(*b));
    (8 + length as usize).min(payload.len())
}

#[cfg(test)]
mod tests {
    use super::super::registrar::Node;
    use super::*;

    fn registration(targets: usize) -> Registration {
        let node = |number| Node {
            name: format!("iqn.2026-11.org.example:disk-{number}"),
            alias: Some("a disk".into()),
            portals: vec![("192.0.2.1:3260".parse().unwrap(), 1), ("[2001:db8::1]:3261".parse().unwrap(), 2)],
        };
        Registration { entity: "array".into(), esi_port: Some(4711), nodes: (0..targets).map(node).collect() }
    }

    /// Tags and values of a payload.
    fn attributes(mut payload: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut found = Vec::new();
        while !payload.is_empty() {
            let bytes = attribute_bytes(payload);
            found.push((u32::from_be_bytes(payload[..4].try_into().unwrap()), payload[8..bytes].to_vec()));
            payload = &payload[bytes..];
        }
        found
    }

    #[test]
    fn a_registration_names_source_key_portals_nodes_and_groups() {
        let message = Message::register(&registration(1), 3).unwrap();
        let tags: Vec<u32> = attributes(&message.payload).iter().map(|(tag, _)| *tag).collect();
        let portal = [16, 17, 19, 20];
        let expect = [&[32, 1, 0, 1, 2, 6][..], &portal, &portal, &[32, 33, 34, 51, 49, 50, 51, 49, 50]].concat();
        assert_eq!(tags, expect);
        assert_eq!(message.flags & FLAG_REPLACE, FLAG_REPLACE);
        let first = &attributes(&message.payload)[6].1;
        assert_eq!(first[..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
    }

    #[test]
    fn a_long_message_goes_in_several_pdus_cut_between_attributes() {
        let message = Message::register(&registration(4095), 3).unwrap();
        let bytes = message.encode();
        let (back, taken) = Message::decode(&bytes).unwrap().unwrap();
        assert_eq!((taken, &back.payload), (bytes.len(), &message.payload));
        assert!(bytes.len() > 8 * MAX_PAYLOAD_BYTES);
        // Every prefix is a part of it, and no more.
        for cut in [0, 11, 12, 70_000, bytes.len() - 1] {
            assert_eq!(Message::decode(&bytes[..cut]), Ok(None), "{cut} bytes");
        }
    }

    #[test]
    fn strange_bytes_are_refused() {
        let bytes = Message::deregister("iqn.2026-11.org.example:disk", "array", 1).encode();
        let changed = |at: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            Message::decode(&bytes)
        };
        assert_eq!(changed(1, 2), Err(MessageError::Version(2)));
        assert_eq!(changed(5, 1), Err(MessageError::Malformed), "no multiple of 4");
        assert_eq!(changed(6, 0x80), Err(MessageError::Malformed), "does not begin with a first PDU");
    }

    #[test]
    fn an_inquiry_is_answered_with_its_own_attributes() {
        let mut payload = Vec::new();
        put_text(&mut payload, TAG_ENTITY, "array");
        let inquiry = Message { function: ESI, transaction: 9, flags: 0x4000, payload: payload.clone() };
        let answer = answer_esi(&inquiry).unwrap();
        assert_eq!((answer.function, answer.transaction), (0x800d, 9));
        assert_eq!(answer.payload, [&[0; 4][..], &payload].concat());
        assert_eq!(answer_esi(&answer), None);
    }
}
