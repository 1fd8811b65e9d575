//! `lunette` itself: the server, and what COMSTAR has no command for.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{CommandFactory, Parser, Subcommand};

use super::backend::{Backend, Places};
use super::fc::FcCommand;
use super::help;
use super::stmfadm::{done, unexpected};
use super::terminal::{colour, complain, ctime, print, print_error, print_json};
use super::vhost::VhostCommand;
use crate::admin::{Answer, ApiError, ErrorKind, Explanation, LuInfo, Request, SessionInfo, StatusReport, Traffic};
use crate::config_store::ConfigStore;
use crate::default_state;
use crate::driver::Interface;

/// A SCSI target in user space: block devices over iSCSI, administered by COMSTAR's commands.
///
/// stmfadm, sbdadm, itadm, fcinfo and fcadm are personalities of this program: call it by a link of that name, or as
/// 'lunette stmfadm ...'.
#[derive(Debug, Parser)]
#[command(name = "lunette", version, max_term_width = 100)]
struct Arguments {
    /// State directory; else $LUNETTE_STATE, /var/lib/lunette as root, $XDG_STATE_HOME/lunette.
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Management socket; else $LUNETTE_SOCKET, /run/lunette.sock as root, $XDG_RUNTIME_DIR/lunette.sock.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server in the foreground.
    Serve(ServeArguments),
    /// Serves one open disk on 127.0.0.1 and prints how to attach it.
    Demo(DemoArguments),
    /// Everything at one glance: logical units, targets, sessions, and what needs attention.
    Status {
        /// JSON instead of text.
        #[arg(long)]
        json: bool,
        /// Again every two seconds, until interrupted.
        #[arg(long)]
        watch: bool,
    },
    /// Says which LUNs an initiator sees and which not, and why.
    Explain {
        /// The initiator's name, as in iqn.1993-08.org.debian:01:abc or wwn.210000E08B100163.
        initiator: String,
        /// Only at this target.
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        /// JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// How well units are reached through target groups (ALUA).
    #[command(subcommand)]
    Access(AccessCommand),
    /// Sessions of initiators.
    #[command(subcommand)]
    Session(SessionCommand),
    /// Logical units, as far as COMSTAR has no command for it.
    #[command(subcommand)]
    Lu(LuCommand),
    /// Fibre Channel ports, as far as COMSTAR has no command for it.
    #[command(subcommand)]
    Fc(FcCommand),
    /// Ports for virtual machines on this host (vhost-user-scsi).
    #[command(subcommand)]
    Vhost(VhostCommand),
    /// The configuration as a TOML document.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Writes the manual pages into a directory: of lunette, and of COMSTAR's commands.
    Man {
        /// The directory, made if missing.
        dir: PathBuf,
    },
    /// Prints the completion script of a shell; for bash, zsh and fish with COMSTAR's commands.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct ServeArguments {
    /// A portal of the default portal group (tag 1), may be repeated; every address on port 3260 if missing.
    #[arg(long = "portal", value_name = "ADDR:PORT")]
    pub(super) portals: Vec<SocketAddr>,
    /// Serve OpenMetrics at http://ADDR:PORT/metrics.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) metrics: Option<SocketAddr>,
    /// Threads of the data path; one per core if missing.
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<NonZeroUsize>,
    /// Microseconds a thread of the data path looks for work before it sleeps, at most; it looks for less while none comes that
    /// soon. Buys latency with processor time.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(super) poll_us: u32,
    /// Interface of the system for the data path: epoll, or io_uring where it is there; else $LUNETTE_INTERFACE, epoll.
    #[arg(long, value_name = "epoll|io_uring")]
    pub(super) interface: Option<Interface>,
    /// A socket for the monitor of a virtual machine on this host (vhost-user-scsi); may be given several times. The guest
    /// is an initiator by the name given, or one made of the socket's. For this run of the server only: 'lunette vhost
    /// create-port' makes one that is kept.
    #[cfg(feature = "vhost-user")]
    #[arg(long = "vhost-user", value_name = "PATH[,initiator=NAME][,target=NAME]")]
    pub(super) vhost_users: Vec<crate::vhost::VhostPort>,
    /// What to log: error, warn, info, debug, trace, or by module as in 'warn,lunette_server=debug'.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(super) log: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct DemoArguments {
    /// Keep the disk in this directory; in a temporary one that is removed at the end if missing.
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// Size of the disk; it is sparse and takes only what is written.
    #[arg(long, value_name = "SIZE", default_value = "1G")]
    pub(super) size: String,
    /// Where to serve it.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:3260")]
    pub(super) portal: SocketAddr,
    /// What to log.
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    pub(super) log: String,
}

/// How a list is written.
#[derive(Debug, clap::Args)]
struct Format {
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
    /// Lines of fields separated by tabs.
    #[arg(long, short)]
    parsable: bool,
}

#[derive(Debug, Subcommand)]
enum AccessCommand {
    /// Lists the state of every target group.
    List(Format),
    /// Sets the state of a target group; initiators are told by a unit attention.
    Set {
        /// active-optimized, active-non-optimized, standby, unavailable or transitioning.
        #[arg(id = "access-state", value_name = "STATE")]
        state: String,
        /// The target group; the targets that are in none if missing.
        #[arg(long, value_name = "NAME")]
        target_group: Option<String>,
        /// Initiators should like these paths best.
        #[arg(long)]
        preferred: bool,
        /// JSON instead of silence.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum SessionCommand {
    /// Lists the sessions.
    List(Format),
    /// Asks an initiator to log out, and drops the session.
    Kill {
        /// The session's number, from 'lunette session list'.
        id: u64,
        /// JSON instead of silence.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum LuCommand {
    /// Forgets every persistent registration and reservation: for a host that is gone and cannot do it itself.
    ClearReservations {
        /// The logical unit, 32 hexadecimal digits.
        lu: String,
        /// JSON instead of silence.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Prints the whole configuration.
    Export {
        /// With CHAP and RADIUS secrets in clear text.
        #[arg(long)]
        with_secrets: bool,
        /// JSON instead of TOML; 'import' takes TOML.
        #[arg(long)]
        json: bool,
    },
    /// Makes the configuration equal to a document, in one transaction, changing only what differs.
    Import {
        /// The document; '-' reads standard input.
        file: PathBuf,
        /// Only show what would be done.
        #[arg(long)]
        dry_run: bool,
        /// What is done as a JSON array instead of lines.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        moves: Moves,
    },
    /// Shows what an import would do; exit status 1 if anything differs.
    Diff {
        /// The document; '-' reads standard input.
        file: PathBuf,
        /// A JSON array instead of lines.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        moves: Moves,
    },
    /// Checks a document without a server or a state directory; or, without one, the configuration in the state directory.
    Check {
        /// The document; '-' reads standard input.
        file: Option<PathBuf>,
        /// Make the configuration in the state directory readable again: what can be read of it goes into a new file,
        /// the old one stays beside it.
        #[arg(long, conflicts_with = "file")]
        repair: bool,
    },
}

/// What is called otherwise on this host than on the one the document comes from.
#[derive(Debug, clap::Args)]
struct Moves {
    /// Paths of logical units that begin with OLD begin with NEW here; may be repeated.
    #[arg(long = "map-path", value_name = "OLD=NEW", value_parser = pair)]
    paths: Vec<(String, String)>,
    /// The portal OLD is NEW here; may be repeated.
    #[arg(long = "map-portal", value_name = "OLD=NEW", value_parser = pair)]
    portals: Vec<(String, String)>,
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.to_owned(), new.to_owned())),
        _ => Err("write it as OLD=NEW".into()),
    }
}

pub(super) fn run(args: &[OsString]) -> ExitCode {
    let words = std::iter::once(OsString::from("lunette")).chain(args.iter().cloned());
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no failures; clap knows where each belongs and its status (2 for wrong usage).
            let _ = error.print();
            return ExitCode::from(error.exit_code().clamp(0, 255) as u8);
        }
    };
    let places = Places { state: arguments.state, socket: arguments.socket };
    let mut backend = Backend::new(places.clone());
    let outcome = match arguments.command {
        Command::Serve(arguments) => return super::serve::serve(arguments, places),
        Command::Demo(arguments) => return super::serve::demo(arguments, places),
        Command::Status { json, watch } => status(&mut backend, json, watch),
        Command::Explain { initiator, target, json } => explain(&mut backend, initiator, target, json),
        Command::Access(AccessCommand::List(format)) => access_list(&mut backend, &format),
        Command::Access(AccessCommand::Set { state, target_group, preferred, json }) => {
            change(&mut backend, Request::SetAccess { target_group, state, preferred }, json)
        }
        Command::Session(SessionCommand::List(format)) => session_list(&mut backend, &format),
        Command::Session(SessionCommand::Kill { id, json }) => change(&mut backend, Request::KillSession { id }, json),
        Command::Lu(LuCommand::ClearReservations { lu, json }) => {
            change(&mut backend, Request::ClearReservations { lu }, json)
        }
        Command::Fc(command) => super::fc::run(&mut backend, command),
        Command::Vhost(command) => super::vhost::run(&mut backend, command),
        Command::Config(command) => config(&mut backend, &places, command),
        Command::Man { dir } => man(&dir),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "lunette", &mut script);
            print(&String::from_utf8_lossy(&script));
            print(&match shell {
                clap_complete::Shell::Bash => help::bash(),
                clap_complete::Shell::Zsh => help::zsh(),
                clap_complete::Shell::Fish => help::fish(),
                _ => String::new(),
            });
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        complain("lunette", &error);
        ExitCode::FAILURE
    })
}

fn status(backend: &mut Backend, json: bool, watch: bool) -> Result<ExitCode, ApiError> {
    let mut earlier: Option<(Traffic, Instant)> = None;
    loop {
        let Answer::Status(report) = backend.call(Request::Status {})? else { return Err(unexpected()) };
        let now = Instant::now();
        if json {
            print_json(&report);
        } else {
            let clear = if watch && colour() { "\x1b[H\x1b[2J" } else { "" };
            let earlier = earlier.as_ref().map(|(load, then)| (load, now - *then));
            print(&format!("{clear}{}", status_text(&report, earlier)));
        }
        if !watch {
            return Ok(ExitCode::SUCCESS);
        }
        earlier = report.load.map(|load| (load, now));
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// Bytes as people read them.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (0..6).rev().find(|unit| bytes >= 1 << (10 * (unit + 1))).map_or(0, |unit| unit + 1);
    let value = bytes as f64 / (1u64 << (10 * unit)) as f64;
    if value.fract() == 0.0 { format!("{value} {}", UNITS[unit]) } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// What goes on: since the last look if there was one, else all since the start.
fn load_line(load: &Traffic, earlier: Option<(&Traffic, Duration)>) -> String {
    let depth = load.queue_depth;
    match earlier {
        None => format!(
            "{} reads ({}), {} writes ({}) since the start; {depth} commands under way",
            load.reads,
            size(load.read_bytes),
            load.writes,
            size(load.written_bytes)
        ),
        Some((before, time)) => {
            let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / time.as_secs_f64().max(0.001);
            format!(
                "{:.0} reads/s ({}/s), {:.0} writes/s ({}/s); {depth} commands under way",
                rate(load.reads, before.reads),
                size(rate(load.read_bytes, before.read_bytes) as u64),
                rate(load.writes, before.writes),
                size(rate(load.written_bytes, before.written_bytes) as u64)
            )
        }
    }
}

fn status_text(report: &StatusReport, earlier: Option<(&Traffic, Duration)>) -> String {
    let mut text = String::new();
    let (bold, plain) = if colour() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let service = &report.service;
    let state = if service.online { "online" } else { "offline (no server is running)" };
    let _ = writeln!(text, "{bold}service{plain}  {state}, version {}, {}", service.version, service.state_directory);
    if let Some(path) = &report.data_path {
        let portals: Vec<String> = path.portals.iter().map(ToString::to_string).collect();
        let (interface, threads, portals) = (&path.interface, path.threads, portals.join(", "));
        let _ = writeln!(text, "{bold}data path{plain}  {interface}, {threads} thread(s), listening on {portals}");
    }
    if let Some(load) = &report.load {
        let _ = writeln!(text, "{bold}load{plain}  {}", load_line(load, earlier));
    }
    let _ = writeln!(text, "\n{bold}logical units{plain}");
    for lu in &report.lus {
        let _ = writeln!(text, "  {}", lu_line(lu));
    }
    let _ = writeln!(text, "\n{bold}targets{plain}");
    for target in &report.targets {
        let state = target.state.map_or_else(|| "-".to_owned(), |state| state.to_string().to_lowercase());
        let sessions = target.sessions;
        let _ = writeln!(text, "  {}  {state}  auth {}  {sessions} session(s)", target.name, target.auth);
    }
    if !report.fc_ports.is_empty() {
        let _ = writeln!(text, "\n{bold}fibre channel{plain}");
        for port in &report.fc_ports {
            let _ = writeln!(text, "  {}", super::fc::line(port));
        }
    }
    if !report.vhost_ports.is_empty() {
        let _ = writeln!(text, "\n{bold}virtual machines{plain}");
        for port in &report.vhost_ports {
            let _ = writeln!(text, "  {}", super::vhost::line(port));
        }
    }
    let _ = writeln!(text, "\n{bold}sessions{plain}");
    for session in &report.sessions {
        let _ = writeln!(text, "  {}", session_line(session));
    }
    if !report.warnings.is_empty() {
        let _ = writeln!(text, "\n{bold}attention{plain}");
        for warning in &report.warnings {
            let _ = writeln!(text, "  {warning}");
        }
    }
    text
}

fn lu_line(lu: &LuInfo) -> String {
    let state = lu.state.map_or_else(|| "unregistered".to_owned(), |state| state.to_string().to_lowercase());
    match (&lu.disk, &lu.file) {
        (Some(disk), _) => {
            format!("{}  {state}  {}  {} view(s)  {}", lu.guid, size(disk.size), lu.view_entries, disk.data_file)
        }
        (None, Some(file)) => format!("{}  {state}  {} view(s)  {file}", lu.guid, lu.view_entries),
        (None, None) => format!("{}  {state}  {} view(s)", lu.guid, lu.view_entries),
    }
}

fn session_line(session: &SessionInfo) -> String {
    let from = session.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    // Of iSCSI alone: a Fibre Channel port has no tag, and its sessions come from nowhere but their names.
    let (tag, from) = match session.tag {
        0 => (String::new(), String::new()),
        tag => (format!(",t,0x{tag:04x}"), format!("  from {from}")),
    };
    format!(
        "{}  {} -> {}{tag}{from}  {} LUN(s)  since {}",
        session.id,
        session.initiator,
        session.target,
        session.luns,
        ctime(session.since)
    )
}

/// The same for programs; the time in seconds since 1970.
fn session_fields(session: &SessionInfo) -> String {
    let from = session.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let since = session.since.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format!(
        "{}\t{}\t{}\t{}\t{from}\t{}\t{since}",
        session.id, session.initiator, session.target, session.tag, session.luns
    )
}

fn explain(backend: &mut Backend, initiator: String, target: Option<String>, json: bool) -> Result<ExitCode, ApiError> {
    let Answer::Explanation(explanation) = backend.call(Request::Explain { initiator, target })? else {
        return Err(unexpected());
    };
    if json {
        print_json(&explanation);
    } else {
        print(&explanation_text(&explanation));
    }
    Ok(ExitCode::SUCCESS)
}

fn explanation_text(explanation: &Explanation) -> String {
    let mut text = String::new();
    let group = explanation.host_group.as_deref().unwrap_or("none");
    let _ = writeln!(
        text,
        "initiator {}\n  host group {group}, {} session(s)",
        explanation.initiator, explanation.sessions
    );
    for note in &explanation.notes {
        let _ = writeln!(text, "  {note}");
    }
    if explanation.targets.is_empty() {
        let _ = writeln!(text, "\nthere is no target: itadm create-target");
    }
    for target in &explanation.targets {
        let _ = writeln!(
            text,
            "\ntarget {}\n  target group {}\n  login {}",
            target.target,
            target.target_group.as_deref().unwrap_or("none"),
            if target.admitted { "can succeed" } else { "cannot succeed" }
        );
        for reason in &target.login {
            let _ = writeln!(text, "    {reason}");
        }
        for view in &target.seen {
            let all = |name: &Option<String>| name.clone().unwrap_or_else(|| "All".into());
            let _ = writeln!(
                text,
                "  LUN {:<5} {}  by view entry {} (host group {}, target group {})",
                view.lun,
                view.lu,
                view.index,
                all(&view.host_group),
                all(&view.target_group)
            );
        }
        for unseen in &target.unseen {
            let _ = writeln!(text, "  not seen  {}  {}", unseen.lu, unseen.reason);
        }
    }
    text
}

/// Makes a change; without a word unless JSON is wanted.
fn change(backend: &mut Backend, request: Request, json: bool) -> Result<ExitCode, ApiError> {
    let done = done(backend, request)?;
    if json {
        print_json(&done);
    }
    Ok(ExitCode::SUCCESS)
}

fn access_list(backend: &mut Backend, format: &Format) -> Result<ExitCode, ApiError> {
    let Answer::Access(groups) = backend.call(Request::ListAccess {})? else { return Err(unexpected()) };
    if format.json {
        print_json(&groups);
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for group in groups {
        if format.parsable {
            let name = group.target_group.as_deref().unwrap_or("-");
            let preferred = if group.preferred { "preferred" } else { "-" };
            let _ = writeln!(text, "{}\t{name}\t{}\t{preferred}", group.number, group.state);
            continue;
        }
        let name = group.target_group.as_deref().unwrap_or("(targets in no group)");
        let preferred = if group.preferred { ", preferred" } else { "" };
        let _ = writeln!(text, "{:5}  {name}: {}{preferred}", group.number, group.state);
    }
    print(&text);
    Ok(ExitCode::SUCCESS)
}

fn session_list(backend: &mut Backend, format: &Format) -> Result<ExitCode, ApiError> {
    let Answer::Sessions(sessions) = backend.call(Request::ListSessions {})? else { return Err(unexpected()) };
    if format.json {
        print_json(&sessions);
    } else {
        let line = if format.parsable { session_fields } else { session_line };
        print(&sessions.iter().map(|session| format!("{}\n", line(session))).collect::<String>());
    }
    Ok(ExitCode::SUCCESS)
}

fn config(backend: &mut Backend, places: &Places, command: ConfigCommand) -> Result<ExitCode, ApiError> {
    let plan = |backend: &mut Backend, document: String, dry_run: bool, moves: Moves| {
        let Moves { paths: map_paths, portals: map_portals } = moves;
        match backend.call(Request::ImportConfiguration { document, dry_run, map_paths, map_portals })? {
            Answer::Plan(lines) => Ok(lines),
            _ => Err(unexpected()),
        }
    };
    let show = |lines: &[String], json: bool| match json {
        true => print_json(&lines),
        false => print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>()),
    };
    match command {
        ConfigCommand::Export { with_secrets, json } => {
            let Answer::Document(text) = backend.call(Request::ExportConfiguration { with_secrets })? else {
                return Err(unexpected());
            };
            if json {
                print_json(&toml::from_str::<toml::Table>(&text).map_err(|_| unexpected())?);
            } else {
                print(&text);
            }
        }
        ConfigCommand::Import { file, dry_run, json, moves } => {
            let lines = plan(backend, read(&file)?, dry_run, moves)?;
            show(&lines, json);
        }
        ConfigCommand::Diff { file, json, moves } => {
            let lines = plan(backend, read(&file)?, true, moves)?;
            show(&lines, json);
            return Ok(if lines.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        ConfigCommand::Check { file: Some(file), .. } => {
            let document = read(&file)?;
            crate::admin::check_document(&document)?;
        }
        ConfigCommand::Check { file: None, repair } => {
            let state = places.state.clone().unwrap_or_else(default_state);
            return if repair { repair_state(&state) } else { check_state(&state) };
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration in a state directory; exit status 1 if a part of it cannot be read.
fn check_state(state: &std::path::Path) -> Result<ExitCode, ApiError> {
    let problems = ConfigStore::check(state)?;
    for problem in &problems {
        print_error(&format!("{}: {}\n", problem.object, problem.reason));
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn repair_state(state: &std::path::Path) -> Result<ExitCode, ApiError> {
    let Some(repair) = ConfigStore::repair(state)? else {
        print("the configuration is whole: nothing was changed\n");
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(damage) = &repair.damage {
        print_error(&format!("the configuration was damaged: {damage}\n"));
    }
    for problem in &repair.left_out {
        print_error(&format!("{}: {}\n", problem.object, problem.reason));
    }
    let (kept, aside) = (repair.kept, repair.aside.display());
    print(&format!("{kept} rows could be read and were kept; the old file is {aside}\n"));
    print_error("\nhint: look through 'lunette config export', then 'lunette config import' what is missing\n");
    Ok(ExitCode::SUCCESS)
}

fn read(file: &std::path::Path) -> Result<String, ApiError> {
    let text =
        if file.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    text.map_err(|error| {
        ApiError::new(ErrorKind::Invalid, format!("{}: {error}", file.display()))
            .hint("give a document as 'lunette config export' writes it, or '-' for standard input")
    })
}

fn man(dir: &std::path::Path) -> Result<ExitCode, ApiError> {
    let failed = |error: std::io::Error| {
        ApiError::new(ErrorKind::Internal, format!("{}: {error}", dir.display())).hint("give a directory of yours")
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), dir).map_err(failed)?;
    for page in help::pages() {
        std::fs::write(dir.join(format!("{}.8", page.name)), help::manual(&page)).map_err(failed)?;
    }
    print_error(&format!("manual pages are in {}\n", dir.display()));
    Ok(ExitCode::SUCCESS)
}
