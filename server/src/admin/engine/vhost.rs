//! Ports for virtual machines: made, forgotten, listed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Engine, done};
use crate::admin::api::{ApiError, Done, ErrorKind, PortInfo};
use crate::admin::live::{LocalPort, ObjectState, SessionInfo};
use crate::admin::vhost::VhostPortInfo;
use crate::model::Transaction;
use crate::vhost::VhostPort;

impl Engine {
    pub(super) fn create_vhost_port(
        &mut self,
        path: PathBuf,
        target: Option<&str>,
        initiator: Option<&str>,
    ) -> Result<Done, ApiError> {
        let invalid = |reason: String| ApiError::new(ErrorKind::Invalid, reason).hint(HELP);
        let port = VhostPort::new(path).named(target, initiator).map_err(invalid)?;
        self.check_vhost_port(&port)?;
        let exists = |what: String, hint: &str| Err(ApiError::new(ErrorKind::Exists, what).hint(hint.to_owned()));
        if self.local_ports().iter().any(|other| other.path == port.path) {
            let what = format!("{}: there is a port with this socket", port.path.display());
            return exists(what, "'lunette vhost list' shows the ports");
        }
        if self.is_local(&port.target) || self.is_other_target(&port.target) {
            let what = format!("{}: there is a target of this name", port.target);
            return exists(what, "give the port another name: --target NAME, and its guest: --initiator NAME");
        }
        let target = port.target.clone();
        self.commit(Transaction { vhost_ports: vec![(target.clone(), Some(port))], ..Transaction::default() })?;
        self.number_ports();
        let problem = self.local_ports().into_iter().find(|port| port.target == target).and_then(|port| port.problem);
        Ok(Done { name: Some(target), warnings: problem.into_iter().collect(), ..done() })
    }

    pub(super) fn delete_vhost_port(&mut self, name: &str) -> Result<Done, ApiError> {
        let is_it = |target: &str, path: &Path| target.eq_ignore_ascii_case(name) || path == Path::new(name);
        let kept = self.configuration.vhost_ports.values().find(|port| is_it(&port.target, &port.path));
        let Some(target) = kept.map(|port| port.target.clone()) else {
            if self.local_ports().iter().any(|port| is_it(&port.target, &port.path)) {
                let reason = format!("{name}: not in the configuration");
                return Err(ApiError::new(ErrorKind::Conflict, reason)
                    .hint("it was given by 'lunette serve --vhost-user': start the server without that"));
            }
            return Err(ApiError::new(ErrorKind::NotFound, format!("{name}: not found"))
                .hint("'lunette vhost list' shows the ports"));
        };
        self.commit(Transaction { vhost_ports: vec![(target, None)], ..Transaction::default() })?;
        self.number_ports();
        Ok(done())
    }

    pub(super) fn list_vhost_ports(&self) -> Vec<VhostPortInfo> {
        let sessions = self.sessions();
        let info = |port: LocalPort| VhostPortInfo {
            kept: self.configuration.vhost_ports.contains_key(&port.target),
            connected: sessions.iter().any(|session| session.target == port.target),
            target: port.target,
            path: port.path,
            initiator: port.initiator,
            problem: port.problem,
        };
        self.local_ports().into_iter().map(info).collect()
    }

    /// Ports of virtual machines on this host: those in the configuration, and those given at the server's start.
    pub(super) fn local_ports(&self) -> Vec<LocalPort> {
        let kept = self.configuration.vhost_ports.values().map(|port| LocalPort {
            target: port.target.clone(),
            initiator: port.initiator.clone(),
            path: port.path.clone(),
            problem: None,
        });
        let mut ports: BTreeMap<String, LocalPort> = kept.map(|port| (port.target.clone(), port)).collect();
        let live = self.live.iter().flat_map(|live| live.local_ports());
        ports.extend(live.map(|port| (port.target.clone(), port)));
        ports.into_values().collect()
    }

    /// Whether a port of that folded name is one of them.
    pub(super) fn is_local(&self, folded: &str) -> bool {
        self.local_ports().iter().any(|port| port.target == folded)
    }

    /// The same ports as targets, with the numbers that they were given.
    pub(super) fn list_local_targets(&self, sessions: &[SessionInfo]) -> Vec<(Option<u16>, PortInfo)> {
        let info = |port: LocalPort| {
            let name = port.target;
            let number = self.configuration.ports.get(&name).copied();
            let info = PortInfo {
                state: self.live.as_ref().and_then(|live| live.target_state(&name)).unwrap_or(ObjectState::Offline),
                provider: "vhost-user".into(),
                alias: Some(port.path.display().to_string()),
                protocol: "vhost-user".into(),
                sessions: sessions.iter().filter(|session| session.target == name).cloned().collect(),
                name,
            };
            (number, info)
        };
        self.local_ports().into_iter().map(info).collect()
    }

    /// What is wrong with sockets, a line for each.
    pub(super) fn vhost_troubles(&self) -> Vec<String> {
        let ports = self.local_ports().into_iter();
        ports.filter_map(|port| Some(format!("vhost-user port {}: {}", port.path.display(), port.problem?))).collect()
    }

    pub(super) fn check_vhost_port(&self, port: &VhostPort) -> Result<(), ApiError> {
        let reason = match port.check() {
            Err(reason) => reason,
            Ok(()) if !port.path.is_absolute() => format!("{}: not an absolute path", port.path.display()),
            Ok(()) if !cfg!(feature = "vhost-user") => "this program was built without vhost-user".into(),
            Ok(()) => return Ok(()),
        };
        Err(ApiError::new(ErrorKind::Invalid, reason).hint(HELP))
    }

    fn is_other_target(&self, folded: &str) -> bool {
        self.configuration.iscsi.target(folded).is_some() || self.is_fc_target(folded)
    }
}

const HELP: &str = "'lunette vhost create-port --help' shows an example";
