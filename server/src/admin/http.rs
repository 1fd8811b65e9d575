//! The server side of the management API: HTTP on a Unix socket that only its owner can open.

use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, oneshot};

use super::api::{ApiError, ErrorKind};
use super::client::{STATE_HEADER, request};
use super::engine::Engine;
use crate::unix_socket::bind;

/// Largest request body: an imported configuration of 10,000 units fits several times over.
const MAX_BODY_BYTES: usize = 64 << 20;
/// Connections served at a time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How often logical units are tried again whose files are missing.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The management plane of a running server: a thread with a socket. Dropping it stops both and removes the socket.
#[derive(Debug)]
pub struct ManagementServer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    socket: Option<PathBuf>,
}

/// Serves the engine on a Unix socket, mode 0600, from a thread of its own.
///
/// # Errors
/// The socket cannot be made: [`io::ErrorKind::AddrInUse`] if another server answers there, else the system's reason.
pub fn serve(engine: Arc<Mutex<Engine>>, socket: &Path) -> io::Result<ManagementServer> {
    serve_on(engine, bind(socket)?, Some(socket))
}

/// Serves the engine on a socket that listens already. `socket`: its place, if it is to be removed in the end.
pub(crate) fn serve_on(
    engine: Arc<Mutex<Engine>>,
    listener: StdListener,
    socket: Option<&Path>,
) -> io::Result<ManagementServer> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name("lunette-admin".into()).spawn(move || {
        runtime.block_on(run(engine, listener, stopped));
        // An operation that still waits (a drain) must not hold up the end of the process.
        runtime.shutdown_timeout(Duration::from_secs(1));
    })?;
    Ok(ManagementServer { stop: Some(stop), thread: Some(thread), socket: socket.map(Path::to_owned) })
}

impl Drop for ManagementServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
        if let Some(socket) = &self.socket {
            let _ = std::fs::remove_file(socket);
        }
    }
}

async fn run(engine: Arc<Mutex<Engine>>, listener: StdListener, mut stopped: oneshot::Receiver<()>) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("the management socket cannot be served: {error}");
            return;
        }
    };
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut retry = tokio::time::interval(RETRY_INTERVAL);
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            _ = retry.tick() => {
                let engine = Arc::clone(&engine);
                tokio::task::spawn_blocking(move || lock(&engine).retry_units());
            }
            accepted = accept(&listener, &slots) => {
                if let Some((stream, permit)) = accepted {
                    let engine = Arc::clone(&engine);
                    let who: Arc<str> = who(&stream).into();
                    tokio::spawn(async move {
                        let service = service_fn(move |request| answer(Arc::clone(&engine), Arc::clone(&who), request));
                        let connection = hyper::server::conn::http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(HEAD_TIMEOUT)
                            .serve_connection(TokioIo::new(stream), service);
                        if let Err(error) = connection.await {
                            tracing::debug!("management connection: {error}");
                        }
                        drop(permit);
                    });
                }
            }
        }
    }
}

async fn accept(
    listener: &UnixListener,
    slots: &Arc<Semaphore>,
) -> Option<(tokio::net::UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!("management socket: {error}");
            // Out of descriptors: give others time to close theirs instead of spinning.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// The process at the other end, for the audit log.
fn who(stream: &tokio::net::UnixStream) -> String {
    match stream.peer_cred() {
        Ok(peer) => match peer.pid() {
            Some(pid) => format!("user {} process {pid}", peer.uid()),
            None => format!("user {}", peer.uid()),
        },
        Err(_) => "unknown user".into(),
    }
}

async fn answer(
    engine: Arc<Mutex<Engine>>,
    who: Arc<str>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let response = match (request.method(), path.strip_prefix("/v1/")) {
        (&Method::GET, _) if path == "/openapi.json" => json(StatusCode::OK, &super::openapi::document()),
        (&Method::POST, Some(operation)) => match operate(engine, &who, operation, request).await {
            Ok(body) => body,
            Err(error) => refuse(&error),
        },
        _ => refuse(&ApiError::new(ErrorKind::NotFound, format!("{path}: not found")).hint("see /openapi.json")),
    };
    Ok(response)
}

async fn operate(
    engine: Arc<Mutex<Engine>>,
    who: &Arc<str>,
    operation: &str,
    http: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, ApiError> {
    let state = http.headers().get(STATE_HEADER).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let body = Limited::new(http.into_body(), MAX_BODY_BYTES).collect().await;
    let body = body.map_err(|error| ApiError::new(ErrorKind::Invalid, error.to_string()))?.to_bytes();
    let (who, operation) = (Arc::clone(who), operation.to_owned());
    let work = move || {
        let request = request(&operation, &body)?;
        let mut engine = lock(&engine);
        if let Some(state) = state.filter(|state| !same_place(Path::new(state), engine.state_directory())) {
            return Err(ApiError::new(
                ErrorKind::Conflict,
                format!("the server here serves {}, not {state}", engine.state_directory().display()),
            )
            .hint("give the --socket of the other server, or stop this one"));
        }
        engine.execute_for(&who, request).map(|answer| json(StatusCode::OK, &answer))
    };
    let failed =
        |error: tokio::task::JoinError| ApiError::new(ErrorKind::Internal, format!("operation failed: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

/// A panic inside an operation leaves the engine as the last transaction left it: changes are made last.
fn lock(engine: &Mutex<Engine>) -> std::sync::MutexGuard<'_, Engine> {
    engine.lock().unwrap_or_else(PoisonError::into_inner)
}

fn same_place(left: &Path, right: &Path) -> bool {
    let place = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    place(left) == place(right)
}

fn refuse(error: &ApiError) -> Response<Full<Bytes>> {
    json(StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error)
}

fn json(status: StatusCode, body: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(serde_json::to_vec(body).unwrap_or_default().into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}
