//! An initiator port: finds targets on its fabric, logs in, and asks what they show.

use super::report::{counters, words};
use crate::admin::fibre_channel::{FcAdapterInfo, FcRemoteInfo, FcUnitInfo};
use fct::initiator::{Command, Event, Initiator, Outcome};
use fct::wire::Els;
use scsi_core::{Lun, Status};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use stmf::provider::PortError;
use stmf::provider::hba::{ExchangeId, Hba, LinkStatistics, PortId, Topology};

/// How often a fabric is asked for targets that have come without a word.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How long an answer about logical units is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Logical units of one target that are looked at.
const MAX_UNITS: usize = 1024;
/// How often a command is sent again after a unit attention.
const MAX_AGAIN: u8 = 8;
/// Targets that are logged in to; further ones are left alone.
const MAX_TARGETS: usize = 64;
/// Bytes of a REPORT LUNS list that are taken.
const LIST_BYTES: u32 = 8 + 8 * MAX_UNITS as u32;

/// Logical units by port name.
pub(super) type Units = BTreeMap<String, Vec<FcUnitInfo>>;

/// See the module.
pub(super) struct InitiatorPort {
    initiator: Initiator,
    targets: BTreeSet<PortId>,
    /// Ports that are there, among equals.
    neighbours: BTreeSet<PortId>,
    /// Logins on their way.
    trying: BTreeSet<PortId>,
    look_again: Option<Instant>,
    asking: Option<Asking>,
    /// Targets that were asked for the errors of their links, and what they said.
    asked_errors: HashMap<ExchangeId, PortId>,
    link_errors: BTreeMap<PortId, LinkStatistics>,
}

/// Somebody wants to know which logical units there are.
struct Asking {
    answers: Vec<mpsc::SyncSender<Units>>,
    running: HashMap<ExchangeId, (PortId, Question, u8)>,
    found: BTreeMap<(PortId, u16), FcUnitInfo>,
    until: Instant,
}

#[derive(Clone, Copy)]
enum Question {
    Which,
    What(u16),
    Who(u16),
}

impl InitiatorPort {
    pub(super) fn new(now: Instant, hba: Box<dyn Hba>, symbolic_name: &str) -> Self {
        let initiator = Initiator::new(now, hba, symbolic_name);
        let (targets, neighbours, trying) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (asked_errors, link_errors) = (HashMap::new(), BTreeMap::new());
        Self { initiator, targets, neighbours, trying, look_again: None, asking: None, asked_errors, link_errors }
    }

    /// Moves what can be moved; `true` if there is more at once.
    pub(super) fn drive(&mut self, now: Instant) -> bool {
        let mut progress = self.initiator.drive(now);
        if self.look_again.is_some_and(|due| due <= now) {
            self.look(now);
        }
        while let Some(event) = self.initiator.poll_event() {
            progress = true;
            self.take(now, event);
        }
        if self.asking.as_ref().is_some_and(|asking| asking.running.is_empty() || asking.until <= now) {
            self.answer();
        }
        progress
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let asking = self.asking.as_ref().map(|asking| asking.until);
        [self.initiator.poll_timeout(), self.look_again, asking].into_iter().flatten().min()
    }

    pub(super) fn reset_link(&mut self, now: Instant) -> Result<(), PortError> {
        self.initiator.reset_link(now)
    }

    /// Asks every target for its logical units; the answer comes when all have told, or have not in time.
    pub(super) fn ask_units(&mut self, now: Instant) -> mpsc::Receiver<Units> {
        let (sender, answer) = mpsc::sync_channel(1);
        if let Some(asking) = &mut self.asking {
            asking.answers.push(sender);
            return answer;
        }
        self.asking = Some(Asking {
            answers: vec![sender],
            running: HashMap::new(),
            found: BTreeMap::new(),
            until: now + PATIENCE,
        });
        for target in self.targets.clone() {
            self.ask(now, target, Question::Which, MAX_AGAIN);
        }
        answer
    }

    /// Asks every target for the errors of its link (RLS).
    pub(super) fn ask_link_errors(&mut self, now: Instant) {
        for target in &self.targets {
            self.link_errors.remove(target);
            if !self.asked_errors.values().any(|asked| asked == target) {
                let exchange = self.initiator.request(now, *target, &Els::Rls);
                self.asked_errors.insert(exchange, *target);
            }
        }
    }

    /// Whether a target has not answered that.
    pub(super) fn awaits_link_errors(&self) -> bool {
        self.asked_errors.values().any(|asked| self.targets.contains(asked))
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.initiator.failure()
    }

    pub(super) fn info(&self) -> FcAdapterInfo {
        let hba = self.initiator.hba();
        let link = self.initiator.link();
        let up = self.initiator.address() != PortId::NONE;
        let port_type = match link.map(|link| link.topology).filter(|_| up) {
            None => "unknown",
            Some(Topology::PublicLoop) => "NL-port",
            Some(Topology::PrivateLoop) => "L-port",
            Some(Topology::PointToPoint) if !self.initiator.is_on_fabric() => "point-to-point",
            Some(_) => "N-port",
        };
        let remote = |id: &PortId| {
            let remote = self.initiator.remote(*id)?;
            Some(FcRemoteInfo {
                port_name: remote.port_name.to_string(),
                node_name: remote.node_name.to_string(),
                port_id: id.to_string(),
                symbolic_name: self.initiator.symbolic_name_of(*id).map(str::to_owned),
                target: true,
                session: true,
                link_errors: self.link_errors.get(id).copied().map(counters),
                units: Vec::new(),
            })
        };
        let mut remotes: Vec<FcRemoteInfo> = self.targets.iter().filter_map(remote).collect();
        remotes.sort_by(|a, b| a.port_name.cmp(&b.port_name));
        FcAdapterInfo {
            port_id: self.initiator.address().to_string(),
            port_type: port_type.into(),
            state: match link {
                _ if self.failure().is_some() => "error",
                Some(_) => "online",
                None => "link down",
            }
            .into(),
            speed: link.map_or(0, |link| link.speed),
            remotes,
            ..words(hba.details(), hba.statistics())
        }
    }

    /// Looks for targets.
    fn look(&mut self, now: Instant) {
        self.look_again = Some(now + LOOK_AGAIN);
        if self.initiator.is_on_fabric() {
            return self.initiator.discover(now);
        }
        let other = match self.initiator.address() {
            PortId(1) => PortId(2),
            PortId(2) => PortId(1),
            // Among equals all that are there are tried; on a loop nobody tells who is.
            _ => {
                for id in self.neighbours.clone() {
                    self.log_in(now, id);
                }
                return;
            }
        };
        self.log_in(now, other);
    }

    /// Logs in, unless that is done or under way: a second login would end the first.
    fn log_in(&mut self, now: Instant, id: PortId) {
        if !self.targets.contains(&id) && self.trying.insert(id) {
            self.initiator.log_in(now, id);
        }
    }

    fn take(&mut self, now: Instant, event: Event) {
        match event {
            Event::Up(_) => self.look(now),
            Event::Down => {
                self.asked_errors.clear();
                self.link_errors.clear();
                self.targets.clear();
                self.neighbours.clear();
                self.trying.clear();
                self.look_again = None;
            }
            Event::Changed(ids) => {
                for id in ids {
                    self.targets.remove(&id);
                    self.trying.remove(&id);
                    self.initiator.forget(now, id);
                }
                self.look(now);
            }
            Event::Found(ids) => {
                let gone: Vec<PortId> = self.targets.iter().copied().filter(|id| !ids.contains(id)).collect();
                for id in gone {
                    self.targets.remove(&id);
                    self.initiator.forget(now, id);
                }
                for id in ids.into_iter().take(MAX_TARGETS) {
                    self.log_in(now, id);
                }
            }
            Event::NeighbourUp(id) if self.neighbours.len() < MAX_TARGETS => {
                self.neighbours.insert(id);
                // It may have claimed its address only now, and take no login before it has it.
                self.look_again = Some(now + Duration::from_secs(1));
            }
            Event::NeighbourDown(id) => {
                self.neighbours.remove(&id);
                self.targets.remove(&id);
                self.trying.remove(&id);
            }
            Event::LoggedIn(id) => {
                self.trying.remove(&id);
                self.targets.insert(id);
            }
            Event::LoggedOut(id) => {
                self.targets.remove(&id);
                self.look_again = Some(now + Duration::from_secs(1));
            }
            // Another initiator, or a target that does not want us: it is asked again with the next look.
            Event::Refused(id, _) => {
                self.trying.remove(&id);
                self.initiator.forget(now, id);
            }
            Event::Answered(exchange, payload) => {
                if let Some(target) = self.asked_errors.remove(&exchange)
                    && let Some(errors) = payload.as_deref().and_then(Els::accepted_link_errors)
                {
                    self.link_errors.insert(target, errors);
                }
            }
            Event::Done(exchange, outcome) => self.take_outcome(now, exchange, &outcome),
            _ => {}
        }
    }

    fn ask(&mut self, now: Instant, to: PortId, question: Question, again: u8) {
        let (lun, cdb, length) = match question {
            Question::Which => (0, [0xa0, 0, 0, 0, 0, 0, 0, 0, (LIST_BYTES >> 8) as u8, LIST_BYTES as u8], LIST_BYTES),
            Question::What(lun) => (lun, [0x12, 0, 0, 0, 96, 0, 0, 0, 0, 0], 96),
            Question::Who(lun) => (lun, [0x12, 1, 0x83, 1, 0, 0, 0, 0, 0, 0], 256),
        };
        let mut cdb = cdb.to_vec();
        cdb.resize(16, 0);
        let Some(lun) = Lun::new(lun) else { return };
        let command = Command { lun, cdb, data_in_length: length, ..Command::default() };
        let exchange = self.initiator.submit(now, to, command);
        if let Some(asking) = &mut self.asking {
            asking.running.insert(exchange, (to, question, again));
        }
    }

    fn take_outcome(&mut self, now: Instant, exchange: ExchangeId, outcome: &Outcome) {
        let Some(asking) = &mut self.asking else { return };
        let Some((to, question, again)) = asking.running.remove(&exchange) else { return };
        let status = outcome.response.as_ref().map(|response| Status(response.status));
        if status == Some(Status::CHECK_CONDITION) && again > 0 {
            // Most likely a unit attention of a session that is new.
            return self.ask(now, to, question, again - 1);
        }
        if status != Some(Status::GOOD) {
            return;
        }
        let data = &outcome.data;
        match question {
            Question::Which => {
                let entries = data.get(8..).unwrap_or_default().chunks_exact(8).take(MAX_UNITS);
                // Single level, peripheral or flat: what this server gives.
                let luns: Vec<u16> = entries.map(|entry| u16::from_be_bytes([entry[0] & 0x3f, entry[1]])).collect();
                for lun in luns {
                    self.ask(now, to, Question::What(lun), MAX_AGAIN);
                }
            }
            Question::What(lun) => {
                let text = |range: std::ops::Range<usize>| {
                    String::from_utf8_lossy(data.get(range).unwrap_or_default()).into_owned()
                };
                let unit = FcUnitInfo {
                    lun,
                    vendor: text(8..16),
                    product: text(16..32),
                    device_type: device_type(data.first().copied().unwrap_or(0x1f)).into(),
                    guid: None,
                };
                asking.found.insert((to, lun), unit);
                self.ask(now, to, Question::Who(lun), 1);
            }
            Question::Who(lun) => {
                if let Some(unit) = asking.found.get_mut(&(to, lun)) {
                    unit.guid = naa(data);
                }
            }
        }
    }

    fn answer(&mut self) {
        let Some(asking) = self.asking.take() else { return };
        let mut units = Units::new();
        for ((id, _), unit) in asking.found {
            if let Some(name) = self.initiator.port_name_of(id) {
                units.entry(name.to_string()).or_default().push(unit);
            }
        }
        for answer in asking.answers {
            // Nobody may be waiting any more.
            let _ = answer.try_send(units.clone());
        }
    }
}

fn device_type(first: u8) -> &'static str {
    match first & 0x1f {
        0x00 => "Disk Device",
        0x01 => "Tape Device",
        0x05 => "CD-ROM Device",
        0x0c => "Array Controller Device",
        0x0d => "Enclosure Services Device",
        _ => "Unknown Device",
    }
}

/// The unit's NAA designator in the page of designators.
fn naa(page: &[u8]) -> Option<String> {
    let mut rest = page.get(4..)?;
    while let Some((header, behind)) = rest.split_first_chunk::<4>() {
        let designator = behind.get(..usize::from(header[3]))?;
        // Binary, of the logical unit, NAA.
        if header[0] & 0x0f == 1 && header[1] & 0x3f == 3 {
            return Some(designator.iter().map(|byte| format!("{byte:02X}")).collect());
        }
        rest = &behind[designator.len()..];
    }
    None
}
