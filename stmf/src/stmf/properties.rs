//! Random changes against a naive reading of the rules.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::config::{Config, ConfigError, Edit, GroupKind, NewView, Row};
use crate::test_support::*;

const INITIATORS: [&str; 4] = ["iqn.i:a", "iqn.i:b", "wwn.210000E08B100163", "naa.52004567BA64678D"];
const TARGETS: [&str; 2] = ["iqn.t:a", "iqn.t:b"];
const HOST_GROUPS: [&str; 3] = ["h0", "h1", "h2"];
const TARGET_GROUPS: [&str; 2] = ["t0", "t1"];
const UNITS: u16 = 4;

#[derive(Clone, Debug)]
enum Step {
    CreateGroup(GroupKind, usize),
    DeleteGroup(GroupKind, usize),
    AddMember(GroupKind, usize, usize),
    RemoveMember(GroupKind, usize, usize),
    AddView {
        unit: u16,
        host: Option<usize>,
        target: Option<usize>,
        lun: Option<u16>,
    },
    RemoveView(u16, u32),
    RemoveViews(u16),
    Register(u16),
    Unregister(u16),
    Online(u16),
    Offline(u16),
    Login(usize, usize),
    Logout(usize),
    /// A TEST UNIT READY to the well known unit: takes a pending attention away.
    Poll(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(GroupKind::Host), Just(GroupKind::Target)];
    let unit = 1..=UNITS;
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
        4 => unit.clone().prop_map(Step::Register),
        1 => unit.clone().prop_map(Step::Unregister),
        2 => unit.clone().prop_map(Step::Online),
        2 => unit.prop_map(Step::Offline),
        5 => (0..4usize, 0..2usize).prop_map(|(initiator, target)| Step::Login(initiator, target)),
        1 => (0..8usize).prop_map(Step::Logout),
        2 => (0..8usize).prop_map(Step::Poll),
    ]
}

/// Host group, target group, LUN.
type View = (Option<&'static str>, Option<&'static str>, u16);

/// The rules, read word for word and without an index.
#[derive(Default)]
struct Oracle {
    groups: BTreeMap<(GroupKind, &'static str), Vec<&'static str>>,
    /// By unit and index.
    views: BTreeMap<(u16, u32), View>,
    /// Registered units; whether online.
    units: BTreeMap<u16, bool>,
}

fn group_name(kind: GroupKind, number: usize) -> &'static str {
    match kind {
        GroupKind::Host => HOST_GROUPS[number % HOST_GROUPS.len()],
        GroupKind::Target => TARGET_GROUPS[number % TARGET_GROUPS.len()],
    }
}

fn member_name(kind: GroupKind, number: usize) -> &'static str {
    match kind {
        GroupKind::Host => INITIATORS[number % INITIATORS.len()],
        GroupKind::Target => TARGETS[number % TARGETS.len()],
    }
}

impl Oracle {
    fn group_of(&self, kind: GroupKind, member: &str) -> Option<&'static str> {
        let mut found = self.groups.iter().filter(|((k, _), members)| *k == kind && members.contains(&member));
        found.next().map(|((_, name), _)| *name)
    }

    fn map(&self, initiator: &str, target: &str) -> BTreeMap<u16, u16> {
        let (hg, tg) = (self.group_of(GroupKind::Host, initiator), self.group_of(GroupKind::Target, target));
        let mut map = BTreeMap::new();
        for ((unit, _), (host, target, lun)) in &self.views {
            let holds = (host.is_none() || *host == hg) && (target.is_none() || *target == tg);
            if holds && self.units.get(unit) == Some(&true) {
                assert!(map.insert(*lun, *unit).is_none(), "two units at LUN {lun}");
            }
        }
        map
    }

    fn overlapping(&self, host: Option<&str>, target: Option<&str>) -> Vec<(u16, u16)> {
        let meet = |a: Option<&str>, b: Option<&str>| a.is_none() || b.is_none() || a == b;
        let entries = self.views.iter().filter(|(_, (h, t, _))| meet(*h, host) && meet(*t, target));
        entries.map(|((unit, _), (_, _, lun))| (*unit, *lun)).collect()
    }

    /// Makes the change of a step; the words of the refusal otherwise.
    fn change(&mut self, step: &Step) -> Result<(), String> {
        match *step {
            Step::CreateGroup(kind, group) => {
                let name = group_name(kind, group);
                if self.groups.contains_key(&(kind, name)) {
                    return Err(format!("{name}: already exists"));
                }
                self.groups.insert((kind, name), vec![]);
            }
            Step::DeleteGroup(kind, group) => {
                let name = group_name(kind, group);
                if !self.groups.contains_key(&(kind, name)) {
                    return Err(format!("{name}: not found"));
                }
                let used = |(host, target, _): &View| match kind {
                    GroupKind::Host => *host == Some(name),
                    GroupKind::Target => *target == Some(name),
                };
                if self.views.values().any(used) {
                    return Err("group is in use by existing view entry".into());
                }
                self.groups.remove(&(kind, name));
            }
            Step::AddMember(kind, group, member) => {
                let (group, member) = (group_name(kind, group), member_name(kind, member));
                if !self.groups.contains_key(&(kind, group)) {
                    return Err(format!("{group}: not found"));
                }
                if self.group_of(kind, member).is_some() {
                    return Err(format!("{member}: already exists"));
                }
                self.groups.get_mut(&(kind, group)).unwrap().push(member);
            }
            Step::RemoveMember(kind, group, member) => {
                let (group, member) = (group_name(kind, group), member_name(kind, member));
                let members = self.groups.get_mut(&(kind, group)).ok_or_else(|| format!("{group}: not found"))?;
                let at = members.iter().position(|name| *name == member);
                members.remove(at.ok_or_else(|| format!("{member}: not found"))?);
            }
            Step::AddView { unit, host, target, lun } => {
                let host = host.map(|number| group_name(GroupKind::Host, number));
                let target = target.map(|number| group_name(GroupKind::Target, number));
                if host.is_some_and(|name| !self.groups.contains_key(&(GroupKind::Host, name))) {
                    return Err("invalid host group".into());
                }
                if target.is_some_and(|name| !self.groups.contains_key(&(GroupKind::Target, name))) {
                    return Err("invalid target group".into());
                }
                let taken = self.overlapping(host, target);
                if taken.iter().any(|(other, _)| *other == unit) {
                    return Err("view entry exists".into());
                }
                let free = |lun: &u16| !taken.iter().any(|(_, other)| other == lun);
                let lun = lun.unwrap_or_else(|| (0..).find(free).unwrap());
                if !free(&lun) {
                    return Err("LUN already in use".into());
                }
                let index = (0..).find(|index| !self.views.contains_key(&(unit, *index))).unwrap();
                self.views.insert((unit, index), (host, target, lun));
            }
            Step::RemoveView(unit, index) => {
                if !self.views.keys().any(|(other, _)| *other == unit) {
                    return Err(format!("{:X}: no views found", guid(unit)));
                }
                let removed = self.views.remove(&(unit, index));
                removed.ok_or_else(|| format!("{:X}: {index}: not found", guid(unit)))?;
            }
            Step::RemoveViews(unit) => {
                let before = self.views.len();
                self.views.retain(|(other, _), _| *other != unit);
                if self.views.len() == before {
                    return Err(format!("{:X}: no views found", guid(unit)));
                }
            }
            Step::Register(unit) => {
                if self.units.contains_key(&unit) {
                    return Err("guid in use".into());
                }
                self.units.insert(unit, true);
            }
            Step::Unregister(unit) => {
                self.units.remove(&unit).ok_or_else(|| format!("{:X}: not found", guid(unit)))?;
            }
            Step::Online(unit) | Step::Offline(unit) => {
                let state = self.units.get_mut(&unit).ok_or_else(|| format!("{:X}: not found", guid(unit)))?;
                *state = matches!(step, Step::Online(_));
            }
            Step::Login(..) | Step::Logout(_) | Step::Poll(_) => {}
        }
        Ok(())
    }
}

struct Tracked {
    login: Login,
    map: BTreeMap<u16, u16>,
    attention: bool,
    changes: usize,
}

struct World {
    stmf: Arc<Stmf>,
    oracle: Oracle,
    units: BTreeMap<u16, Arc<FakeLu>>,
    sessions: Vec<Tracked>,
    /// What a host would have on disk.
    rows: BTreeMap<String, Row>,
}

impl World {
    fn new() -> Self {
        let stmf = framework();
        for name in TARGETS {
            target(&stmf, name);
        }
        Self { stmf, oracle: Oracle::default(), units: BTreeMap::new(), sessions: vec![], rows: BTreeMap::new() }
    }

    fn commit(&mut self, plan: impl FnOnce(&Config) -> Result<Change, ConfigError>) -> Result<(), String> {
        let change = self.stmf.with_config(plan).map_err(|error| error.to_string())?;
        for edit in change.edits() {
            let key = edit.key().to_string();
            match edit {
                Edit::Put(row) => drop(self.rows.insert(key, row.clone())),
                _ => assert!(self.rows.remove(&key).is_some(), "{key} is deleted but was never written"),
            }
        }
        self.stmf.commit(change);
        Ok(())
    }

    fn change(&mut self, step: &Step) -> Result<(), String> {
        let words = |result: Result<(), StmfError>| result.map_err(|error| error.to_string());
        match *step {
            Step::CreateGroup(kind, group) => self.commit(|config| config.create_group(kind, group_name(kind, group))),
            Step::DeleteGroup(kind, group) => self.commit(|config| config.delete_group(kind, group_name(kind, group))),
            Step::AddMember(kind, group, member) => self.commit(|config| {
                config.add_member(kind, group_name(kind, group), &member_name(kind, member).to_lowercase())
            }),
            Step::RemoveMember(kind, group, member) => self.commit(|config| {
                config.remove_member(kind, group_name(kind, group), &member_name(kind, member).to_uppercase())
            }),
            Step::AddView { unit, host, target, lun } => {
                let view = NewView {
                    lu: guid(unit),
                    host_group: host.map(|number| group_name(GroupKind::Host, number)),
                    target_group: target.map(|number| group_name(GroupKind::Target, number)),
                    lun: lun.map(u64::from),
                };
                self.commit(|config| Ok(config.add_view(&view)?.0))
            }
            Step::RemoveView(unit, index) => self.commit(|config| config.remove_view(guid(unit), index)),
            Step::RemoveViews(unit) => self.commit(|config| config.remove_views(guid(unit))),
            Step::Register(unit) => {
                let lu = FakeLu::new(unit);
                words(self.stmf.register_lu(lu.clone(), "sbd"))?;
                self.units.insert(unit, lu);
                Ok(())
            }
            Step::Unregister(unit) => words(self.stmf.unregister_lu(guid(unit)).map(drop)),
            Step::Online(unit) => words(self.stmf.online_lu(guid(unit))),
            Step::Offline(unit) => words(self.stmf.offline_lu(guid(unit))),
            Step::Login(initiator, target) => {
                let (initiator, target) = (INITIATORS[initiator], TARGETS[target]);
                let map = self.oracle.map(initiator, target);
                let login = login(&self.stmf, initiator, target);
                self.sessions.push(Tracked { login, map, attention: false, changes: 0 });
                Ok(())
            }
            Step::Logout(number) => {
                if number < self.sessions.len() {
                    self.sessions.remove(number).login.session.close();
                }
                Ok(())
            }
            Step::Poll(number) => {
                if let Some(tracked) = self.sessions.get_mut(number) {
                    let answer = tracked.login.answer(scsi_core::Lun::REPORT_LUNS_WELL_KNOWN, &[0; 6]);
                    assert_eq!(answer.is_err(), std::mem::take(&mut tracked.attention));
                }
                Ok(())
            }
        }
    }

    /// Compares everything with the oracle.
    fn check(&mut self) {
        let mut attached: BTreeMap<u16, BTreeSet<NexusId>> = BTreeMap::new();
        for tracked in &mut self.sessions {
            let nexus = tracked.login.session.nexus();
            let expected = self.oracle.map(&nexus.initiator, &nexus.target);
            if expected != tracked.map {
                tracked.map = expected;
                tracked.attention = true;
                tracked.changes += 1;
            }
            let map = tracked.login.session.lun_map();
            let seen: Vec<_> = map.iter().map(|entry| (entry.lun, entry.guid)).collect();
            let expected: Vec<_> = tracked.map.iter().map(|(lun, unit)| (*lun, guid(*unit))).collect();
            assert_eq!(seen, expected, "{nexus:?}");
            assert_eq!(tracked.login.session.luns_changed(), tracked.attention, "{nexus:?}");
            assert_eq!(tracked.login.mailbox.wakes(), tracked.changes, "{nexus:?}");
            assert_eq!(tracked.login.session.generation(), tracked.changes as u64);
            for unit in tracked.map.values() {
                attached.entry(*unit).or_default().insert(nexus.id);
            }
            let explained: Vec<_> = self.stmf.explain(&nexus.initiator, &nexus.target).luns;
            let explained: Vec<_> = explained.into_iter().map(|seen| (seen.lun, seen.lu)).collect();
            assert_eq!(explained, expected, "{nexus:?}");
        }
        for (number, unit) in &self.units {
            let expected = attached.remove(number).unwrap_or_default();
            assert_eq!(unit.attached().into_iter().collect::<BTreeSet<_>>(), expected, "unit {number}");
        }
        let (loaded, problems) = Config::load(self.rows.values().cloned());
        assert!(problems.is_empty(), "{problems:?}");
        self.stmf.with_config(|config| assert!(*config == loaded, "what is on disk is something else"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_nexus_sees_what_the_rules_say_after_every_step(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            let expected = world.oracle.change(step);
            let result = world.change(step);
            prop_assert_eq!(&result, &expected, "{:?}", step);
            world.check();
        }
    }
}
