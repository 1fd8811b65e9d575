//! Strategies for every PDU.
#![allow(dead_code, reason = "each test file uses its part")]

use bytes::Bytes;
use iscsi_proto::pdu::*;
use iscsi_proto::sn::{CmdSn, DataSn, R2tSn, StatSn};
use proptest::prelude::*;
use scsi_core::{Lun, Status, TaskAttribute};

pub(crate) fn data() -> BoxedStrategy<DataSegment> {
    prop_oneof![
        2 => Just(DataSegment::new()),
        3 => prop::collection::vec(any::<u8>(), 0..700).prop_map(DataSegment::from),
        1 => prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from), 0..4)
            .prop_map(DataSegment::from_iter),
    ]
    .boxed()
}

fn lun() -> impl Strategy<Value = Lun> {
    any::<[u8; 8]>().prop_map(Lun)
}

fn itt() -> impl Strategy<Value = InitiatorTaskTag> {
    prop_oneof![any::<u32>(), Just(u32::MAX)].prop_map(InitiatorTaskTag)
}

fn ttt() -> impl Strategy<Value = TargetTransferTag> {
    prop_oneof![any::<u32>(), Just(u32::MAX)].prop_map(TargetTransferTag)
}

fn cmd_sn() -> impl Strategy<Value = CmdSn> {
    any::<u32>().prop_map(CmdSn)
}

fn stat_sn() -> impl Strategy<Value = StatSn> {
    any::<u32>().prop_map(StatSn)
}

/// StatSN, ExpCmdSN, MaxCmdSN.
fn numbers() -> impl Strategy<Value = (StatSn, CmdSn, CmdSn)> {
    (stat_sn(), cmd_sn(), cmd_sn())
}

fn residual() -> impl Strategy<Value = Residual> {
    prop_oneof![
        Just(Residual::None),
        any::<u32>().prop_map(Residual::Underflow),
        any::<u32>().prop_map(Residual::Overflow)
    ]
}

fn attribute() -> impl Strategy<Value = TaskAttribute> {
    prop::sample::select(vec![
        TaskAttribute::Untagged,
        TaskAttribute::Simple,
        TaskAttribute::Ordered,
        TaskAttribute::HeadOfQueue,
        TaskAttribute::Aca,
    ])
}

fn other_ahs() -> impl Strategy<Value = Vec<Ahs>> {
    let one = (3u8..0x40, prop::collection::vec(any::<u8>(), 0..20))
        .prop_map(|(ahs_type, bytes)| Ahs { ahs_type: AhsType(ahs_type), bytes: bytes.into() });
    prop::collection::vec(one, 0..3)
}

fn login_flags() -> impl Strategy<Value = LoginFlags> {
    (any::<bool>(), any::<bool>(), 0u8..4, 0u8..4).prop_map(|(transit, is_continued, current, next)| LoginFlags {
        transit,
        is_continued,
        current: Stage(current),
        next: Stage(next),
    })
}

fn scsi_command() -> impl Strategy<Value = ScsiCommand> {
    (
        ((any::<bool>(), 0u8..16), 0u8..8, attribute(), lun(), itt(), any::<u32>(), cmd_sn(), stat_sn()),
        prop_oneof![3 => prop::collection::vec(any::<u8>(), 0..=16), 1 => prop::collection::vec(any::<u8>(), 17..300)],
        any::<Option<u32>>(),
        other_ahs(),
        data(),
    )
        .prop_map(
            |(
                ((immediate, priority), flags, attribute, lun, itt, length, cmd_sn, exp_stat_sn),
                cdb,
                bidi,
                ahs,
                data,
            )| {
                ScsiCommand {
                    immediate,
                    flags: ScsiCommandFlags::from_bits_truncate(flags << 5),
                    attribute,
                    priority,
                    lun,
                    initiator_task_tag: itt,
                    expected_data_transfer_length: length,
                    cmd_sn,
                    exp_stat_sn,
                    cdb: CdbBytes::new(&cdb).unwrap(),
                    bidirectional_read_length: bidi,
                    other_ahs: ahs,
                    data,
                }
            },
        )
}

pub(crate) fn initiator_pdu() -> BoxedStrategy<InitiatorPdu> {
    let nop = (any::<bool>(), lun(), itt(), ttt(), cmd_sn(), stat_sn(), data()).prop_map(
        |(immediate, lun, itt, ttt, cmd_sn, exp_stat_sn, data)| NopOut {
            immediate,
            lun,
            initiator_task_tag: itt,
            target_transfer_tag: ttt,
            cmd_sn,
            exp_stat_sn,
            data,
        },
    );
    let tmf = (any::<bool>(), 0u8..128, lun(), itt(), itt(), cmd_sn(), stat_sn(), cmd_sn(), any::<u32>()).prop_map(
        |(immediate, function, lun, itt, referenced, cmd_sn, exp_stat_sn, ref_cmd_sn, sn)| TaskManagementRequest {
            immediate,
            function: TaskManagementFunctionCode(function),
            lun,
            initiator_task_tag: itt,
            referenced_task_tag: referenced,
            cmd_sn,
            exp_stat_sn,
            ref_cmd_sn,
            exp_data_sn: DataSn(sn),
        },
    );
    let login = (login_flags(), any::<([u8; 2], [u8; 6], u16, u16)>(), itt(), cmd_sn(), stat_sn(), data()).prop_map(
        |(flags, (versions, isid, tsih, cid), itt, cmd_sn, exp_stat_sn, data)| LoginRequest {
            flags,
            version_max: versions[0],
            version_min: versions[1],
            isid: Isid(isid),
            tsih: Tsih(tsih),
            initiator_task_tag: itt,
            cid: Cid(cid),
            cmd_sn,
            exp_stat_sn,
            data,
        },
    );
    let text = (any::<[bool; 3]>(), lun(), itt(), ttt(), cmd_sn(), stat_sn(), data()).prop_map(
        |([immediate, is_final, is_continued], lun, itt, ttt, cmd_sn, exp_stat_sn, data)| TextRequest {
            immediate,
            is_final,
            is_continued,
            lun,
            initiator_task_tag: itt,
            target_transfer_tag: ttt,
            cmd_sn,
            exp_stat_sn,
            data,
        },
    );
    let data_out = (any::<bool>(), lun(), itt(), ttt(), stat_sn(), any::<(u32, u32)>(), data()).prop_map(
        |(is_final, lun, itt, ttt, exp_stat_sn, (sn, buffer_offset), data)| DataOut {
            is_final,
            lun,
            initiator_task_tag: itt,
            target_transfer_tag: ttt,
            exp_stat_sn,
            data_sn: DataSn(sn),
            buffer_offset,
            data,
        },
    );
    let logout = (any::<bool>(), 0u8..128, itt(), any::<u16>(), cmd_sn(), stat_sn()).prop_map(
        |(immediate, reason, itt, cid, cmd_sn, exp_stat_sn)| LogoutRequest {
            immediate,
            reason: LogoutReason(reason),
            initiator_task_tag: itt,
            cid: Cid(cid),
            cmd_sn,
            exp_stat_sn,
        },
    );
    let snack = (0u8..16, lun(), itt(), ttt(), stat_sn(), any::<(u32, u32)>()).prop_map(
        |(snack_type, lun, itt, ttt, exp_stat_sn, (first_missing, run_length))| Snack {
            snack_type: SnackType(snack_type),
            lun,
            initiator_task_tag: itt,
            target_transfer_tag: ttt,
            exp_stat_sn,
            first_missing,
            run_length,
        },
    );
    prop_oneof![
        nop.prop_map_into(),
        scsi_command().prop_map_into(),
        tmf.prop_map_into(),
        login.prop_map_into(),
        text.prop_map_into(),
        data_out.prop_map_into(),
        logout.prop_map_into(),
        snack.prop_map_into(),
    ]
    .boxed()
}

pub(crate) fn target_pdu() -> BoxedStrategy<TargetPdu> {
    let nop = (lun(), itt(), ttt(), data()).prop_map(|(lun, itt, ttt, data)| NopIn {
        lun,
        initiator_task_tag: itt,
        target_transfer_tag: ttt,
        data,
        ..NopIn::default()
    });
    let response = (
        any::<(u8, u8, u32, u32)>(),
        itt(),
        residual(),
        residual(),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
        prop::collection::vec(any::<u8>(), 0..20),
    )
        .prop_map(|((response, status, snack_tag, sn), itt, bidi, residual, sense, more)| {
            let mut pdu = ScsiResponse {
                response: ScsiResponseCode(response),
                status: Status(status),
                initiator_task_tag: itt,
                snack_tag: SnackTag(snack_tag),
                exp_data_sn: DataSn(sn),
                bidirectional_read_residual: bidi,
                residual,
                ..ScsiResponse::default()
            };
            if let Some(sense) = sense {
                pdu = pdu.with_sense(&sense);
                pdu.data.push(more.into());
                assert_eq!(pdu.sense(), sense);
            }
            pdu
        });
    let tmf = (any::<(u8, [u8; 3])>(), itt()).prop_map(|((response, information), itt)| TaskManagementResponse {
        response: TaskManagementResponseCode(response),
        additional_information: information,
        initiator_task_tag: itt,
        ..TaskManagementResponse::default()
    });
    let login = (login_flags(), any::<([u8; 2], [u8; 6], u16, u16)>(), itt(), data()).prop_map(
        |(flags, (versions, isid, tsih, status), itt, data)| LoginResponse {
            flags,
            version_max: versions[0],
            version_active: versions[1],
            isid: Isid(isid),
            tsih: Tsih(tsih),
            initiator_task_tag: itt,
            status: LoginStatus(status),
            data,
            ..LoginResponse::default()
        },
    );
    let text = (any::<[bool; 2]>(), lun(), itt(), ttt(), data()).prop_map(
        |([is_final, is_continued], lun, itt, ttt, data)| TextResponse {
            is_final,
            is_continued,
            lun,
            initiator_task_tag: itt,
            target_transfer_tag: ttt,
            data,
            ..TextResponse::default()
        },
    );
    let data_in = (0u8..4, any::<Option<u8>>(), lun(), itt(), ttt(), any::<(u32, u32)>(), residual(), data()).prop_map(
        |(flags, status, lun, itt, ttt, (sn, buffer_offset), residual, data)| DataIn {
            flags: DataInFlags::from_bits_truncate(flags << 6),
            status: status.map(Status),
            lun,
            initiator_task_tag: itt,
            target_transfer_tag: ttt,
            data_sn: DataSn(sn),
            buffer_offset,
            residual,
            data,
            ..DataIn::default()
        },
    );
    let logout =
        (any::<(u8, u16, u16)>(), itt()).prop_map(|((response, time2wait, time2retain), itt)| LogoutResponse {
            response: LogoutResponseCode(response),
            initiator_task_tag: itt,
            time2wait,
            time2retain,
            ..LogoutResponse::default()
        });
    let r2t = (lun(), itt(), ttt(), any::<(u32, u32, u32)>()).prop_map(|(lun, itt, ttt, (sn, offset, length))| R2t {
        lun,
        initiator_task_tag: itt,
        target_transfer_tag: ttt,
        r2t_sn: R2tSn(sn),
        buffer_offset: offset,
        desired_data_transfer_length: length,
        ..R2t::default()
    });
    let message = (lun(), 1u8.., any::<(u8, u16, u16, u16)>(), data()).prop_map(
        |(lun, event, (vendor_code, parameter1, parameter2, parameter3), data)| AsyncMessage {
            lun,
            event: AsyncEvent(event),
            vendor_code,
            parameter1,
            parameter2,
            parameter3,
            data,
            ..AsyncMessage::default()
        },
    );
    let reject = (any::<(u8, u32)>(), data()).prop_map(|((reason, sn), data)| Reject {
        reason: RejectReason(reason),
        data_sn: DataSn(sn),
        data,
        ..Reject::default()
    });
    let any_pdu: BoxedStrategy<TargetPdu> = prop_oneof![
        nop.prop_map_into(),
        response.prop_map_into(),
        tmf.prop_map_into(),
        login.prop_map_into(),
        text.prop_map_into(),
        data_in.prop_map_into(),
        logout.prop_map_into(),
        r2t.prop_map_into(),
        message.prop_map_into(),
        reject.prop_map_into(),
    ]
    .boxed();
    (any_pdu, numbers())
        .prop_map(|(mut pdu, (stat_sn, exp_cmd_sn, max_cmd_sn))| {
            pdu.set_numbers(stat_sn, exp_cmd_sn, max_cmd_sn);
            pdu
        })
        .boxed()
}
