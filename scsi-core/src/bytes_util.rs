//! Big-endian fields of byte slices that may be too short.
//!
//! Parameter data comes from peers and may end anywhere, so every read here answers `None` instead of panicking.

pub(crate) fn be16(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*data.get(at..)?.first_chunk()?))
}

pub(crate) fn be32(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*data.get(at..)?.first_chunk()?))
}

pub(crate) fn be64(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*data.get(at..)?.first_chunk()?))
}

/// Writes `text` into a field of spaces, cut where the field ends; bytes outside printable ASCII become `?`.
pub(crate) fn put_ascii(field: &mut [u8], text: &str) {
    field.fill(b' ');
    for (to, byte) in field.iter_mut().zip(text.bytes()) {
        *to = if (0x20..0x7f).contains(&byte) { byte } else { b'?' };
    }
}

/// The text of a space-padded ASCII field, without the padding.
pub(crate) fn ascii(field: &[u8]) -> String {
    let text: String =
        field.iter().map(|&byte| if (0x20..0x7f).contains(&byte) { char::from(byte) } else { ' ' }).collect();
    text.trim_end().to_owned()
}
