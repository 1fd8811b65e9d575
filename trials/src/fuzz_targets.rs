//! Bodies of the fuzz targets that need more of the server than testkit has: its management, its files, its sockets.
//!
//! As those in [`testkit::fuzz_targets`]: any bytes are taken, and a panic is a finding.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use lunette_client::Options;
use lunette_server::admin::{Answer, Engine, ManagementServer, Request, check_document, serve};
use lunette_server::config_store::{ConfigStore, FILE_NAME, StoreError};
use lunette_server::{Disk, Server};
use testkit::fuzz_targets::FuzzTarget;
use testkit::initiator::{Command, Initiator, LoginOptions, TcpWire};

/// All targets of this package.
pub const TARGETS: &[FuzzTarget] = &[
    ("management", management),
    ("management_socket", management_socket),
    ("configuration", configuration),
    ("state_file", state_file),
    ("client_url", client_url),
    ("server_socket", server_socket),
    ("vhost_socket", crate::fuzz_vhost::vhost_socket),
];

/// Runs the target of this name.
///
/// # Panics
/// When the target finds something, and when there is none of this name.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, body) = target.unwrap_or_else(|| panic!("no fuzz target '{name}'"));
    body(data);
}

/// A directory of this process, for files that the targets make.
pub(crate) fn scratch() -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let memory = PathBuf::from("/dev/shm");
        let place = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let directory = place.join(format!("lunette-fuzz-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory for files");
        directory
    });
    directory.clone()
}

/// Removes the files that the targets of this process have made; to be called when no more is run.
pub fn remove_files() {
    let _ = fs::remove_dir_all(scratch());
}

/// Operations as a client sends them, a line each: name and parameters. Each is done wholly or refused and changes
/// nothing; what is configured can be exported, and an import of that changes nothing.
fn management(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut engine = Engine::in_memory().expect("a configuration in memory");
    for line in text.lines().take(40) {
        let Some((operation, parameters)) = line.split_once(' ') else { continue };
        let value = format!("{{\"operation\":{operation:?},\"parameters\":{parameters}}}");
        let Ok(request) = serde_json::from_str::<Request>(&value) else { continue };
        // Units are made of files, and what names a file may name any: those are left to `configuration`.
        let touches_files = matches!(
            request,
            Request::CreateLu { .. }
                | Request::ImportLu { .. }
                | Request::ModifyLu { .. }
                | Request::ImportConfiguration { .. }
        );
        if touches_files {
            continue;
        }
        let before = engine.configuration().clone();
        if engine.execute(request.clone()).is_err() {
            assert_eq!(engine.configuration(), &before, "{request:?} was refused and changed something");
        }
    }
    let exported = engine.execute(Request::ExportConfiguration { with_secrets: true });
    let Ok(Answer::Document(document)) = exported else { panic!("the configuration cannot be exported: {exported:?}") };
    let import = Request::ImportConfiguration {
        document: document.clone(),
        dry_run: true,
        map_paths: Vec::new(),
        map_portals: Vec::new(),
    };
    match engine.execute(import) {
        Ok(Answer::Plan(plan)) => assert!(plan.is_empty(), "an import of what was exported does {plan:?}:\n{document}"),
        other => panic!("what was exported is not taken: {other:?}\n{document}"),
    }
}

/// A document that an administrator wrote: taken or refused, and what is taken can be planned.
fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let checked = check_document(text);
    let mut engine = Engine::in_memory().expect("a configuration in memory");
    let before = engine.configuration().clone();
    // Only planned: nothing is opened.
    let import = Request::ImportConfiguration {
        document: text.to_owned(),
        dry_run: true,
        map_paths: Vec::new(),
        map_portals: Vec::new(),
    };
    let planned = engine.execute(import);
    assert_eq!(engine.configuration(), &before, "a dry run changed something");
    assert!(checked.is_ok() || planned.is_err(), "a document that is refused was planned: {checked:?}");
}

/// A configuration file that was tampered with: it opens, or is refused with a remedy; what a repair leaves opens.
fn state_file(data: &[u8]) {
    let state = scratch().join("state");
    let _ = fs::remove_dir_all(&state);
    fs::create_dir_all(&state).expect("a directory");
    let mut bytes = sound_state().clone();
    // Six bytes each: where, how many, with what.
    for edit in data.chunks_exact(6).take(64) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) | usize::from(edit[2] & 0x0f) << 16;
        match edit[3] {
            0 => bytes.truncate(at),
            count => bytes.iter_mut().skip(at).take(count.into()).for_each(|byte| *byte ^= edit[4]),
        }
    }
    let file = state.join(FILE_NAME);
    fs::write(&file, &bytes).expect("a file");
    match ConfigStore::open(&state) {
        Ok(_) => {}
        Err(error @ (StoreError::Corrupt { .. } | StoreError::Foreign { .. } | StoreError::Version { .. })) => {
            assert_eq!(fs::read(&file).ok(), Some(bytes), "a file that was refused was changed");
            assert!(!error.hint().is_empty());
            if let Ok(Some(_)) = ConfigStore::repair(&state) {
                ConfigStore::open(&state).expect("what a repair leaves opens");
            }
        }
        Err(error) => panic!("{error}"),
    }
}

fn sound_state() -> &'static Vec<u8> {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let state = scratch().join("sound");
        let mut engine = Engine::open(&state).expect("a new configuration");
        for number in 0..4 {
            let name = format!("hosts-{number}");
            let kind = lunette_server::admin::Kind::Host;
            engine.execute(Request::CreateGroup { kind, name }).expect("a new group");
        }
        drop(engine);
        fs::read(state.join(FILE_NAME)).expect("the file")
    })
}

/// A URL as people write it.
fn client_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = Options::discovery(text);
    if let Ok(options) = text.parse::<Options>() {
        let told = options.to_string();
        let again: Options = told.parse().unwrap_or_else(|error| panic!("{told}: {error}"));
        assert_eq!((again.host, again.port, again.lun), (options.host, options.port, options.lun));
    }
}

/// Bytes at the socket of the management: whatever they are, the next client is served.
fn management_socket(data: &[u8]) {
    static SERVER: OnceLock<(ManagementServer, PathBuf)> = OnceLock::new();
    let (_, socket) = SERVER.get_or_init(|| {
        let socket = scratch().join("socket");
        let engine = Engine::in_memory().expect("a configuration in memory");
        (serve(std::sync::Arc::new(Mutex::new(engine)), &socket).expect("a socket"), socket)
    });
    // Units are made of files, and what names a file may name any.
    let names_files: [&[u8]; 4] = [b"-lu", b"mport", b"%", b"\\u"];
    if names_files.iter().any(|word| data.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))) {
        return;
    }
    let mut stream = UnixStream::connect(socket).expect("the server listens");
    // It may be closed before it has taken all.
    let _ = stream.write_all(data).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "no end of the connection");
    }
    let client = lunette_server::admin::Client::new(socket, None);
    client.execute(&Request::ListState {}).expect("the next client is served");
}

/// A server with a neighbour that is logged in all the time.
struct Neighbourhood {
    server: Server,
    neighbour: Initiator<TcpWire>,
}

fn neighbourhood() -> MutexGuard<'static, Neighbourhood> {
    static SERVER: OnceLock<Mutex<Neighbourhood>> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let disk = Disk::new(lu_sbd::store::MemoryStore::new(1 << 20));
        let portal = "127.0.0.1:0".parse().expect("an address");
        let server = Server::builder().disk(disk).portal(portal).threads(1).start().expect("a server");
        let neighbour = log_in(&server, "iqn.2026-11.org.example:neighbour");
        Mutex::new(Neighbourhood { server, neighbour })
    });
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

fn log_in(server: &Server, name: &str) -> Initiator<TcpWire> {
    let wire = TcpWire::connect(server.portals()[0]).expect("a connection");
    let mut initiator = Initiator::new(wire);
    initiator.login(&LoginOptions::normal(name, server.target().unwrap_or_default())).expect("a login");
    let _ = initiator.command(&Command::new(0, &[0; 6]));
    initiator
}

/// A whole server from its sockets: pieces of bytes on up to three connections, raw or behind a login. Afterwards the
/// neighbour's block is what it was, and it is served.
fn server_socket(data: &[u8]) {
    let mut place = neighbourhood();
    let Neighbourhood { server, neighbour } = &mut *place;
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut rest = data;
    for _ in 0..24 {
        let Some((&[operation, length], behind)) = rest.split_first_chunk::<2>() else { break };
        let (bytes, behind) = behind.split_at(usize::from(length).min(behind.len()));
        rest = behind;
        let which = usize::from(operation >> 4);
        match operation & 7 {
            0 if streams.len() < 3 => streams.push(TcpStream::connect(server.portals()[0]).expect("a connection")),
            1 if streams.len() < 3 => {
                let initiator = log_in(server, "iqn.2026-11.org.example:stranger");
                streams.push(initiator.wire.stream().try_clone().expect("a descriptor"));
            }
            2 if !streams.is_empty() => drop(streams.remove(which % streams.len())),
            3 if !streams.is_empty() => {
                let which = which % streams.len();
                let _ = streams[which].shutdown(Shutdown::Write);
            }
            _ if !streams.is_empty() => {
                let which = which % streams.len();
                // Writes that would reach the neighbour's block are its own affair: strangers see the same disk.
                let _ = streams[which].write_all(bytes);
            }
            _ => {}
        }
    }
    drop(streams);
    // What a stranger's reset or reservation leaves is told by a status; that there is one is what counts.
    neighbour.command(&Command::read_blocks(0, 0, 8)).expect("the neighbour is served");
}
