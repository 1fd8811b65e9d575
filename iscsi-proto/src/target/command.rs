//! SCSI commands and their data from the initiator; the operations by which their owner answers.

use bytes::Bytes;
use scsi_core::mutation::{Mutation, is_active};
use scsi_core::{SenseData, SenseKey, Status};
use smallvec::SmallVec;

use super::data_out::{Arrived, Verdict};
use super::event::DataArrived;
use super::link::Item;
use super::recv::{Numbered, Request};
use super::tasks::{End, Phase};
use super::window::Arrival;
use super::{AbortCause, Command, DataOutError, Event, Session, TaskHandle, TaskStatus};
use crate::digest::Digests;
use crate::pdu::{DataOut, RejectReason, Residual, ScsiCommand, ScsiCommandFlags};

impl Session {
    #[inline]
    pub(super) fn receive_command(&mut self, request: Numbered, mut pdu: ScsiCommand, ahs: &[u8]) {
        if self.window.takes_wrongly(pdu.cmd_sn) {
            pdu.immediate = true;
        }
        let arrival = if pdu.immediate { Arrival::Deliver } else { self.window.classify(pdu.cmd_sn) };
        if arrival == Arrival::Ignore {
            return;
        }
        if let Some(reason) = self.refusal(&pdu) {
            self.reject(request.link, reason, &request.bhs, ahs);
            return self.skip_unless_immediate(pdu.immediate, pdu.cmd_sn);
        }
        let Some(command) = self.open_command(request.link, &mut pdu) else {
            self.reject(request.link, RejectReason::IMMEDIATE_COMMAND_REJECT, &request.bhs, ahs);
            return self.skip_unless_immediate(pdu.immediate, pdu.cmd_sn);
        };
        let (handle, is_final) = (command.task, pdu.flags.contains(ScsiCommandFlags::FINAL));
        if !pdu.data.is_empty()
            && let Some(task) = self.tasks.get_mut(handle)
            && task.given_up.is_none()
        {
            task.early_data.push((0, pdu.data, is_final));
        }
        if arrival == Arrival::Deliver {
            // As `sequence` does it, without a detour over the type that has room for every request.
            if !pdu.immediate {
                self.window.advance();
            }
            self.deliver_command(command);
            if !pdu.immediate {
                self.deliver_held();
            }
            return;
        }
        self.sequence(request, pdu.cmd_sn, pdu.immediate, Request::Command(command));
    }

    /// Why a command is not even taken as a task.
    fn refusal(&self, pdu: &ScsiCommand) -> Option<RejectReason> {
        let is_write = pdu.flags.contains(ScsiCommandFlags::WRITE);
        let is_bidirectional = is_write && pdu.flags.contains(ScsiCommandFlags::READ);
        if self.is_discovery() {
            Some(RejectReason::PROTOCOL_ERROR)
        } else if pdu.initiator_task_tag.is_reserved() {
            Some(RejectReason::INVALID_PDU_FIELD)
        } else if self.tasks.has_tag(pdu.initiator_task_tag) {
            Some(RejectReason::TASK_IN_PROGRESS)
        } else if !is_write && !pdu.data.is_empty() || is_bidirectional && pdu.bidirectional_read_length.is_none() {
            Some(RejectReason::INVALID_PDU_FIELD)
        } else if pdu.immediate && self.immediate_open >= self.config.max_immediate {
            Some(RejectReason::IMMEDIATE_COMMAND_REJECT)
        } else {
            None
        }
    }

    #[inline]
    fn open_command(&mut self, link: super::ConnectionKey, pdu: &mut ScsiCommand) -> Option<Command> {
        let read = pdu.flags.contains(ScsiCommandFlags::READ);
        let write = pdu.flags.contains(ScsiCommandFlags::WRITE);
        let expected = pdu.expected_data_transfer_length;
        let data_out_length = if write { expected } else { 0 };
        let data_in_length = match (read, write) {
            (true, true) => pdu.bidirectional_read_length.unwrap_or(0),
            (true, false) => expected,
            (false, _) => 0,
        };
        let rules = self.rules;
        let task = self.tasks.open(pdu.initiator_task_tag, link)?;
        task.lun = pdu.lun;
        task.cmd_sn = pdu.cmd_sn;
        task.immediate = pdu.immediate;
        task.counted = !pdu.immediate;
        (task.read, task.write) = (read, write);
        task.data_in.length = data_in_length;
        if write {
            // Without the W bit there is no data to come, whatever the F bit says.
            let is_final = pdu.flags.contains(ScsiCommandFlags::FINAL);
            let begun = task.data_out.begin(data_out_length, pdu.data.len() as u32, is_final, &rules);
            task.given_up = begun.err().map(AbortCause::DataOut);
        }
        let handle = task.handle;
        self.immediate_open += u16::from(pdu.immediate);
        Some(Command {
            task: handle,
            connection: link,
            lun: pdu.lun,
            attribute: pdu.attribute,
            priority: pdu.priority & 15,
            immediate: pdu.immediate,
            read,
            write,
            data_out_length,
            data_in_length,
            cdb: std::mem::take(&mut pdu.cdb),
        })
    }

    /// Hands a command to the owner: its turn has come.
    pub(super) fn deliver_command(&mut self, command: Command) {
        let handle = command.task;
        let Some(task) = self.tasks.get_mut(handle) else { return };
        if task.counted {
            self.window.occupy();
        }
        task.phase = Phase::Active;
        if task.data_error().is_some() {
            return self.end_task(handle, End::of(Status::CHECK_CONDITION));
        }
        self.events.push_back(Event::Command(command));
        if task.early_data.is_empty() {
            return;
        }
        for (offset, data, is_final) in task.early_data.drain(..) {
            self.events.push_back(Event::DataOut(DataArrived { task: handle, offset, data, is_final }));
        }
    }

    pub(super) fn receive_data_out(&mut self, request: &Numbered, pdu: DataOut, is_intact: bool) {
        let arrived = Arrived {
            transfer: pdu.target_transfer_tag,
            offset: pdu.buffer_offset,
            length: pdu.data.len() as u32,
            data_sn: pdu.data_sn,
            is_final: pdu.is_final,
        };
        let Some(task) = self.tasks.by_tag_mut(pdu.initiator_task_tag).filter(|task| task.is_command()) else {
            return self.receive_stale(request, &pdu);
        };
        if task.link != request.link {
            // Data follows its command on the command's connection (RFC 7143 4.2.2: connection allegiance).
            return self.reject(request.link, RejectReason::PROTOCOL_ERROR, &request.bhs, &[]);
        }
        let handle = task.handle;
        if pdu.target_transfer_tag.is_reserved()
            && !task.data_out.has_unsolicited()
            && (task.given_up.is_some() || task.phase == Phase::Ended)
        {
            return;
        }
        match task.data_out.arrive(arrived, &self.rules) {
            Verdict::Unknown => return self.receive_stale(request, &pdu),
            Verdict::Fail(error) => self.fail_task(handle, error),
            Verdict::Deliver if !is_intact => self.fail_task(handle, DataOutError::Damaged),
            Verdict::Deliver => {
                if task.given_up.is_none() && (pdu.is_final || !pdu.data.is_empty()) {
                    let (offset, data, is_final) = (pdu.buffer_offset, pdu.data, pdu.is_final);
                    match task.phase {
                        Phase::Held => task.early_data.push((offset, data, is_final)),
                        Phase::Active => {
                            self.events.push_back(Event::DataOut(DataArrived { task: handle, offset, data, is_final }))
                        }
                        Phase::Ended => {}
                    }
                }
            }
        }
        self.issue_r2ts(handle);
        self.queue_if_ready(handle);
    }

    /// Data for a task that is gone is swallowed; for a transfer that never was, rejected.
    fn receive_stale(&mut self, request: &Numbered, pdu: &DataOut) {
        if pdu.target_transfer_tag.is_reserved() {
            // Unsolicited data follows its command even when the command was ignored or has ended early.
            if pdu.is_final {
                self.forget_stale(|stale| stale.transfer.is_reserved() && stale.tag == pdu.initiator_task_tag);
            }
        } else if self.transfer_tags.was_given(pdu.target_transfer_tag) {
            if pdu.is_final {
                self.forget_stale(|stale| stale.transfer == pdu.target_transfer_tag);
            }
        } else {
            self.reject(request.link, RejectReason::INVALID_PDU_FIELD, &request.bhs, &[]);
        }
    }

    /// The initiator's data makes success impossible: the owner is to give the task up.
    fn fail_task(&mut self, handle: TaskHandle, error: DataOutError) {
        let Some(task) = self.tasks.get_mut(handle) else { return };
        if task.given_up.is_some() || task.phase == Phase::Ended {
            return;
        }
        let cause = AbortCause::DataOut(error);
        task.given_up = Some(cause);
        task.data_out.want_nothing();
        task.early_data.clear();
        if task.phase == Phase::Active {
            self.events.push_back(Event::AbortTask { task: handle, cause });
        }
    }

    /// Asks for `length` bytes of the task's data-out buffer from `offset` on.
    ///
    /// What came or will come unsolicited is not asked for again; it comes up as [`Event::DataOut`] all the same. R2Ts
    /// keep to MaxBurstLength and MaxOutstandingR2T and go out in the order of the calls, which should be the order
    /// of offsets. Bytes past the expected data transfer length are not asked for.
    pub fn request_data(&mut self, task: TaskHandle, offset: u32, length: u32) {
        let Some(open) = self.tasks.get_mut(task) else { return };
        if open.phase == Phase::Active && open.given_up.is_none() && open.is_command() {
            open.data_out.want(offset, length);
            self.issue_r2ts(task);
        }
    }

    fn issue_r2ts(&mut self, handle: TaskHandle) {
        let Some(task) = self.tasks.get_mut(handle) else { return };
        if task.given_up.is_some() || task.phase != Phase::Active {
            return;
        }
        let Some(link) = self.links.get_mut(task.link) else { return };
        while let Some(transfer) = task.data_out.next_r2t(&self.rules, || self.transfer_tags.take()) {
            link.urgent.push_back(Item::R2t { task: handle, transfer: transfer.tag });
        }
    }

    /// Sends a piece of the task's data-in buffer that begins at `offset`.
    ///
    /// Pieces may be given in any order and are sent in order; none may be given twice. Bytes past the expected data
    /// transfer length are dropped.
    pub fn send_data_in(&mut self, task: TaskHandle, offset: u32, data: impl IntoIterator<Item = Bytes>) {
        let Some(open) = self.tasks.get_mut(task) else { return };
        if open.phase != Phase::Active || open.given_up.is_some() || !open.read {
            return;
        }
        let buffer = &mut open.data_in;
        if offset != buffer.taken {
            if offset > buffer.taken && offset < buffer.length {
                buffer.early.push((offset, data.into_iter().collect()));
            }
            return;
        }
        let before = buffer.taken;
        take_in_order(buffer, data);
        while let Some(index) = buffer.early.iter().position(|(offset, _)| *offset == buffer.taken) {
            let (_, data) = buffer.early.swap_remove(index);
            take_in_order(buffer, data);
        }
        let added = (buffer.taken - before) as usize;
        if added > 0 {
            if let Some(link) = self.links.get_mut(open.link) {
                link.unsent += added;
            }
            self.queue_task(task);
        }
    }

    /// Ends a command. The response waits for outstanding data of the initiator and rides on the last Data-In where
    /// the status allows it.
    pub fn send_status(&mut self, task: TaskHandle, status: TaskStatus<'_>) {
        let Some(open) = self.tasks.get_mut(task) else { return };
        if open.phase != Phase::Active || !open.is_command() {
            return;
        }
        if matches!(open.given_up, Some(AbortCause::Logout | AbortCause::ConnectionReplaced)) {
            self.note_undelivered(task, status.sense);
            self.close_task(task);
            return self.tell_window();
        }
        let (residual, bidirectional_read_residual) = match (open.read, open.write) {
            (true, true) => (
                Residual::of(open.data_out.length, status.data_length),
                Residual::of(open.data_in.length, status.bidirectional_read_length),
            ),
            (_, true) => (Residual::of(open.data_out.length, status.data_length), Residual::None),
            _ => (Residual::of(open.data_in.length, status.data_length), Residual::None),
        };
        let residual = match residual {
            Residual::Underflow(count) if is_active(Mutation::ResidualOffByOne) => Residual::Underflow(count + 1),
            residual => residual,
        };
        let end = End {
            status: status.status,
            sense: if status.sense.is_empty() { SmallVec::new() } else { SmallVec::from_slice(status.sense) },
            residual,
            bidirectional_read_residual,
        };
        self.end_task(task, end);
    }

    /// Makes digests wrong in the next PDU sent for the task (the data digest: in the next one that has data), to see
    /// what the initiator makes of it. Nothing comes of it for digests that were not negotiated.
    pub fn spoil_digests(&mut self, task: TaskHandle, digests: Digests) {
        if let Some(task) = self.tasks.get_mut(task) {
            task.spoiled = digests;
        }
    }

    /// Tells that a task was aborted and has no further effect on the medium. With `report` the initiator gets
    /// TASK ABORTED (SAM-5, TAS bit), else nothing; a task that the session itself gave up ends as the session
    /// decides.
    pub fn task_aborted(&mut self, task: TaskHandle, report: bool) {
        let Some(open) = self.tasks.get_mut(task) else { return };
        if open.phase != Phase::Active || !open.is_command() {
            return;
        }
        match open.given_up {
            Some(AbortCause::DataOut(_)) => self.end_task(task, End::of(Status::CHECK_CONDITION)),
            Some(AbortCause::Logout | AbortCause::ConnectionReplaced) => {
                self.close_task(task);
                self.tell_window();
            }
            None if report => self.end_task(task, End::of(Status::TASK_ABORTED)),
            None => {
                self.note_aborted(task);
                self.close_task(task);
                self.tell_window();
            }
        }
    }

    /// Keeps a unit attention that will not be reported.
    fn note_undelivered(&mut self, handle: TaskHandle, sense: &[u8]) {
        let Some(lun) = self.tasks.get(handle).map(|task| task.lun) else { return };
        if let Some(sense) = SenseData::decode(sense).filter(|sense| sense.key == SenseKey::UNIT_ATTENTION)
            && !is_active(Mutation::AttentionDropped)
        {
            self.undelivered.push_back((lun, sense));
        }
    }

    fn end_task(&mut self, handle: TaskHandle, mut end: End) {
        let Some(task) = self.tasks.get_mut(handle) else { return };
        if let Some(error) = task.data_error() {
            self.note_undelivered(handle, &end.sense);
            end.status = Status::CHECK_CONDITION;
            end.sense = SmallVec::from_slice(&error.sense());
        }
        let Some(task) = self.tasks.get_mut(handle) else { return };
        if end.status == Status::TASK_ABORTED {
            // What was not sent yet is of no use to anybody.
            let unsent = task.data_in.drop_unsent();
            if let Some(link) = self.links.get_mut(task.link) {
                link.unsent = link.unsent.saturating_sub(unsent as usize);
            }
        }
        task.phase = Phase::Ended;
        task.end = Some(end);
        task.data_out.want_nothing();
        task.data_in.early.clear();
        // The data of a read has it in the queue already.
        if !task.queued && task.may_respond() {
            self.queue_task(handle);
        }
    }

    fn queue_if_ready(&mut self, handle: TaskHandle) {
        if self.tasks.get(handle).is_some_and(|task| task.may_respond()) {
            self.queue_task(handle);
        }
    }

    fn queue_task(&mut self, handle: TaskHandle) {
        let Some(task) = self.tasks.get_mut(handle).filter(|task| !task.queued) else { return };
        if let Some(link) = self.links.get_mut(task.link) {
            task.queued = true;
            link.queue.push_back(Item::Task(handle));
        }
    }

    /// Forgets a task, whatever its state: its tag and its place in the window are free.
    pub(super) fn close_task(&mut self, handle: TaskHandle) {
        let Some(task) = self.tasks.get_mut(handle) else { return };
        let (link, unsent, end) = (task.link, task.data_in.unsent(), task.end.take());
        if let Some(end) = end {
            self.note_undelivered(handle, &end.sense);
        }
        if unsent > 0
            && let Some(link) = self.links.get_mut(link)
        {
            link.unsent = link.unsent.saturating_sub(unsent as usize);
        }
        let Some(task) = self.tasks.get(handle) else { return };
        if task.counted && task.phase != Phase::Held {
            self.window.release();
        }
        if task.immediate {
            self.immediate_open = self.immediate_open.saturating_sub(1);
        }
        self.tasks.close(handle);
        if self.is_waiting() {
            self.settle();
        }
    }
}

/// Appends the next bytes, cut at the expected length.
fn take_in_order(buffer: &mut super::tasks::DataInBuffer, data: impl IntoIterator<Item = Bytes>) {
    for mut slice in data {
        slice.truncate((buffer.length - buffer.taken) as usize);
        if !slice.is_empty() {
            buffer.taken += slice.len() as u32;
            buffer.pending.push_back(slice);
        }
    }
}
