//! What a logical unit asks of the world after a call.

use bytes::Bytes;
use scsi_core::{Status, TaskManagementResponse};
use smallvec::SmallVec;
use std::sync::Arc;

use super::{LogicalUnit, StoreRequest};
use crate::nexus::{NexusId, TaskId, TaskTag};

/// A run of bytes in the slices in which they arrived or were read; concatenated they are the payload.
pub type Segments = SmallVec<[Bytes; 2]>;

/// One wish of a logical unit. Every effect belongs to one I_T nexus, see [`Effect::nexus`].
///
/// The receiver is the port provider session of that nexus. An effect for a nexus that is gone is dropped, except a
/// [`Effect::Store`], which is carried out all the same: its outcome still matters to the logical unit.
#[derive(Debug)]
pub enum Effect {
    /// Carry out a store operation and hand its outcome to [`LogicalUnit::store_done`].
    Store(StoreRequest),
    /// Fetch `length` bytes of the task's data-out buffer from `offset` on. Data that came along unasked (immediate,
    /// unsolicited) counts; only what is missing is solicited.
    ReceiveData {
        /// Whose buffer.
        task: TaskId,
        /// First byte wanted, from the start of the data-out buffer.
        offset: u32,
        /// Bytes wanted.
        length: u32,
    },
    /// Send these bytes of the task's data-in buffer. Pieces may come out of order when store operations finish so;
    /// the port provider sends them in order if its transport needs that.
    SendData {
        /// Whose buffer.
        task: TaskId,
        /// Where the piece begins in the data-in buffer, in bytes.
        offset: u32,
        /// The bytes.
        data: Segments,
    },
    /// The task ended; its tag is free once the port provider has sent the status.
    Complete(Completion),
    /// The task was aborted and ends without a status, or with TASK ABORTED if `report` is set (TAS).
    Aborted {
        /// The task.
        task: TaskId,
        /// Whether to send TASK ABORTED.
        report: bool,
    },
    /// A task management function ended, after everything that it aborted has no further effect on the medium.
    Managed {
        /// Who asked.
        nexus: NexusId,
        /// The tag of the request.
        tag: TaskTag,
        /// The service response.
        response: TaskManagementResponse,
    },
    /// Do harm to the transport of a task, on purpose: see [`intercept`](crate::intercept). A port provider without
    /// the means does nothing.
    Disturb {
        /// The task; it is not over yet.
        task: TaskId,
        /// Which harm.
        disturbance: Disturbance,
    },
}

/// Harm to a transport, done on purpose to test initiators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disturbance {
    /// The connection breaks without a word. At iSCSI's error recovery level 0 its session goes with it.
    DropConnection,
    /// The initiator is told that its session is dropped, and it is.
    EndSession,
    /// The next header digest (iSCSI) that is sent for the task is wrong.
    SpoilHeaderDigest,
    /// The next data digest (iSCSI) that is sent for the task is wrong.
    SpoilDataDigest,
}

impl Effect {
    /// The I_T nexus the effect belongs to.
    pub fn nexus(&self) -> NexusId {
        match self {
            Self::Store(request) => request.nexus,
            Self::ReceiveData { task, .. }
            | Self::SendData { task, .. }
            | Self::Aborted { task, .. }
            | Self::Disturb { task, .. } => task.nexus,
            Self::Complete(completion) => completion.task.nexus,
            Self::Managed { nexus, .. } => *nexus,
        }
    }
}

/// How a task ended.
#[derive(Debug)]
pub struct Completion {
    /// The task.
    pub task: TaskId,
    /// The status byte.
    pub status: Status,
    /// Sense data in wire format; empty unless the status is CHECK CONDITION.
    pub sense: SmallVec<[u8; 32]>,
    /// How many bytes the command moves by its CDB, in its direction. The port provider compares it with the
    /// expected data transfer length of the initiator: more is an overflow, less an underflow. After an error it is
    /// what was moved.
    pub data_length: u64,
}

/// The caller-owned buffer that effects are pushed to; reused between calls, so that pushing allocates nothing in
/// steady state.
pub type Effects = Vec<Effect>;

/// Where effects go whose nexus lives on another thread than the caller.
///
/// A port provider gives one with each session. Delivering never blocks; the receiver drains in its own loop.
pub trait Mailbox: Send + Sync {
    /// Takes an effect that `lu` produced. Returns it when the receiver is gone.
    ///
    /// # Errors
    /// The effect itself, if nobody will ever drain this mailbox again.
    fn deliver(&self, lu: &Arc<dyn LogicalUnit>, effect: Effect) -> Result<(), Effect>;

    /// Something about the session changed (LUN map, unit attention, termination wish): look at the session soon.
    fn wake(&self);
}
