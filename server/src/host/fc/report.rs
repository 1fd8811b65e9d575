//! What lists show of an adapter.

use super::runner::{Role, Runner};
use crate::admin::fibre_channel::{FcAdapterInfo, FcLinkStatistics, FcQuestions, FcRemoteInfo};
use crate::fc::{FcMode, FcPort};
use fct::{Port, PortInfo};
use std::thread;
use std::time::{Duration, Instant};
use stmf::provider::hba::{HbaDetails, LinkStatistics};

/// How long remote ports may take to tell their logical units.
const UNITS_TIME: Duration = Duration::from_secs(3);

/// How long remote ports may take to tell the errors of their links, and how often it is looked whether they have.
const ERRORS_TIME: Duration = Duration::from_secs(2);
const ERRORS_LOOK: Duration = Duration::from_millis(5);

/// Asks the thread of an adapter; `None` if it does not answer.
pub(super) fn adapter(port: &FcPort, runner: &Runner, questions: FcQuestions) -> Option<FcAdapterInfo> {
    if questions.link_errors {
        gather_link_errors(runner)?;
    }
    let mut info = runner.call(|role, _| match role {
        Role::Target(port) => of_target(port),
        Role::Initiator(port) => port.info(),
    })?;
    if questions.units && port.mode == FcMode::Initiator {
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

/// Has remote ports asked for the errors of their links, and waits for them, within limits.
fn gather_link_errors(runner: &Runner) -> Option<()> {
    runner.call(|role, now| match role {
        Role::Target(port) => port.ask_link_errors(now),
        Role::Initiator(port) => port.ask_link_errors(now),
    })?;
    let until = Instant::now() + ERRORS_TIME;
    loop {
        let waits = runner.call(|role, _| match role {
            Role::Target(port) => port.awaits_link_errors(),
            Role::Initiator(port) => port.awaits_link_errors(),
        })?;
        if !waits || Instant::now() >= until {
            return Some(());
        }
        thread::sleep(ERRORS_LOOK);
    }
}

/// The counters of a link in the API's types.
pub(super) fn counters(statistics: LinkStatistics) -> FcLinkStatistics {
    FcLinkStatistics {
        link_failures: statistics.link_failures,
        losses_of_sync: statistics.losses_of_sync,
        losses_of_signal: statistics.losses_of_signal,
        primitive_sequence_errors: statistics.primitive_sequence_errors,
        invalid_words: statistics.invalid_words,
        invalid_crcs: statistics.invalid_crcs,
    }
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
        statistics: counters(statistics),
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
        link_errors: remote.link_errors.map(counters),
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
