//! One connection of a session in the full feature phase.

use std::collections::VecDeque;
use std::time::Instant;

use scsi_core::mutation::{Mutation, is_active};

use super::text::TextExchange;
use super::{ConnectionKey, SessionConfig, TaskHandle};
use crate::frame::{Framer, RecvHint};
use crate::login::ConnectionParameters;
use crate::pdu::{Bhs, Cid, Encoder, LoginResponse, Reject, RejectReason, TargetPdu, TargetTransferTag};
use crate::sn::StatSn;

/// Something that waits to be sent. Numbers are given when it leaves.
#[derive(Debug)]
pub(super) enum Item {
    /// A PDU as it is.
    Pdu(TargetPdu),
    /// An R2T, if its transfer is still wanted then.
    R2t { task: TaskHandle, transfer: TargetTransferTag },
    /// A task with data to send, or an end, or both.
    Task(TaskHandle),
    /// The response to a task management request.
    Management(TaskHandle),
    /// A Logout Response was sent just before.
    LoggedOut { session: bool },
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkState {
    /// The last Login Response waits for the tasks of the connection it replaces.
    Entering,
    /// Full feature phase.
    Open,
    /// A Logout Request for it was taken; what else comes is ignored.
    LoggingOut,
    /// Told to be closed; what is queued may still leave.
    Closing,
}

/// A ping on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ping {
    pub(super) tag: TargetTransferTag,
    pub(super) since: Instant,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) key: ConnectionKey,
    pub(super) cid: Cid,
    pub(super) framer: Framer,
    pub(super) encoder: Encoder,
    /// Its digests hold for what is sent after the final Login Response.
    pub(super) parameters: ConnectionParameters,
    /// The next StatSN.
    pub(super) stat_sn: StatSn,
    /// Every status before this one has been acknowledged.
    pub(super) acknowledged: StatSn,
    /// Sent before anything in `queue`: pings, R2Ts, Rejects.
    pub(super) urgent: VecDeque<Item>,
    pub(super) queue: VecDeque<Item>,
    /// Bytes of ping and text data in the queues.
    pub(super) queued_bytes: usize,
    /// Bytes of Data-In taken from the owner and not sent.
    pub(super) unsent: usize,
    pub(super) state: LinkState,
    pub(super) last_received: Instant,
    /// When something was last taken to be sent.
    pub(super) last_sent: Instant,
    pub(super) ping: Option<Ping>,
    pub(super) text: Option<TextExchange>,
    /// The owner wants no more input for now.
    pub(super) is_paused: bool,
    /// Input was left in the framer because a limit was reached.
    pub(super) is_stalled: bool,
    /// The initiator was asked to log out and has until then.
    pub(super) logout_deadline: Option<Instant>,
}

impl Link {
    /// Queues a PDU behind what is there.
    pub(super) fn push(&mut self, pdu: impl Into<TargetPdu>) {
        let pdu = pdu.into();
        self.queued_bytes += data_len(&pdu);
        self.queue.push_back(Item::Pdu(pdu));
    }

    /// Queues a PDU that need not wait for data.
    pub(super) fn push_urgent(&mut self, pdu: impl Into<TargetPdu>) {
        let pdu = pdu.into();
        self.queued_bytes += data_len(&pdu);
        self.urgent.push_back(Item::Pdu(pdu));
    }

    pub(super) fn reject(&mut self, reason: RejectReason, bhs: &Bhs, ahs: &[u8]) {
        self.push_urgent(Reject::new(reason, bhs, ahs));
    }

    /// Takes the initiator's ExpStatSN. One that acknowledges what was never sent means nothing.
    pub(super) fn acknowledge(&mut self, exp_stat_sn: StatSn) {
        if exp_stat_sn.is_after(self.acknowledged) && !exp_stat_sn.is_after(self.stat_sn) {
            self.acknowledged = exp_stat_sn;
        }
    }

    /// Queues the last Login Response, before anything else: full feature phase begins behind it.
    pub(super) fn respond_login(&mut self, response: LoginResponse) {
        self.state = LinkState::Open;
        self.urgent.push_front(Item::Pdu(response.into()));
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == LinkState::Open
    }

    /// Whether the queues have reached their limits, so that nothing more is received.
    pub(super) fn is_full(&self, config: &SessionConfig) -> bool {
        !is_active(Mutation::TransmitQueueNotBounded)
            && (self.urgent.len() + self.queue.len() >= config.max_transmit_queue
                || self.queued_bytes >= config.max_transmit_bytes)
    }

    /// Reading goes on after a time in which we did not read: the initiator's silence begins now.
    pub(super) fn resume(&mut self, now: Instant) {
        self.last_received = now;
        if let Some(ping) = &mut self.ping {
            ping.since = now;
        }
    }

    pub(super) fn has_output(&self) -> bool {
        !self.urgent.is_empty() || !self.queue.is_empty()
    }

    pub(super) fn recv_hint(&self, config: &SessionConfig) -> RecvHint {
        if self.state != LinkState::Open || self.is_paused || self.is_stalled || self.is_full(config) {
            return RecvHint::default();
        }
        self.framer.recv_hint()
    }
}

/// Bytes that a queued PDU keeps besides itself.
pub(super) fn data_len(pdu: &TargetPdu) -> usize {
    match pdu {
        TargetPdu::NopIn(pdu) => pdu.data.len(),
        TargetPdu::TextResponse(pdu) => pdu.data.len(),
        TargetPdu::Reject(pdu) => pdu.data.len(),
        TargetPdu::AsyncMessage(pdu) => pdu.data.len(),
        _ => 0,
    }
}

/// The connections of a session by slot. There are few.
#[derive(Debug, Default)]
pub(super) struct Links {
    slots: Vec<Option<Link>>,
    generation: u16,
}

impl Links {
    /// Makes room for a link; `make` gets its key.
    pub(super) fn insert(&mut self, make: impl FnOnce(ConnectionKey) -> Link) -> ConnectionKey {
        let slot = match self.slots.iter().position(Option::is_none) {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        self.generation = self.generation.wrapping_add(1);
        let key = ConnectionKey::new(slot as u16, self.generation);
        self.slots[slot] = Some(make(key));
        key
    }

    pub(super) fn get(&self, key: ConnectionKey) -> Option<&Link> {
        self.slots.get(key.slot())?.as_ref().filter(|link| link.key == key)
    }

    pub(super) fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut Link> {
        self.slots.get_mut(key.slot())?.as_mut().filter(|link| link.key == key)
    }

    pub(super) fn remove(&mut self, key: ConnectionKey) -> Option<Link> {
        self.get(key)?;
        self.slots[key.slot()].take()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.slots.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.slots.iter_mut().flatten()
    }

    /// The connection of this CID that is not closing.
    pub(super) fn by_cid(&self, cid: Cid) -> Option<ConnectionKey> {
        self.iter().find(|link| link.cid == cid && link.state != LinkState::Closing).map(|link| link.key)
    }

    /// How many are not closing.
    pub(super) fn open_count(&self) -> usize {
        self.iter().filter(|link| link.state != LinkState::Closing).count()
    }
}
