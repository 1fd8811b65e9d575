//! Writes that are there as a whole or not at all, also after a loss of power: what was there before is kept beside the
//! data until the new data is safe.
//!
//! ```text
//!   old data to the journal, flush -> new data in place, flush -> journal void, flush
//!        a crash here: nothing has changed | here: the old data is put back when the store is opened
//! ```
//!
//! The journal holds one write. It is made with the first, as `NAME.atomic` beside the file, and belongs to it: whoever
//! moves the file takes it along.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::fd::Descriptor;
use super::{Error, Operation};

/// The longest write that the journal takes.
pub(super) const MAX_ATOMIC_BYTES: u32 = 1 << 20;

const MAGIC: [u8; 8] = *b"LUNATOM1";
const VOID: [u8; 8] = [0; 8];
/// The data begins here; before it stand magic, offset, length and a checksum over those and the data.
const HEADER_BYTES: usize = 4096;

/// The journal of one file.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: Mutex<Option<File>>,
}

impl Journal {
    /// The journal of the file at `data`.
    pub(super) fn beside(data: &Path) -> Self {
        let mut path = data.as_os_str().to_owned();
        path.push(".atomic");
        Self { path: path.into(), file: Mutex::new(None) }
    }

    /// Puts back what an interrupted write was about to change.
    pub(super) fn recover(&self, data: &Descriptor, read_only: bool) -> Result<(), Error> {
        let failed = |error| Error::io(Operation::Open, error).of(self.path.display());
        let file = match OpenOptions::new().read(true).write(!read_only).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let Some((offset, old)) = pending(&file).map_err(failed)? else { return Ok(()) };
        if read_only {
            let error = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
            return Err(failed(error).remedy("a write was interrupted: open the file for writing once"));
        }
        data.write_durable(offset, &[IoSlice::new(&old)])?;
        void(&file).map_err(failed)
    }

    /// Writes, durably; after an error or a crash what was there before is there.
    pub(super) fn write(&self, data: &Descriptor, offset: u64, slices: &[IoSlice<'_>]) -> Result<(), Error> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        let failed = |error| Error::io(Operation::Write, error).at(offset, length as u64).of(self.path.display());
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match &mut *slot {
            Some(file) => file,
            empty => empty.insert(self.open().map_err(failed)?),
        };
        let mut old = vec![0; length];
        data.read_into(offset, &mut old)?;
        file.write_all_at(&old, HEADER_BYTES as u64).map_err(failed)?;
        file.write_all_at(&header(offset, &old), 0).map_err(failed)?;
        file.sync_data().map_err(failed)?;
        if let Err(error) = data.write_durable(offset, slices) {
            // What is there again needs no journal. If it cannot be put back now, it is when the store is opened.
            if data.write_durable(offset, &[IoSlice::new(&old)]).is_ok() {
                void(file).map_err(failed)?;
            }
            return Err(error);
        }
        void(file).map_err(failed)
    }

    fn open(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
        // Nothing of somebody else's that happens to have the name is written over.
        let mut magic = [0; 8];
        if file.metadata()?.len() > 0 && (file.read_exact_at(&mut magic, 0).is_err() || !matches!(magic, MAGIC | VOID))
        {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is no journal of atomic writes"));
        }
        // A journal whose name is lost is none.
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(file)
    }
}

fn header(offset: u64, data: &[u8]) -> [u8; 28] {
    let mut header = [0; 28];
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&offset.to_be_bytes());
    header[16..24].copy_from_slice(&(data.len() as u64).to_be_bytes());
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&header[..24]);
    digest.update(data);
    header[24..].copy_from_slice(&(digest.finalize() as u32).to_be_bytes());
    header
}

/// What a valid journal holds.
fn pending(file: &File) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut head = [0; 28];
    if file.metadata()?.len() < HEADER_BYTES as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut head, 0)?;
    let number = |at: usize| head[at..at + 8].iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    let (offset, length) = (number(8), number(16));
    if head[..8] != MAGIC || length > MAX_ATOMIC_BYTES.into() {
        return Ok(None);
    }
    let mut data = vec![0; length as usize];
    match file.read_exact_at(&mut data, HEADER_BYTES as u64) {
        Ok(()) if header(offset, &data) == head => Ok(Some((offset, data))),
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(None),
    }
}

fn void(file: &File) -> io::Result<()> {
    file.write_all_at(&[0; 28], 0)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{BackingStore, FileOptions};

    #[test]
    fn an_interrupted_write_is_undone_when_the_store_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vol1");
        let open = || FileOptions::new().create(true).size(1 << 20).open(&path);
        let store = open().unwrap();
        store.write_at(0, &[IoSlice::new(&[1; 8192])]).unwrap();
        store.write_atomic_at(4096, &[IoSlice::new(&[2; 1000]), IoSlice::new(&[3; 3096])]).unwrap();
        drop(store);
        // As if the power had failed before the journal was void, and with half of the new data written.
        let journal = directory.path().join("vol1.atomic");
        let file = OpenOptions::new().write(true).open(&journal).unwrap();
        file.write_all_at(&header(4096, &[1; 4096]), 0).unwrap();
        let store = open().unwrap();
        assert_eq!(store.read_bytes(0, 8192).unwrap().concat(), [1; 8192]);
        drop(store);
        // Void now, and a torn one is as good as void.
        std::fs::write(&path, [5; 8192]).unwrap();
        let mut torn = header(0, &[1; 4096]);
        torn[27] ^= 1;
        file.write_all_at(&torn, 0).unwrap();
        assert_eq!(open().unwrap().read_bytes(0, 8192).unwrap().concat(), [5; 8192]);
    }

    #[test]
    fn a_file_that_is_no_journal_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vol1");
        std::fs::write(directory.path().join("vol1.atomic"), b"a poem of somebody's").unwrap();
        let store = FileOptions::new().create(true).size(1 << 20).open(&path).unwrap();
        let error = store.write_atomic_at(0, &[IoSlice::new(&[1; 512])]).unwrap_err();
        assert!(error.to_string().contains("vol1.atomic"), "{error}");
        assert_eq!(store.read_bytes(0, 512).unwrap().concat(), [0; 512]);
        assert_eq!(std::fs::read(directory.path().join("vol1.atomic")).unwrap(), b"a poem of somebody's");
    }

    #[test]
    fn an_atomic_write_is_there_and_leaves_nothing_pending() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vol1");
        let store = FileOptions::new().create(true).size(4 << 20).open(&path).unwrap();
        store.write_atomic_at(512, &[IoSlice::new(&vec![7; MAX_ATOMIC_BYTES as usize])]).unwrap();
        assert_eq!(store.read_bytes(512, 4096).unwrap().concat(), [7; 4096]);
        let journal = File::open(directory.path().join("vol1.atomic")).unwrap();
        assert_eq!(pending(&journal).unwrap(), None);
    }
}
