//! PDUs as a name, a dictionary of fields and data.

use bytes::Bytes;
use iscsi_proto::digest::Digests;
use iscsi_proto::frame::{Frame, Framer as ProtocolFramer, Limits};
use iscsi_proto::pdu as p;
use iscsi_proto::sn::{CmdSn, DataSn, R2tSn, StatSn};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyTuple};
use scsi_core::{Lun, Status, TaskAttribute};
use std::sync::Mutex;

use crate::{buffer, errors};

/// A field of a PDU: to Python and back.
trait Field: Sized {
    fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>>;
    fn from(value: &Bound<'_, PyAny>) -> PyResult<Self>;
}

/// Numbers and switches.
macro_rules! plain_fields {
    ($($ty:ty),*) => { $(impl Field for $ty {
        fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
            Ok((*self).into_pyobject(py)?.to_owned().into_any())
        }
        fn from(value: &Bound<'_, PyAny>) -> PyResult<Self> {
            value.extract()
        }
    })* };
}

/// Newtypes over a number.
macro_rules! number_fields {
    ($($ty:path),*) => { $(impl Field for $ty {
        fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
            Ok(self.0.into_pyobject(py)?.into_any())
        }
        fn from(value: &Bound<'_, PyAny>) -> PyResult<Self> {
            Ok($ty(value.extract()?))
        }
    })* };
}

plain_fields!(bool, u8, u16, u32, Option<u32>);
number_fields!(
    CmdSn,
    StatSn,
    DataSn,
    R2tSn,
    Status,
    p::InitiatorTaskTag,
    p::TargetTransferTag,
    p::SnackTag,
    p::Tsih,
    p::Cid,
    p::LoginStatus,
    p::LogoutReason,
    p::LogoutResponseCode,
    p::RejectReason,
    p::AsyncEvent,
    p::ScsiResponseCode,
    p::TaskManagementFunctionCode,
    p::TaskManagementResponseCode,
    p::SnackType
);

impl Field for Lun {
    fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match crate::server::lun_number(*self) {
            Some(number) => Ok(number.into_pyobject(py)?.into_any()),
            None => Ok(PyBytes::new(py, &self.0).into_any()),
        }
    }

    fn from(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_instance_of::<PyInt>() {
            let lun = value.extract::<u16>().ok().and_then(Lun::new);
            return lun.ok_or_else(|| PyValueError::new_err("a LUN is a number from 0 to 16383"));
        }
        Ok(Lun(value.extract()?))
    }
}

/// Bytes of fixed length.
macro_rules! bytes_fields {
    ($($ty:ty => $get:expr, $from:expr);*) => { $(impl Field for $ty {
        fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
            let get: fn(&$ty) -> Vec<u8> = $get;
            Ok(PyBytes::new(py, &get(self)).into_any())
        }
        fn from(value: &Bound<'_, PyAny>) -> PyResult<Self> {
            let from: fn(&[u8]) -> Option<$ty> = $from;
            let bytes = buffer::bytes_of(value)?;
            from(&bytes).ok_or_else(|| PyValueError::new_err(format!("{} bytes do not fit", bytes.len())))
        }
    })* };
}

bytes_fields!(
    p::Isid => |isid| isid.0.to_vec(), |bytes| bytes.try_into().ok().map(p::Isid);
    p::CdbBytes => |cdb| cdb.as_slice().to_vec(), |bytes| p::CdbBytes::new(bytes);
    [u8; 3] => |bytes| bytes.to_vec(), |bytes| bytes.try_into().ok();
    p::DataSegment => |data| data.to_contiguous().to_vec(), |bytes| Some(Bytes::copy_from_slice(bytes).into())
);

impl Field for Option<Status> {
    fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.map(|status| status.0).into_pyobject(py)?.into_any())
    }

    fn from(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(value.extract::<Option<u8>>()?.map(Status))
    }
}

/// Negative: so many bytes less than expected; positive: more.
impl Field for p::Residual {
    fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let count = match self {
            Self::None => 0,
            Self::Underflow(count) => -i64::from(*count),
            Self::Overflow(count) => i64::from(*count),
        };
        Ok(count.into_pyobject(py)?.into_any())
    }

    fn from(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let count: i64 = value.extract()?;
        let size =
            u32::try_from(count.unsigned_abs()).map_err(|_| PyValueError::new_err("a residual count has 32 bits"))?;
        Ok(match count {
            0 => Self::None,
            ..0 => Self::Underflow(size),
            _ => Self::Overflow(size),
        })
    }
}

impl Field for TaskAttribute {
    fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.to_string().into_pyobject(py)?.into_any())
    }

    fn from(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let name: String = value.extract()?;
        let all = [Self::Untagged, Self::Simple, Self::Ordered, Self::HeadOfQueue, Self::Aca];
        all.into_iter()
            .find(|attribute| attribute.to_string() == name)
            .ok_or_else(|| PyValueError::new_err(format!("no task attribute '{name}'")))
    }
}

/// Flags are numbers: the bits as they stand in byte 1.
impl Field for p::ScsiCommandFlags {
    fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.bits().into_pyobject(py)?.into_any())
    }

    fn from(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self::from_bits_retain(value.extract()?))
    }
}

impl Field for p::DataInFlags {
    fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.bits().into_pyobject(py)?.into_any())
    }

    fn from(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self::from_bits_retain(value.extract()?))
    }
}

/// (T bit, C bit, CSG, NSG)
impl Field for p::LoginFlags {
    fn get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok((self.transit, self.is_continued, self.current.0, self.next.0).into_pyobject(py)?.into_any())
    }

    fn from(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (transit, is_continued, current, next) = value.extract()?;
        Ok(Self { transit, is_continued, current: p::Stage(current), next: p::Stage(next) })
    }
}

/// What each kind of PDU is made of.
macro_rules! pdus {
    ($($direction:ident :: $variant:ident($ty:ident) { $($field:ident),* $(,)? })*) => {
        fn fields_of<'py>(py: Python<'py>, pdu: &Pdu) -> PyResult<Bound<'py, PyDict>> {
            let dict = PyDict::new(py);
            match pdu {
                $(Pdu::$direction(p::$direction::$variant(pdu)) => {
                    $(dict.set_item(stringify!($field), pdu.$field.get(py)?)?;)*
                })*
            }
            Ok(dict)
        }

        fn pdu_of(name: &str, fields: &Bound<'_, PyDict>) -> PyResult<Pdu> {
            match name {
                $(stringify!($variant) => {
                    let mut pdu = p::$ty::default();
                    for (name, value) in fields {
                        match name.extract::<String>()?.as_str() {
                            $(stringify!($field) => pdu.$field = Field::from(&value)?,)*
                            other => return Err(no_field(stringify!($variant), other)),
                        }
                    }
                    Ok(Pdu::$direction(p::$direction::$variant(pdu)))
                })*
                _ => Err(errors::config(format!("no PDU '{name}'"), Some(pdu_names().join(", ")))),
            }
        }

        fn name_of(pdu: &Pdu) -> &'static str {
            match pdu {
                $(Pdu::$direction(p::$direction::$variant(_)) => stringify!($variant),)*
            }
        }

        /// The names of all kinds of PDUs.
        #[pyfunction]
        pub(crate) fn pdu_names() -> Vec<&'static str> {
            vec![$(stringify!($variant)),*]
        }
    };
}

enum Pdu {
    InitiatorPdu(p::InitiatorPdu),
    TargetPdu(p::TargetPdu),
}

pdus! {
    InitiatorPdu::NopOut(NopOut) {
        immediate, lun, initiator_task_tag, target_transfer_tag, cmd_sn, exp_stat_sn, data,
    }
    InitiatorPdu::ScsiCommand(ScsiCommand) {
        immediate, flags, attribute, priority, lun, initiator_task_tag, expected_data_transfer_length, cmd_sn,
        exp_stat_sn, cdb, bidirectional_read_length, data,
    }
    InitiatorPdu::TaskManagementRequest(TaskManagementRequest) {
        immediate, function, lun, initiator_task_tag, referenced_task_tag, cmd_sn, exp_stat_sn, ref_cmd_sn,
        exp_data_sn,
    }
    InitiatorPdu::LoginRequest(LoginRequest) {
        flags, version_max, version_min, isid, tsih, initiator_task_tag, cid, cmd_sn, exp_stat_sn, data,
    }
    InitiatorPdu::TextRequest(TextRequest) {
        immediate, is_final, is_continued, lun, initiator_task_tag, target_transfer_tag, cmd_sn, exp_stat_sn, data,
    }
    InitiatorPdu::DataOut(DataOut) {
        is_final, lun, initiator_task_tag, target_transfer_tag, exp_stat_sn, data_sn, buffer_offset, data,
    }
    InitiatorPdu::LogoutRequest(LogoutRequest) {
        immediate, reason, initiator_task_tag, cid, cmd_sn, exp_stat_sn,
    }
    InitiatorPdu::Snack(Snack) {
        snack_type, lun, initiator_task_tag, target_transfer_tag, exp_stat_sn, first_missing, run_length,
    }
    TargetPdu::NopIn(NopIn) {
        lun, initiator_task_tag, target_transfer_tag, stat_sn, exp_cmd_sn, max_cmd_sn, data,
    }
    TargetPdu::ScsiResponse(ScsiResponse) {
        response, status, initiator_task_tag, snack_tag, stat_sn, exp_cmd_sn, max_cmd_sn, exp_data_sn,
        bidirectional_read_residual, residual, data,
    }
    TargetPdu::TaskManagementResponse(TaskManagementResponse) {
        response, additional_information, initiator_task_tag, stat_sn, exp_cmd_sn, max_cmd_sn,
    }
    TargetPdu::LoginResponse(LoginResponse) {
        flags, version_max, version_active, isid, tsih, initiator_task_tag, stat_sn, exp_cmd_sn, max_cmd_sn, status,
        data,
    }
    TargetPdu::TextResponse(TextResponse) {
        is_final, is_continued, lun, initiator_task_tag, target_transfer_tag, stat_sn, exp_cmd_sn, max_cmd_sn, data,
    }
    TargetPdu::DataIn(DataIn) {
        flags, status, lun, initiator_task_tag, target_transfer_tag, stat_sn, exp_cmd_sn, max_cmd_sn, data_sn,
        buffer_offset, residual, data,
    }
    TargetPdu::LogoutResponse(LogoutResponse) {
        response, initiator_task_tag, stat_sn, exp_cmd_sn, max_cmd_sn, time2wait, time2retain,
    }
    TargetPdu::R2t(R2t) {
        lun, initiator_task_tag, target_transfer_tag, stat_sn, exp_cmd_sn, max_cmd_sn, r2t_sn, buffer_offset,
        desired_data_transfer_length,
    }
    TargetPdu::AsyncMessage(AsyncMessage) {
        lun, stat_sn, exp_cmd_sn, max_cmd_sn, event, vendor_code, parameter1, parameter2, parameter3, data,
    }
    TargetPdu::Reject(Reject) { reason, stat_sn, exp_cmd_sn, max_cmd_sn, data_sn, data }
}

fn no_field(pdu: &str, field: &str) -> PyErr {
    errors::config(format!("{pdu} has no field '{field}'"), None)
}

fn decoded<'py>(py: Python<'py>, frame: Frame) -> PyResult<Bound<'py, PyTuple>> {
    let from_target = frame.bhs.opcode().0 & 0x20 != 0;
    let pdu = match from_target {
        true => Pdu::TargetPdu(p::TargetPdu::decode(frame).map_err(errors::decode)?),
        false => Pdu::InitiatorPdu(p::InitiatorPdu::decode(frame).map_err(errors::decode)?),
    };
    (name_of(&pdu), fields_of(py, &pdu)?).into_pyobject(py)
}

/// One whole PDU without digests: its name and its fields.
#[pyfunction]
pub(crate) fn decode_pdu<'py>(py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    decoded(py, Frame::parse(buffer::bytes_of(data)?).map_err(errors::decode)?)
}

/// The bytes of a PDU.
#[pyfunction]
#[pyo3(signature = (name, fields, *, header_digest=false, data_digest=false))]
pub(crate) fn encode_pdu<'py>(
    py: Python<'py>,
    name: &str,
    fields: &Bound<'py, PyDict>,
    header_digest: bool,
    data_digest: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let pdu = pdu_of(name, fields)?;
    let (mut encoder, mut out) = (p::Encoder::new(), Vec::new());
    encoder.set_digests(Digests { header: header_digest, data: data_digest });
    let encoded = match &pdu {
        Pdu::InitiatorPdu(pdu) => encoder.encode(pdu, &mut out),
        Pdu::TargetPdu(pdu) => encoder.encode(pdu, &mut out),
    };
    encoded.map_err(|error| errors::config(error, None))?;
    encoder.finish(&mut out);
    Ok(PyBytes::new(py, &out.concat()))
}

/// Cuts a stream into PDUs, checking digests: any split of the same bytes gives the same PDUs.
#[pyclass(frozen, module = "lunette._native")]
pub(crate) struct Framer {
    framer: Mutex<ProtocolFramer>,
}

#[pymethods]
impl Framer {
    #[new]
    #[pyo3(signature = (*, header_digest=false, data_digest=false))]
    fn new(header_digest: bool, data_digest: bool) -> Self {
        let mut framer = ProtocolFramer::new(Limits::default());
        framer.set_digests(Digests { header: header_digest, data: data_digest });
        Self { framer: Mutex::new(framer) }
    }

    /// Takes bytes of the stream; gives the PDUs that are complete now.
    fn feed<'py>(&self, py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let bytes = buffer::bytes_of(data)?;
        let mut framer = self.framer.lock().map_err(|_| errors::poisoned())?;
        framer.handle_received(bytes);
        let mut pdus = Vec::new();
        while let Some(frame) = framer.poll_frame().map_err(errors::decode)? {
            if !frame.data_digest.is_ok() {
                return Err(errors::decode("the data digest is wrong"));
            }
            pdus.push(decoded(py, frame)?);
        }
        Ok(pdus)
    }

    /// Bytes that wait for the rest of their PDU.
    #[getter]
    fn buffered(&self) -> PyResult<usize> {
        Ok(self.framer.lock().map_err(|_| errors::poisoned())?.buffered())
    }
}
