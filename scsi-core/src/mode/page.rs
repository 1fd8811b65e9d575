//! One mode page, and the standard set of a direct access block device.

/// Page and subpage code. The order is that of MODE SENSE: ascending, page 00h last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageId {
    /// PAGE CODE, six bits.
    pub page: u8,
    /// SUBPAGE CODE; 0 for the page_0 format.
    pub subpage: u8,
}

impl PageId {
    /// Read-Write Error Recovery (SBC).
    pub const ERROR_RECOVERY: Self = Self::new(0x01, 0);
    /// Disconnect-Reconnect (SPC).
    pub const DISCONNECT_RECONNECT: Self = Self::new(0x02, 0);
    /// Verify Error Recovery (SBC).
    pub const VERIFY_ERROR_RECOVERY: Self = Self::new(0x07, 0);
    /// Caching (SBC).
    pub const CACHING: Self = Self::new(0x08, 0);
    /// Control (SPC).
    pub const CONTROL: Self = Self::new(0x0a, 0);
    /// Control Extension (SPC).
    pub const CONTROL_EXTENSION: Self = Self::new(0x0a, 1);
    /// Power Condition (SPC).
    pub const POWER_CONDITION: Self = Self::new(0x1a, 0);
    /// Informational Exceptions Control (SPC, SBC).
    pub const INFORMATIONAL_EXCEPTIONS: Self = Self::new(0x1c, 0);
    /// Logical Block Provisioning (SBC).
    pub const LOGICAL_BLOCK_PROVISIONING: Self = Self::new(0x1c, 2);

    /// The codes as they are.
    pub const fn new(page: u8, subpage: u8) -> Self {
        Self { page, subpage }
    }
}

impl PartialOrd for PageId {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PageId {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.page == 0, self.page, self.subpage).cmp(&(other.page == 0, other.page, other.subpage))
    }
}

/// TST field of the control page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TaskSetType {
    /// 000b: one task set for all I_T nexuses.
    #[default]
    Shared,
    /// 001b: a task set for each I_T nexus.
    PerItNexus,
}

/// QERR field of the control page: what a CHECK CONDITION does to other tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum QueueErrorManagement {
    /// 00b: they go on.
    #[default]
    Continue,
    /// 01b: all tasks of the task set are aborted.
    AbortAll,
    /// 11b: all tasks of the I_T nexus are aborted.
    AbortNexus,
}

/// A mode page in its four versions, as bytes with the page's own header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModePage {
    id: PageId,
    pub(super) current: Vec<u8>,
    changeable: Vec<u8>,
    default: Vec<u8>,
    saved: Option<Vec<u8>>,
    savable: bool,
}

impl ModePage {
    /// A page of these values behind its header, all changeable bits named by `changeable` (missing bytes: none).
    ///
    /// `savable` sets the PS bit and lets MODE SELECT save it.
    pub fn new(id: PageId, values: &[u8], changeable: &[u8], savable: bool) -> Self {
        let mut default = header(id, values.len(), savable);
        let mut mask = default.clone();
        default.extend_from_slice(values);
        mask.extend((0..values.len()).map(|at| changeable.get(at).copied().unwrap_or(0)));
        Self { id, current: default.clone(), changeable: mask, default, saved: None, savable }
    }

    /// The codes.
    pub fn id(&self) -> PageId {
        self.id
    }

    /// Current values, header included.
    pub fn current(&self) -> &[u8] {
        &self.current
    }

    /// The mask of what can be changed, header included.
    pub fn changeable(&self) -> &[u8] {
        &self.changeable
    }

    /// Values after manufacture, header included.
    pub fn default_values(&self) -> &[u8] {
        &self.default
    }

    /// Saved values, header included; `None` until some are saved.
    pub fn saved_values(&self) -> Option<&[u8]> {
        self.saved.as_deref()
    }

    /// PS: the page can be saved.
    pub fn savable(&self) -> bool {
        self.savable
    }

    /// Bytes of the header: 2, or 4 with a subpage.
    pub fn header_length(&self) -> usize {
        if self.id.subpage == 0 { 2 } else { 4 }
    }

    pub(super) fn save(&mut self) {
        self.saved = Some(self.current.clone());
    }

    pub(super) fn reset(&mut self) {
        self.current = self.saved.as_ref().unwrap_or(&self.default).clone();
    }

    pub(super) fn restore(&mut self, values: &[u8]) {
        if !self.savable || values.len() != self.default.len() {
            return;
        }
        let mut restored = self.default.clone();
        let skip = self.header_length();
        for ((byte, value), mask) in restored.iter_mut().zip(values).zip(&self.changeable).skip(skip) {
            *byte = *byte & !mask | value & mask;
        }
        self.current.clone_from(&restored);
        self.saved = Some(restored);
    }
}

fn header(id: PageId, length: usize, savable: bool) -> Vec<u8> {
    let saved = u8::from(savable) << 7;
    if id.subpage == 0 {
        return vec![saved | id.page, length as u8];
    }
    let [high, low] = (length as u16).to_be_bytes();
    vec![saved | 0x40 | id.page, id.subpage, high, low]
}

/// The standard pages of a direct access block device, each with what MODE SELECT may change.
pub mod standard {
    use super::{ModePage, PageId};

    /// Read-Write Error Recovery: AWRE and ARRE set; LBPERE (bit 7 of byte 3) can be changed when `thin`.
    pub fn error_recovery(thin: bool) -> ModePage {
        let mut mask = [0; 10];
        mask[1] = if thin { 0x80 } else { 0 };
        let values = [0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        ModePage::new(PageId::ERROR_RECOVERY, &values, &mask, true)
    }

    /// Disconnect-Reconnect: no limits told, nothing can be changed.
    pub fn disconnect_reconnect() -> ModePage {
        ModePage::new(PageId::DISCONNECT_RECONNECT, &[0; 14], &[], true)
    }

    /// Verify Error Recovery: nothing can be changed.
    pub fn verify_error_recovery() -> ModePage {
        ModePage::new(PageId::VERIFY_ERROR_RECOVERY, &[0; 10], &[], true)
    }

    /// Caching: WCE as given and changeable if the store can do both, RCD clear.
    pub fn caching(write_cache_enabled: bool, write_cache_changeable: bool) -> ModePage {
        let mut values = [0; 18];
        values[0] = u8::from(write_cache_enabled) << 2;
        // DISABLE PRE-FETCH TRANSFER LENGTH, MINIMUM, MAXIMUM PRE-FETCH and its CEILING: no limits.
        values[2..4].copy_from_slice(&[0xff, 0xff]);
        values[6..10].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
        let mask = [u8::from(write_cache_changeable) << 2];
        ModePage::new(PageId::CACHING, &values, &mask, true)
    }

    /// Control: TST, D_SENSE, QERR, UA_INTLCK_CTRL off, SWP and TAS can be changed; simple tasks may be reordered
    /// (QUEUE ALGORITHM MODIFIER 1h).
    ///
    /// BUSY TIMEOUT PERIOD is unlimited, EXTENDED SELF-TEST COMPLETION TIME in seconds as given.
    pub fn control(extended_self_test_seconds: u16) -> ModePage {
        let [high, low] = extended_self_test_seconds.to_be_bytes();
        let values = [0x00, 0x10, 0x00, 0x00, 0, 0, 0xff, 0xff, high, low];
        // TST and D_SENSE; QUEUE ALGORITHM MODIFIER and QERR; SWP; TAS.
        let mask = [0x24, 0x16, 0x08, 0x40, 0, 0, 0, 0, 0, 0];
        ModePage::new(PageId::CONTROL, &values, &mask, true)
    }

    /// Control Extension: timestamp changeable by SET TIMESTAMP (TCMOS, SCSIP), nothing by MODE SELECT; MAXIMUM SENSE
    /// DATA LENGTH as given.
    pub fn control_extension(max_sense_length: u8) -> ModePage {
        let mut values = [0; 28];
        values[0] = 0x06;
        values[2] = max_sense_length;
        ModePage::new(PageId::CONTROL_EXTENSION, &values, &[], true)
    }

    /// Power Condition: no timers.
    pub fn power_condition() -> ModePage {
        ModePage::new(PageId::POWER_CONDITION, &[0; 38], &[], true)
    }

    /// Informational Exceptions Control: none reported until asked (MRIE 0); DEXCPT, TEST, MRIE, INTERVAL TIMER and
    /// REPORT COUNT can be changed.
    pub fn informational_exceptions() -> ModePage {
        let mask = [0x0c, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        ModePage::new(PageId::INFORMATIONAL_EXCEPTIONS, &[0; 10], &mask, true)
    }

    /// Logical Block Provisioning: one soft threshold, of used logical blocks, armed when `threshold_count` (in
    /// threshold sets) is given; SITUA and the threshold can be changed.
    pub fn logical_block_provisioning(threshold_count: Option<u32>) -> ModePage {
        let mut values = [0; 12 + 8];
        let mut mask = [0; 12 + 8];
        mask[0] = 0x01;
        // ENABLED, THRESHOLD TYPE 000b soft, THRESHOLD ARMING 001b increasing; resource 02h: used LBAs.
        values[12] = u8::from(threshold_count.is_some()) << 7 | 1;
        values[13] = 0x02;
        values[16..20].copy_from_slice(&threshold_count.unwrap_or(0).to_be_bytes());
        mask[12] = 0x80;
        mask[16..20].copy_from_slice(&[0xff; 4]);
        ModePage::new(PageId::LOGICAL_BLOCK_PROVISIONING, &values, &mask, true)
    }

    /// The pages of a disk: 01 02 07 08 0A 0A/01 1A 1C, and 1C/02 when `thin`.
    pub fn disk(write_cache_enabled: bool, write_cache_changeable: bool, thin: bool) -> Vec<ModePage> {
        let mut pages = vec![
            error_recovery(thin),
            disconnect_reconnect(),
            verify_error_recovery(),
            caching(write_cache_enabled, write_cache_changeable),
            control(0),
            control_extension(252),
            power_condition(),
            informational_exceptions(),
        ];
        if thin {
            pages.push(logical_block_provisioning(None));
        }
        pages
    }
}
