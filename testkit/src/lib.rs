//! Scripted peers, virtual time, faulty links and stores

pub mod fuzz_targets;
