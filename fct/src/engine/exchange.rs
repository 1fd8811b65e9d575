//! One exchange.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Instant;
use stmf::provider::Segments;
use stmf::provider::hba::PortId;

use crate::wire::length;

/// By what a frame finds its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) remote: PortId,
    pub(super) ox_id: u16,
    /// Begun here.
    pub(super) ours: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A link service of the other side.
    ServiceIn,
    /// A link service of ours.
    ServiceOut,
    /// A command to carry out.
    CommandIn,
    /// A command sent.
    CommandOut,
}

#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) kind: Kind,
    pub(super) local: PortId,
    pub(super) remote: PortId,
    pub(super) ox_id: u16,
    pub(super) rx_id: u16,
    pub(super) deadline: Option<Instant>,
    /// A burst of data that was asked for.
    pub(super) receiving: Option<Receiving>,
    /// Data bytes sent or received so far, from the beginning.
    pub(super) transferred: u32,
    /// An abort is under way.
    pub(super) aborting: bool,
    /// The other side is not to hear of the end of the abort.
    pub(super) silent: bool,
    /// What was sent, to send it again: only where that was agreed upon.
    pub(super) sent: Vec<(u32, Segments)>,
    pub(super) response: Option<Segments>,
    /// Over, and kept for recovery only.
    pub(super) retained: bool,
    /// FCP_CONF is awaited.
    pub(super) confirming: bool,
    /// Frames go there instead of to the other side's address.
    pub(super) answer_to: Option<PortId>,
}

impl Exchange {
    pub(super) fn new(kind: Kind, local: PortId, remote: PortId, ox_id: u16) -> Self {
        Self {
            kind,
            local,
            remote,
            ox_id,
            rx_id: crate::wire::UNASSIGNED,
            deadline: None,
            receiving: None,
            transferred: 0,
            aborting: false,
            silent: false,
            sent: Vec::new(),
            response: None,
            retained: false,
            confirming: false,
            answer_to: None,
        }
    }

    /// Whether it was begun here.
    pub(super) fn ours(&self) -> bool {
        matches!(self.kind, Kind::ServiceOut | Kind::CommandOut)
    }

    pub(super) fn key(&self) -> Key {
        Key { remote: self.remote, ox_id: self.ox_id, ours: self.ours() }
    }
}

/// A burst on its way: frames by their offset, in any order, each byte once.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) offset: u32,
    pub(super) length: u32,
    got: u32,
    pieces: BTreeMap<u32, Segments>,
}

impl Receiving {
    pub(super) fn new(offset: u32, length: u32) -> Self {
        Self { offset, length, got: 0, pieces: BTreeMap::new() }
    }

    /// Takes a frame's data; `false` when it is not of this burst. What came before is dropped.
    pub(super) fn take(&mut self, offset: u32, data: Segments) -> bool {
        let Ok(count) = u32::try_from(length(&data)) else { return false };
        let inside = offset >= self.offset
            && offset.checked_add(count).is_some_and(|end| end - self.offset <= self.length)
            && count > 0;
        if !inside {
            return false;
        }
        let before = self.pieces.range(..=offset).next_back();
        let overlaps = before.is_some_and(|(&at, piece)| at + length(piece) as u32 > offset)
            || self.pieces.range(offset..).next().is_some_and(|(&at, _)| at < offset + count);
        if !overlaps {
            self.got += count;
            self.pieces.insert(offset, data);
        }
        true
    }

    pub(super) fn is_whole(&self) -> bool {
        self.got == self.length
    }

    /// The first byte that is missing.
    pub(super) fn first_gap(&self) -> u32 {
        let mut at = self.offset;
        for (&offset, piece) in &self.pieces {
            if offset != at {
                break;
            }
            at += length(piece) as u32;
        }
        at
    }

    /// Forgets what came from `offset` on: it will come again.
    pub(super) fn rewind(&mut self, offset: u32) {
        let gone = self.pieces.split_off(&offset);
        self.got -= gone.values().map(|piece| length(piece) as u32).sum::<u32>();
    }

    /// The burst in order.
    pub(super) fn into_segments(self) -> Segments {
        self.pieces.into_values().flatten().filter(|piece: &Bytes| !piece.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    fn data(count: usize) -> Segments {
        smallvec![Bytes::from(vec![7; count])]
    }

    #[test]
    fn a_burst_comes_in_any_order_and_each_byte_once() {
        let mut burst = Receiving::new(1000, 100);
        assert!(burst.take(1060, data(40)) && burst.take(1000, data(20)));
        assert_eq!(burst.first_gap(), 1020);
        // Again, and overlapping: dropped.
        assert!(burst.take(1060, data(40)) && burst.take(1010, data(20)));
        assert!(!burst.is_whole());
        assert!(burst.take(1020, data(40)) && burst.is_whole());
        assert_eq!(length(&burst.into_segments()), 100);
    }

    #[test]
    fn what_is_outside_a_burst_is_refused() {
        let mut burst = Receiving::new(1000, 100);
        for (offset, count) in [(999, 1), (1000, 101), (1100, 1), (u32::MAX, 4), (1000, 0)] {
            assert!(!burst.take(offset, data(count)), "{count} at {offset}");
        }
    }
}
