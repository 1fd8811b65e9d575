//! A store that remembers what is durable, fails when told, and loses power.

use lu_sbd::store::{BackingStore, Capabilities, Error, Operation, Unmap};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stmf::provider::StoreErrorKind;

use crate::rng::Rng;

/// What the store writes as one: power is lost between two of these, never inside one.
pub const SECTOR_BYTES: usize = 512;

/// A failure to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which operation fails; [`Operation::Access`] stands for any.
    pub operation: Operation,
    /// The how manieth of these operations from now, from 1.
    pub nth: u64,
    /// The error.
    pub kind: StoreErrorKind,
    /// For a write: so many of its sectors are written before it fails.
    pub sectors_done: usize,
}

/// What a power cut leaves of the sectors that were written and not flushed.
#[derive(Clone, Copy, Debug)]
pub enum PowerCut {
    /// Nothing: the worst that a flush protects from.
    LosesAll,
    /// Everything: the cache happened to be written out.
    KeepsAll,
    /// For each sector by itself, any of the contents it has had since the last flush: writes are reordered, torn
    /// and lost.
    Random {
        /// Decides for each sector.
        seed: u64,
    },
}

/// One call of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// What.
    pub operation: Operation,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Whether it failed.
    pub failed: bool,
}

/// A [`BackingStore`] in memory with a volatile write cache, faults and power cuts.
///
/// Cheap to clone: clones are the same store, so that a test keeps one while a logical unit has the other.
#[derive(Clone, Debug)]
pub struct FaultyStore(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// By sector: every content since the last flush, the newest last.
    cached: BTreeMap<usize, Vec<[u8; SECTOR_BYTES]>>,
    faults: Vec<Fault>,
    poisoned: bool,
    calls: Vec<Call>,
    capabilities: Capabilities,
}

impl FaultyStore {
    /// A store of zeros. `bytes` is rounded up to whole sectors.
    pub fn new(bytes: usize) -> Self {
        Self::from_image(vec![0; bytes])
    }

    /// A store whose durable content is `image`, as after a restart.
    pub fn from_image(mut image: Vec<u8>) -> Self {
        image.resize(image.len().next_multiple_of(SECTOR_BYTES), 0);
        let mut capabilities = Capabilities::default();
        capabilities.unmap = Some(Unmap { granularity_bytes: SECTOR_BYTES as u32, reads_zero: true });
        Self(Arc::new(Mutex::new(State {
            live: image.clone(),
            durable: image,
            cached: BTreeMap::new(),
            faults: Vec::new(),
            poisoned: false,
            calls: Vec::new(),
            capabilities,
        })))
    }

    /// Sets what the store says it can do; call it before a logical unit asks.
    pub fn set_capabilities(&self, change: impl FnOnce(&mut Capabilities)) {
        change(&mut self.lock().capabilities);
    }

    /// Makes a failure come.
    pub fn fail(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Makes the `nth` operation from now fail, whatever it is: with every n from 1 on, every place is tried.
    pub fn fail_nth(&self, nth: u64, kind: StoreErrorKind) {
        self.fail(Fault { operation: Operation::Access, nth, kind, sectors_done: 0 });
    }

    /// Takes back the failures that have not come yet.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.faults.clear();
        state.poisoned = false;
    }

    /// What a reader sees.
    pub fn live_image(&self) -> Vec<u8> {
        self.lock().live.clone()
    }

    /// What every power cut leaves.
    pub fn durable_image(&self) -> Vec<u8> {
        self.lock().durable.clone()
    }

    /// What is there after the power was cut and came back: a new store; this one is as it was.
    pub fn after(&self, cut: PowerCut) -> Self {
        let state = self.lock();
        let mut image = state.durable.clone();
        let mut rng = match cut {
            PowerCut::Random { seed } => Rng::new(seed),
            _ => Rng::new(0),
        };
        for (sector, versions) in &state.cached {
            let kept = match cut {
                PowerCut::LosesAll => 0,
                PowerCut::KeepsAll => versions.len(),
                PowerCut::Random { .. } => rng.below(versions.len() as u64 + 1) as usize,
            };
            if let Some(content) = kept.checked_sub(1).and_then(|at| versions.get(at)) {
                image[sector * SECTOR_BYTES..][..SECTOR_BYTES].copy_from_slice(content);
            }
        }
        let capabilities = state.capabilities;
        drop(state);
        let store = Self::from_image(image);
        store.set_capabilities(|to| *to = capabilities);
        store
    }

    /// How many sectors wait for a flush.
    pub fn cached_sectors(&self) -> usize {
        self.lock().cached.len()
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// How many calls of one kind so far.
    pub fn count(&self, operation: Operation) -> usize {
        self.lock().calls.iter().filter(|call| call.operation == operation).count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Books a call; the fault that it meets.
    fn begin(&mut self, operation: Operation, offset: u64, length: u64) -> Result<(), (Error, usize)> {
        let concerns = |fault: &Fault| fault.operation == operation || fault.operation == Operation::Access;
        let mut met = None;
        self.faults.retain_mut(|fault| {
            if concerns(fault) {
                fault.nth = fault.nth.saturating_sub(1);
                if fault.nth == 0 {
                    met = met.or(Some((fault.kind, fault.sectors_done)));
                    return false;
                }
            }
            true
        });
        if self.poisoned && operation != Operation::Read {
            met = met.or(Some((StoreErrorKind::Poisoned, 0)));
        }
        let past_end = offset.checked_add(length).is_none_or(|end| end > self.live.len() as u64);
        if operation != Operation::Flush && past_end {
            met = met.or(Some((StoreErrorKind::OutOfRange, 0)));
        }
        self.calls.push(Call { operation, offset, length, failed: met.is_some() });
        match met {
            None => Ok(()),
            Some((kind, done)) => Err((Error::new(kind, operation).at(offset, length).of("faulty store"), done)),
        }
    }

    /// Puts bytes into the live image and the cache. Sectors hit in part are read first.
    fn put(&mut self, offset: u64, data: &[u8]) {
        let (first, end) = (offset as usize, offset as usize + data.len());
        if first >= end || end > self.live.len() {
            return;
        }
        self.live[first..end].copy_from_slice(data);
        for sector in first / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            if let Some(content) = self.live[sector * SECTOR_BYTES..].first_chunk() {
                self.cached.entry(sector).or_default().push(*content);
            }
        }
    }

    /// Writes `data`, or what a fault leaves of it.
    fn write(&mut self, operation: Operation, offset: u64, data: &[u8]) -> Result<(), Error> {
        match self.begin(operation, offset, data.len() as u64) {
            Ok(()) => self.put(offset, data),
            Err((error, sectors_done)) => {
                self.put(offset, &data[..data.len().min(sectors_done * SECTOR_BYTES)]);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Makes the cached sectors of a range durable.
    fn settle(&mut self, sectors: std::ops::Range<usize>) {
        let settled: Vec<usize> = self.cached.range(sectors).map(|(sector, _)| *sector).collect();
        for sector in settled {
            if let Some(content) = self.cached.remove(&sector).and_then(|versions| versions.last().copied()) {
                self.durable[sector * SECTOR_BYTES..][..SECTOR_BYTES].copy_from_slice(&content);
            }
        }
    }
}

impl BackingStore for FaultyStore {
    fn capacity(&self) -> u64 {
        self.lock().live.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let mut state = self.lock();
        state.begin(Operation::Read, offset, into.len() as u64).map_err(|(error, _)| error)?;
        into.copy_from_slice(&state.live[offset as usize..][..into.len()]);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        self.lock().write(Operation::Write, offset, &gather(data))
    }

    /// Durable alone: sectors written before and elsewhere stay in the cache, as with a FUA write of a disk.
    fn write_durable_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        let data = gather(data);
        let mut state = self.lock();
        state.write(Operation::Write, offset, &data)?;
        let (first, end) = (offset as usize, offset as usize + data.len());
        state.settle(first / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        Ok(())
    }

    /// After a flush has failed, what was cached may or may not be there, and the store says so to every write and
    /// flush until it is healed.
    fn flush(&self) -> Result<(), Error> {
        let mut state = self.lock();
        match state.begin(Operation::Flush, 0, 0) {
            Ok(()) => {
                state.settle(0..usize::MAX);
                Ok(())
            }
            Err((error, _)) => {
                state.poisoned = true;
                Err(error)
            }
        }
    }

    fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
        let mut state = self.lock();
        let zeros = vec![0; usize::try_from(length).unwrap_or(0).min(state.live.len())];
        state.write(Operation::Deallocate, offset, &zeros)
    }

    fn capabilities(&self) -> Capabilities {
        self.lock().capabilities
    }

    fn name(&self) -> String {
        "faulty store".into()
    }
}

fn gather(data: &[IoSlice<'_>]) -> Vec<u8> {
    data.iter().flat_map(|slice| slice.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(store: &FaultyStore, sector: u64, byte: u8) -> Result<(), Error> {
        store.write_at(sector * 512, &[IoSlice::new(&[byte; 512])])
    }

    fn first_bytes(image: &[u8]) -> Vec<u8> {
        image.chunks(SECTOR_BYTES).map(|sector| sector[0]).collect()
    }

    #[test]
    fn only_what_was_flushed_survives_for_sure() {
        let store = FaultyStore::new(4 * 512);
        write(&store, 0, 1).unwrap();
        store.flush().unwrap();
        write(&store, 0, 2).unwrap();
        write(&store, 1, 3).unwrap();
        assert_eq!(first_bytes(&store.live_image()), [2, 3, 0, 0]);
        assert_eq!(first_bytes(&store.after(PowerCut::LosesAll).live_image()), [1, 0, 0, 0]);
        assert_eq!(first_bytes(&store.after(PowerCut::KeepsAll).live_image()), [2, 3, 0, 0]);
    }

    #[test]
    fn a_random_cut_keeps_any_content_of_each_sector() {
        let store = FaultyStore::new(2 * 512);
        for byte in 1..=3 {
            write(&store, 0, byte).unwrap();
            write(&store, 1, byte).unwrap();
        }
        let outcomes: std::collections::BTreeSet<Vec<u8>> =
            (0..1000).map(|seed| first_bytes(&store.after(PowerCut::Random { seed }).live_image())).collect();
        assert_eq!(outcomes.len(), 16, "every pair of contents");
    }

    #[test]
    fn a_durable_write_is_durable_alone() {
        let store = FaultyStore::new(2 * 512);
        write(&store, 0, 1).unwrap();
        write(&store, 1, 1).unwrap();
        store.write_durable_at(512, &[IoSlice::new(&[2; 512])]).unwrap();
        assert_eq!(first_bytes(&store.durable_image()), [0, 2]);
        assert_eq!(store.cached_sectors(), 1);
    }

    #[test]
    fn the_nth_call_fails_and_a_torn_write_leaves_its_beginning() {
        let store = FaultyStore::new(4 * 512);
        store.fail_nth(2, StoreErrorKind::Io);
        write(&store, 0, 1).unwrap();
        assert_eq!(write(&store, 1, 1).unwrap_err().kind, StoreErrorKind::Io);
        let torn = Fault { operation: Operation::Write, nth: 1, kind: StoreErrorKind::NoSpace, sectors_done: 1 };
        store.fail(torn);
        store.read_at(0, &mut [0; 512]).unwrap();
        let error = store.write_at(1024, &[IoSlice::new(&[7; 1024])]).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::NoSpace);
        assert_eq!(first_bytes(&store.live_image()), [1, 0, 7, 0]);
    }

    #[test]
    fn after_a_failed_flush_the_store_stays_failed_until_it_is_healed() {
        let store = FaultyStore::new(512);
        write(&store, 0, 1).unwrap();
        store.fail(Fault { operation: Operation::Flush, nth: 1, kind: StoreErrorKind::Io, sectors_done: 0 });
        assert_eq!(store.flush().unwrap_err().kind, StoreErrorKind::Io);
        assert_eq!(store.flush().unwrap_err().kind, StoreErrorKind::Poisoned);
        assert_eq!(first_bytes(&store.durable_image()), [0]);
        store.heal();
        store.flush().unwrap();
        assert_eq!(first_bytes(&store.durable_image()), [1]);
        assert_eq!(store.count(Operation::Flush), 3);
    }

    #[test]
    fn a_range_past_the_end_is_refused() {
        let store = FaultyStore::new(512);
        assert_eq!(write(&store, 1, 1).unwrap_err().kind, StoreErrorKind::OutOfRange);
        assert!(store.read_at(u64::MAX, &mut [0; 2]).is_err());
    }
}
