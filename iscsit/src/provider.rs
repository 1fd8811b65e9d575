//! What all workers of the iSCSI port provider share.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use iscsi_proto::auth::chap::Proof;
use iscsi_proto::target::{ConnectionConfig, SessionConfig, TargetRecord};
use stmf::{LoginRefusal, State, Stmf};

use crate::config::{Config, Target};
use crate::discovery::{self, DefaultPortals};
use crate::inbox::ProofAnswer;
use crate::isns;
use crate::limits::Limits;
use crate::session_map::{SessionMap, WorkerId};
use stmf::traffic::{Registry, TrafficReport};

/// Where random bytes come from: the system in a server, a seed in a test.
pub trait Entropy: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

impl<F: Fn(&mut [u8]) + Send + Sync> Entropy for F {
    fn fill(&self, bytes: &mut [u8]) {
        self(bytes);
    }
}

/// Checks proofs of logins outside: RADIUS.
///
/// [`check`](Self::check) is called by the thread that drives a worker and must not wait. The login goes on when the
/// answer is given; it has the rest of the login timeout for that.
pub trait ProofChecker: Send + Sync {
    /// Begins to find out whether `proof` is right.
    fn check(&self, proof: Proof, answer: ProofAnswer);
}

/// Everything that a provider is made of; what is not given has a default.
pub struct ProviderConfig {
    /// Limits of the workers.
    pub limits: Limits,
    /// Limits and timers of connections, parameters of negotiation.
    pub connection: ConnectionConfig,
    /// Limits and timers of sessions.
    pub session: SessionConfig,
    /// Randomness for challenges.
    pub entropy: Box<dyn Entropy>,
    /// Unix time in seconds at the moment of the call, for "logged in since".
    pub unix_time: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// The iSCSI port provider: targets and portals, whom they let in, and where sessions live.
///
/// Shared by its [`Worker`](crate::Worker)s. Changes of the configuration are taken by
/// [`set_config`](Self::set_config) while sessions go on.
pub struct Provider {
    stmf: Arc<Stmf>,
    config: ArcSwap<Config>,
    default_portals: ArcSwap<DefaultPortals>,
    limits: Limits,
    connection: ConnectionConfig,
    session: SessionConfig,
    entropy: Box<dyn Entropy>,
    unix_time: Box<dyn Fn() -> u64 + Send + Sync>,
    sessions: SessionMap,
    workers: AtomicUsize,
    proof_checker: ArcSwapOption<Box<dyn ProofChecker>>,
    traffic: Registry,
}

/// What a login needs to know of the target it asked for.
pub(crate) struct LoginTarget {
    pub(crate) target: Target,
    /// Target portal group tag at the portal where the connection arrived.
    pub(crate) tag: u16,
}

impl Provider {
    /// A provider without targets.
    pub fn new(stmf: Arc<Stmf>, config: ProviderConfig) -> Arc<Self> {
        Arc::new(Self {
            stmf,
            config: ArcSwap::default(),
            default_portals: ArcSwap::default(),
            limits: config.limits,
            connection: config.connection,
            session: config.session,
            entropy: config.entropy,
            unix_time: config.unix_time,
            sessions: SessionMap::default(),
            workers: AtomicUsize::new(0),
            proof_checker: ArcSwapOption::empty(),
            traffic: Registry::default(),
        })
    }

    /// The framework it is a provider of.
    pub fn stmf(&self) -> &Arc<Stmf> {
        &self.stmf
    }

    /// The configuration as it is now.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Takes a new configuration. Sessions that exist go on, those of a target that is gone as well: whoever deletes a
    /// target ends them first by [`Stmf::offline_target`], then takes it out by [`Stmf::unregister_target`].
    pub fn set_config(&self, config: Arc<Config>) {
        self.config.store(config);
    }

    /// Sets the portals of the default portal group.
    pub fn set_default_portals(&self, portals: DefaultPortals) {
        self.default_portals.store(Arc::new(portals));
    }

    /// What has gone through sessions, targets and logical units.
    pub fn traffic(&self) -> TrafficReport {
        self.traffic.report()
    }

    pub(crate) fn traffic_registry(&self) -> &Registry {
        &self.traffic
    }

    /// Sets who checks the proofs of logins to targets whose method is `radius`. Without one they are refused.
    pub fn set_proof_checker(&self, checker: Option<Box<dyn ProofChecker>>) {
        self.proof_checker.store(checker.map(Arc::new));
    }

    /// Asks for the verdict about a proof; without anybody to ask, the answer is no.
    pub(crate) fn check_proof(&self, proof: Proof, answer: ProofAnswer) {
        if let Some(checker) = &*self.proof_checker.load() {
            checker.check(proof, answer);
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn connection_config(&self) -> ConnectionConfig {
        self.connection.clone()
    }

    pub(crate) fn session_config(&self) -> SessionConfig {
        self.session.clone()
    }

    pub(crate) fn sessions(&self) -> &SessionMap {
        &self.sessions
    }

    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }

    pub(crate) fn unix_time(&self) -> u64 {
        (self.unix_time)()
    }

    /// The next worker's name.
    pub(crate) fn enlist(&self) -> WorkerId {
        WorkerId(self.workers.fetch_add(1, Ordering::Relaxed))
    }

    /// The target of this name, if it is offered at `local`.
    pub(crate) fn login_target(&self, name: &str, local: SocketAddr) -> Option<LoginTarget> {
        let config = self.config.load();
        let target = config.target(name)?;
        let tag = discovery::tag_at(&config, &self.default_portals.load(), target, local)?;
        Some(LoginTarget { target: target.clone(), tag })
    }

    /// The answer to SendTargets: the targets at `local` that `initiator` may log in to; `scope` limits it to one.
    pub(crate) fn discover(&self, initiator: &str, local: SocketAddr, scope: Option<&str>) -> Vec<TargetRecord> {
        let config = self.config.load();
        let defaults = self.default_portals.load();
        let wanted: Vec<&Target> = match scope {
            Some(name) => config.target(name).into_iter().collect(),
            None => config.targets().collect(),
        };
        wanted
            .into_iter()
            .filter(|target| self.admit(&config, initiator, target).is_ok())
            .filter_map(|target| discovery::record(&config, &defaults, target, local))
            .collect()
    }

    /// Every target that takes logins, with the portals where it does and their tags, in ascending order of tags: what a
    /// name service is told.
    pub fn advertisement(&self) -> Vec<isns::Node> {
        let config = self.config.load();
        let defaults = self.default_portals.load();
        let online =
            |target: &&Target| self.stmf.target(target.name.as_str()).is_ok_and(|status| status.state == State::Online);
        let node = |target: &Target| isns::Node {
            name: target.name.to_string(),
            alias: target.alias.clone().or_else(|| config.defaults().alias.clone()),
            portals: {
                let mut portals = discovery::portals(&config, &defaults, target);
                // Loopback is of no use to others, unless there is nothing else.
                if portals.iter().any(|(portal, _)| !portal.ip().is_loopback()) {
                    portals.retain(|(portal, _)| !portal.ip().is_loopback());
                }
                portals
            },
        };
        config.targets().filter(online).map(node).filter(|node| !node.portals.is_empty()).collect()
    }

    /// Whether `initiator` may log in to `target`, apart from authentication.
    pub(crate) fn admit(&self, config: &Config, initiator: &str, target: &Target) -> Result<(), LoginRefusal> {
        match self.stmf.may_log_in(initiator, target.name.as_str()) {
            // An initiator with an entry of its own is a named one.
            Err(LoginRefusal::NotNamed) if config.initiator(initiator).is_some() => Ok(()),
            verdict => verdict,
        }
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("config", &self.config).finish_non_exhaustive()
    }
}
