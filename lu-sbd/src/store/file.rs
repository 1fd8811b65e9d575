//! A store in a file.

use rustix::fs::{FallocateFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fmt;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use stmf::provider::{Segments, StoreErrorKind, StoreExtent, StoreUsage};

use super::atomic::{Journal, MAX_ATOMIC_BYTES};
use super::fd::{Descriptor, slices};
use super::{BackingStore, Capabilities, Error, Operation, ReadInto, Unmap, write_repeated};

/// Extents of a source that are asked for at once.
const COPY_EXTENTS: usize = 64;

/// How to open or create a [`FileStore`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FileOptions {
    /// Open for reading only.
    pub read_only: bool,
    /// Make the file if it is not there. Needs a size.
    pub create: bool,
    /// Capacity in bytes; the file's own length if absent. It may be larger than the file: what lies past the file's
    /// end reads as zeros, and a write there extends the file.
    pub size: Option<u64>,
}

impl FileOptions {
    /// Open an existing file for reading and writing, at its own length.
    pub fn new() -> Self {
        Self::default()
    }

    /// Open for reading only.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Make the file if it is not there.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Capacity in bytes.
    #[must_use]
    pub fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// Opens the store.
    ///
    /// # Errors
    /// [`StoreErrorKind::Gone`] if there is no such file and it was not to be made; [`StoreErrorKind::Unsupported`] if
    /// it is no regular file; `Io` with `WouldBlock` as source if another server has it open.
    pub fn open(self, path: impl AsRef<Path>) -> Result<FileStore, Error> {
        FileStore::open(path.as_ref(), self)
    }
}

/// A disk in a regular file: sparse, grown by writes, punched by deallocation.
///
/// The file is locked as long as the store is open, exclusively for writing, shared for reading only, so that no two
/// servers write one disk. Data passes through the page cache.
pub struct FileStore {
    descriptor: Descriptor,
    path: PathBuf,
    capacity: AtomicU64,
    capabilities: Capabilities,
    zero_range: AtomicBool,
    journal: Journal,
}

impl FileStore {
    fn open(path: &Path, options: FileOptions) -> Result<Self, Error> {
        let name = path.display().to_string();
        let access = if options.read_only { OFlags::RDONLY } else { OFlags::RDWR };
        let operation = if options.create { Operation::Create } else { Operation::Open };
        let flags = access
            | OFlags::CLOEXEC
            // Neither a terminal nor a pipe shall hold us up before we see what it is.
            | OFlags::NOCTTY
            | OFlags::NONBLOCK
            | if options.create { OFlags::CREATE } else { OFlags::empty() };
        let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map_err(|errno| {
            let error = Error::io(operation, errno).of(&name);
            match errno {
                Errno::NOENT if options.create => error.remedy("make its directory first"),
                Errno::NOENT => error.remedy("give a size to create the file"),
                Errno::ACCESS | Errno::PERM => error.remedy("check owner and mode of the file and its directory"),
                _ => error,
            }
        })?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| Error::io(Operation::Open, errno).of(&name))?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            let error = Error::new(StoreErrorKind::Unsupported, Operation::Open).of(&name);
            return Err(error.remedy("it is not a regular file; use a block device store for a device"));
        }
        let lock = if options.read_only {
            FlockOperation::NonBlockingLockShared
        } else {
            FlockOperation::NonBlockingLockExclusive
        };
        rustix::fs::flock(&fd, lock).map_err(|errno| {
            let error = Error::io(Operation::Lock, errno).of(&name);
            if errno == Errno::WOULDBLOCK {
                error.remedy("it is in use by another logical unit or another server")
            } else {
                error
            }
        })?;
        let length = stat.st_size as u64;
        let descriptor = Descriptor::new(fd, name);
        let journal = Journal::beside(path);
        journal.recover(&descriptor, options.read_only)?;
        let punch = !options.read_only && probe_punch(&descriptor, length);
        let physical = u32::try_from(stat.st_blksize).ok().filter(|size| size.is_power_of_two());
        let granularity = physical.unwrap_or(4096).clamp(512, 1 << 20);
        let capabilities = Capabilities {
            read_only: options.read_only,
            unmap: punch.then_some(Unmap { granularity_bytes: granularity, reads_zero: true }),
            extents: true,
            resizable: !options.read_only,
            write_zeroes: punch,
            physical_block_bytes: granularity.min(4096),
            usage: true,
            atomic_write_bytes: if options.read_only { 0 } else { MAX_ATOMIC_BYTES },
            ..Capabilities::default()
        };
        Ok(Self {
            descriptor,
            path: path.to_owned(),
            capacity: AtomicU64::new(options.size.unwrap_or(length)),
            capabilities,
            zero_range: AtomicBool::new(true),
            journal,
        })
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's own length in bytes, which may be shorter than the capacity.
    ///
    /// # Errors
    /// Of `fstat`.
    pub fn file_length(&self) -> Result<u64, Error> {
        match rustix::fs::fstat(self.descriptor.fd()) {
            Ok(stat) => Ok(stat.st_size as u64),
            Err(errno) => Err(Error::io(Operation::Access, errno).of(self.descriptor.name())),
        }
    }
}

impl FileStore {
    /// Copies bytes that the source has, inside the kernel where it can: a file system with reflinks shares the
    /// extents then.
    fn copy_data(&self, source: &dyn BackingStore, source_offset: u64, offset: u64, length: u64) -> Result<(), Error> {
        let Some(from) = source.as_fd() else { return copy_by_hand(self, source, source_offset, offset, length) };
        self.descriptor.check_poisoned(Operation::Copy)?;
        let (mut from_at, mut at, end) = (source_offset, offset, offset + length);
        while at < end {
            let piece = (end - at).min(1 << 30) as usize;
            match rustix::fs::copy_file_range(from, Some(&mut from_at), self.descriptor.fd(), Some(&mut at), piece) {
                Ok(0) => {
                    // The source file ends here: the rest of it reads as zeros.
                    return self.write_zeroes(at, end - at);
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::BADF) => {
                    return copy_by_hand(self, source, from_at, at, end - at);
                }
                Err(errno) => return Err(self.descriptor.error(Operation::Copy, errno, offset, length)),
            }
        }
        Ok(())
    }
}

/// Whether holes can be punched: asked past the end of the file, where there is nothing to lose.
fn probe_punch(descriptor: &Descriptor, length: u64) -> bool {
    descriptor.punch(length.next_multiple_of(1 << 20), 4096).is_ok()
}

impl BackingStore for FileStore {
    fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        self.descriptor.read_into(offset, into)
    }

    fn write_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        self.descriptor.write(offset, data)
    }

    fn flush(&self) -> Result<(), Error> {
        self.descriptor.flush()
    }

    fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
        if length == 0 {
            return Ok(());
        }
        self.descriptor.punch(offset, length)
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn name(&self) -> String {
        self.descriptor.name().to_owned()
    }

    fn write_durable_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        self.descriptor.write_durable(offset, data)
    }

    fn write_atomic_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        self.journal.write(&self.descriptor, offset, data)
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), Error> {
        if length == 0 {
            return Ok(());
        }
        if self.zero_range.load(Ordering::Relaxed) {
            match self.descriptor.allocate(Operation::WriteZeroes, FallocateFlags::ZERO_RANGE, offset, length) {
                Err(error) if error.kind == StoreErrorKind::Unsupported => {
                    self.zero_range.store(false, Ordering::Relaxed);
                }
                other => return other,
            }
        }
        write_repeated(self, offset, length, &super::ZEROS)
    }

    fn read_bytes(&self, offset: u64, length: usize) -> Result<Segments, Error> {
        Ok(Segments::from_iter([self.descriptor.read(offset, length)?]))
    }

    fn try_read_bytes(&self, offset: u64, length: usize) -> Option<Result<Segments, Error>> {
        Some(Ok(Segments::from_iter([self.descriptor.try_read(offset, length)?])))
    }

    fn try_write_bytes(&self, offset: u64, data: &Segments) -> Option<Result<(), Error>> {
        self.descriptor.try_write(offset, &slices(data))
    }

    fn as_read_into(&self) -> Option<&dyn ReadInto> {
        Some(&self.descriptor)
    }

    fn extents(&self, offset: u64, length: u64, limit: usize) -> Result<Vec<StoreExtent>, Error> {
        self.descriptor.extents(offset, length, limit)
    }

    fn usage(&self) -> Result<StoreUsage, Error> {
        let failed = |errno| Error::io(Operation::Access, errno).of(self.descriptor.name());
        let stat = rustix::fs::fstat(self.descriptor.fd()).map_err(failed)?;
        let system = rustix::fs::fstatvfs(self.descriptor.fd()).map_err(failed)?;
        let available = system.f_bavail.saturating_mul(system.f_frsize);
        Ok(StoreUsage { used: (stat.st_blocks as u64).saturating_mul(512), available: Some(available) })
    }

    fn prefetch(&self, offset: u64, length: u64) {
        self.descriptor.prefetch(offset, length);
    }

    fn set_len(&self, capacity: u64) -> Result<(), Error> {
        let old = self.capacity();
        if capacity < old && self.file_length()? > capacity {
            rustix::fs::ftruncate(self.descriptor.fd(), capacity)
                .map_err(|errno| self.descriptor.error(Operation::Resize, errno, 0, capacity))?;
        }
        // Growing needs nothing: what lies past the end of the file reads as zeros.
        self.capacity.store(capacity, Ordering::Relaxed);
        Ok(())
    }

    fn copy_from(&self, source: &dyn BackingStore, source_offset: u64, offset: u64, length: u64) -> Result<(), Error> {
        if source.as_fd().is_none() || !source.capabilities().extents {
            return self.copy_data(source, source_offset, offset, length);
        }
        // Holes stay holes: the system's copy would fill them on file systems that cannot share extents.
        let mut done = 0;
        while done < length {
            for extent in source.extents(source_offset + done, length - done, COPY_EXTENTS)? {
                let (from, to) = (extent.offset, offset + (extent.offset - source_offset));
                if extent.mapped {
                    self.copy_data(source, from, to, extent.length)?;
                } else if self.capabilities.unmap.is_some() {
                    self.deallocate(to, extent.length)?;
                } else {
                    self.write_zeroes(to, extent.length)?;
                }
                done += extent.length;
            }
        }
        Ok(())
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.descriptor.fd().as_fd())
    }
}

fn copy_by_hand(
    store: &dyn BackingStore,
    source: &dyn BackingStore,
    mut source_offset: u64,
    mut offset: u64,
    mut length: u64,
) -> Result<(), Error> {
    while length > 0 {
        let piece = length.min(1 << 20);
        let data = source.read_bytes(source_offset, piece as usize)?;
        store.write_bytes(offset, &data, false)?;
        source_offset += piece;
        offset += piece;
        length -= piece;
    }
    Ok(())
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileStore({}, {} bytes)", self.path.display(), self.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::atomic::AtomicU8;

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vol1");
        (directory, path)
    }

    fn create(path: &Path, size: u64) -> FileStore {
        FileOptions::new().create(true).size(size).open(path).unwrap()
    }

    #[test]
    fn a_file_shorter_than_its_capacity_reads_as_zeros_and_grows_by_writes() {
        let (_directory, path) = scratch();
        let store = create(&path, 1 << 30);
        assert_eq!(store.file_length().unwrap(), 0);
        assert_eq!(store.read_bytes((1 << 30) - 4096, 4096).unwrap().concat(), [0; 4096]);
        store.write_at(8192, &[IoSlice::new(&[1; 100]), IoSlice::new(&[2; 412])]).unwrap();
        assert_eq!(store.file_length().unwrap(), 8704);
        let mut read = [9; 1024];
        store.read_at(8192, &mut read).unwrap();
        assert_eq!(read, [[1; 100].as_slice(), &[2; 412], &[0; 512]].concat()[..]);
    }

    #[test]
    fn memory_of_others_is_filled_piece_after_piece_and_with_zeros_past_the_end() {
        let (_directory, path) = scratch();
        let store = create(&path, 1 << 20);
        let data: Vec<u8> = (0..10_000).map(|at| (at % 251) as u8 + 1).collect();
        store.write_at(0, &[IoSlice::new(&data)]).unwrap();
        // More pieces than one call of the system takes, and none at all between them.
        for lengths in [vec![12_000], vec![1, 4095, 0, 904, 7000], vec![8; 1500], vec![0, 12_000, 0]] {
            let memory: Vec<AtomicU8> = (0..12_000).map(|_| AtomicU8::new(9)).collect();
            let mut rest = &memory[..];
            let pieces: Vec<&[AtomicU8]> = lengths.iter().map(|&length| rest.split_off(..length).unwrap()).collect();
            store.as_read_into().unwrap().read_into(100, &pieces).unwrap();
            let read: Vec<u8> = memory.iter().map(|byte| byte.load(Ordering::Relaxed)).collect();
            assert_eq!((&read[..9900], &read[9900..]), (&data[100..], &[0; 2100][..]), "{} pieces", lengths.len());
        }
    }

    #[test]
    fn without_waiting_memory_of_others_is_filled_as_a_whole_or_the_read_follows_again() {
        let (_directory, path) = scratch();
        let store = create(&path, 1 << 20);
        store.write_at(0, &[IoSlice::new(&[7; 8192])]).unwrap();
        let read = |offset, pieces: usize| {
            let memory: Vec<AtomicU8> = (0..4096).map(|_| AtomicU8::new(9)).collect();
            let pieces: Vec<&[AtomicU8]> = memory.chunks(4096 / pieces).collect();
            let done = store.as_read_into().unwrap().try_read_into(offset, &pieces);
            done.map(|done| done.map(|()| memory.iter().all(|byte| byte.load(Ordering::Relaxed) == 7)).unwrap())
        };
        match read(4096, 4) {
            Some(is_right) => assert!(is_right),
            None => eprintln!("skipped: the temporary directory's file system does not read without waiting"),
        }
        assert_eq!(read(6144, 1), None, "half of it lies past the end of the file");
        assert_eq!(read(4096, 2048), None, "more pieces than one call of the system takes");
    }

    #[test]
    fn punched_ranges_read_as_zeros_and_show_as_holes() {
        let (_directory, path) = scratch();
        let store = create(&path, 1 << 20);
        store.write_at(0, &[IoSlice::new(&vec![7; 1 << 20])]).unwrap();
        if store.capabilities().unmap.is_none() {
            eprintln!("skipped: the file system of the temporary directory cannot punch holes");
            return;
        }
        store.flush().unwrap();
        store.deallocate(65536, 131072).unwrap();
        assert_eq!(store.read_bytes(65536, 131072).unwrap().concat(), vec![0; 131072]);
        assert_eq!(store.read_bytes(65536 - 512, 512).unwrap().concat(), [7; 512]);
        let extents = store.extents(0, 1 << 20, 16).unwrap();
        let found: Vec<_> = extents.iter().map(|e| (e.offset, e.length, e.mapped)).collect();
        assert_eq!(found, [(0, 65536, true), (65536, 131072, false), (196608, (1 << 20) - 196608, true)]);
        assert_eq!(store.extents(0, 1 << 20, 2).unwrap().len(), 2);
    }

    #[test]
    fn zeroing_past_the_end_of_the_file_extends_it() {
        let (_directory, path) = scratch();
        let store = create(&path, 1 << 20);
        store.write_at(0, &[IoSlice::new(&[5; 8192])]).unwrap();
        store.write_zeroes(4096, 65536).unwrap();
        let read = store.read_bytes(0, 131072).unwrap().concat();
        assert_eq!(read[..4096], [5; 4096]);
        assert!(read[4096..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_second_store_on_the_same_file_is_refused_by_name_and_reason() {
        let (_directory, path) = scratch();
        let store = create(&path, 1 << 20);
        let error = FileOptions::new().open(&path).unwrap_err();
        assert_eq!(error.operation, Operation::Lock);
        assert!(error.to_string().contains("in use by another"), "{error}");
        assert!(error.to_string().contains("vol1"), "{error}");
        drop(store);
        let one = FileOptions::new().read_only(true).open(&path).unwrap();
        let two = FileOptions::new().read_only(true).open(&path).unwrap();
        assert!(one.capabilities().read_only && two.capabilities().unmap.is_none());
    }

    #[test]
    fn a_missing_file_and_a_directory_are_refused_with_what_to_do() {
        let (directory, path) = scratch();
        let error = FileOptions::new().open(&path).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Gone);
        assert!(error.to_string().contains("give a size to create the file"), "{error}");
        let error = FileOptions::new().read_only(true).open(directory.path()).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }

    #[test]
    fn cached_data_is_read_without_waiting_and_holes_past_the_end_are_not_guessed() {
        let (_directory, path) = scratch();
        let store = create(&path, 1 << 20);
        store.write_at(0, &[IoSlice::new(&[3; 65536])]).unwrap();
        // Some file systems refuse RWF_NOWAIT: then nothing is tried, which is allowed as well.
        if let Some(read) = store.try_read_bytes(4096, 8192) {
            assert_eq!(read.unwrap().concat(), [3; 8192]);
        }
        assert!(store.try_read_bytes(65536 - 512, 1024).is_none());
    }

    #[test]
    fn durable_writes_reach_the_file() {
        let (_directory, path) = scratch();
        let store = create(&path, 1 << 20);
        store.write_durable_at(512, &[IoSlice::new(&[1; 512]), IoSlice::new(&[2; 512])]).unwrap();
        assert_eq!(fs::read(&path).unwrap()[512..], [[1; 512], [2; 512]].concat());
    }

    #[test]
    fn more_slices_than_one_call_takes_are_all_written() {
        let (_directory, path) = scratch();
        let store = create(&path, 1 << 20);
        let blocks: Vec<Vec<u8>> = (0..2500u32).map(|i| vec![i as u8; 17]).collect();
        let slices: Vec<IoSlice<'_>> = blocks.iter().map(|block| IoSlice::new(block)).collect();
        store.write_at(3, &slices).unwrap();
        assert_eq!(fs::read(&path).unwrap()[3..], blocks.concat());
    }

    #[test]
    fn copies_between_files_keep_the_bytes_and_zeros_past_the_source_file() {
        let (directory, path) = scratch();
        let (one, two) = (create(&path, 1 << 20), create(&directory.path().join("vol2"), 1 << 20));
        one.write_at(0, &[IoSlice::new(&[4; 10_000])]).unwrap();
        two.write_at(0, &[IoSlice::new(&[8; 60_000])]).unwrap();
        two.copy_from(&one, 4096, 8192, 16384).unwrap();
        let read = two.read_bytes(0, 60_000).unwrap().concat();
        assert_eq!(read[8192..8192 + 5904], [4; 5904]);
        assert!(read[8192 + 5904..8192 + 16384].iter().all(|&byte| byte == 0));
        assert_eq!((read[8191], read[8192 + 16384]), (8, 8));
    }

    #[test]
    fn a_full_file_system_says_no_space() {
        let Ok(mount) = Tmpfs::mount(256 << 10) else {
            eprintln!("skipped: a small tmpfs can only be mounted by root");
            return;
        };
        let store = create(&mount.path().join("vol1"), 1 << 30);
        let error = store.write_at(0, &[IoSlice::new(&vec![1; 1 << 20])]).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::NoSpace);
        assert_eq!(
            store.write_durable_at(0, &[IoSlice::new(&vec![1; 1 << 20])]).unwrap_err().kind,
            StoreErrorKind::NoSpace
        );
        // Running out of space is no lost flush: what has room is still written.
        store.deallocate(0, 1 << 20).unwrap();
        store.write_durable_at(0, &[IoSlice::new(&[1; 4096])]).unwrap();
    }

    /// A file system of limited size, gone when dropped.
    struct Tmpfs(tempfile::TempDir);

    impl Tmpfs {
        fn mount(size: u64) -> Result<Self, ()> {
            let directory = tempfile::tempdir().map_err(drop)?;
            let options = format!("size={size}");
            let mount = std::process::Command::new("mount")
                .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
                .arg(directory.path())
                .stderr(std::process::Stdio::null())
                .status();
            match mount {
                Ok(status) if status.success() => Ok(Self(directory)),
                _ => Err(()),
            }
        }

        fn path(&self) -> &Path {
            self.0.path()
        }
    }

    impl Drop for Tmpfs {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg("-l").arg(self.path()).status();
        }
    }
}
