//! The mode pages of the unit.

use scsi_core::SenseData;
use scsi_core::cdb::{ModeSelect, ModeSense};
use scsi_core::mode::{
    BlockDescriptor, DeviceParameters, ModePages, PageId, QueueErrorManagement, TaskSetType, standard,
};
use stmf::provider::{Effects, Segments, StoreOp};

use super::Lu;
use super::gather::concat;
use super::ops::Purpose;
use super::persist::Change;
use super::slab::Key;
use super::task::Work;
use super::transfer::Checked;
use crate::meta::{Identity, SavedModePage};
use crate::store::Capabilities;

/// The pages, and those of their bits that are asked for with each command.
#[derive(Clone, Debug)]
pub(super) struct Modes {
    pages: ModePages,
    control: Control,
}

/// Bits of the control and caching pages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Control {
    /// TST: one task set, or one for each nexus.
    pub(super) task_set_type: TaskSetType,
    /// QERR: what a CHECK CONDITION does to other tasks.
    pub(super) queue_error: QueueErrorManagement,
    /// TAS: tasks that others abort end with TASK ABORTED.
    pub(super) task_aborted_status: bool,
    /// D_SENSE.
    pub(super) descriptor_sense: bool,
    /// SWP.
    write_protect: bool,
    /// WCE.
    write_cache: bool,
    /// The threshold of thin provisioning in sets, and whether one nexus is told of it (SITUA).
    pub(super) threshold: Option<(u32, bool)>,
}

impl Modes {
    pub(super) fn new(identity: &Identity, capabilities: &Capabilities) -> Self {
        let cache = capabilities.volatile_cache;
        let thin = capabilities.unmap.is_some();
        let mut pages = ModePages::new(standard::disk(cache && !identity.write_cache_disabled, cache, thin));
        let mut record = vec![1];
        for page in &identity.mode_pages {
            record.extend_from_slice(&[page.page, page.subpage]);
            record.extend_from_slice(&(page.data.len() as u16).to_be_bytes());
            record.extend_from_slice(&page.data);
        }
        // What cannot be restored keeps its defaults.
        pages.restore(&record);
        let mut modes = Self { pages, control: Control::default() };
        modes.refresh();
        modes
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// What a reset does.
    pub(super) fn restore_saved(&mut self) {
        self.pages.reset();
        self.refresh();
    }

    /// The saved values, as they stand in the record.
    pub(super) fn saved(&self) -> Vec<SavedModePage> {
        let saved = |page: &scsi_core::mode::ModePage| {
            let PageId { page: code, subpage } = page.id();
            Some(SavedModePage { page: code, subpage, data: page.saved_values()?.to_vec() })
        };
        self.pages.iter().filter_map(saved).collect()
    }

    /// Sets and saves WCE, from the administrator's side.
    pub(super) fn set_write_cache(&mut self, enabled: bool, device: &DeviceParameters) -> Result<(), SenseData> {
        let Some(page) = self.pages.page(PageId::CACHING) else { return Ok(()) };
        let mut list = vec![0; 4];
        list.extend_from_slice(page.current());
        // PS is reserved in MODE SELECT.
        list[4] &= 0x7f;
        list[6] = list[6] & !4 | u8::from(enabled) << 2;
        let command =
            ModeSelect { ten: false, page_format: true, save_pages: true, parameter_list_length: list.len() as u16 };
        self.pages.select(&command, &list, device)?;
        self.refresh();
        Ok(())
    }

    fn refresh(&mut self) {
        self.control = Control {
            task_set_type: self.pages.task_set_type(),
            queue_error: self.pages.queue_error_management(),
            task_aborted_status: self.pages.task_aborted_status(),
            descriptor_sense: self.pages.sense_format() == scsi_core::SenseFormat::Descriptor,
            write_protect: self.pages.software_write_protect(),
            write_cache: self.pages.write_cache_enabled(),
            threshold: self.pages.provisioning_threshold(),
        };
    }
}

impl Lu {
    pub(super) fn control(&self) -> &Control {
        self.modes.control()
    }

    /// Whether writes may wait in a cache.
    pub(super) fn write_cache(&self) -> bool {
        self.capabilities.volatile_cache && self.modes.control.write_cache
    }

    /// Whether writes are refused: by the administrator, by an initiator (SWP), or because the store takes none.
    pub(super) fn write_protected(&self) -> bool {
        self.identity.write_protect || self.modes.control.write_protect || self.capabilities.read_only
    }

    pub(super) fn device_parameters(&self) -> DeviceParameters {
        DeviceParameters {
            write_protected: self.write_protected(),
            dpo_fua: true,
            block_descriptor: Some(BlockDescriptor { blocks: self.blocks(), block_length: self.identity.block_size }),
        }
    }

    pub(super) fn mode_sense(&mut self, key: Key, command: &ModeSense, fx: &mut Effects) -> Checked {
        let data = self.modes.pages.sense(command, &self.device_parameters())?;
        self.answer(key, data, command.allocation_length.into(), fx);
        Ok(())
    }

    pub(super) fn received_mode_list(
        &mut self,
        key: Key,
        command: &ModeSelect,
        data: Segments,
        fx: &mut Effects,
    ) -> Checked {
        if self.must_queue(key, scsi_core::command::Command::ModeSelect(*command), &data) {
            return Ok(());
        }
        let list = concat(data);
        let mut modes = self.modes.clone();
        let outcome = modes.pages.select(command, &list, &self.device_parameters())?;
        modes.refresh();
        let change = Change::Modes { modes: Box::new(modes), changed: outcome.changed, total: list.len() as u64 };
        if outcome.save {
            self.persist(key, change, fx);
        } else {
            self.commit(key, change, fx);
        }
        Ok(())
    }

    /// New mode values are in force.
    pub(super) fn commit_modes(&mut self, key: Key, modes: Modes, changed: bool, total: u64, fx: &mut Effects) {
        let cached = self.write_cache();
        self.modes = modes;
        self.set.set_type(self.modes.control.task_set_type);
        let Some(task) = self.tasks.get(key) else { return };
        let nexus = task.id.nexus;
        self.look_at_space(nexus, fx);
        let Some(task) = self.tasks.get(key) else { return };
        if changed {
            let nexus = task.id.nexus;
            self.attention_others(Some(nexus), scsi_core::AdditionalSense::MODE_PARAMETERS_CHANGED);
        }
        if cached && !self.write_cache() {
            // From now on GOOD means durable: what is cached has to follow.
            self.set(key, Work::Finish { total });
            self.issue(key, Purpose::Flush, StoreOp::Flush, fx);
        } else {
            self.good(key, total, fx);
        }
    }
}
