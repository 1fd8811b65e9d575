//! The native part of the Python package `lunette`. What users see is in `python/lunette`; this is kept thin.
//!
//! Calls that wait let go of the interpreter. The classes are frozen and guard themselves with locks, but they have not
//! been tried without the global interpreter lock: the module asks for it, and a free-threaded interpreter says so.

use pyo3::prelude::*;

mod async_store;
mod buffer;
mod cdb;
mod client;
mod errors;
mod pdu;
mod scsi;
mod server;
mod store;
mod trace;
mod vpd;

/// `lunette._native`.
#[pymodule(gil_used = true)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("DEFAULT_INITIATOR_NAME", lunette_client::DEFAULT_INITIATOR_NAME)?;
    module.add_class::<async_store::Completion>()?;
    module.add_class::<client::Disk>()?;
    module.add_class::<client::Geometry>()?;
    module.add_class::<client::Pending>()?;
    module.add_class::<client::Reply>()?;
    module.add_class::<pdu::Framer>()?;
    module.add_class::<scsi::Sense>()?;
    module.add_class::<server::Server>()?;
    module.add_class::<server::Unit>()?;
    module.add_class::<store::Store>()?;
    module.add_class::<trace::Command>()?;
    module.add_function(wrap_pyfunction!(cdb::encode_cdb, module)?)?;
    module.add_function(wrap_pyfunction!(client::discover, module)?)?;
    module.add_function(wrap_pyfunction!(pdu::decode_pdu, module)?)?;
    module.add_function(wrap_pyfunction!(pdu::encode_pdu, module)?)?;
    module.add_function(wrap_pyfunction!(pdu::pdu_names, module)?)?;
    module.add_function(wrap_pyfunction!(scsi::command_names, module)?)?;
    module.add_function(wrap_pyfunction!(scsi::decode_cdb, module)?)?;
    module.add_function(wrap_pyfunction!(scsi::status_name, module)?)?;
    module.add_function(wrap_pyfunction!(vpd::decode_inquiry, module)?)?;
    module.add_function(wrap_pyfunction!(vpd::decode_vpd, module)?)?;
    module.add_function(wrap_pyfunction!(vpd::encode_vpd, module)?)?;
    module.add_function(wrap_pyfunction!(vpd::persistent_reserve_in, module)?)?;
    Ok(())
}
