//! Each fault on a unit that only writes down what reaches it.

use super::*;
use crate::nexus::TaskTag;
use crate::test_support::FakeLu;
use scsi_core::{Lun, TaskAttribute, TaskManagementFunction};

const WRITE_10: [u8; 10] = [0x2a, 0, 0, 0, 0, 100, 0, 0, 8, 0];
const READ_10: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0];

struct Bench {
    fake: Arc<FakeLu>,
    lu: InterceptedLu,
    next: u64,
}

impl Bench {
    fn new() -> Self {
        let fake = FakeLu::new(1);
        let lu = InterceptedLu::new(fake.clone(), Arc::default()).unwrap();
        let nexus = Nexus {
            id: NexusId(1),
            initiator: "iqn.2026-11.org.example:host".into(),
            transport_id: Vec::new(),
            target: String::new(),
            target_port_name: String::new(),
            relative_target_port: 1,
            protocol: 5,
        };
        lu.attach(&Arc::new(nexus));
        Self { fake, lu, next: 0 }
    }

    fn with(rule: Rule) -> Self {
        let bench = Self::new();
        bench.lu.interceptor.add(rule);
        bench
    }

    fn submit(&mut self, cdb: &[u8]) -> (TaskId, Effects) {
        let id = TaskId { nexus: NexusId(1), tag: TaskTag(self.next) };
        self.next += 1;
        let (lun, attribute) = (Lun::ZERO, TaskAttribute::Simple);
        let mut effects = Effects::new();
        let task = LuTask { id, lun, attribute, priority: 0, cdb, data_out_length: 0, data_in_length: 1024 };
        self.lu.submit(task, &mut effects);
        (id, effects)
    }

    fn reached(&self) -> usize {
        self.fake.tasks.lock().unwrap().len()
    }

    fn manage(&self, function: TaskManagementFunction, referenced: Option<TaskTag>) -> Effects {
        let mut effects = Effects::new();
        let request = TaskManagementRequest { nexus: NexusId(1), tag: TaskTag(99), function, referenced };
        self.lu.manage(request, &mut effects);
        effects
    }
}

fn busy() -> Fault {
    Fault::Status(Status::BUSY)
}

#[test]
fn without_rules_everything_passes_and_is_noted() {
    let mut bench = Bench::new();
    let (_, effects) = bench.submit(&WRITE_10);
    assert!(effects.is_empty() && bench.reached() == 1);
    let trace = bench.lu.interceptor.trace().since(0);
    assert_eq!((trace[0].cdb.as_slice(), trace[0].injected), (&WRITE_10[..], false));
    assert_eq!(trace[0].initiator, "iqn.2026-11.org.example:host");
}

#[test]
fn only_the_nth_command_that_matches_meets_the_fault() {
    let mut bench = Bench::with(Rule { commands: vec![(0x2a, None)], nth: 3, count: Some(1), ..Rule::new(busy()) });
    let hit: Vec<bool> = (0..5)
        .map(|_| {
            bench.submit(&READ_10);
            !bench.submit(&WRITE_10).1.is_empty()
        })
        .collect();
    assert_eq!(hit, [false, false, true, false, false]);
    assert_eq!(bench.lu.interceptor.hits(RuleId(0)), Some(1));
}

#[test]
fn a_range_of_blocks_matches_commands_that_overlap_it() {
    for (range, meets) in [(107..200, true), (108..200, false), (0..100, false), (0..101, true)] {
        let mut bench = Bench::with(Rule { blocks: Some(range.clone()), ..Rule::new(busy()) });
        assert_eq!(!bench.submit(&WRITE_10).1.is_empty(), meets, "{range:?}");
        assert!(bench.submit(&[0; 6]).1.is_empty(), "TEST UNIT READY names no blocks");
    }
}

#[test]
fn a_delay_is_a_store_operation_and_then_the_command_goes_on() {
    let mut bench = Bench::with(Rule::new(Fault::Delay(Duration::from_millis(5), None)));
    let (_, mut effects) = bench.submit(&READ_10);
    let Some(Effect::Store(request)) = effects.pop() else { panic!("{effects:?}") };
    assert_eq!(bench.reached(), 0);
    let request = bench.lu.try_perform(request).unwrap_err();
    let done = bench.lu.perform(request);
    bench.lu.store_done(done, &mut effects);
    assert_eq!(bench.reached(), 1);
}

#[test]
fn a_delayed_or_hanging_command_can_be_aborted() {
    for fault in [Fault::Delay(Duration::ZERO, None), Fault::Hang] {
        let mut bench = Bench::with(Rule::new(fault));
        let (id, effects) = bench.submit(&READ_10);
        let managed = bench.manage(TaskManagementFunction::AbortTask, Some(id.tag));
        assert!(matches!(managed[..], [Effect::Aborted { report: false, .. }, Effect::Managed { .. }]), "{managed:?}");
        // The wait of an aborted command ends for nothing.
        for effect in effects {
            let Effect::Store(request) = effect else { panic!("{effect:?}") };
            let mut effects = Effects::new();
            bench.lu.store_done(bench.lu.perform(request), &mut effects);
            assert!(effects.is_empty() && bench.reached() == 0);
        }
        assert!(matches!(bench.lu.interceptor.trace().since(0)[0].ended, Some((_, Ending::Aborted))));
    }
}

#[test]
fn a_short_read_sends_less_and_counts_less() {
    let mut bench = Bench::with(Rule::new(Fault::ShortRead(700)));
    let (task, _) = bench.submit(&READ_10);
    let mut effects = Effects::new();
    for offset in [0, 512] {
        let data = smallvec::smallvec![bytes::Bytes::from(vec![1; 512])];
        effects.push(Effect::SendData { task, offset, data });
    }
    let sense = SmallVec::new();
    effects.push(Effect::Complete(Completion { task, status: Status::GOOD, sense, data_length: 1024 }));
    bench.lu.look(0, &mut effects);
    let [Effect::SendData { data: first, .. }, Effect::SendData { data: second, .. }, Effect::Complete(done)] =
        &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!((first[0].len(), second[0].len(), done.data_length), (512, 188, 700));
}

#[test]
fn a_short_read_does_not_go_right_to_the_initiators_memory() {
    for (fault, lands_there) in [(Fault::ShortRead(700), false), (Fault::After(Disturbance::EndSession), true)] {
        let mut bench = Bench::with(Rule::new(fault));
        let (task, mut effects) = bench.submit(&READ_10);
        let lands = Some(crate::provider::Landing::new(task, 0));
        let op = StoreOp::Read { offset: 0, length: 1024, lands };
        let token = crate::provider::StoreToken(1);
        effects.push(Effect::Store(StoreRequest { nexus: task.nexus, token, op }));
        bench.lu.look(0, &mut effects);
        let [Effect::Store(StoreRequest { op: StoreOp::Read { lands, .. }, .. })] = &effects[..] else {
            panic!("{effects:?}")
        };
        assert_eq!(lands.is_some(), lands_there);
    }
}

#[test]
fn the_transport_is_disturbed_before_or_after_the_command() {
    let mut bench = Bench::with(Rule::new(Fault::Before(Disturbance::DropConnection)));
    let (_, effects) = bench.submit(&WRITE_10);
    assert!(matches!(effects[..], [Effect::Disturb { .. }]) && bench.reached() == 0);

    let mut bench = Bench::with(Rule::new(Fault::After(Disturbance::EndSession)));
    let (task, mut effects) = bench.submit(&WRITE_10);
    assert!(effects.is_empty() && bench.reached() == 1);
    let sense = SmallVec::new();
    effects.push(Effect::Complete(Completion { task, status: Status::GOOD, sense, data_length: 0 }));
    bench.lu.look(0, &mut effects);
    assert!(matches!(effects[..], [Effect::Disturb { .. }]), "the answer stays away: {effects:?}");
    assert!(matches!(bench.lu.interceptor.trace().since(0)[0].ended, Some((_, Ending::Status { .. }))));
}

#[test]
fn a_session_that_ends_takes_its_held_commands_along() {
    let mut bench = Bench::with(Rule::new(Fault::Hang));
    bench.submit(&READ_10);
    let mut effects = Effects::new();
    bench.lu.detach(NexusId(1), NexusLoss::SessionEnded, &mut effects);
    assert!(effects.is_empty());
    assert!(bench.lu.interceptor.trace().since(0)[0].ended.is_some());
}

#[test]
fn the_trace_keeps_the_latest_and_waits_for_what_comes() {
    let trace = Trace::new(2, || Duration::ZERO);
    let guid = crate::test_support::guid(1);
    let id = TaskId { nexus: NexusId(1), tag: TaskTag(0) };
    let task = LuTask {
        id,
        lun: Lun::ZERO,
        attribute: TaskAttribute::Simple,
        priority: 0,
        cdb: &READ_10,
        data_out_length: 0,
        data_in_length: 0,
    };
    let serials: Vec<_> = (0..3).map(|_| trace.begin(guid, None, &task, false)).collect();
    trace.end(serials[0], Ending::Aborted);
    trace.end(serials[2], Ending::Aborted);
    let kept: Vec<_> = trace.since(0).iter().map(|entry| (entry.serial, entry.ended.is_some())).collect();
    assert_eq!(kept, [(1, false), (2, true)]);
    assert!(trace.wait(0, Duration::ZERO, |entry| entry.ended.is_some()).is_some());
    assert!(trace.wait(3, Duration::from_millis(1), |_| true).is_none());
}
