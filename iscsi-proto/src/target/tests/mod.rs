//! Scripted initiators against the target session: one claim a test.

mod commands;
mod digests;
mod login;
mod logout;
mod management;
mod order;
mod support;
mod text;
mod timers;
mod writes;
