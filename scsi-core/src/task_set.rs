//! The task set: when a task may run, what an error or an abort does to the others (SAM-5, Task set management).
//!
//! ```text
//!              admit                      may run
//!   (command) ------> dormant ------------------------> enabled ------> ended (finish)
//!                 \______________ head of queue, ACA, __/
//!                                 nothing older in the way
//! ```
//!
//! A head of queue task is enabled at once; a simple one when no ordered or head of queue task is older; an ordered one
//! when nothing is older. While an auto contingent allegiance (ACA) is active nothing is enabled but ACA tasks of the
//! nexus that has it. What is older is counted, not listed: as long as all tasks are simple, admitting and ending one
//! touches three counters and allocates nothing once the set has been as large before.
//!
//! I_T nexuses are numbered by the caller, densely from 0.

use crate::mode::{QueueErrorManagement, TaskSetType};
use crate::sense::AdditionalSense;
use crate::task_management::TaskAttribute;

/// A task of a [`TaskSet`]; never equal to one of a task that ended before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskKey {
    slot: u32,
    generation: u32,
}

impl TaskKey {
    /// A small number that no other task in the set has now: an index for what the caller keeps of its tasks.
    pub const fn index(self) -> usize {
        self.slot as usize
    }
}

/// Why a task does not enter the task set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The set is full: TASK SET FULL.
    Full,
    /// An ACA of this or (with one task set for all) another nexus is active: ACA ACTIVE.
    AcaActive,
    /// An ACA task without an ACA: CHECK CONDITION, ABORTED COMMAND, INVALID MESSAGE ERROR.
    NoAca,
}

/// What another I_T nexus hears of its tasks that were aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AbortNotice {
    /// Nothing: it asked for it itself.
    Silent,
    /// Each task ends with TASK ABORTED (TAS is set).
    TaskAborted,
    /// A unit attention, once: COMMANDS CLEARED BY ANOTHER INITIATOR.
    UnitAttention(AdditionalSense),
}

/// What a nexus hears of its tasks that `by` aborted.
pub fn abort_notice(nexus: usize, by: usize, task_aborted_status: bool) -> AbortNotice {
    if nexus == by {
        AbortNotice::Silent
    } else if task_aborted_status {
        AbortNotice::TaskAborted
    } else {
        AbortNotice::UnitAttention(AdditionalSense::COMMANDS_CLEARED_BY_ANOTHER_INITIATOR)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    tasks: usize,
    /// Ordered and head of queue tasks.
    barriers: usize,
}

#[derive(Clone, Copy, Debug)]
struct Task {
    nexus: usize,
    attribute: TaskAttribute,
    sequence: u64,
    /// Its task set is its nexus's alone.
    alone: bool,
    enabled: bool,
    /// Tasks that must end before it, while it is dormant.
    older: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    generation: u32,
    task: Option<Task>,
}

/// The tasks of one logical unit.
#[derive(Debug)]
pub struct TaskSet {
    kind: TaskSetType,
    max_tasks: usize,
    slots: Vec<Slot>,
    free: Vec<u32>,
    next: u64,
    all: Counts,
    nexuses: Vec<Counts>,
    /// Dormant tasks in the order they came.
    dormant: Vec<TaskKey>,
    /// Nexuses with an active ACA: at most one with one task set for all.
    aca: Vec<usize>,
}

impl TaskSet {
    /// An empty set of at most `max_tasks` tasks.
    pub fn new(kind: TaskSetType, max_tasks: usize) -> Self {
        Self {
            kind,
            max_tasks: max_tasks.min(u32::MAX as usize),
            slots: Vec::new(),
            free: Vec::new(),
            next: 0,
            all: Counts::default(),
            nexuses: Vec::new(),
            dormant: Vec::new(),
            aca: Vec::new(),
        }
    }

    /// TST was changed: it counts for tasks that come from now on.
    pub fn set_type(&mut self, kind: TaskSetType) {
        self.kind = kind;
    }

    /// How many tasks have not ended.
    pub fn len(&self) -> usize {
        self.all.tasks
    }

    /// Whether every task has ended.
    pub fn is_empty(&self) -> bool {
        self.all.tasks == 0
    }

    /// How many tasks of `nexus` have not ended.
    pub fn len_of(&self, nexus: usize) -> usize {
        self.nexuses.get(nexus).map_or(0, |counts| counts.tasks)
    }

    fn task(&self, key: TaskKey) -> Option<&Task> {
        let slot = self.slots.get(key.slot as usize)?;
        slot.task.as_ref().filter(|_| slot.generation == key.generation)
    }

    /// Whether the task is in the set and may run.
    pub fn is_enabled(&self, key: TaskKey) -> bool {
        self.task(key).is_some_and(|task| task.enabled)
    }

    /// Whether the task is in the set.
    pub fn contains(&self, key: TaskKey) -> bool {
        self.task(key).is_some()
    }

    /// Whose task it is; `None` when it has ended.
    pub fn nexus_of(&self, key: TaskKey) -> Option<usize> {
        self.task(key).map(|task| task.nexus)
    }

    /// Takes a task of `nexus`: its key, and whether it may run at once.
    ///
    /// `preempts` marks PERSISTENT RESERVE OUT with PREEMPT AND ABORT, which is let in beside an ACA of another nexus,
    /// to end it.
    ///
    /// # Errors
    /// Why it does not enter.
    pub fn admit(
        &mut self,
        nexus: usize,
        attribute: TaskAttribute,
        preempts: bool,
    ) -> Result<(TaskKey, bool), Refusal> {
        if self.all.tasks >= self.max_tasks {
            return Err(Refusal::Full);
        }
        let attribute = attribute.effective();
        if attribute == TaskAttribute::Aca || !self.aca.is_empty() {
            self.check_aca(nexus, attribute, preempts)?;
        }
        if self.nexuses.len() <= nexus {
            self.nexuses.resize(nexus + 1, Counts::default());
        }
        let alone = self.kind == TaskSetType::PerItNexus;
        let before = if alone { self.nexuses[nexus] } else { self.all };
        let older = match attribute {
            TaskAttribute::Ordered => before.tasks,
            TaskAttribute::Simple => before.barriers,
            _ => 0,
        };
        // What passed the check beside an ACA is not held up by it.
        let enabled = older == 0 || preempts && self.frozen(nexus, alone);
        let barrier = is_barrier(attribute);
        for counts in [&mut self.all, &mut self.nexuses[nexus]] {
            counts.tasks += 1;
            counts.barriers += usize::from(barrier);
        }
        let task = Task { nexus, attribute, sequence: self.next, alone, enabled, older };
        self.next += 1;
        let key = self.insert(task);
        if !enabled {
            self.dormant.push(key);
        }
        Ok((key, enabled))
    }

    fn insert(&mut self, task: Task) -> TaskKey {
        match self.free.pop() {
            Some(at) => {
                let slot = &mut self.slots[at as usize];
                slot.task = Some(task);
                TaskKey { slot: at, generation: slot.generation }
            }
            None => {
                self.slots.push(Slot { generation: 0, task: Some(task) });
                TaskKey { slot: (self.slots.len() - 1) as u32, generation: 0 }
            }
        }
    }

    #[cold]
    fn check_aca(&self, nexus: usize, attribute: TaskAttribute, preempts: bool) -> Result<(), Refusal> {
        let own = self.aca.contains(&nexus);
        if attribute == TaskAttribute::Aca {
            let another = self.tasks().any(|(_, task)| task.nexus == nexus && task.attribute == TaskAttribute::Aca);
            return match (own, another) {
                (true, false) => Ok(()),
                (true, true) => Err(Refusal::AcaActive),
                (false, _) if self.frozen(nexus, self.kind == TaskSetType::PerItNexus) => Err(Refusal::AcaActive),
                (false, _) => Err(Refusal::NoAca),
            };
        }
        let frozen = self.frozen(nexus, self.kind == TaskSetType::PerItNexus);
        if frozen && (own || !preempts) { Err(Refusal::AcaActive) } else { Ok(()) }
    }

    /// Whether an ACA keeps tasks of `nexus` from being enabled.
    fn frozen(&self, nexus: usize, alone: bool) -> bool {
        if alone { self.aca.contains(&nexus) } else { !self.aca.is_empty() }
    }

    fn tasks(&self) -> impl Iterator<Item = (TaskKey, &Task)> {
        (0u32..).zip(&self.slots).filter_map(|(at, slot)| {
            let key = TaskKey { slot: at, generation: slot.generation };
            slot.task.as_ref().map(|task| (key, task))
        })
    }

    /// A task has ended, whether it ran or was aborted; tasks that may run now are appended to `enabled`. A task that
    /// has ended before is ignored.
    pub fn finish(&mut self, key: TaskKey, enabled: &mut Vec<TaskKey>) {
        if self.task(key).is_none() {
            return;
        }
        let slot = &mut self.slots[key.slot as usize];
        let Some(ended) = slot.task.take() else { return };
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.slot);
        let barrier = is_barrier(ended.attribute);
        for counts in [&mut self.all, &mut self.nexuses[ended.nexus]] {
            counts.tasks -= 1;
            counts.barriers -= usize::from(barrier);
        }
        if !self.dormant.is_empty() {
            self.settle(key, &ended, barrier, enabled);
        }
    }

    fn settle(&mut self, key: TaskKey, ended: &Task, barrier: bool, enabled: &mut Vec<TaskKey>) {
        let mut dormant = core::mem::take(&mut self.dormant);
        dormant.retain(|&waiting| {
            if waiting == key {
                return false;
            }
            let Some(task) = &mut self.slots[waiting.slot as usize].task else { return false };
            let counted = task.sequence > ended.sequence
                && (barrier || task.attribute == TaskAttribute::Ordered)
                && (!task.alone || task.nexus == ended.nexus);
            if counted {
                task.older -= 1;
            }
            let Task { older, nexus, alone, .. } = *task;
            !self.wake(waiting, older, nexus, alone, enabled)
        });
        self.dormant = dormant;
    }

    /// Enables a dormant task if it may run; whether it did.
    fn wake(&mut self, key: TaskKey, older: usize, nexus: usize, alone: bool, enabled: &mut Vec<TaskKey>) -> bool {
        if older > 0 || self.frozen(nexus, alone) {
            return false;
        }
        if let Some(task) = &mut self.slots[key.slot as usize].task {
            task.enabled = true;
        }
        enabled.push(key);
        true
    }

    /// A command ends with CHECK CONDITION: with `naca` an ACA of its nexus becomes active, else QERR says which other
    /// tasks are to be aborted. They are appended to `abort`; the task itself is still to be finished.
    pub fn fault(&mut self, key: TaskKey, naca: bool, queue_error: QueueErrorManagement, abort: &mut Vec<TaskKey>) {
        let Some(&Task { nexus, alone, .. }) = self.task(key) else { return };
        if naca && !self.aca.contains(&nexus) {
            self.aca.push(nexus);
        }
        let hit = |task: &Task| match queue_error {
            QueueErrorManagement::Continue => false,
            QueueErrorManagement::AbortAll => !alone || task.nexus == nexus,
            QueueErrorManagement::AbortNexus => task.nexus == nexus,
        };
        abort.extend(self.tasks().filter(|(other, task)| *other != key && hit(task)).map(|(other, _)| other));
    }

    /// Whether an ACA of `nexus` is active.
    pub fn has_aca(&self, nexus: usize) -> bool {
        self.aca.contains(&nexus)
    }

    /// CLEAR ACA of `nexus`, or another event that ends it (a reset, a nexus loss, PREEMPT AND ABORT of its
    /// registration). ACA tasks to be aborted are appended to `abort`, tasks that may run now to `enabled`.
    pub fn clear_aca(&mut self, nexus: usize, abort: &mut Vec<TaskKey>, enabled: &mut Vec<TaskKey>) {
        let Some(at) = self.aca.iter().position(|&with| with == nexus) else { return };
        self.aca.swap_remove(at);
        let aca_tasks = self.tasks().filter(|(_, task)| task.nexus == nexus && task.attribute == TaskAttribute::Aca);
        abort.extend(aca_tasks.map(|(key, _)| key));
        let mut dormant = core::mem::take(&mut self.dormant);
        dormant.retain(|&waiting| match self.task(waiting) {
            Some(&Task { older, nexus, alone, .. }) => !self.wake(waiting, older, nexus, alone, enabled),
            None => false,
        });
        self.dormant = dormant;
    }

    /// ABORT TASK SET, I_T NEXUS RESET, nexus loss: the tasks of `nexus`, oldest first.
    pub fn of_nexus(&self, nexus: usize) -> Vec<TaskKey> {
        self.collect(|task| task.nexus == nexus)
    }

    /// CLEAR TASK SET of `nexus`: every task of its task set, oldest first; whose it is tells [`TaskSet::nexus_of`].
    pub fn of_set(&self, nexus: usize) -> Vec<TaskKey> {
        self.collect(|task| self.kind == TaskSetType::Shared || task.nexus == nexus)
    }

    /// LOGICAL UNIT RESET: every task, oldest first. ACAs end with [`TaskSet::clear_aca`].
    pub fn every(&self) -> Vec<TaskKey> {
        self.collect(|_| true)
    }

    fn collect(&self, wanted: impl Fn(&Task) -> bool) -> Vec<TaskKey> {
        let mut found: Vec<_> =
            self.tasks().filter(|(_, task)| wanted(task)).map(|(key, task)| (task.sequence, key)).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, key)| key).collect()
    }
}

fn is_barrier(attribute: TaskAttribute) -> bool {
    matches!(attribute, TaskAttribute::Ordered | TaskAttribute::HeadOfQueue)
}

#[cfg(test)]
mod tests;
