//! Scripted initiators against the target session: one claim a test.

mod commands;
mod support;
mod writes;
