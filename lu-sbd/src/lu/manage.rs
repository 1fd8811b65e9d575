//! Task management, resets, and the end of tasks that others end.

use scsi_core::mode::TaskSetType;
use scsi_core::mutation::{Mutation, is_active};
use scsi_core::{AdditionalSense, SenseKey, TaskManagementFunction as Function, TaskManagementResponse as Response};
use stmf::provider::{Effect, Effects, TaskManagementRequest};
use stmf::{NexusId, TaskId, TaskTag};

use super::Lu;
use super::job::Failure;
use super::ops::Owner;
use super::slab::Key;
use super::task::{Announce, Retired, Task, Waiter, Work};

/// A task management function whose response waits for the end of the tasks that it aborted.
#[derive(Debug)]
pub(super) struct Pending {
    nexus: NexusId,
    tag: TaskTag,
    response: Response,
    waits_for: usize,
    /// The session of the nexus ended: there is nobody left to answer.
    is_silent: bool,
}

impl Lu {
    /// Takes a task management function.
    pub fn manage(&mut self, request: TaskManagementRequest, fx: &mut Effects) {
        let TaskManagementRequest { nexus, tag, function, referenced } = request;
        let task = referenced.map(|tag| TaskId { nexus, tag });
        let key = task.and_then(|id| self.by_id.get(&id).copied());
        let mut ended = Vec::new();
        let response = match function {
            Function::AbortTask => match key {
                Some(_) if is_active(Mutation::AbortIgnored) => Response::FunctionComplete,
                Some(key) => {
                    ended.push((key, Announce::Quiet));
                    Response::FunctionComplete
                }
                None => Response::TaskDoesNotExist,
            },
            Function::AbortTaskSet => {
                ended.extend(self.tasks_of(|task| task.id.nexus == nexus).map(|key| (key, Announce::Quiet)));
                Response::FunctionComplete
            }
            Function::ClearTaskSet => {
                let alone = self.control().task_set_type == TaskSetType::PerItNexus;
                let all: Vec<Key> = self.tasks_of(|task| !alone || task.id.nexus == nexus).collect();
                self.clear_tasks(&all, nexus, &mut ended);
                Response::FunctionComplete
            }
            Function::LogicalUnitReset => {
                ended.extend(self.tasks_of(|_| true).map(|key| (key, Announce::Quiet)));
                self.reset(AdditionalSense::BUS_DEVICE_RESET_FUNCTION_OCCURRED, fx);
                Response::FunctionComplete
            }
            Function::TargetWarmReset | Function::TargetColdReset => {
                ended.extend(self.tasks_of(|_| true).map(|key| (key, Announce::Quiet)));
                self.reset(AdditionalSense::SCSI_BUS_RESET_OCCURRED, fx);
                Response::FunctionComplete
            }
            Function::ItNexusReset => {
                ended.extend(self.tasks_of(|task| task.id.nexus == nexus).map(|key| (key, Announce::Quiet)));
                self.nexus_lost(nexus, fx);
                self.attention(nexus, AdditionalSense::IT_NEXUS_LOSS_OCCURRED);
                Response::FunctionComplete
            }
            Function::QueryTask if key.is_some() => Response::SUCCEEDED,
            Function::QueryTaskSet if self.tasks_of(|task| task.id.nexus == nexus).next().is_some() => {
                Response::SUCCEEDED
            }
            Function::QueryTask | Function::QueryTaskSet => Response::FunctionComplete,
            Function::QueryAsynchronousEvent => self.asynchronous_event(nexus),
            Function::ClearAca => {
                self.clear_aca(nexus, fx);
                Response::FunctionComplete
            }
            // Only the transport can move a task.
            Function::TaskReassign => Response::FunctionRejected,
        };
        let pending =
            self.functions.insert(Pending { nexus, tag, response, waits_for: ended.len() + 1, is_silent: false });
        for (key, announce) in ended {
            self.abort(key, announce, Some(Waiter::Function(pending)), fx);
        }
        self.function_ended(pending, fx);
        self.run(fx);
    }

    /// Counts one wait of a function down, and answers it with the last.
    fn function_ended(&mut self, key: Key, fx: &mut Effects) {
        let Some(pending) = self.functions.get_mut(key) else { return };
        pending.waits_for -= 1;
        if pending.waits_for == 0
            && let Some(Pending { nexus, tag, response, is_silent: false, .. }) = self.functions.remove(key)
        {
            // Also when the unit is out of the nexus's sight meanwhile: its initiator waits all the same.
            fx.push(Effect::Managed { nexus, tag, response });
        }
    }

    /// The functions of a session that ended are not answered.
    pub(super) fn silence_functions(&mut self, nexus: NexusId) {
        let own: Vec<Key> = self.functions.iter().filter(|(_, one)| one.nexus == nexus).map(|(key, _)| key).collect();
        for key in own {
            if let Some(pending) = self.functions.get_mut(key) {
                pending.is_silent = true;
            }
        }
    }

    /// SAM-5, Query asynchronous event: the unit attention that would be reported next.
    fn asynchronous_event(&self, nexus: NexusId) -> Response {
        match self.nexuses.get(&nexus).and_then(|state| state.attentions.peek()) {
            Some((code, count)) => {
                let depth = if count == 1 { 0b01 } else { 0b10 };
                let additional = [depth << 4 | SenseKey::UNIT_ATTENTION.0, code.asc, code.ascq];
                Response::FunctionSucceeded { additional }
            }
            None => Response::FunctionComplete,
        }
    }

    /// The live tasks that `wanted` takes.
    pub(super) fn tasks_of<'a>(&'a self, wanted: impl Fn(&Task) -> bool + 'a) -> impl Iterator<Item = Key> + 'a {
        self.tasks.iter().filter(move |(_, task)| task.aborted.is_none() && wanted(task)).map(|(key, _)| key)
    }

    /// Says how each of the tasks that `nexus` clears ends, in the way that TAS asks for, and tells the others.
    pub(super) fn clear_tasks(&mut self, keys: &[Key], nexus: NexusId, ended: &mut Vec<(Key, Announce)>) {
        let report = self.control().task_aborted_status;
        let mut others: Vec<NexusId> = Vec::new();
        for key in keys {
            let Some(task) = self.tasks.get(*key).filter(|task| task.aborted.is_none()) else { continue };
            let own = task.id.nexus == nexus;
            ended.push((*key, if report && !own { Announce::Report } else { Announce::Quiet }));
            if !own && !report && !others.contains(&task.id.nexus) {
                others.push(task.id.nexus);
            }
        }
        // With TASK ABORTED they know already.
        for other in others {
            self.attention(other, AdditionalSense::COMMANDS_CLEARED_BY_ANOTHER_INITIATOR);
        }
    }

    /// Aborts a task. It ends now, or when what it has in flight has ended; `waiter` is told then.
    pub(super) fn abort(&mut self, key: Key, announce: Announce, waiter: Option<Waiter>, fx: &mut Effects) {
        let Some(task) = self.tasks.get_mut(key) else {
            self.tell(waiter, fx);
            return;
        };
        task.waiters.extend(waiter);
        let is_first = task.aborted.is_none();
        // Once aborted it stays as it is, but for nobody being left to tell.
        if task.aborted.is_none() || announce == Announce::Silent {
            task.aborted = Some(announce);
        }
        let id = task.id;
        self.by_id.remove(&id);
        self.drop_held(Owner::Task(key));
        self.cancel_operations(Owner::Task(key));
        if let Some(Work::Job(job)) = self.tasks.get(key).map(|task| &task.work) {
            self.waiter_aborted(*job, fx);
        }
        match self.tasks.get(key).map(|task| task.in_flight) {
            Some(0) => self.end_aborted(key, fx),
            Some(_) if is_active(Mutation::AbortDoesNotWait) => self.end_aborted(key, fx),
            Some(_) if is_first && !is_active(Mutation::AbortedWritesGoOn) => self.fence(Owner::Task(key)),
            _ => {}
        }
    }

    /// An aborted task has nothing in flight any more.
    pub(super) fn end_aborted(&mut self, key: Key, fx: &mut Effects) {
        let Some(task) = self.retire(key, fx) else { return };
        if let Some(record) = task.copy {
            self.copies.end(Some(record), Some(Failure::Cancelled));
        }
        if let Some(announce) = task.aborted {
            Self::announce(task.id, announce, fx);
        }
        self.ended(task, fx);
    }

    pub(super) fn announce(task: TaskId, announce: Announce, fx: &mut Effects) {
        if announce != Announce::Silent {
            fx.push(Effect::Aborted {
                task,
                report: announce == Announce::Report || is_active(Mutation::AbortedTaskAnswered),
            });
        }
    }

    /// Tells those who waited for the end of a task.
    pub(super) fn ended(&mut self, task: Retired, fx: &mut Effects) {
        for waiter in task.waiters {
            self.tell(Some(waiter), fx);
        }
    }

    fn tell(&mut self, waiter: Option<Waiter>, fx: &mut Effects) {
        match waiter {
            Some(Waiter::Function(function)) => self.function_ended(function, fx),
            Some(Waiter::Task(key)) => {
                if let Some(task) = self.tasks.get_mut(key) {
                    task.in_flight -= 1;
                    // Not from here: the end of one task must not recurse into the next.
                    self.runnable.push_back(key);
                }
            }
            None => {}
        }
    }

    /// A logical unit reset (SAM-5): what was reserved the old way is free, saved mode values are current again,
    /// everybody is told. Persistent reservations stay.
    fn reset(&mut self, code: AdditionalSense, fx: &mut Effects) {
        let nexuses: Vec<NexusId> = self.nexuses.keys().copied().collect();
        for nexus in nexuses {
            self.clear_aca(nexus, fx);
        }
        self.cancel_copies(|_| true, fx);
        self.reservations.reset();
        self.modes.restore_saved();
        self.medium.reset();
        self.timestamp_offset_ms = None;
        self.set.set_type(self.control().task_set_type);
        for state in self.nexuses.values_mut().filter(|_| !is_active(Mutation::ResetNotTold)) {
            state.attentions.establish(code);
        }
    }

    /// An auto contingent allegiance ends, with the ACA tasks that it let run.
    pub(super) fn clear_aca(&mut self, nexus: NexusId, fx: &mut Effects) {
        let Some(number) = self.nexuses.get(&nexus).map(|state| state.number) else { return };
        let mut abort = Vec::new();
        self.set.clear_aca(number, &mut abort, &mut self.enabled);
        self.run_enabled();
        for ticket in abort {
            self.abort(self.by_ticket[ticket.index()], Announce::Quiet, None, fx);
        }
    }

    /// An I_T nexus was lost (SAM-5): what belongs to it alone goes.
    pub(super) fn nexus_lost(&mut self, nexus: NexusId, fx: &mut Effects) {
        self.clear_aca(nexus, fx);
        self.cancel_copies(|copy| copy == nexus, fx);
        self.copies.forget(nexus);
        self.medium.forget(nexus);
        if let Some(state) = self.nexuses.get_mut(&nexus) {
            self.reservations.drop_legacy(&state.name);
            state.attentions.clear_all();
        }
    }

    /// Establishes a unit attention condition for one nexus.
    pub fn attention(&mut self, nexus: NexusId, code: AdditionalSense) {
        if let Some(state) = self.nexuses.get_mut(&nexus) {
            state.attentions.establish(code);
        }
    }

    /// Establishes a unit attention condition for every nexus but one.
    pub(super) fn attention_others(&mut self, but: Option<NexusId>, code: AdditionalSense) {
        for (nexus, state) in &mut self.nexuses {
            if Some(*nexus) != but {
                state.attentions.establish(code);
            }
        }
    }
}
