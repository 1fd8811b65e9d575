//! Connections come, go, and move to other threads.

use super::*;

impl<P: Protocol, N: Net> EventLoop<P, N> {
    pub(super) fn add(
        &mut self,
        now: Instant,
        newcomer: Newcomer,
        tx: TxQueue,
        half_open: bool,
        parcel: Option<P::Parcel>,
    ) {
        let Newcomer { socket, arrival, serial } = newcomer;
        let id = match parcel {
            None if self.shut_down.is_some() => None,
            None => self.parts.protocol.accept(now, arrival),
            Some(parcel) => self.parts.protocol.adopt(now, arrival, parcel),
        };
        let Some(id) = id else {
            self.forget(&arrival, serial, half_open);
            return;
        };
        let slot = self.conns.insert(Conn {
            state: State::Open(id),
            arrival,
            serial,
            half_open,
            class: ChunkClass::Small,
            small: 0,
            readable: false,
            writable: true,
            hangup: false,
            queued: false,
            dirty: false,
            unsent: false,
            holding: false,
            sent: 0,
            sent_round: 0,
        });
        let index = P::index(id);
        if self.slots.len() <= index {
            self.slots.resize(index + 1, usize::MAX);
        }
        self.slots[index] = slot;
        if half_open {
            self.serials.insert(serial, slot);
        }
        self.parts.counters.connections.add(1);
        self.parts.counters.accepted.add(1);
        if let Err(error) = self.net.add(slot, self.conns.tag(slot), socket, tx) {
            tracing::warn!(peer = %arrival.peer, %error, "cannot watch a connection");
            self.lose(slot, now);
            return;
        }
        self.mark_dirty(slot);
    }

    pub(super) fn note(&mut self, event: Ready) {
        let Some(conn) = self.conns.get_tagged(event.slot, event.tag) else { return };
        conn.readable |= event.readable;
        conn.writable |= event.writable;
        conn.hangup |= event.hangup;
        self.parts.counters.sent_bytes.add(event.sent as u64);
        self.restless |= event.sent > 0;
        self.enqueue(event.slot);
    }

    pub(super) fn enqueue(&mut self, slot: usize) {
        if let Some(conn) = self.conns.get_mut(slot)
            && !conn.queued
        {
            conn.queued = true;
            self.run.push_back(slot);
        }
    }

    pub(super) fn mark_dirty(&mut self, slot: usize) {
        if let Some(conn) = self.conns.get_mut(slot)
            && !conn.dirty
        {
            conn.dirty = true;
            self.dirty.push(slot);
        }
    }

    pub(super) fn slot_of(&self, id: P::Conn) -> Option<usize> {
        let slot = *self.slots.get(P::index(id))?;
        match self.conns.get(slot)?.state {
            State::Open(known) | State::Closing { id: known, .. } if known == id => Some(slot),
            _ => None,
        }
    }

    /// The protocol is done with a connection: sends what is left.
    pub(super) fn begin_close(&mut self, slot: usize, id: P::Conn, now: Instant) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if let State::Open(_) = conn.state {
            conn.state = State::Closing { id, until: now + self.parts.limits.close_timeout };
            self.leaving += 1;
            self.mark_dirty(slot);
        }
    }

    pub(super) fn linger(&mut self, slot: usize, now: Instant) {
        self.net.shut_down(slot);
        if let Some(conn) = self.conns.get_mut(slot) {
            if let State::Closing { id, .. } = conn.state {
                self.parts.protocol.handle_closed(now, id);
                self.restless = true;
            }
            conn.state = State::Lingering { until: now + self.parts.limits.linger };
            self.lingering += 1;
            self.enqueue(slot);
        }
    }

    /// The connection broke, or is broken off.
    pub(super) fn lose(&mut self, slot: usize, now: Instant) {
        let Some(conn) = self.conns.get(slot) else { return };
        if let State::Open(id) | State::Closing { id, .. } = conn.state {
            self.parts.protocol.handle_closed(now, id);
            self.restless = true;
        }
        self.drop_conn(slot);
    }

    pub(super) fn drop_conn(&mut self, slot: usize) {
        self.net.remove(slot);
        let Some(conn) = self.conns.remove(slot) else { return };
        match conn.state {
            State::Open(_) => {}
            State::Closing { .. } => self.leaving -= 1,
            State::Lingering { .. } => {
                self.leaving -= 1;
                self.lingering -= 1;
            }
        }
        self.parts.counters.connections.sub(1);
        self.forget(&conn.arrival, conn.serial, conn.half_open);
    }

    /// Takes a connection out of what all threads count together.
    pub(super) fn forget(&mut self, arrival: &Arrival, serial: Serial, half_open: bool) {
        if half_open {
            self.serials.remove(&serial);
            self.parts.half_open.end(arrival.peer.ip(), serial);
        }
        self.parts.loads[self.parts.index].fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn hand_off(&mut self, slot: usize, to: usize, parcel: P::Parcel) {
        let Some((socket, tx)) = self.net.detach(slot) else {
            return self.drop_conn(slot);
        };
        let Some(conn) = self.conns.remove(slot) else { return };
        self.parts.counters.connections.sub(1);
        self.parts.counters.handed_off.add(1);
        let Conn { arrival, serial, half_open, .. } = conn;
        let Some(inbox) = self.parts.inboxes.get(to) else {
            tracing::error!(to, "a connection was handed to a thread that does not exist");
            return self.forget(&arrival, serial, half_open);
        };
        if half_open {
            self.serials.remove(&serial);
            self.parts.half_open.moved(arrival.peer.ip(), serial, to);
        }
        self.parts.loads[self.parts.index].fetch_sub(1, Ordering::Relaxed);
        self.parts.loads[to].fetch_add(1, Ordering::Relaxed);
        let newcomer = Newcomer { socket, arrival, serial };
        if inbox.put(Message::Adopt { newcomer, tx, half_open, parcel }).is_err() {
            // That thread ended: the connection goes with the parcel.
            self.parts.loads[to].fetch_sub(1, Ordering::Relaxed);
            if half_open {
                self.parts.half_open.end(arrival.peer.ip(), serial);
            }
        }
    }
}
