//! Additional Header Segments (RFC 7143 11.2.2).

use bytes::{BufMut, Bytes, BytesMut};

use super::bhs::padding;
use super::error::Malformed;

/// Longest list of Additional Header Segments, in bytes: 255 words.
pub const MAX_AHS_LEN: usize = 255 * 4;

registry! {
    /// What an Additional Header Segment holds (RFC 7143 11.2.2.1). Two bits of the byte are reserved.
    pub struct AhsType(u8) {
        /// The part of a CDB beyond 16 bytes.
        EXTENDED_CDB = 1, "extended CDB";
        /// How many bytes a bidirectional command wants to read.
        BIDIRECTIONAL_READ_LENGTH = 2, "bidirectional read expected data transfer length";
    }
}

/// One Additional Header Segment: its type and the bytes after the type byte, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahs {
    /// What it is.
    pub ahs_type: AhsType,
    /// The AHS-specific bytes, as many as AHSLength says. The first is reserved in both types the standard defines.
    pub bytes: Bytes,
}

impl Ahs {
    /// Bytes on the wire, with padding.
    pub fn wire_len(&self) -> usize {
        let len = 3 + self.bytes.len();
        len + padding(len)
    }

    pub(crate) fn put(&self, out: &mut BytesMut) {
        put(self.ahs_type, &[&self.bytes], out);
    }
}

pub(crate) fn put(ahs_type: AhsType, parts: &[&[u8]], out: &mut BytesMut) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    out.put_u16(len as u16);
    out.put_u8(ahs_type.0);
    parts.iter().for_each(|part| out.put_slice(part));
    out.put_bytes(0, padding(3 + len));
}

/// Splits a list of Additional Header Segments.
///
/// # Errors
/// A segment that is longer than what is left of the list, or a list that ends inside a segment's head.
pub fn parse(mut bytes: Bytes) -> Result<Vec<Ahs>, Malformed> {
    let mut list = Vec::new();
    while !bytes.is_empty() {
        let Some(&[high, low, ahs_type]) = bytes.first_chunk::<3>() else {
            return Err(Malformed::Ahs { left: bytes.len(), wanted: 3 });
        };
        let end = 3 + usize::from(u16::from_be_bytes([high, low]));
        if end > bytes.len() {
            return Err(Malformed::Ahs { left: bytes.len(), wanted: end });
        }
        list.push(Ahs { ahs_type: AhsType(ahs_type & 0x3f), bytes: bytes.slice(3..end) });
        // The list is a multiple of four bytes, but a short last segment without its padding does no harm.
        let _ = bytes.split_to((end + padding(end)).min(bytes.len()));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_longer_than_the_list_is_refused() {
        assert!(parse(Bytes::from_static(&[0, 6, 2, 0, 0, 0, 0, 0])).is_err());
        assert!(parse(Bytes::from_static(&[0, 5])).is_err());
    }

    #[test]
    fn unknown_types_survive() {
        let list = parse(Bytes::from_static(&[0, 2, 0x3e, 7, 8, 0, 0, 0, 0, 1, 5, 9])).unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].ahs_type, &list[0].bytes[..]), (AhsType(0x3e), &[7, 8][..]));
        assert_eq!((list[1].ahs_type, &list[1].bytes[..]), (AhsType(5), &[9][..]));
    }
}
