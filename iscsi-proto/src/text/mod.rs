//! Text: blocks of `key=value` pairs, each ended by a zero byte (RFC 7143 6.1).

mod block;
mod keys;
mod value;

pub use block::{MAX_KEY_LEN, MAX_TEXT_LEN, TextAccumulator, TextError, TextSender, TextWriter, parse};
pub use keys::{Key, KeySpec, KeyType, Phases, Senders, Sessions};
pub use value::{ValueError, decode_binary, encode_hex, parse_bool, parse_number};

/// The answer to a key nobody here knows.
pub const NOT_UNDERSTOOD: &str = "NotUnderstood";
/// The answer to a key that has no meaning in this session.
pub const IRRELEVANT: &str = "Irrelevant";
/// The answer to a value that cannot be accepted.
pub const REJECT: &str = "Reject";
/// The choice of nothing, in lists.
pub const NONE: &str = "None";
