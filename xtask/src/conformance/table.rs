//! The committed table of results: Markdown that people read and `cargo xtask test` compares with.

use super::suite::{FLAGS, LU_BYTES, Run, Verdict};
use crate::interop::target::Kind;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Everything from this line on is written by hand and survives a rewrite.
const NOTES: &str = "## Notes";

/// Results by test name.
#[derive(Debug)]
pub(crate) struct Table {
    head: String,
    rows: BTreeMap<String, (Verdict, String)>,
}

impl Table {
    pub(crate) fn of(kind: Kind, run: &Run) -> Self {
        let rows = run
            .results
            .iter()
            .map(|result| (short(&result.name).to_owned(), (result.verdict, result.reason.clone())))
            .collect();
        let head = format!(
            "# iscsi-test-cu against {name}\n\n\
             Made by `cargo xtask conformance --target {name} --write`: every test of `iscsi-test-cu` \
             (libiscsi-bin {suite}) by itself, `iscsi-test-cu {flags} --test NAME URL URL` (two paths), against {version} with one thin \
             LU of {size} MiB.\n\
             A test that printed `[SKIPPED]` is a skip here, though CUnit counts it as passed.\n",
            name = kind.name(),
            suite = run.suite_version,
            flags = FLAGS.join(" "),
            version = run.target_version,
            size = LU_BYTES >> 20,
        );
        Self { head, rows }
    }

    /// # Errors
    /// When the file is missing or has a row that is none of ours.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("no table '{}'", path.display()))?;
        Self::parse(&text).with_context(|| format!("cannot read the table '{}'", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut rows = BTreeMap::new();
        for line in text.lines().take_while(|line| *line != NOTES) {
            let Some(cells) = line.strip_prefix("| `") else { continue };
            let mut cells = cells.splitn(3, " | ");
            let name = cells.next().unwrap_or_default().trim_end_matches('`').to_owned();
            let word = cells.next().unwrap_or_default();
            let verdict = Verdict::parse(word).with_context(|| format!("'{word}' is no result: {line}"))?;
            let reason = cells.next().unwrap_or_default().trim_end_matches('|').trim().to_owned();
            rows.insert(name, (verdict, reason));
        }
        ensure!(!rows.is_empty(), "it has no rows");
        Ok(Self { head: String::new(), rows })
    }

    /// The result that the table has for a test.
    pub(crate) fn verdict(&self, name: &str) -> Option<Verdict> {
        self.rows.get(short(name)).map(|(verdict, _)| *verdict)
    }

    /// Full names of all tests in the table.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.rows.keys().map(|name| format!("{FAMILY}{name}"))
    }

    /// How many tests ended so.
    pub(crate) fn count(&self, wanted: Verdict) -> usize {
        self.rows.values().filter(|(verdict, _)| *verdict == wanted).count()
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
        let order = [Verdict::Crashed, Verdict::Hung, Verdict::Failed, Verdict::Skipped, Verdict::Passed];
        for wanted in order {
            let rows: Vec<_> = self.rows.iter().filter(|(_, (verdict, _))| *verdict == wanted).collect();
            if rows.is_empty() {
                continue;
            }
            let _ = write!(
                text,
                "\n## {} {}\n\n| Test | Result | The suite's words |\n|---|---|---|\n",
                rows.len(),
                wanted
            );
            for (name, (verdict, reason)) in rows {
                let _ = writeln!(text, "| `{name}` | {verdict} | {} |", reason.replace('|', "/"));
            }
        }
        if let Some(at) = before.find(&format!("\n{NOTES}\n")) {
            text.push_str(&before[at..]);
        }
        text
    }
}

const FAMILY: &str = "ALL.";

fn short(name: &str) -> &str {
    name.strip_prefix(FAMILY).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let rows = [
            ("Read10.Simple".to_owned(), (Verdict::Passed, String::new())),
            ("Unmap.Simple".to_owned(), (Verdict::Skipped, "a | b".to_owned())),
        ];
        Table { head: "# Head\n".to_owned(), rows: rows.into() }
    }

    #[test]
    fn a_written_table_reads_back() {
        let read = Table::parse(&table().render("")).unwrap();
        assert_eq!(read.verdict("ALL.Read10.Simple"), Some(Verdict::Passed));
        assert_eq!(read.verdict("ALL.Unmap.Simple"), Some(Verdict::Skipped));
        assert_eq!(read.verdict("ALL.Unmap.Other"), None);
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
