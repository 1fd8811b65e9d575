//! Task attributes, task management functions and their service responses (SAM-5).

use core::fmt;

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

impl TaskAttribute {
    /// The attribute to order by: no attribute means [`TaskAttribute::Simple`].
    pub const fn effective(self) -> Self {
        match self {
            Self::Untagged => Self::Simple,
            other => other,
        }
    }
}

impl fmt::Display for TaskAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untagged => "untagged",
            Self::Simple => "simple",
            Self::Ordered => "ordered",
            Self::HeadOfQueue => "head of queue",
            Self::Aca => "ACA",
        })
    }
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

impl TaskManagementFunction {
    /// Every function, in the order of the standard.
    pub const ALL: [Self; 12] = [
        Self::AbortTask,
        Self::AbortTaskSet,
        Self::ClearAca,
        Self::ClearTaskSet,
        Self::LogicalUnitReset,
        Self::TargetWarmReset,
        Self::TargetColdReset,
        Self::TaskReassign,
        Self::QueryTask,
        Self::QueryTaskSet,
        Self::QueryAsynchronousEvent,
        Self::ItNexusReset,
    ];

    /// The name in words, upper case as the standards print it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AbortTask => "ABORT TASK",
            Self::AbortTaskSet => "ABORT TASK SET",
            Self::ClearAca => "CLEAR ACA",
            Self::ClearTaskSet => "CLEAR TASK SET",
            Self::LogicalUnitReset => "LOGICAL UNIT RESET",
            Self::TargetWarmReset => "TARGET WARM RESET",
            Self::TargetColdReset => "TARGET COLD RESET",
            Self::TaskReassign => "TASK REASSIGN",
            Self::QueryTask => "QUERY TASK",
            Self::QueryTaskSet => "QUERY TASK SET",
            Self::QueryAsynchronousEvent => "QUERY ASYNCHRONOUS EVENT",
            Self::ItNexusReset => "I_T NEXUS RESET",
        }
    }

    /// Whether the function is about one task, named by its tag.
    pub const fn names_a_task(self) -> bool {
        matches!(self, Self::AbortTask | Self::QueryTask | Self::TaskReassign)
    }

    /// Whether the function only asks and changes nothing.
    pub const fn is_query(self) -> bool {
        matches!(self, Self::QueryTask | Self::QueryTaskSet | Self::QueryAsynchronousEvent)
    }

    /// Whether the function reaches beyond one logical unit.
    pub const fn reaches_target(self) -> bool {
        matches!(self, Self::TargetWarmReset | Self::TargetColdReset | Self::ItNexusReset)
    }
}

impl fmt::Display for TaskManagementFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
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

impl TaskManagementResponse {
    /// FUNCTION SUCCEEDED without additional response information.
    pub const SUCCEEDED: Self = Self::FunctionSucceeded { additional: [0; 3] };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untagged_orders_as_simple() {
        assert_eq!(TaskAttribute::Untagged.effective(), TaskAttribute::Simple);
        assert_eq!(TaskAttribute::Ordered.effective(), TaskAttribute::Ordered);
    }

    #[test]
    fn functions_are_listed_once() {
        let names: std::collections::HashSet<_> = TaskManagementFunction::ALL.iter().map(|f| f.name()).collect();
        assert_eq!(names.len(), TaskManagementFunction::ALL.len());
    }
}
