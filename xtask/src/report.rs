//! What is counted, and the words for it.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// Numbers of tests by outcome.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

impl Tally {
    pub(crate) const PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    pub(crate) const FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };
    pub(crate) const SKIPPED: Self = Self { passed: 0, failed: 0, skipped: 1 };

    /// Sums the `test result:` lines of libtest.
    pub(crate) fn of_libtest(output: &str) -> Self {
        let mut sum = Self::default();
        for line in output.lines() {
            let Some((_, counts)) = line.split_once("test result: ") else { continue };
            for part in counts.split([';', '.']) {
                let mut words = part.split_whitespace();
                let (Some(number), Some(word)) = (words.next(), words.next()) else { continue };
                let Ok(number) = number.parse::<u32>() else { continue };
                match word {
                    "passed" => sum.passed += number,
                    "failed" => sum.failed += number,
                    "ignored" => sum.skipped += number,
                    _ => {}
                }
            }
        }
        sum
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// "0.3 s", "12 s", "3 min 05 s".
pub(crate) fn human(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 9.95 {
        format!("{seconds:.1} s")
    } else if seconds < 119.5 {
        format!("{seconds:.0} s")
    } else {
        let whole = seconds.round() as u64;
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

/// The last `lines` lines of `text`, each behind `indent`, with a word about what was left out.
pub(crate) fn tail(text: &str, lines: usize, indent: &str) -> String {
    let all: Vec<&str> = text.lines().collect();
    let skipped = all.len().saturating_sub(lines);
    let mut out = String::new();
    if skipped > 0 {
        out.push_str(&format!("{indent}... {skipped} lines before\n"));
    }
    for line in &all[skipped..] {
        out.push_str(&format!("{indent}{line}\n"));
    }
    out
}

/// The first `lines` lines of `text` that tell what went wrong: of a run whose failures are far above its end.
pub(crate) fn gist(text: &str, lines: usize) -> String {
    const MARKS: [&str; 7] = ["FAILED", "failed", "panicked at", "error:", "error[", "Error:", "assert"];
    let telling = text.lines().filter(|line| MARKS.iter().any(|mark| line.contains(mark)));
    telling.take(lines).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gist_is_what_tells_of_failures() {
        let text = "test a ... ok\ntest b ... FAILED\nerror: 1 target failed\ntest c ... FAILED\n";
        assert_eq!(gist(text, 2), "test b ... FAILED\nerror: 1 target failed\n");
        assert_eq!(gist("test a ... ok\n", 2), "");
    }

    #[test]
    fn libtest_results_are_summed() {
        let output = "running 3 tests\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\n\
            test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.31s\n";
        assert_eq!(Tally::of_libtest(output), Tally { passed: 7, failed: 2, skipped: 1 });
    }

    #[test]
    fn the_tail_says_what_it_leaves_out() {
        assert_eq!(tail("a\nb\nc\n", 2, "  "), "  ... 1 lines before\n  b\n  c\n");
        assert_eq!(tail("a\n", 2, ""), "a\n");
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(human(Duration::from_millis(340)), "0.3 s");
        assert_eq!(human(Duration::from_secs(42)), "42 s");
        assert_eq!(human(Duration::from_secs(185)), "3 min 05 s");
    }
}
