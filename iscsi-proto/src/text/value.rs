//! The forms of values: numbers, booleans, binary values (RFC 7143 6.1).

use thiserror::Error;

/// Why a value cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Neither `0x...` nor `0b...`.
    #[error("a binary value begins with 0x or 0b")]
    NotBinary,
    /// A character that is no digit of the notation.
    #[error("a character that is not of the notation")]
    Digit,
    /// More bytes than the key takes.
    #[error("more than {0} bytes")]
    TooLong(usize),
}

/// Reads a number: decimal, or hexadecimal after `0x`. `None` for anything else, also for more than 64 bits.
pub fn parse_number(value: &str) -> Option<u64> {
    let (digits, radix) = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (value, 10),
    };
    // A sign is no digit, though Rust takes it for one.
    let digits_only = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits_only { u64::from_str_radix(digits, radix).ok() } else { None }
}

/// Reads `Yes` or `No`; nothing else is a boolean (RFC 7143 6.1).
pub fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

/// Reads a binary value of at most `limit` bytes: hexadecimal after `0x`, Base64 after `0b`.
///
/// An odd number of hexadecimal digits has its first digit alone, as a number would.
///
/// # Errors
/// See [`ValueError`].
pub fn decode_binary(value: &str, limit: usize) -> Result<Vec<u8>, ValueError> {
    let (notation, digits) = value.as_bytes().split_at_checked(2).ok_or(ValueError::NotBinary)?;
    match notation {
        b"0x" | b"0X" => decode_hex(digits, limit),
        b"0b" | b"0B" => decode_base64(digits, limit),
        _ => Err(ValueError::NotBinary),
    }
}

/// Writes a binary value as `0x` and lower-case hexadecimal digits.
pub fn encode_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("0x");
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

fn decode_hex(digits: &[u8], limit: usize) -> Result<Vec<u8>, ValueError> {
    if digits.is_empty() {
        return Err(ValueError::Digit);
    }
    if digits.len().div_ceil(2) > limit {
        return Err(ValueError::TooLong(limit));
    }
    let nibble = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8).ok_or(ValueError::Digit);
    let (first, pairs) = digits.split_at(digits.len() % 2);
    let mut bytes = first.iter().map(nibble).collect::<Result<Vec<u8>, _>>()?;
    for pair in pairs.chunks_exact(2) {
        bytes.push(nibble(&pair[0])? << 4 | nibble(&pair[1])?);
    }
    Ok(bytes)
}

fn decode_base64(digits: &[u8], limit: usize) -> Result<Vec<u8>, ValueError> {
    let padding = digits.iter().rev().take_while(|&&byte| byte == b'=').count();
    let digits = &digits[..digits.len() - padding];
    // Padding is checked loosely: with it or without it the bytes are the same.
    if digits.is_empty() || padding > 2 || digits.len() % 4 == 1 {
        return Err(ValueError::Digit);
    }
    if digits.len() * 3 / 4 > limit {
        return Err(ValueError::TooLong(limit));
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for &byte in group {
            bits = bits << 6 | u32::from(sextet(byte).ok_or(ValueError::Digit)?);
        }
        bits <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Ok(bytes)
}

const fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        assert_eq!(parse_number("8192"), Some(8192));
        assert_eq!(parse_number("0x2000"), Some(8192));
        for wrong in ["", "0x", "+1", "-1", "1 ", "12a", "18446744073709551616"] {
            assert_eq!(parse_number(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn booleans_are_spelled_exactly() {
        assert_eq!((parse_bool("Yes"), parse_bool("No")), (Some(true), Some(false)));
        assert_eq!((parse_bool("yes"), parse_bool("1")), (None, None));
    }

    #[test]
    fn base64_decodes_the_examples_of_rfc_4648() {
        for (text, bytes) in [("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar"), ("Zg", "f")] {
            assert_eq!(decode_binary(&format!("0b{text}"), 100).unwrap(), bytes.as_bytes());
        }
    }

    #[test]
    fn hexadecimal_decodes_what_it_encodes() {
        assert_eq!(decode_binary("0xAbCd", 2).unwrap(), [0xab, 0xcd]);
        assert_eq!(decode_binary("0xabc", 2).unwrap(), [0x0a, 0xbc]);
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(decode_binary(&encode_hex(&bytes), 256).unwrap(), bytes);
    }

    #[test]
    fn wrong_binary_values_are_refused() {
        assert_eq!(decode_binary("abcd", 9), Err(ValueError::NotBinary));
        assert_eq!(decode_binary("0", 9), Err(ValueError::NotBinary));
        assert_eq!(decode_binary("0x", 9), Err(ValueError::Digit));
        assert_eq!(decode_binary("0xgg", 9), Err(ValueError::Digit));
        assert_eq!(decode_binary("0bA", 9), Err(ValueError::Digit));
        assert_eq!(decode_binary("0b====", 9), Err(ValueError::Digit));
        assert_eq!(decode_binary("0x0102", 1), Err(ValueError::TooLong(1)));
        assert_eq!(decode_binary("0bZm9v", 2), Err(ValueError::TooLong(2)));
    }
}
