//! Page 19h: General Statistics and Performance.

use super::{LogPage, LogPageId, LogParameter, ParameterControl};

/// What the logical unit has done since it was made or reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct GeneralStatistics {
    /// READ commands.
    pub read_commands: u64,
    /// WRITE commands.
    pub write_commands: u64,
    /// Logical blocks received from initiators.
    pub blocks_received: u64,
    /// Logical blocks sent to initiators.
    pub blocks_transmitted: u64,
    /// Time spent on READ commands, microseconds.
    pub read_time_us: u64,
    /// Time spent on WRITE commands, microseconds.
    pub write_time_us: u64,
    /// Sum over reads and writes of how many were under way.
    pub weighted_commands: u64,
    /// Sum over reads and writes of the time spent, microseconds, weighted with how many were under way.
    pub weighted_time_us: u64,
    /// Time without any command, microseconds.
    pub idle_time_us: u64,
}

impl GeneralStatistics {
    /// The page: general access statistics, idle time, and the time interval in which both are counted.
    pub fn page(&self) -> LogPage {
        let values = [
            self.read_commands,
            self.write_commands,
            self.blocks_received,
            self.blocks_transmitted,
            self.read_time_us,
            self.write_time_us,
            self.weighted_commands,
            self.weighted_time_us,
        ];
        let value = values.iter().flat_map(|value| value.to_be_bytes()).collect();
        // One time interval is 1 times 10 to the power of -6 seconds.
        let interval = [6u32.to_be_bytes(), 1u32.to_be_bytes()].concat();
        let parameters = vec![
            LogParameter { code: 1, control: ParameterControl::COUNTER, value },
            LogParameter::counter(2, self.idle_time_us),
            LogParameter::list(3, interval),
        ];
        LogPage { id: LogPageId::GENERAL_STATISTICS, parameters }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_statistics_are_eight_counters() {
        let page = GeneralStatistics { read_commands: 3, blocks_transmitted: 24, ..Default::default() }.page();
        assert_eq!(page.parameters[0].value.len(), 64);
        assert_eq!(page.parameters[0].value[7], 3);
        assert_eq!(page.parameters[0].value[31], 24);
        assert_eq!(LogPage::decode(&page.encode()), Some(page));
    }
}
