//! What tests of several crates share: time that passes on command, a link and a store that fail, a logical unit and
//! an initiator that follow a script.
//!
//! | module | is |
//! |---|---|
//! | [`time`] | a clock that moves when told |
//! | [`rng`] | randomness from a seed |
//! | [`link`] | a connection that splits, delays, flips and breaks |
//! | [`store`] | a backing store with a volatile cache, faults and power cuts |
//! | [`lu`] | a logical unit that follows a script, a mailbox that records |
//! | [`guest`] | a driver of virtio-scsi and its memory, in front of a device without a socket |
//! | [`monitor`] | the same at the socket of a server, with the messages of vhost-user |
//! | [`initiator`] | an iSCSI initiator that says anything and checks what it hears |
//! | [`san`] | a whole target in one thread: workers, framework, disks, cables, clock |
//! | [`sim`] | such a target under faults from a seed, with a judge |
//! | [`fuzz_targets`] | what the fuzzers run, to be replayed without one |
#![forbid(unsafe_code)]

pub mod fuzz_targets;
pub mod guest;
pub mod initiator;
pub mod link;
pub mod lu;
pub mod monitor;
pub mod rng;
pub mod san;
pub mod sim;
pub mod store;
pub mod time;
