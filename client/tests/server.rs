//! The client against our own server, over loopback.

use bytes::Bytes;
use lu_sbd::store::{BackingStore, Error as StoreError, MemoryStore};
use lunette_client::{Command, DigestPreference, Disk, Error, Operation, Options, TaskManagementFunction, discover};
use lunette_server::Server;
use scsi_core::{SenseKey, Status};
use std::io::IoSlice;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

const SIZE: u64 = 16 << 20;

fn server() -> Server {
    Server::builder()
        .disk(lunette_server::Disk::new(MemoryStore::new(SIZE)))
        .portal("127.0.0.1:0".parse().unwrap())
        .threads(2)
        .start()
        .unwrap()
}

fn pattern(seed: u64, length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i / 512 * 7 + i + seed * 31) as u8).collect()
}

#[test]
fn a_disk_tells_its_size_and_keeps_what_is_written() {
    let server = server();
    let disk = Disk::connect(&server.url(0)).unwrap();
    assert_eq!((disk.capacity(), disk.block_size()), (SIZE, 512));
    let data = pattern(1, 5 << 20);
    disk.write_at(512 * 3, &data).unwrap();
    disk.flush().unwrap();
    assert!(disk.read(512 * 3, data.len()).unwrap() == data);
    let mut part = vec![0; 1024];
    disk.read_at(512 * 5, &mut part).unwrap();
    assert!(part == data[1024..2048]);
    disk.close().unwrap();
    assert!(server.sessions().is_empty());
}

#[test]
fn unmap_and_write_same_change_what_is_read() {
    let server = server();
    let disk = Disk::connect(&server.url(0)).unwrap();
    disk.write_same(0, 1 << 20, &pattern(3, 512)).unwrap();
    let read = disk.read(0, 1 << 20).unwrap();
    assert!(read.chunks(512).all(|block| block == pattern(3, 512)));
    disk.unmap(65536, 131_072).unwrap();
    assert!(disk.geometry().unmapped_reads_zero);
    assert!(disk.read(65536, 131_072).unwrap().iter().all(|&byte| byte == 0));
}

#[test]
fn digests_are_used_when_the_url_asks_for_them() {
    let server = server();
    let url = format!("{}?header_digest=crc32c&data_digest=crc32c", server.url(0));
    let disk = Disk::connect(&url).unwrap();
    let digests = disk.parameters().unwrap().connection.digests;
    assert!(digests.header && digests.data);
    let data = pattern(9, 1 << 20);
    disk.write(0, data.clone()).unwrap();
    assert!(disk.read(0, data.len()).unwrap() == data);
}

#[test]
fn bursts_and_segments_need_not_be_whole_blocks() {
    let server = server();
    for (first, burst, segment, initial_r2t) in
        [(921, 921, 524_288, true), (513, 1001, 777, false), (512, 512, 512, true)]
    {
        let mut options: Options = server.url(0).parse().unwrap();
        let session = &mut options.preferences.session;
        (session.first_burst_length, session.max_burst_length, session.initial_r2t) = (first, burst, initial_r2t);
        options.preferences.max_recv_data_segment_length = segment;
        options.command_timeout = Duration::from_secs(10);
        let disk = Disk::connect_with(options).unwrap();
        for length in [512, 4096, 1 << 16, 1 << 20] {
            let data = pattern(length as u64, length);
            disk.write(4096, data.clone()).unwrap_or_else(|error| panic!("{length} bytes, bursts of {burst}: {error}"));
            assert!(disk.read(4096, length).unwrap() == data, "{length} bytes, bursts of {burst}");
        }
    }
}

#[test]
fn operations_are_pipelined_and_each_has_its_own_end() {
    let server = server();
    let disk = Disk::connect(&server.url(0)).unwrap();
    let write =
        |i: u64| Operation::Write { offset: i << 16, data: pattern(i, 1 << 16).into(), durable: i.is_multiple_of(7) };
    let writes: Vec<_> = (0..200).map(|i| disk.submit(write(i)).unwrap()).collect();
    writes.into_iter().for_each(|write| drop(write.wait().unwrap()));
    let read = |i: u64| (i, disk.submit(Operation::Read { offset: i << 16, length: 1 << 16 }).unwrap());
    let reads: Vec<_> = (0..200).rev().map(read).collect();
    for (i, read) in reads {
        assert!(read.wait().unwrap().to_bytes() == pattern(i, 1 << 16));
    }
}

#[test]
fn a_raw_command_gives_its_answer_whatever_the_status() {
    let server = server();
    let disk = Disk::connect(&server.url(0)).unwrap();
    let inquiry = Command { cdb: vec![0x12, 0, 0, 0, 96, 0], data_in_length: 96, ..Command::default() };
    let reply = disk.execute(inquiry).unwrap();
    assert_eq!(reply.status, Status::GOOD);
    assert!(reply.data.len() >= 36);
    let unknown = Command { cdb: vec![0xff; 6], ..Command::default() };
    let reply = disk.execute(unknown).unwrap();
    assert_eq!(reply.status, Status::CHECK_CONDITION);
    assert_eq!(reply.sense.unwrap().key, SenseKey::ILLEGAL_REQUEST);
    // Data out: WRITE(10) of one block.
    let data_out = pattern(5, 512).into();
    let write = Command { cdb: vec![0x2a, 0, 0, 0, 0, 9, 0, 0, 1, 0], data_out, ..Command::default() };
    assert_eq!(disk.execute(write).unwrap().status, Status::GOOD);
    assert!(disk.read(9 * 512, 512).unwrap() == pattern(5, 512));
}

#[test]
fn task_management_reaches_the_unit() {
    let server = server();
    let disk = Disk::connect(&server.url(0)).unwrap();
    disk.manage(TaskManagementFunction::LogicalUnitReset).unwrap();
    // The unit attention that follows is met and passed by.
    disk.write_at(0, &[1; 512]).unwrap();
    let done = disk.submit(Operation::Flush).unwrap();
    disk.abort(&done).unwrap();
}

/// A store whose first write waits until it is let go.
#[derive(Debug)]
struct Stuck {
    memory: MemoryStore,
    /// Whether a write came, and whether it was let go.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Stuck {
    fn change(&self, change: impl FnOnce(&mut (bool, bool)), until: impl Fn(&(bool, bool)) -> bool) {
        let mut state = self.state.lock().unwrap();
        change(&mut state);
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(state, LIMIT, |state| !until(state)).unwrap();
        assert!(!waited.1.timed_out());
    }
}

impl BackingStore for Stuck {
    fn capacity(&self) -> u64 {
        self.memory.capacity()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        self.memory.read_at(offset, into)
    }

    fn write_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), StoreError> {
        self.change(|state| state.0 = true, |state| state.1);
        self.memory.write_at(offset, data)
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

const LIMIT: Duration = Duration::from_secs(60);

/// A write that another initiator's reset ends, so that nobody answers it; `then` is what its own initiator does next.
fn a_reset_from_elsewhere(then: impl FnOnce(&Disk)) {
    let store = Arc::new(Stuck { memory: MemoryStore::new(SIZE), state: Mutex::default(), changed: Condvar::new() });
    let server = Server::builder()
        .disk(lunette_server::Disk::new(Arc::clone(&store)))
        .portal("127.0.0.1:0".parse().unwrap())
        .start()
        .unwrap();
    let mut options: Options = server.url(0).parse().unwrap();
    options.command_timeout = LIMIT;
    let disk = Disk::connect_with(options).unwrap();
    let other = Disk::connect(&server.url(0)).unwrap();
    let write = disk.submit(Operation::Write { offset: 0, data: pattern(1, 512).into(), durable: false }).unwrap();
    store.change(|_| (), |state| state.0);
    std::thread::scope(|scope| {
        scope.spawn(|| other.manage(TaskManagementFunction::LogicalUnitReset).unwrap());
        // The reset should come while the write is stuck; it may be answered only after that.
        std::thread::sleep(Duration::from_millis(300));
        store.change(|state| state.1 = true, |_| true);
    });
    then(&disk);
    write.wait().unwrap();
    assert!(disk.read(0, 512).unwrap() == pattern(1, 512));
}

#[test]
fn a_command_that_the_reset_of_another_ended_is_sent_again_once_any_other_tells_of_the_reset() {
    a_reset_from_elsewhere(|disk| drop(disk.read(4096, 512).unwrap()));
}

#[test]
fn a_unit_that_keeps_silent_is_asked_whether_it_was_reset() {
    a_reset_from_elsewhere(|_| ());
}

#[test]
fn a_lost_connection_is_made_again_and_work_goes_on() {
    let server = server();
    let disk = Disk::connect(&server.url(0)).unwrap();
    for round in 0..5 {
        let write =
            |i: u64| Operation::Write { offset: i << 16, data: pattern(i + round, 1 << 16).into(), durable: false };
        let writes: Vec<_> = (0..64).map(|i| disk.submit(write(i)).unwrap()).collect();
        disk.drop_connection();
        writes.into_iter().for_each(|write| drop(write.wait().unwrap()));
        for i in 0..64 {
            assert!(disk.read(i << 16, 1 << 16).unwrap() == pattern(i + round, 1 << 16));
        }
    }
    assert_eq!(disk.logins(), 6);
    assert_eq!(server.sessions().len(), 1);
}

#[test]
fn without_reconnect_a_lost_connection_is_an_error() {
    let server = server();
    let disk = Disk::connect(&format!("{}?reconnect=off", server.url(0))).unwrap();
    disk.drop_connection();
    let error = disk.read(0, 512).unwrap_err();
    assert!(error.to_string().contains("lost"), "{error}");
}

#[test]
fn a_server_that_is_away_for_a_while_is_waited_for() {
    let first = server();
    let (portal, target) = (first.portals()[0], first.target().unwrap().to_owned());
    let disk = Disk::connect(&first.url(0)).unwrap();
    first.stop_within(Duration::ZERO);
    let read = disk.submit(Operation::Read { offset: 0, length: 512 }).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!read.is_done());
    let second = Server::builder()
        .target(target)
        .disk(lunette_server::Disk::new(MemoryStore::new(SIZE)))
        .portal(portal)
        .start()
        .unwrap();
    assert_eq!(read.wait().unwrap().len(), 512);
    drop(second);
}

#[test]
fn an_outage_longer_than_allowed_ends_in_an_error_that_says_so() {
    let first = server();
    let mut options: Options = first.url(0).parse().unwrap();
    options.reconnect_timeout = Duration::from_millis(400);
    let disk = Disk::connect_with(options).unwrap();
    drop(first);
    let error = disk.read(0, 512).unwrap_err();
    assert!(matches!(error, Error::Outage { .. } | Error::Lost { .. }), "{error}");
    let again = disk.read(0, 512).unwrap_err();
    assert!(again.to_string().contains("refused"), "{again}");
}

#[test]
fn what_cannot_be_reached_is_said_with_a_hint() {
    let began = Instant::now();
    let error = Disk::connect("iscsi://127.0.0.1:1/iqn.2026-11.org.example:x/0").unwrap_err();
    assert!(error.to_string().contains("is the target running"), "{error}");
    let server = server();
    let portal = server.portals()[0];
    let error = Disk::connect(&format!("iscsi://{portal}/iqn.2026-11.org.example:none/0")).unwrap_err();
    assert!(matches!(error, Error::Login { .. }), "{error}");
    assert!(error.to_string().contains("discovery tells"), "{error}");
    let error = Disk::connect(&server.url(7)).unwrap_err();
    assert!(matches!(error, Error::NotADisk { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_target_that_proves_nothing_is_left_at_once() {
    let server = server();
    let url = server.url(0).replace("iscsi://", "iscsi://me%a-secret-of-mine@");
    let url = format!("{url}?target_user=target&target_password=secret-of-the-target");
    let began = Instant::now();
    let error = Disk::connect(&url).unwrap_err();
    assert!(matches!(error, Error::Login { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn misuse_is_refused_before_it_is_sent() {
    let server = server();
    let disk = Disk::connect(&server.url(0)).unwrap();
    assert!(matches!(disk.write_at(1, &[0; 512]), Err(Error::Unaligned { .. })));
    assert!(matches!(disk.read(SIZE, 512), Err(Error::OutOfRange { .. })));
    let empty = Command::default();
    assert!(matches!(disk.execute(empty), Err(Error::Submit(_))));
}

#[test]
fn discovery_finds_the_target() {
    let server = server();
    let targets = discover(&format!("iscsi://{}", server.portals()[0])).unwrap();
    assert_eq!(targets[0].name, server.target().unwrap());
    assert!(targets[0].addresses[0].starts_with(&server.portals()[0].to_string()));
}

#[test]
fn two_disks_with_one_isid_end_each_others_sessions() {
    let server = server();
    let mut options: Options = server.url(0).parse().unwrap();
    options.isid = Some(iscsi_proto::pdu::Isid::random([1, 2, 3], 4));
    options.reconnect_timeout = Duration::ZERO;
    let first = Disk::connect_with(options.clone()).unwrap();
    let second = Disk::connect_with(options.with_digests(DigestPreference::Require)).unwrap();
    assert!(first.read(0, 512).is_err());
    assert_eq!(second.read(0, 512).unwrap().len(), 512);
    assert_eq!(server.sessions().len(), 1);
}

#[test]
fn threads_share_a_disk() {
    let server = server();
    let disk = Disk::connect(&server.url(0)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let disk = &disk;
            scope.spawn(move || {
                for round in 0..50 {
                    let data = Bytes::from(pattern(thread * 100 + round, 8192));
                    disk.write(thread << 20, data.clone()).unwrap();
                    assert!(disk.read(thread << 20, 8192).unwrap() == data);
                }
            });
        }
    });
}

mod with_tokio {
    use super::*;
    use lunette_client::tokio::{Disk, discover};

    #[tokio::test]
    async fn the_tokio_client_does_the_same() {
        let server = server();
        let found = discover(&format!("iscsi://{}", server.portals()[0])).await.unwrap();
        assert_eq!(found[0].name, server.target().unwrap());
        let disk = Disk::connect(&server.url(0)).await.unwrap();
        let data = pattern(1, 3 << 20);
        disk.write(4096, data.clone()).await.unwrap();
        disk.flush().await.unwrap();
        disk.drop_connection();
        assert!(disk.read(4096, data.len()).await.unwrap() == data);
        assert_eq!(disk.logins(), 2);
        disk.unmap(0, 65536).await.unwrap();
        disk.write_same(0, 65536, &[5; 512]).await.unwrap();
        assert!(disk.read(0, 65536).await.unwrap().iter().all(|&byte| byte == 5));
        disk.manage(TaskManagementFunction::AbortTaskSet).await.unwrap();
        disk.close().await.unwrap();
        assert!(server.sessions().is_empty());
    }

    #[tokio::test]
    async fn pipelined_operations_are_awaited_in_any_order() {
        let server = server();
        let disk = Disk::connect(&server.url(0)).await.unwrap();
        let write = |i: u64| Operation::Write { offset: i << 16, data: pattern(i, 1 << 16).into(), durable: false };
        let writes: Vec<_> = (0..100).map(|i| disk.submit(write(i)).unwrap()).collect();
        for write in writes.into_iter().rev() {
            write.await.unwrap();
        }
        assert!(disk.read(99 << 16, 1 << 16).await.unwrap() == pattern(99, 1 << 16));
    }
}
