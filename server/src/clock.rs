//! The clock that logical units are given.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970: the wall clock as it was when first asked, going on with the monotonic one. It neither
/// jumps nor goes back when somebody sets the time.
pub(crate) fn unix_clock() -> lu_sbd::Clock {
    static START: OnceLock<(Instant, u64)> = OnceLock::new();
    let (start, microseconds) = *START.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (Instant::now(), u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    });
    Box::new(move || microseconds.saturating_add(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)))
}
