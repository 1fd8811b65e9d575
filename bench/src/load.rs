//! Runs workloads and prints one line of figures for each.

use crate::Arguments;
use crate::connection::Connection;
use crate::workload::Workload;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Time before anything is counted.
const WARM_UP: Duration = Duration::from_millis(200);

/// Most answer times that are kept of a workload.
const MOST_TIMES: usize = 4 << 20;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let portal = arguments.portal()?;
    let iqn = arguments.get::<String>("iqn")?;
    let lun = arguments.get("lun")?.unwrap_or(0);
    let pid: Option<u32> = arguments.get("pid")?;
    let seconds = arguments.get("seconds")?.unwrap_or(2.0);
    if let Some(mib) = arguments.get("span-mib")? {
        crate::connection::set_span(mib);
    }
    ensure!(!arguments.words.is_empty(), "no workload");
    let payload = Bytes::from(vec![0xa5; 1 << 20]);
    let mut fill = arguments.get("fill")?.unwrap_or(false);
    for name in &arguments.words {
        let workload = Workload::parse(name)?;
        let target = iqn.as_deref().map(|iqn| (iqn, lun));
        let plan =
            Plan { portal, target, pid, time: Duration::from_secs_f64(seconds), fill: std::mem::take(&mut fill) };
        let figures = measure(&plan, &workload, &payload);
        match figures {
            Ok(figures) => println!("{}", figures.line(&workload)),
            Err(error) => println!("workload={name}\terror={}", format!("{error:#}").replace(['\t', '\n'], " ")),
        }
    }
    Ok(())
}

/// What sessions cost that do nothing: memory of the target without and with them, and its processor time meanwhile.
pub(crate) fn idle(arguments: &Arguments) -> Result<()> {
    let portal = arguments.portal()?;
    let iqn: String = arguments.get("iqn")?.context("--iqn is missing")?;
    let lun = arguments.get("lun")?.unwrap_or(0);
    let pid: String = arguments.get("pid")?.context("--pid is missing")?;
    let count: usize = arguments.get("sessions")?.unwrap_or(200);
    let before = resident_kib(&pid)?;
    let workload = Workload { sessions: count, ..Workload::parse("read-4k-1x1")? };
    let payload = Bytes::new();
    let mut sessions = Vec::new();
    for index in 0..count {
        sessions.push(Connection::open(portal, Some((&iqn, lun)), &workload, index, &payload)?);
    }
    // Buffers of the logins are given back after a while.
    std::thread::sleep(Duration::from_secs(2));
    let (cpu, with) = (cpu_seconds(&pid)?, resident_kib(&pid)?);
    std::thread::sleep(Duration::from_secs(2));
    let used = cpu_seconds(&pid)? - cpu;
    println!(
        "idle\tsessions={count}\tbefore_kib={before}\twith_kib={with}\teach_kib={:.1}\tcpu={used:.3}",
        (with as f64 - before as f64) / count as f64
    );
    drop(sessions);
    Ok(())
}

/// Resident memory of a process.
fn resident_kib(pid: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// What a workload came to.
struct Figures {
    seconds: f64,
    commands: u64,
    failed: u64,
    /// Processor seconds of the target, and of ourselves.
    target_cpu: f64,
    own_cpu: f64,
    times_ns: Vec<u32>,
}

impl Figures {
    fn line(mut self, workload: &Workload) -> String {
        self.times_ns.sort_unstable();
        let quantile = |share: f64| {
            let at = ((self.times_ns.len() as f64 * share) as usize).min(self.times_ns.len().saturating_sub(1));
            self.times_ns.get(at).map_or(0.0, |ns| f64::from(*ns) / 1000.0)
        };
        format!(
            "workload={}\tseconds={:.3}\tcommands={}\tfailed={}\tcpu={:.3}\town_cpu={:.3}\tp50_us={:.1}\tp99_us={:.1}\tp999_us={:.1}",
            workload.name,
            self.seconds,
            self.commands,
            self.failed,
            self.target_cpu,
            self.own_cpu,
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
        )
    }
}

/// Processor seconds that a process has used, all its threads together: fields 14 and 15 of its `stat`.
pub(crate) fn cpu_seconds(pid: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let (_, fields) = stat.rsplit_once(") ").context("no process name")?;
    let ticks = |at: usize| fields.split(' ').nth(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Ok((ticks(11) + ticks(12)) as f64 / per_second as f64)
}

/// Where the load goes and for how long.
struct Plan<'a> {
    portal: SocketAddr,
    target: Option<(&'a str, u16)>,
    pid: Option<u32>,
    time: Duration,
    /// Write every block first.
    fill: bool,
}

fn measure(plan: &Plan<'_>, workload: &Workload, payload: &Bytes) -> Result<Figures> {
    let Plan { portal, target, pid, time, fill } = *plan;
    if fill && let Some((iqn, lun)) = target {
        crate::connection::fill(portal, iqn, lun)?;
    }
    let mut connections = Vec::new();
    for index in 0..workload.sessions {
        connections.push(Connection::open(portal, target, workload, index, payload)?);
    }
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let wanted = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
    for (index, connection) in connections.iter().enumerate() {
        epoll::add(&poll, &connection.stream, epoll::EventData::new_u64(index as u64), wanted)?;
    }
    let process = pid.map(|pid| pid.to_string());
    let cpu = || process.as_deref().map_or(Ok(0.0), cpu_seconds);
    let mut times_ns: Vec<u32> = Vec::with_capacity(MOST_TIMES);
    let (mut commands, mut now) = (0, Instant::now());
    let mut started = now + WARM_UP;
    let mut counting = false;
    let (mut target_before, mut own_before) = (0.0, 0.0);
    for connection in &mut connections {
        connection.issue(workload, now);
        connection.send()?;
    }
    let mut again: Vec<usize> = Vec::new();
    loop {
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 256];
        let patience = Timespec { tv_sec: 0, tv_nsec: if again.is_empty() { 50_000_000 } else { 0 } };
        let count = match epoll::wait(&poll, &mut events[..], Some(&patience)) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let mut turns = std::mem::take(&mut again);
        for event in &events[..count] {
            let index = { event.data }.u64() as usize;
            if !turns.contains(&index) {
                turns.push(index);
            }
        }
        now = Instant::now();
        if !counting && now >= started {
            counting = true;
            (started, commands) = (now, 0);
            times_ns.clear();
            (target_before, own_before) = (cpu()?, cpu_seconds("self")?);
        }
        if counting && now - started >= time {
            break;
        }
        for index in turns {
            let connection = &mut connections[index];
            let more = connection.receive(workload, |begun| {
                commands += 1;
                if times_ns.len() < MOST_TIMES {
                    times_ns.push((now - begun).as_nanos().min(u32::MAX.into()) as u32);
                }
            })?;
            if more {
                again.push(index);
            }
            connection.issue(workload, Instant::now());
            connection.send()?;
        }
    }
    ensure!(commands > 0, "nothing was answered");
    Ok(Figures {
        seconds: (now - started).as_secs_f64(),
        commands,
        failed: connections.iter().map(|connection| connection.failed).sum(),
        target_cpu: cpu()? - target_before,
        own_cpu: cpu_seconds("self")? - own_before,
        times_ns,
    })
}
