//! An Ethernet cable between the server and the guest: a bridge, with the guest's card and a pair of virtual interfaces.

use crate::process::capture;
use anyhow::{Context, Result, ensure};

/// The tap behind the guest's second card.
const TAP: &str = "fc-guest";
/// The switch between both.
const BRIDGE: &str = "fc-switch";
/// Where the server's interface is plugged in.
const PLUG: &str = "fc-plug";
/// The server's interface.
pub(super) const INTERFACE: &str = "fc0";

/// Room for FC frames as long as any.
pub(super) const MTU: &str = "2500";

/// CAP_NET_RAW in a set of capabilities.
const NET_RAW: u64 = 1 << 13;

/// Whether this process has CAP_NET_RAW, and with it the server that it starts.
fn may_open_packet_sockets() -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status").context("what rights are there?")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    Ok(effective.context("no CapEff in /proc/self/status")? & NET_RAW != 0)
}

/// The cable; it goes with the network namespace.
pub(super) struct Cable;

impl Cable {
    /// Makes it; an error says what this machine lacks.
    pub(super) fn make() -> Result<Self> {
        ensure!(may_open_packet_sockets()?, "no CAP_NET_RAW, without which nobody opens a packet socket");
        let ip = |line: &str| capture("ip", &line.split(' ').collect::<Vec<_>>()).context("no Ethernet for FCoE");
        ip(&format!("link add {BRIDGE} type bridge"))?;
        ip(&format!("tuntap add dev {TAP} mode tap"))?;
        ip(&format!("link add {PLUG} type veth peer name {INTERFACE}"))?;
        for interface in [BRIDGE, TAP, PLUG, INTERFACE] {
            ip(&format!("link set {interface} mtu {MTU} up"))?;
        }
        for interface in [TAP, PLUG] {
            ip(&format!("link set {interface} master {BRIDGE}"))?;
        }
        Ok(Self)
    }

    /// Pulls the server's plug, or puts it back.
    pub(super) fn plug(&self, up: bool) -> Result<()> {
        capture("ip", &["link", "set", PLUG, if up { "up" } else { "down" }]).map(drop)
    }

    /// QEMU's arguments for the guest's end.
    pub(super) fn arguments(&self) -> Vec<String> {
        let network = format!("tap,id=fc,ifname={TAP},script=no,downscript=no");
        ["-netdev", &network, "-device", "e1000,netdev=fc,mac=52:54:00:12:fc:01"].map(str::to_owned).to_vec()
    }
}
