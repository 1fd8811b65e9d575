//! What lists show of a port.

use std::fmt;
use stmf::provider::hba::{HbaDetails, LinkStatistics, PortId, Topology, Wwn};

use super::{Port, Stage};

/// A thing that happened, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortEvent {
    /// The port has an address and takes logins.
    Up(PortId),
    /// The link is down.
    Down,
    /// An initiator's session has begun.
    LoggedIn(Wwn),
    /// A remote port is logged out.
    LoggedOut {
        /// Which.
        port_name: Wwn,
        /// Why.
        reason: &'static str,
    },
    /// A login was refused.
    Refused {
        /// Of whom.
        port_name: Wwn,
        /// Why.
        reason: String,
    },
    /// What the driver complains about.
    Trouble(String),
    /// The adapter is of no use any more, and why.
    Failed(String),
}

/// The type of a port, in `fcinfo`'s words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortType {
    /// Not known: the link is down.
    Unknown,
    /// On a fabric.
    NPort,
    /// On a fabric by a loop.
    NlPort,
    /// On a private loop.
    LPort,
    /// One other port.
    PointToPoint,
}

impl fmt::Display for PortType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::NPort => "N-port",
            Self::NlPort => "NL-port",
            Self::LPort => "L-port",
            Self::PointToPoint => "point-to-point",
        })
    }
}

/// The state of a port, in `fcinfo`'s words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortState {
    /// Switched on, and the link is up.
    Online,
    /// Switched off.
    Offline,
    /// Switched on, and the link is down.
    LinkDown,
    /// The adapter is of no use any more.
    Error,
}

impl fmt::Display for PortState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::LinkDown => "link down",
            Self::Error => "error",
        })
    }
}

/// A remote port as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteInfo {
    /// Its port name.
    pub port_name: Wwn,
    /// Its node name.
    pub node_name: Wwn,
    /// Its address.
    pub port_id: PortId,
    /// Its symbolic name, if the name server knows one.
    pub symbolic_name: Option<String>,
    /// Whether it has a session.
    pub session: bool,
    /// The errors of its link, as it last said ([`Port::ask_link_errors`]); `None` if it has not.
    pub link_errors: Option<LinkStatistics>,
}

/// A port as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// Port name.
    pub port_name: Wwn,
    /// Node name.
    pub node_name: Wwn,
    /// Address; [`PortId::NONE`] without one.
    pub port_id: PortId,
    /// Type.
    pub port_type: PortType,
    /// State.
    pub state: PortState,
    /// Speed in gigabits per second; 0 when it is not established.
    pub speed: u32,
    /// The words about the adapter.
    pub details: HbaDetails,
    /// Counters of the link.
    pub statistics: LinkStatistics,
    /// Who is logged in, by port name.
    pub remotes: Vec<RemoteInfo>,
}

impl Port {
    /// What lists show.
    pub fn info(&self) -> PortInfo {
        let port_type = match self.link.filter(|_| self.stage == Stage::Up).map(|link| link.topology) {
            None => PortType::Unknown,
            Some(Topology::PublicLoop) => PortType::NlPort,
            Some(Topology::PrivateLoop) => PortType::LPort,
            Some(Topology::PointToPoint) if !self.fabric => PortType::PointToPoint,
            Some(_) => PortType::NPort,
        };
        let state = match (self.switched, self.link) {
            _ if self.failure.is_some() => PortState::Error,
            (false, _) => PortState::Offline,
            (true, None) => PortState::LinkDown,
            (true, Some(_)) => PortState::Online,
        };
        let remotes = self.remotes.values().map(|remote| RemoteInfo {
            port_name: remote.port.port_name,
            node_name: remote.port.node_name,
            port_id: remote.port.port_id,
            symbolic_name: remote.symbolic_name.clone(),
            session: remote.session.is_some(),
            link_errors: remote.link_errors,
        });
        let mut remotes: Vec<RemoteInfo> = remotes.collect();
        remotes.sort_by_key(|remote| remote.port_name);
        PortInfo {
            port_name: self.hba.port_name(),
            node_name: self.hba.node_name(),
            port_id: self.address,
            port_type,
            state,
            speed: self.link.map_or(0, |link| link.speed),
            details: self.hba.details(),
            statistics: self.hba.statistics(),
            remotes,
        }
    }
}
