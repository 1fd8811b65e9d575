//! REPORT and SET TARGET PORT GROUPS data.

use crate::bytes_util::{be16, be32};
use crate::sense::SenseData;

/// ASYMMETRIC ACCESS STATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum AsymmetricAccessState {
    /// 0h.
    #[default]
    ActiveOptimized,
    /// 1h.
    ActiveNonOptimized,
    /// 2h.
    Standby,
    /// 3h.
    Unavailable,
    /// 4h.
    LogicalBlockDependent,
    /// Eh.
    Offline,
    /// Fh.
    Transitioning,
}

impl AsymmetricAccessState {
    /// The four-bit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::ActiveOptimized => 0,
            Self::ActiveNonOptimized => 1,
            Self::Standby => 2,
            Self::Unavailable => 3,
            Self::LogicalBlockDependent => 4,
            Self::Offline => 0xe,
            Self::Transitioning => 0xf,
        }
    }

    /// The state of a code, `None` for reserved ones.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::ActiveOptimized,
            1 => Self::ActiveNonOptimized,
            2 => Self::Standby,
            3 => Self::Unavailable,
            4 => Self::LogicalBlockDependent,
            0xe => Self::Offline,
            0xf => Self::Transitioning,
            _ => return None,
        })
    }
}

/// STATUS CODE: what changed the state last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum StatusCode {
    /// 00h: nothing to tell.
    #[default]
    None,
    /// 01h: SET TARGET PORT GROUPS.
    Explicit,
    /// 02h: the target itself.
    Implicit,
    /// Any other value.
    Other(u8),
}

/// One target port group.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TargetPortGroup {
    /// TARGET PORT GROUP.
    pub group: u16,
    /// PREF: the preferred group.
    pub preferred: bool,
    /// The state.
    pub state: AsymmetricAccessState,
    /// STATUS CODE.
    pub status: StatusCode,
    /// RELATIVE TARGET PORT IDENTIFIER of each port, at most 255.
    pub ports: Vec<u16>,
}

/// REPORT TARGET PORT GROUPS data.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TargetPortGroups {
    /// IMPLICIT TRANSITION TIME in seconds, for the extended header; 0 not told.
    pub implicit_transition_seconds: u8,
    /// The groups.
    pub groups: Vec<TargetPortGroup>,
}

/// Which states are supported: T_SUP, O_SUP, U_SUP, S_SUP, AN_SUP, AO_SUP. Lba dependent states are not.
const SUPPORTED_STATES: u8 = 0x80 | 0x40 | 0x08 | 0x04 | 0x02 | 0x01;

impl TargetPortGroups {
    /// The bytes, with the extended header if `extended` (PARAMETER DATA FORMAT 001b).
    pub fn encode(&self, extended: bool) -> Vec<u8> {
        let mut out = vec![0; 4];
        if extended {
            out.extend_from_slice(&[0x10, self.implicit_transition_seconds, 0, 0]);
        }
        for group in &self.groups {
            let ports = &group.ports[..group.ports.len().min(255)];
            let [high, low] = group.group.to_be_bytes();
            let status = match group.status {
                StatusCode::None => 0,
                StatusCode::Explicit => 1,
                StatusCode::Implicit => 2,
                StatusCode::Other(other) => other,
            };
            let state = u8::from(group.preferred) << 7 | group.state.code();
            out.extend_from_slice(&[state, SUPPORTED_STATES, high, low, 0, status, 0, ports.len() as u8]);
            for port in ports {
                out.extend_from_slice(&u32::from(*port).to_be_bytes());
            }
        }
        let length = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&length.to_be_bytes());
        out
    }

    /// Reads the data of either format; `None` when it is cut or has a reserved state.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let length = usize::try_from(be32(data, 0)?).ok()?;
        let mut rest = data.get(4..)?.get(..length)?;
        let mut groups = Self::default();
        // FORMAT TYPE 001b stands where the first group's state would have bits that are reserved.
        if let [first, seconds, 0, 0, tail @ ..] = rest
            && first & 0x70 == 0x10
        {
            groups.implicit_transition_seconds = *seconds;
            rest = tail;
        }
        while let [state, _, high, low, _, status, _, count, tail @ ..] = rest {
            let size = usize::from(*count) * 4;
            let ports = tail.get(..size)?.chunks_exact(4).map(|port| u16::from_be_bytes([port[2], port[3]]));
            groups.groups.push(TargetPortGroup {
                group: u16::from_be_bytes([*high, *low]),
                preferred: state & 0x80 != 0,
                state: AsymmetricAccessState::from_code(state & 0x0f)?,
                status: match status {
                    0 => StatusCode::None,
                    1 => StatusCode::Explicit,
                    2 => StatusCode::Implicit,
                    other => StatusCode::Other(*other),
                },
                ports: ports.collect(),
            });
            rest = &tail[size..];
        }
        Some(groups)
    }
}

/// One wish of SET TARGET PORT GROUPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SetTargetPortGroup {
    /// The state to go to.
    pub state: AsymmetricAccessState,
    /// TARGET PORT GROUP, or relative target port identifier where ports are set one by one.
    pub group: u16,
}

/// Reads the parameter list of SET TARGET PORT GROUPS; an empty one changes nothing.
///
/// # Errors
/// 05/1A/00 when a descriptor is cut; 05/26/00 pointing to a state that cannot be set.
pub fn parse_set_groups(data: &[u8]) -> Result<Vec<SetTargetPortGroup>, SenseData> {
    if data.is_empty() {
        return Ok(Vec::new());
    }
    let list = data.get(4..).ok_or(SenseData::parameter_list_length_error())?;
    if list.len() % 4 != 0 {
        return Err(SenseData::parameter_list_length_error());
    }
    let mut groups = Vec::new();
    for (at, descriptor) in list.chunks_exact(4).enumerate() {
        let state = match AsymmetricAccessState::from_code(descriptor[0] & 0x0f) {
            Some(AsymmetricAccessState::Transitioning | AsymmetricAccessState::LogicalBlockDependent) | None => {
                return Err(SenseData::invalid_field_in_parameter_list((4 + 4 * at).min(0xffff) as u16, Some(3)));
            }
            Some(state) => state,
        };
        groups.push(SetTargetPortGroup { state, group: be16(descriptor, 2).unwrap_or(0) });
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_round_trip() {
        let groups = TargetPortGroups {
            implicit_transition_seconds: 60,
            groups: vec![
                TargetPortGroup { group: 1, preferred: true, ports: vec![1, 2], ..TargetPortGroup::default() },
                TargetPortGroup {
                    group: 2,
                    state: AsymmetricAccessState::Standby,
                    status: StatusCode::Explicit,
                    ports: vec![256],
                    ..TargetPortGroup::default()
                },
            ],
        };
        assert_eq!(TargetPortGroups::decode(&groups.encode(true)), Some(groups.clone()));
        let short = TargetPortGroups { implicit_transition_seconds: 0, ..groups };
        assert_eq!(TargetPortGroups::decode(&short.encode(false)), Some(short.clone()));
        assert_eq!(short.encode(false)[4..12], [0x80, 0xcf, 0, 1, 0, 0, 0, 2]);
    }

    #[test]
    fn states_that_cannot_be_set_are_pointed_to() {
        let ok = parse_set_groups(&[0, 0, 0, 0, 2, 0, 0, 7]).unwrap();
        assert_eq!(ok, [SetTargetPortGroup { state: AsymmetricAccessState::Standby, group: 7 }]);
        let transitioning = parse_set_groups(&[0, 0, 0, 0, 0, 0, 0, 1, 0xf, 0, 0, 2]);
        assert_eq!(transitioning, Err(SenseData::invalid_field_in_parameter_list(8, Some(3))));
        assert_eq!(parse_set_groups(&[0, 0, 0, 0, 1]), Err(SenseData::parameter_list_length_error()));
        assert_eq!(parse_set_groups(&[]), Ok(Vec::new()));
    }
}
