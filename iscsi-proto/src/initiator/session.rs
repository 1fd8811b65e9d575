//! The session: what its owner calls, and the numbers its connections share.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::config::SessionConfig;
use super::event::{CloseReason, Command, ConnectionKey, Event, LoginError, TaskKey, TaskManagement};
use super::link::{Item, Link, State};
use super::tasks::{Entries, Kind, Task};
use crate::auth::chap::ChallengeMemory;
use crate::frame::{Framer, Limits, RecvHint};
use crate::login::{ConnectionParameters, InitiatorLogin, LoginNumbers, Parameters};
use crate::pdu::{CdbBytes, Cid, Encoder, InitiatorTaskTag, Tsih};
use crate::sn::{CmdSn, StatSn};
use crate::text::{TextAccumulator, TextWriter};
use scsi_core::{Lun, TaskManagementFunction};

/// A session with one target, or a discovery session.
#[derive(Debug)]
pub struct Session {
    pub(super) config: SessionConfig,
    pub(super) tsih: Tsih,
    /// What the leading login agreed on.
    pub(super) parameters: Option<Parameters>,
    pub(super) links: Vec<Link>,
    pub(super) entries: Entries,
    pub(super) cmd_sn: CmdSn,
    pub(super) exp_cmd_sn: CmdSn,
    pub(super) max_cmd_sn: CmdSn,
    pub(super) events: VecDeque<Event>,
    /// Requests for which there is no connection at the moment, oldest first.
    pub(super) pending: VecDeque<InitiatorTaskTag>,
    /// The owner has logged out: what is left is not sent again.
    pub(super) is_ending: bool,
    /// The challenges we sent to targets, so that none is used twice, and none answered when it comes back.
    pub(super) challenges: ChallengeMemory,
    /// Where the search for the next request's connection begins.
    turn: usize,
    next_key: u32,
    next_cid: u16,
}

/// Challenges that are remembered.
const REMEMBERED_CHALLENGES: usize = 64;

/// Why a request was not taken. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// No connection is in full feature phase.
    #[error("the session has no connection that is logged in")]
    NotLoggedIn,
    /// [`SessionConfig::max_outstanding`] requests are outstanding.
    #[error("{limit} requests are outstanding, which is the limit")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The CDB is empty or longer than 260 bytes.
    #[error("a CDB of {got} bytes, 1 to 260 are allowed")]
    CdbLength {
        /// Bytes given.
        got: usize,
    },
    /// More data than 32 bits count.
    #[error("{got} bytes to write, at most 4294967295 go in one command")]
    DataLength {
        /// Bytes given.
        got: usize,
    },
}

impl Session {
    /// A session without connections; `first_cmd_sn` may be any number.
    pub fn new(config: SessionConfig, first_cmd_sn: u32) -> Self {
        let cmd_sn = CmdSn(first_cmd_sn);
        Self {
            config,
            tsih: Tsih::NEW,
            parameters: None,
            links: Vec::new(),
            entries: Entries::default(),
            cmd_sn,
            exp_cmd_sn: cmd_sn,
            max_cmd_sn: cmd_sn,
            events: VecDeque::new(),
            pending: VecDeque::new(),
            is_ending: false,
            challenges: ChallengeMemory::new(REMEMBERED_CHALLENGES),
            turn: 0,
            next_key: 0,
            next_cid: 0,
        }
    }

    /// Begins the login of a transport connection that was just opened. The first makes the session; further ones join
    /// it once the first has logged in, as many as [`SessionParameters::max_connections`] allows.
    ///
    /// [`SessionParameters::max_connections`]: crate::login::SessionParameters::max_connections
    pub fn connect(&mut self, now: Instant) -> ConnectionKey {
        self.is_ending = false;
        let key = ConnectionKey(self.next_key);
        self.next_key += 1;
        let cid = Cid(self.next_cid);
        self.next_cid = self.next_cid.wrapping_add(1);
        let numbers =
            LoginNumbers { tsih: self.tsih, cid, initiator_task_tag: InitiatorTaskTag(0), cmd_sn: self.cmd_sn };
        let session = self.parameters.filter(|_| !self.tsih.is_new()).map(|parameters| parameters.session);
        let login = InitiatorLogin::new(self.config.login.clone(), numbers, session);
        let mut link = Link {
            key,
            cid,
            state: State::Login(Box::new(login)),
            framer: Framer::new(Limits::default()),
            encoder: Encoder::new(),
            exp_stat_sn: StatSn::default(),
            parameters: ConnectionParameters::default(),
            urgent: VecDeque::new(),
            queue: VecDeque::new(),
            raw: Vec::new(),
            last_received: now,
            pinged: None,
            login_deadline: Some(now + self.config.login_timeout),
            drain_deadline: None,
            logout_deadline: None,
        };
        link.send_login();
        self.links.push(link);
        let proof = self.config.login.target_proof.as_ref();
        if proof.is_some_and(|proof| self.challenges.contains(&proof.challenge)) {
            self.fail_login(key, LoginError::ChallengeUsed);
        }
        key
    }

    /// Sets what the target has to answer in the next login (CHAP_I, CHAP_C), if it has to prove itself: random, and
    /// new for each [`connect`](Self::connect).
    pub fn set_challenge(&mut self, identifier: u8, challenge: Vec<u8>) {
        if let Some(proof) = &mut self.config.login.target_proof {
            (proof.identifier, proof.challenge) = (identifier, challenge);
        }
    }

    /// Sends a command, now or when the command window opens. Its end is an [`Event::TaskDone`].
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent.
    pub fn submit(&mut self, command: Command) -> Result<TaskKey, SubmitError> {
        let cdb = match command.cdb.len() {
            1..=260 => CdbBytes::new(&command.cdb),
            _ => None,
        };
        let cdb = cdb.ok_or(SubmitError::CdbLength { got: command.cdb.len() })?;
        if u32::try_from(command.data_out.len()).is_err() {
            return Err(SubmitError::DataLength { got: command.data_out.len() });
        }
        let task = Task {
            cdb,
            attribute: command.attribute,
            priority: command.priority,
            data_out: command.data_out,
            data_in_length: command.data_in_length,
            data_in: super::DataIn::default(),
            solicited: 0,
            next_data_sn: 0,
        };
        self.request(command.lun, command.immediate, Kind::Command(Box::new(task)), None)
    }

    /// Sends a task management request, ahead of the command order. Its end is an [`Event::TaskManaged`]; that of each
    /// command it ended comes before. A command that was not sent yet is ended by ABORT TASK at once.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent.
    pub fn manage(&mut self, request: TaskManagement) -> Result<TaskKey, SubmitError> {
        let referenced = request.referenced.and_then(|task| self.entries.get(task));
        let is_unsent = referenced.as_ref().is_some_and(|entry| entry.cmd_sn.is_none());
        // A task is managed on its own connection (RFC 7143 11.5.1).
        let connection = referenced.and_then(|entry| entry.connection);
        let kind = Kind::Management { function: request.function, referenced: request.referenced };
        let key = self.request(request.lun, true, kind, connection)?;
        if let (TaskManagementFunction::AbortTask, true, Some(task)) = (request.function, is_unsent, request.referenced)
            && let Some(entry) = self.entries.remove(task.tag)
        {
            self.lose(entry);
        }
        Ok(key)
    }

    /// Asks which targets there are (`SendTargets=All` in a discovery session) or where this one is. Its end is an
    /// [`Event::Targets`].
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent.
    pub fn send_targets(&mut self, which: &str) -> Result<TaskKey, SubmitError> {
        let mut text = TextWriter::new();
        text.push("SendTargets", which);
        let received = TextAccumulator::new(self.config.max_text_bytes);
        self.request(Lun::ZERO, false, Kind::Targets { text: text.take().into(), received }, None)
    }

    /// Sends a ping whose data comes back in an [`Event::Pong`].
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent.
    pub fn ping(&mut self, data: Bytes) -> Result<TaskKey, SubmitError> {
        self.request(Lun::ZERO, true, Kind::Ping { data: data.into(), owned: true }, None)
    }

    /// Ends the session in good order. Its end is an [`Event::LoggedOut`] and an [`Event::Close`] for each connection.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent.
    pub fn logout(&mut self) -> Result<TaskKey, SubmitError> {
        let open = self.links.iter().find(|link| link.is_open());
        let connection = open.ok_or(SubmitError::NotLoggedIn)?.key;
        self.is_ending = true;
        self.send_logout(connection, true, true)
    }

    /// Ends one connection in good order.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent.
    pub fn logout_connection(&mut self, connection: ConnectionKey) -> Result<TaskKey, SubmitError> {
        self.send_logout(connection, false, true)
    }

    /// Gives a connection up at once; what was outstanding on it is lost.
    pub fn close(&mut self, connection: ConnectionKey) {
        self.close_link(connection, CloseReason::Owner, None);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How much to receive next on a connection.
    pub fn recv_hint(&self, connection: ConnectionKey) -> RecvHint {
        self.link(connection).map_or_else(RecvHint::default, |link| link.framer.recv_hint())
    }

    /// What the leading login agreed on, once it has.
    pub fn parameters(&self) -> Option<&Parameters> {
        self.parameters.as_ref()
    }

    /// The target's part of the session's name; 0 before the login.
    pub fn tsih(&self) -> Tsih {
        self.tsih
    }

    /// Requests that are outstanding or wait.
    pub fn outstanding(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn link(&self, key: ConnectionKey) -> Option<&Link> {
        self.links.iter().find(|link| link.key == key)
    }

    pub(super) fn link_mut(&mut self, key: ConnectionKey) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.key == key)
    }

    /// A connection that takes requests.
    pub(super) fn open_link(&self) -> Option<ConnectionKey> {
        self.links.iter().find(|link| link.takes_requests()).map(|link| link.key)
    }

    /// The connection for the next request: the one with the shortest queue, among equals one after the other.
    pub(super) fn next_link(&mut self) -> Option<ConnectionKey> {
        let links = self.links.len();
        let turn = self.turn;
        let candidates = (0..links).map(|step| (turn + step) % links).filter(|&at| self.links[at].takes_requests());
        let at = candidates.min_by_key(|&at| self.links[at].queue.len())?;
        self.turn = at + 1;
        Some(self.links[at].key)
    }

    pub(super) fn request(
        &mut self,
        lun: Lun,
        immediate: bool,
        kind: Kind,
        connection: Option<ConnectionKey>,
    ) -> Result<TaskKey, SubmitError> {
        let limit = self.config.max_outstanding.min(Entries::MAX);
        let connection = connection.or_else(|| self.next_link());
        let may_wait = self.config.resubmit && !self.is_ending && matches!(kind, Kind::Command(_));
        if connection.is_none() && !may_wait {
            return Err(SubmitError::NotLoggedIn);
        }
        if self.entries.len() >= limit {
            return Err(SubmitError::TooMany { limit });
        }
        let key = self.entries.insert(lun, immediate, kind).ok_or(SubmitError::TooMany { limit })?;
        match connection {
            Some(connection) => self.assign(key.tag, connection),
            None => self.pending.push_back(key.tag),
        }
        Ok(key)
    }

    /// Has a request sent on a connection.
    pub(super) fn assign(&mut self, tag: InitiatorTaskTag, connection: ConnectionKey) {
        let Some(entry) = self.entries.by_tag(tag) else { return };
        entry.connection = Some(connection);
        let immediate = entry.immediate;
        if let Some(link) = self.link_mut(connection) {
            let item = Item::Request(tag);
            if immediate { link.urgent.push_back(item) } else { link.queue.push_back(item) }
        }
    }
}
