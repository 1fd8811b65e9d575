//! Messages of vhost-user, with descriptors, at the socket of a whole server, and what a guest may do between them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use lu_sbd::store::MemoryStore;
use lunette_server::vhost::VhostPort;
use lunette_server::{Server, ServerConfig};
use testkit::guest::{MEMORY, QUEUE_SIZE, available, table, used};
use testkit::monitor::{
    Machine, Monitor, USED_PROTOCOL_FEATURES, event, memory_file, memory_table, message, of_queue, ring_addresses,
    words,
};
use vhost_scsi::FIRST_REQUEST_QUEUE;
use vm_memory::{Bytes, GuestAddress};

use crate::fuzz_targets::scratch;

/// Bytes that the process may have mapped more at the end of an input than at the end of the first: what is kept for it.
const MOST_MEMORY: u64 = 512 << 20;

/// A server with a port for whatever comes, and one with a neighbour that must be served.
struct Place {
    _server: Server,
    socket: PathBuf,
    neighbour: Machine,
    memory: u64,
}

impl Place {
    fn new() -> Self {
        let place = scratch().join("vhost");
        std::fs::create_dir_all(&place).expect("a directory");
        let [socket, beside] = ["machine.sock", "beside.sock"].map(|name| place.join(name));
        let config = ServerConfig {
            state: place.join("state"),
            socket: place.join("socket"),
            portals: Vec::new(),
            vhost_ports: [&socket, &beside].map(VhostPort::new).into(),
            ..ServerConfig::default()
        };
        let server = Server::start(&config).expect("a server");
        let guid = stmf::Guid::generate(stmf::Guid::DEFAULT_OUI, scsi_core::GuidHost::HostId(1), 0, 1);
        let properties = lu_sbd::properties::CreateProperties::default();
        let identity = properties.identity(guid, std::path::Path::new("ram"), 1 << 20).expect("an identity");
        let (store, record) = (Arc::new(MemoryStore::new(1 << 20)), Arc::new(lu_sbd::meta::NoRecord));
        let lu = lu_sbd::SbdLu::new(identity, store, record, lu_sbd::Limits::default());
        server.stmf().register_lu(Arc::new(lu), "fuzz").expect("a unit");
        let view = stmf::config::NewView { lu: guid, host_group: None, target_group: None, lun: Some(0) };
        let (change, _) = server.stmf().with_config(|config| config.add_view(&view)).expect("a view");
        server.stmf().commit(change);
        let neighbour = Machine::start(&beside).expect("the neighbour is served");
        Self { _server: server, socket, neighbour, memory: mapped() }
    }
}

/// Bytes of memory that this process has.
fn mapped() -> u64 {
    let said = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    said.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
}

/// Takes numbers and bytes from the front of an input; zeros when it has ended.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// Steps: a byte that picks one, then what it needs. Afterwards the neighbour is served, and so is who comes next.
pub(crate) fn vhost_socket(data: &[u8]) {
    static PLACE: OnceLock<Mutex<Place>> = OnceLock::new();
    let place = PLACE.get_or_init(|| Mutex::new(Place::new()));
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    let mut machine: Option<Machine> = None;
    let mut stranger: Option<Monitor> = None;
    let mut input = Input(data);
    for _ in 0..48 {
        if input.0.is_empty() {
            break;
        }
        let (step, number) = (input.byte(), input.byte());
        match step % 10 {
            0 => {
                // One monitor at a time is answered.
                drop((machine.take(), stranger.take()));
                machine = Machine::start(&place.socket).ok();
            }
            1 => {
                drop((machine.take(), stranger.take()));
                stranger = Monitor::connect(&place.socket).ok();
            }
            _ => {}
        }
        if let Some(machine) = &mut machine {
            let queue = usize::from(number) % 4;
            match step % 10 {
                2 => {
                    let address = GuestAddress(0x1000 + u64::from(input.word()));
                    let _ = machine.driver.memory.write_slice(input.bytes(usize::from(number)), address);
                }
                3 => {
                    let (queue, cdb) = (FIRST_REQUEST_QUEUE + queue % 2, input.bytes(usize::from(number >> 4)));
                    machine.driver.offer_command(queue, 0, u64::from(number), cdb, &[], usize::from(number & 15) * 64);
                    let _ = machine.kick(queue);
                }
                4 => {
                    machine.driver.publish(queue, u16::from(number >> 2));
                    let _ = machine.kick(queue);
                }
                _ => {}
            }
        }
        if let Some(monitor) = machine.as_ref().map(|machine| &machine.monitor).or(stranger.as_ref()) {
            // What was refused ends the connection, and then there is nobody to take more.
            let _ = say(monitor, step % 10, number, &mut input);
        }
    }
    drop((machine, stranger));
    let answer = place.neighbour.command(FIRST_REQUEST_QUEUE, 0, &[0x12, 0, 0, 0, 36, 0], &[], 36);
    assert!(answer.expect("the neighbour is served").data[8..].starts_with(b"LUNETTE"));
    // Whoever comes next is greeted as soon as the one before has gone.
    let begun = Instant::now();
    let mut next = Monitor::connect(&place.socket).expect("the server listens");
    assert_eq!(next.ask(message::GET_FEATURES, &[]).expect("an answer").len(), 8);
    assert!(begun.elapsed() < Duration::from_secs(30), "the port was held up");
    assert!(mapped() < place.memory + MOST_MEMORY, "memory is not given back");
}

/// A message: bytes of any kind, or well formed with numbers that need not make sense.
fn say(monitor: &Monitor, step: u8, number: u8, input: &mut Input<'_>) -> std::io::Result<()> {
    let queue = usize::from(number & 7);
    match step {
        5 => monitor.send_raw(input.bytes(usize::from(number)), &[]),
        6 => {
            let (kind, counts) = (u32::from(input.byte() % 48), input.byte());
            let mut files: Vec<OwnedFd> = Vec::new();
            for _ in 0..counts & 3 {
                files.push(event()?);
            }
            for _ in 0..counts >> 6 {
                files.push(memory_file(u64::from(counts) << 12)?.into());
            }
            let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
            monitor.send(kind, input.bytes(usize::from(number)), &files)
        }
        7 => {
            let word = u32::from(input.word());
            match number >> 3 {
                0 => monitor.send(message::SET_OWNER, &[], &[]),
                1 => monitor.send(message::SET_FEATURES, &words(&[u64::from(word) << ((number & 7) * 4)]), &[]),
                2 => monitor.send(message::SET_PROTOCOL_FEATURES, &words(&[USED_PROTOCOL_FEATURES]), &[]),
                3 => monitor.send(message::SET_VRING_NUM, &of_queue(queue, word), &[]),
                4 => monitor.send(message::SET_VRING_NUM, &of_queue(queue, u32::from(QUEUE_SIZE)), &[]),
                5 | 6 => monitor.send(message::SET_VRING_BASE, &of_queue(queue, word), &[]),
                7 | 8 => monitor.send(message::SET_VRING_ENABLE, &of_queue(queue, word & 1), &[]),
                9 | 10 => monitor.send(message::GET_VRING_BASE, &of_queue(queue, 0), &[]),
                11..14 => monitor.send(message::SET_VRING_KICK, &words(&[queue as u64]), &[event()?.as_fd()]),
                14..16 => monitor.send(message::SET_VRING_CALL, &words(&[queue as u64]), &[event()?.as_fd()]),
                16..20 => {
                    let addresses = ring_addresses(queue, table(queue & 3), used(queue & 3), available(queue & 3));
                    monitor.send(message::SET_VRING_ADDR, &addresses, &[])
                }
                20..24 => {
                    let place = |bits: u32| u64::from(word >> bits & 31) << 12;
                    monitor.send(message::SET_VRING_ADDR, &ring_addresses(queue, place(0), place(5), place(10)), &[])
                }
                24..26 => monitor.send(4, &[], &[]),
                26..28 => monitor.send(34, &[], &[]),
                _ => monitor.send(message::GET_FEATURES, &[], &[]),
            }
        }
        8 => {
            let (start, bytes, offset, file) = (input.byte(), input.byte(), input.byte(), input.byte());
            let [start, bytes, offset, file] = [start, bytes, offset, file].map(|pages| u64::from(pages) << 12);
            // The odd ones as large as what is there.
            let bytes = if number & 1 == 0 { bytes } else { MEMORY as u64 };
            let file = memory_file(if number & 2 == 0 { file } else { MEMORY as u64 })?;
            let start = if number & 4 == 0 { start } else { u64::MAX - start };
            monitor.send(message::SET_MEM_TABLE, &memory_table(start, bytes, offset), &[file.as_fd()])
        }
        9 => {
            let (queues, size) = (u16::from(input.byte()), input.word());
            let bytes = if number & 1 == 0 { u64::from(number) << 8 } else { 1 << 20 };
            let file = memory_file(bytes)?;
            let mut payload = words(&[bytes, u64::from(number >> 4) << 12]);
            payload.extend(queues.to_le_bytes());
            payload.extend(size.to_le_bytes());
            match number & 2 {
                0 => monitor.send(message::SET_INFLIGHT_FD, &payload, &[file.as_fd()]),
                _ => monitor.send(message::GET_INFLIGHT_FD, &payload, &[]),
            }
        }
        _ => Ok(()),
    }
}
