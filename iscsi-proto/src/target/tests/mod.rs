//! Scripted initiators against the target session: one claim a test.

mod commands;
mod digests;
mod login;
mod logout;
mod management;
mod model;
mod order;
mod properties;
mod support;
mod text;
mod timers;
mod writes;
