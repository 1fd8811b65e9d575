//! Carries out the operations of the management API.

mod audit;
mod document;
mod error;
mod fibre_channel;
mod groups;
mod iscsi;
mod lus;
mod report;
mod transfer;
mod unit;
mod vhost;
mod views;
mod warnings;

pub use transfer::check_document;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stmf::Guid;

use super::api::{Answer, ApiError, Done, ErrorKind, Request};
use super::fibre_channel::FcQuestions;
use super::live::Live;
use crate::audit::AuditLog;
use crate::config_store::{ConfigStore, StoreError};
use crate::model::{Configuration, Transaction};
use unit::Unit;

/// How many logical units are taken out of service at a time when the server stops.
const SHUT_DOWN_THREADS: usize = 16;
/// Who changes what nobody asked for: the program itself.
const SYSTEM: &str = "lunette";

/// The configuration, its store, and the live objects of a running server, behind one list of operations.
///
/// Without live objects ([`attach`](Self::attach) was never called) everything that only needs the configuration and
/// the files of logical units still works; the rest says that it takes a running server.
pub struct Engine {
    store: ConfigStore,
    configuration: Configuration,
    state: PathBuf,
    units: BTreeMap<Guid, Unit>,
    live: Option<Arc<dyn Live>>,
    /// What was left out when the configuration was loaded.
    load_problems: Vec<String>,
    /// Counts generated names; see comstar's GUID layout.
    guid_counter: u16,
    /// On whose behalf the operation runs that is being carried out.
    actor: String,
    audit_log: Arc<AuditLog>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("state", &self.state).field("live", &self.live.is_some()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the configuration in a state directory, and makes it if missing. Rows that cannot be used are logged,
    /// named in [`Request::Status`], and left where they are.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is changed then.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let (store, configuration, problems) = ConfigStore::open(state)?;
        let load_problems: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.object, p.reason)).collect();
        for problem in &load_problems {
            tracing::warn!("{}: {problem}", store.path().display());
        }
        let state = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
        let mut engine = Self::new(store, configuration, state, load_problems);
        engine.audit_log = Arc::new(AuditLog::of(&engine.state));
        Ok(engine)
    }

    /// An empty configuration that is gone with the process.
    ///
    /// # Errors
    /// [`StoreError`], if the database refuses.
    pub fn in_memory() -> Result<Self, StoreError> {
        Ok(Self::new(ConfigStore::in_memory()?, Configuration::default(), PathBuf::from("memory"), Vec::new()))
    }

    fn new(store: ConfigStore, configuration: Configuration, state: PathBuf, load_problems: Vec<String>) -> Self {
        let units = configuration.lus.values().map(|record| (record.guid, Unit::new(record.clone()))).collect();
        Self {
            store,
            configuration,
            state,
            units,
            live: None,
            load_problems,
            guid_counter: 0,
            actor: SYSTEM.into(),
            audit_log: Arc::default(),
        }
    }

    /// The configuration as it is now: what live objects are made from at the start.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The state directory.
    pub fn state_directory(&self) -> &Path {
        &self.state
    }

    /// Joins the engine to the live objects of a server that has taken over [`configuration`](Self::configuration):
    /// opens every logical unit and registers it. A unit that cannot be opened is logged and tried again by
    /// [`retry_units`](Self::retry_units); it keeps no other down.
    pub fn attach(&mut self, live: Arc<dyn Live>) {
        self.live = Some(live);
        self.number_ports();
        self.bring_all_up();
    }

    /// Tries the logical units again whose files were missing or unusable. To be called every few seconds.
    pub fn retry_units(&mut self) {
        self.bring_all_up();
    }

    /// Takes every logical unit out of service: the server is about to stop. Waits until they are drained and their
    /// data are flushed, several at a time, since each waits for its device.
    pub fn shut_down(&mut self) {
        let Some(live) = self.live.take() else { return };
        let open: Vec<Guid> = self.units.iter_mut().filter_map(|(guid, unit)| unit.lu.take().map(|_| *guid)).collect();
        std::thread::scope(|scope| {
            for part in open.chunks(open.len().div_ceil(SHUT_DOWN_THREADS).max(1)) {
                let live = &live;
                scope.spawn(move || {
                    for guid in part {
                        if let Err(error) = live.unregister_lu(*guid) {
                            tracing::warn!("logical unit {guid:X} was not drained: {error}");
                        }
                    }
                });
            }
        });
    }

    /// Carries out one operation on behalf of `who`, for the audit log.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub fn execute_for(&mut self, who: &str, request: Request) -> Result<Answer, ApiError> {
        who.clone_into(&mut self.actor);
        let answer = self.execute(request);
        SYSTEM.clone_into(&mut self.actor);
        answer
    }

    /// The audit log, for what is not done here.
    pub(crate) fn audit_log(&self) -> Arc<AuditLog> {
        Arc::clone(&self.audit_log)
    }

    /// Logs what is done, on whose behalf.
    fn audit(&self, line: &str) {
        self.audit_log.lines_by(&self.actor, &[line.to_owned()]);
    }

    /// Carries out one operation.
    ///
    /// # Errors
    /// [`ApiError`], in COMSTAR's words; nothing has changed then.
    pub fn execute(&mut self, request: Request) -> Result<Answer, ApiError> {
        match request {
            Request::ListState {} => Ok(Answer::State(self.service_state())),
            Request::Status {} => Ok(Answer::Status(Box::new(self.status()))),
            Request::CreateGroup { kind, name } => self.create_group(kind.into(), &name).map(Answer::Done),
            Request::DeleteGroup { kind, name } => self.delete_group(kind.into(), &name).map(Answer::Done),
            Request::ListGroups { kind } => Ok(Answer::Groups(self.list_groups(kind.into()))),
            Request::AddMembers { kind, group, members } => {
                self.add_members(kind.into(), &group, &members).map(Answer::Done)
            }
            Request::RemoveMembers { kind, group, members } => {
                self.remove_members(kind.into(), &group, &members).map(Answer::Done)
            }
            Request::AddView { lu, host_group, target_group, lun } => {
                self.add_view(&lu, host_group.as_deref(), target_group.as_deref(), lun).map(Answer::Done)
            }
            Request::RemoveViews { lu, indexes } => self.remove_views(&lu, indexes.as_deref()).map(Answer::Done),
            Request::ListAccess {} => Ok(Answer::Access(self.list_access())),
            Request::SetAccess { target_group, state, preferred } => {
                self.set_access(target_group.as_deref(), &state, preferred).map(Answer::Done)
            }
            Request::ListViews { lu } => self.list_views(lu.as_deref()).map(Answer::Views),
            Request::CreateLu { file, size, properties, force } => {
                self.create_lu(&file, size.as_deref(), &properties, force).map(Answer::Done)
            }
            Request::ImportLu { file, new_guid } => self.import_lu(&file, new_guid).map(Answer::Done),
            Request::ModifyLu { lu, size, properties } => {
                self.modify_lu(&lu, size.as_deref(), &properties).map(Answer::Done)
            }
            Request::DeleteLu { lu, keep_views } => self.delete_lu(&lu, keep_views).map(Answer::Done),
            Request::ListLus { after, limit } => self.list_some_lus(after.as_deref(), limit).map(Answer::Lus),
            Request::SetLuState { lu, online } => self.set_lu_state(&lu, online).map(Answer::Done),
            Request::ClearReservations { lu } => self.clear_reservations(&lu).map(Answer::Done),
            Request::ListPorts {} => Ok(Answer::Ports(self.list_ports())),
            Request::SetPortState { target, online } => self.set_port_state(&target, online).map(Answer::Done),
            Request::CreateTarget { settings } => self.create_target(settings).map(Answer::Done),
            Request::ModifyTarget { target, settings } => self.modify_target(&target, settings).map(Answer::Done),
            Request::DeleteTarget { target, force } => self.delete_target(&target, force).map(Answer::Done),
            Request::ListTargets {} => Ok(Answer::Targets(self.list_targets())),
            Request::CreatePortalGroup { name, portals } => self.create_portal_group(&name, &portals).map(Answer::Done),
            Request::DeletePortalGroup { name, force } => self.delete_portal_group(&name, force).map(Answer::Done),
            Request::ListPortalGroups {} => Ok(Answer::PortalGroups(self.list_portal_groups())),
            Request::CreateInitiator { initiator, settings } => {
                self.create_initiator(&initiator, settings).map(Answer::Done)
            }
            Request::ModifyInitiator { initiator, settings } => {
                self.modify_initiator(&initiator, settings).map(Answer::Done)
            }
            Request::DeleteInitiator { initiator } => self.delete_initiator(&initiator).map(Answer::Done),
            Request::ListInitiators {} => Ok(Answer::Initiators(self.list_initiators())),
            Request::ModifyDefaults { settings } => self.modify_defaults(settings).map(Answer::Done),
            Request::ListDefaults {} => Ok(Answer::Defaults(self.list_defaults())),
            Request::CreateFcPort { driver, mode, port_name, node_name, options } => {
                let names = (port_name.as_deref(), node_name.as_deref());
                self.create_fc_port(driver, mode, names, options).map(Answer::Done)
            }
            Request::DeleteFcPort { port } => self.delete_fc_port(&port).map(Answer::Done),
            Request::ListFcPorts { units, link_errors } => {
                Ok(Answer::FcPorts(self.list_fc_ports(FcQuestions { units, link_errors })))
            }
            Request::ResetFcLink { port } => self.reset_fc_link(&port).map(Answer::Done),
            Request::SetFcLink { port, plugged } => self.set_fc_link(&port, plugged).map(Answer::Done),
            Request::CreateVhostPort { path, target, initiator } => {
                self.create_vhost_port(path, target.as_deref(), initiator.as_deref()).map(Answer::Done)
            }
            Request::DeleteVhostPort { port } => self.delete_vhost_port(&port).map(Answer::Done),
            Request::ListVhostPorts {} => Ok(Answer::VhostPorts(self.list_vhost_ports())),
            Request::ListSessions {} => Ok(Answer::Sessions(self.sessions())),
            Request::KillSession { id } => self.kill_session(id).map(Answer::Done),
            Request::Statistics {} => self.statistics().map(Answer::Statistics),
            Request::Explain { initiator, target } => {
                self.explain(&initiator, target.as_deref()).map(Answer::Explanation)
            }
            Request::ExportConfiguration { with_secrets } => self.export(with_secrets).map(Answer::Document),
            Request::ImportConfiguration { document, dry_run, map_paths, map_portals } => {
                self.import(&document, dry_run, &map_paths, &map_portals).map(Answer::Plan)
            }
        }
    }

    /// Makes a transaction durable, carries it out, and publishes it to the live objects.
    fn commit(&mut self, transaction: Transaction) -> Result<(), ApiError> {
        if transaction.is_empty() {
            return Ok(());
        }
        self.store.commit(&transaction)?;
        self.audit_log.lines_by(&self.actor, &audit::lines(&self.configuration, &transaction));
        let published = self.live.is_some().then(|| transaction.clone());
        self.configuration.commit(transaction);
        if let (Some(live), Some(transaction)) = (&self.live, published) {
            live.apply(&self.configuration, &transaction);
        }
        Ok(())
    }

    /// The live objects, or the refusal of what cannot be done without.
    fn live(&self) -> Result<&Arc<dyn Live>, ApiError> {
        self.live.as_ref().ok_or_else(|| {
            ApiError::new(ErrorKind::Unavailable, "STMF service is offline").hint("start it: lunette serve")
        })
    }
}

fn done() -> Done {
    Done::default()
}
