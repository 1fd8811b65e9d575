//! The recorded trace of commands.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use scsi_core::SenseData;
use stmf::intercept::{Ending, TraceEntry};

use crate::scsi::{self, Sense};

/// One command that reached a unit.
#[pyclass(frozen, name = "Command", module = "lunette._native")]
pub(crate) struct Command {
    entry: TraceEntry,
}

impl Command {
    pub(crate) fn new(entry: TraceEntry) -> Self {
        Self { entry }
    }

    fn status_and_sense(&self) -> Option<(u8, &[u8], u64)> {
        match &self.entry.ended {
            Some((_, Ending::Status { status, sense, data_length })) => Some((status.0, sense, *data_length)),
            _ => None,
        }
    }
}

#[pymethods]
impl Command {
    #[getter]
    fn serial(&self) -> u64 {
        self.entry.serial
    }

    #[getter]
    fn name(&self) -> String {
        scsi::name_of(&self.entry.cdb)
    }

    #[getter]
    fn cdb<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.entry.cdb)
    }

    #[getter]
    fn lba(&self) -> Option<u64> {
        scsi::blocks_of(&self.entry.cdb).map(|blocks| blocks.start)
    }

    #[getter]
    fn blocks(&self) -> Option<u64> {
        scsi::blocks_of(&self.entry.cdb).map(|blocks| blocks.end - blocks.start)
    }

    #[getter]
    fn unit(&self) -> String {
        format!("{:X}", self.entry.unit)
    }

    #[getter]
    fn lun(&self) -> Option<u32> {
        crate::server::lun_number(self.entry.lun)
    }

    #[getter]
    fn session(&self) -> u64 {
        self.entry.nexus.0
    }

    #[getter]
    fn initiator(&self) -> &str {
        &self.entry.initiator
    }

    #[getter]
    fn data_out_length(&self) -> u32 {
        self.entry.data_out_length
    }

    #[getter]
    fn data_in_length(&self) -> u32 {
        self.entry.data_in_length
    }

    #[getter]
    fn injected(&self) -> bool {
        self.entry.injected
    }

    #[getter]
    fn done(&self) -> bool {
        self.entry.ended.is_some()
    }

    #[getter]
    fn aborted(&self) -> bool {
        matches!(self.entry.ended, Some((_, Ending::Aborted)))
    }

    #[getter]
    fn status(&self) -> Option<u8> {
        self.status_and_sense().map(|(status, ..)| status)
    }

    #[getter]
    fn sense(&self) -> Option<Sense> {
        let (_, sense, _) = self.status_and_sense()?;
        SenseData::decode(sense).map(Sense::from_data)
    }

    #[getter]
    fn data_length(&self) -> Option<u64> {
        self.status_and_sense().map(|(.., length)| length)
    }

    /// Seconds from the start of the target until it came.
    #[getter]
    fn time(&self) -> f64 {
        self.entry.began.as_secs_f64()
    }

    /// Seconds it took.
    #[getter]
    fn duration(&self) -> Option<f64> {
        self.entry.ended.as_ref().map(|(end, _)| end.saturating_sub(self.entry.began).as_secs_f64())
    }

    fn __repr__(&self) -> String {
        let end = match &self.entry.ended {
            None => "under way".to_owned(),
            Some((_, Ending::Aborted)) => "aborted".to_owned(),
            Some((_, Ending::Status { status, .. })) => status.to_string(),
            Some(_) => "ended".to_owned(),
        };
        let place = match scsi::blocks_of(&self.entry.cdb) {
            Some(blocks) => format!(" lba={} blocks={}", blocks.start, blocks.end - blocks.start),
            None => String::new(),
        };
        format!("<{}{place}: {end}>", self.name())
    }
}
