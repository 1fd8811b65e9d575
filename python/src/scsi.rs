//! Sense data, commands and pages as Python sees them.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use scsi_core::command::{COMMANDS, CommandEntry, DataDirection, entries_of};
use scsi_core::{AdditionalSense, SenseData, SenseFormat, SenseKey, Status};
use std::ops::Range;

use crate::{buffer, errors};

/// Sense data.
#[pyclass(frozen, eq, hash, module = "lunette._native", from_py_object)]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sense {
    data: SenseData,
}

/// A sense key by number or by the standard's name.
fn sense_key(key: &Bound<'_, PyAny>) -> PyResult<SenseKey> {
    if let Ok(number) = key.extract::<u8>() {
        if number < 16 {
            return Ok(SenseKey(number));
        }
        return Err(errors::config(format!("sense key {number} is more than 15"), None));
    }
    let name: String = key.extract()?;
    let name = name.replace('_', " ").to_uppercase();
    (0..16).map(SenseKey).find(|key| key.name() == Some(&name)).ok_or_else(|| {
        let known: Vec<_> = (0..16).filter_map(|key| SenseKey(key).name()).collect();
        errors::config(format!("no sense key '{name}'"), Some(format!("there are {}", known.join(", "))))
    })
}

impl Sense {
    pub(crate) fn from_data(data: SenseData) -> Self {
        Self { data }
    }

    pub(crate) fn data(&self) -> &SenseData {
        &self.data
    }
}

#[pymethods]
impl Sense {
    #[new]
    #[pyo3(signature = (key, asc=0, ascq=0, *, information=None, command_specific=None, deferred=false))]
    fn new(
        key: &Bound<'_, PyAny>,
        asc: u8,
        ascq: u8,
        information: Option<u64>,
        command_specific: Option<u64>,
        deferred: bool,
    ) -> PyResult<Self> {
        let data = SenseData::new(sense_key(key)?, AdditionalSense { asc, ascq });
        Ok(Self { data: SenseData { information, command_specific, deferred, ..data } })
    }

    #[staticmethod]
    fn decode(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        let bytes = buffer::bytes_of(data)?;
        let data = SenseData::decode(&bytes);
        data.map(Self::from_data).ok_or_else(|| errors::decode(format!("{} bytes are no sense data", bytes.len())))
    }

    #[pyo3(signature = (*, descriptor=false))]
    fn encode<'py>(&self, py: Python<'py>, descriptor: bool) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.data.encode(SenseFormat::from_descriptor_bit(descriptor)))
    }

    #[getter]
    fn key(&self) -> u8 {
        self.data.key.0
    }

    #[getter]
    fn key_name(&self) -> String {
        self.data.key.to_string()
    }

    #[getter]
    fn asc(&self) -> u8 {
        self.data.code.asc
    }

    #[getter]
    fn ascq(&self) -> u8 {
        self.data.code.ascq
    }

    #[getter]
    fn information(&self) -> Option<u64> {
        self.data.information
    }

    #[getter]
    fn command_specific(&self) -> Option<u64> {
        self.data.command_specific
    }

    #[getter]
    fn deferred(&self) -> bool {
        self.data.deferred
    }

    /// The byte in error of an ILLEGAL REQUEST: (in the CDB, offset, bit).
    #[getter]
    fn field_pointer(&self) -> Option<(bool, u16, Option<u8>)> {
        self.data.field_pointer().map(|at| (at.in_cdb, at.byte, at.bit))
    }

    fn __str__(&self) -> String {
        self.data.to_string()
    }

    fn __repr__(&self) -> String {
        format!("Sense({:#x}, {:#04x}, {:#04x})", self.data.key.0, self.data.code.asc, self.data.code.ascq)
    }
}

/// The row of a CDB in the table of commands.
fn entry_of(cdb: &[u8]) -> Option<&'static CommandEntry> {
    let entries = entries_of(*cdb.first()?);
    let action = cdb.get(1).map_or(0, |byte| byte & 0x1f);
    let exact = entries.iter().find(|entry| entry.service_action == Some(action));
    exact.or_else(|| entries.iter().find(|entry| entry.service_action.is_none()))
}

/// The standard's name of a command, by its CDB.
pub(crate) fn name_of(cdb: &[u8]) -> String {
    match entry_of(cdb) {
        Some(entry) => entry.name.to_owned(),
        None => format!("command {:#04x}", cdb.first().copied().unwrap_or(0)),
    }
}

/// The commands that a name means: one for "WRITE(10)", each length for "WRITE".
pub(crate) fn commands_named(name: &str) -> PyResult<Vec<(u8, Option<u8>)>> {
    let wanted = name.replace('_', " ").replace(" (", "(").to_uppercase();
    let exact = |entry: &&CommandEntry| entry.name == wanted;
    let any_length = |entry: &&CommandEntry| entry.name.split('(').next() == Some(&wanted);
    let mut found: Vec<_> = COMMANDS.iter().filter(exact).map(|e| (e.opcode, e.service_action)).collect();
    if found.is_empty() {
        found = COMMANDS.iter().filter(any_length).map(|e| (e.opcode, e.service_action)).collect();
    }
    if found.is_empty() {
        let hint = "names are those of the standards: READ(10), WRITE (of any length), SYNCHRONIZE CACHE(16) ...";
        return Err(errors::config(format!("no command '{name}'"), Some(hint.into())));
    }
    Ok(found)
}

/// The logical blocks that a CDB names.
pub(crate) fn blocks_of(cdb: &[u8]) -> Option<Range<u64>> {
    stmf::intercept::blocks(cdb)
}

/// What a status byte is called.
#[pyfunction]
pub(crate) fn status_name(status: u8) -> String {
    Status(status).to_string()
}

/// A command descriptor block, looked up in the table of commands.
#[pyfunction]
pub(crate) fn decode_cdb<'py>(py: Python<'py>, cdb: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let cdb = buffer::bytes_of(cdb)?;
    let entry = entry_of(&cdb).ok_or_else(|| errors::decode(format!("{} is in no standard", name_of(&cdb))))?;
    if cdb.len() < usize::from(entry.cdb_length) {
        return Err(errors::decode(format!("{} has {} bytes, {} came", entry.name, entry.cdb_length, cdb.len())));
    }
    let fields = PyDict::new(py);
    fields.set_item("name", entry.name)?;
    fields.set_item("opcode", entry.opcode)?;
    fields.set_item("service_action", entry.service_action)?;
    fields.set_item("length", entry.cdb_length)?;
    let phase = entry.data.phase(&cdb, 1);
    let direction = match phase.direction {
        DataDirection::None => "none",
        DataDirection::In => "in",
        DataDirection::Out => "out",
    };
    fields.set_item("direction", direction)?;
    let blocks = blocks_of(&cdb);
    fields.set_item("lba", blocks.as_ref().map(|blocks| blocks.start))?;
    fields.set_item("blocks", blocks.as_ref().map(|blocks| blocks.end - blocks.start))?;
    // Counted in blocks for commands that move blocks, in bytes for all others.
    fields.set_item("transfer_length", phase.length)?;
    fields.set_item("control", cdb[usize::from(entry.cdb_length) - 1])?;
    fields.set_item("usage", PyBytes::new(py, &entry.usage_data(false)))?;
    Ok(fields)
}

/// The names of all commands that are known.
#[pyfunction]
pub(crate) fn command_names() -> Vec<&'static str> {
    COMMANDS.iter().map(|entry| entry.name).collect()
}
