//! The audit log: who changed what, and who logged in, or tried to, in a file of the state directory.
//!
//! Lines of administrators are written before their commands are answered. Those of logins come from threads that must
//! not wait, and at a pace that a stranger sets: they are queued, written by the pool of threads that may wait, and
//! limited, so that nobody can fill the disk or push the older lines out in less than weeks. Secrets never stand here.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use iscsit::Notice;

use crate::driver::{Blocking, BlockingJob};

/// Where audit lines go among the log's targets: `--log warn,lunette::audit=info` shows them alone.
pub(crate) const TARGET: &str = "lunette::audit";
/// At this size the file becomes `audit.log.1`, that one `audit.log.2` and so on.
const MAX_BYTES: u64 = 16 << 20;
/// How many older files are kept.
const OLDER_FILES: u32 = 9;
/// Bytes of a line; what a peer called itself cannot make it longer.
const MAX_LINE_BYTES: usize = 1024;
/// Who logs logins.
const ISCSI: &str = "iscsi";

/// The audit log in a state directory: of changes that a server made, of those that commands made without one, and of
/// logins.
#[derive(Debug, Default)]
pub(crate) struct AuditLog {
    /// `None`: nothing is kept.
    path: Option<PathBuf>,
    /// Held while a line is written: the file may become an older one.
    order: Mutex<()>,
}

impl AuditLog {
    /// The log in a state directory.
    pub(crate) fn of(state: &Path) -> Self {
        Self { path: Some(state.join("audit.log")), order: Mutex::default() }
    }

    /// Logs what an administrator did, here and in the program's own log.
    pub(crate) fn lines_by(&self, who: &str, lines: &[String]) {
        for line in lines {
            tracing::info!(target: TARGET, "{who}: {line}");
        }
        self.write(&lines.iter().map(|line| stamped(who, line)).collect::<String>());
    }

    /// Writes whole lines.
    fn write(&self, lines: &str) {
        let Some(path) = &self.path else { return };
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = append(path, lines) {
            tracing::warn!("cannot write {}: {error}", path.display());
        }
    }
}

fn stamped(who: &str, line: &str) -> String {
    format!("{} {who}: {}\n", jiff::Timestamp::now(), one_line(line))
}

/// The text as one line of bounded length: what a peer sends cannot look like a line of its own.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if line.len() >= MAX_LINE_BYTES {
            line.push_str("...");
            break;
        }
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

fn append(path: &Path, lines: &str) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() >= MAX_BYTES) {
        let older = |number: u32| path.with_extension(format!("log.{number}"));
        for number in (1..OLDER_FILES).rev() {
            if older(number).exists() {
                fs::rename(older(number), older(number + 1))?;
            }
        }
        fs::rename(path, older(1))?;
    }
    let mut file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    if let Some(state) = path.parent() {
        crate::config_store::give_to_owner(&file, state);
    }
    file.write_all(lines.as_bytes())
}

/// Logins, refused ones and endings of sessions on their way to the audit log. Never waits.
pub(crate) struct LoginLog {
    file: Arc<AuditLog>,
    pool: Blocking,
    queue: Mutex<Queue>,
}

impl std::fmt::Debug for LoginLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginLog").field("file", &self.file).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Queue {
    refused: Allowance,
    others: Allowance,
    lines: VecDeque<String>,
    /// A thread of the pool is at it.
    is_writing: bool,
}

impl LoginLog {
    /// The way to `file`, by threads of `pool`.
    pub(crate) fn new(file: Arc<AuditLog>, pool: Blocking) -> Self {
        let queue = Queue {
            // What a stranger can cause: 14 MiB a week at the most.
            refused: Allowance::new(64, Duration::from_secs(10)),
            // All hosts of a large site may come back at once.
            others: Allowance::new(8192, Duration::from_secs(1)),
            lines: VecDeque::new(),
            is_writing: false,
        };
        Self { file, pool, queue: Mutex::new(queue) }
    }

    /// Logs it, if its kind has not used its allowance up.
    pub(crate) fn tell(self: &Arc<Self>, now: Instant, notice: &Notice) {
        let mut queue = self.lock();
        let (allowance, kind) = if notice.is_warning() {
            (&mut queue.refused, "refused logins")
        } else {
            (&mut queue.others, "logins and endings of sessions")
        };
        let Some(left_out) = allowance.take(now) else { return };
        if left_out > 0 {
            queue.lines.push_back(stamped(ISCSI, &format!("{left_out} {kind} are left out here")));
        }
        queue.lines.push_back(stamped(ISCSI, &notice.to_string()));
        if !queue.is_writing {
            queue.is_writing = true;
            drop(queue);
            let this = Arc::clone(self);
            self.pool.submit(BlockingJob::Other(Box::new(move || this.write())));
        }
    }

    fn write(&self) {
        loop {
            let lines: String = {
                let mut queue = self.lock();
                if queue.lines.is_empty() {
                    queue.is_writing = false;
                    return;
                }
                queue.lines.drain(..).collect()
            };
            self.file.write(&lines);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many lines at once, and one more each so often.
#[derive(Debug)]
struct Allowance {
    burst: u32,
    each: Duration,
    left: u32,
    /// Since when the next one is being earned.
    since: Option<Instant>,
    left_out: u64,
}

impl Allowance {
    const fn new(burst: u32, each: Duration) -> Self {
        Self { burst, each, left: burst, since: None, left_out: 0 }
    }

    /// Whether to write one now; the value counts those left out since the last one.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let since = *self.since.get_or_insert(now);
        let earned = now.saturating_duration_since(since).as_nanos() / self.each.as_nanos().max(1);
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(earned).min(self.burst);
        // What is half earned stays half earned.
        self.since = Some(if self.left == self.burst { now } else { since + self.each * earned });
        if self.left == 0 {
            self.left_out += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{BlockingPool, Limits};

    fn refused(name: &str) -> Notice {
        Notice::LoginRefused {
            initiator: Some(name.into()),
            target: None,
            peer: ([192, 0, 2, 7], 50000).into(),
            portal: ([192, 0, 2, 1], 3260).into(),
            status: None,
            reason: "it is a test".into(),
        }
    }

    #[test]
    fn an_allowance_is_used_up_and_earned_again() {
        let mut allowance = Allowance::new(3, Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!((0..10).filter_map(|_| allowance.take(at(0))).count(), 3);
        assert_eq!(allowance.take(at(9)), None);
        assert_eq!(allowance.take(at(10)), Some(8));
        assert_eq!(allowance.take(at(19)), None);
        assert_eq!(allowance.take(at(21)), Some(1));
        // Never more than the burst, however long nothing came.
        assert_eq!((0..10).filter_map(|_| allowance.take(at(1_000_000))).count(), 3);
    }

    #[test]
    fn a_flood_of_refused_logins_leaves_few_lines_and_their_number() {
        let state = tempfile::tempdir().unwrap();
        let file = Arc::new(AuditLog::of(state.path()));
        let pool = BlockingPool::new(&Limits::default());
        let log = Arc::new(LoginLog::new(Arc::clone(&file), pool.handle()));
        let start = Instant::now();
        for number in 0..10_000 {
            log.tell(start, &refused(&format!("stranger {number}")));
        }
        log.tell(start + Duration::from_secs(10), &refused("the last one"));
        drop(pool);
        let text = fs::read_to_string(state.path().join("audit.log")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 64 + 2, "{text}");
        assert!(lines[0].contains(" iscsi: refused login of stranger 0 from 192.0.2.7:50000"), "{text}");
        assert!(lines[64].ends_with(" iscsi: 9936 refused logins are left out here"), "{text}");
        assert!(lines[65].contains("the last one"), "{text}");
    }

    #[test]
    fn what_a_peer_is_called_is_one_short_line() {
        let state = tempfile::tempdir().unwrap();
        let file = AuditLog::of(state.path());
        let named = |name: &str| refused(name).to_string();
        let evil = named("a\n2026-11-22 user 0: host group evil is created\u{1b}[2J");
        file.lines_by("iscsi", &[evil, named(&"ü".repeat(100_000))]);
        let text = fs::read_to_string(state.path().join("audit.log")).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("a\\n2026-11-22 user 0") && text.len() < 2 * MAX_LINE_BYTES, "{text}");
    }

    #[test]
    fn a_full_file_becomes_the_first_of_a_few_older_ones() {
        let state = tempfile::tempdir().unwrap();
        let file = AuditLog::of(state.path());
        let path = state.path().join("audit.log");
        for number in 0..OLDER_FILES + 5 {
            file.lines_by("user 0", &[format!("change {number}")]);
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(MAX_BYTES).unwrap();
        }
        file.lines_by("user 0", &["the last change".into()]);
        let begins = |name: String| {
            let bytes = fs::read(state.path().join(name)).unwrap();
            String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned()
        };
        assert!(begins("audit.log".into()).contains("the last change"));
        for number in 1..=OLDER_FILES {
            let change = format!("change {}", OLDER_FILES + 5 - number);
            assert!(begins(format!("audit.log.{number}")).contains(&change), "{number}");
        }
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1 + OLDER_FILES as usize);
    }
}
