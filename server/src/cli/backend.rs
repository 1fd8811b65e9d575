//! Where a command's requests go: to the server, or to the state directory when none is running.

use std::path::PathBuf;

use crate::admin::{Answer, ApiError, Client, ClientError, Engine, ErrorKind, Request};
use crate::config_store::StoreError;
use crate::{default_socket, default_state};

use super::getopt::Extensions;

/// What was said about where the server is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    pub(crate) state: Option<PathBuf>,
    pub(crate) socket: Option<PathBuf>,
}

impl Places {
    /// With what a personality's own command line says.
    pub(crate) fn with(self, extensions: &Extensions) -> Self {
        Self {
            state: extensions.state.as_ref().map(PathBuf::from).or(self.state),
            socket: extensions.socket.as_ref().map(PathBuf::from).or(self.socket),
        }
    }
}

/// The way to the configuration, found at the first request.
pub(crate) struct Backend {
    places: Places,
    way: Way,
}

enum Way {
    Unknown,
    Server(Client),
    Directory(Box<Engine>),
}

impl Backend {
    pub(crate) fn new(places: Places) -> Self {
        Self { places, way: Way::Unknown }
    }

    /// Carries out a request.
    pub(crate) fn call(&mut self, request: Request) -> Result<Answer, ApiError> {
        loop {
            match &mut self.way {
                Way::Server(client) => return client.execute(&request).map_err(ApiError::from),
                Way::Directory(engine) => {
                    let user = rustix::process::getuid().as_raw();
                    let who = format!("user {user} process {} without a server", std::process::id());
                    return engine.execute_for(&who, request);
                }
                Way::Unknown => {
                    let client = self.client();
                    match client.execute(&request) {
                        Err(ClientError::NoServer { .. }) => self.way = Way::Directory(Box::new(self.open(&client)?)),
                        answer => {
                            self.way = Way::Server(client);
                            return answer.map_err(ApiError::from);
                        }
                    }
                }
            }
        }
    }

    fn client(&self) -> Client {
        // A state directory that was named is the one that is meant, whichever server the socket leads to.
        let state = self.places.state.clone().or_else(|| std::env::var_os("LUNETTE_STATE").map(PathBuf::from));
        Client::new(self.places.socket.clone().unwrap_or_else(default_socket), state)
    }

    fn open(&self, client: &Client) -> Result<Engine, ApiError> {
        let state = self.places.state.clone().unwrap_or_else(default_state);
        Engine::open(&state).map_err(|error| match error {
            StoreError::Locked { .. } => ApiError::new(ErrorKind::Unavailable, error.to_string()).hint(format!(
                "the server that holds it does not answer at {}: give its --socket",
                client.socket().display()
            )),
            StoreError::Io { ref source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                ApiError::new(ErrorKind::Denied, "permission denied").hint(format!("{error}; {}", error.hint()))
            }
            error => error.into(),
        })
    }
}
