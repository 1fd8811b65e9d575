//! The kernel's virtio-scsi over vhost-user: a machine and a server of their own, which share the machine's memory.

use super::guest::Guest;
use super::image::Image;
use super::lab::Lab;
use crate::interop::target::lunette;
use crate::process::{Running, tethered};
use crate::scratch::Scratch;
use anyhow::{Context, Result, ensure};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the guest is called by host groups.
const INITIATOR: &str = "iqn.2026-11.org.lunette.test:machine";

const MIB: u64 = 1 << 20;
const SIZE: u64 = 128 * MIB;

/// How long an event may take to be told and acted upon.
const PATIENCE: Duration = Duration::from_secs(60);

struct Machine {
    guest: Guest,
    server: Running,
    // Last, since fields drop in order and the server works in this directory.
    scratch: Scratch,
}

impl Machine {
    fn start() -> Result<Self> {
        let scratch = Scratch::new("vhost")?;
        let socket = scratch.join("machine.sock");
        let mut program = tethered(lunette()?);
        program.arg("serve").arg("--state").arg(scratch.join("state")).arg("--socket").arg(scratch.join("socket"));
        program.args(["--portal", "127.0.0.1:0"]);
        program.arg(format!("--vhost-user={},initiator={INITIATOR}", socket.display()));
        let mut server = Running::start("lunette serve", program, &scratch.join("log"))?;
        let deadline = Instant::now() + PATIENCE;
        while !socket.exists() || !scratch.join("socket").exists() {
            ensure!(server.poll().is_none(), "the server ended: {}", server.log().trim());
            ensure!(Instant::now() < deadline, "the server makes no socket: {}", server.log().trim());
            std::thread::sleep(Duration::from_millis(10));
        }
        let more = [
            "-object".into(),
            "memory-backend-memfd,id=memory,size=1024M,share=on".into(),
            "-machine".into(),
            "pc,memory-backend=memory".into(),
            "-chardev".into(),
            format!("socket,id=lunette,path={}", socket.display()),
            "-device".into(),
            "vhost-user-scsi-pci,chardev=lunette,num_queues=2".into(),
        ];
        let guest = Guest::boot(&Image::made()?, &more)?;
        Ok(Self { guest, server, scratch })
    }

    fn administer(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(lunette()?);
        command.args(arguments).env("LUNETTE_SOCKET", self.scratch.join("socket")).stdin(Stdio::null());
        let output =
            command.env("LUNETTE_STATE", self.scratch.join("state")).output().context("cannot start lunette")?;
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "'lunette {}' failed: {said}{complained}", arguments.join(" "));
        Ok(said.into_owned())
    }

    /// Makes a unit that the guest sees at this LUN.
    fn add(&self, file: &str, size: u64, lun: &str) -> Result<String> {
        let path = self.scratch.join(file).display().to_string();
        let said = self.administer(&["stmfadm", "create-lu", "-s", &size.to_string(), &path])?;
        let guid = said.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        self.administer(&["stmfadm", "add-view", "-n", lun, "-h", "machines", &guid])?;
        Ok(guid)
    }
}

/// A shell line that sets D to the name of the disk of this LUN, and fails while there is none.
fn disk(lun: u16) -> String {
    format!("D=$(ls -d /sys/bus/scsi/devices/*:0:0:{lun}/block/sd* 2>/dev/null) && D=${{D##*/}} && test -b /dev/$D")
}

/// A guest finds its disk, keeps a file system and verified data on it, and hears of units that come, grow and go.
pub(super) fn machine(_: &mut Lab) -> Result<()> {
    let mut machine = Machine::start()?;
    let result = scenario(&mut machine);
    result.with_context(|| format!("the server's log:\n{}", machine.server.log()))
}

fn scenario(machine: &mut Machine) -> Result<()> {
    machine.administer(&["stmfadm", "create-hg", "machines"])?;
    machine.administer(&["stmfadm", "add-hg-member", "-g", "machines", INITIATOR])?;
    machine.add("disk", SIZE, "0")?;
    machine.guest.run("modprobe virtio_pci && modprobe virtio_scsi")?;
    machine.guest.wait_for("the disk over vhost-user", &disk(0), PATIENCE)?;
    let size = machine.guest.run("blockdev --getsize64 /dev/$D")?;
    ensure!(size.trim() == SIZE.to_string(), "the disk has {} bytes and not {SIZE}", size.trim());
    machine.guest.run("mkfs.ext4 -q /dev/$D && mount /dev/$D /mnt")?;
    machine.guest.run("dd if=/dev/urandom of=/mnt/file bs=1M count=16 2>/dev/null && sync")?;
    let written = machine.guest.run("md5sum < /mnt/file; umount /mnt; echo 3 > /proc/sys/vm/drop_caches")?;
    let read = machine.guest.run("mount /dev/$D /mnt && md5sum < /mnt/file; umount /mnt")?;
    ensure!(written == read && written.len() >= 32, "written {written}, read {read}");
    machine.guest.run("fsck.ext4 -f -n /dev/$D")?;
    let fio = "fio --name=verify --filename=/dev/$D --rw=randwrite --bs=4k --size=8m --iodepth=16 --ioengine=libaio \
               --direct=1 --verify=crc32c --verify_fatal=1 --output=/tmp/fio";
    machine.guest.run_within(fio, Duration::from_secs(120))?;

    let second = machine.add("second", 32 * MIB, "7")?;
    machine.guest.wait_for("a unit that was added", &disk(7), PATIENCE)?;
    machine.administer(&["stmfadm", "modify-lu", "-s", &(64 * MIB).to_string(), &second])?;
    let grown = format!("test $(cat /sys/block/$D/size) = {}", 64 * MIB / 512);
    machine.guest.wait_for("a unit that has grown", &grown, PATIENCE)?;
    machine.administer(&["stmfadm", "remove-view", "-l", &second, "-a"])?;
    machine.guest.wait_for("a unit that was removed", "test ! -e /sys/block/$D", PATIENCE)?;
    let log = machine.server.log();
    ensure!(log.contains(&format!("{INITIATOR} logged in to")), "the login is not in the log");
    ensure!(!log.contains("stopped:"), "a queue was stopped");
    Ok(())
}
