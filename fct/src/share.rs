//! What remote ports have of a table together.

/// Whether one that has `own` entries of a table may have another while `free` are left: half of all for one alone, a
/// third for each of two, and always some for whoever comes next. Without it the first that never lets go would have
/// everything.
pub(crate) fn is_fair(own: usize, free: usize) -> bool {
    own < free
}
