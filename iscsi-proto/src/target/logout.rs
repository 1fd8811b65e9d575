//! How connections and sessions end: logout, asked for or not, failure, reinstatement (RFC 7143 7.1, 11.9, 11.14).

use std::time::{Duration, Instant};

use scsi_core::Lun;
use smallvec::SmallVec;

use super::link::{Item, LinkState};
use super::recv::Numbered;
use super::tasks::Phase;
use super::{AbortCause, CloseReason, ConnectionKey, EndReason, Event, Session, TaskHandle};
use crate::pdu::{
    AsyncEvent, AsyncMessage, InitiatorTaskTag, LoginResponse, LogoutReason, LogoutRequest, LogoutResponse,
    LogoutResponseCode, RejectReason,
};

/// Something that goes on when the tasks in its way are gone.
#[derive(Debug)]
pub(super) struct Pending {
    /// Whose tasks must be gone; every connection's if `None`.
    scope: Option<ConnectionKey>,
    deadline: Instant,
    then: Then,
}

#[derive(Debug)]
enum Then {
    /// Answer a Logout Request.
    LogOut { link: ConnectionKey, tag: InitiatorTaskTag },
    /// Send the final Login Response of the connection that replaces another.
    LogIn { link: ConnectionKey, response: Box<LoginResponse> },
}

impl Session {
    pub(super) fn execute_logout(&mut self, request: &Numbered, pdu: &LogoutRequest) {
        let key = request.link;
        let tag = pdu.initiator_task_tag;
        match pdu.reason {
            LogoutReason::CLOSE_SESSION => {
                self.stop_listening(None);
                self.log_out(None, key, tag);
            }
            LogoutReason::CLOSE_CONNECTION => match self.links.by_cid(pdu.cid).filter(|&key| self.is_open(key)) {
                Some(target) => {
                    self.stop_listening(Some(target));
                    self.log_out(Some(target), key, tag);
                }
                None => self.answer_logout(key, tag, LogoutResponseCode::CID_NOT_FOUND),
            },
            // Tasks outlive their connection only at error recovery level 2.
            LogoutReason::REMOVE_FOR_RECOVERY => {
                self.answer_logout(key, tag, LogoutResponseCode::RECOVERY_NOT_SUPPORTED);
            }
            _ => self.reject(key, RejectReason::INVALID_PDU_FIELD, &request.bhs, &[]),
        }
    }

    fn is_open(&self, key: ConnectionKey) -> bool {
        self.links.get(key).is_some_and(|link| matches!(link.state, LinkState::Open | LinkState::Entering))
    }

    fn stop_listening(&mut self, scope: Option<ConnectionKey>) {
        // The response must leave within the time that a ping has.
        let deadline = self.now + self.config.abort_wait + self.config.ping_timeout;
        for link in self.links.iter_mut().filter(|link| scope.is_none_or(|key| key == link.key)) {
            if !matches!(link.state, LinkState::Open | LinkState::Entering) {
                continue;
            }
            link.state = LinkState::LoggingOut;
            (link.ping, link.logout_deadline) = (None, Some(deadline));
        }
    }

    fn log_out(&mut self, scope: Option<ConnectionKey>, link: ConnectionKey, tag: InitiatorTaskTag) {
        self.end_tasks(scope, AbortCause::Logout);
        self.wait_then(scope, Then::LogOut { link, tag });
    }

    /// Waits for the tasks of a connection that another replaces, then sends that one's Login Response.
    pub(super) fn log_in_after(&mut self, old: ConnectionKey, link: ConnectionKey, response: LoginResponse) {
        self.wait_then(Some(old), Then::LogIn { link, response: Box::new(response) });
    }

    fn wait_then(&mut self, scope: Option<ConnectionKey>, then: Then) {
        self.pending.push(Pending { scope, deadline: self.now + self.config.abort_wait, then });
        self.settle();
    }

    /// Sends the last Login Response; the connection may be used from then on.
    pub(super) fn respond_login(&mut self, key: ConnectionKey, response: LoginResponse) {
        if let Some(link) = self.links.get_mut(key).filter(|link| link.state == LinkState::Entering) {
            link.respond_login(response);
            self.pump(key);
        }
    }

    fn answer_logout(&mut self, key: ConnectionKey, tag: InitiatorTaskTag, response: LogoutResponseCode) {
        if let Some(link) = self.links.get_mut(key) {
            // After a logout nothing is kept, so there is nothing to wait for.
            link.push(LogoutResponse { response, initiator_task_tag: tag, ..LogoutResponse::default() });
        }
    }

    /// Gives up every task in scope: those the owner knows are to be aborted by it, the others go at once.
    pub(super) fn end_tasks(&mut self, scope: Option<ConnectionKey>, cause: AbortCause) {
        let in_scope = |key| scope.is_none_or(|scope| scope == key);
        self.window.discard_held(|(numbered, _)| in_scope(numbered.link));
        let mut gone: SmallVec<[(TaskHandle, bool); 8]> = SmallVec::new();
        for task in self.tasks.iter_mut().filter(|task| in_scope(task.link)) {
            if task.management.is_some() {
                gone.push((task.handle, true));
                continue;
            }
            match task.phase {
                Phase::Active => {
                    task.data_out.want_nothing();
                    if task.given_up.is_none() {
                        self.events.push_back(Event::AbortTask { task: task.handle, cause });
                    }
                    task.given_up = Some(cause);
                }
                // What has ended is still answered where its connection lives on to its logout, unless it waits for
                // data that will not come.
                Phase::Ended if task.may_respond() && cause == AbortCause::Logout => {}
                Phase::Held | Phase::Ended => gone.push((task.handle, false)),
            }
        }
        for (handle, is_management) in gone {
            match is_management {
                true => self.close_management(handle),
                false => self.close_task(handle),
            }
        }
        self.deliver_held();
    }

    /// Whether something waits for tasks, transfers or acknowledgements.
    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty() || self.open_managements > 0
    }

    /// Goes on with what waited, where the waiting is over.
    pub(super) fn settle(&mut self) {
        self.settle_managements();
        while let Some(index) = self.pending.iter().position(|pending| self.is_settled(pending)) {
            let pending = self.pending.swap_remove(index);
            match pending.then {
                Then::LogOut { link, tag } => self.finish_logout(pending.scope, link, tag),
                Then::LogIn { link, response } => self.respond_login(link, *response),
            }
        }
    }

    fn is_settled(&self, pending: &Pending) -> bool {
        pending.deadline <= self.now
            || !self.tasks.iter().any(|task| pending.scope.is_none_or(|scope| scope == task.link))
    }

    pub(super) fn pending_deadline(&self) -> Option<Instant> {
        self.pending.iter().map(|pending| pending.deadline).min()
    }

    fn finish_logout(&mut self, scope: Option<ConnectionKey>, link: ConnectionKey, tag: InitiatorTaskTag) {
        self.drop_tasks(scope);
        self.answer_logout(link, tag, LogoutResponseCode::SUCCESS);
        match scope {
            Some(target) if target != link => self.close_link(target, CloseReason::LoggedOut),
            _ => match self.links.get_mut(link) {
                Some(link) => link.queue.push_back(Item::LoggedOut { session: scope.is_none() }),
                // Nobody is left to hear the response.
                None => self.logged_out(link, scope.is_none()),
            },
        }
    }

    /// Tasks that did not end in time are forgotten; their owner's late answers name nothing.
    fn drop_tasks(&mut self, scope: Option<ConnectionKey>) {
        let gone: SmallVec<[TaskHandle; 8]> = self
            .tasks
            .iter()
            .filter(|task| scope.is_none_or(|scope| scope == task.link))
            .filter(|task| !(task.is_command() && task.may_respond()))
            .map(|task| task.handle)
            .collect();
        gone.into_iter().for_each(|handle| self.close_task(handle));
    }

    /// A Logout Response has left.
    pub(super) fn logged_out(&mut self, key: ConnectionKey, session: bool) {
        if session {
            self.end(EndReason::LoggedOut);
        } else {
            self.close_link(key, CloseReason::LoggedOut);
        }
    }

    /// Ends a connection in good order. The session ends with its last one.
    pub(super) fn close_link(&mut self, key: ConnectionKey, reason: CloseReason) {
        self.announce_close(key, reason);
        if self.links.open_count() == 0 {
            self.end(EndReason::LoggedOut);
        }
    }

    pub(super) fn announce_close(&mut self, key: ConnectionKey, reason: CloseReason) {
        let Some(link) = self.links.get_mut(key).filter(|link| link.state != LinkState::Closing) else { return };
        link.state = LinkState::Closing;
        if reason != CloseReason::LoggedOut {
            // What explains the end may still leave, and the answer to the cold reset that brought it about; data and
            // responses will find nobody who waits for them.
            link.queue.retain(|item| matches!(item, Item::Pdu(_) | Item::Management(_)));
        }
        (link.ping, link.logout_deadline, link.text) = (None, None, None);
        self.events.push_back(Event::Close { connection: key, cid: link.cid, reason });
    }

    /// A connection failed. At error recovery level 0 its tasks cannot be saved, and a session that lost tasks is
    /// recovered as a whole (RFC 7143 7.1.4.4, session recovery).
    pub(super) fn fail_link(&mut self, key: ConnectionKey, reason: CloseReason) {
        if self.is_ended || self.links.get(key).is_none_or(|link| link.state == LinkState::Closing) {
            return;
        }
        self.announce_close(key, reason.clone());
        self.end(EndReason::ConnectionFailed(reason));
    }

    /// The session is over.
    pub(super) fn end(&mut self, reason: EndReason) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        let open: SmallVec<[ConnectionKey; 4]> = self.links.iter().map(|link| link.key).collect();
        let close = match &reason {
            EndReason::LoggedOut => CloseReason::LoggedOut,
            _ => CloseReason::SessionEnded,
        };
        open.into_iter().for_each(|key| self.announce_close(key, close.clone()));
        self.pending.clear();
        self.waiting_managements.clear();
        self.events.push_back(Event::Ended(reason));
    }

    /// Ends the session now, without a word to the initiator: a new login of the same initiator port takes its place,
    /// or the owner cannot serve it any longer.
    pub fn terminate(&mut self, now: Instant, reason: EndReason) {
        self.now = now;
        self.end(reason);
    }

    /// Tells the initiator on every connection that the session will be dropped, and ends it (RFC 7143 11.9.1, event
    /// 3). The initiator is asked to wait for the negotiated DefaultTime2Wait; nothing is retained.
    pub fn drop_session(&mut self, now: Instant) {
        self.now = now;
        let wait = self.rules.default_time2wait;
        self.push_async(|_| AsyncMessage {
            event: AsyncEvent::SESSION_DROPPED,
            parameter2: wait,
            ..AsyncMessage::default()
        });
        self.end(EndReason::Terminated);
    }

    /// Asks the initiator to log out every connection within `grace` (whole seconds, 1 to 65,535); after it the
    /// session is dropped. Commands go on until then (RFC 7143 11.9.1, event 1).
    pub fn request_logout(&mut self, now: Instant, grace: Duration) {
        self.now = now;
        let seconds = grace.as_secs().clamp(1, u64::from(u16::MAX)) as u16;
        self.push_async(|_| AsyncMessage {
            event: AsyncEvent::LOGOUT_REQUESTED,
            parameter3: seconds,
            ..AsyncMessage::default()
        });
        let deadline = now + Duration::from_secs(seconds.into());
        for link in self.links.iter_mut().filter(|link| link.is_open()) {
            link.logout_deadline = Some(link.logout_deadline.map_or(deadline, |old| old.min(deadline)));
        }
    }

    /// Asks the initiator to negotiate parameters anew within `within` (RFC 7143 11.9.1, event 4).
    pub fn request_negotiation(&mut self, now: Instant, within: Duration) {
        self.now = now;
        let seconds = within.as_secs().clamp(1, u64::from(u16::MAX)) as u16;
        self.push_async(|_| AsyncMessage {
            event: AsyncEvent::NEGOTIATION_REQUESTED,
            parameter3: seconds,
            ..AsyncMessage::default()
        });
    }

    /// Reports a SCSI asynchronous event of a logical unit, on one connection (RFC 7143 11.9.1, event 0).
    pub fn scsi_event(&mut self, lun: Lun, sense: &[u8]) {
        if let Some(link) = self.links.iter_mut().find(|link| link.is_open()) {
            link.push(AsyncMessage::scsi_event(lun, sense));
        }
    }

    fn push_async(&mut self, message: impl Fn(&super::link::Link) -> AsyncMessage) {
        for link in self.links.iter_mut().filter(|link| link.is_open()) {
            let message = message(link);
            link.push(message);
        }
    }
}
