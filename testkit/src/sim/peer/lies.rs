//! What an initiator says that is not so, and what has to come of it.

use bytes::Bytes;
use iscsi_proto::pdu::{
    Bhs, CdbBytes, DataOut, EncodePdu, InitiatorTaskTag, LoginRequest, NopIn, NopOut, Reject, RejectReason,
    ScsiCommand, ScsiCommandFlags, Snack, TargetTransferTag, TaskManagementFunctionCode, TaskManagementRequest,
};
use iscsi_proto::sn::{CmdSn, DataSn, StatSn};
use scsi_core::Lun;
use std::collections::BTreeMap;

use super::{Peer, Said};
use crate::initiator::Wire;
use crate::rng::Rng;

/// No target gives so many transfers or has so many tasks in one run: a tag from here on is none.
const NEVER_GIVEN: u32 = 0x4000_0000;

/// What is wrong with the data that the next R2T asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BurstLie {
    /// Data for a transfer that nobody has asked for comes before it. It is rejected.
    Transfer,
    /// Data of this transfer for a task that does not exist comes before it. It is ignored.
    Task,
    /// It says a place behind its own. The command fails.
    Offset,
    /// Its first number is left out. The command fails.
    Number,
    /// The last of it is said to have come before all has. The command fails.
    Short,
}

/// A lie that was told.
pub(in crate::sim) struct Lie {
    pub(in crate::sim) words: &'static str,
    /// What it is counted as.
    pub(in crate::sim) kind: &'static str,
}

/// What is still to come of lies.
#[derive(Debug, Default)]
pub(super) struct Lies {
    /// These headers come back, with the reason.
    rejects: Vec<(RejectReason, Bytes)>,
    /// Requests whose tag was in use here: they come back as well, unless the target had ended the task.
    in_use: BTreeMap<u32, Bytes>,
    /// Pings whose data comes back.
    echoes: BTreeMap<u32, Bytes>,
    /// The next R2T is answered so.
    pub(super) burst: Option<BurstLie>,
}

impl Lies {
    pub(super) fn are_open(&self) -> bool {
        !self.rejects.is_empty() || !self.in_use.is_empty() || !self.echoes.is_empty()
    }

    /// Whether this is the Reject that a lie was to bring about.
    pub(super) fn take_reject(&mut self, reject: &Reject) -> bool {
        let header = reject.data.to_contiguous();
        if let Some(at) = self.rejects.iter().position(|(reason, sent)| *reason == reject.reason && *sent == header) {
            self.rejects.remove(at);
            return true;
        }
        let tag = self.in_use.iter().find(|(_, sent)| **sent == header).map(|(tag, _)| *tag);
        reject.reason == RejectReason::TASK_IN_PROGRESS && tag.is_some_and(|tag| self.in_use.remove(&tag).is_some())
    }

    /// Whether a request with a tag that was in use here may have been answered, for the target had ended the task.
    pub(super) fn take_in_use(&mut self, tag: InitiatorTaskTag) -> bool {
        self.in_use.remove(&tag.0).is_some()
    }

    /// The answer to a ping of the initiator's.
    pub(super) fn take_echo(&mut self, ping: &NopIn) -> Result<(), Said> {
        let (tag, data) = (ping.initiator_task_tag, ping.data.to_contiguous());
        match self.echoes.remove(&tag.0) {
            Some(sent) if sent == data => Ok(()),
            Some(sent) => Err(Said::Violation(format!("{} bytes for a ping of {}", data.len(), sent.len()))),
            None if self.take_in_use(tag) => Ok(()),
            None => Err(Said::Violation(format!("an answer to ping {tag}, which is not open"))),
        }
    }
}

/// A header that no PDU type has.
struct Stranger(Bhs);

impl EncodePdu for Stranger {
    fn bhs(&self) -> Bhs {
        self.0
    }
}

impl Peer {
    /// Tells a lie. `depth` is how many commands the target ever takes at once.
    pub(in crate::sim) fn lie(&mut self, depth: u32, rng: &mut Rng) -> Lie {
        let told = |kind, words| Lie { kind, words };
        match rng.below(9) {
            0 => {
                let back = 1 + rng.below(40) as u32;
                self.lie_about_command(self.cmd_sn.minus(back), rng);
                told("old and repeated CmdSNs", "a command with an old CmdSN")
            }
            1 => {
                let ahead = depth + rng.below(40) as u32;
                self.lie_about_command(self.cmd_sn.plus(ahead), rng);
                told("CmdSNs beyond MaxCmdSN", "a command with a CmdSN beyond the window")
            }
            2 => {
                self.lie_about_tag(rng);
                told("task tags in use", "a request with a tag in use")
            }
            3 => {
                let tag = NEVER_GIVEN + rng.below(1 << 20) as u32;
                let task = self.tasks.keys().next().copied().unwrap_or(tag);
                self.send_data_for(InitiatorTaskTag(task), TargetTransferTag(tag), rng.chance(500_000));
                told("wrong Data-Outs", "data for a transfer that was never asked for")
            }
            4 => {
                let reserved = InitiatorTaskTag::RESERVED;
                let skew = if rng.chance(500_000) { 1 + rng.below(100) as u32 } else { 0x7fff_0000 };
                let wrong = StatSn(match rng.chance(500_000) {
                    true => self.exp_stat_sn.0.wrapping_add(skew),
                    false => self.exp_stat_sn.0.wrapping_sub(skew),
                });
                self.ping(reserved, wrong, Bytes::new());
                let tag = self.tag();
                self.ping(tag, wrong, Bytes::from_static(b"who is there"));
                told("wrong ExpStatSNs", "an ExpStatSN that cannot be")
            }
            5 => {
                self.lie_about_opcode(rng);
                told("unexpected opcodes", "an opcode that has no place here")
            }
            _ => {
                let lies = [BurstLie::Transfer, BurstLie::Task, BurstLie::Offset, BurstLie::Number, BurstLie::Short];
                self.lies.burst = Some(lies[rng.below(5) as usize]);
                told("wrong Data-Outs", "the data of the next R2T will be wrong")
            }
        }
    }

    /// Asks for many echoes at once.
    pub(in crate::sim) fn storm(&mut self, longest: usize, rng: &mut Rng) {
        for _ in 0..20 + rng.below(200) {
            let tag = self.tag();
            let length = if rng.chance(500_000) { longest } else { rng.below(longest as u64) as usize };
            self.ping(tag, self.exp_stat_sn, Bytes::from(vec![tag.0 as u8; length]));
        }
    }

    /// A command that is to be ignored, for its number.
    fn lie_about_command(&mut self, cmd_sn: CmdSn, rng: &mut Rng) {
        // One that repeats a number may repeat the tag as well.
        let open = self.tasks.keys().next().copied().filter(|_| cmd_sn.is_before(self.cmd_sn) && rng.chance(400_000));
        let tag = open.map_or_else(|| self.tag(), InitiatorTaskTag);
        let writes = rng.chance(500_000);
        let immediate = if writes && self.is_yes("ImmediateData", true) { 512 } else { 0 };
        let mut cdb = [0; 10];
        if writes {
            (cdb[0], cdb[5], cdb[8]) = (0x2a, rng.below(6) as u8, 1);
        }
        let mut flags = ScsiCommandFlags::FINAL;
        flags.set(ScsiCommandFlags::WRITE, writes);
        let exp_stat_sn = self.exp_stat_sn;
        self.send(ScsiCommand {
            immediate: false,
            flags,
            attribute: scsi_core::TaskAttribute::Simple,
            lun: Lun::default(),
            initiator_task_tag: tag,
            expected_data_transfer_length: if writes { 512 } else { 0 },
            cmd_sn,
            exp_stat_sn,
            cdb: CdbBytes::new(&cdb).unwrap_or_default(),
            priority: 0,
            bidirectional_read_length: None,
            other_ahs: vec![],
            data: Bytes::from(vec![0x5a; immediate]).into(),
        });
    }

    /// A request with the tag of a task that is open.
    fn lie_about_tag(&mut self, rng: &mut Rng) {
        let free = self.tasks.keys().copied().find(|tag| !self.lies.in_use.contains_key(tag));
        let Some(tag) = free else { return };
        let (cmd_sn, exp_stat_sn, initiator_task_tag) = (self.cmd_sn, self.exp_stat_sn, InitiatorTaskTag(tag));
        let header = if rng.chance(500_000) {
            self.send_raw(&NopOut { immediate: true, initiator_task_tag, cmd_sn, exp_stat_sn, ..NopOut::default() })
        } else {
            self.send_raw(&TaskManagementRequest {
                immediate: true,
                function: TaskManagementFunctionCode::TASK_REASSIGN,
                lun: Lun::default(),
                initiator_task_tag,
                referenced_task_tag: InitiatorTaskTag(tag),
                cmd_sn,
                exp_stat_sn,
                ref_cmd_sn: cmd_sn,
                exp_data_sn: DataSn(0),
            })
        };
        self.lies.in_use.insert(tag, header);
    }

    fn lie_about_opcode(&mut self, rng: &mut Rng) {
        let (cmd_sn, exp_stat_sn) = (self.cmd_sn, self.exp_stat_sn);
        let (reason, header) = match rng.below(4) {
            0 => (RejectReason::PROTOCOL_ERROR, self.send_raw(&Snack { exp_stat_sn, ..Snack::default() })),
            1 => {
                let isid = self.isid;
                let again = LoginRequest { isid, cmd_sn, exp_stat_sn, ..LoginRequest::default() };
                (RejectReason::PROTOCOL_ERROR, self.send_raw(&again))
            }
            2 => {
                // What stands where a request has its CmdSN is an old number.
                let answer = NopIn { stat_sn: StatSn(cmd_sn.minus(1).0), ..NopIn::default() };
                (RejectReason::PROTOCOL_ERROR, self.send_raw(&answer))
            }
            _ => {
                let mut header = [0; 48];
                // Immediate, of an opcode that nobody has assigned.
                (header[0], header[1]) = (0x40 | 0x1a, 0x80);
                (RejectReason::COMMAND_NOT_SUPPORTED, self.send_raw(&Stranger(Bhs::new(header))))
            }
        };
        self.lies.rejects.push((reason, header));
    }

    /// Data that is refused: nobody has given the transfer's tag.
    fn send_data_for(&mut self, task: InitiatorTaskTag, transfer: TargetTransferTag, is_final: bool) {
        let header = self.send_raw(&DataOut {
            is_final,
            lun: Lun::default(),
            initiator_task_tag: task,
            target_transfer_tag: transfer,
            exp_stat_sn: self.exp_stat_sn,
            data_sn: DataSn(0),
            buffer_offset: 0,
            data: Bytes::from_static(&[0x5a; 512]).into(),
        });
        self.lies.rejects.push((RejectReason::INVALID_PDU_FIELD, header));
    }

    /// Says what is to come before the data that an R2T asks for, or what is wrong with it.
    pub(super) fn lie_before_burst(
        &mut self,
        lie: BurstLie,
        (tag, transfer): (InitiatorTaskTag, TargetTransferTag),
        offset: u32,
        length: u32,
    ) {
        match lie {
            BurstLie::Transfer => {
                // At the right place, so that whoever takes it has no other reason to complain.
                let data = Bytes::from(vec![0x5a; length.min(512) as usize]);
                let header = self.send_raw(&DataOut {
                    is_final: false,
                    lun: Lun::default(),
                    initiator_task_tag: tag,
                    target_transfer_tag: TargetTransferTag(NEVER_GIVEN + transfer.0),
                    exp_stat_sn: self.exp_stat_sn,
                    data_sn: DataSn(0),
                    buffer_offset: offset,
                    data: data.into(),
                });
                self.lies.rejects.push((RejectReason::INVALID_PDU_FIELD, header));
            }
            BurstLie::Task => {
                self.send_raw(&DataOut {
                    is_final: false,
                    lun: Lun::default(),
                    initiator_task_tag: InitiatorTaskTag(NEVER_GIVEN + tag.0),
                    target_transfer_tag: transfer,
                    exp_stat_sn: self.exp_stat_sn,
                    data_sn: DataSn(0),
                    buffer_offset: offset,
                    data: Bytes::from(vec![0x5a; length.min(512) as usize]).into(),
                });
            }
            BurstLie::Offset | BurstLie::Number | BurstLie::Short => {
                if let Some(task) = self.tasks.get_mut(&tag.0) {
                    task.lied = true;
                }
            }
        }
    }

    fn ping(&mut self, tag: InitiatorTaskTag, exp_stat_sn: StatSn, data: Bytes) {
        if tag != InitiatorTaskTag::RESERVED {
            self.lies.echoes.insert(tag.0, data.clone());
        }
        let cmd_sn = self.cmd_sn;
        self.send(NopOut {
            immediate: true,
            initiator_task_tag: tag,
            target_transfer_tag: TargetTransferTag::RESERVED,
            cmd_sn,
            exp_stat_sn,
            data: data.into(),
            ..NopOut::default()
        });
    }

    /// Sends anything; its header as it left.
    fn send_raw(&mut self, pdu: &impl EncodePdu) -> Bytes {
        let mut out = Vec::new();
        if self.encoder.encode(pdu, &mut out).is_err() {
            return Bytes::new();
        }
        self.encoder.finish(&mut out);
        let bytes = Bytes::from(out.concat());
        let header = bytes.slice(..bytes.len().min(48));
        if let Some(wire) = &mut self.wire {
            // A connection that is over says so when it is polled.
            let _ = wire.send(bytes);
        }
        header
    }
}
