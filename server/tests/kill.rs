//! The process is killed before each of its writes in turn: what is there afterwards is the old or the new
//! configuration, never another.
//!
//! strace delivers SIGKILL at the N-th write, sync, rename and so on of each kind, for every N that a change comes to.
//! What a loss of power makes of the writes before it is the matter of `power.rs` and of the tests in `config_store`.

mod common;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::Host;
use common::changes::{CHANGES, furnish};
use common::served::Served;
use common::watch::{Watch, unable};

/// The system calls that change something outside the process, or promise that something has been changed.
const CALLS: &str = "write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range,ftruncate,fallocate,\
                     rename,renameat,renameat2,unlink,unlinkat,link,linkat,sendto,sendmsg,fchmod,fchown";

/// How many hosts are tried at a time.
const AT_A_TIME: usize = 4;

/// All that is configured, and the identities beside the data.
fn configuration(host: &Host) -> String {
    let here = host.path().display().to_string();
    let export = host.output("lunette config export --with-secrets");
    format!("{export}\n{}", host.output("stmfadm list-lu -v")).replace(&here, "")
}

/// How often the busiest thread made each call, by what strace wrote down.
fn counts(trace: &Path) -> BTreeMap<String, usize> {
    let mut of_threads: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in std::fs::read_to_string(trace).unwrap().lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        if let Some((call, _)) = rest.trim_start().split_once('(')
            && call.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        {
            *of_threads.entry((call.to_owned(), thread.to_owned())).or_default() += 1;
        }
    }
    let mut counts = BTreeMap::new();
    for ((call, _), times) in of_threads {
        let most = counts.entry(call).or_insert(0);
        *most = times.max(*most);
    }
    counts
}

fn inject(call: &str, number: usize) -> String {
    format!("inject={call}:signal=KILL:when={number}")
}

/// One way to carry out a change in a process under strace.
trait Way: Sync {
    /// The configuration, found by a process of this kind that starts after the other has ended.
    fn look(&self, host: &Host) -> String;
    /// Carries `line` out, whole, and writes its calls down in `trace`.
    fn record(&self, host: &Host, line: &str, trace: &Path);
    /// Carries `line` out with this option of strace; whether it was acknowledged.
    fn attempt(&self, host: &Host, line: &str, injection: &str) -> bool;
}

/// Kills at every call of every kind of change.
fn kill_everywhere(way: &dyn Way) {
    if let Some(reason) = unable() {
        eprintln!("skipped: {reason}; Debian's package is strace, and ptrace must be allowed");
        return;
    }
    for (name, line) in CHANGES {
        let whole = furnish();
        let old = way.look(&whole);
        let trace = whole.path().join("trace");
        way.record(&whole, line, &trace);
        let new = way.look(&whole);
        assert_ne!(old, new, "{name} changes nothing");
        let points: Vec<(String, usize)> =
            counts(&trace).into_iter().flat_map(|(call, most)| (1..=most).map(move |n| (call.clone(), n))).collect();
        let (next, kept, made) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(|| {
                    while let Some((call, number)) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let host = furnish();
                        let acknowledged = way.attempt(&host, line, &inject(call, *number));
                        let found = way.look(&host);
                        let point = format!("{name}, killed at {call} number {number}");
                        assert!(found == old || found == new, "{point}: neither old nor new:\n{found}");
                        assert!(found == new || !acknowledged, "{point}: what was acknowledged is gone");
                        if found == old { &kept } else { &made }.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let (kept, made) = (kept.into_inner(), made.into_inner());
        eprintln!("{name}: killed at {} calls, {kept} times it is the old, {made} times the new", points.len());
        assert!(kept >= 3, "{name}: the change was hardly interrupted");
    }
}

/// The command alone, on the state directory.
struct Alone;

impl Alone {
    fn run(host: &Host, line: &str, options: &[&str]) -> bool {
        let mut words = line.split(' ');
        let status = Command::new("strace")
            .args(["-f", "-qq", "-e", "signal=none"])
            .args(options)
            .arg(host.path().join(words.next().unwrap()))
            .args(words)
            .current_dir(host.path())
            .env("LUNETTE_STATE", host.state())
            .env("LUNETTE_SOCKET", host.socket())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success() || status.signal() == Some(9), "{line}: {status}");
        status.success()
    }
}

impl Way for Alone {
    fn look(&self, host: &Host) -> String {
        configuration(host)
    }

    fn record(&self, host: &Host, line: &str, trace: &Path) {
        let trace = trace.to_str().unwrap();
        assert!(Self::run(host, line, &["-o", trace, "-e", &format!("trace={CALLS}")]), "{line}");
    }

    fn attempt(&self, host: &Host, line: &str, injection: &str) -> bool {
        let traced = format!("trace={CALLS}");
        Self::run(host, line, &["-o", "/dev/null", "-e", &traced, "-e", injection])
    }
}

/// The server, which the command asks.
struct AtWork;

impl AtWork {
    fn run(host: &Host, line: &str, options: &[&str]) -> bool {
        let served = Served::start(host);
        let watch = Watch::attach(&served, options);
        let outcome = host.run(line);
        assert!(
            outcome.status == 0 || outcome.stderr.contains("hint: "),
            "{line}: the command does not say what happened: {outcome:?}"
        );
        drop(served);
        drop(watch);
        outcome.status == 0
    }
}

impl Way for AtWork {
    fn look(&self, host: &Host) -> String {
        let _served = Served::start(host);
        configuration(host)
    }

    fn record(&self, host: &Host, line: &str, trace: &Path) {
        let trace = trace.to_str().unwrap();
        assert!(Self::run(host, line, &["-o", trace, "-e", &format!("trace={CALLS}")]), "{line}");
    }

    fn attempt(&self, host: &Host, line: &str, injection: &str) -> bool {
        let traced = format!("trace={CALLS}");
        Self::run(host, line, &["-o", "/dev/null", "-e", &traced, "-e", injection])
    }
}

#[test]
fn a_command_killed_at_any_write_leaves_the_old_or_the_new_configuration() {
    kill_everywhere(&Alone);
}

#[test]
fn a_server_killed_at_any_write_leaves_the_old_or_the_new_configuration() {
    kill_everywhere(&AtWork);
}
