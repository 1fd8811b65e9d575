//! From PDUs to the slices of a vectored write.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::{BHS_LEN, Bhs, DataSegment, MAX_AHS_LEN, MAX_DATA_SEGMENT, padding};
use crate::digest::{self, DIGEST_LEN, Digests, crc32c, crc32c_slices};

/// A payload up to this length is copied behind its header, in bytes: a slice of its own costs more.
pub const INLINE_PAYLOAD_LEN: usize = 256;

/// Header space is taken from pieces of this size, in bytes. Two of them are used in turn: while the slices of one are on
/// their way, the other is filled.
const ARENA_LEN: usize = 4 * 1024;

/// What an encoder needs to know of a PDU.
pub trait EncodePdu {
    /// The header, with both lengths 0.
    fn bhs(&self) -> Bhs;

    /// Appends the Additional Header Segments, each padded. Only SCSI Commands have any.
    fn put_ahs(&self, out: &mut BytesMut) {
        let _ = out;
    }

    /// The data segment of the kinds that have one.
    fn data(&self) -> Option<&DataSegment> {
        None
    }
}

/// Why a PDU cannot be sent. The caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A data segment of more than 2^24 - 1 bytes.
    #[error("a data segment of {0} bytes, 16777215 is the most")]
    DataTooLong(usize),
    /// Additional Header Segments of more than 1,020 bytes.
    #[error("additional header segments of {0} bytes, 1020 is the most")]
    AhsTooLong(usize),
}

/// Encodes PDUs into slices: headers, padding and digests in memory of its own, payloads as they are.
///
/// Everything small between two payloads is one slice, so a row of SCSI Responses is a single slice however many
/// they are. Call [`Encoder::encode`] for each PDU, then [`Encoder::finish`].
#[derive(Debug, Default)]
pub struct Encoder {
    /// Encoded and not yet handed out.
    tail: BytesMut,
    /// The piece before this one, used again once nobody holds a slice of it.
    before: BytesMut,
    digests: Digests,
    /// The next digest of each kind set here is made wrong.
    spoiled: Digests,
}

impl Encoder {
    /// An encoder without digests.
    pub fn new() -> Self {
        Self::default()
    }

    /// From the next PDU on, adds these digests.
    pub fn set_digests(&mut self, digests: Digests) {
        self.digests = digests;
    }

    /// The digests added.
    pub fn digests(&self) -> Digests {
        self.digests
    }

    /// Makes the next header digest, data digest or both wrong, to see what the peer makes of it. Without digests
    /// nothing comes of it.
    pub fn spoil_next(&mut self, digests: Digests) {
        self.spoiled.header |= digests.header;
        self.spoiled.data |= digests.data;
    }

    /// Encodes one PDU; returns its length on the wire. What it appends to `out` may end before the PDU does; the
    /// rest comes with the next PDU or [`Encoder::finish`].
    ///
    /// # Errors
    /// A PDU whose lengths do not fit its header; nothing of it is then sent.
    pub fn encode(&mut self, pdu: &impl EncodePdu, out: &mut Vec<Bytes>) -> Result<usize, EncodeError> {
        let data: &[Bytes] = pdu.data().map_or(&[], DataSegment::slices);
        let data_len = pdu.data().map_or(0, DataSegment::len);
        if data_len > MAX_DATA_SEGMENT {
            return Err(EncodeError::DataTooLong(data_len));
        }
        self.make_room(out);

        let start = self.tail.len();
        let mut bhs = pdu.bhs();
        bhs.set_lengths(0, data_len);
        self.tail.put_slice(bhs.as_ref());
        pdu.put_ahs(&mut self.tail);
        let ahs_len = self.tail.len() - start - BHS_LEN;
        if ahs_len > MAX_AHS_LEN {
            self.tail.truncate(start);
            return Err(EncodeError::AhsTooLong(ahs_len));
        }
        if ahs_len > 0 {
            bhs.set_lengths(ahs_len, data_len);
            self.tail[start..start + BHS_LEN].copy_from_slice(bhs.as_ref());
        }

        let mut wire_len = BHS_LEN + ahs_len;
        if self.digests.header {
            let crc = crc32c(&self.tail[start..]) ^ spoil(&mut self.spoiled.header);
            self.tail.put_slice(&digest::to_wire(crc));
            wire_len += DIGEST_LEN;
        }
        if data_len > 0 {
            wire_len += self.encode_data(data, data_len, out);
        }
        Ok(wire_len)
    }

    /// Hands out what is encoded and not yet in `out`.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) {
        if !self.tail.is_empty() {
            out.push(self.tail.split().freeze());
        }
    }

    fn encode_data(&mut self, data: &[Bytes], data_len: usize, out: &mut Vec<Bytes>) -> usize {
        if data_len <= INLINE_PAYLOAD_LEN {
            data.iter().for_each(|slice| self.tail.put_slice(slice));
        } else {
            self.finish(out);
            out.extend_from_slice(data);
        }
        let pad = padding(data_len);
        if pad > 0 {
            self.tail.put_bytes(0, pad);
        }
        if !self.digests.data {
            return data_len + pad;
        }
        let crc = crc32c_slices(data, pad) ^ spoil(&mut self.spoiled.data);
        self.tail.put_slice(&digest::to_wire(crc));
        data_len + pad + DIGEST_LEN
    }

    /// Takes a new piece of header space when the old one might not do, rather than have a header moved.
    fn make_room(&mut self, out: &mut Vec<Bytes>) {
        const MOST: usize = BHS_LEN + MAX_AHS_LEN + DIGEST_LEN + INLINE_PAYLOAD_LEN + 3 + DIGEST_LEN;
        if self.tail.capacity() - self.tail.len() < MOST {
            self.finish(out);
            std::mem::swap(&mut self.tail, &mut self.before);
            self.tail.clear();
            if !self.tail.try_reclaim(ARENA_LEN) {
                self.tail = BytesMut::with_capacity(ARENA_LEN);
            }
        }
    }
}

/// What to make a digest wrong with: nothing, unless the wish was there.
fn spoil(wish: &mut bool) -> u32 {
    if std::mem::take(wish) { u32::MAX } else { 0 }
}
