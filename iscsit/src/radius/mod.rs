//! A RADIUS client for CHAP (RFC 2865, RFC 2869, RFC 3579), without sockets.
//!
//! An initiator's proof goes as an Access-Request to one of several servers; what comes back decides the login. The
//! shared secret never leaves this module but as a digest.
//!
//! Every request carries a Message-Authenticator, and an answer without one is not believed: without it, an answer can be
//! forged by whoever stands between us and the server (CVE-2024-3596).

mod client;
mod packet;

pub use client::{Client, ClientConfig, Datagram, Verdict};
pub use packet::{Answer, AnswerError, MAX_PACKET_BYTES, Request};
