//! Crowds: peers by the thousand that do nothing, come and go, take nothing, or give nothing, and a neighbour that
//! measures what it has to suffer.

use crate::latency::{Counts, Histogram};
use crate::process::{Resources, Served, TARGET};
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use testkit::initiator::{Command, Initiator, LoginOptions, TcpWire};

/// The unit's size in bytes.
const UNIT_BYTES: u64 = 64 << 20;
/// Threads that connect and log in.
const THREADS: usize = 4;
/// How long the server may take to close what its peers have closed.
const SETTLING: Duration = Duration::from_secs(30);

/// How many of each.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Sessions that do nothing.
    pub sessions: usize,
    /// Connections that come and go: silent, torn, refused, half logged in.
    pub attempts: usize,
    /// Initiators that ask for 4 MiB each and take nothing.
    pub readers: usize,
    /// Initiators that announce 4 MiB each and send a part.
    pub writers: usize,
    /// How long the neighbour measures where nothing else says when it is over.
    pub time: Duration,
    /// How often each crowd comes; of the factors the middle one counts.
    pub rounds: usize,
}

/// By how much a neighbour's latency may grow, in the median and at 99 % (docs/design/security.md).
pub const MOST_SUFFERED: f64 = 1.5;

/// What one crowd came to.
#[derive(Clone, Debug)]
pub struct Row {
    /// Who they were.
    pub name: String,
    /// The server before them.
    pub before: Resources,
    /// With them.
    pub with: Resources,
    /// The neighbour's reads of 4 KiB before them.
    pub alone: Counts,
    /// And with them.
    pub together: Counts,
    /// How long they took to come.
    pub time: Duration,
}

impl Row {
    /// By how much the time grew within which this share of the neighbour's reads was answered.
    pub fn factor(&self, share: f64) -> f64 {
        let alone = self.alone.quantile(share).as_secs_f64();
        self.together.quantile(share).as_secs_f64() / alone.max(1e-6)
    }

    /// A line of a table.
    pub fn line(&self, count: usize) -> String {
        let mib = |kib: u64| kib as f64 / 1024.0;
        let grown = self.with.resident_kib.saturating_sub(self.before.resident_kib);
        format!(
            "| {} | {:.1} s | {:.1} -> {:.1} MiB ({:.1} KiB each) | {} -> {} | {:?} -> {:?} (x {:.1}) | {:?} -> {:?} (x {:.1}) |",
            self.name,
            self.time.as_secs_f64(),
            mib(self.before.resident_kib),
            mib(self.with.resident_kib),
            grown as f64 / count.max(1) as f64,
            self.before.descriptors,
            self.with.descriptors,
            self.alone.quantile(0.5),
            self.together.quantile(0.5),
            self.factor(0.5),
            self.alone.quantile(0.99),
            self.together.quantile(0.99),
            self.factor(0.99),
        )
    }

    /// The head of the table.
    pub const HEAD: &str = "| Crowd | came within | resident | descriptors | neighbour's read of 4 KiB, median | 99 % |\n\
                            |---|---|---|---|---|---|";
}

/// What all of them came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// A row for each crowd of each round, and how many they were.
    pub rows: Vec<(Row, usize)>,
    /// Lines in the server's own log and in the audit log after all attempts.
    pub log_lines: (usize, usize),
    /// The server before the first came.
    pub before: Resources,
    /// The server when all are gone.
    pub after: Resources,
}

impl Outcome {
    /// For each crowd the middle factors of its rounds, in the median and at 99 %.
    pub fn factors(&self) -> Vec<(&str, f64, f64)> {
        let mut names: Vec<&str> = Vec::new();
        for (row, _) in &self.rows {
            if !names.contains(&row.name.as_str()) {
                names.push(&row.name);
            }
        }
        let of = |name: &str, share| {
            let rows = self.rows.iter().filter(|(row, _)| row.name == name);
            middle(rows.map(|(row, _)| row.factor(share)).collect())
        };
        names.into_iter().map(|name| (name, of(name, 0.5), of(name, 0.99))).collect()
    }
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Lets the crowds come, one after the other.
///
/// # Errors
/// The neighbour is not served, a session of those who keep the rules is refused, or the system refuses.
pub fn run(sizes: &Sizes) -> Result<Outcome> {
    raise_descriptor_limit(sizes.sessions + 1000)?;
    let directory = tempfile::tempdir()?;
    let served = Served::start(directory.path())?;
    served.add_unit(&directory.path().join("unit"), UNIT_BYTES, 0)?;
    let before = served.resources()?;
    let place =
        Place { served: &served, times: Histogram::default(), stop: AtomicBool::new(false), reads: AtomicU64::new(0) };
    let rows = std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| place.measure());
        let rows = (0..sizes.rounds).try_fold(Vec::new(), |mut rows, _| {
            rows.extend(place.crowds(sizes)?);
            Ok::<_, anyhow::Error>(rows)
        });
        place.stop.store(true, Ordering::Relaxed);
        neighbour.join().map_err(|_| anyhow::anyhow!("the neighbour panicked"))??;
        rows
    })?;
    let after = settled(&served, before)?;
    let lines = |path: &Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    let log_lines = (served.log().lines().count(), lines(&directory.path().join("state/audit.log")));
    Ok(Outcome { rows, log_lines, before, after })
}

/// The server when it has closed what its peers have, or when it has had the time for that.
fn settled(served: &Served, before: Resources) -> Result<Resources> {
    let deadline = Instant::now() + SETTLING;
    loop {
        let now = served.resources()?;
        if now.descriptors <= before.descriptors || Instant::now() > deadline {
            return Ok(now);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

struct Place<'a> {
    served: &'a Served,
    times: Histogram,
    stop: AtomicBool,
    reads: AtomicU64,
}

impl Place<'_> {
    /// The neighbour: one small read at a time.
    fn measure(&self) -> Result<()> {
        let mut initiator = log_in(self.served.portal(), "neighbour")?;
        while !self.stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let outcome = initiator.command(&Command::read_blocks(0, 8, 8)).context("the neighbour is not served")?;
            ensure!(outcome.is_good(), "the neighbour got {:?}", outcome.status);
            self.times.add(began.elapsed());
            self.reads.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn crowds(&self, sizes: &Sizes) -> Result<Vec<(Row, usize)>> {
        let portal = self.served.portal();
        let mut rows = Vec::new();
        let idle = self
            .row("idle sessions", sizes.time, || in_parts(sizes.sessions, |n| log_in(portal, &format!("idle-{n}"))));
        rows.push((idle?, sizes.sessions));
        let attempts = self.row("connection attempts", sizes.time, || in_parts(sizes.attempts, |n| attempt(portal, n)));
        rows.push((attempts?, sizes.attempts));
        let readers = self.row("readers that take nothing", sizes.time, || {
            in_parts(sizes.readers, |n| {
                let mut reader = log_in(portal, &format!("reader-{n}"))?;
                for at in 0..16 {
                    reader.start(&Command::read_blocks(0, at * 512, 512))?;
                }
                Ok(reader)
            })
        });
        rows.push((readers?, sizes.readers));
        let writers = self.row("writers that stop half way", sizes.time, || {
            in_parts(sizes.writers, |n| {
                let mut writer = log_in(portal, &format!("writer-{n}"))?;
                // Behind what the neighbour reads: it would have to wait for what overlaps.
                for at in 1..17 {
                    writer.start(&Command::write_blocks(0, at * 512, vec![7; 256 << 10]))?;
                }
                Ok(writer)
            })
        });
        rows.push((writers?, sizes.writers));
        Ok(rows)
    }

    /// Measures before a crowd comes, while it comes and stays, and lets it go.
    fn row<T>(&self, name: &str, time: Duration, come: impl FnOnce() -> Result<Vec<T>>) -> Result<Row> {
        // What the crowd before has left is over by then.
        std::thread::sleep(time / 2);
        drop(self.times.take());
        std::thread::sleep(time);
        let (alone, before) = (self.times.take(), self.served.resources()?);
        let began = Instant::now();
        let crowd = come()?;
        let came = began.elapsed();
        let reads = self.reads.load(Ordering::Relaxed);
        std::thread::sleep(time);
        let (together, with) = (self.times.take(), self.served.resources()?);
        ensure!(self.reads.load(Ordering::Relaxed) > reads, "{name}: the neighbour is not served");
        drop(crowd);
        Ok(Row { name: name.to_owned(), before, with, alone, together, time: came })
    }
}

/// Several threads at once; what they made, in any order.
fn in_parts<T: Send>(count: usize, make: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let make = &make;
        let part = |first: usize| move || (first..count).step_by(THREADS).map(make).collect::<Result<Vec<T>>>();
        let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(part(first))).collect();
        let mut all = Vec::with_capacity(count);
        for thread in threads {
            all.extend(thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??);
        }
        Ok(all)
    })
}

fn log_in(portal: SocketAddr, name: &str) -> Result<Initiator<TcpWire>> {
    let mut initiator = Initiator::new(TcpWire::connect(portal)?);
    let login = LoginOptions::normal(&format!("iqn.2026-11.org.example:{name}"), TARGET);
    initiator.login(&login).with_context(|| name.to_owned())?;
    // The unit attention of a new nexus.
    let _ = initiator.command(&Command::new(0, &[0; 6]));
    Ok(initiator)
}

/// A connection that comes to nothing, and breaks off without leaving a port in use for a minute.
fn attempt(portal: SocketAddr, number: usize) -> Result<()> {
    let stream = match number % 4 {
        // A name that is refused, which is logged.
        0 => {
            let mut initiator = Initiator::new(TcpWire::connect(portal)?);
            let login = LoginOptions::normal("iqn.2026-11.org.example:stranger", "iqn.2026-11.org.example:nothing");
            // With too many half-open logins around, it may be thrown out first.
            let _ = initiator.login(&login);
            initiator.wire.stream().try_clone()?
        }
        part => {
            let mut stream = TcpStream::connect(portal)?;
            let _ = stream.write_all(&[0x43, 0x87, 0, 0].repeat(12)[..[0, 0, 24, 48][part]]);
            stream
        }
    };
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(())
}

fn raise_descriptor_limit(needed: usize) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    ensure!(now >= needed as u64, "this system allows {now} open files, {needed} are needed (ulimit -Hn)");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, alone: u64, together: u64) -> (Row, usize) {
        let counts = |micros| {
            let histogram = Histogram::default();
            histogram.add(Duration::from_micros(micros));
            histogram.take()
        };
        let resources = Resources { resident_kib: 0, descriptors: 0, threads: 0, cpu_ms: 0 };
        let (alone, together, time) = (counts(alone), counts(together), Duration::ZERO);
        (Row { name: name.to_owned(), before: resources, with: resources, alone, together, time }, 1)
    }

    #[test]
    fn of_several_rounds_the_middle_factor_counts() {
        let rows = vec![row("a", 64, 64), row("b", 64, 256), row("a", 64, 1024), row("b", 64, 256), row("a", 64, 128)];
        let nothing = Resources { resident_kib: 0, descriptors: 0, threads: 0, cpu_ms: 0 };
        let outcome = Outcome { rows, log_lines: (0, 0), before: nothing, after: nothing };
        assert_eq!(outcome.factors(), [("a", 2.0, 2.0), ("b", 4.0, 4.0)]);
    }
}
