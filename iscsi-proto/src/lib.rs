//! RFC 7143 without IO: PDUs, negotiation, login, CHAP, connections and sessions of both roles
#![forbid(unsafe_code)]
