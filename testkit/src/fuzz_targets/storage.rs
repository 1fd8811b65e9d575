//! lu-sbd: what is read from files and from an administrator.

use lu_sbd::meta::Identity;
use lu_sbd::properties::{CreateProperties, parse_size};

/// A `.lu` file may have been edited by hand.
pub(super) fn lu_record(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(identity) = Identity::from_record(text) else { return };
    let again = Identity::from_record(&identity.to_record()).expect("what was written reads back");
    assert_eq!(again, identity);
}

/// `-p prop=value` once for each line, the first line being the size.
pub(super) fn lu_properties(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.lines();
    let size = lines.next();
    let _ = size.map(parse_size);
    let _ = CreateProperties::parse(lines, size);
}
