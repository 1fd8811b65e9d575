//! REPORT LUNS data.

use crate::bytes_util::be32;
use crate::lun::Lun;

/// REPORT LUNS data.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LunList {
    /// The LUNs, ascending.
    pub luns: Vec<Lun>,
}

impl LunList {
    /// The bytes; LUN LIST LENGTH counts all of them, however few are sent.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + 8 * self.luns.len());
        out.extend_from_slice(&((self.luns.len() * 8) as u32).to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        self.luns.iter().for_each(|lun| out.extend_from_slice(&lun.0));
        out
    }

    /// Reads the data, and how many LUNs there are in all; a last one that is cut is left out. `None` when the header
    /// is cut.
    pub fn decode(data: &[u8]) -> Option<(Self, u32)> {
        let length = be32(data, 0)?;
        let rest = data.get(8..)?;
        let rest = &rest[..rest.len().min(length as usize)];
        let luns = rest.chunks_exact(8).filter_map(|bytes| bytes.first_chunk().copied().map(Lun)).collect();
        Some((Self { luns }, length / 8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_round_trips_and_counts_what_was_cut() {
        let list = LunList { luns: vec![Lun::ZERO, Lun::new(300).unwrap()] };
        let bytes = list.encode();
        assert_eq!(LunList::decode(&bytes), Some((list, 2)));
        assert_eq!(LunList::decode(&bytes[..20]).unwrap().1, 2);
        assert_eq!(LunList::decode(&bytes[..20]).unwrap().0.luns, [Lun::ZERO]);
    }
}
