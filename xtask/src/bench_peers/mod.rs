//! `cargo xtask bench-peers`: the same load against our target, against others, and against nothing but TCP.

mod chart;
mod matrix;
mod programs;
mod report;

use crate::packages::{self, Need};
use crate::process::{run_limited, tethered};
use crate::report::{human, tail};
use crate::scratch::Scratch;
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use programs::{Contender, Peer, Program};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const HELP: &str = "\
Runs the same load against our target, Debian's tgt and istgt, and a bare TCP server, and writes docs/performance.md.

Usage: cargo xtask bench-peers [OPTIONS]

Options:
  --quick           A dozen workloads instead of all
  --seconds S       How long each is measured; default 1
  --rounds N        How often the workloads of --quick are, the aims among them; default 3
  --only WORD       Only workloads whose name contains this; may be given several times
  --against WORD    Only contenders whose name contains this; may be given several times
  --peer NAME=ADDRESS:PORT,IQN,PID[,LUN]
                    Measure this target as well, which runs already, pinned to processor 0, with a disk of 256 MiB or more;
                    WHAT IS ON THE DISK IS OVERWRITTEN. May be given several times
  --no-build        Take the release binary as it is
  --no-install      Install nothing; peers that are missing are left out
  --dry             Print the tables, write nothing
  --list            Names of the workloads and contenders

The target runs on processor 0, the load on processor 1. Everything else on the machine should be quiet. All contenders
run at the same time, and idle while another is under load, so that the ratios are of one run. Of the rounds the middle
one counts; of bare TCP, which is the limit, the best.

Example: cargo xtask bench-peers --quick --only read-4k --dry
";

/// A workload may hang with a contender, but not the run.
const LOAD_LIMIT: Duration = Duration::from_secs(60);

struct Options {
    quick: bool,
    seconds: f64,
    rounds: usize,
    only: Vec<String>,
    against: Vec<String>,
    peers: Vec<Peer>,
    build: bool,
    install: bool,
    write: bool,
}

/// What came of one workload against one contender.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) seconds: f64,
    pub(crate) commands: f64,
    pub(crate) failed: f64,
    /// Processor seconds of the target.
    pub(crate) cpu: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
}

impl Figures {
    /// Commands a second of the clock.
    pub(crate) fn rate(&self) -> f64 {
        self.commands / self.seconds
    }

    /// Commands a second of the target's processor time; `None` if it used too little to tell.
    pub(crate) fn per_cpu_second(&self) -> Option<f64> {
        (self.cpu >= 0.05).then(|| self.commands / self.cpu)
    }
}

/// All that was measured: by workload, by contender.
pub(crate) type Results = HashMap<(String, Contender), Result<Figures, String>>;

/// `cargo xtask bench-peers`.
pub(crate) fn main(arguments: &[String]) -> Result<ExitCode> {
    let mut options = Options {
        quick: false,
        seconds: 1.0,
        rounds: 3,
        only: Vec::new(),
        against: Vec::new(),
        peers: Vec::new(),
        build: true,
        install: true,
        write: true,
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().cloned().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            "--list" => {
                matrix::all().iter().for_each(|name| println!("{name}"));
                Contender::ALL.iter().for_each(|contender| println!("{}", contender.name()));
                return Ok(ExitCode::SUCCESS);
            }
            "--quick" => options.quick = true,
            "--seconds" => options.seconds = value()?.parse()?,
            "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
            "--only" => options.only.push(value()?),
            "--against" => options.against.push(value()?),
            "--peer" => options.peers.push(value()?.parse()?),
            "--no-build" => options.build = false,
            "--no-install" => options.install = false,
            "--dry" => options.write = false,
            other => bail!("no option '{other}'\n\n{HELP}"),
        }
    }
    let started = Instant::now();
    let (workloads, contenders, results, notes) = measure(&options)?;
    let title = format!(
        "cargo xtask bench-peers{}{}",
        if options.quick { " --quick" } else { "" },
        if options.seconds == 1.0 { String::new() } else { format!(" --seconds {}", options.seconds) },
    ) + &if options.rounds == 3 { String::new() } else { format!(" --rounds {}", options.rounds) };
    let report = report::Report { title, workloads, contenders, results, notes, elapsed: started.elapsed() };
    if !options.write {
        println!("{}\n{}\n{}", report.tables(), report.claims(), report.notes.join("\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let path = workspace::root().join("docs/performance.md");
    report.write(&path)?;
    let picture = workspace::root().join("docs/performance.svg");
    std::fs::write(&picture, chart::draw(&report)).with_context(|| format!("cannot write '{}'", picture.display()))?;
    println!("{}\nwritten to {} and {}", report.claims(), path.display(), picture.display());
    println!("{} in all", human(started.elapsed()));
    Ok(ExitCode::SUCCESS)
}

type Measured = (Vec<String>, Vec<Contender>, Results, Vec<String>);

fn measure(options: &Options) -> Result<Measured> {
    let mut notes = Vec::new();
    if options.install {
        for need in [Need::Tgt, Need::Istgt] {
            if let Err(error) = packages::install(&[need]) {
                notes.push(format!("{error:#}").replace('\n', "; "));
            }
        }
    }
    let logs = workspace::log_directory()?;
    let binary = build(options.build, &logs)?;
    let wanted = |list: &[String], name: &str| list.is_empty() || list.iter().any(|word| name.contains(word.as_str()));
    let mut workloads = if options.quick { matrix::quick() } else { matrix::all() };
    workloads.retain(|name| wanted(&options.only, name));
    let scratch = Scratch::new("bench")?;
    let mut programs = Vec::new();
    for contender in Contender::ALL {
        if !wanted(&options.against, contender.name()) {
            continue;
        }
        match Program::start(contender, &binary, &scratch) {
            Ok(program) => programs.push(program),
            Err(error) => notes.push(format!("{} was left out: {error:#}", contender.name()).replace('\n', "; ")),
        }
    }
    for peer in &options.peers {
        programs.push(Program::given(peer)?);
    }
    ensure!(!programs.is_empty() && !workloads.is_empty(), "nothing to measure: {}", notes.join("; "));
    let mut rounds: HashMap<(String, Contender), Vec<Result<Figures, String>>> = HashMap::new();
    let mut filled = Vec::new();
    for round in 0..options.rounds {
        let again = matrix::quick();
        for workload in workloads.iter().filter(|workload| round == 0 || again.contains(workload)) {
            for program in &mut programs {
                let contender = program.contender;
                if !contender.takes(workload) {
                    continue;
                }
                let fill = !contender.is_bare() && !filled.contains(&contender);
                let mut command = tethered(&binary);
                command.args(["load", "--cpu", "1", "--seconds", &options.seconds.to_string()]);
                command.args(program.load_arguments());
                command.args(["--fill", if fill { "true" } else { "false" }, workload]);
                let done = run_limited("load", command, LOAD_LIMIT, &scratch.join("load.log"))?;
                filled.push(contender);
                let figures = parse(&done.output).map_err(|error| format!("{error:#} ({})", done.verdict()));
                let words = match &figures {
                    Ok(figures) => format!(
                        "{:10.0} a second, {:10.0} a CPU second, p99 {:8.0} us",
                        figures.rate(),
                        figures.per_cpu_second().unwrap_or(f64::NAN),
                        figures.p99_us
                    ),
                    Err(error) => error.clone(),
                };
                println!("{workload:24} {:22} {words}", contender.name());
                if let Err(error) = program.check_alive() {
                    notes.push(format!("{error:#}").replace('\n', "; "));
                }
                rounds.entry((workload.clone(), contender)).or_default().push(figures);
            }
        }
    }
    let results = rounds
        .into_iter()
        .map(|((workload, contender), rounds)| {
            let figures = of_rounds(rounds, contender.is_bare());
            ((workload, contender), figures)
        })
        .collect();
    for program in &programs {
        if program.contender == Contender::LunetteMemory {
            notes.push(idle(program, &binary, &scratch).unwrap_or_else(|error| format!("idle: {error:#}")));
        }
    }
    let contenders = programs.iter().map(|program| program.contender).collect();
    Ok((workloads, contenders, results, notes))
}

/// What counts of several rounds: the middle one; of a limit the best, since nothing made it faster than it can be. A round
/// that failed counts for all: a figure must not hide it.
fn of_rounds(rounds: Vec<Result<Figures, String>>, limit: bool) -> Result<Figures, String> {
    let mut rounds: Vec<Figures> = rounds.into_iter().collect::<Result<_, _>>()?;
    let speed = |figures: &Figures| figures.per_cpu_second().unwrap_or_else(|| figures.rate());
    rounds.sort_by(|one, other| speed(one).total_cmp(&speed(other)));
    let at = if limit { rounds.len().saturating_sub(1) } else { rounds.len() / 2 };
    rounds.into_iter().nth(at).ok_or_else(|| "not measured".to_owned())
}

/// What sessions cost that do nothing, in words, against a target of its own that has done nothing before.
fn idle(like: &Program, binary: &Path, scratch: &Scratch) -> Result<String> {
    let started = Instant::now();
    let program = Program::start(like.contender, binary, scratch)?;
    let start = started.elapsed();
    let mut command = tethered(binary);
    command.arg("idle").args(program.load_arguments()).args(["--sessions", "500"]);
    let done = run_limited("idle", command, LOAD_LIMIT, &scratch.join("idle.log"))?;
    let line = done.output.lines().find(|line| line.starts_with("idle")).context(done.output.clone())?;
    let value = |name: &str| {
        line.split('\t').find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).unwrap_or("?").to_owned()
    };
    Ok(format!(
        "Idle: a server with one disk serves {} ms after its start and takes {} KiB; each of {} idle sessions adds {} KiB; \
         all of them use {} s of processor time in 2 s.",
        start.as_millis(),
        value("before_kib"),
        value("sessions"),
        value("each_kib"),
        value("cpu"),
    ))
}

/// Builds the programs, if `wanted`, and tells where they are.
pub(crate) fn build(wanted: bool, logs: &Path) -> Result<PathBuf> {
    let binary = workspace::target_directory()?.join("release").join("lunette-bench");
    if wanted {
        let mut command = workspace::cargo();
        command.args(["build", "--release", "--package", "lunette-bench"]);
        let built = run_limited("cargo build", command, Duration::from_secs(30 * 60), &logs.join("bench-build.log"))?;
        ensure!(built.success(), "it does not build:\n{}", tail(&built.output, 60, ""));
    }
    ensure!(binary.is_file(), "no binary '{}'\nhint: leave --no-build out", binary.display());
    Ok(binary)
}

/// The line that the load prints: `name=value`, separated by tabs.
pub(crate) fn parse(output: &str) -> Result<Figures> {
    let line = output.lines().find(|line| line.starts_with("workload=")).context("the load printed nothing")?;
    let values: HashMap<&str, &str> = line.split('\t').filter_map(|word| word.split_once('=')).collect();
    if let Some(error) = values.get("error") {
        bail!("{error}");
    }
    let value = |name: &str| -> Result<f64> {
        values.get(name).and_then(|value| value.parse().ok()).with_context(|| format!("no {name} in '{line}'"))
    };
    Ok(Figures {
        seconds: value("seconds")?,
        commands: value("commands")?,
        failed: value("failed")?,
        cpu: value("cpu")?,
        p50_us: value("p50_us")?,
        p99_us: value("p99_us")?,
        p999_us: value("p999_us")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_load_is_understood() {
        let line = "workload=read-4k-1x1\tseconds=2.0\tcommands=100\tfailed=0\tcpu=0.5\town_cpu=1\tp50_us=1\tp99_us=2\tp999_us=3";
        let figures = parse(line).unwrap();
        assert_eq!((figures.rate(), figures.per_cpu_second()), (50.0, Some(200.0)));
        assert!(parse("workload=x\terror=closed").is_err_and(|error| error.to_string() == "closed"));
    }

    #[test]
    fn the_middle_round_counts_and_of_a_limit_the_best() {
        let round = |commands| {
            let (cpu, seconds) = (1.0, 1.0);
            Ok(Figures { seconds, commands, failed: 0.0, cpu, p50_us: 1.0, p99_us: 1.0, p999_us: 1.0 })
        };
        let commands = |rounds, limit| of_rounds(rounds, limit).map(|figures| figures.commands);
        assert_eq!(commands(vec![round(9.0), round(1.0), round(5.0)], false), Ok(5.0));
        assert_eq!(commands(vec![round(9.0), round(1.0), round(5.0)], true), Ok(9.0));
        assert_eq!(commands(vec![round(9.0), Err("closed".to_owned())], false), Err("closed".to_owned()));
    }
}
