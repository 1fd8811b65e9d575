//! A whole target, from the bytes of connections to the blocks of a disk, as a series of operations.

use std::collections::HashSet;
use std::time::Duration;

use iscsi_proto::frame::{Framer, Limits};
use iscsi_proto::pdu::TargetPdu;
use iscsit::ConnectionId;

use super::whole::{TARGET, WholeTarget};

/// Small, so that ranges meet the end and each other.
const DISK_BYTES: u64 = 256 * 512;

/// Operations of a peer, the store and the clock; at the end everything must come to rest. What the target sends must
/// be whole PDUs, each command answered at most once, and each status in its turn.
pub(super) fn whole_target(data: &[u8]) {
    let mut target = WholeTarget::new(DISK_BYTES);
    let mut peers = vec![Peer::login(&mut target, 0)];
    let mut input = Input(data);
    // Bounded, so that an input costs the fuzzer milliseconds.
    for _ in 0..200 {
        let Some(op) = input.byte() else { break };
        let which = usize::from(op >> 6) % peers.len();
        match op & 0x0f {
            0..=4 => peers[which].command(&mut target, &mut input),
            5 => peers[which].data_out(&mut target, &mut input),
            6 => peers[which].manage(&mut target, &mut input),
            7 => peers[which].other(&mut target, &mut input),
            8 => {
                let length = usize::from(input.byte().unwrap_or(0));
                let bytes = input.take(length).to_vec();
                peers[which].is_wild = true;
                peers[which].send(&mut target, bytes);
            }
            9 | 10 => target.perform(usize::from(input.byte().unwrap_or(0)) % target.jobs.len().max(1)),
            11 => target.perform_all(),
            12 => target.advance(Duration::from_millis(u64::from(input.byte().unwrap_or(0)) * 250)),
            13 => target.close(peers[which].connection),
            // The same initiator port again takes the session over; another has one of its own.
            14 if peers.len() < 4 => peers.push(Peer::login(&mut target, input.byte().unwrap_or(0) & 3)),
            _ => {}
        }
        peers.iter_mut().for_each(|peer| peer.listen(&mut target));
    }
    target.perform_all();
    for peer in &mut peers {
        peer.listen(&mut target);
        target.close(peer.connection);
    }
    // Sessions without a connection wait for their initiator, at most DefaultTime2Retain.
    target.perform_all();
    target.advance(Duration::from_secs(3 * 3600));
    target.perform_all();
    assert_eq!(target.worker.connections(), 0, "connections after all were closed");
    assert_eq!(target.worker.sessions(), 0, "sessions after all connections were closed");
    assert!(target.jobs.is_empty());
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }
}

/// One connection with its numbers, which are right unless the input says otherwise.
struct Peer {
    connection: ConnectionId,
    framer: Framer,
    command_number: u32,
    next_status: Option<u32>,
    next_tag: u32,
    transfer_tag: u32,
    outstanding: HashSet<u32>,
    /// Raw bytes were sent: tags and numbers are anybody's guess from here on.
    is_wild: bool,
}

impl Peer {
    fn login(target: &mut WholeTarget, qualifier: u8) -> Self {
        let connection = target.connect();
        let mut peer = Self {
            connection,
            framer: Framer::new(Limits { max_data_segment_length: 1 << 24, ..Limits::default() }),
            command_number: 1,
            next_status: None,
            next_tag: 1,
            transfer_tag: u32::MAX,
            outstanding: HashSet::new(),
            is_wild: false,
        };
        let text = format!(
            "InitiatorName=iqn.2026-11.org.example:host\0TargetName={TARGET}\0SessionType=Normal\0InitialR2T=No\0\
             ImmediateData=Yes\0FirstBurstLength=1024\0MaxBurstLength=2048\0MaxOutstandingR2T=2\0\
             DefaultTime2Retain=2\0"
        );
        let mut header = [0; 48];
        header[0] = 0x43;
        header[1] = 0x87;
        header[8] = 0x80;
        header[13] = qualifier;
        header[24..28].copy_from_slice(&1u32.to_be_bytes());
        let bytes = peer.pdu(header, text.as_bytes());
        peer.send(target, bytes);
        peer.listen(target);
        peer
    }

    /// The PDU with its length, CmdSN and ExpStatSN filled in.
    fn pdu(&self, mut header: [u8; 48], data: &[u8]) -> Vec<u8> {
        let length = (data.len() as u32).to_be_bytes();
        header[5..8].copy_from_slice(&length[1..]);
        let opcode = header[0] & 0x3f;
        if opcode != 0x05 && opcode != 0x10 {
            header[24..28].copy_from_slice(&self.command_number.to_be_bytes());
        }
        header[28..32].copy_from_slice(&self.next_status.unwrap_or(0).to_be_bytes());
        let mut bytes = [&header[..], data].concat();
        bytes.resize(48 + data.len().next_multiple_of(4), 0);
        bytes
    }

    fn send(&mut self, target: &mut WholeTarget, bytes: Vec<u8>) {
        if !target.is_closed(self.connection) {
            target.receive(self.connection, bytes);
        }
    }

    fn number(&mut self, immediate: bool) {
        if !immediate {
            self.command_number = self.command_number.wrapping_add(1);
        }
    }

    fn tag(&mut self) -> u32 {
        self.next_tag += 1;
        self.next_tag
    }

    fn command(&mut self, target: &mut WholeTarget, input: &mut Input<'_>) {
        let [kind, flags, lun, high, low, immediate_length] = input.array();
        let cdb: [u8; 16] = input.array();
        let immediate = kind & 1 != 0;
        let mut header = [0; 48];
        header[0] = 0x01 | u8::from(immediate) << 6;
        header[1] = flags;
        header[9] = lun & 1;
        let tag = self.tag();
        header[16..20].copy_from_slice(&tag.to_be_bytes());
        header[22..24].copy_from_slice(&[high & 0x1f, low]);
        header[32..48].copy_from_slice(&cdb);
        let data = vec![kind; usize::from(immediate_length) * 8];
        self.outstanding.insert(tag);
        let bytes = self.pdu(header, &data);
        self.number(immediate);
        self.send(target, bytes);
    }

    fn data_out(&mut self, target: &mut WholeTarget, input: &mut Input<'_>) {
        let [flags, back, offset_high, offset_low, length, number] = input.array();
        let mut header = [0; 48];
        header[0] = 0x05;
        header[1] = flags & 0x80;
        header[16..20].copy_from_slice(&self.next_tag.wrapping_sub(u32::from(back & 7)).to_be_bytes());
        let transfer = if flags & 1 == 0 { self.transfer_tag } else { u32::MAX };
        header[20..24].copy_from_slice(&transfer.to_be_bytes());
        header[39] = number & 3;
        header[42..44].copy_from_slice(&[offset_high & 0x0f, offset_low]);
        let data = vec![flags; usize::from(length) * 8];
        let bytes = self.pdu(header, &data);
        self.send(target, bytes);
    }

    fn manage(&mut self, target: &mut WholeTarget, input: &mut Input<'_>) {
        let [function, back] = input.array();
        let mut header = [0; 48];
        let immediate = function & 0x80 != 0;
        header[0] = 0x02 | u8::from(immediate) << 6;
        header[1] = 0x80 | function & 0x0f;
        let referenced = self.next_tag.wrapping_sub(u32::from(back & 7));
        let tag = self.tag();
        header[16..20].copy_from_slice(&tag.to_be_bytes());
        header[20..24].copy_from_slice(&referenced.to_be_bytes());
        header[32..36].copy_from_slice(&self.command_number.wrapping_sub(u32::from(back >> 4)).to_be_bytes());
        let bytes = self.pdu(header, &[]);
        self.number(immediate);
        self.send(target, bytes);
    }

    /// NOP-Out, Text, Logout and SNACK with fields from the input.
    fn other(&mut self, target: &mut WholeTarget, input: &mut Input<'_>) {
        let [kind, flags, length] = input.array();
        let mut header = [0; 48];
        let opcode = [0x00, 0x04, 0x06, 0x10][usize::from(kind & 3)];
        let immediate = kind & 0x80 != 0;
        header[0] = opcode | u8::from(immediate) << 6;
        header[1] = flags;
        let tag = if kind & 0x40 != 0 { u32::MAX } else { self.tag() };
        header[16..20].copy_from_slice(&tag.to_be_bytes());
        header[20..24].copy_from_slice(&u32::MAX.to_be_bytes());
        let data = input.take(usize::from(length)).to_vec();
        let bytes = self.pdu(header, &data);
        self.number(immediate);
        self.send(target, bytes);
    }

    /// Reads what the target sent and holds it to its promises.
    fn listen(&mut self, target: &mut WholeTarget) {
        self.framer.handle_received(target.take_sent(self.connection).into());
        while let Some(frame) = self.framer.poll_frame().expect("the target sends whole PDUs") {
            let header = frame.bhs.to_bytes();
            let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            let pdu = TargetPdu::decode(frame).expect("the target sends PDUs that decode");
            let (tag, status) = match &pdu {
                TargetPdu::DataIn(_) => (word(16), header[1] & 1 != 0),
                TargetPdu::NopIn(_) => (word(16), word(16) != u32::MAX),
                TargetPdu::R2t(_) => {
                    self.transfer_tag = word(20);
                    (word(16), false)
                }
                _ => (word(16), true),
            };
            if status {
                let number = word(24);
                if let Some(expected) = self.next_status {
                    assert_eq!(number, expected, "StatSN out of turn in {pdu:?}");
                }
                self.next_status = Some(number.wrapping_add(1));
                if matches!(pdu, TargetPdu::ScsiResponse(_) | TargetPdu::DataIn(_)) && !self.is_wild {
                    assert!(self.outstanding.remove(&tag), "a second answer to task {tag}: {pdu:?}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The target would find nothing if its logins failed and its commands went nowhere.
    #[test]
    fn operations_reach_the_disk() {
        let mut target = WholeTarget::new(DISK_BYTES);
        let mut peer = Peer::login(&mut target, 0);
        assert!(target.worker.is_logged_in(peer.connection));
        // Flags for a write, LUN 0, 512 bytes, all of them immediate; then the same block read.
        let write = [0, 0xa1, 0, 2, 0, 64, 0x2a, 0, 0, 0, 0, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let read = [0, 0xc1, 0, 2, 0, 0, 0x28, 0, 0, 0, 0, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        // The first command meets the unit attention of the new nexus.
        for operation in [write, write, read] {
            peer.command(&mut target, &mut Input(&operation));
            target.perform_all();
            peer.listen(&mut target);
            assert!(peer.outstanding.is_empty(), "{:?}", peer.outstanding);
        }
        assert!(!target.is_closed(peer.connection));
    }
}
