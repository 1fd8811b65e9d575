//! The world of a run: the target and its surroundings, and how actions become deeds.

use iscsi_proto::pdu::TaskManagementFunctionCode as Function;
use iscsi_proto::target::SessionConfig;
use lu_sbd::store::Operation;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use stmf::provider::hba::HbaLevel;
use stmf::provider::{StoreErrorKind, StoreOp};

use super::blocks::{BLOCK, Blocks, Tick};
use super::fc_peer::FcPeer;
use super::host::Host;
use super::nexus::{Attentions, History, ReserveOut};
use super::peer::{Manner, OpId, Peer, Said, State};
use super::plan::{Action, Kind, PEERS, UNITS, has_later};
use super::unit::{Records, Unit, identity, unit};
use super::{Options, Report};
use crate::initiator::Command;
use crate::link::LinkFaults;
use crate::rng::Rng;
use crate::san::San;
use crate::store::{Fault, FaultyStore, PowerCut};
use crate::time::VirtualTime;

/// How long, in virtual time, everything may take to be as it should after the faults have stopped.
///
/// Who has lost a command to another initiator's reset waits 3 s for it here, and who has lost an answer to flipped bits
/// gives its connection up after 5 s.
pub const HEALING: Duration = Duration::from_secs(8);

/// More than links and stores delay anything.
pub(super) const SETTLING: Duration = Duration::from_millis(12);

/// Blocks of a unit.
pub(super) const BLOCKS: usize = 48;
/// How much a session may have read and not taken before further reads wait.
const UNSENT: u64 = 32 << 10;
/// How much units of a session may have asked for before further writes wait.
const UNWRITTEN: u64 = 2 << 10;
pub(super) const QUEUE_DEPTH: u16 = 16;
/// How many PDUs, and how many bytes of answers, may wait to be sent before a session is not read from any more.
const TRANSMIT_QUEUE: usize = 48;
const TRANSMIT_BYTES: usize = 4 << 10;
/// What a small socket takes.
const SMALL_SOCKET: u64 = 4 << 10;
/// The longest ping of an initiator, in bytes.
pub(super) const PING: usize = 512;
/// When the target asks whether somebody is still there, and how long it waits for an answer.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(10);
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a command may be missing.
pub(super) const HOLE_TIMEOUT: Duration = Duration::from_secs(3);

/// What was asked for.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    Read { lba: usize, blocks: usize, expected: u32 },
    Write { blocks: usize, expected: u32, fua: bool },
    Same,
    Unmap,
    Compare { lba: usize, old: Vec<u8>, fua: bool },
    Flush,
    Probe,
    ReserveOut(ReserveOut),
    ReadKeys,
    ReadReservation,
    Manage { function: Function, referenced: Option<OpId> },
}

/// What is open.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) peer: usize,
    pub(super) unit: usize,
    pub(super) deed: Deed,
    pub(super) start: Tick,
    /// Somebody else may have ended it, and nobody would say so.
    pub(super) may_vanish: bool,
    /// An older command of the initiator may have been told a unit attention that was lost or aborted on the way.
    pub(super) may_have_missed: bool,
}

/// Whether an initiator sees its unit at LUN 1, and since when that has been so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    pub(super) visible: bool,
    pub(super) since: Tick,
}

pub(super) struct World {
    pub(super) san: San,
    pub(super) rng: Rng,
    pub(super) peers: Vec<Host>,
    /// The fabric's port, where there is one.
    pub(super) level: Option<HbaLevel>,
    pub(super) units: Vec<Unit>,
    pub(super) attentions: Vec<Vec<Attentions>>,
    pub(super) sights: Vec<Sight>,
    /// When the login that is under way began.
    pub(super) login_since: Vec<Tick>,
    pub(super) ops: BTreeMap<OpId, Op>,
    /// What a task management function has ended.
    pub(super) given_up: BTreeSet<OpId>,
    /// Of each initiator: what was lost with its last session and may still go on.
    pub(super) orphans: Vec<Vec<(OpId, Op)>>,
    pub(super) tick: Tick,
    pub(super) next_op: OpId,
    pub(super) violation: Option<String>,
    pub(super) counts: BTreeMap<&'static str, u64>,
    fingerprint: u64,
    trace: Option<Vec<String>>,
    said: Vec<Said>,
    pub(super) healing_ms: u64,
    pub(super) last_statuses: BTreeMap<OpId, u8>,
    small_sockets: bool,
}

impl World {
    pub(super) fn new(seed: u64, options: &Options) -> Self {
        let mut rng = Rng::new(seed);
        let mut own = Rng::new(seed ^ 0xfc04);
        let frames = own.chance(500_000);
        let level = if frames { HbaLevel::Frames } else { HbaLevel::Commands };
        let level = options.fibre_channel.then_some(level);
        let host = |index: usize| {
            let manner = manner(&mut rng);
            match level {
                Some(_) if index > 0 => Host::Fc(Box::new(FcPeer::new(index, &mut own))),
                _ => Host::Iscsi(Box::new(Peer::new(index, manner))),
            }
        };
        let peers = (0..PEERS).map(host).collect();
        let mut world = Self {
            san: start(&mut rng, VirtualTime::new(), level),
            peers,
            level,
            units: Vec::new(),
            attentions: vec![vec![Attentions::default(); UNITS]; PEERS],
            sights: vec![Sight { visible: true, since: 0 }; PEERS],
            login_since: vec![0; PEERS],
            ops: BTreeMap::new(),
            given_up: BTreeSet::new(),
            orphans: vec![Vec::new(); PEERS],
            tick: 1,
            next_op: 1,
            violation: None,
            counts: BTreeMap::new(),
            fingerprint: seed,
            trace: options.trace.then(Vec::new),
            said: Vec::new(),
            healing_ms: 0,
            last_statuses: BTreeMap::new(),
            small_sockets: has_later(seed) && Rng::new(seed ^ 0x50c_4e75).chance(500_000),
            rng,
        };
        world.choose_socket();
        for index in 0..UNITS {
            let (store, records) = (FaultyStore::new(BLOCKS * BLOCK), Records::default());
            let lu = unit(identity(index), &store, &records);
            // The record is in memory: it is kept.
            let _ = lu.save();
            world.units.push(Unit {
                store,
                records,
                lu,
                blocks: Blocks::new(index, BLOCKS),
                reservations: History::default(),
                deciding: None,
                ending: Vec::new(),
                troubled: false,
                offline: None,
                uncached: None,
            });
        }
        world.publish();
        world
    }

    /// Does all actions, then heals and checks everything.
    pub(super) fn run(&mut self, actions: &[Action]) {
        for peer in 0..PEERS {
            self.log_in(peer);
        }
        self.advance(Duration::from_millis(1));
        for action in actions {
            self.advance(Duration::from_micros(action.gap_us));
            if self.violation.is_some() {
                return;
            }
            self.act(action);
        }
        self.advance(Duration::from_millis(5));
        self.heal_everything();
        if self.violation.is_none() {
            self.check_everything();
        }
    }

    /// In every fourth run the target's sockets take little, so that it has to keep the rest itself.
    pub(super) fn choose_socket(&self) {
        if self.small_sockets {
            self.san.set_socket_bytes(SMALL_SOCKET);
        }
    }

    pub(super) fn report(&mut self) -> Report {
        let flipped: u64 = self.peers.iter().map(Host::flipped).sum();
        self.counts.insert("bits flipped", flipped);
        if self.level.is_some() {
            self.counts.insert("frames lost", self.peers.iter().map(Host::lost).sum());
            self.counts.insert("units of FCP sent again", self.peers.iter().map(Host::again).sum());
        }
        Report {
            violation: self.violation.clone(),
            fingerprint: self.fingerprint,
            counts: self.counts.clone(),
            trace: self.trace.take().unwrap_or_default(),
            healing_ms: self.healing_ms,
        }
    }

    pub(super) fn fail(&mut self, words: impl Into<String>) {
        if self.violation.is_none() {
            let words = words.into();
            self.note(|| format!("VIOLATION {words}"), 0xbad);
            self.violation = Some(words);
        }
    }

    pub(super) fn note(&mut self, words: impl FnOnce() -> String, code: u64) {
        let nanos = self.san.elapsed().as_nanos() as u64;
        for part in [self.tick, nanos, code] {
            self.fingerprint = (self.fingerprint ^ part).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
        }
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.6}s #{:<5} {}", nanos as f64 / 1e9, self.tick, words()));
        }
    }

    pub(super) fn tick(&mut self) -> Tick {
        self.tick += 1;
        self.tick
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// The unit at a LUN of an initiator.
    pub(super) fn unit_at(&self, peer: usize, lun: u16) -> usize {
        if lun == 0 { 0 } else { 1 + peer % (UNITS - 1) }
    }

    /// Whether the initiator sees the unit, as far as the configuration goes.
    pub(super) fn sees(&self, peer: usize, unit: usize) -> bool {
        unit == 0 || unit == self.unit_at(peer, 1) && self.sights[peer].visible
    }

    /// Lets virtual time pass, with everything that happens meanwhile.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.san.elapsed() + by;
        loop {
            self.listen();
            let now = self.san.elapsed();
            if now >= end || self.violation.is_some() {
                return;
            }
            let wakes = self.peers.iter().filter_map(|peer| peer.wakes(now)).min();
            self.san.run(wakes.map_or(end, |until| until.min(end)) - now);
        }
    }

    /// Takes in what the initiators hear now.
    fn listen(&mut self) {
        loop {
            let mut moved = false;
            for at in 0..PEERS {
                if self.peers[at].stalled_until() > self.san.elapsed() {
                    continue;
                }
                let mut said = std::mem::take(&mut self.said);
                moved |= self.peers[at].poll(&mut said);
                if self.peers[at].gives_up(self.san.elapsed()) {
                    said.push(Said::Closed("nothing has come for too long".into()));
                    moved = true;
                }
                for said in said.drain(..) {
                    self.hear(at, said);
                }
                self.said = said;
            }
            self.check_bounds();
            if !moved || self.violation.is_some() {
                return;
            }
        }
    }

    /// What sessions make the target hold stays within its limits.
    fn check_bounds(&mut self) {
        let (mut reading, mut writing): (BTreeMap<u64, u64>, BTreeMap<u64, u64>) = Default::default();
        self.san.store_requests(|request| match &request.op {
            StoreOp::Read { length, .. } => *reading.entry(request.nexus.0).or_default() += u64::from(*length),
            StoreOp::Write { data, .. } => {
                let bytes: usize = data.iter().map(bytes::Bytes::len).sum();
                *writing.entry(request.nexus.0).or_default() += bytes as u64;
            }
            _ => {}
        });
        for (words, held, limit) in [("reads", reading, UNSENT), ("writes", writing, UNWRITTEN)] {
            // One command goes beyond.
            let most = limit + (BLOCKS * BLOCK) as u64;
            if let Some((nexus, bytes)) = held.into_iter().find(|(_, bytes)| *bytes > most) {
                self.fail(format!("nexus {nexus} has {bytes} bytes of {words} under way, the limit is {most}"));
            }
        }
        let mut beyond = None;
        self.san.unsent(|held| {
            // What was open when the limit was reached adds a response and an R2T each, immediate requests a response.
            let most =
                TRANSMIT_QUEUE + 2 * usize::from(QUEUE_DEPTH) + usize::from(SessionConfig::default().max_immediate);
            let most_reads = UNSENT + (BLOCKS * BLOCK) as u64;
            if held.pdus > most || held.answer_bytes > TRANSMIT_BYTES + PING || held.read_bytes > most_reads {
                beyond = Some(held);
            }
        });
        if let Some(held) = beyond {
            self.fail(format!("more waits to be sent than may: {held:?}"));
        }
    }

    pub(super) fn log_in(&mut self, at: usize) {
        let worker = self.rng.below(2) as usize;
        let first = if self.rng.chance(300_000) { 0xffff_fff8 } else { 1 };
        self.tick();
        let lost = match &mut self.peers[at] {
            Host::Iscsi(peer) => {
                let faults = LinkFaults { flips_per_million: 0, ..peer.faults.clone() };
                peer.log_in(self.san.connect(worker, faults), first)
            }
            Host::Fc(peer) => peer.log_in(&self.san),
        };
        self.lose(at, lost);
        self.login_since[at] = self.tick();
        self.note(|| format!("host{at} logs in"), 1);
        self.count("logins");
    }

    pub(super) fn issue(&mut self, at: usize, lun: u16, deed: Deed, command: &Command) -> Option<OpId> {
        if self.peers[at].state() != State::Up || self.peers[at].window() == 0 {
            return None;
        }
        let op = self.open(at, lun, deed);
        self.note(|| format!("host{at} LUN {lun} op {op}: {:02x?} {} bytes out", command.cdb, command.data.len()), op);
        self.count("commands");
        self.peers[at].command(op, command);
        Some(op)
    }

    pub(super) fn open(&mut self, at: usize, lun: u16, deed: Deed) -> OpId {
        let (op, start, unit) = (self.next_op, self.tick(), self.unit_at(at, lun));
        self.next_op += 1;
        let may_vanish = !self.units[unit].ending.is_empty();
        let fc = self.peers[at].is_fc();
        let may_have_missed = fc && self.ops.values().any(|op| op.peer == at && op.unit == unit);
        self.ops.insert(op, Op { peer: at, unit, deed, start, may_vanish, may_have_missed });
        op
    }

    fn act(&mut self, action: &Action) {
        let mut rng = Rng::new(action.seed);
        let at = action.peer;
        self.tick();
        let lun = if rng.chance(300_000) { 1 } else { 0 };
        let lba = rng.below(BLOCKS as u64) as usize;
        // Small and crowded most of the time.
        let lba = if rng.chance(700_000) { lba % 6 } else { lba };
        let most = (BLOCKS - lba) as u64;
        let blocks = if rng.chance(800_000) { 1 + rng.below(4.min(most)) } else { 1 + rng.below(most) } as usize;
        let ordered = rng.chance(50_000);
        let unit = self.unit_at(at, lun);
        if self.peers[at].state() == State::Down && !matches!(action.kind, Kind::PowerCut | Kind::Restart | Kind::Wait)
        {
            self.log_in(at);
        }
        match action.kind {
            Kind::Read => self.read(at, lun, lba, blocks, ordered, &mut rng),
            Kind::Write | Kind::WriteFua => {
                let fua = action.kind == Kind::WriteFua;
                self.write(at, lun, lba, blocks, fua, ordered, &mut rng);
            }
            Kind::WriteSame => self.write_same(at, lun, lba, blocks),
            Kind::Unmap => self.unmap(at, lun, lba, blocks),
            Kind::Compare => self.compare(at, lun, lba, rng.chance(300_000), rng.chance(150_000)),
            Kind::Flush => {
                self.flush(at, lun);
            }
            Kind::Probe => {
                self.issue(at, lun, Deed::Probe, &Command::new(lun, &[0; 6]));
            }
            Kind::ReserveOut => self.reserve_out(at, lun, &mut rng),
            Kind::ReserveIn => self.reserve_in(at, lun, rng.chance(500_000)),
            Kind::Manage => self.manage(at, lun, &mut rng),
            Kind::Flood => {
                self.count("floods");
                for _ in 0..self.peers[at].window().min(32) {
                    let lba = rng.below(BLOCKS as u64 - 8) as usize;
                    match rng.chance(700_000) {
                        true => self.read(at, lun, lba, 8, false, &mut rng),
                        false => self.write(at, lun, lba, 2, false, false, &mut rng),
                    }
                }
            }
            Kind::LogOut if self.peers[at].state() == State::Up => {
                self.count("logouts");
                self.note(|| format!("host{at} logs out"), 2);
                self.peers[at].log_out();
            }
            Kind::Reset => {
                self.count("connections cut");
                let later = rng.chance(500_000);
                if self.peers[at].is_fc() {
                    self.flap(at, &mut rng);
                } else if later {
                    let limit = rng.below(20_000);
                    self.note(|| format!("host{at} will be cut after {limit} bytes"), 3);
                    if let Host::Iscsi(peer) = &mut self.peers[at] {
                        let mut faults = peer.faults.clone();
                        faults.reset_after = Some(limit);
                        peer.set_faults(faults);
                        peer.faults.reset_after = None;
                    }
                } else {
                    self.note(|| format!("host{at} is cut"), 4);
                    let lost = self.peers[at].drop_connection(rng.chance(300_000));
                    self.lose(at, lost);
                }
            }
            Kind::Reinstate => {
                self.count("reinstatements");
                self.log_in(at);
            }
            Kind::Stall => {
                self.count("stalls");
                let until = self.san.elapsed() + Duration::from_micros(rng.below(50_000));
                self.peers[at].stall(until);
            }
            Kind::Lie => self.lie(at, &mut rng),
            Kind::Storm => self.storm(at, &mut rng),
            Kind::Silence => self.silence(at, &mut rng),
            Kind::Gap => self.leave_gap(at, lun, &mut rng),
            Kind::Links => self.change_links(at, &mut rng),
            Kind::SlowStores => {
                self.count("stores slowed");
                self.san.set_store_delay(Duration::from_micros(rng.below(8_000)));
            }
            Kind::StoreFault => {
                let kind = [StoreErrorKind::Io, StoreErrorKind::NoSpace][rng.below(2) as usize];
                let operation = [Operation::Access, Operation::Read, Operation::Write][rng.below(3) as usize];
                let (nth, sectors_done) = (1 + rng.below(6), rng.below(4) as usize);
                self.count(if kind == StoreErrorKind::Io { "store errors" } else { "store full" });
                self.note(|| format!("unit {unit}: {operation:?} number {nth} fails after {sectors_done}"), nth);
                self.units[unit].troubled = true;
                self.units[unit].store.fail(Fault { operation, nth, kind, sectors_done });
            }
            Kind::FlushFault => {
                self.count("flush errors");
                let nth = 1 + rng.below(3);
                self.note(|| format!("unit {unit}: flush number {nth} fails"), nth);
                self.units[unit].troubled = true;
                let fault = Fault { operation: Operation::Flush, nth, kind: StoreErrorKind::Io, sectors_done: 0 };
                self.units[unit].store.fail(fault);
            }
            Kind::Heal => self.heal_unit(unit),
            Kind::View => self.change_view(at),
            Kind::Cache => self.change_cache(unit),
            Kind::PowerCut => {
                let cut = match rng.below(4) {
                    0 => PowerCut::LosesAll,
                    1 => PowerCut::KeepsAll,
                    _ => PowerCut::Random { seed: rng.next() },
                };
                self.restart(Some(cut), &mut rng);
            }
            Kind::Restart => self.restart(None, &mut rng),
            Kind::Wait => self.advance(Duration::from_micros(rng.below(30_000))),
            Kind::LogOut => {}
        }
    }
}

fn manner(rng: &mut Rng) -> Manner {
    Manner {
        digests: rng.chance(600_000),
        immediate: rng.chance(600_000),
        initial_r2t: rng.chance(500_000),
        segment: [512, 1024, 4096, 65_536][rng.below(4) as usize],
        burst: [1024, 4096, 262_144][rng.below(3) as usize],
        first_burst: [512, 1024][rng.below(2) as usize],
    }
}

pub(super) fn start(rng: &mut Rng, time: VirtualTime, level: Option<HbaLevel>) -> San {
    let san = San::with_clock(2, rng.next(), time, |config| {
        config.limits.unsent_read_bytes = UNSENT;
        config.limits.unwritten_bytes = UNWRITTEN;
        config.session = SessionConfig {
            queue_depth: QUEUE_DEPTH,
            max_transmit_queue: TRANSMIT_QUEUE,
            max_transmit_bytes: TRANSMIT_BYTES,
            ping_interval: PING_INTERVAL,
            ping_timeout: PING_TIMEOUT,
            hole_timeout: HOLE_TIMEOUT,
            ..SessionConfig::default()
        };
    });
    if let Some(level) = level {
        san.add_fabric(level);
    }
    san
}
