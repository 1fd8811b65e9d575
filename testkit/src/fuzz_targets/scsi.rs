//! scsi-core: what parses parameter data and sense data.

use scsi_core::{Designator, SenseData, TransportId};

pub(super) fn sense(data: &[u8]) {
    // Cut anywhere, as allocation lengths do.
    for end in [data.len(), data.len() / 2] {
        let _ = SenseData::decode(&data[..end]);
    }
}

pub(super) fn designators(data: &[u8]) {
    for designator in Designator::decode_all(data) {
        let mut out = Vec::new();
        designator.encode(&mut out);
        assert_eq!(Designator::decode(&out).map(|(_, length)| length), Some(out.len()));
    }
}

pub(super) fn transport_id(data: &[u8]) {
    let Ok((id, length)) = TransportId::decode(data) else { return };
    assert!(length > 0 && length <= data.len(), "{length} of {} bytes taken", data.len());
    let mut out = Vec::new();
    id.encode(&mut out);
    let (again, length) = TransportId::decode(&out).expect("what was encoded decodes");
    assert_eq!((again, length), (id, out.len()));
}
