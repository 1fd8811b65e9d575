//! Packets: Access-Request out, Access-Accept, -Reject and -Challenge in (RFC 2865 3, 5; RFC 3579 3.2).

use iscsi_proto::auth::chap::{Algorithm, Proof};
use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

/// Longest packet (RFC 2865 3). What is longer is cut off by whoever receives it.
pub const MAX_PACKET_BYTES: usize = 4096;

const HEADER_BYTES: usize = 20;
const DIGEST_BYTES: usize = 16;
/// Most bytes of an attribute's value.
const MAX_VALUE_BYTES: usize = 253;
/// HMAC's block size with MD5 (RFC 2104).
const HMAC_BLOCK_BYTES: usize = 64;

const ACCESS_REQUEST: u8 = 1;
const ACCESS_ACCEPT: u8 = 2;
const ACCESS_REJECT: u8 = 3;
const ACCESS_CHALLENGE: u8 = 11;

const USER_NAME: u8 = 1;
const CHAP_PASSWORD: u8 = 3;
const REPLY_MESSAGE: u8 = 18;
const NAS_IDENTIFIER: u8 = 32;
const CHAP_CHALLENGE: u8 = 60;
const NAS_PORT_TYPE: u8 = 61;
const MESSAGE_AUTHENTICATOR: u8 = 80;

/// NAS-Port-Type Virtual (RFC 2865 5.41): a connection over a network.
const PORT_TYPE_VIRTUAL: u32 = 5;
const NAS_NAME: &str = "lunette";

/// What is asked of a server, but for the identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    user: String,
    /// CHAP identifier and response.
    password: [u8; 1 + DIGEST_BYTES],
    challenge: Vec<u8>,
}

impl Request {
    /// The question whether `proof` is right. `None` if RADIUS cannot carry it: CHAP-Password is MD5's, and names and
    /// challenges have at most 253 bytes.
    pub fn new(proof: &Proof) -> Option<Self> {
        let fits = |bytes: usize| (1..=MAX_VALUE_BYTES).contains(&bytes);
        if proof.algorithm != Algorithm::MD5 || !fits(proof.name.len()) || !fits(proof.challenge.len()) {
            return None;
        }
        let mut password = [0; 1 + DIGEST_BYTES];
        password[0] = proof.identifier;
        password[1..].copy_from_slice(proof.response.get(..DIGEST_BYTES).filter(|_| proof.response.len() == 16)?);
        Some(Self { user: proof.name.clone(), password, challenge: proof.challenge.clone() })
    }

    /// The name in question.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The packet: `authenticator` is 16 random bytes, never used before with this secret.
    pub fn encode(&self, identifier: u8, authenticator: [u8; 16], secret: &[u8]) -> Vec<u8> {
        let mut packet = vec![ACCESS_REQUEST, identifier, 0, 0];
        packet.extend_from_slice(&authenticator);
        // First, so that nothing an attacker chooses stands before it.
        let at = packet.len() + 2;
        attribute(&mut packet, MESSAGE_AUTHENTICATOR, &[0; DIGEST_BYTES]);
        attribute(&mut packet, USER_NAME, self.user.as_bytes());
        attribute(&mut packet, CHAP_PASSWORD, &self.password);
        attribute(&mut packet, CHAP_CHALLENGE, &self.challenge);
        attribute(&mut packet, NAS_IDENTIFIER, NAS_NAME.as_bytes());
        attribute(&mut packet, NAS_PORT_TYPE, &PORT_TYPE_VIRTUAL.to_be_bytes());
        // A name, a challenge and a few fixed attributes are far from the limit.
        let length = packet.len() as u16;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        let mac = hmac_md5(secret, &[&packet]);
        packet[at..at + DIGEST_BYTES].copy_from_slice(&mac);
        packet
    }
}

fn attribute(packet: &mut Vec<u8>, kind: u8, value: &[u8]) {
    packet.extend([kind, value.len() as u8 + 2]);
    packet.extend_from_slice(value);
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the proof is right and its owner may come in.
    pub accepted: bool,
    /// What the server wants people to read; for the log.
    pub message: Option<String>,
}

/// Why a packet is no answer to a request. It is ignored; the right one may still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// Its lengths contradict each other.
    #[error("malformed")]
    Malformed,
    /// Not a code that answers an Access-Request.
    #[error("unexpected code {0}")]
    Code(u8),
    /// The Response Authenticator does not match: another secret, or a forgery.
    #[error("the response authenticator is wrong: is the shared secret the same on both sides?")]
    Authenticator,
    /// It has no Message-Authenticator.
    #[error("there is no Message-Authenticator: let the server add one to its answers")]
    Unauthenticated,
    /// The Message-Authenticator does not match: another secret, or a forgery.
    #[error("the Message-Authenticator is wrong: is the shared secret the same on both sides?")]
    MessageAuthenticator,
}

impl Answer {
    /// Reads the answer to the request that was sent with `authenticator`. Its identifier is the caller's to compare.
    ///
    /// # Errors
    /// [`AnswerError`], for everything that is not proven to come from somebody who knows the secret.
    pub fn decode(packet: &[u8], authenticator: [u8; 16], secret: &[u8]) -> Result<Self, AnswerError> {
        let header = packet.get(..HEADER_BYTES).ok_or(AnswerError::Malformed)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        // What is behind the length is padding (RFC 2865 3).
        let packet = packet.get(..length).ok_or(AnswerError::Malformed)?;
        let (header, attributes) = packet.split_at_checked(HEADER_BYTES).ok_or(AnswerError::Malformed)?;
        let code = header[0];
        if !matches!(code, ACCESS_ACCEPT | ACCESS_REJECT | ACCESS_CHALLENGE) {
            return Err(AnswerError::Code(code));
        }
        let mut digest = Md5::new();
        for part in [&header[..4], &authenticator[..], attributes, secret] {
            digest.update(part);
        }
        if !bool::from(digest.finalize().ct_eq(&header[4..])) {
            return Err(AnswerError::Authenticator);
        }
        let (mut mac, mut message) = (None, None);
        let mut at = 0;
        while at < attributes.len() {
            let (kind, length) = match attributes.get(at..at + 2) {
                Some(&[kind, length]) if length >= 2 => (kind, usize::from(length)),
                _ => return Err(AnswerError::Malformed),
            };
            let value = attributes.get(at + 2..at + length).ok_or(AnswerError::Malformed)?;
            match kind {
                // Twice would leave open which of them was checked.
                MESSAGE_AUTHENTICATOR if mac.is_some() || value.len() != DIGEST_BYTES => {
                    return Err(AnswerError::Malformed);
                }
                MESSAGE_AUTHENTICATOR => mac = Some(at + 2),
                REPLY_MESSAGE if message.is_none() => message = Some(printable(value)),
                _ => {}
            }
            at += length;
        }
        let mac = mac.ok_or(AnswerError::Unauthenticated)?;
        let (before, rest) = attributes.split_at(mac);
        let (given, after) = rest.split_at(DIGEST_BYTES);
        let expected = hmac_md5(secret, &[&header[..4], &authenticator, before, &[0; DIGEST_BYTES], after]);
        if !bool::from(expected.as_slice().ct_eq(given)) {
            return Err(AnswerError::MessageAuthenticator);
        }
        // A challenge asks for more than CHAP in iSCSI can give: it is no acceptance.
        Ok(Self { accepted: code == ACCESS_ACCEPT, message })
    }
}

/// Text from the network on its way to a log: one line, no control characters.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// HMAC-MD5 (RFC 2104) of the parts, one behind the other.
fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut block = [0; HMAC_BLOCK_BYTES];
    match block.get_mut(..key.len()) {
        Some(place) => place.copy_from_slice(key),
        None => block[..DIGEST_BYTES].copy_from_slice(&Md5::digest(key)),
    }
    let mut inner = Md5::new();
    inner.update(block.map(|byte| byte ^ 0x36));
    for part in parts {
        inner.update(part);
    }
    let mut outer = Md5::new();
    outer.update(block.map(|byte| byte ^ 0x5c));
    outer.update(inner.finalize());
    block.fill(0);
    outer.finalize().into()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::radius) const SECRET: &[u8] = b"shared between two";

    pub(in crate::radius) fn proof() -> Proof {
        Proof {
            name: "reader".into(),
            algorithm: Algorithm::MD5,
            identifier: 7,
            challenge: vec![0x5a; 32],
            response: Algorithm::MD5.respond(7, b"twelve bytes", &[0x5a; 32]).unwrap().to_vec(),
        }
    }

    /// An answer as a server makes it.
    pub(in crate::radius) fn answer(code: u8, request: &[u8], secret: &[u8], signed: bool) -> Vec<u8> {
        let authenticator = &request[4..20];
        let mut attributes = Vec::new();
        if signed {
            attribute(&mut attributes, MESSAGE_AUTHENTICATOR, &[0; 16]);
        }
        attribute(&mut attributes, REPLY_MESSAGE, b"hello\nthere");
        let length = (HEADER_BYTES + attributes.len()) as u16;
        let mut packet = vec![code, request[1]];
        packet.extend(length.to_be_bytes());
        if signed {
            let mac = hmac_md5(secret, &[&packet, authenticator, &attributes]);
            attributes[2..18].copy_from_slice(&mac);
        }
        let digest = Md5::new().chain_update(&packet).chain_update(authenticator);
        let digest = digest.chain_update(&attributes).chain_update(secret).finalize();
        packet.extend_from_slice(&digest);
        packet.extend_from_slice(&attributes);
        packet
    }

    #[test]
    fn hmac_is_that_of_rfc_2202() {
        // RFC 2202 2, test cases 1, 2 and 6: a short key, a text key, a key longer than a block.
        let hex = |digest: [u8; 16]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(hmac_md5(&[0x0b; 16], &[b"Hi There"])), "9294727a3638bb1c13f48ef8158bfc9d");
        let parts: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
        assert_eq!(hex(hmac_md5(b"Jefe", &parts)), "750c783e6ab0b503eaa86e310a5db738");
        let long = [&b"Test Using Larger Than Block-Size Key - Hash Key First"[..]];
        assert_eq!(hex(hmac_md5(&[0xaa; 80], &long)), "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd");
    }

    #[test]
    fn a_request_has_the_fields_of_rfc_2865() {
        let packet = Request::new(&proof()).unwrap().encode(9, [3; 16], SECRET);
        assert_eq!((packet[0], packet[1]), (ACCESS_REQUEST, 9));
        assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet.len());
        assert_eq!(packet[4..20], [3; 16]);
        assert_eq!(packet[20..22], [MESSAGE_AUTHENTICATOR, 18], "it comes first");
        let password = packet.windows(3).position(|bytes| bytes == [CHAP_PASSWORD, 19, 7]).unwrap();
        assert_eq!(packet[password + 3..password + 19], proof().response[..]);
        let mut unsigned = packet.clone();
        unsigned[22..38].fill(0);
        assert_eq!(packet[22..38], hmac_md5(SECRET, &[&unsigned]));
        assert!(!packet.windows(SECRET.len()).any(|bytes| bytes == SECRET));
    }

    #[test]
    fn only_md5_can_be_asked() {
        let sha = Proof { algorithm: Algorithm::SHA256, ..proof() };
        assert_eq!(Request::new(&sha), None);
        let long = Proof { name: "x".repeat(254), ..proof() };
        assert_eq!(Request::new(&long), None);
    }

    #[test]
    fn answers_are_believed_with_both_authenticators_only() {
        let request = Request::new(&proof()).unwrap().encode(9, [3; 16], SECRET);
        let read = |packet: &[u8]| Answer::decode(packet, [3; 16], SECRET);
        let yes = read(&answer(ACCESS_ACCEPT, &request, SECRET, true)).unwrap();
        assert_eq!((yes.accepted, yes.message.as_deref()), (true, Some("hello there")));
        assert!(!read(&answer(ACCESS_REJECT, &request, SECRET, true)).unwrap().accepted);
        assert!(!read(&answer(ACCESS_CHALLENGE, &request, SECRET, true)).unwrap().accepted);
        assert_eq!(read(&answer(ACCESS_ACCEPT, &request, SECRET, false)), Err(AnswerError::Unauthenticated));
        assert_eq!(read(&answer(ACCESS_ACCEPT, &request, b"another", true)), Err(AnswerError::Authenticator));
        assert_eq!(read(&answer(4, &request, SECRET, true)), Err(AnswerError::Code(4)));
        // A rejection turned into an acceptance, as a man in the middle would.
        let mut forged = answer(ACCESS_REJECT, &request, SECRET, true);
        forged[0] = ACCESS_ACCEPT;
        assert_eq!(read(&forged), Err(AnswerError::Authenticator));
    }

    #[test]
    fn no_bytes_are_too_strange() {
        let request = Request::new(&proof()).unwrap().encode(9, [3; 16], SECRET);
        let right = answer(ACCESS_ACCEPT, &request, SECRET, true);
        for length in 0..right.len() {
            assert!(Answer::decode(&right[..length], [3; 16], SECRET).is_err(), "{length} bytes");
        }
        for at in 0..right.len() {
            let mut changed = right.clone();
            changed[at] ^= 0x40;
            assert!(Answer::decode(&changed, [3; 16], SECRET).is_err(), "byte {at}");
        }
    }
}
