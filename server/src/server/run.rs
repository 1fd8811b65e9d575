//! Running until told to stop.

use std::panic;
use std::sync::Arc;

use super::{RunError, STOP_GRACE, Server};
use crate::host::Host;
use crate::system;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

impl Server {
    /// Runs until SIGTERM or SIGINT comes, then stops as [`stop`](Self::stop) does. A second signal stops at once.
    ///
    /// A signal that comes before this call ends the process in the system's way, without asking anybody to log out:
    /// a program that wants to be told to stop while it still starts uses [`StopSignals`].
    ///
    /// # Errors
    /// [`RunError`]: the server ended in another way; it is stopped all the same.
    pub fn run(self) -> Result<(), RunError> {
        StopSignals::watch()?.run(self)
    }
}

/// The signals that end a server: SIGTERM and SIGINT.
///
/// From [`watch`](Self::watch) on they end nothing by themselves. One that comes while the server starts is kept until
/// it has started; it then stops as one that came later.
pub struct StopSignals {
    /// `None` once dropped.
    runtime: Option<Runtime>,
    terminate: Signal,
    interrupt: Signal,
    /// The signal that came while starting.
    told: Option<&'static str>,
    /// Whether the service manager is told.
    notifies: bool,
}

impl StopSignals {
    /// Takes the signals over.
    ///
    /// # Errors
    /// [`RunError::Signals`]: the system refuses.
    pub fn watch() -> Result<Self, RunError> {
        let runtime =
            Builder::new_current_thread().enable_all().max_blocking_threads(2).build().map_err(RunError::Signals)?;
        let inside = runtime.enter();
        let watch = |kind| signal(kind).map_err(RunError::Signals);
        let (terminate, interrupt) = (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?);
        drop(inside);
        Ok(Self { runtime: Some(runtime), terminate, interrupt, told: None, notifies: false })
    }

    /// Tells the service manager that started the process when the server is up, that it is alive, and when it stops.
    pub(crate) fn with_service_manager(mut self) -> Self {
        self.notifies = true;
        self
    }

    /// Does what starts a server, in a thread of its own, and gives its result. The first signal meanwhile waits for
    /// [`run`](Self::run).
    ///
    /// # Errors
    /// [`RunError::Forced`]: a second signal came first; the thread goes on until the process ends.
    pub fn start<T: Send + 'static>(&mut self, start: impl FnOnce() -> T + Send + 'static) -> Result<T, RunError> {
        let Some(runtime) = self.runtime.take() else { return Err(RunError::Forced) };
        let result = runtime.block_on(async {
            let mut starting = tokio::task::spawn_blocking(start);
            loop {
                tokio::select! {
                    biased;
                    started = &mut starting => return match started {
                        Ok(started) => Ok(started),
                        Err(error) => match error.try_into_panic() {
                            Ok(payload) => panic::resume_unwind(payload),
                            // Nobody cancels it.
                            Err(_) => Err(RunError::Forced),
                        },
                    },
                    name = next(&mut self.terminate, &mut self.interrupt) => {
                        if self.told.replace(name).is_some() {
                            tracing::warn!("{name} again: stopping at once");
                            return Err(RunError::Forced);
                        }
                        tracing::info!("{name}: stopping as soon as the start is done");
                    }
                }
            }
        });
        self.runtime = Some(runtime);
        result
    }

    /// Runs a server until the first signal, as [`Server::run`].
    ///
    /// # Errors
    /// [`RunError`]: the server ended in another way; it is stopped all the same.
    pub fn run(mut self, server: Server) -> Result<(), RunError> {
        let Some(runtime) = self.runtime.take() else { return Err(RunError::Forced) };
        let result = runtime.block_on(self.run_until_told(server));
        self.runtime = Some(runtime);
        result
    }

    async fn run_until_told(&mut self, server: Server) -> Result<(), RunError> {
        let told = self.told.take();
        let watchdog = watchdog(Arc::clone(&server.host), self.notifies);
        if self.notifies {
            system::notify("READY=1");
        }
        let first = async {
            match told {
                Some(name) => name,
                None => next(&mut self.terminate, &mut self.interrupt).await,
            }
        };
        let failed = tokio::select! {
            name = first => {
                tracing::info!("{name}: stopping; initiators are asked to log out");
                false
            }
            () = server.failure.notified() => {
                tracing::error!("a thread of the data path has failed: stopping");
                true
            }
            () = watchdog => true,
        };
        if self.notifies {
            system::notify("STOPPING=1");
        }
        let stopped = tokio::task::spawn_blocking(move || server.stop_within(STOP_GRACE));
        tokio::select! {
            _ = stopped => if failed { Err(RunError::DataPath) } else { Ok(()) },
            name = next(&mut self.terminate, &mut self.interrupt) => {
                tracing::warn!("{name} again: stopping at once");
                Err(RunError::Forced)
            }
        }
    }
}

impl Drop for StopSignals {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A start or a stop that was cut short may still be under way.
            runtime.shutdown_background();
        }
    }
}

/// Tells the service manager that the data path is alive, as often as it wants to hear it. A thread that hangs keeps it
/// silent, and the service manager does what it is there for. Never ends.
async fn watchdog(host: Arc<Host>, notifies: bool) {
    let Some(interval) = system::watchdog_interval().filter(|_| notifies) else {
        return std::future::pending().await;
    };
    loop {
        let asked = Arc::clone(&host);
        if tokio::task::spawn_blocking(move || asked.answers()).await.unwrap_or(false) {
            system::notify("WATCHDOG=1");
        } else {
            tracing::error!("a thread of the data path does not answer");
        }
        tokio::time::sleep(interval).await;
    }
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
