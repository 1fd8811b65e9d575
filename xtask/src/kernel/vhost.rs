//! The kernel's virtio-scsi over vhost-user: a machine and a server of their own, which share the machine's memory.

use super::boot_disk::BOOTED;
use super::guest::Guest;
use super::image::Image;
use super::lab::Lab;
use super::qemu::Qemu;
use super::steps::{Skip, fio_line};
use crate::interop::target::lunette;
use crate::process::{Running, tethered};
use crate::scratch::Scratch;
use anyhow::{Context, Result, ensure};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the guest is called by host groups.
const INITIATOR: &str = "iqn.2026-11.org.lunette.test:machine";

/// Where the server listens for iSCSI; the guest's network calls this machine 10.0.2.2.
const PORT: u16 = 3270;
const TARGET: &str = "iqn.2026-11.org.lunette.test:beside";

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
    /// A server, and a guest of this emulator; `more` is said of its connection.
    fn start(qemu: &Qemu, more: &str) -> Result<Self> {
        let scratch = Scratch::new("vhost")?;
        let server = serve(&scratch)?;
        make_group(&scratch)?;
        add(&scratch, "disk", SIZE, "0")?;
        let guest = Guest::boot_on(qemu, &Image::made()?, &connection(&scratch, more))?;
        let mut machine = Self { guest, server, scratch };
        machine.guest.run("modprobe virtio_pci && modprobe virtio_scsi")?;
        machine.guest.wait_for("the disk over vhost-user", &disk(0), PATIENCE)?;
        Ok(machine)
    }

    fn administer(&self, arguments: &[&str]) -> Result<String> {
        administer(&self.scratch, arguments)
    }
}

fn administer(scratch: &Scratch, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(lunette()?);
    command.args(arguments).env("LUNETTE_SOCKET", scratch.join("socket")).stdin(Stdio::null());
    let output = command.env("LUNETTE_STATE", scratch.join("state")).output().context("cannot start lunette")?;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "'lunette {}' failed: {said}{complained}", arguments.join(" "));
    Ok(said.into_owned())
}

/// A host group with the guest in it.
fn make_group(scratch: &Scratch) -> Result<()> {
    administer(scratch, &["stmfadm", "create-hg", "machines"])?;
    administer(scratch, &["stmfadm", "add-hg-member", "-g", "machines", INITIATOR]).map(drop)
}

/// Makes a unit, with what its file holds if there is one, that the guest sees at this LUN.
fn add(scratch: &Scratch, file: &str, size: u64, lun: &str) -> Result<String> {
    let path = scratch.join(file).display().to_string();
    let said = administer(scratch, &["stmfadm", "create-lu", "-s", &size.to_string(), &path])?;
    let guid = said.trim().rsplit(' ').next().unwrap_or_default().to_owned();
    administer(scratch, &["stmfadm", "add-view", "-n", lun, "-h", "machines", &guid])?;
    Ok(guid)
}

/// A server with the machine's socket, which listens for iSCSI beside it.
fn serve(scratch: &Scratch) -> Result<Running> {
    let socket = scratch.join("machine.sock");
    let mut program = tethered(lunette()?);
    program.arg("serve").arg("--state").arg(scratch.join("state")).arg("--socket").arg(scratch.join("socket"));
    program.args(["--portal", &format!("127.0.0.1:{PORT}")]);
    program.arg(format!("--vhost-user={},initiator={INITIATOR}", socket.display()));
    let mut server = Running::start("lunette serve", program, &scratch.join("log"))?;
    let deadline = Instant::now() + PATIENCE;
    while UnixStream::connect(scratch.join("socket")).is_err() {
        ensure!(server.poll().is_none(), "the server ended: {}", server.log().trim());
        ensure!(Instant::now() < deadline, "the server makes no socket: {}", server.log().trim());
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(server)
}

/// Processors of the guest, and request queues of its device: the kernel uses no more queues than it has processors.
const QUEUES: usize = 2;

/// Arguments for QEMU: memory that is shared, a processor for each queue, and last the device.
fn connection(scratch: &Scratch, more: &str) -> [String; 10] {
    let socket = scratch.join("machine.sock");
    [
        "-smp".into(),
        QUEUES.to_string(),
        "-object".into(),
        "memory-backend-memfd,id=memory,size=1024M,share=on".into(),
        "-machine".into(),
        "pc,memory-backend=memory".into(),
        "-chardev".into(),
        format!("socket,id=lunette,path={}{more}", socket.display()),
        "-device".into(),
        format!("vhost-user-scsi-pci,chardev=lunette,num_queues={QUEUES}"),
    ]
}

/// A shell line that sets D to the name of the disk of this LUN, and fails while there is none.
fn disk(lun: u16) -> String {
    format!("D=$(ls -d /sys/bus/scsi/devices/*:0:0:{lun}/block/sd* 2>/dev/null) && D=${{D##*/}} && test -b /dev/$D")
}

/// A guest finds its disk, keeps a file system and verified data on it, and hears of units that come, grow and go.
pub(super) fn machine(_: &mut Lab) -> Result<()> {
    with(Machine::start(&Qemu::system()?, "")?, scenario)
}

/// SeaBIOS, the loader and the kernel each read the disk by drivers of their own; no kernel is given to QEMU.
pub(super) fn boot(_: &mut Lab) -> Result<()> {
    let scratch = Scratch::new("vhost")?;
    let server = serve(&scratch)?;
    let image = Image::made()?;
    let size = std::fs::copy(&image.disk, scratch.join("disk")).context("cannot copy the disk")?;
    make_group(&scratch)?;
    add(&scratch, "disk", size, "0")?;
    let mut arguments = connection(&scratch, "").to_vec();
    if let Some(device) = arguments.last_mut() {
        device.push_str(",bootindex=1");
    }
    let booted =
        Guest::boot_disk(&Qemu::system()?, BOOTED, &arguments).and_then(|mut guest| guest.wait_for_end(PATIENCE));
    booted.with_context(|| format!("the server's log:\n{}", server.log()))
}

/// The server is killed and started again on the same socket while the guest writes and verifies.
pub(super) fn restart(_: &mut Lab) -> Result<()> {
    let qemu = Qemu::reconnecting().map_err(|reason| Skip(format!("{reason:#}")))?;
    with(Machine::start(&qemu, ",reconnect-ms=200")?, killed_under_load)
}

/// Reads at random over both ways to one unit, one after the other.
pub(super) fn rates(_: &mut Lab) -> Result<()> {
    with(Machine::start(&Qemu::system()?, "")?, both_rates)
}

fn with(mut machine: Machine, scenario: fn(&mut Machine) -> Result<()>) -> Result<()> {
    let result = scenario(&mut machine);
    result.with_context(|| format!("the server's log:\n{}", machine.server.log()))
}

fn scenario(machine: &mut Machine) -> Result<()> {
    let size = machine.guest.run("blockdev --getsize64 /dev/$D")?;
    ensure!(size.trim() == SIZE.to_string(), "the disk has {} bytes and not {SIZE}", size.trim());
    machine.guest.run("mkfs.ext4 -q /dev/$D && mount /dev/$D /mnt")?;
    machine.guest.run("dd if=/dev/urandom of=/mnt/file bs=1M count=16 2>/dev/null && sync")?;
    let written = machine.guest.run("md5sum < /mnt/file; umount /mnt; echo 3 > /proc/sys/vm/drop_caches")?;
    let read = machine.guest.run("mount /dev/$D /mnt && md5sum < /mnt/file; umount /mnt")?;
    ensure!(written == read && written.len() >= 32, "written {written}, read {read}");
    machine.guest.run("fsck.ext4 -f -n /dev/$D")?;
    verify_on_all_queues(machine)?;

    // What went through the port is counted.
    let status = machine.administer(&["status", "--json"])?;
    let load = status.split_once("\"load\"").and_then(|(_, load)| load.split_once("\"written_bytes\": "));
    let written = load.and_then(|(_, number)| number.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok());
    ensure!(
        written.is_some_and(|written| written >= 24 * MIB),
        "the status counts {written:?} bytes written:\n{status}"
    );

    let second = add(&machine.scratch, "second", 32 * MIB, "7")?;
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

/// A job on each processor, hence on each queue, writes and verifies; each queue has interrupted for its answers.
fn verify_on_all_queues(machine: &mut Machine) -> Result<()> {
    let lists = machine.guest.run("for Q in /sys/block/$D/mq/*/cpu_list; do cat $Q; done")?;
    let cpus: Vec<&str> = lists.split_whitespace().collect();
    ensure!(cpus == ["0", "1"], "the disk's queues serve processors {cpus:?}, not one each of {QUEUES}");
    let before = interrupts(machine)?;
    let job = |cpu: usize| format!("--name=cpu{cpu} --filename=/dev/$D --cpus_allowed={cpu} --offset={}m", cpu * 8);
    let fio = format!(
        "fio --rw=randwrite --bs=4k --size=8m --iodepth=16 --ioengine=libaio --direct=1 --verify=crc32c \
         --verify_fatal=1 --output=/tmp/fio {} {}",
        job(0),
        job(1)
    );
    machine.guest.run_within(&fio, Duration::from_secs(120))?;
    let after = interrupts(machine)?;
    // Answers share interrupts: how many there are is the device's business.
    ensure!(
        before.len() == QUEUES && after.iter().zip(&before).all(|(after, before)| after > before),
        "interrupts of each request queue: {before:?} before fio, {after:?} after it"
    );
    Ok(())
}

/// How often each request queue has interrupted, over all processors.
fn interrupts(machine: &mut Machine) -> Result<Vec<u64>> {
    let said = machine.guest.run("grep virtio.-request /proc/interrupts")?;
    let lines = said.lines().filter(|line| line.contains("request"));
    Ok(lines.map(|line| line.split_whitespace().skip(1).map_while(|count| count.parse::<u64>().ok()).sum()).collect())
}

fn killed_under_load(machine: &mut Machine) -> Result<()> {
    let disk = machine.guest.run("echo /dev/$D")?.trim().to_owned();
    machine.guest.run("dmesg -c > /dev/null")?;
    // What the server was killed in the middle of must come back of itself, long before the guest's patience ends.
    let line = fio_line(&disk, "--rate_iops=400");
    machine.guest.run(&format!("rm -f /tmp/fio.rc; ( {line}; echo $? > /tmp/fio.rc ) &"))?;
    for pause in [3, 1] {
        std::thread::sleep(Duration::from_secs(pause));
        machine.guest.run("test ! -e /tmp/fio.rc").context("fio ended before the server was killed")?;
        machine.server.kill();
        machine.server = serve(&machine.scratch)?;
    }
    let ended = "cat /tmp/fio.rc || { cat /sys/block/sd*/inflight; dmesg | tail; false; }";
    let status = machine.guest.wait_for("the end of fio", ended, PATIENCE)?;
    let words = machine.guest.run("cat /tmp/fio.out")?;
    ensure!(status.trim() == "0" && words.contains("err= 0"), "fio ended with status {}:\n{words}", status.trim());
    let kernel = machine.guest.run("dmesg")?;
    let troubles = ["I/O error", "timing out", "offline", "Sense Key", "abort"];
    let trouble = kernel.lines().find(|line| troubles.iter().any(|trouble| line.contains(trouble)));
    ensure!(trouble.is_none(), "the guest's kernel noticed something:\n{kernel}");
    let log = machine.server.log();
    ensure!(log.contains(&format!("{INITIATOR} logged in to")), "the machine did not come back");
    ensure!(!log.contains("stopped:"), "a queue was stopped");
    Ok(())
}

fn both_rates(machine: &mut Machine) -> Result<()> {
    let local = machine.guest.run("echo /dev/$D")?.trim().to_owned();
    machine.administer(&["itadm", "create-target", "-n", TARGET])?;
    machine
        .guest
        .run(&format!("echo InitiatorName={INITIATOR} > /etc/iscsi/initiatorname.iscsi; : > /etc/iscsi/iscsid.conf"))?;
    machine.guest.run("iscsid && sleep 1")?;
    let node = format!("iscsiadm -m node -T {TARGET} -p 10.0.2.2:{PORT}");
    machine.guest.run(&format!("{node} -o new && {node} --login"))?;
    let remote = format!("/dev/disk/by-path/ip-10.0.2.2:{PORT}-iscsi-{TARGET}-lun-0");
    machine.guest.wait_for("the disk over iSCSI", &format!("udevadm settle; test -b {remote}"), PATIENCE)?;
    // Both read what is there.
    machine.guest.run(&format!("dd if=/dev/urandom of={local} bs=1M count=16 oflag=direct 2>/dev/null"))?;
    for (way, disk) in [("vhost-user-scsi", &local), ("iSCSI", &remote)] {
        let fio = format!(
            "fio --name=rate --filename=$(readlink -f {disk}) --rw=randread --bs=4k --size=16m --iodepth=32 --ioengine=libaio \
             --direct=1 --time_based --runtime=3 --output-format=terse --terse-version=3"
        );
        let said = machine.guest.run(&fio)?;
        // Terse version 3: the eighth field is reads a second.
        let line = said.lines().find(|line| line.starts_with("3;"));
        let rate: u64 = line.and_then(|line| line.split(';').nth(7)?.parse().ok()).unwrap_or_default();
        ensure!(rate > 0, "fio tells no rate:\n{said}");
        println!("            4 KiB random reads, 32 at a time, emulated processor, {way}: {rate} a second");
    }
    machine.guest.run(&format!("{node} --logout")).map(drop)
}
