//! Copies between units: this one as source or destination of a copy that another manages, and what is asked of others.

use scsi_core::command::{CommandSet, parse};
use scsi_core::{AdditionalSense, Guid, SenseData, Status};
use std::sync::Arc;
use stmf::NexusId;
use stmf::provider::{CopyEnd, CopyIn, CopyRefusal, CopySource, Effects, LogicalUnit, ROD_TOKEN_BYTES, Rod, StoreOp};

use super::Lu;
use super::ops::{Owner, Purpose};
use super::slab::Key;
use scsi_core::command::CommandKind as K;

/// A ROD token as it stands in parameter lists.
pub(crate) type TokenBytes = Box<[u8; ROD_TOKEN_BYTES]>;

/// What is asked of others when a call returns and the lock is given back.
#[derive(Debug)]
pub(crate) enum Outbound {
    /// Find these units for the nexus: answered by [`Lu::resolved`].
    Resolve { task: Key, nexus: NexusId, guids: Vec<Guid> },
    /// Find what the token stands for: answered by [`Lu::redeemed`]. Without a unit it is one of this unit's.
    Redeem { task: Key, unit: Option<Guid>, token: TokenBytes },
    /// A name that nobody can guess, and the time: answered by [`Lu::named`].
    Name { task: Key },
    /// Whether the ends of a copy still let it go on: answered by [`Lu::checked`].
    Check {
        job: Key,
        nexus: NexusId,
        source: Option<Arc<dyn LogicalUnit>>,
        token: Option<(Arc<dyn LogicalUnit>, TokenBytes)>,
    },
    /// A piece of a copy to another unit: that unit answers by [`Lu::copied`]. Without a source it comes from this one.
    CopyIn {
        job: Key,
        nexus: NexusId,
        destination: Arc<dyn LogicalUnit>,
        source: Option<CopySource>,
        source_offset: u64,
        offset: u64,
        length: u64,
    },
    /// A piece that another unit asked for has ended.
    Copied { to: Arc<dyn LogicalUnit>, token: u64, outcome: Result<(), CopyRefusal> },
    /// The bearer needs the token no more.
    Delete { unit: Arc<dyn LogicalUnit>, token: TokenBytes },
}

/// A unit that was found, and what a copy meets there.
pub(crate) type Found = Option<(Arc<dyn LogicalUnit>, Result<CopyEnd, CopyRefusal>)>;

/// What a token stands for, and the unit it is of if not this one.
pub(crate) type Redeemed = Result<(Option<Arc<dyn LogicalUnit>>, Rod), SenseData>;

/// A copy to this unit that another manages.
#[derive(Debug)]
pub(super) struct Foreign {
    from: Arc<dyn LogicalUnit>,
    token: u64,
    nexus: NexusId,
    /// Must be durable before it is done, and is not yet.
    flush: bool,
}

const ENDS: CommandSet = CommandSet::of(&[K::Read16, K::Write16]);

impl Lu {
    pub(crate) fn take_outbox(&mut self) -> Vec<Outbound> {
        std::mem::take(&mut self.outbox)
    }

    pub(crate) fn outbox_is_empty(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Whether the nexus may read here, or with `write` write: as a READ or WRITE of its own would be met, but for
    /// unit attentions.
    pub(super) fn permits(&mut self, nexus: NexusId, write: bool) -> Result<(), CopyRefusal> {
        let mut cdb = [0; 16];
        cdb[0] = if write { 0x8a } else { 0x88 };
        let parsed = parse(&cdb, ENDS).map_err(CopyRefusal::Sense)?;
        if !self.nexuses.contains_key(&nexus) {
            let sense = SenseData::illegal_request(AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED);
            return Err(CopyRefusal::Sense(sense));
        }
        if self.conflicts(nexus, &parsed) {
            return Err(CopyRefusal::Status(Status::RESERVATION_CONFLICT));
        }
        self.check_medium(parsed.entry).map_err(CopyRefusal::Sense)
    }

    /// As [`LogicalUnit::copy_end`].
    pub(crate) fn copy_end(&mut self, nexus: Option<NexusId>, write: bool) -> Result<CopyEnd, CopyRefusal> {
        if !self.offered.copies {
            return Err(CopyRefusal::NotSupported);
        }
        match nexus {
            Some(nexus) => self.permits(nexus, write)?,
            None => self.check_medium(K::Read16.entry()).map_err(CopyRefusal::Sense)?,
        }
        Ok(CopyEnd { block_length: self.identity.block_size, blocks: self.blocks() })
    }

    /// As [`LogicalUnit::copy_in`].
    pub(crate) fn copy_in(&mut self, call: CopyIn, fx: &mut Effects) {
        let CopyIn { nexus, from, token, source, offset, length } = call;
        // The unit may have shrunk since it was asked.
        let fits = offset.checked_add(length).is_some_and(|end| end <= self.size());
        let permitted = match self.permits(nexus, true) {
            Ok(()) if !fits => Err(CopyRefusal::Sense(SenseData::lba_out_of_range(self.blocks()))),
            other => other,
        };
        if let Err(refusal) = permitted {
            self.outbox.push(Outbound::Copied { to: from, token, outcome: Err(refusal) });
            return;
        }
        let flush = self.must_flush(false);
        let copy = self.foreign.insert(Foreign { from, token, nexus, flush });
        let op = match source {
            CopySource::Unit(unit, source_offset) => {
                StoreOp::Copy { source: Some(unit), source_offset, offset, length }
            }
            CopySource::Zeros => self.zeros(offset, length),
        };
        self.hand_out(Owner::Foreign(copy), nexus, Purpose::Write, op, fx);
        // Who manages the copy may give it up, and nobody here would know: what comes later must not be overwritten.
        self.claim(Owner::Foreign(copy), offset, offset + length);
        self.run(fx);
    }

    /// Zeros in the cheapest way that reads as zeros.
    pub(super) fn zeros(&self, offset: u64, length: u64) -> StoreOp {
        if self.capabilities.unmap.is_some_and(|unmap| unmap.reads_zero) {
            StoreOp::Deallocate { ranges: smallvec::SmallVec::from_iter([(offset, length)]) }
        } else {
            StoreOp::WriteSame { offset, length, pattern: bytes::Bytes::new(), durable: false }
        }
    }

    /// A store operation of a copy to this unit has ended.
    pub(super) fn foreign_operation_ended(&mut self, copy: Key, failure: Option<SenseData>, fx: &mut Effects) {
        let Some(foreign) = self.foreign.get_mut(copy) else { return };
        if failure.is_none() && std::mem::take(&mut foreign.flush) {
            let nexus = foreign.nexus;
            return self.hand_out(Owner::Foreign(copy), nexus, Purpose::Flush, StoreOp::Flush, fx);
        }
        if let Some(Foreign { from, token, .. }) = self.foreign.remove(copy) {
            let outcome = failure.map_or(Ok(()), |sense| Err(CopyRefusal::Sense(sense)));
            self.outbox.push(Outbound::Copied { to: from, token, outcome });
            self.include(Owner::Foreign(copy), fx);
        }
    }

    /// As [`LogicalUnit::copied`].
    pub(crate) fn copied(&mut self, token: u64, outcome: Result<(), CopyRefusal>, fx: &mut Effects) {
        self.checked(Key::from_u64(token), outcome, fx);
    }
}
