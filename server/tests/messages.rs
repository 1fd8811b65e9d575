//! Every message of the commands, provoked.

mod common;

use common::Host;
use common::live::Lab;
use std::sync::Arc;

const A: &str = "600144f0000000000000000000000001";
const B: &str = "600144f0000000000000000000000002";
const MISSING: &str = "600144f00000000000000000000000ff";
const IQN: &str = "iqn.2026-11.org.example:disk1";

fn server() -> Host {
    Host::with_server(Arc::default())
}

#[test]
fn members() {
    let host = server();
    host.silent("stmfadm create-hg hg1");
    host.silent("stmfadm create-hg HG1");
    host.fails(
        "stmfadm add-hg-member -g hg1 21:00:00:e0:8b:10:01:63",
        "stmfadm: 21:00:00:e0:8b:10:01:63: unrecognized device id",
        1,
    );
    host.silent("stmfadm add-hg-member -g hg1 wwn.210000e08b100163");
    let exists = "stmfadm: wwn.210000E08B100163: already exists";
    host.fails("stmfadm add-hg-member -g HG1 wwn.210000e08b100163", exists, 1);
    host.fails("stmfadm add-hg-member -g hg2 wwn.210000e08b100164", "stmfadm: hg2: not found", 1);
    let missing = "stmfadm: wwn.210000E08B100164: not found";
    host.fails("stmfadm remove-hg-member -g hg1 wwn.210000e08b100164", missing, 1);
    // Of several the good ones go in; the status counts the others.
    host.fails("stmfadm add-hg-member -g hg1 eui.0200000000000001 x y", "stmfadm: x: unrecognized device id", 2);
    host.silent("stmfadm remove-hg-member -g hg1 eui.0200000000000001 wwn.210000E08B100163");
    host.silent("stmfadm create-tg tg1");
    // Joining while online is allowed here, and nobody need exist.
    host.silent(&format!("stmfadm add-tg-member -g tg1 {IQN}"));
    host.silent("stmfadm add-hg-member -g hg1 naa.52004567ba64678d");
}

#[test]
fn groups() {
    let host = server();
    host.silent("stmfadm create-hg hg1");
    host.fails("stmfadm create-hg hg1", "stmfadm: hg1: already exists", 1);
    host.fails("stmfadm delete-hg HG1", "stmfadm: HG1: not found", 1);
    host.fails("stmfadm create-tg *", "stmfadm: *: invalid group name", 1);
    host.run(&format!("stmfadm add-view -h hg1 {A}"));
    host.fails("stmfadm delete-hg hg1", "stmfadm: group is in use by existing view entry", 1);
    host.silent(&format!("stmfadm remove-view -l {A} -a"));
    host.silent("stmfadm delete-hg hg1");
    host.prints("stmfadm list-hg", "");
    host.silent("stmfadm create-hg z");
    host.silent("stmfadm create-hg a");
    host.prints("stmfadm list-hg", "Host Group: z\nHost Group: a\n");
    let some = host.run("stmfadm list-hg a nobody z");
    assert_eq!((some.stdout.as_str(), some.status), ("Host Group: a\nHost Group: z\n", 1));
    assert!(some.stderr.starts_with("stmfadm: nobody: not found\nhint: "), "{some:?}");
}

#[test]
fn views() {
    let host = server();
    host.lu("a", A);
    host.lu("b", B);
    host.silent("stmfadm create-hg hg1");
    host.silent("stmfadm create-hg hg2");
    host.fails("stmfadm add-view 600144", "stmfadm: 600144: must be 32 hexadecimal digits", 1);
    host.fails(
        &format!("stmfadm add-view {}", "g".repeat(32)),
        &format!("stmfadm: {}: must be 32 hexadecimal digits", "g".repeat(32)),
        1,
    );
    for lun in ["16384", "70000", "lun1", "-1"] {
        let message = format!("stmfadm: {lun}: Logical unit number must be less than 16384");
        host.fails(&format!("stmfadm add-view --lun={lun} {A}"), &message, 1);
    }
    host.fails(&format!("stmfadm add-view -h nobody {A}"), "stmfadm: invalid host group", 1);
    host.fails(&format!("stmfadm add-view -t nobody {A}"), "stmfadm: invalid target group", 1);
    host.silent(&format!("stmfadm add-view -h hg1 -n 1 {A}"));
    host.fails(&format!("stmfadm add-view -h hg1 -n 2 {A}"), "stmfadm: view entry exists", 1);
    host.fails(&format!("stmfadm add-view -h hg1 -n 1 {B}"), "stmfadm: LUN already in use", 1);
    host.silent(&format!("stmfadm add-view -h hg2 -n 1 {B}"));
    host.silent(&format!("stmfadm add-view -h hg2 {A}"));
    host.prints(
        &format!("stmfadm list-view -l {A} 1"),
        "View Entry: 1\n    Host group   : hg2\n    Target group : All\n    LUN          : 0\n",
    );
    host.fails(&format!("stmfadm list-view -l {MISSING}"), &format!("stmfadm: {MISSING}: no views found"), 1);
    host.fails(&format!("stmfadm list-view -l {A} 7"), &format!("stmfadm: {A}, 7: not found"), 1);
    host.misused("stmfadm list-view", "stmfadm: Following option(s) required: l");
    host.fails("stmfadm list-view -l 12", "stmfadm: 12: must be 32 hexadecimal digits", 1);
    host.fails(&format!("stmfadm remove-view -l {A}"), "stmfadm: no view entries specified", 1);
    host.fails(&format!("stmfadm remove-view -l {MISSING} -a"), &format!("stmfadm: {MISSING}: no views found"), 1);
    host.fails(&format!("stmfadm remove-view -l {MISSING} 0"), &format!("stmfadm: {MISSING}: no views found"), 1);
    host.fails(&format!("stmfadm remove-view -l {A} x"), "stmfadm: x: invalid input", 1);
    host.fails(&format!("stmfadm remove-view -l {A} 9"), &format!("stmfadm: {A}: 9: not found"), 1);
    host.silent(&format!("stmfadm remove-view -l {A} 0 1"));
    host.fails(&format!("stmfadm list-view -l {A}"), &format!("stmfadm: {A}: no views found"), 1);
}

#[test]
fn warnings_of_views_go_to_stderr() {
    let host = server();
    let unknown = host.run(&format!("stmfadm add-view -n 3 {A}"));
    assert_eq!((unknown.stdout.as_str(), unknown.status), ("", 0));
    assert!(unknown.stderr.starts_with("warning: there is no logical unit"), "{unknown:?}");
    host.lu("b", B);
    let open = host.run(&format!("stmfadm add-view -n 4 {B}"));
    assert!(open.status == 0 && open.stderr.contains("is open to every initiator"), "{open:?}");
    host.prints(
        &format!("stmfadm list-lu -v {A}"),
        &format!(
            "LU Name: {}\n    Operational Status: unregistered\n    Provider Name     : unregistered\n    Alias             \
             : -\n    View Entry Count  : 1\n",
            A.to_uppercase()
        ),
    );
}

#[test]
fn create_lu() {
    let host = server();
    let file = host.file("disk", 16 << 20);
    for (options, message) in [
        ("-s lots", "stmfadm: s: size param invalid"),
        ("-p wcd", "stmfadm: wcd: invalid property specifier - prop=val"),
        ("-p color=red", "stmfadm: invalid property specified: color"),
        ("-p vid=TOOLONGNAME", "stmfadm: unable to set vid: invalid length"),
        ("-p wp=yes", "stmfadm: unable to set wp: bad format"),
        ("-p blk=1000", "stmfadm: invalid block size"),
        ("-s 1000", "stmfadm: invalid size"),
        ("-p meta=nowhere/disk.meta", "stmfadm: could not create meta file"),
    ] {
        host.fails(&format!("stmfadm create-lu {options} {file}"), message, 1);
        assert!(!host.path().join("disk.lu").exists(), "{options}: something was left behind");
    }
    host.fails("stmfadm create-lu absent", "stmfadm: data file error", 1);
    host.fails(&format!("stmfadm create-lu {}", host.path().display()), "stmfadm: data file error", 1);
    let tiny = host.file("tiny", 1000);
    host.fails(&format!("stmfadm create-lu {tiny}"), "stmfadm: file size invalid", 1);
    host.prints(
        &format!("stmfadm create-lu -p GUID={A} disk"),
        &format!("Logical unit created: {}\n", A.to_uppercase()),
    );
    host.fails(&format!("stmfadm create-lu {file}"), &format!("stmfadm: filename {file}: in use"), 1);
    let other = host.file("other", 16 << 20);
    host.fails(&format!("stmfadm create-lu -p guid={A} {other}"), "stmfadm: guid in use", 1);
    host.prints("sbdadm list-lu --parsable", &format!("{A}\t16777216\t{file}\n"));
}

#[test]
fn a_size_makes_a_sparse_file() {
    let host = server();
    let created = host.output("stmfadm create-lu -s 2097152K new");
    assert!(created.starts_with("Logical unit created: 600144F0"), "{created}");
    assert!(host.output("stmfadm list-lu -v").contains("    Size              : 2147483648\n"));
    host.fails("stmfadm create-lu -s 1G nowhere/new", "stmfadm: data file error", 1);
    host.fails("stmfadm create-lu -s 1000 small", "stmfadm: invalid size", 1);
    assert!(!host.path().join("small").exists());
}

#[test]
fn an_identity_is_not_overwritten_unasked() {
    let host = server();
    let file = host.lu("disk", A);
    host.silent(&format!("stmfadm delete-lu {A}"));
    let refused = format!("stmfadm: {file} is logical unit {} already", A.to_uppercase());
    host.fails("stmfadm create-lu disk", &refused, 1);
    host.prints("stmfadm import-lu disk", &format!("Logical unit imported: {}\n", A.to_uppercase()));
    host.silent(&format!("stmfadm delete-lu {A}"));
    let created = host.output("stmfadm create-lu --force disk");
    assert!(!created.contains(&A.to_uppercase()), "{created}");
}

#[test]
fn a_copy_beside_its_original_needs_a_name_of_its_own() {
    let host = server();
    host.lu("disk", A);
    for end in ["", ".lu"] {
        std::fs::copy(host.path().join(format!("disk{end}")), host.path().join(format!("copy{end}"))).unwrap();
    }
    host.fails("stmfadm import-lu copy", "stmfadm: guid in use", 1);
    let imported = host.output("stmfadm import-lu --new-guid copy");
    assert!(imported.starts_with("Logical unit imported: 600144F0") && !imported.contains(&A.to_uppercase()));
    assert_eq!(host.output("stmfadm list-lu").lines().count(), 2);
}

#[test]
fn import_lu() {
    let host = server();
    host.file("plain", 16 << 20);
    host.fails("stmfadm import-lu plain", "stmfadm: meta file error", 1);
    host.fails("sbdadm import-lu absent", "sbdadm: meta file error", 1);
    // Metadata kept elsewhere are imported by their own path.
    let file = host.file("disk", 16 << 20);
    host.output(&format!("stmfadm create-lu -p guid={A} -p meta=disk.meta {file}"));
    assert!(host.path().join("disk.meta").exists() && !host.path().join("disk.lu").exists());
    host.silent(&format!("stmfadm delete-lu {A}"));
    host.prints("stmfadm import-lu disk.meta", &format!("Logical unit imported: {}\n", A.to_uppercase()));
    let listed = host.output("stmfadm list-lu -v");
    assert!(listed.contains(&format!("    Data File         : {file}\n")), "{listed}");
    assert!(listed.contains(&format!("    Meta File         : {}\n", host.path().join("disk.meta").display())));
}

#[test]
fn modify_lu() {
    let host = server();
    let file = host.lu("disk", A);
    host.misused(&format!("stmfadm modify-lu {A}"), "stmfadm: at least one option required");
    host.fails(&format!("stmfadm modify-lu -p blk=4096 {A}"), "stmfadm: invalid property for modify", 1);
    host.fails("stmfadm modify-lu -s 1G 12", "stmfadm: 12: must be 32 hexadecimal digits", 1);
    host.fails(&format!("stmfadm modify-lu -s 1G {MISSING}"), &format!("stmfadm: {MISSING}: not found"), 1);
    host.fails(&format!("stmfadm modify-lu -s 7x {A}"), "stmfadm: s: size param invalid", 1);
    host.silent(&format!("stmfadm modify-lu -s 2097152K -p alias=one -p wcd=true -p wp=true {A}"));
    host.silent(&format!("stmfadm modify-lu -f -p mgmt-url=http://192.0.2.1 {file}"));
    host.fails(&format!("stmfadm modify-lu -p iops-limit=0 {A}"), "stmfadm: unable to set iops-limit: bad format", 1);
    host.fails(
        &format!("stmfadm modify-lu -p bandwidth-limit=9 {A}"),
        "stmfadm: unable to set bandwidth-limit: bad format",
        1,
    );
    host.silent(&format!("stmfadm modify-lu -p iops-limit=500 -p iops-burst=50 -p bandwidth-limit=100M {A}"));
    let listed = host.output("stmfadm list-lu -v");
    for line in [
        "IOPS Limit        : 500",
        "IOPS Burst        : 50",
        "Bandwidth Limit   : 104857600",
        "Alias             : one",
        "Size              : 2147483648",
        "Management URL    : http://192.0.2.1",
        "Write Protect     : Enabled",
        "Writeback Cache   : Disabled",
    ] {
        assert!(listed.contains(&format!("    {line}\n")), "{line}: {listed}");
    }
    assert!(host.output("stmfadm list-lu -v --json").contains("\"bandwidth_limit\": 104857600"));
    host.silent(&format!("stmfadm modify-lu -p iops-limit=none -p iops-burst=none -p bandwidth-limit=none {A}"));
    assert!(!host.output("stmfadm list-lu -v").contains("Limit"));
    host.misused(&format!("sbdadm modify-lu {A}"), "sbdadm: Following option(s) required: s");
    host.silent(&format!("sbdadm modify-lu -s 3G {file}"));
    assert!(host.output("sbdadm list-lu").contains("  3221225472           "));
}

#[test]
fn delete_lu() {
    let host = server();
    host.lu("a", A);
    host.lu("b", B);
    host.silent("stmfadm create-hg hg1");
    host.silent(&format!("stmfadm add-view -h hg1 {A}"));
    host.fails(&format!("stmfadm delete-lu {MISSING}"), &format!("stmfadm: {MISSING}: not found"), 1);
    host.fails("stmfadm delete-lu 12 13", "stmfadm: 12: must be 32 hexadecimal digits long", 2);
    host.silent(&format!("sbdadm delete-lu -k {A}"));
    assert!(host.output(&format!("stmfadm list-view -l {A}")).contains("View Entry: 0\n"));
    assert!(host.output(&format!("stmfadm list-lu -v {A}")).contains("Operational Status: unregistered\n"));
    host.silent(&format!("stmfadm delete-lu {A} {B}"));
    host.prints("stmfadm list-lu", "");
    host.prints("sbdadm list-lu", "");
}

#[test]
fn online_and_offline() {
    let live = Arc::new(Lab::default());
    let mut host = Host::with_server(Arc::clone(&live));
    host.lu("a", A);
    host.output(&format!("itadm create-target -n {IQN}"));
    host.silent(&format!("stmfadm offline-lu {A}"));
    assert!(host.output("stmfadm list-lu -v").contains("Operational Status: Offline\n"));
    host.silent(&format!("stmfadm online-lu {A}"));
    assert!(host.output("stmfadm list-lu -v").contains("Operational Status: Online\n"));
    host.fails(&format!("stmfadm online-lu {MISSING}"), &format!("stmfadm: {MISSING}: not found"), 1);
    host.silent(&format!("stmfadm offline-target {IQN}"));
    assert!(host.output("itadm list-target").contains(" offline  0"));
    host.silent(&format!("stmfadm online-target {IQN}"));
    host.fails("stmfadm online-target iqn.x", "stmfadm: iqn.x: not found", 1);
    host.fails("stmfadm online-target x", "stmfadm: x: unrecognized device id", 1);
    live.set_stuck(true);
    let lu = "stmfadm: Logical Unit state change request submitted. Waiting for completion timed out";
    host.fails(&format!("stmfadm offline-lu {A}"), lu, 1);
    let target = "stmfadm: Target state change request submitted. Waiting for completion timed out.";
    host.fails(&format!("stmfadm offline-target {IQN}"), target, 1);
    host.stop();
    host.fails(&format!("stmfadm offline-lu {A}"), "stmfadm: STMF service is offline", 1);
    host.fails(&format!("stmfadm online-target {IQN}"), "stmfadm: STMF service is offline", 1);
    host.prints(
        "stmfadm list-state",
        "Operational Status: offline\nConfig Status     : uninitialized\nALUA Status       : disabled\nALUA Node         : 0\n",
    );
}

#[test]
fn lists_name_what_is_missing() {
    let host = server();
    host.fails(&format!("stmfadm list-lu {MISSING}"), &format!("stmfadm: {MISSING}: not found"), 1);
    host.fails("stmfadm list-lu 12", "stmfadm: 12: must be 32 hexadecimal digits long", 1);
    host.fails(&format!("stmfadm list-target {IQN}"), &format!("stmfadm: {IQN}: not found"), 1);
    host.fails("stmfadm list-target disk1", "stmfadm: disk1: unrecognized device id", 1);
    for line in [
        "stmfadm list-lu -v",
        "stmfadm list-target -v",
        "stmfadm list-tg -v",
        "itadm list-target",
        "itadm list-tpg",
        "itadm list-initiator",
    ] {
        host.silent(line);
    }
    host.prints(
        "stmfadm list-state",
        "Operational Status: online\nConfig Status     : initialized\nALUA Status       : disabled\nALUA Node         : 0\n",
    );
}

#[test]
fn permission() {
    let host = Host::new();
    host.fails("stmfadm list-hg --state /sys/lunette", "stmfadm: permission denied", 1);
    let right = "Error, operation requires authorization solaris.smf.read.stmf";
    host.fails("itadm list-target --state /sys/lunette", right, 1);
    let right = "Error, operation requires authorization solaris.smf.modify.stmf";
    host.fails("itadm create-target --state /sys/lunette", right, 1);
}

#[test]
fn itadm_usage() {
    let host = server();
    host.itadm_misused_general("itadm", "Error, no subcommand specified");
    host.itadm_misused_general("itadm CREATE-TARGET", "Error, no subcommand specified");
    host.itadm_misused("itadm list-target -x", "Unrecognized option x");
    host.itadm_misused("itadm list-target --bogus", "Unrecognized option bogus");
    host.itadm_misused("itadm create-target -n", "Option n requires an operand");
    host.itadm_misused("itadm create-target x", "Error, create-target does not support any operands");
    host.itadm_misused("itadm modify-target a b", "Error, modify-target accepts only a single operand");
    host.itadm_misused("itadm delete-target", "Error, delete-target requires an operand");
    host.itadm_misused("itadm modify-defaults -i maybe", "invalid value for -i");
    let servers: Vec<String> = (1..=9).map(|n| format!("192.0.2.{n}")).collect();
    let too_many = "Too many iSNS servers specified, maximum of 8 allowed";
    host.itadm_misused(&format!("itadm modify-defaults -I {}", servers.join(",")), too_many);
}

#[test]
fn itadm_targets() {
    let live = Arc::new(Lab::default());
    let host = Host::with_server(Arc::clone(&live));
    host.itadm_fails("itadm create-target -n disk1", "Invalid name disk1", 22);
    host.itadm_fails("itadm create-target -n iqn.2026-11.x_y", "Invalid iSCSI name iqn.2026-11.x_y", 22);
    host.itadm_fails("itadm create-target -t 9", "Invalid tpg-tag 9, tag not defined", 22);
    host.itadm_fails(
        "itadm create-target -a maybe",
        "Error setting target properties: 22\n\tauth: must be none, chap or radius",
        22,
    );
    host.itadm_fails("itadm create-target -a radius", "Error setting target properties: 22\n\tradiusserver: missing required property\n\tradiussecret: missing required property", 22);
    host.output(&format!("itadm create-target -n {IQN} -l one"));
    host.itadm_fails(
        &format!("itadm create-target -n {}", IQN.to_uppercase()),
        &format!("iSCSI target {IQN} already configured"),
        17,
    );
    host.itadm_fails(
        "itadm modify-target -l x iqn.2026-11.org.example:no",
        "Target iqn.2026-11.org.example:no not found",
        2,
    );
    host.itadm_fails(&format!("itadm modify-target -t 9 {IQN}"), "Invalid tpg-name 9: not defined", 22);
    host.output("itadm create-target -n iqn.2026-11.org.example:disk2");
    host.itadm_fails(
        &format!("itadm modify-target -n iqn.2026-11.org.example:disk2 {IQN}"),
        "A target with name iqn.2026-11.org.example:disk2 already exists",
        17,
    );
    let busy = format!("The target is online or busy. Use the -f (force) option, or 'stmfadm offline-target {IQN}'");
    host.itadm_fails(&format!("itadm delete-target {IQN}"), &busy, 16);
    host.itadm_fails(&format!("itadm modify-target -n iqn.2026-11.org.example:disk3 {IQN}"), &busy, 16);
    host.itadm_fails(
        "itadm delete-target iqn.2026-11.org.example:no",
        "Target iqn.2026-11.org.example:no not found",
        2,
    );
    host.itadm_fails("itadm list-target iqn.2026-11.org.example:no", "Target iqn.2026-11.org.example:no not found", 2);
    live.log_in("iqn.1998-01.com.vmware:esx1", None, IQN);
    host.silent(&format!("itadm delete-target -f {IQN}"));
    host.silent("stmfadm offline-target iqn.2026-11.org.example:disk2");
    let renamed = "Target iqn.2026-11.org.example:disk3 successfully modified\n";
    host.prints("itadm modify-target -n iqn.2026-11.org.example:disk3 iqn.2026-11.org.example:disk2", renamed);
    host.prints("itadm list-target -p", "iqn.2026-11.org.example:disk3\tonline\t0\n");
}

#[test]
fn itadm_properties_are_set_and_unset() {
    let host = server();
    host.silent("itadm create-tpg tpgx 192.0.2.1");
    host.silent("itadm create-tpg 2 192.0.2.2 [2001:db8::1]:3261");
    host.output(&format!("itadm create-target -n {IQN} -l one -u user -a chap -t 2,tpgx"));
    let long = format!("itadm list-target -pv {IQN}");
    host.prints(&long, &format!("{IQN}\tonline\t0\tone\tchap\tuser\tunset\t2 = 2,tpgx = 3\n"));
    host.output(&format!("itadm modify-target -l none -u none -a default -t default {IQN}"));
    host.prints(&long, &format!("{IQN}\tonline\t0\t-\tnone (defaults)\t-\tunset\tdefault\n"));
    host.prints("itadm list-tpg -pv", "2\t2\t192.0.2.2:3260,[2001:db8::1]:3261\ntpgx\t1\t192.0.2.1:3260\n");
    host.prints(
        "itadm list-tpg -v tpgx",
        &format!("{:<30}PORTAL COUNT\n{:<30}{:<9}\n    portals:\t192.0.2.1:3260\n", "TARGET PORTAL GROUP", "tpgx", 1),
    );
}

#[test]
fn itadm_portal_groups() {
    let host = server();
    host.itadm_fails("itadm create-tpg 2", "Error, no portal addresses specified", 22);
    host.silent("itadm create-tpg 2 192.0.2.1");
    host.itadm_fails("itadm create-tpg 2 192.0.2.2", "Target Portal Group 2 already exists", 17);
    host.itadm_fails("itadm create-tpg 3 192.0.2.1:3260", "Portal 192.0.2.1:3260 already in use", 17);
    host.itadm_fails("itadm create-tpg 3 host.example", "Invalid portal address host.example", 22);
    host.itadm_fails("itadm delete-tpg 3", "Target Portal Group 3 not found", 2);
    host.itadm_fails("itadm list-tpg 3", "Target Portal Group 3 not found", 2);
    host.output(&format!("itadm create-target -n {IQN} -t 2"));
    let used = "Target portal group associated with one or more targets.  Cannot delete.";
    host.itadm_fails("itadm delete-tpg 2", used, 16);
    host.silent("itadm delete-tpg -f 2");
    host.silent("itadm list-tpg");
}

#[test]
fn itadm_initiators() {
    let host = server();
    host.itadm_fails("itadm create-initiator esx1", "Invalid name esx1", 22);
    host.silent("itadm create-initiator iqn.1998-01.com.vmware:ESX1");
    host.itadm_fails(
        "itadm create-initiator iqn.1998-01.com.vmware:esx1",
        "Initiator iqn.1998-01.com.vmware:esx1 already exists",
        17,
    );
    host.itadm_fails(
        "itadm modify-initiator -u x iqn.1998-01.com.vmware:no",
        "Error, initiator iqn.1998-01.com.vmware:no not found",
        2,
    );
    host.itadm_fails(
        "itadm delete-initiator iqn.1998-01.com.vmware:no",
        "Error, initiator iqn.1998-01.com.vmware:no not found",
        2,
    );
    host.prints(
        "itadm list-initiator",
        &format!(
            "{:<61}{:<10}{:<7}\n{:<61}{:<15}{:<4}\n",
            "INITIATOR NAME", "CHAPUSER", "SECRET", "iqn.1998-01.com.vmware:esx1", "<none>", "unset"
        ),
    );
    host.silent("itadm delete-initiator iqn.1998-01.com.vmware:ESX1");
}

#[test]
fn itadm_secrets() {
    let host = server();
    host.silent("itadm create-initiator iqn.1998-01.com.vmware:esx1");
    let modify = |file: &str| format!("itadm modify-initiator -S {file} iqn.1998-01.com.vmware:esx1");
    host.itadm_fails(&modify("absent"), "Could not open secret file absent: No such file or directory", 22);
    std::fs::create_dir(host.path().join("dir")).unwrap();
    host.itadm_fails(&modify("dir"), "Invalid secret file dir", 22);
    for (name, secret) in [("short", "elevenbytes\n".to_owned()), ("long", "x".repeat(256))] {
        std::fs::write(host.path().join(name), secret).unwrap();
        host.itadm_fails(&modify(name), "Secret must be between 12 and 255 characters", 22);
    }
    std::fs::write(host.path().join("good"), "twelve bytes\n").unwrap();
    let outcome = host.run(&modify("good"));
    assert!(outcome.status == 0 && outcome.stderr.starts_with("warning: no target demands CHAP"), "{outcome:?}");
    assert!(host.output("itadm list-initiator -p").ends_with("\t<none>\tset\n"));
    let exported = host.output("lunette config export");
    assert!(!exported.contains("twelve bytes") && !exported.contains("chap-secret"), "{exported}");
    assert!(host.output("lunette config export --with-secrets").contains("chap-secret = \"twelve bytes\""));
}

#[test]
fn itadm_defaults() {
    let host = server();
    host.prints(
        "itadm list-defaults",
        "iSCSI Target Default Properties:\n\nalias:         \t<none>\nauth:          \t<none>\nradiusserver:  \t<none>\n\
         radiussecret:  \tunset\nisns:          \tdisabled\nisnsserver:    \t<none>\n",
    );
    host.itadm_fails(
        "itadm modify-defaults -r nowhere",
        "Error setting global properties: 22\n\tradiusserver: invalid address",
        22,
    );
    host.itadm_fails(
        "itadm modify-defaults -a radius",
        "Error setting global properties: 22\n\tradiusserver: missing required property",
        22,
    );
    std::fs::write(host.path().join("secret"), "shared with radius").unwrap();
    host.silent("itadm modify-defaults -a radius -r 192.0.2.5 -D secret -i en -I 192.0.2.6,192.0.2.7:3206");
    host.prints(
        "itadm list-defaults -p",
        "<none>\tradius\t192.0.2.5:1812\tset\tenabled\t192.0.2.6:3205,192.0.2.7:3206\n",
    );
    let done =
        host.run("itadm modify-defaults -a none -r none -i disable -I none --access named --discovery-auth chap");
    assert!(done.status == 0 && done.stdout.is_empty() && done.stderr.starts_with("warning: discovery demands CHAP"));
    let defaults: serde_json::Value = serde_json::from_str(&host.output("itadm list-defaults --json")).unwrap();
    assert_eq!((&defaults["access"], &defaults["discovery_chap"]), (&"named".into(), &true.into()));
    host.itadm_fails(
        "itadm modify-defaults --chap-minimum md4",
        "Error setting global properties: 22\n\tchap-minimum: must be md5, sha1, sha256 or sha3-256",
        22,
    );
    host.output("itadm modify-defaults --chap-minimum sha256");
    let defaults: serde_json::Value = serde_json::from_str(&host.output("itadm list-defaults --json")).unwrap();
    assert_eq!(defaults["chap_minimum"], "sha256");
}

#[test]
fn a_target_says_where_its_initiators_are_sent() {
    let host = Host::new();
    let name = "iqn.2026-11.org.example:moving";
    host.output(&format!("itadm create-target -n {name} --redirect 192.0.2.9,[2001:db8::1]:3333"));
    let shown = host.output(&format!("itadm list-target -v {name}"));
    assert!(shown.ends_with("\tredirect:           \t192.0.2.9:3260,[2001:db8::1]:3333\n"), "{shown}");
    host.output(&format!("itadm modify-target --moved 192.0.2.9 {name}"));
    let shown = host.output(&format!("itadm list-target -v {name}"));
    assert!(shown.ends_with("\tmoved:              \t192.0.2.9:3260\n"), "{shown}");
    host.itadm_misused(
        &format!("itadm modify-target --redirect 192.0.2.9 --moved 192.0.2.9 {name}"),
        "Options redirect and moved cannot be given together",
    );
    host.output(&format!("itadm modify-target --redirect none {name}"));
    assert!(!host.output(&format!("itadm list-target -v {name}")).contains("192.0.2.9"));
}

#[test]
fn fcinfo_has_no_adapters() {
    let host = Host::new();
    host.prints("fcinfo hba-port", "No Adapters Found.\n");
    host.fails("fcinfo hba-port 210000e08b100163", "Error: HBA port 210000e08b100163: not found", 1);
    host.fails("fcinfo remote-port", "Error: -p option was not specified.", 1);
    let several = host.run("fcinfo hba-port 1 2");
    assert!(several.stderr.contains("\nError: All specified HBA ports are not found\nhint: "), "{several:?}");
}

#[test]
fn a_renamed_target_stays_in_its_group() {
    let host = server();
    host.output(&format!("itadm create-target -n {IQN}"));
    host.silent("stmfadm create-tg tg1");
    host.silent(&format!("stmfadm add-tg-member -g tg1 {IQN}"));
    host.silent(&format!("stmfadm offline-target {IQN}"));
    host.output(&format!("itadm modify-target -n iqn.2026-11.org.example:renamed {IQN}"));
    host.prints("stmfadm list-tg -v", "Target Group: tg1\n\tMember: iqn.2026-11.org.example:renamed\n");
}

#[test]
fn the_last_target_there_is_room_for() {
    let host = server();
    let targets = (0..4095).map(|number| format!("[[target]]\nname = \"iqn.2026-11.org.example:t{number}\"\n"));
    std::fs::write(host.path().join("many.toml"), targets.collect::<String>()).unwrap();
    host.output("lunette config import many.toml");
    host.itadm_fails("itadm create-target", "Maximum of 4095 iSCSI targets", 7);
}

#[test]
fn an_offline_unit_is_busy_and_reservations_can_be_cleared() {
    let host = Host::new();
    let served = common::served::Served::start(&host);
    let file = host.lu("a", A);
    host.silent(&format!("lunette lu clear-reservations {A}"));
    host.silent(&format!("stmfadm offline-lu {A}"));
    host.fails(&format!("stmfadm modify-lu -s 32M {A}"), &format!("stmfadm: {A}: resource busy"), 1);
    host.silent(&format!("stmfadm online-lu {A}"));
    host.silent(&format!("stmfadm modify-lu -s 32M {A}"));
    host.fails("lunette lu clear-reservations 12", "lunette: 12: must be 32 hexadecimal digits long", 1);
    host.fails(&format!("lunette lu clear-reservations {MISSING}"), &format!("lunette: {MISSING}: not found"), 1);
    drop(served);
    host.silent(&format!("lunette lu clear-reservations {A}"));
    std::fs::remove_file(format!("{file}.lu")).unwrap();
    host.fails(&format!("lunette lu clear-reservations {A}"), "lunette: meta file error", 1);
}

#[test]
fn every_change_stands_in_the_audit_log_with_and_without_a_server() {
    let mut host = Host::new();
    std::fs::write(host.path().join("secret"), "the secret of esx1").unwrap();
    host.silent("stmfadm create-hg offline");
    host.start(Arc::default());
    host.silent("stmfadm create-hg online");
    host.run("itadm create-initiator -S secret iqn.1998-01.com.vmware:esx1");
    host.stop();
    let log = std::fs::read_to_string(host.state().join("audit.log")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(lines[0].contains("without a server: host group offline is created"), "{log}");
    assert!(lines[1].contains("process ") && lines[1].ends_with("host group online is created"), "{log}");
    assert!(lines[2].contains("iqn.1998-01.com.vmware:esx1 is created: a CHAP secret"), "{log}");
    assert!(!log.contains("the secret of esx1"));
}

#[test]
fn what_root_makes_while_the_server_is_down_belongs_to_the_servers_user() {
    use std::os::unix::fs::{MetadataExt, chown};
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can make files for others");
        return;
    }
    const USER: u32 = 4242;
    let host = Host::new();
    std::fs::create_dir(host.path().join("luns")).unwrap();
    std::fs::create_dir(host.state()).unwrap();
    for directory in [host.path().join("luns"), host.state()] {
        chown(directory, Some(USER), Some(USER)).unwrap();
    }
    host.output("sbdadm create-lu -s 8M luns/made");
    // In a directory of root's, a file of the user's.
    let given = host.file("given", 8 << 20);
    chown(&given, Some(USER), Some(USER)).unwrap();
    host.output(&format!("stmfadm create-lu -p guid={A} {given}"));
    host.silent(&format!("stmfadm modify-lu -p alias=other {A}"));
    for name in ["luns/made", "luns/made.lu", "given", "given.lu", "state/config.redb", "state/audit.log", "state/lock"]
    {
        let metadata = std::fs::metadata(host.path().join(name)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (USER, USER), "{name}");
    }
}

#[test]
fn what_the_commands_never_send_is_refused_in_the_same_words() {
    use lunette_server::admin::{Client, Field, InitiatorSettings, Request, SecretText};
    let host = server();
    host.silent("itadm create-initiator iqn.1998-01.com.vmware:esx1");
    let client = Client::new(host.socket(), None);
    let refused = |request: Request| client.execute(&request).unwrap_err().to_string();
    let relative = Request::CreateLu { file: "disk".into(), size: None, properties: vec![], force: false };
    assert!(refused(relative).contains("could not set filename"));
    for (secret, words) in [("elevenbytes".to_owned(), "secret too short"), ("x".repeat(256), "secret too long")] {
        let settings =
            InitiatorSettings { chap_secret: Field::Set(SecretText::new(secret)), ..InitiatorSettings::default() };
        let initiator = "iqn.1998-01.com.vmware:esx1".into();
        let said = refused(Request::ModifyInitiator { initiator, settings });
        assert!(said.contains("Error setting initiator properties: 22") && said.contains(words), "{said}");
    }
}

#[test]
fn manuals_and_completions_are_for_every_command() {
    let host = Host::new();
    let made = host.run("lunette man pages");
    assert_eq!(made.status, 0, "{made:?}");
    for page in ["lunette.1", "stmfadm.8", "sbdadm.8", "itadm.8", "fcinfo.8", "fcadm.8"] {
        assert!(host.path().join("pages").join(page).exists(), "{page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = host.output(&format!("lunette completions {shell}"));
        assert!(["lunette", "stmfadm", "create-lu", "itadm", "create-target"].iter().all(|word| script.contains(word)));
    }
}
