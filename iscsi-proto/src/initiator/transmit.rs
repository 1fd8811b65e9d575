//! From requests to PDUs. Numbers are given in the order of sending.

use std::time::Instant;

use bytes::Bytes;
use scsi_core::TaskManagementFunction;

use super::event::ConnectionKey;
use super::link::{Item, Link, Run};
use super::session::Session;
use super::tasks::{Entry, Kind};
use crate::login::Parameters;
use crate::pdu::{
    DataOut, InitiatorPdu, InitiatorTaskTag, LogoutReason, LogoutRequest, NopOut, ScsiCommand, ScsiCommandFlags,
    TargetTransferTag, TaskManagementRequest, TextRequest,
};
use crate::sn::{CmdSn, DataSn};
use crate::text::{Key, TextWriter};

impl Session {
    /// Appends slices to send on a connection, in order. Returns how many bytes they have, 0 when there is nothing to
    /// send or the command window is closed.
    pub fn poll_transmit(&mut self, _now: Instant, connection: ConnectionKey, out: &mut Vec<Bytes>) -> usize {
        let Some(at) = self.links.iter().position(|link| link.key == connection) else { return 0 };
        let mut sent: usize = self.links[at].raw.iter().map(Bytes::len).sum();
        out.append(&mut self.links[at].raw);
        while sent < self.config.transmit_batch_bytes {
            let Some(item) = self.next_item(at) else { break };
            sent += self.encode_item(at, item, out);
        }
        self.links[at].encoder.finish(out);
        sent
    }

    /// Whether a connection has something to send that the command window lets through.
    pub fn wants_transmit(&self, connection: ConnectionKey) -> bool {
        self.link(connection).is_some_and(|link| {
            !link.raw.is_empty() || !link.urgent.is_empty() || (!link.queue.is_empty() && self.window_is_open())
        })
    }

    fn window_is_open(&self) -> bool {
        !self.cmd_sn.is_after(self.max_cmd_sn)
    }

    fn next_item(&mut self, at: usize) -> Option<Item> {
        let open = self.window_is_open();
        let link = &mut self.links[at];
        link.urgent.pop_front().or_else(|| if open { link.queue.pop_front() } else { None })
    }

    fn encode_item(&mut self, at: usize, item: Item, out: &mut Vec<Bytes>) -> usize {
        match item {
            Item::Pdu(mut pdu) => {
                let link = &mut self.links[at];
                number(&mut pdu, self.cmd_sn, link);
                encode(link, &*pdu, out)
            }
            Item::Request(tag) => {
                let Some(entry) = self.entries.by_tag(tag) else { return 0 };
                let immediate = entry.immediate;
                entry.cmd_sn = Some(self.cmd_sn);
                let tag_of = |key: super::TaskKey| key.tag;
                let referenced = match &entry.kind {
                    Kind::Management { referenced, .. } => referenced.map(tag_of),
                    _ => None,
                };
                let ref_cmd_sn = referenced.and_then(|tag| self.entries.by_tag(tag)).and_then(|entry| entry.cmd_sn);
                // A task that is over has no number. This request's own makes the target count none as come.
                let ref_cmd_sn = ref_cmd_sn.or(Some(self.cmd_sn));
                let Some(entry) = self.entries.by_tag(tag) else { return 0 };
                let link = &mut self.links[at];
                let (mut pdu, run) =
                    request_pdu(entry, self.parameters.as_ref(), link, referenced.zip(Some(ref_cmd_sn)));
                number(&mut pdu, self.cmd_sn, link);
                if !immediate {
                    self.cmd_sn = self.cmd_sn.next();
                }
                if let Some(run) = run {
                    link.urgent.push_front(Item::DataOut(run));
                }
                encode(link, &pdu, out)
            }
            Item::DataOut(run) => self.encode_run(at, run, out),
        }
    }

    /// One Data-Out PDU of a run; the rest goes back to the front, so that a run stays together.
    fn encode_run(&mut self, at: usize, mut run: Run, out: &mut Vec<Bytes>) -> usize {
        let Some(entry) = self.entries.by_tag(run.task) else { return 0 };
        let Kind::Command(task) = &entry.kind else { return 0 };
        let link = &mut self.links[at];
        let length = (run.end - run.next).min(link.parameters.max_send_data_segment_length);
        let is_final = run.next + length == run.end;
        let pdu = DataOut {
            is_final,
            lun: if run.transfer.is_reserved() { scsi_core::Lun::ZERO } else { entry.lun },
            initiator_task_tag: run.task,
            target_transfer_tag: run.transfer,
            exp_stat_sn: link.exp_stat_sn,
            data_sn: run.data_sn.take(),
            buffer_offset: run.next,
            data: task.data_out.segment(run.next as usize, length as usize),
        };
        run.next += length;
        if !is_final {
            link.urgent.push_front(Item::DataOut(run));
        }
        encode(link, &pdu, out)
    }
}

fn encode(link: &mut Link, pdu: &impl crate::pdu::EncodePdu, out: &mut Vec<Bytes>) -> usize {
    // Everything here is within the lengths a header can say: data segments are cut, CDBs were checked.
    link.encoder.encode(pdu, out).unwrap_or(0)
}

/// Sets the numbers that every request carries.
fn number(pdu: &mut InitiatorPdu, cmd_sn: CmdSn, link: &Link) {
    macro_rules! set {
        ($($variant:ident),*) => {
            match pdu {
                $( InitiatorPdu::$variant(pdu) => {
                    pdu.cmd_sn = cmd_sn;
                    pdu.exp_stat_sn = link.exp_stat_sn;
                } )*
                _ => {}
            }
        };
    }
    set!(ScsiCommand, TaskManagementRequest, TextRequest, NopOut, LogoutRequest);
}

fn request_pdu(
    entry: &mut Entry,
    parameters: Option<&Parameters>,
    link: &Link,
    referenced: Option<(InitiatorTaskTag, Option<CmdSn>)>,
) -> (InitiatorPdu, Option<Run>) {
    let tag = entry.key.tag;
    let immediate = entry.immediate;
    match &mut entry.kind {
        Kind::Command(task) => {
            let session = parameters.map(|parameters| parameters.session).unwrap_or_default();
            let total = task.data_out.len() as u32;
            let first_burst = session.first_burst_length.min(total);
            let immediate_length =
                if session.immediate_data { first_burst.min(link.parameters.max_send_data_segment_length) } else { 0 };
            let unsolicited = if session.initial_r2t { immediate_length } else { first_burst };
            let mut flags = ScsiCommandFlags::empty();
            flags.set(ScsiCommandFlags::FINAL, unsolicited == immediate_length);
            flags.set(ScsiCommandFlags::WRITE, total > 0);
            flags.set(ScsiCommandFlags::READ, task.data_in_length > 0);
            let bidirectional = total > 0 && task.data_in_length > 0;
            let pdu = ScsiCommand {
                immediate,
                flags,
                attribute: task.attribute,
                priority: task.priority,
                lun: entry.lun,
                initiator_task_tag: tag,
                expected_data_transfer_length: if total > 0 { total } else { task.data_in_length },
                cdb: task.cdb.clone(),
                bidirectional_read_length: bidirectional.then_some(task.data_in_length),
                data: task.data_out.segment(0, immediate_length as usize),
                ..ScsiCommand::default()
            };
            let run = (unsolicited > immediate_length).then_some(Run {
                task: tag,
                transfer: TargetTransferTag::RESERVED,
                next: immediate_length,
                end: unsolicited,
                data_sn: DataSn::default(),
            });
            (pdu.into(), run)
        }
        Kind::Management { function, .. } => {
            let (referenced_task_tag, ref_cmd_sn) = referenced.unwrap_or((InitiatorTaskTag::RESERVED, None));
            let pdu = TaskManagementRequest {
                immediate,
                function: (*function).into(),
                lun: entry.lun,
                initiator_task_tag: tag,
                referenced_task_tag,
                // Only ABORT TASK says which number it means (RFC 7143 11.5.5).
                ref_cmd_sn: ref_cmd_sn.filter(|_| *function == TaskManagementFunction::AbortTask).unwrap_or_default(),
                ..TaskManagementRequest::default()
            };
            (pdu.into(), None)
        }
        Kind::Targets { text, .. } => {
            let pdu = TextRequest {
                immediate,
                is_final: true,
                initiator_task_tag: tag,
                data: std::mem::take(text),
                ..TextRequest::default()
            };
            (pdu.into(), None)
        }
        Kind::Negotiate => {
            let mut text = TextWriter::new();
            let length = link.parameters.max_recv_data_segment_length;
            text.push(Key::MaxRecvDataSegmentLength.name(), &length.to_string());
            let data = text.take().into();
            let pdu =
                TextRequest { immediate, is_final: true, initiator_task_tag: tag, data, ..TextRequest::default() };
            (pdu.into(), None)
        }
        Kind::Ping { data, .. } => {
            let pdu = NopOut { immediate, initiator_task_tag: tag, data: std::mem::take(data), ..NopOut::default() };
            (pdu.into(), None)
        }
        Kind::Logout { whole_session, cid, .. } => {
            let reason = if *whole_session { LogoutReason::CLOSE_SESSION } else { LogoutReason::CLOSE_CONNECTION };
            let pdu =
                LogoutRequest { immediate, reason, initiator_task_tag: tag, cid: *cid, ..LogoutRequest::default() };
            (pdu.into(), None)
        }
    }
}
