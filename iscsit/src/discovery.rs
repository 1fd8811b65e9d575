//! Which targets are offered where, and to whom.

use std::net::{IpAddr, SocketAddr};

use iscsi_proto::target::TargetRecord;

use crate::config::{Config, DEFAULT_TAG, Portal, Target};

/// The portals of the default portal group, tag 1: those of every target without portal groups of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefaultPortals {
    /// The addresses that initiators are told.
    pub advertised: Vec<SocketAddr>,
    /// Ports that are listened on at every address: connections to them belong to the group whatever the address.
    pub any_address: Vec<u16>,
}

impl DefaultPortals {
    fn contains(&self, local: SocketAddr) -> bool {
        self.any_address.contains(&local.port()) || self.advertised.contains(&canonical(local))
    }
}

/// The portal group tag under which `target` is offered at `local`, the address a connection arrived at. `None`: it is
/// not offered there.
pub(crate) fn tag_at(config: &Config, defaults: &DefaultPortals, target: &Target, local: SocketAddr) -> Option<u16> {
    if target.portal_groups.is_empty() {
        defaults.contains(local).then_some(DEFAULT_TAG)
    } else {
        config.tag_at(target, Portal::new(local))
    }
}

/// The addresses of `target` for a connection that arrived at `local`: the arrival portal first.
pub(crate) fn record(
    config: &Config,
    defaults: &DefaultPortals,
    target: &Target,
    local: SocketAddr,
) -> Option<TargetRecord> {
    tag_at(config, defaults, target, local)?;
    let local = canonical(local);
    let mut addresses: Vec<(SocketAddr, u16)> = if target.portal_groups.is_empty() {
        std::iter::once(local).chain(defaults.advertised.iter().copied()).map(|a| (a, DEFAULT_TAG)).collect()
    } else {
        config.portals_of(target).map(|(tag, portal)| (portal.address(), tag)).collect()
    };
    // Addresses of the other family or of loopback are of no use to an initiator that came from elsewhere.
    addresses.retain(|(address, _)| *address == local || reachable(local.ip(), address.ip()));
    addresses.sort_by_key(|(address, _)| *address != local);
    let mut seen = Vec::new();
    addresses.retain(|(address, _)| {
        !seen.contains(address) && {
            seen.push(*address);
            true
        }
    });
    Some(TargetRecord {
        name: target.name.to_string(),
        addresses: addresses.into_iter().map(|(address, tag)| (address.to_string(), tag)).collect(),
    })
}

/// All portals of `target` with their tags, in ascending order of tags.
pub(crate) fn portals(config: &Config, defaults: &DefaultPortals, target: &Target) -> Vec<(SocketAddr, u16)> {
    if target.portal_groups.is_empty() {
        defaults.advertised.iter().map(|address| (*address, DEFAULT_TAG)).collect()
    } else {
        config.portals_of(target).map(|(tag, portal)| (portal.address(), tag)).collect()
    }
}

fn reachable(from: IpAddr, to: IpAddr) -> bool {
    from.is_loopback() || !to.is_loopback()
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Patch, TargetPatch};

    fn config() -> Config {
        let mut config = Config::default();
        let change = config.plan_create_portal_group("vlan10", &["192.0.2.10", "192.0.2.11:3261"]).unwrap();
        config.commit(change);
        for (name, groups) in
            [("iqn.2026-11.org.example:open", None), ("iqn.2026-11.org.example:vlan10", Some("vlan10"))]
        {
            let wish = TargetPatch {
                name: Some(name.into()),
                portal_groups: groups.map_or(Patch::Keep, |g: &str| Patch::Set(vec![g.to_owned()])),
                ..TargetPatch::default()
            };
            let (_, change) = config.plan_create_target(&wish, [0; 16]).unwrap();
            config.commit(change);
        }
        config
    }

    fn defaults() -> DefaultPortals {
        DefaultPortals {
            advertised: vec!["127.0.0.1:3260".parse().unwrap(), "192.0.2.1:3260".parse().unwrap()],
            any_address: vec![3260],
        }
    }

    fn addresses(target: &str, local: &str) -> Option<Vec<String>> {
        let config = config();
        let target = config.target(target).unwrap();
        let record = record(&config, &defaults(), target, local.parse().unwrap())?;
        Some(record.addresses.into_iter().map(|(address, tag)| format!("{address},{tag}")).collect())
    }

    #[test]
    fn the_arrival_portal_comes_first_and_once() {
        let found = addresses("iqn.2026-11.org.example:open", "192.0.2.1:3260").unwrap();
        assert_eq!(found, ["192.0.2.1:3260,1"]);
        let found = addresses("iqn.2026-11.org.example:open", "127.0.0.1:3260").unwrap();
        assert_eq!(found, ["127.0.0.1:3260,1", "192.0.2.1:3260,1"]);
    }

    #[test]
    fn a_target_with_portal_groups_is_offered_at_their_portals_only() {
        assert_eq!(addresses("iqn.2026-11.org.example:vlan10", "192.0.2.1:3260"), None);
        let found = addresses("iqn.2026-11.org.example:vlan10", "192.0.2.11:3261").unwrap();
        assert_eq!(found, ["192.0.2.11:3261,2", "192.0.2.10:3260,2"]);
    }

    #[test]
    fn an_ipv4_address_mapped_into_ipv6_is_the_same_portal() {
        let found = addresses("iqn.2026-11.org.example:vlan10", "[::ffff:192.0.2.10]:3260").unwrap();
        assert_eq!(found[0], "192.0.2.10:3260,2");
    }
}
