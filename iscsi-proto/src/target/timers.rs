//! Deadlines: pings, gaps in the command order, logouts, waits for aborted tasks.

use std::time::Instant;

use scsi_core::mutation::{Mutation, is_active};

use super::link::{Link, LinkState, Ping};
use super::{CloseReason, ConnectionKey, EndReason, Session, SessionConfig};
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
        let links = self
            .links
            .iter()
            .filter(|link| link.state != LinkState::Closing)
            .flat_map(|link| listen_deadline(link, &self.config).into_iter().chain(link.logout_deadline));
        let managements = (self.open_managements > 0).then(|| {
            let waiting = self.tasks.iter().filter_map(|task| task.management.as_ref());
            waiting.filter(|management| !management.answered).filter_map(|management| management.deadline).min()
        });
        let fence = self.fence.map(|fence| fence.deadline);
        links.chain(self.hole_deadline()).chain(managements.flatten()).chain(self.pending_deadline()).chain(fence).min()
    }

    /// When the command that is missing has been missing for too long.
    fn hole_deadline(&self) -> Option<Instant> {
        let since = self.hole_since.filter(|_| !is_active(Mutation::HoleNeverTimesOut))?;
        Some(since + self.config.hole_timeout)
    }

    /// Acts on deadlines that have passed. Calling it early does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if self.is_ended {
            return;
        }
        if self.hole_deadline().is_some_and(|deadline| deadline <= now) {
            // What is missing may lie where we do not read.
            if !self.links.iter().any(|link| link.is_paused || link.is_stalled) {
                return self.end(EndReason::CommandLost);
            }
            self.hole_since = Some(now);
        }
        let due: smallvec::SmallVec<[(ConnectionKey, Due); 4]> = self
            .links
            .iter()
            .filter(|link| link.state != LinkState::Closing)
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

/// When the silence of a connection has lasted too long. While we do not read, silence says nothing of the initiator;
/// but one that takes no answers, so that we cannot read, is as good as silent.
fn listen_deadline(link: &Link, config: &SessionConfig) -> Option<Instant> {
    let is_deaf = is_active(Mutation::PingNeverTimesOut) && link.ping.is_some();
    if !link.is_open() || config.ping_interval.is_zero() || is_deaf {
        None
    } else if link.is_full(config) {
        Some(link.last_sent.max(link.last_received) + config.ping_interval + config.ping_timeout)
    } else if link.is_paused || link.is_stalled {
        None
    } else {
        Some(match link.ping {
            Some(ping) => ping.since + config.ping_timeout,
            None => link.last_received + config.ping_interval,
        })
    }
}

fn due(link: &Link, config: &SessionConfig, now: Instant) -> Due {
    if link.logout_deadline.is_some_and(|deadline| deadline <= now) {
        return Due::Fail(CloseReason::LogoutTimeout);
    }
    match listen_deadline(link, config) {
        Some(deadline) if deadline <= now => match link.ping {
            None if !link.is_full(config) => Due::Ping,
            _ => Due::Fail(CloseReason::PingTimeout),
        },
        _ => Due::Nothing,
    }
}
