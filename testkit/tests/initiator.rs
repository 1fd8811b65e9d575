//! The scripted initiator against a target of a few lines: logs in, sends each kind of data, notices lies.

use bytes::Bytes;
use iscsi_proto::frame::{Framer, Limits};
use iscsi_proto::pdu::{
    DataIn, DataInFlags, Encoder, InitiatorPdu, InitiatorTaskTag, LoginResponse, LoginStatus, LogoutResponse,
    LogoutResponseCode, NopIn, R2t, Residual, ScsiCommandFlags, ScsiResponse, ScsiResponseCode, SnackTag, TargetPdu,
    TargetTransferTag,
};
use iscsi_proto::sn::{CmdSn, DataSn, R2tSn, StatSn};
use scsi_core::{Lun, SenseData, SenseFormat, Status};
use std::collections::VecDeque;
use std::io;
use testkit::initiator::{Command, Initiator, InitiatorError, LoginOptions, Wire};

/// Answers as it is told to; keeps what it was sent.
struct MiniTarget {
    framer: Framer,
    encoder: Encoder,
    stat_sn: StatSn,
    outgoing: VecDeque<Bytes>,
    /// Keys of the answer to the operational text.
    answer: &'static str,
    refuse: Option<LoginStatus>,
    written: Vec<u8>,
    segments: usize,
    /// Ask for a write's data in bursts of so many bytes.
    burst: u32,
    wrong_stat_sn: bool,
}

impl MiniTarget {
    fn new(answer: &'static str) -> Self {
        Self {
            framer: Framer::new(Limits { max_data_segment_length: 1 << 24, ..Limits::default() }),
            encoder: Encoder::new(),
            stat_sn: StatSn(100),
            outgoing: VecDeque::new(),
            answer,
            refuse: None,
            written: vec![],
            segments: 0,
            burst: 4096,
            wrong_stat_sn: false,
        }
    }

    fn say(&mut self, pdu: impl Into<TargetPdu>) {
        let mut pdu = pdu.into();
        if self.wrong_stat_sn {
            self.stat_sn.take();
        }
        pdu.set_numbers(self.stat_sn, CmdSn(2), CmdSn(64));
        if pdu.uses_stat_sn() {
            self.stat_sn.take();
        }
        let mut out = Vec::new();
        self.encoder.encode(&pdu, &mut out).unwrap();
        self.encoder.finish(&mut out);
        self.outgoing.extend(out);
    }

    fn end(&mut self, tag: InitiatorTaskTag, status: Status, sense: &[u8]) {
        let response = ScsiResponse {
            response: ScsiResponseCode::COMPLETED,
            status,
            initiator_task_tag: tag,
            snack_tag: SnackTag(0),
            stat_sn: StatSn(0),
            exp_cmd_sn: CmdSn(0),
            max_cmd_sn: CmdSn(0),
            exp_data_sn: DataSn(0),
            bidirectional_read_residual: Residual::None,
            residual: Residual::None,
            data: Default::default(),
        };
        self.say(if sense.is_empty() { response } else { response.with_sense(sense) });
    }

    fn ask(&mut self, tag: InitiatorTaskTag, offset: usize, whole: usize) {
        let length = (whole - offset).min(self.burst as usize) as u32;
        self.say(R2t {
            lun: Lun::ZERO,
            initiator_task_tag: tag,
            target_transfer_tag: TargetTransferTag(9),
            stat_sn: StatSn(0),
            exp_cmd_sn: CmdSn(0),
            max_cmd_sn: CmdSn(0),
            r2t_sn: R2tSn(offset as u32 / self.burst),
            buffer_offset: offset as u32,
            desired_data_transfer_length: length,
        });
    }

    fn take(&mut self, pdu: InitiatorPdu) {
        match pdu {
            InitiatorPdu::LoginRequest(request) => {
                self.say(LoginResponse {
                    flags: request.flags,
                    version_max: 0,
                    version_active: 0,
                    isid: request.isid,
                    tsih: iscsi_proto::pdu::Tsih(7),
                    initiator_task_tag: request.initiator_task_tag,
                    stat_sn: StatSn(0),
                    exp_cmd_sn: CmdSn(0),
                    max_cmd_sn: CmdSn(0),
                    status: self.refuse.unwrap_or(LoginStatus::SUCCESS),
                    data: self.answer.as_bytes().into(),
                });
            }
            InitiatorPdu::ScsiCommand(command) if command.cdb.as_slice()[0] == 0x8a => {
                self.written.clear();
                self.keep(&command.data.to_contiguous());
                let whole = command.expected_data_transfer_length as usize;
                if !command.flags.contains(ScsiCommandFlags::FINAL) {
                    return;
                }
                if self.written.len() < whole {
                    self.ask(command.initiator_task_tag, self.written.len(), whole);
                } else {
                    self.end(command.initiator_task_tag, Status::GOOD, &[]);
                }
            }
            InitiatorPdu::DataOut(data) => {
                assert_eq!(data.buffer_offset as usize, self.written.len());
                self.keep(&data.data.to_contiguous());
                if data.is_final {
                    match 10_000usize {
                        whole if self.written.len() < whole => {
                            self.ask(data.initiator_task_tag, self.written.len(), whole)
                        }
                        _ => self.end(data.initiator_task_tag, Status::GOOD, &[]),
                    }
                }
            }
            InitiatorPdu::ScsiCommand(command) if command.expected_data_transfer_length == 8 => {
                for (sn, part) in [&b"abcd"[..], b"efgh"].into_iter().enumerate() {
                    self.say(DataIn {
                        flags: if sn == 1 { DataInFlags::FINAL } else { DataInFlags::empty() },
                        status: (sn == 1).then_some(Status::GOOD),
                        lun: Lun::ZERO,
                        initiator_task_tag: command.initiator_task_tag,
                        target_transfer_tag: TargetTransferTag::RESERVED,
                        stat_sn: StatSn(0),
                        exp_cmd_sn: CmdSn(0),
                        max_cmd_sn: CmdSn(0),
                        data_sn: DataSn(sn as u32),
                        buffer_offset: sn as u32 * 4,
                        residual: Residual::None,
                        data: part.into(),
                    });
                }
            }
            InitiatorPdu::ScsiCommand(command) => {
                let sense = SenseData::invalid_opcode().encode(SenseFormat::Fixed);
                self.end(command.initiator_task_tag, Status::CHECK_CONDITION, &sense);
            }
            InitiatorPdu::NopOut(ping) => self.say(NopIn {
                lun: ping.lun,
                initiator_task_tag: ping.initiator_task_tag,
                target_transfer_tag: TargetTransferTag::RESERVED,
                stat_sn: StatSn(0),
                exp_cmd_sn: CmdSn(0),
                max_cmd_sn: CmdSn(0),
                data: ping.data,
            }),
            InitiatorPdu::LogoutRequest(request) => self.say(LogoutResponse {
                response: LogoutResponseCode::SUCCESS,
                initiator_task_tag: request.initiator_task_tag,
                stat_sn: StatSn(0),
                exp_cmd_sn: CmdSn(0),
                max_cmd_sn: CmdSn(0),
                time2wait: 0,
                time2retain: 0,
            }),
            other => panic!("{other:?}"),
        }
    }

    fn keep(&mut self, data: &[u8]) {
        self.segments += 1;
        self.written.extend_from_slice(data);
    }
}

impl Wire for MiniTarget {
    fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        self.framer.handle_received(bytes);
        while let Some(frame) = self.framer.poll_frame().unwrap() {
            self.take(InitiatorPdu::decode(frame).unwrap());
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Option<Bytes>> {
        Ok(self.outgoing.pop_front())
    }
}

fn logged_in(answer: &'static str) -> Initiator<MiniTarget> {
    let mut initiator = Initiator::new(MiniTarget::new(answer));
    initiator.login(&LoginOptions::normal("iqn.2026-11.test:host", "iqn.2026-11.test:disk")).unwrap();
    initiator
}

fn ten_thousand() -> Vec<u8> {
    (0..10_000u32).map(|i| (i % 251) as u8).collect()
}

#[test]
fn login_keeps_what_the_target_said() {
    let initiator = logged_in("InitialR2T=Yes\0MaxBurstLength=8192\0");
    assert_eq!(initiator.tsih.0, 7);
    assert_eq!(initiator.parameters["MaxBurstLength"], "8192");
}

#[test]
fn a_refused_login_is_its_status() {
    let mut initiator = Initiator::new(MiniTarget::new(""));
    initiator.wire.refuse = Some(LoginStatus(0x0201));
    let error = initiator.login(&LoginOptions::discovery("iqn.2026-11.test:host")).unwrap_err();
    assert!(matches!(error, InitiatorError::Login(LoginStatus(0x0201))));
}

#[test]
fn a_write_sends_immediate_data_and_answers_every_r2t() {
    let mut initiator = logged_in("ImmediateData=Yes\0MaxRecvDataSegmentLength=1024\0FirstBurstLength=4096\0");
    let outcome = initiator.command(&Command::write(0, &[0x8a; 16], ten_thousand())).unwrap();
    assert!(outcome.is_good());
    // 1,024 at once, then bursts of 4,096 from there on.
    assert_eq!((outcome.r2ts, initiator.wire.written == ten_thousand()), (3, true));
    assert_eq!(initiator.wire.segments, 1 + 4 + 4 + 1);
}

#[test]
fn a_write_sends_its_first_burst_unasked_when_that_was_agreed() {
    let mut initiator = logged_in("InitialR2T=No\0FirstBurstLength=65536\0MaxRecvDataSegmentLength=4096\0");
    let outcome = initiator.command(&Command::write(0, &[0x8a; 16], ten_thousand())).unwrap();
    assert_eq!((outcome.r2ts, initiator.wire.written == ten_thousand()), (0, true));
}

#[test]
fn data_and_status_of_a_read_come_together() {
    let mut initiator = logged_in("");
    let outcome = initiator.command(&Command::read(0, &[0x28; 10], 8)).unwrap();
    assert_eq!((&outcome.data[..], outcome.data_ins, outcome.is_good()), (&b"abcdefgh"[..], 2, true));
}

#[test]
fn sense_is_read() {
    let mut initiator = logged_in("");
    let outcome = initiator.command(&Command::new(0, &[0xff; 6])).unwrap();
    assert_eq!(outcome.sense_triple(), Some((0x05, 0x20, 0x00)));
}

#[test]
fn a_ping_comes_back_and_a_logout_is_answered() {
    let mut initiator = logged_in("");
    assert_eq!(initiator.ping(b"hello").unwrap(), b"hello");
    assert_eq!(initiator.logout().unwrap().response, LogoutResponseCode::SUCCESS);
    assert!(initiator.await_close().is_ok());
}

#[test]
fn a_status_number_out_of_order_is_noticed() {
    let mut initiator = logged_in("");
    initiator.wire.wrong_stat_sn = true;
    assert!(matches!(initiator.ping(b""), Err(InitiatorError::Violation(_))));
}
