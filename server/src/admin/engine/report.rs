//! What is going on: the service, everything at one glance, and why an initiator sees what it sees.

use iscsit::config::{AuthMethod, Target};
use stmf::DeviceName;
use stmf::config::{Access, Group, GroupKind};

use super::Engine;
use super::views::text;
use crate::admin::api::{
    ApiError, ErrorKind, Explanation, ServiceState, StatusReport, TargetExplanation, Unseen, ViewInfo,
};
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
        let iscsi = &self.configuration.iscsi;
        for target in iscsi.targets() {
            if target.chap_secret.is_some() && iscsi.effective_auth(target) == AuthMethod::None {
                warnings.push(format!("{}: its CHAP secret is not asked for, authentication is none", target.name));
            }
        }
        let demanded = iscsi.targets().any(|target| iscsi.effective_auth(target) != AuthMethod::None);
        for initiator in iscsi.initiators().filter(|initiator| initiator.chap_secret.is_some() && !demanded) {
            warnings.push(format!("{}: its CHAP secret is not asked for by any target", initiator.name));
        }
        if self.live.is_some() {
            for group in self.configuration.stmf.groups(GroupKind::Host) {
                for member in group.members() {
                    if !sessions.iter().any(|session| session.initiator == member.as_str()) {
                        warnings.push(format!("host group {}: {member} is not logged in", group.name()));
                    }
                }
            }
        }
        let data_path = self.live.as_ref().and_then(|live| live.data_path());
        for (portal, reason) in data_path.iter().flat_map(|path| &path.failed_portals) {
            warnings.push(format!("portal {portal} is not listened on: {reason}"));
        }
        warnings.extend(self.live.iter().flat_map(|live| live.troubles()));
        let (service, targets) = (self.service_state(), self.list_targets());
        StatusReport { service, data_path, lus, targets, sessions, warnings }
    }

    /// Counters: of units from the units themselves, of targets from the live objects.
    pub(super) fn statistics(&self) -> Result<Statistics, ApiError> {
        let mut statistics = self.live()?.statistics();
        for (guid, unit) in &self.units {
            let Some(lu) = &unit.lu else { continue };
            let counters = lu.snapshot().statistics;
            let traffic = Traffic {
                reads: counters.reads,
                writes: counters.writes,
                read_bytes: counters.read_bytes,
                written_bytes: counters.written_bytes,
                errors: counters.errors,
            };
            statistics.lus.insert(text(*guid), traffic);
        }
        Ok(statistics)
    }

    /// The counters as OpenMetrics.
    pub(in crate::admin) fn metrics(&self) -> String {
        let statistics = self.statistics().unwrap_or_default();
        let state = |name: &str| self.live.as_ref().and_then(|live| live.target_state(name));
        let targets = self.configuration.iscsi.targets().map(|target| target.name.to_string());
        let targets: Vec<_> = targets.map(|name| (name.clone(), state(&name))).collect();
        metrics::render(&self.list_lus(), &statistics, &targets, &self.sessions())
    }

    pub(super) fn explain(&self, initiator: &str, target: Option<&str>) -> Result<Explanation, ApiError> {
        let initiator = DeviceName::parse(initiator)?;
        let iscsi = &self.configuration.iscsi;
        let targets: Vec<&Target> = match target {
            None => iscsi.targets().collect(),
            Some(name) => vec![iscsi.target(name).ok_or_else(|| {
                ApiError::new(ErrorKind::NotFound, format!("Target {name} not found"))
                    .hint("'itadm list-target' shows the targets")
            })?],
        };
        let group = self.configuration.stmf.group_of(GroupKind::Host, initiator.as_str());
        Ok(Explanation {
            host_group: group.map(|group| group.name().to_owned()),
            sessions: self.sessions().iter().filter(|session| session.initiator == initiator.as_str()).count(),
            targets: targets.into_iter().map(|target| self.explain_target(&initiator, group, target)).collect(),
            initiator: initiator.to_string(),
        })
    }

    fn explain_target(&self, initiator: &DeviceName, group: Option<&Group>, target: &Target) -> TargetExplanation {
        let stmf = &self.configuration.stmf;
        let name = target.name.as_str();
        let (admitted, login) = self.explain_login(initiator, group, target);
        let scope = stmf.scope_of(initiator.as_str(), name);
        let (mut seen, mut unseen) = (Vec::new(), Vec::new());
        for entry in stmf.resolve(scope) {
            match self.why_not_online(entry.lu) {
                None => seen.push(self.view_info(&entry)),
                Some(reason) => unseen.push(Unseen { lu: text(entry.lu), reason }),
            }
        }
        for guid in self.units.keys() {
            let given = |entries: &[ViewInfo]| entries.iter().any(|entry| entry.lu == text(*guid));
            if given(&seen) || unseen.iter().any(|other| other.lu == text(*guid)) {
                continue;
            }
            let views: Vec<ViewInfo> = stmf.views(*guid).iter().map(|entry| self.view_info(entry)).collect();
            let reason = if views.is_empty() {
                "it has no view entry".to_owned()
            } else {
                let all = |name: &Option<String>| name.clone().unwrap_or_else(|| "All".into());
                let scopes = views.iter().map(|view| {
                    format!("host group {} at target group {}", all(&view.host_group), all(&view.target_group))
                });
                format!("its view entries are for {}", scopes.collect::<Vec<_>>().join(", "))
            };
            unseen.push(Unseen { lu: text(*guid), reason });
        }
        TargetExplanation {
            target: name.to_owned(),
            target_group: stmf.group_of(GroupKind::Target, name).map(|group| group.name().to_owned()),
            login,
            admitted,
            seen,
            unseen,
        }
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
            AuthMethod::Radius => words.push("CHAP is demanded, a RADIUS server decides".into()),
        }
        (admitted, words)
    }

    /// Why a unit with a view entry serves nobody.
    fn why_not_online(&self, guid: stmf::Guid) -> Option<String> {
        let Some(unit) = self.units.get(&guid) else {
            return Some("there is no such logical unit: the view entry waits for it".into());
        };
        let Some(live) = &self.live else { return None };
        match live.lu_state(guid) {
            Some(ObjectState::Online) => None,
            Some(state) => Some(format!("the logical unit is {state}: stmfadm online-lu {guid:X}")),
            None => Some(unit.problem.clone().unwrap_or_else(|| "the logical unit is not registered".into())),
        }
    }
}
