//! Directories that live as long as what is done in them.

use anyhow::{Context, Result};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own under the system's temporary directory, removed with everything in it when dropped.
///
/// Backing files stand here, so what counts is that sparse files work and that there is room for what tests really
/// write (about 600 MiB); `TMPDIR` chooses another place.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(purpose: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = std::env::temp_dir();
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = root.join(format!("lunette-{purpose}-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot create directory '{}'", path.display()));
                }
            }
        }
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Creates a file of `bytes` zero bytes that takes no room.
    pub(crate) fn sparse_file(&self, name: &str, bytes: u64) -> Result<PathBuf> {
        let path = self.join(name);
        let file = std::fs::File::create(&path).with_context(|| format!("cannot create '{}'", path.display()))?;
        file.set_len(bytes).with_context(|| format!("cannot size '{}' to {bytes} bytes", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning of its temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
