//! The modules of the C interface, compiled into the fuzzer: that crate is a C library, which nothing in Rust can link to.
#![no_main]
#![allow(non_camel_case_types, clippy::missing_safety_doc, dead_code)]

#[path = "../../ffi/src/access.rs"]
pub mod access;
#[path = "../../ffi/src/callbacks.rs"]
pub mod callbacks;
#[path = "../../ffi/src/client.rs"]
pub mod client;
#[path = "../../ffi/src/completion.rs"]
pub mod completion;
#[path = "../../ffi/src/connection.rs"]
pub mod connection;
#[path = "../../ffi/src/disk.rs"]
pub mod disk;
#[path = "../../ffi/src/event_loop.rs"]
pub mod event_loop;
#[path = "../../ffi/src/fuzz_target/mod.rs"]
mod fuzz_target;
#[path = "../../ffi/src/handle.rs"]
pub mod handle;
#[path = "../../ffi/src/input.rs"]
pub mod input;
#[path = "../../ffi/src/job.rs"]
pub mod job;
#[path = "../../ffi/src/result.rs"]
pub mod result;
#[path = "../../ffi/src/server.rs"]
pub mod server;
#[path = "../../ffi/src/store.rs"]
pub mod store;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = fuzz_target::run(data);
});
