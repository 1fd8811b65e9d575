//! The bodies of the fuzz targets: one for each parser and each state machine that takes a peer's bytes.
//!
//! The fuzzer (`fuzz/`, nightly) and the plain test that replays its corpora (`tests/fuzz_corpora.rs`, stable) call the
//! same functions. Each takes any bytes and returns when all is well; a panic is a finding, be it the code's own or a
//! claim below that does not hold.

mod commands;
mod fc;
mod login;
mod parameters;
pub mod replay;
mod scsi;
mod services;
mod session;
mod storage;
mod target;
mod vhost;
mod whole;
mod wire;

/// A target's name, which is also that of its file and its corpus under `fuzz/`, and its body.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[FuzzTarget] = &[
    ("framer", wire::framer),
    ("initiator_pdu", wire::initiator_pdu),
    ("target_pdu", wire::target_pdu),
    ("text_block", login::text_block),
    ("binary_value", login::binary_value),
    ("target_login", login::target_login),
    ("cdb", scsi::cdb),
    ("mode_select", scsi::mode_select),
    ("mode_record", scsi::mode_record),
    ("whole_target", target::whole_target),
    ("cdb_stream", commands::cdb_stream),
    ("initiator_session", session::initiator_session),
    ("parameter_list", parameters::parameter_list),
    ("answer", parameters::answer),
    ("isns", services::isns),
    ("radius", services::radius),
    ("names", services::names),
    ("sense", scsi::sense),
    ("designators", scsi::designators),
    ("transport_id", scsi::transport_id),
    ("fc_frames", fc::frames),
    ("fip", fc::fip),
    ("virtqueue", vhost::virtqueue),
    ("lu_record", storage::lu_record),
    ("lu_properties", storage::lu_properties),
];

/// Runs the target of this name.
///
/// # Panics
/// When the target finds something, and when there is none of this name.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, body) = target.unwrap_or_else(|| panic!("no fuzz target '{name}'"));
    body(data);
}

/// Takes the first byte as a number that steers the target, and leaves the rest.
fn steer(data: &[u8]) -> (u8, &[u8]) {
    match data {
        [first, rest @ ..] => (*first, rest),
        [] => (0, &[]),
    }
}
