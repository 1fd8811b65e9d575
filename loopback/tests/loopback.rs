//! Sessions without a wire: what they see, and how commands end.

use lu_sbd::meta::NoRecord;
use lu_sbd::properties::CreateProperties;
use lu_sbd::store::{Capabilities, MemoryStore};
use lu_sbd::{AsyncStore, BackingStore, Limits, SbdLu};
use lunette_loopback::{Client, ClientError, Command, OpenError, Port, alone};
use scsi_core::cdb::{Inquiry, Read, ReportLuns, SynchronizeCache, Write};
use scsi_core::data::LunList;
use scsi_core::{Cdb, Guid, GuidHost, Lun, SenseKey, Status, TaskManagementFunction, TaskManagementResponse};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stmf::config::{Access, Config, GroupKind, NewView, Settings};
use stmf::provider::{StoreCompletion, StoreErrorKind, StoreOp, StoreOutcome};
use stmf::{Stmf, Termination};

const SIZE: u64 = 1 << 20;
const ALICE: &str = "iqn.2026-11.org.example:alice";
const BOB: &str = "iqn.2026-11.org.example:bob";

fn guid(number: u16) -> Guid {
    Guid::generate(Guid::DEFAULT_OUI, GuidHost::HostId(1), 0, number)
}

fn unit(number: u16, store: Arc<dyn BackingStore>) -> Arc<SbdLu> {
    let identity = CreateProperties::default().identity(guid(number), Path::new("ram"), SIZE).unwrap();
    Arc::new(SbdLu::new(identity, store, Arc::new(NoRecord), Limits::default()))
}

fn async_unit(store: Arc<dyn AsyncStore>) -> Arc<SbdLu> {
    let identity = CreateProperties::default().identity(guid(9), Path::new("later"), SIZE).unwrap();
    Arc::new(SbdLu::new_async(identity, store, Arc::new(NoRecord), Limits::default()))
}

fn memory(number: u16) -> Arc<SbdLu> {
    unit(number, Arc::new(MemoryStore::new(SIZE)))
}

fn framework() -> Arc<Stmf> {
    Stmf::new(Config::new(), Box::new(|job| job.run()))
}

fn view(stmf: &Stmf, number: u16, host_group: Option<&str>, target_group: Option<&str>) {
    let view = NewView { lu: guid(number), host_group, target_group, lun: None };
    let (change, _) = stmf.with_config(|config| config.add_view(&view)).unwrap();
    stmf.commit(change);
}

fn group(stmf: &Stmf, kind: GroupKind, name: &str, member: &str) {
    let change = stmf.with_config(|config| config.create_group(kind, name)).unwrap();
    stmf.commit(change);
    let change = stmf.with_config(|config| config.add_member(kind, name, member)).unwrap();
    stmf.commit(change);
}

fn luns(client: &Client) -> usize {
    let cdb = ReportLuns { allocation_length: 4096, ..ReportLuns::default() }.to_cdb();
    let outcome = client.execute(command(&cdb).with_data_in(4096)).unwrap();
    LunList::decode(&outcome.data).unwrap().0.luns.len()
}

fn command(cdb: &Cdb) -> Command {
    Command::new(0, cdb.as_bytes())
}

fn read(lba: u64, blocks: u32) -> Command {
    let cdb = Read { lba, blocks, ..Read::default() }.to_cdb(10).unwrap();
    command(&cdb).with_data_in(blocks * 512)
}

fn write(lba: u64, data: Vec<u8>) -> Command {
    let blocks = (data.len() / 512) as u32;
    let cdb = Write { lba, blocks, ..Write::default() }.to_cdb(10).unwrap();
    command(&cdb).with_data_out(data)
}

/// A client that has met the unit attention of power on.
fn ready(lu: Arc<SbdLu>) -> Client {
    let client = alone(lu).unwrap();
    assert_eq!(client.execute(read(0, 1)).unwrap().sense.unwrap().key, SenseKey::UNIT_ATTENTION);
    client
}

#[test]
fn what_is_written_is_read_back() {
    let client = ready(memory(1));
    let data: Vec<u8> = (0..300 * 512).map(|i| (i / 512) as u8 ^ i as u8).collect();
    assert!(client.execute(write(7, data.clone())).unwrap().is_good());
    let outcome = client.execute(read(7, 300)).unwrap();
    assert!(outcome.is_good() && outcome.data == data);
    let inquiry = Inquiry { allocation_length: 96, ..Inquiry::default() }.to_cdb();
    assert_eq!(client.execute(command(&inquiry).with_data_in(36)).unwrap().data.len(), 36);
}

#[test]
fn groups_and_views_decide_what_a_session_sees() {
    let stmf = framework();
    for number in 1..=3 {
        stmf.register_lu(memory(number), "sbd").unwrap();
    }
    let red = Port::new(&stmf, "iqn.2026-11.org.example:red").unwrap();
    let blue = Port::new(&stmf, "iqn.2026-11.org.example:blue").unwrap();
    group(&stmf, GroupKind::Host, "alices", ALICE);
    // A member joins a target group while the target is offline.
    stmf.offline_target(red.name(), Termination::Kill).unwrap();
    group(&stmf, GroupKind::Target, "reds", red.name());
    stmf.online_target(red.name()).unwrap();
    view(&stmf, 1, None, None);
    view(&stmf, 2, Some("alices"), None);
    view(&stmf, 3, Some("alices"), Some("reds"));
    assert_eq!(luns(&red.connect(ALICE).unwrap()), 3);
    assert_eq!(luns(&blue.connect(ALICE).unwrap()), 2);
    let bob = red.connect(BOB).unwrap();
    assert_eq!(luns(&bob), 1);
    // A change is followed at once.
    let change = stmf.with_config(|config| config.add_member(GroupKind::Host, "alices", BOB)).unwrap();
    stmf.commit(change);
    assert_eq!(bob.lun_map().len(), 3);
}

#[test]
fn who_may_not_log_in_is_told_why() {
    let stmf = framework();
    let port = Port::new(&stmf, "iqn.2026-11.org.example:red").unwrap();
    let settings = Settings { access: Access::Named, ..Settings::default() };
    let change = stmf.with_config(|config| config.set_settings(settings));
    stmf.commit(change);
    assert!(matches!(port.connect(BOB), Err(OpenError::Refused { .. })));
    group(&stmf, GroupKind::Host, "bobs", BOB);
    let client = port.connect(BOB).unwrap();
    stmf.offline_target(port.name(), Termination::Kill).unwrap();
    assert_eq!(client.execute(read(0, 1)).unwrap_err(), ClientError::Ended);
    assert!(port.connect(BOB).is_err());
}

#[test]
fn reservations_tell_two_sessions_apart() {
    let stmf = framework();
    stmf.register_lu(memory(1), "sbd").unwrap();
    view(&stmf, 1, None, None);
    let port = Port::new(&stmf, "iqn.2026-11.org.example:red").unwrap();
    let (alice, bob) = (port.connect(ALICE).unwrap(), port.connect(BOB).unwrap());
    for client in [&alice, &bob] {
        client.execute(read(0, 1)).unwrap();
    }
    let reserve = Command::new(0, &[0x16, 0, 0, 0, 0, 0]);
    assert!(alice.execute(reserve).unwrap().is_good());
    assert_eq!(bob.execute(read(0, 1)).unwrap().status, Status::RESERVATION_CONFLICT);
    drop(alice);
    assert!(bob.execute(read(0, 1)).unwrap().is_good());
}

#[test]
fn threads_share_a_client() {
    let client = ready(memory(1));
    std::thread::scope(|scope| {
        for thread in 0..8u8 {
            let client = &client;
            scope.spawn(move || {
                for round in 0..50 {
                    let data = vec![thread ^ round; 8192];
                    assert!(client.execute(write(u64::from(thread) * 16, data.clone())).unwrap().is_good());
                    assert!(client.execute(read(u64::from(thread) * 16, 16)).unwrap().data == data);
                }
            });
        }
    });
}

#[test]
fn the_sans_io_session_is_driven_by_hand() {
    let stmf = framework();
    stmf.register_lu(memory(1), "sbd").unwrap();
    view(&stmf, 1, None, None);
    let port = Port::new(&stmf, "iqn.2026-11.org.example:red").unwrap();
    let mut session = port.open(ALICE, Box::new(|| {})).unwrap();
    let mut run = |command: Command| {
        let tag = session.submit(command);
        while let Some(job) = session.poll_store() {
            let done = job.lu.perform(job.request);
            session.handle_store_done(&job.lu, done);
        }
        match session.poll_event().unwrap() {
            lunette_loopback::Event::Done { tag: ended, outcome } if ended == tag => outcome.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(run(read(0, 1)).status, Status::CHECK_CONDITION);
    assert!(run(write(3, vec![9; 512])).is_good());
    assert_eq!(run(read(3, 1)).data, vec![9; 512]);
}

/// An asynchronous store that does as it is told.
#[derive(Debug, Default)]
struct Later {
    kept: Mutex<Vec<(StoreOp, StoreCompletion)>>,
    mode: Mutex<Mode>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Mode {
    /// Another thread answers, a little later.
    #[default]
    Answer,
    /// The completion is dropped.
    Forget,
    /// It is kept.
    Keep,
    /// It fails.
    Fail,
}

impl AsyncStore for Later {
    fn capacity(&self) -> u64 {
        SIZE
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn start(&self, op: StoreOp, completion: StoreCompletion) {
        let outcome = match &op {
            StoreOp::Read { length, .. } => {
                StoreOutcome::Data([bytes::Bytes::from(vec![0x5a; *length as usize])].into_iter().collect())
            }
            _ => StoreOutcome::Done,
        };
        match *self.mode.lock().unwrap() {
            Mode::Answer => drop(std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(5));
                completion.finish(outcome);
            })),
            Mode::Forget => drop(completion),
            Mode::Keep => self.kept.lock().unwrap().push((op, completion)),
            Mode::Fail => completion.finish(StoreOutcome::Failed(stmf::provider::StoreError {
                kind: StoreErrorKind::NoSpace,
                context: "told to".into(),
            })),
        }
    }
}

fn later(mode: Mode) -> (Arc<Later>, Client) {
    let store = Arc::new(Later::default());
    let client = ready(async_unit(Arc::clone(&store) as Arc<dyn AsyncStore>));
    *store.mode.lock().unwrap() = mode;
    (store, client)
}

#[test]
fn an_asynchronous_store_answers_later() {
    let (_store, client) = later(Mode::Answer);
    assert!(client.execute(read(0, 8)).unwrap().data.iter().all(|&byte| byte == 0x5a));
    assert!(client.execute(write(0, vec![1; 4096])).unwrap().is_good());
    assert!(client.execute(command(&SynchronizeCache::default().to_cdb(10).unwrap())).unwrap().is_good());
}

#[test]
fn a_dropped_token_is_a_check_condition_and_never_a_hang() {
    let (_store, client) = later(Mode::Forget);
    for command in [read(0, 8), write(0, vec![1; 512])] {
        let outcome = client.execute(command).unwrap();
        assert_eq!(outcome.status, Status::CHECK_CONDITION);
        assert_eq!(outcome.sense.unwrap().key, SenseKey::ABORTED_COMMAND);
    }
}

#[test]
fn a_failed_operation_has_the_sense_of_its_kind() {
    let (_store, client) = later(Mode::Fail);
    let sense = client.execute(write(0, vec![1; 512])).unwrap().sense.unwrap();
    assert_eq!(sense.key, SenseKey::DATA_PROTECT, "{sense}");
}

#[test]
fn a_store_sees_that_its_command_was_cancelled() {
    let (store, client) = later(Mode::Keep);
    let tag = client.submit(read(0, 8));
    std::thread::scope(|scope| {
        // Somebody has to drive the session.
        let waiter = scope.spawn(|| client.wait(tag));
        while store.kept.lock().unwrap().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!store.kept.lock().unwrap()[0].1.is_cancelled());
        let aborted = scope.spawn(|| client.manage(Lun::ZERO, TaskManagementFunction::AbortTask, Some(tag)));
        while !store.kept.lock().unwrap()[0].1.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // The function ends when the operation no longer touches the medium.
        store.kept.lock().unwrap().clear();
        assert_eq!(aborted.join().unwrap().unwrap(), TaskManagementResponse::FunctionComplete);
        assert_eq!(waiter.join().unwrap().unwrap_err(), ClientError::Aborted);
    });
}
