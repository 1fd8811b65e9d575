//! CDBs one after the other against a whole disk, each with the data it asks for: by initiators that keep every rule of
//! the wire, so that nothing but what the commands mean is tried.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use iscsit::ConnectionId;
use scsi_core::TaskAttribute;
use scsi_core::command::CommandSet;

use super::whole::{TARGET, WholeTarget};
use crate::initiator::{Command, Initiator, LoginOptions, Wire};

/// Small, so that ranges meet the end and each other.
const DISK_BYTES: u64 = 256 * 512;
/// Commands of an input.
const MOST_COMMANDS: usize = 48;
/// Most bytes of data that a command sends.
const MOST_DATA: usize = 8192;
/// Seconds of its own time within which the target answers a command.
const PATIENCE_S: u32 = 10;

/// Two initiators at one disk; each command is answered, whatever it is, and both are served in the end.
pub(super) fn cdb_stream(mut data: &[u8]) {
    let target = Rc::new(RefCell::new(WholeTarget::new(DISK_BYTES)));
    let mut peers = [0, 1].map(|number| Near::log_in(&target, number));
    let commands: Vec<_> = CommandSet::all().entries().collect();
    for _ in 0..MOST_COMMANDS {
        let Some((&[which, kind, room], rest)) = data.split_first_chunk::<3>() else { break };
        let entry = commands[usize::from(kind) % commands.len()];
        let mut cdb = entry.template();
        // Bits of the input over a CDB that the parser takes: most stay such, some become what it must refuse.
        let taken = usize::from(which >> 4).min(cdb.len()).min(rest.len());
        let (bits, rest) = rest.split_at(taken);
        cdb.iter_mut().skip(1).zip(bits).for_each(|(byte, bits)| *byte ^= bits);
        let (length, rest) = rest.split_first().map_or((0, rest), |(first, rest)| (*first, rest));
        let (sent, rest) = rest.split_at(usize::from(length).min(rest.len()));
        data = rest;
        let mut sent = sent.to_vec();
        if room & 0x80 != 0 {
            // Whole blocks of it.
            sent = sent.iter().copied().cycle().take((usize::from(length) * 512).min(MOST_DATA)).collect();
        }
        let attribute = match which & 0x0c {
            0x04 => TaskAttribute::Ordered,
            0x08 => TaskAttribute::HeadOfQueue,
            _ => TaskAttribute::Simple,
        };
        let read_length = if sent.is_empty() { u32::from(room & 0x7f) * 64 } else { 0 };
        let command = Command { attribute, data: sent.into(), read_length, ..Command::new(0, &cdb) };
        answered(&mut peers[usize::from(which & 1)], &command);
    }
    for peer in &mut peers {
        answered(peer, &Command::new(0, &[0; 6]));
    }
}

/// The initiator's end of a connection to a target in the same thread.
struct Near {
    target: Rc<RefCell<WholeTarget>>,
    connection: ConnectionId,
}

impl Near {
    fn log_in(target: &Rc<RefCell<WholeTarget>>, number: u8) -> Initiator<Self> {
        let connection = target.borrow_mut().connect();
        let mut initiator = Initiator::new(Self { target: Rc::clone(target), connection });
        let name = format!("iqn.2026-11.org.example:host-{number}");
        initiator.login(&LoginOptions::normal(&name, TARGET)).expect("a login by the rules succeeds");
        initiator
    }
}

impl Wire for Near {
    fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        let mut target = self.target.borrow_mut();
        target.receive(self.connection, bytes);
        target.perform_all();
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Option<Bytes>> {
        let mut target = self.target.borrow_mut();
        for _ in 0..PATIENCE_S {
            match target.take_sent(self.connection) {
                nothing if nothing.is_empty() => {}
                bytes => return Ok(Some(bytes.into())),
            }
            target.advance(Duration::from_secs(1));
            target.perform_all();
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// The command ends, and by the rules of the wire.
fn answered(initiator: &mut Initiator<Near>, command: &Command) {
    if let Err(error) = initiator.command(command) {
        panic!("{:02x?} with {} bytes: {error}", command.cdb, command.data.len());
    }
}
