//! CDBs made of fields.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use scsi_core::cdb::{
    Cdb, CompareAndWrite, Inquiry, PersistentReserveIn, PersistentReserveOut, PrInAction, PrOutAction, Read,
    ReadCapacity10, ReadCapacity16, ReportLuns, RequestSense, StartStopUnit, SynchronizeCache, Unmap, Write, WriteSame,
};

use crate::errors;
use crate::scsi::name_of;

/// The fields a caller gave; those that no one asks for are wrong.
struct Fields<'a, 'py> {
    given: &'a Bound<'py, PyDict>,
    taken: usize,
}

impl<'py> Fields<'_, 'py> {
    fn take<T: Default + for<'a> FromPyObject<'a, 'py, Error = PyErr>>(&mut self, name: &str) -> PyResult<T> {
        match self.given.get_item(name)? {
            None => Ok(T::default()),
            Some(value) => {
                self.taken += 1;
                value.extract()
            }
        }
    }
}

/// A CDB by the command's name and its fields: `encode_cdb("READ(10)", {"lba": 8, "blocks": 2})`.
#[pyfunction]
pub(crate) fn encode_cdb<'py>(
    py: Python<'py>,
    name: &str,
    fields: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyBytes>> {
    let name = name.replace('_', " ").replace(" (", "(").to_uppercase();
    let mut f = Fields { given: fields, taken: 0 };
    let (base, length) = match name.split_once('(') {
        Some((base, length)) => (base, length.trim_end_matches(')').parse().unwrap_or(0)),
        None => (name.as_str(), 0u8),
    };
    let cdb: Option<Cdb> = match base {
        "TEST UNIT READY" => Cdb::new(&[0; 6]).ok(),
        "INQUIRY" => {
            let page: Option<u8> = f.take("page")?;
            let allocation_length = f.take("allocation_length")?;
            Some(Inquiry { evpd: page.is_some(), page_code: page.unwrap_or(0), allocation_length }.to_cdb())
        }
        "REQUEST SENSE" => {
            let descriptor_format = f.take("descriptor_format")?;
            Some(RequestSense { descriptor_format, allocation_length: f.take("allocation_length")? }.to_cdb())
        }
        "REPORT LUNS" => {
            let select_report = f.take("select_report")?;
            Some(ReportLuns { select_report, allocation_length: f.take("allocation_length")? }.to_cdb())
        }
        "READ CAPACITY" if length == 16 => {
            Some(ReadCapacity16 { allocation_length: f.take("allocation_length")? }.to_cdb())
        }
        "READ CAPACITY" => Some(ReadCapacity10.to_cdb()),
        "READ" => {
            let (lba, blocks) = (f.take("lba")?, f.take("blocks")?);
            Read { lba, blocks, dpo: f.take("dpo")?, fua: f.take("fua")? }.to_cdb(length.max(6))
        }
        "WRITE" => {
            let (lba, blocks) = (f.take("lba")?, f.take("blocks")?);
            Write { lba, blocks, dpo: f.take("dpo")?, fua: f.take("fua")? }.to_cdb(length.max(6))
        }
        "COMPARE AND WRITE" => {
            let (lba, blocks) = (f.take("lba")?, f.take("blocks")?);
            Some(CompareAndWrite { lba, blocks, dpo: f.take("dpo")?, fua: f.take("fua")? }.to_cdb())
        }
        "WRITE SAME" => {
            let (lba, blocks) = (f.take("lba")?, f.take("blocks")?);
            WriteSame { lba, blocks, unmap: f.take("unmap")?, no_data_out: f.take("no_data_out")? }.to_cdb(length)
        }
        "SYNCHRONIZE CACHE" => {
            let (lba, blocks) = (f.take("lba")?, f.take("blocks")?);
            SynchronizeCache { lba, blocks, immediate: f.take("immediate")? }.to_cdb(length)
        }
        "UNMAP" => Some(Unmap { parameter_list_length: f.take("parameter_list_length")? }.to_cdb()),
        "START STOP UNIT" => {
            let (start, load_eject, immediate) = (f.take("start")?, f.take("load_eject")?, f.take("immediate")?);
            Some(StartStopUnit { start, load_eject, immediate, ..StartStopUnit::default() }.to_cdb())
        }
        "PERSISTENT RESERVE IN" => {
            let action = match f.take::<u8>("action")? {
                0 => PrInAction::ReadKeys,
                1 => PrInAction::ReadReservation,
                2 => PrInAction::ReportCapabilities,
                3 => PrInAction::ReadFullStatus,
                other => return Err(errors::config(format!("no service action {other}"), None)),
            };
            Some(PersistentReserveIn { action, allocation_length: f.take("allocation_length")? }.to_cdb())
        }
        "PERSISTENT RESERVE OUT" => {
            let action = match f.take::<u8>("action")? {
                0 => PrOutAction::Register,
                1 => PrOutAction::Reserve,
                2 => PrOutAction::Release,
                3 => PrOutAction::Clear,
                4 => PrOutAction::Preempt,
                5 => PrOutAction::PreemptAndAbort,
                6 => PrOutAction::RegisterAndIgnoreExistingKey,
                7 => PrOutAction::RegisterAndMove,
                other => return Err(errors::config(format!("no service action {other}"), None)),
            };
            let (scope, kind) = (f.take("scope")?, f.take("type")?);
            let parameter_list_length = f.take("parameter_list_length")?;
            Some(PersistentReserveOut { action, scope, kind, parameter_list_length }.to_cdb())
        }
        _ => {
            let hint = "other commands are a few bytes: bytes([0x1a, 0, 0x3f, 0, 255, 0])";
            return Err(errors::config(format!("no fields are known for '{name}'"), Some(hint.into())));
        }
    };
    if f.taken != fields.len() {
        return Err(errors::config(format!("{name} has no such field: {}", fields.keys()), None));
    }
    let cdb = cdb.ok_or_else(|| errors::config(format!("{name} has no room for these values"), None))?;
    debug_assert!(!name_of(cdb.as_bytes()).is_empty());
    Ok(PyBytes::new(py, cdb.as_bytes()))
}
