//! A SCSI target you can embed.
#![forbid(unsafe_code)]
#[cfg(feature = "server")]
pub use lunette_server as server;
pub use {iscsi_proto, iscsit, lu_sbd, scsi_core, stmf};
