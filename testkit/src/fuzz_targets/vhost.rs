//! virtio-scsi: any bytes as rings, descriptors and requests.

use vm_memory::{Bytes, GuestAddress};

use super::steer;
use crate::guest::{Guest, QUEUES};
use crate::san::San;

/// Steps: a byte that picks one (write bytes somewhere, publish a head, kick, let time pass), then what it needs.
pub(super) fn virtqueue(mut data: &[u8]) {
    let san = San::new(1, 1);
    san.disk(1, 0, 64 << 10);
    let port = Guest::port(&san.stmf());
    let mut guest = Guest::new(&port, "iqn.2026-11.test:guest");
    let mut neighbour = Guest::new(&port, "iqn.2026-11.test:neighbour");
    while !data.is_empty() {
        let (step, rest) = steer(data);
        let (number, rest) = steer(rest);
        data = rest;
        let queue = usize::from(number) % QUEUES;
        match step % 5 {
            0 => {
                let Some((place, rest)) = data.split_first_chunk::<2>() else { break };
                let count = usize::from(number).min(rest.len());
                let address = GuestAddress(0x1000 + u64::from(u16::from_le_bytes(*place)));
                let _ = guest.memory.write_slice(&rest[..count], address);
                data = &rest[count..];
            }
            1 => guest.publish(queue, u16::from(number >> 2)),
            2 => {
                // A command that is well formed, with a CDB of any bytes.
                let count = usize::from(number).min(32).min(data.len());
                let (cdb, rest) = data.split_at(count);
                data = rest;
                guest.send(u16::from(number >> 6), u64::from(number), cdb, &[], usize::from(number) * 16);
            }
            3 => guest.kick(queue),
            _ => drop(guest.manage(u32::from(number >> 4), 0, u64::from(number & 15))),
        }
        while guest.device.poll_fault().is_some() {}
    }
    guest.settle();
    for queue in 0..QUEUES {
        assert!(guest.device.under_way(queue) <= usize::from(crate::guest::QUEUE_SIZE), "more than the ring has");
    }
    // Whatever it was, nobody else notices.
    neighbour.command(0, &[0; 6], &[], 0);
}
