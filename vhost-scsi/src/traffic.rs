//! What goes through a device.

use scsi_core::Status;

/// Counters, all since the device was made.
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
    /// Commands that ended with another status than GOOD, or were aborted.
    pub errors: u64,
    /// Commands under way.
    pub queue_depth: u64,
}

impl Traffic {
    /// Both together; what is under way is that of `self`.
    #[must_use]
    pub fn with(self, earlier: Self) -> Self {
        Self {
            reads: self.reads + earlier.reads,
            writes: self.writes + earlier.writes,
            others: self.others + earlier.others,
            read_bytes: self.read_bytes + earlier.read_bytes,
            written_bytes: self.written_bytes + earlier.written_bytes,
            errors: self.errors + earlier.errors,
            queue_depth: self.queue_depth,
        }
    }

    /// Counts a command that has ended; `None`: it was aborted.
    pub(crate) fn count(&mut self, opcode: u8, bytes: u64, status: Option<Status>) {
        self.errors += u64::from(status != Some(Status::GOOD));
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
