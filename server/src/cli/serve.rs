//! `lunette serve` and `lunette demo`: the commands that run a server.

use std::process::ExitCode;

use super::backend::Places;
use super::lunette::{DemoArguments, ServeArguments};

pub(super) fn serve(_arguments: ServeArguments, _places: Places) -> ExitCode {
    ExitCode::FAILURE
}

pub(super) fn demo(_arguments: DemoArguments, _places: Places) -> ExitCode {
    ExitCode::FAILURE
}
