//! Page 8Fh: Third-party Copy.

use super::VpdPage;
use crate::bytes_util::{be16, be32, be64};

/// What tokens for block devices are limited to (block device ROD token limits descriptor, type 0000h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RodTokenLimits {
    /// MAXIMUM RANGE DESCRIPTORS of one POPULATE TOKEN or WRITE USING TOKEN; 0 not told.
    pub max_range_descriptors: u16,
    /// MAXIMUM INACTIVITY TIMEOUT in seconds.
    pub max_inactivity_timeout_seconds: u32,
    /// DEFAULT INACTIVITY TIMEOUT in seconds.
    pub default_inactivity_timeout_seconds: u32,
    /// MAXIMUM TOKEN TRANSFER SIZE in logical blocks; 0 not told.
    pub max_token_transfer_size: u64,
    /// OPTIMAL TRANSFER COUNT in logical blocks; 0 not told.
    pub optimal_transfer_count: u64,
}

/// An operation code with the service actions that are supported (supported commands descriptor, type 0001h).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ThirdPartyCopyCommand {
    /// OPERATION CODE: 83h or 84h.
    pub opcode: u8,
    /// The service actions.
    pub service_actions: Vec<u8>,
}

/// Third-party Copy (8Fh): what the copy manager can do. Descriptors that this crate does not know are skipped when
/// reading.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ThirdPartyCopy {
    /// Type 0000h; with it Windows offers offloaded transfers.
    pub rod_token_limits: Option<RodTokenLimits>,
    /// Type 0001h.
    pub commands: Vec<ThirdPartyCopyCommand>,
    /// Type 0004h: MAXIMUM CSCD DESCRIPTOR COUNT, MAXIMUM SEGMENT DESCRIPTOR COUNT, MAXIMUM DESCRIPTOR LIST LENGTH,
    /// MAXIMUM INLINE DATA LENGTH.
    pub parameter_data: Option<(u16, u16, u32, u32)>,
    /// Type 0008h: the descriptor type codes that EXTENDED COPY knows, ascending.
    pub descriptor_types: Vec<u8>,
    /// Type 000Ch: CSCD descriptor ids beyond those of the parameter list, such as FFFFh for this logical unit.
    pub cscd_ids: Vec<u16>,
    /// Type 0106h: how many bytes of a token the target may vary, and its lifetimes: (remote tokens,
    /// minimum token lifetime, maximum token lifetime, maximum token inactivity timeout), seconds.
    pub rod_token_features: Option<(u8, u32, u32, u32)>,
    /// Type 0108h: the ROD types that can be made: (type, ECPY_INT, tokens may be sent out, tokens may come in,
    /// preference indicator).
    pub rod_types: Vec<(u32, bool, bool, bool, u16)>,
    /// Type 8001h: TOTAL CONCURRENT COPIES, MAXIMUM IDENTIFIED CONCURRENT COPIES, MAXIMUM SEGMENT LENGTH, DATA SEGMENT
    /// GRANULARITY (as a power of two).
    pub general: Option<(u32, u32, u32, u8)>,
}

fn descriptor(out: &mut Vec<u8>, kind: u16, body: &[u8]) {
    let length = body.len().next_multiple_of(4);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(length as u16).to_be_bytes());
    out.extend_from_slice(body);
    out.resize(out.len() + length - body.len(), 0);
}

impl VpdPage for ThirdPartyCopy {
    const CODE: u8 = 0x8f;

    fn encode_body(&self, out: &mut Vec<u8>) {
        if let Some(limits) = &self.rod_token_limits {
            let mut body = vec![0; 6];
            body.extend_from_slice(&limits.max_range_descriptors.to_be_bytes());
            body.extend_from_slice(&limits.max_inactivity_timeout_seconds.to_be_bytes());
            body.extend_from_slice(&limits.default_inactivity_timeout_seconds.to_be_bytes());
            body.extend_from_slice(&limits.max_token_transfer_size.to_be_bytes());
            body.extend_from_slice(&limits.optimal_transfer_count.to_be_bytes());
            descriptor(out, 0x0000, &body);
        }
        if !self.commands.is_empty() {
            let mut body = vec![0];
            for command in &self.commands {
                body.extend_from_slice(&[command.opcode, command.service_actions.len() as u8]);
                body.extend_from_slice(&command.service_actions);
            }
            body[0] = (body.len() - 1) as u8;
            descriptor(out, 0x0001, &body);
        }
        if let Some((cscds, segments, list, inline)) = self.parameter_data {
            let mut body = vec![0; 4];
            body.extend_from_slice(&cscds.to_be_bytes());
            body.extend_from_slice(&segments.to_be_bytes());
            body.extend_from_slice(&list.to_be_bytes());
            body.extend_from_slice(&inline.to_be_bytes());
            body.resize(28, 0);
            descriptor(out, 0x0004, &body);
        }
        if !self.descriptor_types.is_empty() {
            let mut body = vec![self.descriptor_types.len() as u8];
            body.extend_from_slice(&self.descriptor_types);
            descriptor(out, 0x0008, &body);
        }
        if !self.cscd_ids.is_empty() {
            let mut body = ((self.cscd_ids.len() * 2) as u16).to_be_bytes().to_vec();
            self.cscd_ids.iter().for_each(|id| body.extend_from_slice(&id.to_be_bytes()));
            descriptor(out, 0x000c, &body);
        }
        if let Some((remote, minimum, maximum, inactivity)) = self.rod_token_features {
            let mut body = vec![remote & 0x0f, 0, 0, 0];
            body.extend_from_slice(&[0; 8]);
            body.extend_from_slice(&minimum.to_be_bytes());
            body.extend_from_slice(&maximum.to_be_bytes());
            body.extend_from_slice(&inactivity.to_be_bytes());
            body.resize(44, 0);
            descriptor(out, 0x0106, &body);
        }
        if !self.rod_types.is_empty() {
            let mut body = vec![0, 0];
            body.extend_from_slice(&((self.rod_types.len() * 64) as u16).to_be_bytes());
            for &(kind, internal, tokens_out, tokens_in, preference) in &self.rod_types {
                let start = body.len();
                body.extend_from_slice(&kind.to_be_bytes());
                body.push(u8::from(internal) << 7 | u8::from(tokens_in) << 1 | u8::from(tokens_out));
                body.push(0);
                body.extend_from_slice(&preference.to_be_bytes());
                body.resize(start + 64, 0);
            }
            descriptor(out, 0x0108, &body);
        }
        if let Some((total, identified, segment, granularity)) = self.general {
            let mut body = total.to_be_bytes().to_vec();
            body.extend_from_slice(&identified.to_be_bytes());
            body.extend_from_slice(&segment.to_be_bytes());
            body.push(granularity);
            body.resize(32, 0);
            descriptor(out, 0x8001, &body);
        }
    }

    fn decode_body(mut body: &[u8]) -> Option<Self> {
        let mut page = Self::default();
        while let (Some(kind), Some(length)) = (be16(body, 0), be16(body, 2)) {
            let end = 4 + usize::from(length);
            let data = body.get(4..end)?;
            page.take(kind, data)?;
            body = &body[end..];
        }
        Some(page)
    }
}

impl ThirdPartyCopy {
    fn take(&mut self, kind: u16, data: &[u8]) -> Option<()> {
        match kind {
            0x0000 => {
                self.rod_token_limits = Some(RodTokenLimits {
                    max_range_descriptors: be16(data, 6)?,
                    max_inactivity_timeout_seconds: be32(data, 8)?,
                    default_inactivity_timeout_seconds: be32(data, 12)?,
                    max_token_transfer_size: be64(data, 16)?,
                    optimal_transfer_count: be64(data, 24)?,
                });
            }
            0x0001 => {
                let mut list = data.get(1..1 + usize::from(*data.first()?))?;
                while let [opcode, count, rest @ ..] = list {
                    let count = usize::from(*count);
                    let service_actions = rest.get(..count)?.to_vec();
                    self.commands.push(ThirdPartyCopyCommand { opcode: *opcode, service_actions });
                    list = &rest[count..];
                }
            }
            0x0004 => {
                self.parameter_data = Some((be16(data, 4)?, be16(data, 6)?, be32(data, 8)?, be32(data, 12)?));
            }
            0x0008 => self.descriptor_types = data.get(1..1 + usize::from(*data.first()?))?.to_vec(),
            0x000c => {
                let list = data.get(2..2 + usize::from(be16(data, 0)?))?;
                self.cscd_ids = list.chunks_exact(2).map(|id| u16::from_be_bytes([id[0], id[1]])).collect();
            }
            0x0106 => {
                self.rod_token_features =
                    Some((data.first()? & 0x0f, be32(data, 12)?, be32(data, 16)?, be32(data, 20)?));
            }
            0x0108 => {
                let list = data.get(4..4 + usize::from(be16(data, 2)?))?;
                for rod in list.chunks_exact(64) {
                    let flags = rod[4];
                    self.rod_types.push((
                        be32(rod, 0)?,
                        flags & 0x80 != 0,
                        flags & 1 != 0,
                        flags & 2 != 0,
                        be16(rod, 6)?,
                    ));
                }
            }
            0x8001 => self.general = Some((be32(data, 0)?, be32(data, 4)?, be32(data, 8)?, *data.get(12)?)),
            _ => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inquiry::Peripheral;

    #[test]
    fn every_descriptor_round_trips() {
        let page = ThirdPartyCopy {
            rod_token_limits: Some(RodTokenLimits {
                max_range_descriptors: 8,
                max_inactivity_timeout_seconds: 300,
                default_inactivity_timeout_seconds: 30,
                max_token_transfer_size: 1 << 33,
                optimal_transfer_count: 1 << 17,
            }),
            commands: vec![
                ThirdPartyCopyCommand { opcode: 0x83, service_actions: vec![0, 1, 0x10, 0x11, 0x1c] },
                ThirdPartyCopyCommand { opcode: 0x84, service_actions: vec![0, 3, 5, 7] },
            ],
            parameter_data: Some((2, 8, 1024, 0)),
            descriptor_types: vec![0x02, 0x0a, 0xe4],
            cscd_ids: vec![0xffff],
            rod_token_features: Some((0, 1, 600, 300)),
            rod_types: vec![(0x0080_0000, true, true, true, 0x8000)],
            general: Some((16, 16, 1 << 20, 9)),
        };
        let bytes = page.encode(Peripheral::DISK);
        assert_eq!(bytes[4..8], [0, 0, 0, 0x20]);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(ThirdPartyCopy::decode(&bytes), Some(page));
    }
}
