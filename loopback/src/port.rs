//! The target port.

use crate::client::Client;
use crate::inbox::{Inbox, Wake};
use crate::session::Session;
use scsi_core::{ProtocolId, TransportId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use stmf::config::{Config, ConfigError, NewView};
use stmf::provider::{LogicalUnit, PortError, TargetPort};
use stmf::{Guid, LoginRefusal, SessionRequest, Stmf, StmfError, TargetInfo};

/// The names of a lone unit's surroundings.
const LONE_TARGET: &str = "iqn.2026-11.org.lunette:loopback";
const LONE_INITIATOR: &str = "iqn.2026-11.org.lunette:loopback-client";

/// Why a session was not opened.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The initiator may not log in.
    #[error("{initiator}: {refusal}")]
    Refused {
        /// The initiator.
        initiator: String,
        /// Why.
        refusal: LoginRefusal,
    },
    /// The framework refuses.
    #[error(transparent)]
    Stmf(#[from] StmfError),
    /// The unit's name is not of NAA type 6.
    #[error("{0}")]
    Guid(String),
    /// The view is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// A target without a wire. It is taken out of the framework when it is dropped and has no sessions.
#[derive(Debug)]
pub struct Port {
    stmf: Arc<Stmf>,
    name: String,
    switch: Arc<Switch>,
    sessions: AtomicU32,
}

#[derive(Debug, Default)]
struct Switch(AtomicBool);

impl TargetPort for Switch {
    fn bring_online(&self) -> Result<(), PortError> {
        self.0.store(true, Ordering::Release);
        Ok(())
    }

    fn take_offline(&self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Port {
    /// Registers a target of this name, an iSCSI name for instance: target groups know it by that.
    ///
    /// # Errors
    /// [`StmfError::TargetExists`].
    pub fn new(stmf: &Arc<Stmf>, name: &str) -> Result<Self, StmfError> {
        let info =
            TargetInfo { name: name.to_owned(), protocol: ProtocolId::NONE, alias: None, provider: "loopback".into() };
        Self::with(stmf, info)
    }

    /// Registers a target for another way into the process, with its provider's name and its protocol.
    ///
    /// # Errors
    /// [`StmfError::TargetExists`].
    pub fn with(stmf: &Arc<Stmf>, info: TargetInfo) -> Result<Self, StmfError> {
        let (name, switch) = (info.name.clone(), Arc::new(Switch::default()));
        stmf.register_target(info, Arc::clone(&switch) as Arc<dyn TargetPort>)?;
        Ok(Self { stmf: Arc::clone(stmf), name, switch, sessions: AtomicU32::new(0) })
    }

    /// The target's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it takes sessions.
    pub fn is_online(&self) -> bool {
        self.switch.0.load(Ordering::Acquire)
    }

    /// Opens a session of the initiator of this name: host groups and reservations know it by that. Each session is an
    /// I_T nexus of its own. `wake` is called when something happened that the session's driver has to look at.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, initiator: &str, wake: Wake) -> Result<Session, OpenError> {
        // Initiator ports of one name are told apart as those of iSCSI are, in the random format.
        self.open_as(initiator, self.sessions.fetch_add(1, Ordering::Relaxed), wake)
    }

    /// As [`open`](Self::open), for the initiator port of this number: whoever comes back with it has the persistent
    /// reservations that it had.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_as(&self, initiator: &str, port: u32, wake: Wake) -> Result<Session, OpenError> {
        let [_, a, b, c] = port.to_be_bytes();
        self.open_by(initiator, &TransportId::iscsi_port(initiator, [0x80, a, b, c, 0, 0]), wake)
    }

    /// As [`open`](Self::open), for the initiator port that reservations know by this TransportID. Two sessions at once with
    /// one TransportID are one I_T nexus to them: whoever opens several gives each its own.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_by(&self, initiator: &str, id: &TransportId, wake: Wake) -> Result<Session, OpenError> {
        let refused = |refusal| OpenError::Refused { initiator: initiator.to_owned(), refusal };
        self.stmf.may_log_in(initiator, &self.name).map_err(refused)?;
        let inbox = Inbox::new(wake);
        let mut transport_id = Vec::new();
        id.encode(&mut transport_id);
        let session = self.stmf.open_session(SessionRequest {
            initiator: initiator.to_owned(),
            initiator_alias: None,
            transport_id,
            target: self.name.clone(),
            target_port_name: self.name.clone(),
            mailbox: Arc::clone(&inbox) as Arc<dyn stmf::provider::Mailbox>,
            logged_in: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        })?;
        Ok(Session::new(Arc::clone(&self.stmf), session, inbox))
    }

    /// Opens a session with a blocking client.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn connect(&self, initiator: &str) -> Result<Client, OpenError> {
        Client::open(self, initiator)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // Busy with sessions, it stays and takes no more.
        let _ = self.stmf.offline_target(&self.name, stmf::Termination::Kill);
        let _ = self.stmf.unregister_target(&self.name);
    }
}

/// A client of one unit, at LUN 0, with a framework, a port and a view made for it alone.
///
/// # Errors
/// [`OpenError`]: the unit does not come online.
pub fn alone(lu: Arc<dyn LogicalUnit>) -> Result<Client, OpenError> {
    let guid = Guid::from_bytes(lu.guid()).map_err(|error| OpenError::Guid(error.to_string()))?;
    let stmf = Stmf::new(Config::new(), Box::new(|job| job.run()));
    let view = NewView { lu: guid, host_group: None, target_group: None, lun: Some(0) };
    let (change, _) = stmf.with_config(|config| config.add_view(&view))?;
    stmf.commit(change);
    stmf.register_lu(lu, "loopback")?;
    let port = Port::new(&stmf, LONE_TARGET)?;
    let mut client = port.connect(LONE_INITIATOR)?;
    client.keep(port);
    Ok(client)
}
