//! The kernel's fcoe, libfcoe and libfc as the initiator, without a fabric (VN2VN).

use super::cable::{INTERFACE, MTU};
use super::lab::Lab;
use super::steps::{file_system, fio_line};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 96 * MIB;
const LUN: &str = "11";

/// The guest's port name, of its card's address.
const INITIATOR: &str = "wwn.200052540012FC01";

/// How long a port may take to be found and logged in to.
const LOGIN: Duration = Duration::from_secs(60);

/// A link's name of the disk, which is the same after it went and came.
const DISK: &str = "/dev/fcoe-disk";

/// Sets the link to the disk that is reached through a remote port and has this LUN, and fails while there is none. What is
/// lost with a link is sent again after five seconds instead of thirty.
fn find_disk() -> String {
    format!(
        "rm -f {DISK}; for s in /sys/block/sd*; do d=$(readlink -f $s/device); case $d in */rport-*:{LUN}) \
         echo 5 > $d/timeout; dd if=/dev/${{s##*/}} of=/dev/null bs=4096 count=1 iflag=direct && ln -sf /dev/${{s##*/}} {DISK};; esac; done; \
         test -b {DISK}"
    )
}

fn disk_appears(lab: &mut Lab) -> Result<()> {
    lab.guest.wait_for("the disk over FCoE", &find_disk(), LOGIN).map(drop)
}

/// The port is made and shown; the guest finds it, logs in, and has a disk.
pub(super) fn login(lab: &mut Lab) -> Result<()> {
    let guid = lab.create_lu("fcoe", SIZE)?;
    lab.administer(&["stmfadm", "create-hg", "fcoe-guest"])?;
    lab.administer(&["stmfadm", "add-hg-member", "-g", "fcoe-guest", INITIATOR])?;
    lab.administer(&["stmfadm", "add-view", "-n", LUN, "-h", "fcoe-guest", &guid])?;
    lab.administer(&["fcadm", "create-fcoe-port", "-t", INTERFACE])?;
    let listed = lab.administer(&["fcadm", "list-fcoe-ports", "-t"])?;
    for line in [format!("MAC Name: {INTERFACE}"), format!("MTU Size: {MTU}"), "Port Type: Target".into()] {
        ensure!(listed.contains(&line), "list-fcoe-ports does not show '{line}':\n{listed}");
    }
    lab.guest.run(&format!("modprobe fcoe && ip link set eth1 mtu {MTU} up"))?;
    lab.guest.wait_for("the guest's link", "test $(cat /sys/class/net/eth1/carrier) = 1", Duration::from_secs(20))?;
    lab.guest.run("echo eth1 > /sys/module/libfcoe/parameters/create_vn2vn")?;
    disk_appears(lab)?;
    let size = lab.guest.run(&format!("blockdev --getsize64 {DISK}"))?;
    ensure!(size.trim() == SIZE.to_string(), "the disk has {} bytes and not {SIZE}", size.trim());
    let state = lab.guest.run("cat /sys/class/fc_remote_ports/*/roles /sys/class/fc_remote_ports/*/port_state")?;
    ensure!(state.contains("FCP Target") && state.contains("Online"), "the remote port is: {state}");
    let name = lab.guest.run("cat /sys/class/fc_remote_ports/*/port_name")?;
    let name = name.trim().trim_start_matches("0x").to_owned();
    let ports = lab.administer(&["fcinfo", "hba-port", "-t", "-e"])?;
    ensure!(ports.contains(&format!("HBA Port WWN: {name}")), "fcinfo does not show {name}:\n{ports}");
    ensure!(ports.contains("State: online"), "fcinfo does not say online:\n{ports}");
    let remotes = lab.administer(&["fcinfo", "remote-port", "-p", &name])?;
    ensure!(remotes.contains("Remote Port WWN: 200052540012fc01"), "fcinfo does not show the guest:\n{remotes}");
    let targets = lab.administer(&["stmfadm", "list-target", "-v"])?;
    for words in [format!("Target: wwn.{}", name.to_uppercase()), format!("Initiator: {INITIATOR}")] {
        ensure!(targets.contains(&words), "list-target -v does not show '{words}':\n{targets}");
    }
    Ok(())
}

/// A file system is made, filled, checked and read; fio reads back what it wrote.
pub(super) fn data(lab: &mut Lab) -> Result<()> {
    file_system(lab, DISK, "mkfs.ext4 -q -F", "e2fsck -f -n")?;
    let said = lab.guest.try_run(&fio_line(DISK, "--size=8m"), Duration::from_secs(120))?;
    let words = lab.guest.run("cat /tmp/fio.out")?;
    ensure!(said.status == 0 && words.contains("err= 0"), "fio ended with status {}:\n{words}", said.status);
    Ok(())
}

/// The server's plug is pulled, then the guest's interface goes down; each time the disk comes back with its data.
pub(super) fn flap(lab: &mut Lab) -> Result<()> {
    let sum = format!("dd if={DISK} bs=1M count=4 iflag=direct 2>/dev/null | md5sum");
    let before = lab.guest.run(&sum)?;
    let cable = lab.cable.as_ref().ok().context("no cable")?;
    cable.plug(false)?;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let state = lab.administer(&["fcadm", "list-fcoe-ports"])?;
        if state.contains("FCoE State: no carrier") {
            break;
        }
        ensure!(Instant::now() < deadline, "the port does not notice:\n{state}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let cable = lab.cable.as_ref().ok().context("no cable")?;
    cable.plug(true)?;
    disk_appears(lab)?;
    ensure!(lab.guest.run(&sum)? == before, "other data after the server's link came back");
    lab.guest.run("ip link set eth1 down; sleep 2; ip link set eth1 up")?;
    disk_appears(lab)?;
    ensure!(lab.guest.run(&sum)? == before, "other data after the guest's link came back");
    Ok(())
}

/// The server is killed and started again: the port is there by itself, and so is the disk.
pub(super) fn restart(lab: &mut Lab) -> Result<()> {
    lab.kill_and_restart(Duration::from_secs(1))?;
    disk_appears(lab)?;
    let said = lab.guest.try_run(&fio_line(DISK, "--size=2m"), Duration::from_secs(120))?;
    ensure!(said.status == 0, "fio after the restart:\n{}", lab.guest.run("cat /tmp/fio.out")?);
    lab.guest.run("echo eth1 > /sys/module/libfcoe/parameters/destroy")?;
    lab.administer(&["fcadm", "delete-fcoe-port", INTERFACE])?;
    let listed = lab.administer(&["fcadm", "list-fcoe-ports"])?;
    ensure!(listed.trim().is_empty(), "the port is still listed:\n{listed}");
    Ok(())
}
