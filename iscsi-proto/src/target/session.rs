//! The session: its state, its connections, and the run loop's side that takes input.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use scsi_core::{Lun, SenseData};

use super::link::{Link, LinkState, Links};
use super::logout::Pending;
use super::manage::StaleTransfer;
use super::recv::{Numbered, Request};
use super::tasks::Tasks;
use super::transmit::Fence;
use super::window::Window;
use super::{CloseReason, ConnectionKey, Event, SessionConfig, TaskHandle};
use crate::frame::RecvHint;
use crate::login::{LoginIdentity, Preferences, SessionParameters, SessionType};
use crate::pdu::{Cid, TargetTransferTag, TaskManagementRequest, Tsih};

/// Gives Target Transfer Tags, and knows which were given.
#[derive(Debug, Default)]
pub(super) struct TransferTags {
    next: u32,
    given: u32,
}

impl TransferTags {
    pub(super) fn take(&mut self) -> TargetTransferTag {
        let tag = TargetTransferTag(self.next);
        self.next = self.next.wrapping_add(1);
        if TargetTransferTag(self.next).is_reserved() {
            self.next = 0;
        }
        self.given = self.given.saturating_add(1).min(1 << 31);
        tag
    }

    /// Whether a tag was given, as far as anybody remembers.
    pub(super) fn was_given(&self, tag: TargetTransferTag) -> bool {
        // Tags run through all numbers but the reserved one.
        const COUNT: u64 = u32::MAX as u64;
        let age = (u64::from(self.next) + COUNT - 1).saturating_sub(u64::from(tag.0)) % COUNT;
        !tag.is_reserved() && age < u64::from(self.given)
    }
}

/// A session of an initiator with this target, from its first login to its end, with all its connections.
///
/// Plain state: no sockets, no clock, no locks. See the [module](super) for the run loop.
///
/// # Order
///
/// Numbered requests are handed out in the order of their CmdSN, whatever connection they came on; immediate ones at
/// once (RFC 7143 4.2.2.1). Data of a command never comes before the command. The response of a task leaves after its
/// data; responses leave in the order in which they were known, except that a long read takes turns with others.
#[derive(Debug)]
pub struct Session {
    pub(super) config: SessionConfig,
    pub(super) tsih: Tsih,
    pub(super) identity: LoginIdentity,
    pub(super) preferences: Preferences,
    pub(super) rules: SessionParameters,
    pub(super) links: Links,
    pub(super) window: Window<(Numbered, Request)>,
    pub(super) tasks: Tasks,
    pub(super) events: VecDeque<Event>,
    pub(super) transfer_tags: TransferTags,
    /// Immediate commands and requests that are open.
    pub(super) immediate_open: u16,
    /// Task management requests that are open.
    pub(super) open_managements: usize,
    /// Immediate requests that wait for what was sent before them.
    pub(super) waiting_managements: Vec<(TaskHandle, TaskManagementRequest)>,
    pub(super) stale: Vec<StaleTransfer>,
    pub(super) pending: Vec<Pending>,
    pub(super) fence: Option<Fence>,
    pub(super) text_number: u32,
    /// Since when a command number is missing.
    pub(super) hole_since: Option<Instant>,
    /// Unit attentions that no response carried, with the LUN of their tasks.
    pub(super) undelivered: VecDeque<(Lun, SenseData)>,
    pub(super) is_ended: bool,
    /// The time of the last call that told it.
    pub(super) now: Instant,
}

impl Session {
    /// A session without connections yet.
    pub(super) fn empty(
        config: SessionConfig,
        tsih: Tsih,
        identity: LoginIdentity,
        preferences: Preferences,
        rules: SessionParameters,
        now: Instant,
    ) -> Self {
        let depth = config.depth();
        // Held and open tasks share the window's places; immediate ones come on top.
        let capacity = depth as usize + usize::from(config.max_immediate);
        Self {
            window: Window::new(identity.cmd_sn, depth),
            tasks: Tasks::new(capacity),
            config,
            tsih,
            identity,
            preferences,
            rules,
            links: Links::default(),
            events: VecDeque::new(),
            transfer_tags: TransferTags::default(),
            immediate_open: 0,
            open_managements: 0,
            waiting_managements: Vec::new(),
            stale: Vec::new(),
            pending: Vec::new(),
            fence: None,
            text_number: 0,
            hole_since: None,
            undelivered: VecDeque::new(),
            is_ended: false,
            now,
        }
    }

    /// Takes bytes that `connection` received, in any split. Never fails: what is wrong with them becomes a Reject, a
    /// CHECK CONDITION or the end of the session.
    pub fn handle_received(&mut self, connection: ConnectionKey, now: Instant, bytes: Bytes) {
        self.now = now;
        let Some(link) = self.links.get_mut(connection) else { return };
        link.last_received = now;
        if matches!(link.state, LinkState::Open | LinkState::Entering) {
            link.framer.handle_received(bytes);
            self.pump(connection);
        }
    }

    /// The socket of `connection` was closed: by the peer, by the network, or by the owner after [`Event::Close`].
    pub fn handle_closed(&mut self, connection: ConnectionKey, now: Instant) {
        self.now = now;
        let Some(link) = self.links.get(connection) else { return };
        match link.state {
            LinkState::Open | LinkState::Entering => self.fail_link(connection, CloseReason::Lost),
            // The initiator did not wait for the Logout Response.
            LinkState::LoggingOut => {
                self.announce_close(connection, CloseReason::LoggedOut);
                if self.links.open_count() == 0 {
                    self.end(super::EndReason::LoggedOut);
                }
            }
            LinkState::Closing => {}
        }
        self.links.remove(connection);
    }

    /// How much to receive on `connection`; nothing while it, or the session, has enough to do.
    pub fn recv_hint(&self, connection: ConnectionKey) -> RecvHint {
        match self.links.get(connection) {
            Some(link) if self.events.len() < self.config.max_events => link.recv_hint(&self.config),
            _ => RecvHint::default(),
        }
    }

    /// Asks for no more bytes on `connection` while `is_paused`: the owner's own back-pressure. Pings are not sent in
    /// the meantime.
    pub fn pause_receive(&mut self, connection: ConnectionKey, is_paused: bool) {
        if let Some(link) = self.links.get_mut(connection) {
            link.is_paused = is_paused;
            link.resume(self.now);
        }
    }

    /// The next event. `None`: all is told.
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.events.is_empty() {
            self.pump_stalled();
        }
        self.events.pop_front()
    }

    /// A unit attention that a task was to end with and that its initiator will not hear of, for the task was aborted
    /// or ended otherwise before its response had left. To be established again, before the next event is dealt with
    /// (SAM-5, Unit attention conditions: it is cleared by being reported). `None`: there is none.
    pub fn poll_undelivered(&mut self) -> Option<(Lun, SenseData)> {
        self.undelivered.pop_front()
    }

    /// The target's part of the session's name.
    pub fn tsih(&self) -> Tsih {
        self.tsih
    }

    /// Who logged in, and to what.
    pub fn identity(&self) -> &LoginIdentity {
        &self.identity
    }

    /// What the leading login negotiated.
    pub fn parameters(&self) -> &SessionParameters {
        &self.rules
    }

    /// Whether this is a discovery session: text and pings, no commands.
    pub fn is_discovery(&self) -> bool {
        self.identity.session_type == SessionType::Discovery
    }

    /// Whether [`Event::Ended`] has been, or is to be, told.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// The connections that are not closing.
    pub fn connections(&self) -> impl Iterator<Item = (ConnectionKey, Cid)> {
        self.links.iter().filter(|link| link.state != LinkState::Closing).map(|link| (link.key, link.cid))
    }

    /// Number of open commands and task management requests.
    pub fn open_tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Bytes of Data-In that `connection` took and has not sent: what the owner limits before it reads more.
    pub fn unsent_bytes(&self, connection: ConnectionKey) -> usize {
        self.links.get(connection).map_or(0, |link| link.unsent)
    }

    /// PDUs that wait to be sent on `connection`, the data of reads apart. About
    /// [`SessionConfig::max_transmit_queue`] at the most: what is open then still adds its answers and R2Ts.
    pub fn queued_pdus(&self, connection: ConnectionKey) -> usize {
        self.links.get(connection).map_or(0, |link| link.urgent.len() + link.queue.len())
    }

    /// Bytes of answers to pings, texts and Rejects that wait to be sent on `connection`: at most
    /// [`SessionConfig::max_transmit_bytes`] and one PDU.
    pub fn queued_bytes(&self, connection: ConnectionKey) -> usize {
        self.links.get(connection).map_or(0, |link| link.queued_bytes)
    }

    /// The connection a task belongs to, while it is open.
    pub fn task_connection(&self, task: TaskHandle) -> Option<ConnectionKey> {
        self.tasks.get(task).map(|task| task.link)
    }

    pub(super) fn add_link(&mut self, make: impl FnOnce(ConnectionKey) -> Link) -> ConnectionKey {
        self.links.insert(make)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfer_tags_skip_the_reserved_one_and_remember() {
        let mut tags = TransferTags { next: u32::MAX - 1, given: 0 };
        assert!(!tags.was_given(TargetTransferTag(u32::MAX - 1)));
        assert_eq!(tags.take(), TargetTransferTag(u32::MAX - 1));
        assert!(tags.was_given(TargetTransferTag(u32::MAX - 1)));
        assert_eq!(tags.take(), TargetTransferTag(0));
        assert!(tags.was_given(TargetTransferTag(0)) && !tags.was_given(TargetTransferTag(1)));
        assert!(!tags.was_given(TargetTransferTag::RESERVED));
    }
}
