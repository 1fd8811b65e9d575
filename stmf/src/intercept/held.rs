//! Commands that are held back: for a while, or for good.

use scsi_core::{Lun, TaskAttribute, TaskManagementFunction};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::time::Duration;

use super::Fault;
use crate::nexus::TaskId;
use crate::provider::{LuTask, StoreOp, StoreRequest, StoreToken, TaskManagementRequest};

/// Tokens of delays have this bit; logical units number from below.
const DELAY: u64 = 1 << 63;

/// A task and its number in the trace.
type Released = SmallVec<[(TaskId, Option<u64>); 4]>;

/// A command that waits.
#[derive(Debug)]
pub(super) struct Delayed {
    id: TaskId,
    lun: Lun,
    attribute: TaskAttribute,
    priority: u8,
    cdb: SmallVec<[u8; 16]>,
    data_out_length: u32,
    data_in_length: u32,
    time: Duration,
    pub(super) serial: Option<u64>,
    /// What it meets after the wait.
    pub(super) then: Option<Fault>,
}

impl Delayed {
    pub(super) fn task(&self) -> LuTask<'_> {
        LuTask {
            id: self.id,
            lun: self.lun,
            attribute: self.attribute,
            priority: self.priority,
            cdb: &self.cdb,
            data_out_length: self.data_out_length,
            data_in_length: self.data_in_length,
        }
    }
}

/// What the unit behind does not know of yet, or never will.
#[derive(Debug, Default)]
pub(super) struct Held {
    delayed: HashMap<u64, Delayed>,
    swallowed: HashMap<TaskId, Option<u64>>,
    next: u64,
}

impl Held {
    pub(super) fn is_delay(token: StoreToken) -> bool {
        token.0 & DELAY != 0
    }

    /// Keeps `task`; performing the request takes the time.
    pub(super) fn delay(
        &mut self,
        task: &LuTask<'_>,
        serial: Option<u64>,
        time: Duration,
        then: Option<Fault>,
    ) -> StoreRequest {
        let token = DELAY | self.next;
        self.next = (self.next + 1) & !DELAY;
        let delayed = Delayed {
            id: task.id,
            lun: task.lun,
            attribute: task.attribute,
            priority: task.priority,
            cdb: SmallVec::from_slice(task.cdb),
            data_out_length: task.data_out_length,
            data_in_length: task.data_in_length,
            time,
            serial,
            then,
        };
        self.delayed.insert(token, delayed);
        StoreRequest { nexus: task.id.nexus, token: StoreToken(token), op: StoreOp::Prefetch { offset: 0, length: 0 } }
    }

    /// How long the task of this token is to wait; `None` when it was aborted meanwhile.
    pub(super) fn time(&self, token: StoreToken) -> Option<Duration> {
        self.delayed.get(&token.0).map(|delayed| delayed.time)
    }

    /// The wait is over. `None`: the task was aborted meanwhile.
    pub(super) fn resume(&mut self, token: StoreToken) -> Option<Delayed> {
        self.delayed.remove(&token.0)
    }

    /// Keeps nothing of a task but that it is there.
    pub(super) fn swallow(&mut self, task: TaskId, serial: Option<u64>) {
        self.swallowed.insert(task, serial);
    }

    /// Lets go of tasks.
    pub(super) fn release(&mut self, which: impl Fn(TaskId) -> bool) -> Released {
        let mut released = Released::new();
        self.delayed.retain(|_, delayed| {
            let goes = which(delayed.id);
            if goes {
                released.push((delayed.id, delayed.serial));
            }
            !goes
        });
        self.swallowed.retain(|task, serial| {
            let goes = which(*task);
            if goes {
                released.push((*task, *serial));
            }
            !goes
        });
        released
    }

    /// The tasks that a task management function aborts.
    pub(super) fn manage(&mut self, request: &TaskManagementRequest) -> Released {
        let own = |task: TaskId| task.nexus == request.nexus;
        match request.function {
            TaskManagementFunction::AbortTask => self.release(|task| own(task) && Some(task.tag) == request.referenced),
            TaskManagementFunction::AbortTaskSet | TaskManagementFunction::ItNexusReset => self.release(own),
            TaskManagementFunction::ClearTaskSet
            | TaskManagementFunction::LogicalUnitReset
            | TaskManagementFunction::TargetWarmReset
            | TaskManagementFunction::TargetColdReset => self.release(|_| true),
            _ => Released::new(),
        }
    }
}
