//! Running iscsi-test-cu: every test a process of its own, and its words made a verdict.

use super::disk::{DISKS, Disk};
use crate::interop::target::{Kind, Target};
use crate::process::{Finished, capture, run_limited, tethered};
use crate::scratch::Scratch;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Size of the LU: what the suite's tests near 2^n boundaries and of large transfers expect to find.
pub(crate) const LU_BYTES: u64 = 512 << 20;

/// How long one test may take. The slowest need 3 seconds on an idle machine.
const TEST_LIMIT: Duration = Duration::from_secs(60);

/// The flags of every run, as the table's head shows them.
pub(crate) const FLAGS: &[&str] = &["--dataloss", "--allow-sanitize", "--Verbose-scsi"];

/// How a test ended, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Ran and found nothing wrong.
    Passed,
    /// Printed `[SKIPPED]`, wholly or for a part of it; CUnit counts that as passed, we do not.
    Skipped,
    /// An assertion failed, or the program ended without a result.
    Failed,
    /// Did not end within the limit.
    Hung,
    /// The test program or the target died.
    Crashed,
}

impl Verdict {
    const ALL: [Self; 5] = [Self::Passed, Self::Skipped, Self::Failed, Self::Hung, Self::Crashed];

    fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Hung => "hung",
            Self::Crashed => "crashed",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.word() == word)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One test's end.
#[derive(Debug)]
pub(crate) struct TestResult {
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    /// The line of the suite that says most about it; empty for a pass.
    pub(crate) reason: String,
    pub(crate) output: String,
    pub(crate) elapsed: Duration,
}

/// One pass over the suite, on every kind of LU.
#[derive(Debug)]
pub(crate) struct Run {
    /// Version of the package that brings the suite.
    pub(crate) suite_version: String,
    pub(crate) target_version: String,
    /// Results by kind of LU, in the order of [`DISKS`].
    pub(crate) disks: Vec<(Disk, Vec<TestResult>)>,
}

impl Run {
    /// The results of one test: the kind and its result, where the test is for the kind.
    pub(crate) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Disk, &'a TestResult)> {
        self.disks.iter().filter_map(move |(disk, results)| {
            results.iter().find(|result| result.name == name).map(|result| (disk, result))
        })
    }

    /// Names of all tests, in the order of their names.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        self.disks.iter().flat_map(|(_, results)| results.iter().map(|result| result.name.as_str())).collect()
    }

    /// How a test ended in total: it passes when it passed on a kind and did no worse than being skipped on the others.
    pub(crate) fn total(&self, name: &str) -> Verdict {
        merged(self.of(name).map(|(_, result)| result.verdict))
    }

    /// The words about a test that passed on no kind: those of the first result that is as bad as the total.
    pub(crate) fn reason(&self, name: &str) -> String {
        let total = self.total(name);
        let told = self.of(name).find(|(_, result)| result.verdict == total);
        told.map(|(_, result)| result.reason.clone()).unwrap_or_default()
    }
}

/// The total of results on several kinds of LU.
pub(crate) fn merged(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    let (mut best, mut worst) = (Verdict::Crashed, Verdict::Passed);
    for verdict in verdicts {
        best = best.min(verdict);
        worst = worst.max(verdict);
    }
    if worst <= Verdict::Skipped { best.min(worst) } else { worst }
}

/// How many kinds are at work at a time: the suite's programs wait more than they work.
const AT_A_TIME: usize = 3;

/// Runs the suite on the kinds of LU that the target has: all for ours, the plain thin one for others.
///
/// # Errors
/// Of [`run_on`], the first that there is.
pub(crate) fn run(kind: Kind, names: &[String]) -> Result<Run> {
    let disks = if kind == Kind::Lunette { DISKS } else { &DISKS[..1] };
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(disks.len()) {
            scope.spawn(|| {
                while let Some(disk) = disks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let results = run_on(kind, disk, names);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((*disk, results));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(disk, _)| DISKS.iter().position(|known| known == disk));
    let disks = done.into_iter().map(|(disk, results)| Ok((disk, results?))).collect::<Result<Vec<_>>>()?;
    ensure!(disks.iter().any(|(_, results)| !results.is_empty()), "iscsi-test-cu has no such test");
    let suite_version = capture("dpkg-query", &["-W", "-f", "${Version}", "libiscsi-bin"]).unwrap_or_default();
    Ok(Run { suite_version, target_version: kind.version(), disks })
}

/// Runs the tests that are for this kind of LU and whose name contains one of `names`, or is equal to one given as
/// `=NAME`; all of them without any.
///
/// One target serves them all, so that what a test leaves behind shows in the next; it is started afresh only when a
/// test hung or the target died.
///
/// # Errors
/// The target does not start, or there is no suite.
pub(crate) fn run_on(kind: Kind, disk: &Disk, names: &[String]) -> Result<Vec<TestResult>> {
    let list = capture("iscsi-test-cu", &["--list"])?;
    let wanted = |test: &&str| {
        disk.wants(test.trim_start_matches("ALL."))
            && (names.is_empty()
                || names.iter().any(|name| {
                    name.strip_prefix('=').map_or_else(|| test.contains(name.as_str()), |name| *test == name)
                }))
    };
    let tests: Vec<&str> = individual_tests(&list).filter(wanted).collect();
    if tests.is_empty() {
        return Ok(Vec::new());
    }
    let start = || match kind {
        Kind::Lunette => Target::start_disk(LU_BYTES, disk.properties),
        Kind::Tgt => Target::start(kind, LU_BYTES),
    };
    let scratch = Scratch::new("conformance")?;
    let mut target = start()?;
    let mut results = Vec::with_capacity(tests.len());
    for name in tests {
        let finished = run_test(&scratch, name, &target.url())?;
        let (mut verdict, mut reason) = judge(&finished);
        if let Err(dead) = target.check_alive() {
            (verdict, reason) = (Verdict::Crashed, format!("{dead:#}").lines().next().unwrap_or_default().to_owned());
        }
        results.push(TestResult {
            name: name.to_owned(),
            verdict,
            reason,
            output: finished.output,
            elapsed: finished.elapsed,
        });
        if verdict >= Verdict::Hung {
            drop(target);
            target = start().with_context(|| format!("after {name} {verdict}"))?;
        }
    }
    Ok(results)
}

/// `iscsi-test-cu --list` prints families, suites and tests; every test is in the family ALL once.
fn individual_tests(list: &str) -> impl Iterator<Item = &str> {
    list.lines().map(str::trim).filter(|line| line.starts_with("ALL.") && line.matches('.').count() == 2)
}

/// Runs one test, by its full name.
pub(crate) fn run_test(scratch: &Scratch, name: &str, url: &str) -> Result<Finished> {
    // The second URL is the second path that the multipath tests want: another session, with an ISID of its own.
    // A line at a time, or the words of a test that is killed would die in its buffer.
    let mut command = tethered("stdbuf");
    command.args(["-oL", "-eL", "iscsi-test-cu"]).args(FLAGS).args(["--test", name, url, url]);
    run_limited(name, command, TEST_LIMIT, &scratch.join("test.log"))
}

/// What became of a test.
pub(crate) fn judge(finished: &Finished) -> (Verdict, String) {
    let output = &finished.output;
    let Some(status) = finished.status else {
        let last = output.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        return (Verdict::Hung, format!("last word: {last}"));
    };
    if let Some(signal) = status.signal() {
        let died = format!("iscsi-test-cu died of signal {signal}");
        // One that had counted its failed assertions and died of its own clean-up has told its result before.
        return match (output.contains("\nFAILED\n"), line_with(output, "CU_")) {
            (true, told) if !told.is_empty() => (Verdict::Failed, told),
            _ => (Verdict::Crashed, died),
        };
    }
    match summary_line(output) {
        Ok([1, 1, 0]) if output.contains("[SKIPPED]") => (Verdict::Skipped, line_with(output, "[SKIPPED]")),
        Ok([1, 1, 0]) => (Verdict::Passed, String::new()),
        Ok([ran, passed, failed]) => {
            let told = [line_with(output, "[FAILED]"), line_with(output, "CU_")];
            let told = told.into_iter().find(|line| !line.is_empty());
            (Verdict::Failed, told.unwrap_or_else(|| format!("{ran} ran, {passed} passed, {failed} failed")))
        }
        Err(_) => {
            let last = output.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
            (Verdict::Failed, format!("no summary ({}): {last}", finished.verdict()))
        }
    }
}

/// Ran, passed and failed of CUnit's line `tests TOTAL RAN PASSED FAILED INACTIVE`.
fn summary_line(output: &str) -> Result<[u32; 3]> {
    for line in output.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("tests") {
            continue;
        }
        let numbers: Vec<u32> = words.map_while(|word| word.parse().ok()).collect();
        if let [_total, ran, passed, failed, ..] = numbers[..] {
            return Ok([ran, passed, failed]);
        }
    }
    bail!("no summary of the tests")
}

/// The first line that has `mark`, from the mark on.
fn line_with(output: &str, mark: &str) -> String {
    let line = output.lines().find_map(|line| line.find(mark).map(|at| &line[at..])).unwrap_or_default();
    // CUnit's report of a test has no line end before the suite's next words.
    let line = line.split_once(")    Send ").map_or(line, |(told, _)| &line[..told.len() + 1]);
    line.trim().trim_start_matches("[SKIPPED]").trim_start_matches("[FAILED]").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::ExitStatus;

    const SUMMARY: &str = "Run Summary:    Type  Total    Ran Passed Failed Inactive\n\
                           \x20             suites      1      1    n/a      0        0\n";

    fn finished(code: Option<i32>, output: &str) -> Finished {
        Finished { status: code.map(ExitStatus::from_raw), output: output.to_owned(), elapsed: Duration::ZERO }
    }

    fn verdict(code: Option<i32>, output: &str) -> Verdict {
        judge(&finished(code, output)).0
    }

    #[test]
    fn a_test_passes_in_total_on_one_kind_when_it_fails_on_none() {
        use Verdict::{Failed, Passed, Skipped};
        assert_eq!(merged([Skipped, Passed, Skipped]), Passed);
        assert_eq!(merged([Skipped, Skipped]), Skipped);
        assert_eq!(merged([Passed, Failed, Skipped]), Failed);
    }

    #[test]
    fn a_pass_that_printed_skipped_is_a_skip() {
        let tests = format!("{SUMMARY}    tests      1      1      1      0        0\n");
        assert_eq!(verdict(Some(0), &tests), Verdict::Passed);
        let skipped = format!("  Test: Unmap ...    [SKIPPED] Logical unit is fully provisioned.\n{tests}");
        assert_eq!(
            judge(&finished(Some(0), &skipped)),
            (Verdict::Skipped, "Logical unit is fully provisioned.".to_owned())
        );
    }

    #[test]
    fn a_failure_outweighs_a_skip() {
        let output = format!("[SKIPPED] something\n[FAILED] READ10 failed\n{SUMMARY} tests 1 1 0 1 0\n");
        assert_eq!(judge(&finished(Some(256), &output)), (Verdict::Failed, "READ10 failed".to_owned()));
    }

    #[test]
    fn no_summary_is_a_failure_and_a_signal_a_crash() {
        assert_eq!(verdict(Some(256), "iscsi-test-cu: failed to connect\n"), Verdict::Failed);
        assert_eq!(verdict(Some(11), ""), Verdict::Crashed);
        assert_eq!(verdict(None, "Send READ10\n"), Verdict::Hung);
    }

    #[test]
    fn a_death_after_the_result_leaves_the_result() {
        let output = "  Test: Async ...\nFAILED\n  1. a.c:157  - CU_ASSERT_EQUAL(done,1)\nmalloc(): corrupted\n";
        assert_eq!(judge(&finished(Some(6), output)), (Verdict::Failed, "CU_ASSERT_EQUAL(done,1)".to_owned()));
    }

    #[test]
    fn tests_are_listed_once() {
        let list = "ALL\nALL.Read10\nALL.Read10.Simple\nSCSI.Read10.Simple\n";
        assert_eq!(individual_tests(list).collect::<Vec<_>>(), ["ALL.Read10.Simple"]);
    }
}
