//! Machines against each other and against a scripted forwarder, without frames of FC but link services.

use super::*;
use crate::wire::{FrameControl, UNASSIGNED};

const A: MacAddress = MacAddress([0x52, 0x54, 0, 0, 0, 1]);
const B: MacAddress = MacAddress([0x52, 0x54, 0, 0, 0, 2]);
const FORWARDER: MacAddress = MacAddress([0x00, 0x0d, 0xec, 0, 0, 9]);
const SWITCH: Wwn = Wwn(0x2000_000d_ec00_0009);

fn node(mac: MacAddress, ending: u16) -> Node {
    let port_name = Wwn(mac.port_name().0 << 16 | u64::from(ending));
    Node { mac, port_name, node_name: mac.node_name(), max_size: 2158 }
}

fn fip(mac: MacAddress, ending: u16, mode: FcoeMode) -> Fip {
    Fip::new(node(mac, ending), mode, 64, u64::from(ending) + mac.0[5] as u64)
}

fn sent(fip: &mut Fip) -> Vec<(Bytes, Message)> {
    let frames = std::iter::from_fn(|| fip.poll_transmit());
    frames.map(|frame| frame.concat().into()).map(|frame: Bytes| (frame.clone(), read(&frame))).collect()
}

fn read(frame: &Bytes) -> Message {
    Message::decode(&frame.slice(14..)).unwrap()
}

fn ethernet(to: MacAddress, from: MacAddress, message: &Message) -> Bytes {
    let mut bytes = BytesMut::from(&ethernet_header(to, from, ETHERTYPE_FIP)[..]);
    bytes.extend_from_slice(&message.encode());
    bytes.freeze()
}

/// Lets all of them talk for a time; what each was told.
fn talk(now: &mut Instant, ports: &mut [&mut Fip], time: Duration) -> Vec<Vec<FipEvent>> {
    let end = *now + time;
    let mut told: Vec<Vec<FipEvent>> = ports.iter().map(|_| Vec::new()).collect();
    while *now < end {
        for at in 0..ports.len() {
            ports[at].handle_timeout(*now);
            let frames: Vec<Bytes> = sent(ports[at]).into_iter().map(|(frame, _)| frame).collect();
            for other in (0..ports.len()).filter(|&other| other != at) {
                frames.iter().for_each(|frame| ports[other].handle(*now, frame));
            }
        }
        for (port, told) in ports.iter_mut().zip(&mut told) {
            told.extend(std::iter::from_fn(|| port.poll_event()));
        }
        *now += Duration::from_millis(10);
    }
    told
}

fn logo(from: PortId, to: PortId) -> FcFrame {
    let header = FrameHeader {
        r_ctl: RoutingControl::ELS_REQUEST,
        d_id: to,
        cs_ctl: 0,
        s_id: from,
        kind: Type::ELS,
        f_ctl: FrameControl::FIRST_SEQUENCE.and(FrameControl::END_SEQUENCE),
        seq_id: 0,
        df_ctl: 0,
        seq_cnt: 0,
        ox_id: 0x77,
        rx_id: UNASSIGNED,
        parameter: 0,
    };
    FcFrame { header: header.encode(), payload: Segments::from_iter([Bytes::from_static(&[5, 0, 0, 0, 0, 0, 0, 1])]) }
}

#[test]
fn two_ports_claim_what_their_names_end_in_and_know_each_other() {
    let mut now = Instant::now();
    let (mut a, mut b) = (fip(A, 0x11, FcoeMode::Vn2Vn), fip(B, 0x22, FcoeMode::Vn2Vn));
    a.start(now, 2158);
    b.start(now, 2158);
    let told = talk(&mut now, &mut [&mut a, &mut b], Duration::from_secs(3));
    assert_eq!((a.identifier(), b.identifier()), (Some(PortId(0x11)), Some(PortId(0x22))));
    for (told, other) in told.iter().zip([0x22, 0x11]) {
        assert!(matches!(told[0], FipEvent::Up { id: Some(_), .. }), "{told:?}");
        let met =
            |event: &FipEvent| matches!(event, FipEvent::NeighbourUp { port_id, .. } if *port_id == PortId(other));
        assert_eq!(told.iter().filter(|event| met(event)).count(), 1, "{told:?}");
    }
    // Later nothing is told, and nobody ages.
    let told = talk(&mut now, &mut [&mut a, &mut b], Duration::from_secs(60));
    assert!(told.iter().all(Vec::is_empty), "{told:?}");
}

#[test]
fn of_two_that_want_one_identifier_the_higher_name_gets_it() {
    let mut now = Instant::now();
    let (mut a, mut b) = (fip(A, 0x33, FcoeMode::Vn2Vn), fip(B, 0x33, FcoeMode::Vn2Vn));
    a.start(now, 2158);
    b.start(now, 2158);
    talk(&mut now, &mut [&mut a, &mut b], Duration::from_secs(5));
    let ids = (a.identifier().unwrap(), b.identifier().unwrap());
    assert_ne!(ids.0, ids.1);
    assert!(ids.0 == PortId(0x33) || ids.1 == PortId(0x33), "{ids:?}");
    assert_eq!((a.neighbours(), b.neighbours()), (1, 1));
}

#[test]
fn two_islands_with_one_identifier_part_when_they_are_joined() {
    let mut now = Instant::now();
    let (mut a, mut b) = (fip(A, 0x44, FcoeMode::Vn2Vn), fip(B, 0x44, FcoeMode::Vn2Vn));
    a.start(now, 2158);
    b.start(now, 2158);
    talk(&mut now, &mut [&mut a], Duration::from_secs(3));
    let mut at = now - Duration::from_secs(3);
    talk(&mut at, &mut [&mut b], Duration::from_secs(3));
    assert_eq!(a.identifier(), b.identifier());
    let told = talk(&mut now, &mut [&mut a, &mut b], Duration::from_secs(30));
    assert_eq!(b.identifier(), Some(PortId(0x44)), "the higher name keeps it");
    assert_ne!(a.identifier(), b.identifier());
    assert!(matches!(told[0][0], FipEvent::Down), "{told:?}");
}

#[test]
fn a_port_without_beacons_is_gone_after_twenty_seconds() {
    let mut now = Instant::now();
    let (mut a, mut b) = (fip(A, 0x11, FcoeMode::Vn2Vn), fip(B, 0x22, FcoeMode::Vn2Vn));
    a.start(now, 2158);
    b.start(now, 2158);
    talk(&mut now, &mut [&mut a, &mut b], Duration::from_secs(3));
    let told = talk(&mut now, &mut [&mut a], Duration::from_secs(21));
    assert!(matches!(told[0][..], [FipEvent::NeighbourDown(PortId(0x22))]), "{told:?}");
    // It comes back by itself.
    let told = talk(&mut now, &mut [&mut a, &mut b], Duration::from_secs(10));
    assert!(matches!(told[0][..], [FipEvent::NeighbourUp { .. }]), "{told:?}");
}

#[test]
fn a_flood_of_claims_leaves_those_in_use_alone() {
    let mut now = Instant::now();
    let (mut a, mut b) = (fip(A, 0x11, FcoeMode::Vn2Vn), fip(B, 0x22, FcoeMode::Vn2Vn));
    a.start(now, 2158);
    b.start(now, 2158);
    talk(&mut now, &mut [&mut a, &mut b], Duration::from_secs(3));
    assert_eq!(b.send(&logo(PortId(0x22), PortId(0x11))), Route::Queued);
    talk(&mut now, &mut [&mut a, &mut b], Duration::from_millis(20));
    for number in 0..10_000u16 {
        let mac = MacAddress([0x52, 0x54, 1, 0, (number >> 8) as u8, number as u8]);
        let mut stranger = Vn2VnStranger { mac, id: PortId(u32::from(number) + 0x100) };
        for operation in [Operation::PROBE_REQUEST, Operation::CLAIM_NOTIFICATION, Operation::BEACON] {
            a.handle(now, &stranger.frame(operation));
        }
        assert!(a.neighbours() <= 64);
        // Nobody sends, as when the interface is full.
        let (mut gone, mut news) = (0, 0);
        while let Some(event) = a.poll_event() {
            news += 1;
            gone += u32::from(matches!(event, FipEvent::NeighbourDown(PortId(0x22))));
        }
        assert!(gone == 0 && news <= 2);
    }
    assert!(sent(&mut a).len() <= MAX_WAITING);
    assert!(matches!(a.send(&logo(PortId(0x11), PortId(0x22))), Route::Queued), "the one in use is still known");
}

struct Vn2VnStranger {
    mac: MacAddress,
    id: PortId,
}

impl Vn2VnStranger {
    fn frame(&mut self, operation: Operation) -> Bytes {
        let mac = MacAddress::mapped([0x0e, 0xfd, 0], self.id);
        let message = Message::new(operation, Flags(0))
            .with(Descriptor::Mac(self.mac))
            .with(Descriptor::Name(self.mac.node_name()))
            .with(Descriptor::VnPort { mac, id: self.id, name: self.mac.port_name() })
            .with(Descriptor::MaxSize(2158));
        ethernet(MacAddress::ALL_VN2VN, self.mac, &message)
    }
}

#[test]
fn the_answer_to_what_came_by_fip_goes_by_fip() {
    let mut now = Instant::now();
    let (mut a, mut b) = (fip(A, 0x11, FcoeMode::Vn2Vn), fip(B, 0x22, FcoeMode::Vn2Vn));
    a.start(now, 2158);
    b.start(now, 2158);
    talk(&mut now, &mut [&mut a, &mut b], Duration::from_secs(3));
    let asked = logo(PortId(0x11), PortId(0x22));
    assert_eq!(a.send(&asked), Route::Queued);
    let told = talk(&mut now, &mut [&mut a, &mut b], Duration::from_millis(20));
    assert!(matches!(&told[1][..], [FipEvent::Service(frame)] if *frame == asked), "{told:?}");
    let mut answer = FrameHeader::decode(&asked.header);
    (answer.r_ctl, answer.d_id, answer.s_id) = (RoutingControl::ELS_REPLY, PortId(0x11), PortId(0x22));
    let accept = FcFrame { header: answer.encode(), payload: Segments::from_iter([Bytes::from_static(&[2, 0, 0, 0])]) };
    assert_eq!(b.send(&accept), Route::Queued);
    let told = talk(&mut now, &mut [&mut a, &mut b], Duration::from_millis(20));
    assert!(matches!(&told[0][..], [FipEvent::Service(frame)] if *frame == accept), "{told:?}");
    // Only once: what follows in that exchange is a frame like others.
    assert!(matches!(b.send(&accept), Route::Frame { .. }));
}

fn advertisement(flags: u16) -> Bytes {
    let message = Message::new(Operation::ADVERTISEMENT, Flags(flags))
        .with(Descriptor::Priority(128))
        .with(Descriptor::Mac(FORWARDER))
        .with(Descriptor::Name(SWITCH))
        .with(Descriptor::Fabric { virtual_fabric: 1, fc_map: [0x0e, 0xfc, 0], name: SWITCH })
        .with(Descriptor::KeepAlive { period_ms: 8000, silent: false });
    ethernet(A, FORWARDER, &message)
}

const SOLICITED: u16 = 0x8007;

/// A node that has logged in to a forwarder.
fn logged_in(now: &mut Instant) -> Fip {
    let mut port = fip(A, 1, FcoeMode::Fabric);
    port.start(*now, 2158);
    assert_eq!(sent(&mut port)[0].1.operation, Operation::SOLICITATION);
    port.handle(*now, &advertisement(SOLICITED));
    let told = talk(now, &mut [&mut port], Duration::from_secs(1));
    assert!(matches!(told[0][..], [FipEvent::Up { id: None, address: None }]), "{told:?}");
    let mut flogi = logo(PortId::NONE, PortId::FABRIC);
    flogi.payload = Segments::from_iter([Bytes::from(vec![4; 116])]);
    assert_eq!(port.send(&flogi), Route::Queued);
    let (frame, message) = sent(&mut port).pop().unwrap();
    assert_eq!(&frame[..6], FORWARDER.0);
    assert_eq!(message.service().unwrap().1.len(), 140);
    let reply = |mac| {
        let mut answer = flogi.header.to_vec();
        (answer[0], answer[1], answer[2], answer[3]) = (0x23, 1, 2, 3);
        answer.extend([2; 116]);
        let message = Message::new(Operation::LINK_SERVICE_REPLY, Flags(0x8000))
            .with(Descriptor::Service(ServiceKind::FLOGI, Bytes::from(answer)))
            .with(Descriptor::Mac(mac));
        ethernet(A, FORWARDER, &message)
    };
    port.handle(*now, &reply(MacAddress([0x0e, 0xfc, 0, 9, 9, 9])));
    assert!(matches!(port.poll_event(), Some(FipEvent::Trouble(_))), "an address that is not made of the identifier");
    port.handle(*now, &reply(MacAddress([0x0e, 0xfc, 0, 1, 2, 3])));
    assert!(matches!(port.poll_event(), Some(FipEvent::Address(MacAddress([0x0e, 0xfc, 0, 1, 2, 3])))));
    assert!(matches!(port.poll_event(), Some(FipEvent::Service(_))));
    assert_eq!(port.identifier(), Some(PortId(0x01_0203)));
    port
}

#[test]
fn a_node_logs_in_to_a_forwarder_and_keeps_itself_known() {
    let mut now = Instant::now();
    let mut port = logged_in(&mut now);
    let mut kept = (0, 0);
    for _ in 0..100 {
        port.handle(now, &advertisement(0x8005));
        now += Duration::from_secs(1);
        port.handle_timeout(now);
        for (_, message) in sent(&mut port) {
            assert_eq!(message.operation, Operation::KEEP_ALIVE);
            if message.port().is_some() { kept.1 += 1 } else { kept.0 += 1 }
        }
    }
    assert_eq!(kept, (12, 1), "the node every 8 seconds, the port every 90");
    assert!(port.poll_event().is_none());
}

#[test]
fn a_forwarder_that_falls_silent_is_left() {
    let mut now = Instant::now();
    let mut port = logged_in(&mut now);
    let told = talk(&mut now, &mut [&mut port], Duration::from_secs(21));
    assert!(matches!(told[0][..], [FipEvent::Down]), "{told:?}");
    assert_eq!(port.identifier(), None);
}

#[test]
fn a_cleared_virtual_link_is_down_and_is_looked_for_anew() {
    let mut now = Instant::now();
    let mut port = logged_in(&mut now);
    let clear = |name: Wwn, id: u32| {
        let message = Message::new(Operation::CLEAR_VIRTUAL_LINK, Flags(0x8001))
            .with(Descriptor::Mac(FORWARDER))
            .with(Descriptor::Name(name))
            .with(Descriptor::VnPort { mac: A, id: PortId(id), name: node(A, 1).port_name });
        ethernet(A, FORWARDER, &message)
    };
    port.handle(now, &clear(Wwn(7), 0x01_0203));
    port.handle(now, &clear(SWITCH, 0x01_0204));
    assert!(port.poll_event().is_none(), "another switch, another port");
    port.handle(now, &clear(SWITCH, 0x01_0203));
    assert!(matches!(port.poll_event(), Some(FipEvent::Down)));
    port.handle_timeout(now);
    assert_eq!(sent(&mut port)[0].1.operation, Operation::SOLICITATION);
}

#[test]
fn forwarders_that_want_addresses_brought_along_are_refused_in_words() {
    let now = Instant::now();
    let mut port = fip(A, 1, FcoeMode::Fabric);
    port.start(now, 2158);
    port.handle(now, &advertisement(0x4007));
    let Some(FipEvent::Trouble(words)) = port.poll_event() else { panic!("nothing is told") };
    assert!(words.contains("SPMA"), "{words}");
}

#[test]
fn where_there_is_no_fabric_a_port_that_may_claims_an_identifier() {
    let mut now = Instant::now();
    let (mut a, mut b) = (fip(A, 0x11, FcoeMode::Auto), fip(B, 0x22, FcoeMode::Vn2Vn));
    a.start(now, 2158);
    b.start(now, 2158);
    assert_eq!(a.among_equals(), Some(false));
    talk(&mut now, &mut [&mut a, &mut b], Duration::from_secs(12));
    assert_eq!((a.among_equals(), a.identifier()), (Some(true), Some(PortId(0x11))));
    assert_eq!((a.neighbours(), b.neighbours()), (1, 1));
}

#[test]
fn who_forges_addresses_is_not_heard() {
    let mut now = Instant::now();
    let (mut a, mut b) = (fip(A, 0x11, FcoeMode::Vn2Vn), fip(B, 0x22, FcoeMode::Vn2Vn));
    a.start(now, 2158);
    b.start(now, 2158);
    talk(&mut now, &mut [&mut a, &mut b], Duration::from_secs(3));
    let frame = logo(PortId(0x22), PortId(0x11));
    let mapped = |id| MacAddress::mapped([0x0e, 0xfd, 0], PortId(id));
    let from = |mac: MacAddress| Bytes::copy_from_slice(&ethernet_header(mapped(0x11), mac, 0x8906));
    assert!(a.accepts(now, &from(mapped(0x22)), &frame));
    assert!(!a.accepts(now, &from(mapped(0x23)), &frame));
    assert!(!a.accepts(now, &from(B), &frame));
}
