//! MODE SENSE.

use super::ModePages;
use super::header::{BlockDescriptor, DeviceParameters, ModeHeader, finish};
use super::page::{ModePage, PageId};
use crate::bytes_util::be16;
use crate::cdb::{ModeSense, PageControl};
use crate::sense::{AdditionalSense, SenseData};

impl ModePages {
    /// The whole answer to MODE SENSE, before it is cut at the allocation length.
    ///
    /// # Errors
    /// 05/24/00 pointing to the page or subpage code when there is no such page; 05/39/00 when saved values are asked
    /// of a page that cannot be saved.
    pub fn sense(&self, command: &ModeSense, device: &DeviceParameters) -> Result<Vec<u8>, SenseData> {
        let pages = self.select_pages(command)?;
        if command.page_control == PageControl::Saved && pages.iter().any(|page| !page.savable()) {
            // All pages together: those that cannot be saved give what a reset would, their current values.
            if command.page_code != 0x3f {
                return Err(SenseData::illegal_request(AdditionalSense::SAVING_PARAMETERS_NOT_SUPPORTED));
            }
        }
        let descriptor = device.block_descriptor.filter(|_| !command.disable_block_descriptors);
        // A number of blocks beyond 32 bits needs the long form, if it is accepted.
        let long_lba = command.ten && command.long_lba_accepted && descriptor.is_some();
        let header = ModeHeader {
            medium_type: 0,
            device_specific: device.device_specific(),
            long_lba,
            block_descriptor_length: match descriptor {
                None => 0,
                Some(_) if long_lba => 16,
                Some(_) => 8,
            },
        };
        let mut out = Vec::with_capacity(192);
        header.encode(command.ten, &mut out);
        if let Some(descriptor) = descriptor {
            let changeable = command.page_control == PageControl::Changeable;
            let descriptor = if changeable { BlockDescriptor::default() } else { descriptor };
            if long_lba {
                descriptor.encode_long(&mut out);
            } else {
                descriptor.encode_short(&mut out);
            }
        }
        for page in pages {
            out.extend_from_slice(match command.page_control {
                PageControl::Current => page.current(),
                PageControl::Changeable => page.changeable(),
                PageControl::Default => page.default_values(),
                PageControl::Saved => page.saved_values().unwrap_or(page.default_values()),
            });
        }
        finish(&mut out, command.ten);
        Ok(out)
    }

    fn select_pages(&self, command: &ModeSense) -> Result<Vec<&ModePage>, SenseData> {
        let ModeSense { page_code, subpage_code, .. } = *command;
        let every_page = page_code == 0x3f;
        let every_subpage = subpage_code == 0xff;
        if every_page && !every_subpage && subpage_code != 0 {
            return Err(SenseData::invalid_field_in_cdb(3, Some(7)));
        }
        let wanted = |page: &&ModePage| {
            let PageId { page, subpage } = page.id();
            (every_page || page == page_code) && (every_subpage || subpage == subpage_code)
        };
        let pages: Vec<_> = self.iter().filter(wanted).collect();
        if pages.is_empty() {
            if self.iter().any(|page| page.id().page == page_code) {
                return Err(SenseData::invalid_field_in_cdb(3, Some(7)));
            }
            return Err(SenseData::invalid_field_in_cdb(2, Some(5)));
        }
        Ok(pages)
    }
}

/// MODE SENSE data as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedModeSense {
    /// The header.
    pub header: ModeHeader,
    /// The first block descriptor, if there is one.
    pub block_descriptor: Option<BlockDescriptor>,
    /// The pages with their bytes, header included; a last page that is cut is left out.
    pub pages: Vec<(PageId, Vec<u8>)>,
}

impl DecodedModeSense {
    /// Reads the answer to MODE SENSE(6) or, with `ten`, (10); `None` when the header is cut.
    pub fn decode(data: &[u8], ten: bool) -> Option<Self> {
        let header = ModeHeader::decode(data, ten)?;
        let rest = &data[ModeHeader::length(ten)..];
        let descriptors = rest.get(..header.block_descriptor_length.into())?;
        let block_descriptor = BlockDescriptor::decode(descriptors, header.long_lba);
        let mut rest = &rest[descriptors.len()..];
        let mut pages = Vec::new();
        while let Some((id, length)) = page_header(rest) {
            let Some(page) = rest.get(..length) else { break };
            pages.push((id, page.to_vec()));
            rest = &rest[length..];
        }
        Some(Self { header, block_descriptor, pages })
    }

    /// The bytes of a page.
    pub fn page(&self, id: PageId) -> Option<&[u8]> {
        self.pages.iter().find(|(known, _)| *known == id).map(|(_, page)| page.as_slice())
    }
}

/// Codes of the page that begins here and its bytes, header included; `None` when the header is cut.
pub(super) fn page_header(data: &[u8]) -> Option<(PageId, usize)> {
    let first = *data.first()?;
    if first & 0x40 != 0 {
        let length = be16(data, 2)?;
        return Some((PageId::new(first & 0x3f, data[1]), 4 + usize::from(length)));
    }
    Some((PageId::new(first & 0x3f, 0), 2 + usize::from(*data.get(1)?)))
}
