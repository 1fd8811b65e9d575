//! Why the configuration cannot be read or written.

use std::io;
use std::path::{Path, PathBuf};

/// Why the configuration cannot be read or written: which file, the reason, and what to do ([`hint`](Self::hint)).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process uses the state directory.
    #[error("state directory {} is in use{}", state.display(), holder.map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    Locked {
        /// The directory.
        state: PathBuf,
        /// The process that holds it, as far as it is known.
        holder: Option<u32>,
    },
    /// The file is no configuration of ours.
    #[error("{} is not a Lunette configuration", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was one and is damaged.
    #[error("{} is damaged: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file was written by a version of this program that keeps more than this one knows.
    #[error("{} has format {version}, this program knows format {known}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
        /// Ours.
        known: u32,
    },
    /// The system refuses.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried: `open`, `write` ...
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl StoreError {
    pub(super) fn io<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { operation, path: path.into(), source }
    }

    pub(super) fn corrupt(path: &Path, error: &dyn std::fmt::Display) -> Self {
        Self::Corrupt { path: path.into(), reason: error.to_string() }
    }

    pub(super) fn write(path: &Path, error: &dyn std::fmt::Display) -> Self {
        Self::Io { operation: "write", path: path.into(), source: io::Error::other(error.to_string()) }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Locked { .. } => "a server runs on it: give its --socket, or stop it first".into(),
            Self::Foreign { path } => {
                format!("nothing was changed; give another --state, or move {} away to start empty", path.display())
            }
            Self::Corrupt { path, .. } => format!(
                "nothing was changed; put a backup in the place of {}, or let 'lunette config check --repair' keep what \
                 can be read, then 'lunette config import' an export",
                path.display()
            ),
            Self::Version { .. } => "nothing was changed; use the version of lunette that wrote it".into(),
            Self::Io { source, path, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    format!("run as the owner of {}, or give another --state", path.display())
                }
                io::ErrorKind::StorageFull => "free some space and retry; nothing was changed".into(),
                _ => "nothing was changed; see to the file system, then retry".into(),
            },
        }
    }
}
