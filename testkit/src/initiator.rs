//! An iSCSI initiator for tests: says what the script tells it, right or wrong, and checks what it hears.
//!
//! ```no_run
//! use testkit::initiator::{Command, Initiator, LoginOptions, TcpWire};
//!
//! let wire = TcpWire::connect("127.0.0.1:3260".parse()?)?;
//! let mut initiator = Initiator::new(wire);
//! initiator.login(&LoginOptions::normal("iqn.2026-11.test:host", "iqn.2026-11.org.lunette:02:disk"))?;
//! let inquiry = initiator.command(&Command::read(0, &[0x12, 0, 0, 0, 96, 0], 96))?;
//! assert_eq!(inquiry.data[8..16], *b"LUNETTE ");
//! initiator.logout()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod login;
mod tasks;
mod wire;

pub use login::{Chap, LoginOptions, SUCCESS};
pub use tasks::{Command, Outcome};
pub use wire::{TcpWire, Wire};

use bytes::Bytes;
use iscsi_proto::digest::Digests;
use iscsi_proto::frame::{FrameError, Framer, Limits};
use iscsi_proto::pdu::{
    AsyncMessage, DecodeError, Encoder, InitiatorPdu, InitiatorTaskTag, Isid, LoginStatus, LogoutReason, LogoutRequest,
    LogoutResponse, NopOut, Reject, TargetPdu, TargetTransferTag, TaskManagementFunctionCode, TaskManagementRequest,
    TaskManagementResponse, TextRequest, Tsih,
};
use iscsi_proto::sn::{CmdSn, StatSn};
use scsi_core::Lun;
use std::collections::{BTreeMap, VecDeque};
use std::io;

use tasks::Task;

/// What went wrong, from the initiator's point of view.
#[derive(Debug)]
#[non_exhaustive]
pub enum InitiatorError {
    /// The wire failed or gave nothing in time.
    Io(io::Error),
    /// The target closed the connection.
    Closed,
    /// What came is no stream of PDUs, or a digest is wrong.
    Frame(FrameError),
    /// A data digest is wrong.
    DataDigest,
    /// What came is no PDU of a target.
    Decode(Box<DecodeError>),
    /// The login was refused.
    Login(LoginStatus),
    /// The target rejected a PDU.
    Reject(Box<Reject>),
    /// The target sent what has no place here.
    Unexpected(Box<TargetPdu>),
    /// The target broke a rule that the initiator watches.
    Violation(String),
}

impl std::fmt::Display for InitiatorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Closed => f.write_str("the target closed the connection"),
            Self::Frame(error) => write!(f, "{error}"),
            Self::DataDigest => f.write_str("wrong data digest"),
            Self::Decode(error) => write!(f, "{error}"),
            Self::Login(status) => write!(f, "login refused: {status}"),
            Self::Reject(reject) => write!(f, "rejected: {}", reject.reason),
            Self::Unexpected(pdu) => write!(f, "unexpected {pdu:?}"),
            Self::Violation(words) => f.write_str(words),
        }
    }
}

impl std::error::Error for InitiatorError {}

impl From<io::Error> for InitiatorError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<FrameError> for InitiatorError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<DecodeError> for InitiatorError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(Box::new(error))
    }
}

type Result<T, E = InitiatorError> = std::result::Result<T, E>;

/// One connection of an initiator, in either role of a session with one connection.
///
/// The methods that speak whole exchanges ([`Initiator::login`], [`Initiator::command`] ...) are built on
/// [`Initiator::send`] and [`Initiator::receive`], which a test may use in any order, and on
/// [`Initiator::send_raw`], which sends any bytes.
#[derive(Debug)]
pub struct Initiator<W> {
    /// The wire: send on it what no PDU type can express.
    pub wire: W,
    /// The next command's number; set it to lie.
    pub cmd_sn: CmdSn,
    /// The next status number expected; set it to lie.
    pub exp_stat_sn: StatSn,
    /// The number up to which the target takes commands.
    pub max_cmd_sn: CmdSn,
    /// The session's name, as far as the initiator chooses it.
    pub isid: Isid,
    /// The session's name, as far as the target chooses it; 0 before the login.
    pub tsih: Tsih,
    /// What the target declared or agreed to in the login, by key.
    pub parameters: BTreeMap<String, String>,
    /// Asynchronous messages that came.
    pub async_messages: Vec<AsyncMessage>,
    /// Whether pings of the target are answered as they come.
    pub answers_pings: bool,
    framer: Framer,
    encoder: Encoder,
    next_tag: u32,
    tasks: BTreeMap<u32, Task>,
    /// PDUs that came while something else was awaited.
    inbox: VecDeque<TargetPdu>,
}

impl<W: Wire> Initiator<W> {
    /// A connection before its login.
    pub fn new(wire: W) -> Self {
        Self {
            wire,
            cmd_sn: CmdSn(1),
            exp_stat_sn: StatSn(0),
            max_cmd_sn: CmdSn(1),
            isid: Isid::random([0x12, 0x34, 0x56], 1),
            tsih: Tsih::NEW,
            parameters: BTreeMap::new(),
            async_messages: Vec::new(),
            answers_pings: true,
            framer: Framer::new(Limits { max_data_segment_length: 1 << 24, ..Limits::default() }),
            encoder: Encoder::new(),
            next_tag: 1,
            tasks: BTreeMap::new(),
            inbox: VecDeque::new(),
        }
    }

    /// A task tag that is not in use.
    pub fn tag(&mut self) -> InitiatorTaskTag {
        let tag = self.next_tag;
        self.next_tag = self.next_tag.wrapping_add(1) & 0x7fff_ffff;
        InitiatorTaskTag(tag)
    }

    /// The number for a command; `immediate` leaves it to the next.
    pub fn command_number(&mut self, immediate: bool) -> CmdSn {
        if immediate { self.cmd_sn } else { self.cmd_sn.take() }
    }

    /// Sends a PDU as it is, with its lengths, padding and digests made right.
    ///
    /// # Errors
    /// Of the wire.
    pub fn send(&mut self, pdu: impl Into<InitiatorPdu>) -> Result<()> {
        let bytes = self.encode(pdu);
        self.send_raw(bytes)
    }

    /// The bytes of a PDU, to be spoiled before they are sent.
    pub fn encode(&mut self, pdu: impl Into<InitiatorPdu>) -> Vec<u8> {
        let mut out = Vec::new();
        if let Err(error) = self.encoder.encode(&pdu.into(), &mut out) {
            panic!("the script asks for a PDU that cannot be: {error}");
        }
        self.encoder.finish(&mut out);
        out.concat()
    }

    /// Sends any bytes.
    ///
    /// # Errors
    /// Of the wire.
    pub fn send_raw(&mut self, bytes: impl Into<Bytes>) -> Result<()> {
        Ok(self.wire.send(bytes.into())?)
    }

    /// The next PDU, whatever it is, but for pings, which are answered if wished, and asynchronous messages, which
    /// are put aside. Keeps the numbers.
    ///
    /// # Errors
    /// When the wire fails, the stream is no stream of PDUs, a digest is wrong, or a status number is missing.
    pub fn receive(&mut self) -> Result<TargetPdu> {
        loop {
            let pdu = self.receive_any()?;
            self.keep_numbers(&pdu)?;
            match pdu {
                TargetPdu::NopIn(ping) if !ping.target_transfer_tag.is_reserved() && self.answers_pings => {
                    let pong = NopOut {
                        immediate: true,
                        lun: ping.lun,
                        target_transfer_tag: ping.target_transfer_tag,
                        cmd_sn: self.cmd_sn,
                        exp_stat_sn: self.exp_stat_sn,
                        data: ping.data,
                        ..NopOut::default()
                    };
                    self.send(pong)?;
                }
                TargetPdu::AsyncMessage(message) => self.async_messages.push(message),
                pdu => return Ok(pdu),
            }
        }
    }

    /// Sends a ping and waits for its answer; the data that comes back.
    ///
    /// # Errors
    /// As [`Initiator::receive`].
    pub fn ping(&mut self, data: &[u8]) -> Result<Vec<u8>> {
        let tag = self.tag();
        let cmd_sn = self.command_number(true);
        self.send(NopOut {
            immediate: true,
            initiator_task_tag: tag,
            cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
            data: data.to_vec().into(),
            ..NopOut::default()
        })?;
        match self.await_answer(tag)? {
            TargetPdu::NopIn(pong) => Ok(pong.data.to_contiguous().to_vec()),
            other => Err(InitiatorError::Unexpected(Box::new(other))),
        }
    }

    /// Asks for task management, immediately, and waits for the answer.
    ///
    /// # Errors
    /// As [`Initiator::receive`].
    pub fn task_management(
        &mut self,
        function: TaskManagementFunctionCode,
        lun: u16,
        referenced: Option<InitiatorTaskTag>,
    ) -> Result<TaskManagementResponse> {
        let tag = self.tag();
        let referenced_cmd_sn = referenced.and_then(|tag| self.tasks.get(&tag.0)).map(|task| task.cmd_sn);
        self.send(TaskManagementRequest {
            immediate: true,
            function,
            lun: Lun::new(lun).unwrap_or_default(),
            initiator_task_tag: tag,
            referenced_task_tag: referenced.unwrap_or_default(),
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
            ref_cmd_sn: referenced_cmd_sn.unwrap_or_default(),
            exp_data_sn: Default::default(),
        })?;
        match self.await_answer(tag)? {
            TargetPdu::TaskManagementResponse(response) => Ok(response),
            other => Err(InitiatorError::Unexpected(Box::new(other))),
        }
    }

    /// Asks for the targets: the pairs of the answer, in order.
    ///
    /// # Errors
    /// As [`Initiator::receive`].
    pub fn send_targets(&mut self, which: &str) -> Result<Vec<(String, String)>> {
        let tag = self.tag();
        let mut text = Vec::new();
        let mut request = TextRequest {
            is_final: true,
            initiator_task_tag: tag,
            cmd_sn: self.command_number(false),
            exp_stat_sn: self.exp_stat_sn,
            data: format!("SendTargets={which}\0").into_bytes().into(),
            ..TextRequest::default()
        };
        loop {
            self.send(request.clone())?;
            let response = match self.await_answer(tag)? {
                TargetPdu::TextResponse(response) => response,
                other => return Err(InitiatorError::Unexpected(Box::new(other))),
            };
            text.extend_from_slice(&response.data.to_contiguous());
            if response.is_final {
                return Ok(login::pairs(&text));
            }
            request.target_transfer_tag = response.target_transfer_tag;
            request.cmd_sn = self.command_number(false);
            request.exp_stat_sn = self.exp_stat_sn;
            request.data = Default::default();
        }
    }

    /// Ends the session.
    ///
    /// # Errors
    /// As [`Initiator::receive`].
    pub fn logout(&mut self) -> Result<LogoutResponse> {
        let tag = self.tag();
        let cmd_sn = self.command_number(true);
        self.send(LogoutRequest {
            immediate: true,
            reason: LogoutReason::CLOSE_SESSION,
            initiator_task_tag: tag,
            cid: Default::default(),
            cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
        })?;
        match self.await_answer(tag)? {
            TargetPdu::LogoutResponse(response) => Ok(response),
            other => Err(InitiatorError::Unexpected(Box::new(other))),
        }
    }

    /// Waits until the target closes the connection, whatever it says before.
    ///
    /// # Errors
    /// Of the wire: a time-out, when the target does not close.
    pub fn await_close(&mut self) -> Result<()> {
        loop {
            match self.receive() {
                Err(InitiatorError::Closed) => return Ok(()),
                Err(error @ InitiatorError::Io(_)) => return Err(error),
                _ => {}
            }
        }
    }

    /// The PDU that answers `tag`; what comes for other tasks meanwhile is worked on.
    fn await_answer(&mut self, tag: InitiatorTaskTag) -> Result<TargetPdu> {
        loop {
            let at = self.inbox.iter().position(|pdu| tag_of(pdu) == tag);
            if let Some(pdu) = at.and_then(|at| self.inbox.remove(at)) {
                return Ok(pdu);
            }
            match self.receive()? {
                TargetPdu::Reject(reject) => return Err(InitiatorError::Reject(Box::new(reject))),
                pdu => {
                    if let Some(pdu) = self.progress(pdu)? {
                        self.inbox.push_back(pdu);
                    }
                }
            }
        }
    }

    fn receive_any(&mut self) -> Result<TargetPdu> {
        loop {
            if let Some(frame) = self.framer.poll_frame()? {
                if !frame.data_digest.is_ok() {
                    return Err(InitiatorError::DataDigest);
                }
                return Ok(TargetPdu::decode(frame)?);
            }
            match self.wire.receive()? {
                Some(bytes) => self.framer.handle_received(bytes),
                None => return Err(InitiatorError::Closed),
            }
        }
    }

    fn keep_numbers(&mut self, pdu: &TargetPdu) -> Result<()> {
        let (stat_sn, _, max_cmd_sn) = pdu.numbers();
        if max_cmd_sn.is_after(self.max_cmd_sn) {
            self.max_cmd_sn = max_cmd_sn;
        }
        // The first login response tells where the numbers begin.
        if pdu.uses_stat_sn() && !matches!(pdu, TargetPdu::LoginResponse(_)) {
            if stat_sn != self.exp_stat_sn {
                let words = format!("StatSN {stat_sn} in {:?}, {} was next", pdu.opcode(), self.exp_stat_sn);
                return Err(InitiatorError::Violation(words));
            }
            self.exp_stat_sn = stat_sn.next();
        }
        Ok(())
    }

    fn set_digests(&mut self, digests: Digests) {
        self.framer.set_digests(digests);
        self.encoder.set_digests(digests);
    }

    /// A number that the login settled, or its default.
    fn number(&self, key: &str, default: usize) -> usize {
        self.parameters.get(key).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    fn is_yes(&self, key: &str, default: bool) -> bool {
        self.parameters.get(key).map_or(default, |value| value == "Yes")
    }
}

fn tag_of(pdu: &TargetPdu) -> InitiatorTaskTag {
    match pdu {
        TargetPdu::NopIn(pdu) => pdu.initiator_task_tag,
        TargetPdu::ScsiResponse(pdu) => pdu.initiator_task_tag,
        TargetPdu::TaskManagementResponse(pdu) => pdu.initiator_task_tag,
        TargetPdu::LoginResponse(pdu) => pdu.initiator_task_tag,
        TargetPdu::TextResponse(pdu) => pdu.initiator_task_tag,
        TargetPdu::DataIn(pdu) => pdu.initiator_task_tag,
        TargetPdu::LogoutResponse(pdu) => pdu.initiator_task_tag,
        TargetPdu::R2t(pdu) => pdu.initiator_task_tag,
        TargetPdu::AsyncMessage(_) | TargetPdu::Reject(_) => InitiatorTaskTag::RESERVED,
    }
}

/// The tag that says "no transfer".
pub const NO_TRANSFER: TargetTransferTag = TargetTransferTag::RESERVED;
