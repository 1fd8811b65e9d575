//! Positioned input and output on a descriptor: what files and block devices have in common.

use bytes::{Bytes, BytesMut};
use rustix::fs::{Advice, FallocateFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};
use smallvec::SmallVec;
use std::io::IoSlice;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use stmf::provider::{Segments, StoreErrorKind, StoreExtent};

use super::ahead::ReadAhead;
use super::{Error, Operation, ReadInto, buffers};

/// How many slices one system call takes (IOV_MAX of Linux).
const MAX_SLICES: usize = 1024;

/// An open file or device with what was learnt about it.
pub(super) struct Descriptor {
    fd: OwnedFd,
    name: String,
    /// A flush failed: what the kernel dropped cannot be written again, so nothing more is promised.
    poisoned: AtomicBool,
    /// The kernel answers RWF_NOWAIT on reads, on writes.
    nowait_read: AtomicBool,
    nowait_write: AtomicBool,
    /// The kernel answers RWF_DSYNC.
    dsync: AtomicBool,
    ahead: ReadAhead,
}

impl Descriptor {
    pub(super) fn new(fd: OwnedFd, name: String) -> Self {
        Self {
            fd,
            name,
            poisoned: AtomicBool::new(false),
            nowait_read: AtomicBool::new(true),
            nowait_write: AtomicBool::new(true),
            dsync: AtomicBool::new(true),
            ahead: ReadAhead::default(),
        }
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn error(&self, operation: Operation, errno: Errno, offset: u64, length: u64) -> Error {
        Error::io(operation, errno).at(offset, length).of(&self.name)
    }

    /// Refuses once a flush has failed.
    pub(super) fn check_poisoned(&self, operation: Operation) -> Result<(), Error> {
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(Error::new(StoreErrorKind::Poisoned, operation)
                .of(&self.name)
                .remedy("check the medium, then bring the logical unit offline and online again"));
        }
        Ok(())
    }

    /// `length` bytes from `offset` on in a new buffer; what lies past the end of the file is zeros. May wait: then the system is
    /// told what comes next of a sequential reader.
    pub(super) fn read(&self, offset: u64, length: usize) -> Result<Bytes, Error> {
        let mut buffer = buffers::take(length);
        while buffer.len() < length {
            let done = buffer.len();
            let room = &mut buffer.spare_capacity_mut()[..length - done];
            match rustix::io::pread(&self.fd, room, offset + done as u64) {
                Ok(([], _)) => buffer.resize(length, 0),
                Ok((read, _)) => {
                    let read = read.len();
                    // SAFETY: the system initialised so many bytes from the start of the spare capacity.
                    #[allow(unsafe_code)]
                    unsafe {
                        buffer.set_len(done + read);
                    }
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error(Operation::Read, errno, offset, length as u64)),
            }
        }
        if let Some((offset, length)) = self.ahead.note(offset, length as u64) {
            self.prefetch(offset, length);
        }
        Ok(buffers::lend(buffer))
    }

    pub(super) fn read_into(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < into.len() {
            match rustix::io::pread(&self.fd, &mut into[done..], offset + done as u64) {
                Ok(0) => {
                    into[done..].fill(0);
                    break;
                }
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error(Operation::Read, errno, offset, into.len() as u64)),
            }
        }
        Ok(())
    }

    /// Reads if all of it is in the page cache. `end` is where the file ends, as far as that is known cheaply.
    pub(super) fn try_read(&self, offset: u64, length: usize) -> Option<Bytes> {
        if !self.nowait_read.load(Ordering::Relaxed) {
            return None;
        }
        let mut buffer = buffers::take(length);
        match preadv2_nowait(&self.fd, &mut buffer, length, offset) {
            Ok(()) if buffer.len() == length => Some(buffers::lend(buffer)),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.nowait_read.store(false, Ordering::Relaxed);
                None
            }
            // In part, or not at all: the ordinary way reads it and tells errors from the end of the file.
            _ => None,
        }
    }

    pub(super) fn write(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        self.check_poisoned(Operation::Write)?;
        self.write_all(offset, data, ReadWriteFlags::empty())
    }

    /// Writes and waits until it is durable.
    pub(super) fn write_durable(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        self.check_poisoned(Operation::Write)?;
        if self.dsync.load(Ordering::Relaxed) {
            match self.write_all(offset, data, ReadWriteFlags::DSYNC) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind == StoreErrorKind::Unsupported => self.dsync.store(false, Ordering::Relaxed),
                // Either the write failed, or its flush. Only in the latter case a plain write goes well, and then
                // the kernel may have dropped what others had written before.
                Err(error) => {
                    if self.write_all(offset, data, ReadWriteFlags::empty()).is_ok() {
                        self.poisoned.store(true, Ordering::Relaxed);
                    }
                    return Err(error);
                }
            }
        }
        self.write_all(offset, data, ReadWriteFlags::empty())?;
        self.flush()
    }

    /// Writes if that takes no waiting; `None` if it would, perhaps after a part.
    pub(super) fn try_write(&self, offset: u64, data: &[IoSlice<'_>]) -> Option<Result<(), Error>> {
        if !self.nowait_write.load(Ordering::Relaxed) || data.len() > MAX_SLICES {
            return None;
        }
        if let Err(error) = self.check_poisoned(Operation::Write) {
            return Some(Err(error));
        }
        let length: usize = data.iter().map(|slice| slice.len()).sum();
        match rustix::io::pwritev2(&self.fd, data, offset, ReadWriteFlags::NOWAIT) {
            Ok(written) if written == length => Some(Ok(())),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.nowait_write.store(false, Ordering::Relaxed);
                None
            }
            _ => None,
        }
    }

    fn write_all(&self, offset: u64, data: &[IoSlice<'_>], flags: ReadWriteFlags) -> Result<(), Error> {
        let length: u64 = data.iter().map(|slice| slice.len() as u64).sum();
        let (mut at, mut rest) = (offset, data);
        // After a short write the slice it stopped in is cut; only then a list of our own is needed.
        let mut cut: SmallVec<[IoSlice<'_>; 16]>;
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(MAX_SLICES)];
            let result = if flags.is_empty() {
                rustix::io::pwritev(&self.fd, batch, at)
            } else {
                rustix::io::pwritev2(&self.fd, batch, at, flags)
            };
            let mut written = match result {
                Ok(0) if batch.iter().any(|slice| !slice.is_empty()) => Err(Errno::IO),
                Err(Errno::INTR) => continue,
                other => other,
            }
            .map_err(|errno| self.error(Operation::Write, errno, offset, length))?;
            at += written as u64;
            let whole = rest.iter().take_while(|slice| {
                let fits = slice.len() <= written;
                if fits {
                    written -= slice.len();
                }
                fits
            });
            let whole = whole.count();
            rest = &rest[whole..];
            if written > 0 {
                // A short write inside of a slice: rare, so the recursion on the remainder costs nothing.
                cut = rest.iter().copied().collect();
                cut[0].advance(written);
                return self.write_all(at, &cut, flags).map_err(|error| error.at(offset, length));
            }
        }
        Ok(())
    }

    pub(super) fn flush(&self) -> Result<(), Error> {
        self.check_poisoned(Operation::Flush)?;
        loop {
            match rustix::fs::fdatasync(&self.fd) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    // The kernel may have marked the pages clean all the same: a second flush would lie.
                    self.poisoned.store(true, Ordering::Relaxed);
                    return Err(Error::io(Operation::Flush, errno).of(&self.name));
                }
            }
        }
    }

    pub(super) fn allocate(
        &self,
        operation: Operation,
        mode: FallocateFlags,
        offset: u64,
        length: u64,
    ) -> Result<(), Error> {
        self.check_poisoned(operation)?;
        loop {
            match rustix::fs::fallocate(&self.fd, mode, offset, length) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error(operation, errno, offset, length)),
            }
        }
    }

    pub(super) fn punch(&self, offset: u64, length: u64) -> Result<(), Error> {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        self.allocate(Operation::Deallocate, mode, offset, length)
    }

    pub(super) fn extents(&self, offset: u64, length: u64, limit: usize) -> Result<Vec<StoreExtent>, Error> {
        let end = offset + length;
        let mut extents = Vec::new();
        let mut at = offset;
        while at < end && extents.len() < limit.max(1) {
            let seek = |to| match rustix::fs::seek(&self.fd, to) {
                Ok(found) => Ok(found.min(end)),
                // Nothing of the kind up to the end of the file.
                Err(Errno::NXIO) => Ok(end),
                Err(errno) => Err(self.error(Operation::Extents, errno, offset, length)),
            };
            let data = seek(SeekFrom::Data(at))?;
            let (mapped, next) = if data > at { (false, data) } else { (true, seek(SeekFrom::Hole(at))?) };
            // A file that changes meanwhile must not make us turn forever.
            let next = next.max(at + 1);
            extents.push(StoreExtent { offset: at, length: next - at, mapped });
            at = next;
        }
        Ok(extents)
    }

    pub(super) fn prefetch(&self, offset: u64, length: u64) {
        // Advice: a failure loses nothing.
        let _ = rustix::fs::fadvise(&self.fd, offset, NonZeroU64::new(length), Advice::WillNeed);
    }
}

impl ReadInto for Descriptor {
    fn read_into(&self, offset: u64, into: &[&[AtomicU8]]) -> Result<(), Error> {
        let mut pieces = Pieces::of(into);
        let length = pieces.left;
        while pieces.left > 0 {
            let done = length - pieces.left;
            match pieces.read(&self.fd, offset + done as u64, 0) {
                Ok(0) => {
                    // Past the end of the file.
                    let rest = into.iter().copied().flatten().skip(done);
                    rest.for_each(|byte| byte.store(0, Ordering::Relaxed));
                    break;
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error(Operation::Read, errno, offset, length as u64)),
            }
        }
        if let Some((offset, length)) = self.ahead.note(offset, length as u64) {
            self.prefetch(offset, length);
        }
        Ok(())
    }

    fn try_read_into(&self, offset: u64, into: &[&[AtomicU8]]) -> Option<Result<(), Error>> {
        if !self.nowait_read.load(Ordering::Relaxed) || into.len() > MAX_SLICES {
            return None;
        }
        let mut pieces = Pieces::of(into);
        match pieces.read(&self.fd, offset, libc::RWF_NOWAIT) {
            Ok(_) if pieces.left == 0 => Some(Ok(())),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.nowait_read.store(false, Ordering::Relaxed);
                None
            }
            _ => None,
        }
    }
}

/// What is left to fill of a list of pieces of memory.
struct Pieces<'a> {
    vectors: SmallVec<[libc::iovec; 16]>,
    /// The first that is not full.
    first: usize,
    /// Bytes in all.
    left: usize,
    _memory: PhantomData<&'a [AtomicU8]>,
}

impl<'a> Pieces<'a> {
    fn of(into: &[&'a [AtomicU8]]) -> Self {
        let vector =
            |piece: &&[AtomicU8]| libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
        let vectors = into.iter().filter(|piece| !piece.is_empty()).map(vector).collect();
        Self { vectors, first: 0, left: into.iter().map(|piece| piece.len()).sum(), _memory: PhantomData }
    }

    /// Fills what the system gives at a time; how much that was.
    #[allow(unsafe_code)]
    fn read(&mut self, fd: &impl AsFd, offset: u64, flags: i32) -> Result<usize, Errno> {
        let batch = &self.vectors[self.first..(self.first + MAX_SLICES).min(self.vectors.len())];
        let offset = libc::off_t::try_from(offset).map_err(|_| Errno::INVAL)?;
        // SAFETY: the vectors are what is left of pieces that live as long as `self`. Their bytes are atomic: they may be
        // written through a shared reference, whoever else has one.
        let read = unsafe { libc::preadv2(fd.as_fd().as_raw_fd(), batch.as_ptr(), batch.len() as i32, offset, flags) };
        let read = usize::try_from(read)
            .map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))?;
        self.left -= read;
        let mut full = read;
        while let Some(vector) = self.vectors.get_mut(self.first).filter(|_| full > 0) {
            let part = full.min(vector.iov_len);
            vector.iov_base = vector.iov_base.wrapping_byte_add(part);
            vector.iov_len -= part;
            full -= part;
            self.first += usize::from(vector.iov_len == 0);
        }
        Ok(read)
    }
}

/// As `preadv2` with `RWF_NOWAIT`, appending at most `length` bytes to the spare capacity of `buffer`.
#[allow(unsafe_code)]
fn preadv2_nowait(fd: &impl AsFd, buffer: &mut BytesMut, length: usize, offset: u64) -> Result<(), Errno> {
    let spare = buffer.spare_capacity_mut();
    let vector = libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: length.min(spare.len()) };
    let offset = libc::off_t::try_from(offset).map_err(|_| Errno::INVAL)?;
    // SAFETY: the vector describes memory that belongs to `buffer`, is writable and stays so during the call.
    let read = unsafe { libc::preadv2(fd.as_fd().as_raw_fd(), &vector, 1, offset, libc::RWF_NOWAIT) };
    match usize::try_from(read) {
        Ok(read) => {
            // SAFETY: the kernel has initialised `read` bytes from the start of the spare capacity.
            unsafe { buffer.set_len(buffer.len() + read) };
            Ok(())
        }
        Err(_) => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// The bytes of a list of segments as slices for a vectored write.
pub(super) fn slices(data: &Segments) -> SmallVec<[IoSlice<'_>; 16]> {
    data.iter().map(|bytes| IoSlice::new(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failed_flush_nothing_more_is_promised() {
        // A pipe takes writes but cannot be synchronized.
        let (_reader, writer) = std::io::pipe().unwrap();
        let descriptor = Descriptor::new(writer.into(), "pipe".into());
        assert_eq!(descriptor.flush().unwrap_err().operation, Operation::Flush);
        let kind = |result: Result<(), Error>| result.unwrap_err().kind;
        assert_eq!(kind(descriptor.flush()), StoreErrorKind::Poisoned);
        assert_eq!(kind(descriptor.write(0, &[IoSlice::new(b"x")])), StoreErrorKind::Poisoned);
        assert_eq!(kind(descriptor.write_durable(0, &[IoSlice::new(b"x")])), StoreErrorKind::Poisoned);
        assert_eq!(kind(descriptor.punch(0, 4096)), StoreErrorKind::Poisoned);
        assert!(descriptor.flush().unwrap_err().to_string().contains("offline and online again"));
    }
}
