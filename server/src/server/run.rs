//! Running until told to stop.

use super::{RunError, STOP_GRACE, Server};
use tokio::signal::unix::{Signal, SignalKind, signal};

impl Server {
    /// Runs until SIGTERM or SIGINT comes, then stops as [`stop`](Self::stop) does. A second signal stops at once.
    ///
    /// # Errors
    /// [`RunError`]: the server ended in another way; it is stopped all the same.
    pub fn run(self) -> Result<(), RunError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .max_blocking_threads(1)
            .build()
            .map_err(RunError::Signals)?;
        let result = runtime.block_on(self.run_until_told());
        // A stop that was cut short may still be under way.
        runtime.shutdown_background();
        result
    }

    async fn run_until_told(self) -> Result<(), RunError> {
        let mut signals = Signals::new()?;
        let failed = tokio::select! {
            name = signals.next() => {
                tracing::info!("{name}: stopping; initiators are asked to log out");
                false
            }
            () = self.failure.notified() => {
                tracing::error!("a thread of the data path has failed: stopping");
                true
            }
        };
        let stopped = tokio::task::spawn_blocking(move || self.stop_within(STOP_GRACE));
        tokio::select! {
            _ = stopped => if failed { Err(RunError::DataPath) } else { Ok(()) },
            name = signals.next() => {
                tracing::warn!("{name} again: stopping at once");
                Err(RunError::Forced)
            }
        }
    }
}

/// The signals that end a server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, RunError> {
        let watch = |kind| signal(kind).map_err(RunError::Signals);
        Ok(Self { terminate: watch(SignalKind::terminate())?, interrupt: watch(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
