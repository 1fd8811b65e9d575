//! Copies to memory that no cache needs to hold.

/// From so many bytes on a copy goes past the caches. What is shorter is likelier to be read again soon: the metadata of a file
/// system, a database's log.
#[cfg(target_arch = "x86_64")]
const LEAST: usize = 16 << 10;

/// Copies to where a disk keeps its bytes. A large disk in memory is no part of any cache: an ordinary copy would have the
/// processor fetch each line first, only to overwrite it, and push out what is of use. As many bytes as `into` has.
///
/// # Panics
/// When the two are not of the same length.
#[cfg(target_arch = "x86_64")]
pub(super) fn copy(into: &mut [u8], from: &[u8]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    /// What the processor gathers before it writes it to memory as a whole.
    const LINE: usize = 64;
    const PARTS: usize = LINE / size_of::<__m128i>();
    assert_eq!(into.len(), from.len(), "a copy of as many bytes as there is room for");
    if into.len() < LEAST {
        return into.copy_from_slice(from);
    }
    // SAFETY: any 64 bytes are four of these.
    #[allow(unsafe_code)]
    let (head, lines, tail) = unsafe { into.align_to_mut::<Line>() };
    let (first, rest) = from.split_at(head.len());
    let (middle, last) = rest.split_at(lines.len() * LINE);
    head.copy_from_slice(first);
    for (line, bytes) in lines.iter_mut().zip(middle.chunks_exact(LINE)) {
        for part in 0..PARTS {
            // SAFETY: both are within their 64 bytes, and the line is aligned, as its type says. These instructions are part
            // of every x86-64.
            #[allow(unsafe_code)]
            unsafe {
                let value = _mm_loadu_si128(bytes.as_ptr().cast::<__m128i>().add(part));
                _mm_stream_si128(line.0.as_mut_ptr().cast::<__m128i>().add(part), value);
            }
        }
    }
    tail.copy_from_slice(last);
    // Such writes are not ordered with others: whoever takes the lock of this place next must see them.
    // SAFETY: part of every x86-64.
    #[allow(unsafe_code)]
    unsafe {
        _mm_sfence();
    }
}

/// A line of the caches.
#[cfg(target_arch = "x86_64")]
#[repr(align(64))]
struct Line([u8; 64]);

/// The same, where there is nothing better.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn copy(into: &mut [u8], from: &[u8]) {
    into.copy_from_slice(from);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_copy_wherever_both_lie(to in 0..130_usize, at in 0..130_usize, length in 0..70_000_usize) {
            let from: Vec<u8> = (0..length + 130).map(|byte| (byte * 7 + byte / 251) as u8).collect();
            let mut into = vec![0xee; length + 260];
            copy(&mut into[to..to + length], &from[at..at + length]);
            prop_assert!(into[to..to + length] == from[at..at + length]);
            prop_assert!(into[..to].iter().chain(&into[to + length..]).all(|byte| *byte == 0xee), "nothing beside it");
        }
    }

    #[test]
    #[should_panic(expected = "as many bytes")]
    fn two_lengths_are_no_copy() {
        copy(&mut [0; 2], &[0; 3]);
    }
}
