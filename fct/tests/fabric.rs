//! Ports on a switch: addresses, the name server, notifications.

mod common;

use common::*;
use fct::initiator::{Command, Event, Initiator};
use fct::soft::{Fabric, FabricConfig, SoftHba, Wire};
use fct::{Port, PortConfig, PortType};
use scsi_core::Lun;
use std::time::Instant;
use stmf::provider::hba::{PortId, Wwn};

fn attach(fabric: &mut Fabric, seed: u64) -> (fct::soft::WireEnd, Wire) {
    let wire = Wire::new(seed);
    let (a, b) = wire.ends();
    fabric.attach(b);
    (a, wire)
}

fn run(now: Instant, fabric: &mut Fabric, port: &mut Port, initiators: &mut [&mut Initiator]) {
    loop {
        port.drive(now);
        let mut progress = fabric.drive(now);
        while let Some(job) = port.poll_store() {
            progress = true;
            let done = job.lu.perform(job.request);
            port.handle_store_done(now, &job.lu, done);
            port.drive(now);
        }
        for initiator in initiators.iter_mut() {
            progress |= initiator.drive(now);
        }
        if !progress {
            return;
        }
    }
}

fn events(initiator: &mut Initiator) -> Vec<Event> {
    std::iter::from_fn(|| initiator.poll_event()).collect()
}

#[test]
fn a_target_is_found_by_the_name_server_and_lost_by_a_notification() {
    let now = Instant::now();
    let mut fabric = Fabric::new(FabricConfig { domain: 1, name: Wwn(0x1000_0000_0000_00ff) });
    let (end, _) = attach(&mut fabric, 1);
    let mut first = Initiator::new(now, Box::new(SoftHba::new(adapter(INITIATOR), end)), ":qlc1");
    let (end, _) = attach(&mut fabric, 2);
    let stmf = framework();
    let hba = Box::new(SoftHba::new(adapter(TARGET), end));
    let mut port = Port::new(&stmf, hba, PortConfig::default(), Box::new(|| {})).unwrap();
    let (end, wire) = attach(&mut fabric, 3);
    let mut second = Initiator::new(now, Box::new(SoftHba::new(adapter(LOW_INITIATOR), end)), "");
    run(now, &mut fabric, &mut port, &mut [&mut first, &mut second]);
    assert_eq!(first.address().to_string(), "10300");
    assert_eq!((port.info().port_id, port.info().port_type), (PortId(0x01_0400), PortType::NPort));

    first.discover(now);
    run(now, &mut fabric, &mut port, &mut [&mut first, &mut second]);
    let found = events(&mut first);
    let ids = found.iter().find_map(|event| if let Event::Found(ids) = event { Some(ids.clone()) } else { None });
    assert!(ids.is_some_and(|ids| ids.contains(&PortId(0x01_0400))), "{found:?}");

    first.log_in(now, PortId(0x01_0400));
    second.log_in(now, PortId(0x01_0400));
    run(now, &mut fabric, &mut port, &mut [&mut first, &mut second]);
    assert!(events(&mut first).iter().any(|event| matches!(event, Event::LoggedIn(_))));
    // The alias is the symbolic name, as COMSTAR shows it.
    let aliases = |stmf: &stmf::Stmf| {
        let target = stmf.target(&TARGET.device_name()).unwrap();
        let of = |session: stmf::SessionInfo| (session.initiator, session.initiator_alias);
        target.sessions.into_iter().map(of).collect::<Vec<_>>()
    };
    let expected =
        [("wwn.210000E08B100163".to_owned(), Some(":qlc1".to_owned())), ("wwn.1000000000000001".to_owned(), None)];
    assert_eq!(aliases(&stmf), expected);

    let test_unit_ready = Command { lun: Lun::ZERO, cdb: vec![0; 16], ..Command::default() };
    first.submit(now, PortId(0x01_0400), test_unit_ready);
    run(now, &mut fabric, &mut port, &mut [&mut first, &mut second]);
    assert!(
        events(&mut first).iter().any(|event| matches!(event, Event::Done(_, outcome) if outcome.response.is_some()))
    );

    // One cable out: the other session stays. The name server says who is gone: nobody waits for an answer.
    wire.set_up(false);
    run(now, &mut fabric, &mut port, &mut [&mut first, &mut second]);
    assert_eq!(aliases(&stmf), expected[..1]);
}
