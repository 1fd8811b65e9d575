//! An adapter whose firmware does FCP, and which lends its own memory for what is read.

mod common;

use bytes::Bytes;
use common::*;
use fct::initiator::Initiator;
use fct::soft::{SoftHba, SoftHbaConfig, Wire};
use fct::{Port, PortConfig};
use lu_sbd::store::{BackingStore, Error, MemoryStore, ReadInto};
use std::io::IoSlice;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use stmf::provider::hba::{
    ExchangeId, Hba, HbaControl, HbaDetails, HbaEvent, HbaLevel, HbaLimits, HbaRequest, LinkStatistics, Offload, Wwn,
};
use stmf::provider::{PortError, Room, Segments};

/// What an adapter has seen: addresses and lengths.
#[derive(Debug, Default)]
struct Seen {
    asked: Vec<(u32, u32)>,
    filled: Vec<(usize, usize)>,
    sent: Vec<(usize, usize)>,
}

/// Memory for one read. A driver hands out what it has mapped; here it moves, to show which is which.
#[derive(Debug)]
struct Memory {
    bytes: Vec<AtomicU8>,
    seen: Arc<Mutex<Seen>>,
}

impl Room for Memory {
    fn fill(&self, fill: &mut dyn FnMut(&[&[AtomicU8]]) -> bool) -> Option<Segments> {
        let (one, two) = self.bytes.split_at(self.bytes.len() / 3);
        if !fill(&[one, two]) {
            return None;
        }
        let own: Vec<u8> = self.bytes.iter().map(|byte| byte.load(Ordering::Relaxed)).collect();
        let own = Bytes::from(own);
        self.seen.lock().unwrap().filled.push((own.as_ptr() as usize, own.len()));
        Some(Segments::from_iter([own]))
    }
}

#[derive(Debug)]
struct Lending {
    inner: SoftHba,
    seen: Arc<Mutex<Seen>>,
}

impl Hba for Lending {
    fn port_name(&self) -> Wwn {
        self.inner.port_name()
    }

    fn node_name(&self) -> Wwn {
        self.inner.node_name()
    }

    fn details(&self) -> HbaDetails {
        self.inner.details()
    }

    fn offload(&self) -> Offload {
        self.inner.offload()
    }

    fn limits(&self) -> HbaLimits {
        self.inner.limits()
    }

    fn statistics(&self) -> LinkStatistics {
        self.inner.statistics()
    }

    fn control(&mut self, now: Instant, control: HbaControl) -> Result<(), PortError> {
        self.inner.control(now, control)
    }

    fn submit(&mut self, now: Instant, request: HbaRequest) -> Result<(), HbaRequest> {
        if let HbaRequest::SendData { data, .. } = &request {
            let places = data.iter().map(|piece| (piece.as_ptr() as usize, piece.len()));
            self.seen.lock().unwrap().sent.extend(places);
        }
        self.inner.submit(now, request)
    }

    fn lend_room(&mut self, _exchange: ExchangeId, offset: u32, length: u32) -> Option<Arc<dyn Room>> {
        self.seen.lock().unwrap().asked.push((offset, length));
        let bytes = (0..length).map(|_| AtomicU8::new(0)).collect();
        Some(Arc::new(Memory { bytes, seen: Arc::clone(&self.seen) }))
    }

    fn poll_event(&mut self, now: Instant) -> Option<HbaEvent> {
        self.inner.poll_event(now)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.inner.poll_timeout()
    }
}

/// A store that reads into memory of others and has no buffers of its own.
#[derive(Debug)]
struct Direct(MemoryStore);

impl BackingStore for Direct {
    fn capacity(&self) -> u64 {
        self.0.capacity()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        self.0.read_at(offset, into)
    }

    fn write_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        self.0.write_at(offset, data)
    }

    fn flush(&self) -> Result<(), Error> {
        self.0.flush()
    }

    fn as_read_into(&self) -> Option<&dyn ReadInto> {
        Some(self)
    }
}

impl ReadInto for Direct {
    fn read_into(&self, mut offset: u64, into: &[&[AtomicU8]]) -> Result<(), Error> {
        for piece in into {
            let mut bytes = vec![0; piece.len()];
            self.0.read_at(offset, &mut bytes)?;
            piece.iter().zip(bytes).for_each(|(place, byte)| place.store(byte, Ordering::Relaxed));
            offset += piece.len() as u64;
        }
        Ok(())
    }
}

fn world(level: HbaLevel, store: impl BackingStore + 'static) -> (World, Arc<Mutex<Seen>>) {
    let (now, stmf, wire, seen) = (Instant::now(), framework_on(store), Wire::new(7), Arc::default());
    let (a, b) = wire.ends();
    let inner = SoftHba::new(SoftHbaConfig { level, ..adapter(TARGET) }, a);
    let hba = Lending { inner, seen: Arc::clone(&seen) };
    let port = Port::new(&stmf, Box::new(hba), PortConfig::default(), Box::new(|| {})).unwrap();
    let initiator = Initiator::new(now, Box::new(SoftHba::new(adapter(INITIATOR), b)), ":qlc1");
    (World { now, stmf, wire, port, initiator, events: Vec::new() }, seen)
}

#[test]
fn a_read_is_sent_from_the_memory_that_the_driver_lent_for_it() {
    let (mut world, seen) = world(HbaLevel::Commands, Direct(MemoryStore::new(1 << 20)));
    let target = world.log_in();
    let data = pattern(96 << 10);
    assert_eq!(status(world.write(target, 8, data.clone())), Some(0));
    assert!(world.read(target, 8, data.len()).unwrap().data == data);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.asked, [(0, 96 << 10)]);
    assert_eq!(seen.filled.len(), 1);
    assert_eq!(seen.sent, seen.filled);
}

#[test]
fn a_store_that_lends_what_it_has_leaves_the_drivers_memory_alone() {
    let (mut world, seen) = world(HbaLevel::Commands, MemoryStore::new(1 << 20));
    let target = world.log_in();
    let data = pattern(64 << 10);
    assert_eq!(status(world.write(target, 8, data.clone())), Some(0));
    assert!(world.read(target, 8, data.len()).unwrap().data == data);
    assert!(seen.lock().unwrap().filled.is_empty());
}

#[test]
fn no_memory_is_asked_for_beyond_what_the_command_has_room_for() {
    let (mut world, seen) = world(HbaLevel::Commands, Direct(MemoryStore::new(1 << 20)));
    let target = world.log_in();
    let data = pattern(4096);
    assert_eq!(status(world.write(target, 0, data.clone())), Some(0));
    let outcome = world.execute(target, &transfer(0x28, 0, 4096), Vec::new(), 700).unwrap();
    assert!(outcome.data[..] == data[..700]);
    assert!(seen.lock().unwrap().asked.is_empty(), "half a block has no room");
}

#[test]
fn a_driver_that_moves_frames_is_not_asked() {
    let (mut world, seen) = world(HbaLevel::Frames, Direct(MemoryStore::new(1 << 20)));
    let target = world.log_in();
    assert!(world.read(target, 0, 4096).unwrap().data[..] == [0; 4096]);
    assert!(seen.lock().unwrap().asked.is_empty());
}
