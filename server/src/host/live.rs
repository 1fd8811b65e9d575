//! The live objects as the management plane sees them.

use super::Host;
use crate::admin::fibre_channel::{FcPortInfo, FcQuestions};
use crate::admin::{DataPath, Live, LiveError, ObjectState, SessionInfo, Statistics};
use crate::fc::FcPort;
use crate::model::{Configuration, Transaction};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};
use stmf::provider::LogicalUnit;
use stmf::provider::hba::Wwn;
use stmf::{Guid, NexusId, State, StmfError, Termination};

/// How long the store operations of a unit that goes may take.
const DRAIN_TIME: Duration = Duration::from_secs(10);

impl Live for Host {
    fn lu_changed(&self, guid: Guid) {
        self.stmf().lu_changed(guid);
    }

    fn apply(&self, configuration: &Configuration, transaction: &Transaction) {
        if !transaction.iscsi.is_empty() {
            self.follow(&configuration.iscsi);
        }
        if !transaction.fc_ports.is_empty() {
            self.follow_fc(configuration);
        }
        #[cfg(feature = "vhost-user")]
        if !transaction.vhost_ports.is_empty() {
            self.follow_vhost(configuration);
        }
        if !transaction.iscsi.is_empty() || !transaction.ports.is_empty() {
            self.tell_ports(configuration);
        }
        if let Some(change) = &transaction.stmf {
            self.stmf.commit(change.clone());
        }
    }

    fn register_lu(&self, lu: Arc<dyn LogicalUnit>, online: bool) -> Result<(), LiveError> {
        let guid = Guid::from_bytes(lu.guid()).map_err(|error| LiveError::Failed(error.to_string()))?;
        self.stmf.register_lu(lu, "sbd").map_err(refusal)?;
        // It is as the default says now.
        self.set_lu_online(guid, online)
    }

    fn unregister_lu(&self, guid: Guid) -> Result<(), LiveError> {
        let lu = match self.stmf.unregister_lu(guid) {
            Ok(lu) => lu,
            Err(StmfError::LuNotFound(_)) => return Ok(()),
            Err(error) => return Err(refusal(error)),
        };
        // Its tasks have ended; what they began at the store may still be under way.
        if self.pool.handle().drain(&lu, DRAIN_TIME) { Ok(()) } else { Err(LiveError::TimedOut) }
    }

    fn lu_state(&self, guid: Guid) -> Option<ObjectState> {
        self.stmf.lu_status(guid).ok()?.state.map(state)
    }

    fn set_lu_online(&self, guid: Guid, online: bool) -> Result<(), LiveError> {
        if online {
            return self.stmf.online_lu(guid).map_err(refusal);
        }
        self.stmf.offline_lu(guid).map_err(refusal)?;
        match self.stmf.lu(guid) {
            Some(lu) if !self.pool.handle().drain(&lu, DRAIN_TIME) => Err(LiveError::TimedOut),
            _ => Ok(()),
        }
    }

    fn target_state(&self, name: &str) -> Option<ObjectState> {
        self.stmf.target(name).ok().map(|target| state(target.state))
    }

    fn set_target_online(&self, name: &str, online: bool) -> Result<(), LiveError> {
        let wanted = if online {
            self.stmf.online_target(name).map_err(refusal)?;
            State::Online
        } else {
            self.stmf.offline_target(name, Termination::Logout).map_err(refusal)?;
            State::Offline
        };
        let there = self.await_target(name, wanted);
        self.keeper.wake();
        if there { Ok(()) } else { Err(LiveError::TimedOut) }
    }

    fn sessions(&self) -> Vec<SessionInfo> {
        let peers = self.peers();
        let sessions = self.stmf.sessions();
        sessions
            .iter()
            .map(|session| {
                let nexus = session.nexus();
                SessionInfo {
                    id: nexus.id.0,
                    initiator: nexus.initiator.clone(),
                    initiator_alias: session.initiator_alias().map(str::to_owned),
                    target: nexus.target.clone(),
                    tag: tag(&nexus.target_port_name),
                    addresses: peers.get(&nexus.id).cloned().unwrap_or_default(),
                    since: UNIX_EPOCH + Duration::from_secs(session.logged_in()),
                    luns: session.lun_map().len(),
                }
            })
            .collect()
    }

    fn has_logged_in(&self, initiator: &str) -> Option<bool> {
        self.seen.has(initiator)
    }

    fn data_path(&self) -> Option<DataPath> {
        Some(DataPath {
            interface: self.driver.interface().to_owned(),
            threads: self.driver.threads(),
            portals: self.open_portals(),
            failed_portals: self.failed_portals(),
        })
    }

    fn statistics(&self) -> Statistics {
        let mut report = self.provider.traffic();
        report.add(self.surroundings.traffic.report());
        for target in self.fc_targets() {
            report.targets.entry(target).or_default();
        }
        #[cfg(feature = "vhost-user")]
        for target in self.vhost.targets() {
            report.targets.entry(target).or_default();
        }
        let name = |bytes: [u8; 16]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
        Statistics {
            lus: report.lus.into_iter().map(|(guid, traffic)| (name(guid), traffic.into())).collect(),
            targets: report.targets.into_iter().map(|(target, traffic)| (target, traffic.into())).collect(),
            sessions: report.sessions.into_iter().map(|(session, traffic)| (session, traffic.into())).collect(),
        }
    }

    fn troubles(&self) -> Vec<String> {
        Host::troubles(self)
    }

    fn check_fc_port(&self, port: &FcPort) -> Result<(), String> {
        self.check_fc(port)
    }

    fn fc_ports(&self, questions: FcQuestions) -> Vec<FcPortInfo> {
        self.list_fc(questions)
    }

    #[cfg(feature = "vhost-user")]
    fn local_ports(&self) -> Vec<crate::admin::LocalPort> {
        self.vhost.list()
    }

    fn fc_target(&self, name: &str) -> Option<(String, Option<String>)> {
        self.stmf.target(name).ok().map(|target| (target.provider, target.alias))
    }

    fn reset_fc_link(&self, port: Wwn) -> Result<(), LiveError> {
        self.reset_fc(port)
    }

    fn set_fc_link(&self, port: Wwn, plugged: bool) -> Result<(), LiveError> {
        self.plug_fc(port, plugged)
    }

    fn end_session(&self, id: u64) -> Result<(), LiveError> {
        let id = NexusId(id);
        self.stmf.end_session(id, Termination::Logout).map_err(refusal)?;
        let deadline = Instant::now() + super::LOGOUT_TIME;
        while self.stmf.session(id).is_some() {
            if Instant::now() >= deadline {
                // It was asked; a session that is gone meanwhile is what was wanted.
                let _ = self.stmf.end_session(id, Termination::Kill);
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

fn refusal(error: StmfError) -> LiveError {
    match error {
        StmfError::LuNotFound(_) | StmfError::TargetNotFound(_) | StmfError::SessionNotFound(_) => LiveError::NotFound,
        StmfError::LuExists(_) | StmfError::TargetExists(_) => LiveError::Exists,
        error => LiveError::Failed(error.to_string()),
    }
}

fn state(state: State) -> ObjectState {
    match state {
        State::Offline => ObjectState::Offline,
        State::Onlining => ObjectState::Onlining,
        State::Online => ObjectState::Online,
        State::Offlining => ObjectState::Offlining,
    }
}

/// The target portal group tag in the name of an iSCSI target port: `<name>,t,0x<tag>`.
fn tag(port: &str) -> u16 {
    port.rsplit_once(",t,0x").and_then(|(_, tag)| u16::from_str_radix(tag, 16).ok()).unwrap_or_default()
}
