//! One direction of a TCP connection that splits, delays, flips and breaks.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::rng::Rng;

/// What a link does to the bytes that pass through it. The default does nothing.
#[derive(Clone, Debug, Default)]
pub struct LinkFaults {
    /// Bytes arrive in pieces of 1 to so many; 0 leaves them as they were sent.
    pub longest_piece: usize,
    /// Each piece takes up to so long, and never overtakes the one before it.
    pub longest_delay: Duration,
    /// Of a million pieces, so many have one bit flipped.
    pub flips_per_million: u32,
    /// The connection is reset after so many bytes.
    pub reset_after: Option<u64>,
}

/// What comes out of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The next bytes.
    Bytes(Bytes),
    /// The sender closed the connection, after everything that it sent.
    End,
    /// The connection broke: nothing comes any more, and what is sent is lost.
    Reset,
}

/// One direction of a connection: bytes go in with the time, and come out with the time.
#[derive(Debug)]
pub struct FaultyLink {
    faults: LinkFaults,
    rng: Rng,
    queue: VecDeque<(Instant, Delivery)>,
    last_due: Option<Instant>,
    sent: u64,
    flipped: u64,
    under_way: u64,
    over: bool,
    dead: bool,
}

impl FaultyLink {
    /// A link with these faults; the same seed breaks the same bytes in the same way.
    pub fn new(faults: LinkFaults, seed: u64) -> Self {
        Self {
            faults,
            rng: Rng::new(seed),
            queue: VecDeque::new(),
            last_due: None,
            sent: 0,
            flipped: 0,
            under_way: 0,
            over: false,
            dead: false,
        }
    }

    /// From now on nothing arrives any more, not even the end of the connection: what is sent stays under way for ever.
    pub fn go_dead(&mut self) {
        self.dead = true;
    }

    /// Changes what the link does to bytes that are sent from now on.
    pub fn set_faults(&mut self, faults: LinkFaults) {
        self.faults = faults;
    }

    /// Sends bytes. They are lost when the connection is over.
    pub fn send(&mut self, now: Instant, mut bytes: Bytes) {
        while !bytes.is_empty() && !self.over {
            let mut length = bytes.len() as u64;
            if self.faults.longest_piece > 0 {
                length = length.min(1 + self.rng.below(self.faults.longest_piece as u64));
            }
            if let Some(limit) = self.faults.reset_after {
                length = length.min(limit.saturating_sub(self.sent));
            }
            if length > 0 {
                let piece = bytes.split_to(length as usize);
                self.sent += length;
                self.under_way += length;
                let piece = self.flip(piece);
                self.push(now, Delivery::Bytes(piece));
            }
            if self.faults.reset_after.is_some_and(|limit| self.sent >= limit) {
                self.push(now, Delivery::Reset);
                self.over = true;
            }
        }
    }

    /// Closes the connection behind what was sent.
    pub fn close(&mut self, now: Instant) {
        if !self.over {
            self.push(now, Delivery::End);
            self.over = true;
        }
    }

    /// Breaks the connection now: what is under way is lost.
    pub fn reset(&mut self, now: Instant) {
        self.queue.clear();
        self.under_way = 0;
        self.last_due = None;
        self.push(now, Delivery::Reset);
        self.over = true;
    }

    /// What has arrived by now, in order.
    pub fn poll(&mut self, now: Instant) -> Option<Delivery> {
        match self.queue.front() {
            Some((due, _)) if *due <= now && !self.dead => {
                let delivery = self.queue.pop_front().map(|(_, delivery)| delivery);
                if let Some(Delivery::Bytes(bytes)) = &delivery {
                    self.under_way -= bytes.len() as u64;
                }
                delivery
            }
            _ => None,
        }
    }

    /// When something arrives next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.queue.front().filter(|_| !self.dead).map(|(due, _)| *due)
    }

    /// How many bytes were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// How many bytes were sent and have not come out yet.
    pub fn under_way(&self) -> u64 {
        self.under_way
    }

    /// How many bits were flipped so far.
    pub fn flipped(&self) -> u64 {
        self.flipped
    }

    fn push(&mut self, now: Instant, delivery: Delivery) {
        let nanos = u64::try_from(self.faults.longest_delay.as_nanos()).unwrap_or(u64::MAX);
        let delay = if nanos == 0 { 0 } else { self.rng.below(nanos + 1) };
        let due = now + Duration::from_nanos(delay);
        let due = self.last_due.map_or(due, |last| last.max(due));
        self.last_due = Some(due);
        self.queue.push_back((due, delivery));
    }

    fn flip(&mut self, piece: Bytes) -> Bytes {
        if !self.rng.chance(self.faults.flips_per_million) {
            return piece;
        }
        self.flipped += 1;
        let mut piece = BytesMut::from(&piece[..]);
        let at = self.rng.below(piece.len() as u64) as usize;
        piece[at] ^= 1 << self.rng.below(8);
        piece.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(link: &mut FaultyLink, mut now: Instant) -> (Vec<Bytes>, Option<Delivery>) {
        let mut pieces = Vec::new();
        loop {
            match link.poll(now) {
                Some(Delivery::Bytes(piece)) => pieces.push(piece),
                Some(end) => return (pieces, Some(end)),
                None => match link.poll_timeout() {
                    Some(due) => now = due,
                    None => return (pieces, None),
                },
            }
        }
    }

    #[test]
    fn pieces_and_delays_keep_order_and_content() {
        let now = Instant::now();
        let faults = LinkFaults { longest_piece: 7, longest_delay: Duration::from_millis(50), ..LinkFaults::default() };
        let mut link = FaultyLink::new(faults, 1);
        let sent: Vec<u8> = (0..=255).collect();
        link.send(now, sent.clone().into());
        link.close(now);
        let (pieces, end) = drain(&mut link, now);
        assert!(pieces.iter().all(|piece| piece.len() <= 7));
        assert_eq!((pieces.concat(), end), (sent, Some(Delivery::End)));
    }

    #[test]
    fn a_reset_comes_after_exactly_so_many_bytes() {
        let now = Instant::now();
        let mut link = FaultyLink::new(LinkFaults { reset_after: Some(5), ..LinkFaults::default() }, 1);
        link.send(now, Bytes::from_static(b"abc"));
        link.send(now, Bytes::from_static(b"defg"));
        link.send(now, Bytes::from_static(b"lost"));
        let (pieces, end) = drain(&mut link, now);
        assert_eq!((&pieces.concat()[..], end), (&b"abcde"[..], Some(Delivery::Reset)));
    }

    #[test]
    fn nothing_comes_out_of_a_dead_link() {
        let now = Instant::now();
        let mut link = FaultyLink::new(LinkFaults::default(), 1);
        link.send(now, Bytes::from_static(b"abc"));
        link.go_dead();
        link.send(now, Bytes::from_static(b"defg"));
        link.reset(now);
        assert_eq!((link.poll(now), link.poll_timeout()), (None, None));
    }

    #[test]
    fn a_flip_changes_one_bit_and_is_counted() {
        let now = Instant::now();
        let mut link = FaultyLink::new(LinkFaults { flips_per_million: 1_000_000, ..LinkFaults::default() }, 3);
        link.send(now, Bytes::from(vec![0; 100]));
        let (pieces, _) = drain(&mut link, now);
        assert_eq!(pieces.concat().iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        assert_eq!(link.flipped(), 1);
    }
}
