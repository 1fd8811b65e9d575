//! Lunette for C.
//!
//! The documentation is in `include/lunette.h`, which cbindgen makes from this crate, and in `docs/guide/c.md`. Each
//! file holds one handle or one subject:
//!
//! - [`result`]: codes, the message of a thread, the guard around each function; [`handle`]: the table of handles;
//!   [`input`]: reading what C gives.
//! - [`store`], [`callbacks`], [`completion`]: stores.
//! - [`server`], [`disk`], [`access`]: a server, its disks, and who may see them.
//! - [`event_loop`], [`connection`], [`job`]: a server without threads.
//! - [`client`]: the initiator.
//!
//! C reaches only `extern "C"` functions; all memory of handles is Rust's, so that `unsafe` is confined to reading
//! arguments, writing results and calling back.
#![allow(non_camel_case_types, reason = "the names are those of C")]
#![allow(clippy::missing_safety_doc, reason = "the header's conventions are the contract of all functions")]

pub mod access;
pub mod callbacks;
pub mod client;
pub mod completion;
pub mod connection;
pub mod disk;
pub mod event_loop;
pub mod handle;
pub mod input;
pub mod job;
pub mod result;
pub mod server;
pub mod store;

#[cfg(test)]
mod fuzz_target;
