//! FC-2 and the framing of FCP: frames on one side, exchanges with whole payloads on the other.

mod exchange;
mod receive;
mod recovery;
mod sequence;
mod transmit;

use bytes::Bytes;
use smallvec::smallvec;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};
use stmf::provider::Segments;
use stmf::provider::hba::{ExchangeId, HbaEvent, HbaRequest, LinkService, PortId, RemotePort};

use crate::wire::{FrameControl, RoutingControl, TransferReady, Type};
use exchange::{Exchange, Key, Kind, Receiving};
use sequence::Partial;
use transmit::Outgoing;

/// Limits and timers of an [`Engine`].
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Exchanges that may be open at once. Beyond it a command is answered with TASK SET FULL, a link service with
    /// LS_RJT, logical busy.
    pub max_exchanges: usize,
    /// Sequences of several frames that may be open at once, of one remote port as many as it leaves free; the first
    /// frame of another is dropped.
    pub max_open_sequences: usize,
    /// Longest sequence other than data, in bytes; longer ones are dropped.
    pub max_sequence_length: usize,
    /// Exchanges that are over and kept for REC and SRR, or wait for FCP_CONF; the oldest go first.
    pub max_retained: usize,
    /// Longest data field of a frame that is sent, in bytes.
    pub max_frame_payload: u16,
    /// E_D_TOV: how long a sequence may take between frames.
    pub e_d_tov: Duration,
    /// R_A_TOV: how long an answer to a link service, an ABTS or a request for confirmation may take; link services
    /// have twice that.
    pub r_a_tov: Duration,
    /// How long data of a write may take after FCP_XFER_RDY; then the exchange is aborted.
    pub data_timeout: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_exchanges: 2048,
            max_open_sequences: 256,
            max_sequence_length: 64 << 10,
            max_retained: 256,
            max_frame_payload: 2048,
            e_d_tov: Duration::from_secs(2),
            r_a_tov: Duration::from_secs(10),
            data_timeout: Duration::from_secs(75),
        }
    }
}

/// What an initiator hears of its commands.
#[derive(Debug)]
#[non_exhaustive]
pub enum InitiatorEvent {
    /// The target wants data: answer with [`HbaRequest::SendData`].
    TransferReady(ExchangeId, TransferReady),
    /// Data came, in any order.
    Data {
        /// The exchange.
        exchange: ExchangeId,
        /// Where it begins in the command's data.
        offset: u32,
        /// The data.
        data: Segments,
    },
    /// The response; the exchange is over.
    Response(ExchangeId, Segments),
    /// The exchange is over without a response: aborted, or lost with the link.
    Gone(ExchangeId),
}

/// Counters of what was dropped or refused. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStatistics {
    /// Frames that belong to nothing.
    pub stray_frames: u64,
    /// Frames that no port may send.
    pub malformed_frames: u64,
    /// Commands and link services that met a full table.
    pub refused_exchanges: u64,
    /// Sequences that did not end in time, or were too long.
    pub dropped_sequences: u64,
    /// Exchanges that were aborted since their data did not come.
    pub data_timeouts: u64,
}

/// Exchanges over frames, sans-IO, class 3. It takes what a driver of whole commands takes ([`HbaRequest`]) and tells
/// what such a driver tells ([`HbaEvent`]), so that it is the firmware of an adapter that has none.
///
/// ```text
///   handle_request / handle_frame / handle_timeout / handle_link_down
///       then, until none gives anything:
///   poll_event / poll_initiator_event
///   poll_frame       while the link takes frames
///   poll_timeout     the next deadline
/// ```
///
/// Data of a write is held until its burst is whole, so that frames may come in any order; data of a read is cut into
/// frames when they are polled, as slices of what was given.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    address: PortId,
    remotes: HashMap<PortId, RemotePort>,
    exchanges: HashMap<ExchangeId, Exchange>,
    keys: HashMap<Key, ExchangeId>,
    retained: VecDeque<ExchangeId>,
    /// Commands that were answered with sense data and are over: an abort of one says that the answer was lost.
    answered: VecDeque<(Key, ExchangeId)>,
    partials: Vec<Partial>,
    outgoing: VecDeque<Outgoing>,
    queued_bytes: usize,
    events: VecDeque<HbaEvent>,
    initiator_events: VecDeque<InitiatorEvent>,
    next_exchange: u64,
    next_local: u64,
    next_identifier: u16,
    next_sequence: u8,
    statistics: EngineStatistics,
}

impl Engine {
    /// An engine without an address.
    pub fn new(config: EngineConfig) -> Self {
        Self {
            config,
            address: PortId::NONE,
            remotes: HashMap::new(),
            exchanges: HashMap::new(),
            answered: VecDeque::new(),
            keys: HashMap::new(),
            retained: VecDeque::new(),
            partials: Vec::new(),
            outgoing: VecDeque::new(),
            queued_bytes: 0,
            events: VecDeque::new(),
            initiator_events: VecDeque::new(),
            next_exchange: 1,
            next_local: 1,
            next_identifier: 0,
            next_sequence: 0,
            statistics: EngineStatistics::default(),
        }
    }

    /// Takes a request. One for an exchange that is over is dropped.
    pub fn handle_request(&mut self, now: Instant, request: HbaRequest) {
        match request {
            HbaRequest::Address(address) => self.address = address,
            HbaRequest::Register(remote) => {
                self.remotes.insert(remote.port_id, remote);
            }
            HbaRequest::Deregister(port_id) => {
                self.remotes.remove(&port_id);
                self.answered.retain(|(key, _)| key.remote != port_id);
                self.drop_exchanges(|exchange| exchange.remote == port_id);
            }
            HbaRequest::Request { exchange, service, from, to, payload } => {
                let (r_ctl, kind) = match service {
                    LinkService::Els => (RoutingControl::ELS_REQUEST, Type::ELS),
                    LinkService::Ct => (RoutingControl::CT_REQUEST, Type::CT),
                };
                self.originate(now, exchange, Kind::ServiceOut, from, to, (r_ctl, kind), payload);
            }
            HbaRequest::Reply { exchange, payload } => self.reply(exchange, payload),
            HbaRequest::Receive { exchange, offset, length } => self.receive_data(now, exchange, offset, length),
            HbaRequest::SendData { exchange, offset, data } => self.send_data(exchange, offset, data),
            HbaRequest::Respond { exchange, payload } => self.respond(now, exchange, payload),
            HbaRequest::Terminate(exchange) => {
                self.forget(exchange);
            }
            HbaRequest::Abort(exchange) => self.abort(now, exchange),
            HbaRequest::AbortDone(exchange) => self.abort_done(exchange),
            // Of no meaning to an engine.
            HbaRequest::Frame(_) => {}
            _ => {}
        }
    }

    /// Sends a command as an initiator; what becomes of it is told by
    /// [`poll_initiator_event`](Self::poll_initiator_event). Data of a write is given by [`HbaRequest::SendData`].
    pub fn command(&mut self, now: Instant, to: PortId, payload: Bytes) -> ExchangeId {
        let exchange = ExchangeId(ExchangeId::LOCAL | 1 << 62 | self.next_local);
        self.next_local += 1;
        let from = self.address;
        let kind = (RoutingControl::COMMAND, Type::FCP);
        self.originate(now, exchange, Kind::CommandOut, from, to, kind, smallvec![payload]);
        exchange
    }

    /// The names of an open exchange on the wire: OX_ID and RX_ID.
    pub fn wire_names(&self, exchange: ExchangeId) -> Option<(u16, u16)> {
        self.exchanges.get(&exchange).map(|exchange| (exchange.ox_id, exchange.rx_id))
    }

    /// The answer to a link service goes to another address than it came from: that of FLOGI, whose sender has none.
    pub(crate) fn readdress(&mut self, id: ExchangeId, to: PortId) {
        if let Some(exchange) = self.exchanges.get_mut(&id) {
            exchange.answer_to = Some(to);
        }
    }

    /// The link is down: every exchange is gone, with a word to whoever waits for one.
    pub fn handle_link_down(&mut self) {
        self.drop_exchanges(|_| true);
        self.partials.clear();
        self.outgoing.clear();
        self.queued_bytes = 0;
        self.remotes.clear();
        self.answered.clear();
        self.address = PortId::NONE;
    }

    /// Looks for deadlines that have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let before = self.partials.len();
        self.partials.retain(|partial| partial.deadline > now);
        self.statistics.dropped_sequences += (before - self.partials.len()) as u64;
        let due = self.exchanges.iter().filter(|(_, exchange)| exchange.deadline.is_some_and(|due| due <= now));
        let mut due: Vec<ExchangeId> = due.map(|(id, _)| *id).collect();
        // The order of a hash would be another one in each run.
        due.sort_unstable();
        for id in due {
            self.expire(now, id);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let exchanges = self.exchanges.values().filter_map(|exchange| exchange.deadline);
        exchanges.chain(self.partials.iter().map(|partial| partial.deadline)).min()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<HbaEvent> {
        self.events.pop_front()
    }

    /// The next event of a command that was sent.
    pub fn poll_initiator_event(&mut self) -> Option<InitiatorEvent> {
        self.initiator_events.pop_front()
    }

    /// Bytes that are given to be sent and not yet polled.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Exchanges that are open or kept.
    pub fn open_exchanges(&self) -> usize {
        self.exchanges.len()
    }

    /// Sequences of several frames that have begun and not ended.
    pub fn open_sequences(&self) -> usize {
        self.partials.len()
    }

    /// What was dropped or refused.
    pub fn statistics(&self) -> EngineStatistics {
        self.statistics
    }

    /// A deadline of an exchange has passed.
    fn expire(&mut self, now: Instant, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        match exchange.kind {
            Kind::CommandIn if exchange.receiving.is_some() && !exchange.aborting => {
                // The initiator does not send what it was asked for: whoever carries out the command hears of an
                // abort, and the initiator of ours.
                self.statistics.data_timeouts += 1;
                exchange.receiving = None;
                exchange.silent = true;
                exchange.deadline = None;
                self.events.push_back(HbaEvent::AbortReceived(id));
                self.send_abts(now, id);
                self.outlive(id);
                if let Some(exchange) = self.exchanges.get_mut(&id) {
                    exchange.deadline = None;
                }
            }
            Kind::CommandIn => {
                // Nobody has confirmed the response, or asked for it again: it may be lost all the same.
                let (key, response) = (exchange.key(), exchange.response.take());
                self.keep_in_mind(key, id, &response.unwrap_or_default());
                self.end(id);
            }
            Kind::ServiceIn | Kind::CommandOut => self.end(id),
            Kind::ServiceOut => self.answered(id, PortId::NONE, None),
        }
    }

    /// Forgets exchanges; who waits for one hears of it.
    fn drop_exchanges(&mut self, which: impl Fn(&Exchange) -> bool) {
        let gone = self.exchanges.iter().filter(|(_, exchange)| which(exchange));
        let mut gone: Vec<(ExchangeId, Kind)> = gone.map(|(id, exchange)| (*id, exchange.kind)).collect();
        gone.sort_unstable_by_key(|(id, _)| *id);
        for (id, kind) in gone {
            match kind {
                Kind::ServiceOut => self.answered(id, PortId::NONE, None),
                // Its end is that of the login.
                Kind::CommandIn | Kind::ServiceIn => drop(self.forget(id)),
                Kind::CommandOut => self.end(id),
            }
        }
    }

    /// The answer to a link service, or that there is none.
    fn answered(&mut self, id: ExchangeId, to: PortId, payload: Option<Segments>) {
        if self.forget(id).is_some() {
            self.events.push_back(HbaEvent::Reply { exchange: id, to, payload });
        }
    }

    /// An exchange is over, and its user is told.
    fn end(&mut self, id: ExchangeId) {
        let Some(exchange) = self.forget(id) else { return };
        match exchange.kind {
            Kind::CommandOut => self.initiator_events.push_back(InitiatorEvent::Gone(id)),
            _ if exchange.retained => {}
            _ => self.events.push_back(HbaEvent::Ended(id)),
        }
    }

    /// Takes an exchange out of every table.
    fn forget(&mut self, id: ExchangeId) -> Option<Exchange> {
        let exchange = self.exchanges.remove(&id)?;
        if self.keys.get(&exchange.key()) == Some(&id) {
            self.keys.remove(&exchange.key());
        }
        if exchange.retained || exchange.confirming {
            self.retained.retain(|&other| other != id);
        }
        let mut dropped = 0;
        self.outgoing.retain(|outgoing| {
            let keep = outgoing.exchange != Some(id) || outgoing.outlives;
            dropped += if keep { 0 } else { outgoing.left() };
            keep
        });
        self.queued_bytes -= dropped;
        Some(exchange)
    }

    /// Begins an exchange with its first sequence.
    fn originate(
        &mut self,
        now: Instant,
        id: ExchangeId,
        kind: Kind,
        from: PortId,
        to: PortId,
        (r_ctl, payload_kind): (RoutingControl, Type),
        payload: Segments,
    ) {
        let Some(ox_id) = self.identifier(to) else {
            self.statistics.refused_exchanges += 1;
            match kind {
                Kind::ServiceOut => {
                    self.events.push_back(HbaEvent::Reply { exchange: id, to: PortId::NONE, payload: None });
                }
                _ => self.initiator_events.push_back(InitiatorEvent::Gone(id)),
            }
            return;
        };
        let mut exchange = Exchange::new(kind, from, to, ox_id);
        if kind == Kind::ServiceOut {
            exchange.deadline = Some(now + 2 * self.config.r_a_tov);
        }
        self.keys.insert(exchange.key(), id);
        self.exchanges.insert(id, exchange);
        let control =
            FrameControl::FIRST_SEQUENCE.and(FrameControl::END_SEQUENCE).and(FrameControl::TRANSFER_INITIATIVE);
        self.send_sequence(id, r_ctl, payload_kind, control, payload, None);
    }

    /// A name for an exchange that begins here, unless there are too many.
    fn identifier(&mut self, to: PortId) -> Option<u16> {
        if self.exchanges.len() >= self.config.max_exchanges && !self.drop_retained() {
            return None;
        }
        for _ in 0..=u16::MAX {
            self.next_identifier = self.next_identifier.wrapping_add(1) & 0x7fff;
            let key = Key { remote: to, ox_id: self.next_identifier, ours: true };
            if !self.keys.contains_key(&key) {
                return Some(self.next_identifier);
            }
        }
        None
    }

    /// Makes room by forgetting the oldest exchange that is kept for recovery or waits to be confirmed.
    fn drop_retained(&mut self) -> bool {
        let Some(oldest) = self.retained.front().copied() else { return false };
        // Its response may still wait for the link.
        self.outlive(oldest);
        if let Some(exchange) = self.forget(oldest) {
            if exchange.confirming {
                self.events.push_back(HbaEvent::Ended(oldest));
            }
            self.keep_in_mind(exchange.key(), oldest, &exchange.response.unwrap_or_default());
        }
        true
    }

    fn receive_data(&mut self, now: Instant, id: ExchangeId, offset: u32, length: u32) {
        let deadline = now + self.config.data_timeout;
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        if exchange.kind != Kind::CommandIn || length == 0 {
            return;
        }
        exchange.receiving = Some(Receiving::new(offset, length));
        exchange.deadline = Some(deadline);
        self.send_transfer_ready(id, offset, length);
    }

    fn send_transfer_ready(&mut self, id: ExchangeId, offset: u32, length: u32) {
        let ready = TransferReady { offset, length }.encode();
        let control = FrameControl::END_SEQUENCE.and(FrameControl::TRANSFER_INITIATIVE);
        let payload = smallvec![Bytes::copy_from_slice(&ready)];
        self.send_sequence(id, RoutingControl::TRANSFER_READY, Type::FCP, control, payload, None);
    }
}
