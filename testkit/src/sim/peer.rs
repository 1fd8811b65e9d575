//! A strict initiator that never waits: bytes in, what happened out.

mod lies;

use bytes::Bytes;
use iscsi_proto::digest::Digests;
use iscsi_proto::frame::{Framer, Limits};
use iscsi_proto::pdu::{
    CdbBytes, DataIn, DataInFlags, DataOut, Encoder, InitiatorPdu, InitiatorTaskTag, Isid, LoginFlags, LoginRequest,
    LoginResponse, LogoutReason, LogoutRequest, NopOut, R2t, Residual, ScsiCommand, ScsiCommandFlags, ScsiResponseCode,
    Stage, TargetPdu, TargetTransferTag, TaskManagementFunctionCode, TaskManagementRequest, Tsih,
};
use iscsi_proto::sn::{CmdSn, DataSn, StatSn};
use scsi_core::{Lun, SenseData, Status, TaskAttribute};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::initiator::{Command, Wire};
use crate::link::{Delivery, LinkFaults};
use crate::san::{SanWire, TARGET};
use lies::{BurstLie, Lies};

/// Names a command or function of the whole run.
pub(super) type OpId = u64;

/// What a peer tells the judge.
#[derive(Debug)]
pub(super) enum Said {
    LoggedIn,
    /// The connection is over, for whatever reason.
    Closed(String),
    /// A command ended.
    Ended(OpId, Box<Ending>),
    /// A command was aborted, or its end is not known, and it does nothing more; a function will not be answered.
    Gone(OpId),
    /// A task management function was answered.
    Managed(OpId, u8),
    /// The target broke a rule.
    Violation(String),
    /// The target has broken its word about an operation, unless that was ended by somebody else.
    Broken(OpId, String),
}

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) status: Status,
    pub(super) sense: Option<SenseData>,
    pub(super) data: Vec<u8>,
    pub(super) residual: Residual,
    /// Bytes of data-out that were sent, in order.
    pub(super) sent: u32,
    /// An abort was sent before it came: what it tells may be told again.
    pub(super) crossed: bool,
    /// It was sent again, or could have been: others that are younger may have told the same meanwhile.
    pub(super) late: bool,
    /// Its data was not what the target had asked for.
    pub(super) lied: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Down,
    LoggingIn,
    Up,
    LoggingOut,
}

/// How a peer likes to talk.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub(super) digests: bool,
    pub(super) immediate: bool,
    pub(super) initial_r2t: bool,
    pub(super) segment: u32,
    pub(super) burst: u32,
    pub(super) first_burst: u32,
}

#[derive(Debug)]
struct Task {
    op: OpId,
    lun: Lun,
    data: Bytes,
    /// The next byte of data-out that goes, asked for or not.
    sent: usize,
    received: Vec<u8>,
    room: usize,
    next_data_sn: DataSn,
    cmd_sn: CmdSn,
    lied: bool,
}

pub(super) struct Peer {
    pub(super) name: String,
    pub(super) state: State,
    pub(super) manner: Manner,
    pub(super) faults: LinkFaults,
    /// Takes nothing from its connection until then.
    pub(super) stalled_until: Duration,
    wire: Option<SanWire>,
    isid: Isid,
    framer: Framer,
    encoder: Encoder,
    cmd_sn: CmdSn,
    exp_stat_sn: StatSn,
    max_cmd_sn: CmdSn,
    next_tag: u32,
    tasks: BTreeMap<u32, Task>,
    functions: BTreeMap<u32, OpId>,
    lies: Lies,
    keys: BTreeMap<String, String>,
    /// A command number was left out in this session.
    pub(super) has_gap: bool,
    /// The connection is silent; until then the initiator waits for it.
    gives_up_at: Option<Duration>,
    /// Bits flipped on connections that are gone.
    flipped_before: u64,
}

impl Peer {
    pub(super) fn new(index: usize, manner: Manner) -> Self {
        Self {
            name: name_of(index),
            state: State::Down,
            manner,
            faults: LinkFaults::default(),
            stalled_until: Duration::ZERO,
            wire: None,
            isid: Isid::random([0x12, 0x34, 0x56], index as u16 + 1),
            framer: framer(),
            encoder: Encoder::new(),
            cmd_sn: CmdSn(1),
            exp_stat_sn: StatSn(0),
            max_cmd_sn: CmdSn(1),
            next_tag: 1,
            tasks: BTreeMap::new(),
            functions: BTreeMap::new(),
            lies: Lies::default(),
            keys: BTreeMap::new(),
            has_gap: false,
            gives_up_at: None,
            flipped_before: 0,
        }
    }

    /// Begins a session on a new connection; an older one is forgotten, though the target may still have it. The
    /// operations that will not be answered any more.
    pub(super) fn log_in(&mut self, wire: SanWire, first: u32) -> Vec<OpId> {
        let lost = self.forget();
        self.wire = Some(wire);
        self.state = State::LoggingIn;
        // Close to the wrap in some runs.
        self.cmd_sn = CmdSn(first);
        self.max_cmd_sn = CmdSn(first);
        self.exp_stat_sn = StatSn(0);
        (self.framer, self.encoder) = (framer(), Encoder::new());
        let manner = &self.manner;
        let yes = |yes| if yes { "Yes" } else { "No" };
        let digest = if manner.digests { "CRC32C" } else { "None" };
        let text = format!(
            "InitiatorName={}\0SessionType=Normal\0TargetName={TARGET}\0HeaderDigest={digest}\0DataDigest={digest}\0\
             MaxRecvDataSegmentLength={}\0ImmediateData={}\0InitialR2T={}\0MaxBurstLength={}\0FirstBurstLength={}\0",
            self.name,
            manner.segment,
            yes(manner.immediate),
            yes(manner.initial_r2t),
            manner.burst,
            manner.first_burst
        );
        let (current, next) = (Stage::OPERATIONAL_NEGOTIATION, Stage::FULL_FEATURE_PHASE);
        self.send(LoginRequest {
            flags: LoginFlags { transit: true, is_continued: false, current, next },
            isid: self.isid,
            tsih: Tsih::NEW,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
            initiator_task_tag: InitiatorTaskTag(0),
            data: text.into_bytes().into(),
            ..LoginRequest::default()
        });
        lost
    }

    /// Drops the connection; the operations that will not be answered any more.
    pub(super) fn drop_connection(&mut self, politely: bool) -> Vec<OpId> {
        if let Some(wire) = &mut self.wire {
            if politely { wire.close() } else { wire.pull() }
        }
        self.forget()
    }

    /// The target's machine is gone.
    pub(super) fn forget(&mut self) -> Vec<OpId> {
        if let Some(wire) = self.wire.take() {
            self.flipped_before += wire.flipped();
        }
        self.state = State::Down;
        self.stalled_until = Duration::ZERO;
        self.lies = Lies::default();
        (self.has_gap, self.gives_up_at) = (false, None);
        let tasks = std::mem::take(&mut self.tasks).into_values().map(|task| task.op);
        tasks.chain(std::mem::take(&mut self.functions).into_values()).collect()
    }

    /// From now on nothing arrives any more in these directions; the initiator gives the connection up at `patience`.
    pub(super) fn go_dead(&mut self, to_target: bool, to_initiator: bool, patience: Duration) {
        if let Some(wire) = &mut self.wire {
            wire.go_dead(to_target, to_initiator);
            self.gives_up_at = Some(patience);
        }
    }

    /// When the initiator gives a silent connection up.
    pub(super) fn gives_up_at(&self) -> Option<Duration> {
        self.gives_up_at
    }

    /// Loses its patience with a silent connection not later than this.
    pub(super) fn give_up_until(&mut self, at: Duration) {
        self.gives_up_at = self.gives_up_at.map(|due| due.min(at));
    }

    /// Leaves a command number out.
    pub(super) fn leave_gap(&mut self) {
        self.cmd_sn.take();
        self.has_gap = true;
    }

    pub(super) fn log_out(&mut self) {
        self.state = State::LoggingOut;
        let tag = self.tag();
        let (cmd_sn, exp_stat_sn) = (self.cmd_sn, self.exp_stat_sn);
        self.send(LogoutRequest {
            immediate: true,
            reason: LogoutReason::CLOSE_SESSION,
            initiator_task_tag: tag,
            cid: Default::default(),
            cmd_sn,
            exp_stat_sn,
        });
    }

    pub(super) fn set_faults(&mut self, faults: LinkFaults) {
        self.faults = faults;
        self.apply_faults();
    }

    fn apply_faults(&mut self) {
        // No digest protects a login, nor a session without.
        let is_protected = self.state == State::Up && self.manner.digests;
        let flips_per_million = if is_protected { self.faults.flips_per_million } else { 0 };
        let faults = LinkFaults { flips_per_million, ..self.faults.clone() };
        if let Some(wire) = &mut self.wire {
            wire.set_faults(faults);
        }
    }

    pub(super) fn flipped(&self) -> u64 {
        self.flipped_before + self.wire.as_ref().map_or(0, SanWire::flipped)
    }

    /// How many commands the window lets through now.
    pub(super) fn window(&self) -> u32 {
        let open = self.max_cmd_sn.0.wrapping_sub(self.cmd_sn.0).wrapping_add(1);
        if open > 1 << 20 { 0 } else { open }
    }

    pub(super) fn open_tasks(&self) -> Vec<(u32, OpId)> {
        self.tasks.iter().map(|(tag, task)| (*tag, task.op)).collect()
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.tasks.is_empty()
            || !self.functions.is_empty()
            || self.lies.are_open()
            // Its session has yet to end.
            || self.gives_up_at.is_some()
            || self.has_gap
            || matches!(self.state, State::LoggingIn | State::LoggingOut)
    }

    /// Gives a command up that will not be answered.
    pub(super) fn give_up(&mut self, op: OpId) {
        self.tasks.retain(|_, task| task.op != op);
    }

    pub(super) fn command(&mut self, op: OpId, command: &Command) {
        let tag = self.tag();
        let cmd_sn = self.cmd_sn.take();
        let total = command.data.len();
        let expected = command.expected_length.unwrap_or(if total > 0 { total as u32 } else { command.read_length });
        let first_burst = self.number("FirstBurstLength", 65536).min(total);
        let immediate = if self.is_yes("ImmediateData", true) { first_burst.min(self.target_segment()) } else { 0 };
        let unsolicited = if self.is_yes("InitialR2T", true) { immediate } else { first_burst };
        let mut flags = ScsiCommandFlags::empty();
        flags.set(ScsiCommandFlags::FINAL, unsolicited == immediate);
        flags.set(ScsiCommandFlags::WRITE, total > 0);
        flags.set(ScsiCommandFlags::READ, command.read_length > 0);
        self.tasks.insert(
            tag.0,
            Task {
                op,
                lun: command.lun,
                data: command.data.clone(),
                sent: unsolicited,
                received: Vec::new(),
                room: expected as usize,
                next_data_sn: DataSn(0),
                cmd_sn,
                lied: false,
            },
        );
        let exp_stat_sn = self.exp_stat_sn;
        self.send(ScsiCommand {
            immediate: false,
            flags,
            attribute: command.attribute,
            lun: command.lun,
            initiator_task_tag: tag,
            expected_data_transfer_length: expected,
            cmd_sn,
            exp_stat_sn,
            cdb: CdbBytes::new(&command.cdb).unwrap_or_default(),
            priority: 0,
            bidirectional_read_length: None,
            other_ahs: vec![],
            data: command.data.slice(..immediate).into(),
        });
        if unsolicited > immediate {
            self.send_burst(tag, TargetTransferTag(u32::MAX), command.lun, &command.data, immediate..unsolicited, None);
        }
    }

    pub(super) fn manage(&mut self, op: OpId, function: TaskManagementFunctionCode, lun: u16, referenced: Option<u32>) {
        let tag = self.tag();
        self.functions.insert(tag.0, op);
        let ref_cmd_sn = referenced.and_then(|tag| self.tasks.get(&tag)).map_or(self.cmd_sn, |task| task.cmd_sn);
        let (cmd_sn, exp_stat_sn) = (self.cmd_sn, self.exp_stat_sn);
        self.send(TaskManagementRequest {
            immediate: true,
            function,
            lun: Lun::new(lun).unwrap_or_default(),
            initiator_task_tag: tag,
            referenced_task_tag: referenced.map(InitiatorTaskTag).unwrap_or_default(),
            cmd_sn,
            exp_stat_sn,
            ref_cmd_sn,
            exp_data_sn: Default::default(),
        });
    }

    /// Takes what has come. True when something has.
    pub(super) fn poll(&mut self, out: &mut Vec<Said>) -> bool {
        let mut moved = false;
        while let Some(delivery) = self.wire.as_mut().and_then(SanWire::poll) {
            moved = true;
            match delivery {
                Delivery::Bytes(bytes) => {
                    self.framer.handle_received(bytes);
                    if let Err(said) = self.take_frames(out) {
                        out.push(said);
                        return true;
                    }
                }
                Delivery::End => out.push(Said::Closed("closed by the target".into())),
                Delivery::Reset => out.push(Said::Closed("reset".into())),
            }
        }
        moved
    }

    fn take_frames(&mut self, out: &mut Vec<Said>) -> Result<(), Said> {
        // With flipped bits anything may come; a digest tells, and the connection is given up.
        let flips = self.manner.digests && self.faults.flips_per_million > 0 || self.flipped() > 0;
        let broken = |words: String| {
            if flips { Said::Closed(words) } else { Said::Violation(words) }
        };
        loop {
            let frame = match self.framer.poll_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => return Err(broken(format!("no frame: {error}"))),
            };
            if !frame.data_digest.is_ok() {
                return Err(broken("wrong data digest".into()));
            }
            let pdu = TargetPdu::decode(frame).map_err(|error| Said::Violation(format!("no PDU: {error}")))?;
            let (stat_sn, exp_cmd_sn, max_cmd_sn) = pdu.numbers();
            if exp_cmd_sn.is_after(self.cmd_sn) {
                return Err(Said::Violation(format!("ExpCmdSN {exp_cmd_sn}, {} was never sent", self.cmd_sn)));
            }
            if max_cmd_sn.is_after(self.max_cmd_sn) {
                self.max_cmd_sn = max_cmd_sn;
            }
            if pdu.uses_stat_sn() && !matches!(pdu, TargetPdu::LoginResponse(_)) {
                if stat_sn != self.exp_stat_sn {
                    return Err(Said::Violation(format!("StatSN {stat_sn}, {} was next", self.exp_stat_sn)));
                }
                self.exp_stat_sn = stat_sn.next();
            }
            self.take_pdu(pdu, flips, out)?;
        }
    }

    fn take_pdu(&mut self, pdu: TargetPdu, flips: bool, out: &mut Vec<Said>) -> Result<(), Said> {
        match pdu {
            TargetPdu::LoginResponse(response) => self.take_login(&response, out)?,
            TargetPdu::DataIn(data) => self.take_data(data, out)?,
            TargetPdu::R2t(r2t) => self.take_r2t(&r2t)?,
            TargetPdu::ScsiResponse(response) => {
                let tag = response.initiator_task_tag;
                let Some(task) = self.tasks.remove(&tag.0) else {
                    return Err(Said::Violation(format!("a response to task {tag}, which is not open")));
                };
                if response.response != ScsiResponseCode::COMPLETED {
                    return Err(Said::Violation(format!("response {:?}", response.response)));
                }
                let sense = SenseData::decode(&response.sense());
                out.push(ended(task, response.status, sense, response.residual));
            }
            TargetPdu::TaskManagementResponse(response) => {
                match self.functions.remove(&response.initiator_task_tag.0) {
                    Some(op) => out.push(Said::Managed(op, response.response.0)),
                    None if self.lies.take_in_use(response.initiator_task_tag) => {}
                    None => return Err(Said::Violation("an answer to no task management function".into())),
                }
            }
            TargetPdu::NopIn(ping) => {
                if !ping.target_transfer_tag.is_reserved() {
                    let (cmd_sn, exp_stat_sn) = (self.cmd_sn, self.exp_stat_sn);
                    self.send(NopOut {
                        immediate: true,
                        lun: ping.lun,
                        target_transfer_tag: ping.target_transfer_tag,
                        cmd_sn,
                        exp_stat_sn,
                        data: ping.data,
                        ..NopOut::default()
                    });
                } else if ping.initiator_task_tag != InitiatorTaskTag::RESERVED {
                    self.lies.take_echo(&ping)?;
                }
            }
            TargetPdu::Reject(reject) if self.lies.take_reject(&reject) => {}
            TargetPdu::LogoutResponse(_) if self.state == State::LoggingOut => {}
            TargetPdu::AsyncMessage(message) => {
                return Err(Said::Closed(format!("asynchronous message {:?}", message.event)));
            }
            TargetPdu::Reject(reject) if flips => return Err(Said::Closed(format!("reject {}", reject.reason))),
            other => return Err(Said::Violation(format!("unexpected {other:?}"))),
        }
        Ok(())
    }

    fn take_login(&mut self, response: &LoginResponse, out: &mut Vec<Said>) -> Result<(), Said> {
        if self.state != State::LoggingIn {
            return Err(Said::Violation("a login response after the login".into()));
        }
        if !response.status.is_success() {
            return Err(Said::Closed(format!("login refused: {}", response.status)));
        }
        self.exp_stat_sn = response.stat_sn.next();
        let data = response.data.to_contiguous();
        let text = String::from_utf8_lossy(&data);
        self.keys = text.split('\0').filter_map(|pair| pair.split_once('=')).map(own).collect();
        if !response.flags.transit {
            return Err(Said::Violation("a login that does not go on".into()));
        }
        let digests = Digests { header: self.manner.digests, data: self.manner.digests };
        self.framer.set_digests(digests);
        self.encoder.set_digests(digests);
        self.state = State::Up;
        self.apply_faults();
        out.push(Said::LoggedIn);
        Ok(())
    }

    fn take_data(&mut self, pdu: DataIn, out: &mut Vec<Said>) -> Result<(), Said> {
        let tag = pdu.initiator_task_tag;
        let segment = self.manner.segment as usize;
        let Some(task) = self.tasks.get_mut(&tag.0) else {
            return Err(Said::Violation(format!("data for task {tag}, which is not open")));
        };
        let data_sn = task.next_data_sn.take();
        if pdu.data_sn != data_sn {
            return Err(Said::Violation(format!("DataSN {}, {data_sn} was next", pdu.data_sn)));
        }
        if pdu.buffer_offset as usize != task.received.len() {
            let had = task.received.len();
            return Err(Said::Violation(format!("data at {} after {had} bytes", pdu.buffer_offset)));
        }
        if pdu.data.len() > segment {
            return Err(Said::Violation(format!("a segment of {} bytes, {segment} were agreed", pdu.data.len())));
        }
        for slice in pdu.data.slices() {
            task.received.extend_from_slice(slice);
        }
        if task.received.len() > task.room {
            return Err(Said::Violation(format!("{} bytes for a room of {}", task.received.len(), task.room)));
        }
        if let Some(status) = pdu.status {
            if !pdu.flags.contains(DataInFlags::FINAL) {
                return Err(Said::Violation("a status before the last data".into()));
            }
            if let Some(task) = self.tasks.remove(&tag.0) {
                out.push(ended(task, status, None, pdu.residual));
            }
        }
        Ok(())
    }

    fn take_r2t(&mut self, r2t: &R2t) -> Result<(), Said> {
        let tag = r2t.initiator_task_tag;
        let burst = self.number("MaxBurstLength", 262_144);
        let Some(task) = self.tasks.get_mut(&tag.0) else {
            return Err(Said::Violation(format!("an R2T for task {tag}, which is not open")));
        };
        let (from, length) = (r2t.buffer_offset as usize, r2t.desired_data_transfer_length as usize);
        if r2t.r2t_sn.0 != task.next_data_sn.take().0 {
            return Err(Said::Violation(format!("R2TSN {} is out of order", r2t.r2t_sn)));
        }
        if from != task.sent || length == 0 || length > burst || from + length > task.data.len() {
            let (sent, all) = (task.sent, task.data.len());
            return Err(Said::Violation(format!("an R2T for {length} bytes at {from}; {sent} of {all} were sent")));
        }
        task.sent += length;
        let (lun, data) = (task.lun, task.data.clone());
        let (transfer, lie) = (r2t.target_transfer_tag, self.lies.burst.take());
        if let Some(lie) = lie {
            self.lie_before_burst(lie, (tag, transfer), from as u32, length as u32);
        }
        self.send_burst(tag, transfer, lun, &data, from..from + length, lie);
        Ok(())
    }

    fn send_burst(
        &mut self,
        tag: InitiatorTaskTag,
        transfer: TargetTransferTag,
        lun: Lun,
        data: &Bytes,
        range: std::ops::Range<usize>,
        lie: Option<BurstLie>,
    ) {
        let mut data_sn = DataSn(u32::from(lie == Some(BurstLie::Number)));
        let moved = if lie == Some(BurstLie::Offset) { 512 } else { 0 };
        let last = if lie == Some(BurstLie::Short) { range.end - 1 } else { range.end };
        let mut at = range.start;
        loop {
            let end = last.min(at + self.target_segment());
            let exp_stat_sn = self.exp_stat_sn;
            self.send(DataOut {
                is_final: end == last,
                lun,
                initiator_task_tag: tag,
                target_transfer_tag: transfer,
                exp_stat_sn,
                data_sn: data_sn.take(),
                buffer_offset: at as u32 + moved,
                data: data.slice(at..end).into(),
            });
            at = end;
            if at >= last {
                return;
            }
        }
    }

    fn send(&mut self, pdu: impl Into<InitiatorPdu>) {
        let mut out = Vec::new();
        if self.encoder.encode(&pdu.into(), &mut out).is_ok()
            && let Some(wire) = &mut self.wire
        {
            self.encoder.finish(&mut out);
            // A connection that is over says so when it is polled.
            let _ = wire.send(out.concat().into());
        }
    }

    fn tag(&mut self) -> InitiatorTaskTag {
        self.next_tag += 1;
        InitiatorTaskTag(self.next_tag)
    }

    fn target_segment(&self) -> usize {
        self.number("MaxRecvDataSegmentLength", 8192).max(512)
    }

    fn number(&self, key: &str, default: usize) -> usize {
        self.keys.get(key).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    fn is_yes(&self, key: &str, default: bool) -> bool {
        self.keys.get(key).map_or(default, |value| value == "Yes")
    }
}

/// The name of the `index`th initiator.
pub(super) fn name_of(index: usize) -> String {
    format!("iqn.2026-11.test:host{index}")
}

/// A command of the attribute that most have.
pub(super) fn with_attribute(mut command: Command, ordered: bool) -> Command {
    command.attribute = if ordered { TaskAttribute::Ordered } else { TaskAttribute::Simple };
    command
}

fn framer() -> Framer {
    Framer::new(Limits { max_data_segment_length: 1 << 24, ..Limits::default() })
}

fn own((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

fn ended(task: Task, status: Status, sense: Option<SenseData>, residual: Residual) -> Said {
    let sent = task.sent as u32;
    Said::Ended(
        task.op,
        Box::new(Ending {
            status,
            sense,
            data: task.received,
            residual,
            sent,
            crossed: false,
            late: false,
            lied: task.lied,
        }),
    )
}
