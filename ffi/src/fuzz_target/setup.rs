//! Servers, stores, disks, and who may see them.

use super::stores::{destroy, flush, read, start, unmap, wake, write};
use super::{MAX_OBJECTS, Program, check, pointer};
use crate::access::*;
use crate::callbacks::{lunette_store_callbacks, lunette_store_new_callbacks};
use crate::completion::{lunette_async_store_callbacks, lunette_store_new_async};
use crate::disk::*;
use crate::server::*;
use crate::store::lunette_store_new_memory;
use std::ffi::{CStr, c_char};
use std::ptr;

const STORE_BYTES: u64 = 1 << 20;

impl Program<'_> {
    pub(super) fn server_new(&mut self) {
        let (flags, name) = (u32::from(self.byte()), self.name());
        if self.servers.len() >= MAX_OBJECTS {
            return;
        }
        let options = lunette_server_options {
            size: size_of::<lunette_server_options>(),
            // Servers with threads have fuzzers of their own; flags that are none stay.
            flags: flags | LUNETTE_SERVER_EVENT_LOOP,
            threads: 0,
            target: pointer(&name),
            wake: Some(wake),
            userdata: ptr::null_mut(),
        };
        let mut server = ptr::null_mut();
        // SAFETY: options of their size, a place for the handle.
        if check(unsafe { lunette_server_new(&raw const options, &raw mut server) }) {
            self.servers.push(server.addr());
        }
    }

    pub(super) fn store_new(&mut self) {
        let (kind, flags) = (self.byte(), u32::from(self.byte() % 8));
        if self.stores.len() >= MAX_OBJECTS {
            return;
        }
        let mut store = ptr::null_mut();
        let granularity = [0, 512, 4096, 3][usize::from(kind >> 6)];
        let done = match kind % 3 {
            0 => {
                let bytes = [STORE_BYTES, 0, 4 << 20, u64::MAX][usize::from(kind >> 6)];
                check(lunette_store_new_memory(bytes, &raw mut store))
            }
            1 => {
                let callbacks = lunette_store_callbacks {
                    size: size_of::<lunette_store_callbacks>(),
                    capacity: STORE_BYTES,
                    flags,
                    unmap_granularity: granularity,
                    read: Some(read),
                    write: (kind & 8 == 0).then_some(write),
                    flush: (kind & 16 == 0).then_some(flush),
                    unmap: (kind & 32 == 0).then_some(unmap),
                    destroy: Some(destroy),
                };
                let memory = Box::into_raw(Box::new(vec![0u8; STORE_BYTES as usize]));
                // SAFETY: callbacks of their size, whose user data lives until `destroy`.
                let made =
                    check(unsafe { lunette_store_new_callbacks(&raw const callbacks, memory.cast(), &raw mut store) });
                if !made {
                    // SAFETY: on failure it is still the caller's.
                    drop(unsafe { Box::from_raw(memory) });
                }
                made
            }
            _ => {
                let callbacks = lunette_async_store_callbacks {
                    size: size_of::<lunette_async_store_callbacks>(),
                    capacity: STORE_BYTES,
                    flags: flags & 1,
                    unmap_granularity: granularity,
                    start: Some(start),
                    destroy: Some(destroy),
                    volatile_cache: u32::from(kind & 8 != 0),
                };
                let memory = Box::into_raw(Box::new(vec![0u8; STORE_BYTES as usize]));
                // SAFETY: as above.
                let made =
                    check(unsafe { lunette_store_new_async(&raw const callbacks, memory.cast(), &raw mut store) });
                if !made {
                    // SAFETY: as above.
                    drop(unsafe { Box::from_raw(memory) });
                }
                made
            }
        };
        if done {
            self.stores.push(store.addr());
        }
    }

    pub(super) fn add_disk(&mut self) {
        let (server, store) = (self.handle(|p| &p.servers), self.handle(|p| &p.stores));
        let kind = self.byte();
        let text = if kind & 64 != 0 { self.name() } else { None };
        let options = lunette_disk_options {
            size: size_of::<lunette_disk_options>(),
            lun: i32::from(self.byte()) - 1,
            flags: u32::from(kind % 8),
            block_bytes: [0, 512, 4096, 77][usize::from(kind >> 3) % 4],
            disk_bytes: if kind & 32 != 0 { u64::from(self.word()) } else { 0 },
            guid: ptr::null(),
            vendor: pointer(&text),
            product: ptr::null(),
            serial: pointer(&text),
            alias: pointer(&text),
        };
        let mut guid = [0u8; LUNETTE_GUID_SIZE];
        let place = guid.as_mut_ptr().cast::<c_char>();
        let options = if kind & 128 == 0 { ptr::null() } else { &raw const options };
        // SAFETY: options of their size or NULL, a buffer of its size.
        if check(unsafe { lunette_server_add_disk(server, store, options, place, guid.len()) }) {
            self.guids.push(CStr::from_bytes_until_nul(&guid).expect("the name ends in a zero byte").to_owned());
        }
    }

    pub(super) fn views(&mut self) {
        let (server, guid, kind) = (self.handle(|p| &p.servers), self.guid(), self.byte());
        if kind & 1 == 0 {
            let (host_group, target_group) = (self.name(), self.name());
            let lun = i32::from(self.byte()) - 2;
            // SAFETY: a handle or none, texts or NULL.
            check(unsafe {
                lunette_server_add_view(server, pointer(&guid), pointer(&host_group), pointer(&target_group), lun)
            });
        } else {
            // SAFETY: as above.
            check(unsafe { lunette_server_remove_views(server, pointer(&guid)) });
        }
    }

    pub(super) fn groups(&mut self) {
        let (server, kind, group, member) = (self.handle(|p| &p.servers), self.byte(), self.name(), self.name());
        let (group, member) = (pointer(&group), pointer(&member));
        // SAFETY: a handle or none, texts or NULL.
        check(unsafe {
            match kind % 4 {
                0 => lunette_server_add_host_group(server, group),
                1 => lunette_server_add_target_group(server, group),
                2 => lunette_server_add_host_group_member(server, group, member),
                _ => lunette_server_add_target_group_member(server, group, member),
            }
        });
    }

    pub(super) fn access(&mut self) {
        let (server, kind, name, user) = (self.handle(|p| &p.servers), self.byte(), self.name(), self.name());
        let secret = self.take(usize::from(kind >> 3));
        let (name, user) = (pointer(&name), pointer(&user));
        // SAFETY: a handle or none, texts or NULL, bytes of their length.
        check(unsafe {
            match kind % 5 {
                0 => lunette_server_add_target(server, name),
                1 => lunette_server_remove_target(server, name),
                2 => lunette_server_demand_chap(server, kind & 8 != 0),
                3 => lunette_server_add_initiator(server, name, user, secret.as_ptr(), secret.len()),
                _ => lunette_server_set_target_secret(server, name, user, secret.as_ptr(), secret.len()),
            }
        });
    }
}
