//! Our own target over memory or a file: the server as a library, as an embedder has it.

use crate::Arguments;
use anyhow::{Result, bail};
use lu_sbd::store::{FileOptions, MemoryStore};
use lunette_server::{Disk, Interface, Server};
use std::path::PathBuf;
use std::time::Duration;

/// The name of the target, for the load.
pub(crate) const IQN: &str = "iqn.2026-11.org.lunette.bench:disk";

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let interface = match arguments.get::<String>("interface")?.as_deref() {
        None | Some("auto") => Interface::Auto,
        Some("epoll") => Interface::Epoll,
        Some("io_uring") => Interface::IoUring,
        Some(other) => bail!("--interface {other}: epoll or io_uring"),
    };
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
    Ok(server.run()?)
}
