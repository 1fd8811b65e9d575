//! The addresses that are listened on: those given at the start, and those of portal groups that targets use.

use super::Host;
use super::interfaces::addresses;
use crate::driver::{Flood, ListenError};
use iscsit::DefaultPortals;
use iscsit::config::Config;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is listened on, and what should be.
#[derive(Debug)]
pub(super) struct Portals {
    /// As they were bound.
    defaults: Vec<SocketAddr>,
    /// Portals of portal groups, as they were bound.
    open: BTreeSet<SocketAddr>,
    /// Portals of portal groups that cannot be listened on now, and why.
    failed: BTreeMap<SocketAddr, String>,
    advertised: DefaultPortals,
    complaints: Flood,
}

impl Default for Portals {
    fn default() -> Self {
        Self {
            defaults: Vec::new(),
            open: BTreeSet::new(),
            failed: BTreeMap::new(),
            advertised: DefaultPortals::default(),
            complaints: Flood::new(5, Duration::from_secs(60)),
        }
    }
}

impl Host {
    /// Listens on the portals of the default group; all of them, or none.
    ///
    /// Of several all-addresses portals one may be of a family that this host does not have.
    ///
    /// # Errors
    /// The first portal that is refused.
    pub(crate) fn open_default_portals(&self, wanted: &[SocketAddr]) -> Result<Vec<SocketAddr>, ListenError> {
        let mut opened = Vec::new();
        for &portal in wanted {
            match self.driver.listen(portal) {
                Ok(address) => opened.push(address),
                Err(error) if portal.ip().is_unspecified() && wanted.len() > 1 && error.is_family_unsupported() => {
                    tracing::info!(%portal, "not listened on: {}", error.source);
                }
                Err(error) => {
                    opened.iter().for_each(|address| {
                        self.driver.unlisten(*address);
                    });
                    return Err(error);
                }
            }
        }
        self.portals().defaults.extend(&opened);
        self.refresh_advertised();
        self.follow_portals(&self.provider.config());
        Ok(opened)
    }

    /// Takes over sockets that listen already, as portals of the default group.
    ///
    /// # Errors
    /// The system's reason, of the first one that is refused.
    pub(crate) fn adopt_default_portals(&self, sockets: Vec<OwnedFd>) -> io::Result<Vec<SocketAddr>> {
        let adopted = sockets.into_iter().map(|socket| self.driver.adopt(socket)).collect::<io::Result<Vec<_>>>()?;
        self.portals().defaults.extend(&adopted);
        self.refresh_advertised();
        Ok(adopted)
    }

    /// The addresses of the default portal group that are listened on.
    pub(crate) fn default_portals(&self) -> Vec<SocketAddr> {
        self.portals().defaults.clone()
    }

    /// Everything that is listened on, the default portal group first.
    pub(super) fn open_portals(&self) -> Vec<SocketAddr> {
        let portals = self.portals();
        portals.defaults.iter().chain(&portals.open).copied().collect()
    }

    /// Portals of portal groups that cannot be listened on, and why.
    pub(crate) fn failed_portals(&self) -> Vec<(SocketAddr, String)> {
        self.portals().failed.iter().map(|(portal, reason)| (*portal, reason.clone())).collect()
    }

    /// Tells discovery what the default portals come to: addresses of interfaces come and go.
    pub(super) fn refresh_advertised(&self) {
        let mut portals = self.portals();
        let any_address: Vec<u16> =
            portals.defaults.iter().filter(|portal| portal.ip().is_unspecified()).map(SocketAddr::port).collect();
        let mut advertised: Vec<SocketAddr> =
            portals.defaults.iter().filter(|portal| !portal.ip().is_unspecified()).copied().collect();
        if !any_address.is_empty() {
            let ours = addresses();
            for portal in portals.defaults.iter().filter(|portal| portal.ip().is_unspecified()) {
                let same_family = ours.iter().filter(|address| address.is_ipv4() == portal.is_ipv4());
                advertised.extend(same_family.map(|address| SocketAddr::new(*address, portal.port())));
            }
        }
        advertised.sort_unstable();
        advertised.dedup();
        let news = DefaultPortals { advertised, any_address };
        if news != portals.advertised {
            portals.advertised = news.clone();
            self.provider.set_default_portals(news);
            self.keeper.wake();
        }
    }

    /// Listens on the portals of portal groups that targets use, and no more on those that none uses. What cannot be
    /// listened on now is tried again later: an address may be another host's until it fails over.
    pub(super) fn follow_portals(&self, config: &Config) {
        let mut portals = self.portals();
        let used = config.targets().flat_map(|target| config.portals_of(target)).map(|(_, portal)| portal.address());
        let covered = |address: &SocketAddr| {
            portals.defaults.iter().any(|default| {
                default == address
                    || default.ip().is_unspecified()
                        && default.port() == address.port()
                        && default.is_ipv4() == address.is_ipv4()
            })
        };
        let wanted: BTreeSet<SocketAddr> = used.filter(|address| !covered(address)).collect();
        for gone in portals.open.difference(&wanted).copied().collect::<Vec<_>>() {
            self.driver.unlisten(gone);
            portals.open.remove(&gone);
            tracing::info!(portal = %gone, "no longer listening");
        }
        portals.failed.retain(|portal, _| wanted.contains(portal));
        for new in wanted.difference(&portals.open).copied().collect::<Vec<_>>() {
            match self.driver.listen(new) {
                Ok(_) => {
                    portals.open.insert(new);
                    portals.failed.remove(&new);
                    tracing::info!(portal = %new, "listening");
                }
                Err(error) => {
                    let reason = error.source.to_string();
                    if portals.failed.insert(new, reason.clone()) != Some(reason)
                        && portals.complaints.pass(Instant::now()).is_some()
                    {
                        tracing::warn!("{error}");
                    }
                }
            }
        }
    }

    /// Whether portals need another look from time to time.
    pub(super) fn portals_need_care(&self) -> bool {
        let portals = self.portals();
        !portals.failed.is_empty() || !portals.advertised.any_address.is_empty()
    }

    fn portals(&self) -> MutexGuard<'_, Portals> {
        self.portals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
