//! INQUIRY data, vital product data pages and the answers of PERSISTENT RESERVE IN, as dictionaries.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use scsi_core::Designator;
use scsi_core::inquiry::{Peripheral, StandardInquiry};
use scsi_core::reservation::{FullStatus, ReadKeys, ReadReservation, ReservationType};
use scsi_core::vpd::{
    BlockDeviceCharacteristics, BlockLimits, DeviceIdentification, LogicalBlockProvisioning, ProvisioningType,
    SupportedPages, UnitSerialNumber, VpdPage,
};

use crate::{buffer, errors};

/// A page whose fields are numbers and switches: to a dictionary and back.
macro_rules! plain_page {
    ($into:ident, $from:ident, $page:ty, $($field:ident),* $(,)?) => {
        fn $into(page: &$page, dict: &Bound<'_, PyDict>) -> PyResult<()> {
            $(dict.set_item(stringify!($field), page.$field.clone())?;)*
            Ok(())
        }

        fn $from(fields: &Bound<'_, PyDict>) -> PyResult<$page> {
            let mut page = <$page>::default();
            for (name, value) in fields {
                match name.extract::<String>()?.as_str() {
                    $(stringify!($field) => page.$field = value.extract()?,)*
                    "page" | "name" => {}
                    other => return Err(errors::config(format!("the page has no field '{other}'"), None)),
                }
            }
            Ok(page)
        }
    };
}

plain_page!(
    limits_to,
    limits_from,
    BlockLimits,
    write_same_non_zero,
    max_compare_and_write_length,
    optimal_transfer_granularity,
    max_transfer_length,
    optimal_transfer_length,
    max_prefetch_length,
    max_unmap_lba_count,
    max_unmap_descriptor_count,
    optimal_unmap_granularity,
    unmap_granularity_alignment,
    max_write_same_length,
    max_atomic_transfer_length,
    atomic_alignment,
    atomic_transfer_granularity,
    max_atomic_transfer_with_boundary,
    max_atomic_boundary
);
plain_page!(
    characteristics_to,
    characteristics_from,
    BlockDeviceCharacteristics,
    rotation_rate,
    product_type,
    after_block_erase,
    after_cryptographic_erase,
    form_factor,
    fua_behaviour,
    verify_unmapped
);
plain_page!(
    provisioning_to,
    provisioning_from,
    LogicalBlockProvisioning,
    threshold_exponent,
    unmap,
    write_same_16,
    write_same_10,
    reads_zeros,
    anchor,
    minimum_percentage,
    threshold_percentage
);
plain_page!(serial_to, serial_from, UnitSerialNumber, serial);
plain_page!(_pages_to, pages_from, SupportedPages, pages);

/// The standard INQUIRY data.
#[pyfunction]
pub(crate) fn decode_inquiry<'py>(py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let bytes = buffer::bytes_of(data)?;
    let inquiry = StandardInquiry::decode(&bytes)
        .ok_or_else(|| errors::decode(format!("{} bytes are no standard INQUIRY data", bytes.len())))?;
    let dict = PyDict::new(py);
    dict.set_item("qualifier", inquiry.peripheral.qualifier)?;
    dict.set_item("device_type", inquiry.peripheral.device_type)?;
    dict.set_item("removable", inquiry.removable)?;
    dict.set_item("version", inquiry.version)?;
    dict.set_item("normal_aca", inquiry.normal_aca)?;
    dict.set_item("third_party_copy", inquiry.third_party_copy)?;
    dict.set_item("protect", inquiry.protect)?;
    dict.set_item("multiport", inquiry.multiport)?;
    dict.set_item("command_queuing", inquiry.command_queuing)?;
    dict.set_item("vendor", inquiry.vendor.trim_end())?;
    dict.set_item("product", inquiry.product.trim_end())?;
    dict.set_item("revision", inquiry.revision.trim_end())?;
    let versions: Vec<u16> = inquiry.version_descriptors.iter().map(|version| version.0).collect();
    dict.set_item("version_descriptors", versions)?;
    Ok(dict)
}

/// A vital product data page. Pages without a form of their own keep their `body`.
#[pyfunction]
pub(crate) fn decode_vpd<'py>(py: Python<'py>, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let bytes = buffer::bytes_of(data)?;
    let &[_, code, high, low, ..] = &bytes[..] else {
        return Err(errors::decode(format!("{} bytes are no page: its header has 4", bytes.len())));
    };
    let dict = PyDict::new(py);
    dict.set_item("page", code)?;
    let wrong = || errors::decode(format!("page {code:#04x} makes no sense"));
    match code {
        0x00 => {
            let page: SupportedPages = VpdPage::decode(&bytes).ok_or_else(wrong)?;
            dict.set_item("pages", PyList::new(py, page.pages)?)?;
        }
        0x80 => serial_to(&VpdPage::decode(&bytes).ok_or_else(wrong)?, &dict)?,
        0x83 => {
            let page = DeviceIdentification::decode(&bytes).ok_or_else(wrong)?;
            let list = PyList::empty(py);
            for designator in &page.designators {
                list.append(designator_to(py, designator)?)?;
            }
            dict.set_item("designators", list)?;
        }
        0xb0 => limits_to(&VpdPage::decode(&bytes).ok_or_else(wrong)?, &dict)?,
        0xb1 => characteristics_to(&VpdPage::decode(&bytes).ok_or_else(wrong)?, &dict)?,
        0xb2 => {
            let page = LogicalBlockProvisioning::decode(&bytes).ok_or_else(wrong)?;
            provisioning_to(&page, &dict)?;
            dict.set_item("provisioning_type", provisioning_name(page.provisioning_type))?;
        }
        _ => {
            let body = &bytes[4..];
            let length = usize::from(u16::from_be_bytes([high, low])).min(body.len());
            dict.set_item("body", PyBytes::new(py, &body[..length]))?;
        }
    }
    Ok(dict)
}

/// The bytes of a vital product data page, header included: `encode_vpd(0xb0, {"max_transfer_length": 2048})`.
#[pyfunction]
pub(crate) fn encode_vpd<'py>(py: Python<'py>, page: u8, fields: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyBytes>> {
    let disk = Peripheral { qualifier: 0, device_type: 0 };
    let bytes = match page {
        0x00 => pages_from(fields)?.encode(disk),
        0x80 => serial_from(fields)?.encode(disk),
        0xb0 => limits_from(fields)?.encode(disk),
        0xb1 => characteristics_from(fields)?.encode(disk),
        0xb2 => {
            let fields = fields.copy()?;
            let kind = fields.get_item("provisioning_type")?;
            if kind.is_some() {
                fields.del_item("provisioning_type")?;
            }
            let mut page = provisioning_from(&fields)?;
            page.provisioning_type = match kind.map(|kind| kind.extract::<String>()).transpose()?.as_deref() {
                None | Some("full") => ProvisioningType::Full,
                Some("resource") => ProvisioningType::Resource,
                Some("thin") => ProvisioningType::Thin,
                Some(other) => return Err(errors::config(format!("no provisioning type '{other}'"), None)),
            };
            page.encode(disk)
        }
        _ => {
            let body = fields.get_item("body")?.ok_or_else(|| {
                errors::config(format!("page {page:#04x} has no form of its own"), Some("give body=b'...'".into()))
            })?;
            let body = buffer::bytes_of(&body)?;
            let length = u16::try_from(body.len()).map_err(|error| errors::config(error, None))?;
            let mut bytes = vec![disk.byte(), page];
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&body);
            bytes
        }
    };
    Ok(PyBytes::new(py, &bytes))
}

fn provisioning_name(kind: ProvisioningType) -> String {
    match kind {
        ProvisioningType::Full => "full".into(),
        ProvisioningType::Resource => "resource".into(),
        ProvisioningType::Thin => "thin".into(),
        ProvisioningType::Other(code) => format!("{code}"),
    }
}

fn designator_to<'py>(py: Python<'py>, designator: &Designator) -> PyResult<Bound<'py, PyDict>> {
    use scsi_core::DesignatorName as Name;
    let dict = PyDict::new(py);
    let association = match designator.association {
        scsi_core::Association::LogicalUnit => "logical unit",
        scsi_core::Association::TargetPort => "target port",
        scsi_core::Association::TargetDevice => "target device",
        scsi_core::Association::Reserved => "reserved",
    };
    dict.set_item("association", association)?;
    dict.set_item("protocol", designator.protocol.map(|protocol| protocol.0))?;
    let (kind, value) = match &designator.name {
        Name::VendorSpecific(bytes) => ("vendor", hex(bytes)),
        Name::T10Vendor { vendor, specific } => ("t10", format!("{}{}", vendor, String::from_utf8_lossy(specific))),
        Name::Eui64(bytes) => ("eui64", hex(bytes)),
        Name::Naa6(guid) => ("naa", format!("{guid}")),
        Name::Naa(number) => ("naa", format!("{number:016x}")),
        Name::RelativeTargetPort(number) => ("relative target port", number.to_string()),
        Name::TargetPortGroup(number) => ("target port group", number.to_string()),
        Name::LogicalUnitGroup(number) => ("logical unit group", number.to_string()),
        Name::ScsiName(name) => ("scsi name", name.clone()),
        Name::Other { bytes, .. } => ("other", hex(bytes)),
        _ => ("other", String::new()),
    };
    dict.set_item("kind", kind)?;
    dict.set_item("value", value)?;
    Ok(dict)
}

/// The standard's words for a type of reservation.
fn reservation_name(kind: ReservationType) -> &'static str {
    match kind {
        ReservationType::WriteExclusive => "write exclusive",
        ReservationType::ExclusiveAccess => "exclusive access",
        ReservationType::WriteExclusiveRegistrantsOnly => "write exclusive, registrants only",
        ReservationType::ExclusiveAccessRegistrantsOnly => "exclusive access, registrants only",
        ReservationType::WriteExclusiveAllRegistrants => "write exclusive, all registrants",
        ReservationType::ExclusiveAccessAllRegistrants => "exclusive access, all registrants",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What PERSISTENT RESERVE IN answered: `action` is 0 READ KEYS, 1 READ RESERVATION or 3 READ FULL STATUS.
#[pyfunction]
pub(crate) fn persistent_reserve_in<'py>(
    py: Python<'py>,
    action: u8,
    data: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyDict>> {
    let bytes = buffer::bytes_of(data)?;
    let wrong = || errors::decode(format!("{} bytes are no answer of PERSISTENT RESERVE IN", bytes.len()));
    let dict = PyDict::new(py);
    match action {
        0 => {
            let keys = ReadKeys::decode(&bytes).ok_or_else(wrong)?;
            dict.set_item("generation", keys.generation)?;
            dict.set_item("keys", keys.keys)?;
        }
        1 => {
            let held = ReadReservation::decode(&bytes).ok_or_else(wrong)?;
            dict.set_item("generation", held.generation)?;
            let key = held.reservation.as_ref().map(|(key, _)| *key);
            dict.set_item("key", key)?;
            dict.set_item("type", held.reservation.as_ref().map(|(_, kind)| reservation_name(*kind)))?;
        }
        3 => {
            let status = FullStatus::decode(&bytes).ok_or_else(wrong)?;
            dict.set_item("generation", status.generation)?;
            let list = PyList::empty(py);
            for entry in &status.entries {
                let row = PyDict::new(py);
                row.set_item("key", entry.key)?;
                row.set_item("holds", entry.holds.map(reservation_name))?;
                row.set_item("relative_target_port", entry.relative_target_port)?;
                row.set_item("initiator", entry.initiator.to_string())?;
                list.append(row)?;
            }
            dict.set_item("registrations", list)?;
        }
        other => return Err(errors::config(format!("service action {other} is not decoded"), None)),
    }
    Ok(dict)
}
