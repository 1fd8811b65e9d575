//! In steady state the state machine allocates nothing for a read or a write.

use bytes::Bytes;
use lu_sbd::properties::CreateProperties;
use lu_sbd::{Capabilities, Limits, Lu};
use scsi_core::{GuidHost, Lun, TaskAttribute};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use stmf::provider::{Effect, Effects, LuTask, Segments, StoreDone, StoreOp, StoreOutcome};
use stmf::{Nexus, NexusId, TaskId, TaskTag};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is handed to the system's allocator as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One command, carried out with a store that lends one buffer.
fn command(lu: &mut Lu, tag: u64, cdb: &[u8], length: u32, data: &Bytes, effects: &mut Effects) {
    let id = TaskId { nexus: NexusId(1), tag: TaskTag(tag) };
    let (data_out_length, data_in_length) = if cdb[0] == 0x2a { (length, 0) } else { (0, length) };
    let attribute = TaskAttribute::Simple;
    lu.submit(LuTask { id, lun: Lun::ZERO, attribute, priority: 0, cdb, data_out_length, data_in_length }, effects);
    while let Some(effect) = effects.pop() {
        match effect {
            Effect::Store(request) => {
                let outcome = match request.op {
                    StoreOp::Read { length, .. } => {
                        StoreOutcome::Data(Segments::from_iter([data.slice(..length as usize)]))
                    }
                    _ => StoreOutcome::Done,
                };
                lu.store_done(StoreDone { nexus: request.nexus, token: request.token, outcome }, effects);
            }
            Effect::ReceiveData { task, offset, length } => {
                let half = length as usize / 2;
                let (one, two) = (data.slice(..half), data.slice(half..length as usize));
                lu.data_out(task, offset, Segments::from_iter([one]), effects);
                lu.data_out(task, offset + half as u32, Segments::from_iter([two]), effects);
            }
            Effect::Complete(completion) => assert_eq!(completion.task, id),
            _ => {}
        }
    }
}

#[test]
fn reads_and_writes_allocate_nothing_in_steady_state() {
    let properties = CreateProperties::parse([], Some("1G")).unwrap();
    let guid = properties.guid(GuidHost::HostId(1), 0, 1);
    let identity = properties.identity(guid, Path::new("x"), 0).unwrap();
    let mut lu = Lu::new(identity, Capabilities::default(), Limits::default());
    lu.attach(&Arc::new(Nexus {
        id: NexusId(1),
        initiator: "iqn.2026-11.org.example:host".into(),
        transport_id: Vec::new(),
        target: "t".into(),
        target_port_name: "t,t,0x0001".into(),
        relative_target_port: 1,
        protocol: 5,
    }));
    let data = Bytes::from(vec![7; 65536]);
    // A promotable buffer allocates its counter at the first clone.
    let _shared = data.clone();
    let mut effects = Effects::with_capacity(16);
    let mut run = |from: u64, to: u64| {
        for tag in from..to {
            let lba = (tag % 1000) as u8;
            let (opcode, blocks) = if tag % 2 == 0 { (0x28, 8) } else { (0x2a, 128) };
            let cdb = [opcode, 0, 0, 0, 1, lba, 0, 0, blocks, 0];
            command(&mut lu, tag, &cdb, u32::from(blocks) * 512, &data, &mut effects);
        }
    };
    run(0, 5000);
    let before = ALLOCATIONS.with(Cell::get);
    run(5000, 15_000);
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
    assert_eq!(lu.statistics().writes, 7500);
}
