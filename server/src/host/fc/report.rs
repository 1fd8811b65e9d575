//! What lists show of an adapter.

use super::runner::{Role, Runner};
use crate::admin::fibre_channel::{FcAdapterInfo, FcLinkStatistics, FcRemoteInfo};
use crate::fc::{FcMode, FcPort};
use fct::{Port, PortInfo};
use std::time::Duration;
use stmf::provider::hba::{HbaDetails, LinkStatistics};

/// How long remote ports may take to tell their logical units.
const UNITS_TIME: Duration = Duration::from_secs(3);

/// Asks the thread of an adapter; `None` if it does not answer.
pub(super) fn adapter(port: &FcPort, runner: &Runner, units: bool) -> Option<FcAdapterInfo> {
    let mut info = runner.call(|role, _| match role {
        Role::Target(port) => of_target(port),
        Role::Initiator(port) => port.info(),
    })?;
    if units && port.mode == FcMode::Initiator {
        let asked = runner.call(|role, now| match role {
            Role::Initiator(port) => Some(port.ask_units(now)),
            Role::Target(_) => None,
        });
        let mut found = asked.flatten().and_then(|answer| answer.recv_timeout(UNITS_TIME).ok()).unwrap_or_default();
        for remote in &mut info.remotes {
            remote.units = found.remove(&remote.port_name).unwrap_or_default();
        }
    }
    let device = port.options.get("os-device").cloned();
    info.os_device = match port.mode {
        FcMode::Target => "Not Applicable".into(),
        FcMode::Initiator => device.unwrap_or_else(|| "Not Applicable".into()),
    };
    info.report = runner.report().map(|report| report()).unwrap_or_default();
    Some(info)
}

/// The words about an adapter.
pub(super) fn words(details: HbaDetails, statistics: LinkStatistics) -> FcAdapterInfo {
    FcAdapterInfo {
        supported_speeds: details.supported_speeds.0.to_vec(),
        manufacturer: details.manufacturer,
        model: details.model,
        firmware_version: details.firmware_version,
        option_rom_version: details.option_rom_version,
        serial_number: details.serial_number,
        driver_name: details.driver_name,
        driver_version: details.driver_version,
        statistics: FcLinkStatistics {
            link_failures: statistics.link_failures,
            losses_of_sync: statistics.losses_of_sync,
            losses_of_signal: statistics.losses_of_signal,
            primitive_sequence_errors: statistics.primitive_sequence_errors,
            invalid_words: statistics.invalid_words,
            invalid_crcs: statistics.invalid_crcs,
        },
        ..FcAdapterInfo::default()
    }
}

fn of_target(port: &Port) -> FcAdapterInfo {
    let PortInfo { port_id, port_type, state, speed, details, statistics, remotes, .. } = port.info();
    let remote = |remote: fct::RemoteInfo| FcRemoteInfo {
        port_name: remote.port_name.to_string(),
        node_name: remote.node_name.to_string(),
        port_id: remote.port_id.to_string(),
        symbolic_name: remote.symbolic_name,
        target: false,
        session: remote.session,
        units: Vec::new(),
    };
    FcAdapterInfo {
        port_id: port_id.to_string(),
        port_type: port_type.to_string(),
        state: state.to_string(),
        speed,
        remotes: remotes.into_iter().map(remote).collect(),
        ..words(details, statistics)
    }
}
