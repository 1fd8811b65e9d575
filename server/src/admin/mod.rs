//! The management plane: one typed set of operations, the engine that carries them out, and the ways to it.
//!
//! ```text
//!   stmfadm, sbdadm, itadm, lunette ──> Client ──HTTP on a Unix socket──> serve ──> Engine ──> ConfigStore
//!                                         └── no server running: Engine on the state directory ──┘  └──> Live
//! ```
//!
//! Every change takes the same way: validated on the pure models, made durable in one transaction, and only then
//! published to the live objects. Nothing is half done.

mod api;
mod client;
mod engine;
pub(crate) mod fibre_channel;
mod http;
mod live;
mod metrics;
mod openapi;
mod vhost;

pub use api::*;
pub use client::{Client, ClientError};
pub use engine::{Engine, check_document};
pub use fibre_channel::{FcAdapterInfo, FcLinkStatistics, FcPortInfo, FcQuestions, FcRemoteInfo, FcUnitInfo};
pub(crate) use http::serve_on;
pub use http::{ManagementServer, serve};
pub use live::{DataPath, Latency, Live, LiveError, LocalPort, ObjectState, SessionInfo, Statistics, Traffic};
pub use metrics::MetricsServer;
pub use openapi::document as openapi;
pub use vhost::VhostPortInfo;
