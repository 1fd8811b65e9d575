//! What a run came to, and whether it is good.

use super::ledger::Fault;
use crate::latency::Counts;
use crate::process::Resources;
use std::fmt;
use std::time::Duration;

/// What the server held at one moment, and what the neighbours measured since the sample before.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Time since the beginning.
    pub at: Duration,
    /// Time since the sample before.
    pub since: Duration,
    /// What the server holds.
    pub resources: Resources,
    /// Operations of the load.
    pub operations: u64,
    /// How long the neighbours' reads took.
    pub times: Counts,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Resources { resident_kib, descriptors, threads, cpu_ms } = self.resources;
        write!(
            f,
            "{:6.0} s: {:6.0} operations/s, {:5.1} MiB resident, {descriptors} descriptors, {threads} threads, {:.0} s CPU, \
             4 KiB read p50 {} p99 {}",
            self.at.as_secs_f64(),
            self.operations as f64 / self.since.as_secs_f64().max(0.001),
            resident_kib as f64 / 1024.0,
            cpu_ms as f64 / 1000.0,
            micros(self.times.quantile(0.5)),
            micros(self.times.quantile(0.99)),
        )
    }
}

fn micros(time: Duration) -> String {
    format!("{} us", time.as_micros())
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// How long it took, the last verification included.
    pub time: Duration,
    /// What the server held before the first session.
    pub before: Resources,
    /// And after the last.
    pub after: Resources,
    /// What was sampled, in order.
    pub samples: Vec<Sample>,
    /// Operations of the load.
    pub operations: u64,
    /// Bytes read and compared.
    pub read_bytes: u64,
    /// Bytes written, unmapped or zeroed.
    pub written_bytes: u64,
    /// Errors that a fault explains.
    pub explained: u64,
    /// Errors and differences that none explains, the first hundred.
    pub unexplained: Vec<String>,
    /// How many faults of each kind there were.
    pub faults: Vec<(Fault, usize)>,
    /// Whether the server still ran at the end.
    pub alive: bool,
}

/// What all threads together may keep of the buffers that they read into (`lu_sbd::store`), in KiB.
const KEPT_BUFFERS_KIB: u64 = 32 << 10;

/// A quarter of a run.
struct Quarter {
    resident_kib: u64,
    descriptors: usize,
    threads: u64,
    p50: Duration,
    p99: Duration,
    per_second: f64,
}

impl Report {
    /// What is wrong with it; empty: nothing.
    ///
    /// Memory and descriptors are bounds that hold on a busy machine too; times are told and not judged.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = self.unexplained.clone();
        if !self.alive {
            complaints.push("the server ended".into());
        }
        if self.operations == 0 {
            complaints.push("nothing was done".into());
        }
        if self.after.descriptors > self.before.descriptors {
            complaints.push(format!(
                "{} descriptors were open before the first session, {} after the last",
                self.before.descriptors, self.after.descriptors
            ));
        }
        if let [_, second, _, last] = &self.quarters()[..] {
            // Buffers of reads stay with the threads that read, up to a bound that a short run does not reach in its
            // first half.
            let room = second.resident_kib / 10 + KEPT_BUFFERS_KIB;
            if last.resident_kib > second.resident_kib + room {
                complaints.push(format!("memory grew from {} to {} KiB", second.resident_kib, last.resident_kib));
            }
        }
        complaints
    }

    /// Medians of each quarter; empty for too few samples.
    fn quarters(&self) -> Vec<Quarter> {
        let length = self.samples.len() / 4;
        if length == 0 {
            return Vec::new();
        }
        self.samples.chunks(length).take(4).map(quarter).collect()
    }
}

fn quarter(samples: &[Sample]) -> Quarter {
    let median = |value: fn(&Sample) -> u64| {
        let mut values: Vec<u64> = samples.iter().map(value).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    };
    let mut times = Counts::default();
    samples.iter().for_each(|sample| times.merge(&sample.times));
    let operations: u64 = samples.iter().map(|sample| sample.operations).sum();
    let time: Duration = samples.iter().map(|sample| sample.since).sum();
    Quarter {
        resident_kib: median(|sample| sample.resources.resident_kib),
        descriptors: median(|sample| sample.resources.descriptors as u64) as usize,
        threads: median(|sample| sample.resources.threads),
        p50: times.quantile(0.5),
        p99: times.quantile(0.99),
        per_second: operations as f64 / time.as_secs_f64().max(0.001),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:.0} s, {} operations, {} MiB read and compared, {} MiB written; {} errors that a fault explains, {} that \
             none explains",
            self.time.as_secs_f64(),
            self.operations,
            self.read_bytes >> 20,
            self.written_bytes >> 20,
            self.explained,
            self.unexplained.len(),
        )?;
        writeln!(f, "\n| | resident | descriptors | threads | operations/s | 4 KiB read p50 | p99 |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        let ends = |name, held: &Resources| {
            let Resources { resident_kib, descriptors, threads, .. } = *held;
            format!("| {name} | {:.1} MiB | {descriptors} | {threads} | | | |", resident_kib as f64 / 1024.0)
        };
        writeln!(f, "{}", ends("before the first session", &self.before))?;
        for (number, quarter) in self.quarters().iter().enumerate() {
            writeln!(
                f,
                "| quarter {} | {:.1} MiB | {} | {} | {:.0} | {} | {} |",
                number + 1,
                quarter.resident_kib as f64 / 1024.0,
                quarter.descriptors,
                quarter.threads,
                quarter.per_second,
                micros(quarter.p50),
                micros(quarter.p99),
            )?;
        }
        writeln!(f, "{}", ends("after the last", &self.after))?;
        writeln!(f, "\n| Fault | times |\n|---|---|")?;
        for (fault, times) in &self.faults {
            writeln!(f, "| {fault} | {times} |")?;
        }
        Ok(())
    }
}
