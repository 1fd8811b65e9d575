//! The configuration as a document: exported, compared, imported here and on another host.

mod common;

use common::Host;
use std::sync::Arc;

const A: &str = "600144f0000000000000000000000001";
const B: &str = "600144f0000000000000000000000002";
const IQN: &str = "iqn.2026-11.org.example:disk1";

/// A host with something of everything.
fn furnished() -> Host {
    let host = Host::with_server(Arc::default());
    host.lu("a", A);
    host.lu("b", B);
    host.silent("stmfadm create-hg ESX1");
    host.silent("stmfadm create-hg empty");
    host.silent("stmfadm create-tg front");
    host.silent("stmfadm add-hg-member -g ESX1 wwn.210000e08b01f7e2 iqn.1998-01.com.vmware:esx1");
    host.silent(&format!("stmfadm add-tg-member -g front {IQN}"));
    host.silent(&format!("stmfadm add-view -h ESX1 -n 1 {A}"));
    host.silent(&format!("stmfadm add-view -h ESX1 -t front -n 2 {B}"));
    host.silent("itadm create-tpg 7 192.0.2.1 192.0.2.2:3261");
    host.silent("itadm create-tpg other 192.0.2.3");
    std::fs::write(host.path().join("secret"), "the secret of esx1").unwrap();
    host.output(&format!("itadm create-target -n {IQN} -a chap -t other,7 -l disks -S secret --redirect 192.0.2.9"));
    host.silent("itadm create-initiator -S secret -u esx iqn.1998-01.com.vmware:esx1");
    host.silent("itadm modify-defaults -a chap --access named --chap-minimum sha256");
    host
}

/// What the commands show of everything that is configured.
fn shown(host: &Host) -> String {
    let lines = [
        "stmfadm list-hg -v",
        "stmfadm list-tg -v",
        "itadm list-target -v",
        "itadm list-tpg -pv",
        "itadm list-initiator -p",
        "itadm list-defaults --json",
        "stmfadm list-lu",
    ];
    let views = [A, B].map(|lu| host.run(&format!("stmfadm list-view -l {lu}")).stdout);
    lines.map(|line| host.output(line)).concat() + &views.concat()
}

#[test]
fn what_was_exported_differs_in_nothing() {
    let host = furnished();
    let document = host.output("lunette config export --with-secrets");
    std::fs::write(host.path().join("all.toml"), document).unwrap();
    host.silent("lunette config diff all.toml");
    host.silent("lunette config check all.toml");
    host.silent("lunette config import all.toml");
    // Secrets that a document does not hold are left as they are.
    let document = host.output("lunette config export");
    assert!(!document.contains("the secret of esx1"));
    std::fs::write(host.path().join("bare.toml"), document).unwrap();
    host.silent("lunette config diff bare.toml");
}

#[test]
fn an_import_restores_what_was_changed_and_nothing_else() {
    let host = furnished();
    let before = shown(&host);
    let document = host.output("lunette config export");
    std::fs::write(host.path().join("all.toml"), document).unwrap();
    host.silent(&format!("stmfadm remove-view -l {A} 0"));
    host.silent("stmfadm remove-hg-member -g ESX1 iqn.1998-01.com.vmware:esx1");
    host.silent("stmfadm create-hg late");
    host.silent("stmfadm add-hg-member -g late iqn.1998-01.com.vmware:esx1");
    host.output(&format!("itadm modify-target -l renamed {IQN}"));
    let plan = format!(
        "remove iqn.1998-01.com.vmware:esx1 from host group late\ndelete host group late\nadd \
         iqn.1998-01.com.vmware:esx1 to host group ESX1\nadd view of {}: LUN 1 for host group ESX1 at target group \
         All\nchange target {IQN}\n",
        A.to_uppercase()
    );
    let diff = host.run("lunette config diff all.toml");
    assert_eq!((diff.stdout.as_str(), diff.status), (plan.as_str(), 1));
    host.prints("lunette config import --dry-run all.toml", &plan);
    assert_ne!(shown(&host), before);
    host.prints("lunette config import all.toml", &plan);
    assert_eq!(shown(&host), before);
    host.silent("lunette config import all.toml");
}

#[test]
fn another_host_takes_over_with_its_own_paths_and_portals() {
    let first = furnished();
    // What is a unit's own stands beside its data and goes with them.
    first.silent(&format!("stmfadm modify-lu -p iops-limit=500 -p bandwidth-limit=100M {A}"));
    let second = Host::with_server(Arc::default());
    std::fs::create_dir(second.path().join("replica")).unwrap();
    for name in ["a", "b", "a.lu", "b.lu"] {
        std::fs::copy(first.path().join(name), second.path().join("replica").join(name)).unwrap();
    }
    let document = first.output("lunette config export --with-secrets");
    std::fs::write(second.path().join("all.toml"), document).unwrap();
    let import = format!(
        "lunette config import --map-path {}={} --map-portal 192.0.2.1=198.51.100.1 all.toml",
        first.path().display(),
        second.path().join("replica").display()
    );
    second.output(&import);
    let moved = shown(&first).replace("192.0.2.1:3260", "198.51.100.1:3260");
    assert_eq!(shown(&second), moved);
    let rows = second.output("sbdadm list-lu --parsable");
    let replica = second.path().join("replica").display().to_string();
    assert_eq!(rows, format!("{A}\t16777216\t{replica}/a\n{B}\t16777216\t{replica}/b\n"));
    let unit = second.output(&format!("stmfadm list-lu -v {A}"));
    assert!(unit.contains("IOPS Limit        : 500\n") && unit.contains("Bandwidth Limit   : 104857600\n"), "{unit}");
    assert!(second.output("lunette config export --with-secrets").contains("the secret of esx1"));
}

#[test]
fn a_document_that_does_not_fit_changes_nothing() {
    let host = furnished();
    let before = shown(&host);
    let good = host.output("lunette config export");
    for (what, bad, words) in [
        ("syntax", good.replace("[settings]", "[settings"), "unclosed table"),
        ("unknown key", good.replace("[settings]", "[settings]\ncolour = 1"), "unknown field"),
        ("unknown group", good.replace("name = \"ESX1\"", "name = \"ESX2\""), "invalid host group"),
        ("lun twice", good.replace("lun = 2", "lun = 1"), "LUN already in use"),
        ("portal twice", good.replace("192.0.2.3:3260", "192.0.2.1:3260"), "already in use"),
        ("member twice", good.replace("wwn.210000E08B01F7E2", "iqn.1998-01.com.vmware:ESX1"), "already exists"),
        ("format", good.replace("format = 1", "format = 9"), "format 9"),
    ] {
        std::fs::write(host.path().join("bad.toml"), &bad).unwrap();
        for command in ["check", "import"] {
            let outcome = host.run(&format!("lunette config {command} bad.toml"));
            assert_eq!(outcome.status, 1, "{what}: {outcome:?}");
            assert!(outcome.stderr.starts_with("lunette: ") && outcome.stderr.contains(words), "{what}: {outcome:?}");
        }
    }
    // The file of one unit holds another: that is found out before anything is changed.
    let swapped = good.replace("/a\"", "/x\"").replace("/b\"", "/a\"").replace("/x\"", "/b\"");
    std::fs::write(host.path().join("bad.toml"), swapped).unwrap();
    host.fails("lunette config import bad.toml", &wrong_file(&host), 1);
    assert_eq!(shown(&host), before);
}

fn wrong_file(host: &Host) -> String {
    let file = host.path().join("b").display().to_string();
    format!("lunette: {file} holds logical unit {}, not {}", B.to_uppercase(), A.to_uppercase())
}

#[test]
fn a_unit_whose_file_is_missing_waits_for_it() {
    let mut host = furnished();
    host.stop();
    std::fs::rename(host.path().join("b"), host.path().join("b.away")).unwrap();
    host.start(Arc::default());
    assert!(host.output(&format!("stmfadm list-lu -v {B}")).contains("Operational Status: unregistered\n"));
    assert!(host.output(&format!("stmfadm list-lu -v {A}")).contains("Operational Status: Online\n"));
    let status = host.output("lunette status");
    assert!(status.contains(&host.path().join("b").display().to_string()), "{status}");
    std::fs::rename(host.path().join("b.away"), host.path().join("b")).unwrap();
    host.silent(&format!("stmfadm online-lu {B}"));
    assert!(host.output(&format!("stmfadm list-lu -v {B}")).contains("Operational Status: Online\n"));
}
