//! Limits of operations and bytes in a second, in virtual time.

mod common;

use common::{BLOCK, End, Records, Rig, identity, read10, write10};
use lu_sbd::properties::ModifyProperties;
use lu_sbd::store::MemoryStore;
use lu_sbd::{Limits, SbdLu};
use scsi_core::{TaskManagementFunction, TaskManagementResponse};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stmf::TaskId;
use stmf::provider::{Effects, LogicalUnit, NexusLoss, StoreDone, StoreOp, StoreOutcome};

/// Some moment, in microseconds.
const START: u64 = 1_700_000_000_000_000;

/// A unit with limits and a host that has timers, all in one virtual time.
struct Lab {
    rig: Rig,
    clock: Arc<AtomicU64>,
    /// What the unit asked to be called for.
    calls: Vec<(u64, StoreDone)>,
    /// How late the host is.
    late_us: u64,
}

impl Lab {
    fn new(properties: &[&str]) -> Self {
        let clock = Arc::new(AtomicU64::new(START));
        let store = Arc::new(MemoryStore::new(64 << 20));
        let records = Arc::new(Records::default());
        let lu = SbdLu::new(identity(64 << 20, properties), store, Arc::clone(&records) as _, Limits::default());
        let now = Arc::clone(&clock);
        let lu = lu.with_clock(Box::new(move || now.load(Ordering::Relaxed)));
        let mut rig = Rig::of_unit(lu, records);
        rig.hold = true;
        Self { rig, clock, calls: Vec::new(), late_us: 0 }
    }

    /// Microseconds since the start.
    fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed) - START
    }

    fn read(&mut self, nexus: u64) -> TaskId {
        self.rig.simple(nexus, &read10(0, 1), &[], BLOCK as u32)
    }

    fn write(&mut self, nexus: u64, blocks: u16) -> TaskId {
        self.rig.simple(nexus, &write10(0, blocks), &vec![7; usize::from(blocks) * BLOCK], 0)
    }

    /// Carries out what was handed out, at once.
    fn settle(&mut self) {
        while let Some(request) = self.rig.held.front() {
            if let StoreOp::Wait { time } = request.op {
                let due = self.now() + time.as_micros() as u64 + self.late_us;
                let request = self.rig.held.pop_front().unwrap();
                assert!(self.calls.is_empty(), "one call at a time is enough");
                let done = StoreDone { nexus: request.nexus, token: request.token, outcome: StoreOutcome::Done };
                self.calls.push((due, done));
            } else {
                self.rig.release(0);
            }
        }
    }

    /// Lets time pass until `end`, in microseconds since the start.
    fn run_until(&mut self, end: u64) {
        self.settle();
        while self.calls.first().is_some_and(|(due, _)| *due <= end) {
            let (due, done) = self.calls.remove(0);
            self.clock.store(START + due, Ordering::Relaxed);
            let mut effects = Effects::new();
            self.rig.lu.store_done(done, &mut effects);
            self.rig.carry_out(effects);
            self.settle();
        }
        self.clock.store(START + end, Ordering::Relaxed);
    }

    fn ended(&self, nexus: u64) -> usize {
        self.rig.order.iter().filter(|id| id.nexus.0 == nexus).count()
    }

    fn all_ended(&self) -> usize {
        self.rig.order.len()
    }
}

fn lab(properties: &[&str]) -> Lab {
    let mut lab = Lab::new(properties);
    lab.rig.order.clear();
    lab
}

#[test]
fn operations_take_the_time_that_their_limit_says() {
    let mut lab = lab(&["iops-limit=100", "iops-burst=5"]);
    for _ in 0..205 {
        lab.read(1);
    }
    for millisecond in 0..=2000 {
        lab.run_until(millisecond * 1000);
        assert_eq!(lab.all_ended() as u64, 5 + millisecond / 10, "after {millisecond} ms");
    }
    assert_eq!(lab.all_ended(), 205);
}

#[test]
fn bytes_take_the_time_that_their_limit_says() {
    let mut lab = lab(&["bandwidth-limit=1M", "bandwidth-burst=64K"]);
    for _ in 0..33 {
        lab.write(1, 128);
    }
    for step in 0..=32 {
        lab.run_until(step * 62_500);
        assert_eq!(lab.all_ended() as u64, 1 + step, "after {step} times 62.5 ms");
    }
}

#[test]
fn an_operation_of_any_size_passes_and_is_paid_for() {
    let mut lab = lab(&["bandwidth-limit=64K", "bandwidth-burst=1"]);
    lab.write(1, 1024);
    lab.write(1, 128);
    lab.run_until(7_999_999);
    assert_eq!(lab.all_ended(), 1, "512 KiB take eight seconds");
    lab.run_until(8_000_000);
    assert_eq!(lab.all_ended(), 2);
}

#[test]
fn a_write_counts_once_in_however_many_pieces_it_comes() {
    let mut lab = lab(&["iops-limit=1", "iops-burst=1"]);
    lab.rig.backwards = Some(64 << 10);
    lab.write(1, 2048);
    lab.write(1, 2048);
    lab.run_until(999_999);
    assert_eq!(lab.all_ended(), 1);
    lab.run_until(1_000_000);
    assert_eq!(lab.all_ended(), 2);
}

#[test]
fn after_a_rest_a_burst_goes_at_once() {
    let mut lab = lab(&["iops-limit=10", "iops-burst=4"]);
    for second in [0, 10, 20] {
        lab.run_until(second * 1_000_000);
        for _ in 0..6 {
            lab.read(1);
        }
        let before = second as usize / 10 * 6;
        lab.run_until(second * 1_000_000);
        assert_eq!(lab.all_ended(), before + 4);
        lab.run_until(second * 1_000_000 + 200_000);
        assert_eq!(lab.all_ended(), before + 6);
    }
}

#[test]
fn a_host_that_calls_late_loses_nothing_of_the_rate() {
    let mut lab = lab(&["iops-limit=1000", "iops-burst=1"]);
    lab.late_us = 3700;
    for _ in 0..1001 {
        lab.read(1);
    }
    lab.run_until(1_010_000);
    assert_eq!(lab.all_ended(), 1001);
}

#[test]
fn what_moves_no_data_does_not_wait() {
    let mut lab = lab(&["iops-limit=1", "iops-burst=1"]);
    lab.read(1);
    let waits = lab.read(1);
    let ready = lab.rig.simple(1, &[0; 6], &[], 0);
    let flush = lab.rig.simple(1, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], 0);
    lab.run_until(0);
    assert!(lab.rig.ended.contains_key(&ready) && lab.rig.ended.contains_key(&flush));
    assert!(!lab.rig.ended.contains_key(&waits));
}

#[test]
fn a_task_that_waits_is_aborted_at_once_and_never_carried_out() {
    let mut lab = lab(&["iops-limit=1", "iops-burst=1"]);
    lab.write(1, 1);
    let (second, third) = (lab.write(1, 1), lab.write(1, 1));
    lab.run_until(0);
    let tag = lab.rig.manage(1, TaskManagementFunction::AbortTask, Some(second));
    assert_eq!(lab.rig.response(tag), Some(TaskManagementResponse::FunctionComplete));
    assert_eq!(lab.rig.ended.get(&second), Some(&End::Aborted { report: false }));
    lab.run_until(1_000_000);
    assert!(lab.rig.ended.contains_key(&third), "the next has its turn");
    let tags: Vec<TaskId> = (0..50).map(|_| lab.read(2)).collect();
    let reset = lab.rig.manage(1, TaskManagementFunction::LogicalUnitReset, None);
    assert_eq!(lab.rig.response(reset), Some(TaskManagementResponse::FunctionComplete));
    assert!(tags.iter().all(|id| matches!(lab.rig.ended.get(id), Some(End::Aborted { .. }))));
    let before = lab.all_ended();
    lab.run_until(60_000_000);
    assert_eq!(lab.all_ended(), before);
}

#[test]
fn without_the_limit_what_waits_goes() {
    let mut lab = lab(&["iops-limit=1"]);
    for _ in 0..20 {
        lab.read(1);
    }
    lab.run_until(1_000_000);
    assert_eq!(lab.all_ended(), 2);
    lab.rig.lu.modify(&ModifyProperties::parse(["iops-limit=none"], None).unwrap()).unwrap();
    lab.run_until(1_100_000);
    assert_eq!(lab.all_ended(), 20);
    lab.read(1);
    lab.settle();
    assert_eq!(lab.all_ended(), 21);
}

#[test]
fn a_limit_given_while_commands_run_holds_from_then_on() {
    let mut lab = lab(&[]);
    lab.read(1);
    lab.settle();
    lab.rig.lu.modify(&ModifyProperties::parse(["iops-limit=10", "iops-burst=2"], None).unwrap()).unwrap();
    assert_eq!(lab.rig.records.identity().io_limits.iops, Some(10));
    for _ in 0..12 {
        lab.read(1);
    }
    lab.run_until(0);
    assert_eq!(lab.all_ended(), 3);
    lab.run_until(1_000_000);
    assert_eq!(lab.all_ended(), 13);
}

#[test]
fn sessions_share_a_limit_equally_whatever_they_ask_for() {
    let mut lab = lab(&["iops-limit=100", "iops-burst=1"]);
    for _ in 0..300 {
        lab.read(1);
    }
    for _ in 0..60 {
        lab.read(2);
    }
    lab.run_until(1_000_000);
    let (greedy, modest) = (lab.ended(1), lab.ended(2));
    assert_eq!(greedy + modest, 101);
    assert!(greedy.abs_diff(modest) <= 1, "{greedy} {modest}");
}

#[test]
fn those_who_stay_go_on_when_a_session_ends() {
    let mut lab = lab(&["iops-limit=10", "iops-burst=1"]);
    for nexus in [1, 2] {
        for _ in 0..10 {
            lab.read(nexus);
        }
    }
    lab.run_until(0);
    lab.rig.detach(1, NexusLoss::SessionEnded);
    lab.run_until(1_000_000);
    assert_eq!(lab.ended(2), 10);
}
