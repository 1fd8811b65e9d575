//! iscsi-proto: the stream, the PDUs.

use bytes::Bytes;
use iscsi_proto::digest::Digests;
use iscsi_proto::frame::{Frame, FrameError, Framer, Limits};
use iscsi_proto::pdu::{EncodePdu, Encoder, InitiatorPdu, TargetPdu};

use super::steer;

/// The same bytes in any pieces give the same frames and the same end.
pub(super) fn framer(data: &[u8]) {
    let (steering, stream) = steer(data);
    let digests = Digests { header: steering & 1 != 0, data: steering & 2 != 0 };
    let limits = Limits { max_data_segment_length: 512 << (steering >> 6), ..Limits::default() };
    let piece = usize::from(steering >> 2 & 0x0f) + 1;
    let mut whole = start(limits, digests);
    whole.handle_received(Bytes::copy_from_slice(stream));
    let expected = drain(&mut whole);
    let mut cut = start(limits, digests);
    let (mut frames, mut end) = (Vec::new(), None);
    for chunk in stream.chunks(piece) {
        cut.handle_received(Bytes::copy_from_slice(chunk));
        let (more, stop) = drain(&mut cut);
        frames.extend(more);
        end = stop;
        if end.is_some() {
            break;
        }
        // What is kept is what was announced and checked, never more than one PDU.
        assert!(cut.recv_hint().wanted > 0, "a framer that wants nothing before the end");
    }
    assert_eq!((frames, end), expected);
}

fn start(limits: Limits, digests: Digests) -> Framer {
    let mut framer = Framer::new(limits);
    framer.set_digests(digests);
    framer
}

fn drain(framer: &mut Framer) -> (Vec<Frame>, Option<FrameError>) {
    let mut frames = Vec::new();
    loop {
        match framer.poll_frame() {
            Ok(Some(frame)) => frames.push(flat(frame)),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

/// The frame with its data in one slice, since pieces of the stream are pieces of the data.
fn flat(frame: Frame) -> Frame {
    let data: Vec<u8> = frame.data.slices().iter().flatten().copied().collect();
    Frame { data: data.into(), ..frame }
}

pub(super) fn initiator_pdu(data: &[u8]) {
    let Ok(frame) = Frame::parse(Bytes::copy_from_slice(data)) else { return };
    let Ok(pdu) = InitiatorPdu::decode(frame) else { return };
    let _ = (pdu.command_number(), pdu.exp_stat_sn());
    let again = InitiatorPdu::decode(reparse(&pdu)).expect("what was encoded decodes");
    assert_eq!(again, pdu);
}

pub(super) fn target_pdu(data: &[u8]) {
    let Ok(frame) = Frame::parse(Bytes::copy_from_slice(data)) else { return };
    let Ok(pdu) = TargetPdu::decode(frame) else { return };
    let again = TargetPdu::decode(reparse(&pdu)).expect("what was encoded decodes");
    assert_eq!(again, pdu);
}

/// Encodes what came off the wire and frames it again. What was decoded once always fits.
fn reparse(pdu: &impl EncodePdu) -> Frame {
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    let length = encoder.encode(pdu, &mut out).expect("a decoded PDU fits its header");
    encoder.finish(&mut out);
    let bytes: Vec<u8> = out.into_iter().flatten().collect();
    assert_eq!(bytes.len(), length);
    flat(Frame::parse(bytes.into()).expect("what was encoded is whole"))
}
