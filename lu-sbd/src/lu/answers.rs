//! Commands answered from what the unit knows: identification, capacity, sense.

use scsi_core::cdb::{
    Inquiry, ReadCapacity16, ReadDefectData, ReportLuns, ReportSupportedOperationCodes,
    ReportSupportedTaskManagementFunctions, RequestSense,
};
use scsi_core::command::CommandKind;
use scsi_core::data::{
    DefectListHeader, LunList, ReadCapacity10Data, ReadCapacity16Data, TaskManagementSupport, report_operation_codes,
};
use scsi_core::inquiry::{Peripheral, StandardInquiry, TargetPortGroupSupport, VersionDescriptor};
use scsi_core::vpd::{
    BlockDeviceCharacteristics, BlockLimits, BlockLimitsExtension, DeviceIdentification, ExtendedInquiry,
    LogicalBlockProvisioning, ManagementNetworkAddresses, ModePagePolicies, NetworkService, ProvisioningType,
    Referrals, SupportedPages, ThirdPartyCopy, UnitSerialNumber, VpdPage, ZonedCharacteristics,
};
use scsi_core::{AdditionalSense, Designator, ProtocolId, SenseData, SenseFormat, TaskManagementFunction as Function};
use stmf::Nexus;
use stmf::provider::Effects;

use super::Lu;
use super::sense;
use super::slab::Key;
use super::transfer::Checked;
use crate::store::Rotation;

/// "Storage configuration service" among the service types of page 85h.
const STORAGE_CONFIGURATION_SERVICE: u8 = 1;

/// The task management functions of the unit.
const FUNCTIONS: [Function; 9] = [
    Function::AbortTask,
    Function::AbortTaskSet,
    Function::ClearAca,
    Function::ClearTaskSet,
    Function::LogicalUnitReset,
    Function::QueryTask,
    Function::QueryTaskSet,
    Function::QueryAsynchronousEvent,
    Function::ItNexusReset,
];

impl Lu {
    pub(super) fn inquiry(&mut self, key: Key, command: &Inquiry, fx: &mut Effects) -> Checked {
        let Some(state) = self.tasks.get(key).and_then(|task| self.nexuses.get(&task.id.nexus)) else { return Ok(()) };
        let nexus = &state.nexus;
        let data = if command.evpd { self.vpd_page(command.page_code, nexus)? } else { self.standard_inquiry(nexus) };
        self.answer(key, data, command.allocation_length.into(), fx);
        Ok(())
    }

    fn standard_inquiry(&self, nexus: &Nexus) -> Vec<u8> {
        let mut inquiry = StandardInquiry {
            vendor: self.identity.vendor.clone(),
            product: self.identity.product.clone(),
            revision: self.identity.revision.clone(),
            removable: self.identity.removable,
            target_port_groups: if self.ports.are_told() {
                TargetPortGroupSupport::Both
            } else {
                TargetPortGroupSupport::None
            },
            normal_aca: true,
            third_party_copy: self.offered.copies,
            // SPC-4 and SBC-3: what initiators of today know; what is newer here is told page by page.
            version: 6,
            version_descriptors: vec![VersionDescriptor::SAM_5, VersionDescriptor::SPC_4, VersionDescriptor::SBC_3],
            ..StandardInquiry::default()
        };
        let transport = VersionDescriptor::of_protocol(ProtocolId(nexus.protocol));
        // After SAM, as the standard suggests.
        inquiry.version_descriptors.splice(1..1, transport);
        inquiry.encode()
    }

    fn vpd_page(&self, code: u8, nexus: &Nexus) -> Result<Vec<u8>, SenseData> {
        let disk = Peripheral::DISK;
        Ok(match code {
            SupportedPages::CODE => SupportedPages { pages: self.vpd_pages() }.encode(disk),
            // COMSTAR sends four spaces for a unit without a serial number; hosts that tell units apart by this page
            // are better served by the unit's name.
            UnitSerialNumber::CODE => UnitSerialNumber {
                serial: self.identity.serial.clone().unwrap_or_else(|| self.identity.guid.to_string()),
            }
            .encode(disk),
            DeviceIdentification::CODE => DeviceIdentification { designators: self.designators(nexus) }.encode(disk),
            ManagementNetworkAddresses::CODE if !self.identity.management_urls.is_empty() => {
                let service =
                    |url: &String| NetworkService { service_type: STORAGE_CONFIGURATION_SERVICE, url: url.clone() };
                let services = self.identity.management_urls.iter().map(service).collect();
                ManagementNetworkAddresses { services }.encode(disk)
            }
            ExtendedInquiry::CODE => self.extended_inquiry().encode(disk),
            ModePagePolicies::CODE => ModePagePolicies::all_shared().encode(disk),
            ThirdPartyCopy::CODE if self.offered.copies => self.third_party_copy_page().encode(disk),
            BlockLimits::CODE => self.block_limits().encode(disk),
            BlockDeviceCharacteristics::CODE => BlockDeviceCharacteristics {
                rotation_rate: match self.capabilities.rotation {
                    Rotation::NonRotating => 1,
                    Rotation::Rotating { rpm } => rpm,
                    Rotation::Unknown => 0,
                },
                // What was erased reads as zeros, without an error.
                after_block_erase: u8::from(self.commands.contains(CommandKind::SanitizeBlockErase)),
                ..BlockDeviceCharacteristics::default()
            }
            .encode(disk),
            LogicalBlockProvisioning::CODE => self.provisioning().encode(disk),
            // Nothing is divided into segments, zones or streams, and these pages say so.
            Referrals::CODE => Referrals::default().encode(disk),
            ZonedCharacteristics::CODE => ZonedCharacteristics {
                optimal_open_preferred: u32::MAX,
                optimal_non_sequential: u32::MAX,
                max_open_required: u32::MAX,
                ..ZonedCharacteristics::default()
            }
            .encode(disk),
            BlockLimitsExtension::CODE => BlockLimitsExtension::default().encode(disk),
            _ => return Err(SenseData::invalid_field_in_cdb(2, Some(7))),
        })
    }

    fn vpd_pages(&self) -> Vec<u8> {
        let mut pages = vec![SupportedPages::CODE, UnitSerialNumber::CODE, DeviceIdentification::CODE];
        if !self.identity.management_urls.is_empty() {
            pages.push(ManagementNetworkAddresses::CODE);
        }
        pages.extend([ExtendedInquiry::CODE, ModePagePolicies::CODE]);
        if self.offered.copies {
            pages.push(ThirdPartyCopy::CODE);
        }
        pages.extend([BlockLimits::CODE, BlockDeviceCharacteristics::CODE, LogicalBlockProvisioning::CODE]);
        pages.extend([Referrals::CODE, ZonedCharacteristics::CODE, BlockLimitsExtension::CODE]);
        pages
    }

    fn designators(&self, nexus: &Nexus) -> Vec<Designator> {
        let protocol = ProtocolId(nexus.protocol);
        let mut designators = vec![
            Designator::logical_unit(self.identity.guid),
            Designator::relative_target_port(protocol, nexus.relative_target_port),
        ];
        if let Some(group) = self.port_group(nexus.relative_target_port) {
            designators.push(Designator::target_port_group(protocol, group));
        }
        if protocol == ProtocolId::ISCSI {
            designators.push(Designator {
                association: scsi_core::Association::TargetPort,
                protocol: Some(protocol),
                name: scsi_core::DesignatorName::ScsiName(nexus.target_port_name.clone()),
            });
            designators.push(Designator::iscsi_target_device(&nexus.target));
        }
        designators
    }

    fn extended_inquiry(&self) -> ExtendedInquiry {
        ExtendedInquiry {
            simple: true,
            ordered: true,
            head_of_queue: true,
            volatile_cache: self.capabilities.volatile_cache,
            max_sense_length: SenseData::MAX_ENCODED_LENGTH as u8,
            ..ExtendedInquiry::default()
        }
    }

    fn block_limits(&self) -> BlockLimits {
        let blocks = |bytes: u64| u32::try_from(bytes >> self.block_shift).unwrap_or(u32::MAX);
        let physical = u64::from(self.capabilities.physical_block_bytes).max(1 << self.block_shift);
        let mut limits = BlockLimits {
            write_same_non_zero: true,
            max_compare_and_write_length: self.limits.max_compare_and_write_blocks,
            optimal_transfer_granularity: u16::try_from(physical >> self.block_shift).unwrap_or(0),
            max_transfer_length: blocks(self.limits.max_transfer_bytes.into()),
            optimal_transfer_length: blocks(self.capabilities.optimal_transfer_bytes.into()),
            max_write_same_length: self.max_write_same_bytes() >> self.block_shift,
            ..BlockLimits::default()
        };
        // One atomic write is one write to the store: boundaries inside of it are not supported.
        limits.max_atomic_transfer_length = blocks(self.max_atomic_bytes().into());
        if let Some(unmap) = self.capabilities.unmap {
            limits.max_unmap_lba_count = self.limits.max_unmap_blocks;
            limits.max_unmap_descriptor_count = self.limits.max_unmap_descriptors;
            limits.optimal_unmap_granularity = blocks(unmap.granularity_bytes.into()).max(1);
            limits.unmap_granularity_alignment = Some(0);
        }
        limits
    }

    fn provisioning(&self) -> LogicalBlockProvisioning {
        let unmap = self.capabilities.unmap;
        LogicalBlockProvisioning {
            threshold_exponent: self.threshold_exponent(),
            unmap: unmap.is_some(),
            write_same_16: unmap.is_some(),
            write_same_10: unmap.is_some(),
            reads_zeros: u8::from(unmap.is_some_and(|unmap| unmap.reads_zero)),
            provisioning_type: if unmap.is_some() { ProvisioningType::Thin } else { ProvisioningType::Full },
            ..LogicalBlockProvisioning::default()
        }
    }

    pub(super) fn read_capacity_10(&mut self, key: Key, fx: &mut Effects) {
        let data = ReadCapacity10Data::new(self.blocks() - 1, self.identity.block_size);
        self.answer(key, data.encode(), 8, fx);
    }

    /// What READ CAPACITY(16) tells: size, block sizes, alignment, provisioning.
    pub fn capacity(&self) -> ReadCapacity16Data {
        let physical = self.capabilities.physical_block_bytes >> self.block_shift;
        ReadCapacity16Data {
            last_lba: self.blocks() - 1,
            block_length: self.identity.block_size,
            physical_exponent: physical.checked_ilog2().unwrap_or(0).min(15) as u8,
            lowest_aligned_lba: (self.capabilities.alignment_offset_bytes >> self.block_shift).min(0x3fff) as u16,
            provisioning_management: self.capabilities.unmap.is_some(),
            provisioning_read_zeros: self.capabilities.unmap.is_some_and(|unmap| unmap.reads_zero),
        }
    }

    pub(super) fn read_capacity_16(&mut self, key: Key, command: &ReadCapacity16, fx: &mut Effects) {
        self.answer(key, self.capacity().encode(), command.allocation_length.into(), fx);
    }

    /// The store looks after its defects itself: both lists are empty.
    pub(super) fn read_defect_data(&mut self, key: Key, command: &ReadDefectData, fx: &mut Effects) {
        let data = DefectListHeader::for_command(command).encode(command.twelve);
        self.answer(key, data, command.allocation_length.into(), fx);
    }

    /// REQUEST SENSE gives, and thereby clears, the unit attention that would be reported next.
    pub(super) fn request_sense(&mut self, key: Key, command: &RequestSense, fx: &mut Effects) {
        let Some(task) = self.tasks.get(key) else { return };
        let pending = self.nexuses.get_mut(&task.id.nexus).and_then(|state| state.attentions.report());
        let sense = match pending {
            Some(code) => SenseData::unit_attention(code),
            None if self.failed => sense::not_ready(),
            None if self.is_ejected() => SenseData::not_ready(AdditionalSense::MEDIUM_NOT_PRESENT_TRAY_OPEN),
            None => self.condition_sense().unwrap_or(SenseData::no_sense()),
        };
        let format = SenseFormat::from_descriptor_bit(command.descriptor_format);
        self.answer(key, sense.encode(format), command.allocation_length.into(), fx);
    }

    /// STMF answers REPORT LUNS from the LUN map. A unit used without it knows of one LUN: the one it is called by.
    pub(super) fn report_luns(&mut self, key: Key, command: &ReportLuns, fx: &mut Effects) -> Checked {
        if command.allocation_length < 16 {
            return Err(SenseData::invalid_field_in_cdb(6, Some(7)));
        }
        let Some(task) = self.tasks.get(key) else { return Ok(()) };
        let luns = if matches!(command.select_report, 0 | 2) { vec![task.lun] } else { Vec::new() };
        self.answer(key, LunList { luns }.encode(), command.allocation_length.into(), fx);
        Ok(())
    }

    pub(super) fn report_opcodes(
        &mut self,
        key: Key,
        command: &ReportSupportedOperationCodes,
        fx: &mut Effects,
    ) -> Checked {
        let data = report_operation_codes(command, self.commands)?;
        self.answer(key, data, command.allocation_length.into(), fx);
        Ok(())
    }

    pub(super) fn report_functions(
        &mut self,
        key: Key,
        command: &ReportSupportedTaskManagementFunctions,
        fx: &mut Effects,
    ) {
        let data = TaskManagementSupport { functions: FUNCTIONS.to_vec() }.encode(command.extended);
        self.answer(key, data, command.allocation_length.into(), fx);
    }
}
