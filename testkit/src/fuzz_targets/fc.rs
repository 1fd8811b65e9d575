//! fct: frames of any kind against a port with a disk, over a wire and over Ethernet.

use bytes::Bytes;
use fct::fcoe::fip::{FcoeMode, Message};
use fct::fcoe::{FcoeConfig, FcoeHba, FcoeState, MacAddress, MemoryLink, encapsulate};
use fct::soft::{SoftHba, SoftHbaConfig, Wire};
use fct::{Port, PortConfig};
use smallvec::smallvec;
use std::time::{Duration, Instant};
use stmf::provider::hba::{FcFrame, PortId, Topology, Wwn};

use crate::san::San;

/// Frames one after the other: a byte for the length of the payload, the header, the payload.
pub(super) fn frames(mut data: &[u8]) {
    let san = San::new(1, 1);
    san.disk(1, 0, 64 << 10);
    let (a, peer) = Wire::new(1).ends();
    let mut config = SoftHbaConfig::new(Wwn(0x2100_001b_320e_fd58), Wwn(0x2000_001b_320e_fd58));
    (config.topology, config.port_id) = (Topology::Vn2Vn, PortId(0x01_0400));
    let hba = Box::new(SoftHba::new(config, a));
    let mut port = Port::new(&san.stmf(), hba, PortConfig::default(), Box::new(|| {})).expect("a new target");
    peer.switch(true);
    let mut now = Instant::now();
    port.drive(now);
    while let [length, rest @ ..] = data {
        let Some((header, rest)) = rest.split_first_chunk() else { return };
        let (payload, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        data = rest;
        let frame = FcFrame { header: *header, payload: smallvec![Bytes::copy_from_slice(payload)] };
        let _ = peer.send(frame);
        now += Duration::from_millis(100);
        port.drive(now);
        while let Some(job) = port.poll_store() {
            let done = job.lu.perform(job.request);
            port.handle_store_done(now, &job.lu, done);
            port.drive(now);
        }
        while peer.receive().is_some() {}
    }
    // Whatever it was, the link's end is the end of it.
    peer.switch(false);
    port.drive(now);
    assert_eq!(port.outstanding(), 0);
    assert!(port.info().remotes.is_empty());
}

/// Ethernet frames one after the other: the first byte of all says whom the port looks for; then a byte for what the
/// frame is, one for its length, and its payload.
pub(super) fn fip(data: &[u8]) {
    let (first, mut data) = super::steer(data);
    let mode = [FcoeMode::Vn2Vn, FcoeMode::Fabric, FcoeMode::Auto][usize::from(first % 3)];
    let (us, peer) = (MacAddress([0x52, 0x54, 0, 0, 0, 1]), MacAddress([0x52, 0x54, 0, 0, 0, 2]));
    let mapped = |id: u8| MacAddress([0x0e, 0xfd, 0, 0, 0, id]);
    let san = San::new(1, 1);
    san.disk(1, 0, 64 << 10);
    let (link, _other) = MemoryLink::pair(us, peer, 2500);
    let cable = link.tap();
    let mut now = Instant::now();
    let config = FcoeConfig { mode, max_logins: 4, ..FcoeConfig::new("eth0", us) };
    let hba = FcoeHba::new(now, config, link).expect("an MTU that is large enough");
    let watch = hba.watch();
    let mut port = Port::new(&san.stmf(), Box::new(hba), PortConfig::default(), Box::new(|| {})).expect("a new target");
    for _ in 0..20 {
        port.drive(now);
        now += Duration::from_millis(200);
    }
    while let [kind, length, rest @ ..] = data {
        let (payload, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        data = rest;
        let from = if kind & 2 == 0 { peer } else { mapped(2) };
        let frame = match (kind & 1, payload.split_first_chunk()) {
            (0, _) => {
                let body = Bytes::copy_from_slice(payload);
                if let Ok(message) = Message::decode(&body) {
                    // What is read is written alike.
                    assert_eq!(Message::decode(&message.encode().freeze()), Ok(message));
                }
                let header = [&MacAddress::ALL_VN2VN.0[..], &from.0, &[0x89, 0x14]].concat();
                [&header, &body[..]].concat()
            }
            (_, Some((header, payload))) => {
                let frame = FcFrame { header: *header, payload: smallvec![Bytes::copy_from_slice(payload)] };
                encapsulate(mapped(1), mapped(header[7]), &frame).concat()
            }
            (_, None) => [&mapped(1).0[..], &from.0, &[0x89, 0x06], payload].concat(),
        };
        cable.inject(Bytes::from(frame));
        now += if kind & 4 == 0 { Duration::from_millis(1) } else { Duration::from_secs(1) };
        port.drive(now);
        while let Some(job) = port.poll_store() {
            let done = job.lu.perform(job.request);
            port.handle_store_done(now, &job.lu, done);
            port.drive(now);
        }
        assert!(watch.get().neighbours <= 4 && port.info().remotes.len() <= 4);
    }
    cable.plug(false);
    port.drive(now + Duration::from_secs(1));
    assert_eq!((port.outstanding(), watch.get().state), (0, FcoeState::NoCarrier));
    assert!(port.info().remotes.is_empty());
}
