//! The world of a run: the target and its surroundings, and how actions become deeds.

use iscsi_proto::pdu::TaskManagementFunctionCode as Function;
use iscsi_proto::target::SessionConfig;
use lu_sbd::meta::{Identity, RecordStore};
use lu_sbd::properties::ModifyProperties;
use lu_sbd::store::{Error, Operation};
use lu_sbd::{BackingStore, SbdLu};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use stmf::config::{GroupKind, NewView};
use stmf::provider::{LogicalUnit, StoreErrorKind, StoreOp};

use super::Report;
use super::blocks::{BLOCK, Blocks, OPEN, Tick, content, value};
use super::nexus::{Attentions, CLEAR, History, PREEMPT, PREEMPT_AND_ABORT, REGISTER, REGISTER_AND_IGNORE, ReserveOut};
use super::peer::{Manner, OpId, Peer, Said, State, name_of, with_attribute};
use super::plan::{Action, Kind, PEERS, UNITS};
use crate::initiator::Command;
use crate::link::LinkFaults;
use crate::rng::Rng;
use crate::san::{San, guid};
use crate::store::{Fault, FaultyStore, PowerCut};
use crate::time::VirtualTime;

/// How long, in virtual time, everything may take to be as it should after the faults have stopped.
///
/// Who has lost a command to another initiator's reset waits 3 s for it here, and who has lost an answer to flipped bits
/// gives its connection up after 5 s.
pub const HEALING: Duration = Duration::from_secs(8);

/// More than links and stores delay anything.
const SETTLING: Duration = Duration::from_millis(12);

/// Blocks of a unit.
const BLOCKS: usize = 48;
/// How much a session may have read and not taken before further reads wait.
const UNSENT: u64 = 32 << 10;
const QUEUE_DEPTH: u16 = 16;

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
}

pub(super) struct Unit {
    pub(super) store: FaultyStore,
    pub(super) records: Records,
    pub(super) lu: Arc<SbdLu>,
    pub(super) blocks: Blocks,
    pub(super) reservations: History,
    /// A PERSISTENT RESERVE OUT that is not decided, and its states before and after.
    pub(super) deciding: Option<OpId>,
    /// Functions that are ending tasks of others.
    pub(super) ending: Vec<OpId>,
    /// The store has been made to fail.
    pub(super) troubled: bool,
    /// Last time it was offline.
    pub(super) offline: Option<(Tick, Tick)>,
    /// Since when writes are durable by themselves.
    pub(super) uncached: Option<Tick>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Records(Arc<Mutex<Vec<u8>>>);

impl RecordStore for Records {
    fn save(&self, record: &[u8]) -> Result<(), Error> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = record.to_vec();
        Ok(())
    }
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
    pub(super) peers: Vec<Peer>,
    pub(super) units: Vec<Unit>,
    pub(super) attentions: Vec<Vec<Attentions>>,
    pub(super) sights: Vec<Sight>,
    /// When the login that is under way began.
    pub(super) login_since: Vec<Tick>,
    pub(super) ops: BTreeMap<OpId, Op>,
    /// Of each initiator: what was lost with its last session and may still go on.
    pub(super) orphans: Vec<Vec<(OpId, Op)>>,
    pub(super) tick: Tick,
    next_op: OpId,
    pub(super) violation: Option<String>,
    pub(super) counts: BTreeMap<&'static str, u64>,
    fingerprint: u64,
    trace: Option<Vec<String>>,
    said: Vec<Said>,
    healing_ms: u64,
    pub(super) last_statuses: BTreeMap<OpId, u8>,
}

impl World {
    pub(super) fn new(seed: u64, trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        let peers = (0..PEERS).map(|index| Peer::new(index, manner(&mut rng))).collect();
        let mut world = Self {
            san: start(&mut rng, VirtualTime::new()),
            peers,
            units: Vec::new(),
            attentions: vec![vec![Attentions::default(); UNITS]; PEERS],
            sights: vec![Sight { visible: true, since: 0 }; PEERS],
            login_since: vec![0; PEERS],
            ops: BTreeMap::new(),
            orphans: vec![Vec::new(); PEERS],
            tick: 1,
            next_op: 1,
            violation: None,
            counts: BTreeMap::new(),
            fingerprint: seed,
            trace: trace.then(Vec::new),
            said: Vec::new(),
            healing_ms: 0,
            last_statuses: BTreeMap::new(),
            rng,
        };
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

    pub(super) fn report(&mut self) -> Report {
        let flipped: u64 = self.peers.iter().map(Peer::flipped).sum();
        self.counts.insert("bits flipped", flipped);
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
            let wakes = self.peers.iter().map(|peer| peer.stalled_until).filter(|until| *until > now).min();
            self.san.run(wakes.map_or(end, |until| until.min(end)) - now);
        }
    }

    /// Takes in what the initiators hear now.
    fn listen(&mut self) {
        loop {
            let mut moved = false;
            for at in 0..PEERS {
                if self.peers[at].stalled_until > self.san.elapsed() {
                    continue;
                }
                let mut said = std::mem::take(&mut self.said);
                moved |= self.peers[at].poll(&mut said);
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
        let mut reading: BTreeMap<u64, u64> = BTreeMap::new();
        self.san.store_requests(|request| {
            if let StoreOp::Read { length, .. } = request.op {
                *reading.entry(request.nexus.0).or_default() += u64::from(length);
            }
        });
        let most = UNSENT + (BLOCKS * BLOCK) as u64;
        if let Some((nexus, bytes)) = reading.into_iter().find(|(_, bytes)| *bytes > most) {
            self.fail(format!("nexus {nexus} has {bytes} bytes of reads under way, the limit is {most}"));
        }
    }

    pub(super) fn log_in(&mut self, at: usize) {
        let worker = self.rng.below(2) as usize;
        let first = if self.rng.chance(300_000) { 0xffff_fff8 } else { 1 };
        let faults = LinkFaults { flips_per_million: 0, ..self.peers[at].faults.clone() };
        let wire = self.san.connect(worker, faults);
        self.tick();
        let lost = self.peers[at].log_in(wire, first);
        self.lose(at, lost);
        self.login_since[at] = self.tick();
        self.note(|| format!("host{at} logs in"), 1);
        self.count("logins");
    }

    pub(super) fn issue(&mut self, at: usize, lun: u16, deed: Deed, command: &Command) -> Option<OpId> {
        if self.peers[at].state != State::Up || self.peers[at].window() == 0 {
            return None;
        }
        let op = self.open(at, lun, deed);
        self.note(|| format!("host{at} LUN {lun} op {op}: {:02x?} {} bytes out", command.cdb, command.data.len()), op);
        self.count("commands");
        self.peers[at].command(op, command);
        Some(op)
    }

    fn open(&mut self, at: usize, lun: u16, deed: Deed) -> OpId {
        let (op, start, unit) = (self.next_op, self.tick(), self.unit_at(at, lun));
        self.next_op += 1;
        let may_vanish = !self.units[unit].ending.is_empty();
        self.ops.insert(op, Op { peer: at, unit, deed, start, may_vanish });
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
        if self.peers[at].state == State::Down && !matches!(action.kind, Kind::PowerCut | Kind::Restart | Kind::Wait) {
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
            Kind::LogOut if self.peers[at].state == State::Up => {
                self.count("logouts");
                self.note(|| format!("host{at} logs out"), 2);
                self.peers[at].log_out();
            }
            Kind::Reset => {
                self.count("connections cut");
                if rng.chance(500_000) {
                    let limit = rng.below(20_000);
                    let mut faults = self.peers[at].faults.clone();
                    faults.reset_after = Some(limit);
                    self.note(|| format!("host{at} will be cut after {limit} bytes"), 3);
                    self.peers[at].set_faults(faults.clone());
                    self.peers[at].faults.reset_after = None;
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
                self.peers[at].stalled_until = until;
            }
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

    fn read(&mut self, at: usize, lun: u16, lba: usize, blocks: usize, ordered: bool, rng: &mut Rng) {
        let length = (blocks * BLOCK) as u32;
        let expected = odd_length(length, rng);
        let mut command = Command::read_blocks(lun, lba as u64, blocks as u32);
        if rng.chance(100_000) {
            command = command.fua();
        }
        command.read_length = expected;
        self.issue(at, lun, Deed::Read { lba, blocks, expected }, &with_attribute(command, ordered));
    }

    #[allow(clippy::too_many_arguments)]
    fn write(&mut self, at: usize, lun: u16, lba: usize, blocks: usize, fua: bool, ordered: bool, rng: &mut Rng) {
        let (unit, op) = (self.unit_at(at, lun), self.next_op);
        let value = value(unit, op);
        let mut data: Vec<u8> = (lba..lba + blocks).flat_map(|lba| content(value, Some(lba as u64))).collect();
        let expected = odd_length(data.len() as u32, rng);
        data.resize(expected as usize, 0xee);
        let mut command = Command::write_blocks(lun, lba as u64, data);
        command.cdb[10..14].copy_from_slice(&(blocks as u32).to_be_bytes());
        if fua {
            command = command.fua();
        }
        let written = blocks.min(expected as usize / BLOCK);
        let deed = Deed::Write { blocks, expected, fua };
        self.begin_write(at, lun, deed, &with_attribute(command, ordered), (lba, written, false), value);
    }

    fn begin_write(
        &mut self,
        at: usize,
        lun: u16,
        deed: Deed,
        command: &Command,
        (lba, blocks, same): (usize, usize, bool),
        value: u64,
    ) {
        let unit = self.unit_at(at, lun);
        let start = self.tick;
        if let Some(op) = self.issue(at, lun, deed, command) {
            self.units[unit].blocks.begin(op, value, same, lba, blocks, start);
        }
    }

    fn write_same(&mut self, at: usize, lun: u16, lba: usize, blocks: usize) {
        let value = value(self.unit_at(at, lun), self.next_op);
        let mut command = Command::write_blocks(lun, lba as u64, content(value, None).to_vec());
        command.cdb[0] = 0x93;
        command.cdb[10..14].copy_from_slice(&(blocks as u32).to_be_bytes());
        self.begin_write(at, lun, Deed::Same, &command, (lba, blocks, true), value);
    }

    fn unmap(&mut self, at: usize, lun: u16, lba: usize, blocks: usize) {
        let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
        list.extend_from_slice(&(lba as u64).to_be_bytes());
        list.extend_from_slice(&(blocks as u32).to_be_bytes());
        list.extend_from_slice(&[0; 4]);
        let command = Command::write(lun, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], list);
        self.begin_write(at, lun, Deed::Unmap, &command, (lba, blocks, false), 0);
    }

    fn compare(&mut self, at: usize, lun: u16, lba: usize, fua: bool, wrong: bool) {
        let unit = self.unit_at(at, lun);
        let value = value(unit, self.next_op);
        let mut old = self.units[unit].blocks.guess(lba).to_vec();
        if wrong {
            old[BLOCK - 1] ^= 0x80;
        }
        let mut data = old.clone();
        data.extend_from_slice(&content(value, Some(lba as u64)));
        let mut command = Command::write_blocks(lun, lba as u64, data);
        command.cdb[0] = 0x89;
        command.cdb[10..14].copy_from_slice(&[0, 0, 0, 1]);
        if fua {
            command = command.fua();
        }
        self.begin_write(at, lun, Deed::Compare { lba, old, fua }, &command, (lba, 1, false), value);
    }

    fn flush(&mut self, at: usize, lun: u16) -> Option<OpId> {
        let mut cdb = [0; 16];
        cdb[0] = 0x91;
        self.issue(at, lun, Deed::Flush, &Command::new(lun, &cdb))
    }

    fn reserve_out(&mut self, at: usize, lun: u16, rng: &mut Rng) {
        let unit = self.unit_at(at, lun);
        if self.units[unit].deciding.is_some() {
            return;
        }
        let known = self.units[unit].reservations.now().first().and_then(|state| state.key(at));
        let action = match known {
            None if rng.chance(800_000) => [REGISTER, REGISTER_AND_IGNORE][rng.below(2) as usize],
            _ => rng.below(7) as u8,
        };
        let registers = action == REGISTER || action == REGISTER_AND_IGNORE;
        let kind = [1, 3, 5, 6, 7, 8][rng.below(6) as usize];
        let own = 0x100 + at as u64;
        let other = 0x100 + (at as u64 + 1 + rng.below(PEERS as u64 - 1)) % PEERS as u64;
        let key = if rng.chance(50_000) { 0xbad } else { known.unwrap_or(0) };
        let service_key = match action {
            _ if registers && known.is_some() && rng.chance(300_000) => 0,
            _ if registers => own,
            PREEMPT | PREEMPT_AND_ABORT if rng.chance(150_000) => 0,
            _ => other,
        };
        let out = ReserveOut { action, kind, key, service_key, aptpl: registers && rng.chance(400_000) };
        if self.send_reserve_out(at, lun, out).is_some() {
            self.count("reservation changes");
        }
    }

    pub(super) fn send_reserve_out(&mut self, at: usize, lun: u16, out: ReserveOut) -> Option<OpId> {
        let unit = self.unit_at(at, lun);
        let mut list = vec![0; 24];
        list[..8].copy_from_slice(&out.key.to_be_bytes());
        list[8..16].copy_from_slice(&out.service_key.to_be_bytes());
        list[20] = u8::from(out.aptpl);
        let command = Command::write(lun, &[0x5f, out.action, out.kind, 0, 0, 0, 0, 0, 24, 0], list);
        let start = self.tick;
        let op = self.issue(at, lun, Deed::ReserveOut(out), &command)?;
        self.units[unit].deciding = Some(op);
        if out.action == PREEMPT_AND_ABORT {
            self.begin_ending(unit, op);
        }
        // What it may do, it may do from now on.
        let states = self.units[unit].reservations.now().to_vec();
        let mut all = states.clone();
        for state in states {
            let (_, next, told) = state.apply(at, out);
            all.push(next);
            for (who, ascq) in told {
                self.attentions[who][unit].establish(0x2a, ascq, start, OPEN, false);
            }
        }
        self.units[unit].reservations.set(all, start, start);
        Some(op)
    }

    fn reserve_in(&mut self, at: usize, lun: u16, keys: bool) {
        let action = u8::from(!keys);
        let deed = if keys { Deed::ReadKeys } else { Deed::ReadReservation };
        self.issue(at, lun, deed, &Command::read(lun, &[0x5e, action, 0, 0, 0, 0, 0, 1, 0, 0], 256));
    }

    fn manage(&mut self, at: usize, lun: u16, rng: &mut Rng) {
        if self.peers[at].state != State::Up {
            return;
        }
        let unit = self.unit_at(at, lun);
        let open: Vec<(u32, OpId)> = self.peers[at]
            .open_tasks()
            .into_iter()
            .filter(|(_, op)| self.ops.get(op).is_some_and(|op| op.unit == unit))
            .collect();
        let (function, referenced) = match rng.below(6) {
            0..=2 if !open.is_empty() => (Function::ABORT_TASK, Some(open[rng.below(open.len() as u64) as usize])),
            3 => (Function::ABORT_TASK_SET, None),
            4 => (Function::CLEAR_TASK_SET, None),
            _ => (Function::LOGICAL_UNIT_RESET, None),
        };
        let deed = Deed::Manage { function, referenced: referenced.map(|(_, op)| op) };
        let op = self.open(at, lun, deed);
        let start = self.tick;
        self.count("task management");
        self.note(|| format!("host{at} LUN {lun} op {op}: {function:?} {referenced:?}"), op);
        if function != Function::ABORT_TASK {
            self.begin_ending(unit, op);
        }
        if function == Function::LOGICAL_UNIT_RESET {
            for attentions in &mut self.attentions {
                attentions[unit].establish(0x29, 3, start, OPEN, false);
            }
        }
        if function == Function::CLEAR_TASK_SET {
            for attentions in &mut self.attentions {
                attentions[unit].establish(0x2f, 0, start, OPEN, false);
            }
        }
        self.peers[at].manage(op, function, lun, referenced.map(|(tag, _)| tag));
    }

    /// From now on tasks of the unit may end without a word.
    fn begin_ending(&mut self, unit: usize, op: OpId) {
        self.units[unit].ending.push(op);
        for other in self.ops.values_mut().filter(|other| other.unit == unit) {
            other.may_vanish = true;
        }
    }

    fn change_links(&mut self, at: usize, rng: &mut Rng) {
        self.count("links disturbed");
        let faults = LinkFaults {
            longest_piece: [0, 1 + rng.below(60) as usize, 1 + rng.below(3000) as usize][rng.below(3) as usize],
            longest_delay: Duration::from_micros(rng.below(3_000)),
            flips_per_million: if rng.chance(400_000) { 1 + rng.below(30_000) as u32 } else { 0 },
            reset_after: None,
        };
        self.note(|| format!("host{at}: {faults:?}"), faults.longest_piece as u64);
        self.peers[at].set_faults(faults);
    }

    fn change_view(&mut self, at: usize) {
        self.count("views changed");
        let (unit, before) = (self.unit_at(at, 1), self.tick());
        let visible = !self.sights[at].visible;
        self.note(|| format!("host{at} {} unit {unit}", if visible { "sees" } else { "does not see" }), 5);
        let lu = guid(unit as u16 + 1);
        let group = format!("group{at}");
        for op in self.ops.values_mut().filter(|op| op.peer == at) {
            op.may_vanish |= op.unit == unit;
        }
        self.san.change(|config| match visible {
            true => {
                let view = NewView { lu, host_group: Some(&group), target_group: None, lun: Some(1) };
                Ok(config.add_view(&view)?.0)
            }
            false => {
                let id = config.group(GroupKind::Host, &group)?.id();
                let views = config.views(lu);
                let index = views.iter().find(|view| view.scope.host_group == Some(id)).map_or(0, |view| view.index);
                config.remove_view(lu, index)
            }
        });
        let after = self.tick();
        self.sights[at] = Sight { visible, since: after };
        self.attentions[at][0].establish(0x3f, 0x0e, before, after, false);
        match visible {
            true => self.attentions[at][unit].renew(before, after),
            false => self.attentions[at][unit].doubt(),
        }
        self.attentions[at][unit].establish(0x3f, 0x0e, before, after, false);
    }

    fn change_cache(&mut self, unit: usize) {
        if self.units[unit].troubled {
            return;
        }
        self.count("write caches switched");
        let before = self.tick();
        let off = self.units[unit].uncached.is_none();
        let word = if off { "wcd=true" } else { "wcd=false" };
        let done = ModifyProperties::parse([word], None).map(|change| self.units[unit].lu.modify(&change));
        if !matches!(done, Ok(Ok(()))) {
            return self.fail(format!("unit {unit}: {word} was refused: {done:?}"));
        }
        let after = self.tick();
        self.note(|| format!("unit {unit}: {word}"), u64::from(off));
        self.units[unit].uncached = off.then_some(after);
        if off {
            self.units[unit].blocks.flushed(before);
        }
        for at in 0..PEERS {
            let certain = self.peers[at].state == State::Up && self.sees(at, unit);
            self.attentions[at][unit].establish(0x2a, 1, before, after, certain);
        }
    }

    fn heal_unit(&mut self, unit: usize) {
        self.units[unit].store.heal();
        let failed = self.units[unit].lu.snapshot().failure.is_some();
        self.note(|| format!("unit {unit} is healed, had failed: {failed}"), u64::from(failed));
        if !failed {
            return;
        }
        self.count("units brought back");
        let before = self.tick();
        for op in self.ops.values_mut().filter(|op| op.unit == unit) {
            op.may_vanish = true;
        }
        let lu = guid(unit as u16 + 1);
        let stmf = self.san.stmf();
        let _ = stmf.offline_lu(lu);
        self.san.settle();
        let _ = stmf.online_lu(lu);
        self.san.settle();
        let after = self.tick();
        self.units[unit].offline = Some((before, after));
        for at in 0..PEERS {
            let attentions = &mut self.attentions[at];
            attentions[unit].doubt();
            attentions[unit].establish(0x29, 0, before, after, false);
            attentions.iter_mut().for_each(|attentions| attentions.establish(0x3f, 0x0e, before, after, false));
        }
    }

    /// Power cut or end of the process, and a new process over what is there.
    fn restart(&mut self, cut: Option<PowerCut>, rng: &mut Rng) {
        self.count(if cut.is_some() { "power cuts" } else { "process restarts" });
        self.tick();
        self.note(|| format!("restart, {cut:?}"), 6);
        let time = self.san.switch_off(|_| rng.chance(500_000));
        let at = self.tick();
        for peer in 0..PEERS {
            self.peers[peer].forget();
            self.orphans[peer].clear();
        }
        self.ops.clear();
        self.san = start(&mut self.rng, time);
        for index in 0..UNITS {
            let unit_ = &mut self.units[index];
            if let Some(cut) = cut {
                unit_.store = unit_.store.after(cut);
            }
            let text = unit_.records.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let identity = match Identity::from_record(&String::from_utf8_lossy(&text)) {
                Ok(identity) => identity,
                Err(error) => return self.fail(format!("unit {index}: the record is lost: {error}")),
            };
            unit_.lu = unit(identity, &unit_.store, &unit_.records);
            unit_.deciding = None;
            unit_.ending.clear();
            unit_.offline = None;
            let states = unit_.reservations.now().iter().map(|state| state.restarted()).collect();
            unit_.reservations.set(states, at, at);
            let image = unit_.store.live_image();
            if let Err(words) = unit_.blocks.restarted(&image, at, cut.is_some()) {
                return self.fail(words);
            }
        }
        self.publish();
    }

    /// Makes the units known to the target and visible to whom they belong.
    fn publish(&mut self) {
        for at in 0..PEERS {
            let group = format!("group{at}");
            self.san.change(|config| config.create_group(GroupKind::Host, &group));
            self.san.change(|config| config.add_member(GroupKind::Host, &group, &name_of(at)));
        }
        let stmf = self.san.stmf();
        for (index, unit) in self.units.iter().enumerate() {
            if stmf.register_lu(Arc::clone(&unit.lu) as Arc<dyn LogicalUnit>, "sbd").is_err() {
                self.violation.get_or_insert(format!("unit {index} could not be registered"));
            }
        }
        let all = NewView { lu: guid(1), host_group: None, target_group: None, lun: Some(0) };
        self.san.change(|config| Ok(config.add_view(&all)?.0));
        for at in (0..PEERS).filter(|at| self.sights[*at].visible) {
            let (group, lu) = (format!("group{at}"), guid(self.unit_at(at, 1) as u16 + 1));
            let view = NewView { lu, host_group: Some(&group), target_group: None, lun: Some(1) };
            self.san.change(|config| Ok(config.add_view(&view)?.0));
        }
    }

    /// The faults stop; everything has to come to rest within [`HEALING`].
    fn heal_everything(&mut self) {
        self.note(|| "the faults stop".into(), 7);
        let stopped = self.san.elapsed();
        self.san.set_store_delay(Duration::ZERO);
        for at in 0..PEERS {
            self.peers[at].set_faults(LinkFaults::default());
            self.peers[at].stalled_until = Duration::ZERO;
            if !self.sights[at].visible {
                self.change_view(at);
            }
        }
        for unit in 0..UNITS {
            self.heal_unit(unit);
        }
        let is_ready = |peer: &Peer| peer.state == State::Up && !peer.is_busy() && peer.window() > 0;
        let mut waited = Duration::ZERO;
        while self.violation.is_none() && waited < HEALING {
            self.sweep(waited);
            if self.peers.iter().all(is_ready) {
                // What was sent before the faults stopped may still be under way, a login on an older connection say.
                self.advance(SETTLING);
                if self.peers.iter().all(is_ready) {
                    break;
                }
            }
            for at in 0..PEERS {
                if self.peers[at].state == State::Down {
                    self.log_in(at);
                }
            }
            let step = Duration::from_millis(if waited < Duration::from_millis(100) { 1 } else { 100 });
            self.advance(step);
            waited = self.san.elapsed() - stopped;
        }
        self.healing_ms = waited.as_millis() as u64;
        if self.violation.is_none()
            && let Some(at) = (0..PEERS).find(|at| !is_ready(&self.peers[*at]))
        {
            let open: Vec<&Op> = self.ops.values().filter(|op| op.peer == at).collect();
            let (state, window) = (self.peers[at].state, self.peers[at].window());
            self.fail(format!(
                "host{at} is not served after {HEALING:?}: {state:?}, {window} commands may come, open: {open:?}"
            ));
        }
    }

    /// Gives up what nobody has to answer, and connections that flipped bits have ruined.
    fn sweep(&mut self, waited: Duration) {
        if waited > Duration::from_secs(3) {
            // A task management function is always answered.
            let gone: Vec<(OpId, usize)> = self
                .ops
                .iter()
                .filter(|(_, op)| op.may_vanish && !matches!(op.deed, Deed::Manage { .. }))
                // With flipped bits it may not have arrived, and the connection is not what it was.
                .filter(|(_, op)| self.peers[op.peer].flipped() == 0)
                .map(|(id, op)| (*id, op.peer))
                .collect();
            for (op, peer) in gone {
                self.note(|| format!("op {op} vanished"), op);
                self.peers[peer].give_up(op);
                self.ops.remove(&op);
            }
        }
        if waited > Duration::from_secs(5) {
            for at in 0..PEERS {
                if self.peers[at].is_busy() && self.peers[at].flipped() > 0 {
                    let lost = self.peers[at].drop_connection(false);
                    self.lose(at, lost);
                }
            }
        }
    }

    /// Runs one command to its end; its status.
    fn finish(&mut self, op: Option<OpId>) -> Option<u8> {
        let op = op?;
        for _ in 0..5_000 {
            self.advance(Duration::from_millis(1));
            if let Some(status) = self.last_statuses.remove(&op) {
                return Some(status);
            }
            if self.violation.is_some() {
                return None;
            }
        }
        self.fail(format!("op {op} has no end after 5 s without faults"));
        None
    }

    /// With everything healed, everybody reads everything, and a last loss of power takes nothing that was flushed.
    fn check_everything(&mut self) {
        for at in 0..PEERS {
            for lun in 0..2 {
                for _ in 0..8 {
                    let op = self.issue(at, lun, Deed::Probe, &Command::new(lun, &[0; 6]));
                    if self.finish(op) != Some(2) {
                        break;
                    }
                }
                let (own, unit) = (0x100 + at as u64, self.unit_at(at, lun));
                for read in [0, 1] {
                    let before = self.next_op;
                    self.reserve_in(at, lun, read == 0);
                    self.finish((self.next_op > before).then_some(before));
                }
                let register =
                    ReserveOut { action: REGISTER_AND_IGNORE, kind: 0, key: 0, service_key: own, aptpl: false };
                let clear = ReserveOut { action: CLEAR, kind: 0, key: own, service_key: 0, aptpl: false };
                for out in [register, clear] {
                    self.units[unit].deciding = None;
                    let op = self.send_reserve_out(at, lun, out);
                    self.finish(op);
                }
            }
        }
        let mut rng = Rng::new(1);
        for at in 0..PEERS {
            for lun in 0..2 {
                for _ in 0..4 {
                    let op = self.issue(at, lun, Deed::Probe, &Command::new(lun, &[0; 6]));
                    if self.finish(op) != Some(2) {
                        break;
                    }
                }
                let unit = self.unit_at(at, lun);
                self.units[unit].troubled = false;
                let op = self.next_op;
                let command = Command::read_blocks(lun, 0, BLOCKS as u32);
                let expected = (BLOCKS * BLOCK) as u32;
                self.issue(at, lun, Deed::Read { lba: 0, blocks: BLOCKS, expected }, &command);
                let read = self.finish(Some(op));
                let op = self.next_op;
                self.write(at, lun, at, 1, true, false, &mut rng);
                let written = self.finish(Some(op));
                if self.violation.is_none() && (read, written) != (Some(0), Some(0)) {
                    self.fail(format!(
                        "host{at} LUN {lun}: read and write end with {read:?} and {written:?} after healing"
                    ));
                }
                if self.violation.is_some() {
                    return;
                }
            }
        }
        let tasks: usize = self.units.iter().map(|unit| unit.lu.snapshot().tasks).sum();
        let (connections, sessions) = self.san.census();
        if tasks != 0 || sessions != PEERS || connections != PEERS {
            self.fail(format!("at the end: {tasks} tasks, {sessions} sessions, {connections} connections are left"));
        }
        if self.violation.is_none() {
            self.restart(Some(PowerCut::LosesAll), &mut rng);
        }
    }
}

/// Mostly the length of the command, sometimes less or more.
fn odd_length(length: u32, rng: &mut Rng) -> u32 {
    match rng.below(12) {
        0 => length - 1 - rng.below(u64::from(length) - 1) as u32,
        1 => length + 1 + rng.below(2000) as u32,
        _ => length,
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

fn start(rng: &mut Rng, time: VirtualTime) -> San {
    San::with_clock(2, rng.next(), time, |config| {
        config.limits.unsent_read_bytes = UNSENT;
        config.session = SessionConfig { queue_depth: QUEUE_DEPTH, ..SessionConfig::default() };
    })
}

fn unit(identity: Identity, store: &FaultyStore, records: &Records) -> Arc<SbdLu> {
    let mut limits = lu_sbd::Limits::default();
    (limits.read_piece_bytes, limits.write_piece_bytes, limits.max_write_bytes) = (4096, 1024, 4096);
    let again = store.clone();
    let lu = SbdLu::new(identity, Arc::new(store.clone()), Arc::new(records.clone()), limits);
    Arc::new(lu.with_reopen(Box::new(move || Ok(Arc::new(again.clone()) as Arc<dyn BackingStore>))))
}

fn identity(index: usize) -> Identity {
    Identity {
        guid: guid(index as u16 + 1),
        vendor: "LUNETTE".into(),
        product: "VIRTUAL DISK".into(),
        revision: "0001".into(),
        serial: None,
        alias: format!("disk{index}"),
        block_size: BLOCK as u32,
        // The least that there is; nobody goes beyond the blocks that are simulated.
        size: 1 << 20,
        write_protect: false,
        write_cache_disabled: false,
        management_urls: vec![],
        data: None,
        removable: false,
        thick: false,
        device_information: Vec::new(),
        text_information: String::new(),
        mode_pages: vec![],
        reservations: vec![],
        unfinished: None,
    }
}
