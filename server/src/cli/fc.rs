//! `lunette fc`: Fibre Channel ports made and forgotten, as far as COMSTAR has no command for it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Subcommand;

use super::backend::Backend;
use super::stmfadm::{done, unexpected};
use super::terminal::{print, print_json};
use crate::admin::{Answer, ApiError, FcPortInfo, Request};
use crate::fc::FcMode;
use crate::fc::soft::{DEFAULT_FABRIC, DRIVER};

#[derive(Debug, Subcommand)]
pub(super) enum FcCommand {
    /// Lists the ports.
    List {
        /// JSON instead of text.
        #[arg(long)]
        json: bool,
        /// Lines of fields separated by tabs.
        #[arg(long, short)]
        parsable: bool,
    },
    /// Makes a target port and an initiator port in software, joined by a fabric in memory: for demonstration and tests.
    ///
    /// 'fcinfo remote-port -s -p INITIATOR' then shows what the initiator sees through the views of its host group.
    CreatePair {
        /// The fabric both are plugged into; it is made if there is none of that name.
        #[arg(long, value_name = "NAME", default_value = DEFAULT_FABRIC)]
        fabric: String,
        /// JSON instead of the two names.
        #[arg(long)]
        json: bool,
    },
    /// Makes a port and prints its name: opens an adapter and joins it to the framework.
    ///
    /// Options of the driver softfc, ports in software: fabric=NAME (in this server), listen=PATH (whoever connects to
    /// that socket is plugged into the fabric), connect=PATH (a fabric of another server on this machine),
    /// switch-port=0..249, and what lists say of the adapter: driver-name, instance, driver-version, manufacturer, model,
    /// description, serial, firmware, option-rom, speeds=1,2,4, speed=4, os-device, symbolic-name, loss=N and
    /// reorder=N (frames of a thousand).
    CreatePort {
        /// The driver that opens the adapter.
        #[arg(long, value_name = "NAME", default_value = DRIVER)]
        driver: String,
        /// It logs in to targets and lists their logical units, instead of being a target.
        #[arg(long, short)]
        initiator: bool,
        /// Its port name, 16 hexadecimal digits; one is made up if missing.
        #[arg(long, value_name = "WWN")]
        port_name: Option<String>,
        /// Its node name; one that goes with the port name if missing.
        #[arg(long, value_name = "WWN")]
        node_name: Option<String>,
        /// An option of the driver; may be repeated.
        #[arg(long = "option", short = 'o', value_name = "NAME=VALUE", value_parser = super::lunette::pair)]
        options: Vec<(String, String)>,
        /// JSON instead of the name.
        #[arg(long)]
        json: bool,
    },
    /// Forgets a port and closes its adapter.
    DeletePort {
        /// Its port name.
        port: String,
        /// JSON instead of silence.
        #[arg(long)]
        json: bool,
    },
    /// Unplugs the cable of a port in software, or plugs it in: what a host sees when a cable is pulled.
    Link {
        /// Its port name.
        port: String,
        /// up or down.
        #[arg(id = "link-state", value_name = "STATE", value_parser = ["up", "down"])]
        state: String,
        /// JSON instead of silence.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(backend: &mut Backend, command: FcCommand) -> Result<ExitCode, ApiError> {
    match command {
        FcCommand::List { json, parsable } => return list(backend, json, parsable),
        FcCommand::CreatePair { fabric, json } => {
            let mut names = BTreeMap::new();
            for (word, mode) in [("target", FcMode::Target), ("initiator", FcMode::Initiator)] {
                let options = BTreeMap::from([("fabric".to_owned(), fabric.clone())]);
                let name = create(backend, DRIVER.into(), mode, (None, None), options)?;
                if !json {
                    print(&format!("{word} {name}\n"));
                }
                names.insert(word, name);
            }
            if json {
                print_json(&names);
            }
        }
        FcCommand::CreatePort { driver, initiator, port_name, node_name, options, json } => {
            let mode = if initiator { FcMode::Initiator } else { FcMode::Target };
            let name = create(backend, driver, mode, (port_name, node_name), options.into_iter().collect())?;
            if json {
                print_json(&BTreeMap::from([("name", name)]));
            } else {
                print(&format!("{name}\n"));
            }
        }
        FcCommand::DeletePort { port, json } => change(backend, Request::DeleteFcPort { port }, json)?,
        FcCommand::Link { port, state, json } => {
            change(backend, Request::SetFcLink { port, plugged: state == "up" }, json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn create(
    backend: &mut Backend,
    driver: String,
    mode: FcMode,
    (port_name, node_name): (Option<String>, Option<String>),
    options: BTreeMap<String, String>,
) -> Result<String, ApiError> {
    let done = done(backend, Request::CreateFcPort { driver, mode, port_name, node_name, options })?;
    Ok(done.name.unwrap_or_default())
}

fn change(backend: &mut Backend, request: Request, json: bool) -> Result<(), ApiError> {
    let done = done(backend, request)?;
    if json {
        print_json(&done);
    }
    Ok(())
}

fn list(backend: &mut Backend, json: bool, parsable: bool) -> Result<ExitCode, ApiError> {
    let Answer::FcPorts(ports) = backend.call(Request::ListFcPorts { units: false, link_errors: false })? else {
        return Err(unexpected());
    };
    if json {
        print_json(&ports);
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for port in &ports {
        if parsable {
            let fields = fields(port);
            let _ = writeln!(text, "{}", fields.join("\t"));
        } else {
            let _ = writeln!(text, "{}", line(port));
        }
    }
    print(&text);
    Ok(ExitCode::SUCCESS)
}

fn mode(port: &FcPortInfo) -> &'static str {
    match port.mode {
        FcMode::Target => "target",
        FcMode::Initiator => "initiator",
    }
}

fn fields(port: &FcPortInfo) -> [String; 6] {
    let adapter = port.adapter.clone().unwrap_or_default();
    let state = if adapter.state.is_empty() { "-".into() } else { adapter.state };
    let remotes = adapter.remotes.len().to_string();
    [port.port_name.clone(), mode(port).into(), port.driver.clone(), state, adapter.port_id, remotes]
}

/// A port in one line, for people.
pub(super) fn line(port: &FcPortInfo) -> String {
    let (name, mode, driver) = (&port.port_name, mode(port), &port.driver);
    match (&port.adapter, &port.problem) {
        (Some(adapter), _) => {
            let (state, id, remotes) = (&adapter.state, &adapter.port_id, adapter.remotes.len());
            format!("{name}  {mode}  {driver}  {state}, address {id}  {remotes} remote port(s)")
        }
        (None, Some(problem)) => format!("{name}  {mode}  {driver}  {problem}"),
        (None, None) => format!("{name}  {mode}  {driver}"),
    }
}
