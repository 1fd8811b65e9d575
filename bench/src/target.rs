//! Our own target over memory or a file: the server as a library, as an embedder has it.

use crate::Arguments;
use anyhow::{Result, ensure};
use lu_sbd::store::{FileOptions, MemoryStore};
use lunette_server::{Disk, Interface, Server};
use std::path::PathBuf;
use std::time::Duration;

/// The name of the target, for the load.
pub(crate) const IQN: &str = "iqn.2026-11.org.lunette.bench:disk";

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let interface: Interface = arguments.get("interface")?.unwrap_or_default();
    let size = arguments.get("size")?.unwrap_or(512 << 20);
    let disk = match arguments.get::<PathBuf>("file")? {
        Some(path) => Disk::new(FileOptions::new().create(true).size(size).open(path)?),
        None => Disk::new(MemoryStore::new(size)),
    };
    let server = Server::builder()
        .target(IQN)
        .portal(arguments.portal()?)
        .threads(arguments.get("threads")?.unwrap_or(1))
        .interface(interface)
        .poll(Duration::from_micros(arguments.get("poll-us")?.unwrap_or(0)))
        .disk(disk)
        .start()?;
    ensure!(
        arguments.get::<String>("interface")?.is_none_or(|name| name == server.statistics().interface),
        "io_uring is not available here"
    );
    Ok(server.run()?)
}
