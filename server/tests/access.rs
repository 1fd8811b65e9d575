//! How well units are reached through target groups: the administrator's command, what initiators see of it, and that it
//! stays over a restart and travels with the configuration.

mod common;

use common::Host;
use common::served::Served;
use iscsi_proto::initiator::Command;
use lunette_client::{Disk, Options, Reply};
use scsi_core::data::{AsymmetricAccessState as State, StatusCode, TargetPortGroups};
use scsi_core::{SenseKey, Status};

const A: &str = "600144f0000000000000000000000001";
const FRONT: &str = "iqn.2026-11.org.example:front";
const BACK: &str = "iqn.2026-11.org.example:back";

const TEST_UNIT_READY: [u8; 6] = [0; 6];
const REPORT: [u8; 12] = [0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];

fn connect(served: &Served, target: &str) -> Disk {
    let mut options = Options::new("127.0.0.1", target, 0);
    options.port = served.portal().port();
    Disk::connect_with(options).unwrap()
}

fn execute(disk: &Disk, cdb: &[u8], data_out: &[u8], room: u32) -> Reply {
    let data_out = data_out.to_vec().into();
    disk.execute(Command { cdb: cdb.to_vec(), data_out, data_in_length: room, ..Command::default() }).unwrap()
}

#[track_caller]
fn sense(disk: &Disk, cdb: &[u8]) -> (SenseKey, u8, u8) {
    let reply = execute(disk, cdb, &[], 512);
    let sense = reply.sense.unwrap_or_else(|| panic!("{:?} without sense data", reply.status));
    (sense.key, sense.code.asc, sense.code.ascq)
}

#[track_caller]
fn ready(disk: &Disk) {
    assert_eq!(execute(disk, &TEST_UNIT_READY, &[], 0).status, Status::GOOD);
}

/// The groups in the order of their numbers.
fn groups(disk: &Disk) -> Vec<(u16, State, StatusCode, bool)> {
    let reply = execute(disk, &REPORT, &[], 256);
    assert_eq!(reply.status, Status::GOOD, "{:?}", reply.sense);
    let groups = TargetPortGroups::decode(&reply.data.to_bytes()).unwrap().groups;
    groups.iter().map(|group| (group.group, group.state, group.status, group.preferred)).collect()
}

/// One unit behind two targets, of which one is in the target group `front`.
fn furnish(host: &Host) {
    host.lu("a", A);
    host.output(&format!("stmfadm add-view -n 0 {A}"));
    host.silent("stmfadm create-tg front");
    host.silent(&format!("stmfadm add-tg-member -g front {FRONT}"));
    for target in [FRONT, BACK] {
        host.output(&format!("itadm create-target -n {target}"));
    }
}

const CHANGED: (SenseKey, u8, u8) = (SenseKey::UNIT_ATTENTION, 0x2a, 6);
const STANDBY: (SenseKey, u8, u8) = (SenseKey::NOT_READY, 0x04, 0x0b);
const NONE: StatusCode = StatusCode::None;

#[test]
fn what_an_administrator_sets_is_told_to_initiators_and_outlives_a_restart() {
    let host = Host::new();
    let served = Served::start(&host);
    furnish(&host);
    host.prints(
        "lunette access list",
        "    0  (targets in no group): active-optimized\n    1  front: active-optimized\n",
    );
    let (front, back) = (connect(&served, FRONT), connect(&served, BACK));
    let equal = [(0, State::ActiveOptimized, NONE, false), (1, State::ActiveOptimized, NONE, false)];
    assert_eq!((groups(&front), groups(&back)), (equal.to_vec(), equal.to_vec()));

    host.silent("lunette access set standby --target-group front");
    host.silent("lunette access set active-non-optimized --preferred");
    let set = "    0  (targets in no group): active-non-optimized, preferred\n    1  front: standby\n";
    host.prints("lunette access list", set);
    let implicit = StatusCode::Implicit;
    let told = [(0, State::ActiveNonOptimized, implicit, true), (1, State::Standby, implicit, false)];
    for disk in [&front, &back] {
        assert_eq!(sense(disk, &TEST_UNIT_READY), CHANGED);
        assert_eq!(groups(disk), told);
    }
    assert_eq!(sense(&front, &TEST_UNIT_READY), STANDBY);
    ready(&back);
    drop((front, back, served));

    let served = Served::start(&host);
    host.prints("lunette access list", set);
    let back = connect(&served, BACK);
    let again = told.map(|(group, state, _, preferred)| (group, state, NONE, preferred));
    assert_eq!(groups(&back), again);
    host.silent("lunette access set active-optimized --target-group front");
    assert_eq!(sense(&back, &TEST_UNIT_READY), CHANGED);
    ready(&connect(&served, FRONT));
    let log = std::fs::read_to_string(host.state().join("audit.log")).unwrap();
    assert!(log.contains("access through front becomes standby"), "{log}");
}

#[test]
fn what_an_initiator_sets_holds_until_the_server_starts_again() {
    let host = Host::new();
    let served = Served::start(&host);
    furnish(&host);
    let (front, back) = (connect(&served, FRONT), connect(&served, BACK));
    let list = [0, 0, 0, 0, State::Standby as u8, 0, 0, 1];
    let set = [0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, list.len() as u8, 0, 0];
    assert_eq!(execute(&back, &set, &list, 0).status, Status::GOOD);
    ready(&back);
    assert_eq!((sense(&front, &TEST_UNIT_READY), sense(&front, &TEST_UNIT_READY)), (CHANGED, STANDBY));
    assert_eq!(groups(&back)[1], (1, State::Standby, StatusCode::Explicit, false));
    // It is this unit's alone: what is configured stays what it is.
    assert!(host.output("lunette access list").contains("front: active-optimized"));
    drop((front, back, served));
    let served = Served::start(&host);
    ready(&connect(&served, FRONT));
}

#[test]
fn the_document_of_the_configuration_has_what_is_not_the_default() {
    let mut host = Host::with_server(std::sync::Arc::default());
    host.silent("stmfadm create-tg front");
    host.silent("stmfadm create-tg plain");
    let export = |host: &Host, name: &str| {
        let document = host.output("lunette config export");
        std::fs::write(host.path().join(name), &document).unwrap();
        document
    };
    assert!(!export(&host, "before.toml").contains("[[access]]"));
    host.silent("lunette access set unavailable --target-group front");
    host.silent("lunette access set active-optimized --preferred");
    let tables = "[[access]]\nstate = \"active-optimized\"\npreferred = true\n\n[[access]]\ntarget-group = \
                  \"front\"\nstate = \"unavailable\"\npreferred = false\n";
    let after = export(&host, "after.toml");
    assert!(after.contains(tables), "{after}");
    host.silent("lunette config diff after.toml");
    let back = "access through targets in no group: active-optimized\naccess through front: active-optimized\n";
    host.prints("lunette config import before.toml", back);
    assert!(!export(&host, "again.toml").contains("[[access]]"));
    let forth = "access through targets in no group: active-optimized, preferred\naccess through front: unavailable\n";
    host.prints("lunette config import after.toml", forth);
    host.silent("lunette config import after.toml");
    assert_eq!(export(&host, "again.toml"), after);
    // Without a server the same commands change the configuration where it stands.
    host.stop();
    host.silent("lunette access set transitioning --target-group plain");
    let listed = host.output("lunette access list --json");
    assert!(listed.contains("\"transitioning\"") && listed.contains("\"unavailable\""), "{listed}");
    for (line, words) in [
        ("[[access]]\nstate = \"fast\"\n", "fast: no access state"),
        ("[[access]]\n[[access]]\n", "access through targets in no group comes twice"),
        ("[[access]]\ntarget-group = \"missing\"\n", "missing"),
    ] {
        std::fs::write(host.path().join("bad.toml"), line).unwrap();
        let outcome = host.run("lunette config check bad.toml");
        assert!(outcome.status == 1 && outcome.stderr.contains(words), "{outcome:?}");
    }
}

#[test]
fn a_group_or_state_that_is_not_there_is_refused() {
    let host = Host::new();
    host.silent("stmfadm create-tg front");
    host.fails(
        "lunette access set fast",
        "lunette: fast: no access state; there are active-optimized, active-non-optimized, standby, unavailable, \
         transitioning",
        1,
    );
    let outcome = host.run("lunette access set standby --target-group back");
    assert!(outcome.status == 1 && outcome.stderr.contains("back"), "{outcome:?}");
    // A group takes its access with it.
    host.silent("lunette access set standby --target-group front");
    host.silent("stmfadm delete-tg front");
    host.silent("stmfadm create-tg front");
    assert!(host.output("lunette access list").contains("front: active-optimized"));
}

#[test]
fn a_limit_of_operations_holds_over_the_wire_and_is_gone_at_once_when_taken_away() {
    let host = Host::new();
    let served = Served::start(&host);
    furnish(&host);
    host.silent(&format!("stmfadm modify-lu -p iops-limit=20 -p iops-burst=1 {A}"));
    let disk = connect(&served, FRONT);
    let started = std::time::Instant::now();
    for _ in 0..11 {
        disk.read(0, 512).unwrap();
    }
    // Ten times 50 ms; a machine under load only makes it more.
    assert!(started.elapsed().as_millis() >= 500, "{:?}", started.elapsed());
    host.silent(&format!("stmfadm modify-lu -p iops-limit=1 {A}"));
    let read = || disk.submit(lunette_client::Operation::Read { offset: 0, length: 512 }).unwrap();
    // More than the test may take.
    let waiting: Vec<_> = (0..1000).map(|_| read()).collect();
    host.silent(&format!("stmfadm modify-lu -p iops-limit=none {A}"));
    for pending in waiting {
        pending.wait().unwrap();
    }
}
