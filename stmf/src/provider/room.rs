//! Where the bytes of a read belong, and memory that a transport lends for them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use super::Segments;
use crate::nexus::TaskId;

/// Where the bytes of a [`StoreOp::Read`](super::StoreOp::Read) go: unchanged to this place of a task's data-in buffer.
///
/// A logical unit that says so ends the task, aborted or not, only after the operation has ended: whoever lends the task's
/// own memory for it may give that back with the end of the task, and not before.
#[derive(Clone, Debug)]
pub struct Landing {
    /// The task.
    pub task: TaskId,
    /// First byte of its data-in buffer.
    pub offset: u32,
    /// Memory for all of the bytes, from whoever carries the operation out; the logical unit leaves it out. A store that
    /// can reads right into it, others need not look at it.
    pub room: Option<Arc<dyn Room>>,
}

impl Landing {
    /// A place without memory.
    pub fn new(task: TaskId, offset: u32) -> Self {
        Self { task, offset, room: None }
    }
}

/// Memory of a transport (a guest's, an adapter's) that is to be filled where it lies.
///
/// It consists of bytes that others may look at or change meanwhile, whence [`AtomicU8`]; whoever fills it hands it to the
/// system, and decides nothing by what is in it.
pub trait Room: Send + Sync + fmt::Debug {
    /// Calls `fill` with the pieces of memory, in order, none empty. If that says that it has filled all of it, the same
    /// memory comes back, lent for the transport to recognise: [`StoreOutcome::Data`](super::StoreOutcome::Data).
    ///
    /// `None` without a call: the memory was taken back meanwhile. It cannot be while `fill` runs.
    fn fill(&self, fill: &mut dyn FnMut(&[&[AtomicU8]]) -> bool) -> Option<Segments>;
}
