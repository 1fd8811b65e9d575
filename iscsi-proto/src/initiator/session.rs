//! The session: what its owner calls, and the numbers its connections share.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::config::SessionConfig;
use super::event::{CloseReason, Command, ConnectionKey, Event, LoginError, Outcome, TaskKey, TaskManagement};
use super::link::{Item, Link, State};
use super::login::InitiatorLogin;
use super::tasks::{Entries, Entry, Kind, Task};
use crate::frame::{Framer, Limits, RecvHint};
use crate::login::Parameters;
use crate::pdu::{CdbBytes, Cid, Encoder, InitiatorTaskTag, Tsih};
use crate::sn::{CmdSn, StatSn};
use crate::text::{TextAccumulator, TextWriter};
use scsi_core::Lun;

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
    next_key: u32,
    next_cid: u16,
}

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
            next_key: 0,
            next_cid: 0,
        }
    }

    /// Begins the login of a transport connection that was just opened. The first makes the session; further ones join
    /// it once the first has logged in, as many as [`SessionParameters::max_connections`] allows.
    ///
    /// [`SessionParameters::max_connections`]: crate::login::SessionParameters::max_connections
    pub fn connect(&mut self, now: Instant) -> ConnectionKey {
        let key = ConnectionKey(self.next_key);
        self.next_key += 1;
        let cid = Cid(self.next_cid);
        self.next_cid = self.next_cid.wrapping_add(1);
        let login = InitiatorLogin::new(self.config.login.clone(), self.tsih, cid, self.cmd_sn, self.parameters);
        let mut link = Link {
            key,
            cid,
            state: State::Login(Box::new(login)),
            framer: Framer::new(Limits::default()),
            encoder: Encoder::new(),
            exp_stat_sn: StatSn::default(),
            max_send_segment: 8192,
            urgent: VecDeque::new(),
            queue: VecDeque::new(),
            raw: Vec::new(),
            last_received: now,
            pinged: None,
            login_deadline: Some(now + self.config.login_timeout),
        };
        link.send_login();
        self.links.push(link);
        key
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
            data_out: command.data_out,
            data_in_length: command.data_in_length,
            data_in: super::DataIn::default(),
            unsolicited: 0,
        };
        self.request(command.lun, command.immediate, Kind::Command(Box::new(task)), None)
    }

    /// Sends a task management request, ahead of the command order. Its end is an [`Event::TaskManaged`].
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent.
    pub fn manage(&mut self, request: TaskManagement) -> Result<TaskKey, SubmitError> {
        // A task is managed on its own connection (RFC 7143 11.5.1).
        let connection = request.referenced.and_then(|task| self.entries.get(task)).and_then(|entry| entry.connection);
        let kind = Kind::Management { function: request.function, referenced: request.referenced };
        self.request(request.lun, true, kind, connection)
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
        self.request(Lun::ZERO, true, Kind::Ping { data: data.into() }, None)
    }

    /// Ends the session in good order. Its end is an [`Event::LoggedOut`] and an [`Event::Close`] for each connection.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent.
    pub fn logout(&mut self) -> Result<TaskKey, SubmitError> {
        let connection = self.open_link().ok_or(SubmitError::NotLoggedIn)?;
        self.request(Lun::ZERO, true, Kind::Logout { whole_session: true, connection }, Some(connection))
    }

    /// Ends one connection in good order.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was sent.
    pub fn logout_connection(&mut self, connection: ConnectionKey) -> Result<TaskKey, SubmitError> {
        self.link(connection).filter(|link| link.is_open()).ok_or(SubmitError::NotLoggedIn)?;
        self.request(Lun::ZERO, true, Kind::Logout { whole_session: false, connection }, Some(connection))
    }

    /// Gives a connection up at once; what was outstanding on it is lost.
    pub fn close(&mut self, connection: ConnectionKey) {
        self.close_link(connection, CloseReason::Owner);
    }

    /// The socket of a connection is closed. The key is stale from now on.
    pub fn handle_closed(&mut self, connection: ConnectionKey) {
        let Some(at) = self.links.iter().position(|link| link.key == connection) else { return };
        let link = self.links.remove(at);
        if let State::Login(_) = link.state {
            self.events.push_back(Event::LoginFailed { connection, error: LoginError::Closed });
        }
        self.lose_requests(Some(connection));
        if !self.links.iter().any(Link::is_open) {
            self.lose_requests(None);
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How much to receive next on a connection.
    pub fn recv_hint(&self, connection: ConnectionKey) -> RecvHint {
        self.link(connection).map_or_else(RecvHint::default, |link| link.framer.recv_hint())
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.links.iter().filter_map(|link| self.link_deadline(link)).min()
    }

    /// Pings silent connections and gives up dead ones; early calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<ConnectionKey> = self
            .links
            .iter()
            .filter(|link| self.link_deadline(link).is_some_and(|deadline| deadline <= now))
            .map(|link| link.key)
            .collect();
        for key in due {
            let Some(link) = self.link_mut(key) else { continue };
            if let State::Login(_) = link.state {
                self.fail_login(key, LoginError::Timeout);
            } else if link.pinged.is_some() {
                self.close_link(key, CloseReason::Silent);
            } else {
                link.pinged = Some(now);
                // At the limit of outstanding requests their answers tell as much as a ping's.
                let _ = self.request(Lun::ZERO, true, Kind::Ping { data: Bytes::new().into() }, Some(key));
            }
        }
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

    fn link_deadline(&self, link: &Link) -> Option<Instant> {
        match (&link.state, link.pinged) {
            (State::Login(_), _) => link.login_deadline,
            (State::Closing, _) => None,
            (State::Open, Some(pinged)) => Some(pinged + self.config.ping_timeout),
            (State::Open, None) if self.config.ping_interval.is_zero() => None,
            (State::Open, None) => Some(link.last_received + self.config.ping_interval),
        }
    }

    pub(super) fn link(&self, key: ConnectionKey) -> Option<&Link> {
        self.links.iter().find(|link| link.key == key)
    }

    pub(super) fn link_mut(&mut self, key: ConnectionKey) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.key == key)
    }

    /// The connection with the shortest queue.
    fn open_link(&self) -> Option<ConnectionKey> {
        self.links.iter().filter(|link| link.is_open()).min_by_key(|link| link.queue.len()).map(|link| link.key)
    }

    fn request(
        &mut self,
        lun: Lun,
        immediate: bool,
        kind: Kind,
        connection: Option<ConnectionKey>,
    ) -> Result<TaskKey, SubmitError> {
        let limit = self.config.max_outstanding.min(Entries::MAX);
        let connection = connection.or_else(|| self.open_link()).ok_or(SubmitError::NotLoggedIn)?;
        if self.entries.len() >= limit {
            return Err(SubmitError::TooMany { limit });
        }
        let key = self.entries.insert(lun, immediate, kind).ok_or(SubmitError::TooMany { limit })?;
        if let Some(entry) = self.entries.get(key) {
            entry.connection = Some(connection);
        }
        if let Some(link) = self.link_mut(connection) {
            let item = Item::Request(key.tag);
            if immediate { link.urgent.push_back(item) } else { link.queue.push_back(item) }
        }
        Ok(key)
    }

    pub(super) fn fail_login(&mut self, connection: ConnectionKey, error: LoginError) {
        self.events.push_back(Event::LoginFailed { connection, error });
        self.close_link(connection, CloseReason::LoginFailed);
    }

    pub(super) fn close_link(&mut self, connection: ConnectionKey, reason: CloseReason) {
        let Some(link) = self.link_mut(connection) else { return };
        if matches!(link.state, State::Closing) {
            return;
        }
        link.state = State::Closing;
        link.queue.clear();
        link.urgent.clear();
        self.events.push_back(Event::Close { connection, reason });
        self.lose_requests(Some(connection));
    }

    /// Ends every request of a connection (of all, for `None`) as lost.
    fn lose_requests(&mut self, connection: Option<ConnectionKey>) {
        for tag in self.entries.tags(|entry| connection.is_none() || entry.connection == connection) {
            if let Some(entry) = self.entries.remove(tag) {
                self.lose(entry);
            }
        }
    }

    pub(super) fn lose(&mut self, entry: Entry) {
        let key = entry.key;
        self.events.push_back(match entry.kind {
            Kind::Command(_) => Event::TaskDone { task: key, outcome: Outcome::Lost },
            Kind::Management { .. } => Event::TaskManaged { request: key, response: None },
            Kind::Targets { .. } => Event::Targets { request: key, targets: None },
            Kind::Ping { .. } => Event::Pong { request: key, data: None },
            Kind::Logout { .. } => return,
        });
    }

    pub(super) fn remove(&mut self, tag: InitiatorTaskTag) -> Option<Entry> {
        self.entries.remove(tag)
    }
}
