//! Every PDU survives encoding and decoding; any split of the stream gives the same frames; no bytes panic.

mod support;

use bytes::Bytes;
use iscsi_proto::digest::Digests;
use iscsi_proto::frame::{DigestCheck, Frame, FrameError, Framer, Limits};
use iscsi_proto::pdu::{Encoder, InitiatorPdu, TargetPdu};
use proptest::prelude::*;
use support::{initiator_pdu, target_pdu};

const LIMITS: Limits = Limits { max_data_segment_length: 1 << 20, max_ahs_length: 1020 };

fn encode_all(pdus: &[InitiatorPdu], digests: Digests) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    encoder.set_digests(digests);
    let told: usize = pdus.iter().map(|pdu| encoder.encode(pdu, &mut out).unwrap()).sum();
    encoder.finish(&mut out);
    let wire = out.concat();
    assert_eq!(told, wire.len());
    wire
}

fn frames(framer: &mut Framer) -> Vec<Frame> {
    std::iter::from_fn(|| framer.poll_frame().unwrap()).collect()
}

fn digests() -> impl Strategy<Value = Digests> {
    any::<(bool, bool)>().prop_map(|(header, data)| Digests { header, data })
}

proptest! {
    #[test]
    fn an_initiators_pdu_survives_the_wire(pdu in initiator_pdu(), digests in digests()) {
        let mut framer = Framer::new(LIMITS);
        framer.set_digests(digests);
        framer.handle_received(encode_all(std::slice::from_ref(&pdu), digests).into());
        let frame = framer.poll_frame().unwrap().unwrap();
        prop_assert!(frame.data_digest.is_ok());
        prop_assert_eq!(InitiatorPdu::decode(frame).unwrap(), pdu);
        prop_assert_eq!(framer.buffered(), 0);
    }

    #[test]
    fn a_targets_pdu_survives_the_wire(pdu in target_pdu(), digests in digests()) {
        let (mut encoder, mut out) = (Encoder::new(), Vec::new());
        encoder.set_digests(digests);
        encoder.encode(&pdu, &mut out).unwrap();
        encoder.finish(&mut out);
        let mut framer = Framer::new(LIMITS);
        framer.set_digests(digests);
        out.into_iter().for_each(|chunk| framer.handle_received(chunk));
        let frame = framer.poll_frame().unwrap().unwrap();
        prop_assert_eq!(TargetPdu::decode(frame).unwrap(), pdu);
        prop_assert_eq!(framer.poll_frame().unwrap(), None);
    }

    #[test]
    fn any_split_of_the_stream_gives_the_same_frames(
        pdus in prop::collection::vec(initiator_pdu(), 1..5),
        digests in digests(),
        cuts in prop::collection::vec(1usize..600, 1..60),
    ) {
        let wire = Bytes::from(encode_all(&pdus, digests));
        let mut whole = Framer::new(LIMITS);
        whole.set_digests(digests);
        whole.handle_received(wire.clone());
        let expected = frames(&mut whole);
        prop_assert_eq!(expected.len(), pdus.len());

        let mut split = Framer::new(LIMITS);
        split.set_digests(digests);
        let (mut got, mut rest, mut cuts) = (Vec::new(), wire, cuts.into_iter().cycle());
        while !rest.is_empty() {
            split.handle_received(rest.split_to(cuts.next().unwrap().min(rest.len())));
            got.extend(frames(&mut split));
            let hint = split.recv_hint();
            prop_assert!(hint.wanted > 0 && hint.payload <= hint.wanted);
        }
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn what_the_hint_wants_completes_the_frame(pdu in initiator_pdu(), digests in digests()) {
        let mut rest = Bytes::from(encode_all(&[pdu], digests));
        let mut framer = Framer::new(LIMITS);
        framer.set_digests(digests);
        // Header, rest of the header, data: never more than three receptions.
        for _ in 0..3 {
            let wanted = framer.recv_hint().wanted;
            prop_assert!(wanted <= rest.len());
            framer.handle_received(rest.split_to(wanted));
            if framer.poll_frame().unwrap().is_some() {
                prop_assert!(rest.is_empty());
                return Ok(());
            }
        }
        prop_assert!(false, "three receptions were not enough");
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048), digests in digests()) {
        let mut framer = Framer::new(LIMITS);
        framer.set_digests(digests);
        framer.handle_received(bytes.into());
        while let Ok(Some(frame)) = framer.poll_frame() {
            if let Err(error) = InitiatorPdu::decode(frame.clone()) {
                prop_assert_eq!(error.bhs, frame.bhs);
                prop_assert_eq!(error.rejected_header().len(), 48 + frame.ahs.len());
            }
            let _ = TargetPdu::decode(frame);
        }
    }

    #[test]
    fn no_header_panics(mut header in any::<[u8; 48]>(), opcode in 0u8..0x40, rest in prop::collection::vec(any::<u8>(), 0..64)) {
        header[0] = opcode;
        header[4] = header[4].min(rest.len() as u8 / 4);
        let data_len = rest.len() - usize::from(header[4]) * 4;
        header[5..8].copy_from_slice(&[0, 0, data_len as u8]);
        let mut bytes = header.to_vec();
        bytes.extend(&rest);
        bytes.extend([0; 3]);
        let frame = Frame::parse(bytes.into()).unwrap();
        let _ = (InitiatorPdu::decode(frame.clone()), TargetPdu::decode(frame));
    }

    #[test]
    fn a_flipped_bit_never_passes_both_digests(pdu in initiator_pdu(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let digests = Digests { header: true, data: true };
        let mut wire = encode_all(std::slice::from_ref(&pdu), digests);
        let at = at.index(wire.len());
        wire[at] ^= 1 << bit;
        let mut framer = Framer::new(LIMITS);
        framer.set_digests(digests);
        framer.handle_received(wire.into());
        match framer.poll_frame() {
            Ok(Some(frame)) => prop_assert!(!frame.data_digest.is_ok()),
            // A longer length makes it wait for a header that is not there.
            Ok(None) => prop_assert!(at == 4),
            Err(error) => prop_assert!(matches!(error, FrameError::HeaderDigest { .. }), "{error}"),
        }
    }
}

#[test]
fn an_oversized_segment_is_refused_before_it_comes() {
    let mut header = [0u8; 48];
    header[0] = 0x05;
    header[5..8].copy_from_slice(&[0xff, 0xff, 0xff]);
    let mut framer = Framer::new(Limits { max_data_segment_length: 8192, ..Limits::default() });
    framer.handle_received(Bytes::copy_from_slice(&header));
    let error = framer.poll_frame().unwrap_err();
    assert!(matches!(error, FrameError::DataSegmentTooLong { length: 0xff_ffff, limit: 8192, .. }));
    assert_eq!(framer.recv_hint().wanted, 0);
    assert_eq!(framer.poll_frame().unwrap_err(), error);
}

#[test]
fn a_payload_is_a_slice_of_its_chunk() {
    let pdu = iscsi_proto::pdu::DataOut { data: vec![7u8; 4096].into(), ..Default::default() };
    let wire = Bytes::from(encode_all(&[pdu.into()], Digests::default()));
    let mut framer = Framer::new(LIMITS);
    framer.handle_received(wire.clone());
    let frame = framer.poll_frame().unwrap().unwrap();
    assert_eq!(frame.data.slices().len(), 1);
    assert_eq!(frame.data.slices()[0].as_ptr(), wire[48..].as_ptr());
    assert_eq!(frame.data_digest, DigestCheck::None);
}

#[test]
fn a_segment_sent_byte_by_byte_stays_in_few_slices() {
    let pdu = iscsi_proto::pdu::DataOut { data: vec![7u8; 4096].into(), ..Default::default() };
    let mut framer = Framer::new(LIMITS);
    let mut frame = None;
    for byte in encode_all(&[pdu.into()], Digests::default()) {
        framer.handle_received(vec![byte].into());
        frame = frame.or(framer.poll_frame().unwrap());
    }
    let data = frame.unwrap().data;
    assert_eq!(data.len(), 4096);
    assert!(data.slices().len() <= iscsi_proto::frame::MAX_SLICES_PER_SEGMENT);
}

#[test]
fn small_responses_leave_as_one_slice() {
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    for _ in 0..10 {
        let sense = [0x70; 18];
        encoder.encode(&iscsi_proto::pdu::ScsiResponse::default().with_sense(&sense), &mut out).unwrap();
    }
    encoder.finish(&mut out);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].len(), 10 * (48 + 20));
}

#[test]
fn a_large_payload_is_sent_from_where_it_lies() {
    let payload = Bytes::from(vec![9u8; 4097]);
    let pdu = iscsi_proto::pdu::DataIn { data: payload.clone().into(), ..Default::default() };
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    encoder.encode(&pdu, &mut out).unwrap();
    encoder.finish(&mut out);
    let lengths: Vec<usize> = out.iter().map(Bytes::len).collect();
    assert_eq!(lengths, [48, 4097, 3]);
    assert_eq!(out[1].as_ptr(), payload.as_ptr());
}
