//! The commands.
mod getopt;
