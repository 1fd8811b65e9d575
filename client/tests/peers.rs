//! The client against Debian's tgt and istgt; `cargo xtask test --only initiator` runs it where they are.

mod common;

use common::{Peer, Program, SIZE, USER, with_peer};
use lunette_client::{Disk, Error, Operation, TaskManagementFunction, discover};

fn pattern(seed: u64, length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i / 512 * 7 + i + seed * 31) as u8).collect()
}

/// What every target must be able to do with us.
fn exercise(peer: &Peer) {
    let found = discover(&format!("iscsi://{}", peer.portal)).unwrap();
    assert!(found.iter().any(|target| target.name == peer.target), "{found:?}");
    // A target may take a digest that is merely offered, as tgt does: what is asked for is asked for by name.
    for digests in [
        "?header_digest=none&data_digest=none",
        "?header_digest=crc32c&data_digest=crc32c",
        "?data_digest=crc32c&header_digest=none",
    ] {
        let disk = Disk::connect(&format!("{}{digests}", peer.url())).unwrap();
        assert_eq!(disk.capacity(), SIZE, "{}", peer.name);
        let agreed = disk.parameters().unwrap().connection.digests;
        assert_eq!(agreed.data, digests.contains("data_digest=crc32c"), "{} {agreed:?}", peer.name);
        for (offset, length) in [(0, 512), (512, 300 * 512), (1 << 20, 5 << 20)] {
            let data = pattern(offset, length);
            disk.write_at(offset, &data).unwrap();
            assert!(disk.read(offset, length).unwrap() == data, "{} {length} bytes at {offset}", peer.name);
        }
        disk.flush().unwrap();
        let write = |i: u64| Operation::Write { offset: i << 16, data: pattern(i, 1 << 16).into(), durable: false };
        let writes: Vec<_> = (0..64).map(|i| disk.submit(write(i)).unwrap()).collect();
        writes.into_iter().for_each(|write| drop(write.wait().unwrap()));
        disk.drop_connection();
        for i in 0..64 {
            assert!(disk.read(i << 16, 1 << 16).unwrap() == pattern(i, 1 << 16), "{} piece {i}", peer.name);
        }
        assert_eq!(disk.logins(), 2);
        if disk.geometry().can_unmap {
            disk.unmap(0, 1 << 20).unwrap();
        }
        disk.manage(TaskManagementFunction::LogicalUnitReset).unwrap();
        assert_eq!(disk.read(0, 512).unwrap().len(), 512);
        disk.close().unwrap();
    }
}

fn prove(peer: &Peer) {
    let disk = Disk::connect(&peer.url_with_chap()).unwrap();
    disk.write_at(0, &pattern(1, 4096)).unwrap();
    assert!(disk.read(0, 4096).unwrap() == pattern(1, 4096));
    disk.close().unwrap();
    let wrong = peer.url_with_chap().replace(USER.1, "wrong-horse-000");
    assert!(matches!(Disk::connect(&wrong), Err(Error::Login { .. })));
    let mistrusted = peer.url_with_chap().replace(common::TARGET_USER.1, "not-its-secret-1");
    let outcome = Disk::connect(&mistrusted);
    assert!(matches!(outcome, Err(Error::Login { .. })), "{outcome:?}");
    assert!(matches!(Disk::connect(&peer.url()), Err(Error::Login { .. })));
}

#[test]
fn tgt_serves_us() {
    with_peer(Program::Tgt, false, exercise);
}

#[test]
fn istgt_serves_us() {
    with_peer(Program::Istgt, false, exercise);
}

#[test]
fn tgt_and_we_prove_ourselves_to_each_other() {
    with_peer(Program::Tgt, true, prove);
}

#[test]
fn istgt_and_we_prove_ourselves_to_each_other() {
    with_peer(Program::Istgt, true, prove);
}
