//! The power goes at any moment of a change: what is on the medium then is the old or the new configuration, never
//! another, and it opens without a question.
//!
//! strace writes down what a command does to its files; a model of the promises that a file system makes
//! (`common/crashed.rs`) enumerates what a loss of power may leave of that, in every order; each is opened. That the end
//! of the process alone does no harm is the matter of `kill.rs`.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::Host;
use common::calls::{self, Call};
use common::changes::{CHANGES, furnish};
use common::crashed::{self, Tree};
use common::served::Served;
use common::watch::{recorded, unable};
use lu_sbd::meta::Identity;
use lunette_server::admin::{Answer, Engine, Request};
use lunette_server::config_store::ConfigStore;

/// Longer files are data of units, which no change of the configuration writes to.
const LONGEST: u64 = 4 << 20;
/// How many states are opened at a time.
const AT_A_TIME: usize = 2;

/// Runs a command under strace; what it did to the files of the host.
fn record(host: &Host, line: &str) -> Result<Vec<Call>, String> {
    let root = host.path().to_owned();
    let before: Vec<(PathBuf, u64)> =
        crashed::tree(&root, u64::MAX).into_iter().map(|(path, bytes)| (path, bytes.len() as u64)).collect();
    let trace = root.join("trace");
    let mut words = line.split(' ');
    let status = Command::new("strace")
        .args(["-f", "-qq", "-xx", "-s", "2000000", "-e", "signal=none", "-e"])
        .arg(format!("trace={}", calls::TRACED))
        .arg("-o")
        .arg(&trace)
        .arg(root.join(words.next().unwrap()))
        .args(words)
        .current_dir(&root)
        .env("LUNETTE_STATE", host.state())
        .env("LUNETTE_SOCKET", host.socket())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("no strace: {error}"))?;
    let text = std::fs::read_to_string(&trace).unwrap_or_default();
    if text.is_empty() {
        return Err(format!("strace cannot trace here: {status}"));
    }
    assert!(status.success(), "{line}: {status}");
    std::fs::remove_file(&trace).unwrap();
    let length = |path: &Path| before.iter().find(|(known, _)| known == path).map(|(_, length)| *length);
    Ok(calls::read(&text, &root, length, HashMap::new()))
}

/// What is configured in a state directory, as a document.
fn configuration(state: &Path) -> Result<String, String> {
    let mut engine = Engine::open(state).map_err(|error| format!("{error}\nhint: {}", error.hint()))?;
    match engine.execute(Request::ExportConfiguration { with_secrets: true }) {
        Ok(Answer::Document(document)) => Ok(document),
        other => Err(format!("{other:?}")),
    }
}

/// The identities beside the data, by file.
fn identities(tree: &Tree) -> Vec<(PathBuf, Result<Identity, String>)> {
    let records = tree.iter().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "lu"));
    let read = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        Identity::from_record(text).map_err(|error| error.to_string())
    };
    records.map(|(path, bytes)| (path.clone(), read(bytes))).collect()
}

/// A state as it is found after the power is back.
#[derive(PartialEq, Debug)]
struct Found {
    configuration: Result<String, String>,
    identities: Vec<(PathBuf, Result<Identity, String>)>,
}

fn find(tree: &Tree) -> Found {
    let place = tempfile::tempdir().unwrap();
    crashed::furnish(place.path(), tree);
    // What is there before the first start.
    std::fs::create_dir_all(place.path().join("state")).unwrap();
    Found { configuration: configuration(&place.path().join("state")), identities: identities(tree) }
}

/// Opens every state; gives how many there were, and how many held the old and the new.
fn judge(name: &str, before: &Tree, calls: &[Call]) -> [usize; 3] {
    let matters = |path: &Path| {
        let is_record = path.extension().is_some_and(|extension| extension == "lu");
        is_record || (path.starts_with("state") && !path.ends_with("audit.log") && !path.ends_with("lock"))
    };
    let states = crashed::states(before, calls, matters);
    let old = find(before);
    let last = states.iter().rfind(|(_, is_whole)| *is_whole).map(|(tree, _)| find(tree)).unwrap();
    let new = last.configuration.clone();
    let (next, kept, made) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some((tree, is_whole)) = states.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = find(tree);
                    let is_old = found.configuration == old.configuration;
                    let is_new = found.configuration == new;
                    let files: Vec<_> = tree.iter().map(|(path, bytes)| (path, bytes.len())).collect();
                    assert!(is_old || is_new, "{name}: neither old nor new: {:?}\n{files:?}", found.configuration);
                    assert!(is_new || !is_whole, "{name}: what was acknowledged is gone: {files:?}");
                    for (path, identity) in &found.identities {
                        let known = old.identities.iter().chain(&last.identities);
                        let is_known = known.filter(|(of, _)| of == path).any(|(_, known)| known == identity);
                        assert!(is_known, "{name}: {} is neither old nor new: {identity:?}", path.display());
                    }
                    // What is configured has its identity; with the old configuration that is what was there before.
                    let needed = if is_new { &last.identities } else { &old.identities };
                    for (path, _) in needed {
                        let is_there = found.identities.iter().any(|(of, _)| of == path);
                        let was_there = old.identities.iter().any(|(of, _)| of == path);
                        assert!(is_there || !(is_new || was_there), "{name}: {} is gone", path.display());
                    }
                    if found == old { &kept } else { &made }.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    [states.len(), kept.into_inner(), made.into_inner()]
}

#[test]
fn power_lost_at_any_write_in_any_order_leaves_the_old_or_the_new_configuration() {
    let mut sum = 0;
    for (name, line) in CHANGES {
        let host = furnish();
        let before = crashed::tree(host.path(), LONGEST);
        let calls = match record(&host, line) {
            Ok(calls) => calls,
            Err(reason) => {
                return eprintln!("skipped: {reason}; Debian's package is strace, and ptrace must be allowed");
            }
        };
        let [states, kept, made] = judge(name, &before, &calls);
        eprintln!("{name}: {} calls, {states} states, {kept} times it is the old, {made} times the new", calls.len());
        assert!(kept > 0 && made > 0, "{name}: the change was hardly interrupted");
        sum += states;
    }
    eprintln!("{sum} states in all");
}

#[test]
fn power_lost_at_any_write_of_a_server_at_work_leaves_the_old_or_the_new_configuration() {
    if let Some(reason) = unable() {
        return eprintln!("skipped: {reason}; Debian's package is strace, and ptrace must be allowed");
    }
    let mut sum = 0;
    for (name, line) in CHANGES {
        let host = furnish();
        let served = Served::start(&host);
        let (before, calls) = recorded(&host, &served, LONGEST, || drop(host.output(line)));
        drop(served);
        let [states, kept, made] = judge(name, &before, &calls);
        eprintln!("{name}: {} calls, {states} states, {kept} times it is the old, {made} times the new", calls.len());
        assert!(kept > 0 && made > 0, "{name}: the change was hardly interrupted");
        sum += states;
    }
    eprintln!("{sum} states in all");
}

#[test]
fn power_lost_while_the_first_configuration_is_made_leaves_an_empty_one() {
    let host = Host::new();
    std::fs::create_dir(host.state()).unwrap();
    let before = crashed::tree(host.path(), LONGEST);
    let calls = match record(&host, "stmfadm list-lu") {
        Ok(calls) => calls,
        Err(reason) => return eprintln!("skipped: {reason}; Debian's package is strace, and ptrace must be allowed"),
    };
    let [states, ..] = judge("the first start", &before, &calls);
    eprintln!("the first start: {} calls, {states} states", calls.len());
    assert!(states > 10, "{calls:?}");
}

/// A damaged file is refused, with the repair as the remedy, before and amid a repair; afterwards what was kept is there.
#[test]
fn power_lost_amid_a_repair_leaves_the_damaged_file_or_what_was_kept() {
    let host = furnish();
    let file = host.state().join("config.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    // In the middle of some page that is in use: found by trying.
    let at = (4096..bytes.len()).step_by(512).find(|at| {
        let mut damaged = bytes.clone();
        damaged[at + 16] ^= 0xff;
        std::fs::write(&file, &damaged).unwrap();
        matches!(ConfigStore::check(&host.state()), Err(lunette_server::config_store::StoreError::Corrupt { .. }))
    });
    bytes[at.expect("a byte that matters") + 16] ^= 0xff;
    std::fs::write(&file, &bytes).unwrap();
    let before = crashed::tree(host.path(), LONGEST);
    let calls = match record(&host, "lunette config check --repair") {
        Ok(calls) => calls,
        Err(reason) => return eprintln!("skipped: {reason}; Debian's package is strace, and ptrace must be allowed"),
    };
    let states = crashed::states(&before, &calls, |path| path.starts_with("state") && !path.ends_with("lock"));
    let new = find(&states.iter().rfind(|(_, is_whole)| *is_whole).unwrap().0).configuration;
    assert!(new.is_ok(), "{new:?}");
    let (mut refused, mut kept) = (0, 0);
    // What a damaged file says takes long to find out, and is the same each time.
    let mut known = BTreeMap::new();
    for (tree, is_whole) in &states {
        let found = known.entry(tree.get(Path::new("state/config.redb"))).or_insert_with(|| find(tree).configuration);
        match found.clone() {
            Err(words) => {
                assert!(words.contains("lunette config check --repair"), "{words}");
                assert!(!is_whole, "what was repaired is damaged");
                // The damaged file is as it was: a backup's place, and another repair's.
                assert_eq!(tree.get(Path::new("state/config.redb")), Some(&bytes));
                refused += 1;
            }
            found => {
                assert_eq!(found, new);
                let aside = tree.iter().any(|(path, old)| path.to_string_lossy().contains("damaged") && *old == bytes);
                assert!(aside || !is_whole, "the damaged file is not kept beside the new one");
                kept += 1;
            }
        }
    }
    eprintln!(
        "repair: {} calls, {} states, {refused} times it is the damaged file, {kept} times what was kept",
        calls.len(),
        states.len()
    );
    assert!(refused > 0 && kept > 0);
}

#[test]
fn a_trace_is_read() {
    let trace = "7 openat(AT_FDCWD, \"\\x2f\\x72\\x2f\\x61\", O_RDWR|O_CREAT, 0600) = 3\n\
                 7 write(3, \"\\x68\\x69\", 2) = 2\n\
                 8 pwrite64(3, \"\\x21\", 1, 512 <unfinished ...>\n\
                 7 fsync(3)                   = 0\n\
                 8 <... pwrite64 resumed>)           = 1\n\
                 7 rename(\"\\x2f\\x72\\x2f\\x61\", \"\\x62\") = 0\n\
                 7 write(2, \"\\x21\", 1) = 1\n\
                 7 pwritev2(9, [{iov_base=\"\\x31\", iov_len=1}], 1, 4096, RWF_DSYNC) = 1\n";
    let path = |name: &str| PathBuf::from(name);
    let expected = [
        Call::Create(path("a")),
        Call::Write(path("a"), 0, b"hi".to_vec()),
        Call::Sync(path("a")),
        Call::Write(path("a"), 512, b"!".to_vec()),
        Call::Rename(path("a"), path("b")),
        Call::Write(path("c"), 4096, b"1".to_vec()),
        Call::SyncRange(path("c"), 4096, 1),
    ];
    assert_eq!(calls::read(trace, Path::new("/r"), |_| None, HashMap::from([(9, PathBuf::from("/r/c"))])), expected);
}
