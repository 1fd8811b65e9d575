//! Which bits of a mode page are one field: a field pointer points to the highest bit of the first byte of a field.

use super::page::PageId;

/// Page, subpage, and of each field with several bits its byte, highest bit and width.
type Fields = (u8, u8, &'static [(u8, u8, u8)]);

const FIELDS: &[Fields] = &[
    (0x01, 0, &[(3, 7, 8), (8, 7, 8), (10, 7, 16)]),
    (
        0x02,
        0,
        &[(2, 7, 8), (3, 7, 8), (4, 7, 16), (6, 7, 16), (8, 7, 16), (10, 7, 16), (12, 6, 3), (12, 2, 3), (14, 7, 16)],
    ),
    (0x07, 0, &[(3, 7, 8), (10, 7, 16)]),
    (
        0x08,
        0,
        &[(3, 7, 4), (3, 3, 4), (4, 7, 16), (6, 7, 16), (8, 7, 16), (10, 7, 16), (12, 2, 2), (13, 7, 8), (14, 7, 16)],
    ),
    (0x0a, 0, &[(2, 7, 3), (3, 7, 4), (3, 2, 2), (4, 5, 2), (5, 2, 3), (8, 7, 16), (10, 7, 16)]),
    (0x0a, 1, &[(5, 3, 4), (6, 7, 8)]),
    (
        0x1a,
        0,
        &[(2, 7, 2), (4, 7, 32), (8, 7, 32), (12, 7, 32), (16, 7, 32), (20, 7, 32), (39, 7, 2), (39, 5, 2), (39, 3, 2)],
    ),
    (0x1c, 0, &[(3, 3, 4), (4, 7, 32), (8, 7, 32)]),
    // One threshold descriptor.
    (0x1c, 2, &[(16, 5, 3), (16, 2, 3), (17, 7, 8), (20, 7, 32)]),
];

/// Where the field begins that has this bit of this byte of a page: byte and highest bit. A bit that is a field by itself,
/// or that is reserved, begins where it is.
pub fn field_at(id: PageId, byte: usize, bit: u8) -> (usize, u8) {
    let position = |byte: usize, bit: u8| 8 * byte + usize::from(7 - bit);
    let here = position(byte, bit);
    let fields = FIELDS.iter().filter(|(page, subpage, _)| (*page, *subpage) == (id.page, id.subpage));
    let mut fields = fields.flat_map(|(.., fields)| fields.iter());
    let found = fields.find(|(first, high, width)| {
        let start = position(usize::from(*first), *high);
        (start..start + usize::from(*width)).contains(&here)
    });
    found.map_or((byte, bit), |(first, high, _)| (usize::from(*first), *high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_a_field_leads_to_its_beginning() {
        let control = |byte, bit| field_at(PageId::CONTROL, byte, bit);
        assert_eq!([control(2, 7), control(2, 5), control(2, 4)], [(2, 7), (2, 7), (2, 4)]);
        assert_eq!([control(3, 0), control(3, 1), control(3, 3)], [(3, 0), (3, 2), (3, 3)]);
        assert_eq!([control(8, 0), control(9, 0), control(7, 0)], [(8, 7), (8, 7), (7, 0)]);
        assert_eq!(field_at(PageId::INFORMATIONAL_EXCEPTIONS, 7, 3), (4, 7));
    }
}
