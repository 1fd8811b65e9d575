//! The logical unit as STMF sees it.

use scsi_core::{AdditionalSense, Lun, SenseData, TaskAttribute, TaskManagementFunction};
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Weak};

use super::{
    CopyEnd, CopyIn, CopyRefusal, Effects, ROD_TOKEN_BYTES, Rod, Segments, StoreCompletion, StoreDone, StoreError,
    StoreRequest, Surroundings, TargetPorts,
};
use crate::nexus::{Nexus, NexusId, TaskId, TaskTag};

/// One command on its way to a logical unit.
#[derive(Clone, Copy, Debug)]
pub struct LuTask<'a> {
    /// Nexus and tag.
    pub id: TaskId,
    /// The LUN by which the nexus addressed the unit.
    pub lun: Lun,
    /// Its place in the task set.
    pub attribute: TaskAttribute,
    /// Command priority, 0 for none, 1 (highest) to 15.
    pub priority: u8,
    /// The command descriptor block, all of it (6 to 260 bytes).
    pub cdb: &'a [u8],
    /// Bytes the initiator has ready for the device (expected data transfer length of a write); 0 for none.
    pub data_out_length: u32,
    /// Bytes the initiator has room for (expected data transfer length of a read); 0 for none.
    pub data_in_length: u32,
}

/// A task management request on its way to a logical unit.
#[derive(Clone, Copy, Debug)]
pub struct TaskManagementRequest {
    /// Who asks.
    pub nexus: NexusId,
    /// The request's own tag, given back in [`Effect::Managed`](super::Effect::Managed).
    pub tag: TaskTag,
    /// What to do.
    pub function: TaskManagementFunction,
    /// The task that ABORT TASK and QUERY TASK mean.
    pub referenced: Option<TaskTag>,
}

/// Why a nexus is going away; decides what the unit forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NexusLoss {
    /// The session ended (logout, connection lost for good, reinstatement): SAM's I_T nexus loss.
    SessionEnded,
    /// The unit is no longer mapped for the nexus.
    Unmapped,
}

/// A logical unit: takes commands, answers with effects, does no I/O of its own accord.
///
/// All methods may be called from any thread. A call never blocks longer than another call on the same unit takes;
/// only [`perform`](LogicalUnit::perform) may wait for a device.
///
/// Each task that was submitted ends exactly once: by a [`Completion`](super::Completion) or an
/// [`Aborted`](super::Effect::Aborted) effect, from whichever call decided it. Only the tasks of a session that ended
/// end silently, in [`detach`](Self::detach).
pub trait LogicalUnit: Send + Sync + fmt::Debug {
    /// The unit's name: 16 bytes, NAA 6.
    fn guid(&self) -> [u8; 16];

    /// A nexus reaches the unit from now on; its first command meets a POWER ON, RESET, OR BUS DEVICE RESET unit
    /// attention.
    fn attach(&self, nexus: &Arc<Nexus>);

    /// A nexus reaches the unit no more: its tasks are aborted, its unit attentions and SPC-2 reservation dropped;
    /// persistent registrations stay.
    ///
    /// With [`NexusLoss::SessionEnded`] there is nobody left to hear of the tasks: they end without an effect. With
    /// [`NexusLoss::Unmapped`] each ends with [`Aborted`](super::Effect::Aborted) and `report` set, so that the port
    /// provider frees it and the initiator does not wait for it.
    fn detach(&self, nexus: NexusId, loss: NexusLoss, effects: &mut Effects);

    /// Takes a command.
    ///
    /// A nexus is attached before the unit enters its LUN map and detached after the unit has left it; a command that
    /// was on its way meanwhile comes from a nexus that is not attached, and is answered with CHECK CONDITION,
    /// ILLEGAL REQUEST, LOGICAL UNIT NOT SUPPORTED.
    fn submit(&self, task: LuTask<'_>, effects: &mut Effects);

    /// Takes data-out bytes of a task, in any order and partition; none twice. Data of a task that has ended is
    /// ignored.
    fn data_out(&self, task: TaskId, offset: u32, data: Segments, effects: &mut Effects);

    /// Takes the outcome of a store operation.
    fn store_done(&self, done: StoreDone, effects: &mut Effects);

    /// Takes a task management function. It is answered by one [`Managed`](super::Effect::Managed), also when the nexus
    /// is detached meanwhile, unless that was because its session ended.
    fn manage(&self, request: TaskManagementRequest, effects: &mut Effects);

    /// A task of the nexus was to end with this unit attention, and its initiator has not heard of it: the port provider
    /// dropped the status, because the initiator aborted the task or sent bad data for it. The condition is to be there
    /// again: it is cleared by being reported (SAM-5, Unit attention conditions). A unit without conditions need not do
    /// anything.
    fn restore_attention(&self, _nexus: NexusId, _code: AdditionalSense) {}

    /// The target ports there are, in their groups, with the states that the administrator has given them. Called
    /// before any nexus is attached and with every change. A unit that knows nothing of groups need not look at it.
    fn set_target_ports(&self, _ports: &Arc<TargetPorts>) {}

    /// The administrator, or the framework by default, brings the unit online: its store is opened again if it was
    /// closed or had failed. May wait for a device. Called before any nexus is attached.
    ///
    /// # Errors
    /// What the store says: the unit stays offline.
    fn bring_online(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// The unit has gone offline: every nexus is detached and none will be attached until it is brought online. May
    /// wait for a device.
    fn take_offline(&self) {}

    /// Carries out a store operation now; may wait for a device. Call it where waiting hurts nobody.
    fn perform(&self, request: StoreRequest) -> StoreDone;

    /// Carries out a store operation if that takes no waiting (memory, page cache).
    ///
    /// # Errors
    /// The request itself, when it might have to wait.
    fn try_perform(&self, request: StoreRequest) -> Result<StoreDone, StoreRequest> {
        Err(request)
    }

    /// Starts a store operation of an asynchronous store; `completion` is fulfilled later, by any thread.
    ///
    /// # Errors
    /// Both back, if the store is not asynchronous: then [`perform`](Self::perform) is the way.
    fn start(&self, request: StoreRequest, completion: StoreCompletion) -> Result<(), (StoreRequest, StoreCompletion)> {
        Err((request, completion))
    }

    /// The unit was registered: what it may ask of the framework from now on. Called before it is brought online.
    fn registered(&self, surroundings: &Weak<dyn Surroundings>) {
        let _ = surroundings;
    }

    /// What is behind the unit, for units of the same provider: how they copy from each other inside the store. A
    /// provider knows its own by downcasting.
    fn medium(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }

    /// What a copy on behalf of `nexus` finds here as its source, or with `write` as its destination. Without a nexus
    /// (a token is its bearer's right) reservations do not count.
    ///
    /// # Errors
    /// Why a READ, or a WRITE, of that nexus would be refused now.
    fn copy_end(&self, nexus: Option<NexusId>, write: bool) -> Result<CopyEnd, CopyRefusal> {
        let _ = (nexus, write);
        Err(CopyRefusal::NotSupported)
    }

    /// Takes a piece of a copy of which this unit is the destination; `call.from` hears of the end, by whichever call
    /// decides it. The effects are this unit's.
    fn copy_in(&self, call: CopyIn, effects: &mut Effects) {
        // Never asked of a unit whose `copy_end` refuses.
        let _ = (call, effects);
    }

    /// A piece of a copy that this unit asked another for has ended. A failed one may have changed any part of its
    /// range.
    fn copied(&self, token: u64, outcome: Result<(), CopyRefusal>, effects: &mut Effects) {
        let _ = (token, outcome, effects);
    }

    /// What a token of this unit stands for, and that it still does.
    ///
    /// # Errors
    /// ILLEGAL REQUEST, INVALID TOKEN OPERATION with the reason.
    fn redeem(&self, token: &[u8; ROD_TOKEN_BYTES]) -> Result<Rod, SenseData> {
        let _ = token;
        Err(SenseData::illegal_request(AdditionalSense::INVALID_TOKEN_UNKNOWN))
    }

    /// The bearer of a token of this unit needs it no more.
    fn delete_token(&self, token: &[u8; ROD_TOKEN_BYTES]) {
        let _ = token;
    }
}
