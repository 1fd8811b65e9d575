//! Connections and what comes over them.

use super::{HOST, MAX_OBJECTS, Program, TARGET, check, pointer};
use crate::connection::*;
use crate::input::lunette_slice;
use std::ffi::CString;
use std::{ptr, slice};

impl Program<'_> {
    pub(super) fn connection_new(&mut self) {
        let (server, kind) = (self.handle(|p| &p.servers), self.byte());
        let local = if kind == 0xff { self.name() } else { Some(c"127.0.0.1:3260".to_owned()) };
        if self.connections.len() >= MAX_OBJECTS {
            return;
        }
        let peer = CString::new(format!("127.0.0.{}:{}", kind % 4, 1000 + u16::from(kind))).unwrap();
        let mut connection = ptr::null_mut();
        // SAFETY: texts or NULL, a place for the handle.
        let made = check(unsafe {
            let (local, place) = (pointer(&local), &raw mut connection);
            lunette_connection_new(server, self.now_ns, local, peer.as_ptr(), ptr::null_mut(), place)
        });
        if made {
            self.connections.push(connection.addr());
            self.cmd_sn = 1;
        }
    }

    pub(super) fn received(&mut self, connection: *mut lunette_connection, bytes: &[u8]) {
        // SAFETY: bytes of their length.
        check(unsafe { lunette_connection_received(connection, self.now_ns, bytes.as_ptr(), bytes.len()) });
    }

    /// Bytes into the buffer that the library lends.
    pub(super) fn filled(&mut self) {
        let (connection, length) = (self.handle(|p| &p.connections), usize::from(self.byte()));
        let bytes = self.take(length);
        let (mut buffer, mut size) = (ptr::null_mut::<u8>(), 0);
        // SAFETY: places for the results.
        if !check(unsafe { lunette_connection_buffer(connection, &raw mut buffer, &raw mut size) }) || buffer.is_null()
        {
            return;
        }
        let length = bytes.len().min(size);
        // SAFETY: the buffer has `size` bytes.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), buffer, length) };
        let told = if bytes.first() == Some(&0xff) && bytes.len() > 200 { usize::MAX } else { length };
        // SAFETY: so many bytes were written, or it is refused.
        check(unsafe { lunette_connection_filled(connection, self.now_ns, told) });
    }

    /// A login in one PDU (RFC 7143 11.12): operational stage, to full feature phase, without authentication.
    pub(super) fn log_in(&mut self) {
        let connection = self.handle(|p| &p.connections);
        let mut text = Vec::new();
        for (key, value) in [("InitiatorName", HOST), ("TargetName", TARGET), ("SessionType", c"Normal")] {
            text.extend_from_slice(key.as_bytes());
            text.push(b'=');
            text.extend_from_slice(value.to_bytes_with_nul());
        }
        let mut header = [0u8; 48];
        header[0] = 0x43;
        header[1] = 0x87;
        header[5..8].copy_from_slice(&(text.len() as u32).to_be_bytes()[1..]);
        header[8] = 0x80;
        header[13] = self.byte();
        header[24..28].copy_from_slice(&1u32.to_be_bytes());
        self.cmd_sn = 1;
        self.speak(connection, header, &text);
    }

    /// A SCSI command (RFC 7143 11.3) with immediate data.
    pub(super) fn command(&mut self) {
        let (connection, kind, lun, length) =
            (self.handle(|p| &p.connections), self.byte(), self.byte(), usize::from(self.byte()) * 4);
        let cdb = self.take(16);
        let data = if kind & 0x20 != 0 { self.take(length) } else { Vec::new() };
        let mut header = [0u8; 48];
        header[0] = 0x01 | (kind << 6 & 0x40);
        header[1] = 0x80 | (kind & 0x67);
        header[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
        header[9] = lun;
        header[16..20].copy_from_slice(&self.word().to_be_bytes());
        let expected = if kind & 0x20 != 0 { data.len() } else { length << (kind & 8) };
        header[20..24].copy_from_slice(&(expected as u32).to_be_bytes());
        header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        header[32..32 + cdb.len()].copy_from_slice(&cdb);
        if kind & 1 == 0 {
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
        }
        self.speak(connection, header, &data);
    }

    pub(super) fn speak(&mut self, connection: *mut lunette_connection, header: [u8; 48], data: &[u8]) {
        let mut bytes = header.to_vec();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.received(connection, &bytes);
    }

    /// Takes what is to be sent, some of it or all, and looks at each byte.
    pub(super) fn transmit(&mut self) {
        let (connection, kind) = (self.handle(|p| &p.connections), self.byte());
        let mut slices = [lunette_slice { data: ptr::null(), length: 0 }; 8];
        let mut count = 0;
        let capacity = usize::from(kind) % (slices.len() + 1);
        // SAFETY: so many places.
        let given = check(unsafe {
            lunette_connection_transmit(connection, self.now_ns, slices.as_mut_ptr(), capacity, &raw mut count)
        });
        if !given {
            return;
        }
        assert!(count <= capacity, "{count} slices for {capacity} places");
        let mut there = 0;
        for slice in &slices[..count] {
            // SAFETY: good until the next lunette_connection_sent.
            let bytes = unsafe { slice::from_raw_parts(slice.data, slice.length) };
            assert_ne!(bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>(), u64::MAX, "never: each byte is read");
            there += bytes.len();
        }
        let sent = match kind >> 6 {
            0 => there / 2,
            1 => usize::MAX,
            _ => there,
        };
        // SAFETY: a handle or none.
        if check(unsafe { lunette_connection_sent(connection, sent) }) {
            self.reached.sent += sent;
        }
    }
}
