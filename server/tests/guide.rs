//! The administrator's guide, run as it stands: every block marked `console`, in order, on one host.

mod common;

use common::Host;
use common::served::Served;
use std::collections::BTreeMap;

const GUIDE: &str = include_str!("../../docs/guide/administrator.md");
const FIBRE_CHANNEL: &str = include_str!("../../docs/guide/fibre-channel.md");

/// A command of the guide and what it prints there.
struct Entry {
    line: String,
    printed: Vec<String>,
}

fn entries(guide: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut inside = false;
    for line in guide.lines() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match line.strip_prefix("# ") {
                Some(command) => entries.push(Entry { line: command.into(), printed: Vec::new() }),
                None => entries.last_mut().expect("a block begins with a command").printed.push(line.into()),
            },
            _ => {}
        }
    }
    entries
}

/// The guide's example GUIDs and those that were really given.
#[derive(Default)]
struct Guids(BTreeMap<String, String>);

impl Guids {
    fn learn(&mut self, example: &str, real: &str) {
        if let (Some(example), Some(real)) = (guid(example), guid(real)) {
            self.0.entry(example.to_owned()).or_insert_with(|| real.to_owned());
        }
    }

    fn real(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (example, real)| text.replace(example, real))
    }
}

fn guid(text: &str) -> Option<&str> {
    text.split_whitespace().find(|word| word.len() == 32 && word.starts_with("600144F0"))
}

/// Whether `text` is `pattern`, in which `...` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split("...");
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn every_block_of_the_guide_runs_and_prints_what_it_shows() {
    let host = Host::new();
    std::fs::create_dir(host.path().join("luns")).unwrap();
    let _served = Served::start(&host);
    // What the section on the other site has the reader keep.
    let here = |text: &str| text.replace("/srv/luns", &host.path().join("luns").display().to_string());
    let mut guids = Guids::default();
    let entries = entries(GUIDE);
    assert!(entries.len() > 20, "the guide has lost its blocks");
    for Entry { line, printed } in entries {
        let command = here(&guids.real(&line));
        let program = command.split(' ').next().unwrap_or_default();
        let output = if matches!(program, "echo" | "cp") {
            let done =
                std::process::Command::new("sh").args(["-c", &command]).current_dir(host.path()).output().unwrap();
            assert!(done.status.success(), "{line}: {done:?}");
            String::from_utf8(done.stdout).unwrap()
        } else {
            let outcome = host.run(&command);
            let expected = i32::from(line.starts_with("lunette config diff"));
            assert_eq!(outcome.status, expected, "{line}: {outcome:?}");
            outcome.stdout
        };
        if line.starts_with("lunette config export") {
            std::fs::write(host.path().join("array1.toml"), &output).unwrap();
        }
        if let ([example], Some(real)) = (&printed[..], output.lines().next()) {
            guids.learn(example, real);
        }
        let pattern = guids.real(&printed.iter().map(|line| format!("{line}\n")).collect::<String>());
        assert!(fits(&pattern, &output), "{line}\nthe guide shows:\n{pattern}\nit prints:\n{output}");
    }
}

#[test]
fn so_does_every_block_of_the_page_on_fibre_channel() {
    let host = Host::new();
    std::fs::create_dir(host.path().join("luns")).unwrap();
    let _served = Served::start(&host);
    let here = |text: &str| text.replace("/srv/luns", &host.path().join("luns").display().to_string());
    let mut guids = Guids::default();
    for Entry { line, printed } in entries(FIBRE_CHANNEL) {
        let command = here(&guids.real(&line));
        // What ports find out about each other takes them a moment; changes are made once.
        let lists = ["fcinfo", "stmfadm list", "lunette explain"].iter().any(|list| line.starts_with(list));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(if lists { 30 } else { 0 });
        loop {
            let outcome = host.run(&command);
            assert_eq!(outcome.status, 0, "{line}: {outcome:?}");
            if let ([example], Some(real)) = (&printed[..], outcome.stdout.lines().next()) {
                guids.learn(example, real);
            }
            let pattern = guids.real(&printed.iter().map(|line| format!("{line}\n")).collect::<String>());
            if fits(&pattern, &outcome.stdout) {
                break;
            }
            let output = outcome.stdout;
            let late = std::time::Instant::now() >= deadline;
            assert!(!late, "{line}\nthe page shows:\n{pattern}\nit prints:\n{output}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn the_pattern_means_what_it_says() {
    assert!(fits("a...c", "abc") && fits("...", "anything") && fits("same", "same"));
    assert!(!fits("a...c", "abd") && !fits("same", "same here") && !fits("a...x...c", "abc"));
}
