//! The virtual machine and its console.

use super::image::Image;
use super::qemu::Qemu;
use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Booting takes some six seconds where nothing else runs, under emulation.
const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// What a command may take if nothing else is said.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// A running guest; dropping it ends it.
#[derive(Debug)]
pub(super) struct Guest {
    machine: Child,
    keyboard: ChildStdin,
    screen: Receiver<Vec<u8>>,
    /// What was printed and not read yet.
    unread: String,
}

/// What a command printed, and its status.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) status: i32,
}

impl Guest {
    /// Boots the image, with a network card on QEMU's user network: what it connects to, this machine connects to. `more`:
    /// further arguments for QEMU.
    pub(super) fn boot(image: &Image, more: &[String]) -> Result<Self> {
        Self::boot_on(&Qemu::system()?, image, more)
    }

    /// The same on this emulator.
    pub(super) fn boot_on(qemu: &Qemu, image: &Image, more: &[String]) -> Result<Self> {
        let kernel = [("-kernel", &image.kernel), ("-initrd", &image.initramfs)];
        let mut arguments: Vec<String> =
            kernel.into_iter().flat_map(|(option, file)| [option.to_owned(), file.display().to_string()]).collect();
        arguments.extend(["-append", "console=ttyS0 quiet panic=-1 rdinit=/init"].map(str::to_owned));
        arguments.extend(["-netdev", "user,id=net", "-device", "e1000,netdev=net"].map(str::to_owned));
        arguments.extend_from_slice(more);
        let mut guest = Self::start(qemu, &arguments)?;
        let said = guest.read_until("@@ready@@", BOOT_LIMIT).context("the guest does not boot")?;
        ensure!(!said.contains("no module"), "the guest's kernel lacks a module:\n{said}");
        Ok(guest)
    }

    /// A machine that boots from its disk and says `mark` when it has.
    pub(super) fn boot_disk(qemu: &Qemu, mark: &str, more: &[String]) -> Result<Self> {
        let mut guest = Self::start(qemu, more)?;
        guest.read_until(mark, BOOT_LIMIT).context("the guest does not boot from its disk")?;
        Ok(guest)
    }

    /// Waits until the machine has powered off.
    pub(super) fn wait_for_end(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while self.machine.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "the guest does not power off; the console shows:\n{}", self.unread);
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn start(qemu: &Qemu, arguments: &[String]) -> Result<Self> {
        let mut command = qemu.command();
        // Emulation: it works wherever QEMU does, and what KVM offers in containers and nested machines varies.
        command.args(["-accel", "tcg", "-cpu", "max", "-m", "1024", "-nodefaults", "-no-reboot", "-display", "none"]);
        command.args(["-serial", "stdio"]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut machine = command.spawn().context("cannot start QEMU")?;
        let keyboard = machine.stdin.take().context("QEMU has no input")?;
        let mut output = machine.stdout.take().context("QEMU has no output")?;
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { machine, keyboard, screen, unread: String::new() })
    }

    /// Runs a line of shell and gives what it printed, whatever its status.
    pub(super) fn try_run(&mut self, line: &str, limit: Duration) -> Result<Said> {
        ensure!(!line.contains('\n'), "a command is one line");
        self.keyboard.write_all(format!("{line}\n").as_bytes()).context("the guest has gone")?;
        self.keyboard.flush()?;
        let text = self.read_until("@@", limit).with_context(|| format!("in the guest: {line}"))?;
        let status = self.read_until("@@", limit)?;
        // The console ends its lines in the manner of terminals.
        Ok(Said { text: text.replace('\r', ""), status: status.trim().parse().unwrap_or(-1) })
    }

    /// Runs a line of shell that must succeed and gives what it printed.
    pub(super) fn run(&mut self, line: &str) -> Result<String> {
        self.run_within(line, COMMAND_LIMIT)
    }

    /// As [`run`](Self::run), with a time limit of its own.
    pub(super) fn run_within(&mut self, line: &str, limit: Duration) -> Result<String> {
        let said = self.try_run(line, limit)?;
        ensure!(said.status == 0, "in the guest: '{line}' ended with status {}:\n{}", said.status, said.text.trim());
        Ok(said.text)
    }

    /// Runs a line of shell that must fail and gives what it printed.
    pub(super) fn refused(&mut self, line: &str) -> Result<String> {
        let said = self.try_run(line, COMMAND_LIMIT)?;
        ensure!(said.status != 0, "in the guest: '{line}' succeeded:\n{}", said.text.trim());
        Ok(said.text)
    }

    /// Runs a line again and again until it succeeds; its last words when it does not in time.
    pub(super) fn wait_for(&mut self, what: &str, line: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let said = self.try_run(line, COMMAND_LIMIT)?;
            if said.status == 0 {
                return Ok(said.text);
            }
            ensure!(Instant::now() < deadline, "{what}: not within {} s:\n{}", limit.as_secs(), said.text.trim());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn read_until(&mut self, mark: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(at) = self.unread.find(mark) {
                let text = self.unread[..at].to_owned();
                self.unread.drain(..at + mark.len());
                return Ok(text);
            }
            match self.screen.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.unread.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no answer within {} s; the console shows:\n{}", limit.as_secs(), self.unread)
                }
                Err(RecvTimeoutError::Disconnected) => bail!("QEMU ended; the console shows:\n{}", self.unread),
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.machine.kill();
        let _ = self.machine.wait();
    }
}
