//! Crashes, damage and company: what the file must survive.

use crate::fc::{FcMode, FcPort, Wwn};
use std::io::Error;
use std::sync::Arc;
use std::sync::Mutex;

use iscsit::config::{InitiatorPatch, Patch, TargetPatch};
use stmf::config::{GroupKind, NewView};

use super::*;
use crate::model::LuRecord;

/// Everything that reached the backend, in order.
#[derive(Debug, Clone)]
enum Op {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

/// An image that keeps a journal of what was done to it.
#[derive(Debug, Default)]
struct Journal {
    image: Image,
    ops: Arc<Mutex<Vec<Op>>>,
}

impl StorageBackend for Journal {
    fn len(&self) -> Result<u64, Error> {
        self.image.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.image.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.ops.lock().unwrap().push(Op::SetLen(len));
        self.image.set_len(len)
    }
    fn sync_data(&self) -> Result<(), Error> {
        self.ops.lock().unwrap().push(Op::Sync);
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.ops.lock().unwrap().push(Op::Write(offset, data.to_vec()));
        self.image.write(offset, data)
    }
}

/// The file as it is when the machine stops after `ops`; `lost` says which writes since the last sync never got to
/// the medium.
fn after(ops: &[Op], lost: impl Fn(usize) -> bool) -> Image {
    let synced = ops.iter().rposition(|op| matches!(op, Op::Sync)).unwrap_or(0);
    let image = Image::default();
    for (at, op) in ops.iter().enumerate() {
        match op {
            Op::SetLen(len) => image.set_len(*len).unwrap(),
            Op::Write(offset, data) if at < synced || !lost(at) => image.write(*offset, data).unwrap(),
            _ => {}
        }
    }
    image
}

fn lu(number: u8) -> stmf::Guid {
    let mut bytes = [number; 16];
    bytes[0] = 0x60;
    stmf::Guid::from_bytes(bytes).unwrap()
}

/// A transaction that touches every kind of row.
fn everything(configuration: &Configuration) -> Transaction {
    let iscsi = &configuration.iscsi;
    let name = "iqn.2026-11.org.example:disk1".to_owned();
    let group = iscsi.plan_create_portal_group("2", &["192.0.2.1"]).unwrap();
    let patch = TargetPatch {
        name: Some(name.clone()),
        chap_secret: Patch::Set(b"the target's secret".to_vec()),
        ..TargetPatch::default()
    };
    let (_, target) = iscsi.plan_create_target(&patch, [0; 16]).unwrap();
    let patch = InitiatorPatch { chap_secret: Patch::Set((1..=16).collect()), ..InitiatorPatch::default() };
    let initiator = iscsi.plan_create_initiator("iqn.1998-01.com.vmware:esx1", &patch).unwrap();
    let stmf = configuration.stmf.batch(|draft| {
        draft.apply(draft.config().create_group(GroupKind::Host, "GW1")?);
        draft.apply(draft.config().add_member(GroupKind::Host, "GW1", "wwn.210000e08b100163")?);
        let view = NewView { lu: lu(1), host_group: Some("GW1"), target_group: None, lun: Some(3) };
        draft.apply(draft.config().add_view(&view)?.0);
        Ok::<(), stmf::ConfigError>(())
    });
    let (port_name, node_name) = (Wwn(0x2100_001b_320e_fd58), Wwn(0x2000_001b_320e_fd58));
    let port = FcPort::new(port_name, node_name, FcMode::Target, "softfc").option("fabric", "one");
    let machine = crate::vhost::VhostPort::new("/run/lunette/web.sock");
    Transaction {
        stmf: Some(stmf.unwrap()),
        iscsi: vec![group, target, initiator],
        lus: vec![(lu(1), Some(LuRecord { guid: lu(1), file: "/srv/disk1".into(), meta: None }))],
        fc_ports: vec![(port.port_name, Some(port))],
        vhost_ports: vec![(machine.target.clone(), Some(machine))],
        ports: vec![(name, Some(1))],
    }
}

#[test]
fn everything_comes_back_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let (store, mut configuration, problems) = ConfigStore::open(state.path()).unwrap();
    assert!(problems.is_empty() && configuration == Configuration::default());
    let transaction = everything(&configuration);
    store.commit(&transaction).unwrap();
    configuration.commit(transaction);
    drop(store);
    let (_store, read, problems) = ConfigStore::open(state.path()).unwrap();
    assert_eq!(problems, []);
    assert_eq!(read, configuration);
    let secret = read.iscsi.initiators().next().unwrap().chap_secret.clone().unwrap();
    assert_eq!(secret.expose(), (1..=16).collect::<Vec<u8>>());
}

#[test]
fn a_crash_at_any_write_leaves_the_old_or_the_new_configuration() {
    let ops = Arc::default();
    let journal = Journal { image: Image::default(), ops: Arc::clone(&ops) };
    let (store, old, _) = ConfigStore::on(journal).unwrap();
    let begin = ops.lock().unwrap().len();
    let transaction = everything(&old);
    store.commit(&transaction).unwrap();
    let end = ops.lock().unwrap().len();
    let mut new = old.clone();
    new.commit(transaction);
    let ops = ops.lock().unwrap().clone();
    assert!(end - begin >= 3, "a commit writes and syncs");
    for stop in begin..=end {
        for (order, lost) in [
            ("none lost", Box::new(|_| false) as Box<dyn Fn(usize) -> bool>),
            ("all lost", Box::new(|_| true)),
            ("even lost", Box::new(|at| at % 2 == 0)),
            ("odd lost", Box::new(|at| at % 2 == 1)),
        ] {
            let (_store, read, problems) = ConfigStore::on(after(&ops[..stop], lost)).unwrap();
            assert!(problems.is_empty(), "{order} at {stop}: {problems:?}");
            assert!(read == old || read == new, "{order} at {stop}: neither the old nor the new configuration");
            assert!(stop < end || read == new, "{order}: an acknowledged change is lost");
        }
    }
}

/// The changes of one administrator's morning, each planned on what the one before left.
fn next_change(configuration: &Configuration, number: u32) -> Transaction {
    let mut transaction = Transaction::default();
    let name = format!("group-{}", number / 4);
    match number % 4 {
        0 => transaction.stmf = Some(configuration.stmf.create_group(GroupKind::Host, &name).unwrap()),
        1 => {
            let member = format!("iqn.2026-11.org.example:host-{number}");
            transaction.stmf = Some(configuration.stmf.add_member(GroupKind::Host, &name, &member).unwrap());
        }
        2 => {
            let patch =
                TargetPatch { name: Some(format!("iqn.2026-11.org.example:disk-{number}")), ..TargetPatch::default() };
            let (target, change) = configuration.iscsi.plan_create_target(&patch, [0; 16]).unwrap();
            transaction.iscsi.push(change);
            transaction.ports.push((target.to_string(), configuration.free_port()));
        }
        // Several rows that must come and go together.
        _ => {
            let change = configuration.stmf.batch(|draft| {
                let member = format!("iqn.2026-11.org.example:host-{}", number - 2);
                draft.apply(draft.config().remove_member(GroupKind::Host, &name, &member)?);
                draft.apply(draft.config().delete_group(GroupKind::Host, &name)?);
                draft.apply(draft.config().create_group(GroupKind::Target, &name)?);
                Ok::<(), stmf::config::ConfigError>(())
            });
            transaction.stmf = Some(change.unwrap());
        }
    }
    transaction
}

#[test]
fn a_crash_in_a_row_of_changes_leaves_all_up_to_one_of_them() {
    let ops = Arc::default();
    let journal = Journal { image: Image::default(), ops: Arc::clone(&ops) };
    let (store, first, _) = ConfigStore::on(journal).unwrap();
    // The configuration after so many writes of the store, for every change that was acknowledged there.
    let mut history = vec![(ops.lock().unwrap().len(), first)];
    for number in 0..12 {
        let mut configuration = history.last().unwrap().1.clone();
        let transaction = next_change(&configuration, number);
        store.commit(&transaction).unwrap();
        configuration.commit(transaction);
        history.push((ops.lock().unwrap().len(), configuration));
    }
    let ops = ops.lock().unwrap().clone();
    for stop in history[0].0..=ops.len() {
        let acknowledged = history.iter().rposition(|(end, _)| *end <= stop).unwrap();
        let possible = &history[acknowledged..(acknowledged + 2).min(history.len())];
        for lost in [(|_| false) as fn(usize) -> bool, |_| true, |at| at % 2 == 0] {
            let (_store, read, problems) = ConfigStore::on(after(&ops[..stop], lost)).unwrap();
            assert!(problems.is_empty(), "at {stop}: {problems:?}");
            assert!(possible.iter().any(|(_, configuration)| *configuration == read), "at {stop} of {}", ops.len());
        }
    }
}

#[test]
fn two_processes_do_not_share_a_state_directory() {
    let state = tempfile::tempdir().unwrap();
    let (_store, _, _) = ConfigStore::open(state.path()).unwrap();
    let error = ConfigStore::open(state.path()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { holder: Some(pid), .. } if pid == std::process::id()), "{error}");
}

#[test]
fn a_foreign_file_is_refused_and_left_alone() {
    for content in ["not ours", ""] {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join(FILE_NAME);
        std::fs::write(&path, content).unwrap();
        let error = ConfigStore::open(state.path()).unwrap_err();
        assert_eq!(error.to_string(), format!("{} is not a Lunette configuration", path.display()));
        assert!(error.hint().contains("move"));
        assert_eq!(std::fs::read(&path).unwrap(), content.as_bytes());
    }
}

#[test]
fn a_damaged_file_is_refused_and_left_alone_or_read_unharmed() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join(FILE_NAME);
    let (store, mut whole, _) = ConfigStore::open(state.path()).unwrap();
    let transaction = everything(&whole);
    store.commit(&transaction).unwrap();
    whole.commit(transaction);
    drop(store);
    let good = std::fs::read(&path).unwrap();
    let used: Vec<usize> = (0..good.len()).filter(|&at| good[at] != 0).collect();
    let mut refused = 0;
    for &at in used.iter().step_by(used.len() / 40) {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        std::fs::write(&path, &bad).unwrap();
        match ConfigStore::open(state.path()) {
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains(FILE_NAME) && !error.hint().is_empty());
                assert_eq!(std::fs::read(&path).unwrap(), bad, "byte {at}: the file was changed");
            }
            Ok((_, read, _)) => assert!(read == whole || read == Configuration::default(), "byte {at}: misread"),
        }
    }
    assert!(refused > 0);
    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert!(ConfigStore::open(state.path()).is_err());
}

#[test]
fn a_later_format_is_refused() {
    let state = tempfile::tempdir().unwrap();
    drop(ConfigStore::open(state.path()).unwrap());
    let database = Database::open(state.path().join(FILE_NAME)).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(META).unwrap().insert(VERSION_KEY, 2u32.to_be_bytes().as_slice()).unwrap();
    write.commit().unwrap();
    drop(database);
    assert!(matches!(ConfigStore::open(state.path()), Err(StoreError::Version { version: 2, .. })));
}

#[test]
fn one_broken_row_keeps_no_other_down() {
    let state = tempfile::tempdir().unwrap();
    let (store, mut configuration, _) = ConfigStore::open(state.path()).unwrap();
    let transaction = everything(&configuration);
    store.commit(&transaction).unwrap();
    configuration.commit(transaction);
    drop(store);
    let database = Database::open(state.path().join(FILE_NAME)).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut rows = write.open_table(ROWS).unwrap();
        rows.insert("target/iqn.2026-11.org.example:bad", b"{\"target\":{\"name\":\"no\"}}".as_slice()).unwrap();
        rows.insert("what/ever", b"\"settings\"".as_slice()).unwrap();
    }
    write.commit().unwrap();
    drop(database);
    let (_store, read, problems) = ConfigStore::open(state.path()).unwrap();
    assert_eq!(read, configuration);
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn the_files_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let state = parent.path().join("state");
    drop(ConfigStore::open(&state).unwrap());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&state.join(FILE_NAME)), 0o600);
}

#[test]
fn a_repair_keeps_what_can_be_read_and_the_old_file() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join(FILE_NAME);
    assert_eq!(ConfigStore::repair(state.path()).unwrap(), None, "there is none");
    let (store, mut whole, _) = ConfigStore::open(state.path()).unwrap();
    let transaction = everything(&whole);
    store.commit(&transaction).unwrap();
    whole.commit(transaction);
    drop(store);
    assert_eq!(ConfigStore::repair(state.path()).unwrap(), None, "it is whole");
    let good = std::fs::read(&path).unwrap();
    let used: Vec<usize> = (MAGIC.len()..good.len()).filter(|&at| good[at] != 0).collect();
    let (mut repaired, mut most) = (0, 0);
    for &at in used.iter().step_by(used.len() / 40) {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        std::fs::write(&path, &bad).unwrap();
        if !matches!(ConfigStore::check(state.path()), Err(StoreError::Corrupt { .. })) {
            continue;
        }
        let repair = ConfigStore::repair(state.path()).unwrap().unwrap();
        assert!(repair.damage.is_some());
        assert_eq!(std::fs::read(&repair.aside).unwrap(), bad, "byte {at}: the old file is gone");
        assert_eq!(ConfigStore::repair(state.path()).unwrap(), None, "byte {at}: still damaged");
        assert!(ConfigStore::open(state.path()).is_ok());
        repaired += 1;
        most = most.max(repair.kept);
        std::fs::remove_file(&repair.aside).unwrap();
    }
    assert!(repaired > 0 && most > 3, "{repaired} repaired, {most} rows at most");
    std::fs::write(&path, "not ours").unwrap();
    assert!(matches!(ConfigStore::repair(state.path()), Err(StoreError::Foreign { .. })));
}

#[test]
fn a_repair_takes_rows_out_that_cannot_be_read() {
    let state = tempfile::tempdir().unwrap();
    let (store, mut configuration, _) = ConfigStore::open(state.path()).unwrap();
    let transaction = everything(&configuration);
    store.commit(&transaction).unwrap();
    configuration.commit(transaction);
    drop(store);
    let database = Database::open(state.path().join(FILE_NAME)).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(ROWS).unwrap().insert("what/ever", b"\"settings\"".as_slice()).unwrap();
    write.commit().unwrap();
    drop(database);
    assert_eq!(ConfigStore::check(state.path()).unwrap().len(), 1);
    let repair = ConfigStore::repair(state.path()).unwrap().unwrap();
    assert_eq!((repair.damage, repair.left_out.len()), (None, 1));
    assert_eq!(ConfigStore::check(state.path()).unwrap(), []);
    assert_eq!(ConfigStore::open(state.path()).unwrap().1, configuration);
}
