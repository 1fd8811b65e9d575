//! The ends of connections: closed, lost, logged out; what becomes of their requests; and the deadlines.

use std::time::{Duration, Instant};

use scsi_core::Lun;

use super::data::DataIn;
use super::event::{CloseReason, ConnectionKey, Event, LoginError, Outcome, TaskKey};
use super::link::{Link, State};
use super::session::{Session, SubmitError};
use super::tasks::{Entry, Kind};
use crate::pdu::{DataSegment, InitiatorTaskTag, LogoutResponseCode, Tsih};

impl Session {
    /// The socket of a connection is closed. The key is stale from now on.
    pub fn handle_closed(&mut self, connection: ConnectionKey) {
        let Some(at) = self.links.iter().position(|link| link.key == connection) else { return };
        match self.links[at].state {
            State::Login(_) => {
                self.events.push_back(Event::LoginFailed { connection, error: LoginError::Closed });
                self.links[at].state = State::Closing;
            }
            State::Open => {
                self.links[at].state = State::Closing;
                self.after_loss(connection, false, None);
            }
            State::Closing => {}
        }
        self.links.retain(|link| link.key != connection);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.links.iter().filter_map(|link| self.link_deadline(link)).min()
    }

    /// Pings silent connections and gives up dead ones; early calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        let is_due = |link: &&Link| self.link_deadline(link).is_some_and(|deadline| deadline <= now);
        let due: Vec<ConnectionKey> = self.links.iter().filter(is_due).map(|link| link.key).collect();
        for key in due {
            let ping_timeout = self.config.ping_timeout;
            let Some(link) = self.link_mut(key) else { continue };
            let is_past = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
            if let State::Login(_) = link.state {
                self.fail_login(key, LoginError::Timeout);
            } else if is_past(link.logout_deadline) || is_past(link.pinged.map(|pinged| pinged + ping_timeout)) {
                self.close_link(key, CloseReason::Silent, None);
            } else if link.pinged.is_none() && !is_past(link.drain_deadline) {
                link.pinged = Some(now);
                // At the limit of outstanding requests their answers tell as much as a ping's.
                let ping = Kind::Ping { data: DataSegment::new(), owned: false };
                let _ = self.request(Lun::ZERO, true, ping, Some(key));
            }
        }
        self.drain(now);
    }

    fn link_deadline(&self, link: &Link) -> Option<Instant> {
        let alive = match link.state {
            State::Login(_) => return link.login_deadline,
            State::Closing => return None,
            State::Open if link.pinged.is_some() => link.pinged.map(|pinged| pinged + self.config.ping_timeout),
            State::Open if self.config.ping_interval.is_zero() => None,
            State::Open => Some(link.last_received + self.config.ping_interval),
        };
        [alive, link.drain_deadline, link.logout_deadline].into_iter().flatten().min()
    }

    pub(super) fn fail_login(&mut self, connection: ConnectionKey, error: LoginError) {
        let after = matches!(error, LoginError::Moved { .. }).then_some(Duration::ZERO);
        self.events.push_back(Event::LoginFailed { connection, error });
        self.close_link(connection, CloseReason::LoginFailed, after);
    }

    /// Gives a connection up. `after` is how long to wait before the next, if the target said.
    pub(super) fn close_link(&mut self, connection: ConnectionKey, reason: CloseReason, after: Option<Duration>) {
        let is_logged_out = reason == CloseReason::LoggedOut;
        if self.mark_closed(connection, reason, after) == Some(true) {
            self.after_loss(connection, is_logged_out, after);
        }
    }

    /// Gives every connection up, and the session with them.
    pub(super) fn close_all(&mut self, reason: &CloseReason, after: Option<Duration>) {
        let keys: Vec<ConnectionKey> = self.links.iter().map(|link| link.key).collect();
        keys.into_iter().for_each(|key| {
            self.mark_closed(key, reason.clone(), after);
        });
        self.tsih = Tsih::NEW;
        self.parameters = None;
        // Nothing may be sent before the next login has opened a window.
        self.exp_cmd_sn = self.cmd_sn;
        self.max_cmd_sn = self.cmd_sn.minus(1);
        let tags = self.entries.tags(|entry| entry.connection.is_some());
        self.give_back(tags);
    }

    /// Gives whether the connection was in full feature phase; `None` if it was closing already.
    fn mark_closed(&mut self, connection: ConnectionKey, reason: CloseReason, after: Option<Duration>) -> Option<bool> {
        let seconds = self.parameters.unwrap_or_default().session.default_time2wait;
        let link = self.link_mut(connection).filter(|link| !matches!(link.state, State::Closing))?;
        let was_open = link.is_open();
        link.state = State::Closing;
        link.queue.clear();
        link.urgent.clear();
        let reconnect_after = after.unwrap_or(Duration::from_secs(seconds.into()));
        self.events.push_back(Event::Close { connection, reason, reconnect_after });
        Some(was_open)
    }

    /// A connection in full feature phase is gone: what that means for its requests and for the session.
    fn after_loss(&mut self, connection: ConnectionKey, is_logged_out: bool, after: Option<Duration>) {
        let survivor = self.open_link().or_else(|| self.links.iter().find(|link| link.is_open()).map(|link| link.key));
        let Some(survivor) = survivor else { return self.close_all(&CloseReason::SessionLost, after) };
        let unsent = self.entries.tags(|entry| entry.connection == Some(connection) && entry.cmd_sn.is_none());
        self.give_back(unsent);
        let expected = self.exp_cmd_sn;
        let has_hole = |entry: &Entry| {
            let is_missing = entry.cmd_sn.is_some_and(|number| !number.is_before(expected));
            entry.connection == Some(connection) && !entry.immediate && is_missing
        };
        if is_logged_out {
            // The target has let go of them.
            let tags = self.entries.tags(|entry| entry.connection == Some(connection));
            return self.give_back(tags);
        }
        if !self.entries.tags(has_hole).is_empty() {
            // A command that the target may not have leaves a hole in the numbers, and only error recovery level 1
            // can fill it.
            return self.close_all(&CloseReason::SessionLost, after);
        }
        // The target may still be at work on what came there. Not before it has let go may it be sent anew, and the
        // logout says when that is (RFC 7143 11.14).
        let Some(cid) = self.link(connection).map(|link| link.cid) else { return };
        let logout = Kind::Logout { whole_session: false, connection, cid, owned: false, cleanup: true };
        if self.request(Lun::ZERO, true, logout, Some(survivor)).is_err() {
            self.close_all(&CloseReason::SessionLost, after);
        }
    }

    pub(super) fn logged_out(&mut self, entry: Entry, response: LogoutResponseCode, after: Duration) {
        let Kind::Logout { whole_session, connection, owned, cleanup, .. } = entry.kind else { return };
        if owned {
            self.events.push_back(Event::LoggedOut { request: entry.key, response });
        }
        if cleanup {
            // Whatever the answer, that connection is no more.
            let tags = self.entries.tags(|entry| entry.connection == Some(connection));
            return self.give_back(tags);
        }
        if response != LogoutResponseCode::SUCCESS {
            if let Some(link) = self.link_mut(connection) {
                link.logout_deadline = None;
            }
            return;
        }
        match whole_session {
            true => self.close_all(&CloseReason::LoggedOut, Some(after)),
            false => self.close_link(connection, CloseReason::LoggedOut, Some(after)),
        }
    }

    /// Sends a logout on a connection: of it, or of the session.
    pub(super) fn send_logout(
        &mut self,
        connection: ConnectionKey,
        whole_session: bool,
        owned: bool,
    ) -> Result<TaskKey, SubmitError> {
        let link = self.link(connection).filter(|link| link.is_open()).ok_or(SubmitError::NotLoggedIn)?;
        let kind = Kind::Logout { whole_session, connection, cid: link.cid, owned, cleanup: false };
        self.request(Lun::ZERO, true, kind, Some(connection))
    }

    /// Logs out the connections that the target wants to be rid of, once nothing is under way there.
    pub(super) fn drain(&mut self, now: Instant) {
        let logout_deadline = now + self.config.logout_timeout;
        let keys: Vec<ConnectionKey> = self
            .links
            .iter()
            .filter(|link| link.is_open() && link.drain_deadline.is_some())
            .map(|link| link.key)
            .collect();
        for key in keys {
            let is_idle = self.entries.tags(|entry| entry.connection == Some(key)).is_empty();
            let others = self.links.iter().any(|link| link.key != key && link.is_open());
            let Some(link) = self.link_mut(key) else { continue };
            let is_past = link.drain_deadline.is_some_and(|deadline| deadline <= now);
            if !is_idle && !is_past {
                continue;
            }
            link.drain_deadline = None;
            link.logout_deadline = Some(logout_deadline);
            if self.send_logout(key, !others, false).is_err() {
                self.close_link(key, CloseReason::Dropped, None);
            }
        }
    }

    /// Moves what was not sent yet from a connection that is to end.
    pub(super) fn send_elsewhere(&mut self, connection: ConnectionKey) {
        if let Some(link) = self.link_mut(connection) {
            link.queue.clear();
        }
        let unsent = self
            .entries
            .tags(|entry| entry.connection == Some(connection) && entry.cmd_sn.is_none() && !entry.immediate);
        self.give_back(unsent);
    }

    /// Requests that have no connection any more: sent anew where that is right, else ended as lost.
    fn give_back(&mut self, mut tags: Vec<InitiatorTaskTag>) {
        tags.sort_by_key(|&tag| self.entries.by_tag(tag).map(|entry| entry.key.serial));
        let has_open = self.open_link().is_some();
        let (resubmit, is_ending) = (self.config.resubmit, self.is_ending);
        let mut kept = Vec::new();
        for tag in tags {
            let Some(entry) = self.entries.by_tag(tag) else { continue };
            let was_sent = entry.cmd_sn.is_some();
            match &mut entry.kind {
                // What never left was not carried out.
                Kind::Command(task) if !is_ending && (resubmit || !was_sent && has_open) => {
                    (task.data_in, task.solicited, task.next_data_sn) = (DataIn::default(), 0, 0);
                    (entry.connection, entry.cmd_sn) = (None, None);
                    kept.push(tag);
                }
                _ => {
                    if let Some(entry) = self.entries.remove(tag) {
                        self.lose(entry);
                    }
                }
            }
        }
        // In the order in which they were submitted, ahead of what was never assigned.
        kept.into_iter().rev().for_each(|tag| self.pending.push_front(tag));
        self.send_pending();
    }

    /// Has sent what waits for a connection.
    pub(super) fn send_pending(&mut self) {
        while !self.pending.is_empty() {
            let Some(connection) = self.next_link() else { return };
            if let Some(tag) = self.pending.pop_front() {
                self.assign(tag, connection);
            }
        }
    }

    pub(super) fn lose(&mut self, entry: Entry) {
        let key = entry.key;
        self.events.push_back(match entry.kind {
            Kind::Command(_) => Event::TaskDone { task: key, outcome: Outcome::Lost },
            Kind::Management { .. } => Event::TaskManaged { request: key, response: None },
            Kind::Targets { .. } => Event::Targets { request: key, targets: None },
            Kind::Ping { owned: true, .. } => Event::Pong { request: key, data: None },
            Kind::Ping { owned: false, .. } | Kind::Negotiate | Kind::Logout { .. } => return,
        });
    }
}
