//! fct: frames of any kind against a port with a disk.

use bytes::Bytes;
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
