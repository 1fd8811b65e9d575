//! What leaves: order between the queues, Data-In PDUs cut from what the owner gave, numbers.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use scsi_core::mutation::{Mutation, is_active};

use super::link::{Item, Link, data_len};
use super::recv::{Numbered, Request};
use super::tasks::{End, Task};
use super::window::Window;
use super::{ConnectionKey, Session, TaskHandle};
use crate::pdu::{DataIn, DataInFlags, DataSegment, NopIn, R2t, Residual, ScsiResponse, TargetPdu, TargetTransferTag};
use crate::sn::{R2tSn, StatSn};

/// While set, only this connection may send responses, until the initiator has acknowledged so far (RFC 7143
/// 4.2.2.3.3).
#[derive(Clone, Copy, Debug)]
pub(super) struct Fence {
    pub(super) link: ConnectionKey,
    pub(super) number: StatSn,
    pub(super) deadline: Instant,
}

impl Session {
    /// Appends what `connection` has to send to `out`, for one or more vectored writes in this order; returns how many
    /// bytes that are.
    ///
    /// One call gives about [`SessionConfig::transmit_batch_bytes`](super::SessionConfig::transmit_batch_bytes). 0
    /// means that there is nothing to send now. Sending may let more input through: drain the events again afterwards.
    pub fn poll_transmit(&mut self, connection: ConnectionKey, now: Instant, out: &mut Vec<Bytes>) -> usize {
        self.now = now;
        let sent = self.transmit(connection, out);
        self.pump_stalled();
        sent
    }

    /// A connection with something to send, if there is any.
    pub fn poll_transmittable(&self) -> Option<ConnectionKey> {
        self.links.iter().find(|link| self.may_send(link)).map(|link| link.key)
    }

    /// Whether a connection has something to send.
    pub fn has_output(&self, connection: ConnectionKey) -> bool {
        self.links.get(connection).is_some_and(|link| self.may_send(link))
    }

    fn may_send(&self, link: &Link) -> bool {
        !link.urgent.is_empty() || (!link.queue.is_empty() && !self.is_fenced(link))
    }

    fn is_fenced(&self, link: &Link) -> bool {
        self.fence.is_some_and(|fence| fence.link != link.key)
    }

    fn transmit(&mut self, key: ConnectionKey, out: &mut Vec<Bytes>) -> usize {
        let mut sent = 0;
        let was_full = self.links.get(key).is_some_and(|link| link.is_full(&self.config));
        self.lift_fence();
        while sent < self.config.transmit_batch_bytes {
            let is_fenced = self.fence.is_some_and(|fence| fence.link != key);
            let Some(link) = self.links.get_mut(key) else { return sent };
            let item = match link.urgent.pop_front() {
                Some(item) => item,
                None if is_fenced => break,
                None => match link.queue.pop_front() {
                    Some(item) => item,
                    None => break,
                },
            };
            sent += match item {
                Item::Pdu(pdu) => {
                    link.queued_bytes -= data_len(&pdu);
                    let ends_login = matches!(pdu, TargetPdu::LoginResponse(_));
                    let sent = emit(link, &mut self.window, pdu, out);
                    if ends_login {
                        // Digests hold from the first PDU of the full feature phase on.
                        link.encoder.set_digests(link.parameters.digests);
                    }
                    sent
                }
                Item::R2t { task, transfer } => self.transmit_r2t(key, task, transfer, out),
                Item::Task(task) => self.transmit_task(key, task, out),
                Item::Management(task) => self.transmit_management(key, task, out),
                Item::LoggedOut { session } => {
                    self.logged_out(key, session);
                    0
                }
            };
        }
        if let Some(link) = self.links.get_mut(key) {
            // What was queued may have been for tasks that are gone.
            if link.is_open() && !link.has_output() && self.window.is_untold() && self.open_managements == 0 {
                sent += emit(link, &mut self.window, NopIn::default().into(), out);
            }
            link.encoder.finish(out);
            if sent > 0 {
                link.last_sent = self.now;
            }
            if was_full && !link.is_full(&self.config) {
                link.resume(self.now);
            }
        }
        sent
    }

    fn transmit_r2t(
        &mut self,
        key: ConnectionKey,
        handle: TaskHandle,
        tag: TargetTransferTag,
        out: &mut Vec<Bytes>,
    ) -> usize {
        let (Some(task), Some(link)) = (self.tasks.get_mut(handle), self.links.get_mut(key)) else { return 0 };
        let is_bidirectional = task.is_bidirectional();
        let Some(transfer) = task.data_out.transfer_mut(tag) else { return 0 };
        transfer.is_sent = true;
        let offset = transfer.offset + if is_active(Mutation::R2tAtWrongOffset) { 512 } else { 0 };
        let length = transfer.length;
        // R2Ts and Data-Ins of a bidirectional command share one numbering (RFC 7143 11.8.3).
        let r2t_sn = match is_bidirectional {
            true => R2tSn(task.data_in.data_sn.take().0),
            false => task.data_out.r2t_sn.take(),
        };
        let pdu = R2t {
            lun: task.lun,
            initiator_task_tag: task.tag,
            target_transfer_tag: tag,
            r2t_sn,
            buffer_offset: offset,
            desired_data_transfer_length: length,
            ..R2t::default()
        };
        emit(link, &mut self.window, pdu.into(), out)
    }

    /// Sends data of a read, as much as one turn allows, and how the task ends when that is known.
    fn transmit_task(&mut self, key: ConnectionKey, handle: TaskHandle, out: &mut Vec<Bytes>) -> usize {
        let (Some(task), Some(link)) = (self.tasks.get_mut(handle), self.links.get_mut(key)) else { return 0 };
        task.queued = false;
        link.encoder.spoil_next(std::mem::take(&mut task.spoiled));
        let mut sent = 0;
        while task.data_in.unsent() > 0 {
            if sent >= self.config.transmit_quantum_bytes {
                task.queued = true;
                link.queue.push_back(Item::Task(handle));
                return sent;
            }
            let mut pdu = next_data_in(task, link, self.rules.max_burst_length);
            if let Some(end) = collapsed_end(task) {
                pdu.status = Some(end.status);
                pdu.residual = end.residual;
                self.close_task(handle);
                let Some(link) = self.links.get_mut(key) else { return sent };
                return sent + emit_data_in(link, &mut self.window, &mut pdu, out);
            }
            sent += emit_data_in(link, &mut self.window, &mut pdu, out);
        }
        if !task.may_respond() {
            return sent;
        }
        let Some(end) = task.end.take() else { return sent };
        let mut pdu = ScsiResponse {
            status: end.status,
            initiator_task_tag: task.tag,
            exp_data_sn: task.data_in.data_sn,
            residual: end.residual,
            bidirectional_read_residual: end.bidirectional_read_residual,
            ..ScsiResponse::default()
        };
        if !end.sense.is_empty() {
            pdu = pdu.with_sense(&end.sense);
        }
        self.close_task(handle);
        if is_active(Mutation::AnsweredTwice) {
            sent += self.emit(key, pdu.clone().into(), out);
        }
        sent + self.emit(key, pdu.into(), out)
    }

    fn transmit_management(&mut self, key: ConnectionKey, handle: TaskHandle, out: &mut Vec<Bytes>) -> usize {
        if self.has_affected_before(handle) {
            if let Some(link) = self.links.get_mut(key) {
                link.queue.push_back(Item::Management(handle));
            }
            return 0;
        }
        let (needs_fence, is_cold_reset) = (self.needs_fence(handle), self.is_cold_reset(handle));
        let Some(pdu) = self
            .tasks
            .get_mut(handle)
            .and_then(|task| task.management.as_mut())
            .and_then(|management| management.answer.take())
        else {
            return 0;
        };
        self.close_management(handle);
        let sent = self.emit(key, pdu.into(), out);
        if needs_fence && let Some(link) = self.links.get_mut(key) {
            // A ping makes the initiator acknowledge.
            let target_transfer_tag = self.transfer_tags.take();
            link.push_urgent(NopIn { target_transfer_tag, ..NopIn::default() });
            let deadline = self.now + self.config.abort_wait;
            self.fence = Some(Fence { link: key, number: link.stat_sn, deadline });
        }
        if is_cold_reset {
            self.end(super::EndReason::ColdReset);
        }
        sent
    }

    fn emit(&mut self, key: ConnectionKey, pdu: TargetPdu, out: &mut Vec<Bytes>) -> usize {
        self.links.get_mut(key).map_or(0, |link| emit(link, &mut self.window, pdu, out))
    }

    /// Lets the other connections go on when the fenced response has been acknowledged, or was not in time.
    pub(super) fn lift_fence(&mut self) {
        if let Some(fence) = self.fence {
            let is_acknowledged = self
                .links
                .get(fence.link)
                .is_none_or(|link| !link.is_open() || !link.acknowledged.is_before(fence.number));
            if is_acknowledged || fence.deadline <= self.now {
                self.fence = None;
            }
        }
    }

    /// Tells an initiator that has used up its window that this has opened, if no other PDU is about to.
    pub(super) fn tell_window(&mut self) {
        // A task management response is about to, when one is open.
        if !self.window.is_untold() || self.open_managements > 0 {
            return;
        }
        if let Some(link) = self.links.iter_mut().find(|link| link.is_open())
            && !link.has_output()
        {
            link.push_urgent(NopIn::default());
        }
    }
}

/// Encodes a PDU with the numbers of this moment.
fn emit(link: &mut Link, window: &mut Window<(Numbered, Request)>, mut pdu: TargetPdu, out: &mut Vec<Bytes>) -> usize {
    pdu.set_numbers(link.stat_sn, window.expected(), window.max());
    window.tell();
    if pdu.uses_stat_sn() && !is_active(Mutation::StatSnStale) {
        link.stat_sn = link.stat_sn.next();
    }
    // Nothing we make is too long for its header: data segments keep to 2^24 - 1 bytes and there are no AHS.
    link.encoder.encode(&pdu, out).unwrap_or(0)
}

/// As [`emit`], for the PDU that leaves most often, which stays where it is.
fn emit_data_in(
    link: &mut Link,
    window: &mut Window<(Numbered, Request)>,
    pdu: &mut DataIn,
    out: &mut Vec<Bytes>,
) -> usize {
    (pdu.exp_cmd_sn, pdu.max_cmd_sn) = (window.expected(), window.max());
    window.tell();
    if pdu.status.is_some() {
        pdu.stat_sn = link.stat_sn;
        if !is_active(Mutation::StatSnStale) {
            link.stat_sn = link.stat_sn.next();
        }
    }
    link.encoder.encode(&*pdu, out).unwrap_or(0)
}

/// Cuts the next Data-In: at most one segment of the initiator's, and never across the end of a sequence.
fn next_data_in(task: &mut Task, link: &mut Link, max_burst_length: u32) -> DataIn {
    let buffer = &mut task.data_in;
    let (offset, unsent) = (buffer.sent, buffer.unsent());
    let length = unsent
        .min(if is_active(Mutation::SegmentTooLong) {
            u32::MAX
        } else {
            link.parameters.max_send_data_segment_length.max(1)
        })
        .min(max_burst_length.max(1).saturating_sub(buffer.in_sequence).max(1));
    let data = take_front(&mut buffer.pending, length as usize);
    buffer.sent += length;
    buffer.in_sequence += length;
    link.unsent = link.unsent.saturating_sub(length as usize);
    let is_final = length == unsent || buffer.in_sequence >= max_burst_length;
    if is_final {
        buffer.in_sequence = 0;
    }
    DataIn {
        flags: if is_final { DataInFlags::FINAL } else { DataInFlags::empty() },
        lun: task.lun,
        initiator_task_tag: task.tag,
        data_sn: buffer.data_sn.take(),
        buffer_offset: offset + u32::from(is_active(Mutation::DataInAtWrongOffset)),
        residual: Residual::None,
        data,
        ..DataIn::default()
    }
}

/// The end of a read that the Data-In just cut can carry: all is sent, all is known, and it is a success.
fn collapsed_end(task: &mut Task) -> Option<End> {
    if task.data_in.unsent() > 0 || task.is_bidirectional() || !task.may_respond() {
        return None;
    }
    task.end.take_if(|end| end.is_collapsible())
}

/// The next `length` bytes as slices. There are at least so many.
fn take_front(pending: &mut VecDeque<Bytes>, length: usize) -> DataSegment {
    let mut data = DataSegment::new();
    while data.len() < length {
        let left = length - data.len();
        let Some(front) = pending.front_mut() else { break };
        if front.len() <= left {
            data.push(std::mem::take(front));
            pending.pop_front();
        } else {
            data.push(front.split_to(left));
        }
    }
    data
}
