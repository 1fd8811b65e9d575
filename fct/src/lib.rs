//! The Fibre Channel port provider, without IO: FC-2 exchanges, link services, the name server, FCP.
//!
//! - [`Port`]: a target over any [`Hba`](stmf::provider::hba::Hba). Its sessions have `wwn.` names; host groups, views
//!   and reservations treat them as they treat those of iSCSI, and a unit may be reached by both at once.
//! - [`engine`]: exchanges over frames, for adapters that move nothing else.
//! - [`soft`]: adapters in memory, wires between them with loss, reordering and flaps, a fabric of one switch.
//! - [`fcoe`]: FC over Ethernet, and the protocol by which its ports find each other.
//! - [`initiator`]: the other side, enough of it to test with.
//! - [`wire`]: frames and payloads as values.
//!
//! ```
//! use fct::initiator::Initiator;
//! use fct::soft::{SoftHba, SoftHbaConfig, Wire};
//! use fct::{Port, PortConfig};
//! use std::time::Instant;
//! use stmf::provider::hba::{PortId, Wwn};
//!
//! let stmf = stmf::Stmf::new(stmf::config::Config::new(), Box::new(|job| job.run()));
//! let (a, b) = Wire::new(1).ends();
//! let hba = SoftHba::new(SoftHbaConfig::new(Wwn(0x2100001b320efd58), Wwn(0x2000001b320efd58)), a);
//! let mut port = Port::new(&stmf, Box::new(hba), PortConfig::default(), Box::new(|| {}))?;
//! let hba = SoftHba::new(SoftHbaConfig::new(Wwn(0x210000e08b100163), Wwn(0x200000e08b100163)), b);
//! let now = Instant::now();
//! let mut initiator = Initiator::new(now, Box::new(hba), ":qlc1");
//! for _ in 0..10 {
//!     port.drive(now);
//!     initiator.drive(now);
//! }
//! // Of two ports the one with the higher name gives the addresses, and is 1.
//! initiator.log_in(now, PortId(2));
//! for _ in 0..10 {
//!     port.drive(now);
//!     initiator.drive(now);
//! }
//! assert_eq!(stmf.sessions()[0].nexus().initiator, "wwn.210000E08B100163");
//! # Ok::<(), stmf::StmfError>(())
//! ```
//!
//! Class 3 alone. What an adapter's firmware does of all this is told by
//! [`Offload`](stmf::provider::hba::Offload).
#![forbid(unsafe_code)]

pub mod engine;
pub mod fcoe;
mod inbox;
pub mod initiator;
mod port;
mod share;
pub mod soft;
pub mod wire;

pub use inbox::Wake;
pub use port::{Port, PortConfig, PortEvent, PortInfo, PortState, PortType, RemoteInfo, StoreJob};
