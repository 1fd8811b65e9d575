//! Ports in software: the driver `softfc`.
//!
//! A port is plugged into a *fabric* of this server, or by a *cable*, a Unix socket, into one of another server on the
//! same machine. Options:
//!
//! | Option | Value |
//! |---|---|
//! | `fabric` | name of a fabric of this server, made with its first port; `fabric0` unless `connect` is given |
//! | `listen` | with `fabric`: an absolute path; whoever connects to that socket is plugged into the fabric |
//! | `connect` | instead of `fabric`: the path where another server's fabric listens |
//! | `switch-port` | number of the switch's port, 0 to 249; the lowest free one if not given. The port's address is 010300h and 100h for each number |
//! | `driver-name`, `instance`, `driver-version`, `manufacturer`, `model`, `description`, `serial`, `firmware`, `option-rom` | what lists say of the adapter |
//! | `loss` | frames of a thousand that are lost in either direction, 0 to 1000; none if not given |
//! | `reorder` | frames of data of a thousand that overtake others of their sequence, 0 to 1000; none if not given |
//! | `speeds`, `speed` | supported ones in gigabits per second as in `1,2,4`, and the current one |
//! | `os-device` | what `fcinfo` prints as the OS device of an initiator port |
//! | `symbolic-name` | what an initiator port tells the fabric's name server |

mod cable;
mod fabric;

pub use cable::Cable;

use super::{Adapter, FcDriver, FcMode, FcPort, Wake};
use fabric::SharedFabric;
use fct::soft::{Faults, SoftHba, SoftHbaConfig, Wire};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use stmf::provider::hba::Speeds;

/// The driver's name.
pub const DRIVER: &str = "softfc";

/// The fabric of ports that name none.
pub const DEFAULT_FABRIC: &str = "fabric0";

const OPTIONS: [&str; 19] = [
    "fabric",
    "listen",
    "connect",
    "switch-port",
    "driver-name",
    "instance",
    "driver-version",
    "manufacturer",
    "model",
    "description",
    "serial",
    "firmware",
    "option-rom",
    "speeds",
    "speed",
    "os-device",
    "symbolic-name",
    "loss",
    "reorder",
];

/// Ports that a switch has.
const SWITCH_PORTS: u8 = 250;

/// Every speed there is, in gigabits per second.
static SPEEDS: [u32; 8] = [1, 2, 4, 8, 10, 16, 32, 64];

/// The driver of ports in software.
#[derive(Debug, Default)]
pub struct SoftDriver {
    fabrics: Mutex<BTreeMap<String, Weak<SharedFabric>>>,
}

/// Where a port is plugged in.
enum Place {
    Fabric { name: String, listen: Option<PathBuf> },
    Cable(PathBuf),
}

/// The options, read.
struct Settings {
    place: Place,
    switch_port: Option<u8>,
    hba: SoftHbaConfig,
    faults: Faults,
}

impl FcDriver for SoftDriver {
    fn check(&self, port: &FcPort) -> Result<(), String> {
        settings(port).map(drop)
    }

    fn open(&self, port: &FcPort, wake: Wake) -> Result<Adapter, String> {
        let Settings { place, switch_port, hba, faults } = settings(port)?;
        let wire = Wire::new(port.port_name.0);
        wire.set_faults(faults);
        let lost = (faults.loss_per_mille > 0).then(|| wire.clone());
        let (ours, theirs) = wire.ends();
        ours.set_wake(wake);
        let held: Box<dyn fmt::Debug + Send + Sync> = match place {
            Place::Fabric { name, listen } => {
                let fabric = self.fabric(&name)?;
                fabric.attach(switch_port, theirs)?;
                if let Some(path) = listen {
                    fabric.listen(&path).map_err(|error| format!("cannot listen on {}: {error}", path.display()))?;
                }
                Box::new(fabric)
            }
            Place::Cable(path) => {
                let cable = Cable::connect(&path, switch_port, theirs);
                Box::new(cable.map_err(|error| format!("cannot start a cable to {}: {error}", path.display()))?)
            }
        };
        let hba = SoftHba::new(hba, ours);
        // What it is plugged into lives as long as its plug.
        let adapter = Adapter::new(hba).plug(move |plugged| {
            let _ = &held;
            wire.set_up(plugged);
        });
        Ok(match lost {
            Some(wire) => adapter.report(move || BTreeMap::from([("Frames Lost".to_owned(), wire.lost().to_string())])),
            None => adapter,
        })
    }
}

impl SoftDriver {
    /// The fabric of that name, made if there is none.
    fn fabric(&self, name: &str) -> Result<Arc<SharedFabric>, String> {
        let mut fabrics = self.fabrics.lock().unwrap_or_else(PoisonError::into_inner);
        fabrics.retain(|_, fabric| fabric.strong_count() > 0);
        if let Some(fabric) = fabrics.get(name).and_then(Weak::upgrade) {
            return Ok(fabric);
        }
        let fabric = SharedFabric::start(name).map_err(|error| format!("cannot start fabric {name}: {error}"))?;
        fabrics.insert(name.to_owned(), Arc::downgrade(&fabric));
        Ok(fabric)
    }
}

fn settings(port: &FcPort) -> Result<Settings, String> {
    if let Some(unknown) = port.options.keys().find(|name| !OPTIONS.contains(&name.as_str())) {
        return Err(format!("option {unknown} is none of {}", OPTIONS.join(", ")));
    }
    let option = |name: &str| port.options.get(name);
    let path = |name: &str| match option(name).map(PathBuf::from) {
        Some(path) if !path.is_absolute() => Err(format!("{name} is no absolute path: {}", path.display())),
        path => Ok(path),
    };
    let place = match (path("connect")?, path("listen")?, option("fabric")) {
        (Some(path), None, None) => Place::Cable(path),
        (Some(_), ..) => return Err("connect leads to another server's fabric: give no fabric and no listen".into()),
        (None, listen, name) => {
            Place::Fabric { name: name.cloned().unwrap_or_else(|| DEFAULT_FABRIC.to_owned()), listen }
        }
    };
    let switch_port = match option("switch-port").map(|text| (text, text.parse::<u8>())) {
        None => None,
        Some((_, Ok(number))) if number < SWITCH_PORTS => Some(number),
        Some((text, _)) => return Err(format!("switch-port {text} is no number from 0 to 249")),
    };
    let mut hba = SoftHbaConfig::new(port.port_name, port.node_name);
    let details = &mut hba.details;
    let words = [
        ("driver-name", &mut details.driver_name),
        ("driver-version", &mut details.driver_version),
        ("manufacturer", &mut details.manufacturer),
        ("model", &mut details.model),
        ("description", &mut details.model_description),
        ("serial", &mut details.serial_number),
        ("firmware", &mut details.firmware_version),
        ("option-rom", &mut details.option_rom_version),
    ];
    for (name, slot) in words {
        if let Some(text) = option(name) {
            slot.clone_from(text);
        }
    }
    if port.mode == FcMode::Target && (details.driver_name.is_empty() || details.driver_name == "iscsit") {
        return Err("driver-name names the target's provider: neither empty nor iscsit".into());
    }
    if let Some(text) = option("instance") {
        details.instance = text.parse().map_err(|_| format!("instance {text} is no number"))?;
    }
    if let Some(text) = option("speeds") {
        details.supported_speeds = speeds(text)?;
        hba.speed = details.supported_speeds.0.last().copied().unwrap_or(0);
    }
    if let Some(text) = option("speed") {
        let known = text.parse().ok().filter(|speed| SPEEDS.contains(speed));
        hba.speed = known.ok_or_else(|| format!("speed {text} is none of 1, 2, 4, 8, 10, 16, 32, 64"))?;
    }
    let per_mille = |name: &str| match option(name).map(|text| (text, text.parse::<u16>())) {
        None => Ok(0),
        Some((_, Ok(number))) if number <= 1000 => Ok(number),
        Some((text, _)) => Err(format!("{name} {text} is no number from 0 to 1000: frames of a thousand")),
    };
    let faults = Faults {
        loss_per_mille: per_mille("loss")?,
        reorder_data_per_mille: per_mille("reorder")?,
        ..Faults::default()
    };
    Ok(Settings { place, switch_port, hba, faults })
}

/// Neighbours in the table of speeds.
fn speeds(text: &str) -> Result<Speeds, String> {
    let wanted: Option<Vec<u32>> = text.split(',').map(|speed| speed.trim().parse().ok()).collect();
    let found = wanted.and_then(|wanted| {
        let at = SPEEDS.windows(wanted.len().max(1)).position(|window| window == wanted)?;
        SPEEDS.get(at..at + wanted.len())
    });
    found.map(Speeds).ok_or_else(|| format!("speeds {text} are no neighbours in 1,2,4,8,10,16,32,64"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stmf::provider::hba::Wwn;

    fn port() -> FcPort {
        FcPort::new(Wwn(0x2100_0000_0000_0001), Wwn(0x2000_0000_0000_0001), FcMode::Target, DRIVER)
    }

    #[test]
    fn options_that_make_no_sense_are_refused_with_the_reason() {
        for (name, value, reason) in [
            ("fabrik", "a", "option fabrik is none of"),
            ("switch-port", "250", "switch-port 250 is no number"),
            ("listen", "here", "listen is no absolute path: here"),
            ("speeds", "1,4", "speeds 1,4 are no neighbours"),
            ("speed", "3", "speed 3 is none of"),
            ("instance", "two", "instance two is no number"),
            ("loss", "1001", "loss 1001 is no number from 0 to 1000"),
            ("reorder", "many", "reorder many is no number from 0 to 1000"),
            ("driver-name", "iscsit", "driver-name names"),
        ] {
            let error = SoftDriver::default().check(&port().option(name, value)).unwrap_err();
            assert!(error.starts_with(reason), "{error}");
        }
        let both = port().option("fabric", "a").option("connect", "/run/b");
        assert!(SoftDriver::default().check(&both).is_err());
        assert!(SoftDriver::default().check(&port().option("speeds", "1,2").option("switch-port", "1")).is_ok());
    }

    #[test]
    fn a_port_of_a_switch_has_one_plug() {
        let driver = SoftDriver::default();
        let first = driver.open(&port().option("switch-port", "3"), Box::new(|| {})).unwrap();
        let again = driver.open(&port().option("switch-port", "3"), Box::new(|| {}));
        assert!(again.unwrap_err().contains("switch port 3"), "the same port twice");
        drop(first);
        driver.open(&port().option("switch-port", "3"), Box::new(|| {})).unwrap();
    }
}
