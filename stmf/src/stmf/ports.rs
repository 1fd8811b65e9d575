//! Target ports by number and group: relative target port identifiers, and what ALUA tells of them.

use scsi_core::data::AsymmetricAccessState;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::{Live, Stmf, StmfError, folded};
use crate::config::{AccessState, GroupId, GroupKind};
use crate::provider::{PortGroup, TargetPorts};

/// TARGET PORT GROUP of the ports of a target group, or of targets in none. Numbers past 16 bits take more groups than
/// there can be ports: they share the last.
pub fn port_group_number(group: Option<GroupId>) -> u16 {
    group.map_or(0, |group| u16::try_from(group.0).unwrap_or(u16::MAX))
}

/// The number of a target port.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortNumber {
    number: u16,
    /// Set by the host, not given at first use: it outlives the registration of its target.
    fixed: bool,
}

impl Stmf {
    /// The relative target port identifier of a SCSI target port: as it was set, else given when it is first asked for
    /// and kept as long as its target is registered.
    ///
    /// # Errors
    /// [`StmfError::NoRelativeTargetPort`] when all 65535 are taken.
    pub fn relative_target_port(&self, port_name: &str) -> Result<u16, StmfError> {
        let mut live = self.lock();
        let number = live.relative_target_port(port_name)?;
        live.follow_ports();
        Ok(number)
    }

    /// Sets the relative target port identifiers of a target's ports (port name, number): those that the host has
    /// written down, so that persistent reservations and multipath software find the same port under the same number
    /// after a restart. Ports of the target that are not named, and ports of others that had one of the numbers by
    /// their first use, are forgotten. They stay when the target goes; an empty list forgets them.
    pub fn set_target_ports(&self, target: &str, ports: &[(String, u16)]) {
        let target = folded(target);
        let mut live = self.lock();
        live.relative_ports
            .retain(|port, known| target_of(port) != target && ports.iter().all(|(_, taken)| *taken != known.number));
        for (port, number) in ports.iter().filter(|(_, number)| *number > 0) {
            live.relative_ports.insert(port.clone(), PortNumber { number: *number, fixed: true });
        }
        live.follow_ports();
    }

    /// The target ports of registered targets, in their groups, as every unit reports them.
    pub fn target_ports(&self) -> Arc<TargetPorts> {
        Arc::clone(&self.lock().target_ports)
    }
}

impl Live {
    pub(super) fn relative_target_port(&mut self, port_name: &str) -> Result<u16, StmfError> {
        if let Some(known) = self.relative_ports.get(port_name) {
            return Ok(known.number);
        }
        let taken: HashSet<u16> = self.relative_ports.values().map(|known| known.number).collect();
        let number = (1..=u16::MAX)
            .find(|number| !taken.contains(number))
            .ok_or_else(|| StmfError::NoRelativeTargetPort(port_name.to_owned()))?;
        self.relative_ports.insert(port_name.to_owned(), PortNumber { number, fixed: false });
        Ok(number)
    }

    pub(super) fn forget_ports(&mut self, target: &str) {
        self.relative_ports.retain(|port, known| known.fixed || target_of(port) != target);
        self.follow_ports();
    }

    /// Tells every unit of the target ports when something about them has changed.
    pub(super) fn follow_ports(&mut self) {
        let mut groups: BTreeMap<Option<GroupId>, Vec<u16>> = BTreeMap::new();
        for (port, known) in &self.relative_ports {
            let target = target_of(port);
            if self.targets.contains_key(target) {
                let group = self.config.group_of(GroupKind::Target, target).map(|group| group.id());
                groups.entry(group).or_default().push(known.number);
            }
        }
        let group = |(group, mut ports): (Option<GroupId>, Vec<u16>)| {
            ports.sort_unstable();
            let access = self.config.access(group);
            PortGroup { id: port_group_number(group), state: state(access.state), preferred: access.preferred, ports }
        };
        let ports = TargetPorts { groups: groups.into_iter().map(group).collect() };
        if ports != *self.target_ports {
            self.target_ports = Arc::new(ports);
            for entry in self.lus.values() {
                entry.lu.set_target_ports(&self.target_ports);
            }
        }
    }
}

/// The target of a port: port names are the target's, for iSCSI with `,t,0x<tag>` behind it.
fn target_of(port: &str) -> &str {
    port.rsplit_once(",t,0x").map_or(port, |(target, _)| target)
}

fn state(state: AccessState) -> AsymmetricAccessState {
    match state {
        AccessState::ActiveOptimized => AsymmetricAccessState::ActiveOptimized,
        AccessState::ActiveNonOptimized => AsymmetricAccessState::ActiveNonOptimized,
        AccessState::Standby => AsymmetricAccessState::Standby,
        AccessState::Unavailable => AsymmetricAccessState::Unavailable,
        AccessState::Transitioning => AsymmetricAccessState::Transitioning,
    }
}
