//! What drives a server without threads: events, jobs, completions, looks.

use super::stores::WAITING;
use super::{Program, check};
use crate::completion::{lunette_completion_finish, lunette_completion_free};
use crate::connection::*;
use crate::event_loop::*;
use crate::job::{lunette_job_free, lunette_job_run};
use crate::server::*;
use std::ptr;

impl Program<'_> {
    pub(super) fn events(&mut self) {
        let server = self.handle(|p| &p.servers);
        for _ in 0..64 {
            let mut event = lunette_event {
                size: size_of::<lunette_event>(),
                kind: lunette_event_kind::None,
                connection: ptr::null_mut(),
                userdata: ptr::null_mut(),
            };
            // SAFETY: an event of its size.
            if !check(unsafe { lunette_server_poll_event(server, &raw mut event) }) {
                return;
            }
            match event.kind {
                lunette_event_kind::None => return,
                lunette_event_kind::Close => {
                    if check(lunette_connection_free(event.connection)) {
                        self.forget(event.connection.addr());
                    }
                }
                lunette_event_kind::Transmit | lunette_event_kind::Receive => {}
            }
        }
    }

    pub(super) fn jobs(&mut self) {
        let (server, kind) = (self.handle(|p| &p.servers), self.byte());
        let mut job = ptr::null_mut();
        // SAFETY: a place for the handle.
        if kind & 1 == 0 && check(unsafe { lunette_server_poll_job(server, &raw mut job) }) && !job.is_null() {
            self.reached.jobs += 1;
            self.jobs.push(job.addr());
        }
        if kind & 2 == 0 {
            let job = self.handle(|p| &p.jobs);
            let done = if kind & 4 == 0 { lunette_job_run(job) } else { lunette_job_free(job) };
            if check(done) {
                self.forget(job.addr());
            }
        }
    }

    pub(super) fn completions(&mut self) {
        let (which, kind, other) = (self.byte(), self.byte(), self.handle(|p| &p.stale));
        let completion = WAITING.with_borrow_mut(|waiting| {
            let at = usize::from(which) % waiting.len().max(1);
            if at < waiting.len() { Some(waiting.swap_remove(at)) } else { None }
        });
        let completion = match completion {
            Some(completion) => ptr::without_provenance_mut(completion),
            None => other,
        };
        let error = [0, 0, 5, 28, -1, i32::MAX][usize::from(kind >> 1) % 6];
        let finished = match kind & 1 {
            0 => lunette_completion_finish(completion, error),
            _ => lunette_completion_free(completion),
        };
        if check(finished) && !completion.is_null() {
            self.reached.completions += 1;
            self.stale.push(completion.addr());
        }
    }

    /// What only tells.
    pub(super) fn looks(&mut self) {
        let (server, connection, size) =
            (self.handle(|p| &p.servers), self.handle(|p| &p.connections), usize::from(self.byte()));
        let mut buffer = [0u8; 256];
        let (mut at, mut count) = (0, 0);
        // SAFETY: places for the results, a buffer of at least its size.
        unsafe {
            check(lunette_server_target(server, buffer.as_mut_ptr().cast(), size));
            check(lunette_server_next_timeout(server, &raw mut at));
            check(lunette_server_connections(server, &raw mut count));
            check(lunette_server_sessions(server, &raw mut count));
            check(lunette_connection_wanted(connection, &raw mut count));
            check(lunette_server_url(server, 0, buffer.as_mut_ptr().cast(), size));
        }
        match size % 16 {
            0 => drop(check(lunette_server_shut_down(server, self.now_ns, u64::from(self.byte()) << 20))),
            1 => drop(check(lunette_server_stop(server, 0))),
            _ => {}
        }
    }
}
