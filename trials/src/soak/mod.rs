//! Mixed load from many sessions, with faults, for as long as one likes: every byte is checked, every error must be
//! explained by a fault, and memory, descriptors, threads and latency of the server are sampled.
//!
//! Half of the units are sparse files in a directory, the others files in memory (`/dev/shm`). Each session has a part of
//! a unit for itself, of which it knows what should stand there. A neighbour at a unit of each kind measures.

mod chaos;
mod ledger;
mod part;
mod report;
mod session;

pub use ledger::{Fault, Ledger};
pub use report::{Report, Sample};

use crate::latency::Histogram;
use crate::process::{Resources, Served};
use anyhow::{Context, Result};
use part::Planned;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How large a soak is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long the load goes on.
    pub time: Duration,
    /// What the random numbers begin with.
    pub seed: u64,
    /// Sessions of the load.
    pub sessions: usize,
    /// Units, half of them in memory.
    pub units: usize,
    /// A session's part of a unit, in bytes; a multiple of 256 KiB.
    pub part_bytes: u64,
    /// How long a session takes for a batch of operations, on average.
    pub pace: Duration,
    /// One batch of so many is cut off, and as many abort their commands.
    pub accidents: u64,
    /// How often a fault is injected from outside.
    pub fault_interval: Duration,
    /// How often the server is sampled.
    pub sample_interval: Duration,
    /// Where state and files go; a temporary directory if missing.
    pub directory: Option<PathBuf>,
}

impl Plan {
    /// Sizes for a run of this time: an hour asks little of the machine, seconds ask more.
    pub fn lasting(time: Duration) -> Self {
        let is_long = time >= Duration::from_secs(300);
        Self {
            time,
            seed: 1,
            sessions: if is_long { 64 } else { 16 },
            units: if is_long { 8 } else { 4 },
            part_bytes: if is_long { 8 << 20 } else { 1 << 20 },
            pace: Duration::from_millis(if is_long { 200 } else { 50 }),
            accidents: if is_long { 1000 } else { 100 },
            fault_interval: Duration::from_millis(if is_long { 4000 } else { 700 }),
            sample_interval: (time / 120).clamp(Duration::from_millis(500), Duration::from_secs(30)),
            directory: None,
        }
    }

    fn unit_bytes(&self) -> u64 {
        self.sessions.div_ceil(self.units) as u64 * self.part_bytes
    }
}

/// What the threads of a run share.
struct Shared {
    plan: Plan,
    portal: SocketAddr,
    ledger: Ledger,
    stop: AtomicBool,
    times: Histogram,
    operations: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

impl Shared {
    fn count(&self, planned: &Planned) {
        self.operations.fetch_add(1, Ordering::Relaxed);
        let bytes = if planned.is_read() { &self.read_bytes } else { &self.written_bytes };
        bytes.fetch_add(planned.bytes(), Ordering::Relaxed);
    }
}

/// The units' names and files.
struct Units {
    names: Vec<String>,
    files: Vec<PathBuf>,
}

impl Drop for Units {
    fn drop(&mut self) {
        // The temporary directory goes by itself; what is in memory does not.
        for file in &self.files {
            let _ = std::fs::remove_file(file);
            let _ = std::fs::remove_file(file.with_added_extension("lu"));
        }
    }
}

/// Runs it. Progress is told on stdout, a line for each tenth of the time.
///
/// # Errors
/// The server cannot be started or set up, or it died. What the run found is in the report.
pub fn run(plan: &Plan) -> Result<Report> {
    let temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
    let directory = plan.directory.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&directory)?;
    let mut served = Served::start(&directory)?;
    let units = furnish(plan, &served, &directory)?;
    let shared = Shared {
        plan: plan.clone(),
        portal: served.portal(),
        ledger: Ledger::default(),
        stop: AtomicBool::new(false),
        times: Histogram::default(),
        operations: AtomicU64::new(0),
        read_bytes: AtomicU64::new(0),
        written_bytes: AtomicU64::new(0),
    };
    let before = served.resources()?;
    let started = Instant::now();
    let samples = std::thread::scope(|scope| {
        for number in 0..plan.sessions {
            let shared = &shared;
            scope.spawn(move || session::run(shared, number));
        }
        for unit in 0..2.min(plan.units) {
            let shared = &shared;
            scope.spawn(move || session::measure(shared, unit));
        }
        scope.spawn(|| chaos::run(&shared, &served, &units, &directory));
        let samples = watch(&shared, &served, started);
        shared.stop.store(true, Ordering::Relaxed);
        samples
    })?;
    let alive = served.is_alive();
    let after = settle(&served, before)?;
    let sum = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Ok(Report {
        time: started.elapsed(),
        before,
        after,
        samples,
        operations: sum(&shared.operations),
        read_bytes: sum(&shared.read_bytes),
        written_bytes: sum(&shared.written_bytes),
        explained: shared.ledger.explained(),
        unexplained: shared.ledger.unexplained(),
        faults: [Fault::Cut, Fault::Standstill]
            .iter()
            .chain(&Fault::ALL)
            .map(|fault| (*fault, shared.ledger.count(*fault)))
            .collect(),
        alive,
    })
}

fn furnish(plan: &Plan, served: &Served, directory: &Path) -> Result<Units> {
    let memory = Path::new("/dev/shm");
    let mut units = Units { names: Vec::new(), files: Vec::new() };
    for number in 0..plan.units {
        let place = if number % 2 == 1 && memory.is_dir() { memory } else { directory };
        let file = place.join(format!("lunette-soak-{}-{number}", std::process::id()));
        units.files.push(file.clone());
        units.names.push(served.add_unit(&file, plan.unit_bytes(), number as u16)?);
    }
    Ok(units)
}

/// Samples until the time is over or the server is gone.
fn watch(shared: &Shared, served: &Served, started: Instant) -> Result<Vec<Sample>> {
    let plan = &shared.plan;
    let mut samples: Vec<Sample> = Vec::new();
    let (mut last, mut operations, mut told) = (Instant::now(), 0, 0);
    while started.elapsed() < plan.time {
        std::thread::sleep(plan.sample_interval.min(plan.time.saturating_sub(started.elapsed())));
        let now = Instant::now();
        let late = (now - last).saturating_sub(plan.sample_interval);
        if late > Duration::from_secs(5) {
            shared.ledger.note(Fault::Standstill, None);
        }
        let total = shared.operations.load(Ordering::Relaxed);
        let times = shared.times.take();
        let resources = served.resources()?;
        let sample =
            Sample { at: started.elapsed(), since: now - last, resources, operations: total - operations, times };
        (last, operations) = (now, total);
        let tenth = (started.elapsed().as_secs_f64() * 10.0 / plan.time.as_secs_f64()) as usize;
        if tenth > told {
            told = tenth;
            println!("{sample}");
        }
        samples.push(sample);
    }
    Ok(samples)
}

/// Waits until the server has closed what the load left; what it holds then.
fn settle(served: &Served, before: Resources) -> Result<Resources> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let now = served.resources()?;
        if now.descriptors <= before.descriptors || Instant::now() > deadline {
            return Ok(now);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
