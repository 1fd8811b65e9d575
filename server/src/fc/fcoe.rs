//! The driver `fcoe`: FCoE ports in software on Ethernet interfaces.
//!
//! Options: `interface`, the name of an Ethernet interface; `mode`: `auto` (the default: a fabric, and where none shows up
//! within 2.5 seconds VN2VN), `fabric` or `vn2vn`; `promiscuous`: `true` where the interface cannot take frames to a second
//! address.

use super::{Adapter, FcDriver, FcPort, Wake};
use crate::driver::{PacketLink, interface_address};
use fct::fcoe::fip::FcoeMode;
use fct::fcoe::{FcoeConfig, FcoeHba, FcoeState, FcoeStatus, MacAddress};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use stmf::provider::hba::Wwn;

/// The driver's name.
pub const DRIVER: &str = "fcoe";

/// Opens FCoE ports.
#[derive(Debug, Default)]
pub struct FcoeDriver {
    instances: AtomicU32,
}

/// The names of a port of an interface, unless others are given: 2000h and 1000h before the interface's address.
///
/// # Errors
/// There is no such interface.
pub(crate) fn names(interface: &str) -> Result<(Wwn, Wwn), String> {
    interface_address(interface).map(|address: MacAddress| (address.port_name(), address.node_name()))
}

impl FcDriver for FcoeDriver {
    fn check(&self, port: &FcPort) -> Result<(), String> {
        for name in port.options.keys() {
            if !["interface", "mode", "promiscuous"].contains(&name.as_str()) {
                return Err(format!("FCoE ports have no option '{name}': they have interface, mode and promiscuous"));
            }
        }
        interface(port)?;
        promiscuous(port)?;
        mode(port).map(drop)
    }

    fn open(&self, port: &FcPort, _wake: Wake) -> Result<Adapter, String> {
        let interface = interface(port)?;
        let promiscuous = promiscuous(port)?;
        let link = PacketLink::open(interface, promiscuous)?;
        let descriptor = link.descriptor().map_err(|error| error.to_string())?;
        let mut seed = [0; 8];
        // Without randomness two servers may keep step, which costs some collisions.
        let _ = getrandom::fill(&mut seed);
        let config = FcoeConfig {
            port_name: port.port_name,
            node_name: port.node_name,
            mode: mode(port)?,
            instance: self.instances.fetch_add(1, Ordering::Relaxed),
            seed: u64::from_ne_bytes(seed),
            ..FcoeConfig::new(interface, interface_address(interface)?)
        };
        let hba = FcoeHba::new(Instant::now(), config, link).map_err(|error| error.0)?;
        let watch = hba.watch();
        Ok(Adapter::new(hba).descriptor(descriptor).report(move || report(&watch.get(), promiscuous)))
    }
}

fn interface(port: &FcPort) -> Result<&str, String> {
    let name = port.options.get("interface").ok_or("an FCoE port needs an interface")?;
    let plain = !name.is_empty() && name.len() < 16 && !name.contains(['/', ' ']) && name != "." && name != "..";
    if plain { Ok(name) } else { Err(format!("'{name}' is no name of an interface")) }
}

fn promiscuous(port: &FcPort) -> Result<bool, String> {
    match port.options.get("promiscuous").map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(format!("promiscuous is true or false, and not '{other}'")),
    }
}

fn mode(port: &FcPort) -> Result<FcoeMode, String> {
    match port.options.get("mode").map(String::as_str) {
        None | Some("auto") => Ok(FcoeMode::Auto),
        Some("fabric") => Ok(FcoeMode::Fabric),
        Some("vn2vn") => Ok(FcoeMode::Vn2Vn),
        Some(other) => Err(format!("mode '{other}' is none of auto, fabric and vn2vn")),
    }
}

/// What `fcadm list-fcoe-ports` prints.
fn report(status: &FcoeStatus, promiscuous: bool) -> BTreeMap<String, String> {
    let state = match status.state {
        FcoeState::Offline => "offline",
        FcoeState::NoCarrier => "no carrier",
        FcoeState::Searching => "searching",
        FcoeState::Fabric => "fabric",
        FcoeState::Vn2Vn => "vn2vn",
    };
    let mac = |address: MacAddress| address.to_string().replace(':', "");
    let lines = [
        ("MTU Size", Some(status.mtu.to_string())),
        ("Primary MAC Address", Some(mac(status.primary))),
        ("Current MAC Address", Some(mac(status.current.unwrap_or(status.primary)))),
        ("Promiscuous Mode", Some(if promiscuous { "On" } else { "Off" }.into())),
        ("FCoE State", Some(state.into())),
        ("Neighbours", Some(status.neighbours.to_string())),
        ("Ignored Frames", Some(status.ignored.to_string())),
        ("Trouble", status.trouble.clone()),
    ];
    lines.into_iter().filter_map(|(label, value)| Some((label.to_owned(), value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fc::FcMode;

    fn port(options: &[(&str, &str)]) -> FcPort {
        let port = FcPort::new(Wwn(0x2000_0000_0000_0001), Wwn(0x1000_0000_0000_0001), FcMode::Target, DRIVER);
        options.iter().fold(port, |port, (name, value)| port.option(*name, *value))
    }

    #[test]
    fn options_that_make_no_sense_are_refused_in_words() {
        let driver = FcoeDriver::default();
        assert_eq!(driver.check(&port(&[("interface", "eth0")])), Ok(()));
        assert_eq!(driver.check(&port(&[("interface", "eth0"), ("mode", "vn2vn"), ("promiscuous", "true")])), Ok(()));
        let cases: [(&[(&str, &str)], &str); 5] = [
            (&[], "needs an interface"),
            (&[("interface", "../eth0")], "no name of an interface"),
            (&[("interface", "eth0"), ("mode", "loop")], "none of auto, fabric and vn2vn"),
            (&[("interface", "eth0"), ("promiscuous", "maybe")], "true or false"),
            (&[("interface", "eth0"), ("fabric", "f1")], "no option 'fabric'"),
        ];
        for (options, word) in cases {
            let words = driver.check(&port(options)).unwrap_err();
            assert!(words.contains(word), "{words}");
        }
    }

    #[test]
    fn an_interface_that_is_not_there_or_no_ethernet_is_told() {
        let wake = || -> Wake { Box::new(|| {}) };
        let driver = FcoeDriver::default();
        let words = driver.open(&port(&[("interface", "nothere0")]), wake()).unwrap_err();
        assert!(words.contains("no interface 'nothere0'"), "{words}");
        let words = driver.open(&port(&[("interface", "lo")]), wake()).unwrap_err();
        assert!(words.contains("no Ethernet"), "{words}");
    }
}
