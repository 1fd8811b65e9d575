//! Deadlines: pings, gaps in the command order, logouts, waits for aborted tasks.

use std::time::Instant;

use super::link::Ping;
use super::{CloseReason, ConnectionKey, EndReason, Session};
use crate::pdu::NopIn;

/// What is due on a connection.
enum Due {
    Nothing,
    Ping,
    Fail(CloseReason),
}

impl Session {
    /// When [`handle_timeout`](Self::handle_timeout) is to be called at the latest. `None`: nothing is waited for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_ended {
            return None;
        }
        let links = self.links.iter().filter(|link| link.is_open()).flat_map(|link| {
            let ping = match link.ping {
                Some(ping) => Some(ping.since + self.config.ping_timeout),
                None if self.config.ping_interval.is_zero() => None,
                None => Some(link.last_received + self.config.ping_interval),
            };
            ping.into_iter().chain(link.logout_deadline)
        });
        let hole = self.hole_since.map(|since| since + self.config.hole_timeout);
        let managements = self
            .tasks
            .iter()
            .filter(|_| self.open_managements > 0)
            .filter_map(|task| task.management.as_ref())
            .filter(|management| !management.answered)
            .filter_map(|management| management.deadline);
        let fence = self.fence.map(|fence| fence.deadline);
        links.chain(hole).chain(managements).chain(self.pending_deadline()).chain(fence).min()
    }

    /// Acts on deadlines that have passed. Calling it early does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if self.is_ended {
            return;
        }
        if self.hole_since.is_some_and(|since| since + self.config.hole_timeout <= now) {
            return self.end(EndReason::CommandLost);
        }
        let due: smallvec::SmallVec<[(ConnectionKey, Due); 4]> = self
            .links
            .iter_mut()
            .filter(|link| link.is_open())
            .map(|link| (link.key, due(link, &self.config, now)))
            .collect();
        for (key, due) in due {
            match due {
                Due::Nothing => {}
                Due::Fail(reason) => self.fail_link(key, reason),
                Due::Ping => {
                    let tag = self.transfer_tags.take();
                    if let Some(link) = self.links.get_mut(key) {
                        link.ping = Some(Ping { tag, since: now });
                        link.push_urgent(NopIn { target_transfer_tag: tag, ..NopIn::default() });
                    }
                }
            }
        }
        self.lift_fence();
        self.settle();
    }
}

fn due(link: &mut super::link::Link, config: &super::SessionConfig, now: Instant) -> Due {
    if link.logout_deadline.is_some_and(|deadline| deadline <= now) {
        return Due::Fail(CloseReason::LogoutTimeout);
    }
    if link.is_paused || link.is_stalled || link.is_full(config) {
        // We are not listening, so silence says nothing of the initiator.
        link.last_received = now;
        if let Some(ping) = &mut link.ping {
            ping.since = now;
        }
        return Due::Nothing;
    }
    match link.ping {
        Some(ping) if ping.since + config.ping_timeout <= now => Due::Fail(CloseReason::PingTimeout),
        Some(_) => Due::Nothing,
        None if config.ping_interval.is_zero() => Due::Nothing,
        None if link.last_received + config.ping_interval <= now => Due::Ping,
        None => Due::Nothing,
    }
}
