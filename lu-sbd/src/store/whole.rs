//! Data cut at the borders of blocks.

use bytes::{Bytes, BytesMut};
use stmf::provider::Segments;

use crate::properties::MAX_BLOCK_SIZE;

/// The data of one write, cut so that no logical block is in two pieces.
///
/// A command's data come in pieces as the transport received them, and those end anywhere, within a block too. A store
/// that hands each piece on by itself - to a callback, to a method, to an object of its own - wants whole blocks: one
/// that keeps blocks by their addresses finds them, and no block is half old and half new because the second piece
/// failed. Pieces that begin and end at borders of blocks of any size are passed on as they are; of others, the block
/// at the border is copied.
#[must_use]
pub fn whole_blocks(data: &Segments) -> Segments {
    const BLOCK: usize = MAX_BLOCK_SIZE as usize;
    let mut whole = Segments::new();
    // The block whose rest is in the next piece.
    let mut begun = BytesMut::new();
    for (at, piece) in data.iter().enumerate() {
        let (mut piece, is_last): (Bytes, bool) = (piece.clone(), at + 1 == data.len());
        if !begun.is_empty() {
            begun.extend_from_slice(&piece.split_to(piece.len().min(BLOCK - begun.len())));
            if begun.len() == BLOCK {
                whole.push(std::mem::take(&mut begun).freeze());
            }
        }
        // What is left of the last piece has nothing to wait for.
        let rest = if is_last { Bytes::new() } else { piece.split_off(piece.len() - piece.len() % BLOCK) };
        if !piece.is_empty() {
            whole.push(piece);
        }
        if !rest.is_empty() {
            begun.reserve(BLOCK);
            begun.extend_from_slice(&rest);
        }
    }
    if !begun.is_empty() {
        whole.push(begun.freeze());
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pieces_of_whole_blocks_are_not_copied() {
        let memory = Bytes::from(vec![7; 3 * MAX_BLOCK_SIZE as usize]);
        let data = Segments::from_iter([memory.slice(..65536), memory.slice(65536..)]);
        let whole = whole_blocks(&data);
        assert_eq!(whole, data);
        assert!(whole.iter().zip(&data).all(|(one, other)| one.as_ptr() == other.as_ptr()));
    }

    #[test]
    fn a_write_of_one_piece_is_never_copied() {
        let data = Segments::from_iter([Bytes::from(vec![1; 512])]);
        assert_eq!(whole_blocks(&data)[0].as_ptr(), data[0].as_ptr());
    }

    proptest! {
        #[test]
        fn no_block_is_in_two_pieces_and_no_byte_is_lost(
            lengths in prop::collection::vec(1usize..100_000, 1..12),
            block in prop::sample::select(vec![512usize, 4096, 32768]),
        ) {
            let all: Vec<u8> = (0..lengths.iter().sum::<usize>() / block * block).map(|at| (at / 7) as u8).collect();
            let mut rest = Bytes::from(all.clone());
            let mut data: Segments = lengths.iter().map(|length| rest.split_to(rest.len().min(*length))).collect();
            data.push(rest);
            let whole = whole_blocks(&data);
            prop_assert!(whole.iter().all(|piece| !piece.is_empty() && piece.len() % block == 0));
            prop_assert_eq!(whole.concat(), all);
        }
    }
}
