//! What the tests of the driver share: units that are slow or broken.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use stmf::Nexus;
use stmf::NexusId;
use stmf::TaskId;
use stmf::provider::{
    Effects, LogicalUnit, LuTask, NexusLoss, Segments, StoreDone, StoreOp, StoreOutcome, StoreRequest,
    TaskManagementRequest,
};

/// Something to wait behind.
#[derive(Debug, Default)]
pub(super) struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(super) fn closed() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.opened.wait(open).unwrap();
        }
    }
}

/// A unit of which only store operations work.
#[derive(Debug, Default)]
pub(super) struct SlowUnit {
    gate: Option<Arc<Gate>>,
    panics: bool,
    flushes: AtomicUsize,
    writes: AtomicUsize,
}

impl SlowUnit {
    pub(super) fn behind(gate: &Arc<Gate>) -> Self {
        Self { gate: Some(Arc::clone(gate)), ..Self::default() }
    }

    pub(super) fn quick() -> Self {
        Self::default()
    }

    pub(super) fn panicking() -> Self {
        Self { panics: true, ..Self::default() }
    }

    /// Flushes and writes that were carried out.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.flushes.load(Ordering::Relaxed), self.writes.load(Ordering::Relaxed))
    }
}

impl LogicalUnit for SlowUnit {
    fn guid(&self) -> [u8; 16] {
        [0; 16]
    }

    fn attach(&self, _: &Arc<Nexus>) {}

    fn detach(&self, _: NexusId, _: NexusLoss, _: &mut Effects) {}

    fn submit(&self, _: LuTask<'_>, _: &mut Effects) {}

    fn data_out(&self, _: TaskId, _: u32, _: Segments, _: &mut Effects) {}

    fn store_done(&self, _: StoreDone, _: &mut Effects) {}

    fn manage(&self, _: TaskManagementRequest, _: &mut Effects) {}

    fn perform(&self, request: StoreRequest) -> StoreDone {
        assert!(!self.panics, "this unit's store panics on purpose");
        if let Some(gate) = &self.gate {
            gate.pass();
        }
        match request.op {
            StoreOp::Flush => self.flushes.fetch_add(1, Ordering::Relaxed),
            StoreOp::Write { durable, .. } => {
                assert!(!durable, "only what comes alone is made durable by itself");
                self.writes.fetch_add(1, Ordering::Relaxed)
            }
            _ => 0,
        };
        StoreDone { nexus: request.nexus, token: request.token, outcome: StoreOutcome::Done }
    }
}
