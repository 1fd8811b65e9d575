//! Text blocks: parsing, writing, joining and cutting by the C bit.

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::pdu::DataSegment;

/// Longest key, in bytes (RFC 7143 6.1).
pub const MAX_KEY_LEN: usize = 63;

/// The text of one negotiation step we take at most, in bytes: what RFC 7143 6.1 has everybody take.
pub const MAX_TEXT_LEN: usize = 64 * 1024;

/// Why a text is refused. The peer's fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TextError {
    /// The last pair has no zero byte behind it.
    #[error("text ends inside a pair")]
    Unterminated,
    /// A pair without `=`.
    #[error("a pair without an equals sign at byte {at}")]
    NoEqualsSign {
        /// Where the pair begins.
        at: usize,
    },
    /// A key that is empty, longer than 63 bytes or has characters no key has.
    #[error("not a key at byte {at}")]
    BadKey {
        /// Where the key begins.
        at: usize,
    },
    /// A pair that is not UTF-8.
    #[error("a value at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Where the value begins.
        at: usize,
    },
    /// More text than [`MAX_TEXT_LEN`] or the limit given.
    #[error("a text of more than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
}

/// Splits a text block into its pairs, in order.
///
/// Zero bytes between pairs do no harm. Keys are checked for length and characters, not for meaning.
///
/// # Errors
/// The first fault found; none of the text should then be acted upon.
pub fn parse(block: &[u8]) -> Result<Vec<(&str, &str)>, TextError> {
    let mut pairs = Vec::new();
    let mut at = 0;
    while at < block.len() {
        let rest = &block[at..];
        let end = rest.iter().position(|&byte| byte == 0).ok_or(TextError::Unterminated)?;
        if end > 0 {
            pairs.push(parse_pair(&rest[..end], at)?);
        }
        at += end + 1;
    }
    Ok(pairs)
}

fn parse_pair(pair: &[u8], at: usize) -> Result<(&str, &str), TextError> {
    let equals = pair.iter().position(|&byte| byte == b'=').ok_or(TextError::NoEqualsSign { at })?;
    let (key, value) = (&pair[..equals], &pair[equals + 1..]);
    let is_key_byte =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+' | b'@' | b'_' | b'#' | b'/');
    if key.is_empty() || key.len() > MAX_KEY_LEN || !key.iter().all(is_key_byte) {
        return Err(TextError::BadKey { at });
    }
    let key = str::from_utf8(key).map_err(|_| TextError::BadKey { at })?;
    let value = str::from_utf8(value).map_err(|_| TextError::NotUtf8 { at: at + equals + 1 })?;
    Ok((key, value))
}

/// Writes pairs into a text block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextWriter {
    block: Vec<u8>,
}

impl TextWriter {
    /// An empty block.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a pair. Neither key nor value may hold a zero byte; ours do not.
    pub fn push(&mut self, key: &str, value: &str) {
        self.block.extend_from_slice(key.as_bytes());
        self.block.push(b'=');
        self.block.extend_from_slice(value.as_bytes());
        self.block.push(0);
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// The block written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.block
    }

    /// Takes the block out, leaving an empty one.
    pub fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.block).into()
    }
}

/// Joins the text of several PDUs until one comes without the C bit (RFC 7143 6.1).
#[derive(Clone, Debug)]
pub struct TextAccumulator {
    text: BytesMut,
    limit: usize,
}

impl TextAccumulator {
    /// An accumulator of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { text: BytesMut::new(), limit }
    }

    /// Takes the text of a PDU; gives the whole text when `is_continued`, the C bit, is off.
    ///
    /// # Errors
    /// The text has grown past the limit.
    pub fn push(&mut self, data: &DataSegment, is_continued: bool) -> Result<Option<Bytes>, TextError> {
        if self.text.len() + data.len() > self.limit {
            return Err(TextError::TooLong { limit: self.limit });
        }
        if self.text.is_empty() && !is_continued {
            return Ok(Some(data.to_contiguous()));
        }
        data.slices().iter().for_each(|slice| self.text.extend_from_slice(slice));
        Ok((!is_continued).then(|| std::mem::take(&mut self.text).freeze()))
    }

    /// Whether text was taken that is not yet whole.
    pub fn is_partial(&self) -> bool {
        !self.text.is_empty()
    }
}

impl Default for TextAccumulator {
    fn default() -> Self {
        Self::new(MAX_TEXT_LEN)
    }
}

/// Cuts a text into the data segments of several PDUs, all but the last with the C bit.
#[derive(Clone, Debug, Default)]
pub struct TextSender {
    text: Bytes,
}

impl TextSender {
    /// Appends text to be sent.
    pub fn push(&mut self, text: Bytes) {
        if self.text.is_empty() {
            self.text = text;
        } else if !text.is_empty() {
            self.text = [&self.text[..], &text[..]].concat().into();
        }
    }

    /// The next data segment of at most `most` bytes, and whether more follows (the C bit).
    pub fn next_segment(&mut self, most: usize) -> (Bytes, bool) {
        let segment = self.text.split_to(self.text.len().min(most.max(1)));
        (segment, !self.text.is_empty())
    }

    /// Whether all is sent.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_in_order_and_values_may_hold_equals_signs() {
        let pairs = parse(b"InitiatorName=iqn.x\0\0X-a=b=c\0SessionType=\0").unwrap();
        assert_eq!(pairs, [("InitiatorName", "iqn.x"), ("X-a", "b=c"), ("SessionType", "")]);
    }

    #[test]
    fn malformed_text_is_refused() {
        assert_eq!(parse(b"A=b"), Err(TextError::Unterminated));
        assert_eq!(parse(b"A=b\0Ab\0"), Err(TextError::NoEqualsSign { at: 4 }));
        assert_eq!(parse(b"=b\0"), Err(TextError::BadKey { at: 0 }));
        assert_eq!(parse(b"A b=c\0"), Err(TextError::BadKey { at: 0 }));
        assert_eq!(parse(b"A=\xff\0"), Err(TextError::NotUtf8 { at: 2 }));
        let long = format!("{}=v\0", "K".repeat(64));
        assert_eq!(parse(long.as_bytes()), Err(TextError::BadKey { at: 0 }));
        assert!(parse(&long.as_bytes()[1..]).is_ok());
    }

    #[test]
    fn continued_text_is_joined_and_bounded() {
        let mut text = TextAccumulator::new(8);
        assert_eq!(text.push(&b"Key=v".as_slice().into(), true), Ok(None));
        assert!(text.is_partial());
        assert_eq!(text.push(&b"al\0".as_slice().into(), false), Ok(Some(Bytes::from_static(b"Key=val\0"))));
        assert!(!text.is_partial());
        assert_eq!(text.push(&b"123456789".as_slice().into(), false), Err(TextError::TooLong { limit: 8 }));
    }

    #[test]
    fn a_long_text_is_cut_and_joins_again() {
        let mut writer = TextWriter::new();
        (0..100).for_each(|n| writer.push("TargetName", &format!("iqn.2026-11.org.example:{n}")));
        let whole = writer.take();
        let (mut sender, mut accumulator) = (TextSender::default(), TextAccumulator::default());
        sender.push(whole.clone());
        let joined = loop {
            let (segment, more) = sender.next_segment(512);
            assert!(segment.len() <= 512);
            if let Some(joined) = accumulator.push(&segment.into(), more).unwrap() {
                break joined;
            }
        };
        assert_eq!(joined, whole);
    }
}
