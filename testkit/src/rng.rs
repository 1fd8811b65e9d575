//! Randomness from a seed, the same on every machine.

/// A small generator (SplitMix64): good enough to spread faults, trivial to replay.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that gives the same numbers for the same seed, always.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 when `limit` is 0.
    pub const fn below(&mut self, limit: u64) -> u64 {
        // The bias of the remainder does not matter here.
        if limit == 0 { 0 } else { self.next() % limit }
    }

    /// True `parts` times in a million.
    pub const fn chance(&mut self, parts_per_million: u32) -> bool {
        self.below(1_000_000) < parts_per_million as u64
    }

    /// Fills a buffer.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }

    /// Another generator, independent of what this one gives from now on.
    pub const fn fork(&mut self) -> Self {
        Self(self.next())
    }
}
