//! What initiators note on a unit: identifying information, which is kept with it, and the time.

use scsi_core::cdb::{ReportIdentifyingInformation, ReportTimestamp, SetIdentifyingInformation, SetTimestamp};
use scsi_core::command::Command;
use scsi_core::data::{IdentifyingInformation, Timestamp, TimestampOrigin};
use scsi_core::{AdditionalSense, SenseData};
use stmf::provider::{Effects, Segments};

use super::Lu;
use super::gather::concat;
use super::persist::Change;
use super::slab::Key;
use super::transfer::Checked;
use crate::meta::Identity;

/// Puts what was set into an identity.
pub(super) fn apply(kind: u8, bytes: &[u8], identity: &mut Identity) {
    if kind == IdentifyingInformation::TEXT {
        let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        identity.text_information = String::from_utf8_lossy(text).into_owned();
    } else {
        identity.device_information = bytes.to_vec();
    }
}

impl Lu {
    pub(super) fn report_information(
        &mut self,
        key: Key,
        command: &ReportIdentifyingInformation,
        fx: &mut Effects,
    ) -> Checked {
        let data = match command.information_type {
            IdentifyingInformation::DEVICE => {
                IdentifyingInformation { bytes: self.identity.device_information.clone() }.encode()
            }
            IdentifyingInformation::TEXT => {
                let mut bytes = self.identity.text_information.clone().into_bytes();
                if !bytes.is_empty() {
                    bytes.push(0);
                }
                IdentifyingInformation { bytes }.encode()
            }
            IdentifyingInformation::SUPPORTED => IdentifyingInformation::encode_supported(),
            _ => return Err(SenseData::invalid_field_in_cdb(10, Some(7))),
        };
        self.answer(key, data, command.allocation_length.into(), fx);
        Ok(())
    }

    pub(super) fn set_information(
        &mut self,
        key: Key,
        command: &SetIdentifyingInformation,
        fx: &mut Effects,
    ) -> Checked {
        let longest = match command.information_type {
            IdentifyingInformation::DEVICE => IdentifyingInformation::MAX_DEVICE,
            IdentifyingInformation::TEXT => IdentifyingInformation::MAX_TEXT,
            _ => return Err(SenseData::invalid_field_in_cdb(10, Some(7))),
        };
        if command.parameter_list_length as usize > longest {
            return Err(SenseData::invalid_field_in_cdb(6, Some(7)));
        }
        self.gather(key, Command::SetIdentifyingInformation(*command), command.parameter_list_length, fx);
        Ok(())
    }

    /// GOOD follows when the record is on stable storage.
    pub(super) fn received_information(
        &mut self,
        key: Key,
        command: &SetIdentifyingInformation,
        data: Segments,
        fx: &mut Effects,
    ) -> Checked {
        if self.must_queue(key, Command::SetIdentifyingInformation(*command), &data) {
            return Ok(());
        }
        let list = concat(data);
        if list.len() < command.parameter_list_length as usize {
            return Err(SenseData::parameter_list_length_error());
        }
        let kind = command.information_type;
        let information = IdentifyingInformation::parse_set(kind, &list)?;
        self.persist(key, Change::Information { kind, bytes: information.bytes }, fx);
        Ok(())
    }

    /// The information is kept and comes into force.
    pub(super) fn commit_information(&mut self, key: Key, kind: u8, bytes: &[u8], fx: &mut Effects) {
        apply(kind, bytes, &mut self.identity);
        let Some(task) = self.tasks.get(key) else { return };
        let nexus = task.id.nexus;
        self.attention_others(Some(nexus), AdditionalSense::DEVICE_IDENTIFIER_CHANGED);
        self.good(key, bytes.len() as u64, fx);
    }

    /// The time: as an initiator has set it, else by the host's clock, else none.
    pub(super) fn report_timestamp(&mut self, key: Key, command: &ReportTimestamp, fx: &mut Effects) {
        let now = self.clock_us / 1000;
        let (origin, milliseconds) = match self.timestamp_offset_ms {
            Some(offset) => (TimestampOrigin::Set, now.wrapping_add_signed(offset)),
            None if now > 0 => (TimestampOrigin::DeviceClock, now),
            None => (TimestampOrigin::SincePowerOn, 0),
        };
        let data = Timestamp { origin, milliseconds }.encode();
        self.answer(key, data, command.allocation_length.into(), fx);
    }

    pub(super) fn set_timestamp(&mut self, key: Key, command: &SetTimestamp, fx: &mut Effects) {
        // What follows the twelve bytes that mean something is not looked at.
        self.gather(key, Command::SetTimestamp(*command), command.parameter_list_length.min(256), fx);
    }

    pub(super) fn received_timestamp(&mut self, key: Key, data: Segments, fx: &mut Effects) -> Checked {
        let list = concat(data);
        if let Some(milliseconds) = Timestamp::parse_set(&list)? {
            self.timestamp_offset_ms = Some(milliseconds.wrapping_sub(self.clock_us / 1000).cast_signed());
            if let Some(task) = self.tasks.get(key) {
                let nexus = task.id.nexus;
                self.attention_others(Some(nexus), AdditionalSense::TIMESTAMP_CHANGED);
            }
        }
        self.good(key, list.len() as u64, fx);
        Ok(())
    }
}
