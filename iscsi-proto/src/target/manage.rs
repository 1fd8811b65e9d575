//! Task management requests: order, what they wait for, and their responses (RFC 7143 4.2.3, 11.5, 11.6).

use scsi_core::mutation::{Mutation, is_active};
use scsi_core::{Lun, SenseData, SenseKey, TaskManagementFunction, TaskManagementResponse};
use smallvec::SmallVec;

use super::link::Item;
use super::recv::{Numbered, Request};
use super::tasks::{Management, Phase, Task};
use super::window::Arrival;
use super::{ConnectionKey, Event, Session, TaskHandle, TaskManagement};
use crate::login::TaskReporting;
use crate::pdu::{
    AsyncEvent, AsyncMessage, InitiatorTaskTag, NopIn, RejectReason, TargetPdu, TargetTransferTag,
    TaskManagementRequest, TaskManagementResponse as ResponsePdu, TaskManagementResponseCode as Code,
};

/// A transfer of an aborted task whose data may still come.
#[derive(Clone, Copy, Debug)]
pub(super) struct StaleTransfer {
    pub(super) tag: InitiatorTaskTag,
    /// Reserved for unsolicited data.
    pub(super) transfer: TargetTransferTag,
    /// The request that aborted the task and waits.
    pub(super) management: TaskHandle,
}

/// Whether a function ends tasks by the set, with the waiting that brings (RFC 7143 4.2.3.3).
const fn is_multi_task(function: TaskManagementFunction) -> bool {
    use TaskManagementFunction::*;
    matches!(
        function,
        AbortTaskSet | ClearTaskSet | LogicalUnitReset | TargetWarmReset | TargetColdReset | ItNexusReset
    )
}

const fn is_target_wide(function: TaskManagementFunction) -> bool {
    use TaskManagementFunction::*;
    matches!(function, TargetWarmReset | TargetColdReset | ItNexusReset)
}

impl Session {
    pub(super) fn receive_management(&mut self, request: Numbered, pdu: TaskManagementRequest) {
        if !pdu.immediate && self.window.classify(pdu.cmd_sn) == Arrival::Ignore {
            return;
        }
        let reason = if self.is_discovery() {
            Some(RejectReason::PROTOCOL_ERROR)
        } else if pdu.initiator_task_tag.is_reserved() {
            Some(RejectReason::INVALID_PDU_FIELD)
        } else if self.tasks.has_tag(pdu.initiator_task_tag) {
            Some(RejectReason::TASK_IN_PROGRESS)
        } else if pdu.immediate && self.immediate_open >= self.config.max_immediate {
            Some(RejectReason::IMMEDIATE_COMMAND_REJECT)
        } else {
            None
        };
        let opened = match reason {
            None => self.tasks.open(pdu.initiator_task_tag, request.link),
            Some(_) => None,
        };
        let Some(task) = opened else {
            let reason = reason.unwrap_or(RejectReason::IMMEDIATE_COMMAND_REJECT);
            self.reject(request.link, reason, &request.bhs, &[]);
            return self.skip_unless_immediate(pdu.immediate, pdu.cmd_sn);
        };
        task.lun = pdu.lun;
        task.cmd_sn = pdu.cmd_sn;
        task.immediate = pdu.immediate;
        task.counted = !pdu.immediate;
        task.management = Some(Box::new(Management {
            function: pdu.function.function(),
            referenced: None,
            answer: None,
            transfers: 0,
            acknowledgements: None,
            deadline: None,
            answered: false,
        }));
        let handle = task.handle;
        self.immediate_open += u16::from(pdu.immediate);
        self.open_managements += 1;
        self.sequence(request, pdu.cmd_sn, pdu.immediate, Request::Management(handle, pdu));
    }

    pub(super) fn execute_management(&mut self, handle: TaskHandle, pdu: &TaskManagementRequest) {
        use TaskManagementFunction::*;
        let Some(task) = self.tasks.get_mut(handle) else { return };
        if task.counted {
            self.window.occupy();
        }
        task.phase = Phase::Active;
        match pdu.function.function() {
            None => self.answer(handle, Code::FUNCTION_NOT_SUPPORTED),
            // Moving a task needs error recovery level 2 (RFC 7143 11.5.1).
            Some(TaskReassign) => self.answer(handle, Code::TASK_REASSIGN_NOT_SUPPORTED),
            // RFC 7144 ties these to the protocol level.
            Some(QueryTask | QueryTaskSet | ItNexusReset | QueryAsynchronousEvent) if self.rules.protocol_level < 2 => {
                self.answer(handle, Code::FUNCTION_NOT_SUPPORTED);
            }
            Some(function @ (AbortTask | QueryTask)) => self.refer(handle, function, pdu),
            Some(function) if pdu.immediate && self.lacks_before(pdu) => {
                // Everything sent before the request is to be affected by it. A target reset need not wait for what
                // has not come yet: it counts as come (RFC 7143 4.2.3.3 b).
                if is_target_wide(function) {
                    self.window.plug_holes_before(pdu.cmd_sn);
                    self.deliver_held();
                    self.raise(handle, function, None);
                } else {
                    self.waiting_managements.push((handle, pdu.clone()));
                }
            }
            Some(function) => self.raise(handle, function, None),
        }
    }

    /// Whether commands that were sent before an immediate request have not come yet.
    fn lacks_before(&self, pdu: &TaskManagementRequest) -> bool {
        self.window.expected().is_before(pdu.cmd_sn) && self.window.contains(pdu.cmd_sn.minus(1))
    }

    /// Raises immediate requests for which everything before them has come now.
    pub(super) fn release_managements(&mut self) {
        while let Some(index) = self.waiting_managements.iter().position(|(_, pdu)| !self.lacks_before(pdu)) {
            let (handle, pdu) = self.waiting_managements.remove(index);
            if let Some(function) = pdu.function.function() {
                self.raise(handle, function, None);
            }
        }
    }

    fn raise(&mut self, handle: TaskHandle, function: TaskManagementFunction, referenced: Option<TaskHandle>) {
        let Some(task) = self.tasks.get_mut(handle) else { return };
        let (connection, lun) = (task.link, task.lun);
        if let Some(management) = &mut task.management {
            management.referenced = referenced;
        }
        self.events.push_back(Event::TaskManagement(TaskManagement {
            request: handle,
            connection,
            function,
            lun,
            referenced,
        }));
    }

    /// ABORT TASK and QUERY TASK: find the task they mean (RFC 7143 11.5.1, 11.5.5).
    fn refer(&mut self, handle: TaskHandle, function: TaskManagementFunction, pdu: &TaskManagementRequest) {
        let is_query = function == TaskManagementFunction::QueryTask;
        let found = self
            .tasks
            .by_tag(pdu.referenced_task_tag)
            .filter(|task| task.is_command() && task.lun == pdu.lun)
            .map(|task| (task.handle, task.phase, task.cmd_sn));
        match found {
            Some((task, Phase::Active, _)) => self.raise(handle, function, Some(task)),
            Some((_, Phase::Held, _)) if is_query => {
                self.answer(handle, Code::FUNCTION_SUCCEEDED);
            }
            Some((task, Phase::Held, number)) => {
                self.close_task(task);
                self.window.plug(number);
                self.deliver_held();
                self.answer(handle, Code::FUNCTION_COMPLETE);
            }
            Some((task, Phase::Ended, _)) => {
                // It has ended, though its response has not left. ABORT TASK takes it back; it may also wait for data
                // that will never come. A unit attention goes out before the answer: what came behind the task has
                // been carried out as if the initiator knew.
                if !is_query && !self.is_attention_queued(task, handle) {
                    self.close_task(task);
                }
                self.answer(handle, Code::FUNCTION_COMPLETE);
            }
            None if is_query => self.answer(handle, Code::FUNCTION_COMPLETE),
            None => {
                // The command may be on its way on another connection, or lost with one. If its number can still
                // come, it counts as come: nothing will be carried out under it.
                let (number, own) = (pdu.ref_cmd_sn, pdu.cmd_sn);
                if self.window.contains(number) && number.is_before(own) {
                    self.window.plug(number);
                    self.deliver_held();
                    self.answer(handle, Code::FUNCTION_COMPLETE);
                } else {
                    self.answer(handle, Code::TASK_DOES_NOT_EXIST);
                }
            }
        }
    }

    /// Whether a task is about to end with a unit attention, on the connection of a request and ahead of its answer.
    fn is_attention_queued(&self, task: TaskHandle, request: TaskHandle) -> bool {
        let (Some(task), Some(request)) = (self.tasks.get(task), self.tasks.get(request)) else { return false };
        let is_attention = task.end.as_ref().and_then(|end| SenseData::decode(&end.sense));
        is_attention.is_some_and(|sense| sense.key == SenseKey::UNIT_ATTENTION)
            && !is_active(Mutation::AttentionDropped)
            && task.may_respond()
            && task.data_in.unsent() == 0
            && task.link == request.link
    }

    /// Answers [`Event::TaskManagement`].
    ///
    /// To be called after [`task_aborted`](Self::task_aborted) of each task the function ended. The response leaves
    /// behind the responses of tasks that ended before. For functions that end several tasks it also waits for what
    /// RFC 7143 4.2.3.3 says, though not longer than [`SessionConfig::abort_wait`](super::SessionConfig::abort_wait).
    ///
    /// A unit may have ended the task that ABORT TASK means just before, and say that it does not exist, while the end is
    /// still on its way from another thread. To the initiator the task is open: it is aborted, and its end, when it
    /// comes, means nothing any more.
    pub fn task_management_response(&mut self, request: TaskHandle, mut response: TaskManagementResponse) {
        if response == TaskManagementResponse::TaskDoesNotExist
            && let Some(task) = self.aborted_by(request)
        {
            self.task_aborted(task, false);
            response = TaskManagementResponse::FunctionComplete;
        }
        let Some(task) = self.tasks.get_mut(request) else { return };
        let tag = task.tag;
        let Some(management) = task.management.as_mut().filter(|management| management.answer.is_none()) else {
            return;
        };
        management.answer = Some(ResponsePdu::answering(tag, response));
        management.deadline = Some(self.now + self.config.abort_wait);
        if response == TaskManagementResponse::FunctionComplete {
            self.end_affected(request);
        }
        self.settle();
    }

    /// The task that an ABORT TASK means, if its end has not been told.
    fn aborted_by(&self, request: TaskHandle) -> Option<TaskHandle> {
        let management = self.tasks.get(request)?.management.as_ref()?;
        let task = self.tasks.get(management.referenced?)?;
        let is_abort = management.function == Some(TaskManagementFunction::AbortTask);
        (is_abort && management.answer.is_none() && task.phase == Phase::Active).then_some(task.handle)
    }

    /// Ends what a function covers and its response would overtake: tasks that have failed while their data is still
    /// coming, and tasks whose end the owner knows and has not told yet. To the initiator all of them are aborted; no
    /// response may follow (RFC 7143 4.2.3.3).
    fn end_affected(&mut self, request: TaskHandle) {
        use TaskManagementFunction::{TargetColdReset, TargetWarmReset};
        let Some(task) = self.tasks.get(request) else { return };
        let Some(function) = task.management.as_ref().and_then(|management| management.function) else { return };
        let is_covered = |other: &Task| other.lun == task.lun || matches!(function, TargetWarmReset | TargetColdReset);
        let left: SmallVec<[TaskHandle; 4]> = self
            .tasks
            .iter()
            .filter(|other| is_multi_task(function) && other.is_command() && other.phase != Phase::Held)
            .filter(|other| other.handle.is_older_than(request) && is_covered(other) && !other.may_respond())
            .map(|other| other.handle)
            .collect();
        for handle in left {
            self.note_aborted(handle);
            self.close_task(handle);
        }
    }

    fn answer(&mut self, handle: TaskHandle, response: Code) {
        let Some(task) = self.tasks.get_mut(handle) else { return };
        let tag = task.tag;
        let Some(management) = &mut task.management else { return };
        management.answer = Some(ResponsePdu { response, initiator_task_tag: tag, ..ResponsePdu::default() });
        self.queue_answer(handle);
    }

    fn queue_answer(&mut self, handle: TaskHandle) {
        let Some(task) = self.tasks.get_mut(handle) else { return };
        let Some(management) = &mut task.management else { return };
        management.answered = true;
        if let Some(link) = self.links.get_mut(task.link) {
            link.queue.push_back(Item::Management(handle));
        }
    }

    /// Sends the responses whose waiting is over.
    pub(super) fn settle_managements(&mut self) {
        if self.open_managements == 0 {
            return;
        }
        let waiting: SmallVec<[TaskHandle; 4]> = self
            .tasks
            .iter()
            .filter(|task| task.management.as_ref().is_some_and(|m| m.answer.is_some() && !m.answered))
            .map(|task| task.handle)
            .collect();
        for handle in waiting {
            if self.is_answer_due(handle) {
                self.queue_answer(handle);
            }
        }
    }

    fn is_answer_due(&mut self, handle: TaskHandle) -> bool {
        let Some(task) = self.tasks.get(handle) else { return false };
        let Some(management) = &task.management else { return false };
        if management.deadline.is_some_and(|deadline| deadline <= self.now) {
            return true;
        }
        if management.transfers > 0 {
            return false;
        }
        if !management.function.is_some_and(is_multi_task) || self.links.open_count() <= 1 {
            return true;
        }
        if self.tasks.iter().any(|other| other.link != task.link && is_affected_and_ended(other, task)) {
            return false;
        }
        self.is_acknowledged(handle)
    }

    /// With several connections, a response that ends many tasks waits until every earlier response on the others has
    /// been acknowledged (RFC 7143 4.2.2.3.3, response fence); a ping makes the initiator do so.
    fn is_acknowledged(&mut self, handle: TaskHandle) -> bool {
        let Some(task) = self.tasks.get_mut(handle) else { return false };
        let own = task.link;
        let Some(management) = &mut task.management else { return false };
        let fence = management.acknowledgements.get_or_insert_with(|| {
            let mut fence = SmallVec::new();
            for link in self.links.iter_mut().filter(|link| link.key != own && link.is_open()) {
                if link.acknowledged != link.stat_sn {
                    fence.push((link.key, link.stat_sn));
                    let tag = self.transfer_tags.take();
                    link.push_urgent(NopIn { target_transfer_tag: tag, ..NopIn::default() });
                }
            }
            fence
        });
        fence.iter().all(|&(key, number)| {
            self.links.get(key).is_none_or(|link| !link.is_open() || !link.acknowledged.is_before(number))
        })
    }

    /// Whether responses that were queued before this one, for tasks it affects, have still to leave.
    pub(super) fn has_affected_before(&self, handle: TaskHandle) -> bool {
        let Some(task) = self.tasks.get(handle) else { return false };
        self.links.get(task.link).is_some_and(|link| {
            link.queue.iter().any(|item| match item {
                Item::Task(other) => self.tasks.get(*other).is_some_and(|other| is_affected_and_ended(other, task)),
                _ => false,
            })
        })
    }

    pub(super) fn needs_fence(&self, handle: TaskHandle) -> bool {
        self.links.open_count() > 1
            && self.tasks.get(handle).and_then(|task| task.management.as_ref()?.function).is_some_and(is_multi_task)
    }

    pub(super) fn is_cold_reset(&self, handle: TaskHandle) -> bool {
        self.tasks.get(handle).and_then(|task| task.management.as_ref()).is_some_and(|management| {
            management.function == Some(TaskManagementFunction::TargetColdReset)
                && management.answer.as_ref().is_some_and(|answer| answer.response == Code::FUNCTION_COMPLETE)
        })
    }

    /// A task is about to go without a response: remembers what its initiator may still send, or tells it.
    pub(super) fn note_aborted(&mut self, handle: TaskHandle) {
        let fast_abort = self.rules.task_reporting == TaskReporting::FastAbort;
        if self.open_managements == 0 && !fast_abort {
            return;
        }
        let Some(task) = self.tasks.get(handle) else { return };
        let cause = self
            .tasks
            .iter()
            .find(|other| {
                other.management.as_ref().is_some_and(|management| {
                    !management.answered
                        && covers(management.function, other.lun, task)
                        && handle.is_older_than(other.handle)
                })
            })
            .map(|other| (other.handle, other.link));
        let (link, lun) = (task.link, task.lun);
        if fast_abort {
            // The initiator learns of tasks that another connection or session ended (RFC 7143 4.2.3.4).
            let single = self.is_abort_task_open(handle);
            if !single && cause.is_none_or(|(_, own)| own != link) {
                self.tell_terminated(link, lun);
            }
            return;
        }
        let Some((management, _)) = cause else { return };
        let tag = task.tag;
        let mut stale: SmallVec<[TargetTransferTag; 4]> =
            task.data_out.transfers().iter().filter(|transfer| transfer.is_sent).map(|transfer| transfer.tag).collect();
        if task.data_out.has_unsolicited() {
            stale.push(TargetTransferTag::RESERVED);
        }
        for transfer in stale {
            if self.stale.len() >= self.config.max_stale_transfers {
                return;
            }
            self.stale.push(StaleTransfer { tag, transfer, management });
            if let Some(management) = self.tasks.get_mut(management).and_then(|task| task.management.as_mut()) {
                management.transfers += 1;
            }
        }
    }

    /// Whether an ABORT TASK is under way: its initiator knows what is being aborted.
    fn is_abort_task_open(&self, handle: TaskHandle) -> bool {
        self.tasks.iter().any(|other| {
            other.management.as_ref().is_some_and(|management| {
                management.function == Some(TaskManagementFunction::AbortTask)
                    && !management.answered
                    && handle.is_older_than(other.handle)
            })
        })
    }

    fn tell_terminated(&mut self, key: ConnectionKey, lun: Lun) {
        let Some(link) = self.links.get_mut(key) else { return };
        let is_told = link.queue.iter().any(|item| {
            matches!(item, Item::Pdu(TargetPdu::AsyncMessage(message))
                if message.event == AsyncEvent::TASKS_TERMINATED && message.lun == lun)
        });
        if !is_told {
            link.push(AsyncMessage { lun, event: AsyncEvent::TASKS_TERMINATED, ..AsyncMessage::default() });
        }
    }

    /// The last data of stale transfers came.
    pub(super) fn forget_stale(&mut self, is_it: impl Fn(&StaleTransfer) -> bool) {
        let Some(index) = self.stale.iter().position(is_it) else { return };
        let stale = self.stale.swap_remove(index);
        if let Some(management) = self.tasks.get_mut(stale.management).and_then(|task| task.management.as_mut()) {
            management.transfers = management.transfers.saturating_sub(1);
        }
        self.settle();
    }

    /// Forgets a request that was answered, or whose connection is gone.
    pub(super) fn close_management(&mut self, handle: TaskHandle) {
        self.stale.retain(|stale| stale.management != handle);
        self.waiting_managements.retain(|(waiting, _)| *waiting != handle);
        self.open_managements = self.open_managements.saturating_sub(1);
        self.close_task(handle);
    }
}

/// Whether `function` on `lun` ends `task`.
fn covers(function: Option<TaskManagementFunction>, lun: Lun, task: &Task) -> bool {
    function.is_some_and(|function| is_multi_task(function) && (is_target_wide(function) || lun == task.lun))
}

fn is_affected_and_ended(task: &Task, by: &Task) -> bool {
    let Some(management) = &by.management else { return false };
    task.is_command()
        && task.phase == Phase::Ended
        && task.may_respond()
        && task.handle.is_older_than(by.handle)
        && covers(management.function, by.lun, task)
}
