//! Two interfaces joined in memory.

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use stmf::provider::Segments;

use super::{Carrier, EthernetLink, MacAddress};

/// Frames that wait at one end; further ones are refused.
const MAX_FRAMES: usize = 1024;

#[derive(Debug, Default)]
struct Cable {
    up: bool,
    mtu: usize,
    /// What waits for either end.
    waiting: [VecDeque<Bytes>; 2],
}

/// One end of a cable between two interfaces.
#[derive(Debug)]
pub struct MemoryLink {
    cable: Arc<Mutex<Cable>>,
    end: usize,
    address: MacAddress,
}

impl MemoryLink {
    /// Both ends of a cable that is up.
    pub fn pair(a: MacAddress, b: MacAddress, mtu: usize) -> (Self, Self) {
        let cable = Arc::new(Mutex::new(Cable { up: true, mtu, ..Cable::default() }));
        (Self { cable: Arc::clone(&cable), end: 0, address: a }, Self { cable, end: 1, address: b })
    }

    /// Another hand on this end: to pull the cable, and to send and take frames beside whoever has the end.
    pub fn tap(&self) -> Self {
        Self { cable: Arc::clone(&self.cable), end: self.end, address: self.address }
    }

    /// Pulls the cable, or plugs it in; what is under way is lost.
    pub fn plug(&self, up: bool) {
        let mut cable = self.lock();
        cable.up = up;
        cable.waiting.iter_mut().for_each(VecDeque::clear);
    }

    /// Puts a frame before this end, as if the other one had sent it.
    pub fn inject(&self, frame: Bytes) {
        let end = self.end;
        self.lock().waiting[end].push_back(frame);
    }

    fn lock(&self) -> MutexGuard<'_, Cable> {
        self.cable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EthernetLink for MemoryLink {
    fn address(&self) -> MacAddress {
        self.address
    }

    fn carrier(&mut self, _now: Instant) -> Carrier {
        let cable = self.lock();
        Carrier { up: cable.up, mtu: cable.mtu, speed: 10 }
    }

    fn receive(&mut self) -> Option<Bytes> {
        let end = self.end;
        self.lock().waiting[end].pop_front()
    }

    fn send(&mut self, frame: Segments) -> Result<(), Segments> {
        let other = 1 - self.end;
        let mut cable = self.lock();
        let room = cable.waiting[other].len() < MAX_FRAMES;
        match (cable.up, room) {
            (true, true) => cable.waiting[other].push_back(Bytes::from(frame.concat())),
            (true, false) => return Err(frame),
            // A cable that is pulled takes everything.
            (false, _) => {}
        }
        Ok(())
    }

    fn listen(&mut self, _address: Option<MacAddress>) {}
}
