//! What can go wrong, with what to do about it.

use iscsi_proto::initiator::{LoginError, SubmitError};
use iscsi_proto::pdu::{LoginStatus, RejectReason, TaskManagementResponseCode};
use scsi_core::command::entries_of;
use scsi_core::{AdditionalSense, SenseData, SenseKey, Status, TaskManagementFunction};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Why an operation did not succeed. Clones are cheap: one lost connection may end many operations.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A URL or option is wrong (the caller's fault).
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The host's name has no address.
    #[error("cannot find the host '{host}': {source}")]
    Resolve {
        /// As it stands in the URL.
        host: String,
        /// The system's reason.
        source: Arc<io::Error>,
    },
    /// Nobody answers there.
    #[error("cannot connect to {address}: {source}{}", connect_hint(source))]
    Connect {
        /// Host and port.
        address: String,
        /// The system's reason.
        source: Arc<io::Error>,
    },
    /// The target, or we, did not want the login.
    #[error("cannot log in to {target}: {source}{}", login_hint(source))]
    Login {
        /// The target's name; "discovery" for none.
        target: String,
        /// Why.
        source: LoginError,
    },
    /// The connection was lost while the command was out: nobody knows whether it was carried out. Only commands that
    /// must not run twice end so; others are sent again on the next connection.
    #[error("{command}: the connection was lost ({reason}); whether the command was carried out is unknown")]
    Lost {
        /// The command's name.
        command: &'static str,
        /// Why the connection ended.
        reason: String,
    },
    /// The connection was lost and none could be made again in time.
    #[error("no connection to {target} for {seconds} s: {last}")]
    Outage {
        /// The target's name.
        target: String,
        /// How long it was tried.
        seconds: u64,
        /// What the last attempt met.
        last: Box<Error>,
    },
    /// The target has not answered a command in time; it was asked to abort it.
    #[error("{command} was not answered within {limit:?}")]
    Timeout {
        /// The command's name.
        command: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The unit refused a command or failed to carry it out.
    #[error("{command} failed: {}{}", answer(*status, sense.as_deref()), command_hint(*status, sense.as_deref()))]
    Command {
        /// The command's name.
        command: &'static str,
        /// The status byte.
        status: Status,
        /// The sense data that came with it.
        sense: Option<Box<SenseData>>,
    },
    /// The target rejected the PDU itself.
    #[error("{command} was rejected: {reason}")]
    Rejected {
        /// The command's name.
        command: &'static str,
        /// Its reason.
        reason: RejectReason,
    },
    /// A task management function was not carried out.
    #[error("{function} failed: {response}")]
    TaskManagement {
        /// Which.
        function: TaskManagementFunction,
        /// The target's answer.
        response: TaskManagementResponseCode,
    },
    /// Offset or length is not a multiple of the block size (the caller's fault).
    #[error("{length} bytes at {offset}: both must be multiples of the block size, {block_size}")]
    Unaligned {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// The disk's block size in bytes.
        block_size: u32,
    },
    /// Past the end of the disk (the caller's fault).
    #[error("{length} bytes at {offset} go past the end of the disk, {capacity} bytes")]
    OutOfRange {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// The disk's size in bytes.
        capacity: u64,
    },
    /// A buffer of another length than is needed (the caller's fault).
    #[error("a buffer of {got} bytes, {expected} are needed")]
    Length {
        /// Bytes given.
        got: usize,
        /// Bytes needed.
        expected: usize,
    },
    /// The unit cannot do this.
    #[error("the unit does not support {operation}")]
    Unsupported {
        /// What was asked.
        operation: &'static str,
    },
    /// The unit is no disk.
    #[error("the unit is not a disk: {what}")]
    NotADisk {
        /// What it said.
        what: String,
    },
    /// The unit answered less than a command promises.
    #[error("{command} gave {got} bytes instead of {expected}")]
    Short {
        /// The command's name.
        command: &'static str,
        /// Bytes that came.
        got: usize,
        /// Bytes that had to come.
        expected: usize,
    },
    /// The request cannot be sent (the caller's fault).
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The disk was closed by its owner.
    #[error("the disk is closed")]
    Closed,
    /// The system refuses a resource.
    #[error("the system refuses: {0}")]
    System(#[source] Arc<io::Error>),
}

/// A URL that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{url}' is no URL of {wanted}: {reason}")]
pub struct UrlError {
    /// The URL, without its secrets.
    pub url: String,
    /// What was wanted.
    pub wanted: &'static str,
    /// What is wrong.
    pub reason: String,
}

impl Error {
    /// The sense data, if a unit sent some.
    pub fn sense(&self) -> Option<&SenseData> {
        match self {
            Self::Command { sense, .. } => sense.as_deref(),
            _ => None,
        }
    }

    /// The form for programs that speak `std::io`.
    pub fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::Url(_) | Self::Unaligned { .. } | Self::OutOfRange { .. } | Self::Length { .. } => {
                io::ErrorKind::InvalidInput
            }
            Self::Resolve { source, .. } | Self::Connect { source, .. } | Self::System(source) => source.kind(),
            Self::Login { .. } => io::ErrorKind::PermissionDenied,
            Self::Lost { .. } | Self::Outage { .. } => io::ErrorKind::ConnectionAborted,
            Self::Timeout { .. } => io::ErrorKind::TimedOut,
            Self::Command { sense: Some(sense), .. } if sense.key == SenseKey::DATA_PROTECT => {
                io::ErrorKind::ReadOnlyFilesystem
            }
            Self::Unsupported { .. } => io::ErrorKind::Unsupported,
            Self::Closed => io::ErrorKind::NotConnected,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }

    pub(crate) fn system(source: io::Error) -> Self {
        Self::System(Arc::new(source))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        error.into_io()
    }
}

/// The name of a command by its CDB.
pub(crate) fn command_name(cdb: &[u8]) -> &'static str {
    let opcode = cdb.first().copied().unwrap_or(0);
    let entries = entries_of(opcode);
    let action = cdb.get(1).map_or(0, |byte| byte & 0x1f);
    let exact = scsi_core::command::find(opcode, action).filter(|_| entries.len() > 1);
    exact.or_else(|| entries.first()).map_or("command", |entry| entry.name)
}

fn answer(status: Status, sense: Option<&SenseData>) -> String {
    match sense {
        Some(sense) => sense.to_string(),
        None => status.to_string(),
    }
}

fn command_hint(status: Status, sense: Option<&SenseData>) -> &'static str {
    if status == Status::RESERVATION_CONFLICT {
        return "\nhint: another initiator holds a reservation; PERSISTENT RESERVE IN tells which";
    }
    let Some(sense) = sense else { return "" };
    match sense.key {
        SenseKey::DATA_PROTECT => "\nhint: the unit is write protected",
        SenseKey::ILLEGAL_REQUEST if sense.code == AdditionalSense::INVALID_COMMAND_OPERATION_CODE => {
            "\nhint: the unit does not know this command"
        }
        SenseKey::ILLEGAL_REQUEST if sense.code == AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED => {
            "\nhint: there is no unit at this LUN for this initiator; REPORT LUNS tells which there are"
        }
        _ => "",
    }
}

fn connect_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::ConnectionRefused => "\nhint: is the target running, and on this port (3260 unless given)?",
        io::ErrorKind::TimedOut => "\nhint: does a firewall drop the packets?",
        _ => "",
    }
}

fn login_hint(source: &LoginError) -> &'static str {
    let LoginError::Refused { status } = source else { return "" };
    match *status {
        LoginStatus::AUTHENTICATION_FAILURE => {
            "\nhint: give name and secret in the URL, iscsi://user%secret@host/target/lun, as the target has them"
        }
        LoginStatus::AUTHORIZATION_FAILURE => "\nhint: the target does not admit this initiator name",
        LoginStatus::NOT_FOUND => "\nhint: discovery tells the names of the targets there are",
        LoginStatus::INITIATOR_ERROR => "\nhint: does the target ask for CHAP, and the URL has no secret?",
        _ => "",
    }
}
