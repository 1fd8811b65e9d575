//! Connections of the event-loop mode: bytes in, bytes out.

use crate::event_loop::{Conn, EventLoop, State};
use crate::handle::Table;
use crate::input::{UserData, bytes, lunette_slice, output, put, text};
use crate::result::{Failure, Outcome, guard, lunette_result};
use crate::server::{SERVERS, address_of, lunette_server};
use bytes::{Buf, Bytes, BytesMut};
use iscsit::ConnectionId;
use std::collections::VecDeque;
use std::ffi::{c_char, c_void};
use std::sync::Arc;
use std::{mem, slice};

/// A connection of the event-loop mode: an initiator's TCP connection whose socket is the program's.
pub struct lunette_connection {
    _opaque: (),
}

pub(crate) struct ConnectionObject {
    event_loop: Arc<EventLoop>,
    id: ConnectionId,
}

static CONNECTIONS: Table<ConnectionObject> = Table::new("connection");

/// Bytes that are asked of the protocol before the socket has to take some.
const UNSENT_BYTES: usize = 256 << 10;
/// Size of a receive buffer, and what must be left of one to be used further.
const RECEIVE_BYTES: usize = 128 << 10;
const RECEIVE_LEFT: usize = 16 << 10;

fn with<R>(
    connection: *const lunette_connection,
    now_ns: Option<u64>,
    f: impl FnOnce(&mut State, ConnectionId) -> Outcome<R>,
) -> Outcome<R> {
    let object = CONNECTIONS.get(connection)?;
    object.event_loop.enter(now_ns, |state| match state.connections.contains_key(&object.id) {
        true => f(state, object.id),
        false => Err(Failure::closed("the connection is closed")),
    })
}

/// Tells of a connection that was accepted. `local` and `peer` are its addresses: "127.0.0.1:3260".
///
/// `userdata` comes back in events. The connection is to be given back by lunette_connection_free, before or after its
/// server.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_connection_new(
    server: *mut lunette_server,
    now_ns: u64,
    local: *const c_char,
    peer: *const c_char,
    userdata: *mut c_void,
    connection: *mut *mut lunette_connection,
) -> lunette_result {
    guard(|| {
        let place = output(connection, "connection")?;
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let (local, peer) = unsafe { (text(local, "local")?, text(peer, "peer")?) };
        let (local, peer) = (address_of(&local)?, address_of(&peer)?);
        let server = SERVERS.get(server)?;
        let event_loop = server.event_loop()?;
        event_loop.note_portal(local)?;
        let handle = event_loop.enter(Some(now_ns), |state| {
            let accepted = state.worker.accept(state.now, local, peer);
            let id = accepted.map_err(|error| Failure::new(lunette_result::Limit, error.to_string()))?;
            let object = ConnectionObject { event_loop: Arc::clone(event_loop), id };
            let handle: *mut lunette_connection = CONNECTIONS.insert(Arc::new(object));
            let conn = Conn {
                handle: handle.addr(),
                userdata: UserData(userdata),
                unsent: VecDeque::new(),
                unsent_bytes: 0,
                receive: BytesMut::new(),
            };
            state.connections.insert(id, conn);
            Ok(handle)
        })?;
        // SAFETY: not NULL, and the caller's promise.
        unsafe { put(place, handle) };
        Ok(())
    })
}

/// How many bytes to receive next, at least; 0: none until LUNETTE_EVENT_KIND_RECEIVE. Receiving more is welcome.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_connection_wanted(
    connection: *mut lunette_connection,
    wanted: *mut usize,
) -> lunette_result {
    guard(|| {
        let place = output(wanted, "wanted")?;
        let hint = with(connection, None, |state, id| Ok(state.worker.recv_hint(id).wanted))?;
        // SAFETY: not NULL, and the caller's promise.
        unsafe { put(place, hint) };
        Ok(())
    })
}

/// Takes bytes that arrived, in order; they are copied. lunette_connection_buffer spares the copy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_connection_received(
    connection: *mut lunette_connection,
    now_ns: u64,
    data: *const u8,
    length: usize,
) -> lunette_result {
    guard(|| {
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let data = Bytes::copy_from_slice(unsafe { bytes(data, length, "data") }?);
        with(connection, Some(now_ns), |state, id| {
            if !data.is_empty() {
                let now = state.now;
                state.worker.handle_received(now, id, data);
            }
            Ok(())
        })
    })
}

/// Lends a buffer to receive into: `*size` bytes at `*buffer`, good until the next call for this connection. What was
/// received there is told by lunette_connection_filled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_connection_buffer(
    connection: *mut lunette_connection,
    buffer: *mut *mut u8,
    size: *mut usize,
) -> lunette_result {
    guard(|| {
        let (buffer, size) = (output(buffer, "buffer")?, output(size, "size")?);
        with(connection, None, |state, id| {
            let Some(conn) = state.connections.get_mut(&id) else { return Ok(()) };
            if conn.receive.capacity() - conn.receive.len() < RECEIVE_LEFT {
                conn.receive.reserve(RECEIVE_BYTES);
            }
            let room = conn.receive.spare_capacity_mut();
            // SAFETY: not NULL, and the caller's promise.
            unsafe {
                put(buffer, room.as_mut_ptr().cast());
                put(size, room.len());
            }
            Ok(())
        })
    })
}

/// Takes the first `length` bytes of the buffer that lunette_connection_buffer lent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_connection_filled(
    connection: *mut lunette_connection,
    now_ns: u64,
    length: usize,
) -> lunette_result {
    guard(|| {
        with(connection, Some(now_ns), |state, id| {
            let Some(conn) = state.connections.get_mut(&id) else { return Ok(()) };
            let room = conn.receive.capacity() - conn.receive.len();
            if length > room {
                return Err(Failure::invalid(format!("{length} bytes are more than the {room} of the buffer")));
            }
            if length == 0 {
                return Ok(());
            }
            // SAFETY: it is within the capacity, and the caller has written so many bytes.
            unsafe { conn.receive.set_len(conn.receive.len() + length) };
            let data = conn.receive.split().freeze();
            let now = state.now;
            state.worker.handle_received(now, id, data);
            Ok(())
        })
    })
}

/// Gives bytes to send, in order, as slices for writev: at most `capacity` of them, `*count` are written; 0 when there is
/// nothing to send. They are good until lunette_connection_sent or lunette_connection_free, and are given again until
/// lunette_connection_sent takes them off.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_connection_transmit(
    connection: *mut lunette_connection,
    now_ns: u64,
    slices: *mut lunette_slice,
    capacity: usize,
    count: *mut usize,
) -> lunette_result {
    guard(|| {
        let (slices, count) = (output(slices, "slices")?, output(count, "count")?);
        with(connection, Some(now_ns), |state, id| {
            let State { worker, connections, now, .. } = state;
            let Some(conn) = connections.get_mut(&id) else { return Ok(()) };
            let mut out = Vec::new();
            while conn.unsent_bytes < UNSENT_BYTES {
                let given = worker.poll_transmit(*now, id, &mut out);
                if given == 0 {
                    break;
                }
                conn.unsent_bytes += given;
                conn.unsent.extend(out.drain(..).filter(|slice| !slice.is_empty()));
            }
            let given = conn.unsent.len().min(capacity);
            // SAFETY: the caller's promise: there is room for `capacity`, uninitialised or not.
            let places = unsafe { slice::from_raw_parts_mut(slices.cast::<mem::MaybeUninit<lunette_slice>>(), given) };
            for (place, slice) in places.iter_mut().zip(&conn.unsent) {
                place.write(lunette_slice { data: slice.as_ptr(), length: slice.len() });
            }
            // SAFETY: not NULL, and the caller's promise.
            unsafe { put(count, given) };
            Ok(())
        })
    })
}

/// Tells that the first `length` bytes of what lunette_connection_transmit gave were sent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_connection_sent(connection: *mut lunette_connection, length: usize) -> lunette_result {
    guard(|| {
        with(connection, None, |state, id| {
            let Some(conn) = state.connections.get_mut(&id) else { return Ok(()) };
            if length > conn.unsent_bytes {
                let there = conn.unsent_bytes;
                return Err(Failure::invalid(format!("{length} bytes are more than the {there} to send")));
            }
            conn.unsent_bytes -= length;
            let mut left = length;
            while left > 0
                && let Some(front) = conn.unsent.front_mut()
            {
                let step = left.min(front.len());
                front.advance(step);
                left -= step;
                if front.is_empty() {
                    conn.unsent.pop_front();
                }
            }
            Ok(())
        })
    })
}

/// Gives a connection back: its socket is closed, by the peer, by an error or after LUNETTE_EVENT_KIND_CLOSE. NULL is
/// allowed and does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_connection_free(connection: *mut lunette_connection) -> lunette_result {
    guard(|| {
        if connection.is_null() {
            return Ok(());
        }
        let freed = with(connection, None, |state, id| {
            let _ = CONNECTIONS.remove(connection);
            let now = state.now;
            state.worker.handle_closed(now, id);
            state.connections.remove(&id);
            Ok(())
        });
        match freed {
            // Its server has gone before it.
            Err(Failure { code: lunette_result::Closed, .. }) => CONNECTIONS.remove(connection).map(drop),
            other => other,
        }
    })
}
