//! A server: with threads and sockets of its own, or driven by the calling program's event loop.

use crate::event_loop::{EventLoop, Wake};
use crate::handle::Table;
use crate::input::{Sized0, UserData, optional_text, output, put, put_text, read_optional, text};
use crate::result::{Failure, Outcome, calling_back, guard, lunette_result, outside_callbacks};
use crate::store::check_flags;
// The handle has the crate's name.
use ::lunette_server as embedded;
use iscsit::config::{Change, Config, ConfigError};
use std::ffi::{c_char, c_void};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use stmf::provider::LogicalUnit;
use stmf::{Guid, Stmf};

/// A server: targets, disks, groups and views.
pub struct lunette_server {
    _opaque: (),
}

/// The server has no threads, sockets or timers: the calling program's event loop drives it by the lunette_connection
/// functions.
pub const LUNETTE_SERVER_EVENT_LOOP: u32 = 1;
/// In the event-loop mode: store operations that may wait are given to lunette_server_poll_job instead of being carried
/// out at once.
pub const LUNETTE_SERVER_HAND_OUT_JOBS: u32 = 2;
/// The threads that serve connections use epoll, also where the system has io_uring. Tools that stand between a program
/// and the system, such as valgrind, need it.
pub const LUNETTE_SERVER_EPOLL: u32 = 4;

/// What a server is made with.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lunette_server_options {
    /// sizeof(lunette_server_options).
    pub size: usize,
    /// LUNETTE_SERVER_EVENT_LOOP, LUNETTE_SERVER_HAND_OUT_JOBS, LUNETTE_SERVER_EPOLL.
    pub flags: u32,
    /// Threads that serve connections; 0: one for each processor. Of no use in the event-loop mode.
    pub threads: u32,
    /// The name of the first target, such as "iqn.2026-11.com.example:disks"; NULL generates one.
    pub target: *const c_char,
    /// In the event-loop mode: called from any thread when something waits for lunette_server_process; must not block
    /// or call the library. It may write to an eventfd. May be NULL if no asynchronous store and no job is used.
    pub wake: Option<unsafe extern "C" fn(userdata: *mut c_void)>,
    /// Given to `wake`.
    pub userdata: *mut c_void,
}

// SAFETY: repr(C), size first; integers, pointers, an optional function.
unsafe impl Sized0 for lunette_server_options {}

/// What a handle stands for.
pub(crate) struct ServerObject {
    mode: Mode,
}

enum Mode {
    Threads(RwLock<Option<Arc<embedded::Server>>>),
    Loop(Arc<EventLoop>),
}

pub(crate) static SERVERS: Table<ServerObject> = Table::new("server");

/// What both kinds of servers do.
pub(crate) trait Backend {
    fn stmf(&self) -> &Arc<Stmf>;
    fn target(&self) -> String;
    fn change_iscsi(&self, plan: &mut Plan<'_>) -> Outcome;
    /// `view`: whether everybody sees it, and at which LUN.
    fn add_unit(&self, lu: Arc<dyn LogicalUnit>, view: Option<Option<u16>>) -> Outcome<Guid>;
    fn remove_unit(&self, guid: Guid) -> bool;
}

pub(crate) type Plan<'a> = dyn FnMut(&Config) -> Result<Vec<Change>, ConfigError> + 'a;

impl Backend for embedded::Server {
    fn stmf(&self) -> &Arc<Stmf> {
        self.stmf()
    }

    fn target(&self) -> String {
        self.target().unwrap_or_default().to_owned()
    }

    fn change_iscsi(&self, plan: &mut Plan<'_>) -> Outcome {
        self.change_iscsi(plan).map_err(|error| match error {
            embedded::ChangeError::Refused(error) => config_failure(&error),
            error => Failure::refused(error),
        })
    }

    fn add_unit(&self, lu: Arc<dyn LogicalUnit>, view: Option<Option<u16>>) -> Outcome<Guid> {
        let added = match view {
            Some(lun) => self.add_unit(lu, lun),
            None => self.add_hidden_unit(lu),
        };
        added.map_err(|error| match error {
            embedded::DiskError::Exists(_) => Failure::new(lunette_result::Exists, error.to_string()),
            embedded::DiskError::View(error) => view_failure(&error),
            error => Failure::refused(error),
        })
    }

    fn remove_unit(&self, guid: Guid) -> bool {
        self.remove_disk(guid)
    }
}

/// A refused change of targets or initiators.
pub(crate) fn config_failure(error: &ConfigError) -> Failure {
    let code = match error {
        ConfigError::TargetExists { .. } | ConfigError::InitiatorExists { .. } | ConfigError::RenameTaken { .. } => {
            lunette_result::Exists
        }
        ConfigError::TargetNotFound { .. } | ConfigError::InitiatorNotFound { .. } => lunette_result::NotFound,
        ConfigError::TooManyTargets { .. } => lunette_result::Limit,
        ConfigError::TargetBusy { .. } => lunette_result::Busy,
        _ => lunette_result::InvalidParameter,
    };
    Failure::new(code, with_hint(error.to_string(), error.hint()))
}

/// A refused change of groups or views.
pub(crate) fn view_failure(error: &stmf::ConfigError) -> Failure {
    use stmf::ConfigError as E;
    let code = match error {
        E::GroupExists { .. } | E::MemberExists { .. } | E::ViewExists { .. } | E::LunInUse { .. } => {
            lunette_result::Exists
        }
        E::GroupNotFound { .. } | E::MemberNotFound { .. } | E::InvalidHostGroup(_) | E::InvalidTargetGroup(_) => {
            lunette_result::NotFound
        }
        E::NoFreeLun => lunette_result::Limit,
        E::GroupInUse { .. } => lunette_result::Refused,
        _ => lunette_result::InvalidParameter,
    };
    Failure::new(code, with_hint(error.to_string(), Some(error.hint()).filter(|hint| !hint.is_empty())))
}

fn with_hint(message: String, hint: Option<String>) -> String {
    match hint {
        Some(hint) => format!("{message}; {hint}"),
        None => message,
    }
}

impl ServerObject {
    /// Runs `f` on what there is of both kinds.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&dyn Backend) -> Outcome<R>) -> Outcome<R> {
        match &self.mode {
            Mode::Threads(_) => f(&*self.threads()?),
            Mode::Loop(event_loop) => f(&**event_loop),
        }
    }

    /// The server with threads; refused in the event-loop mode and once it has stopped.
    fn threads(&self) -> Outcome<Arc<embedded::Server>> {
        let Mode::Threads(server) = &self.mode else {
            return Err(Failure::new(lunette_result::Unsupported, "the server is in the event-loop mode"));
        };
        let server = server.read().unwrap_or_else(PoisonError::into_inner);
        server.clone().ok_or_else(|| Failure::closed("the server has stopped"))
    }

    /// The server without threads; refused in the other mode.
    pub(crate) fn event_loop(&self) -> Outcome<&Arc<EventLoop>> {
        match &self.mode {
            Mode::Loop(event_loop) => Ok(event_loop),
            Mode::Threads(_) => Err(Failure::new(
                lunette_result::Unsupported,
                "the server has threads of its own; make it with LUNETTE_SERVER_EVENT_LOOP",
            )),
        }
    }

    fn stop(&self, grace: Duration) -> Outcome {
        match &self.mode {
            Mode::Loop(event_loop) => event_loop.close(),
            Mode::Threads(server) => {
                let taken = server.write().unwrap_or_else(PoisonError::into_inner).take();
                let Some(mut server) = taken else { return Ok(()) };
                // Another thread may be inside a call, which holds the server for as long as that takes.
                let server = loop {
                    match Arc::try_unwrap(server) {
                        Ok(server) => break server,
                        Err(shared) => server = shared,
                    }
                    std::thread::sleep(Duration::from_millis(1));
                };
                server.stop_within(grace);
            }
        }
        Ok(())
    }
}

/// Makes a server. It listens on nothing yet: configure it, then call lunette_server_listen.
///
/// `options` may be NULL. To be given back by lunette_server_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_new(
    options: *const lunette_server_options,
    server: *mut *mut lunette_server,
) -> lunette_result {
    guard(|| {
        let place = output(server, "server")?;
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let options = unsafe { read_optional(options, "options") }?;
        let flags = options.map_or(0, |options| options.flags);
        check_flags(flags, LUNETTE_SERVER_EVENT_LOOP | LUNETTE_SERVER_HAND_OUT_JOBS | LUNETTE_SERVER_EPOLL)?;
        let target = match options {
            // SAFETY: as above.
            Some(options) => unsafe { optional_text(options.target, "options.target") }?,
            None => None,
        };
        let mode = if flags & LUNETTE_SERVER_EVENT_LOOP != 0 {
            let wake = options.and_then(|options| Some((options.wake?, UserData(options.userdata))));
            let wake: Wake = Box::new(move || {
                if let Some((wake, userdata)) = &wake {
                    // SAFETY: good until the server is freed, by the promise of who gave it.
                    calling_back(|| unsafe { wake(userdata.0) });
                }
            });
            Mode::Loop(EventLoop::new(target, flags & LUNETTE_SERVER_HAND_OUT_JOBS != 0, wake)?)
        } else {
            let mut builder = embedded::Server::builder().no_portal();
            if let Some(target) = target {
                builder = builder.target(target);
            }
            if flags & LUNETTE_SERVER_EPOLL != 0 {
                builder = builder.interface(embedded::Interface::Epoll);
            }
            if let Some(options) = options.filter(|options| options.threads > 0) {
                builder = builder.threads(options.threads as usize);
            }
            let started = builder.start().map_err(|error| match &error {
                embedded::StartError::Target(error) => config_failure(error),
                error => Failure::system(error),
            })?;
            Mode::Threads(RwLock::new(Some(Arc::new(started))))
        };
        // SAFETY: not NULL, and the caller's promise.
        unsafe { put(place, SERVERS.insert(Arc::new(ServerObject { mode }))) };
        Ok(())
    })
}

/// Listens on one more address: "127.0.0.1:3260", "[::]:3260"; port 0 takes a free one.
///
/// `port` may be NULL; else it gets the port. Not in the event-loop mode.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_listen(
    server: *mut lunette_server,
    address: *const c_char,
    port: *mut u16,
) -> lunette_result {
    guard(|| {
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let wanted = address_of(&unsafe { text(address, "address") }?)?;
        let bound = SERVERS.get(server)?.threads()?.listen(wanted).map_err(Failure::system)?;
        // SAFETY: as above.
        unsafe { put(port, bound.port()) };
        Ok(())
    })
}

/// An address and port; a host name is looked up.
pub(crate) fn address_of(text: &str) -> Outcome<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let mut found = text.to_socket_addrs().map_err(|error| Failure::invalid(format!("{text}: {error}")))?;
    found.next().ok_or_else(|| Failure::invalid(format!("{text}: no address")))
}

/// Writes the name of the first target to `buffer`, 224 bytes are always enough.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_target(
    server: *const lunette_server,
    buffer: *mut c_char,
    size: usize,
) -> lunette_result {
    guard(|| {
        let target = SERVERS.get(server)?.with(|server| Ok(server.target()))?;
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        unsafe { put_text(buffer, size, &target) }
    })
}

/// Writes the URL of a LUN of the first target at the first address to `buffer`, as libiscsi, QEMU and
/// lunette_client_connect take it; 320 bytes are always enough. Not in the event-loop mode.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_url(
    server: *const lunette_server,
    lun: u16,
    buffer: *mut c_char,
    size: usize,
) -> lunette_result {
    guard(|| {
        let server = SERVERS.get(server)?.threads()?;
        if server.portals().is_empty() {
            return Err(Failure::new(lunette_result::NotFound, "the server listens on no address"));
        }
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        unsafe { put_text(buffer, size, &server.url(lun)) }
    })
}

/// How many sessions there are now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_sessions(server: *const lunette_server, count: *mut usize) -> lunette_result {
    guard(|| {
        let place = output(count, "count")?;
        let sessions = SERVERS.get(server)?.with(|server| Ok(server.stmf().sessions().len()))?;
        // SAFETY: not NULL, and the caller's promise.
        unsafe { put(place, sessions) };
        Ok(())
    })
}

/// Stops a server: no connection is taken any more, every initiator is asked to log out, after `grace_ms` milliseconds
/// the connections that are left are closed, and what was begun at the stores is finished and flushed. Waits for that.
/// The handle stays until it is freed. In the event-loop mode lunette_server_shut_down is the polite way.
///
/// Refused with LUNETTE_RESULT_BUSY in a callback.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_server_stop(server: *mut lunette_server, grace_ms: u32) -> lunette_result {
    guard(|| {
        outside_callbacks()?;
        SERVERS.get(server)?.stop(Duration::from_millis(grace_ms.into()))
    })
}

/// Gives a server back; one that has not been stopped stops at once. Its disks are gone then, and `destroy` of stores
/// that are used nowhere else has been called; for a store of `lunette_store_new_async` it may still be on its way, in the
/// thread that finished its last operation. NULL is allowed and does nothing.
///
/// Refused with LUNETTE_RESULT_BUSY in a callback; the handle is good then.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_server_free(server: *mut lunette_server) -> lunette_result {
    guard(|| {
        if server.is_null() {
            return Ok(());
        }
        outside_callbacks()?;
        SERVERS.remove(server)?.stop(Duration::ZERO)
    })
}
