//! The C interface as a sequence of calls: any bytes are a program that makes servers, stores, disks and connections,
//! mixes their handles up, frees them twice, and lets a peer speak in between.
//!
//! The fuzzer `c_interface` compiles this crate's modules into itself, so that the sanitizer sees them; the tests replay
//! its corpus. A finding is a panic (the code LUNETTE_RESULT_PANIC), a failure without a message, or what AddressSanitizer
//! reports.

mod driving;
mod peer;
mod setup;
mod stores;

use crate::completion::lunette_completion_finish;
use crate::connection::lunette_connection_free;
use crate::disk::lunette_server_remove_disk;
use crate::event_loop::lunette_server_process;
use crate::job::lunette_job_run;
use crate::result::{lunette_last_error, lunette_result};
use crate::server::lunette_server_free;
use crate::store::lunette_store_free;
use std::ffi::{CStr, CString, c_char};
use std::ptr;
use stores::WAITING;

/// Calls of one input, at most.
const MAX_CALLS: usize = 300;
/// Objects of a kind that live at a time, at most.
const MAX_OBJECTS: usize = 6;
const TARGET: &CStr = c"iqn.2026-11.com.example:disks";
const HOST: &CStr = c"iqn.2026-11.com.example:host";

/// What the calls of an input came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Bytes that the library gave to send.
    pub(crate) sent: usize,
    /// Jobs that were handed out.
    pub(crate) jobs: usize,
    /// Operations of asynchronous stores that were finished after they had begun.
    pub(crate) completions: usize,
    /// Calls of the callbacks of stores.
    pub(crate) callbacks: usize,
}

/// Runs a program; see the module.
///
/// # Panics
/// When it finds something.
pub(crate) fn run(data: &[u8]) -> Reached {
    WAITING.with_borrow_mut(Vec::clear);
    stores::CALLBACKS.set(0);
    let mut program = Program { input: data, ..Program::default() };
    for _ in 0..MAX_CALLS {
        if program.input.is_empty() {
            break;
        }
        program.step();
    }
    program.end();
    program.reached.callbacks = stores::CALLBACKS.get();
    program.reached
}

#[derive(Default)]
struct Program<'a> {
    input: &'a [u8],
    now_ns: u64,
    servers: Vec<usize>,
    stores: Vec<usize>,
    connections: Vec<usize>,
    jobs: Vec<usize>,
    /// Handles that were given back.
    stale: Vec<usize>,
    guids: Vec<CString>,
    cmd_sn: u32,
    reached: Reached,
}

/// Holds a call to what every call promises.
fn check(result: lunette_result) -> bool {
    assert_ne!(result, lunette_result::Panic, "{}", last_error());
    assert!(result == lunette_result::Ok || !last_error().is_empty(), "{result:?} without a message");
    result == lunette_result::Ok
}

fn last_error() -> String {
    // SAFETY: a text of the library, good until the next call on this thread that fails.
    unsafe { CStr::from_ptr(lunette_last_error()) }.to_string_lossy().into_owned()
}

impl Program<'_> {
    fn byte(&mut self) -> u8 {
        match self.input {
            [first, rest @ ..] => {
                self.input = rest;
                *first
            }
            [] => 0,
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let (taken, rest) = self.input.split_at(length.min(self.input.len()));
        self.input = rest;
        taken.to_vec()
    }

    fn word(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// A name: mostly one that makes sense.
    fn name(&mut self) -> Option<CString> {
        match self.byte() % 8 {
            0 => None,
            1 => Some(CString::new(self.take(12).into_iter().filter(|byte| *byte != 0).collect::<Vec<_>>()).unwrap()),
            2 | 3 => Some(HOST.to_owned()),
            4 => Some(c"group".to_owned()),
            5 => Some(c"iqn.2026-11.com.example:second".to_owned()),
            _ => Some(TARGET.to_owned()),
        }
    }

    fn guid(&mut self) -> Option<CString> {
        let which = usize::from(self.byte());
        if which == 0xff { self.name() } else { self.guids.get(which % self.guids.len().max(1)).cloned() }
    }

    /// A handle: mostly one of these, or NULL, one that was given back, one of another kind, or none at all.
    fn handle<H>(&mut self, of: fn(&Self) -> &Vec<usize>) -> *mut H {
        let which = usize::from(self.byte());
        let from = match which {
            0xff => return ptr::null_mut(),
            0xfe => return ptr::without_provenance_mut(self.byte().into()),
            0xfd => &self.stale,
            0xfc => &self.stores,
            _ => of(self),
        };
        from.get(which % from.len().max(1)).copied().map_or(ptr::null_mut(), ptr::without_provenance_mut)
    }

    fn forget(&mut self, handle: usize) {
        for list in [&mut self.servers, &mut self.stores, &mut self.connections, &mut self.jobs] {
            list.retain(|held| *held != handle);
        }
        self.stale.push(handle);
    }

    fn step(&mut self) {
        match self.byte() % 26 {
            0 => self.server_new(),
            1 => {
                let server = self.handle(|p| &p.servers);
                if check(lunette_server_free(server)) {
                    self.forget(server.addr());
                }
            }
            2..=4 => self.store_new(),
            5 => {
                let store = self.handle(|p| &p.stores);
                if check(lunette_store_free(store)) {
                    self.forget(store.addr());
                }
            }
            6 | 7 => self.add_disk(),
            8 => {
                let (server, guid) = (self.handle(|p| &p.servers), self.guid());
                // SAFETY: a handle or none, a text or NULL.
                check(unsafe { lunette_server_remove_disk(server, pointer(&guid)) });
            }
            9 => self.views(),
            10 => self.groups(),
            11 => self.access(),
            12 | 13 => self.connection_new(),
            14 => {
                let (connection, length) = (self.handle(|p| &p.connections), usize::from(self.byte()));
                let bytes = self.take(length);
                self.received(connection, &bytes);
            }
            15 => self.filled(),
            16 => self.log_in(),
            17 | 18 => self.command(),
            19 => self.transmit(),
            20 => {
                let connection = self.handle(|p| &p.connections);
                if check(lunette_connection_free(connection)) {
                    self.forget(connection.addr());
                }
            }
            21 => self.events(),
            22 => self.jobs(),
            23 => self.completions(),
            24 => {
                let (server, step) = (self.handle(|p| &p.servers), u64::from(self.byte()));
                self.now_ns = self.now_ns.wrapping_add(step << (step % 40));
                check(lunette_server_process(server, self.now_ns));
            }
            _ => self.looks(),
        }
    }

    /// Gives everything back, servers first or last.
    fn end(&mut self) {
        let servers = std::mem::take(&mut self.servers);
        let servers_first = servers.len().is_multiple_of(2);
        let free = |servers: &[usize]| {
            for server in servers {
                assert!(check(lunette_server_free(ptr::without_provenance_mut(*server))));
            }
        };
        if servers_first {
            free(&servers);
        }
        for connection in std::mem::take(&mut self.connections) {
            assert!(check(lunette_connection_free(ptr::without_provenance_mut(connection))));
        }
        for job in std::mem::take(&mut self.jobs) {
            assert!(check(lunette_job_run(ptr::without_provenance_mut(job))));
        }
        // The end of one operation may begin the next of its list.
        while let Some(completion) = WAITING.with_borrow_mut(Vec::pop) {
            assert!(check(lunette_completion_finish(ptr::without_provenance_mut(completion), 0)));
        }
        if !servers_first {
            free(&servers);
        }
        while let Some(completion) = WAITING.with_borrow_mut(Vec::pop) {
            assert!(check(lunette_completion_finish(ptr::without_provenance_mut(completion), 0)));
        }
        for store in std::mem::take(&mut self.stores) {
            assert!(check(lunette_store_free(ptr::without_provenance_mut(store))));
        }
    }
}
fn pointer(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(ptr::null(), |text| text.as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::fuzz_targets::{FuzzTarget, replay};

    const TARGETS: &[FuzzTarget] = &[("c_interface", |data| _ = run(data))];

    /// A program by hand: one server, a disk over a store of this kind, a login, and these commands.
    fn program(server_flags: u8, store: u8, commands: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0, server_flags, 6, 2, store, 0, 6, 0, 0, 0, 0, 12, 0, 0, 16, 0, 1];
        for command in commands {
            bytes.extend_from_slice(command);
        }
        for _ in 0..4 {
            bytes.extend_from_slice(&[22, 0, 0, 0, 23, 0, 0, 0, 24, 0, 1, 19, 0, 0xc8]);
        }
        bytes
    }

    /// READ(10) and WRITE(10) of one block, and TEST UNIT READY, which hears of the new nexus.
    fn commands() -> Vec<Vec<u8>> {
        let mut unit_ready = vec![17, 0, 0, 0, 0];
        unit_ready.resize(5 + 16 + 4, 0);
        let mut read = vec![17, 0, 0x40, 0, 128, 0x28, 0, 0, 0, 0, 16, 0, 0, 1];
        read.resize(5 + 16 + 4, 0);
        let mut write = vec![17, 0, 0x20, 0, 128, 0x2a, 0, 0, 0, 0, 16, 0, 0, 1];
        write.resize(5 + 16 + 512 + 4, 0);
        for (tag, command) in (1..).zip([&mut unit_ready, &mut read, &mut write]) {
            *command.last_mut().expect("it ends in its tag") = tag;
        }
        vec![unit_ready, read, write]
    }

    #[test]
    fn the_committed_corpus_and_mutations_of_it_replay() {
        replay::check_fuzzers(TARGETS);
        replay::replay(TARGETS);
        replay::replay_mutations(TARGETS, 500);
    }

    #[test]
    fn programs_reach_stores_of_each_kind_jobs_and_completions() {
        let commands = commands();
        let commands: Vec<&[u8]> = commands.iter().map(Vec::as_slice).collect();
        let plain = run(&program(0, 0, &commands));
        assert!(plain.sent > 48 * 3, "{plain:?}");
        let callbacks = run(&program(0, 1, &commands));
        assert!(callbacks.callbacks > 0, "{callbacks:?}");
        let handed_out = run(&program(2, 1, &commands));
        assert!(handed_out.jobs > 0, "{handed_out:?}");
        let asynchronous = run(&program(0, 2, &commands));
        assert!(asynchronous.completions > 0, "{asynchronous:?}");
    }
}
