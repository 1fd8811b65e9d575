//! The initiator: a disk at a target, for blocking use.

use crate::handle::Table;
use crate::input::{Sized0, bytes, bytes_mut, output, put, read_sized, text, write_sized};
use crate::result::{Failure, Outcome, calling_back, guard, lunette_result, outside_callbacks};
use bytes::Bytes;
// The handle has the crate's name.
use ::lunette_client as initiator;
use ::lunette_client::{Command, DataOut, Disk, Error};
use scsi_core::{Lun, Status};
use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;

/// A disk at a target: an iSCSI session, kept by a thread of its own, which logs in again when the connection is lost.
/// Calls on it may come from several threads at once and go out together.
pub struct lunette_client {
    _opaque: (),
}

static CLIENTS: Table<Disk> = Table::new("client");

/// Bytes of sense data that lunette_command holds.
pub const LUNETTE_SENSE_BYTES: usize = 252;

/// A SCSI command and its answer.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lunette_command {
    /// sizeof(lunette_command).
    pub size: usize,
    /// The CDB.
    pub cdb: *const u8,
    /// Its length, 6 to 260 bytes.
    pub cdb_length: usize,
    /// What to write; NULL for nothing.
    pub data_out: *const u8,
    /// Bytes to write.
    pub data_out_length: usize,
    /// Where to put what is read; NULL for nothing.
    pub data_in: *mut u8,
    /// Bytes there is room for.
    pub data_in_length: usize,
    /// Answer: bytes that were read.
    pub data_in_received: usize,
    /// Answer: the status byte, 0 for GOOD, 2 for CHECK CONDITION.
    pub status: u32,
    /// Answer: bytes of sense data.
    pub sense_length: u32,
    /// Answer: the sense data.
    pub sense: [u8; LUNETTE_SENSE_BYTES],
}

// SAFETY: repr(C), size first; integers and pointers.
unsafe impl Sized0 for lunette_command {}

/// Connects to a disk and logs in.
///
/// `url` is iscsi://[user%secret@]host[:port]/target/lun, and behind a '?' any of initiator=NAME, target_user=NAME and
/// target_password=SECRET (mutual CHAP), header_digest=crc32c, data_digest=crc32c, timeout=SECONDS of a command,
/// reconnect=SECONDS or off, separated by '&'. To be given back by lunette_client_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_client_connect(
    url: *const c_char,
    client: *mut *mut lunette_client,
) -> lunette_result {
    guard(|| {
        outside_callbacks()?;
        let place = output(client, "client")?;
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let url = unsafe { text(url, "url") }?;
        let disk = Disk::connect(&url).map_err(failure)?;
        // SAFETY: not NULL, and the caller's promise.
        unsafe { put(place, CLIENTS.insert(Arc::new(disk))) };
        Ok(())
    })
}

/// Gives the disk back and logs out, after calls of other threads that are under way. NULL is allowed and does
/// nothing.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_client_free(client: *mut lunette_client) -> lunette_result {
    guard(|| {
        if client.is_null() {
            return Ok(());
        }
        outside_callbacks()?;
        CLIENTS.remove(client).map(drop)
    })
}

/// Tells the size of the disk and of its logical blocks, in bytes. Either place may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_client_capacity(
    client: *const lunette_client,
    disk_bytes: *mut u64,
    block_bytes: *mut u32,
) -> lunette_result {
    guard(|| {
        let disk = CLIENTS.get(client)?;
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        unsafe {
            put(disk_bytes, disk.capacity());
            put(block_bytes, disk.block_size());
        }
        Ok(())
    })
}

/// Reads `length` bytes from `offset` on; both are multiples of the block size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_client_read(
    client: *const lunette_client,
    offset: u64,
    buffer: *mut u8,
    length: usize,
) -> lunette_result {
    guard(|| {
        let disk = usable(client)?;
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let buffer = unsafe { bytes_mut(buffer, length, "buffer") }?;
        disk.read_at(offset, buffer).map_err(failure)
    })
}

/// Writes `length` bytes from `offset` on; both are multiples of the block size. Durable after lunette_client_flush.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_client_write(
    client: *const lunette_client,
    offset: u64,
    data: *const u8,
    length: usize,
) -> lunette_result {
    guard(|| {
        let disk = usable(client)?;
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let data = unsafe { bytes(data, length, "data") }?;
        disk.write_at(offset, data).map_err(failure)
    })
}

/// Makes everything durable that was written before.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_client_flush(client: *const lunette_client) -> lunette_result {
    guard(|| usable(client)?.flush().map_err(failure))
}

/// Gives a range back to the disk; offset and length are multiples of the block size.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_client_unmap(client: *const lunette_client, offset: u64, length: u64) -> lunette_result {
    guard(|| usable(client)?.unmap(offset, length).map_err(failure))
}

/// Sends any command and waits for its answer, whatever its status: LUNETTE_RESULT_OK says that there is one. It is sent
/// once, also if a unit attention answers it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_client_execute(
    client: *const lunette_client,
    command: *mut lunette_command,
) -> lunette_result {
    guard(|| {
        let disk = usable(client)?;
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let mut answer = unsafe { read_sized(command, "command") }?;
        // SAFETY: as above.
        let (cdb, data_out, data_in) = unsafe {
            (
                bytes(answer.cdb, answer.cdb_length, "command->cdb")?,
                bytes(answer.data_out, answer.data_out_length, "command->data_out")?,
                bytes_mut(answer.data_in, answer.data_in_length, "command->data_in")?,
            )
        };
        if !(6..=260).contains(&cdb.len()) {
            return Err(Failure::invalid(format!("a CDB of {} bytes, 6 to 260 are allowed", cdb.len())));
        }
        let data_in_length =
            u32::try_from(data_in.len()).map_err(|_| Failure::invalid("a command reads at most 4294967295 bytes"))?;
        let data_out: DataOut = Bytes::copy_from_slice(data_out).into();
        let reply = disk
            .execute(Command { lun: Lun::ZERO, cdb: cdb.to_vec(), data_out, data_in_length, ..Command::default() })
            .map_err(failure)?;
        answer.data_in_received = reply.data.copy_to(data_in);
        answer.status = reply.status.0.into();
        let sense = &reply.raw_sense[..reply.raw_sense.len().min(LUNETTE_SENSE_BYTES)];
        answer.sense_length = sense.len() as u32;
        answer.sense = [0; LUNETTE_SENSE_BYTES];
        answer.sense[..sense.len()].copy_from_slice(sense);
        // SAFETY: as above.
        unsafe { write_sized(command, answer) };
        Ok(())
    })
}

/// Tells which targets there are at "iscsi://[user%secret@]host[:port]": `found` is called for each with its name and
/// one address ("127.0.0.1:3260,1"), on this thread, before this returns. The texts are good for the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_discover(
    url: *const c_char,
    found: Option<unsafe extern "C" fn(userdata: *mut c_void, target: *const c_char, address: *const c_char)>,
    userdata: *mut c_void,
) -> lunette_result {
    guard(|| {
        outside_callbacks()?;
        let found = found.ok_or_else(|| Failure::null("found"))?;
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let url = unsafe { text(url, "url") }?;
        for target in initiator::discover(&url).map_err(failure)? {
            let name = c_text(target.name);
            let addresses = target.addresses.into_iter().map(c_text);
            for address in addresses {
                // SAFETY: as above.
                calling_back(|| unsafe { found(userdata, name.as_ptr(), address.as_ptr()) });
            }
        }
        Ok(())
    })
}

/// A target's words have no zero byte: it ends them on the wire.
fn c_text(text: String) -> CString {
    CString::new(text).unwrap_or_default()
}

/// In a callback of a store of this very process the disk may be served by the thread that would wait.
fn usable(client: *const lunette_client) -> Outcome<Arc<Disk>> {
    if !client.is_null() {
        outside_callbacks()?;
    }
    CLIENTS.get(client)
}

fn failure(error: Error) -> Failure {
    let code = match &error {
        Error::Url(_)
        | Error::Unaligned { .. }
        | Error::OutOfRange { .. }
        | Error::Length { .. }
        | Error::Submit(_) => lunette_result::InvalidParameter,
        Error::Resolve { .. } | Error::Connect { .. } | Error::System(_) => lunette_result::System,
        Error::Login { .. } => lunette_result::LoginFailed,
        Error::Lost { .. } | Error::Outage { .. } | Error::Closed => lunette_result::Closed,
        Error::Timeout { .. } => lunette_result::TimedOut,
        Error::Command { status: Status::CHECK_CONDITION, .. } => lunette_result::CheckCondition,
        Error::Command { .. } => lunette_result::BadStatus,
        Error::Unsupported { .. } | Error::NotADisk { .. } => lunette_result::Unsupported,
        _ => lunette_result::Protocol,
    };
    Failure::new(code, error.to_string())
}
