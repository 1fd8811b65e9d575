//! One connection of a session.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::event::ConnectionKey;
use super::login::InitiatorLogin;
use crate::frame::Framer;
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
    /// The target's MaxRecvDataSegmentLength.
    pub(super) max_send_segment: u32,
    /// Sent before `queue`: answers, data that was asked for.
    pub(super) urgent: VecDeque<Item>,
    /// Requests in the order of their CmdSN.
    pub(super) queue: VecDeque<Item>,
    /// Login PDUs, encoded.
    pub(super) raw: Vec<Bytes>,
    pub(super) last_received: Instant,
    pub(super) pinged: Option<Instant>,
    pub(super) login_deadline: Option<Instant>,
}

impl Link {
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }
}
