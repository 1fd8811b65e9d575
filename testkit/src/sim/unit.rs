//! A logical unit of the simulation: its disk, what is kept beside it, and what is known of both.

use lu_sbd::meta::{Identity, RecordStore};
use lu_sbd::store::Error;
use lu_sbd::{BackingStore, SbdLu};
use std::sync::{Arc, Mutex, PoisonError};

use super::blocks::{BLOCK, Blocks, Tick};
use super::nexus::History;
use super::peer::OpId;
use crate::san::guid;
use crate::store::FaultyStore;

pub(super) struct Unit {
    pub(super) store: FaultyStore,
    pub(super) records: Records,
    pub(super) lu: Arc<SbdLu>,
    pub(super) blocks: Blocks,
    pub(super) reservations: History,
    /// A PERSISTENT RESERVE OUT that is not decided, and its states before and after.
    pub(super) deciding: Option<OpId>,
    /// Functions that are ending tasks of others.
    pub(super) ending: Vec<OpId>,
    /// The store has been made to fail.
    pub(super) troubled: bool,
    /// Last time it was offline.
    pub(super) offline: Option<(Tick, Tick)>,
    /// Since when writes are durable by themselves.
    pub(super) uncached: Option<Tick>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Records(pub(super) Arc<Mutex<Vec<u8>>>);

impl RecordStore for Records {
    fn save(&self, record: &[u8]) -> Result<(), Error> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = record.to_vec();
        Ok(())
    }
}

pub(super) fn unit(identity: Identity, store: &FaultyStore, records: &Records) -> Arc<SbdLu> {
    let mut limits = lu_sbd::Limits::default();
    (limits.read_piece_bytes, limits.write_piece_bytes, limits.max_write_bytes) = (4096, 1024, 4096);
    let again = store.clone();
    let lu = SbdLu::new(identity, Arc::new(store.clone()), Arc::new(records.clone()), limits);
    Arc::new(lu.with_reopen(Box::new(move || Ok(Arc::new(again.clone()) as Arc<dyn BackingStore>))))
}

pub(super) fn identity(index: usize) -> Identity {
    Identity {
        guid: guid(index as u16 + 1),
        vendor: "LUNETTE".into(),
        product: "VIRTUAL DISK".into(),
        revision: "0001".into(),
        serial: None,
        alias: format!("disk{index}"),
        block_size: BLOCK as u32,
        // The least that there is; nobody goes beyond the blocks that are simulated.
        size: 1 << 20,
        write_protect: false,
        write_cache_disabled: false,
        management_urls: vec![],
        data: None,
        removable: false,
        thick: false,
        io_limits: lu_sbd::IoLimits::default(),
        device_information: Vec::new(),
        text_information: String::new(),
        mode_pages: vec![],
        reservations: vec![],
        unfinished: None,
    }
}
