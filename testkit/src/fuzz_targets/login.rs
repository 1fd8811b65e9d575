//! iscsi-proto: text, and the target's login phase as a series of requests.

use std::sync::Arc;

use iscsi_proto::auth::chap::{Algorithm, Credentials, Secret};
use iscsi_proto::frame::Frame;
use iscsi_proto::login::{AuthPolicy, ChapPolicy, ChapVerifier, LoginConfig, LoginEvent, LoginPolicy, TargetLogin};
use iscsi_proto::pdu::{Cid, InitiatorPdu, InitiatorTaskTag, Isid, LoginRequest, Tsih};
use iscsi_proto::sn::CmdSn;
use iscsi_proto::text::{self, TextWriter, decode_binary, encode_hex, parse_number};

use super::steer;

/// What parses, written again, parses to the same pairs.
pub(super) fn text_block(data: &[u8]) {
    let Ok(pairs) = text::parse(data) else { return };
    let mut writer = TextWriter::new();
    for (key, value) in &pairs {
        writer.push(key, value);
        let _ = parse_number(value);
    }
    let written = writer.take();
    assert_eq!(text::parse(&written).expect("what was written parses"), pairs);
}

/// A binary value in either notation, kept under its bound.
pub(super) fn binary_value(data: &[u8]) {
    let (limit, value) = steer(data);
    let Ok(value) = std::str::from_utf8(value) else { return };
    let Ok(bytes) = decode_binary(value, limit.into()) else { return };
    assert!(bytes.len() <= usize::from(limit));
    assert_eq!(decode_binary(&encode_hex(&bytes), bytes.len()).expect("what was written reads back"), bytes);
}

/// Login requests, each a byte of flags, two of length and so much text. A login that must prove itself never gets in:
/// nobody gave the fuzzer the secret.
pub(super) fn target_login(data: &[u8]) {
    let (steering, mut rest) = steer(data);
    let auth = policy(steering);
    let closed = auth != AuthPolicy::None;
    let mut login = TargetLogin::new(Arc::new(LoginConfig::default()));
    let mut requests = 0;
    while let [flags, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (text, tail) = tail.split_at(length);
        rest = tail;
        let Some(request) = request(*flags, text) else { continue };
        login.handle_request(request);
        requests += 1;
        let mut told = 0;
        while let Some(event) = login.poll_event() {
            match event {
                LoginEvent::Identify(_) => {
                    login.accept(LoginPolicy { auth: auth.clone(), ..LoginPolicy::open(Some(1)) });
                }
                LoginEvent::Verify(_) => login.verified(false),
                LoginEvent::Negotiated(_) => login.complete(Tsih(7)),
                LoginEvent::Failed(_) => assert!(login.is_failed()),
                _ => {}
            }
            told += 1;
            assert!(told < 8, "an owner that is asked for ever");
        }
        let mut answers = 0;
        while login.poll_response().is_some() {
            answers += 1;
        }
        assert!(answers <= 1, "{answers} responses to one request");
        assert!(!(login.is_done() && login.is_failed()));
        assert!(!(closed && login.is_done()), "a stranger got in after {requests} requests");
        if login.is_done() || login.is_failed() {
            return;
        }
    }
    assert!(requests <= LoginConfig::default().max_exchanges, "{requests} requests and no end");
}

fn policy(steering: u8) -> AuthPolicy {
    if steering & 1 == 0 {
        return AuthPolicy::None;
    }
    let credentials = |name: &str| Credentials { name: name.into(), secret: Secret::new("a secret of 16 B") };
    AuthPolicy::Chap(ChapPolicy {
        identifier: steering,
        challenge: vec![0xa5; 32],
        minimum: if steering & 2 == 0 { Algorithm::MD5 } else { Algorithm::SHA256 },
        verifier: match steering & 4 {
            0 => ChapVerifier::Credentials(credentials("host")),
            _ => ChapVerifier::External,
        },
        mutual: (steering & 8 != 0).then(|| credentials("disk")),
    })
}

/// A request whose constants are constant, since their changes are refused at once and would hide the rest. The flags
/// go the way they would on the wire.
fn request(flags: u8, text: &[u8]) -> Option<LoginRequest> {
    let mut header = [0; 48];
    header[0] = 0x43;
    header[1] = flags;
    let frame = Frame::parse(bytes::Bytes::copy_from_slice(&header)).expect("a whole header");
    let Ok(InitiatorPdu::LoginRequest(request)) = InitiatorPdu::decode(frame) else { return None };
    Some(LoginRequest {
        isid: Isid([0x80, 1, 2, 3, 0, 0]),
        initiator_task_tag: InitiatorTaskTag(0x11),
        cid: Cid(1),
        cmd_sn: CmdSn(5),
        data: text.to_vec().into(),
        ..request
    })
}
