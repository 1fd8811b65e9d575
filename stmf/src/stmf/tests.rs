use super::*;
use crate::config::{Access, DefaultState, GroupKind, Settings};
use crate::provider::NexusLoss;
use crate::session::Termination;
use crate::test_support::*;
use std::sync::atomic::Ordering;

const ESX1: &str = "iqn.1998-01.com.vmware:esx1";
const ESX2: &str = "iqn.1998-01.com.vmware:esx2";
const TARGET: &str = "iqn.2026-11.org.lunette:02:a";
const OTHER: &str = "iqn.2026-11.org.lunette:02:b";

fn one_target() -> Arc<Stmf> {
    let stmf = framework();
    target(&stmf, TARGET);
    stmf
}

#[test]
fn a_membership_change_reaches_every_session_of_the_initiator() {
    let stmf = one_target();
    target(&stmf, OTHER);
    lu(&stmf, 1);
    group(&stmf, GroupKind::Host, "ESX1", &[]);
    view(&stmf, 1, Some("ESX1"), None, 1);
    let sessions = [login(&stmf, ESX1, TARGET), login(&stmf, ESX1, TARGET), login(&stmf, ESX1, OTHER)];
    let stranger = login(&stmf, ESX2, TARGET);
    change(&stmf, |config| config.add_member(GroupKind::Host, "ESX1", ESX1)).unwrap();
    for login in &sessions {
        assert_eq!((login.luns(), login.mailbox.wakes()), (vec![1], 1));
        assert!(login.session.luns_changed());
    }
    assert_eq!((stranger.luns(), stranger.mailbox.wakes()), (vec![], 0));
    assert!(!stranger.session.luns_changed());
    change(&stmf, |config| config.remove_member(GroupKind::Host, "ESX1", ESX1)).unwrap();
    assert!(sessions.iter().all(|login| login.luns().is_empty()));
}

#[test]
fn a_change_that_shows_nobody_anything_new_wakes_nobody() {
    let stmf = one_target();
    lu(&stmf, 1);
    view(&stmf, 1, None, None, 1);
    let login = login(&stmf, ESX1, TARGET);
    group(&stmf, GroupKind::Host, "ESX1", &[ESX1]);
    view(&stmf, 2, Some("ESX1"), None, 2);
    change(&stmf, |config| config.delete_group(GroupKind::Host, "ESX1")).unwrap_err();
    stmf.register_lu(FakeLu::new(3), "sbd").unwrap();
    assert_eq!((login.luns(), login.mailbox.wakes(), login.session.generation()), (vec![1], 0, 0));
}

#[test]
fn joining_a_target_group_while_online_shows_its_luns() {
    let stmf = one_target();
    lu(&stmf, 1);
    group(&stmf, GroupKind::Target, "tg1", &[]);
    view(&stmf, 1, None, Some("tg1"), 4);
    let login = login(&stmf, ESX1, TARGET);
    assert!(login.luns().is_empty());
    change(&stmf, |config| config.add_member(GroupKind::Target, "tg1", TARGET)).unwrap();
    assert_eq!(login.luns(), [4]);
    assert_eq!(stmf.target(TARGET).unwrap().target_group.as_deref(), Some("tg1"));
}

#[test]
fn a_unit_that_goes_offline_leaves_the_map_and_its_tasks_are_aborted() {
    let stmf = one_target();
    let unit = lu(&stmf, 1);
    view(&stmf, 1, None, None, 0);
    let login = login(&stmf, ESX1, TARGET);
    login.command(scsi_core::Lun::ZERO, 5, &[0; 6]);
    stmf.offline_lu(guid(1)).unwrap();
    assert!(login.luns().is_empty());
    assert_eq!(*unit.losses.lock().unwrap(), [(login.session.id(), NexusLoss::Unmapped)]);
    assert!(matches!(login.mailbox.effects.lock().unwrap()[..], [Effect::Aborted { report: true, .. }]));
    stmf.online_lu(guid(1)).unwrap();
    assert_eq!(login.luns(), [0]);
    assert_eq!(unit.attached(), [login.session.id()]);
}

#[test]
fn a_unit_that_moves_to_another_lun_keeps_its_nexuses() {
    let stmf = one_target();
    let unit = lu(&stmf, 1);
    view(&stmf, 1, None, None, 0);
    let login = login(&stmf, ESX1, TARGET);
    let change = stmf.with_config(|config| {
        config.batch(|draft| {
            draft.apply(draft.config().remove_views(guid(1))?);
            let view = crate::config::NewView { lu: guid(1), host_group: None, target_group: None, lun: Some(8) };
            draft.apply(draft.config().add_view(&view)?.0);
            Ok::<_, crate::config::ConfigError>(())
        })
    });
    stmf.commit(change.unwrap());
    assert_eq!(login.luns(), [8]);
    assert!(unit.losses.lock().unwrap().is_empty());
    assert_eq!(login.session.generation(), 1);
}

#[test]
fn views_of_an_unregistered_unit_count_when_it_comes() {
    let stmf = one_target();
    view(&stmf, 1, None, None, 3);
    let login = login(&stmf, ESX1, TARGET);
    assert_eq!(stmf.lus()[0].state, None);
    lu(&stmf, 1);
    assert_eq!(login.luns(), [3]);
    let unit = stmf.unregister_lu(guid(1)).unwrap();
    assert_eq!(unit.guid(), *guid(1).as_bytes());
    assert!(login.luns().is_empty());
    assert_eq!(stmf.lu_status(guid(1)).unwrap().view_entries, 1);
    assert_eq!(stmf.lu_status(guid(2)).unwrap_err().to_string(), format!("{:X}: not found", guid(2)));
}

#[test]
fn the_same_name_registers_once() {
    let stmf = one_target();
    lu(&stmf, 1);
    assert!(matches!(stmf.register_lu(FakeLu::new(1), "sbd"), Err(StmfError::LuExists(_))));
}

#[test]
fn a_unit_whose_store_fails_stays_offline_and_says_why() {
    let stmf = one_target();
    let unit = FakeLu::new(1);
    unit.fails_to_come_online.store(true, Ordering::Relaxed);
    let error = stmf.register_lu(unit.clone(), "sbd").unwrap_err();
    assert_eq!(error.to_string(), format!("{:X}: cannot be brought online: open vol1: the store is gone", guid(1)));
    assert_eq!(stmf.lu_status(guid(1)).unwrap().state, Some(State::Offline));
    unit.fails_to_come_online.store(false, Ordering::Relaxed);
    stmf.online_lu(guid(1)).unwrap();
    assert_eq!(stmf.lu_status(guid(1)).unwrap().state, Some(State::Online));
}

#[test]
fn default_states_hold_units_and_targets_back() {
    let stmf = framework();
    let settings = Settings {
        default_lu_state: DefaultState::Offline,
        default_target_state: DefaultState::Offline,
        ..Settings::default()
    };
    change(&stmf, |config| Ok(config.set_settings(settings))).unwrap();
    lu(&stmf, 1);
    let port = target(&stmf, TARGET);
    assert_eq!(stmf.lu_status(guid(1)).unwrap().state, Some(State::Offline));
    assert_eq!(stmf.target(TARGET).unwrap().state, State::Offline);
    assert!(!port.accepts.load(Ordering::Relaxed));
    assert_eq!(stmf.may_log_in(ESX1, TARGET), Err(LoginRefusal::TargetOffline));
}

#[test]
fn a_target_is_offlining_until_its_last_session_has_closed() {
    let stmf = framework();
    let port = target(&stmf, TARGET);
    let login = login(&stmf, ESX1, TARGET);
    stmf.offline_target(TARGET, Termination::Logout).unwrap();
    assert_eq!(stmf.target(TARGET).unwrap().state, State::Offlining);
    assert!(!port.accepts.load(Ordering::Relaxed));
    assert_eq!(login.session.termination(), Some(Termination::Logout));
    assert!(matches!(stmf.online_target(TARGET), Err(StmfError::Busy(_))));
    assert!(matches!(stmf.unregister_target(TARGET), Err(StmfError::Busy(_))));
    login.session.close();
    assert_eq!(stmf.target(TARGET).unwrap().state, State::Offline);
    stmf.online_target(TARGET).unwrap();
    stmf.offline_target(TARGET, Termination::Kill).unwrap();
    assert_eq!(stmf.target(TARGET).unwrap().state, State::Offline);
    stmf.unregister_target(TARGET).unwrap();
    assert!(stmf.targets().is_empty());
}

#[test]
fn a_target_that_cannot_be_served_stays_offline() {
    let stmf = framework();
    let port = target(&stmf, TARGET);
    stmf.offline_target(TARGET, Termination::Kill).unwrap();
    port.broken.store(true, Ordering::Relaxed);
    let error = stmf.online_target(TARGET).unwrap_err();
    assert_eq!(error.to_string(), format!("{TARGET}: cannot be brought online: no portal"));
    assert_eq!(stmf.target(TARGET).unwrap().state, State::Offline);
}

#[test]
fn an_offline_target_takes_no_session() {
    let stmf = one_target();
    stmf.offline_target(TARGET, Termination::Kill).unwrap();
    let request = SessionRequest {
        initiator: ESX1.into(),
        initiator_alias: None,
        transport_id: vec![],
        target: TARGET.into(),
        target_port_name: TARGET.into(),
        mailbox: Arc::new(FakeMailbox::default()),
        logged_in: 0,
    };
    assert!(matches!(stmf.open_session(request.clone()), Err(StmfError::TargetOffline(_))));
    let request = SessionRequest { target: OTHER.into(), ..request };
    assert!(matches!(stmf.open_session(request), Err(StmfError::TargetNotFound(_))));
}

#[test]
fn targets_are_listed_newest_first_with_their_sessions() {
    let stmf = one_target();
    target(&stmf, OTHER);
    let login = login(&stmf, "IQN.1998-01.com.vmware:ESX1", TARGET);
    let targets = stmf.targets();
    assert_eq!(targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>(), [OTHER, TARGET]);
    let session = &targets[1].sessions[0];
    assert_eq!((session.id, session.initiator.as_str()), (login.session.id().0, ESX1));
    assert_eq!(session.logged_in, 1_229_651_227);
}

#[test]
fn named_access_admits_members_of_host_groups() {
    let stmf = one_target();
    assert_eq!(stmf.may_log_in(ESX1, TARGET), Ok(()));
    let named = Settings { access: Access::Named, ..Settings::default() };
    change(&stmf, |config| Ok(config.set_settings(named))).unwrap();
    group(&stmf, GroupKind::Host, "ESX1", &[ESX1]);
    assert_eq!(stmf.may_log_in("iqn.1998-01.com.VMware:ESX1", TARGET), Ok(()));
    assert_eq!(stmf.may_log_in(ESX2, TARGET), Err(LoginRefusal::NotNamed));
    assert_eq!(stmf.may_log_in(ESX1, OTHER), Err(LoginRefusal::NoSuchTarget));
}

#[test]
fn relative_target_ports_count_from_1_and_are_free_when_the_target_goes() {
    let stmf = one_target();
    target(&stmf, OTHER);
    let port = |name: &str| stmf.relative_target_port(name).unwrap();
    let (a1, a2, b1) = (format!("{TARGET},t,0x0001"), format!("{TARGET},t,0x0002"), format!("{OTHER},t,0x0001"));
    assert_eq!((port(&a1), port(&a2), port(&b1), port(&a1)), (1, 2, 3, 1));
    stmf.offline_target(TARGET, Termination::Kill).unwrap();
    stmf.unregister_target(TARGET).unwrap();
    assert_eq!((port(&b1), port(&a2)), (3, 1));
}

#[test]
fn effects_go_where_their_nexus_lives() {
    let stmf = one_target();
    let unit: Arc<dyn LogicalUnit> = lu(&stmf, 1);
    let (here, there) = (login(&stmf, ESX1, TARGET), login(&stmf, ESX2, TARGET));
    let gone = login(&stmf, ESX2, TARGET);
    gone.session.close();
    let (here_id, there_id, gone_id) = (here.session.id(), there.session.id(), gone.session.id());
    let mut effects = vec![store(here_id, 1), store(there_id, 2), store(gone_id, 3), store(here_id, 4)];
    stmf.dispatch(&unit, &mut effects, |nexus| nexus == here_id);
    let tokens = |effects: &Effects| -> Vec<u64> {
        let token = |effect: &Effect| match effect {
            Effect::Store(request) => request.token.0,
            _ => 0,
        };
        effects.iter().map(token).collect()
    };
    assert_eq!(tokens(&effects), [1, 4]);
    assert_eq!(tokens(&there.mailbox.effects.lock().unwrap()), [2]);
    assert!(here.mailbox.effects.lock().unwrap().is_empty());
}

#[test]
fn an_explanation_names_each_reason() {
    let stmf = one_target();
    group(&stmf, GroupKind::Host, "ESX1", &[ESX1]);
    group(&stmf, GroupKind::Host, "ESX2", &[ESX2]);
    group(&stmf, GroupKind::Target, "tg1", &[OTHER]);
    for number in [1, 2, 3, 5, 6] {
        lu(&stmf, number);
    }
    view(&stmf, 1, Some("ESX1"), None, 0);
    view(&stmf, 2, Some("ESX2"), None, 0);
    view(&stmf, 3, Some("ESX1"), Some("tg1"), 3);
    view(&stmf, 4, None, None, 4);
    view(&stmf, 6, None, None, 6);
    stmf.offline_lu(guid(6)).unwrap();
    let session = login(&stmf, ESX1, TARGET);
    let explanation = stmf.explain("iqn.1998-01.com.VMware:ESX1", TARGET);
    assert_eq!(explanation.host_group.as_deref(), Some("ESX1"));
    assert_eq!((explanation.target_group, explanation.refusal), (None, None));
    assert_eq!(explanation.sessions, [session.session.id().0]);
    let seen: Vec<_> = explanation.luns.iter().map(|seen| (seen.lun, seen.lu, seen.host_group.as_deref())).collect();
    assert_eq!(seen, [(0, guid(1), Some("ESX1"))]);
    let hidden: Vec<_> = explanation.hidden.into_iter().map(|hidden| (hidden.lu, hidden.reason)).collect();
    assert_eq!(
        hidden,
        [
            (guid(2), HiddenReason::OtherHostGroups { groups: vec!["ESX2".into()] }),
            (guid(3), HiddenReason::OtherTargetGroups { groups: vec!["tg1".into()] }),
            (guid(4), HiddenReason::NotRegistered { lun: 4 }),
            (guid(5), HiddenReason::NoView),
            (guid(6), HiddenReason::NotOnline { lun: 6, state: State::Offline }),
        ]
    );
}

#[test]
fn every_command_ends_once_while_views_come_and_go_on_another_thread() {
    const COMMANDS: u64 = 20_000;
    let stmf = one_target();
    let unit = lu(&stmf, 1);
    let login = login(&stmf, ESX1, TARGET);
    let over = std::sync::atomic::AtomicBool::new(false);
    let mut answered = std::thread::scope(|scope| {
        let administrator = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                view(&stmf, 1, None, None, 0);
                change(&stmf, |config| config.remove_views(guid(1))).unwrap();
            }
        });
        let mut answered = Vec::new();
        for tag in 0..COMMANDS {
            for effect in login.command(scsi_core::Lun::ZERO, tag, &[0; 6]) {
                match effect {
                    Effect::Complete(done) => answered.push(done.task.tag.0),
                    other => panic!("{other:?}"),
                }
            }
        }
        over.store(true, Ordering::Relaxed);
        administrator.join().unwrap();
        answered
    });
    for effect in login.mailbox.effects.lock().unwrap().drain(..) {
        match effect {
            Effect::Aborted { task, .. } => answered.push(task.tag.0),
            other => panic!("{other:?}"),
        }
    }
    assert!(unit.tasks.lock().unwrap().is_empty());
    answered.sort_unstable();
    assert!(answered.into_iter().eq(0..COMMANDS), "each once");
}
