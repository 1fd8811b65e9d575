//! Asymmetric logical unit access: target port groups, their states, and what is refused by each.
//!
//! Which ports there are and in which groups, and what state an administrator has given each group, the framework
//! tells; it is the same for every unit. SET TARGET PORT GROUPS changes the state of a group for this unit alone, until
//! the administrator says otherwise.

use scsi_core::cdb::{ReportTargetPortGroups, SetTargetPortGroups};
use scsi_core::command::{Command, CommandFlags};
use scsi_core::data::{
    AsymmetricAccessState as State, StatusCode, TargetPortGroup, TargetPortGroups, parse_set_groups,
};
use scsi_core::{AdditionalSense, SenseData};
use std::sync::Arc;
use stmf::NexusId;
use stmf::provider::{Effects, Segments, TargetPorts};

use super::Lu;
use super::execute;
use super::gather::concat;
use super::slab::Key;
use super::transfer::Checked;

/// The longest parameter list of SET TARGET PORT GROUPS that is looked at: one descriptor for each group there can be.
const MAX_LIST: u32 = 4 + 4 * 65536;

/// The target ports as this unit has them.
#[derive(Debug, Default)]
pub(super) struct Ports {
    told: Option<Arc<TargetPorts>>,
    /// What differs here from what was told, and why the last change was, by group.
    changed: Vec<(u16, Option<State>, StatusCode)>,
}

impl Ports {
    /// The state of a group as it was told or set.
    fn state(&self, group: u16) -> Option<State> {
        let told = self.told.as_ref()?.group(group)?;
        let set = self.changed.iter().find(|(id, ..)| *id == group).and_then(|(_, state, _)| *state);
        Some(set.unwrap_or(told.state))
    }

    fn status(&self, group: u16) -> StatusCode {
        self.changed.iter().find(|(id, ..)| *id == group).map_or(StatusCode::None, |(_, _, status)| *status)
    }

    fn set(&mut self, group: u16, state: Option<State>, status: StatusCode) {
        self.changed.retain(|(id, ..)| *id != group);
        self.changed.push((group, state, status));
    }

    /// The group and state of a port; a port that nobody told of is active/optimized.
    pub(super) fn of(&self, port: u16) -> (Option<u16>, State) {
        let group = self.told.as_ref().and_then(|told| told.group_of(port)).map(|group| group.id);
        (group, group.and_then(|group| self.state(group)).unwrap_or_default())
    }

    /// Whether there are groups to report.
    pub(super) fn are_told(&self) -> bool {
        self.told.is_some()
    }
}

/// Why a command is not carried out through a port in this state, if it is not.
pub(super) fn refusal(state: State, flags: CommandFlags) -> Option<SenseData> {
    let (allowed, code) = match state {
        State::ActiveOptimized | State::ActiveNonOptimized | State::LogicalBlockDependent => return None,
        State::Standby => (CommandFlags::STANDBY, AdditionalSense::TARGET_PORT_IN_STANDBY_STATE),
        State::Transitioning => (CommandFlags::TRANSITIONING, AdditionalSense::ASYMMETRIC_ACCESS_STATE_TRANSITION),
        State::Unavailable | State::Offline => {
            (CommandFlags::UNAVAILABLE, AdditionalSense::TARGET_PORT_IN_UNAVAILABLE_STATE)
        }
    };
    (!flags.contains(allowed)).then(|| SenseData::not_ready(code))
}

impl Lu {
    /// The framework tells which target ports there are. Where a group's state is another than before, what an
    /// initiator had set for it is over, and every nexus is told of the change.
    pub fn set_target_ports(&mut self, ports: Arc<TargetPorts>) {
        let before: Vec<(u16, State)> = self.states();
        for group in &ports.groups {
            let old = self.ports.told.as_ref().and_then(|told| told.group(group.id)).map(|old| old.state);
            if old.is_some_and(|old| old != group.state) {
                self.ports.set(group.id, None, StatusCode::Implicit);
            }
        }
        self.ports.changed.retain(|(id, ..)| ports.group(*id).is_some());
        self.ports.told = Some(ports);
        self.offered.ports = true;
        self.commands = execute::commands(&self.identity, &self.capabilities, &self.limits, self.offered);
        let changed = before.iter().any(|(id, state)| self.ports.state(*id).is_some_and(|now| now != *state));
        self.follow_ports();
        if changed {
            self.attention_others(None, AdditionalSense::ASYMMETRIC_ACCESS_STATE_CHANGED);
        }
    }

    fn states(&self) -> Vec<(u16, State)> {
        let groups = self.ports.told.iter().flat_map(|told| &told.groups);
        groups.filter_map(|group| Some((group.id, self.ports.state(group.id)?))).collect()
    }

    /// Each nexus knows the state of its port, so that a command need not look for it.
    fn follow_ports(&mut self) {
        for state in self.nexuses.values_mut() {
            state.access = self.ports.of(state.nexus.relative_target_port).1;
        }
    }

    /// The target port group of a nexus, if groups are reported.
    pub(super) fn port_group(&self, port: u16) -> Option<u16> {
        self.ports.of(port).0
    }

    pub(super) fn report_port_groups(&mut self, key: Key, command: &ReportTargetPortGroups, fx: &mut Effects) {
        let groups = self.ports.told.iter().flat_map(|told| &told.groups);
        let groups = groups.map(|group| TargetPortGroup {
            group: group.id,
            preferred: group.preferred,
            state: self.ports.state(group.id).unwrap_or_default(),
            status: self.ports.status(group.id),
            ports: group.ports.clone(),
        });
        let data = TargetPortGroups { implicit_transition_seconds: 0, groups: groups.collect() };
        let extended = command.parameter_data_format == 1;
        self.answer(key, data.encode(extended), command.allocation_length.into(), fx);
    }

    pub(super) fn set_port_groups(&mut self, key: Key, command: &SetTargetPortGroups, fx: &mut Effects) {
        let length = command.parameter_list_length.min(MAX_LIST);
        self.gather(key, Command::SetTargetPortGroups(*command), length, fx);
    }

    /// All groups named are there and their states can be, or nothing changes.
    pub(super) fn received_port_groups(&mut self, key: Key, data: Segments, fx: &mut Effects) -> Checked {
        let list = concat(data);
        let wanted = parse_set_groups(&list)?;
        let mut seen = std::collections::HashSet::new();
        for (at, wish) in wanted.iter().enumerate() {
            let invalid = |byte: usize, bit| {
                SenseData::invalid_field_in_parameter_list((4 + 4 * at + byte).min(0xffff) as u16, Some(bit))
            };
            if wish.state == State::Offline {
                return Err(invalid(0, 3));
            }
            if self.ports.state(wish.group).is_none() || !seen.insert(wish.group) {
                return Err(invalid(2, 7));
            }
        }
        let mut changed = false;
        for wish in &wanted {
            changed |= self.ports.state(wish.group) != Some(wish.state);
            self.ports.set(wish.group, Some(wish.state), StatusCode::Explicit);
        }
        self.follow_ports();
        if changed && let Some(task) = self.tasks.get(key) {
            let nexus: NexusId = task.id.nexus;
            self.attention_others(Some(nexus), AdditionalSense::ASYMMETRIC_ACCESS_STATE_CHANGED);
        }
        self.good(key, list.len() as u64, fx);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scsi_core::command::COMMANDS;

    #[test]
    fn each_state_refuses_with_its_own_sense() {
        let writes = CommandFlags::CHANGES_DATA;
        let code = |state| refusal(state, writes).map(|sense| (sense.key.0, sense.code.asc, sense.code.ascq));
        assert_eq!(code(State::ActiveOptimized), None);
        assert_eq!(code(State::ActiveNonOptimized), None);
        assert_eq!(code(State::Standby), Some((2, 4, 0x0b)));
        assert_eq!(code(State::Unavailable), Some((2, 4, 0x0c)));
        assert_eq!(code(State::Transitioning), Some((2, 4, 0x0a)));
    }

    #[test]
    fn no_state_refuses_what_tells_about_the_paths() {
        let always = ["INQUIRY", "REPORT LUNS", "REQUEST SENSE", "REPORT TARGET PORT GROUPS"];
        for state in [State::Standby, State::Unavailable, State::Transitioning] {
            for name in always {
                let entry = COMMANDS.iter().find(|entry| entry.name == name).unwrap();
                assert_eq!(refusal(state, entry.flags), None, "{name} in {state:?}");
            }
        }
    }
}
