//! iscsit: what name servers and RADIUS servers say, and names as people write them.

use iscsit::config::{IscsiName, Portal};
use iscsit::isns::{Message, answer_esi};
use iscsit::radius::Answer;
use scsi_core::Guid;
use stmf::DeviceName;
use stmf::provider::hba::Wwn;

/// Any split of an iSNS message: too short, a message, or none; one that is answered has an answer that decodes.
pub(super) fn isns(data: &[u8]) {
    let Ok(Some((message, length))) = Message::decode(data) else { return };
    assert!(length > 0 && length <= data.len(), "{length} of {} bytes taken", data.len());
    if let Some(answer) = answer_esi(&message) {
        let bytes = answer.encode();
        let again = Message::decode(&bytes).expect("what was encoded decodes");
        assert_eq!(again.map(|(_, length)| length), Some(bytes.len()));
    }
}

/// A datagram from anybody: nothing counts that the secret does not prove.
pub(super) fn radius(data: &[u8]) {
    let answer = Answer::decode(data, [0x5a; 16], b"a secret that is shared");
    assert!(answer.is_err(), "a forged answer was taken: {answer:?}");
}

/// What is read as a name reads back as the same.
pub(super) fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for name in [IscsiName::parse(text), IscsiName::parse_initiator(text)].into_iter().flatten() {
        assert_eq!(IscsiName::parse_initiator(name.as_ref()).as_ref(), Ok(&name));
    }
    if let Ok(portal) = Portal::parse(text, 3260) {
        assert_eq!(Portal::parse(&portal.to_string(), 3260).as_ref(), Ok(&portal));
    }
    if let Ok(guid) = text.parse::<Guid>() {
        assert_eq!(format!("{guid:X}").parse(), Ok(guid));
    }
    if let Ok(name) = DeviceName::parse(text) {
        assert_eq!(DeviceName::parse(name.as_str()).as_ref(), Ok(&name));
    }
    let _ = Wwn::parse(text);
}
