//! A store behind a pointer is a store.

use super::{BackingStore, Capabilities, Error, ReadInto};
use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use stmf::provider::{Segments, StoreExtent, StoreUsage};

macro_rules! forward {
    ($($pointer:ident),*) => { $(
        impl<S: BackingStore + ?Sized> BackingStore for $pointer<S> {
            fn capacity(&self) -> u64 {
                (**self).capacity()
            }

            fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
                (**self).read_at(offset, into)
            }

            fn write_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
                (**self).write_at(offset, data)
            }

            fn flush(&self) -> Result<(), Error> {
                (**self).flush()
            }

            fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
                (**self).deallocate(offset, length)
            }

            fn capabilities(&self) -> Capabilities {
                (**self).capabilities()
            }

            fn name(&self) -> String {
                (**self).name()
            }

            fn write_durable_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
                (**self).write_durable_at(offset, data)
            }

            fn write_atomic_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
                (**self).write_atomic_at(offset, data)
            }

            fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), Error> {
                (**self).write_zeroes(offset, length)
            }

            fn read_bytes(&self, offset: u64, length: usize) -> Result<Segments, Error> {
                (**self).read_bytes(offset, length)
            }

            fn write_bytes(&self, offset: u64, data: &Segments, durable: bool) -> Result<(), Error> {
                (**self).write_bytes(offset, data, durable)
            }

            fn try_read_bytes(&self, offset: u64, length: usize) -> Option<Result<Segments, Error>> {
                (**self).try_read_bytes(offset, length)
            }

            fn try_write_bytes(&self, offset: u64, data: &Segments) -> Option<Result<(), Error>> {
                (**self).try_write_bytes(offset, data)
            }

            fn as_read_into(&self) -> Option<&dyn ReadInto> {
                (**self).as_read_into()
            }

            fn extents(&self, offset: u64, length: u64, limit: usize) -> Result<Vec<StoreExtent>, Error> {
                (**self).extents(offset, length, limit)
            }

            fn usage(&self) -> Result<StoreUsage, Error> {
                (**self).usage()
            }

            fn prefetch(&self, offset: u64, length: u64) {
                (**self).prefetch(offset, length);
            }

            fn set_len(&self, capacity: u64) -> Result<(), Error> {
                (**self).set_len(capacity)
            }

            fn copy_from(
                &self,
                source: &dyn BackingStore,
                source_offset: u64,
                offset: u64,
                length: u64,
            ) -> Result<(), Error> {
                (**self).copy_from(source, source_offset, offset, length)
            }

            fn as_fd(&self) -> Option<BorrowedFd<'_>> {
                (**self).as_fd()
            }
        }
    )* };
}

forward!(Arc, Box);
