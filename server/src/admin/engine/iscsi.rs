//! Targets, portal groups, initiators and defaults of the iSCSI port provider; target ports and sessions.

use std::collections::BTreeSet;

use iscsit::config::{
    AuthMethod, Change, ChapMinimum, ConfigError, DefaultsPatch, ISCSI_PORT, InitiatorPatch, Patch, Portal,
    PropertyError, PropertyOwner, PropertyReason, Redirection, Target, TargetPatch,
};
use stmf::config::{Access, GroupKind};

use super::error::state_change;
use super::warnings::Warning;
use super::{Engine, done};
use crate::admin::api::{
    ApiError, DefaultsInfo, DefaultsSettings, Done, ErrorKind, Field, InitiatorInfo, InitiatorSettings, PortInfo,
    PortalGroupInfo, RedirectSettings, SecretText, TargetInfo, TargetSettings,
};
use crate::admin::live::{ObjectState, SessionInfo};
use crate::model::Transaction;

/// Ports unless others are given.
const RADIUS_PORT: u16 = 1812;
const ISNS_PORT: u16 = 3205;

impl Engine {
    pub(super) fn create_target(&mut self, settings: TargetSettings) -> Result<Done, ApiError> {
        let before = self.auth_warnings();
        let patch = target_patch(settings)?;
        let mut random = [0; 16];
        getrandom::fill(&mut random)
            .map_err(|error| ApiError::new(ErrorKind::Internal, format!("no random numbers: {error}")))?;
        let (name, change) = self.configuration.iscsi.plan_create_target(&patch, random)?;
        if self.is_local(name.as_str()) {
            return Err(ApiError::new(ErrorKind::Exists, format!("{name}: there is a vhost-user port of this name"))
                .hint("'lunette vhost list' shows the ports"));
        }
        let port = self
            .configuration
            .free_port()
            .ok_or_else(|| ApiError::new(ErrorKind::Conflict, "every relative target port identifier is taken"))?;
        let ports = vec![(name.to_string(), Some(port))];
        self.commit(Transaction { iscsi: vec![change], ports, ..Transaction::default() })?;
        self.number_ports();
        Ok(Done { warnings: self.new_warnings(&before, name.as_str()), name: Some(name.to_string()), ..done() })
    }

    pub(super) fn modify_target(&mut self, target: &str, settings: TargetSettings) -> Result<Done, ApiError> {
        let before = self.auth_warnings();
        let patch = target_patch(settings)?;
        let online = self.is_online(target);
        let (name, changes) = self.configuration.iscsi.plan_modify_target(target, &patch, online)?;
        let (mut ports, mut stmf) = (Vec::new(), None);
        for change in &changes {
            // A renamed target keeps its number.
            if let Change::RemoveTarget(old) = change {
                ports.push((old.to_string(), None));
                ports.push((name.to_string(), self.configuration.ports.get(old.as_str()).copied()));
                stmf = self.rename_member(old.as_str(), name.as_str())?;
            }
        }
        self.commit(Transaction { stmf, iscsi: changes, ports, ..Transaction::default() })?;
        self.number_ports();
        Ok(Done { warnings: self.new_warnings(&before, name.as_str()), name: Some(name.to_string()), ..done() })
    }

    /// A renamed target stays in its target group, unless its new name is in one already.
    fn rename_member(&self, old: &str, new: &str) -> Result<Option<stmf::config::Change>, ApiError> {
        let stmf = &self.configuration.stmf;
        let Some(group) = stmf.group_of(GroupKind::Target, old).map(|group| group.name().to_owned()) else {
            return Ok(None);
        };
        let is_in_one = stmf.group_of(GroupKind::Target, new).is_some();
        let change = stmf.batch(|draft| {
            draft.apply(draft.config().remove_member(GroupKind::Target, &group, old)?);
            if !is_in_one {
                draft.apply(draft.config().add_member(GroupKind::Target, &group, new)?);
            }
            Ok::<(), ApiError>(())
        })?;
        Ok(Some(change))
    }

    pub(super) fn delete_target(&mut self, target: &str, force: bool) -> Result<Done, ApiError> {
        let before = self.auth_warnings();
        let online = self.is_online(target);
        let change = self.configuration.iscsi.plan_delete_target(target, online, force)?;
        let Change::RemoveTarget(name) = &change else { return Ok(done()) };
        let name = name.to_string();
        let mut done = done();
        if let (true, Some(live)) = (online, &self.live)
            && let Err(error) = live.set_target_online(&name, false)
        {
            done.warnings.push(format!("sessions of {name} were dropped before they had logged out: {error}"));
        }
        self.commit(Transaction { iscsi: vec![change], ports: vec![(name.clone(), None)], ..Transaction::default() })?;
        self.number_ports();
        done.warnings.extend(self.new_warnings(&before, &name));
        Ok(done)
    }

    pub(super) fn list_targets(&self) -> Vec<TargetInfo> {
        let sessions = self.sessions();
        let info = |target: &Target| TargetInfo {
            name: target.name.to_string(),
            state: self.live.as_ref().and_then(|live| live.target_state(target.name.as_str())),
            sessions: sessions.iter().filter(|session| session.target == target.name.as_str()).count(),
            alias: target.alias.clone(),
            auth: self.configuration.iscsi.effective_auth(target).to_string(),
            auth_is_default: target.auth.is_none(),
            chap_user: target.chap_user.clone(),
            chap_secret: target.chap_secret.is_some(),
            portal_groups: target.portal_groups.iter().map(|group| (group.group.clone(), group.tag)).collect(),
            redirect: target.redirection.as_ref().map(|redirection| RedirectSettings {
                portals: redirection.portals.iter().map(Portal::to_string).collect(),
                permanent: redirection.permanent,
            }),
        };
        self.configuration.iscsi.targets().map(info).collect()
    }

    pub(super) fn create_portal_group(&mut self, name: &str, portals: &[String]) -> Result<Done, ApiError> {
        let change = self.configuration.iscsi.plan_create_portal_group(name, portals)?;
        self.commit(Transaction { iscsi: vec![change], ..Transaction::default() })?;
        Ok(done())
    }

    pub(super) fn delete_portal_group(&mut self, name: &str, force: bool) -> Result<Done, ApiError> {
        let changes = self.configuration.iscsi.plan_delete_portal_group(name, force)?;
        self.commit(Transaction { iscsi: changes, ..Transaction::default() })?;
        Ok(done())
    }

    pub(super) fn list_portal_groups(&self) -> Vec<PortalGroupInfo> {
        let groups = self.configuration.iscsi.portal_groups();
        groups
            .map(|group| PortalGroupInfo {
                name: group.name.clone(),
                portals: group.portals.iter().map(Portal::to_string).collect(),
            })
            .collect()
    }

    pub(super) fn create_initiator(&mut self, name: &str, settings: InitiatorSettings) -> Result<Done, ApiError> {
        let before = self.auth_warnings();
        let change = self.configuration.iscsi.plan_create_initiator(name, &initiator_patch(settings))?;
        self.commit(Transaction { iscsi: vec![change], ..Transaction::default() })?;
        Ok(Done { warnings: self.initiator_warnings(&before, name), ..done() })
    }

    pub(super) fn modify_initiator(&mut self, name: &str, settings: InitiatorSettings) -> Result<Done, ApiError> {
        let before = self.auth_warnings();
        let change = self.configuration.iscsi.plan_modify_initiator(name, &initiator_patch(settings))?;
        self.commit(Transaction { iscsi: vec![change], ..Transaction::default() })?;
        Ok(Done { warnings: self.initiator_warnings(&before, name), ..done() })
    }

    pub(super) fn delete_initiator(&mut self, name: &str) -> Result<Done, ApiError> {
        let before = self.auth_warnings();
        let change = self.configuration.iscsi.plan_delete_initiator(name)?;
        self.commit(Transaction { iscsi: vec![change], ..Transaction::default() })?;
        Ok(Done { warnings: self.new_warnings(&before, name), ..done() })
    }

    pub(super) fn list_initiators(&self) -> Vec<InitiatorInfo> {
        let initiators = self.configuration.iscsi.initiators();
        initiators
            .map(|initiator| InitiatorInfo {
                name: initiator.name.to_string(),
                chap_user: initiator.chap_user.clone(),
                chap_secret: initiator.chap_secret.is_some(),
            })
            .collect()
    }

    pub(super) fn modify_defaults(&mut self, settings: DefaultsSettings) -> Result<Done, ApiError> {
        let before = self.auth_warnings();
        let mut errors = Vec::new();
        let access = match settings.access.as_deref() {
            None => None,
            Some("all") => Some(Access::All),
            Some("named") => Some(Access::Named),
            Some(_) => {
                return Err(ApiError::new(ErrorKind::Invalid, "access: must be all or named")
                    .hint("named: only initiators with an entry or in a host group may log in"));
            }
        };
        let patch = DefaultsPatch {
            alias: patch(settings.alias),
            auth: auth(settings.auth, &mut errors),
            radius_servers: addresses("radiusserver", settings.radius_servers, RADIUS_PORT, &mut errors),
            radius_secret: secret(settings.radius_secret),
            isns: settings.isns,
            isns_servers: addresses("isnsserver", settings.isns_servers, ISNS_PORT, &mut errors),
            discovery_chap: settings.discovery_chap,
            chap_minimum: chap_minimum(settings.chap_minimum.as_deref(), &mut errors),
        };
        refuse(PropertyOwner::Defaults, errors)?;
        let change = self.configuration.iscsi.plan_modify_defaults(&patch)?;
        let stmf = access.map(|access| {
            let settings = stmf::config::Settings { access, ..self.configuration.stmf.settings() };
            self.configuration.stmf.set_settings(settings)
        });
        self.commit(Transaction { stmf, iscsi: vec![change], ..Transaction::default() })?;
        Ok(Done { warnings: self.new_warnings(&before, ""), ..done() })
    }

    pub(super) fn list_defaults(&self) -> DefaultsInfo {
        let defaults = self.configuration.iscsi.defaults();
        let texts = |portals: &[Portal]| portals.iter().map(Portal::to_string).collect();
        DefaultsInfo {
            alias: defaults.alias.clone(),
            auth: defaults.auth.map(|auth| auth.to_string()),
            radius_servers: texts(&defaults.radius_servers),
            radius_secret: defaults.radius_secret.is_some(),
            isns: defaults.isns,
            isns_servers: texts(&defaults.isns_servers),
            discovery_chap: defaults.discovery_chap,
            chap_minimum: defaults.chap_minimum.to_string(),
            access: match self.configuration.stmf.settings().access {
                Access::All => "all".into(),
                Access::Named => "named".into(),
            },
        }
    }

    pub(super) fn list_ports(&self) -> Vec<PortInfo> {
        let sessions = self.sessions();
        let number = |target: &Target| self.configuration.ports.get(target.name.as_str()).copied();
        let info = |target: &Target| {
            let name = target.name.to_string();
            PortInfo {
                state: self.live.as_ref().and_then(|live| live.target_state(&name)).unwrap_or(ObjectState::Offline),
                provider: "iscsit".into(),
                alias: target.alias.clone().or_else(|| self.configuration.iscsi.defaults().alias.clone()),
                protocol: "iSCSI".into(),
                sessions: sessions.iter().filter(|session| session.target == name).cloned().collect(),
                name,
            }
        };
        let targets = self.configuration.iscsi.targets().map(|target| (number(target), info(target)));
        let mut ports: Vec<_> = targets.chain(self.list_fc_targets(&sessions)).collect();
        ports.extend(self.list_local_targets(&sessions));
        // The newest first, by the number each was given at its creation.
        ports.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        ports.into_iter().map(|(_, port)| port).collect()
    }

    pub(super) fn set_port_state(&mut self, target: &str, online: bool) -> Result<Done, ApiError> {
        let folded = stmf::DeviceName::parse(target)?.to_string();
        if self.configuration.iscsi.target(&folded).is_none() && !self.is_fc_target(&folded) && !self.is_local(&folded)
        {
            return Err(ApiError::new(ErrorKind::NotFound, format!("{target}: not found"))
                .hint("'stmfadm list-target' shows the targets"));
        }
        let live = self.live()?;
        live.set_target_online(&folded, online).map_err(|error| state_change(error, target, "Target", "."))?;
        self.audit(&format!("target {folded} goes {}", if online { "online" } else { "offline" }));
        Ok(done())
    }

    pub(super) fn sessions(&self) -> Vec<SessionInfo> {
        self.live.as_ref().map(|live| live.sessions()).unwrap_or_default()
    }

    pub(super) fn kill_session(&self, id: u64) -> Result<Done, ApiError> {
        let not_found = || {
            ApiError::new(ErrorKind::NotFound, format!("session {id}: not found"))
                .hint("'lunette session list' shows the sessions")
        };
        self.live()?.end_session(id).map_err(|_| not_found())?;
        self.audit(&format!("session {id} is ended by the administrator"));
        Ok(done())
    }

    /// Gives a relative target port identifier to every target port without one, and frees those of targets that are
    /// gone.
    pub(super) fn number_ports(&mut self) {
        let ports = self.configuration.unnumbered_ports();
        if ports.is_empty() {
            return;
        }
        if let Err(error) = self.commit(Transaction { ports, ..Transaction::default() }) {
            tracing::warn!("cannot number the target ports: {error}");
        }
    }

    fn initiator_warnings(&self, before: &BTreeSet<Warning>, name: &str) -> Vec<String> {
        let folded = self.configuration.iscsi.initiator(name).map(|initiator| initiator.name.to_string());
        self.new_warnings(before, folded.as_deref().unwrap_or(name))
    }

    fn is_online(&self, target: &str) -> bool {
        let Some(target) = self.configuration.iscsi.target(target) else { return false };
        let state = self.live.as_ref().and_then(|live| live.target_state(target.name.as_str()));
        state.is_some_and(|state| state != ObjectState::Offline)
    }
}

fn target_patch(settings: TargetSettings) -> Result<TargetPatch, ApiError> {
    let mut errors = Vec::new();
    let wish = TargetPatch {
        name: settings.name,
        alias: patch(settings.alias),
        auth: auth(settings.auth, &mut errors),
        chap_user: patch(settings.chap_user),
        chap_secret: secret(settings.chap_secret),
        portal_groups: patch(settings.portal_groups),
        redirection: redirection(settings.redirect, &mut errors),
    };
    refuse(PropertyOwner::Target, errors)?;
    Ok(wish)
}

fn initiator_patch(settings: InitiatorSettings) -> InitiatorPatch {
    InitiatorPatch { chap_user: patch(settings.chap_user), chap_secret: secret(settings.chap_secret) }
}

fn patch<T>(field: Field<T>) -> Patch<T> {
    match field {
        Field::Keep => Patch::Keep,
        Field::Clear => Patch::Clear,
        Field::Set(value) => Patch::Set(value),
    }
}

fn secret(field: Field<SecretText>) -> Patch<Vec<u8>> {
    patch(field.map(|secret| secret.expose().as_bytes().to_vec()))
}

fn auth(field: Field<String>, errors: &mut Vec<PropertyError>) -> Patch<AuthMethod> {
    match field {
        Field::Keep => Patch::Keep,
        Field::Clear => Patch::Clear,
        Field::Set(text) => match text.parse() {
            Ok(method) => Patch::Set(method),
            Err(reason) => {
                errors.push(PropertyError { property: "auth", reason });
                Patch::Keep
            }
        },
    }
}

fn chap_minimum(text: Option<&str>, errors: &mut Vec<PropertyError>) -> Option<ChapMinimum> {
    let refused = |reason| errors.push(PropertyError { property: "chap-minimum", reason });
    text?.parse().map_err(refused).ok()
}

fn redirection(field: Field<RedirectSettings>, errors: &mut Vec<PropertyError>) -> Patch<Redirection> {
    let (portals, permanent) = match field {
        Field::Keep => return Patch::Keep,
        Field::Clear => return Patch::Clear,
        Field::Set(settings) => (settings.portals, settings.permanent),
    };
    match addresses("redirect", Field::Set(portals), ISCSI_PORT, errors) {
        Patch::Set(portals) => Patch::Set(Redirection { portals, permanent }),
        _ => Patch::Keep,
    }
}

fn addresses(
    property: &'static str,
    field: Field<Vec<String>>,
    port: u16,
    errors: &mut Vec<PropertyError>,
) -> Patch<Vec<Portal>> {
    let parsed: Field<Result<Vec<Portal>, _>> =
        field.map(|texts| texts.iter().map(|text| Portal::parse(text, port)).collect());
    match parsed {
        Field::Keep => Patch::Keep,
        Field::Clear => Patch::Clear,
        Field::Set(Ok(portals)) => Patch::Set(portals),
        Field::Set(Err(_)) => {
            errors.push(PropertyError { property, reason: PropertyReason::InvalidAddress });
            Patch::Keep
        }
    }
}

fn refuse(owner: PropertyOwner, errors: Vec<PropertyError>) -> Result<(), ApiError> {
    if errors.is_empty() { Ok(()) } else { Err(ConfigError::Properties { owner, errors }.into()) }
}
