//! Task attributes, task management functions and their service responses (SAM-5).

/// How a task is ordered in its task set (SAM-5, Task attributes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TaskAttribute {
    /// No attribute given by the transport; treated as [`TaskAttribute::Simple`].
    #[default]
    Untagged,
    /// Runs in any order with other simple tasks, after older ordered and head-of-queue tasks.
    Simple,
    /// Runs after everything older and before everything younger.
    Ordered,
    /// Runs at once.
    HeadOfQueue,
    /// Accepted only while an auto contingent allegiance of the same I_T nexus is active.
    Aca,
}

/// A task management function (SAM-5, Task management functions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskManagementFunction {
    /// Abort one task of this I_T nexus.
    AbortTask,
    /// Abort every task of this I_T nexus in the logical unit.
    AbortTaskSet,
    /// End an auto contingent allegiance.
    ClearAca,
    /// Abort every task in the task set, of whichever I_T nexus.
    ClearTaskSet,
    /// Reset one logical unit.
    LogicalUnitReset,
    /// Reset every logical unit the I_T nexus reaches (RFC 7143 11.5.1).
    TargetWarmReset,
    /// As the warm reset, and every session of the target ends (RFC 7143 11.5.1).
    TargetColdReset,
    /// Move a task to another connection (RFC 7143 11.5.1, error recovery level 2).
    TaskReassign,
    /// Is the task still in the task set?
    QueryTask,
    /// Is any task of this I_T nexus in the task set?
    QueryTaskSet,
    /// Is a unit attention or deferred error pending for this I_T nexus?
    QueryAsynchronousEvent,
    /// As if this I_T nexus had been lost (RFC 7144).
    ItNexusReset,
}

/// The service response to a task management function (SAM-5, Task management function procedure calls).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskManagementResponse {
    /// Done; for a query: nothing there.
    FunctionComplete,
    /// For a query: it is there. `QUERY ASYNCHRONOUS EVENT` adds what is pending.
    FunctionSucceeded {
        /// Additional response information, three bytes; zero when there is none.
        additional: [u8; 3],
    },
    /// The function is not supported.
    FunctionRejected,
    /// The logical unit number is not mapped for this I_T nexus.
    IncorrectLun,
    /// ABORT TASK or QUERY TASK: there is no such task.
    TaskDoesNotExist,
}
