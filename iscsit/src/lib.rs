//! The iSCSI port provider: iscsi-proto joined to stmf, without IO
#![forbid(unsafe_code)]

pub mod config;
