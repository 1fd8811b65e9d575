//! One connection of a session.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::event::ConnectionKey;
use crate::frame::Framer;
use crate::login::{ConnectionParameters, InitiatorLogin};
use crate::pdu::{Cid, Encoder, InitiatorPdu, InitiatorTaskTag, TargetTransferTag};
use crate::sn::{DataSn, StatSn};

/// Something that waits to be sent. Numbers are given when it leaves.
#[derive(Debug)]
pub(super) enum Item {
    /// A PDU that has no CmdSN of its own.
    Pdu(Box<InitiatorPdu>),
    /// The request under this tag.
    Request(InitiatorTaskTag),
    /// A run of Data-Out.
    DataOut(Run),
}

/// A run of Data-Out PDUs: what one R2T asks for, or what is sent unasked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) task: InitiatorTaskTag,
    pub(super) transfer: TargetTransferTag,
    pub(super) next: u32,
    pub(super) end: u32,
    pub(super) data_sn: DataSn,
}

#[derive(Debug)]
pub(super) enum State {
    /// Logging in.
    Login(Box<InitiatorLogin>),
    /// Full feature phase.
    Open,
    /// To be closed; what is queued may still leave.
    Closing,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) key: ConnectionKey,
    pub(super) cid: Cid,
    pub(super) state: State,
    pub(super) framer: Framer,
    pub(super) encoder: Encoder,
    /// The StatSN expected next.
    pub(super) exp_stat_sn: StatSn,
    /// What was agreed for this connection.
    pub(super) parameters: ConnectionParameters,
    /// Sent before `queue`: answers, data that was asked for.
    pub(super) urgent: VecDeque<Item>,
    /// Requests in the order of their CmdSN.
    pub(super) queue: VecDeque<Item>,
    /// Login PDUs, encoded.
    pub(super) raw: Vec<Bytes>,
    pub(super) last_received: Instant,
    pub(super) pinged: Option<Instant>,
    pub(super) login_deadline: Option<Instant>,
    /// The target wants a logout: nothing new is sent here, and what is under way has until then.
    pub(super) drain_deadline: Option<Instant>,
    /// A logout is under way; without an answer by then the connection is closed.
    pub(super) logout_deadline: Option<Instant>,
}

impl Link {
    /// In full feature phase.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// In full feature phase, and to stay there.
    pub(super) fn takes_requests(&self) -> bool {
        self.is_open() && self.drain_deadline.is_none() && self.logout_deadline.is_none()
    }
}
