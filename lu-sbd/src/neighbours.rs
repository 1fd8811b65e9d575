//! What units ask of each other and of the framework: carried out between calls, with no lock held.

use scsi_core::{AdditionalSense, Guid, SenseData};
use std::sync::{Arc, Weak};
use stmf::NexusId;
use stmf::provider::{
    CopyEnd, CopyIn, CopyRefusal, CopySource, Effects, LogicalUnit, ROD_TOKEN_BYTES, Segments, StoreErrorKind,
    Surroundings,
};

use crate::lu::{Found, Lu, NAME_BYTES, Outbound, Redeemed};
use crate::sbd::SbdLu;
use crate::store::{BackingStore, Error, Operation};

/// What [`LogicalUnit::medium`] of a unit of this crate is.
pub(crate) struct Medium(pub(crate) Arc<dyn BackingStore>);

/// Pieces in which overlapping ranges are moved.
const PIECE_BYTES: u64 = 1 << 20;

impl SbdLu {
    /// Calls the state machine, then does what it asks of others; their answers lead to calls again.
    pub(crate) fn with_lu<R>(&self, effects: &mut Effects, call: impl FnOnce(&mut Lu, &mut Effects) -> R) -> R {
        let (result, mut outbox) = {
            let mut lu = self.lock_now();
            let result = call(&mut lu, effects);
            if lu.outbox_is_empty() {
                return result;
            }
            (result, lu.take_outbox())
        };
        // The answers of this unit to itself come in here, and not by recursion.
        while !outbox.is_empty() {
            for outbound in outbox {
                self.carry(outbound, effects);
            }
            outbox = self.lock().take_outbox();
        }
        result
    }

    pub(crate) fn surroundings(&self) -> Option<Arc<dyn Surroundings>> {
        self.surroundings.get().and_then(Weak::upgrade)
    }

    fn carry(&self, outbound: Outbound, effects: &mut Effects) {
        match outbound {
            Outbound::Resolve { task, nexus, guids } => {
                let found = guids.iter().map(|guid| self.find_for_copy(*guid, nexus)).collect();
                self.lock().resolved(task, found, effects);
            }
            Outbound::Redeem { task, unit, token } => {
                let redeemed = self.redeem_at(unit, &token);
                self.lock().redeemed(task, redeemed, effects);
            }
            Outbound::Name { task } => {
                let host = self.surroundings().and_then(|surroundings| surroundings.host());
                // Without a host the command is not offered.
                let Some(host) = host else { return };
                let mut name = [0; NAME_BYTES];
                host.fill_random(&mut name);
                self.lock().named(task, host.now(), name, effects);
            }
            Outbound::Check { job, nexus, source, token } => {
                let mut outcome = source.map_or(Ok(()), |unit| unit.copy_end(Some(nexus), false).map(drop));
                if let (Ok(()), Some((unit, token))) = (outcome, token) {
                    outcome = unit.redeem(&token).map(drop).map_err(CopyRefusal::Sense);
                }
                self.lock().checked(job, outcome, effects);
            }
            Outbound::CopyIn { job, nexus, destination, source, source_offset, offset, length } => {
                let this = self.surroundings().and_then(|around| around.find(*self.guid.as_bytes(), Some(nexus)));
                let Some(this) = this else {
                    // The nexus reaches this unit no more.
                    self.lock().checked(job, Err(CopyRefusal::NotSupported), effects);
                    return;
                };
                let source = source.unwrap_or_else(|| CopySource::Unit(Arc::clone(&this), source_offset));
                let call = CopyIn { nexus, from: this, token: job.to_u64(), source, offset, length };
                self.call(&destination, |unit, effects| unit.copy_in(call, effects));
            }
            Outbound::Copied { to, token, outcome } => {
                self.call(&to, |unit, effects| unit.copied(token, outcome, effects));
            }
            Outbound::Delete { unit, token } => unit.delete_token(&token),
        }
    }

    /// Calls another unit, and has what it wants carried to where it belongs.
    fn call(&self, unit: &Arc<dyn LogicalUnit>, call: impl FnOnce(&dyn LogicalUnit, &mut Effects)) {
        let mut effects = Effects::new();
        call(&**unit, &mut effects);
        if !effects.is_empty()
            && let Some(surroundings) = self.surroundings()
        {
            surroundings.carry_out(unit, &mut effects);
        }
    }

    fn find_for_copy(&self, guid: Guid, nexus: NexusId) -> Found {
        let unit = self.surroundings()?.find(*guid.as_bytes(), Some(nexus))?;
        let end: Result<CopyEnd, CopyRefusal> = unit.copy_end(Some(nexus), false);
        Some((unit, end))
    }

    fn redeem_at(&self, unit: Option<Guid>, token: &[u8; ROD_TOKEN_BYTES]) -> Redeemed {
        let Some(guid) = unit else { return self.redeem(token).map(|rod| (None, rod)) };
        let found = self.surroundings().and_then(|surroundings| surroundings.find(*guid.as_bytes(), None));
        let unit = found.ok_or(SenseData::illegal_request(AdditionalSense::INVALID_TOKEN_UNKNOWN))?;
        // The right to read was given with the token; that the medium is there is asked all the same.
        if let Err(CopyRefusal::Sense(sense)) = unit.copy_end(None, false) {
            return Err(sense);
        }
        let rod = unit.redeem(token)?;
        Ok((Some(unit), rod))
    }
}

/// Copies a range of one store to another place of it; the ranges may overlap.
pub(crate) fn copy_within(store: &dyn BackingStore, from: u64, to: u64, length: u64) -> Result<(), Error> {
    if from == to {
        return Ok(());
    }
    if from.abs_diff(to) >= length {
        return store.copy_from(store, from, to, length);
    }
    // Each piece is read as a whole before it is written; the order keeps what is still to be read.
    let mut done = 0;
    while done < length {
        let piece = (length - done).min(PIECE_BYTES);
        let at = if to > from { length - done - piece } else { done };
        let data: Segments = store.read_bytes(from + at, piece as usize)?;
        store.write_bytes(to + at, &data, false)?;
        done += piece;
    }
    Ok(())
}

/// Copies from the store of another unit.
pub(crate) fn copy_between(
    store: &dyn BackingStore,
    source: &dyn LogicalUnit,
    from: u64,
    to: u64,
    length: u64,
) -> Result<(), Error> {
    let medium = source.medium().and_then(|medium| medium.downcast::<Medium>().ok());
    let Some(medium) = medium else { return Err(Error::new(StoreErrorKind::Gone, Operation::Copy).at(to, length)) };
    store.copy_from(&*medium.0, from, to, length)
}
