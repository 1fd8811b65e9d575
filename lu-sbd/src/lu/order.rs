//! Which tasks of the task set may run: SAM's simple, ordered and head of queue attributes.
//!
//! A head of queue task runs at once; a simple one when every ordered and head of queue task that is older has ended;
//! an ordered one when everything older has. (SAM-5, Task set management; QUEUE ALGORITHM MODIFIER 1, unrestricted
//! reordering.) What is older is counted, not listed: the usual case, simple tasks alone, costs a few additions.

use scsi_core::TaskAttribute;
use std::collections::VecDeque;
use stmf::NexusId;

use super::slab::Key;

/// The place of one task in the order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    sequence: u64,
    nexus: NexusId,
    barrier: bool,
}

/// Tasks that have not ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) all: usize,
    barriers: usize,
}

#[derive(Debug)]
struct Blocked {
    key: Key,
    ticket: Ticket,
    /// Waits for everything older, not for barriers alone.
    ordered: bool,
    /// Only tasks of the same nexus count (TST 1: a task set for each nexus).
    alone: bool,
    /// Tasks that must end first.
    older: usize,
}

#[derive(Debug, Default)]
pub(super) struct Order {
    next: u64,
    counts: Counts,
    blocked: VecDeque<Blocked>,
}

impl Order {
    /// A task enters the set; `own` are the counts of its nexus, `alone` whether each nexus has its own set. The
    /// second value tells whether it may run at once.
    pub(super) fn enter(
        &mut self,
        key: Key,
        attribute: TaskAttribute,
        nexus: NexusId,
        own: &mut Counts,
        alone: bool,
    ) -> (Ticket, bool) {
        let barrier = matches!(attribute, TaskAttribute::Ordered | TaskAttribute::HeadOfQueue);
        let ticket = Ticket { sequence: self.next, nexus, barrier };
        self.next += 1;
        let before = if alone { *own } else { self.counts };
        let ordered = attribute == TaskAttribute::Ordered;
        let older = match attribute {
            TaskAttribute::HeadOfQueue => 0,
            TaskAttribute::Ordered => before.all,
            _ => before.barriers,
        };
        for counts in [&mut self.counts, own] {
            counts.all += 1;
            counts.barriers += usize::from(barrier);
        }
        if older > 0 {
            self.blocked.push_back(Blocked { key, ticket, ordered, alone, older });
        }
        (ticket, older == 0)
    }

    /// A task has ended, whether it ran or not. Those that may run now are appended to `runnable`.
    pub(super) fn leave(&mut self, key: Key, ticket: Ticket, own: &mut Counts, runnable: &mut VecDeque<Key>) {
        for counts in [&mut self.counts, own] {
            counts.all = counts.all.saturating_sub(1);
            counts.barriers = counts.barriers.saturating_sub(usize::from(ticket.barrier));
        }
        if self.blocked.is_empty() {
            return;
        }
        self.blocked.retain_mut(|blocked| {
            if blocked.key == key {
                return false;
            }
            let counts = blocked.ticket.sequence > ticket.sequence
                && (ticket.barrier || blocked.ordered)
                && (!blocked.alone || blocked.ticket.nexus == ticket.nexus);
            if counts {
                blocked.older -= 1;
            }
            if blocked.older == 0 {
                runnable.push_back(blocked.key);
            }
            blocked.older > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::slab::Slab;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The rules as SAM words them, over the list of all tasks.
        #[test]
        fn tasks_run_exactly_when_sam_lets_them(steps in prop::collection::vec((0..6u8, 0..2u64, any::<u16>()), 1..80)) {
            #[derive(Clone, Copy)]
            struct Model { key: Key, ticket: Ticket, attribute: TaskAttribute, running: bool }
            let mut slab = Slab::new();
            let mut order = Order::default();
            let mut own = [Counts::default(); 2];
            let mut model: Vec<Model> = Vec::new();
            for (action, nexus, pick) in steps {
                if action < 4 {
                    let attribute = [TaskAttribute::Simple, TaskAttribute::Simple, TaskAttribute::Ordered,
                        TaskAttribute::HeadOfQueue][action as usize];
                    let key = slab.insert(());
                    let counts = &mut own[nexus as usize];
                    let (ticket, running) = order.enter(key, attribute, NexusId(nexus), counts, false);
                    model.push(Model { key, ticket, attribute, running });
                } else if !model.is_empty() {
                    // Any task may end: one that runs by its end, one that waits by an abort.
                    let ended = model.remove(pick as usize % model.len());
                    let mut runnable = VecDeque::new();
                    let counts = &mut own[ended.ticket.nexus.0 as usize];
                    order.leave(ended.key, ended.ticket, counts, &mut runnable);
                    for task in model.iter_mut().filter(|task| runnable.contains(&task.key)) {
                        prop_assert!(!task.running);
                        task.running = true;
                    }
                }
                for (at, task) in model.iter().enumerate() {
                    let older = &model[..at];
                    let may_run = match task.attribute {
                        TaskAttribute::HeadOfQueue => true,
                        TaskAttribute::Ordered => older.is_empty(),
                        _ => older.iter().all(|older| older.attribute == TaskAttribute::Simple),
                    };
                    prop_assert_eq!(task.running, may_run);
                }
            }
        }
    }

    #[test]
    fn with_a_task_set_for_each_nexus_others_do_not_count() {
        let mut slab = Slab::new();
        let mut order = Order::default();
        let mut own = [Counts::default(); 2];
        let key = slab.insert(());
        order.enter(key, TaskAttribute::Simple, NexusId(0), &mut own[0], true);
        let key = slab.insert(());
        let (_, runs) = order.enter(key, TaskAttribute::Ordered, NexusId(1), &mut own[1], true);
        assert!(runs);
    }
}
