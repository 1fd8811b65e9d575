//! Page 0Ch: Logical Block Provisioning.

use super::{LogPage, LogPageId, LogParameter};

/// Resources of thin provisioning, in threshold sets (2 to the power THRESHOLD EXPONENT of logical blocks).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ProvisioningResources {
    /// 0001h: available LBA mapping resources; `None` when not known.
    pub available: Option<u32>,
    /// 0002h: used LBA mapping resources; `None` when not known.
    pub used: Option<u32>,
    /// The resources are shared with other logical units (SCOPE 10b), else this one's alone (01b).
    pub shared: bool,
}

impl ProvisioningResources {
    /// The page.
    pub fn page(&self) -> LogPage {
        let scope = if self.shared { 2 } else { 1 };
        let parameter = |code, count: Option<u32>, scope| {
            let [a, b, c, d] = count?.to_be_bytes();
            Some(LogParameter::list(code, vec![a, b, c, d, scope, 0, 0, 0]))
        };
        // What is used is always this unit's.
        let parameters = [parameter(1, self.available, scope), parameter(2, self.used, 1)];
        LogPage { id: LogPageId::PROVISIONING, parameters: parameters.into_iter().flatten().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_counts_are_left_out() {
        let page = ProvisioningResources { available: Some(9), used: None, shared: true }.page();
        assert_eq!(page.encode(), [0x8c, 0, 0, 12, 0, 1, 3, 8, 0, 0, 0, 9, 2, 0, 0, 0]);
    }
}
