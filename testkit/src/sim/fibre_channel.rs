//! Fibre Channel beside iSCSI: two hosts on a fabric whose wires lose, reorder and flap, one on a cable that does not,
//! and one unit for all three. The judge of blocks is that of the other worlds; it also knows what a host must be told.

use bytes::Bytes;
use fct::initiator::{self as fc, Event, Initiator as FcInitiator};
use fct::soft::{Fabric, FabricConfig, Faults, SoftHba, SoftHbaConfig, Wire};
use fct::{Port, PortConfig, StoreJob};
use lu_sbd::SbdLu;
use scsi_core::{Lun, SenseData, SenseKey, Status};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stmf::provider::hba::{ExchangeId, HbaLevel, PortId, Wwn};

use super::blocks::{BLOCK, Blocks, Tick, content, value};
use super::peer::OpId;
use crate::initiator::{Command, Initiator, LoginOptions};
use crate::link::LinkFaults;
use crate::rng::Rng;
use crate::san::{San, SanWire, TARGET};

/// Blocks of the unit.
const BLOCKS: usize = 64;
/// Hosts on the fabric.
const HOSTS: usize = 2;
/// Commands that a host has under way.
const MOST_RUNNING: usize = 4;
/// Longer than any timer of exchanges and logins.
const PATIENCE: Duration = Duration::from_secs(100);

/// How a run went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FcReport {
    /// The rule that was broken first, and how.
    pub violation: Option<String>,
    /// The same for the same seed and number, always.
    pub fingerprint: u64,
    /// What was done and injected, by kind.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Runs a seed with so many actions.
pub fn run_fibre_channel(seed: u64, actions: usize) -> FcReport {
    let mut world = World::new(seed);
    for _ in 0..actions {
        world.act();
        if world.violation.is_some() {
            break;
        }
    }
    world.heal();
    FcReport { violation: world.violation, fingerprint: world.fingerprint, counts: world.counts }
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Read { lba: usize, blocks: usize },
    Write,
    Probe,
}

#[derive(Debug)]
struct Op {
    id: OpId,
    start: Tick,
    deed: Deed,
    /// No other command of the host can have reached the unit before it.
    alone: bool,
    /// Frames that the host's wires had lost when it began.
    lost: u64,
    reserved: bool,
}

struct Host {
    wire: Wire,
    initiator: FcInitiator,
    target: Option<PortId>,
    running: BTreeMap<ExchangeId, Op>,
    /// It has to hear that its nexus is new.
    due: bool,
    /// What it sends later may overtake what it has sent.
    reorders: bool,
}

struct World {
    now: Instant,
    rng: Rng,
    san: San,
    lu: Arc<SbdLu>,
    fabric: Fabric,
    /// The wire of the target port.
    wire: Wire,
    address: PortId,
    port: Port,
    hosts: Vec<Host>,
    iscsi: Initiator<SanWire>,
    blocks: Blocks,
    /// Store operations of the port that wait.
    held: VecDeque<StoreJob>,
    hold: bool,
    /// By the host of iSCSI.
    reserved: bool,
    tick: Tick,
    next_op: OpId,
    violation: Option<String>,
    fingerprint: u64,
    counts: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0xfc_fc);
        let san = San::new(1, rng.next());
        let (lu, _store) = san.disk(1, 0, BLOCKS * BLOCK);
        let mut fabric = Fabric::new(FabricConfig { domain: 1, name: Wwn(0x1000_0000_0000_0001) });
        let level = if rng.chance(500_000) { HbaLevel::Frames } else { HbaLevel::Commands };
        let now = Instant::now();
        let adapter = |number: u64, wire: &Wire, fabric: &mut Fabric, level| {
            let (ours, theirs) = wire.ends();
            let address = fabric.attach(theirs);
            let config = SoftHbaConfig::new(Wwn(0x2100_0000_0000_0000 | number), Wwn(0x2000_0000_0000_0000 | number));
            (Box::new(SoftHba::new(SoftHbaConfig { level, ..config }, ours)), address)
        };
        let wire = Wire::new(rng.next());
        let (hba, address) = adapter(1, &wire, &mut fabric, level);
        let port = Port::new(&san.stmf(), hba, PortConfig::default(), Box::new(|| {})).expect("a new target");
        let host = |number: usize, rng: &mut Rng, fabric: &mut Fabric| {
            let wire = Wire::new(rng.next());
            let (hba, _) = adapter(number as u64 + 16, &wire, fabric, HbaLevel::Frames);
            let mut initiator = FcInitiator::new(now, hba, ":sim");
            if rng.chance(300_000) {
                initiator.offer(fct::wire::FcpService::CONFIRMED_COMPLETION);
            }
            Host { wire, initiator, target: None, running: BTreeMap::new(), due: false, reorders: false }
        };
        let hosts = (0..HOSTS).map(|number| host(number, &mut rng, &mut fabric)).collect();
        let mut iscsi = Initiator::new(san.connect(0, LinkFaults::default()));
        iscsi.login(&LoginOptions::normal("iqn.2026-11.test:host", TARGET)).expect("a login on a good cable");
        let mut world = Self {
            now,
            rng,
            san,
            lu,
            fabric,
            wire,
            address,
            port,
            hosts,
            iscsi,
            blocks: Blocks::new(0, BLOCKS),
            held: VecDeque::new(),
            hold: false,
            reserved: false,
            tick: 1,
            next_op: 1,
            violation: None,
            fingerprint: seed,
            counts: BTreeMap::new(),
        };
        world.over_iscsi(&Command::new(0, &[0; 6]));
        world.pass(Duration::from_secs(5));
        world
    }

    fn tick(&mut self) -> Tick {
        self.tick += 1;
        self.tick
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn note(&mut self, code: u64) {
        for part in [self.tick, code] {
            self.fingerprint = (self.fingerprint ^ part).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
        }
    }

    fn fail(&mut self, words: impl Into<String>) {
        if self.violation.is_none() {
            self.violation = Some(words.into());
        }
    }

    /// Everything that happens without the time passing.
    fn run(&mut self) {
        loop {
            let mut progress = self.port.drive(self.now);
            while let Some(job) = self.port.poll_store() {
                self.held.push_back(job);
            }
            while !self.hold
                && let Some(job) = self.held.pop_front()
            {
                progress = true;
                self.perform(job);
            }
            for at in 0..HOSTS {
                progress |= self.hosts[at].initiator.drive(self.now);
                while let Some(event) = self.hosts[at].initiator.poll_event() {
                    progress = true;
                    self.hear(at, event);
                }
            }
            // Last: it sees what the others have sent, and that they have more to take.
            progress |= self.fabric.drive(self.now);
            if !progress {
                self.san.settle();
                return;
            }
        }
    }

    fn perform(&mut self, job: StoreJob) {
        let done = job.lu.perform(job.request);
        self.port.handle_store_done(self.now, &job.lu, done);
    }

    /// Lets time pass, deadline by deadline.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.run();
        while self.now < end {
            let hosts = self.hosts.iter().filter_map(|host| host.initiator.poll_timeout());
            let others = [self.port.poll_timeout(), self.fabric.poll_timeout()].into_iter().flatten();
            let next = hosts.chain(others).min();
            self.now = next.map_or(end, |next| next.clamp(self.now + Duration::from_millis(1), end));
            self.run();
        }
    }

    fn lost(&self, at: usize) -> u64 {
        self.hosts[at].wire.lost() + self.wire.lost()
    }

    fn hear(&mut self, at: usize, event: Event) {
        let (now, address) = (self.now, self.address);
        let host = &mut self.hosts[at];
        match event {
            Event::Up(_) | Event::Refused(..) => host.initiator.log_in(now, address),
            Event::LoggedIn(id) => {
                (host.target, host.due) = (Some(id), true);
                self.count("logins over the fabric");
            }
            Event::LoggedOut(id) => {
                host.target = None;
                host.initiator.log_in(now, id);
            }
            Event::Down => host.target = None,
            Event::Done(exchange, outcome) => {
                if let Some(op) = host.running.remove(&exchange) {
                    self.judge(at, &op, &outcome);
                }
            }
            _ => {}
        }
    }

    fn judge(&mut self, at: usize, op: &Op, outcome: &fc::Outcome) {
        let end = self.tick();
        let Some(response) = &outcome.response else {
            self.count("commands without an end");
            self.blocks.orphan(op.id, end);
            // With one frame lost the abort arrived, and what the answer told is told again.
            if self.lost(at) > op.lost + 1 || self.hosts[at].target.is_none() {
                self.hosts[at].due = false;
            }
            return;
        };
        let status = Status(response.status);
        self.note(u64::from(response.status) << 32 | op.id);
        let attention = SenseData::decode(&response.sense).filter(|sense| sense.key == SenseKey::UNIT_ATTENTION);
        match status {
            Status::GOOD => {
                if op.alone && self.hosts[at].due {
                    self.fail(format!("host{at} op {}: GOOD, though it has not heard that its nexus is new", op.id));
                }
                if op.reserved && self.reserved && !matches!(op.deed, Deed::Probe) {
                    self.fail(format!("host{at} op {}: {:?} past the reservation of another", op.id, op.deed));
                }
                self.blocks.end(op.id, end, true, false);
                if let Deed::Read { lba, blocks } = op.deed
                    && outcome.whole
                    && outcome.data.len() == blocks * BLOCK
                {
                    self.count("reads judged");
                    if let Err(words) = self.blocks.read(lba, &outcome.data, op.start, end) {
                        self.fail(format!("host{at} op {}: {words}", op.id));
                    }
                }
            }
            Status::CHECK_CONDITION if attention.is_some() => {
                self.count("unit attentions");
                self.hosts[at].due &= attention.is_some_and(|sense| sense.code.asc != 0x29);
                self.blocks.undo(op.id);
            }
            Status::RESERVATION_CONFLICT => {
                self.count("reservation conflicts");
                if !op.reserved && !self.reserved {
                    self.fail(format!("host{at} op {}: a conflict without a reservation", op.id));
                }
                self.blocks.undo(op.id);
            }
            other => self.fail(format!("host{at} op {}: {:?} ends with {other:?}", op.id, op.deed)),
        }
    }

    fn submit(&mut self, at: usize, deed: Deed, cdb: &[u8], data_out: Bytes, room: usize) -> Option<ExchangeId> {
        let (start, lost) = (self.tick(), self.lost(at));
        let id = self.next_op;
        self.next_op += 1;
        let host = &mut self.hosts[at];
        let target = host.target?;
        let mut cdb = cdb.to_vec();
        cdb.resize(16, 0);
        let command = fc::Command { lun: Lun::ZERO, cdb, data_out, data_in_length: room as u32, ..Default::default() };
        let exchange = host.initiator.submit(self.now, target, command);
        let alone = host.running.is_empty();
        if host.reorders {
            host.running.values_mut().for_each(|op| op.alone = false);
        }
        host.running.insert(exchange, Op { id, start, deed, alone, lost, reserved: self.reserved });
        self.count("commands over the fabric");
        Some(exchange)
    }

    fn read(&mut self, at: usize, lba: usize, blocks: usize) -> Option<ExchangeId> {
        self.submit(at, Deed::Read { lba, blocks }, &ten(0x28, lba, blocks), Bytes::new(), blocks * BLOCK)
    }

    fn write(&mut self, at: usize, lba: usize, blocks: usize) -> Option<ExchangeId> {
        self.hosts[at].target?;
        let data = self.begin_write(lba, blocks);
        self.submit(at, Deed::Write, &ten(0x2a, lba, blocks), data, 0)
    }

    /// Tells the judge that the next operation writes; what it writes.
    fn begin_write(&mut self, lba: usize, blocks: usize) -> Bytes {
        let (op, start) = (self.next_op, self.tick());
        let value = value(0, op);
        self.blocks.begin(op, value, false, lba, blocks, start);
        (lba..lba + blocks).flat_map(|lba| content(value, Some(lba as u64))).collect()
    }

    fn over_iscsi(&mut self, command: &Command) -> Option<crate::initiator::Outcome> {
        // Its initiator waits for the end: nothing may wait for us.
        self.release();
        let outcome = self.iscsi.command(command);
        self.count("commands over iSCSI");
        match outcome {
            Ok(outcome) => Some(outcome),
            Err(error) => {
                self.fail(format!("iSCSI: {error}"));
                None
            }
        }
    }

    fn release(&mut self) {
        self.hold = false;
        self.run();
    }

    /// Ends what is under way: what has no end is aborted, and if that is lost, forgotten in time.
    fn quiesce(&mut self) {
        self.release();
        for at in 0..HOSTS {
            let running: Vec<ExchangeId> = self.hosts[at].running.keys().copied().collect();
            for exchange in running {
                self.hosts[at].initiator.abort(self.now, exchange);
            }
        }
        self.run();
        if self.hosts.iter().any(|host| !host.running.is_empty()) {
            self.pass(PATIENCE);
        }
    }

    fn act(&mut self) {
        let at = self.rng.below(HOSTS as u64) as usize;
        let lba = self.rng.below(BLOCKS as u64) as usize;
        let blocks = 1 + self.rng.below((BLOCKS - lba).min(12) as u64) as usize;
        let room = self.hosts[at].running.len() < MOST_RUNNING;
        match self.rng.below(100) {
            0..36 if room => drop(self.write(at, lba, blocks)),
            36..62 if room => drop(self.read(at, lba, blocks)),
            62..66 if room => drop(self.submit(at, Deed::Probe, &[0; 6], Bytes::new(), 0)),
            66..74 => {
                let op = self.next_op;
                let data = self.begin_write(lba, blocks);
                self.next_op += 1;
                let outcome = self.over_iscsi(&Command::write_blocks(0, lba as u64, data));
                let end = self.tick();
                self.blocks.end(op, end, outcome.as_ref().is_some_and(|outcome| outcome.is_good()), false);
                if outcome.is_some_and(|outcome| !outcome.is_good()) {
                    self.fail("iSCSI: a write without a reason to fail");
                }
            }
            74..82 => self.read_over_iscsi(lba, blocks),
            82..87 => {
                self.count("wires disturbed");
                let chance = |rng: &mut Rng| if rng.chance(500_000) { 0 } else { rng.below(60) as u16 };
                let faults = Faults {
                    loss_per_mille: chance(&mut self.rng),
                    reorder_per_mille: 5 * chance(&mut self.rng),
                    lose_nth: self.rng.below(6) as u32,
                    ..Faults::default()
                };
                self.hosts[at].reorders |= faults.reorder_per_mille > 0;
                self.hosts[at].wire.set_faults(faults);
            }
            87..89 => {
                self.count("links down and up");
                self.hosts[at].wire.flap();
                self.hosts[at].due = false;
            }
            89 => {
                self.count("the target's link down and up");
                self.wire.flap();
                self.hosts.iter_mut().for_each(|host| host.due = false);
            }
            90..93 => {
                self.count("stores held");
                self.hold = true;
            }
            93..95 => {
                self.quiesce();
                self.count("reservations changed");
                let opcode = if self.reserved { 0x17 } else { 0x16 };
                self.over_iscsi(&Command::new(0, &[opcode, 0, 0, 0, 0, 0]));
                self.reserved = !self.reserved;
            }
            95..97 => {
                let time = Duration::from_millis(self.rng.below(30_000));
                self.pass(time);
            }
            _ => self.quiesce(),
        }
        if self.rng.chance(600_000) {
            self.run();
        }
    }

    fn read_over_iscsi(&mut self, lba: usize, blocks: usize) {
        let start = self.tick();
        let outcome = self.over_iscsi(&Command::read_blocks(0, lba as u64, blocks as u32));
        let end = self.tick();
        if let Some(outcome) = outcome
            && let Err(words) = self.blocks.read(lba, &outcome.data, start, end)
        {
            self.fail(format!("iSCSI: {words}"));
        }
    }

    /// The faults stop: everybody is served again, and sees the same.
    fn heal(&mut self) {
        if self.violation.is_some() {
            return;
        }
        self.hosts.iter().for_each(|host| host.wire.set_faults(Faults::default()));
        self.quiesce();
        if self.reserved {
            self.over_iscsi(&Command::new(0, &[0x17, 0, 0, 0, 0, 0]));
            self.reserved = false;
        }
        self.wire.flap();
        for host in &mut self.hosts {
            host.wire.flap();
            host.due = false;
        }
        self.pass(PATIENCE);
        for at in 0..HOSTS {
            if self.hosts[at].target.is_none() {
                return self.fail(format!("host{at} is not logged in after healing"));
            }
            for _ in 0..4 {
                self.submit(at, Deed::Probe, &[0; 6], Bytes::new(), 0);
                self.run();
            }
            self.write(at, at, 1);
            self.run();
            self.read(at, 0, BLOCKS);
            self.run();
            if !self.hosts[at].running.is_empty() {
                self.fail(format!("host{at} is not served after healing"));
            }
        }
        self.read_over_iscsi(0, BLOCKS);
        let (sessions, tasks) = (self.san.stmf().sessions().len(), self.lu.snapshot().tasks);
        if (sessions, tasks, self.port.outstanding()) != (HOSTS + 1, 0, 0) {
            let open = self.port.outstanding();
            self.fail(format!("at the end: {sessions} sessions, {tasks} tasks of the unit, {open} of the port"));
        }
    }
}

fn ten(opcode: u8, lba: usize, blocks: usize) -> [u8; 10] {
    let mut cdb = [0; 10];
    cdb[0] = opcode;
    cdb[2..6].copy_from_slice(&(lba as u32).to_be_bytes());
    cdb[7..9].copy_from_slice(&(blocks as u16).to_be_bytes());
    cdb
}
