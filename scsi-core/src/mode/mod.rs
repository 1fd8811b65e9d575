//! Mode pages: their values, MODE SENSE and MODE SELECT.
//!
//! [`ModePages`] holds the pages of a logical unit in four versions: current, changeable, default and saved. MODE SENSE
//! copies them out, MODE SELECT checks every bit against the changeable mask before it changes any. What the bits mean
//! to the device server is read through methods ([`ModePages::write_cache_enabled`] and the like).

mod fields;
mod header;
mod page;
mod select;
mod sense;

pub use self::fields::field_at;
pub use self::header::{BlockDescriptor, DeviceParameters, ModeHeader};
pub use self::page::{ModePage, PageId, QueueErrorManagement, TaskSetType, standard};
pub use self::select::ModeSelectOutcome;
pub use self::sense::DecodedModeSense;

/// The mode pages of one logical unit, shared by every I_T nexus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModePages {
    /// In the order of page and subpage code, page 00h last, as MODE SENSE returns them.
    pages: Vec<ModePage>,
}

/// What stands first in a record of saved pages.
const RECORD_VERSION: u8 = 1;

impl ModePages {
    /// The pages given, in the order MODE SENSE has.
    pub fn new(mut pages: Vec<ModePage>) -> Self {
        pages.sort_by_key(ModePage::id);
        Self { pages }
    }

    /// The page, if the logical unit has it.
    pub fn page(&self, id: PageId) -> Option<&ModePage> {
        self.pages.iter().find(|page| page.id() == id)
    }

    fn page_mut(&mut self, id: PageId) -> Option<&mut ModePage> {
        self.pages.iter_mut().find(|page| page.id() == id)
    }

    /// Every page.
    pub fn iter(&self) -> impl Iterator<Item = &ModePage> {
        self.pages.iter()
    }

    fn bits(&self, id: PageId, at: usize, shift: u8, mask: u8) -> u8 {
        self.page(id).and_then(|page| page.current().get(at)).map_or(0, |byte| byte >> shift & mask)
    }

    fn set_bits(&mut self, id: PageId, at: usize, shift: u8, mask: u8, value: u8) {
        if let Some(byte) = self.page_mut(id).and_then(|page| page.current.get_mut(at)) {
            *byte = *byte & !(mask << shift) | (value & mask) << shift;
        }
    }

    /// WCE: GOOD may be sent for a write before it is on stable storage.
    pub fn write_cache_enabled(&self) -> bool {
        self.bits(PageId::CACHING, 2, 2, 1) != 0
    }

    /// Sets WCE from the administrator's side.
    pub fn set_write_cache_enabled(&mut self, enabled: bool) {
        self.set_bits(PageId::CACHING, 2, 2, 1, u8::from(enabled));
    }

    /// RCD: reads go to the medium.
    pub fn read_cache_disabled(&self) -> bool {
        self.bits(PageId::CACHING, 2, 0, 1) != 0
    }

    /// SWP: software write protect.
    pub fn software_write_protect(&self) -> bool {
        self.bits(PageId::CONTROL, 4, 3, 1) != 0
    }

    /// Sets SWP from the administrator's side.
    pub fn set_software_write_protect(&mut self, protect: bool) {
        self.set_bits(PageId::CONTROL, 4, 3, 1, u8::from(protect));
    }

    /// D_SENSE: sense data comes in descriptor format.
    pub fn sense_format(&self) -> crate::SenseFormat {
        crate::SenseFormat::from_descriptor_bit(self.bits(PageId::CONTROL, 2, 2, 1) != 0)
    }

    /// TST: one task set for all I_T nexuses, or one each.
    pub fn task_set_type(&self) -> TaskSetType {
        if self.bits(PageId::CONTROL, 2, 5, 7) == 1 { TaskSetType::PerItNexus } else { TaskSetType::Shared }
    }

    /// TAS: tasks that another I_T nexus aborted end with TASK ABORTED.
    pub fn task_aborted_status(&self) -> bool {
        self.bits(PageId::CONTROL, 5, 6, 1) != 0
    }

    /// QERR: what an error does to the other tasks.
    pub fn queue_error_management(&self) -> QueueErrorManagement {
        match self.bits(PageId::CONTROL, 3, 1, 3) {
            1 => QueueErrorManagement::AbortAll,
            3 => QueueErrorManagement::AbortNexus,
            _ => QueueErrorManagement::Continue,
        }
    }

    /// QUEUE ALGORITHM MODIFIER 1h: simple tasks may be reordered without regard to what they touch.
    pub fn unrestricted_reordering(&self) -> bool {
        self.bits(PageId::CONTROL, 3, 4, 0x0f) == 1
    }

    /// UA_INTLCK_CTRL, two bits: when a unit attention, BUSY or conflict is remembered.
    pub fn unit_attention_interlock(&self) -> u8 {
        self.bits(PageId::CONTROL, 4, 4, 3)
    }

    /// LBPERE of read-write error recovery: logical block provisioning thresholds raise a unit attention.
    pub fn provisioning_error_reporting(&self) -> bool {
        self.bits(PageId::ERROR_RECOVERY, 3, 7, 1) != 0
    }

    /// The soft threshold of used logical blocks, in threshold sets, if it is enabled and LBPERE is set; and SITUA: one
    /// I_T nexus is told of it instead of all.
    pub fn provisioning_threshold(&self) -> Option<(u32, bool)> {
        let page = self.page(PageId::LOGICAL_BLOCK_PROVISIONING)?.current();
        let enabled = self.provisioning_error_reporting() && page.get(16)? & 0x80 != 0;
        enabled.then_some((crate::bytes_util::be32(page, 20)?, page.get(4)? & 1 != 0))
    }

    /// MRIE and DEXCPT, TEST of informational exceptions: (method, disabled, test).
    pub fn informational_exceptions(&self) -> (u8, bool, bool) {
        let flag = |bit| self.bits(PageId::INFORMATIONAL_EXCEPTIONS, 2, bit, 1) != 0;
        (self.bits(PageId::INFORMATIONAL_EXCEPTIONS, 3, 0, 0x0f), flag(3), flag(2))
    }

    /// Sets every current value to the saved one, or the default where none is saved: what a reset does.
    pub fn reset(&mut self) {
        self.pages.iter_mut().for_each(ModePage::reset);
    }

    /// The saved values as bytes, to be kept over a restart: a version, then page, subpage, length and bytes of each
    /// page that has some.
    pub fn saved_record(&self) -> Vec<u8> {
        let mut record = vec![RECORD_VERSION];
        for page in &self.pages {
            let Some(saved) = page.saved_values() else { continue };
            record.extend_from_slice(&[page.id().page, page.id().subpage]);
            record.extend_from_slice(&(saved.len() as u16).to_be_bytes());
            record.extend_from_slice(saved);
        }
        record
    }

    /// Takes saved values back, and makes them current. Pages that are gone or have another length, and bits that
    /// cannot be changed any more, keep their defaults. `false` when the record is malformed; nothing is changed then.
    pub fn restore(&mut self, record: &[u8]) -> bool {
        let mut pages = self.clone();
        let [RECORD_VERSION, rest @ ..] = record else { return false };
        let mut rest = rest;
        while let [page, subpage, high, low, tail @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let Some(values) = tail.get(..length) else { return false };
            if let Some(known) = pages.page_mut(PageId { page: *page, subpage: *subpage }) {
                known.restore(values);
            }
            rest = &tail[length..];
        }
        if !rest.is_empty() {
            return false;
        }
        *self = pages;
        true
    }
}

#[cfg(test)]
mod tests;
