//! What a guest reads goes from the store to its memory: a guest's driver, its mapped memory, a unit on a file.

use super::memory::{Gate, Memory};
use bytes::Bytes;
use lu_sbd::store::{BackingStore, Error, FileOptions, FileStore, ReadInto};
use lunette_loopback::Port;
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::io::IoSlice;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stmf::provider::Segments;
use testkit::guest::{Guest, MEMORY, header};
use testkit::san::San;
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vhost_scsi::{FIRST_REQUEST_QUEUE, Lend};
use vm_memory::{GuestAddress, GuestMemoryBackend};

const HOST: &str = "iqn.2026-11.test:guest";
const RESPONSE_BYTES: usize = 108;

/// A file that notes what is read from it, and how.
#[derive(Debug)]
struct Watched {
    file: FileStore,
    /// Where pieces lay that were filled, and their lengths.
    landed: Arc<Mutex<Vec<(usize, usize)>>>,
    /// Reads into buffers of the store's own.
    pooled: Arc<AtomicUsize>,
    /// Held: reads into a guest's memory wait.
    stuck: Arc<Mutex<()>>,
}

impl BackingStore for Watched {
    fn capacity(&self) -> u64 {
        self.file.capacity()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        self.file.read_at(offset, into)
    }

    fn write_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        self.file.write_at(offset, data)
    }

    fn flush(&self) -> Result<(), Error> {
        self.file.flush()
    }

    fn read_bytes(&self, offset: u64, length: usize) -> Result<Segments, Error> {
        self.pooled.fetch_add(1, Ordering::Relaxed);
        self.file.read_bytes(offset, length)
    }

    fn as_read_into(&self) -> Option<&dyn ReadInto> {
        Some(self)
    }
}

impl ReadInto for Watched {
    fn read_into(&self, offset: u64, into: &[&[AtomicU8]]) -> Result<(), Error> {
        self.landed.lock().unwrap().extend(into.iter().map(|piece| (piece.as_ptr() as usize, piece.len())));
        let _go = self.stuck.lock().unwrap();
        let file = self.file.as_read_into().expect("a file reads into memory of others");
        file.read_into(offset, into)
    }
}

/// A guest on a file of 64 blocks, each byte of which tells where it is.
struct Bench {
    _directory: tempfile::TempDir,
    _san: San,
    _port: Port,
    guest: Guest,
    memory_file: File,
    gate: Arc<Gate>,
    landed: Arc<Mutex<Vec<(usize, usize)>>>,
    pooled: Arc<AtomicUsize>,
    stuck: Arc<Mutex<()>>,
}

fn data(at: usize, length: usize) -> Vec<u8> {
    (at..at + length).map(|at| (at * 7 % 253) as u8).collect()
}

fn read(lba: u8, blocks: u8) -> [u8; 10] {
    [0x28, 0, 0, 0, 0, lba, 0, 0, blocks, 0]
}

fn map(file: &File, gate: &Arc<Gate>) -> Memory {
    // Two regions: a buffer may lie in both.
    let half = MEMORY as u64 / 2;
    let region = |start| VhostUserMemoryRegion::new(start, half, start, start);
    let files = vec![file.try_clone().unwrap(), file.try_clone().unwrap()];
    Memory::map(&[region(0), region(half)], files, Arc::clone(gate)).unwrap()
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = FileOptions::new().create(true).size(64 * 512).open(directory.path().join("vol1")).unwrap();
        file.write_at(0, &[IoSlice::new(&data(0, 64 * 512))]).unwrap();
        let (landed, pooled, stuck) = (Arc::default(), Arc::default(), Arc::default());
        let (san, memory_file) = (San::new(1, 1), memfd());
        let store =
            Watched { file, landed: Arc::clone(&landed), pooled: Arc::clone(&pooled), stuck: Arc::clone(&stuck) };
        san.disk_on(1, 0, store);
        let port = Guest::port(&san.stmf());
        let gate = Arc::default();
        let memory = map(&memory_file, &gate);
        let mut guest = Guest::with_memory(&port, HOST, Arc::clone(&memory.guest), None);
        guest.lender = Arc::new(memory);
        // POWER ON OCCURRED.
        assert!(!guest.command(0, &[0; 6], &[], 0).is_good());
        Self { _directory: directory, _san: san, _port: port, guest, memory_file, gate, landed, pooled, stuck }
    }

    fn landed(&self) -> Vec<(usize, usize)> {
        self.landed.lock().unwrap().clone()
    }

    fn pooled(&self) -> usize {
        self.pooled.load(Ordering::Relaxed)
    }

    /// All of the guest's memory.
    fn content(&self) -> Vec<u8> {
        let mut bytes = vec![0; MEMORY];
        vm_memory::Bytes::read_slice(&*self.guest.memory, &mut bytes, GuestAddress(0)).unwrap();
        bytes
    }

    /// Where the guest's memory at this address lies.
    fn place(&self, address: u64) -> usize {
        self.guest.memory.get_slice(GuestAddress(address), 1).unwrap().ptr_guard().as_ptr() as usize
    }
}

fn memfd() -> File {
    let file = File::from(rustix::fs::memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(MEMORY as u64).unwrap();
    file
}

#[test]
fn a_read_from_a_file_goes_right_into_the_guests_memory() {
    let mut bench = Bench::new();
    let answer = bench.guest.command(0, &read(3, 8), &[], 8 * 512);
    assert!(answer.is_good(), "{answer:?}");
    assert_eq!((answer.data, answer.residual, answer.written), (data(3 * 512, 8 * 512), 0, 108 + 4096));
    let [(place, 4096)] = bench.landed()[..] else { panic!("{:?}", bench.landed()) };
    let begin = bench.place(0);
    assert!((begin..begin + MEMORY / 2).contains(&place), "the memory of the guest itself");
    assert_eq!(bench.pooled(), 0);
}

#[test]
fn each_descriptor_of_a_chain_gets_its_part() {
    let mut bench = Bench::new();
    // A few bytes of data behind the response, then pieces that are no blocks; they lie side by side.
    let rooms = [112, 1024, 16, 528, 2048, 476 + 4];
    let head = bench.guest.offer(FIRST_REQUEST_QUEUE, &[&header(0, 1, &read(0, 8))], &rooms, true);
    bench.guest.kick(FIRST_REQUEST_QUEUE);
    let (_, bytes) = bench.guest.taken(FIRST_REQUEST_QUEUE, head).unwrap();
    assert_eq!(bytes[RESPONSE_BYTES..][..4096], data(0, 4096));
    assert_eq!(bench.landed().iter().map(|(_, length)| length).sum::<usize>(), 4096);
    assert_eq!(bench.pooled(), 0);
}

#[test]
fn a_chain_with_more_descriptors_than_side_by_side_gets_its_parts() {
    let mut bench = Bench::new();
    // A room of 24 bytes takes 32: from there on the pieces do not touch.
    let rooms = [112, 1004, 24, 1000, 24, 2040];
    let places: Vec<usize> = rooms.iter().map(|room: &usize| room.next_multiple_of(16)).collect();
    let head = bench.guest.offer(FIRST_REQUEST_QUEUE, &[&header(0, 1, &read(0, 8))], &rooms, true);
    bench.guest.kick(FIRST_REQUEST_QUEUE);
    assert_eq!(bench.landed().iter().map(|(_, length)| length).sum::<usize>(), 4096);
    assert_eq!(bench.landed().len(), 5, "{:?}", bench.landed());
    let (_, _) = bench.guest.taken(FIRST_REQUEST_QUEUE, head).unwrap();
    // Behind one another they are what was read.
    let first = bench.landed()[0].0 - 108 - bench.place(0);
    let (mut at, mut seen) = (first, Vec::new());
    for (room, place) in rooms.iter().zip(&places) {
        let mut bytes = vec![0; *room];
        vm_memory::Bytes::read_slice(&*bench.guest.memory, &mut bytes, GuestAddress(at as u64)).unwrap();
        seen.extend(bytes);
        at += place;
    }
    assert_eq!(seen[RESPONSE_BYTES..][..4096], data(0, 4096));
}

#[test]
fn room_for_half_a_block_is_filled_by_a_copy() {
    let mut bench = Bench::new();
    let answer = bench.guest.command(0, &read(1, 8), &[], 1124);
    assert_eq!((answer.response, answer.data), (1, data(512, 1124)), "OVERRUN");
    assert_eq!((bench.landed().len(), bench.pooled()), (0, 1));
}

#[test]
fn residuals_are_those_of_a_copy() {
    let mut bench = Bench::new();
    let answer = bench.guest.command(0, &read(1, 8), &[], 1024);
    assert_eq!((answer.response, answer.data), (1, data(512, 1024)), "OVERRUN");
    let answer = bench.guest.command(0, &read(1, 2), &[], 4096);
    assert_eq!((answer.response, answer.residual, answer.written), (0, 3072, 108 + 1024));
    assert_eq!(answer.data[..1024], data(512, 1024));
    assert_eq!((bench.landed().len(), bench.pooled()), (2, 0));
}

#[test]
fn an_abort_is_answered_when_nothing_goes_to_the_guests_memory_any_more() {
    let mut bench = Bench::new();
    bench.guest.hold_stores = true;
    let head = bench.guest.send(0, 77, &read(0, 8), &[], 4096);
    let mut job = bench.guest.device.poll_store().unwrap();
    bench.guest.device.lend_room(&mut job, &bench.guest.lender);
    let completion = bench.guest.device.completion(&job);
    let stuck = Arc::clone(&bench.stuck);
    let held = stuck.lock().unwrap();
    let reader = std::thread::spawn(move || completion.finish(job.lu.perform(job.request).outcome));
    while bench.landed().is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(bench.guest.manage(0, 0, 77), None, "the read is still under way");
    assert_eq!(bench.guest.answer(head), None);
    assert!(!bench.gate.try_close(), "somebody is behind it");
    drop(held);
    reader.join().unwrap();
    assert!(bench.gate.try_close());
    bench.guest.settle();
    assert_eq!(bench.guest.answer(head).unwrap().response, 2, "ABORTED");
}

#[test]
fn what_was_not_begun_when_the_memory_was_taken_back_does_not_touch_it() {
    let mut bench = Bench::new();
    bench.guest.hold_stores = true;
    let head = bench.guest.send(0, 1, &read(5, 8), &[], 4096);
    let mut job = bench.guest.device.poll_store().unwrap();
    bench.guest.device.lend_room(&mut job, &bench.guest.lender);
    bench.gate.close();
    let done = job.lu.perform(job.request);
    assert_eq!((bench.landed().len(), bench.pooled()), (0, 1));
    bench.guest.device.handle_store_done(&job.lu, done);
    bench.guest.settle();
    assert_eq!(bench.guest.answer(head).unwrap().data, data(5 * 512, 4096), "it comes the other way");
}

#[test]
fn a_read_that_ends_after_its_queue_was_stopped_does_not_touch_the_memory() {
    let mut bench = Bench::new();
    bench.guest.hold_stores = true;
    bench.guest.send(0, 1, &read(5, 8), &[], 4096);
    let mut job = bench.guest.device.poll_store().unwrap();
    bench.guest.device.lend_room(&mut job, &bench.guest.lender);
    bench.gate.close();
    bench.guest.device.stop(FIRST_REQUEST_QUEUE);
    let before = bench.content();
    let done = job.lu.perform(job.request);
    bench.guest.device.handle_store_done(&job.lu, done);
    bench.guest.settle();
    assert!(bench.content() == before);
    assert_eq!(bench.guest.device.under_way(FIRST_REQUEST_QUEUE), 0);
}

#[test]
fn a_read_under_way_outlives_the_memory_table_that_it_was_begun_with() {
    let mut bench = Bench::new();
    bench.guest.hold_stores = true;
    let head = bench.guest.send(0, 1, &read(9, 8), &[], 4096);
    let mut job = bench.guest.device.poll_store().unwrap();
    bench.guest.device.lend_room(&mut job, &bench.guest.lender);
    let next = map(&bench.memory_file, &bench.gate);
    bench.guest.memory = Arc::clone(&next.guest);
    bench.guest.lender = Arc::new(next);
    let done = job.lu.perform(job.request);
    bench.guest.device.handle_store_done(&job.lu, done);
    bench.guest.settle();
    assert_eq!(bench.guest.answer(head).unwrap().data, data(9 * 512, 4096));
}

/// The same memory without a room: what a guest reads is copied to it.
struct WithoutRoom(Memory);

impl Lend for WithoutRoom {
    fn lend(&self, address: u64, length: usize) -> Option<Bytes> {
        self.0.lend(address, length)
    }
}

/// Reads a second of the processor's time takes, of a file in the page cache.
fn rate(is_lent: bool, bytes: usize) -> f64 {
    const FILE: u64 = 16 << 20;
    const READS: u32 = 100_000;
    let directory = tempfile::tempdir().unwrap();
    let file = FileOptions::new().create(true).size(FILE).open(directory.path().join("vol1")).unwrap();
    file.write_at(0, &[IoSlice::new(&vec![1; FILE as usize])]).unwrap();
    let san = San::new(1, 1);
    san.disk_on(1, 0, file);
    let port = Guest::port(&san.stmf());
    let memory = map(&memfd(), &Arc::default());
    let mut guest = Guest::with_memory(&port, HOST, Arc::clone(&memory.guest), None);
    guest.lender = if is_lent { Arc::new(memory) } else { Arc::new(WithoutRoom(memory)) };
    assert!(!guest.command(0, &[0; 6], &[], 0).is_good());
    let begun = processor_time();
    for number in 0..READS {
        let block = number.wrapping_mul(2_654_435_761) % (FILE as u32 / bytes as u32) * (bytes as u32 / 512);
        let ([a, b, c, d], [high, low]) = (block.to_be_bytes(), ((bytes / 512) as u16).to_be_bytes());
        let cdb = [0x28, 0, a, b, c, d, 0, high, low, 0];
        let rooms = [RESPONSE_BYTES, bytes];
        let head = guest.offer(FIRST_REQUEST_QUEUE, &[&header(0, number.into(), &cdb)], &rooms, true);
        guest.kick(FIRST_REQUEST_QUEUE);
        assert!(guest.is_answered(FIRST_REQUEST_QUEUE, head));
    }
    f64::from(READS) / (processor_time() - begun).as_secs_f64()
}

/// Of this thread.
fn processor_time() -> Duration {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(said.split(' ').next().unwrap().parse().unwrap())
}

/// The figures of docs/design/vhost-user.md.
#[test]
#[ignore = "measures, and asserts nothing of it"]
fn how_many_reads_a_second_of_the_processor() {
    for bytes in [4 << 10, 16 << 10, 64 << 10, 256 << 10] {
        for round in 0..3 {
            let (copied, lent) = (rate(false, bytes), rate(true, bytes));
            println!("{bytes} bytes, round {round}: {copied:.0} copied, {lent:.0} read into the guest's memory");
        }
    }
}

#[test]
fn a_store_that_lends_what_it_has_is_copied_from() {
    let san = San::new(1, 1);
    san.disk_on(1, 0, lu_sbd::store::MemoryStore::new(1 << 20));
    let port = Guest::port(&san.stmf());
    let memory = map(&memfd(), &Arc::default());
    let mut guest = Guest::with_memory(&port, HOST, Arc::clone(&memory.guest), None);
    guest.lender = Arc::new(memory);
    assert!(!guest.command(0, &[0; 6], &[], 0).is_good());
    assert!(guest.command(0, &[0x2a, 0, 0, 0, 0, 3, 0, 0, 8, 0], &data(0, 4096), 0).is_good());
    assert_eq!(guest.command(0, &read(3, 8), &[], 4096).data, data(0, 4096));
}
