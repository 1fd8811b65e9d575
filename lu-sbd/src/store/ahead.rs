//! Advice for sequential reads.
//!
//! A read that is in the page cache is answered at once and never comes here. Of those that have to wait for the device, one
//! that goes on where another of the last ones stopped - or in what was asked for ahead of it - belongs to a stream: the
//! system is told what will be read next, more each time. Several streams on one file, which the system's own read-ahead
//! takes for one random reader, each have theirs.

use std::sync::Mutex;

/// Streams of a file that are known at a time.
const STREAMS: usize = 16;

/// The most that is asked for ahead, in bytes.
const MOST: u64 = 4 << 20;

#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    /// Where the last read ended.
    next: u64,
    /// What was asked for ahead of it, in bytes.
    ahead: u64,
}

/// The streams of one file.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// The one that was read last comes first.
    streams: Mutex<Vec<Stream>>,
}

impl ReadAhead {
    /// A read that had to wait. Returns offset and length of what will be wanted soon, if that can be told.
    pub(super) fn note(&self, offset: u64, length: u64) -> Option<(u64, u64)> {
        // Advice is not worth waiting for.
        let mut streams = self.streams.try_lock().ok()?;
        let end = offset + length;
        let known = streams.iter().position(|stream| (stream.next..=stream.next + stream.ahead).contains(&offset));
        let ahead = match known {
            Some(at) => (streams.remove(at).ahead * 2).clamp(4 * length, MOST.max(length)),
            None => 0,
        };
        streams.truncate(STREAMS - 1);
        streams.insert(0, Stream { next: end, ahead });
        (ahead > 0).then_some((end, ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_streams_is_asked_for_ahead_and_more_each_time() {
        let ahead = ReadAhead::default();
        for stream in 0..8u64 {
            assert_eq!(ahead.note(stream << 30, 65536), None);
        }
        for stream in 0..8u64 {
            assert_eq!(ahead.note((stream << 30) + 65536, 65536), Some(((stream << 30) + 131_072, 262_144)));
        }
        // The next miss is where that ends.
        for stream in 0..8u64 {
            let at = (stream << 30) + 131_072 + 262_144;
            assert_eq!(ahead.note(at, 65536), Some((at + 65536, 524_288)));
        }
    }

    #[test]
    fn what_is_asked_for_has_a_limit() {
        let ahead = ReadAhead::default();
        let mut at = 0;
        let mut last = 0;
        for _ in 0..20 {
            let told = ahead.note(at, 65536);
            at += 65536;
            if let Some((from, length)) = told {
                assert!(from == at && length >= last);
                (at, last) = (from + length, length);
            }
        }
        assert_eq!(last, MOST);
    }

    #[test]
    fn random_reads_ask_for_nothing() {
        let ahead = ReadAhead::default();
        let told = (0..1000u64).filter_map(|i| ahead.note(i * 7919 % 1009 * 1_000_000, 4096)).count();
        assert_eq!(told, 0);
        assert!(ahead.streams.lock().unwrap().len() <= STREAMS);
    }
}
