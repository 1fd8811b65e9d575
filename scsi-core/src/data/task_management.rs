//! REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS data.

use crate::task_management::TaskManagementFunction as F;

/// Which task management functions are supported.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TaskManagementSupport {
    /// The functions; those of the transport alone (TASK REASSIGN, target resets) have no bit.
    pub functions: Vec<F>,
}

const BITS: [(F, usize, u8); 9] = [
    (F::AbortTask, 0, 7),
    (F::AbortTaskSet, 0, 6),
    (F::ClearAca, 0, 5),
    (F::ClearTaskSet, 0, 4),
    (F::LogicalUnitReset, 0, 3),
    (F::QueryTask, 0, 2),
    (F::QueryAsynchronousEvent, 1, 2),
    (F::QueryTaskSet, 1, 1),
    (F::ItNexusReset, 1, 0),
];

impl TaskManagementSupport {
    /// The bytes: 4, or 16 in the extended form (REPD).
    pub fn encode(&self, extended: bool) -> Vec<u8> {
        let mut out = vec![0; if extended { 16 } else { 4 }];
        for (function, byte, bit) in BITS {
            if self.functions.contains(&function) {
                out[byte] |= 1 << bit;
            }
        }
        if extended {
            // ADDITIONAL LENGTH; timeouts are not told.
            out[3] = 0x0c;
        }
        out
    }

    /// Reads the data; `None` when it is cut.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let data: &[u8; 4] = data.first_chunk()?;
        let functions = BITS.iter().filter(|(_, byte, bit)| data[*byte] >> bit & 1 != 0).map(|(f, ..)| *f);
        Some(Self { functions: functions.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_round_trips_in_both_forms() {
        let all = TaskManagementSupport { functions: BITS.iter().map(|(f, ..)| *f).collect() };
        assert_eq!(all.encode(false), [0xfc, 7, 0, 0]);
        assert_eq!(all.encode(true).len(), 16);
        assert_eq!(TaskManagementSupport::decode(&all.encode(true)), Some(all));
    }
}
