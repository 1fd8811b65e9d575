//! The power goes at any moment of what a host does to a unit: reservations and mode pages that are to be kept are the old
//! or the new ones, and data that was acknowledged as durable is there, in every state that a file system may leave.
//!
//! As in `power.rs`, strace writes down what the server does to its files, and a model of the promises of a file system
//! (`common/crashed.rs`) enumerates what may be left of that.

mod common;

use std::path::Path;

use common::Host;
use common::calls::Call;
use common::crashed::{self, Tree};
use common::served::Served;
use common::watch::{recorded, unable};
use iscsi_proto::initiator::Command;
use lu_sbd::meta::Identity;
use lu_sbd::store::{BackingStore, FileOptions};
use lunette_client::{Disk, Operation, Options};
use scsi_core::Status;

const GUID: &str = "600144f0000000000000000000000001";
const TARGET: &str = "iqn.2026-11.org.example:disks";
const HOST: &str = "iqn.2026-11.org.example:host";
/// The unit's file, which is part of each state.
const FILE: &str = "disk";
const LONGEST: u64 = 2 << 20;
const KEY: [u8; 8] = *b"the key.";

/// A host with a unit, its server, and an initiator of the unit.
struct Lab {
    host: Host,
    served: Served,
    disk: Disk,
}

impl Lab {
    fn new() -> Self {
        let host = Host::new();
        let served = Served::start(&host);
        let file = host.file(FILE, LONGEST);
        host.output(&format!("stmfadm create-lu -p guid={GUID} {file}"));
        host.output(&format!("stmfadm add-view {GUID}"));
        host.output(&format!("itadm create-target -n {TARGET}"));
        let portal = served.portal();
        let mut options = Options::new(portal.ip().to_string(), TARGET, 0);
        options.port = portal.port();
        options.initiator_name = HOST.into();
        let disk = Disk::connect_with(options).unwrap();
        Self { host, served, disk }
    }

    /// A command that ends well; unit attentions are met and left behind.
    fn good(&self, cdb: &[u8], data_out: &[u8], room: u32) -> Vec<u8> {
        loop {
            let command = Command {
                cdb: cdb.to_vec(),
                data_out: data_out.to_vec().into(),
                data_in_length: room,
                ..Command::default()
            };
            let reply = self.disk.execute(command).unwrap();
            if reply.status == Status::GOOD {
                return reply.data.to_bytes().to_vec();
            }
            assert_eq!(reply.raw_sense.get(2).map(|key| key & 0xf), Some(6), "{cdb:02x?}: {:?}", reply.sense);
        }
    }

    fn write(&self, offset: u64, data: &[u8], durable: bool) {
        let write = Operation::Write { offset, data: data.to_vec().into(), durable };
        self.disk.submit(write).unwrap().wait().unwrap();
    }

    /// What a loss of power may leave until `work` has its answers, each with whether it had them all.
    fn states(&self, work: impl FnOnce(&Self)) -> (Tree, Vec<(Tree, bool)>) {
        let (before, calls) = recorded(&self.host, &self.served, LONGEST, || work(self));
        assert!(calls.iter().any(|call| matches!(call, Call::Sync(_) | Call::SyncRange(..))), "{calls:?}");
        let states = crashed::states(&before, &calls, |path| path.to_string_lossy().starts_with(FILE));
        (before, states)
    }
}

fn persistent_reserve_out(action: u8, kind: u8, key: [u8; 8], new_key: [u8; 8], aptpl: u8) -> ([u8; 10], Vec<u8>) {
    let mut parameters = [key, new_key, [0; 8]].concat();
    parameters[20] = aptpl;
    ([0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], parameters)
}

/// The unit's record, which is in order.
fn record(tree: &Tree) -> String {
    let text = String::from_utf8(tree[Path::new("disk.lu")].clone()).unwrap();
    Identity::from_record(&text).unwrap();
    text
}

#[test]
fn power_lost_amid_a_reservation_or_a_mode_page_that_is_kept_leaves_the_old_or_the_new() {
    if let Some(reason) = unable() {
        return eprintln!("skipped: {reason}; Debian's package is strace, and ptrace must be allowed");
    }
    let lab = Lab::new();
    // MODE SENSE(10) of the caching page without block descriptors, as MODE SELECT takes it: the write cache is off.
    let mut caching = lab.good(&[0x5a, 8, 8, 0, 0, 0, 0, 0, 64, 0], &[], 64);
    caching[..2].fill(0);
    caching[3] = 0;
    caching[8] &= 0x3f;
    caching[10] &= !4;
    let changes = [
        ("REGISTER", persistent_reserve_out(0, 0, [0; 8], KEY, 1)),
        ("RESERVE", persistent_reserve_out(1, 5, KEY, [0; 8], 0)),
        ("MODE SELECT", ([0x55, 0x11, 0, 0, 0, 0, 0, 0, caching.len() as u8, 0], caching)),
        ("CLEAR", persistent_reserve_out(3, 0, KEY, [0; 8], 0)),
    ];
    for (name, (cdb, parameters)) in changes {
        let (before, states) = lab.states(|lab| drop(lab.good(&cdb, &parameters, 0)));
        let old = record(&before);
        let new = record(&states.iter().rfind(|(_, is_whole)| *is_whole).unwrap().0);
        assert_ne!(old, new, "{name} keeps nothing");
        let (mut kept, mut made) = (0, 0);
        for (tree, is_whole) in &states {
            let found = record(tree);
            assert!(found == old || found == new, "{name}: neither old nor new:\n{found}");
            assert!(found == new || !is_whole, "{name}: what was acknowledged is gone");
            *if found == old { &mut kept } else { &mut made } += 1;
        }
        eprintln!("{name}: {} states, {kept} times it is the old, {made} times the new", states.len());
        assert!(kept > 0 && made > 0, "{name}: it was hardly interrupted");
    }
}

/// Opens the unit's file as it is after the power is back, and reads.
fn read(tree: &Tree, offset: u64, length: usize) -> Vec<u8> {
    let place = tempfile::tempdir().unwrap();
    crashed::furnish(place.path(), tree);
    let store = FileOptions::new().open(place.path().join(FILE)).unwrap();
    store.read_bytes(offset, length).unwrap().concat()
}

/// Each sector is what it was or what was written, and all of it what was written, once that was promised.
fn judge(name: &str, states: &[(Tree, bool)], offset: u64, old: &[u8], new: &[u8], promised: bool, whole: bool) {
    let mut kept = 0;
    for (tree, is_whole) in states {
        let found = read(tree, offset, new.len());
        for (at, sector) in found.chunks(512).enumerate() {
            let place = at * 512..at * 512 + sector.len();
            assert!(sector == &old[place.clone()] || sector == &new[place], "{name}: sector {at} is neither");
        }
        assert!(!whole || found == old || found == new, "{name}: a part of it is there");
        assert!(!(promised && *is_whole) || found == new, "{name}: what was promised is gone");
        kept += usize::from(found != new);
    }
    eprintln!("{name}: {} states, all of it is there in {}", states.len(), states.len() - kept);
    assert!(kept > 0 && kept < states.len(), "{name}: it was hardly interrupted");
}

#[test]
fn power_lost_after_data_was_promised_to_be_durable_leaves_it_there() {
    if let Some(reason) = unable() {
        return eprintln!("skipped: {reason}; Debian's package is strace, and ptrace must be allowed");
    }
    let lab = Lab::new();
    let nothing = vec![0; 65536];

    let (_, states) = lab.states(|lab| {
        lab.write(0, &[1; 65536], false);
        lab.disk.flush().unwrap();
    });
    judge("WRITE, SYNCHRONIZE CACHE", &states, 0, &nothing, &[1; 65536], true, false);

    let (_, states) = lab.states(|lab| {
        lab.write(512 << 10, &[2; 8192], false);
        lab.write(256 << 10, &[3; 16384], true);
    });
    judge("WRITE before another with FUA", &states, 512 << 10, &nothing, &[2; 8192], false, false);
    judge("WRITE with FUA", &states, 256 << 10, &nothing, &[3; 16384], true, false);

    // With FUA, 8 blocks. Nothing comes between the two halves of COMPARE AND WRITE, but for a loss of power.
    let cdb = [0x89, 8, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0, 8, 0, 0];
    let (_, states) = lab.states(|lab| drop(lab.good(&cdb, &[[0; 4096], [7; 4096]].concat(), 0)));
    judge("COMPARE AND WRITE", &states, 12 << 17, &[0; 4096], &[7; 4096], true, false);
    // WRITE ATOMIC (16): all of it or nothing. Twice: the first time its journal is made.
    for (round, (old, new)) in [(0, 4), (4, 5)].into_iter().enumerate() {
        let cdb = [0x9c, 8, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 8, 0, 0];
        let (old, new) = ([old; 4096], [new; 4096]);
        let (_, states) = lab.states(|lab| drop(lab.good(&cdb, &new, 0)));
        judge(&format!("WRITE ATOMIC {round}"), &states, 1 << 20, &old, &new, true, true);
    }

    lab.host.silent(&format!("stmfadm modify-lu -p wcd=true {GUID}"));
    let (_, states) = lab.states(|lab| lab.write(768 << 10, &[6; 8192], false));
    judge("WRITE without a write cache", &states, 768 << 10, &nothing, &[6; 8192], true, false);
}
