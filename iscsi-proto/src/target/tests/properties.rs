//! Any split of the stream gives the same; any bytes do no harm; random valid operations end as they should.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use scsi_core::{Lun, Status, TaskManagementResponse as Answer};

use super::model::Model;
use super::support::*;
use crate::login::LoginPolicy;
use crate::pdu::*;
use crate::sn::{CmdSn, DataSn, StatSn};
use crate::target::*;

/// A PDU that an initiator, or somebody who would like to be one, might send.
fn pdu() -> impl Strategy<Value = InitiatorPdu> {
    let small = 0u32..6;
    let tag = prop_oneof![9 => (0u32..8).prop_map(InitiatorTaskTag), 1 => Just(InitiatorTaskTag::RESERVED)];
    let transfer = prop_oneof![
        2 => (0u32..8).prop_map(TargetTransferTag),
        2 => Just(TargetTransferTag::RESERVED),
        1 => any::<u32>().prop_map(TargetTransferTag)
    ];
    let data = prop_oneof![Just(0usize), Just(512), 0usize..3000];
    let number = prop_oneof![8 => 0u32..12, 1 => any::<u32>()].prop_map(|steps| CmdSn(FIRST.wrapping_add(steps)));
    (0u8..8, tag, transfer, data, number, any::<(bool, bool, u8)>(), small).prop_map(
        |(kind, tag, transfer, length, cmd_sn, (immediate, is_final, bits), small)| match kind {
            0..=2 => ScsiCommand {
                immediate: immediate && bits & 1 != 0,
                flags: ScsiCommandFlags::from_bits_truncate(bits & 0xe0),
                lun: Lun::ZERO,
                initiator_task_tag: tag,
                expected_data_transfer_length: small * 512,
                cmd_sn,
                bidirectional_read_length: (bits & 2 != 0).then_some(small * 700),
                data: payload(0, length.min(1024)).into(),
                ..ScsiCommand::default()
            }
            .into(),
            3 => DataOut {
                is_final,
                initiator_task_tag: tag,
                target_transfer_tag: transfer,
                data_sn: DataSn(small / 3),
                buffer_offset: small / 2 * 512,
                data: payload(0, length).into(),
                ..DataOut::default()
            }
            .into(),
            4 => NopOut {
                immediate,
                initiator_task_tag: tag,
                target_transfer_tag: transfer,
                cmd_sn,
                exp_stat_sn: StatSn(small),
                data: payload(0, length).into(),
                ..NopOut::default()
            }
            .into(),
            5 => TaskManagementRequest {
                immediate,
                function: TaskManagementFunctionCode(bits % 14),
                initiator_task_tag: tag,
                referenced_task_tag: InitiatorTaskTag(small),
                cmd_sn,
                ref_cmd_sn: CmdSn(FIRST.wrapping_add(small)),
                ..TaskManagementRequest::default()
            }
            .into(),
            6 => TextRequest {
                immediate,
                is_final,
                is_continued: bits & 1 != 0,
                initiator_task_tag: tag,
                target_transfer_tag: transfer,
                cmd_sn,
                data: Bytes::from_static(b"SendTargets=\0X-a=b\0MaxRecvDataSegmentLength=1024\0").into(),
                ..TextRequest::default()
            }
            .into(),
            _ if bits > 240 => LogoutRequest {
                immediate,
                reason: LogoutReason(bits & 3),
                initiator_task_tag: tag,
                cmd_sn,
                ..LogoutRequest::default()
            }
            .into(),
            _ => Snack { initiator_task_tag: tag, ..Snack::default() }.into(),
        },
    )
}

/// What an event says, without how its data was cut.
fn tell(event: &Event) -> String {
    match event {
        Event::DataOut(DataArrived { task, offset, data, is_final }) => {
            format!("{task:?} {offset} {:?} {is_final}", data.to_contiguous())
        }
        other => format!("{other:?}"),
    }
}

/// An owner without imagination: answers everything at once.
fn answer(session: &mut Session, event: &Event) {
    match event {
        Event::Command(command) => {
            session.request_data(command.task, 0, command.data_out_length);
            session.send_data_in(command.task, 0, [payload(0, command.data_in_length as usize)]);
            if !command.write {
                session.send_status(command.task, TaskStatus::new(Status::GOOD, command.data_in_length.into()));
            }
        }
        Event::DataOut(data) if data.is_final => {
            session.send_status(data.task, TaskStatus::new(Status::GOOD, data.data.len() as u64));
        }
        Event::AbortTask { task, .. } => session.task_aborted(*task, false),
        Event::TaskManagement(management) => {
            if let Some(task) = management.referenced {
                session.task_aborted(task, false);
            }
            session.task_management_response(management.request, Answer::FunctionComplete);
        }
        Event::SendTargets { request, .. } => session.send_targets_response(*request, &[]),
        Event::DataOut(_) | Event::Close { .. } | Event::Ended(_) => {}
    }
}

/// Feeds the chunks, then answers and drains until nothing moves. Gives the events and the bytes.
fn run(rig: &mut Rig, chunks: impl IntoIterator<Item = Bytes>) -> (Vec<String>, Bytes) {
    let (key, now) = (rig.key, rig.now);
    chunks.into_iter().for_each(|chunk| rig.session.handle_received(key, now, chunk));
    let (mut told, mut out) = (Vec::new(), Vec::new());
    loop {
        let events: Vec<Event> = std::iter::from_fn(|| rig.session.poll_event()).collect();
        for event in &events {
            told.push(tell(event));
            answer(&mut rig.session, event);
        }
        if rig.session.poll_transmit(key, now, &mut out) == 0 && events.is_empty() {
            return (told, out.concat().into());
        }
    }
}

fn digests(on: bool) -> Rig {
    match on {
        true => Rig::keys(&[("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C"), ("InitialR2T", "No")]),
        false => Rig::keys(&[("InitialR2T", "No"), ("FirstBurstLength", "1024")]),
    }
}

fn stream(rig: &mut Rig, pdus: &[InitiatorPdu]) -> BytesMut {
    let key = rig.key;
    pdus.iter().flat_map(|pdu| rig.peer(key).encode(pdu.clone())).collect()
}

fn cut(mut bytes: Bytes, sizes: &[usize]) -> Vec<Bytes> {
    let mut sizes = sizes.iter().cycle();
    let mut chunks = Vec::new();
    while !bytes.is_empty() {
        let size = sizes.next().map_or(1, |&size| size.clamp(1, bytes.len()));
        chunks.push(bytes.split_to(size));
    }
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_split_gives_the_same_events_and_the_same_bytes(
        pdus in vec(pdu(), 1..24),
        sizes in vec(prop_oneof![1usize..64, 1usize..5000], 1..8),
        has_digests in any::<bool>(),
    ) {
        let (mut whole, mut split) = (digests(has_digests), digests(has_digests));
        let bytes = stream(&mut whole, &pdus).freeze();
        let expected = run(&mut whole, [bytes.clone()]);
        let got = run(&mut split, cut(bytes, &sizes));
        prop_assert_eq!(expected, got);
    }

    #[test]
    fn any_bytes_do_no_harm(
        pdus in vec(pdu(), 1..16),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        garbage in vec(any::<u8>(), 0..200),
        has_digests in any::<bool>(),
    ) {
        let mut rig = digests(has_digests);
        let mut bytes = stream(&mut rig, &pdus);
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.extend_from_slice(&garbage);
        run(&mut rig, [bytes.freeze()]);
        prop_assert!(rig.session.open_tasks() <= 160);
        rig.wait(std::time::Duration::from_secs(100));
        run(&mut rig, []);
    }

    #[test]
    fn any_bytes_before_login_do_no_harm(
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        garbage in vec(any::<u8>(), 0..200),
        sizes in vec(1usize..100, 1..4),
    ) {
        let mut bytes = {
            let (mut encoder, mut out) = (Encoder::new(), Vec::new());
            let request = login_request(&login_text(&Options::default()), Tsih::NEW, 0, 1);
            encoder.encode(&request, &mut out).unwrap();
            encoder.finish(&mut out);
            BytesMut::from(&out.concat()[..])
        };
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.extend_from_slice(&garbage);
        let mut connection = Connection::new(connection_config(Default::default()), Instant::now());
        for chunk in cut(bytes.freeze(), &sizes) {
            connection.handle_received(chunk);
            while let Some(event) = connection.poll_event() {
                match event {
                    ConnectionEvent::Identify(_) => connection.accept(LoginPolicy::open(Some(1))),
                    ConnectionEvent::Verify(_) => connection.verified(false),
                    _ => {}
                }
            }
            connection.poll_transmit(&mut Vec::new());
        }
    }

    #[test]
    fn valid_operations_end_once_and_move_the_right_bytes(
        steps in vec(any::<(u8, u16, u16)>(), 1..120),
        variant in 0u8..8,
    ) {
        let mut model = Model::new(variant);
        for (kind, a, b) in steps {
            model.step(kind, a, b);
        }
        model.finish();
    }
}
