//! The kinds of LU that the suite asks for, and which of its tests are for which.

/// One kind of LU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    /// Its column in the table.
    pub(crate) name: &'static str,
    /// What it is, for the head of the table.
    pub(crate) about: &'static str,
    /// The properties that `create-lu` is given.
    pub(crate) properties: &'static [&'static str],
    /// Only the tests whose names begin so; all of them when there is none.
    only: &'static [&'static str],
    /// Tests that are not for it, with the reason that the table has.
    pub(crate) except: &'static [(&'static str, &'static str)],
}

/// With 512-byte blocks on a store of larger ones.
const UNMAP_SINGLE: (&str, &str) = (
    "GetLBAStatus.UnmapSingle",
    "asks for the status of LBA n + 1 and wants the descriptor to begin at n + 8: it can only pass where a physical \
     block is one logical block",
);

/// It looks three seconds after it began, and again some seconds later, and then sleeps a minute.
const SANITIZE_RESET: (&str, &str) = (
    "Sanitize.Reset",
    "wants to find a SANITIZE of its 512 MiB unfinished after five seconds, and waits for a minute if it does: it can \
     only pass on a slow device",
);

/// All kinds. Most tests are for each; a write-protected LU is for those that write nothing or want to be refused.
pub(crate) const DISKS: &[Disk] = &[
    Disk {
        name: "thin",
        about: "thin provisioned",
        properties: &[],
        only: &[],
        except: &[UNMAP_SINGLE, SANITIZE_RESET],
    },
    Disk {
        name: "thick",
        about: "fully provisioned",
        properties: &["thin=false"],
        only: &[],
        except: &[SANITIZE_RESET],
    },
    Disk {
        name: "removable",
        about: "removable, thin",
        properties: &["removable=true"],
        only: &[],
        except: &[UNMAP_SINGLE, SANITIZE_RESET],
    },
    Disk {
        name: "4k",
        about: "blocks of 4096 bytes, thin",
        properties: &["blk=4096"],
        only: &[],
        except: &[SANITIZE_RESET],
    },
    Disk { name: "wp", about: "write-protected, thin", properties: &["wp=true"], only: READING, except: &[] },
];

/// Tests that a write-protected LU can pass.
const READING: &[&str] = &[
    "GetLBAStatus.BeyondEol",
    "Inquiry.",
    "Mandatory.",
    "ModeSense6.",
    "NoMedia.",
    "Prefetch",
    "PrinReadKeys.",
    "PrinServiceactionRange.",
    "PrinReportCapabilities.",
    "Read6.",
    "Read10.",
    "Read12.",
    "Read16.",
    "ReadCapacity10.",
    "ReadCapacity16.",
    "ReadDefectData",
    "ReadOnly.",
    "ReportSupportedOpcodes.",
    "Reserve6.",
    "Sanitize.Readonly",
    "StartStopUnit.",
    "TestUnitReady.",
    "Verify",
];

impl Disk {
    /// Whether the test `name` (`Suite.Test`) is for this kind.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let asked = self.only.is_empty() || self.only.iter().any(|prefix| name.starts_with(prefix));
        asked && self.except.iter().all(|(test, _)| *test != name)
    }
}
