//! The client of the management API: HTTP over the Unix socket, one request per connection, no runtime.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::api::{Answer, ApiError, ErrorKind, Request};

/// How long an answer may take: the slowest operations wait 9 s for an object to change its state.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The header by which a client says which state directory it means.
pub(super) const STATE_HEADER: &str = "lunette-state";

/// Talks to a running server.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    state: Option<PathBuf>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No server listens on the socket.
    #[error("no server answers at {}", socket.display())]
    NoServer {
        /// The socket.
        socket: PathBuf,
    },
    /// The connection failed or what came was no answer.
    #[error("the server at {} does not answer as it should: {source}", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The server refuses.
    #[error(transparent)]
    Refused(#[from] ApiError),
}

impl From<ClientError> for ApiError {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Refused(error) => error,
            ClientError::Broken { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Self::new(ErrorKind::Denied, "permission denied").hint(format!("{message}; who runs the server may"))
            }
            _ => Self::new(ErrorKind::Unavailable, message).hint("start it: lunette serve"),
        }
    }
}

impl Client {
    /// A client of the server at `socket`. With a state directory the server refuses if it serves another one.
    pub fn new(socket: impl Into<PathBuf>, state: Option<PathBuf>) -> Self {
        let state = state.map(|path| std::path::absolute(&path).unwrap_or(path));
        Self { socket: socket.into(), state }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Carries out one operation.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn execute(&self, request: &Request) -> Result<Answer, ClientError> {
        let broken = |source: io::Error| ClientError::Broken { socket: self.socket.clone(), source };
        let value = serde_json::to_value(request).map_err(|error| broken(error.into()))?;
        let operation = value["operation"].as_str().unwrap_or_default();
        let body = serde_json::to_vec(&value["parameters"]).map_err(|error| broken(error.into()))?;
        let mut stream = match UnixStream::connect(&self.socket) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Err(ClientError::NoServer { socket: self.socket.clone() });
            }
            Err(error) => return Err(broken(error)),
        };
        let (status, body) = self.exchange(&mut stream, operation, &body).map_err(broken)?;
        if status == 200 {
            serde_json::from_slice(&body).map_err(|error| broken(error.into()))
        } else {
            let refusal: ApiError = serde_json::from_slice(&body).map_err(|error| broken(error.into()))?;
            Err(refusal.into())
        }
    }

    fn exchange(&self, stream: &mut UnixStream, operation: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let state = match &self.state {
            Some(path) => format!("{STATE_HEADER}: {}\r\n", path.display()),
            None => String::new(),
        };
        let head = format!(
            "POST /v1/{operation} HTTP/1.1\r\nhost: lunette\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n{state}connection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat())?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer");
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(malformed)?;
        let mut length = None;
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err(malformed());
            }
            match line.trim_end().split_once(':') {
                None if line.trim_end().is_empty() => break,
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = Some(value.trim().parse::<u64>().map_err(|_| malformed())?);
                }
                _ => {}
            }
        }
        let mut body = Vec::new();
        match length {
            Some(length) => {
                reader.take(length).read_to_end(&mut body)?;
                if body.len() as u64 != length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            None => {
                reader.read_to_end(&mut body)?;
            }
        }
        Ok((status, body))
    }
}

/// A request from the path and body of an HTTP request.
pub(super) fn request(operation: &str, parameters: &[u8]) -> Result<Request, ApiError> {
    let invalid = |error: serde_json::Error| {
        let error = error.to_string();
        // The list of all operations behind it helps nobody.
        match error.split_once(", expected one of") {
            Some((unknown, _)) if unknown.contains(operation) => {
                ApiError::new(ErrorKind::NotFound, format!("{operation}: no such operation"))
            }
            _ => ApiError::new(ErrorKind::Invalid, format!("{operation}: {error}")),
        }
        .hint("see /openapi.json")
    };
    let parameters: Value = if parameters.is_empty() {
        Value::Object(serde_json::Map::new())
    } else {
        serde_json::from_slice(parameters).map_err(invalid)?
    };
    let value = serde_json::json!({ "operation": operation, "parameters": parameters });
    serde_json::from_value(value).map_err(invalid)
}
