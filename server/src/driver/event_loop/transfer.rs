//! Bytes in and out: one connection's share of a round.

use super::*;

/// So many small receives one after the other end the use of large chunks.
const SMALL_IN_A_ROW: u8 = 16;

impl<P: Protocol, N: Net> EventLoop<P, N> {
    /// One connection's share of a round.
    pub(super) fn turn(&mut self, slot: usize, now: Instant) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        conn.queued = false;
        match conn.state {
            State::Open(_) => {}
            State::Closing { .. } => return self.transmit(slot, now),
            State::Lingering { .. } => return self.discard(slot),
        }
        if conn.writable && conn.unsent {
            // Old answers first: they make room for what comes.
            self.transmit(slot, now);
            self.poll(now);
        }
        let mut budget = self.parts.limits.receive_bytes_per_turn;
        loop {
            let Some(conn) = self.conns.get_mut(slot) else { return };
            let State::Open(id) = conn.state else { return };
            if !conn.readable {
                break;
            }
            if self.parts.protocol.recv_hint(id) == 0 {
                // It stays readable: the protocol tells when to go on.
                break;
            }
            if budget == 0 {
                self.enqueue(slot);
                break;
            }
            self.parts.counters.receives.add(1);
            self.cached = true;
            match self.net.receive(slot, conn.class) {
                Ok(Received::Bytes { bytes, more, full }) => {
                    budget = budget.saturating_sub(bytes.len());
                    self.unanswered_bytes += bytes.len();
                    self.parts.counters.received_bytes.add(bytes.len() as u64);
                    // After a hang-up the end has to be seen: no further event tells of it.
                    conn.readable = more || conn.hangup;
                    if full {
                        (conn.class, conn.small) = (ChunkClass::Large, 0);
                    } else if bytes.len() >= ChunkClass::Small.size() / 2 {
                        conn.small = 0;
                    } else {
                        // A burst of data often ends in a small receive; many of them in a row mean that it is over.
                        conn.small = conn.small.saturating_add(1);
                        if conn.small > SMALL_IN_A_ROW {
                            conn.class = ChunkClass::Small;
                        }
                    }
                    self.parts.protocol.handle_received(now, id, bytes);
                    if conn.half_open && self.parts.protocol.is_logged_in(id) {
                        conn.half_open = false;
                        self.serials.remove(&conn.serial);
                        self.parts.half_open.end(conn.arrival.peer.ip(), conn.serial);
                    }
                    self.poll(now);
                }
                Ok(Received::Nothing) => conn.readable = false,
                Ok(Received::End) => return self.lose(slot, now),
                Err(error) => {
                    tracing::debug!(peer = %conn.arrival.peer, %error, "connection lost");
                    return self.lose(slot, now);
                }
            }
        }
        match self.parts.limits.receive_bytes_per_turn - budget {
            0 => {}
            received if received >= self.parts.limits.stream_bytes_per_turn => self.mark_dirty(slot),
            // Whoever asks for little does not wait for the others' turns.
            _ => {
                self.transmit(slot, now);
                self.poll(now);
            }
        }
        if self.net.release(slot)
            && let Some(conn) = self.conns.get_mut(slot)
            && !conn.holding
        {
            conn.holding = true;
            self.holding.push(slot);
        }
    }

    pub(super) fn transmit(&mut self, slot: usize, now: Instant) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        conn.dirty = false;
        conn.unsent = false;
        if conn.sent_round != self.round {
            conn.sent_round = self.round;
            conn.sent = 0;
        }
        let Parts { protocol, limits, counters, .. } = &mut self.parts;
        let net = &mut self.net;
        loop {
            let Some(queue) = net.queue(slot) else { return };
            if let State::Open(id) | State::Closing { id, .. } = conn.state
                && (conn.writable || queue.is_empty())
            {
                while queue.len() < limits.transmit_queue_bytes && protocol.poll_transmit(now, id, &mut self.out) > 0 {
                    queue.append(&mut self.out);
                }
            }
            if queue.is_empty() {
                queue.shrink();
                if let State::Closing { .. } = conn.state {
                    self.linger(slot, now);
                }
                return;
            }
            if !conn.writable {
                conn.unsent = true;
                return;
            }
            let budget = limits.transmit_bytes_per_turn.saturating_sub(conn.sent);
            if budget == 0 {
                conn.unsent = true;
                return self.enqueue(slot);
            }
            let flushed = match net.flush(slot, budget) {
                Ok((flushed, calls)) => {
                    counters.sends.add(calls.into());
                    flushed
                }
                Err(error) => {
                    tracing::debug!(peer = %conn.arrival.peer, %error, "connection lost");
                    return self.lose(slot, now);
                }
            };
            let (Flushed::All(sent) | Flushed::Blocked(sent) | Flushed::Budget(sent)) = flushed;
            counters.sent_bytes.add(sent as u64);
            conn.sent += sent;
            // What was sent may let the protocol start more reads.
            self.restless |= sent > 0;
            if let Flushed::Blocked(_) = flushed {
                conn.writable = false;
                conn.unsent = true;
                return;
            }
        }
    }

    /// Drops what still comes in on a connection that is closed for us.
    pub(super) fn discard(&mut self, slot: usize) {
        let mut budget = self.parts.limits.receive_bytes_per_turn;
        let ended = loop {
            match self.net.receive(slot, ChunkClass::Small) {
                Ok(Received::Bytes { bytes, .. }) if budget > bytes.len() => budget -= bytes.len(),
                Ok(Received::Nothing) => break false,
                // The end, an error, or a peer that goes on and on.
                _ => break true,
            }
        };
        self.net.release(slot);
        if ended {
            self.drop_conn(slot);
        }
    }
}
