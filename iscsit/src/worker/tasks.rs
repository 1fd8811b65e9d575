//! The tasks between the protocol and the logical units of one session.

use std::sync::Arc;
use std::time::Instant;

use iscsi_proto::target::TaskHandle;
use stmf::TaskTag;
use stmf::provider::{LogicalUnit, Segments};

use stmf::traffic::{Clocked, Direction};

/// A task between the protocol and its logical unit.
pub(super) struct Task {
    /// `None`: answered by STMF itself, without a unit.
    pub(super) lu: Option<Arc<dyn LogicalUnit>>,
    pub(super) clocked: Clocked,
    /// How far into the data-out buffer the unit wants to be served; 0 until it asks.
    pub(super) wanted: u32,
    /// Data that the unit has not asked for yet. Bounded by FirstBurstLength: nothing more comes unsolicited.
    pub(super) early: Vec<(u32, Segments)>,
}

/// What is left of a task that has ended.
pub(super) struct Ended {
    /// Its unit.
    pub(super) lu: Option<Arc<dyn LogicalUnit>>,
    pub(super) clocked: Clocked,
}

/// The table. A task stands at the place that the protocol gave it, so finding it takes no search, and a place keeps
/// its memory for the next task.
#[derive(Default)]
pub(super) struct Tasks {
    places: Vec<Place>,
    /// Of all tasks together, how much was wanted.
    wanted: u64,
}

struct Place {
    /// Whose it is; `None`: it is free.
    tag: Option<TaskTag>,
    task: Task,
}

impl Place {
    fn free(now: Instant) -> Self {
        let clocked = Clocked { direction: Direction::Other, begun: now };
        Self { tag: None, task: Task { lu: None, clocked, wanted: 0, early: Vec::new() } }
    }

    fn end(&mut self, wanted: &mut u64) -> Ended {
        self.tag = None;
        *wanted -= u64::from(std::mem::take(&mut self.task.wanted));
        self.task.early.clear();
        Ended { lu: self.task.lu.take(), clocked: self.task.clocked }
    }
}

impl Tasks {
    /// Adds a task. Gives back the one that stands in its place, if the protocol has closed that without a word: its
    /// reset was answered before its end came.
    pub(super) fn insert(&mut self, tag: TaskTag, lu: Option<Arc<dyn LogicalUnit>>, clocked: Clocked) -> Option<Ended> {
        let at = TaskHandle::from_u64(tag.0).place();
        if self.places.len() <= at {
            self.places.resize_with(at + 1, || Place::free(clocked.begun));
        }
        let place = &mut self.places[at];
        let overtaken = place.tag.is_some().then(|| place.end(&mut self.wanted));
        place.tag = Some(tag);
        (place.task.lu, place.task.clocked) = (lu, clocked);
        place.task.early.clear();
        overtaken
    }

    /// The task of this tag, if it is there.
    pub(super) fn get_mut(&mut self, tag: TaskTag) -> Option<&mut Task> {
        let place = self.places.get_mut(TaskHandle::from_u64(tag.0).place())?;
        (place.tag == Some(tag)).then_some(&mut place.task)
    }

    /// Forgets a task; `None` if it is not there.
    pub(super) fn remove(&mut self, tag: TaskTag) -> Option<Ended> {
        let place = self.places.get_mut(TaskHandle::from_u64(tag.0).place())?;
        (place.tag == Some(tag)).then(|| place.end(&mut self.wanted))
    }

    /// A unit wants to be served up to this offset of its data-out buffer. What came before it asked; `None` if the task is
    /// not there.
    pub(super) fn want(&mut self, tag: TaskTag, end: u32) -> Option<Vec<(u32, Segments)>> {
        let place = self.places.get_mut(TaskHandle::from_u64(tag.0).place()).filter(|place| place.tag == Some(tag))?;
        let more = end.saturating_sub(place.task.wanted);
        place.task.wanted += more;
        self.wanted += u64::from(more);
        Some(std::mem::take(&mut place.task.early))
    }

    /// Bytes of data-out that units have asked for, of tasks that have not ended: what may be held for them.
    pub(super) fn wanted(&self) -> u64 {
        self.wanted
    }

    /// Forgets all, and their memory.
    pub(super) fn clear(&mut self) -> Vec<Ended> {
        let Self { places, mut wanted } = std::mem::take(self);
        places.into_iter().filter(|place| place.tag.is_some()).map(|mut place| place.end(&mut wanted)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_of_the_same_place_is_another_task() {
        let mut tasks = Tasks::default();
        let clocked = Clocked { direction: Direction::Other, begun: Instant::now() };
        let (old, new) = (TaskTag(1 << 16 | 3), TaskTag(2 << 16 | 3));
        assert!(tasks.insert(old, None, clocked).is_none());
        assert!(tasks.get_mut(old).is_some() && tasks.get_mut(new).is_none() && tasks.remove(new).is_none());
        assert!(tasks.remove(old).is_some() && tasks.remove(old).is_none());
        assert!(tasks.insert(new, None, clocked).is_none());
        assert!(tasks.get_mut(old).is_none());
        assert!(tasks.want(new, 10).is_some() && tasks.want(new, 5).is_some() && tasks.want(old, 10).is_none());
        assert_eq!(tasks.wanted(), 10);
        assert!(tasks.insert(old, None, clocked).is_some(), "it takes the place");
        assert_eq!(tasks.wanted(), 0);
        assert!(tasks.want(old, 7).is_some() && tasks.remove(old).is_some());
        assert_eq!(tasks.wanted(), 0);
        assert!(tasks.insert(new, None, clocked).is_none() && tasks.want(new, 7).is_some());
        assert_eq!((tasks.clear().len(), tasks.wanted()), (1, 0));
        assert!(tasks.remove(new).is_none());
    }
}
