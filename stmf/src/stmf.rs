//! The live framework: logical units, targets and sessions that follow the configuration.

mod explain;
mod lus;
mod nexuses;
mod ports;
#[cfg(test)]
mod properties;
mod surroundings;
mod targets;
#[cfg(test)]
mod tests;

pub use explain::{ExplainedLun, Explanation, HiddenLun, HiddenReason, explain_views};
pub use lus::LuStatus;
pub use nexuses::{LoginRefusal, SessionInfo, SessionRequest};
pub use ports::port_group_number;
pub use targets::{TargetInfo, TargetStatus};

use scsi_core::Guid;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};

use crate::config::{Change, Config};
use crate::name;
use crate::nexus::NexusId;
use crate::provider::{Effect, Effects, Host, LogicalUnit, Mailbox, StoreError, StoreRequest, TargetPorts};
use crate::session::Session;
use lus::LuEntry;
use nexuses::Aftermath;
use ports::PortNumber;
use targets::TargetEntry;

/// The state of a logical unit or a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Reached by nobody.
    Offline,
    /// On its way to online.
    Onlining,
    /// In use.
    Online,
    /// On its way to offline.
    Offlining,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offline => "Offline",
            Self::Onlining => "Onlining",
            Self::Online => "Online",
            Self::Offlining => "Offlining",
        })
    }
}

/// Why the framework refuses an operation on what is live.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StmfError {
    /// No logical unit of that name is registered.
    #[error("{0:X}: not found")]
    LuNotFound(Guid),
    /// A logical unit of that name is registered.
    #[error("guid in use")]
    LuExists(Guid),
    /// A logical unit's name is not of NAA type 6: 16 bytes, the first nibble 6.
    #[error("{0:02X?}: not an NAA 6 name")]
    LuName([u8; 16]),
    /// The logical unit's store does not come up.
    #[error("{guid:X}: cannot be brought online: {reason}")]
    LuFailed {
        /// The unit.
        guid: Guid,
        /// What its store says.
        reason: StoreError,
    },
    /// No target of that name is registered.
    #[error("{0}: not found")]
    TargetNotFound(String),
    /// A target of that name is registered.
    #[error("{0}: already exists")]
    TargetExists(String),
    /// The target's port provider cannot serve it.
    #[error("{name}: cannot be brought online: {reason}")]
    TargetFailed {
        /// The target.
        name: String,
        /// What the port provider says.
        reason: String,
    },
    /// The target takes no sessions.
    #[error("{0}: target is offline")]
    TargetOffline(String),
    /// The object is changing its state, or has sessions.
    #[error("{0}: resource busy")]
    Busy(String),
    /// All 65535 relative target port identifiers are taken.
    #[error("{0}: no relative target port identifier is free")]
    NoRelativeTargetPort(String),
    /// No session has that number.
    #[error("{}: no such session", .0.0)]
    SessionNotFound(NexusId),
}

/// Carries out [`StoreJob`]s: calls [`StoreJob::run`] soon, where it hurts nobody to wait for a device.
pub type StoreRunner = Box<dyn Fn(StoreJob) + Send + Sync>;

/// A store operation that a logical unit still wants though the session it began with is gone: the rest of a write,
/// or the record of a reservation.
#[must_use = "the logical unit waits for the outcome"]
pub struct StoreJob {
    stmf: Weak<Stmf>,
    lu: Arc<dyn LogicalUnit>,
    request: StoreRequest,
}

impl StoreJob {
    /// Carries it out, tells the logical unit, and delivers what that asks for. May wait for a device.
    pub fn run(self) {
        let mut effects = Effects::new();
        let done = self.lu.perform(self.request);
        self.lu.store_done(done, &mut effects);
        if let Some(stmf) = self.stmf.upgrade() {
            stmf.dispatch(&self.lu, &mut effects, |_| false);
        }
    }
}

impl fmt::Debug for StoreJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreJob").field("lu", &self.lu).field("request", &self.request).finish()
    }
}

/// The framework. One in a process is usual, several do not disturb each other.
///
/// Changes of the configuration are planned on a view of it and committed here, and every session they concern
/// follows at once; no other session notices.
///
/// ```
/// use stmf::config::{Config, GroupKind};
/// use stmf::Stmf;
///
/// let stmf = Stmf::new(Config::new(), Box::new(|job| job.run()));
/// let change = stmf.with_config(|config| config.create_group(GroupKind::Host, "ESX1"))?;
/// // Write change.edits() to stable storage here.
/// stmf.commit(change);
/// # Ok::<(), stmf::ConfigError>(())
/// ```
///
/// Locks: `live` is held for short steps of the control plane; under it the locks inside logical units and of
/// `routes` and `online` may be taken, never the other way round. Neither mailboxes nor port providers are called with it.
pub struct Stmf {
    live: Mutex<Live>,
    /// Where effects for a nexus go; read by the data path, hence apart and in shards.
    routes: [RwLock<HashMap<NexusId, Route>>; ROUTE_SHARDS],
    /// The units that are online, for [`Surroundings::find`](crate::provider::Surroundings::find).
    online: RwLock<HashMap<[u8; 16], Arc<dyn LogicalUnit>>>,
    host: OnceLock<Arc<dyn Host>>,
    runner: StoreRunner,
    this: Weak<Self>,
}

/// Where a nexus is to be found.
struct Route {
    mailbox: Arc<dyn Mailbox>,
    session: Arc<Session>,
}

const ROUTE_SHARDS: usize = 16;

/// Everything that changes.
struct Live {
    config: Config,
    lus: BTreeMap<Guid, LuEntry>,
    targets: HashMap<String, TargetEntry>,
    /// Counts registrations, to list the newest first.
    registrations: u64,
    relative_ports: BTreeMap<String, PortNumber>,
    /// What every unit has been told last.
    target_ports: Arc<TargetPorts>,
    sessions: BTreeMap<NexusId, Arc<Session>>,
    by_initiator: HashMap<String, BTreeSet<NexusId>>,
    by_target: HashMap<String, BTreeSet<NexusId>>,
    next_nexus: u64,
}

impl Stmf {
    /// A framework without logical units and targets. `runner` is given what has no session to wait for.
    pub fn new(config: Config, runner: StoreRunner) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            live: Mutex::new(Live {
                config,
                lus: BTreeMap::new(),
                targets: HashMap::new(),
                registrations: 0,
                relative_ports: BTreeMap::new(),
                target_ports: Arc::default(),
                sessions: BTreeMap::new(),
                by_initiator: HashMap::new(),
                by_target: HashMap::new(),
                next_nexus: 1,
            }),
            routes: Default::default(),
            online: RwLock::default(),
            host: OnceLock::new(),
            runner,
            this: this.clone(),
        })
    }

    /// Looks at the configuration: to read it, or to plan a change. Keep it short: sessions open under the same lock.
    pub fn with_config<R>(&self, look: impl FnOnce(&Config) -> R) -> R {
        look(&self.lock().config)
    }

    /// Carries out a planned change, and what it means for the sessions there are: LUNs appear and disappear, each
    /// session whose LUN map changed gets the unit attention REPORTED LUNS DATA HAS CHANGED, tasks on units that it
    /// no longer reaches are aborted.
    pub fn commit(&self, change: Change) {
        let mut aftermath = Aftermath::default();
        {
            let mut live = self.lock();
            // Looked up before the change: it needs the entries that go. Who joins a group in the same change has an
            // edit of its own.
            let concerned = live.concerned_by(change.edits());
            live.config.commit(change);
            live.follow_ports();
            live.follow(concerned, &mut aftermath);
        }
        self.settle(aftermath);
    }

    /// The mailbox of a nexus; `None` when the nexus is gone.
    pub fn route(&self, nexus: NexusId) -> Option<Arc<dyn Mailbox>> {
        let routes = self.routes(nexus).read().unwrap_or_else(PoisonError::into_inner);
        routes.get(&nexus).map(|route| route.mailbox.clone())
    }

    /// Takes those effects of `lu` out of `effects` whose nexus does not live here (`local` is false for it) and
    /// delivers them. What stays keeps its order.
    ///
    /// Effects for a nexus that is gone are dropped, but for store operations: the runner gets those.
    pub fn dispatch(&self, lu: &Arc<dyn LogicalUnit>, effects: &mut Effects, mut local: impl FnMut(NexusId) -> bool) {
        let Some(first) = effects.iter().position(|effect| !local(effect.nexus())) else { return };
        for effect in effects.extract_if(first.., |effect| !local(effect.nexus())) {
            self.deliver(lu, effect);
        }
    }

    /// Delivers one effect of `lu` to its nexus, as [`Stmf::dispatch`] does.
    pub fn deliver(&self, lu: &Arc<dyn LogicalUnit>, effect: Effect) {
        let left = match self.route(effect.nexus()) {
            Some(mailbox) => mailbox.deliver(lu, effect).err(),
            None => Some(effect),
        };
        if let Some(Effect::Store(request)) = left {
            (self.runner)(StoreJob { stmf: self.this.clone(), lu: lu.clone(), request });
        }
    }

    /// Carries the consequences of a step to where they belong, without the lock.
    fn settle(&self, aftermath: Aftermath) {
        for (lu, mut effects) in aftermath.effects {
            self.dispatch(&lu, &mut effects, |_| false);
        }
        for session in aftermath.changed {
            session.mailbox().wake();
        }
    }

    fn routes(&self, nexus: NexusId) -> &RwLock<HashMap<NexusId, Route>> {
        &self.routes[nexus.0 as usize % ROUTE_SHARDS]
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Stmf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let live = self.lock();
        f.debug_struct("Stmf")
            .field("lus", &live.lus.len())
            .field("targets", &live.targets.len())
            .field("sessions", &live.sessions.len())
            .finish()
    }
}

/// The folded form of a device's name; a name of no known form is its own.
fn folded(text: &str) -> String {
    name::fold(text).unwrap_or_else(|| text.to_owned())
}
