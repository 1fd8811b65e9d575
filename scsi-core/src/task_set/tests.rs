use proptest::prelude::*;

use super::*;
use TaskAttribute::{Aca, HeadOfQueue, Ordered, Simple};

fn set() -> TaskSet {
    TaskSet::new(TaskSetType::Shared, 64)
}

fn admit(set: &mut TaskSet, nexus: usize, attribute: TaskAttribute) -> (TaskKey, bool) {
    set.admit(nexus, attribute, false).unwrap()
}

#[test]
fn an_ordered_task_waits_for_all_and_holds_up_all() {
    let mut set = set();
    let (first, runs) = admit(&mut set, 0, Simple);
    assert!(runs);
    let (ordered, runs) = admit(&mut set, 1, Ordered);
    assert!(!runs);
    let (late, runs) = admit(&mut set, 0, Simple);
    assert!(!runs);
    let mut enabled = Vec::new();
    set.finish(first, &mut enabled);
    assert_eq!(enabled, [ordered]);
    enabled.clear();
    set.finish(ordered, &mut enabled);
    assert_eq!(enabled, [late]);
}

#[test]
fn head_of_queue_passes_everything() {
    let mut set = set();
    admit(&mut set, 0, Simple);
    admit(&mut set, 0, Ordered);
    assert!(admit(&mut set, 1, HeadOfQueue).1);
    assert!(!admit(&mut set, 1, Simple).1);
}

#[test]
fn a_task_set_of_its_own_is_not_held_up_by_others() {
    let mut set = TaskSet::new(TaskSetType::PerItNexus, 64);
    admit(&mut set, 0, Ordered);
    assert!(admit(&mut set, 1, Ordered).1);
    assert!(!admit(&mut set, 0, Simple).1);
    assert_eq!(set.of_set(0).len(), 2);
}

#[test]
fn an_aca_lets_one_aca_task_of_its_nexus_run() {
    let mut set = set();
    let (faulty, _) = admit(&mut set, 0, Simple);
    let (ordered, _) = admit(&mut set, 1, Ordered);
    assert_eq!(set.admit(0, Aca, false), Err(Refusal::NoAca));
    let mut abort = Vec::new();
    set.fault(faulty, true, QueueErrorManagement::Continue, &mut abort);
    let mut enabled = Vec::new();
    set.finish(faulty, &mut enabled);
    assert!(abort.is_empty() && enabled.is_empty() && set.has_aca(0));

    assert_eq!(set.admit(0, Simple, false), Err(Refusal::AcaActive));
    assert_eq!(set.admit(1, HeadOfQueue, false), Err(Refusal::AcaActive));
    assert_eq!(set.admit(1, Aca, false), Err(Refusal::AcaActive));
    assert!(set.admit(1, Simple, true).unwrap().1);
    let (aca, runs) = admit(&mut set, 0, Aca);
    assert!(runs);
    assert_eq!(set.admit(0, Aca, false), Err(Refusal::AcaActive));

    set.clear_aca(0, &mut abort, &mut enabled);
    assert_eq!(abort, [aca]);
    assert_eq!(enabled, [ordered]);
    assert!(!set.has_aca(0));
}

#[test]
fn an_aca_of_another_task_set_does_not_count() {
    let mut set = TaskSet::new(TaskSetType::PerItNexus, 64);
    let (faulty, _) = admit(&mut set, 0, Simple);
    set.fault(faulty, true, QueueErrorManagement::Continue, &mut Vec::new());
    assert!(set.admit(1, Simple, false).is_ok());
    assert_eq!(set.admit(0, Simple, false), Err(Refusal::AcaActive));
}

#[test]
fn qerr_says_who_goes_with_a_fault() {
    let mut set = set();
    let keys: Vec<_> = [0, 0, 1].map(|nexus| admit(&mut set, nexus, Simple).0).into();
    let aborted = |set: &mut TaskSet, queue_error| {
        let mut abort = Vec::new();
        set.fault(keys[0], false, queue_error, &mut abort);
        abort
    };
    assert_eq!(aborted(&mut set, QueueErrorManagement::Continue), []);
    assert_eq!(aborted(&mut set, QueueErrorManagement::AbortNexus), [keys[1]]);
    assert_eq!(aborted(&mut set, QueueErrorManagement::AbortAll), [keys[1], keys[2]]);
}

#[test]
fn a_full_set_refuses() {
    let mut set = TaskSet::new(TaskSetType::Shared, 1);
    admit(&mut set, 0, Simple);
    assert_eq!(set.admit(0, HeadOfQueue, false), Err(Refusal::Full));
}

#[test]
fn a_task_that_ended_is_not_its_successor() {
    let mut set = set();
    let (old, _) = admit(&mut set, 0, Simple);
    set.finish(old, &mut Vec::new());
    let (new, _) = admit(&mut set, 1, Simple);
    assert!(old != new && !set.contains(old) && set.nexus_of(new) == Some(1));
    set.finish(old, &mut Vec::new());
    assert_eq!((set.len(), set.len_of(0), set.len_of(1)), (1, 0, 1));
}

#[test]
fn who_asked_hears_nothing() {
    assert_eq!(abort_notice(1, 1, true), AbortNotice::Silent);
    assert_eq!(abort_notice(1, 0, true), AbortNotice::TaskAborted);
    let code = AdditionalSense::COMMANDS_CLEARED_BY_ANOTHER_INITIATOR;
    assert_eq!(abort_notice(1, 0, false), AbortNotice::UnitAttention(code));
}

proptest! {
    /// The rules as SAM words them, over the list of all tasks, ACA included.
    #[test]
    fn tasks_are_enabled_exactly_when_sam_says(
        steps in prop::collection::vec((0..9u8, 0..3usize, any::<u16>()), 1..100),
        alone in any::<bool>(),
    ) {
        #[derive(Clone, Copy)]
        struct Model { key: TaskKey, nexus: usize, attribute: TaskAttribute, enabled: bool }
        let kind = if alone { TaskSetType::PerItNexus } else { TaskSetType::Shared };
        let mut set = TaskSet::new(kind, 32);
        let mut tasks: Vec<Model> = Vec::new();
        let mut aca: Vec<usize> = Vec::new();
        for (action, nexus, pick) in steps {
            let mut enabled = Vec::new();
            let frozen = |aca: &[usize], nexus| if alone { aca.contains(&nexus) } else { !aca.is_empty() };
            match action {
                0..=4 => {
                    let attribute = [Simple, Simple, Ordered, HeadOfQueue, Aca][action as usize];
                    let other_aca = tasks.iter().any(|task| task.nexus == nexus && task.attribute == Aca);
                    let expected = if tasks.len() == 32 {
                        Err(Refusal::Full)
                    } else if attribute == Aca && aca.contains(&nexus) {
                        if other_aca { Err(Refusal::AcaActive) } else { Ok(()) }
                    } else if frozen(&aca, nexus) {
                        Err(Refusal::AcaActive)
                    } else if attribute == Aca {
                        Err(Refusal::NoAca)
                    } else {
                        Ok(())
                    };
                    let admitted = set.admit(nexus, attribute, false);
                    prop_assert_eq!(admitted.map(|_| ()), expected);
                    if let Ok((key, enabled)) = admitted {
                        tasks.push(Model { key, nexus, attribute, enabled });
                    }
                }
                5 | 6 if !tasks.is_empty() => {
                    let ended = tasks.remove(pick as usize % tasks.len());
                    set.finish(ended.key, &mut enabled);
                }
                7 if !tasks.is_empty() => {
                    let faulty = tasks[pick as usize % tasks.len()];
                    if faulty.enabled && !frozen(&aca, faulty.nexus) {
                        set.fault(faulty.key, true, QueueErrorManagement::Continue, &mut Vec::new());
                        aca.push(faulty.nexus);
                    }
                }
                8 if aca.contains(&nexus) => {
                    let mut abort = Vec::new();
                    aca.retain(|with| *with != nexus);
                    set.clear_aca(nexus, &mut abort, &mut enabled);
                    for key in abort {
                        let at = tasks.iter().position(|task| task.key == key).unwrap();
                        prop_assert_eq!(tasks.remove(at).attribute, Aca);
                        set.finish(key, &mut enabled);
                    }
                    prop_assert!(!tasks.iter().any(|task| task.nexus == nexus && task.attribute == Aca));
                }
                _ => {}
            }
            for task in tasks.iter_mut().filter(|task| enabled.contains(&task.key)) {
                prop_assert!(!task.enabled);
                task.enabled = true;
            }
            for (at, task) in tasks.iter().enumerate() {
                let mut older = tasks[..at].iter().filter(|older| !alone || older.nexus == task.nexus);
                let free = match task.attribute {
                    HeadOfQueue | Aca => true,
                    Ordered => older.next().is_none(),
                    _ => older.all(|older| !matches!(older.attribute, Ordered | HeadOfQueue)),
                };
                // What was enabled before an ACA goes on.
                if task.enabled {
                    prop_assert!(free);
                } else {
                    prop_assert!(!free || frozen(&aca, task.nexus));
                }
                prop_assert_eq!(set.is_enabled(task.key), task.enabled);
            }
            prop_assert_eq!(set.len(), tasks.len());
        }
    }
}
