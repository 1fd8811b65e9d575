//! What is going on: the service, everything at one glance, and why an initiator sees what it sees.

use std::collections::BTreeSet;

use iscsit::config::{AuthMethod, ChapMinimum, Target};
use stmf::config::{Access, Group, GroupKind};
use stmf::{DeviceName, HiddenLun, HiddenReason, State};

use super::Engine;
use super::views::text;
use crate::admin::api::{
    ApiError, ErrorKind, Explanation, ServiceState, StatusReport, TargetExplanation, Unseen, ViewInfo,
};
use crate::admin::fibre_channel::FcQuestions;
use crate::admin::live::{ObjectState, Statistics, Traffic};
use crate::admin::metrics;

impl Engine {
    pub(super) fn service_state(&self) -> ServiceState {
        ServiceState {
            online: self.live.is_some(),
            state_directory: self.state.display().to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    pub(super) fn status(&self) -> StatusReport {
        let lus = self.list_lus();
        let sessions = self.sessions();
        let mut warnings = self.load_problems.clone();
        for lu in &lus {
            if let Some(problem) = &lu.problem {
                warnings.push(format!("logical unit {}: {problem}", lu.guid));
            }
        }
        for entry in self.configuration.stmf.all_views() {
            if entry.scope.host_group.is_none() {
                warnings.push(format!("logical unit {:X} is open to every initiator that can log in", entry.lu));
            }
            if !self.units.contains_key(&entry.lu) {
                warnings.push(format!("view entry {} of {:X} has no logical unit", entry.index, entry.lu));
            }
        }
        warnings.extend(self.auth_warnings().into_iter().map(|warning| warning.text));
        warnings.extend(self.strangers());
        let data_path = self.live.as_ref().and_then(|live| live.data_path());
        for (portal, reason) in data_path.iter().flat_map(|path| &path.failed_portals) {
            warnings.push(format!("portal {portal} is not listened on: {reason}"));
        }
        warnings.extend(self.live.iter().flat_map(|live| live.troubles()));
        warnings.extend(self.fc_troubles());
        warnings.extend(self.vhost_troubles());
        let (service, targets) = (self.service_state(), self.list_targets());
        let load = self.live.as_ref().map(|live| {
            let mut load = Traffic::default();
            live.statistics().targets.values().for_each(|traffic| load.add(traffic));
            load
        });
        let fc_ports = self.list_fc_ports(FcQuestions::default());
        let vhost_ports = self.list_vhost_ports();
        StatusReport { service, data_path, load, lus, targets, fc_ports, vhost_ports, sessions, warnings }
    }

    /// Counters: of units from the units themselves, of targets from the live objects.
    pub(super) fn statistics(&self) -> Result<Statistics, ApiError> {
        let mut statistics = self.live()?.statistics();
        for (guid, unit) in &self.units {
            let Some(lu) = &unit.lu else { continue };
            let counters = lu.snapshot().statistics;
            // What the unit counts itself includes other transports; times are the port provider's.
            let traffic = statistics.lus.entry(text(*guid)).or_default();
            traffic.reads = counters.reads;
            traffic.writes = counters.writes;
            traffic.read_bytes = counters.read_bytes;
            traffic.written_bytes = counters.written_bytes;
            traffic.errors = counters.errors;
        }
        let (units, targets) = (&self.units, &self.configuration.iscsi);
        statistics.lus.retain(|lu, _| stmf::guid::parse(lu).is_ok_and(|guid| units.contains_key(&guid)));
        statistics
            .targets
            .retain(|target, _| targets.target(target).is_some() || self.is_fc_target(target) || self.is_local(target));
        Ok(statistics)
    }

    /// The counters as OpenMetrics.
    pub(in crate::admin) fn metrics(&self) -> String {
        let statistics = self.statistics().unwrap_or_default();
        let state = |name: &str| self.live.as_ref().and_then(|live| live.target_state(name));
        let targets = self.configuration.iscsi.targets().map(|target| target.name.to_string());
        let fibre_channel = self.configuration.fc_targets().map(|port| port.device_name());
        let local = self.local_ports().into_iter().map(|port| port.target);
        let targets: Vec<_> =
            targets.chain(fibre_channel).chain(local).map(|name| (name.clone(), state(&name))).collect();
        metrics::render(&self.list_lus(), &statistics, &targets, &self.sessions())
    }

    pub(super) fn explain(&self, initiator: &str, target: Option<&str>) -> Result<Explanation, ApiError> {
        let initiator = DeviceName::parse(initiator)?;
        let iscsi = &self.configuration.iscsi;
        let fibre_channel = |name: &str| DeviceName::parse(name).is_ok_and(|name| self.is_fc_target(name.as_str()));
        // A port of a virtual machine has one initiator, whatever else is asked.
        let mut of_local = self.local_ports();
        of_local.retain(|port| match target {
            None => port.initiator == initiator.as_str(),
            Some(wanted) => port.target.eq_ignore_ascii_case(wanted),
        });
        let of_iscsi: Vec<&Target> = match target {
            // A name of one transport logs in over no other.
            None if initiator.as_str().starts_with("wwn.") && self.configuration.fc_targets().next().is_some() => {
                vec![]
            }
            None => iscsi.targets().collect(),
            Some(name) if fibre_channel(name) || of_local.iter().any(|port| port.target == name) => vec![],
            Some(name) => vec![iscsi.target(name).ok_or_else(|| {
                ApiError::new(ErrorKind::NotFound, format!("Target {name} not found"))
                    .hint("'stmfadm list-target' shows the targets")
            })?],
        };
        let of_fc = self.configuration.fc_targets().map(|port| port.device_name());
        let of_fc: Vec<String> = match target {
            None if initiator.as_str().starts_with("wwn.") => of_fc.collect(),
            None => vec![],
            Some(wanted) => of_fc.filter(|name| name.eq_ignore_ascii_case(wanted)).collect(),
        };
        let group = self.configuration.stmf.group_of(GroupKind::Host, initiator.as_str());
        let open = self.configuration.stmf.all_views().filter(|entry| entry.scope.host_group.is_none());
        let open: BTreeSet<String> = open.map(|entry| text(entry.lu)).collect();
        let open = open.iter().map(|lu| format!("logical unit {lu} is open to every initiator that can log in"));
        Ok(Explanation {
            notes: self.stranger(initiator.as_str()).into_iter().chain(open).collect(),
            host_group: group.map(|group| group.name().to_owned()),
            sessions: self.sessions().iter().filter(|session| session.initiator == initiator.as_str()).count(),
            targets: (of_iscsi.into_iter())
                .map(|target| {
                    let login = self.explain_login(&initiator, group, target);
                    self.explain_target(&initiator, target.name.as_str(), login)
                })
                .chain(
                    of_fc.iter().map(|name| {
                        self.explain_target(&initiator, name, self.explain_fc_login(&initiator, group, name))
                    }),
                )
                .chain(of_local.iter().map(|port| {
                    let is_its = port.initiator == initiator.as_str();
                    let words = match is_its {
                        true => format!("the machine at {} logs in by this name", port.path.display()),
                        false => format!("the machine at {} logs in as {}", port.path.display(), port.initiator),
                    };
                    self.explain_target(&initiator, &port.target, (is_its, vec![words]))
                }))
                .collect(),
            initiator: initiator.to_string(),
        })
    }

    fn explain_target(&self, initiator: &DeviceName, name: &str, login: (bool, Vec<String>)) -> TargetExplanation {
        let stmf = &self.configuration.stmf;
        let (admitted, login) = login;
        // Without a server it is explained what one would show.
        let state = |guid| match &self.live {
            Some(live) => live.lu_state(guid).map(state),
            None => self.units.contains_key(&guid).then_some(State::Online),
        };
        let (luns, hidden) = stmf::explain_views(stmf, self.units.keys().copied(), state, initiator.as_str(), name);
        let seen = luns.into_iter().map(|lun| ViewInfo {
            lu: text(lun.lu),
            index: lun.view_entry,
            host_group: lun.host_group,
            target_group: lun.target_group,
            lun: lun.lun,
        });
        let unseen = hidden.into_iter().map(|unit| Unseen { reason: self.why(&unit), lu: text(unit.lu) });
        let (seen, unseen) = (seen.collect(), unseen.collect());
        TargetExplanation {
            target: name.to_owned(),
            target_group: stmf.group_of(GroupKind::Target, name).map(|group| group.name().to_owned()),
            login,
            admitted,
            seen,
            unseen,
        }
    }

    /// Over Fibre Channel nobody proves who he is: what counts is the port, and whether strangers may come.
    fn explain_fc_login(&self, initiator: &DeviceName, group: Option<&Group>, target: &str) -> (bool, Vec<String>) {
        let mut words = Vec::new();
        let state = self.live.as_ref().and_then(|live| live.target_state(target));
        if self.live.is_none() {
            words.push("no server is running".into());
        } else if state != Some(ObjectState::Online) {
            words.push(format!("the target is offline: stmfadm online-target {target}"));
        }
        if !initiator.as_str().starts_with("wwn.") {
            words.push("the initiator is none of Fibre Channel: its name does not begin with wwn.".into());
        }
        if self.configuration.stmf.settings().access == Access::Named && group.is_none() {
            words.push("access is named, and the initiator is in no host group: stmfadm add-hg-member".into());
        }
        (words.is_empty(), words)
    }

    fn explain_login(&self, initiator: &DeviceName, group: Option<&Group>, target: &Target) -> (bool, Vec<String>) {
        let iscsi = &self.configuration.iscsi;
        let entry = iscsi.initiator(initiator.as_str());
        let mut admitted = true;
        let mut words = Vec::new();
        let state = self.live.as_ref().and_then(|live| live.target_state(target.name.as_str()));
        if self.live.is_none() {
            admitted = false;
            words.push("no server is running".into());
        } else if state != Some(ObjectState::Online) {
            admitted = false;
            words.push(format!("the target is offline: stmfadm online-target {}", target.name));
        }
        if self.configuration.stmf.settings().access == Access::Named && group.is_none() && entry.is_none() {
            admitted = false;
            words.push(
                "access is named, and the initiator is in no host group and has no entry: stmfadm add-hg-member".into(),
            );
        }
        let secret = entry.is_some_and(|entry| entry.chap_secret.is_some());
        match iscsi.effective_auth(target) {
            AuthMethod::None if secret => {
                words.push("no authentication is asked for, the secret of the initiator's entry neither".into());
            }
            AuthMethod::None => words.push("no authentication is asked for".into()),
            AuthMethod::Chap if secret => {
                let user = entry.map(|entry| entry.effective_chap_user()).unwrap_or_default();
                words.push(format!("CHAP is demanded, as user {user} with the secret of the initiator's entry"));
            }
            AuthMethod::Chap => {
                admitted = false;
                words.push(format!(
                    "CHAP is demanded and the initiator has no secret: itadm {}-initiator -s {initiator}",
                    if entry.is_some() { "modify" } else { "create" }
                ));
            }
            AuthMethod::Radius if iscsi.defaults().chap_minimum != ChapMinimum::Md5 => {
                admitted = false;
                words.push(format!(
                    "a RADIUS server decides, which knows CHAP with MD5 only, and the least that is taken is {}: itadm \
                     modify-defaults --chap-minimum md5",
                    iscsi.defaults().chap_minimum
                ));
            }
            AuthMethod::Radius => words.push("CHAP is demanded, a RADIUS server decides".into()),
        }
        (admitted, words)
    }

    /// Why a unit is not seen, in words.
    fn why(&self, unit: &HiddenLun) -> String {
        match &unit.reason {
            HiddenReason::NoView => "it has no view entry: stmfadm add-view".into(),
            HiddenReason::NotOnline { state, .. } => {
                format!("the logical unit is {state}: stmfadm online-lu {:X}", unit.lu)
            }
            HiddenReason::NotRegistered { .. } => match self.units.get(&unit.lu) {
                None => "there is no such logical unit: the view entry waits for it".into(),
                Some(unit) => unit.problem.clone().unwrap_or_else(|| "the logical unit is not registered".into()),
            },
            HiddenReason::OtherHostGroups { .. } | HiddenReason::OtherTargetGroups { .. } => {
                let all = |name: Option<String>| name.unwrap_or_else(|| "All".into());
                let views = self.configuration.stmf.views(unit.lu).iter().map(|entry| self.view_info(entry));
                let scopes = views.map(|view| {
                    format!("host group {} at target group {}", all(view.host_group), all(view.target_group))
                });
                format!("its view entries are for {}", scopes.collect::<Vec<_>>().join(", "))
            }
            other => format!("{other:?}"),
        }
    }
}

fn state(state: ObjectState) -> State {
    match state {
        ObjectState::Offline => State::Offline,
        ObjectState::Onlining => State::Onlining,
        ObjectState::Online => State::Online,
        ObjectState::Offlining => State::Offlining,
    }
}
