//! A guest: a driver of virtio-scsi and its memory, in front of a device without a socket.

use bytes::Bytes as Slice;
use lunette_loopback::Port;
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;
use stmf::Stmf;
use stmf::traffic::Registry;
use vhost_scsi::{CONTROL_QUEUE, Device, EVENT_QUEUE, FIRST_REQUEST_QUEUE, Inflight, Lend, Limits};
use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Bytes of the guest's memory.
pub const MEMORY: usize = 4 << 20;
/// Entries of each queue.
pub const QUEUE_SIZE: u16 = 16;
/// Control, events, two for requests.
pub const QUEUES: usize = 4;
/// Where the buffers of requests begin.
const HEAP: u64 = 0x10_000;
const RESPONSE_BYTES: usize = 108;

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The transport's word: 0 is OK.
    pub response: u8,
    /// The SCSI status.
    pub status: u8,
    /// Sense data.
    pub sense: Vec<u8>,
    /// Bytes that were expected and not moved.
    pub residual: u32,
    /// The whole data-in buffer.
    pub data: Vec<u8>,
    /// Bytes written in all, by the used ring.
    pub written: u32,
}

impl Answer {
    /// Whether all went well.
    pub fn is_good(&self) -> bool {
        (self.response, self.status) == (0, 0)
    }

    /// Key, ASC and ASCQ of fixed-format sense.
    pub fn sense_triple(&self) -> Option<(u8, u8, u8)> {
        (self.sense.len() >= 14).then(|| (self.sense[2] & 0x0f, self.sense[12], self.sense[13]))
    }
}

/// Memory that is copied when it is lent: who reads it cannot tell the difference.
pub struct Copied(Arc<GuestMemoryMmap>);

impl Lend for Copied {
    fn lend(&self, address: u64, length: usize) -> Option<Slice> {
        let mut bytes = vec![0; length];
        self.0.read_slice(&mut bytes, GuestAddress(address)).ok()?;
        Some(bytes.into())
    }
}

#[derive(Default)]
struct Ring {
    available: u16,
    seen: u16,
    next_descriptor: u16,
    answers: HashMap<u16, u32>,
}

/// A driver: its rings and buffers in the guest's memory, whoever the device is.
pub struct Driver {
    /// The guest's memory.
    pub memory: Arc<GuestMemoryMmap>,
    rings: [Ring; QUEUES],
    heap: u64,
    buffers: HashMap<(usize, u16), (u64, usize)>,
}

/// The guest, with its device.
pub struct Guest {
    /// Its driver.
    pub driver: Driver,
    /// The device.
    pub device: Device,
    /// Interrupts of each queue so far.
    pub interrupts: [u32; QUEUES],
    /// How its memory is lent; copied unless another way is set.
    pub lender: Arc<dyn Lend>,
    /// Keep store operations waiting.
    pub hold_stores: bool,
    /// What went through the device; it outlives it.
    pub traffic: Arc<Registry>,
}

impl Deref for Guest {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        &self.driver
    }
}

impl DerefMut for Guest {
    fn deref_mut(&mut self) -> &mut Driver {
        &mut self.driver
    }
}

/// Where a queue's table of descriptors lies.
pub fn table(queue: usize) -> u64 {
    0x1000 * (queue as u64 + 1)
}

/// Where a queue's available ring lies.
pub fn available(queue: usize) -> u64 {
    table(queue) + 0x400
}

/// Where a queue's used ring lies.
pub fn used(queue: usize) -> u64 {
    table(queue) + 0x800
}

impl Guest {
    /// A guest on a new session of `initiator` at `port`.
    ///
    /// # Panics
    /// When the initiator may not log in.
    pub fn new(port: &Port, initiator: &str) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).expect("memory");
        Self::build(port, initiator, Arc::new(memory), None, Limits::default())
    }

    /// The same with other limits.
    ///
    /// # Panics
    /// When the initiator may not log in.
    pub fn with_limits(port: &Port, initiator: &str, limits: Limits) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).expect("memory");
        Self::build(port, initiator, Arc::new(memory), None, limits)
    }

    /// The same in memory that another device has used; `inflight` is what was noted.
    ///
    /// # Panics
    /// When the initiator may not log in.
    pub fn with_memory(port: &Port, initiator: &str, memory: Arc<GuestMemoryMmap>, inflight: Option<Inflight>) -> Self {
        Self::build(port, initiator, memory, inflight, Limits::default())
    }

    fn build(
        port: &Port,
        initiator: &str,
        memory: Arc<GuestMemoryMmap>,
        inflight: Option<Inflight>,
        limits: Limits,
    ) -> Self {
        let session =
            port.open_by(initiator, &vhost_scsi::transport_id(initiator), Box::new(|| {})).expect("a session");
        let traffic = Arc::<Registry>::default();
        let device = Device::new(session, QUEUES, QUEUE_SIZE, limits, Arc::clone(&traffic));
        let mut device = device.expect("a power of two");
        device.tell_events(true, true);
        device.set_inflight(inflight);
        let mut guest = Self {
            lender: Arc::new(Copied(Arc::clone(&memory))),
            driver: Driver::new(memory),
            device,
            interrupts: [0; QUEUES],
            hold_stores: false,
            traffic,
        };
        for at in 0..QUEUES {
            let queue = guest.device.queue(at).expect("a queue");
            queue.set_size(QUEUE_SIZE);
            queue.set_desc_table_address(Some(table(at) as u32), Some(0));
            queue.set_avail_ring_address(Some(available(at) as u32), Some(0));
            queue.set_used_ring_address(Some(used(at) as u32), Some(0));
            queue.set_event_idx(true);
            guest.device.start(Instant::now(), at, &*guest.driver.memory, &guest.lender);
        }
        guest
    }

    /// The driver begins anew with a queue, and the device with it.
    pub fn begin_anew(&mut self, queue: usize) {
        self.device.reset(queue);
        self.driver.begin_anew(queue);
        if let Some(queue) = self.device.queue(queue) {
            queue.set_next_avail(0);
        }
        self.device.start(Instant::now(), queue, &*self.driver.memory, &self.lender);
    }

    /// A port of its own in this framework, online.
    ///
    /// # Panics
    /// When its name is taken.
    pub fn port(stmf: &Arc<Stmf>) -> Port {
        Port::new(stmf, "iqn.2026-11.test:vhost").expect("a new target")
    }

    /// Kicks a queue and does everything that can be done now.
    pub fn kick(&mut self, queue: usize) {
        let (memory, lender) = (Arc::clone(&self.memory), Arc::clone(&self.lender));
        while self.device.kick(Instant::now(), queue, &*memory, &lender) {
            self.settle();
        }
        self.settle();
    }

    /// Does everything that can be done now.
    pub fn settle(&mut self) {
        let memory = Arc::clone(&self.driver.memory);
        self.device.handle_mail();
        while !self.hold_stores
            && let Some(mut job) = self.device.poll_store()
        {
            self.device.lend_room(&mut job, &self.lender);
            let done = job.lu.perform(job.request);
            self.device.handle_store_done(&job.lu, done);
            self.device.handle_mail();
        }
        self.device.run(Instant::now(), &*memory);
        while let Some(queue) = self.device.poll_waiting() {
            self.device.kick(Instant::now(), queue, &*memory, &self.lender);
        }
        for queue in self.device.take_signals(&*memory) {
            self.interrupts[queue] += 1;
        }
        for queue in 0..QUEUES {
            self.collect(queue);
        }
    }

    /// Sends a command to the first request queue; 16 bytes align its buffers, so that rooms lie one behind the other.
    pub fn send(&mut self, lun: u16, id: u64, cdb: &[u8], data_out: &[u8], room: usize) -> u16 {
        self.send_on(FIRST_REQUEST_QUEUE, lun, id, cdb, data_out, room)
    }

    /// Sends a command to one of the request queues.
    pub fn send_on(&mut self, queue: usize, lun: u16, id: u64, cdb: &[u8], data_out: &[u8], room: usize) -> u16 {
        let head = self.offer_command(queue, lun, id, cdb, data_out, room);
        self.kick(queue);
        head
    }

    /// The end of a command.
    pub fn answer(&mut self, head: u16) -> Option<Answer> {
        self.answer_on(FIRST_REQUEST_QUEUE, head)
    }

    /// Sends a command and waits for its end.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn command(&mut self, lun: u16, cdb: &[u8], data_out: &[u8], room: usize) -> Answer {
        let head = self.send(lun, 1, cdb, data_out, room);
        self.answer(head).unwrap_or_else(|| panic!("no answer to {cdb:02x?}: {:?}", self.device.poll_fault()))
    }

    /// Sends a task management function (virtio 1.2, 5.6.6.2) and gives the response.
    pub fn manage(&mut self, subtype: u32, lun: u16, id: u64) -> Option<u8> {
        let mut bytes = vec![0; 24];
        bytes[4..8].copy_from_slice(&subtype.to_le_bytes());
        bytes[8..16].copy_from_slice(&header(lun, id, &[])[..8]);
        bytes[16..].copy_from_slice(&id.to_le_bytes());
        let head = self.offer(CONTROL_QUEUE, &[&bytes], &[1], false);
        self.kick(CONTROL_QUEUE);
        self.taken(CONTROL_QUEUE, head).map(|(_, bytes)| bytes[0])
    }

    /// Makes room for an event.
    pub fn await_event(&mut self) -> u16 {
        let head = self.offer(EVENT_QUEUE, &[], &[16], false);
        self.kick(EVENT_QUEUE);
        head
    }

    /// Makes room for an event, and kicks only if the device has asked to hear of it (event index, virtio 1.2, 2.7.10).
    /// The head, and whether it has.
    pub fn await_event_as_asked(&mut self) -> (u16, bool) {
        let head = self.offer(EVENT_QUEUE, &[], &[16], false);
        let wanted = GuestAddress(used(EVENT_QUEUE) + 4 + u64::from(QUEUE_SIZE) * 8);
        let wanted: u16 = self.memory.read_obj(wanted).expect("guest memory");
        let is_asked = self.rings[EVENT_QUEUE].available == wanted.wrapping_add(1);
        if is_asked {
            self.kick(EVENT_QUEUE);
        }
        (head, is_asked)
    }
}

impl Driver {
    /// A driver of rings in this memory; one that is there already goes on where it was with the device before.
    ///
    /// # Panics
    /// When the memory is smaller than [`MEMORY`].
    pub fn new(memory: Arc<GuestMemoryMmap>) -> Self {
        let index = |at: u64| memory.read_obj::<u16>(GuestAddress(at + 2)).expect("guest memory");
        let rings = std::array::from_fn(|at| {
            let (available, seen) = (index(available(at)), index(used(at)));
            Ring { available, seen, next_descriptor: available % QUEUE_SIZE, ..Ring::default() }
        });
        Self { memory, rings, heap: HEAP, buffers: HashMap::new() }
    }

    /// Clears a queue's rings.
    fn begin_anew(&mut self, queue: usize) {
        for ring in [available(queue), used(queue)] {
            self.memory.write_obj(0u32, GuestAddress(ring)).expect("guest memory");
        }
        self.want_interrupt(queue, 0);
        self.rings[queue] = Ring::default();
    }

    /// The driver wants an interrupt for the answer of this index (event index, virtio 1.2, 2.7.7).
    fn want_interrupt(&self, queue: usize, index: u16) {
        let event = available(queue) + 4 + u64::from(QUEUE_SIZE) * 2;
        self.memory.write_obj(index, GuestAddress(event)).expect("guest memory");
    }

    /// Puts a chain on a queue: what the device reads, and rooms for what it writes. The head.
    pub fn offer(&mut self, queue: usize, readable: &[&[u8]], rooms: &[usize], indirect: bool) -> u16 {
        let mut descriptors: Vec<(u64, u32, u16)> = Vec::new();
        for bytes in readable {
            let at = self.allocate(bytes.len());
            self.memory.write_slice(bytes, GuestAddress(at)).expect("guest memory");
            descriptors.push((at, bytes.len() as u32, 0));
        }
        let mut first_room = None;
        for room in rooms {
            let at = self.allocate(*room);
            first_room.get_or_insert(at);
            descriptors.push((at, *room as u32, 2));
        }
        let total = rooms.iter().sum();
        let head = self.rings[queue].next_descriptor;
        if indirect {
            let at = self.allocate(descriptors.len() * 16);
            self.descriptors(at, 0, &descriptors);
            self.descriptors(table(queue), head, &[(at, descriptors.len() as u32 * 16, 4)]);
            self.rings[queue].next_descriptor = (head + 1) % QUEUE_SIZE;
        } else {
            self.descriptors(table(queue), head, &descriptors);
            self.rings[queue].next_descriptor = (head + descriptors.len() as u16) % QUEUE_SIZE;
        }
        self.buffers.insert((queue, head), (first_room.unwrap_or(0), total));
        self.publish(queue, head);
        head
    }

    /// Makes a chain available, whatever it is.
    pub fn publish(&mut self, queue: usize, head: u16) {
        let index = self.rings[queue].available;
        let slot = available(queue) + 4 + u64::from(index % QUEUE_SIZE) * 2;
        self.memory.write_obj(head, GuestAddress(slot)).expect("guest memory");
        self.rings[queue].available = index.wrapping_add(1);
        self.memory.write_obj(self.rings[queue].available, GuestAddress(available(queue) + 2)).expect("guest memory");
    }

    /// Writes descriptors (address, length, flags), chained, from entry `first` of a table on.
    fn descriptors(&self, table: u64, first: u16, descriptors: &[(u64, u32, u16)]) {
        for (number, (address, length, flags)) in descriptors.iter().enumerate() {
            let index = (first + number as u16) % if table < HEAP { QUEUE_SIZE } else { u16::MAX };
            let is_last = number + 1 == descriptors.len();
            let next = (index + 1) % if table < HEAP { QUEUE_SIZE } else { u16::MAX };
            let (flags, next) = if is_last { (*flags, 0) } else { (*flags | 1, next) };
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&address.to_le_bytes());
            bytes[8..12].copy_from_slice(&length.to_le_bytes());
            bytes[12..14].copy_from_slice(&flags.to_le_bytes());
            bytes[14..].copy_from_slice(&next.to_le_bytes());
            self.memory.write_slice(&bytes, GuestAddress(table + u64::from(index) * 16)).expect("guest memory");
        }
    }

    fn allocate(&mut self, bytes: usize) -> u64 {
        let at = self.heap;
        self.heap += (bytes as u64).next_multiple_of(16);
        if self.heap >= MEMORY as u64 {
            self.heap = HEAP + (bytes as u64).next_multiple_of(16);
            return HEAP;
        }
        at
    }

    /// Puts a command on one of the request queues.
    pub fn offer_command(&mut self, queue: usize, lun: u16, id: u64, cdb: &[u8], data_out: &[u8], room: usize) -> u16 {
        let header = header(lun, id, cdb);
        let readable: &[&[u8]] = if data_out.is_empty() { &[&header] } else { &[&header, data_out] };
        self.offer(queue, readable, &[RESPONSE_BYTES + room], room % 1024 == 512)
    }

    /// The end of a command on one of the request queues.
    pub fn answer_on(&mut self, queue: usize, head: u16) -> Option<Answer> {
        let (written, bytes) = self.taken(queue, head)?;
        let sense_length = u32::from_le_bytes(bytes[..4].try_into().ok()?) as usize;
        Some(Answer {
            response: bytes[11],
            status: bytes[10],
            sense: bytes[12..12 + sense_length.min(96)].to_vec(),
            residual: u32::from_le_bytes(bytes[4..8].try_into().ok()?),
            data: bytes[RESPONSE_BYTES..].to_vec(),
            written,
        })
    }

    /// Takes what the device has put on a used ring.
    pub fn collect(&mut self, queue: usize) {
        let index: u16 = self.memory.read_obj(GuestAddress(used(queue) + 2)).expect("guest memory");
        while self.rings[queue].seen != index {
            let slot = used(queue) + 4 + u64::from(self.rings[queue].seen % QUEUE_SIZE) * 8;
            let head: u32 = self.memory.read_obj(GuestAddress(slot)).expect("guest memory");
            let written: u32 = self.memory.read_obj(GuestAddress(slot + 4)).expect("guest memory");
            self.rings[queue].answers.insert(head as u16, written);
            self.rings[queue].seen = self.rings[queue].seen.wrapping_add(1);
            self.want_interrupt(queue, self.rings[queue].seen);
        }
    }

    /// Whether a chain was answered since it was last asked.
    pub fn is_answered(&mut self, queue: usize, head: u16) -> bool {
        self.rings[queue].answers.remove(&head).is_some()
    }

    /// The answer to a chain, if it has come: bytes written, and the rooms.
    pub fn taken(&mut self, queue: usize, head: u16) -> Option<(u32, Vec<u8>)> {
        let written = self.rings[queue].answers.remove(&head)?;
        let (at, length) = self.buffers.get(&(queue, head)).copied()?;
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).ok()?;
        Some((written, bytes))
    }
}

/// The header of a command.
pub fn header(lun: u16, id: u64, cdb: &[u8]) -> [u8; 51] {
    let mut bytes = [0; 51];
    let [high, low] = lun.to_be_bytes();
    bytes[..4].copy_from_slice(&[1, 0, 0x40 | high, low]);
    bytes[8..16].copy_from_slice(&id.to_le_bytes());
    bytes[19..19 + cdb.len()].copy_from_slice(cdb);
    bytes
}
