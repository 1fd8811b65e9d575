//! What a session tells its owner.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use scsi_core::{Lun, Status, TaskAttribute, TaskManagementFunction};

use super::data::{DataIn, DataOut};
use crate::pdu::{
    AsyncMessage, InitiatorTaskTag, LoginStatus, LogoutResponseCode, RejectReason, Residual, ScsiResponseCode,
    TaskManagementResponseCode,
};

/// Names a connection of one session. A stale key is ignored everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(pub(super) u32);

/// Names a task, task management request, ping or text exchange of one session; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskKey {
    pub(super) serial: u64,
    pub(super) tag: InitiatorTaskTag,
}

impl fmt::Debug for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskKey({}, {})", self.serial, self.tag)
    }
}

/// A command to send.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// The logical unit.
    pub lun: Lun,
    /// The CDB: 6 to 260 bytes.
    pub cdb: Vec<u8>,
    /// Its place in the task set.
    pub attribute: TaskAttribute,
    /// Command priority, 0 for none, 1 (highest) to 15; only where iSCSIProtocolLevel is 2 or more.
    pub priority: u8,
    /// Ahead of the command order (I bit).
    pub immediate: bool,
    /// What to write; empty for none. Its length is the expected data transfer length.
    pub data_out: DataOut,
    /// Bytes there is room for; 0 for none.
    pub data_in_length: u32,
}

/// How a command ended.
#[derive(Debug)]
pub enum Outcome {
    /// The target answered.
    Response(Response),
    /// The target rejected the command's PDU; it was not carried out.
    Rejected(RejectReason),
    /// The connection or session went away first, or the task was aborted: nobody knows whether it was carried out.
    Lost,
}

/// The target's answer to a command.
#[derive(Debug)]
pub struct Response {
    /// Whether the command got as far as the device server.
    pub response: ScsiResponseCode,
    /// The status, if it did.
    pub status: Status,
    /// Sense data, without its length prefix; empty without any.
    pub sense: Bytes,
    /// What was read.
    pub data_in: DataIn,
    /// Bytes less, or more, than expected.
    pub residual: Residual,
    /// The same for the read half of a bidirectional command.
    pub bidirectional_read_residual: Residual,
}

/// Where a target can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveredTarget {
    /// Its iSCSI name.
    pub name: String,
    /// `address:port,tag` as the target wrote them.
    pub addresses: Vec<String>,
}

/// One thing that happened.
#[derive(Debug)]
pub enum Event {
    /// A connection finished its login.
    LoggedIn {
        /// The connection.
        connection: ConnectionKey,
    },
    /// A login was refused or failed; [`Event::Close`] follows.
    LoginFailed {
        /// The connection.
        connection: ConnectionKey,
        /// Why.
        error: LoginError,
    },
    /// A command ended; each that was submitted does so once.
    TaskDone {
        /// The command.
        task: TaskKey,
        /// How.
        outcome: Outcome,
    },
    /// A task management request was answered, or lost (`None`).
    TaskManaged {
        /// The request.
        request: TaskKey,
        /// The answer, and its three bytes of additional information.
        response: Option<(TaskManagementResponseCode, [u8; 3])>,
    },
    /// The answer to SendTargets, or `None` if it was lost or rejected.
    Targets {
        /// The request.
        request: TaskKey,
        /// The targets, in the target's order.
        targets: Option<Vec<DiscoveredTarget>>,
    },
    /// A ping came back, or `None` if it was lost.
    Pong {
        /// The ping.
        request: TaskKey,
        /// Its data.
        data: Option<Bytes>,
    },
    /// A logout was answered; [`Event::Close`] follows for the connections that end.
    LoggedOut {
        /// The request.
        request: TaskKey,
        /// The answer.
        response: LogoutResponseCode,
    },
    /// The target said something unasked.
    Async(Box<AsyncMessage>),
    /// A connection ends: send what is left, close the socket, call
    /// [`Session::handle_closed`](super::Session::handle_closed).
    Close {
        /// The connection.
        connection: ConnectionKey,
        /// Why.
        reason: CloseReason,
        /// How long to wait before connecting again, if that is wanted (DefaultTime2Wait, or what the target said).
        reconnect_after: Duration,
    },
}

/// Why a login did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The target refused.
    #[error("the target refused the login: {status} ({:02x}{:02x})", status.class(), status.detail())]
    Refused {
        /// Its reason.
        status: LoginStatus,
    },
    /// The target is elsewhere.
    #[error("the target has moved to {}", addresses.join(" "))]
    Moved {
        /// Each `address[:port][,tag]`; at least one.
        addresses: Vec<String>,
        /// For good.
        permanently: bool,
    },
    /// The target did not prove who it is.
    #[error("the target did not prove that it knows the secret")]
    TargetNotAuthenticated,
    /// The target broke the protocol.
    #[error("the target broke the login protocol: {0}")]
    Protocol(String),
    /// No answer in time.
    #[error("the target did not answer the login in time")]
    Timeout,
    /// The connection closed first.
    #[error("the connection closed during the login")]
    Closed,
    /// The challenge for the target was used in an earlier login; [`Session::set_challenge`](super::Session::set_challenge)
    /// gives another. The caller's fault.
    #[error("the challenge for the target was used before")]
    ChallengeUsed,
}

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// Logged out.
    #[error("logged out")]
    LoggedOut,
    /// The login failed.
    #[error("the login failed")]
    LoginFailed,
    /// The target broke the protocol, or a digest was wrong.
    #[error("{0}")]
    Protocol(String),
    /// The target announced that it drops the connection or the session.
    #[error("the target dropped the connection")]
    Dropped,
    /// No answer to a ping.
    #[error("the target did not answer a ping")]
    Silent,
    /// The owner said so.
    #[error("closed by its owner")]
    Owner,
    /// The peer closed it, or the network did.
    #[error("the connection was lost")]
    Lost,
    /// Another connection was lost in a way that ends the session.
    #[error("the session was lost with another connection")]
    SessionLost,
}

/// A task management request to send.
#[derive(Clone, Copy, Debug)]
pub struct TaskManagement {
    /// What to do.
    pub function: TaskManagementFunction,
    /// The logical unit; of no use for target resets.
    pub lun: Lun,
    /// The task that ABORT TASK and QUERY TASK mean.
    pub referenced: Option<TaskKey>,
}
