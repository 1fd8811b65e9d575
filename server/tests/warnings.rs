//! What an administrator may have meant otherwise is said by the command that makes it so, and by `status` and `explain`
//! as long as it is so; and secrets are said by nobody.

mod common;

use common::Host;
use common::served::Served;
use testkit::initiator::{Chap, Initiator, LoginOptions, TcpWire};

const LU: &str = "600144f0000000000000000000000001";
const TARGET: &str = "iqn.2026-11.org.example:disks";
const ESX1: &str = "iqn.1998-01.com.vmware:esx1";
const SECRET: &str = "the-secret-of-esx1";

fn served() -> (Host, Served) {
    let host = Host::new();
    let served = Served::start(&host);
    host.output(&format!("itadm create-target -n {TARGET}"));
    std::fs::write(host.path().join("secret"), SECRET).unwrap();
    (host, served)
}

/// The command succeeds and warns in these words.
#[track_caller]
fn warns(host: &Host, line: &str, words: &str) {
    let outcome = host.run(line);
    assert_eq!(outcome.status, 0, "{line}: {outcome:?}");
    let found = outcome.stderr.lines().any(|line| line.starts_with("warning: ") && line.contains(words));
    assert!(found, "{line}: no warning of '{words}': {outcome:?}");
}

#[track_caller]
fn says(host: &Host, line: &str, words: &str) {
    let output = host.output(line);
    assert!(output.contains(words), "{line}: no '{words}': {output}");
}

#[track_caller]
fn is_silent_on(host: &Host, line: &str, words: &str) {
    let output = host.output(line);
    assert!(!output.contains(words), "{line}: {output}");
}

#[test]
fn a_secret_that_nothing_asks_for() {
    let (host, _served) = served();
    let initiators = format!("the secret of {ESX1} is not asked for");
    warns(&host, &format!("itadm create-initiator -S secret {ESX1}"), &initiators);
    says(&host, "lunette status", &initiators);
    says(&host, &format!("lunette explain {ESX1}"), "the secret of the initiator's entry neither");
    host.prints(&format!("itadm modify-target -a chap {TARGET}"), &format!("Target {TARGET} successfully modified\n"));
    is_silent_on(&host, "lunette status", &initiators);
    // Whichever command takes the demand away.
    warns(&host, &format!("itadm modify-target -a none {TARGET}"), &initiators);
    host.output(&format!("itadm modify-target -a default {TARGET}"));
    host.silent("itadm modify-defaults -a chap");
    warns(&host, "itadm modify-defaults -a none", &initiators);
    host.output(&format!("itadm modify-target -a chap {TARGET}"));
    warns(&host, &format!("itadm delete-target -f {TARGET}"), &initiators);

    let own = "its secret is not asked for";
    std::fs::write(host.path().join("own"), "a secret of the target").unwrap();
    warns(&host, &format!("itadm create-target -n {TARGET} -S own"), own);
    says(&host, "lunette status", own);
}

#[test]
fn a_demand_that_nobody_can_meet() {
    let (host, _served) = served();
    let nobody = "no initiator has a secret: nobody can log in";
    warns(&host, &format!("itadm modify-target -a chap {TARGET}"), nobody);
    says(&host, "lunette status", nobody);
    says(&host, &format!("lunette explain {ESX1}"), &format!("itadm create-initiator -s {ESX1}"));
    host.silent(&format!("itadm create-initiator -S secret {ESX1}"));
    is_silent_on(&host, "lunette status", nobody);
    warns(&host, &format!("itadm delete-initiator {ESX1}"), nobody);
    warns(&host, "itadm modify-defaults --discovery-auth chap", "nobody can discover");

    let radius = "asks RADIUS, which knows CHAP with MD5 only";
    std::fs::write(host.path().join("shared"), "shared with radius").unwrap();
    host.run("itadm modify-defaults --discovery-auth none -r 127.0.0.1:11812 -D shared");
    host.output(&format!("itadm modify-target -a radius {TARGET}"));
    warns(&host, "itadm modify-defaults --chap-minimum sha256", radius);
    says(&host, "lunette status", radius);
    says(&host, &format!("lunette explain {ESX1}"), "RADIUS server decides, which knows CHAP with MD5 only");
    says(&host, &format!("lunette explain {ESX1}"), "login cannot succeed");
    host.silent("itadm modify-defaults --chap-minimum md5");
    is_silent_on(&host, "lunette status", radius);
    host.run(&format!("itadm modify-target -a none {TARGET}"));
    host.run("itadm modify-defaults --chap-minimum sha3-256");
    warns(&host, &format!("itadm modify-target -a radius {TARGET}"), radius);
}

#[test]
fn a_unit_open_to_everybody() {
    let (host, _served) = served();
    host.lu("a", LU);
    let open = format!("logical unit {} is open to every initiator", LU.to_uppercase());
    warns(&host, &format!("stmfadm add-view {LU}"), &open);
    says(&host, "lunette status", &open);
    says(&host, &format!("lunette explain {ESX1}"), &open);
    host.silent(&format!("stmfadm remove-view -l {LU} -a"));
    is_silent_on(&host, "lunette status", "is open to every initiator");
}

#[test]
fn a_member_that_was_never_seen_until_it_logs_in() {
    let (host, served) = served();
    host.silent("stmfadm create-hg hg1");
    let name = "iqn.1991-05.com.microsoft:MY_HOST";
    let stranger = "iqn.1991-05.com.microsoft:my_host has not logged in since the server started";
    warns(&host, &format!("stmfadm add-hg-member -g hg1 {name}"), stranger);
    says(&host, "lunette status", &format!("host group hg1: {stranger}"));
    says(&host, &format!("lunette explain {name}"), stranger);
    // A name with an underscore can be everything that another one can.
    host.run(&format!("itadm create-initiator -S secret {name}"));
    host.output(&format!("itadm modify-target -a chap {TARGET}"));
    host.lu("a", LU);
    host.silent(&format!("stmfadm add-view -h hg1 {LU}"));
    let mut initiator = Initiator::new(TcpWire::connect(served.portal()).unwrap());
    let folded = name.to_lowercase();
    initiator.login(&LoginOptions::normal(name, TARGET).with_chap(Chap::one_way(&folded, SECRET.as_bytes()))).unwrap();
    is_silent_on(&host, "lunette status", "has not logged in");
    says(&host, &format!("lunette explain {name}"), "login can succeed");
    initiator.logout().unwrap();
    is_silent_on(&host, &format!("lunette explain {name}"), "has not logged in");
    host.silent(&format!("stmfadm remove-hg-member -g hg1 {name}"));
    host.silent(&format!("stmfadm add-hg-member -g hg1 {name}"));
}

#[test]
fn explain_says_why_a_login_would_fail() {
    let host = Host::new();
    host.output(&format!("itadm create-target -n {TARGET}"));
    let explain = format!("lunette explain {ESX1}");
    says(&host, &explain, "no server is running");
    let _served = Served::start(&host);
    says(&host, &explain, "login can succeed");
    for (change, words) in [
        (format!("stmfadm offline-target {TARGET}"), format!("the target is offline: stmfadm online-target {TARGET}")),
        (format!("stmfadm online-target {TARGET}"), "login can succeed".into()),
        (
            "itadm modify-defaults --access named".into(),
            "access is named, and the initiator is in no host group".into(),
        ),
        ("stmfadm create-hg hg1".into(), "login cannot succeed".into()),
        (format!("stmfadm add-hg-member -g hg1 {ESX1}"), "login can succeed".into()),
        (format!("itadm modify-target -a chap {TARGET}"), format!("itadm create-initiator -s {ESX1}")),
        (format!("itadm create-initiator {ESX1}"), format!("itadm modify-initiator -s {ESX1}")),
    ] {
        assert_eq!(host.run(&change).status, 0, "{change}");
        says(&host, &explain, &words);
    }
    host.fails("lunette explain esx1", "lunette: esx1: unrecognized device id", 1);
    host.fails(&format!("{explain} --target iqn.x"), "lunette: Target iqn.x not found", 1);
}

#[test]
fn a_secret_stands_nowhere_but_in_the_store() {
    let host = Host::new();
    let served = Served::start_with(&host, |command| {
        command.args(["--log", "trace"]);
    });
    let others = ["the-secret-of-the-target", "the-secret-of-radius"];
    for (name, secret) in [("secret", SECRET), ("own", others[0]), ("shared", others[1])] {
        std::fs::write(host.path().join(name), secret).unwrap();
    }
    let mut said = String::new();
    for line in [
        format!("itadm create-target -n {TARGET} -a chap -S own"),
        format!("itadm create-initiator -S secret {ESX1}"),
        "itadm modify-defaults -r 127.0.0.1:11812 -D shared".into(),
        format!("itadm list-target -v {TARGET}"),
        "itadm list-target --json".into(),
        "itadm list-initiator --json".into(),
        "itadm list-defaults".into(),
        "itadm list-defaults --json".into(),
        "lunette status --json".into(),
        format!("lunette explain {ESX1}"),
        "lunette config export".into(),
    ] {
        let outcome = host.run(&line);
        assert_eq!(outcome.status, 0, "{line}: {outcome:?}");
        said += &format!("{}{}", outcome.stdout, outcome.stderr);
    }
    // Typed twice, from standard input here.
    let typed = host.run_with(&format!("itadm modify-initiator -s {ESX1}"), &format!("{SECRET}\n{SECRET}\n"));
    assert_eq!(typed.status, 0, "{typed:?}");
    said += &format!("{}{}", typed.stdout, typed.stderr);
    for (secret, mutual) in [(SECRET, Some(others[0])), ("a-wrong-secret-of-esx1", None)] {
        let mut chap = Chap::one_way(ESX1, secret.as_bytes());
        chap.target_secret = mutual.map(|secret| secret.as_bytes().to_vec());
        let mut initiator = Initiator::new(TcpWire::connect(served.portal()).unwrap());
        let result = initiator.login(&LoginOptions::normal(ESX1, TARGET).with_chap(chap));
        assert_eq!(result.is_ok(), mutual.is_some(), "{result:?}");
    }
    for name in ["cmdline", "environ"] {
        said += &String::from_utf8_lossy(&std::fs::read(format!("/proc/{}/{name}", served.id())).unwrap());
    }
    said += &std::fs::read_to_string(host.state().join("audit.log")).unwrap();
    said += &served.log(&host);
    assert!(said.contains(ESX1) && said.len() > 10_000);
    for secret in [SECRET, others[0], others[1], "a-wrong-secret-of-esx1"] {
        let digits: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let numbers = format!("{:?}", secret.as_bytes());
        for form in [secret, &digits, &digits.to_uppercase(), numbers.trim_matches(['[', ']'])] {
            assert!(!said.contains(form), "'{form}' is said");
        }
    }
    // None can be given in a command line: the options that ask for one take no argument.
    let usage = host.run("itadm").stdout;
    assert!(
        usage.contains("[-s] [-S chap-secret-path]") && usage.contains("[-d]\n\t[-D radius-secret-path]"),
        "{usage}"
    );
    let refused = host.run(&format!("itadm modify-initiator --chap-secret={SECRET} {ESX1}"));
    assert_eq!(refused.status, 1, "{refused:?}");
}
