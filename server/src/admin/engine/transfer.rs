//! The configuration as a document: export and import.

use super::Engine;
use crate::admin::api::ApiError;

impl Engine {
    pub(super) fn export(&self, _with_secrets: bool) -> Result<String, ApiError> {
        Ok(String::new())
    }

    pub(super) fn import(&mut self, _document: &str, _dry_run: bool) -> Result<Vec<String>, ApiError> {
        Ok(Vec::new())
    }
}
