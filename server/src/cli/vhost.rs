//! `lunette vhost`: ports for virtual machines on this host.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::backend::Backend;
use super::stmfadm::{done, unexpected};
use super::terminal::{print, print_json, warn};
use crate::admin::{Answer, ApiError, Request, VhostPortInfo};

#[derive(Debug, Subcommand)]
pub(super) enum VhostCommand {
    /// Lists the ports.
    #[command(after_help = "Example: lunette vhost list")]
    List {
        /// JSON instead of text.
        #[arg(long)]
        json: bool,
        /// Lines of fields separated by tabs.
        #[arg(long, short)]
        parsable: bool,
    },
    /// Makes a port and prints its name: a socket to which the monitor of one virtual machine connects.
    ///
    /// It is a target like any other: 'stmfadm list-target -v' shows it, target groups may hold it. The guest is an
    /// initiator: host groups and views decide what it sees. The socket may be opened by its owner only.
    #[command(after_help = "Example: lunette vhost create-port /run/lunette/web.sock --initiator \
                            iqn.2026-11.com.example:web")]
    CreatePort {
        /// Where the socket is made, as in /run/lunette/web.sock; its directory must be there.
        path: PathBuf,
        /// What the guest is called as an initiator; iqn.2026-11.org.lunette:guest. and the socket's name if missing.
        #[arg(long, value_name = "NAME")]
        initiator: Option<String>,
        /// What the port is called as a target; iqn.2026-11.org.lunette:vhost. and the socket's name if missing.
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        /// JSON instead of the name.
        #[arg(long)]
        json: bool,
    },
    /// Forgets a port and closes its socket: its guest loses its disks.
    #[command(after_help = "Example: lunette vhost delete-port /run/lunette/web.sock")]
    DeletePort {
        /// Its socket, or its name as a target.
        port: String,
        /// JSON instead of silence.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(backend: &mut Backend, command: VhostCommand) -> Result<ExitCode, ApiError> {
    match command {
        VhostCommand::List { json, parsable } => list(backend, json, parsable)?,
        VhostCommand::CreatePort { path, initiator, target, json } => {
            let path = std::path::absolute(&path).unwrap_or(path);
            let done = done(backend, Request::CreateVhostPort { path, target, initiator })?;
            warn(&done.warnings);
            let name = done.name.unwrap_or_default();
            if json {
                print_json(&BTreeMap::from([("name", name)]));
            } else {
                print(&format!("{name}\n"));
            }
        }
        VhostCommand::DeletePort { port, json } => {
            let path = std::path::absolute(&port).ok().filter(|_| port.contains('/'));
            let port = path.map_or(port, |path| path.display().to_string());
            let done = done(backend, Request::DeleteVhostPort { port })?;
            if json {
                print_json(&done);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(backend: &mut Backend, json: bool, parsable: bool) -> Result<(), ApiError> {
    let Answer::VhostPorts(ports) = backend.call(Request::ListVhostPorts {})? else { return Err(unexpected()) };
    if json {
        print_json(&ports);
        return Ok(());
    }
    let mut text = String::new();
    for port in &ports {
        let _ = match parsable {
            true => writeln!(text, "{}\t{}\t{}\t{}", port.path.display(), port.target, port.initiator, state(port)),
            false => writeln!(text, "{}", line(port)),
        };
    }
    print(&text);
    Ok(())
}

/// A port in one line, for people.
pub(super) fn line(port: &VhostPortInfo) -> String {
    format!("{}  {}  guest {}  {}", port.path.display(), port.target, port.initiator, state(port))
}

fn state(port: &VhostPortInfo) -> String {
    let state = match &port.problem {
        Some(problem) => problem,
        None if port.connected => "connected",
        None => "not connected",
    };
    if port.kept { state.to_owned() } else { format!("{state}, for this run of the server") }
}
