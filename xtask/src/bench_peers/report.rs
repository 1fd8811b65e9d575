//! The tables of docs/performance.md, and what they say about the project's claims.

use super::{Contender, Figures, Results, matrix};
use crate::process::capture;
use crate::report::human;
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// What is below this line in the document is written by hand and kept.
const NOTES: &str = "## Notes";

/// Everything of one run.
pub(super) struct Report {
    pub(super) title: String,
    pub(super) workloads: Vec<String>,
    pub(super) contenders: Vec<Contender>,
    pub(super) results: Results,
    pub(super) notes: Vec<String>,
    pub(super) elapsed: Duration,
}

/// A statement about the figures: left side, right side, how many times the left has to be.
struct Claim {
    words: &'static str,
    ratio: Option<f64>,
    wanted: f64,
    at_most: bool,
}

impl Report {
    pub(super) fn figures(&self, workload: &str, contender: Contender) -> Option<&Figures> {
        self.results.get(&(workload.to_owned(), contender))?.as_ref().ok()
    }

    pub(super) fn per_cpu(&self, workload: &str, contender: Contender) -> Option<f64> {
        self.figures(workload, contender)?.per_cpu_second()
    }

    /// One table a workload.
    pub(super) fn tables(&self) -> String {
        let mut out = String::new();
        for workload in &self.workloads {
            let _ = write!(
                out,
                "### {}\n\n| | a second | MB/s | CPU | a CPU second | of raw TCP | of tgt | p50 µs | p99 µs | p99.9 µs |\n\
                 |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
                matrix::heading(workload)
            );
            for contender in &self.contenders {
                match self.results.get(&(workload.clone(), *contender)) {
                    None => {}
                    Some(Err(error)) => {
                        let _ = writeln!(out, "| {} | {error} |", contender.name());
                    }
                    Some(Ok(figures)) => self.row(&mut out, workload, *contender, figures),
                }
            }
            out.push('\n');
        }
        out
    }

    fn row(&self, out: &mut String, workload: &str, contender: Contender, figures: &Figures) {
        let against = |other: Option<Contender>| {
            let ratio = other.and_then(|other| Some(figures.per_cpu_second()? / self.per_cpu(workload, other)?));
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
        };
        let failed = if figures.failed > 0.0 { format!(" ({} failed)", figures.failed) } else { String::new() };
        let _ = writeln!(
            out,
            "| {}{failed} | {} | {} | {:.0} % | {} | {} | {} | {:.0} | {:.0} | {:.0} |",
            contender.name(),
            grouped(figures.rate()),
            grouped(figures.rate() * bytes_of(workload) / 1e6),
            100.0 * figures.cpu / figures.seconds,
            figures.per_cpu_second().map_or_else(|| "-".to_owned(), grouped),
            against(Some(Contender::Raw)),
            against(contender.rival()),
            figures.p50_us,
            figures.p99_us,
            figures.p999_us,
        );
    }

    fn evaluate(&self) -> Vec<Claim> {
        use Contender::{LunetteFile, LunetteMemory, LunettePolling, Raw, TgtFile, TgtMemory};
        let cpu = |workload: &str, one, other| Some(self.per_cpu(workload, one)? / self.per_cpu(workload, other)?);
        let p50 = |workload: &str, one, other| {
            Some(self.figures(workload, one)?.p50_us / self.figures(workload, other)?.p50_us)
        };
        let p99 = |workload: &str, one, other| {
            Some(self.figures(workload, one)?.p99_us / self.figures(workload, other)?.p99_us)
        };
        let digests = |workload: &str, store| {
            let with = self.per_cpu(&format!("{workload}-digest"), store)?;
            Some(with / self.per_cpu(workload, store)?)
        };
        let least = |words, ratio, wanted| Claim { words, ratio, wanted, at_most: false };
        let most = |words, ratio, wanted| Claim { words, ratio, wanted, at_most: true };
        vec![
            least("4 KiB random reads, 8 x 32, of tgt", cpu("read-4k-8x32", LunetteMemory, TgtMemory), 5.0),
            least("4 KiB random reads, 8 x 32, of raw TCP", cpu("read-4k-8x32", LunetteMemory, Raw), 0.4),
            least("4 KiB random writes, 8 x 32, of tgt", cpu("write-4k-8x32", LunetteMemory, TgtMemory), 5.0),
            least("64 KiB reads, memory, of tgt", cpu("read-64k-8x32", LunetteMemory, TgtMemory), 3.0),
            least("64 KiB reads, memory, of raw TCP", cpu("read-64k-8x32", LunetteMemory, Raw), 0.7),
            least("64 KiB writes, memory, of tgt", cpu("write-64k-8x32", LunetteMemory, TgtMemory), 3.0),
            least("64 KiB writes, memory, of raw TCP", cpu("write-64k-8x32", LunetteMemory, Raw), 0.7),
            least("256 KiB reads, memory, of tgt", cpu("read-256k-8x32", LunetteMemory, TgtMemory), 3.0),
            least("256 KiB reads, memory, of raw TCP", cpu("read-256k-8x32", LunetteMemory, Raw), 0.7),
            least("256 KiB writes, memory, of tgt", cpu("write-256k-8x32", LunetteMemory, TgtMemory), 3.0),
            least("256 KiB writes, memory, of raw TCP", cpu("write-256k-8x32", LunetteMemory, Raw), 0.7),
            least("64 KiB reads, file, of tgt", cpu("read-64k-8x32", LunetteFile, TgtFile), 2.5),
            least("64 KiB writes, file, of tgt", cpu("write-64k-8x32", LunetteFile, TgtFile), 2.5),
            least("256 KiB reads, file, of tgt", cpu("read-256k-8x32", LunetteFile, TgtFile), 2.5),
            least("256 KiB writes, file, of tgt", cpu("write-256k-8x32", LunetteFile, TgtFile), 2.5),
            least("64 KiB writes from 8 sessions, memory, of tgt", cpu("write-64k-8x1", LunetteMemory, TgtMemory), 3.0),
            least("64 KiB writes from 8 sessions, memory, of raw TCP", cpu("write-64k-8x1", LunetteMemory, Raw), 0.7),
            least("64 KiB writes from 8 sessions, file, of tgt", cpu("write-64k-8x1", LunetteFile, TgtFile), 2.5),
            most("p99 of them, memory, of tgt's", p99("write-64k-8x1", LunetteMemory, TgtMemory), 1.0),
            most("p99 of them, file, of tgt's", p99("write-64k-8x1", LunetteFile, TgtFile), 1.0),
            least("64 KiB reads with digests, memory, of those without", digests("read-64k-8x32", LunetteMemory), 0.85),
            least(
                "64 KiB writes with digests, memory, of those without",
                digests("write-64k-8x32", LunetteMemory),
                0.85,
            ),
            least("64 KiB reads with digests, file, of those without", digests("read-64k-8x32", LunetteFile), 0.85),
            least("64 KiB writes with digests, file, of those without", digests("write-64k-8x32", LunetteFile), 0.85),
            most("p50 of single 4 KiB reads, of tgt's", p50("read-4k-1x1", LunetteMemory, TgtMemory), 0.5),
            most("p50 of single 4 KiB reads, polling, of raw TCP's", p50("read-4k-1x1", LunettePolling, Raw), 1.3),
        ]
    }

    /// What was aimed at and what was reached.
    pub(super) fn claims(&self) -> String {
        let mut out =
            "| per CPU second of the target, unless it is a time | aim | reached | |\n|---|---:|---:|---|\n".to_owned();
        for claim in self.evaluate() {
            let Some(ratio) = claim.ratio else { continue };
            let holds = if claim.at_most { ratio <= claim.wanted } else { ratio >= claim.wanted };
            let _ = writeln!(
                out,
                "| {} | {} {} | {ratio:.2} | {} |",
                claim.words,
                if claim.at_most { "≤" } else { "≥" },
                claim.wanted,
                if holds { "yes" } else { "no" }
            );
        }
        out
    }

    /// Writes the document, keeping what was written by hand.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let old = std::fs::read_to_string(path).unwrap_or_default();
        let kept = old.find(NOTES).map_or_else(|| format!("{NOTES}\n"), |at| old[at..].to_owned());
        let mut versions: Vec<String> = self.contenders.iter().map(|contender| contender.version()).collect();
        versions.dedup();
        let mut out = format!(
            "# Performance\n\nWritten by `{}`; what stands below \"Notes\" is written by hand and kept.\n\n{}\n\n![Share of the \
             limit](performance.svg)\n\n",
            self.title,
            how(),
        );
        let _ =
            write!(out, "Machine: {}. {}. Measured in {}.\n\n", machine(), versions.join(", "), human(self.elapsed));
        for note in &self.notes {
            let _ = writeln!(out, "- {note}");
        }
        let _ = write!(out, "\n## Aims\n\n{}\n## Figures\n\n{}{kept}", self.claims(), self.tables());
        std::fs::write(path, out).with_context(|| format!("cannot write '{}'", path.display()))
    }
}

fn how() -> String {
    "The target runs on one processor, the load on another, over loopback; ratios are of processor seconds of the target's \
     whole process (`/proc/PID/stat`). \"Raw TCP\" is a server that receives and sends messages of the same sizes and does \
     nothing else, always the same memory; \"raw TCP, 256 MiB\" is the same with memory used as the disks of the others are: \
     what it sends lies at random places there, what it receives is kept there. A workload is named OPERATION-SIZE-SESSIONSxDEPTH; 4 KiB go to random places, longer ones in sequence, \
     in 256 MiB that were written before. tgt and istgt are set to the lengths that suit them best (256 KiB segments and \
     first bursts). Memory is a file in tmpfs for those that have no store in memory. Files stand on the system's disk, \
     written through the page cache by all; `-fua` asks for stable storage with each write. The workloads of `--quick`, \
     those of the aims among them, are measured in several rounds: the middle one stands here, of bare TCP, the limit, the best."
        .to_owned()
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, name)| name);
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = capture("uname", &["-sr"]).unwrap_or_default();
    let kernel = kernel.trim().split('-').next().unwrap_or_default().to_owned();
    let control = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_default();
    format!("{model}, {count} processors, {kernel}, TCP with {}", control.trim())
}

/// Bytes of a command of this workload.
pub(super) fn bytes_of(workload: &str) -> f64 {
    match workload.split('-').nth(1) {
        Some("4k") => 4096.0,
        Some("64k") => 65536.0,
        Some("256k") => 262_144.0,
        Some("1m") => 1_048_576.0,
        _ => f64::NAN,
    }
}

/// "1,234,567".
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!(grouped(1_234_567.4), "1,234,567");
        assert_eq!(grouped(999.0), "999");
    }
}
