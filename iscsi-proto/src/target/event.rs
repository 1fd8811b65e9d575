//! What a session tells its owner.

use std::fmt;

use scsi_core::{Lun, Status, TaskAttribute, TaskManagementFunction};

use super::{ConnectionKey, TaskHandle, TextHandle};
use crate::pdu::{CdbBytes, Cid, DataSegment};

/// One thing that happened in a session and that its owner deals with.
#[derive(Debug)]
pub enum Event {
    /// A command to carry out. It stays open until the owner ends it with
    /// [`Session::send_status`](super::Session::send_status) or
    /// [`Session::task_aborted`](super::Session::task_aborted).
    Command(Command),
    /// Data of a write: immediate, unsolicited and solicited alike, as it arrives and never twice.
    DataOut(DataArrived),
    /// A task management function to carry out, answered with
    /// [`Session::task_management_response`](super::Session::task_management_response).
    TaskManagement(TaskManagement),
    /// The session gave a task up. The owner aborts it and tells with
    /// [`Session::task_aborted`](super::Session::task_aborted) when it has no further effect on the medium, or ends it
    /// with a status if it was ending anyway; the session decides what the initiator hears.
    AbortTask {
        /// The task.
        task: TaskHandle,
        /// Why.
        cause: AbortCause,
    },
    /// The initiator asks which targets there are; answered with
    /// [`Session::send_targets_response`](super::Session::send_targets_response).
    SendTargets {
        /// To be given back.
        request: TextHandle,
        /// Which targets.
        scope: SendTargetsScope,
    },
    /// A connection ends: send what [`Session::poll_transmit`](super::Session::poll_transmit) still gives, close the
    /// socket, then call [`Session::handle_closed`](super::Session::handle_closed).
    Close {
        /// The connection.
        connection: ConnectionKey,
        /// Its name in the session.
        cid: Cid,
        /// Why.
        reason: CloseReason,
    },
    /// The session is over, always the last event: the nexus is lost and every open task with it. Connections told of
    /// by [`Event::Close`] may still have bytes to send.
    Ended(EndReason),
}

/// A command as the initiator sent it.
#[derive(Debug)]
pub struct Command {
    /// Names the task from here on.
    pub task: TaskHandle,
    /// The connection the task belongs to.
    pub connection: ConnectionKey,
    /// The logical unit.
    pub lun: Lun,
    /// Its place in the task set.
    pub attribute: TaskAttribute,
    /// Command priority, 0 for none, 1 (highest) to 15 (RFC 7144 3.1).
    pub priority: u8,
    /// Sent with the I bit, ahead of the command order.
    pub immediate: bool,
    /// R bit: the initiator expects data.
    pub read: bool,
    /// W bit: the initiator has data.
    pub write: bool,
    /// Bytes the initiator has ready; 0 without the W bit.
    pub data_out_length: u32,
    /// Bytes the initiator has room for; 0 without the R bit.
    pub data_in_length: u32,
    /// The CDB, 16 bytes or more.
    pub cdb: CdbBytes,
}

/// A piece of a task's data-out buffer.
#[derive(Debug)]
pub struct DataArrived {
    /// The task.
    pub task: TaskHandle,
    /// Where the piece begins in the buffer, in bytes.
    pub offset: u32,
    /// The bytes, in the slices they arrived in.
    pub data: DataSegment,
    /// F bit: the last of the immediate and unsolicited data, or the last of one R2T's.
    pub is_final: bool,
}

/// A task management function to carry out.
#[derive(Clone, Copy, Debug)]
pub struct TaskManagement {
    /// Names the request; to be given back with the response.
    pub request: TaskHandle,
    /// The connection it came on.
    pub connection: ConnectionKey,
    /// What to do. TASK REASSIGN never comes up.
    pub function: TaskManagementFunction,
    /// The logical unit; of no use for target resets and I_T NEXUS RESET.
    pub lun: Lun,
    /// The task meant by ABORT TASK and QUERY TASK: one that the owner knows and has not ended.
    pub referenced: Option<TaskHandle>,
}

/// Which targets an initiator asks for (RFC 7143, appendix C).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendTargetsScope {
    /// `SendTargets=All`: every target the initiator may know of. Discovery sessions only.
    All,
    /// `SendTargets=<name>`: the addresses of this target.
    Target(String),
    /// `SendTargets=`: the addresses of the target of this session.
    Session,
}

/// One target in the answer to SendTargets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRecord {
    /// The iSCSI name.
    pub name: String,
    /// Its portals: `address:port` as the initiator will dial it (IPv6 in brackets) and portal group tag.
    pub addresses: Vec<(String, u16)>,
}

/// Why the session gives a task up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AbortCause {
    /// Data of the task came damaged, out of order or in excess; the initiator gets a CHECK CONDITION.
    DataOut(DataOutError),
    /// The initiator logged out the session or the task's connection.
    Logout,
    /// A new connection with the same CID replaced the task's connection.
    ConnectionReplaced,
}

/// What was wrong with the data of a write. Always the initiator's fault, or the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataOutError {
    /// A data digest did not match, or a PDU is missing in a sequence.
    Damaged,
    /// Data came unasked where the negotiation forbids it, or after its sequence had ended.
    Unexpected,
    /// More or less data than was asked for or announced.
    WrongAmount,
}

impl DataOutError {
    /// ASC and ASCQ under ABORTED COMMAND (RFC 7143 11.4.7.2).
    pub const fn additional_sense(self) -> (u8, u8) {
        match self {
            Self::Damaged => (0x47, 0x05),
            Self::Unexpected => (0x0c, 0x0c),
            Self::WrongAmount => (0x0c, 0x0d),
        }
    }

    /// Fixed-format sense data that says so.
    pub const fn sense(self) -> [u8; 18] {
        const ABORTED_COMMAND: u8 = 0x0b;
        let (asc, ascq) = self.additional_sense();
        let mut sense = [0; 18];
        sense[0] = 0x70;
        sense[2] = ABORTED_COMMAND;
        sense[7] = 10;
        sense[12] = asc;
        sense[13] = ascq;
        sense
    }
}

/// How a command ends: an operation's argument.
#[derive(Clone, Copy, Debug)]
pub struct TaskStatus<'a> {
    /// The status byte.
    pub status: Status,
    /// Sense data in wire format; empty without any.
    pub sense: &'a [u8],
    /// Bytes the command moves by its CDB, whatever the initiator expected; of a bidirectional command, those from
    /// the initiator. After an error, what was moved. The residual follows from it.
    pub data_length: u64,
    /// Bytes a bidirectional command moves to the initiator; of no use otherwise.
    pub bidirectional_read_length: u64,
}

impl<'a> TaskStatus<'a> {
    /// A status without sense data for a command that moves `data_length` bytes.
    pub const fn new(status: Status, data_length: u64) -> Self {
        Self { status, sense: &[], data_length, bidirectional_read_length: 0 }
    }

    /// CHECK CONDITION with this sense data, and nothing moved.
    pub const fn check_condition(sense: &'a [u8]) -> Self {
        Self { status: Status::CHECK_CONDITION, sense, data_length: 0, bidirectional_read_length: 0 }
    }
}

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The initiator logged out.
    LoggedOut,
    /// A new connection with the same CID replaced it.
    Replaced,
    /// The login was refused; the response said why.
    LoginRefused,
    /// The login took longer than allowed.
    LoginTimeout,
    /// The peer closed it, or the network did.
    Lost,
    /// The stream cannot be read any further.
    Stream(crate::frame::FrameError),
    /// The initiator broke the protocol in a way that error recovery level 0 cannot mend.
    Protocol(&'static str),
    /// The initiator did not answer a ping in time.
    PingTimeout,
    /// The initiator was asked to log out and did not in time.
    LogoutTimeout,
    /// The session ended.
    SessionEnded,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoggedOut => f.write_str("logged out"),
            Self::Replaced => f.write_str("replaced by a new connection with the same CID"),
            Self::LoginRefused => f.write_str("login refused"),
            Self::LoginTimeout => f.write_str("login took too long"),
            Self::Lost => f.write_str("connection lost"),
            Self::Stream(error) => write!(f, "unreadable stream: {error}"),
            Self::Protocol(what) => write!(f, "protocol error: {what}"),
            Self::PingTimeout => f.write_str("no answer to a ping"),
            Self::LogoutTimeout => f.write_str("asked to log out and did not"),
            Self::SessionEnded => f.write_str("session ended"),
        }
    }
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// The initiator logged out.
    LoggedOut,
    /// A connection failed, which at error recovery level 0 ends the session.
    ConnectionFailed(CloseReason),
    /// The same initiator port logged in anew.
    Reinstated,
    /// TARGET COLD RESET.
    ColdReset,
    /// A command number never came.
    CommandLost,
    /// The owner wanted it.
    Terminated,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoggedOut => f.write_str("logged out"),
            Self::ConnectionFailed(reason) => write!(f, "connection failed: {reason}"),
            Self::Reinstated => f.write_str("reinstated by a new login"),
            Self::ColdReset => f.write_str("target cold reset"),
            Self::CommandLost => f.write_str("a command number never came"),
            Self::Terminated => f.write_str("terminated"),
        }
    }
}
