//! The management API as types: requests, answers, errors. Commands, the HTTP server and `/openapi.json` share them.

mod answer;
mod error;
mod request;
mod settings;

pub use answer::*;
pub use error::{ApiError, ErrorKind};
pub use request::{Kind, Request};
pub use settings::*;
