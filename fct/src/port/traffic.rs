//! What goes through a port and its sessions.

use scsi_core::Status;
use stmf::NexusId;

use super::Port;

/// Counters, all since the port or the session began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Read commands.
    pub reads: u64,
    /// Write commands.
    pub writes: u64,
    /// Other commands.
    pub others: u64,
    /// Bytes that read commands moved.
    pub read_bytes: u64,
    /// Bytes that write commands moved.
    pub written_bytes: u64,
    /// Commands that ended with another status than GOOD.
    pub errors: u64,
    /// Commands under way.
    pub queue_depth: u64,
}

impl Traffic {
    /// Counts a command that has ended with a status.
    pub(super) fn count(&mut self, opcode: u8, bytes: u64, status: Status) {
        self.errors += u64::from(status != Status::GOOD);
        match opcode {
            // READ, WRITE and WRITE AND VERIFY in all their lengths.
            0x08 | 0x28 | 0xa8 | 0x88 => {
                self.reads += 1;
                self.read_bytes += bytes;
            }
            0x0a | 0x2a | 0xaa | 0x8a | 0x2e | 0xae | 0x8e => {
                self.writes += 1;
                self.written_bytes += bytes;
            }
            _ => self.others += 1,
        }
    }
}

impl Port {
    /// What has gone through the port, with sessions that have ended.
    pub fn traffic(&self) -> Traffic {
        Traffic { queue_depth: self.tasks.len() as u64, ..self.traffic }
    }

    /// What has gone through the sessions that there are.
    pub fn session_traffic(&self) -> impl Iterator<Item = (NexusId, Traffic)> {
        self.session_traffic.iter().map(|(nexus, traffic)| {
            let queue_depth = self.tasks.values().filter(|task| task.nexus() == *nexus).count() as u64;
            (*nexus, Traffic { queue_depth, ..*traffic })
        })
    }
}
