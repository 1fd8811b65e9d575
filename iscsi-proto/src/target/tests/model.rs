//! A disk behind the target and an initiator that uses it, both as simple as can be, in random steps.

use std::collections::HashMap;

use bytes::Bytes;
use scsi_core::{Status, TaskManagementResponse as Answer};

use super::support::*;
use crate::pdu::*;
use crate::sn::{CmdSn, DataSn, StatSn};
use crate::target::*;

const DISK: usize = 16 << 10;

/// What the initiator knows of a command.
struct Sent {
    is_write: bool,
    offset: usize,
    length: usize,
    /// Bytes of the CDB's length that the initiator has no room for, or did not announce.
    expected: usize,
    data: Vec<u8>,
    next_data_sn: u32,
    is_aborted: bool,
}

/// What the owner knows of a command.
struct Open {
    task: TaskHandle,
    is_write: bool,
    offset: usize,
    length: usize,
    /// Of the initiator's buffer.
    available: usize,
    asked: usize,
    done: usize,
    got: Vec<u8>,
}

pub(super) struct Model {
    rig: Rig,
    /// What the disk holds, as written by commands that have ended.
    disk: Vec<u8>,
    /// The same, as the initiator believes.
    believed: Vec<u8>,
    sent: HashMap<u32, Sent>,
    open: Vec<Open>,
    transfers: Vec<R2t>,
    stat_sn: u32,
    max_cmd_sn: u32,
    immediate_data: bool,
    initial_r2t: bool,
    first_burst: usize,
    segment: usize,
    ended: usize,
    begun: usize,
}

impl Model {
    pub(super) fn new(variant: u8) -> Self {
        let yes_no = |bit: u8| if variant & bit != 0 { "Yes" } else { "No" };
        let rig = Rig::with(Options {
            keys: vec![
                ("InitialR2T", yes_no(1)),
                ("ImmediateData", yes_no(2)),
                ("FirstBurstLength", "1024"),
                ("MaxBurstLength", "1536"),
                ("MaxRecvDataSegmentLength", "700"),
                ("MaxOutstandingR2T", if variant & 4 != 0 { "3" } else { "1" }),
                ("HeaderDigest", if variant & 4 != 0 { "CRC32C" } else { "None" }),
                ("DataDigest", if variant & 4 != 0 { "CRC32C" } else { "None" }),
            ],
            session: SessionConfig { queue_depth: 6, ..SessionConfig::default() },
            ..Options::default()
        });
        let max_cmd_sn = rig.window().1;
        Self {
            rig,
            disk: vec![0; DISK],
            believed: vec![0; DISK],
            sent: HashMap::new(),
            open: Vec::new(),
            transfers: Vec::new(),
            stat_sn: 1,
            max_cmd_sn,
            immediate_data: variant & 2 != 0,
            initial_r2t: variant & 1 != 0,
            first_burst: 1024,
            segment: 512,
            ended: 0,
            begun: 0,
        }
    }

    pub(super) fn step(&mut self, kind: u8, a: u16, b: u16) {
        match kind % 8 {
            0 | 1 => self.begin(kind & 8 != 0, usize::from(a), usize::from(b)),
            2 | 3 => self.answer_r2t(usize::from(a)),
            4..=6 => self.serve(usize::from(a), usize::from(b)),
            _ => self.abort(usize::from(a)),
        }
        self.exchange();
    }

    /// Lets everything come to its end and looks at it.
    pub(super) fn finish(mut self) {
        for round in 0..10_000 {
            if self.sent.is_empty() {
                break;
            }
            self.answer_r2t(0);
            self.serve(round, 4000);
            self.exchange();
        }
        assert!(self.sent.is_empty(), "{} commands never ended", self.sent.len());
        assert_eq!(self.begun, self.ended);
        assert_eq!(self.rig.session.open_tasks(), 0);
        assert_eq!(self.rig.session.unsent_bytes(self.rig.key), 0);
        assert_eq!(self.rig.window(), (self.rig.cmd_sn, self.rig.cmd_sn.wrapping_add(5)));
    }

    fn begin(&mut self, is_write: bool, a: usize, b: usize) {
        if CmdSn(self.rig.cmd_sn).is_after(CmdSn(self.max_cmd_sn)) {
            return;
        }
        let length = b % 4096;
        let offset = a % (DISK - length);
        // One command at a time on any byte: what is read is then known.
        if self.sent.values().any(|sent| offset < sent.offset + sent.length && sent.offset < offset + length) {
            return;
        }
        let expected = match a % 5 {
            0 => length / 2,
            1 => length + 100,
            _ => length,
        };
        let mut command = match is_write {
            true => self.rig.write_command(expected as u32),
            false => self.rig.read_command(expected as u32),
        };
        let mut cdb = [0; 16];
        cdb[1] = is_write.into();
        cdb[2..6].copy_from_slice(&(offset as u32).to_be_bytes());
        cdb[6..10].copy_from_slice(&(length as u32).to_be_bytes());
        command.cdb = cdb.into();
        let tag = command.initiator_task_tag;
        let data: Vec<u8> = (0..expected).map(|at| (at * 7 + a + b) as u8).collect();
        let mut immediate = 0;
        if is_write && self.immediate_data && a & 16 != 0 {
            immediate = expected.min(self.segment).min(self.first_burst);
            command.data = Bytes::copy_from_slice(&data[..immediate]).into();
        }
        let unsolicited = match is_write && !self.initial_r2t && a & 32 != 0 {
            true => expected.min(self.first_burst).saturating_sub(immediate),
            false => 0,
        };
        if unsolicited > 0 {
            command.flags -= ScsiCommandFlags::FINAL;
        }
        command.exp_stat_sn = StatSn(self.stat_sn);
        self.rig.send(command);
        let whole = data.clone();
        let kept = if is_write { data } else { Vec::new() };
        self.sent
            .insert(tag.0, Sent { is_write, offset, length, expected, data: kept, next_data_sn: 0, is_aborted: false });
        self.begun += 1;
        if unsolicited > 0 {
            self.send_data(tag, TargetTransferTag::RESERVED, immediate, &whole[immediate..immediate + unsolicited]);
        }
    }

    fn send_data(&mut self, tag: InitiatorTaskTag, transfer: TargetTransferTag, offset: usize, data: &[u8]) {
        let pieces: Vec<&[u8]> = data.chunks(self.segment).collect();
        let mut at = offset;
        for (index, piece) in pieces.iter().enumerate() {
            self.rig.send(DataOut {
                is_final: index + 1 == pieces.len(),
                initiator_task_tag: tag,
                target_transfer_tag: transfer,
                data_sn: DataSn(index as u32),
                buffer_offset: at as u32,
                data: Bytes::copy_from_slice(piece).into(),
                exp_stat_sn: StatSn(self.stat_sn),
                ..DataOut::default()
            });
            at += piece.len();
        }
    }

    fn answer_r2t(&mut self, pick: usize) {
        if self.transfers.is_empty() {
            return;
        }
        // R2Ts of one command are answered in order; which command comes first is chance.
        let tag = self.transfers[pick % self.transfers.len()].initiator_task_tag;
        let first = self.transfers.iter().position(|r2t| r2t.initiator_task_tag == tag).unwrap();
        let r2t = self.transfers.remove(first);
        let (offset, length) = (r2t.buffer_offset as usize, r2t.desired_data_transfer_length as usize);
        let data = match self.sent.get(&tag.0) {
            Some(sent) => sent.data[offset..offset + length].to_vec(),
            // Aborted meanwhile: the data is owed all the same.
            None => vec![0; length],
        };
        self.send_data(tag, r2t.target_transfer_tag, offset, &data);
    }

    fn abort(&mut self, pick: usize) {
        let tags: Vec<u32> = self.sent.iter().filter(|(_, sent)| !sent.is_aborted).map(|(&tag, _)| tag).collect();
        // Writes are left alone: what an aborted one has written is anybody's guess.
        let Some(&tag) = tags.get(pick % tags.len().max(1)).filter(|tag| !self.sent[tag].is_write) else { return };
        let mut request = self.rig.management(TaskManagementFunctionCode::ABORT_TASK, true);
        request.referenced_task_tag = InitiatorTaskTag(tag);
        request.ref_cmd_sn = CmdSn(self.rig.cmd_sn.wrapping_sub(1));
        request.initiator_task_tag = InitiatorTaskTag(tag | 0x8000_0000);
        self.sent.get_mut(&tag).unwrap().is_aborted = true;
        self.rig.send(request);
    }

    /// The owner does a bit of work on one of its commands.
    fn serve(&mut self, pick: usize, amount: usize) {
        if self.open.is_empty() {
            return;
        }
        let index = pick % self.open.len();
        let open = &mut self.open[index];
        let session = &mut self.rig.session;
        if open.is_write {
            let want = open.length.min(open.available);
            if open.asked < want {
                let count = amount.clamp(1, want - open.asked);
                session.request_data(open.task, open.asked as u32, count as u32);
                open.asked += count;
            }
            if open.done < want {
                return;
            }
            self.disk[open.offset..open.offset + want].copy_from_slice(&open.got[..want]);
        } else if open.done < open.length {
            let count = amount.clamp(1, open.length - open.done);
            let at = open.offset + open.done;
            session.send_data_in(open.task, open.done as u32, [Bytes::copy_from_slice(&self.disk[at..at + count])]);
            open.done += count;
            if open.done < open.length {
                return;
            }
        }
        session.send_status(open.task, TaskStatus::new(Status::GOOD, open.length as u64));
        self.open.swap_remove(index);
    }

    fn exchange(&mut self) {
        loop {
            let events = self.rig.events();
            let replies = self.rig.replies();
            if events.is_empty() && replies.is_empty() {
                return;
            }
            events.into_iter().for_each(|event| self.take_event(event));
            replies.into_iter().for_each(|reply| self.take_reply(reply));
        }
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Command(command) => {
                let cdb = command.cdb.as_slice();
                let number = |at: usize| u32::from_be_bytes(cdb[at..at + 4].try_into().unwrap()) as usize;
                self.open.push(Open {
                    task: command.task,
                    is_write: command.write,
                    offset: number(2),
                    length: number(6),
                    available: command.data_out_length as usize,
                    asked: 0,
                    done: 0,
                    got: vec![0; command.data_out_length as usize],
                });
            }
            Event::DataOut(data) => {
                let open = self.open.iter_mut().find(|open| open.task == data.task).expect("data of an open task");
                let bytes = data.data.to_contiguous();
                let at = data.offset as usize;
                open.got[at..at + bytes.len()].copy_from_slice(&bytes);
                open.done += bytes.len();
            }
            Event::TaskManagement(management) => {
                let task = management.referenced.unwrap();
                self.open.retain(|open| open.task != task);
                self.rig.session.task_aborted(task, false);
                self.rig.session.task_management_response(management.request, Answer::FunctionComplete);
            }
            other => panic!("{other:?}"),
        }
    }

    fn take_reply(&mut self, reply: TargetPdu) {
        let (stat_sn, _, max_cmd_sn) = reply.numbers();
        assert!(!CmdSn(max_cmd_sn.0).is_before(CmdSn(self.max_cmd_sn)), "MaxCmdSN went back");
        self.max_cmd_sn = max_cmd_sn.0;
        if reply.uses_stat_sn() {
            assert_eq!(stat_sn.0, self.stat_sn);
            self.stat_sn += 1;
        }
        match reply {
            TargetPdu::R2t(r2t) => self.transfers.push(r2t),
            TargetPdu::DataIn(data) => self.take_data_in(data),
            TargetPdu::ScsiResponse(response) => {
                self.end(response.initiator_task_tag.0, response.status, response.residual);
            }
            TargetPdu::TaskManagementResponse(response) => {
                let tag = response.initiator_task_tag.0 & 0x7fff_ffff;
                // The task may have ended before it could be aborted.
                if self.sent.remove(&tag).is_some() {
                    self.ended += 1;
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn take_data_in(&mut self, pdu: DataIn) {
        assert!(pdu.data.len() <= 700);
        let sent = self.sent.get_mut(&pdu.initiator_task_tag.0).expect("data for a command that has ended");
        assert_eq!(pdu.data_sn.0, sent.next_data_sn);
        assert_eq!(pdu.buffer_offset as usize, sent.data.len());
        sent.next_data_sn += 1;
        sent.data.extend_from_slice(&pdu.data.to_contiguous());
        if let Some(status) = pdu.status {
            assert!(pdu.flags.contains(DataInFlags::FINAL));
            self.end(pdu.initiator_task_tag.0, status, pdu.residual);
        }
    }

    fn end(&mut self, tag: u32, status: Status, residual: Residual) {
        let sent = self.sent.remove(&tag).expect("a command ends once");
        self.ended += 1;
        assert_eq!(status, Status::GOOD);
        assert_eq!(residual, Residual::of(sent.expected as u32, sent.length as u64));
        let moved = sent.length.min(sent.expected);
        let place = sent.offset..sent.offset + moved;
        match sent.is_write {
            true => self.believed[place].copy_from_slice(&sent.data[..moved]),
            false => assert_eq!(sent.data, self.believed[place]),
        }
    }
}
