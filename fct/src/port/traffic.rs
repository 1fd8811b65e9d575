//! What goes through a port, its sessions and the units that they use.

use stmf::traffic::TrafficReport;

use super::Port;

impl Port {
    /// What has gone through the port and those that count in the same place, with sessions that have ended, through the
    /// sessions that there are, and through units.
    pub fn traffic(&self) -> TrafficReport {
        let mut report = self.traffic.report();
        report.targets.entry(self.target.clone()).or_default();
        report
    }
}
