//! The commands that the framework answers itself: REPORT LUNS, and everything that reaches no logical unit.

use bytes::Bytes;
use scsi_core::{
    AdditionalSense, Association, Cdb, Designator, DesignatorName, Lun, ProtocolId, SenseData, SenseFormat, Status,
};
use smallvec::{SmallVec, smallvec};

use crate::lun_map::LunMap;
use crate::nexus::Nexus;
use crate::provider::{Completion, Effect, Effects, LuTask};

pub(crate) const TEST_UNIT_READY: u8 = 0x00;
pub(crate) const REQUEST_SENSE: u8 = 0x03;
pub(crate) const INQUIRY: u8 = 0x12;
pub(crate) const REPORT_LUNS: u8 = 0xa0;

/// What a command of ours comes to: data within the allocation length, or sense.
pub(crate) type Answer = Result<Vec<u8>, SenseData>;

/// Unit attention: the inventory of logical units is another.
pub(crate) const LUNS_CHANGED: SenseData = SenseData::unit_attention(AdditionalSense::REPORTED_LUNS_DATA_HAS_CHANGED);

const NOT_SUPPORTED: SenseData = SenseData::illegal_request(AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED);
/// NACA in the CONTROL byte.
const NACA: u8 = 0x04;
/// The shortest allocation length for REPORT LUNS.
const LEAST_REPORT: u32 = 16;

/// Ends `task` with `answer`.
pub(crate) fn finish(task: &LuTask<'_>, answer: Answer, effects: &mut Effects) {
    let (status, sense, data_length) = match answer {
        Ok(mut data) => {
            let length = data.len();
            data.truncate(task.data_in_length as usize);
            if !data.is_empty() {
                effects.push(Effect::SendData { task: task.id, offset: 0, data: smallvec![Bytes::from(data)] });
            }
            (Status::GOOD, SmallVec::new(), length as u64)
        }
        Err(sense) => (Status::CHECK_CONDITION, SmallVec::from_vec(sense.encode(SenseFormat::Fixed)), 0),
    };
    effects.push(Effect::Complete(Completion { task: task.id, status, sense, data_length }));
}

/// REPORT LUNS (SPC-5).
pub(crate) fn report_luns(map: &LunMap, cdb: &[u8]) -> Answer {
    check_control(cdb)?;
    let allocation = be32(cdb, 6);
    if allocation < LEAST_REPORT {
        return Err(SenseData::invalid_field_in_cdb(6, Some(7)));
    }
    let data = map.report(byte(cdb, 2)).ok_or(SenseData::invalid_field_in_cdb(2, Some(7)))?;
    Ok(allocated(data, allocation))
}

/// A command for a LUN that is not mapped.
pub(crate) fn unmapped(cdb: &[u8]) -> Answer {
    check_control(cdb)?;
    match byte(cdb, 0) {
        // 011b: the target cannot support a device there; type 1Fh: none.
        INQUIRY => inquiry(cdb, 0x7f, |_| None),
        REQUEST_SENSE => Ok(sense_data(cdb, &NOT_SUPPORTED)),
        _ => Err(NOT_SUPPORTED),
    }
}

/// A command for the well known logical unit REPORT LUNS, but REPORT LUNS.
pub(crate) fn well_known(cdb: &[u8], nexus: &Nexus) -> Answer {
    check_control(cdb)?;
    match byte(cdb, 0) {
        INQUIRY => inquiry(cdb, 0x1e, |page| match page {
            0x00 => Some(vec![0x00, 0x83]),
            0x83 => Some(port_designators(nexus)),
            _ => None,
        }),
        REQUEST_SENSE => Ok(sense_data(cdb, &SenseData::no_sense())),
        TEST_UNIT_READY => Ok(Vec::new()),
        _ => Err(SenseData::invalid_opcode()),
    }
}

/// The parameter data of REQUEST SENSE.
pub(crate) fn sense_data(cdb: &[u8], sense: &SenseData) -> Vec<u8> {
    let format = SenseFormat::from_descriptor_bit(byte(cdb, 1) & 1 != 0);
    allocated(sense.encode(format), byte(cdb, 4).into())
}

/// The LUN of the well known unit that we have.
pub(crate) fn is_well_known(lun: Lun) -> bool {
    lun == Lun::REPORT_LUNS_WELL_KNOWN
}

/// INQUIRY with `peripheral` (qualifier and device type) in the first byte; `page` gives the body of a VPD page.
fn inquiry(cdb: &[u8], peripheral: u8, page: impl FnOnce(u8) -> Option<Vec<u8>>) -> Answer {
    let code = byte(cdb, 2);
    let allocation = u16::from_be_bytes([byte(cdb, 3), byte(cdb, 4)]).into();
    if byte(cdb, 1) & 1 != 0 {
        let body = page(code).ok_or(SenseData::invalid_field_in_cdb(2, Some(7)))?;
        let [high, low] = (body.len() as u16).to_be_bytes();
        let mut data = vec![peripheral, code, high, low];
        data.extend_from_slice(&body);
        return Ok(allocated(data, allocation));
    }
    if code != 0 {
        return Err(SenseData::invalid_field_in_cdb(2, Some(7)));
    }
    // Version 7 is SPC-5; HISUP and response data format 2; 31 bytes follow; CMDQUE.
    let mut data = vec![peripheral, 0, 0x07, 0x12, 31, 0, 0, 0x02];
    data.extend_from_slice(b"LUNETTE ");
    data.extend_from_slice(if peripheral == 0x1e { b"REPORT LUNS     " } else { b"NO LOGICAL UNIT " });
    data.extend_from_slice(b"0001");
    Ok(allocated(data, allocation))
}

/// The names of the port that the nexus came through: a well known logical unit has none of its own.
fn port_designators(nexus: &Nexus) -> Vec<u8> {
    let protocol = ProtocolId(nexus.protocol);
    let port = |name| Designator { association: Association::TargetPort, protocol: Some(protocol), name };
    let mut body = Vec::new();
    if !nexus.target_port_name.starts_with("wwn.") {
        port(DesignatorName::ScsiName(nexus.target_port_name.clone())).encode(&mut body);
    }
    port(DesignatorName::RelativeTargetPort(nexus.relative_target_port)).encode(&mut body);
    body
}

fn check_control(cdb: &[u8]) -> Result<(), SenseData> {
    let Ok(control) = Cdb::new(cdb).map(|cdb| cdb.control()) else { return Ok(()) };
    if control & NACA == 0 {
        return Ok(());
    }
    let at = scsi_core::fixed_length(byte(cdb, 0)).map_or(1, |length| length - 1);
    Err(SenseData::invalid_field_in_cdb(at as u16, Some(2)))
}

fn allocated(mut data: Vec<u8>, length: u32) -> Vec<u8> {
    data.truncate(length as usize);
    data
}

/// A byte of the CDB; 0 behind its end.
fn byte(cdb: &[u8], at: usize) -> u8 {
    cdb.get(at).copied().unwrap_or(0)
}

fn be32(cdb: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([byte(cdb, at), byte(cdb, at + 1), byte(cdb, at + 2), byte(cdb, at + 3)])
}
