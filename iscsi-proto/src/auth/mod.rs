//! How the two ends of a login prove who they are.

pub mod chap;
