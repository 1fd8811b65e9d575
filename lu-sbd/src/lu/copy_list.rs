//! EXTENDED COPY: from the parameter list to ranges.

use scsi_core::cdb::ExtendedCopy;
use scsi_core::command::Command;
use scsi_core::data::{BlockSegment, CopyList, CscdName, SegmentDescriptor};
use scsi_core::{AdditionalSense, Guid, SenseData, SenseKey, SenseSpecific};
use stmf::provider::{CopyEnd, CopyRefusal, Effects, Segments};

use super::Lu;
use super::copy::{Copying, Move, Peer, Source};
use super::copy_results::{MAX_COPY_LIST_BYTES, operating_parameters};
use super::foreign::{Found, Outbound};
use super::gather::concat;
use super::job::JobWork;
use super::slab::Key;
use super::task::Work;
use super::transfer::Checked;

/// CSCD descriptor id of the unit that the command was sent to.
const THIS_UNIT: u16 = 0xffff;
/// LIST ID USAGE: the copy has no list identifier.
const NO_LIST_IDENTIFIER: u8 = 3;

/// A copy whose sources and destinations are being looked for.
#[derive(Debug)]
pub(super) struct Resolving {
    list: CopyList,
    lid4: bool,
    total: u64,
}

impl Lu {
    pub(super) fn extended_copy(&mut self, key: Key, command: ExtendedCopy, fx: &mut Effects) {
        if command.parameter_list_length == 0 {
            return self.good(key, 0, fx);
        }
        let length = command.parameter_list_length.min(MAX_COPY_LIST_BYTES);
        self.gather(key, Command::ExtendedCopy(command), length, fx);
    }

    pub(super) fn received_copy_list(
        &mut self,
        key: Key,
        command: &ExtendedCopy,
        data: Segments,
        fx: &mut Effects,
    ) -> Checked {
        let bytes = concat(data);
        let list = CopyList::parse(&bytes, command.lid4, &operating_parameters())?;
        if list.list_id_usage == NO_LIST_IDENTIFIER && list.list_identifier != 0 {
            let at = if command.lid4 { 20 } else { 0 };
            return Err(SenseData::invalid_field_in_parameter_list(at, Some(7)));
        }
        if list.list_id_usage == 1 {
            return Err(SenseData::invalid_field_in_parameter_list(1, Some(4)));
        }
        let others: Vec<Guid> = list
            .cscds
            .iter()
            .filter_map(|cscd| match cscd.name {
                CscdName::Guid(guid) if guid != self.identity.guid => Some(guid),
                _ => None,
            })
            .collect();
        let total = bytes.len() as u64;
        let resolving = Box::new(Resolving { list, lid4: command.lid4, total });
        if others.is_empty() {
            return self.begin_extended_copy(key, *resolving, Vec::new(), fx);
        }
        let Some(task) = self.tasks.get_mut(key) else { return Ok(()) };
        task.in_flight += 1;
        task.work = Work::Resolve(resolving);
        self.outbox.push(Outbound::Resolve { task: key, nexus: task.id.nexus, guids: others });
        Ok(())
    }

    /// The other units of a copy were looked for, in the order of their descriptors.
    pub(crate) fn resolved(&mut self, key: Key, found: Vec<Found>, fx: &mut Effects) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        task.in_flight -= 1;
        if task.is_alive()
            && let Work::Resolve(resolving) = std::mem::replace(&mut task.work, Work::Running)
        {
            if let Err(sense) = self.begin_extended_copy(key, *resolving, found, fx) {
                self.fail(key, sense, fx);
            }
        } else {
            self.settle(key, fx);
        }
        self.run(fx);
    }

    fn begin_extended_copy(&mut self, key: Key, resolving: Resolving, found: Vec<Found>, fx: &mut Effects) -> Checked {
        let Resolving { list, lid4, total } = resolving;
        let this = CopyEnd { block_length: self.identity.block_size, blocks: self.blocks() };
        let mut found = found.into_iter();
        let ends: Vec<Option<End>> = list
            .cscds
            .iter()
            .map(|cscd| match cscd.name {
                CscdName::Guid(guid) if guid == self.identity.guid => Some((Peer::This, Ok(this))),
                CscdName::Guid(_) => found.next().flatten().map(|(unit, end)| (Peer::Other(unit), end)),
                _ => None,
            })
            .collect();
        let end = |id: u16| match ends.get(usize::from(id)) {
            Some(end) => end.clone(),
            None => (id == THIS_UNIT).then_some((Peer::This, Ok(this))),
        };
        let mut moves = Vec::with_capacity(list.segments.len());
        let mut at = if lid4 { 48 } else { 16 } + 32 * list.cscds.len();
        for segment in &list.segments {
            // Another kind is refused by the parser.
            let SegmentDescriptor::Block(segment) = segment else { continue };
            moves.push(range_of(segment, end(segment.source), end(segment.destination), at as u16)?);
            at += 28;
        }
        for (cscd, end) in list.cscds.iter().zip(&ends) {
            if let Some((_, Ok(end))) = end
                && cscd.block_length != 0
                && cscd.block_length != end.block_length
            {
                return Err(SenseData::new(
                    SenseKey::COPY_ABORTED,
                    AdditionalSense::INVALID_OPERATION_FOR_COPY_SOURCE_OR_DESTINATION,
                ));
            }
        }
        let Some(nexus) = self.tasks.get(key).map(|task| task.id.nexus) else { return Ok(()) };
        let background = lid4 && list.immediate;
        let record = if list.list_id_usage == NO_LIST_IDENTIFIER {
            None
        } else {
            Some(self.copies.begin(nexus, list.list_identifier, u8::from(lid4), background)?)
        };
        let copying = Copying { record, extended: true, ..Copying::new(moves, total) };
        self.begin_job(key, JobWork::Copy(Box::new(copying)), background, total, fx);
        Ok(())
    }
}

/// A unit and what a copy meets there.
type End = (Peer, Result<CopyEnd, CopyRefusal>);

/// The ranges of one segment, whose descriptor stands at `at` in the parameter list.
fn range_of(segment: &BlockSegment, source: Option<End>, destination: Option<End>, at: u16) -> Result<Move, SenseData> {
    let aborted = |code, offset: u16| SenseData {
        specific: Some(SenseSpecific::SegmentPointer { in_segment: false, byte: at + offset, bit: Some(7) }),
        ..SenseData::new(SenseKey::COPY_ABORTED, code)
    };
    let reached = |end: Option<End>, offset| match end {
        None => Err(aborted(AdditionalSense::COPY_TARGET_DEVICE_NOT_REACHABLE, offset)),
        Some((_, Err(CopyRefusal::NotSupported))) => {
            Err(aborted(AdditionalSense::INCORRECT_COPY_TARGET_DEVICE_TYPE, offset))
        }
        Some((_, Err(_))) => Err(aborted(AdditionalSense::THIRD_PARTY_DEVICE_FAILURE, offset)),
        Some((peer, Ok(end))) => Ok((peer, end)),
    };
    let (source, from) = reached(source, 4)?;
    let (destination, to) = reached(destination, 6)?;
    let unit = if segment.destination_count { to.block_length } else { from.block_length };
    let length = u64::from(segment.blocks) * u64::from(unit);
    if !length.is_multiple_of(from.block_length.into()) || !length.is_multiple_of(to.block_length.into()) {
        // No residual data is held, so each segment has to end with a block.
        return Err(aborted(AdditionalSense::UNEXPECTED_INEXACT_SEGMENT, 10));
    }
    let offset = |end: &CopyEnd, lba: u64, field| {
        let blocks = length / u64::from(end.block_length);
        let fits = lba <= end.blocks && blocks <= end.blocks - lba;
        if fits {
            Ok(lba * u64::from(end.block_length))
        } else {
            Err(aborted(AdditionalSense::NO_ADDITIONAL_SENSE, field))
        }
    };
    Ok(Move {
        source_offset: offset(&from, segment.source_lba, 12)?,
        offset: offset(&to, segment.destination_lba, 20)?,
        source: Source::Peer(source),
        destination,
        length,
    })
}
