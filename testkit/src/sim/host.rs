//! An initiator, whatever it is plugged into.

use fct::soft::Faults;
use iscsi_proto::pdu::TaskManagementFunctionCode as Function;
use std::time::Duration;

use super::fc_peer::FcPeer;
use super::peer::{OpId, Peer, Said, State};
use crate::initiator::Command;

pub(super) enum Host {
    Iscsi(Box<Peer>),
    Fc(Box<FcPeer>),
}

macro_rules! both {
    ($self:ident, $peer:ident => $does:expr) => {
        match $self {
            Host::Iscsi($peer) => $does,
            Host::Fc($peer) => $does,
        }
    };
}

impl Host {
    pub(super) fn name(&self) -> &str {
        both!(self, peer => &peer.name)
    }

    pub(super) fn state(&self) -> State {
        both!(self, peer => peer.state)
    }

    /// Takes nothing until then.
    pub(super) fn stalled_until(&self) -> Duration {
        both!(self, peer => peer.stalled_until)
    }

    pub(super) fn stall(&mut self, until: Duration) {
        both!(self, peer => peer.stalled_until = until);
    }

    /// When it wakes by itself, after `now`.
    pub(super) fn wakes(&self, now: Duration) -> Option<Duration> {
        let due = match self {
            _ if self.stalled_until() > now => Some(self.stalled_until()),
            Self::Iscsi(peer) => peer.gives_up_at(),
            Self::Fc(peer) => peer.poll_timeout(),
        };
        due.filter(|due| *due > now)
    }

    /// Whether it gives a silent connection up by now.
    pub(super) fn gives_up(&self, now: Duration) -> bool {
        matches!(self, Self::Iscsi(peer) if peer.gives_up_at().is_some_and(|at| at <= now))
    }

    pub(super) fn is_fc(&self) -> bool {
        matches!(self, Self::Fc(_))
    }

    /// The faults of its cable stop.
    pub(super) fn mend(&mut self) {
        match self {
            Self::Iscsi(peer) => peer.set_faults(Default::default()),
            Self::Fc(peer) => peer.set_faults(Faults::default()),
        }
    }

    /// Drops its connection or login; the operations that will not be answered any more.
    pub(super) fn drop_connection(&mut self, politely: bool) -> Vec<OpId> {
        match self {
            Self::Iscsi(peer) => peer.drop_connection(politely),
            Self::Fc(peer) => peer.drop_login(),
        }
    }

    /// The target's machine is gone.
    pub(super) fn forget(&mut self) -> Vec<OpId> {
        both!(self, peer => peer.forget())
    }

    pub(super) fn log_out(&mut self) {
        both!(self, peer => peer.log_out());
    }

    /// Bits that were flipped on its way.
    pub(super) fn flipped(&self) -> u64 {
        match self {
            Self::Iscsi(peer) => peer.flipped(),
            Self::Fc(_) => 0,
        }
    }

    /// Frames that were lost on its way.
    pub(super) fn lost(&self) -> u64 {
        match self {
            Self::Iscsi(_) => 0,
            Self::Fc(peer) => peer.lost(),
        }
    }

    /// Information units that it has asked for again and is to get.
    pub(super) fn again(&self) -> u64 {
        match self {
            Self::Iscsi(_) => 0,
            Self::Fc(peer) => peer.again(),
        }
    }

    /// How many commands it may send now.
    pub(super) fn window(&self) -> u32 {
        both!(self, peer => peer.window())
    }

    pub(super) fn open_tasks(&self) -> Vec<(u32, OpId)> {
        both!(self, peer => peer.open_tasks())
    }

    pub(super) fn is_busy(&self) -> bool {
        both!(self, peer => peer.is_busy())
    }

    /// Gives a command up that will not be answered.
    pub(super) fn give_up(&mut self, op: OpId) {
        both!(self, peer => peer.give_up(op));
    }

    pub(super) fn command(&mut self, op: OpId, command: &Command) {
        both!(self, peer => peer.command(op, command));
    }

    pub(super) fn manage(&mut self, op: OpId, function: Function, lun: u16, referenced: Option<u32>) {
        both!(self, peer => peer.manage(op, function, lun, referenced));
    }

    /// Takes what has come. True when something has.
    pub(super) fn poll(&mut self, out: &mut Vec<Said>) -> bool {
        both!(self, peer => peer.poll(out))
    }
}
