//! Fibre Channel ports in the management API's types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fc::FcMode;

/// A Fibre Channel port. Names are 16 lower-case digits, addresses are hexadecimal without padding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FcPortInfo {
    /// Its port name.
    pub port_name: String,
    /// Its node name.
    pub node_name: String,
    /// Which end it is.
    pub mode: FcMode,
    /// The driver that opens its adapter.
    pub driver: String,
    /// The driver's options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Why its adapter cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The adapter, its link, and who is logged in; missing when no server is running or it cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<FcAdapterInfo>,
}

/// What a list of ports asks of remote ports, each of which takes its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FcQuestions {
    /// Initiators ask which logical units they see.
    pub units: bool,
    /// Remote ports are asked for the errors of their links (RLS).
    pub link_errors: bool,
}

/// An adapter and its link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FcAdapterInfo {
    /// The port's address; `0` without one.
    pub port_id: String,
    /// `N-port`, `NL-port`, `L-port`, `point-to-point` or `unknown`.
    pub port_type: String,
    /// `online`, `offline`, `link down` or `error`.
    pub state: String,
    /// In gigabits per second; 0 when it is not established.
    pub speed: u32,
    /// In gigabits per second, ascending.
    pub supported_speeds: Vec<u32>,
    /// The OS device; `Not Applicable` for a target.
    pub os_device: String,
    /// Manufacturer.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Version of the firmware.
    pub firmware_version: String,
    /// Version of the boot code.
    pub option_rom_version: String,
    /// Serial number; empty where there is none.
    pub serial_number: String,
    /// Name of the driver.
    pub driver_name: String,
    /// Version of the driver.
    pub driver_version: String,
    /// Counters of the link.
    pub statistics: FcLinkStatistics,
    /// Who is logged in, by port name.
    pub remotes: Vec<FcRemoteInfo>,
    /// What the driver says beyond that, by its own labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub report: BTreeMap<String, String>,
}

/// Counters of a link. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FcLinkStatistics {
    /// How often the link failed.
    pub link_failures: u32,
    /// Losses of synchronisation.
    pub losses_of_sync: u32,
    /// Losses of signal.
    pub losses_of_signal: u32,
    /// Errors in primitive sequences.
    pub primitive_sequence_errors: u32,
    /// Invalid transmission words.
    pub invalid_words: u32,
    /// Frames whose CRC was wrong.
    pub invalid_crcs: u32,
}

/// A remote port that is logged in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FcRemoteInfo {
    /// Its port name.
    pub port_name: String,
    /// Its node name.
    pub node_name: String,
    /// Its address.
    pub port_id: String,
    /// Its symbolic name, if the fabric's name server knows one.
    pub symbolic_name: Option<String>,
    /// Whether it is a target.
    pub target: bool,
    /// Whether there is a session with it.
    pub session: bool,
    /// The errors of its link, if it was asked for them and told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_errors: Option<FcLinkStatistics>,
    /// The logical units that it shows, if they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<FcUnitInfo>,
}

/// A logical unit that a remote port shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FcUnitInfo {
    /// Its LUN.
    pub lun: u16,
    /// INQUIRY vendor.
    pub vendor: String,
    /// INQUIRY product.
    pub product: String,
    /// What kind of device, as `Disk Device`.
    pub device_type: String,
    /// Its name: the NAA designator, 32 upper-case digits; missing if it tells none.
    pub guid: Option<String>,
}

impl FcUnitInfo {
    /// The name of the device in lists: `c0t<GUID>d0` as a Solaris host calls a disk with several paths, else the path.
    pub fn device_name(&self, remote: &str) -> String {
        match &self.guid {
            Some(guid) => format!("c0t{guid}d0"),
            None => format!("c0t{}d{}", remote.to_uppercase(), self.lun),
        }
    }
}
