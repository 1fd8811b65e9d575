//! The target port as STMF sees it.

use std::fmt;

/// Why a target port does not come online, in the port provider's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PortError(pub String);

/// A target port of some transport: an iSCSI target, a Fibre Channel port, a socket of a virtual machine.
///
/// What goes through a port (logins, commands, data) comes to STMF by sessions:
/// [`Stmf::open_session`](crate::Stmf::open_session). The other way there is only little: STMF switches the port on
/// and off here, and asks for the end of a session by [`Session::termination`](crate::Session::termination), about
/// which its [`Mailbox`](super::Mailbox) is woken.
///
/// ```text
///            online_target            bring_online is Ok
///   Offline ---------------> Onlining -------------------> Online
///      ^  ^                      | bring_online fails         | offline_target: take_offline,
///      |  +----------------------+                            | every session is asked to end
///      |            the last session has closed               v
///      +-------------------------------------------------- Offlining
/// ```
pub trait TargetPort: Send + Sync + fmt::Debug {
    /// Begins to accept logins. May wait for hardware; STMF holds no lock meanwhile.
    ///
    /// # Errors
    /// Why not: the port stays offline.
    fn bring_online(&self) -> Result<(), PortError>;

    /// Accepts no logins from now on. STMF asks the sessions there are to end, and the port is offline when the last
    /// has closed.
    fn take_offline(&self);
}
