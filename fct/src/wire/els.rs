//! Extended link services (FC-LS-4).

use smallvec::SmallVec;
use std::fmt;
use stmf::provider::hba::{LinkStatistics, PortId, Wwn};

use super::{LoginParameters, PrliPage, WireError, be16, be24, be32, be64, need};

/// The code of a link service: the first byte of its payload.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ElsCommand(pub u8);

impl ElsCommand {
    /// Reject.
    pub const LS_RJT: Self = Self(0x01);
    /// Accept.
    pub const LS_ACC: Self = Self(0x02);
    /// N_Port login.
    pub const PLOGI: Self = Self(0x03);
    /// Fabric login.
    pub const FLOGI: Self = Self(0x04);
    /// Logout.
    pub const LOGO: Self = Self(0x05);
    /// Read timeout values.
    pub const RTV: Self = Self(0x0e);
    /// Read link error status block.
    pub const RLS: Self = Self(0x0f);
    /// Echo.
    pub const ECHO: Self = Self(0x10);
    /// Reinstate recovery qualifier.
    pub const RRQ: Self = Self(0x12);
    /// Read exchange concise.
    pub const REC: Self = Self(0x13);
    /// Sequence retransmission request; FCP's own.
    pub const SRR: Self = Self(0x14);
    /// Process login.
    pub const PRLI: Self = Self(0x20);
    /// Process logout.
    pub const PRLO: Self = Self(0x21);
    /// Third party process logout.
    pub const TPRLO: Self = Self(0x24);
    /// Discover N_Port service parameters.
    pub const PDISC: Self = Self(0x50);
    /// Discover address.
    pub const ADISC: Self = Self(0x52);
    /// Registered state change notification.
    pub const RSCN: Self = Self(0x61);
    /// State change registration.
    pub const SCR: Self = Self(0x62);
}

impl fmt::Debug for ElsCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ELS({:02x})", self.0)
    }
}

/// Why a link service is rejected (FC-LS-4, LS_RJT reason codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LsReason(pub u8);

impl LsReason {
    /// There is no such command.
    pub const INVALID_COMMAND: Self = Self(0x01);
    /// The request contradicts itself or the state.
    pub const LOGICAL_ERROR: Self = Self(0x03);
    /// Busy: another time.
    pub const LOGICAL_BUSY: Self = Self(0x05);
    /// Against the protocol.
    pub const PROTOCOL_ERROR: Self = Self(0x07);
    /// It cannot be done.
    pub const UNABLE: Self = Self(0x09);
    /// The command is known and not supported.
    pub const NOT_SUPPORTED: Self = Self(0x0b);
}

/// What exactly is the matter (FC-LS-4, LS_RJT reason code explanations).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LsExplanation(pub u8);

impl LsExplanation {
    /// Nothing more to say.
    pub const NONE: Self = Self(0x00);
    /// Service parameters: options.
    pub const PARAMETERS: Self = Self(0x01);
    /// No such exchange.
    pub const INVALID_EXCHANGE: Self = Self(0x17);
    /// Log in first.
    pub const LOGIN_REQUIRED: Self = Self(0x1e);
    /// No room for another login.
    pub const NO_RESOURCES: Self = Self(0x29);
    /// The data asked for is not there.
    pub const UNABLE_TO_SUPPLY: Self = Self(0x2a);
    /// Not supported.
    pub const NOT_SUPPORTED: Self = Self(0x2c);
    /// The payload has a wrong length.
    pub const INVALID_LENGTH: Self = Self(0x2d);
}

/// A link service request, or an answer whose kind is known by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Els {
    /// Reject.
    Reject {
        /// Why.
        reason: LsReason,
        /// What exactly.
        explanation: LsExplanation,
    },
    /// Fabric login.
    Flogi(LoginParameters),
    /// N_Port login.
    Plogi(LoginParameters),
    /// Discover N_Port service parameters.
    Pdisc(LoginParameters),
    /// Process login.
    Prli(PrliPage),
    /// Process logout.
    Prlo(PrliPage),
    /// Third party process logout.
    Tprlo(PrliPage),
    /// Logout.
    Logo {
        /// Who logs out.
        port_id: PortId,
        /// Its name.
        port_name: Wwn,
    },
    /// Discover address; its accept has the same form.
    Adisc {
        /// The sender's port name.
        port_name: Wwn,
        /// The sender's node name.
        node_name: Wwn,
        /// The sender's address.
        port_id: PortId,
    },
    /// Registered state change notification: pages of address format and address.
    Rscn(SmallVec<[(u8, PortId); 4]>),
    /// State change registration.
    Scr {
        /// Which changes; 3: all.
        function: u8,
    },
    /// Read link error status block.
    Rls,
    /// Read timeout values.
    Rtv,
    /// Echo: the payload comes back.
    Echo,
    /// Read exchange concise.
    Rec {
        /// The exchange's originator.
        originator: PortId,
        /// Its name there.
        ox_id: u16,
        /// Its name at the responder.
        rx_id: u16,
    },
    /// Sequence retransmission request.
    Srr {
        /// The exchange's name at its originator.
        ox_id: u16,
        /// Its name at the responder.
        rx_id: u16,
        /// From this byte on.
        offset: u32,
        /// R_CTL of the information unit wanted.
        r_ctl: u8,
    },
    /// Reinstate recovery qualifier.
    Rrq,
    /// One that is not known here.
    Other(ElsCommand),
}

impl Els {
    /// Reads a request.
    ///
    /// # Errors
    /// [`WireError`]: the payload is too short for its command, or contradicts itself.
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        need(payload, 4)?;
        Ok(match ElsCommand(payload[0]) {
            ElsCommand::LS_RJT => {
                need(payload, 8)?;
                Self::Reject { reason: LsReason(payload[5]), explanation: LsExplanation(payload[6]) }
            }
            ElsCommand::FLOGI => Self::Flogi(LoginParameters::decode(payload)?),
            ElsCommand::PLOGI => Self::Plogi(LoginParameters::decode(payload)?),
            ElsCommand::PDISC => Self::Pdisc(LoginParameters::decode(payload)?),
            ElsCommand::PRLI => Self::Prli(PrliPage::decode(payload)?),
            ElsCommand::PRLO => Self::Prlo(PrliPage::decode(payload)?),
            ElsCommand::TPRLO => Self::Tprlo(PrliPage::decode(payload)?),
            ElsCommand::LOGO => {
                need(payload, 16)?;
                Self::Logo { port_id: PortId(be24(payload, 5)), port_name: Wwn(be64(payload, 8)) }
            }
            ElsCommand::ADISC => {
                need(payload, 28)?;
                let (port_name, node_name) = (Wwn(be64(payload, 8)), Wwn(be64(payload, 16)));
                Self::Adisc { port_name, node_name, port_id: PortId(be24(payload, 25)) }
            }
            ElsCommand::RSCN => {
                let length = usize::from(be16(payload, 2));
                if payload[1] != 4 || length < 8 || !length.is_multiple_of(4) || length > payload.len() {
                    return Err(WireError::Field(2));
                }
                let pages = payload[4..length].chunks_exact(4);
                Self::Rscn(pages.map(|page| (page[0] & 0x03, PortId(be24(page, 1)))).collect())
            }
            ElsCommand::SCR => {
                need(payload, 8)?;
                Self::Scr { function: payload[7] }
            }
            ElsCommand::RLS => {
                need(payload, 8)?;
                Self::Rls
            }
            ElsCommand::RTV => Self::Rtv,
            ElsCommand::ECHO => Self::Echo,
            ElsCommand::REC => {
                need(payload, 12)?;
                Self::Rec { originator: PortId(be24(payload, 5)), ox_id: be16(payload, 8), rx_id: be16(payload, 10) }
            }
            ElsCommand::SRR => {
                need(payload, 16)?;
                Self::Srr {
                    ox_id: be16(payload, 4),
                    rx_id: be16(payload, 6),
                    offset: be32(payload, 8),
                    r_ctl: payload[12],
                }
            }
            ElsCommand::RRQ => {
                need(payload, 12)?;
                Self::Rrq
            }
            other => Self::Other(other),
        })
    }

    /// The payload of the request; of one that is not known here, its code alone.
    pub fn encode(&self) -> Vec<u8> {
        let word = |command: ElsCommand| vec![command.0, 0, 0, 0];
        match self {
            Self::Reject { reason, explanation } => vec![1, 0, 0, 0, 0, reason.0, explanation.0, 0],
            Self::Flogi(parameters) => parameters.encode(ElsCommand::FLOGI.0),
            Self::Plogi(parameters) => parameters.encode(ElsCommand::PLOGI.0),
            Self::Pdisc(parameters) => parameters.encode(ElsCommand::PDISC.0),
            Self::Prli(page) => page.encode(ElsCommand::PRLI.0),
            Self::Prlo(page) => page.encode(ElsCommand::PRLO.0),
            Self::Tprlo(page) => page.encode(ElsCommand::TPRLO.0),
            Self::Logo { port_id, port_name } => {
                let mut out = word(ElsCommand::LOGO);
                push_id(&mut out, *port_id);
                out.extend_from_slice(&port_name.0.to_be_bytes());
                out
            }
            Self::Adisc { .. } => self.encode_adisc(ElsCommand::ADISC),
            Self::Rscn(pages) => {
                let mut out = vec![ElsCommand::RSCN.0, 4];
                out.extend_from_slice(&(4 + 4 * pages.len() as u16).to_be_bytes());
                for (format, id) in pages {
                    out.push(*format);
                    out.extend_from_slice(&id.to_bytes());
                }
                out
            }
            Self::Scr { function } => vec![ElsCommand::SCR.0, 0, 0, 0, 0, 0, 0, *function],
            Self::Rls => vec![ElsCommand::RLS.0, 0, 0, 0, 0, 0, 0, 0],
            Self::Rtv => word(ElsCommand::RTV),
            Self::Echo => word(ElsCommand::ECHO),
            Self::Rec { originator, ox_id, rx_id } => {
                let mut out = word(ElsCommand::REC);
                push_id(&mut out, *originator);
                push_exchange(&mut out, *ox_id, *rx_id);
                out
            }
            Self::Srr { ox_id, rx_id, offset, r_ctl } => {
                let mut out = word(ElsCommand::SRR);
                push_exchange(&mut out, *ox_id, *rx_id);
                out.extend_from_slice(&offset.to_be_bytes());
                out.extend_from_slice(&[*r_ctl, 0, 0, 0]);
                out
            }
            Self::Rrq => {
                let mut out = word(ElsCommand::RRQ);
                out.resize(12, 0);
                out
            }
            Self::Other(command) => word(*command),
        }
    }

    /// The accept of ADISC, which has its form.
    pub(crate) fn encode_adisc(&self, command: ElsCommand) -> Vec<u8> {
        let mut out = vec![command.0, 0, 0, 0, 0, 0, 0, 0];
        if let Self::Adisc { port_name, node_name, port_id } = self {
            out.extend_from_slice(&port_name.0.to_be_bytes());
            out.extend_from_slice(&node_name.0.to_be_bytes());
            push_id(&mut out, *port_id);
        }
        out
    }

    /// An accept without anything to say.
    pub(crate) fn accept() -> Vec<u8> {
        vec![ElsCommand::LS_ACC.0, 0, 0, 0]
    }

    /// The accept of RLS.
    pub(crate) fn link_errors(statistics: &LinkStatistics) -> Vec<u8> {
        let mut out = Self::accept();
        let LinkStatistics {
            link_failures,
            losses_of_sync,
            losses_of_signal,
            primitive_sequence_errors,
            invalid_words,
            invalid_crcs,
        } = *statistics;
        let counters =
            [link_failures, losses_of_sync, losses_of_signal, primitive_sequence_errors, invalid_words, invalid_crcs];
        counters.iter().for_each(|counter| out.extend_from_slice(&counter.to_be_bytes()));
        out
    }

    /// What the accept of RLS says (FC-LS, Link Error Status Block); `None` if the payload is none.
    pub fn accepted_link_errors(payload: &[u8]) -> Option<LinkStatistics> {
        let is_whole = payload.first() == Some(&ElsCommand::LS_ACC.0) && payload.len() >= 28;
        is_whole.then(|| LinkStatistics {
            link_failures: be32(payload, 4),
            losses_of_sync: be32(payload, 8),
            losses_of_signal: be32(payload, 12),
            primitive_sequence_errors: be32(payload, 16),
            invalid_words: be32(payload, 20),
            invalid_crcs: be32(payload, 24),
        })
    }

    /// The accept of RTV: both timeouts in milliseconds.
    pub(crate) fn timeouts(r_a_tov_ms: u32, e_d_tov_ms: u32) -> Vec<u8> {
        let mut out = Self::accept();
        [r_a_tov_ms, e_d_tov_ms, 0].iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
        out
    }
}

/// The accept of REC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecAnswer {
    /// The exchange's name at its originator.
    pub ox_id: u16,
    /// Its name at the responder.
    pub rx_id: u16,
    /// Its originator.
    pub originator: PortId,
    /// Its responder.
    pub responder: PortId,
    /// Data bytes that the answering port has sent or received.
    pub transferred: u32,
    /// The answering port is the responder.
    pub is_responder: bool,
    /// The answering port has the sequence initiative.
    pub initiative: bool,
    /// The exchange is over, and the answer known for a while.
    pub complete: bool,
}

impl RecAnswer {
    const RESPONDER: u32 = 1 << 31;
    const INITIATIVE: u32 = 1 << 30;
    const COMPLETE: u32 = 1 << 29;

    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Els::accept();
        push_exchange(&mut out, self.ox_id, self.rx_id);
        push_id(&mut out, self.originator);
        push_id(&mut out, self.responder);
        out.extend_from_slice(&self.transferred.to_be_bytes());
        let mut status = 0;
        for (flag, bit) in
            [(self.is_responder, Self::RESPONDER), (self.initiative, Self::INITIATIVE), (self.complete, Self::COMPLETE)]
        {
            status |= if flag { bit } else { 0 };
        }
        out.extend_from_slice(&status.to_be_bytes());
        out
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        need(payload, 24)?;
        let status = be32(payload, 20);
        Ok(Self {
            ox_id: be16(payload, 4),
            rx_id: be16(payload, 6),
            originator: PortId(be24(payload, 9)),
            responder: PortId(be24(payload, 13)),
            transferred: be32(payload, 16),
            is_responder: status & Self::RESPONDER != 0,
            initiative: status & Self::INITIATIVE != 0,
            complete: status & Self::COMPLETE != 0,
        })
    }
}

fn push_id(out: &mut Vec<u8>, id: PortId) {
    out.push(0);
    out.extend_from_slice(&id.to_bytes());
}

fn push_exchange(out: &mut Vec<u8>, ox_id: u16, rx_id: u16) {
    out.extend_from_slice(&ox_id.to_be_bytes());
    out.extend_from_slice(&rx_id.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    #[test]
    fn requests_survive_the_wire() {
        let (port_name, node_name) = (Wwn(0x2100_0000_0000_0001), Wwn(0x2000_0000_0000_0001));
        for els in [
            Els::Logo { port_id: PortId(0x01_0300), port_name },
            Els::Adisc { port_name, node_name, port_id: PortId(0x01_0300) },
            Els::Rscn(smallvec![(0, PortId(0x01_0300)), (1, PortId(0x02_0000))]),
            Els::Scr { function: 3 },
            Els::Rls,
            Els::Rec { originator: PortId(1), ox_id: 2, rx_id: 3 },
            Els::Srr { ox_id: 2, rx_id: 3, offset: 4096, r_ctl: 1 },
            Els::Rrq,
            Els::Reject { reason: LsReason::UNABLE, explanation: LsExplanation::LOGIN_REQUIRED },
            Els::Other(ElsCommand(0x78)),
        ] {
            let payload = els.encode();
            assert_eq!(Els::decode(&payload), Ok(els), "{payload:02x?}");
        }
    }

    #[test]
    fn a_notification_whose_length_is_not_its_own_is_refused() {
        for payload in [&[0x61, 4, 0, 4][..], &[0x61, 4, 0, 12, 0, 1, 2, 3], &[0x61, 8, 0, 8, 0, 1, 2, 3]] {
            assert!(Els::decode(payload).is_err(), "{payload:02x?}");
        }
    }
}
