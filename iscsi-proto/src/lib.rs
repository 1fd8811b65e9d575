//! RFC 7143 without IO: PDUs, negotiation, login, CHAP, connections and sessions of both roles.
//!
//! | module | holds |
//! |---|---|
//! | [`pdu`] | every PDU, decoded and encoded; headers 48 bytes, payloads slices |
//! | [`frame`] | the stream cut into frames, digests checked |
//! | [`digest`] | CRC32C |
//! | [`sn`] | serial numbers |
//! | [`text`] | `key=value` blocks and the table of keys |
//! | [`name`] | iSCSI names |
//! | [`login`] | parameters, their negotiation, the login phase |
//! | [`auth`] | CHAP |
//! | [`target`] | the target role: connections, sessions, tasks |
//!
//! A CDB is opaque bytes here; of SCSI the crate knows SAM's vocabulary: LUN, status, task attribute.
//!
//! # One PDU there and back
//!
//! ```
//! use bytes::Bytes;
//! use iscsi_proto::frame::{Framer, Limits};
//! use iscsi_proto::pdu::{Encoder, InitiatorPdu, InitiatorTaskTag, NopOut};
//!
//! let ping = NopOut { initiator_task_tag: InitiatorTaskTag(7), data: b"hello".as_slice().into(), ..NopOut::default() };
//!
//! let (mut encoder, mut out) = (Encoder::new(), Vec::new());
//! let sent = encoder.encode(&ping, &mut out)?;
//! encoder.finish(&mut out);
//! assert_eq!(sent, 48 + 5 + 3); // header, data, padding
//!
//! let mut framer = Framer::new(Limits::default());
//! out.into_iter().for_each(|chunk: Bytes| framer.handle_received(chunk));
//! let frame = framer.poll_frame()?.expect("all of it was sent");
//! assert_eq!(InitiatorPdu::decode(frame)?, ping.into());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

#[macro_use]
mod macros;

pub mod auth;
pub mod digest;
pub mod frame;
pub mod initiator;
pub mod login;
pub mod name;
pub mod pdu;
pub mod sn;
pub mod target;
pub mod text;

pub use frame::RecvHint;
pub use name::IscsiName;
