//! PDUs as commented hex with the value expected of them, in both directions.

use bytes::Bytes;
use iscsi_proto::frame::Frame;
use iscsi_proto::pdu::*;
use iscsi_proto::sn::{CmdSn, DataSn, R2tSn, StatSn};
use scsi_core::{Lun, Status, TaskAttribute};

/// The bytes of a commented hex text.
fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.lines().flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace());
    digits.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn wire(pdu: &impl EncodePdu) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::new(), Vec::<Bytes>::new());
    encoder.encode(pdu, &mut out).unwrap();
    encoder.finish(&mut out);
    out.concat()
}

fn check_initiator(hex: &str, expected: impl Into<InitiatorPdu>) {
    let (bytes, expected) = (bytes(hex), expected.into());
    assert_eq!(InitiatorPdu::decode(Frame::parse(bytes.clone().into()).unwrap()).unwrap(), expected);
    assert_eq!(wire(&expected), bytes);
}

fn check_target(hex: &str, expected: impl Into<TargetPdu>) {
    let (bytes, expected) = (bytes(hex), expected.into());
    assert_eq!(TargetPdu::decode(Frame::parse(bytes.clone().into()).unwrap()).unwrap(), expected);
    assert_eq!(wire(&expected), bytes);
}

const LUN_1: Lun = Lun([0, 1, 0, 0, 0, 0, 0, 0]);
const NUMBERS: (StatSn, CmdSn, CmdSn) = (StatSn(0), CmdSn(8), CmdSn(0x28));

#[test]
fn scsi_command_read() {
    check_initiator(
        include_str!("vectors/scsi_command_read.hex"),
        ScsiCommand {
            flags: ScsiCommandFlags::FINAL | ScsiCommandFlags::READ,
            initiator_task_tag: InitiatorTaskTag(0x1400_0000),
            expected_data_transfer_length: 1024,
            cmd_sn: CmdSn(20),
            exp_stat_sn: StatSn(24),
            cdb: CdbBytes::new(&[0x28, 0, 0, 0, 0, 0, 0, 0, 2]).unwrap(),
            ..ScsiCommand::default()
        },
    );
}

#[test]
fn scsi_command_extended() {
    let mut cdb = vec![0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, 3, 0, 0, 0, 0, 0, 0];
    cdb.extend(0xa0..=0xaf);
    check_initiator(
        include_str!("vectors/scsi_command_extended.hex"),
        ScsiCommand {
            immediate: true,
            flags: ScsiCommandFlags::all(),
            attribute: TaskAttribute::Simple,
            priority: 3,
            lun: Lun([0x40, 5, 0, 0, 0, 0, 0, 0]),
            initiator_task_tag: InitiatorTaskTag(0x2a),
            expected_data_transfer_length: 5,
            cmd_sn: CmdSn(7),
            exp_stat_sn: StatSn(9),
            cdb: CdbBytes::new(&cdb).unwrap(),
            bidirectional_read_length: Some(512),
            data: b"hello".as_slice().into(),
            ..ScsiCommand::default()
        },
    );
}

#[test]
fn scsi_response_check_condition() {
    let (_, exp_cmd_sn, max_cmd_sn) = NUMBERS;
    let sense = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0, 0, 0];
    let response = ScsiResponse {
        status: Status::CHECK_CONDITION,
        initiator_task_tag: InitiatorTaskTag(0x2a),
        stat_sn: StatSn(9),
        exp_cmd_sn,
        max_cmd_sn,
        residual: Residual::Underflow(512),
        ..ScsiResponse::default()
    };
    let response = response.with_sense(&sense);
    assert_eq!(response.sense(), &sense[..]);
    check_target(include_str!("vectors/scsi_response_check_condition.hex"), response);
}

#[test]
fn data_out() {
    check_initiator(
        include_str!("vectors/data_out.hex"),
        DataOut {
            is_final: true,
            lun: LUN_1,
            initiator_task_tag: InitiatorTaskTag(0x2b),
            target_transfer_tag: TargetTransferTag(0x1001),
            exp_stat_sn: StatSn(10),
            data_sn: DataSn(1),
            buffer_offset: 8192,
            data: vec![0xde, 0xad, 0xbe, 0xef].into(),
        },
    );
}

#[test]
fn data_in_with_status() {
    let (_, exp_cmd_sn, max_cmd_sn) = NUMBERS;
    check_target(
        include_str!("vectors/data_in_with_status.hex"),
        DataIn {
            flags: DataInFlags::FINAL,
            status: Some(Status::GOOD),
            initiator_task_tag: InitiatorTaskTag(0x2a),
            stat_sn: StatSn(11),
            exp_cmd_sn,
            max_cmd_sn,
            data_sn: DataSn(2),
            buffer_offset: 1024,
            residual: Residual::Overflow(3),
            data: vec![1, 2, 3, 4, 5, 6].into(),
            ..DataIn::default()
        },
    );
}

#[test]
fn r2t() {
    let (_, exp_cmd_sn, max_cmd_sn) = NUMBERS;
    check_target(
        include_str!("vectors/r2t.hex"),
        R2t {
            lun: LUN_1,
            initiator_task_tag: InitiatorTaskTag(0x2b),
            target_transfer_tag: TargetTransferTag(0x1001),
            stat_sn: StatSn(12),
            exp_cmd_sn,
            max_cmd_sn,
            r2t_sn: R2tSn(1),
            buffer_offset: 65536,
            desired_data_transfer_length: 65536,
        },
    );
}

#[test]
fn task_management() {
    check_initiator(
        include_str!("vectors/task_management_request.hex"),
        TaskManagementRequest {
            immediate: true,
            function: TaskManagementFunctionCode::ABORT_TASK,
            lun: LUN_1,
            initiator_task_tag: InitiatorTaskTag(0x2c),
            referenced_task_tag: InitiatorTaskTag(0x2a),
            cmd_sn: CmdSn(8),
            exp_stat_sn: StatSn(12),
            ref_cmd_sn: CmdSn(7),
            exp_data_sn: DataSn(0),
        },
    );
    let (_, exp_cmd_sn, max_cmd_sn) = NUMBERS;
    let response = scsi_core::TaskManagementResponse::TaskDoesNotExist;
    check_target(
        include_str!("vectors/task_management_response.hex"),
        TaskManagementResponse {
            stat_sn: StatSn(13),
            exp_cmd_sn,
            max_cmd_sn,
            ..TaskManagementResponse::answering(InitiatorTaskTag(0x2c), response)
        },
    );
}

#[test]
fn login() {
    let isid = Isid::random([0x12, 0x34, 0x56], 1);
    check_initiator(
        include_str!("vectors/login_request.hex"),
        LoginRequest {
            flags: LoginFlags {
                transit: true,
                is_continued: false,
                current: Stage::OPERATIONAL_NEGOTIATION,
                next: Stage::FULL_FEATURE_PHASE,
            },
            isid,
            initiator_task_tag: InitiatorTaskTag(1),
            cid: Cid(2),
            cmd_sn: CmdSn(1),
            data: b"DataDigest=Non\0".as_slice().into(),
            ..LoginRequest::default()
        },
    );
    check_target(
        include_str!("vectors/login_response.hex"),
        LoginResponse {
            isid,
            initiator_task_tag: InitiatorTaskTag(1),
            stat_sn: StatSn(2),
            exp_cmd_sn: CmdSn(1),
            max_cmd_sn: CmdSn(1),
            status: LoginStatus::AUTHENTICATION_FAILURE,
            ..LoginResponse::default()
        },
    );
}

#[test]
fn text() {
    check_initiator(
        include_str!("vectors/text_request.hex"),
        TextRequest {
            is_final: true,
            initiator_task_tag: InitiatorTaskTag(3),
            cmd_sn: CmdSn(2),
            exp_stat_sn: StatSn(3),
            data: b"SendTargets=All\0".as_slice().into(),
            ..TextRequest::default()
        },
    );
    check_target(
        include_str!("vectors/text_response.hex"),
        TextResponse {
            is_continued: true,
            initiator_task_tag: InitiatorTaskTag(3),
            target_transfer_tag: TargetTransferTag(0x55),
            stat_sn: StatSn(3),
            exp_cmd_sn: CmdSn(3),
            max_cmd_sn: CmdSn(0x22),
            data: b"A=b\0".as_slice().into(),
            ..TextResponse::default()
        },
    );
}

#[test]
fn logout() {
    check_initiator(
        include_str!("vectors/logout_request.hex"),
        LogoutRequest {
            immediate: false,
            reason: LogoutReason::CLOSE_CONNECTION,
            initiator_task_tag: InitiatorTaskTag(0x31),
            cid: Cid(2),
            cmd_sn: CmdSn(9),
            exp_stat_sn: StatSn(14),
        },
    );
    check_target(
        include_str!("vectors/logout_response.hex"),
        LogoutResponse {
            response: LogoutResponseCode::SUCCESS,
            initiator_task_tag: InitiatorTaskTag(0x31),
            stat_sn: StatSn(14),
            exp_cmd_sn: CmdSn(10),
            max_cmd_sn: CmdSn(0x2a),
            time2wait: 2,
            time2retain: 20,
        },
    );
}

#[test]
fn nop() {
    check_initiator(
        include_str!("vectors/nop_out.hex"),
        NopOut {
            immediate: true,
            lun: LUN_1,
            target_transfer_tag: TargetTransferTag(0x77),
            cmd_sn: CmdSn(9),
            exp_stat_sn: StatSn(15),
            ..NopOut::default()
        },
    );
    let ping = NopIn {
        lun: LUN_1,
        target_transfer_tag: TargetTransferTag(0x77),
        stat_sn: StatSn(15),
        exp_cmd_sn: CmdSn(9),
        max_cmd_sn: CmdSn(0x29),
        ..NopIn::default()
    };
    assert!(!TargetPdu::from(ping.clone()).uses_stat_sn());
    check_target(include_str!("vectors/nop_in.hex"), ping);
}

#[test]
fn async_message() {
    check_target(
        include_str!("vectors/async_message.hex"),
        AsyncMessage {
            event: AsyncEvent::LOGOUT_REQUESTED,
            parameter3: 10,
            stat_sn: StatSn(16),
            exp_cmd_sn: CmdSn(9),
            max_cmd_sn: CmdSn(0x29),
            ..AsyncMessage::default()
        },
    );
}

#[test]
fn snack() {
    check_initiator(
        include_str!("vectors/snack.hex"),
        Snack {
            snack_type: SnackType::STATUS,
            exp_stat_sn: StatSn(16),
            first_missing: 16,
            run_length: 2,
            ..Snack::default()
        },
    );
}

#[test]
fn reject() {
    let mut bad = [0u8; 48];
    (bad[0], bad[1], bad[19]) = (0x1c, 0x80, 0x99);
    let error = InitiatorPdu::decode(Frame::new(Bhs::new(bad), Bytes::new(), DataSegment::new())).unwrap_err();
    let reject = Reject { stat_sn: StatSn(17), exp_cmd_sn: CmdSn(9), max_cmd_sn: CmdSn(0x29), ..Reject::from(&error) };
    assert_eq!(reject.rejected_bhs(), Some(Bhs::new(bad)));
    check_target(include_str!("vectors/reject.hex"), reject);
}
