//! SAM, SPC and SBC as values: commands, sense, VPD and mode pages, reservations; no transport, no store
#![forbid(unsafe_code)]
