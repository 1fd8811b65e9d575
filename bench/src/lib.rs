//! What the benchmarks of the project share.
#![forbid(unsafe_code)]

pub mod path;
