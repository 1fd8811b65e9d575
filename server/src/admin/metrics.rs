//! What goes on, for a monitoring system: OpenMetrics over HTTP.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};

use super::api::LuInfo;
use super::engine::Engine;
use super::live::{Latency, ObjectState, SessionInfo, Statistics, Traffic};
use stmf::traffic::{LATENCY_BOUNDS, latency_bound};

/// Connections served at a time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 16;
/// How long a client may take to send a request, and a connection may idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may last: a client that does not read what it asked for ends here.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/metrics` from a thread of its own until it is dropped.
#[derive(Debug)]
pub struct MetricsServer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    address: SocketAddr,
}

impl MetricsServer {
    /// Serves the engine's counters at `address`.
    ///
    /// # Errors
    /// The address cannot be listened on, or the system refuses a thread.
    pub fn start(engine: Arc<Mutex<Engine>>, address: SocketAddr) -> io::Result<Self> {
        let listener = StdListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("lunette-metrics".into()).spawn(move || {
            runtime.block_on(run(engine, listener, stopped));
            runtime.shutdown_background();
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread), address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

async fn run(engine: Arc<Mutex<Engine>>, listener: StdListener, mut stopped: oneshot::Receiver<()>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("metrics cannot be served: {error}"),
    };
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = async {
            let permit = Arc::clone(&slots).acquire_owned().await.ok()?;
            match listener.accept().await {
                Ok((stream, _)) => Some((stream, permit)),
                Err(error) => {
                    tracing::warn!("metrics: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    None
                }
            }
        };
        tokio::select! {
            _ = &mut stopped => return,
            accepted = accepted => {
                let Some((stream, permit)) = accepted else { continue };
                let engine = Arc::clone(&engine);
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&engine), request));
                    let connection = hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_TIMEOUT)
                        .serve_connection(TokioIo::new(stream), service);
                    // How it ended is the client's affair.
                    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
                    drop(permit);
                });
            }
        }
    }
}

async fn answer(engine: Arc<Mutex<Engine>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let plain = |status, text: &str| {
        let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/metrics" {
        return Ok(plain(StatusCode::NOT_FOUND, "see /metrics\n"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n"));
    }
    let text = move || engine.lock().unwrap_or_else(PoisonError::into_inner).metrics();
    Ok(match tokio::task::spawn_blocking(text).await {
        Ok(text) => {
            let mut response = plain(StatusCode::OK, &text);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPENMETRICS));
            response
        }
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "failed\n"),
    })
}

/// Name behind `lunette_KIND_`, unit, help, and which number it is.
type Counter = (&'static str, &'static str, &'static str, fn(&Traffic) -> u64);

const COUNTERS: [Counter; 6] = [
    ("reads", "", "READ commands that ended.", |traffic| traffic.reads),
    ("writes", "", "WRITE commands that ended.", |traffic| traffic.writes),
    ("other_commands", "", "Other commands that ended.", |traffic| traffic.others),
    ("read_bytes", "bytes", "Bytes read.", |traffic| traffic.read_bytes),
    ("written_bytes", "bytes", "Bytes written.", |traffic| traffic.written_bytes),
    (
        "errors",
        "",
        "Failed store operations of a unit; commands of a target or session that did not end GOOD.",
        |traffic| traffic.errors,
    ),
];

/// Everything about objects of one kind; `objects` are their labels and numbers.
fn traffic(text: &mut String, kind: &str, objects: &[(String, &Traffic)]) {
    for (name, unit, help, value) in COUNTERS {
        let name = format!("lunette_{kind}_{name}");
        family(text, &name, "counter", unit, help);
        for (labels, traffic) in objects {
            let _ = writeln!(text, "{name}_total{{{labels}}} {}", value(traffic));
        }
    }
    let name = format!("lunette_{kind}_queue_depth");
    family(text, &name, "gauge", "", "Commands under way.");
    for (labels, traffic) in objects {
        let _ = writeln!(text, "{name}{{{labels}}} {}", traffic.queue_depth);
    }
    for (what, latency) in [
        ("read", (|traffic| &traffic.read_latency) as fn(&Traffic) -> &Latency),
        ("write", |traffic| &traffic.write_latency),
    ] {
        let name = format!("lunette_{kind}_{what}_latency_seconds");
        family(text, &name, "histogram", "seconds", "From the command to its status.");
        for (labels, traffic) in objects {
            histogram(text, &name, labels, latency(traffic));
        }
    }
}

fn histogram(text: &mut String, name: &str, labels: &str, latency: &Latency) {
    let mut sum = 0;
    for (number, count) in latency.counts.iter().enumerate() {
        sum += count;
        if number < LATENCY_BOUNDS {
            let bound = latency_bound(number).as_secs_f64();
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {sum}");
        }
    }
    let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {sum}");
    let _ = writeln!(text, "{name}_count{{{labels}}} {sum}");
    let _ = writeln!(text, "{name}_sum{{{labels}}} {}", latency.sum_ns as f64 / 1e9);
}

/// The text of one answer.
pub(super) fn render(
    lus: &[LuInfo],
    statistics: &Statistics,
    targets: &[(String, Option<ObjectState>)],
    sessions: &[SessionInfo],
) -> String {
    let mut text = String::new();
    family(&mut text, "lunette_build", "info", "", "The program that answers.");
    let _ = writeln!(text, "lunette_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    let label = |name: &str, value: &str| format!("{name}=\"{}\"", escape(value));
    let of_lus: Vec<_> = statistics.lus.iter().map(|(lu, traffic)| (label("lu", lu), traffic)).collect();
    traffic(&mut text, "lu", &of_lus);
    let of_targets: Vec<_> =
        statistics.targets.iter().map(|(name, traffic)| (label("target", name), traffic)).collect();
    traffic(&mut text, "target", &of_targets);
    let of_sessions: Vec<_> = sessions
        .iter()
        .filter_map(|session| {
            let labels = [
                label("session", &session.id.to_string()),
                label("initiator", &session.initiator),
                label("target", &session.target),
            ];
            Some((labels.join(","), statistics.sessions.get(&session.id)?))
        })
        .collect();
    traffic(&mut text, "session", &of_sessions);
    family(&mut text, "lunette_lu_size_bytes", "gauge", "bytes", "Size of the logical unit.");
    for lu in lus {
        if let Some(disk) = &lu.disk {
            let _ = writeln!(text, "lunette_lu_size_bytes{{lu=\"{}\"}} {}", escape(&lu.guid), disk.size);
        }
    }
    family(&mut text, "lunette_lu_online", "gauge", "", "1 while the logical unit serves, 0 otherwise.");
    for lu in lus {
        let online = u8::from(lu.state == Some(ObjectState::Online) && lu.problem.is_none());
        let _ = writeln!(text, "lunette_lu_online{{lu=\"{}\"}} {online}", escape(&lu.guid));
    }
    family(&mut text, "lunette_target_online", "gauge", "", "1 while the target takes logins, 0 otherwise.");
    for (target, state) in targets {
        let online = u8::from(*state == Some(ObjectState::Online));
        let _ = writeln!(text, "lunette_target_online{{target=\"{}\"}} {online}", escape(target));
    }
    family(&mut text, "lunette_target_sessions", "gauge", "", "Sessions of the target.");
    for (target, _) in targets {
        let count = sessions.iter().filter(|session| session.target == *target).count();
        let _ = writeln!(text, "lunette_target_sessions{{target=\"{}\"}} {count}", escape(target));
    }
    text.push_str("# EOF\n");
    text
}

fn family(text: &mut String, name: &str, kind: &str, unit: &str, help: &str) {
    let _ = writeln!(text, "# TYPE {name} {kind}");
    if !unit.is_empty() {
        let _ = writeln!(text, "# UNIT {name} {unit}");
    }
    let _ = writeln!(text, "# HELP {name} {help}");
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    fn get(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn every_sample_belongs_to_the_family_before_it() {
        let latency = Latency { counts: vec![1; LATENCY_BOUNDS + 1], sum_ns: 2_500_000 };
        let traffic = Traffic { reads: 3, read_bytes: 1536, read_latency: latency, ..Traffic::default() };
        let lu = "600144F0000000000000000000000001".to_owned();
        let statistics = Statistics { lus: [(lu, traffic)].into(), ..Statistics::default() };
        let targets = [("iqn.2026-11.org.example:\"x\"".to_owned(), Some(ObjectState::Online))];
        let text = render(&[], &statistics, &targets, &[]);
        assert!(text.contains("lunette_lu_read_bytes_total{lu=\"600144F0000000000000000000000001\"} 1536\n"), "{text}");
        assert!(text.contains("lunette_target_online{target=\"iqn.2026-11.org.example:\\\"x\\\"\"} 1\n"), "{text}");
        let lu = "lu=\"600144F0000000000000000000000001\"";
        for sample in
            ["_bucket{LU,le=\"0.000032\"} 1", "_bucket{LU,le=\"+Inf\"} 17", "_count{LU} 17", "_sum{LU} 0.0025"]
        {
            let sample = format!("lunette_lu_read_latency_seconds{}\n", sample.replace("LU", lu));
            assert!(text.contains(&sample), "{sample} is not in {text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
        let mut current = "";
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(family) => current = family.split(' ').next().unwrap(),
                None if line.starts_with('#') => {}
                None => assert!(line.starts_with(current), "{line} after {current}"),
            }
        }
    }

    #[test]
    fn metrics_are_served_and_nothing_else() {
        let engine = Arc::new(Mutex::new(Engine::in_memory().unwrap()));
        let server = MetricsServer::start(engine, "127.0.0.1:0".parse().unwrap()).unwrap();
        let good = get(server.address(), "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        assert!(good.starts_with("HTTP/1.1 200 ") && good.contains(OPENMETRICS), "{good}");
        assert!(good.ends_with("# EOF\n"), "{good}");
        let other = get(server.address(), "GET /v1/list-lus HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        assert!(other.starts_with("HTTP/1.1 404 "), "{other}");
        let post = get(server.address(), "POST /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
    }
}
