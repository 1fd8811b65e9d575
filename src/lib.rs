//! A SCSI target you can embed, and an initiator to go with it.
//!
#![cfg_attr(feature = "server", doc = "```")]
#![cfg_attr(not(feature = "server"), doc = "```ignore")]
//! use lunette::prelude::*;
//!
//! // A disk in memory, for whoever reaches the port.
//! let server = Server::builder()
//!     .disk(Disk::new(MemoryStore::new(64 << 20)))
//!     .portal("127.0.0.1:0".parse()?)
//!     .start()?;
//! println!("{}", server.url(0)); // iscsi://127.0.0.1:40123/iqn.2026-11.org.lunette:02:.../0
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A disk that is code of yours implements [`BackingStore`](prelude::BackingStore), or
//! [`AsyncStore`](prelude::AsyncStore) if it answers later. The
//! guide, `docs/guide/rust.md` beside the source, goes through both, and through everything below.
//!
//! | feature | what it adds |
//! |---|---|
//! | `server` (default) | `Server`: sockets, threads, clocks |
//! | `client` | `client`: disks over the network, blocking |
//! | `tokio` | the client for tokio, `client::tokio` |
//! | `loopback` | `loopback`: sessions and commands in the process, without a wire |
//! | `fc` | `fct`: Fibre Channel targets over an adapter of yours, or one in software |
//!
//! # The rooms
//!
//! Without features nothing here opens a socket, starts a thread or reads a clock, and each layer is of use alone:
//!
//! | crate | what it holds | used alone, for |
//! |---|---|---|
//! | [`scsi_core`] | commands, sense data, pages, reservations as values | decoding a trace |
//! | [`iscsi_proto`] | RFC 7143: PDUs, login, sessions of both roles | a proxy, a fuzzer, an initiator |
//! | [`stmf`] | groups, view entries: who sees which unit | asking what a change would do |
//! | [`lu_sbd`] | the block logical unit and its stores | SCSI without a network |
//! | [`iscsit`] | the iSCSI port provider; [`iscsit::Embedded`], a whole target | an event loop of your own |
//!
//! ## Parse a PDU
//!
//! ```
//! use lunette::bytes::Bytes;
//! use lunette::iscsi_proto::frame::{Framer, Limits};
//! use lunette::iscsi_proto::pdu::InitiatorPdu;
//!
//! // A ping as an initiator sends it: 48 bytes of header, 2 of data, padding.
//! let mut wire = [0; 52];
//! (wire[0], wire[1], wire[7]) = (0x40, 0x80, 2); // NOP-Out, immediate; final; DataSegmentLength
//! wire[16..24].copy_from_slice(&[0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff]);
//! wire[48..50].copy_from_slice(b"hi");
//!
//! // However the stream is cut, the PDU comes out once, whole.
//! let mut framer = Framer::new(Limits::default());
//! framer.handle_received(Bytes::copy_from_slice(&wire[..20]));
//! assert!(framer.poll_frame()?.is_none());
//! framer.handle_received(Bytes::copy_from_slice(&wire[20..]));
//! let InitiatorPdu::NopOut(ping) = InitiatorPdu::decode(framer.poll_frame()?.unwrap())? else { panic!() };
//! assert_eq!((ping.initiator_task_tag.0, ping.data.to_contiguous()), (7, Bytes::from_static(b"hi")));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ## Negotiate a login
//!
//! ```
//! use lunette::iscsi_proto::auth::chap::ChallengeMemory;
//! use lunette::iscsi_proto::login::{
//!     DigestPreference, InitiatorLogin, InitiatorLoginConfig, LoginConfig, LoginEvent, LoginNumbers, LoginOutcome,
//!     LoginPolicy, TargetLogin,
//! };
//! use lunette::iscsi_proto::pdu::{Cid, InitiatorTaskTag, Isid, Tsih};
//! use lunette::iscsi_proto::sn::CmdSn;
//! use std::sync::Arc;
//!
//! let mut wishes = InitiatorLoginConfig::new(
//!     "iqn.2026-11.org.example:host",
//!     Some("iqn.2026-11.org.example:disk"),
//!     Isid::random([1, 2, 3], 4),
//! );
//! wishes.preferences.header_digest = DigestPreference::Require;
//! wishes.preferences.session.max_burst_length = 65_536;
//! let numbers =
//!     LoginNumbers { tsih: Tsih::NEW, cid: Cid(0), initiator_task_tag: InitiatorTaskTag(0), cmd_sn: CmdSn(1) };
//! let mut initiator = InitiatorLogin::new(wishes, numbers, None);
//! let mut target = TargetLogin::new(Arc::new(LoginConfig::default()));
//! let mut challenges = ChallengeMemory::new(8);
//!
//! while let Some(request) = initiator.poll_request() {
//!     target.handle_request(request);
//!     while let Some(event) = target.poll_event() {
//!         match event {
//!             LoginEvent::Identify(who) => {
//!                 assert_eq!(who.initiator_name.as_str(), "iqn.2026-11.org.example:host");
//!                 target.accept(LoginPolicy::open(Some(1))); // or CHAP, or refuse, or redirect
//!             }
//!             LoginEvent::Negotiated(_) => target.complete(Tsih(9)),
//!             other => panic!("{other:?}"),
//!         }
//!     }
//!     while let Some(response) = target.poll_response() {
//!         initiator.handle_response(&response, &mut challenges);
//!     }
//! }
//! let Some(LoginOutcome::Done { parameters, tsih, .. }) = initiator.outcome() else { panic!() };
//! assert_eq!((parameters.session.max_burst_length, *tsih), (65_536, Tsih(9)));
//! assert!(parameters.connection.digests.header && target.is_done());
//! ```
//!
//! ## Feed a CDB to a logical unit and look at the sense data
//!
//! ```
//! use lunette::lu_sbd::{Limits, SbdLu, meta::NoRecord, properties::CreateProperties, store::MemoryStore};
//! use lunette::scsi_core::{Guid, GuidHost, Lun, ProtocolId, SenseData, TaskAttribute, cdb::Read};
//! use lunette::stmf::provider::{Effect, LogicalUnit, LuTask};
//! use lunette::stmf::{Nexus, NexusId, TaskId, TaskTag};
//! use std::{path::Path, sync::Arc};
//!
//! let guid = Guid::generate(Guid::DEFAULT_OUI, GuidHost::HostId(1), 0, 1);
//! let identity = CreateProperties::default().identity(guid, Path::new("ram"), 1 << 20)?;
//! let lu = SbdLu::new(identity, Arc::new(MemoryStore::new(1 << 20)), Arc::new(NoRecord), Limits::default());
//! let nexus = Nexus {
//!     id: NexusId(1),
//!     initiator: "iqn.2026-11.org.example:host".into(),
//!     transport_id: Vec::new(),
//!     target: "iqn.2026-11.org.example:disk".into(),
//!     target_port_name: "iqn.2026-11.org.example:disk,t,0x0001".into(),
//!     relative_target_port: 1,
//!     protocol: ProtocolId::ISCSI.0,
//! };
//! lu.attach(&Arc::new(nexus));
//!
//! // One block past the end of the disk, which has 2,048.
//! let cdb = Read { lba: 2048, blocks: 1, ..Read::default() }.to_cdb(10).unwrap();
//! let mut submit = |tag| {
//!     let task = LuTask {
//!         id: TaskId { nexus: NexusId(1), tag: TaskTag(tag) },
//!         lun: Lun::ZERO,
//!         attribute: TaskAttribute::Simple,
//!         priority: 0,
//!         cdb: cdb.as_bytes(),
//!         data_out_length: 0,
//!         data_in_length: 512,
//!     };
//!     let mut effects = Vec::new();
//!     lu.submit(task, &mut effects);
//!     let Some(Effect::Complete(end)) = effects.pop() else { panic!("a read that is refused touches no store") };
//!     SenseData::decode(&end.sense).unwrap().to_string()
//! };
//! assert_eq!(submit(1), "UNIT ATTENTION, 29h/00h POWER ON, RESET, OR BUS DEVICE RESET OCCURRED");
//! assert_eq!(submit(2), "ILLEGAL REQUEST, 21h/00h LOGICAL BLOCK ADDRESS OUT OF RANGE, information 0x800");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ## Resolve a view
//!
//! ```
//! use lunette::stmf::config::{Config, GroupKind, NewView};
//!
//! let mut config = Config::new();
//! let change = config.create_group(GroupKind::Host, "cluster")?;
//! config.commit(change);
//! let change = config.add_member(GroupKind::Host, "cluster", "iqn.2026-11.org.example:node1")?;
//! config.commit(change);
//! let lu = lunette::stmf::guid::parse("600144F01EB3862C0000494B55CD0001")?;
//! let view = NewView { lu, host_group: Some("cluster"), target_group: None, lun: Some(7) };
//! let (change, _) = config.add_view(&view)?;
//! config.commit(change);
//!
//! let luns = |initiator| {
//!     let scope = config.scope_of(initiator, "iqn.2026-11.org.example:disk");
//!     config.resolve(scope).iter().map(|entry| entry.lun).collect::<Vec<_>>()
//! };
//! assert_eq!(luns("iqn.2026-11.org.example:node1"), [7]);
//! assert!(luns("iqn.2026-11.org.example:stranger").is_empty());
//! # Ok::<(), lunette::stmf::ConfigError>(())
//! ```
//!
//! ## Drive a whole target
//!
//! Bytes in, bytes out: here both ends are in one thread, and the wire is a function call. `examples/loop_std.rs`,
//! `loop_mio.rs`, `loop_tokio.rs` and `loop_compio.rs` are the same with sockets.
//!
//! ```
//! use lunette::iscsi_proto::initiator::{Command, Event, LoginConfig, Outcome, Session, SessionConfig};
//! use lunette::iscsi_proto::pdu::Isid;
//! use lunette::iscsit::{Embedded, Surroundings, WorkerEvent};
//! use lunette::lu_sbd::{Limits, SbdLu, meta::NoRecord, properties::CreateProperties, store::MemoryStore};
//! use lunette::scsi_core::{Guid, GuidHost, Lun, Status, cdb::Inquiry};
//! use std::{path::Path, sync::Arc, time::Instant};
//!
//! const NAME: &str = "iqn.2026-11.org.example:disk";
//! let surroundings = Surroundings {
//!     entropy: Box::new(|bytes: &mut [u8]| bytes.fill(4)), // no CHAP here: nothing to guess
//!     unix_time: Box::new(|| 0),
//!     waker: Arc::new(|| ()),                              // no other threads here: nobody to wake
//! };
//! let mut target = Embedded::new(NAME, surroundings)?;
//! let guid = Guid::generate(Guid::DEFAULT_OUI, GuidHost::HostId(1), 0, 1);
//! let identity = CreateProperties::default().identity(guid, Path::new("ram"), 1 << 20)?;
//! let lu = SbdLu::new(identity, Arc::new(MemoryStore::new(1 << 20)), Arc::new(NoRecord), Limits::default());
//! target.add_unit(Arc::new(lu), Some(0))?;
//!
//! let now = Instant::now();
//! let login = LoginConfig::new("iqn.2026-11.org.example:host", Some(NAME), Isid::random([1, 2, 3], 4));
//! let mut host = Session::new(SessionConfig::new(login), 1);
//! let (socket, link) = (target.accept(now, "192.0.2.1:3260".parse()?, "192.0.2.9:1".parse()?)?, host.connect(now));
//!
//! let inquiry = Inquiry { evpd: false, page_code: 0, allocation_length: 96 }.to_cdb();
//! let mut answer = None;
//! while answer.is_none() {
//!     let mut wire = Vec::new();
//!     host.poll_transmit(now, link, &mut wire);
//!     wire.drain(..).for_each(|bytes| target.handle_received(now, socket, bytes));
//!     while let Some(event) = target.poll_event() {
//!         if let WorkerEvent::Transmit(id) = event {
//!             while target.poll_transmit(now, id, &mut wire) > 0 {}
//!         }
//!     }
//!     wire.drain(..).for_each(|bytes| host.handle_received(now, link, bytes));
//!     while let Some(event) = host.poll_event() {
//!         match event {
//!             Event::LoggedIn { .. } => {
//!                 let cdb = inquiry.as_bytes().to_vec();
//!                 host.submit(Command { lun: Lun::ZERO, cdb, data_in_length: 96, ..Command::default() })?;
//!             }
//!             Event::TaskDone { outcome: Outcome::Response(response), .. } => answer = Some(response),
//!             _ => {}
//!         }
//!     }
//! }
//! let answer = answer.unwrap();
//! assert_eq!(answer.status, Status::GOOD);
//! assert_eq!(answer.data_in.to_bytes()[8..16], *b"LUNETTE ");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(feature = "fc")]
pub use fct;
#[cfg(feature = "client")]
pub use lunette_client as client;
#[cfg(feature = "loopback")]
pub use lunette_loopback as loopback;
#[cfg(feature = "server")]
pub use lunette_server as server;
#[cfg(feature = "server")]
pub use lunette_server::{Disk, Server};
pub use {bytes, iscsi_proto, iscsit, lu_sbd, scsi_core, stmf};

/// What a program with an own store needs.
pub mod prelude {
    pub use lu_sbd::store::{AsyncStore, BackingStore, Capabilities, Error as StoreError, FileStore, MemoryStore};
    #[cfg(feature = "server")]
    pub use lunette_server::{Disk, Server};
    pub use std::io::IoSlice;
}

// The pages for Rust programmers, compiled and run with the tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../docs/guide/rust.md")]
pub struct Guide;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
