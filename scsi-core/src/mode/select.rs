//! MODE SELECT.

use super::ModePages;
use super::fields::field_at;
use super::header::{BlockDescriptor, DeviceParameters, ModeHeader};
use super::page::PageId;
use super::sense::page_header;
use crate::cdb::ModeSelect;
use crate::sense::{AdditionalSense, SenseData};

/// What a MODE SELECT that was accepted did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ModeSelectOutcome {
    /// Current or saved values changed: other I_T nexuses get 06/2A/01.
    pub changed: bool,
    /// SP was set: [`ModePages::saved_record`] must be kept before GOOD is sent.
    pub save: bool,
}

impl ModePages {
    /// Carries out MODE SELECT with the parameter list `data` (as many bytes as the CDB says, or fewer if the
    /// initiator sent fewer). All pages are checked before one is changed.
    ///
    /// # Errors
    /// 05/24/00 when PF is clear or SP is set for what cannot be saved; 05/1A/00 when the list ends inside a header,
    /// descriptor or page; 05/26/00 pointing to a page or value that is not supported.
    pub fn select(
        &mut self,
        command: &ModeSelect,
        data: &[u8],
        device: &DeviceParameters,
    ) -> Result<ModeSelectOutcome, SenseData> {
        if !command.page_format {
            return Err(SenseData::invalid_field_in_cdb(1, Some(4)));
        }
        if data.is_empty() {
            return Ok(ModeSelectOutcome::default());
        }
        let too_short = SenseData::parameter_list_length_error();
        let header = ModeHeader::decode(data, command.ten).ok_or(too_short)?;
        let start = ModeHeader::length(command.ten);
        if header.medium_type != 0 {
            return Err(SenseData::invalid_field_in_parameter_list(if command.ten { 2 } else { 1 }, Some(7)));
        }
        let descriptors = usize::from(header.block_descriptor_length);
        check_block_descriptor(command.ten, &header, data, start, device)?;

        let mut pages = self.clone();
        let mut touched = Vec::new();
        let mut at = start + descriptors;
        while at < data.len() {
            let (id, length) = page_header(&data[at..]).ok_or(too_short)?;
            let bytes = data.get(at..at + length).ok_or(too_short)?;
            pages.apply(id, bytes, at)?;
            touched.push(id);
            at += length;
        }
        if command.save_pages {
            pages.save(&touched)?;
        }
        let changed = pages != *self;
        *self = pages;
        Ok(ModeSelectOutcome { changed, save: command.save_pages })
    }

    /// Checks the page that stands at offset `at` of the list and makes its values current.
    fn apply(&mut self, id: PageId, bytes: &[u8], at: usize) -> Result<(), SenseData> {
        let invalid = |offset: usize, bit| {
            SenseData::invalid_field_in_parameter_list((at + offset).min(0xffff) as u16, Some(bit))
        };
        if !self.iter().any(|page| page.id().page == id.page) {
            return Err(invalid(0, 5));
        }
        let Some(page) = self.page_mut(id) else {
            // SPF set wrongly, or a subpage that is not there.
            return Err(if bytes[0] & 0x40 != 0 { invalid(1, 7) } else { invalid(0, 6) });
        };
        let skip = page.header_length();
        if bytes.len() != page.current().len() {
            return Err(invalid(if skip == 2 { 1 } else { 2 }, 7));
        }
        let mut values = page.current().to_vec();
        for offset in skip..bytes.len() {
            let mask = page.changeable()[offset];
            let wrong = (bytes[offset] ^ values[offset]) & !mask;
            if wrong != 0 {
                let (offset, bit) = field_at(id, offset, 7 - wrong.leading_zeros() as u8);
                return Err(invalid(offset, bit));
            }
            values[offset] = values[offset] & !mask | bytes[offset] & mask;
        }
        check_values(id, &values).map_err(|(offset, bit)| invalid(offset, bit))?;
        page.current = values;
        Ok(())
    }

    fn save(&mut self, touched: &[PageId]) -> Result<(), SenseData> {
        for &id in touched {
            let Some(page) = self.page_mut(id) else { continue };
            if !page.savable() {
                return Err(SenseData::illegal_request(AdditionalSense::SAVING_PARAMETERS_NOT_SUPPORTED));
            }
            page.save();
        }
        Ok(())
    }
}

/// Values that a mask of bits cannot express; the offset in the page and the highest bit of what is wrong.
fn check_values(id: PageId, values: &[u8]) -> Result<(), (usize, u8)> {
    match id {
        PageId::CONTROL => {
            if values[2] >> 5 > 1 {
                return Err((2, 7));
            }
            if values[3] >> 4 > 1 {
                return Err((3, 7));
            }
            if values[3] >> 1 & 3 == 2 {
                return Err((3, 2));
            }
        }
        PageId::INFORMATIONAL_EXCEPTIONS => {
            // 1h (asynchronous events) is obsolete, 7h to Bh are reserved, the rest vendor specific.
            if !matches!(values[3] & 0x0f, 0 | 2..=6) {
                return Err((3, 3));
            }
            // TEST with DEXCPT makes no sense.
            if values[2] & 0x0c == 0x0c {
                return Err((2, 2));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Capacity and block length cannot be changed: the descriptor must say what is, or nothing.
fn check_block_descriptor(
    ten: bool,
    header: &ModeHeader,
    data: &[u8],
    start: usize,
    device: &DeviceParameters,
) -> Result<(), SenseData> {
    let length = usize::from(header.block_descriptor_length);
    if length == 0 {
        return Ok(());
    }
    let expected = if header.long_lba { 16 } else { 8 };
    if length != expected {
        return Err(SenseData::invalid_field_in_parameter_list(if ten { 6 } else { 3 }, Some(7)));
    }
    let bytes = data.get(start..start + length).ok_or(SenseData::parameter_list_length_error())?;
    let Some(sent) = BlockDescriptor::decode(bytes, header.long_lba) else {
        return Err(SenseData::parameter_list_length_error());
    };
    let actual = device.block_descriptor.unwrap_or_default();
    let all_ones = if header.long_lba { u64::MAX } else { u32::MAX.into() };
    if sent.blocks != 0 && sent.blocks != all_ones && sent.blocks != actual.blocks {
        return Err(SenseData::invalid_field_in_parameter_list(start as u16, Some(7)));
    }
    if sent.block_length != 0 && sent.block_length != actual.block_length {
        let offset = if header.long_lba { 12 } else { 5 };
        return Err(SenseData::invalid_field_in_parameter_list((start + offset) as u16, Some(7)));
    }
    Ok(())
}
