//! The committed table of results: Markdown that people read and `cargo xtask test` compares with.

use super::suite::{FLAGS, LU_BYTES, Run, Verdict};
use crate::interop::target::Kind;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Everything from this line on is written by hand and survives a rewrite.
const NOTES: &str = "## Notes";

/// Where the table of all tests begins; above it stand those that pass on no kind, with the suite's words.
const ALL: &str = "## All tests";

/// Results by test name.
#[derive(Debug)]
pub(crate) struct Table {
    head: String,
    /// Kinds of LU, in the order of the columns.
    disks: Vec<String>,
    rows: BTreeMap<String, Results>,
}

#[derive(Debug)]
struct Results {
    total: Verdict,
    /// What the suite said about a test that did not pass.
    reason: String,
    /// By kind of LU; `None` where the test is not for the kind.
    disks: Vec<Option<Verdict>>,
}

impl Table {
    pub(crate) fn of(kind: Kind, run: &Run) -> Self {
        let disks: Vec<String> = run.disks.iter().map(|(disk, _)| disk.name.to_owned()).collect();
        let row = |name: &str| {
            let verdict = |column: &String| run.of(name).find(|(disk, _)| disk.name == *column).map(|(_, r)| r.verdict);
            let (total, reason) = (run.total(name), run.reason(name));
            Results { total, reason, disks: disks.iter().map(verdict).collect() }
        };
        let rows = run.names().into_iter().map(|name| (short(name).to_owned(), row(name))).collect();
        let kinds: Vec<String> =
            run.disks.iter().map(|(disk, _)| format!("`{}` ({})", disk.name, disk.about)).collect();
        let head = format!(
            "# iscsi-test-cu against {name}\n\n\
             Made by `cargo xtask conformance --target {name} --write`: every test of `iscsi-test-cu` \
             (libiscsi-bin {suite}) by itself, `iscsi-test-cu {flags} --test NAME URL URL` (two paths), against \
             {version}, one target for each kind of LU: {kinds}, of {size} MiB each.\n\
             A test passes in total when it passes on a kind that it is for and fails on none. One that printed \
             `[SKIPPED]` is a skip here, though CUnit counts it as passed.{left_out}\n",
            left_out = left_out(run),
            name = kind.name(),
            suite = run.suite_version,
            flags = FLAGS.join(" "),
            version = run.target_version,
            kinds = kinds.join(", "),
            size = LU_BYTES >> 20,
        );
        Self { head, disks, rows }
    }

    /// # Errors
    /// When the file is missing or has a row that is none of ours.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("no table '{}'", path.display()))?;
        Self::parse(&text).with_context(|| format!("cannot read the table '{}'", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut rows: BTreeMap<String, Results> = BTreeMap::new();
        let mut disks = Vec::new();
        let mut all = false;
        for line in text.lines().take_while(|line| *line != NOTES) {
            if line == ALL {
                all = true;
            }
            if let Some(columns) = line.strip_prefix("| Test | Total | ") {
                disks = columns.trim_end_matches('|').split('|').map(|name| name.trim().to_owned()).collect();
            }
            let Some(cells) = line.strip_prefix("| `") else { continue };
            let mut cells = cells.splitn(3, " | ");
            let name = cells.next().unwrap_or_default().trim_end_matches('`').to_owned();
            let word = cells.next().unwrap_or_default();
            let total = Verdict::parse(word).with_context(|| format!("'{word}' is no result: {line}"))?;
            let rest = cells.next().unwrap_or_default().trim_end_matches('|').trim();
            if all {
                let reason = rows.remove(&name).map(|results| results.reason).unwrap_or_default();
                let columns = rest.split('|').map(|word| Verdict::parse(word.trim())).collect();
                rows.insert(name, Results { total, reason, disks: columns });
            } else {
                rows.insert(name, Results { total, reason: rest.to_owned(), disks: Vec::new() });
            }
        }
        ensure!(!rows.is_empty(), "it has no rows");
        Ok(Self { head: String::new(), disks, rows })
    }

    /// The result that the table has for a test on a kind of LU.
    pub(crate) fn verdict(&self, name: &str, disk: &str) -> Option<Verdict> {
        let results = self.rows.get(short(name))?;
        if self.disks.is_empty() {
            return Some(results.total);
        }
        let column = self.disks.iter().position(|known| known == disk)?;
        results.disks.get(column).copied().flatten()
    }

    /// Full names of all tests in the table.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.rows.keys().map(|name| format!("{FAMILY}{name}"))
    }

    /// How many tests ended so in total.
    fn count(&self, wanted: Verdict) -> usize {
        self.rows.values().filter(|results| results.total == wanted).count()
    }

    pub(crate) fn summary(&self) -> String {
        let count = |wanted| self.count(wanted);
        format!(
            "{} tests: {} passed, {} failed, {} skipped, {} hung, {} crashed",
            self.rows.len(),
            count(Verdict::Passed),
            count(Verdict::Failed),
            count(Verdict::Skipped),
            count(Verdict::Hung),
            count(Verdict::Crashed)
        )
    }

    /// Writes the table, keeping the notes of the file that it replaces.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let before = std::fs::read_to_string(path).unwrap_or_default();
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(path, self.render(&before)).with_context(|| format!("cannot write '{}'", path.display()))
    }

    fn render(&self, before: &str) -> String {
        let mut text = format!("{}\n**{}**\n", self.head, self.summary());
        // Those that want attention first, then the long list.
        for wanted in [Verdict::Crashed, Verdict::Hung, Verdict::Failed, Verdict::Skipped] {
            let rows: Vec<_> = self.rows.iter().filter(|(_, results)| results.total == wanted).collect();
            if rows.is_empty() {
                continue;
            }
            let count = rows.len();
            let _ = write!(text, "\n## {count} {wanted}\n\n| Test | Result | The suite's words |\n|---|---|---|\n");
            for (name, Results { total, reason, .. }) in rows {
                let _ = writeln!(text, "| `{name}` | {total} | {} |", reason.replace('|', "/"));
            }
        }
        let _ = write!(text, "\n{ALL}\n\n| Test | Total | {} |\n", self.disks.join(" | "));
        let _ = writeln!(text, "|---|---|{}", "---|".repeat(self.disks.len()));
        for (name, results) in &self.rows {
            let words: Vec<String> =
                results.disks.iter().map(|one| one.map_or_else(String::new, |verdict| verdict.to_string())).collect();
            let _ = writeln!(text, "| `{name}` | {} | {} |", results.total, words.join(" | "));
        }
        if let Some(at) = before.find(&format!("\n{NOTES}\n")) {
            text.push_str(&before[at..]);
        }
        text
    }
}

/// Which tests a kind of LU is left out of, and why.
fn left_out(run: &Run) -> String {
    let mut text = String::new();
    for (disk, _) in &run.disks {
        for (test, reason) in disk.except {
            let _ = write!(text, "\nNot for `{}`: `{test}`, which {reason}.", disk.name);
        }
    }
    text
}

const FAMILY: &str = "ALL.";

fn short(name: &str) -> &str {
    name.strip_prefix(FAMILY).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        use Verdict::{Passed, Skipped};
        let results = |total, reason: &str, disks: [Option<Verdict>; 2]| Results {
            total,
            reason: reason.to_owned(),
            disks: disks.to_vec(),
        };
        let rows = [
            ("Read10.Simple".to_owned(), results(Passed, "", [Some(Passed), None])),
            ("Unmap.Simple".to_owned(), results(Skipped, "a | b", [Some(Skipped), Some(Skipped)])),
        ];
        Table { head: "# Head\n".to_owned(), disks: vec!["thin".to_owned(), "wp".to_owned()], rows: rows.into() }
    }

    #[test]
    fn a_written_table_reads_back() {
        let read = Table::parse(&table().render("")).unwrap();
        assert_eq!(read.verdict("ALL.Read10.Simple", "thin"), Some(Verdict::Passed));
        assert_eq!(read.verdict("ALL.Read10.Simple", "wp"), None);
        assert_eq!(read.verdict("ALL.Unmap.Simple", "wp"), Some(Verdict::Skipped));
        assert_eq!(read.verdict("ALL.Unmap.Other", "thin"), None);
        assert_eq!(read.names().collect::<Vec<_>>(), ["ALL.Read10.Simple", "ALL.Unmap.Simple"]);
    }

    #[test]
    fn notes_survive_a_rewrite() {
        let before = "old\n\n## Notes\n\nUnmap: why.\n";
        let text = table().render(before);
        assert!(text.starts_with("# Head\n"));
        assert!(text.ends_with("\n## Notes\n\nUnmap: why.\n"), "{text}");
    }
}
