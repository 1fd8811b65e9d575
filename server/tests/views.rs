//! Thousands of random changes through the engine, against a reading of the rules word for word: what every nexus sees, and
//! which unit attentions it gets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use lunette_loopback::{Client, Command, Port};
use lunette_server::admin::{Engine, Kind, Request};
use lunette_server::{Server, ServerConfig};
use proptest::prelude::*;
use scsi_core::Status;

const INITIATORS: [&str; 4] =
    ["iqn.2026-11.org.i:a", "iqn.2026-11.org.i:b", "wwn.210000E08B100163", "naa.52004567BA64678D"];
const TARGETS: [&str; 2] = ["iqn.2026-11.org.t:a", "iqn.2026-11.org.t:b"];
const HOST_GROUPS: [&str; 3] = ["h0", "h1", "h2"];
const TARGET_GROUPS: [&str; 2] = ["t0", "t1"];
const UNITS: usize = 4;
/// Changes of one run, and runs: 3,000 in all.
const STEPS: usize = 75;
const RUNS: u32 = 40;

/// REPORTED LUNS DATA HAS CHANGED.
const LUNS_CHANGED: (u8, u8) = (0x3f, 0x0e);
/// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED, and its kin.
const POWER_ON: u8 = 0x29;
/// CAPACITY DATA HAS CHANGED.
const CAPACITY_CHANGED: (u8, u8) = (0x2a, 0x09);

#[derive(Clone, Debug)]
enum Step {
    CreateGroup(Kind, usize),
    DeleteGroup(Kind, usize),
    AddMember(Kind, usize, usize),
    RemoveMember(Kind, usize, usize),
    AddView { unit: usize, host: Option<usize>, target: Option<usize>, lun: Option<u16> },
    RemoveView(usize, u32),
    RemoveViews(usize),
    Delete(usize, bool),
    Import(usize),
    Online(usize, bool),
    Resize(usize),
    Login(usize, usize),
    Logout(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(Kind::Host), Just(Kind::Target)];
    let unit = 0..UNITS;
    let some = |n: usize| prop::option::weighted(0.7, 0..n);
    prop_oneof![
        3 => (kind.clone(), 0..3usize).prop_map(|(kind, group)| Step::CreateGroup(kind, group)),
        1 => (kind.clone(), 0..3usize).prop_map(|(kind, group)| Step::DeleteGroup(kind, group)),
        5 => (kind.clone(), 0..3usize, 0..4usize).prop_map(|(kind, g, m)| Step::AddMember(kind, g, m)),
        3 => (kind, 0..3usize, 0..4usize).prop_map(|(kind, g, m)| Step::RemoveMember(kind, g, m)),
        8 => (unit.clone(), some(3), some(2), prop::option::of(0..5u16))
            .prop_map(|(unit, host, target, lun)| Step::AddView { unit, host, target, lun }),
        4 => (unit.clone(), 0..3u32).prop_map(|(unit, index)| Step::RemoveView(unit, index)),
        1 => unit.clone().prop_map(Step::RemoveViews),
        1 => (unit.clone(), any::<bool>()).prop_map(|(unit, keep)| Step::Delete(unit, keep)),
        3 => unit.clone().prop_map(Step::Import),
        3 => (unit.clone(), any::<bool>()).prop_map(|(unit, online)| Step::Online(unit, online)),
        3 => unit.prop_map(Step::Resize),
        5 => (0..4usize, 0..2usize).prop_map(|(initiator, target)| Step::Login(initiator, target)),
        1 => (0..8usize).prop_map(Step::Logout),
    ]
}

fn guid(unit: usize) -> String {
    format!("600144F000000000000000000000000{}", unit + 1)
}

fn group(kind: Kind, number: usize) -> &'static str {
    match kind {
        Kind::Host => HOST_GROUPS[number % HOST_GROUPS.len()],
        Kind::Target => TARGET_GROUPS[number % TARGET_GROUPS.len()],
    }
}

fn member(kind: Kind, number: usize) -> &'static str {
    match kind {
        Kind::Host => INITIATORS[number % INITIATORS.len()],
        Kind::Target => TARGETS[number % TARGETS.len()],
    }
}

/// Host group, target group, LUN.
type View = (Option<&'static str>, Option<&'static str>, u16);

#[derive(Default)]
struct Rules {
    groups: BTreeMap<(bool, &'static str), Vec<&'static str>>,
    views: BTreeMap<(usize, u32), View>,
    /// Registered units; whether online.
    units: BTreeMap<usize, bool>,
}

impl Rules {
    fn group_of(&self, kind: Kind, member: &str) -> Option<&'static str> {
        let of_kind = self.groups.iter().filter(|((host, _), _)| *host == (kind == Kind::Host));
        of_kind.filter(|(_, members)| members.contains(&member)).map(|((_, name), _)| *name).next()
    }

    /// LUN to unit, as the rules say it.
    fn map(&self, initiator: &str, target: &str) -> BTreeMap<u16, usize> {
        let (hg, tg) = (self.group_of(Kind::Host, initiator), self.group_of(Kind::Target, target));
        let mut map = BTreeMap::new();
        for ((unit, _), (host, target, lun)) in &self.views {
            let holds = (host.is_none() || *host == hg) && (target.is_none() || *target == tg);
            if holds && self.units.get(unit) == Some(&true) {
                assert!(map.insert(*lun, *unit).is_none(), "two units at LUN {lun}");
            }
        }
        map
    }

    /// Whether the change is made.
    fn change(&mut self, step: &Step) -> bool {
        let key = |kind: Kind, number: usize| (kind == Kind::Host, group(kind, number));
        match *step {
            Step::CreateGroup(kind, number) => {
                !self.groups.contains_key(&key(kind, number))
                    && self.groups.insert(key(kind, number), Vec::new()).is_none()
            }
            Step::DeleteGroup(kind, number) => {
                let name = Some(group(kind, number));
                let used = self.views.values().any(|(host, target, _)| match kind {
                    Kind::Host => *host == name,
                    Kind::Target => *target == name,
                });
                !used && self.groups.remove(&key(kind, number)).is_some()
            }
            Step::AddMember(kind, number, who) => {
                let name = member(kind, who);
                if self.group_of(kind, name).is_some() {
                    return false;
                }
                self.groups.get_mut(&key(kind, number)).map(|members| members.push(name)).is_some()
            }
            Step::RemoveMember(kind, number, who) => {
                let Some(members) = self.groups.get_mut(&key(kind, number)) else { return false };
                let before = members.len();
                members.retain(|name| *name != member(kind, who));
                members.len() < before
            }
            Step::AddView { unit, host, target, lun } => {
                let host = host.map(|number| group(Kind::Host, number));
                let target = target.map(|number| group(Kind::Target, number));
                let known =
                    |is_host, name: Option<_>| name.is_none_or(|name| self.groups.contains_key(&(is_host, name)));
                if !known(true, host) || !known(false, target) {
                    return false;
                }
                let meet = |a: Option<&str>, b: Option<&str>| a.is_none() || b.is_none() || a == b;
                let overlapping = self.views.iter().filter(|(_, (h, t, _))| meet(*h, host) && meet(*t, target));
                let taken: Vec<(usize, u16)> = overlapping.map(|((unit, _), (_, _, lun))| (*unit, *lun)).collect();
                let is_free = |lun: &u16| taken.iter().all(|(_, other)| other != lun);
                let Some(lun) = lun.or_else(|| (0..).find(is_free)) else { return false };
                if taken.iter().any(|(other, _)| *other == unit) || !is_free(&lun) {
                    return false;
                }
                let index = (0..).find(|index| !self.views.contains_key(&(unit, *index))).unwrap();
                self.views.insert((unit, index), (host, target, lun)).is_none()
            }
            Step::RemoveView(unit, index) => self.views.remove(&(unit, index)).is_some(),
            Step::RemoveViews(unit) => self.forget_views(unit),
            Step::Delete(unit, keep_views) => {
                let known = self.units.remove(&unit).is_some();
                let had_views = self.views.keys().any(|(of, _)| *of == unit);
                if !keep_views {
                    self.forget_views(unit);
                }
                known || had_views
            }
            Step::Import(unit) => !self.units.contains_key(&unit) && self.units.insert(unit, true).is_none(),
            Step::Online(unit, online) => self.units.get_mut(&unit).map(|state| *state = online).is_some(),
            // An offline unit has its store closed.
            Step::Resize(unit) => self.units.get(&unit) == Some(&true),
            Step::Login(..) | Step::Logout(_) => true,
        }
    }

    fn forget_views(&mut self, unit: usize) -> bool {
        let before = self.views.len();
        self.views.retain(|(of, _), _| *of != unit);
        self.views.len() < before
    }
}

/// A session, and what the rules say that it is to hear.
struct Nexus {
    client: Client,
    initiator: &'static str,
    target: &'static str,
    map: BTreeMap<u16, usize>,
    /// Its LUNs have changed since it was told last.
    luns_changed: bool,
}

impl Nexus {
    /// Asks every LUN until it is ready, and gives the unit attentions: LUN, ASC, ASCQ (0 for all kinds of power on).
    fn hear(&self) -> BTreeSet<(u16, u8, u8)> {
        let mut heard = BTreeSet::new();
        for lun in self.map.keys() {
            for _ in 0..8 {
                let outcome = self.client.execute(Command::new(*lun, &[0; 6])).unwrap();
                if outcome.status == Status::GOOD {
                    break;
                }
                let sense = outcome.sense.expect("sense data");
                let (asc, ascq) = (sense.code.asc, sense.code.ascq);
                let ascq = if asc == POWER_ON { 0 } else { ascq };
                assert!(heard.insert((*lun, asc, ascq)), "{} at LUN {lun}: {asc:02x}/{ascq:02x} twice", self.initiator);
            }
        }
        heard
    }
}

struct World {
    server: Server,
    ports: Vec<Port>,
    nexuses: Vec<Nexus>,
    rules: Rules,
    sizes: [u64; UNITS],
    place: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let config = ServerConfig {
            state: place.path().join("state"),
            socket: place.path().join("socket"),
            portals: vec!["127.0.0.1:0".parse().unwrap()],
            threads: std::num::NonZeroUsize::new(1),
            ..ServerConfig::default()
        };
        let server = Server::start(&config).unwrap();
        let ports = TARGETS.iter().map(|name| Port::new(server.stmf(), name).unwrap()).collect();
        let mut world = Self { server, ports, nexuses: Vec::new(), rules: Rules::default(), sizes: [1; UNITS], place };
        for unit in 0..UNITS {
            let request = Request::CreateLu {
                file: world.file(unit),
                size: Some("1M".into()),
                properties: vec![format!("guid={}", guid(unit))],
                force: false,
            };
            world.engine().lock().unwrap().execute(request).unwrap();
            world.rules.units.insert(unit, true);
        }
        world
    }

    fn file(&self, unit: usize) -> String {
        self.place.path().join(format!("disk-{unit}")).display().to_string()
    }

    fn engine(&self) -> &Arc<Mutex<Engine>> {
        self.server.engine().unwrap()
    }

    fn request(&mut self, step: &Step) -> Option<Request> {
        Some(match *step {
            Step::CreateGroup(kind, number) => Request::CreateGroup { kind, name: group(kind, number).into() },
            Step::DeleteGroup(kind, number) => Request::DeleteGroup { kind, name: group(kind, number).into() },
            Step::AddMember(kind, number, who) => {
                Request::AddMembers { kind, group: group(kind, number).into(), members: vec![member(kind, who).into()] }
            }
            Step::RemoveMember(kind, number, who) => Request::RemoveMembers {
                kind,
                group: group(kind, number).into(),
                members: vec![member(kind, who).into()],
            },
            Step::AddView { unit, host, target, lun } => Request::AddView {
                lu: guid(unit),
                host_group: host.map(|number| group(Kind::Host, number).into()),
                target_group: target.map(|number| group(Kind::Target, number).into()),
                lun: lun.map(u64::from),
            },
            Step::RemoveView(unit, index) => Request::RemoveViews { lu: guid(unit), indexes: Some(vec![index]) },
            Step::RemoveViews(unit) => Request::RemoveViews { lu: guid(unit), indexes: None },
            Step::Delete(unit, keep_views) => Request::DeleteLu { lu: guid(unit), keep_views },
            Step::Import(unit) => Request::ImportLu { file: self.file(unit), new_guid: false },
            Step::Online(unit, online) => Request::SetLuState { lu: guid(unit), online },
            Step::Resize(unit) => {
                let size = self.sizes[unit] + 1;
                if self.rules.units.get(&unit) == Some(&true) {
                    self.sizes[unit] = size;
                }
                Request::ModifyLu { lu: guid(unit), size: Some(format!("{size}M")), properties: Vec::new() }
            }
            Step::Login(..) | Step::Logout(_) => return None,
        })
    }

    fn take(&mut self, step: &Step) {
        if let Some(request) = self.request(step) {
            let answer = self.engine().lock().unwrap().execute(request);
            let made = match answer {
                Ok(lunette_server::admin::Answer::Done(done)) => done.failures.is_empty(),
                Ok(answer) => panic!("{step:?}: {answer:?}"),
                Err(_) => false,
            };
            assert_eq!(made, self.rules.change(step), "{step:?}");
        }
        match *step {
            Step::Login(initiator, target) if self.nexuses.len() < 8 => {
                let (initiator, target) = (INITIATORS[initiator], TARGETS[target]);
                let port = self.ports.iter().find(|port| port.name() == target).unwrap();
                let client = port.connect(initiator).unwrap();
                self.nexuses.push(Nexus { client, initiator, target, map: BTreeMap::new(), luns_changed: false });
                let fresh = self.nexuses.len() - 1;
                self.check(step, Some(fresh));
                return;
            }
            Step::Logout(number) if !self.nexuses.is_empty() => {
                drop(self.nexuses.remove(number % self.nexuses.len()));
            }
            _ => {}
        }
        self.check(step, None);
    }

    /// Every nexus sees what the rules say, and hears what it must: no more, no less.
    fn check(&mut self, step: &Step, fresh: Option<usize>) {
        for (number, nexus) in self.nexuses.iter_mut().enumerate() {
            let wanted = self.rules.map(nexus.initiator, nexus.target);
            let seen = nexus.client.lun_map();
            let seen: BTreeMap<u16, usize> =
                seen.iter().map(|mapped| (mapped.lun, usize::from(mapped.lu.guid()[15]) - 1)).collect();
            assert_eq!(seen, wanted, "{step:?}: {} at {}", nexus.initiator, nexus.target);
            let before = std::mem::replace(&mut nexus.map, wanted);
            nexus.luns_changed |= before != nexus.map && fresh != Some(number);
            let mut expected = BTreeSet::new();
            for (lun, unit) in &nexus.map {
                if !before.values().any(|other| other == unit) {
                    expected.insert((*lun, POWER_ON, 0));
                } else if matches!(step, Step::Resize(resized) if resized == unit) {
                    expected.insert((*lun, CAPACITY_CHANGED.0, CAPACITY_CHANGED.1));
                }
            }
            if let (true, Some((lun, _))) = (nexus.luns_changed, nexus.map.first_key_value()) {
                expected.insert((*lun, LUNS_CHANGED.0, LUNS_CHANGED.1));
                nexus.luns_changed = false;
            }
            assert_eq!(nexus.hear(), expected, "{step:?}: {} at {}", nexus.initiator, nexus.target);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: RUNS, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_nexus_sees_and_hears_what_the_rules_say(steps in prop::collection::vec(step(), STEPS)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
    }
}
