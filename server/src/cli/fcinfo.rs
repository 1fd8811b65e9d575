//! `fcinfo` and `fcadm`: Fibre Channel ports.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use super::backend::{Backend, Places};
use super::getopt::{Operands, OptionSpec, Parsed, Subcommand, Tool};
use super::help::Page;
use super::stmfadm::{done, unexpected};
use super::terminal::{hint_line, print, print_error, print_json, stop};
use crate::admin::{Answer, ApiError, ErrorKind, FcLinkStatistics, FcPortInfo, Request};
use crate::fc::{FcMode, Wwn};

static FCINFO: Tool = Tool {
    name: "fcinfo",
    options: &[
        OptionSpec { letter: 'e', long: "fcoe", argument: None },
        OptionSpec { letter: 'i', long: "initiator", argument: None },
        OptionSpec { letter: 'l', long: "linkstat", argument: None },
        OptionSpec { letter: 'p', long: "port", argument: Some("HBA port WWN") },
        OptionSpec { letter: 's', long: "scsi-target", argument: None },
        OptionSpec { letter: 't', long: "target", argument: None },
        OptionSpec { letter: 'v', long: "verbose", argument: None },
    ],
    subcommands: &[
        sub("hba-port", "", "itel", Operands::OptionalMany, "WWN", "hba-port -t"),
        // -p is required, and its absence has words of its own.
        sub("remote-port", "", "pls", Operands::OptionalMany, "WWN", "remote-port -p 210000e08b100163"),
        sub("logical-unit", "", "v", Operands::OptionalMany, "OS Device Path", "logical-unit -v"),
        sub("lu", "", "v", Operands::OptionalMany, "OS Device Path", "lu -v"),
    ],
};

static FCADM: Tool = Tool {
    name: "fcadm",
    options: &[
        OptionSpec { letter: 'f', long: "fcoe-force-promisc", argument: None },
        OptionSpec { letter: 'i', long: "initiator", argument: None },
        OptionSpec { letter: 'l', long: "linkstat", argument: None },
        OptionSpec { letter: 'n', long: "node", argument: Some("Node WWN") },
        OptionSpec { letter: 'p', long: "port", argument: Some("Port WWN") },
        OptionSpec { letter: 's', long: "scsi-target", argument: None },
        OptionSpec { letter: 't', long: "target", argument: None },
    ],
    subcommands: &[
        sub("hba-port", "", "l", Operands::OptionalMany, "WWN", "hba-port -l"),
        sub("remote-port", "", "pls", Operands::OptionalMany, "WWN", "remote-port -p 210000e08b100163"),
        sub("create-npiv-port", "", "pn", Operands::One, "WWN", "create-npiv-port 210000e08b100163"),
        sub("delete-npiv-port", "p", "", Operands::One, "WWN", "delete-npiv-port -p 210100e08b100163 210000e08b100163"),
        sub("create-fcoe-port", "", "itpnf", Operands::One, "Network Interface Name", "create-fcoe-port -t eth0"),
        sub("delete-fcoe-port", "", "", Operands::One, "Network Interface Name", "delete-fcoe-port eth0"),
        sub("list-fcoe-ports", "", "it", Operands::None, "", "list-fcoe-ports -t"),
        sub("force-lip", "", "", Operands::One, "WWN", "force-lip 210000e08b100163"),
    ],
};

const fn sub(
    name: &'static str,
    required: &'static str,
    optional: &'static str,
    operands: Operands,
    operand: &'static str,
    example: &'static str,
) -> Subcommand {
    Subcommand { name, required, optional, operands, operand, example }
}

/// The driver of ports over Ethernet.
const FCOE: &str = "fcoe";

/// What COMSTAR's command prints of a port over Ethernet, in its order.
const FCOE_LABELS: [&str; 4] = ["MTU Size", "Primary MAC Address", "Current MAC Address", "Promiscuous Mode"];

/// What manuals of both say.
pub(super) fn pages() -> [Page; 2] {
    [FCINFO.page("Fibre Channel ports"), FCADM.page("administer Fibre Channel ports")]
}

pub(super) fn run(name: &str, args: &[String], places: Places) -> ExitCode {
    let tool = if name == "fcadm" { &FCADM } else { &FCINFO };
    let parsed = match tool.parse(args) {
        Ok(parsed) => parsed,
        Err(ended) => return stop(&ended),
    };
    let mut backend = Backend::new(places.with(&parsed.extensions));
    execute(&mut backend, &parsed).unwrap_or_else(|error| {
        print_error(&format!("Error: {error}\n{}", hint_line(&error)));
        ExitCode::FAILURE
    })
}

fn execute(backend: &mut Backend, parsed: &Parsed) -> Result<ExitCode, ApiError> {
    let operand = || parsed.operands.first().cloned().unwrap_or_default();
    match parsed.subcommand {
        "hba-port" => hba_ports(backend, parsed),
        "remote-port" => remote_ports(backend, parsed),
        "logical-unit" | "lu" => logical_units(backend, parsed),
        "force-lip" => {
            let port = find(backend, &operand())?.port_name;
            change(backend, parsed, Request::ResetFcLink { port })
        }
        "create-fcoe-port" => {
            let mode = if parsed.has('i') { FcMode::Initiator } else { FcMode::Target };
            if parsed.has('i') == parsed.has('t') {
                return Err(ApiError::new(ErrorKind::Invalid, "either -i or -t has to be specified")
                    .hint("-t makes a target port: fcadm create-fcoe-port -t eth0"));
            }
            let mut options = BTreeMap::from([("interface".to_owned(), operand())]);
            if parsed.has('f') {
                options.insert("promiscuous".into(), "true".into());
            }
            let name = |letter| parsed.value(letter).map(str::to_owned);
            let (port_name, node_name) = (name('p'), name('n'));
            change(backend, parsed, Request::CreateFcPort { driver: FCOE.into(), mode, port_name, node_name, options })
        }
        "delete-fcoe-port" => {
            let interface = operand();
            let ports = list(backend, false, false)?;
            let port =
                ports.into_iter().find(|port| is_fcoe(port) && port.options.get("interface") == Some(&interface));
            let Some(port) = port else {
                return Err(ApiError::new(ErrorKind::NotFound, format!("interface {interface}: not found"))
                    .hint("'fcadm list-fcoe-ports' shows what there is"));
            };
            change(backend, parsed, Request::DeleteFcPort { port: port.port_name })
        }
        "list-fcoe-ports" => fcoe_ports(backend, parsed),
        _ => {
            let port = find(backend, &operand())?.port_name;
            Err(ApiError::new(ErrorKind::Unavailable, format!("HBA port {port}: NPIV is not supported"))
                .hint("make a port of its own: lunette fc create-port"))
        }
    }
}

fn change(backend: &mut Backend, parsed: &Parsed, request: Request) -> Result<ExitCode, ApiError> {
    let done = done(backend, request)?;
    if parsed.extensions.json {
        print_json(&done);
    }
    Ok(ExitCode::SUCCESS)
}

fn list(backend: &mut Backend, units: bool, link_errors: bool) -> Result<Vec<FcPortInfo>, ApiError> {
    let request = Request::ListFcPorts { units, link_errors };
    let Answer::FcPorts(mut ports) = backend.call(request)? else { return Err(unexpected()) };
    // As COMSTAR's command: initiators first.
    ports.sort_by_key(|port| port.mode == FcMode::Target);
    Ok(ports)
}

fn is_fcoe(port: &FcPortInfo) -> bool {
    port.driver == FCOE
}

/// Names are given in any form and compared as 16 digits.
fn folded(name: &str) -> String {
    Wwn::parse(name).map_or_else(|| name.to_owned(), |name| name.to_string())
}

fn find(backend: &mut Backend, name: &str) -> Result<FcPortInfo, ApiError> {
    let wanted = folded(name);
    list(backend, false, false)?.into_iter().find(|port| port.port_name == wanted).ok_or_else(|| not_found(name))
}

fn not_found(name: &str) -> ApiError {
    ApiError::new(ErrorKind::NotFound, format!("HBA port {name}: not found"))
        .hint("'fcinfo hba-port' shows the ports; iSCSI names are shown by 'itadm list-target'")
}

/// Those that were named, with the words about those that are not there and the exit status.
fn choose<T>(items: Vec<T>, parsed: &Parsed, what: &str, name: impl Fn(&T) -> String) -> (Vec<T>, ExitCode) {
    if parsed.operands.is_empty() {
        return (items, ExitCode::SUCCESS);
    }
    let wanted: Vec<String> = parsed.operands.iter().map(|operand| folded(operand)).collect();
    let missing: Vec<&String> = (parsed.operands.iter().zip(&wanted))
        .filter(|(_, wanted)| !items.iter().any(|item| name(item) == **wanted))
        .map(|(operand, _)| operand)
        .collect();
    for operand in &missing {
        print_error(&format!("Error: {what} {operand}: not found\n"));
    }
    if parsed.operands.len() > 1 && !missing.is_empty() {
        let (all, some) = (format!("All specified {what}s are"), format!("Some of specified {what}s are"));
        print_error(&format!("Error: {} not found\n", if missing.len() == wanted.len() { all } else { some }));
    }
    if !missing.is_empty() {
        print_error("hint: without a name all are shown; iSCSI names are shown by 'itadm list-target'\n");
    }
    let code = if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    (items.into_iter().filter(|item| wanted.contains(&name(item))).collect(), code)
}

fn hba_ports(backend: &mut Backend, parsed: &Parsed) -> Result<ExitCode, ApiError> {
    let both = parsed.has('i') == parsed.has('t');
    let mode = if parsed.has('t') { FcMode::Target } else { FcMode::Initiator };
    let mut ports = list(backend, false, false)?;
    ports.retain(|port| (both || port.mode == mode) && (!parsed.has('e') || is_fcoe(port)));
    let none = ports.is_empty() && parsed.operands.is_empty();
    let (ports, code) = choose(ports, parsed, "HBA port", |port| port.port_name.clone());
    if parsed.extensions.json {
        print_json(&ports);
    } else if parsed.extensions.parsable {
        let line = |port: &FcPortInfo| {
            let adapter = port.adapter.clone().unwrap_or_default();
            let (name, node) = (&port.port_name, &port.node_name);
            let (id, state, speed) = (adapter.port_id, or_unknown(&adapter.state).to_owned(), adapter.speed);
            format!("{name}\t{}\t{id}\t{state}\t{speed}\t{node}\n", mode_name(port.mode))
        };
        print(&ports.iter().map(line).collect::<String>());
    } else if none {
        print("No Adapters Found.\n");
    } else {
        print(&ports.iter().map(|port| port_text(port, parsed.has('l'))).collect::<String>());
    }
    Ok(code)
}

fn mode_name(mode: FcMode) -> &'static str {
    match mode {
        FcMode::Target => "Target",
        FcMode::Initiator => "Initiator",
    }
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "not available" } else { text }
}

fn link_errors(text: &mut String, counters: &FcLinkStatistics) {
    text.push_str("\tLink Error Statistics:\n");
    for (label, count) in [
        ("Link Failure", counters.link_failures),
        ("Loss of Sync", counters.losses_of_sync),
        ("Loss of Signal", counters.losses_of_signal),
        ("Primitive Seq Protocol Error", counters.primitive_sequence_errors),
        ("Invalid Tx Word", counters.invalid_words),
        ("Invalid CRC", counters.invalid_crcs),
    ] {
        let _ = writeln!(text, "\t\t{label} Count: {count}");
    }
}

fn port_text(port: &FcPortInfo, statistics: bool) -> String {
    let adapter = port.adapter.clone().unwrap_or_default();
    let speeds = |speeds: &[u32]| match speeds {
        [] | [0] => "not established ".to_owned(),
        speeds => speeds.iter().map(|speed| format!("{speed}Gb ")).collect(),
    };
    let mut text = format!("HBA Port WWN: {}\n", port.port_name);
    for (label, value) in [
        ("Port Mode", mode_name(port.mode)),
        ("Port ID", if adapter.port_id.is_empty() { "0" } else { &adapter.port_id }),
        ("OS Device Name", if adapter.os_device.is_empty() { "Not Applicable" } else { &adapter.os_device }),
        ("Manufacturer", or_none(&adapter.manufacturer)),
        ("Model", or_none(&adapter.model)),
        ("Firmware Version", or_none(&adapter.firmware_version)),
        ("FCode/BIOS Version", or_none(&adapter.option_rom_version)),
        ("Serial Number", or_none(&adapter.serial_number)),
        ("Driver Name", or_none(&adapter.driver_name)),
        ("Driver Version", or_none(&adapter.driver_version)),
        ("Type", or_unknown(&adapter.port_type)),
        ("State", or_unknown(&adapter.state)),
        ("Supported Speeds", &speeds(&adapter.supported_speeds)),
        ("Current Speed", &speeds(&[adapter.speed])),
        ("Node WWN", &port.node_name),
    ] {
        let _ = writeln!(text, "\t{label}: {value}");
    }
    if statistics {
        link_errors(&mut text, &adapter.statistics);
    }
    if port.mode == FcMode::Initiator {
        text.push_str("\tNPIV Not Supported\n");
    }
    text
}

fn remote_ports(backend: &mut Backend, parsed: &Parsed) -> Result<ExitCode, ApiError> {
    let Some(name) = parsed.value('p') else {
        print_error("Error: -p option was not specified.\nhint: name the port of this host by 'remote-port -p WWN'\n");
        return Ok(ExitCode::FAILURE);
    };
    let wanted = folded(name);
    let port = list(backend, parsed.has('s'), parsed.has('l'))?.into_iter().find(|port| port.port_name == wanted);
    let port = port.ok_or_else(|| not_found(name))?;
    let remotes = port.adapter.unwrap_or_default().remotes;
    let (remotes, code) = choose(remotes, parsed, "Remote Port", |remote| remote.port_name.clone());
    if parsed.extensions.json {
        print_json(&remotes);
        return Ok(code);
    }
    let mut text = String::new();
    for remote in &remotes {
        let target = if remote.target { "yes" } else { "no" };
        let symbolic = remote.symbolic_name.as_deref().unwrap_or_default();
        if parsed.extensions.parsable {
            let (name, id, node) = (&remote.port_name, &remote.port_id, &remote.node_name);
            let _ = writeln!(text, "{name}\t{id}\t{target}\t{symbolic}\t{node}");
            continue;
        }
        let _ = writeln!(
            text,
            "Remote Port WWN: {}\n\tActive FC4 Types: SCSI\n\tSCSI Target: {target}\n\tPort Symbolic Name: {symbolic}\n\t\
             Node WWN: {}",
            remote.port_name, remote.node_name
        );
        if parsed.has('l') {
            match &remote.link_errors {
                Some(errors) => link_errors(&mut text, errors),
                None => text.push_str("\tLink Error Statistics: not available\n"),
            }
        }
        for unit in remote.units.iter().filter(|_| parsed.has('s')) {
            let _ = writeln!(
                text,
                "\tLUN: {}\n\t  Vendor: {}\n\t  Product: {}\n\t  OS Device Name: {}",
                unit.lun,
                unit.vendor,
                unit.product,
                unit.device_name(&remote.port_name)
            );
        }
    }
    print(&text);
    Ok(code)
}

/// A logical unit as it is seen through all initiator ports.
#[derive(serde::Serialize)]
struct Unit {
    device: String,
    vendor: String,
    product: String,
    device_type: String,
    paths: Vec<UnitPath>,
}

/// A way to a logical unit.
#[derive(serde::Serialize)]
struct UnitPath {
    hba_port: String,
    remote_port: String,
    lun: u16,
}

fn logical_units(backend: &mut Backend, parsed: &Parsed) -> Result<ExitCode, ApiError> {
    let mut units: BTreeMap<String, Unit> = BTreeMap::new();
    for port in list(backend, true, false)? {
        for remote in port.adapter.unwrap_or_default().remotes {
            for unit in &remote.units {
                let device = unit.device_name(&remote.port_name);
                let known = units.entry(device.clone()).or_insert_with(|| Unit {
                    device,
                    vendor: unit.vendor.clone(),
                    product: unit.product.clone(),
                    device_type: unit.device_type.clone(),
                    paths: Vec::new(),
                });
                let (hba_port, remote_port) = (port.port_name.clone(), remote.port_name.clone());
                known.paths.push(UnitPath { hba_port, remote_port, lun: unit.lun });
            }
        }
    }
    let (units, code) = choose(units.into_values().collect(), parsed, "OS Device path", |unit| unit.device.clone());
    if parsed.extensions.json {
        print_json(&units);
        return Ok(code);
    }
    let mut text = String::new();
    for unit in &units {
        if parsed.extensions.parsable {
            let _ = writeln!(text, "{}\t{}\t{}\t{}", unit.device, unit.vendor, unit.product, unit.paths.len());
            continue;
        }
        let _ = writeln!(text, "OS Device Name: {}", unit.device);
        if parsed.has('v') {
            for path in &unit.paths {
                let UnitPath { hba_port, remote_port, lun } = path;
                let _ =
                    writeln!(text, "\tHBA Port WWN: {hba_port}\n\t\tRemote Port WWN: {remote_port}\n\t\t\tLUN: {lun}");
            }
            let Unit { vendor, product, device_type, .. } = unit;
            let _ = writeln!(text, "\tVendor: {vendor}\n\tProduct: {product}\n\tDevice Type: {device_type}");
        }
    }
    print(&text);
    Ok(code)
}

fn fcoe_ports(backend: &mut Backend, parsed: &Parsed) -> Result<ExitCode, ApiError> {
    let both = parsed.has('i') == parsed.has('t');
    let mode = if parsed.has('t') { FcMode::Target } else { FcMode::Initiator };
    let mut ports = list(backend, false, false)?;
    ports.retain(|port| is_fcoe(port) && (both || port.mode == mode));
    if parsed.extensions.json {
        print_json(&ports);
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for port in &ports {
        let interface = port.options.get("interface").map_or("-", String::as_str);
        let (name, mode) = (&port.port_name, mode_name(port.mode));
        if parsed.extensions.parsable {
            let _ = writeln!(text, "{name}\t{mode}\t{interface}");
            continue;
        }
        let _ = writeln!(text, "HBA Port WWN: {name}\n\tPort Type: {mode}\n\tMAC Name: {interface}");
        let report = port.adapter.clone().unwrap_or_default().report;
        let known = FCOE_LABELS.iter().filter_map(|label| report.get_key_value(*label));
        let others = report.iter().filter(|(label, _)| !FCOE_LABELS.contains(&label.as_str()));
        for (label, value) in known.chain(others) {
            let _ = writeln!(text, "\t{label}: {value}");
        }
        if let Some(problem) = &port.problem {
            let _ = writeln!(text, "\tProblem: {problem}");
        }
    }
    print(&text);
    Ok(ExitCode::SUCCESS)
}
