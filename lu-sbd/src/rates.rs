//! Limits of what a logical unit does in a second, as administrators give them.

use serde::{Deserialize, Serialize};

/// The most operations in a second that can be asked for: more is as good as no limit.
pub const MAX_IOPS: u64 = 1_000_000_000;
/// The most bytes in a second that can be asked for.
pub const MAX_BANDWIDTH: u64 = 1 << 50;

/// How many operations and bytes a second a unit does at most, over all its initiators together.
///
/// An operation is a read or write of up to 1 MiB; a longer command counts once for each MiB. What moves no data does
/// not count. A burst is what may go at once after a rest; without one given it is what a tenth of a second allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct IoLimits {
    /// Operations in a second, at least 1; `None` for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iops: Option<u64>,
    /// Operations that may go at once, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iops_burst: Option<u64>,
    /// Bytes in a second, at least 1024; `None` for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<u64>,
    /// Bytes that may go at once, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_burst: Option<u64>,
}

impl IoLimits {
    /// Whether there is no limit at all and nothing to keep.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
