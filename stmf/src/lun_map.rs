//! The LUN map of a nexus: which logical unit answers to which LUN.

use scsi_core::mutation::{Mutation, is_active};
use scsi_core::{Guid, Lun};
use std::fmt;
use std::sync::Arc;

use crate::provider::LogicalUnit;

/// One line of a LUN map.
#[derive(Clone)]
pub struct MappedLu {
    /// The logical unit number, 0 to 16383.
    pub lun: u16,
    /// The unit's name.
    pub guid: Guid,
    /// The unit.
    pub lu: Arc<dyn LogicalUnit>,
}

impl fmt::Debug for MappedLu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {:X}", self.lun, self.guid)
    }
}

/// The logical units that a nexus reaches, ascending by LUN. Sessions with the same view share one map.
#[derive(Clone, Debug, Default)]
pub struct LunMap {
    entries: Vec<MappedLu>,
}

impl LunMap {
    /// A map of these entries. They come ascending by LUN, each LUN and each unit once.
    pub(crate) fn new(entries: Vec<MappedLu>) -> Self {
        debug_assert!(entries.is_sorted_by(|a, b| a.lun < b.lun), "LUNs ascend and are distinct");
        Self { entries }
    }

    /// The entry of a LUN.
    pub fn get(&self, lun: u16) -> Option<&MappedLu> {
        // LUNs mostly count up from 0, so that an entry stands at its own number.
        match self.entries.get(usize::from(lun)) {
            Some(entry) if entry.lun == lun => Some(entry),
            _ => self.entries.binary_search_by_key(&lun, |entry| entry.lun).ok().map(|at| &self.entries[at]),
        }
    }

    /// The entry that an eight-byte LUN field means; both addressing methods reach it.
    pub fn find(&self, lun: Lun) -> Option<&MappedLu> {
        let number = if is_active(Mutation::WrongLun) { 0 } else { lun.number()? };
        self.get(number)
    }

    /// All entries, ascending by LUN.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &MappedLu> {
        self.entries.iter()
    }

    /// How many units are mapped.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether both map the same LUNs to the same units.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.entries.len() == other.entries.len()
            && self
                .entries
                .iter()
                .zip(&other.entries)
                .all(|(a, b)| a.lun == b.lun && a.guid == b.guid && Arc::ptr_eq(&a.lu, &b.lu))
    }

    /// Whether this very unit is mapped at any LUN.
    pub(crate) fn has(&self, unit: &MappedLu) -> bool {
        // The same unit stands at the same LUN nearly always.
        let is = |entry: &MappedLu| Arc::ptr_eq(&entry.lu, &unit.lu);
        self.get(unit.lun).is_some_and(is) || self.entries.iter().any(is)
    }

    /// The parameter data of REPORT LUNS for a SELECT REPORT value; `None` for a value without a meaning here.
    ///
    /// 00h lists the mapped units, 01h the well known ones (REPORT LUNS itself), 02h both. Numbers above 255 are in
    /// the flat space method. An empty inventory is an empty list (SPC-5, REPORT LUNS).
    pub fn report(&self, select_report: u8) -> Option<Vec<u8>> {
        let (mapped, well_known): (&[MappedLu], &[Lun]) = match select_report {
            0x00 => (&self.entries, &[]),
            0x01 => (&[], &[Lun::REPORT_LUNS_WELL_KNOWN]),
            0x02 => (&self.entries, &[Lun::REPORT_LUNS_WELL_KNOWN]),
            _ => return None,
        };
        let mapped = mapped.iter().filter_map(|entry| Lun::new(entry.lun));
        let length = 8 * (mapped.clone().count() + well_known.len());
        let mut data = Vec::with_capacity(8 + length);
        data.extend_from_slice(&(length as u32).to_be_bytes());
        data.extend_from_slice(&[0; 4]);
        for lun in mapped.chain(well_known.iter().copied()) {
            data.extend_from_slice(&lun.0);
        }
        Some(data)
    }
}
