//! Two ports on a wire: logins, commands, what is lost and asked for again.

mod common;

use common::*;
use fct::PortConfig;
use fct::initiator::Event;
use fct::soft::Faults;
use fct::wire::{Els, ElsCommand, FcpService, LsExplanation, LsReason, PrliPage, ResponseCode, RoutingControl};
use scsi_core::{Lun, TaskManagementFunction};
use std::sync::Arc;
use std::time::Duration;
use stmf::provider::hba::{HbaLevel, PortId};
use stmf::traffic::Registry;

#[test]
fn either_side_may_give_the_addresses_at_either_level() {
    for level in [HbaLevel::Frames, HbaLevel::Commands] {
        for initiator in [INITIATOR, LOW_INITIATOR] {
            let mut world = World::new(initiator, level, PortConfig::default());
            let target = world.log_in();
            assert_eq!(target, if initiator == INITIATOR { PortId(2) } else { PortId(1) });
            let data = pattern(300 << 10);
            assert_eq!(status(world.write(target, 16, data.clone())), Some(0), "{level:?}");
            let outcome = world.read(target, 16, data.len()).unwrap();
            assert!(outcome.data == data, "{level:?}: what was written is read");
            let sessions = world.stmf.sessions();
            assert_eq!(sessions[0].nexus().initiator, initiator.device_name());
            assert_eq!(sessions[0].nexus().protocol, 0);
            assert_eq!(sessions[0].nexus().transport_id[8..16], initiator.0.to_be_bytes());
        }
    }
}

#[test]
fn an_initiator_tells_the_errors_of_its_link() {
    let (mut world, _) = World::logged_in();
    world.initiator.reset_link(world.now).unwrap();
    world.log_in();
    world.port.ask_link_errors(world.now);
    world.run();
    let counted = world.initiator.hba().statistics();
    assert!(counted.link_failures > 0, "{counted:?}");
    assert_eq!(world.port.info().remotes[0].link_errors, Some(counted));
    // One that does not answer is given up in the end.
    world.wire.set_faults(Faults { lose_nth: 1, ..Faults::default() });
    world.port.ask_link_errors(world.now);
    world.run();
    assert!(world.port.awaits_link_errors());
    world.pass(Duration::from_secs(60));
    assert!(!world.port.awaits_link_errors() && world.port.info().remotes[0].link_errors.is_none());
}

#[test]
fn frames_in_another_order_make_no_difference() {
    let (mut world, target) = World::logged_in();
    world.wire.set_faults(Faults { reorder_per_mille: 400, ..Faults::default() });
    for round in 0..20 {
        let data = pattern(64 << 10).iter().map(|byte| byte ^ round).collect::<Vec<u8>>();
        if status(world.write(target, 0, data.clone())) != Some(0) {
            // A response that overtook nothing is lost to nobody: only an abort ends what hangs.
            panic!("round {round}: the write has no outcome");
        }
        // Data of a read may be overtaken by its response; then the initiator sees too little, not wrong data.
        if let Some(outcome) = world.read(target, 0, data.len())
            && outcome.data.len() == data.len()
        {
            assert!(outcome.data.iter().zip(&data).all(|(got, wanted)| got == wanted || *got == 0), "round {round}");
        }
    }
}

#[test]
fn a_lost_frame_is_ended_by_an_abort_and_the_next_command_goes() {
    let (mut world, target) = World::logged_in();
    // The command arrives, XFER_RDY arrives, one frame of the data does not.
    world.wire.set_faults(Faults { lose_nth: 10, ..Faults::default() });
    let exchange = world.submit(target, &transfer(0x2a, 0, 64 << 10), pattern(64 << 10), 0);
    world.run();
    assert!(world.outcome(exchange).is_none());
    assert_eq!(world.port.outstanding(), 1);
    world.initiator.abort(world.now, exchange);
    world.run();
    assert!(world.outcome(exchange).expect("ended").response.is_none());
    assert_eq!(world.port.outstanding(), 0);
    assert_eq!(status(world.write(target, 0, pattern(4096))), Some(0));
}

#[test]
fn data_that_never_comes_ends_in_an_abort_of_ours() {
    let (mut world, target) = World::logged_in();
    world.wire.set_faults(Faults { lose_nth: 10, ..Faults::default() });
    let exchange = world.submit(target, &transfer(0x2a, 0, 64 << 10), pattern(64 << 10), 0);
    world.pass(Duration::from_secs(100));
    assert_eq!(world.port.outstanding(), 0);
    assert_eq!(world.port.engine_statistics().data_timeouts, 1);
    assert!(world.outcome(exchange).expect("the initiator heard of it").response.is_none());
}

#[test]
fn a_lost_response_is_asked_for_again() {
    let mut world = World::new(INITIATOR, HbaLevel::Frames, PortConfig::default());
    world.initiator.offer(FcpService::RETRY.and(FcpService::REC_SUPPORTED));
    let target = world.log_in();
    // FCP_CMND, two frames of data, then the response.
    world.wire.set_faults(Faults { lose_nth: 4, ..Faults::default() });
    let exchange = world.submit(target, &transfer(0x28, 0, 4096), Vec::new(), 4096);
    world.run();
    assert!(world.outcome(exchange).is_none());
    let (ox_id, rx_id) = world.initiator.wire_names(exchange).unwrap();
    let rec =
        world.initiator.request(world.now, target, &Els::Rec { originator: world.initiator.address(), ox_id, rx_id });
    world.run();
    let answer = world.events.iter().find_map(|event| match event {
        Event::Answered(id, Some(payload)) if *id == rec => fct::wire::RecAnswer::decode(payload).ok(),
        _ => None,
    });
    let answer = answer.expect("REC is answered");
    assert!(answer.complete && answer.is_responder && answer.transferred == 4096, "{answer:?}");
    world.initiator.ask_again(world.now, target, exchange, 0, RoutingControl::RESPONSE).unwrap();
    world.run();
    assert_eq!(status(world.outcome(exchange)), Some(0));
}

#[test]
fn a_lost_piece_of_data_is_asked_for_again() {
    let mut world = World::new(INITIATOR, HbaLevel::Frames, PortConfig::default());
    world.initiator.offer(FcpService::RETRY.and(FcpService::REC_SUPPORTED));
    let target = world.log_in();
    world.wire.set_faults(Faults { lose_nth: 5, ..Faults::default() });
    let data = pattern(16 << 10);
    let exchange = world.submit(target, &transfer(0x2a, 0, data.len()), data.clone(), 0);
    world.run();
    assert!(world.outcome(exchange).is_none());
    // XFER_RDY again, for the whole burst.
    world.initiator.ask_again(world.now, target, exchange, 0, RoutingControl::TRANSFER_READY).unwrap();
    world.run();
    assert_eq!(status(world.outcome(exchange)), Some(0));
    assert!(world.read(target, 0, data.len()).unwrap().data == data);
}

#[test]
fn a_response_that_wants_to_be_confirmed_is() {
    let mut world = World::new(INITIATOR, HbaLevel::Frames, PortConfig::default());
    world.initiator.offer(FcpService::CONFIRMED_COMPLETION);
    let target = world.log_in();
    // An opcode that there is not.
    let outcome = world.execute(target, &[0xff; 16], Vec::new(), 0).unwrap();
    let response = outcome.response.unwrap();
    assert!(response.confirm && response.status == 2);
    assert_eq!(world.port.outstanding(), 0);
}

#[test]
fn a_unit_attention_whose_answer_was_lost_is_told_again() {
    let confirmed = FcpService::CONFIRMED_COMPLETION;
    let retry = FcpService::RETRY.and(FcpService::REC_SUPPORTED);
    for level in [HbaLevel::Frames, HbaLevel::Commands] {
        for offer in [None, Some(confirmed), Some(retry)] {
            let mut world = World::new(INITIATOR, level, PortConfig::default());
            if let Some(offer) = offer {
                world.initiator.offer(offer);
            }
            let target = world.log_in();
            let power_on = scsi_core::AdditionalSense { asc: 0x29, ascq: 0 };
            world.stmf.sessions()[0].restore_attention(Lun::ZERO, power_on);
            // The command arrives, its answer does not: the initiator aborts, and asks anew.
            world.wire.set_faults(Faults { lose_nth: 2, ..Faults::default() });
            let exchange = world.submit(target, &[0; 6], Vec::new(), 0);
            world.run();
            assert!(world.outcome(exchange).is_none());
            world.initiator.abort(world.now, exchange);
            world.run();
            assert!(world.outcome(exchange).expect("ended").response.is_none());
            let response = world.execute(target, &[0; 6], Vec::new(), 0).unwrap().response.unwrap();
            assert_eq!((response.status, response.sense[12]), (2, 0x29), "{level:?} {offer:?}");
            // Told once, it is over.
            assert_eq!(status(world.execute(target, &[0; 6], Vec::new(), 0)), Some(0), "{level:?} {offer:?}");
        }
    }
}

#[test]
fn a_unit_attention_whose_answer_was_lost_is_told_again_however_late_the_abort() {
    let confirmed = FcpService::CONFIRMED_COMPLETION;
    let retry = FcpService::RETRY.and(FcpService::REC_SUPPORTED);
    for level in [HbaLevel::Frames, HbaLevel::Commands] {
        for offer in [None, Some(confirmed), Some(retry)] {
            let mut world = World::new(INITIATOR, level, PortConfig::default());
            if let Some(offer) = offer {
                world.initiator.offer(offer);
            }
            let target = world.log_in();
            let power_on = scsi_core::AdditionalSense { asc: 0x29, ascq: 0 };
            world.stmf.sessions()[0].restore_attention(Lun::ZERO, power_on);
            world.wire.set_faults(Faults { lose_nth: 2, ..Faults::default() });
            let exchange = world.submit(target, &[0; 6], Vec::new(), 0);
            // Longer than R_A_TOV: nobody waits for a confirmation or keeps the answer any more.
            world.pass(Duration::from_secs(15));
            world.initiator.abort(world.now, exchange);
            world.run();
            assert!(world.outcome(exchange).expect("ended").response.is_none());
            let response = world.execute(target, &[0; 6], Vec::new(), 0).unwrap().response.unwrap();
            assert_eq!((response.status, response.sense.get(12)), (2, Some(&0x29)), "{level:?} {offer:?}");
        }
    }
}

#[test]
fn residuals_tell_what_was_left_over() {
    let (mut world, target) = World::logged_in();
    let outcome = world.execute(target, &transfer(0x28, 0, 512), Vec::new(), 4096).unwrap();
    let response = outcome.response.unwrap();
    assert_eq!((outcome.data.len(), response.underflow, response.overflow), (512, 3584, 0));
    let outcome = world.execute(target, &transfer(0x28, 0, 4096), Vec::new(), 512).unwrap();
    let response = outcome.response.unwrap();
    assert_eq!((outcome.data.len(), response.underflow, response.overflow), (512, 0, 3584));
}

#[test]
fn a_cdb_longer_than_its_field_arrives_whole() {
    for level in [HbaLevel::Frames, HbaLevel::Commands] {
        let mut world = World::new(INITIATOR, level, PortConfig::default());
        let target = world.log_in();
        // READ (32): of variable length, 24 bytes behind its header. The unit has seen the whole: it names the opcode.
        let mut cdb = [0; 32];
        (cdb[0], cdb[7], cdb[9]) = (0x7f, 24, 0x09);
        let response = world.execute(target, &cdb, Vec::new(), 512).unwrap().response.unwrap();
        assert_eq!((response.status, response.sense[2], response.sense[12]), (2, 5, 0x20), "{level:?}");
        // Behind a short one the additional bytes mean nothing.
        let mut cdb = transfer(0x28, 0, 512).to_vec();
        cdb.resize(48, 0xff);
        cdb[10..16].fill(0);
        assert_eq!(status(world.execute(target, &cdb, Vec::new(), 512)), Some(0), "{level:?}");
    }
}

#[test]
fn task_management_functions_are_answered() {
    let (mut world, target) = World::logged_in();
    for (function, lun, code) in [
        (TaskManagementFunction::LogicalUnitReset, 0, ResponseCode::COMPLETE),
        (TaskManagementFunction::AbortTaskSet, 0, ResponseCode::COMPLETE),
        (TaskManagementFunction::ClearTaskSet, 0, ResponseCode::COMPLETE),
        (TaskManagementFunction::QueryTaskSet, 0, ResponseCode::COMPLETE),
        // There is one to be told: the reset's.
        (TaskManagementFunction::QueryAsynchronousEvent, 0, ResponseCode::SUCCEEDED),
        (TaskManagementFunction::ClearAca, 0, ResponseCode::COMPLETE),
        (TaskManagementFunction::TargetWarmReset, 0, ResponseCode::COMPLETE),
        (TaskManagementFunction::LogicalUnitReset, 9, ResponseCode::INCORRECT_LUN),
    ] {
        let exchange = world.initiator.manage(world.now, target, Lun::new(lun).unwrap(), function).unwrap();
        world.run();
        let response = world.outcome(exchange).expect("an answer").response.unwrap();
        assert_eq!(response.response.map(|(_, code)| code), Some(code), "{function}");
    }
}

#[test]
fn a_link_that_flaps_ends_sessions_and_commands() {
    let (mut world, target) = World::logged_in();
    world.wire.set_faults(Faults { lose_nth: 10, ..Faults::default() });
    let exchange = world.submit(target, &transfer(0x2a, 0, 64 << 10), pattern(64 << 10), 0);
    world.run();
    world.wire.flap();
    world.run();
    assert!(world.outcome(exchange).expect("ended").response.is_none());
    assert_eq!((world.port.outstanding(), world.stmf.sessions().len()), (0, 0));
    assert_eq!(world.port.info().statistics.link_failures, 1);
    world.events.clear();
    let target = world.log_in();
    assert_eq!(status(world.write(target, 0, pattern(4096))), Some(0));
}

#[test]
fn link_services_are_answered_as_the_standard_has_it() {
    let (mut world, target) = World::logged_in();
    let (hba, ours) = (world.initiator.hba(), world.initiator.address());
    let adisc = Els::Adisc { port_name: hba.port_name(), node_name: hba.node_name(), port_id: ours };
    let mut ask = |els: Els| {
        let exchange = world.initiator.request(world.now, target, &els);
        world.run();
        world.events.iter().find_map(|event| match event {
            Event::Answered(id, payload) if *id == exchange => payload.clone(),
            _ => None,
        })
    };
    let accepted = |payload: Option<Vec<u8>>| payload.is_some_and(|payload| payload[0] == ElsCommand::LS_ACC.0);
    assert!(accepted(ask(adisc.clone())));
    assert!(accepted(ask(Els::Rtv)) && accepted(ask(Els::Echo)) && accepted(ask(Els::Rrq)));
    assert_eq!(ask(Els::Rls).unwrap().len(), 28);
    let rejected = |payload: Option<Vec<u8>>| Els::decode(&payload.unwrap()).unwrap();
    let not_supported = Els::Reject { reason: LsReason::NOT_SUPPORTED, explanation: LsExplanation::NOT_SUPPORTED };
    assert_eq!(rejected(ask(Els::Other(ElsCommand(0x78)))), not_supported);
    let unknown = Els::Reject { reason: LsReason::LOGICAL_ERROR, explanation: LsExplanation::INVALID_EXCHANGE };
    assert_eq!(rejected(ask(Els::Rec { originator: ours, ox_id: 0x1234, rx_id: 0xffff })), unknown);
    // Process logout ends the session; logout the rest.
    let page = PrliPage { kind: 8, flags: 0, words: [0; 2], parameters: 0 };
    assert!(accepted(ask(Els::Prlo(page))));
    assert!(accepted(ask(adisc.clone())));
    assert!(accepted(ask(Els::Logo { port_id: ours, port_name: INITIATOR })));
    let login = Els::Reject { reason: LsReason::UNABLE, explanation: LsExplanation::LOGIN_REQUIRED };
    assert_eq!(rejected(ask(adisc)), login);
    assert!(world.stmf.sessions().is_empty());
}

#[test]
fn a_target_that_is_switched_off_is_left() {
    let (mut world, target) = World::logged_in();
    world.stmf.offline_target(&TARGET.device_name(), stmf::Termination::Logout).unwrap();
    world.run();
    assert!(world.stmf.sessions().is_empty());
    assert_eq!(world.stmf.target(&TARGET.device_name()).unwrap().state, stmf::State::Offline);
    world.stmf.online_target(&TARGET.device_name()).unwrap();
    world.events.clear();
    assert_eq!(world.log_in(), target);
}

#[test]
fn what_goes_through_a_port_is_counted_with_its_sessions_and_units() {
    let (mut world, target) = World::logged_in();
    assert_eq!(status(world.write(target, 0, pattern(4096))), Some(0));
    assert!(world.read(target, 0, 8192).is_some());
    assert_eq!(status(world.execute(target, &[0; 6], Vec::new(), 0)), Some(0));
    // Never ends: its data does not come.
    world.wire.set_faults(Faults { lose_nth: 10, ..Faults::default() });
    let exchange = world.submit(target, &transfer(0x2a, 0, 64 << 10), pattern(64 << 10), 0);
    world.run();
    let report = world.port.traffic();
    let (session, unit) = (report.sessions.values().next().unwrap(), report.lus.values().next().unwrap());
    for traffic in [&report.targets[world.port.name()], session, unit] {
        assert_eq!((traffic.reads, traffic.read_bytes, traffic.writes, traffic.written_bytes), (1, 8192, 1, 4096));
        assert_eq!((traffic.read_latency.counts.iter().sum::<u64>(), traffic.queue_depth), (1, 1), "{traffic:?}");
        assert!(traffic.others >= 1);
    }
    world.initiator.abort(world.now, exchange);
    world.run();
    let report = world.port.traffic();
    assert_eq!((report.lus.len(), report.lus.values().next().unwrap().queue_depth), (1, 0));
}

#[test]
fn what_was_counted_outlives_the_port() {
    let traffic = Arc::<Registry>::default();
    let config = PortConfig { traffic: Arc::clone(&traffic), ..PortConfig::default() };
    let mut world = World::new(INITIATOR, HbaLevel::Frames, config);
    let target = world.log_in();
    assert_eq!(status(world.write(target, 0, pattern(4096))), Some(0));
    let before = traffic.report();
    drop(world);
    let after = traffic.report();
    assert_eq!((before.sessions.len(), after.sessions.len()), (1, 0));
    assert_eq!((&before.targets, &before.lus), (&after.targets, &after.lus));
    assert!(after.lus.values().all(|unit| unit.written_bytes == 4096));
}
