//! Every list and every change can be had as JSON, every list as lines for programs: found by what the commands say of
//! themselves, so that a new one cannot be forgotten.

mod common;

use common::Host;
use common::served::Served;
use serde_json::Value;

const A: &str = "600144f0000000000000000000000001";
const B: &str = "600144f0000000000000000000000002";
const TARGET: &str = "iqn.2026-11.org.example:disks";
const ESX1: &str = "iqn.1998-01.com.vmware:esx1";

/// A host with two of everything that is listed.
fn furnished() -> (Host, Served) {
    let host = Host::new();
    let served = Served::start(&host);
    host.lu("a", A);
    host.lu("b", B);
    for line in [
        "stmfadm create-hg hg1",
        "stmfadm create-hg hg2",
        "stmfadm create-tg tg1",
        "stmfadm create-tg tg2",
        &format!("stmfadm add-hg-member -g hg1 {ESX1}"),
        &format!("stmfadm add-view -h hg1 -n 1 {A}"),
        &format!("stmfadm add-view -h hg2 -n 1 {A}"),
        "itadm create-tpg 2 127.0.0.1:13260",
        "itadm create-tpg 3 127.0.0.1:13261",
        &format!("itadm create-initiator {ESX1}"),
        "itadm create-initiator iqn.1998-01.com.vmware:esx2",
    ] {
        // A name that was never seen is warned of.
        assert_eq!(host.output(line), "", "{line}");
    }
    host.output(&format!("itadm create-target -n {TARGET}"));
    host.output(&format!("itadm create-target -n {TARGET}-2"));
    (host, served)
}

/// The subcommands that a command names in its usage.
fn subcommands(host: &Host, command: &str) -> Vec<String> {
    let usage = host.run(command).stdout;
    let begin = if command == "itadm" { "    itadm " } else { &format!("Usage:\t{command} ") };
    let lines = usage.lines().filter_map(|line| line.strip_prefix(begin));
    let words = lines.filter_map(|line| line.split(' ').next()).filter(|word| !word.starts_with('-'));
    words.map(str::to_owned).collect()
}

fn json(host: &Host, line: &str) -> Value {
    let output = host.output(line);
    serde_json::from_str(&output).unwrap_or_else(|error| panic!("{line}: {error}: {output}"))
}

#[test]
fn every_list_is_json_and_lines_for_programs_when_asked() {
    let (host, _served) = furnished();
    let mut lists = 0;
    for command in ["stmfadm", "sbdadm", "itadm"] {
        let all = subcommands(&host, command);
        assert!(all.len() >= 5, "{command}: {all:?}");
        for sub in all.iter().filter(|sub| sub.starts_with("list-")) {
            let line = match sub.as_str() {
                "list-view" => format!("{command} {sub} -l {A}"),
                _ => format!("{command} {sub}"),
            };
            let object = matches!(sub.as_str(), "list-state" | "list-defaults");
            let value = json(&host, &format!("{line} --json"));
            let count = if object { 1 } else { value.as_array().unwrap_or_else(|| panic!("{line}: {value}")).len() };
            assert_eq!((value.is_object(), count), (object, if object { 1 } else { 2 }), "{line}: {value}");
            for option in ["-p", "--parsable"] {
                let text = host.output(&format!("{line} {option}"));
                let rows: Vec<&str> = text.lines().collect();
                assert_eq!(rows.len(), count, "{line} {option}: {text}");
                let fields = |row: &str| row.split('\t').count();
                assert!(rows.iter().all(|row| fields(row) >= 2 && fields(row) == fields(rows[0])), "{line}: {text}");
            }
            lists += 1;
        }
    }
    assert_eq!(lists, 11, "a list was added: it is covered, raise the number");
    for line in ["fcinfo hba-port", "fcinfo logical-unit", "fcinfo lu", "fcadm hba-port", "fcadm list-fcoe-ports"] {
        assert_eq!(json(&host, &format!("{line} --json")), Value::Array(vec![]), "{line}");
        host.silent(&format!("{line} --parsable"));
    }
    for (line, rows) in [("lunette session list", 0), ("lunette access list", 3)] {
        assert_eq!(json(&host, &format!("{line} --json")).as_array().unwrap().len(), rows, "{line}");
        assert_eq!(host.output(&format!("{line} -p")).lines().count(), rows, "{line}");
    }
    for line in ["lunette status", &format!("lunette explain {ESX1}"), "lunette config export"] {
        assert!(json(&host, &format!("{line} --json")).is_object(), "{line}");
    }
}

#[test]
fn empty_lists_are_empty_arrays() {
    let host = Host::new();
    let _served = Served::start(&host);
    for line in ["stmfadm list-lu", "stmfadm list-hg", "stmfadm list-target", "sbdadm list-lu", "itadm list-tpg"] {
        assert_eq!(json(&host, &format!("{line} --json")), Value::Array(vec![]), "{line}");
        host.silent(&format!("{line} -p"));
    }
}

#[test]
fn every_change_is_told_in_json_when_asked() {
    let (host, _served) = furnished();
    host.file("c", 4 << 20);
    host.file("d", 4 << 20);
    std::fs::write(host.path().join("same.toml"), host.output("lunette config export")).unwrap();
    let c = "600144f0000000000000000000000003";
    let mut lines = vec![
        "stmfadm create-hg hg3".to_owned(),
        "stmfadm add-hg-member -g hg3 iqn.1998-01.com.vmware:esx3".into(),
        "stmfadm remove-hg-member -g hg3 iqn.1998-01.com.vmware:esx3".into(),
        "stmfadm delete-hg hg3".into(),
        "stmfadm create-tg tg3".into(),
        format!("stmfadm add-tg-member -g tg3 {TARGET}"),
        format!("stmfadm remove-tg-member -g tg3 {TARGET}"),
        "stmfadm delete-tg tg3".into(),
        format!("stmfadm create-lu -p guid={c} c"),
        format!("stmfadm add-view -h hg2 -n 3 {c}"),
        format!("stmfadm modify-lu -s 8M {c}"),
        format!("stmfadm offline-lu {c}"),
        format!("stmfadm online-lu {c}"),
        format!("stmfadm remove-view -l {c} 0"),
        format!("stmfadm delete-lu {c}"),
        "stmfadm import-lu c".into(),
        format!("stmfadm offline-target {TARGET}"),
        format!("stmfadm online-target {TARGET}"),
        "sbdadm create-lu d".into(),
        format!("sbdadm modify-lu -s 16M {c}"),
        format!("sbdadm delete-lu {c}"),
        "sbdadm import-lu c".into(),
        format!("itadm create-target -n {TARGET}-3"),
        format!("itadm modify-target -l three {TARGET}-3"),
        format!("itadm delete-target -f {TARGET}-3"),
        "itadm create-tpg 4 127.0.0.1:13262".into(),
        "itadm delete-tpg 4".into(),
        "itadm create-initiator iqn.1998-01.com.vmware:esx4".into(),
        "itadm modify-initiator -u four iqn.1998-01.com.vmware:esx4".into(),
        "itadm delete-initiator iqn.1998-01.com.vmware:esx4".into(),
        "itadm modify-defaults --access named".into(),
        format!("lunette lu clear-reservations {c}"),
        "lunette access set active-optimized".into(),
        "lunette config import same.toml".into(),
    ];
    for line in &mut lines {
        let value = json(&host, &format!("{line} --json"));
        assert!(value.is_object() || value.is_array(), "{line}: {value}");
    }
    for command in ["stmfadm", "sbdadm", "itadm"] {
        for sub in subcommands(&host, command).iter().filter(|sub| !sub.starts_with("list-")) {
            assert!(lines.iter().any(|line| line.starts_with(&format!("{command} {sub} "))), "{command} {sub} is new");
        }
    }
    let document: Value = json(&host, "lunette config export --json");
    assert_eq!(document["host-group"][0]["name"], "hg1");
}

#[test]
fn every_subcommand_has_an_example_in_its_help_its_manual_and_a_completion() {
    let host = Host::new();
    host.run("lunette man pages");
    for command in ["stmfadm", "sbdadm", "itadm", "fcinfo", "fcadm"] {
        let manual = std::fs::read_to_string(host.path().join(format!("pages/{command}.8"))).unwrap();
        let all = subcommands(&host, command);
        assert!(!all.is_empty(), "{command}");
        for sub in all {
            let help = host.run(&format!("{command} {sub} -?")).stdout;
            assert!(help.contains(&format!("{command} {sub} ")), "{help}");
            let example = help.lines().rev().find(|line| line.contains(&format!("{command} {sub} "))).unwrap();
            let example = example.trim().trim_start_matches("example: ").replace('-', "\\-");
            assert!(manual.contains(&example), "{command}.8 has no '{example}'");
            for shell in ["bash", "zsh", "fish"] {
                let script = host.output(&format!("lunette completions {shell}"));
                assert!(script.contains(&sub), "{shell}: {command} {sub}");
            }
        }
    }
}
