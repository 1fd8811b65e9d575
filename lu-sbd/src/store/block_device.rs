//! A store on a block device.

use rustix::fs::{FallocateFlags, FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fmt;
use std::fs;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use stmf::provider::{Segments, StoreErrorKind};

use super::fd::{Descriptor, slices};
use super::{BackingStore, Capabilities, Error, Operation, ReadInto, Rotation, Unmap, write_repeated};

/// How to open a [`BlockDeviceStore`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BlockDeviceOptions {
    /// Open for reading only.
    pub read_only: bool,
    /// Capacity in bytes, at most the device's; all of it if absent.
    pub size: Option<u64>,
}

impl BlockDeviceOptions {
    /// The whole device, for reading and writing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Open for reading only.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Capacity in bytes.
    #[must_use]
    pub fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// Opens the store. The device is claimed exclusively: a mounted or otherwise used one is refused.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unsupported`] if it is no block device, [`StoreErrorKind::OutOfRange`] if the size is larger
    /// than the device, `Io` with the system's reason otherwise.
    pub fn open(self, path: impl AsRef<Path>) -> Result<BlockDeviceStore, Error> {
        BlockDeviceStore::open(path.as_ref(), self)
    }
}

/// A disk on a block device: a partition, a logical volume, a ZFS volume. Data passes through the page cache.
pub struct BlockDeviceStore {
    descriptor: Descriptor,
    path: PathBuf,
    capacity: AtomicU64,
    capabilities: Capabilities,
    logical_block_bytes: u32,
}

impl BlockDeviceStore {
    fn open(path: &Path, options: BlockDeviceOptions) -> Result<Self, Error> {
        let name = path.display().to_string();
        let failed = |errno| Error::io(Operation::Open, errno).of(&name);
        let access = if options.read_only { OFlags::RDONLY } else { OFlags::RDWR };
        // O_EXCL without O_CREAT claims a block device: it fails while a file system or another server has it.
        let flags = access | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::BUSY => failed(errno).remedy("it is mounted or in use by another server"),
            Errno::ACCESS | Errno::PERM => failed(errno).remedy("check owner and mode of the device"),
            _ => failed(errno),
        })?;
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        if !FileType::from_raw_mode(stat.st_mode).is_block_device() {
            let error = Error::new(StoreErrorKind::Unsupported, Operation::Open).of(&name);
            return Err(error.remedy("it is not a block device; use a file store for a file"));
        }
        let length = rustix::fs::seek(&fd, SeekFrom::End(0)).map_err(failed)?;
        let capacity = options.size.unwrap_or(length);
        if capacity > length {
            let error = Error::new(StoreErrorKind::OutOfRange, Operation::Open).of(&name).at(0, capacity);
            return Err(error.remedy("a device cannot grow; give a size that it has"));
        }
        let logical = rustix::fs::ioctl_blksszget(&fd).map_err(failed)?;
        let physical = rustix::fs::ioctl_blkpbszget(&fd).unwrap_or(logical);
        let queue = Queue::of(stat.st_rdev);
        let granularity = queue.number("discard_granularity").and_then(|g| u32::try_from(g).ok()).unwrap_or(0);
        // PUNCH_HOLE on a device discards only where that is sure to read as zeros, and fails otherwise.
        let punch = !options.read_only && granularity > 0 && queue.number("write_zeroes_max_bytes").unwrap_or(0) > 0;
        let capabilities = Capabilities {
            read_only: options.read_only,
            unmap: punch
                .then_some(Unmap { granularity_bytes: granularity.next_power_of_two().max(logical), reads_zero: true }),
            write_zeroes: punch,
            rotation: match queue.number("rotational") {
                Some(0) => Rotation::NonRotating,
                Some(_) => Rotation::Rotating { rpm: 0 },
                None => Rotation::Unknown,
            },
            physical_block_bytes: physical,
            optimal_transfer_bytes: queue.number("optimal_io_size").and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            ..Capabilities::default()
        };
        Ok(Self {
            descriptor: Descriptor::new(fd, name),
            path: path.to_owned(),
            capacity: AtomicU64::new(capacity),
            capabilities,
            logical_block_bytes: logical,
        })
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The device's logical block size in bytes. A unit with smaller blocks works, at the price of read-modify-write
    /// in the page cache.
    pub fn logical_block_bytes(&self) -> u32 {
        self.logical_block_bytes
    }
}

impl BackingStore for BlockDeviceStore {
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
        // Only whole logical blocks of the device can be discarded; the edges are written.
        let block = u64::from(self.logical_block_bytes);
        let (end, first) = (offset + length, offset.next_multiple_of(block));
        let last = end / block * block;
        if first >= last {
            return write_repeated(self, offset, length, &super::ZEROS);
        }
        write_repeated(self, offset, first - offset, &super::ZEROS)?;
        self.descriptor.punch(first, last - first)?;
        write_repeated(self, last, end - last, &super::ZEROS)
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

    fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), Error> {
        let block = u64::from(self.logical_block_bytes);
        if self.capabilities.write_zeroes && offset.is_multiple_of(block) && length.is_multiple_of(block) && length > 0
        {
            match self.descriptor.allocate(Operation::WriteZeroes, FallocateFlags::ZERO_RANGE, offset, length) {
                Err(error) if error.kind == StoreErrorKind::Unsupported => {}
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

    fn prefetch(&self, offset: u64, length: u64) {
        self.descriptor.prefetch(offset, length);
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.descriptor.fd().as_fd())
    }
}

impl fmt::Debug for BlockDeviceStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockDeviceStore({}, {} bytes)", self.path.display(), self.capacity())
    }
}

/// What the kernel tells about the device's request queue.
struct Queue(Option<PathBuf>);

impl Queue {
    fn of(device: rustix::fs::Dev) -> Self {
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let directory = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
        // A partition has no queue of its own; its disk is the directory above.
        let own = directory.join("queue");
        let disk = directory.join("../queue");
        Self([own, disk].into_iter().find(|queue| queue.is_dir()))
    }

    fn number(&self, attribute: &str) -> Option<u64> {
        fs::read_to_string(self.0.as_ref()?.join(attribute)).ok()?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_file_is_not_a_block_device() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = BlockDeviceOptions::new().open(file.path()).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unsupported);
        assert!(error.to_string().contains("use a file store"), "{error}");
    }

    #[test]
    fn a_loop_device_keeps_and_discards_blocks() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4 << 20).unwrap();
        let Some(device) = Loop::new(file.path()) else {
            eprintln!("skipped: no loop device can be set up here");
            return;
        };
        let store = BlockDeviceOptions::new().open(&device.0).unwrap();
        assert_eq!(store.capacity(), 4 << 20);
        store.write_durable_at(1024, &[IoSlice::new(&[6; 65536])]).unwrap();
        assert_eq!(store.read_bytes(512, 1024).unwrap().concat(), [[0; 512], [6; 512]].concat());
        let busy = BlockDeviceOptions::new().open(&device.0).unwrap_err();
        assert!(busy.to_string().contains("in use by another server"), "{busy}");
        if store.capabilities().unmap.is_some() {
            store.deallocate(4096, 8192 + 512).unwrap();
            assert!(store.read_bytes(4096, 8704).unwrap().concat().iter().all(|&byte| byte == 0));
            assert_eq!(store.read_bytes(4096 + 8704, 512).unwrap().concat(), [6; 512]);
        }
        store.write_zeroes(0, 4 << 20).unwrap();
        assert!(store.read_bytes(0, 65536).unwrap().concat().iter().all(|&byte| byte == 0));
        assert!(BlockDeviceOptions::new().size(8 << 20).open(&device.0).is_err());
    }

    struct Loop(PathBuf);

    impl Loop {
        fn new(file: &Path) -> Option<Self> {
            let output = Command::new("losetup").args(["--find", "--show"]).arg(file).stderr(Stdio::null()).output();
            let output = output.ok().filter(|output| output.status.success())?;
            Some(Self(String::from_utf8(output.stdout).ok()?.trim().into()))
        }
    }

    impl Drop for Loop {
        fn drop(&mut self) {
            let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
        }
    }
}
