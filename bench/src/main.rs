//! What `cargo xtask bench-peers` starts: a load generator, our own target, and a server that is nothing but TCP.
//!
//! Unpublished. The generator logs in as any initiator does and then speaks the protocol from prepared headers, so that
//! one core of load keeps a target on another core busy.
#![forbid(unsafe_code)]

mod connection;
mod copies;
mod load;
mod raw;
mod target;
mod workload;

use anyhow::{Context, Result, bail};
use lu_sbd::store::MemoryStore;
use lunette_bench::path::{Path, Scale};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

const HELP: &str = "\
The programs of `cargo xtask bench-peers`.

Usage: lunette-bench target --portal ADDR:PORT [--file PATH] [--size BYTES] [--interface epoll|io_uring]
                            [--poll-us N] [--threads N]
       lunette-bench raw --portal ADDR:PORT [--keep-mib N]
       lunette-bench load --portal ADDR:PORT [--iqn NAME] [--lun N] [--pid PID] [--seconds S] [--cpu N]
                          [--fill true] [--span-mib N] WORKLOAD...

       lunette-bench idle --portal ADDR:PORT --iqn NAME [--lun N] --pid PID [--sessions N]
       lunette-bench path [--bytes N] [--rounds N] [--units N] [--views N] [--sessions N] read|write
       lunette-bench copies --file PATH [--seconds S]

A workload is named OP-SIZE-SESSIONSxDEPTH[-digest][-fua]: read-4k-8x32, write-64k-8x1-fua, mix-1m-1x32-digest.
4k goes to random places, longer ones in sequence. Without --iqn the load is for 'raw'.
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lunette-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The words of the command line: `--name value` pairs and the rest.
struct Arguments {
    options: HashMap<String, String>,
    words: Vec<String>,
}

impl Arguments {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (mut options, mut words) = (HashMap::new(), Vec::new());
        let mut arguments = arguments;
        while let Some(word) = arguments.next() {
            match word.strip_prefix("--") {
                Some(name) => {
                    let value = arguments.next().with_context(|| format!("--{name} needs a value"))?;
                    options.insert(name.to_owned(), value);
                }
                None => words.push(word),
            }
        }
        Ok(Self { options, words })
    }

    fn get<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.options.get(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| anyhow::anyhow!("--{name} {value}: not understood"))
    }

    fn portal(&self) -> Result<SocketAddr> {
        self.get("portal")?.context("--portal ADDR:PORT is missing")
    }
}

fn run() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let arguments = Arguments::parse(words)?;
    match command.as_str() {
        "target" => target::run(&arguments),
        "raw" => raw::run(arguments.portal()?, arguments.get("keep-mib")?.unwrap_or(0) << 20),
        "load" => {
            if let Some(cpu) = arguments.get("cpu")? {
                pin(cpu)?;
            }
            load::run(&arguments)
        }
        "idle" => load::idle(&arguments),
        "path" => path(&arguments),
        "copies" => copies::run(&arguments),
        _ => bail!("no command '{command}'\n\n{HELP}"),
    }
}

/// Commands through the whole path without a socket: for callgrind, which counts instructions.
fn path(arguments: &Arguments) -> Result<()> {
    let (writes, bytes) = match arguments.words.first().map(String::as_str) {
        Some("read") => (false, arguments.get("bytes")?.unwrap_or(4096)),
        Some("write") => (true, arguments.get("bytes")?.unwrap_or(4096)),
        _ => bail!("read or write?"),
    };
    let batch = (1u32 << 17).div_euclid(bytes).clamp(1, 32);
    let scale = Scale {
        units: arguments.get("units")?.unwrap_or(1).clamp(1, 1 << 14),
        views: arguments.get("views")?.unwrap_or(1),
        sessions: arguments.get("sessions")?.unwrap_or(1).max(1),
    };
    let size = if scale.units == 1 { 16 << 20 } else { 1 << 20 };
    let mut path = Path::furnished(&|_| Arc::new(MemoryStore::new(size)), false, scale);
    let started = std::time::Instant::now();
    let rounds = arguments.get("rounds")?.unwrap_or(2000);
    for _ in 0..rounds {
        path.batch(writes, batch, bytes);
    }
    let each = started.elapsed() / (rounds * batch);
    println!("{} commands, {} ns each, {} bytes sent", rounds * batch, each.as_nanos(), path.sent());
    Ok(())
}

/// Keeps this process on one processor.
fn pin(cpu: usize) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).with_context(|| format!("cannot run on processor {cpu}"))
}
