//! The logical unit with a store: what STMF registers.

use scsi_core::{AdditionalSense, Guid, SenseData};
use smallvec::SmallVec;
use std::any::Any;
use std::fmt;
use std::io::IoSlice;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use stmf::provider::{
    CopyEnd, CopyIn, CopyRefusal, Effects, Landing, LogicalUnit, LuTask, NexusLoss, ROD_TOKEN_BYTES, Rod, Segments,
    StoreCompletion, StoreDone, StoreError, StoreErrorKind, StoreOp, StoreOutcome, StoreRequest, Surroundings,
    TargetPorts, TaskManagementRequest,
};
use stmf::{Nexus, NexusId, TaskId};

use crate::lu::{Limits, Lu, LuSnapshot};
use crate::meta::{Identity, RecordStore};
use crate::neighbours::{Medium, copy_between, copy_within};
use crate::properties::{ModifyProperties, PropertyError};
use crate::store::{AsyncStore, BackingStore, Error, Operation, write_repeated};

/// Opens the store of a unit again, after it was closed or has failed.
pub type Reopen = Box<dyn Fn() -> Result<Arc<dyn BackingStore>, Error> + Send + Sync>;

/// The host's clock: microseconds since 1970, never going back.
pub type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// A block logical unit: the state machine [`Lu`] behind a lock that is held for short computations only, and the
/// store that its operations are carried out on.
pub struct SbdLu {
    pub(crate) guid: Guid,
    lu: Mutex<Lu>,
    store: RwLock<Option<Arc<dyn BackingStore>>>,
    asynchronous: Option<Arc<dyn AsyncStore>>,
    reopen: Option<Reopen>,
    clock: Option<Clock>,
    records: Arc<dyn RecordStore>,
    pub(crate) surroundings: OnceLock<Weak<dyn Surroundings>>,
    /// Held while the record is put together and written, so that none overtakes a newer one.
    saving: Mutex<()>,
}

/// Why a unit could not be modified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModifyError {
    /// A value is wrong.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// The store cannot do that, or failed to.
    #[error(transparent)]
    Store(#[from] Error),
    /// The unit is offline.
    #[error("the logical unit is offline")]
    Offline,
}

impl SbdLu {
    /// A unit over a store that waits for its device.
    pub fn new(
        identity: Identity,
        store: Arc<dyn BackingStore>,
        records: Arc<dyn RecordStore>,
        limits: Limits,
    ) -> Self {
        let mut lu = Lu::new(identity, store.capabilities(), limits);
        lu.offer(true, false);
        Self::with(lu, Some(store), None, records)
    }

    /// A unit over a store that answers later.
    pub fn new_async(
        identity: Identity,
        store: Arc<dyn AsyncStore>,
        records: Arc<dyn RecordStore>,
        limits: Limits,
    ) -> Self {
        let lu = Lu::new(identity, store.capabilities(), limits);
        Self::with(lu, None, Some(store), records)
    }

    fn with(
        lu: Lu,
        store: Option<Arc<dyn BackingStore>>,
        asynchronous: Option<Arc<dyn AsyncStore>>,
        records: Arc<dyn RecordStore>,
    ) -> Self {
        Self {
            guid: lu.guid(),
            lu: Mutex::new(lu),
            store: RwLock::new(store),
            asynchronous,
            reopen: None,
            clock: None,
            records,
            surroundings: OnceLock::new(),
            saving: Mutex::new(()),
        }
    }

    /// With a way to open the store again: the store is closed while the unit is offline, and a failed one is replaced
    /// when the unit is brought online.
    #[must_use]
    pub fn with_reopen(mut self, reopen: Reopen) -> Self {
        self.reopen = Some(reopen);
        self
    }

    /// With a clock, asked with each command: times in log pages and the timestamp are real then.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.lock().set_time(clock());
        self.clock = Some(clock);
        self
    }

    /// Who it is, with what is saved.
    pub fn identity(&self) -> Identity {
        self.lock().identity().clone()
    }

    /// What administrators see.
    pub fn snapshot(&self) -> LuSnapshot {
        self.lock().snapshot()
    }

    /// The store, unless the unit is offline.
    pub fn store(&self) -> Option<Arc<dyn BackingStore>> {
        self.store.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes the record beside the data as it has to be now; done once when a unit is created. Waits for a device.
    ///
    /// # Errors
    /// Of the record's store.
    pub fn save(&self) -> Result<(), Error> {
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let record = self.lock().record();
        self.records.save(record.as_bytes())
    }

    /// Changes alias, URLs, protection, write cache or size, and tells the initiators. Waits for a device. After an
    /// error nothing has changed, but that a store may be larger than its unit.
    ///
    /// # Errors
    /// Any [`ModifyError`].
    pub fn modify(&self, change: &ModifyProperties) -> Result<(), ModifyError> {
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let mut identity = self.identity();
        let (old_size, was_cached) = (identity.size, !identity.write_cache_disabled);
        change.apply(&mut identity)?;
        let size = identity.size;
        let store = self.store();
        if size > old_size
            && let Some(store) = self.store_for_change()?
            && store.capacity() < size
        {
            store.set_len(size)?;
        }
        let flush = was_cached && identity.write_cache_disabled;
        let record = self.lock().record_with(&identity);
        self.records.save(record.as_bytes())?;
        self.lock_now().modify(identity);
        self.release_paced();
        // Commands that are under way may still touch what is cut off: it goes last, and its loss is what was asked.
        if size < old_size
            && let Some(store) = &store
            && store.capabilities().resizable
        {
            store.set_len(size)?;
        }
        if flush && let Some(store) = &store {
            store.flush()?;
        }
        Ok(())
    }

    /// Forgets every reservation and persistent registration, and tells those who had one. Waits for a device.
    ///
    /// # Errors
    /// Of the record's store; nothing has changed then.
    pub fn clear_reservations(&self) -> Result<(), Error> {
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, record) = {
            let mut lu = self.lock();
            (lu.clear_reservations(), lu.record())
        };
        self.records.save(record.as_bytes()).inspect_err(|_| self.lock().put_reservations_back(before))
    }

    /// Loads or ejects the medium of a removable disk, whoever prevents its removal; does nothing to a fixed one.
    ///
    /// # Errors
    /// What the store says when cached data cannot be made durable; the medium stays.
    pub fn set_ejected(&self, ejected: bool) -> Result<(), Error> {
        if ejected && let Some(store) = self.store() {
            store.flush()?;
        }
        self.lock().set_ejected(ejected);
        Ok(())
    }

    /// What a limit held back that is no more goes out now.
    fn release_paced(&self) {
        // Without surroundings it goes when the host calls again.
        if let Some(surroundings) = self.surroundings()
            && let Some(unit) = surroundings.find(*self.guid.as_bytes(), None)
        {
            let mut effects = Effects::new();
            self.lock_now().pace_changed(&mut effects);
            surroundings.carry_out(&unit, &mut effects);
        }
    }

    fn store_for_change(&self) -> Result<Option<Arc<dyn BackingStore>>, ModifyError> {
        match self.store() {
            None if self.asynchronous.is_none() => Err(ModifyError::Offline),
            store => Ok(store),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Lu> {
        self.lu.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The unit, at this moment of the clock.
    pub(crate) fn lock_now(&self) -> MutexGuard<'_, Lu> {
        let now = self.clock.as_ref().map(|clock| clock());
        let mut lu = self.lock();
        if let Some(now) = now {
            lu.set_time(now);
        }
        lu
    }

    /// Carries out what does not wait; gives back what might.
    fn attempt(&self, op: &StoreOp) -> Option<StoreOutcome> {
        // While the unit goes offline its last flush holds the store, and whoever may not wait must not wait for that.
        let store = self.store.try_read().ok()?;
        let store = store.as_deref()?;
        match op {
            StoreOp::Read { offset, length, .. } => {
                let (offset, length) = (*offset, *length);
                match land(store, op, false) {
                    Landed::No => {}
                    Landed::Waits => return None,
                    Landed::Ended(outcome) => return Some(outcome),
                }
                Some(match store.try_read_bytes(offset, length as usize)? {
                    Ok(data) => StoreOutcome::Data(data),
                    Err(error) => failed(store, error, op),
                })
            }
            StoreOp::Write { offset, data, durable: false } => {
                Some(done(store, store.try_write_bytes(*offset, data)?, op))
            }
            _ => None,
        }
    }

    fn carry_out(&self, op: &StoreOp) -> StoreOutcome {
        if let StoreOp::Persist { .. } = op {
            return match self.save() {
                Ok(()) => StoreOutcome::Done,
                Err(error) => StoreOutcome::Failed(error.into_store_error(String::new, Operation::Persist, None)),
            };
        }
        let Some(store) = self.store() else {
            return StoreOutcome::Failed(StoreError {
                kind: StoreErrorKind::Gone,
                context: format!("the store of logical unit {} is closed", self.guid),
            });
        };
        let store = &*store;
        match op {
            StoreOp::Read { offset, length, .. } => match land(store, op, true) {
                Landed::Ended(outcome) => outcome,
                Landed::No | Landed::Waits => match store.read_bytes(*offset, *length as usize) {
                    Ok(data) => StoreOutcome::Data(data),
                    Err(error) => failed(store, error, op),
                },
            },
            StoreOp::Write { offset, data, durable } => {
                done(store, durably(*durable, store.write_bytes(*offset, data, *durable)), op)
            }
            StoreOp::WriteAtomic { offset, data, durable } => {
                let slices: SmallVec<[IoSlice<'_>; 16]> = data.iter().map(|bytes| IoSlice::new(bytes)).collect();
                let mut written = store.write_atomic_at(*offset, &slices);
                if *durable && written.is_ok() {
                    written = durably(true, store.flush());
                }
                done(store, written, op)
            }
            StoreOp::WriteSame { offset, length, pattern, durable } => {
                let mut written = if pattern.is_empty() {
                    store.write_zeroes(*offset, *length)
                } else {
                    write_repeated(store, *offset, *length, pattern)
                };
                if *durable && written.is_ok() {
                    written = durably(true, store.flush());
                }
                done(store, written, op)
            }
            StoreOp::Deallocate { ranges } => {
                let mut ranges = ranges.iter();
                let released = ranges.try_for_each(|(offset, length)| store.deallocate(*offset, *length));
                done(store, released, op)
            }
            StoreOp::Flush => done(store, store.flush(), op),
            StoreOp::Extents { offset, length, limit } => match store.extents(*offset, *length, *limit) {
                Ok(extents) => StoreOutcome::Extents(extents),
                Err(error) => failed(store, error, op),
            },
            StoreOp::Prefetch { offset, length } => {
                store.prefetch(*offset, *length);
                StoreOutcome::Done
            }
            StoreOp::Wait { time } => {
                std::thread::sleep(*time);
                StoreOutcome::Done
            }
            StoreOp::Usage => match store.usage() {
                Ok(usage) => StoreOutcome::Usage(usage),
                Err(error) => failed(store, error, op),
            },
            StoreOp::Copy { source, source_offset, offset, length } => {
                let copied = match source {
                    None => copy_within(store, *source_offset, *offset, *length),
                    Some(unit) => copy_between(store, &**unit, *source_offset, *offset, *length),
                };
                done(store, copied, op)
            }
            _ => failed(store, Error::new(StoreErrorKind::Unsupported, Operation::Access), op),
        }
    }
}

/// What became of a read that has memory of the transport's to go to.
enum Landed {
    /// There is none, or the store does not read into memory of others.
    No,
    /// It might have to wait.
    Waits,
    /// It is there, or failed.
    Ended(StoreOutcome),
}

/// Reads right into the memory that the transport lends, if it lends any and the store can.
fn land(store: &dyn BackingStore, op: &StoreOp, may_wait: bool) -> Landed {
    let StoreOp::Read { offset, lands: Some(Landing { room: Some(room), .. }), .. } = op else { return Landed::No };
    let Some(direct) = store.as_read_into() else { return Landed::No };
    let mut result = None;
    let data = room.fill(&mut |pieces| {
        let read = match may_wait {
            true => Some(direct.read_into(*offset, pieces)),
            false => direct.try_read_into(*offset, pieces),
        };
        let is_filled = matches!(read, Some(Ok(())));
        result = Some(read);
        is_filled
    });
    match (data, result) {
        (_, None) => Landed::No,
        (Some(data), Some(_)) => Landed::Ended(StoreOutcome::Data(data)),
        (None, Some(Some(Err(error)))) => Landed::Ended(failed(store, error, op)),
        (None, Some(_)) => Landed::Waits,
    }
}

/// A durable write whose flush failed says so: the unit must not go on as if only this write were lost.
fn durably(durable: bool, result: Result<(), Error>) -> Result<(), Error> {
    result.map_err(|mut error| {
        if durable && error.operation == Operation::Flush {
            error.kind = StoreErrorKind::Poisoned;
        }
        error
    })
}

fn done(store: &dyn BackingStore, result: Result<(), Error>, op: &StoreOp) -> StoreOutcome {
    match result {
        Ok(()) => StoreOutcome::Done,
        Err(error) => failed(store, error, op),
    }
}

fn failed(store: &dyn BackingStore, error: Error, op: &StoreOp) -> StoreOutcome {
    let (operation, range) = match op {
        StoreOp::Read { offset, length, .. } => (Operation::Read, Some((*offset, u64::from(*length)))),
        StoreOp::Write { offset, data, .. } | StoreOp::WriteAtomic { offset, data, .. } => {
            (Operation::Write, Some((*offset, data.iter().map(|bytes| bytes.len() as u64).sum())))
        }
        StoreOp::WriteSame { offset, length, .. } => (Operation::Write, Some((*offset, *length))),
        StoreOp::Deallocate { ranges } => (Operation::Deallocate, ranges.first().copied()),
        StoreOp::Flush => (Operation::Flush, None),
        StoreOp::Extents { offset, length, .. } => (Operation::Extents, Some((*offset, *length))),
        StoreOp::Copy { offset, length, .. } => (Operation::Copy, Some((*offset, *length))),
        _ => (Operation::Access, None),
    };
    StoreOutcome::Failed(error.into_store_error(|| store.name(), operation, range))
}

impl LogicalUnit for SbdLu {
    fn guid(&self) -> [u8; 16] {
        *self.guid.as_bytes()
    }

    fn attach(&self, nexus: &Arc<Nexus>) {
        self.lock().attach(nexus);
    }

    fn detach(&self, nexus: NexusId, loss: NexusLoss, effects: &mut Effects) {
        self.with_lu(effects, |lu, effects| lu.detach(nexus, loss, effects));
    }

    fn submit(&self, task: LuTask<'_>, effects: &mut Effects) {
        self.with_lu(effects, |lu, effects| lu.submit(task, effects));
    }

    fn data_out(&self, task: TaskId, offset: u32, data: Segments, effects: &mut Effects) {
        self.with_lu(effects, |lu, effects| lu.data_out(task, offset, data, effects));
    }

    fn store_done(&self, done: StoreDone, effects: &mut Effects) {
        self.with_lu(effects, |lu, effects| lu.store_done(done, effects));
    }

    fn manage(&self, request: TaskManagementRequest, effects: &mut Effects) {
        self.with_lu(effects, |lu, effects| lu.manage(request, effects));
    }

    fn restore_attention(&self, nexus: NexusId, code: AdditionalSense) {
        self.lock().attention(nexus, code);
    }

    fn set_target_ports(&self, ports: &Arc<TargetPorts>) {
        self.lock().set_target_ports(Arc::clone(ports));
    }

    fn bring_online(&self) -> Result<(), StoreError> {
        if let Some(reopen) = &self.reopen {
            let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
            if store.is_none() || self.lock().has_failed() {
                // The old one first: it holds the lock on its file.
                *store = None;
                let opened = reopen().map_err(|error| error.into_store_error(String::new, Operation::Open, None))?;
                self.lock().store_opened(opened.capabilities());
                *store = Some(opened);
            }
        }
        Ok(())
    }

    fn take_offline(&self) {
        let mut slot = self.store.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = slot.as_deref() {
            // Nobody waits for this one; the promise of every flush that was answered stands without it.
            let _ = store.flush();
        }
        if self.reopen.is_some() {
            *slot = None;
        }
    }

    fn perform(&self, request: StoreRequest) -> StoreDone {
        let outcome = self.carry_out(&request.op);
        StoreDone { nexus: request.nexus, token: request.token, outcome }
    }

    fn try_perform(&self, request: StoreRequest) -> Result<StoreDone, StoreRequest> {
        match self.attempt(&request.op) {
            Some(outcome) => Ok(StoreDone { nexus: request.nexus, token: request.token, outcome }),
            None => Err(request),
        }
    }

    fn start(&self, request: StoreRequest, completion: StoreCompletion) -> Result<(), (StoreRequest, StoreCompletion)> {
        match &self.asynchronous {
            Some(store) if !matches!(request.op, StoreOp::Persist { .. } | StoreOp::Copy { .. }) => {
                let cancelled = self.lock().cancellation(request.token);
                let completion = match cancelled {
                    Some(cancelled) => completion.with_cancellation(cancelled),
                    None => completion,
                };
                store.start(request.op, completion);
                Ok(())
            }
            _ => Err((request, completion)),
        }
    }

    fn registered(&self, surroundings: &Weak<dyn Surroundings>) {
        // A unit is registered once; with another framework it would be the same unit in two.
        let _ = self.surroundings.set(Weak::clone(surroundings));
        let tokens = self.surroundings().is_some_and(|surroundings| surroundings.host().is_some());
        self.lock().offer(self.asynchronous.is_none(), tokens);
    }

    fn medium(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(Arc::new(Medium(self.store()?)))
    }

    fn copy_end(&self, nexus: Option<NexusId>, write: bool) -> Result<CopyEnd, CopyRefusal> {
        self.lock().copy_end(nexus, write)
    }

    fn copy_in(&self, call: CopyIn, effects: &mut Effects) {
        self.with_lu(effects, |lu, effects| lu.copy_in(call, effects));
    }

    fn copied(&self, token: u64, outcome: Result<(), CopyRefusal>, effects: &mut Effects) {
        self.with_lu(effects, |lu, effects| lu.copied(token, outcome, effects));
    }

    fn redeem(&self, token: &[u8; ROD_TOKEN_BYTES]) -> Result<Rod, SenseData> {
        let host = self.surroundings().and_then(|surroundings| surroundings.host());
        let host = host.ok_or(SenseData::illegal_request(AdditionalSense::INVALID_TOKEN_UNKNOWN))?;
        self.lock().redeem(token, host.now())
    }

    fn delete_token(&self, token: &[u8; ROD_TOKEN_BYTES]) {
        self.lock().delete_token(token);
    }
}

impl fmt::Debug for SbdLu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SbdLu({}", self.guid)?;
        match self.store() {
            Some(store) => write!(f, ", {store:?})"),
            None => f.write_str(")"),
        }
    }
}
