//! `lunette serve` and `lunette demo`: the commands that run a server.

use std::fs::DirBuilder;
use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::PoisonError;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::backend::Places;
use super::lunette::{DemoArguments, ServeArguments};
use super::terminal::{complain, print, print_error};
use crate::admin::{Answer, ApiError, Done, Request, TargetSettings};
use crate::config::ServerConfig;
use crate::driver::Interface;
use crate::fc::FcDrivers;
use crate::server::{RunError, Server, StartError, StopSignals};
use crate::system::Sockets;

/// What went wrong is in the command line, as `getopt` counts it.
const USAGE: u8 = 2;

/// The name of the demo's target; always the same, so that a command line from yesterday works today.
const DEMO_TARGET: &str = "iqn.2026-11.org.lunette:demo";

pub(super) fn serve(arguments: ServeArguments, places: Places) -> ExitCode {
    if let Err(code) = log_to_stderr(&arguments.log) {
        return code;
    }
    let interface = match interface(arguments.interface) {
        Ok(interface) => interface,
        Err(code) => return code,
    };
    let sockets = Sockets::from_environment();
    let defaults = ServerConfig::default();
    let config = ServerConfig {
        state: places.state.unwrap_or(defaults.state),
        socket: places.socket.unwrap_or(defaults.socket),
        portals: match arguments.portals {
            // What the service manager listens on is what was meant.
            none if none.is_empty() && sockets.has_portals() => none,
            none if none.is_empty() => defaults.portals,
            portals => portals,
        },
        metrics: arguments.metrics,
        threads: arguments.threads,
        poll: Duration::from_micros(arguments.poll_us.into()),
        interface,
        fc_drivers: FcDrivers::default(),
        #[cfg(feature = "vhost-user")]
        vhost_ports: arguments.vhost_users,
        log: arguments.log,
    };
    let mut signals = match StopSignals::watch() {
        Ok(signals) => signals,
        Err(error) => return ended(Err(error)),
    };
    match signals.start(move || Server::start_with(&config, sockets)) {
        Ok(Ok(server)) => ended(signals.with_service_manager().run(server)),
        Ok(Err(error)) => refuse(&error),
        Err(forced) => ended(Err(forced)),
    }
}

pub(super) fn demo(arguments: DemoArguments, places: Places) -> ExitCode {
    if let Err(code) = log_to_stderr(&arguments.log) {
        return code;
    }
    let interface = match interface(None) {
        Ok(interface) => interface,
        Err(code) => return code,
    };
    let place = match DemoPlace::new(arguments.dir) {
        Ok(place) => place,
        Err(error) => {
            print_error(&format!(
                "lunette: cannot make a directory for the disk: {error}\nhint: give one with --dir\n"
            ));
            return ExitCode::FAILURE;
        }
    };
    let defaults = ServerConfig::default();
    let config = ServerConfig {
        state: places.state.unwrap_or_else(|| place.path().join("state")),
        // Not the place of the machine's own server: a demo runs beside it, and beside other demos.
        socket: places.socket.unwrap_or_else(|| place.path().join("socket")),
        portals: vec![arguments.portal],
        interface,
        log: arguments.log,
        ..defaults
    };
    let signals = match StopSignals::watch() {
        Ok(signals) => signals,
        Err(error) => return ended(Err(error)),
    };
    let server = match Server::start(&config) {
        Ok(server) => server,
        Err(error) => return refuse(&error),
    };
    if let Err(error) = furnish(&server, &place.path().join("disk.img"), &arguments.size) {
        complain("lunette demo", &error);
        server.stop();
        return ExitCode::FAILURE;
    }
    let portal = server.portals().first().copied().unwrap_or(arguments.portal);
    print(&how_to_attach(portal, &config, place.path(), place.is_kept()));
    ended(signals.run(server))
}

/// The interface given, else that of `$LUNETTE_INTERFACE`.
fn interface(given: Option<Interface>) -> Result<Interface, ExitCode> {
    match (given, std::env::var_os("LUNETTE_INTERFACE").filter(|name| !name.is_empty())) {
        (Some(given), _) => Ok(given),
        (None, None) => Ok(Interface::default()),
        (None, Some(name)) => name.to_string_lossy().parse().map_err(|error| {
            print_error(&format!("lunette: LUNETTE_INTERFACE: {error}\n"));
            ExitCode::from(USAGE)
        }),
    }
}

fn ended(result: Result<(), RunError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&format!("lunette: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn refuse(error: &StartError) -> ExitCode {
    let hint = error.hint().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
    print_error(&format!("lunette: {error}\n{hint}"));
    ExitCode::FAILURE
}

fn log_to_stderr(filter: &str) -> Result<(), ExitCode> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        print_error(&format!(
            "lunette: --log {filter}: {error}\nhint: error, warn, info, debug or trace, or by module as in \
             'warn,lunette_server=debug'\n"
        ));
        ExitCode::from(USAGE)
    })?;
    // A second subscriber, in a test, changes nothing.
    let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi);
    let _ = subscriber.try_init();
    Ok(())
}

/// Where the demo keeps its disk.
struct DemoPlace {
    path: PathBuf,
    kept: bool,
}

impl DemoPlace {
    fn new(dir: Option<PathBuf>) -> std::io::Result<Self> {
        match dir {
            Some(dir) => {
                DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
                Ok(Self { path: std::fs::canonicalize(dir)?, kept: true })
            }
            None => {
                let path = std::env::temp_dir().join(format!("lunette-demo-{}", std::process::id()));
                // Fails when it is there: nobody else can have prepared it.
                DirBuilder::new().mode(0o700).create(&path)?;
                Ok(Self { path, kept: false })
            }
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn is_kept(&self) -> bool {
        self.kept
    }
}

impl Drop for DemoPlace {
    fn drop(&mut self) {
        if !self.kept {
            // A file left in a temporary directory hurts nobody.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Makes what the demo shows, where it is not there yet: a target, a disk, a view for everybody.
fn furnish(server: &Server, disk: &Path, size: &str) -> Result<(), ApiError> {
    let Some(engine) = server.engine() else { return Ok(()) };
    let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
    let configuration = engine.configuration();
    let has_target = configuration.iscsi.target(DEMO_TARGET).is_some();
    let present =
        configuration.lus.values().find(|record| record.file == disk).map(|record| format!("{:X}", record.guid));
    if !has_target {
        let settings = TargetSettings { name: Some(DEMO_TARGET.into()), ..TargetSettings::default() };
        engine.execute(Request::CreateTarget { settings })?;
    }
    let lu = match present {
        Some(lu) => lu,
        None => {
            let file = disk.to_string_lossy().into_owned();
            let request = if lu_sbd::meta::RecordFile::beside(disk).exists() {
                Request::ImportLu { file, new_guid: false }
            } else {
                let properties = vec!["alias=demo".into()];
                Request::CreateLu { file, size: Some(size.to_owned()), properties, force: false }
            };
            match engine.execute(request)? {
                Answer::Done(Done { name: Some(lu), .. }) => lu,
                _ => return Ok(()),
            }
        }
    };
    // A demo that was ended between the two steps has the disk and not the view.
    if engine.configuration().stmf.views(stmf::guid::parse(&lu)?).is_empty() {
        engine.execute(Request::AddView { lu, host_group: None, target_group: None, lun: None })?;
    }
    Ok(())
}

fn how_to_attach(portal: SocketAddr, config: &ServerConfig, place: &Path, kept: bool) -> String {
    // A wildcard is no address to connect to.
    let address = match portal.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let portal = SocketAddr::new(address, portal.port());
    let url = format!("iscsi://{portal}/{DEMO_TARGET}/0");
    let socket = if *config.socket == *crate::config::default_socket() {
        String::new()
    } else {
        format!(" --socket {}", config.socket.display())
    };
    let fate = if kept { "stays" } else { "is removed at the end" };
    format!(
        "One disk, open to everybody who reaches {portal}, until Ctrl-C:

  {url}

libiscsi      iscsi-ls -s iscsi://{portal}
              iscsi-inq {url}
QEMU          qemu-img convert -n -O raw image.qcow2 {url}
              qemu-system-x86_64 -drive file={url},format=raw,if=virtio
open-iscsi    iscsiadm -m discovery -t sendtargets -p {portal}
              iscsiadm -m node -T {DEMO_TARGET} -p {portal} --login

Look at it    lunette{socket} status
More disks    lunette{socket} sbdadm create-lu -s 10G /path/to/disk.img
              lunette{socket} stmfadm add-view GUID

The disk is {}; it {fate}.
",
        place.join("disk.img").display()
    )
}
