//! Who logged in, or tried to, stands in the audit log beside what was changed.

mod common;

use std::time::{Duration, Instant};

use common::Host;
use common::served::Served;
use testkit::initiator::{Chap, Initiator, LoginOptions, TcpWire};

const TARGET: &str = "iqn.2026-11.org.example:disks";
const KNOWN: &str = "iqn.2026-11.org.example:known";
const STRANGER: &str = "iqn.2026-11.org.example:stranger";
const SECRET: &str = "a secret of known";

/// The lines of the audit log as soon as one has all of `words`.
fn lines_with(host: &Host, words: &[&str]) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let log = std::fs::read_to_string(host.state().join("audit.log")).unwrap_or_default();
        let lines: Vec<String> = log.lines().map(str::to_owned).collect();
        if lines.iter().any(|line| words.iter().all(|word| line.contains(word))) {
            return lines;
        }
        assert!(Instant::now() < deadline, "no line with {words:?}: {log}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn logins_and_refused_ones_stand_in_the_audit_log_with_who_from_where_to_what_and_why() {
    let host = Host::new();
    let served = Served::start(&host);
    std::fs::write(host.path().join("secret"), SECRET).unwrap();
    host.output(&format!("itadm create-target -n {TARGET} -a none"));
    host.run(&format!("itadm create-initiator -S secret {KNOWN}"));
    host.output(&format!("itadm modify-target -a chap {TARGET}"));
    host.silent("itadm modify-defaults --access named");
    let portal = format!("at {}", served.portal());
    let log_in = |options: LoginOptions| {
        let mut initiator = Initiator::new(TcpWire::connect(served.portal()).unwrap());
        let result = initiator.login(&options);
        let from = format!("from {} ", initiator.wire.stream().local_addr().unwrap());
        (initiator, result.is_ok(), from)
    };
    let known = || LoginOptions::normal(KNOWN, TARGET);

    let (mut initiator, succeeded, from) = log_in(known().with_chap(Chap::one_way(KNOWN, SECRET.as_bytes())));
    assert!(succeeded);
    lines_with(&host, &[" iscsi: ", KNOWN, &from, &format!("logged in to {TARGET}"), &portal, "CHAP"]);
    initiator.logout().unwrap();
    lines_with(&host, &["session ", KNOWN, TARGET, " ended: "]);

    let (_initiator, succeeded, from) = log_in(LoginOptions::discovery(KNOWN));
    assert!(succeeded);
    lines_with(&host, &[KNOWN, &from, "logged in to discovery"]);

    for (options, words) in [
        (known().with_chap(Chap::one_way(KNOWN, b"another secret")), [KNOWN, TARGET, "(status 0201)"]),
        (known(), [KNOWN, TARGET, "(status 0201)"]),
        (LoginOptions::normal(STRANGER, TARGET), [STRANGER, TARGET, "(status 0202)"]),
        (LoginOptions::normal(KNOWN, "iqn.2026-11.org.example:none"), [KNOWN, ":none", "(status 0203)"]),
    ] {
        let (_initiator, succeeded, from) = log_in(options);
        assert!(!succeeded);
        let lines = lines_with(&host, &[&["refused login of", &from, &portal][..], &words[..]].concat());
        let line = lines.iter().find(|line| line.contains(&from)).unwrap();
        let (_, why) = line.rsplit_once(&format!("{portal}: ")).unwrap();
        assert!(why.len() > words[2].len() + 5, "no reason: {line}");
    }

    let lines = lines_with(&host, &[&format!("target {TARGET} is created")]);
    assert!(lines.iter().all(|line| !line.contains(SECRET) && !line.contains("another secret")), "{lines:?}");
}
