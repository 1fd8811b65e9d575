//! Bytes on their way to a socket.

use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// Slices of one `writev`.
const SLICES: usize = 64;

/// Bytes of one receive buffer.
const CHUNK_BYTES: usize = 256 << 10;

/// Below this much room a new buffer is begun.
const LEAST_ROOM: usize = 32 << 10;

/// What is to be sent, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    slices: VecDeque<Bytes>,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn clear(&mut self) {
        self.slices.clear();
    }

    pub(crate) fn push(&mut self, slices: &mut Vec<Bytes>) {
        self.slices.extend(slices.drain(..).filter(|slice| !slice.is_empty()));
    }

    /// Writes once, as much as goes.
    pub(crate) fn write(&mut self, write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<()> {
        let slices: Vec<IoSlice<'_>> = self.slices.iter().take(SLICES).map(|slice| IoSlice::new(slice)).collect();
        let mut written = write(&slices)?;
        while let Some(first) = self.slices.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            self.slices.pop_front();
        }
        Ok(())
    }
}

/// Buffers to receive into; what came is handed on as a slice of its buffer.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    buffer: BytesMut,
}

impl Inbox {
    /// Reads once. `Ok(None)`: the peer has closed.
    pub(crate) fn read(
        &mut self,
        wanted: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Option<Bytes>> {
        if self.buffer.len() < LEAST_ROOM {
            // A payload that begins here lies in one piece if it fits.
            self.buffer = BytesMut::zeroed(CHUNK_BYTES.max(wanted.min(4 * CHUNK_BYTES)));
        }
        let count = read(&mut self.buffer)?;
        Ok((count > 0).then(|| self.buffer.split_to(count).freeze()))
    }
}
