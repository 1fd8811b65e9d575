//! Disks of the calling program.

use super::{DiskError, Server};
use crate::clock::unix_clock;
use lu_sbd::meta::NoRecord;
use lu_sbd::properties::CreateProperties;
use lu_sbd::{AsyncStore, BackingStore, Limits, SbdLu};
use scsi_core::GuidHost;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use stmf::Guid;
use stmf::config::NewView;
use stmf::provider::LogicalUnit;

/// A disk over a store: its name, its identity, its LUN. What is not set has a default.
#[derive(Clone, Debug)]
pub struct Disk {
    store: Store,
    properties: CreateProperties,
    lun: Option<u16>,
    hidden: bool,
}

#[derive(Clone, Debug)]
enum Store {
    Blocking(Arc<dyn BackingStore>),
    Asynchronous(Arc<dyn AsyncStore>),
}

impl Store {
    fn capacity(&self) -> u64 {
        match self {
            Self::Blocking(store) => store.capacity(),
            Self::Asynchronous(store) => store.capacity(),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Blocking(store) => store.name(),
            Self::Asynchronous(store) => format!("{store:?}"),
        }
    }
}

impl Disk {
    /// A disk over `store`, of its whole size, with a generated name, at the lowest LUN that is free.
    pub fn new(store: impl BackingStore + 'static) -> Self {
        Self::shared(Arc::new(store))
    }

    /// As [`new`](Self::new), over a store that the caller keeps a hold of.
    pub fn shared(store: Arc<dyn BackingStore>) -> Self {
        Self::over(Store::Blocking(store))
    }

    /// As [`new`](Self::new), over a store that answers later. No thread of the server waits for it.
    pub fn new_async(store: impl AsyncStore + 'static) -> Self {
        Self::shared_async(Arc::new(store))
    }

    /// As [`new_async`](Self::new_async), over a store that the caller keeps a hold of.
    pub fn shared_async(store: Arc<dyn AsyncStore>) -> Self {
        Self::over(Store::Asynchronous(store))
    }

    fn over(store: Store) -> Self {
        Self { store, properties: CreateProperties::default(), lun: None, hidden: false }
    }

    /// At this LUN, 0 to 16383.
    #[must_use]
    pub fn lun(mut self, lun: u16) -> Self {
        self.lun = Some(lun);
        self
    }

    /// Seen by nobody until a view entry is added to the framework's configuration ([`Server::stmf`]).
    #[must_use]
    pub fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// With this name. Give one to a disk whose content outlives the program: initiators know it by that.
    #[must_use]
    pub fn guid(mut self, guid: Guid) -> Self {
        self.properties.guid = Some(guid);
        self
    }

    /// With these properties in place of all defaults: vendor, product, serial number, block size, protection ...
    #[must_use]
    pub fn properties(mut self, properties: CreateProperties) -> Self {
        self.properties = properties;
        self
    }
}

/// What generated names are made of, and the units the server holds.
#[derive(Debug, Default)]
pub(super) struct Guids {
    counter: AtomicU16,
    held: Mutex<Vec<Guid>>,
}

impl Server {
    /// Adds a disk that every initiator sees, unless it is hidden; tells its name.
    ///
    /// # Errors
    /// [`DiskError`]; nothing has changed then.
    pub fn add_disk(&self, disk: Disk) -> Result<Guid, DiskError> {
        let Disk { store, properties, lun, hidden } = disk;
        let guid = self.name(&properties);
        let identity = properties.identity(guid, Path::new(&store.name()), store.capacity())?;
        let (records, limits) = (Arc::new(NoRecord), Limits::default());
        let lu = match store {
            Store::Blocking(store) => SbdLu::new(identity, store, records, limits),
            Store::Asynchronous(store) => SbdLu::new_async(identity, store, records, limits),
        };
        let lu = lu.with_clock(unix_clock());
        self.place(Arc::new(lu), (!hidden).then_some(lun))
    }

    /// Adds a logical unit of another kind that every initiator sees, at `lun` or the lowest that is free.
    ///
    /// # Errors
    /// [`DiskError`]; nothing has changed then.
    pub fn add_unit(&self, lu: Arc<dyn LogicalUnit>, lun: Option<u16>) -> Result<Guid, DiskError> {
        self.place(lu, Some(lun))
    }

    /// As [`add_unit`](Self::add_unit), seen by nobody until a view entry is added.
    ///
    /// # Errors
    /// [`DiskError`]; nothing has changed then.
    pub fn add_hidden_unit(&self, lu: Arc<dyn LogicalUnit>) -> Result<Guid, DiskError> {
        self.place(lu, None)
    }

    /// `view`: whether every initiator sees it, and at which LUN.
    fn place(&self, lu: Arc<dyn LogicalUnit>, view: Option<Option<u16>>) -> Result<Guid, DiskError> {
        if self.engine.is_some() {
            return Err(DiskError::Managed);
        }
        let name = lu.guid();
        let guid = Guid::from_bytes(name).map_err(|_| stmf::StmfError::LuName(name))?;
        let stmf = self.stmf();
        // The view first: a unit that is registered is seen at once, and a LUN that is taken refuses both.
        let mut held = self.guids.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains(&guid) {
            return Err(DiskError::Exists(guid));
        }
        if let Some(lun) = view {
            let view = NewView { lu: guid, host_group: None, target_group: None, lun: lun.map(u64::from) };
            let (change, _) = stmf.with_config(|config| config.add_view(&view))?;
            stmf.commit(change);
        }
        if let Err(error) = stmf.register_lu(lu, "sbd") {
            self.drop_unit(guid);
            return Err(error.into());
        }
        held.push(guid);
        Ok(guid)
    }

    /// Removes a disk: its LUN disappears for every initiator, its tasks are aborted, its store is flushed. `false` if
    /// there is none of that name.
    pub fn remove_disk(&self, guid: Guid) -> bool {
        let mut held = self.guids.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(index) = held.iter().position(|name| *name == guid) else { return false };
        held.remove(index);
        self.drop_unit(guid);
        true
    }

    pub(super) fn remove_all_disks(&self) {
        let held = std::mem::take(&mut *self.guids.held.lock().unwrap_or_else(PoisonError::into_inner));
        held.into_iter().for_each(|guid| self.drop_unit(guid));
    }

    fn drop_unit(&self, guid: Guid) {
        use crate::admin::Live as _;
        if let Err(error) = self.host.unregister_lu(guid) {
            tracing::warn!("logical unit {guid:X} was not drained: {error}");
        }
        let stmf = self.stmf();
        // It may have no view any more: then that is what was wanted.
        if let Ok(change) = stmf.with_config(|config| config.remove_views(guid)) {
            stmf.commit(change);
        }
    }

    fn name(&self, properties: &CreateProperties) -> Guid {
        let mut random = [0; 4];
        // A name that another program's disk has is unlikely without randomness, too: the time is in it.
        let _ = getrandom::fill(&mut random);
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let counter = self.guids.counter.fetch_add(1, Ordering::Relaxed);
        properties.guid(GuidHost::HostId(u32::from_ne_bytes(random)), seconds as u32, counter)
    }
}
