//! What a disk is asked first.

use crate::error::Error;
use crate::pending::Reply;
use crate::plan::{Geometry, command};
use iscsi_proto::initiator::Command;
use scsi_core::cdb::{Inquiry, ReadCapacity10, ReadCapacity16};
use scsi_core::data::{ReadCapacity10Data, ReadCapacity16Data};
use scsi_core::inquiry::StandardInquiry;
use scsi_core::vpd::{BlockLimits, VpdPage};
use scsi_core::{Lun, Status};

/// Largest transfer unless the unit says less: more gains nothing, since pieces are sent at once.
const MAX_TRANSFER_BYTES: u32 = 1 << 20;

/// Block Limits is asked for from units that claim at least this version of SPC.
const ROOM: u16 = 255;

/// Asks a unit what it is, one command at a time.
#[derive(Debug)]
pub(crate) struct Probe {
    lun: Lun,
    step: Step,
    inquiry: Option<StandardInquiry>,
    capacity: ReadCapacity16Data,
    limits: BlockLimits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Inquiry,
    Capacity16,
    Capacity10,
    Limits,
    Done,
}

impl Probe {
    pub(crate) fn new(lun: Lun) -> Self {
        let (capacity, limits) = (ReadCapacity16Data::default(), BlockLimits::default());
        Self { lun, step: Step::Inquiry, inquiry: None, capacity, limits }
    }

    /// The next command; `None` when everything is known.
    pub(crate) fn next(&self) -> Option<Command> {
        let (cdb, room) = match self.step {
            Step::Inquiry => (Inquiry { allocation_length: ROOM, ..Inquiry::default() }.to_cdb(), ROOM.into()),
            Step::Capacity16 => (ReadCapacity16 { allocation_length: 32 }.to_cdb(), 32),
            Step::Capacity10 => (ReadCapacity10.to_cdb(), 8),
            Step::Limits => {
                let inquiry = Inquiry { evpd: true, page_code: BlockLimits::CODE, allocation_length: ROOM };
                (inquiry.to_cdb(), ROOM.into())
            }
            Step::Done => return None,
        };
        Some(Command { data_in_length: room, ..command(self.lun, Some(cdb)) })
    }

    /// Takes the answer to that command.
    pub(crate) fn handle(&mut self, reply: &Reply) -> Result<(), Error> {
        let data = reply.data.to_bytes();
        let is_good = reply.status == Status::GOOD;
        self.step = match self.step {
            Step::Inquiry => {
                let inquiry = StandardInquiry::decode(&data).filter(|_| is_good);
                let Some(inquiry) = inquiry else { return Err(reply.error("INQUIRY")) };
                if inquiry.peripheral.qualifier != 0 {
                    return Err(Error::NotADisk {
                        what: format!("nothing is at LUN {:?} for this initiator", self.lun),
                    });
                }
                if inquiry.peripheral.device_type != 0 {
                    let what = format!("its peripheral device type is {:#04x}", inquiry.peripheral.device_type);
                    return Err(Error::NotADisk { what });
                }
                self.inquiry = Some(inquiry);
                Step::Capacity16
            }
            // Units older than SBC-2 do not know it.
            Step::Capacity16 if !is_good && reply.is_illegal_request() => Step::Capacity10,
            Step::Capacity16 => match ReadCapacity16Data::decode(&data).filter(|_| is_good) {
                Some(capacity) => {
                    self.capacity = capacity;
                    Step::Limits
                }
                None => return Err(reply.error("READ CAPACITY(16)")),
            },
            Step::Capacity10 => match ReadCapacity10Data::decode(&data).filter(|_| is_good) {
                Some(capacity) => {
                    let (last_lba, block_length) = (capacity.last_lba.into(), capacity.block_length);
                    self.capacity = ReadCapacity16Data { last_lba, block_length, ..self.capacity };
                    Step::Limits
                }
                None => return Err(reply.error("READ CAPACITY(10)")),
            },
            // A page that a unit does not have tells nothing, and limits nothing.
            Step::Limits => {
                self.limits = BlockLimits::decode(&data).filter(|_| is_good).unwrap_or_default();
                Step::Done
            }
            Step::Done => Step::Done,
        };
        Ok(())
    }

    /// What came out, once there is no further command.
    pub(crate) fn finish(self) -> Result<Geometry, Error> {
        let block_size = self.capacity.block_length;
        if !block_size.is_power_of_two() || !(256..=65536).contains(&block_size) {
            return Err(Error::NotADisk { what: format!("a block size of {block_size} bytes") });
        }
        let inquiry = self.inquiry.unwrap_or_default();
        let limit = |told: u32, most: u32| if told == 0 { most } else { told.min(most) };
        let limits = &self.limits;
        Ok(Geometry {
            block_size,
            blocks: self.capacity.last_lba.saturating_add(1),
            can_unmap: self.capacity.provisioning_management && limits.max_unmap_lba_count > 0,
            unmapped_reads_zero: self.capacity.provisioning_read_zeros,
            max_transfer_blocks: limit(limits.max_transfer_length, MAX_TRANSFER_BYTES / block_size),
            max_unmap_blocks: limits.max_unmap_lba_count,
            max_write_same_blocks: limit(u32::try_from(limits.max_write_same_length).unwrap_or(u32::MAX), 1 << 16),
            vendor: inquiry.vendor,
            product: inquiry.product,
            revision: inquiry.revision,
        })
    }
}

impl Reply {
    /// The error for an answer that is not what was asked for.
    pub(crate) fn error(&self, command: &'static str) -> Error {
        if self.status == Status::GOOD {
            return Error::Short { command, got: self.data.len(), expected: 8 };
        }
        Error::Command { command, status: self.status, sense: self.sense.map(Box::new) }
    }

    fn is_illegal_request(&self) -> bool {
        self.sense.as_ref().is_some_and(|sense| sense.key == scsi_core::SenseKey::ILLEGAL_REQUEST)
    }
}
