//! virtio-scsi: a guest's rings in front of the framework.

use lu_sbd::properties::ModifyProperties;
use lunette_loopback::Port;
use std::sync::Arc;
use stmf::config::{GroupKind, NewView};
use testkit::guest::{Guest, QUEUE_SIZE, header};
use testkit::lu::ScriptedLu;
use testkit::san::{San, guid};
use vhost_scsi::{CONTROL_QUEUE, ChainError, EVENT_QUEUE, FIRST_REQUEST_QUEUE, Fault, Inflight, Limits};
use vm_memory::{Bytes, GuestAddress};

const HOST: &str = "iqn.2026-11.test:guest";
const TEST_UNIT_READY: [u8; 6] = [0; 6];
const READ_CAPACITY: [u8; 10] = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn read(lba: u8, blocks: u8) -> [u8; 10] {
    [0x28, 0, 0, 0, 0, lba, 0, 0, blocks, 0]
}

fn write(lba: u8, blocks: u8) -> [u8; 10] {
    [0x2a, 0, 0, 0, 0, lba, 0, 0, blocks, 0]
}

fn ready(san: &San) -> (Port, Guest) {
    san.disk(1, 0, 1 << 20);
    let port = Guest::port(&san.stmf());
    let mut guest = Guest::new(&port, HOST);
    assert_eq!(guest.command(0, &TEST_UNIT_READY, &[], 0).sense_triple(), Some((6, 0x29, 0)));
    (port, guest)
}

#[test]
fn what_a_guest_writes_it_reads() {
    let san = San::new(1, 1);
    let (_port, mut guest) = ready(&san);
    let data: Vec<u8> = (0..8 * 512).map(|at| (at * 7 % 251) as u8).collect();
    let answer = guest.command(0, &write(3, 8), &data, 0);
    assert!(answer.is_good(), "{answer:?}");
    let answer = guest.command(0, &read(3, 8), &[], data.len());
    assert!(answer.is_good());
    assert_eq!((answer.data, answer.residual), (data.clone(), 0));
    // Through a table of indirect descriptors; more room than the command fills.
    let answer = guest.command(0, &read(4, 1), &[], 1536);
    assert_eq!((&answer.data[..512], answer.residual, answer.written), (&data[512..1024], 1024, 108 + 512));
}

#[test]
fn less_room_than_the_command_moves_is_an_overrun() {
    let san = San::new(1, 1);
    let (_port, mut guest) = ready(&san);
    assert_eq!(guest.command(0, &read(0, 2), &[], 1024).response, 0);
    assert_eq!(guest.command(0, &read(0, 4), &[], 1024).response, 1);
}

#[test]
fn other_targets_and_luns_are_told_apart() {
    let san = San::new(1, 1);
    let (_port, mut guest) = ready(&san);
    let mut other = header(0, 9, &TEST_UNIT_READY);
    other[1] = 5;
    let head = guest.offer(FIRST_REQUEST_QUEUE, &[&other], &[108], false);
    guest.kick(FIRST_REQUEST_QUEUE);
    assert_eq!(guest.answer(head).unwrap().response, 3, "BAD TARGET");
    let answer = guest.command(7, &TEST_UNIT_READY, &[], 0);
    assert_eq!((answer.response, answer.sense_triple()), (0, Some((5, 0x25, 0))));
    let inquiry = guest.command(7, &[0x12, 0, 0, 0, 36, 0], &[], 36);
    assert_eq!(inquiry.data[0], 0x7f, "nothing can be there");
}

#[test]
fn a_host_group_decides_what_a_guest_sees() {
    let san = San::new(1, 1);
    let port = Guest::port(&san.stmf());
    san.change(|config| config.create_group(GroupKind::Host, "vms"));
    san.change(|config| config.add_member(GroupKind::Host, "vms", HOST));
    san.stmf().register_lu(ScriptedLu::new(guid(2)), "test").unwrap();
    let view = NewView { lu: guid(2), host_group: Some("vms"), target_group: None, lun: Some(4) };
    san.change(|config| Ok(config.add_view(&view)?.0));
    let report = [0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0];
    let mut one = Guest::new(&port, HOST);
    assert_eq!(one.command(0, &report, &[], 64).data[3], 8);
    let mut two = Guest::new(&port, "iqn.2026-11.test:another");
    assert_eq!(two.command(0, &report, &[], 64).data[3], 0);
}

#[test]
fn an_aborted_command_comes_back_as_aborted_before_the_answer_to_its_abort() {
    let san = San::new(1, 1);
    let (_port, mut guest) = ready(&san);
    guest.hold_stores = true;
    let head = guest.send(0, 77, &read(0, 1), &[], 512);
    assert_eq!(guest.answer(head), None);
    assert_eq!(guest.manage(0, 0, 77), None, "the store is still at work on it");
    guest.hold_stores = false;
    guest.settle();
    assert_eq!(guest.answer(head).unwrap().response, 2, "ABORTED");
    assert_eq!(guest.manage(0, 0, 77), Some(0), "it is not there any more");
    assert_eq!(guest.manage(5, 0, 0), Some(0), "LOGICAL UNIT RESET");
    assert_eq!(guest.command(0, &TEST_UNIT_READY, &[], 0).sense_triple(), Some((6, 0x29, 3)));
    assert_eq!(guest.manage(99, 0, 0), Some(11), "FUNCTION REJECTED");
}

#[test]
fn commands_of_two_queues_are_answered_on_their_own_and_a_reset_ends_those_of_both() {
    let san = San::new(1, 1);
    let (_port, mut guest) = ready(&san);
    let (first, second) = (FIRST_REQUEST_QUEUE, FIRST_REQUEST_QUEUE + 1);
    let blocks: Vec<u8> = (1..=8).flat_map(|byte| [byte; 512]).collect();
    assert!(guest.command(0, &write(0, 8), &blocks, 0).is_good());
    guest.begin_anew(first);

    // The same descriptors in both tables: an answer on the other's ring would be taken for one of its own.
    guest.hold_stores = true;
    let reads = |guest: &mut Guest, queue, lba: u8| -> Vec<(u16, u8)> {
        (lba..lba + 2).map(|lba| (guest.send_on(queue, 0, lba.into(), &read(lba, 1), &[], 512), lba + 1)).collect()
    };
    let begun = [(first, reads(&mut guest, first, 0)), (second, reads(&mut guest, second, 4))];
    assert_eq!(begun[0].1[0].0, begun[1].1[0].0);
    assert_eq!([first, second].map(|queue| guest.device.under_way(queue)), [2, 2]);
    let interrupts = guest.interrupts;
    guest.hold_stores = false;
    guest.settle();
    for (queue, reads) in begun {
        for (head, byte) in reads {
            let answer = guest.answer_on(queue, head).unwrap();
            assert!(answer.is_good() && answer.data == [byte; 512], "queue {queue}: {answer:?}");
        }
        assert!(guest.interrupts[queue] > interrupts[queue], "queue {queue} is told");
    }

    // LOGICAL UNIT RESET while both have commands under way: none is forgotten, and none answered twice.
    guest.hold_stores = true;
    let begun = [(first, reads(&mut guest, first, 2)), (second, reads(&mut guest, second, 6))];
    assert_eq!(guest.manage(5, 0, 0), None, "the store is still at work on all of them");
    guest.hold_stores = false;
    guest.settle();
    for (queue, reads) in begun {
        for (head, _) in reads {
            assert_eq!(guest.answer_on(queue, head).unwrap().response, 2, "ABORTED, queue {queue}");
        }
        assert_eq!(guest.device.under_way(queue), 0);
    }
    assert_eq!(guest.device.under_way(CONTROL_QUEUE), 0, "the reset is answered");
    let head = guest.send_on(second, 0, 1, &TEST_UNIT_READY, &[], 0);
    assert_eq!(guest.answer_on(second, head).unwrap().sense_triple(), Some((6, 0x29, 3)));
    for (queue, byte) in [(first, 3), (second, 7)] {
        let head = guest.send_on(queue, 0, 1, &read(byte - 1, 1), &[], 512);
        assert_eq!(guest.answer_on(queue, head).unwrap().data, [byte; 512]);
    }
}

#[test]
fn events_tell_of_units_that_come_and_go_and_grow() {
    let san = San::new(1, 1);
    let (_port, mut guest) = ready(&san);
    let event = |bytes: &[u8]| {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        (word(0), [bytes[6], bytes[7]], word(12))
    };
    let head = guest.await_event();
    let (lu, _) = san.disk(2, 300, 1 << 16);
    guest.settle();
    let (_, bytes) = guest.taken(EVENT_QUEUE, head).unwrap();
    assert_eq!(event(&bytes), (1, [0x41, 0x2c], 1), "TRANSPORT RESET, RESCAN");
    assert!(guest.interrupts[EVENT_QUEUE] > 0);

    // The guest meets the unit: other units have come, and this one is new to it.
    assert_eq!(guest.command(300, &TEST_UNIT_READY, &[], 0).sense_triple(), Some((6, 0x3f, 0x0e)));
    assert_eq!(guest.command(300, &TEST_UNIT_READY, &[], 0).sense_triple(), Some((6, 0x29, 0)));
    lu.modify(&ModifyProperties::parse(["wcd=true"], None).unwrap()).unwrap();
    san.stmf().lu_changed(guid(2));
    guest.settle();
    let head = guest.await_event();
    let (_, bytes) = guest.taken(EVENT_QUEUE, head).unwrap();
    assert_eq!(event(&bytes), (3, [0x41, 0x2c], 0x012a), "PARAM CHANGE, mode parameters");

    san.stmf().offline_lu(guid(2)).unwrap();
    guest.settle();
    let head = guest.await_event();
    let (_, bytes) = guest.taken(EVENT_QUEUE, head).unwrap();
    assert_eq!(event(&bytes), (1, [0x41, 0x2c], 2), "TRANSPORT RESET, REMOVED");
}

#[test]
fn a_change_is_told_by_an_event_when_a_command_has_reported_it_first_or_hides_it() {
    let san = San::new(1, 1);
    let (_port, mut guest) = ready(&san);
    let (lu, _) = san.disk(2, 1, 1 << 16);
    let head = guest.await_event();
    guest.settle();
    assert!(guest.taken(EVENT_QUEUE, head).is_some());
    let change = |property| {
        lu.modify(&ModifyProperties::parse([property], None).unwrap()).unwrap();
        san.stmf().lu_changed(guid(2));
    };
    // It waits behind two others, which the guest has not met yet.
    change("wcd=true");
    guest.settle();
    let head = guest.await_event();
    assert!(guest.taken(EVENT_QUEUE, head).is_none());
    assert_eq!(guest.command(1, &TEST_UNIT_READY, &[], 0).sense_triple(), Some((6, 0x3f, 0x0e)));
    assert_eq!(guest.command(1, &TEST_UNIT_READY, &[], 0).sense_triple(), Some((6, 0x29, 0)));
    assert!(guest.taken(EVENT_QUEUE, head).is_some());
    assert_eq!(guest.command(1, &TEST_UNIT_READY, &[], 0).sense_triple(), Some((6, 0x2a, 1)));
    let head = guest.await_event();
    guest.taken(EVENT_QUEUE, head);
    // A command reports it before the device has looked.
    while guest.command(1, &TEST_UNIT_READY, &[], 0).sense_triple().is_some() {}
    let head = guest.await_event();
    change("wcd=false");
    assert_eq!(guest.command(1, &TEST_UNIT_READY, &[], 0).sense_triple(), Some((6, 0x2a, 1)));
    let (_, bytes) = guest.taken(EVENT_QUEUE, head).unwrap();
    assert_eq!((bytes[0], &bytes[12..]), (3, &[0x2a, 1, 0, 0][..]), "PARAM CHANGE, mode parameters");
}

#[test]
fn a_change_is_told_when_what_hides_it_is_taken_away_at_another_unit_or_without_a_word() {
    let san = San::new(1, 1);
    let (_port, mut guest) = ready(&san);
    let (lu, _) = san.disk(2, 1, 1 << 16);
    let head = guest.await_event();
    guest.settle();
    assert!(guest.taken(EVENT_QUEUE, head).is_some());
    while guest.command(1, &TEST_UNIT_READY, &[], 0).sense_triple().is_some() {}
    let report_luns = [0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0];
    let commands: [(&[u8], usize, _); 2] = [(&TEST_UNIT_READY, 0, Some((6, 0x3f, 0x0e))), (&report_luns, 64, None)];
    for (number, (cdb, room, sense)) in (3u16..).zip(commands) {
        // Another unit comes, which the guest has to hear of first.
        san.disk(number, number, 1 << 16);
        let head = guest.await_event();
        guest.settle();
        assert_eq!(guest.taken(EVENT_QUEUE, head).unwrap().1[0], 1, "TRANSPORT RESET");
        lu.modify(&ModifyProperties::parse(["wcd=true"], None).unwrap()).unwrap();
        san.stmf().lu_changed(guid(2));
        guest.settle();
        let head = guest.await_event();
        assert_eq!(guest.taken(EVENT_QUEUE, head), None);
        assert_eq!(guest.command(0, cdb, &[], room).sense_triple(), sense);
        let (_, event) = guest.taken(EVENT_QUEUE, head).expect("an event");
        assert_eq!((event[0], event[7], event[12]), (3, 1, 0x2a), "PARAM CHANGE of LUN 1");
        lu.modify(&ModifyProperties::parse(["wcd=false"], None).unwrap()).unwrap();
        while guest.command(1, &TEST_UNIT_READY, &[], 0).sense_triple().is_some() {}
        guest.settle();
        let head = guest.await_event();
        guest.taken(EVENT_QUEUE, head);
    }
}

#[test]
fn a_driver_is_asked_to_say_when_it_makes_room_for_an_event() {
    let san = San::new(1, 1);
    let (_port, mut guest) = ready(&san);
    let first = guest.await_event();
    for number in 2..6 {
        san.disk(number, number, 1 << 16);
    }
    guest.settle();
    assert!(guest.taken(EVENT_QUEUE, first).is_some());
    for number in 3..6 {
        let (head, is_asked) = guest.await_event_as_asked();
        assert!(is_asked);
        assert_eq!(guest.taken(EVENT_QUEUE, head).expect("an event").1[7], number, "TRANSPORT RESET of each");
    }
}

#[test]
fn each_of_many_units_that_change_is_told() {
    let san = San::new(1, 1);
    let (_port, mut guest) = ready(&san);
    let units: Vec<_> = (2..=100).map(|number| (number, san.disk(number, number, 1 << 16).0)).collect();
    let report_luns = [0xa0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0];
    guest.command(0, &report_luns, &[], 4096);
    let mut missed = false;
    let mut told = std::collections::BTreeSet::new();
    let mut hear = |guest: &mut Guest, told: &mut std::collections::BTreeSet<u8>| {
        loop {
            let head = guest.await_event();
            let Some((_, event)) = guest.taken(EVENT_QUEUE, head) else { return };
            missed |= event[3] == 0x80;
            if event[0] == 3 {
                told.insert(event[7]);
            }
        }
    };
    for (number, lu) in &units {
        while guest.command(*number, &TEST_UNIT_READY, &[], 0).sense_triple().is_some() {}
        lu.modify(&ModifyProperties::parse(["wcd=true"], None).unwrap()).unwrap();
        san.stmf().lu_changed(guid(*number));
    }
    guest.settle();
    hear(&mut guest, &mut told);
    assert!(missed, "more units came than events are kept");
    assert_eq!(told.len(), units.len());
}

#[test]
fn a_guest_that_goes_on_with_another_device_hears_what_it_may_have_missed() {
    let san = San::new(1, 1);
    let (port, mut guest) = ready(&san);
    let notes = Notes::default();
    guest.device.set_inflight(notes.inflight());
    let head = guest.await_event();
    san.disk(2, 1, 1 << 16);
    guest.settle();
    assert!(guest.taken(EVENT_QUEUE, head).is_some());
    let memory = Arc::clone(&guest.memory);
    drop(guest);
    // Nobody is there to be told.
    san.disk(3, 2, 1 << 16);
    let mut guest = Guest::with_memory(&port, HOST, memory, notes.inflight());
    let events: Vec<Vec<u8>> = std::iter::from_fn(|| {
        let head = guest.await_event();
        Some(guest.taken(EVENT_QUEUE, head)?.1)
    })
    .collect();
    let seen: Vec<(u8, u8, u8, u8, u8)> =
        events.iter().map(|event| (event[0], event[3], event[7], event[12], event[13])).collect();
    assert_eq!(seen[0], (0, 0x80, 0, 0, 0), "EVENTS MISSED, and nothing else");
    assert_eq!(seen[1..], [0, 1, 2].map(|lun| (3, 0, lun, 0x2a, 0)), "PARAMETERS CHANGED of each");
}

#[test]
fn what_is_left_of_a_queue_that_was_reset_is_nobodys() {
    let san = San::new(1, 1);
    let (_port, mut guest) = ready(&san);
    assert!(guest.command(0, &write(0, 1), &[0x5a; 512], 0).is_good());
    guest.hold_stores = true;
    guest.begin_anew(FIRST_REQUEST_QUEUE);
    let old = guest.send(0, 7, &read(0, 1), &[], 512);
    guest.begin_anew(FIRST_REQUEST_QUEUE);
    assert_eq!(guest.device.under_way(FIRST_REQUEST_QUEUE), 0);
    let new = guest.send(0, 8, &read(1, 1), &[], 512);
    assert_eq!((old, guest.device.poll_fault()), (new, None), "its driver counts descriptors from the start");
    guest.hold_stores = false;
    guest.settle();
    let used: u16 = guest.memory.read_obj(GuestAddress(0x1000 * 3 + 0x800 + 2)).unwrap();
    assert_eq!(used, 1, "one answer, to the one request that the driver knows of");
    let answer = guest.answer(new).unwrap();
    assert!(answer.is_good() && answer.data == [0; 512], "{answer:?}");
    assert_eq!(guest.device.under_way(FIRST_REQUEST_QUEUE), 0);
    assert!(guest.command(0, &read(0, 1), &[], 512).data == [0x5a; 512]);
}

#[test]
fn an_event_names_a_unit_as_report_luns_does() {
    let san = San::new(1, 1);
    let (_port, mut guest) = ready(&san);
    for (number, lun) in [(2, 5), (3, 255), (4, 256)] {
        let head = guest.await_event();
        san.disk(number, lun, 1 << 16);
        guest.settle();
        let (_, event) = guest.taken(EVENT_QUEUE, head).unwrap();
        let report = guest.command(0, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], &[], 64).data;
        let newest = 8 + usize::from(report[3]) - 8;
        // A Linux driver takes the two bytes for the number under which it has, or is to have, the device.
        assert_eq!(event[4..8], [1, 0, report[newest], report[newest + 1]], "LUN {lun}");
    }
}

#[test]
fn each_change_of_a_unit_is_told() {
    let san = San::new(1, 1);
    let (_port, mut guest) = ready(&san);
    let (lu, _) = san.disk(2, 1, 1 << 16);
    let head = guest.await_event();
    guest.settle();
    assert!(guest.taken(EVENT_QUEUE, head).is_some());
    while guest.command(1, &TEST_UNIT_READY, &[], 0).sense_triple().is_some() {}
    for setting in ["wcd=true", "wcd=false", "wcd=true"] {
        let head = guest.await_event();
        lu.modify(&ModifyProperties::parse([setting], None).unwrap()).unwrap();
        san.stmf().lu_changed(guid(2));
        guest.settle();
        let (_, event) = guest.taken(EVENT_QUEUE, head).unwrap_or_else(|| panic!("{setting} is not told"));
        assert_eq!((event[0], event[12], event[13]), (3, 0x2a, 0x01), "PARAM CHANGE, mode parameters");
        // The guest looks, and meets the unit attention of the same change.
        assert_eq!(guest.command(1, &TEST_UNIT_READY, &[], 0).sense_triple(), Some((6, 0x2a, 0x01)));
        assert!(guest.command(1, &TEST_UNIT_READY, &[], 0).is_good());
    }
}

#[test]
fn commands_under_way_are_carried_out_again_by_the_next_device() {
    let san = San::new(1, 1);
    let (port, mut guest) = ready(&san);
    let notes = Notes::default();
    let (memory, data) = (Arc::clone(&guest.memory), [0x5a; 512]);
    guest.device.set_inflight(notes.inflight());
    let first = guest.send(0, 1, &write(0, 1), &data, 0);
    assert!(guest.answer(first).unwrap().is_good());
    guest.hold_stores = true;
    let second = guest.send(0, 2, &write(1, 1), &data, 0);
    assert_eq!(guest.answer(second), None);
    // The process ends.
    drop(guest);
    let mut guest = Guest::with_memory(&port, HOST, memory, notes.inflight());
    guest.settle();
    let used: u16 = guest.memory.read_obj(GuestAddress(0x1000 * 3 + 0x800 + 2)).unwrap();
    assert_eq!(used, 3, "the unit attention, the write that was answered, the one that was not");
    assert_eq!(guest.device.under_way(FIRST_REQUEST_QUEUE), 0);
}

#[test]
fn a_guest_with_the_name_of_a_fibre_channel_port_is_told_as_one_and_comes_back_as_the_same() {
    for (name, id) in [
        ("wwn.210000e08b01f7e2", &[0, 0, 0, 0, 0, 0, 0, 0, 0x21, 0, 0, 0xe0, 0x8b, 1, 0xf7, 0xe2, 0, 0, 0, 0][..]),
        ("naa.52004567ba64678d", b"naa.52004567ba64678d,i,0x800000000000"),
        (HOST, b"iqn.2026-11.test:guest,i,0x800000000000"),
    ] {
        let san = San::new(1, 1);
        san.disk(1, 0, 1 << 20);
        let port = Guest::port(&san.stmf());
        let persistent = |guest: &mut Guest, action: u8, key: u8, new_key: u8| {
            let mut parameters = [0; 24];
            (parameters[7], parameters[15]) = (key, new_key);
            guest.command(0, &[0x5f, action, 3, 0, 0, 0, 0, 0, 24, 0], &parameters, 0).status
        };
        let mut guest = Guest::new(&port, name);
        while !guest.command(0, &TEST_UNIT_READY, &[], 0).is_good() {}
        assert_eq!([persistent(&mut guest, 0, 0, 7), persistent(&mut guest, 1, 7, 0)], [0, 0]);
        let full = guest.command(0, &[0x5e, 3, 0, 0, 0, 0, 0, 2, 0, 0], &[], 512).data;
        assert!(full.windows(id.len()).any(|some| some == id), "{name}: {full:02x?}");
        drop(guest);
        // Exclusive access, of a nexus that is there again.
        let mut guest = Guest::new(&port, name);
        while guest.command(0, &TEST_UNIT_READY, &[], 0).sense_triple().is_some() {}
        assert!(guest.command(0, &read(0, 1), &[], 512).is_good(), "{name} is still the holder");
        let mut other = Guest::new(&port, "wwn.210000e08b01f7e3");
        while other.command(0, &TEST_UNIT_READY, &[], 0).sense_triple().is_some() {}
        assert_eq!(other.command(0, &read(0, 1), &[], 512).status, 0x18, "RESERVATION CONFLICT");
        assert_eq!(persistent(&mut guest, 0, 7, 0), 0);
    }
}

/// Memory that outlives a device.
#[derive(Clone, Default)]
struct Notes(Arc<std::sync::Mutex<Vec<u8>>>);

/// A copy that goes back when the device ends.
struct Kept(Vec<u8>, Notes);

impl Notes {
    fn inflight(&self) -> Option<Inflight> {
        let mut bytes = self.0.lock().unwrap().clone();
        bytes.resize(Inflight::bytes_for(4, QUEUE_SIZE), 0);
        Inflight::new(Box::new(Kept(bytes, self.clone())), 4, QUEUE_SIZE)
    }
}

impl AsMut<[u8]> for Kept {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        *self.1.0.lock().unwrap() = std::mem::take(&mut self.0);
    }
}

#[test]
fn a_ring_that_makes_no_sense_stops_its_queue_and_no_other() {
    let san = San::new(1, 1);
    let (port, mut guest) = ready(&san);
    let mut neighbour = Guest::new(&port, "iqn.2026-11.test:neighbour");
    let memory = Arc::clone(&guest.memory);
    let descriptor = |address: u64, length: u32, flags: u16, next: u16| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        memory.write_slice(&bytes, GuestAddress(0x4000)).unwrap();
    };
    let second = FIRST_REQUEST_QUEUE + 1;
    // Its own successor.
    descriptor(0x10_000, 16, 1, 0);
    guest.publish(second, 0);
    guest.kick(second);
    assert_eq!(guest.device.poll_fault(), Some(Fault::Chain { queue: second, error: ChainError::Loop }));
    guest.publish(second, 0);
    guest.kick(second);
    assert_eq!(guest.device.poll_fault(), None, "a queue that was stopped is not looked at");
    assert!(!guest.command(0, &READ_CAPACITY, &[], 8).data.is_empty());
    assert_eq!(neighbour.command(0, &TEST_UNIT_READY, &[], 0).sense_triple(), Some((6, 0x29, 0)));
}

#[test]
fn each_kind_of_malformed_chain_has_its_name() {
    type Case = (u64, u32, u16, u16, fn(ChainError) -> bool);
    let cases: [Case; 6] = [
        (0x10_000, 16, 1, 0xfff0, |error| error == ChainError::Index(0xfff0)),
        (u64::MAX - 4, 16, 0, 0, |error| matches!(error, ChainError::Memory { .. })),
        (0x10_000, u32::MAX, 2, 0, |error| matches!(error, ChainError::Memory { .. })),
        (0x10_000, 15, 4, 0, |error| error == ChainError::Indirect),
        (0x10_000, 16, 5, 0, |error| error == ChainError::Indirect),
        (0x10_000, 50, 0, 0, |error| matches!(error, ChainError::Short { readable: 50, writable: 0 })),
    ];
    for (number, (address, length, flags, next, is_it)) in cases.into_iter().enumerate() {
        let san = San::new(1, 1);
        let (_port, mut guest) = ready(&san);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        guest.memory.write_slice(&bytes, GuestAddress(0x4000)).unwrap();
        guest.publish(FIRST_REQUEST_QUEUE + 1, 0);
        guest.kick(FIRST_REQUEST_QUEUE + 1);
        let Some(Fault::Chain { error, .. }) = guest.device.poll_fault() else { panic!("case {number}") };
        assert!(is_it(error), "case {number}: {error}");
    }
}

#[test]
fn reads_beyond_the_limit_wait_on_their_ring() {
    let san = San::new(1, 1);
    san.disk(1, 0, 1 << 20);
    let port = Guest::port(&san.stmf());
    let mut guest = Guest::with_limits(&port, HOST, Limits { max_reading: 1024, ..Limits::default() });
    assert!(!guest.command(0, &TEST_UNIT_READY, &[], 0).is_good());
    guest.hold_stores = true;
    let heads: Vec<u16> = (0..4).map(|id| guest.send(0, id, &read(id as u8, 1), &[], 512)).collect();
    assert_eq!(guest.device.under_way(FIRST_REQUEST_QUEUE), 2);
    guest.hold_stores = false;
    guest.settle();
    guest.settle();
    for head in heads {
        assert!(guest.answer(head).unwrap().is_good());
    }
}

#[test]
fn what_goes_through_a_device_is_counted_with_its_unit_and_outlives_it() {
    let san = San::new(1, 1);
    let (_port, mut guest) = ready(&san);
    assert!(guest.command(0, &write(0, 8), &[7; 4096], 0).is_good());
    assert!(guest.command(0, &read(0, 2), &[], 1024).is_good());
    guest.hold_stores = true;
    guest.send(0, 9, &read(0, 1), &[], 512);
    let traffic = Arc::clone(&guest.traffic);
    let report = traffic.report();
    let [target, session, unit] =
        [report.targets.values().next(), report.sessions.values().next(), report.lus.values().next()];
    for traffic in [target, session, unit] {
        let traffic = traffic.unwrap();
        assert_eq!((traffic.reads, traffic.read_bytes, traffic.writes, traffic.written_bytes), (1, 1024, 1, 4096));
        assert_eq!((traffic.write_latency.counts.iter().sum::<u64>(), traffic.queue_depth), (1, 1));
    }
    drop(guest);
    let after = traffic.report();
    assert!(after.sessions.is_empty());
    assert_eq!((after.targets.values().next().unwrap().reads, after.lus.values().next().unwrap().queue_depth), (1, 0));
}
