//! Commands of a scripted initiator: immediate and unsolicited data, R2Ts, Data-In, status.

use bytes::Bytes;
use iscsi_proto::pdu::{
    CdbBytes, DataIn, DataInFlags, DataOut, InitiatorTaskTag, R2t, Residual, ScsiCommand, ScsiCommandFlags,
    ScsiResponse, ScsiResponseCode, TargetPdu, TargetTransferTag,
};
use iscsi_proto::sn::{CmdSn, DataSn};
use scsi_core::{Lun, SenseData, Status, TaskAttribute};

use super::{Initiator, InitiatorError, NO_TRANSFER, Result, Wire, tag_of};

/// A command to send.
#[derive(Clone, Debug)]
pub struct Command {
    /// Where to.
    pub lun: Lun,
    /// The CDB.
    pub cdb: Vec<u8>,
    /// Its place in the task set.
    pub attribute: TaskAttribute,
    /// Data for the target.
    pub data: Bytes,
    /// Room for data from the target, in bytes.
    pub read_length: u32,
    /// The expected data transfer length, when it is to differ from the above.
    pub expected_length: Option<u32>,
    /// Immediate delivery, past the command window.
    pub immediate: bool,
    /// Send no data before it is asked for, whatever was agreed.
    pub solicited_only: bool,
}

impl Command {
    /// A command without data.
    pub fn new(lun: u16, cdb: &[u8]) -> Self {
        Self {
            lun: Lun::new(lun).unwrap_or_default(),
            cdb: cdb.to_vec(),
            attribute: TaskAttribute::Simple,
            data: Bytes::new(),
            read_length: 0,
            expected_length: None,
            immediate: false,
            solicited_only: false,
        }
    }

    /// A command that reads up to so many bytes.
    pub fn read(lun: u16, cdb: &[u8], length: u32) -> Self {
        Self { read_length: length, ..Self::new(lun, cdb) }
    }

    /// A command that writes these bytes.
    pub fn write(lun: u16, cdb: &[u8], data: impl Into<Bytes>) -> Self {
        Self { data: data.into(), ..Self::new(lun, cdb) }
    }

    /// READ(16) of blocks of 512 bytes.
    pub fn read_blocks(lun: u16, lba: u64, blocks: u32) -> Self {
        Self::read(lun, &cdb16(0x88, lba, blocks), blocks * 512)
    }

    /// WRITE(16) of blocks of 512 bytes.
    pub fn write_blocks(lun: u16, lba: u64, data: impl Into<Bytes>) -> Self {
        let data = data.into();
        Self::write(lun, &cdb16(0x8a, lba, (data.len() / 512) as u32), data)
    }

    /// The same with FUA, for commands that have it in bit 3 of byte 1.
    #[must_use]
    pub fn fua(mut self) -> Self {
        if let Some(byte) = self.cdb.get_mut(1) {
            *byte |= 0x08;
        }
        self
    }
}

fn cdb16(opcode: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether the status counts.
    pub response: ScsiResponseCode,
    /// The status.
    pub status: Status,
    /// The sense data, as it came.
    pub sense: Bytes,
    /// The data that came.
    pub data: Vec<u8>,
    /// How far the transfer differed from what was expected.
    pub residual: Residual,
    /// How many R2Ts came.
    pub r2ts: u32,
    /// How many Data-In PDUs came.
    pub data_ins: u32,
}

impl Outcome {
    /// Whether the command went well.
    pub fn is_good(&self) -> bool {
        self.response == ScsiResponseCode::COMPLETED && self.status == Status::GOOD
    }

    /// The sense data, understood.
    pub fn sense_data(&self) -> Option<SenseData> {
        SenseData::decode(&self.sense)
    }

    /// Sense key, ASC and ASCQ, as one writes them: `(0x05, 0x24, 0x00)`.
    pub fn sense_triple(&self) -> Option<(u8, u8, u8)> {
        self.sense_data().map(|sense| (sense.key.0, sense.code.asc, sense.code.ascq))
    }
}

/// A command under way.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) cmd_sn: CmdSn,
    lun: Lun,
    data: Bytes,
    received: Vec<u8>,
    room: usize,
    next_data_sn: DataSn,
    r2ts: u32,
    data_ins: u32,
    outcome: Option<Outcome>,
}

impl<W: Wire> Initiator<W> {
    /// Sends a command and waits for its end.
    ///
    /// # Errors
    /// As [`Initiator::receive`]; [`InitiatorError::Reject`].
    pub fn command(&mut self, command: &Command) -> Result<Outcome> {
        let tag = self.start(command)?;
        self.finish(tag)
    }

    /// Sends a command, with as much of its data as was agreed may go unasked. Its tag.
    ///
    /// # Errors
    /// Of the wire.
    pub fn start(&mut self, command: &Command) -> Result<InitiatorTaskTag> {
        let tag = self.tag();
        let cmd_sn = self.command_number(command.immediate);
        let is_write = !command.data.is_empty();
        let segment = self.number("MaxRecvDataSegmentLength", 8192);
        let first_burst = self.number("FirstBurstLength", 65536).min(command.data.len());
        let immediate = match self.is_yes("ImmediateData", true) && !command.solicited_only {
            true => first_burst.min(segment),
            false => 0,
        };
        let unsolicited = match self.is_yes("InitialR2T", true) || command.solicited_only {
            true => immediate,
            false => first_burst,
        };
        let mut flags = ScsiCommandFlags::empty();
        flags.set(ScsiCommandFlags::FINAL, unsolicited == immediate);
        flags.set(ScsiCommandFlags::WRITE, is_write);
        flags.set(ScsiCommandFlags::READ, command.read_length > 0);
        let expected = if is_write { command.data.len() as u32 } else { command.read_length };
        let is_bidirectional = is_write && command.read_length > 0;
        self.tasks.insert(
            tag.0,
            Task {
                cmd_sn,
                lun: command.lun,
                data: command.data.clone(),
                received: Vec::new(),
                room: command.read_length as usize,
                next_data_sn: DataSn(0),
                r2ts: 0,
                data_ins: 0,
                outcome: None,
            },
        );
        self.send(ScsiCommand {
            immediate: command.immediate,
            flags,
            attribute: command.attribute,
            lun: command.lun,
            initiator_task_tag: tag,
            expected_data_transfer_length: command.expected_length.unwrap_or(expected),
            cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
            cdb: CdbBytes::new(&command.cdb).unwrap_or_default(),
            priority: 0,
            bidirectional_read_length: is_bidirectional.then_some(command.read_length),
            other_ahs: vec![],
            data: command.data.slice(..immediate).into(),
        })?;
        if unsolicited > immediate {
            self.send_burst(tag, NO_TRANSFER, command.lun, &command.data, immediate..unsolicited)?;
        }
        Ok(tag)
    }

    /// Waits for the end of a command.
    ///
    /// # Errors
    /// As [`Initiator::command`].
    pub fn finish(&mut self, tag: InitiatorTaskTag) -> Result<Outcome> {
        loop {
            match self.tasks.get(&tag.0) {
                None => return Err(InitiatorError::Violation(format!("no command has the tag {tag}"))),
                Some(Task { outcome: Some(_), .. }) => {
                    if let Some(outcome) = self.tasks.remove(&tag.0).and_then(|task| task.outcome) {
                        return Ok(outcome);
                    }
                }
                Some(_) => {}
            }
            match self.receive()? {
                TargetPdu::Reject(reject) => return Err(InitiatorError::Reject(Box::new(reject))),
                pdu => {
                    if let Some(pdu) = self.progress(pdu)? {
                        self.inbox.push_back(pdu);
                    }
                }
            }
        }
    }

    /// Forgets a command that will not be answered (it was aborted). False when there is none.
    pub fn forget(&mut self, tag: InitiatorTaskTag) -> bool {
        self.tasks.remove(&tag.0).is_some()
    }

    /// Works on a PDU of a command; gives back any other.
    pub(super) fn progress(&mut self, pdu: TargetPdu) -> Result<Option<TargetPdu>> {
        if !matches!(pdu, TargetPdu::DataIn(_) | TargetPdu::R2t(_) | TargetPdu::ScsiResponse(_)) {
            return Ok(Some(pdu));
        }
        let tag = tag_of(&pdu);
        let Some(task) = self.tasks.get_mut(&tag.0).filter(|task| task.outcome.is_none()) else {
            return Err(InitiatorError::Unexpected(Box::new(pdu)));
        };
        match pdu {
            TargetPdu::DataIn(pdu) => task.take_data(pdu)?,
            TargetPdu::ScsiResponse(pdu) => task.end(&pdu),
            TargetPdu::R2t(r2t) => {
                let data_sn = task.next_data_sn.take();
                if r2t.r2t_sn.0 != data_sn.0 {
                    return Err(violation(format!("R2TSN {} where {} was next", r2t.r2t_sn, data_sn)));
                }
                task.r2ts += 1;
                self.answer_r2t(tag, &r2t)?;
            }
            other => return Ok(Some(other)),
        }
        Ok(None)
    }

    fn answer_r2t(&mut self, tag: InitiatorTaskTag, r2t: &R2t) -> Result<()> {
        let Some(task) = self.tasks.get(&tag.0) else { return Ok(()) };
        let (lun, data) = (task.lun, task.data.clone());
        let from = r2t.buffer_offset as usize;
        let to = from + r2t.desired_data_transfer_length as usize;
        if to > data.len() || from == to || to - from > self.number("MaxBurstLength", 262_144) {
            return Err(violation(format!("R2T for bytes {from} to {to} of {}", data.len())));
        }
        self.send_burst(tag, r2t.target_transfer_tag, lun, &data, from..to)
    }

    fn send_burst(
        &mut self,
        tag: InitiatorTaskTag,
        transfer: TargetTransferTag,
        lun: Lun,
        data: &Bytes,
        range: std::ops::Range<usize>,
    ) -> Result<()> {
        let segment = self.number("MaxRecvDataSegmentLength", 8192).max(1);
        let mut data_sn = DataSn(0);
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + segment);
            self.send(DataOut {
                is_final: end == range.end,
                lun,
                initiator_task_tag: tag,
                target_transfer_tag: transfer,
                exp_stat_sn: self.exp_stat_sn,
                data_sn: data_sn.take(),
                buffer_offset: at as u32,
                data: data.slice(at..end).into(),
            })?;
            at = end;
        }
        Ok(())
    }
}

impl Task {
    fn take_data(&mut self, pdu: DataIn) -> Result<()> {
        let data_sn = self.next_data_sn.take();
        if pdu.data_sn != data_sn {
            return Err(violation(format!("DataSN {} where {data_sn} was next", pdu.data_sn)));
        }
        if pdu.buffer_offset as usize != self.received.len() {
            return Err(violation(format!("data at {} after {} bytes", pdu.buffer_offset, self.received.len())));
        }
        self.data_ins += 1;
        for slice in pdu.data.slices() {
            self.received.extend_from_slice(slice);
        }
        if self.received.len() > self.room {
            return Err(violation(format!("{} bytes where there is room for {}", self.received.len(), self.room)));
        }
        if let Some(status) = pdu.status {
            if !pdu.flags.contains(DataInFlags::FINAL) {
                return Err(violation("status in a Data-In that is not the last".into()));
            }
            self.finish(ScsiResponseCode::COMPLETED, status, Bytes::new(), pdu.residual);
        }
        Ok(())
    }

    fn end(&mut self, pdu: &ScsiResponse) {
        self.finish(pdu.response, pdu.status, pdu.sense(), pdu.residual);
    }

    fn finish(&mut self, response: ScsiResponseCode, status: Status, sense: Bytes, residual: Residual) {
        let data = std::mem::take(&mut self.received);
        let (r2ts, data_ins) = (self.r2ts, self.data_ins);
        self.outcome = Some(Outcome { response, status, sense, data, residual, r2ts, data_ins });
    }
}

fn violation(words: String) -> InitiatorError {
    InitiatorError::Violation(words)
}
