//! A cable between two processes: a Unix socket that carries frames as messages.

use crate::driver::Wake;
use bytes::Bytes;
use fct::soft::WireEnd;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    recv, send, socket_with,
};
use smallvec::smallvec;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use stmf::provider::hba::FcFrame;

/// The first message of whoever connects, followed by the number of the switch port it wishes for.
const GREETING: &[u8] = b"lunette-fc 1\n";
/// No wish.
const ANY: u8 = 0xff;
const HEADER: usize = 24;
/// The longest frame: a header and 2112 bytes.
const LONGEST: usize = HEADER + 2112;
/// How soon to try again to connect.
const RETRY: Duration = Duration::from_millis(500);
/// Messages that are moved before the other direction has its turn.
const TURN: usize = 64;

/// What the other end of a new cable has said.
pub(super) struct Hello {
    pub(super) switch_port: Option<u8>,
}

/// A socket where cables are plugged in. It is its owner's alone, and goes with the listener.
pub(super) struct Listener {
    socket: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Listens on a path; a socket that nobody listens on any more is replaced.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        if let Ok(metadata) = std::fs::symlink_metadata(path) {
            use std::os::unix::fs::FileTypeExt;
            if !metadata.file_type().is_socket() || connect(&seqpacket()?, &address).is_ok() {
                return Err(io::Error::from(io::ErrorKind::AddrInUse));
            }
            std::fs::remove_file(path)?;
        }
        let socket = seqpacket()?;
        bind(&socket, &address)?;
        let listener = Self { socket, path: path.to_owned() };
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        listen(&listener.socket, 16)?;
        Ok(listener)
    }

    /// Takes a cable that has been plugged in; `None` without one, or if it does not greet at once.
    pub(super) fn accept(&self) -> Option<(OwnedFd, Hello)> {
        let socket = accept_with(&self.socket, SocketFlags::CLOEXEC).ok()?;
        // The greeting is sent with the connection; who says nothing for so long is no cable.
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Recv,
            Some(Duration::from_millis(200)),
        )
        .ok()?;
        let mut greeting = [0; GREETING.len() + 1];
        let (count, _) = recv(&socket, greeting.as_mut_slice(), RecvFlags::empty()).ok()?;
        if count != greeting.len() || !greeting.starts_with(GREETING) {
            return None;
        }
        rustix::io::ioctl_fionbio(&socket, true).ok()?;
        let wish = greeting[GREETING.len()];
        Some((socket, Hello { switch_port: (wish != ANY).then_some(wish) }))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A cable between an end of a wire here and a fabric in another process, moved by a thread of its own. Dropping it
/// unplugs it.
#[derive(Debug)]
pub struct Cable {
    stop: Arc<AtomicBool>,
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Cable {
    /// A cable to the fabric that listens on `path`, plugged into its switch port of that number if it is free. While
    /// nobody listens there the link is down, and it is tried again.
    ///
    /// # Errors
    /// The system refuses a thread or a descriptor.
    pub fn connect(path: &Path, switch_port: Option<u8>, end: WireEnd) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        Self::start(end, move |end, wake, stop| {
            while !stop.load(Ordering::Acquire) {
                if let Ok(socket) = plug_in(&address, switch_port) {
                    end.switch(true);
                    carry(&socket, end, wake, stop);
                    end.switch(false);
                }
                let until = Instant::now() + RETRY;
                while !stop.load(Ordering::Acquire) && Instant::now() < until {
                    wake.take();
                    // What is sent meanwhile falls to the floor: the link is down.
                    let left = until.saturating_duration_since(Instant::now());
                    let left = if wake.may_sleep() { left } else { Duration::ZERO };
                    wake.sleep(Some(left), std::iter::empty());
                }
            }
        })
    }

    /// The fabric's side of a cable.
    pub(super) fn serve(socket: OwnedFd, end: WireEnd) -> io::Result<Self> {
        Self::start(end, move |end, wake, stop| {
            end.switch(true);
            carry(&socket, end, wake, stop);
        })
    }

    fn start(end: WireEnd, work: impl FnOnce(&WireEnd, &Wake, &AtomicBool) + Send + 'static) -> io::Result<Self> {
        let (stop, wake) = (Arc::<AtomicBool>::default(), Arc::new(Wake::new()?));
        let woken = Arc::clone(&wake);
        end.set_wake(Box::new(move || woken.wake()));
        let (stopped, sleeping) = (Arc::clone(&stop), Arc::clone(&wake));
        let thread = thread::Builder::new().name("lunette-cable".into()).stack_size(256 << 10);
        let thread = thread.spawn(move || work(&end, &sleeping, &stopped))?;
        Ok(Self { stop, wake, thread: Some(thread) })
    }

    /// Whether the other end is gone for good.
    pub(super) fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.wake.wake();
        if let Some(thread) = self.thread.take() {
            // A panic was reported where it happened.
            let _ = thread.join();
        }
    }
}

fn seqpacket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

fn plug_in(address: &SocketAddrUnix, switch_port: Option<u8>) -> io::Result<OwnedFd> {
    let socket = seqpacket()?;
    connect(&socket, address)?;
    let greeting = [GREETING, &[switch_port.unwrap_or(ANY)]].concat();
    send(&socket, &greeting, SendFlags::NOSIGNAL)?;
    Ok(socket)
}

/// Moves frames between the socket and the wire until either is gone. Nothing is kept but one frame each way: what has
/// no room waits where it is.
fn carry(socket: &OwnedFd, end: &WireEnd, wake: &Wake, stop: &AtomicBool) {
    let mut held: Option<FcFrame> = None;
    let mut buffer = vec![0; LONGEST];
    while !stop.load(Ordering::Acquire) && !end.is_alone() {
        wake.take();
        let mut progress = false;
        for _ in 0..TURN {
            let Some(frame) = held.take().or_else(|| end.receive()) else { break };
            match transmit(socket, &frame) {
                Ok(()) => progress = true,
                Err(error) if error == rustix::io::Errno::AGAIN => {
                    held = Some(frame);
                    break;
                }
                Err(_) => return,
            }
        }
        for _ in 0..TURN {
            if !end.has_room() {
                break;
            }
            match recv(socket, buffer.as_mut_slice(), RecvFlags::TRUNC) {
                Ok((0, _)) => return,
                Ok((count, length)) => {
                    progress = true;
                    // Shorter or longer than a frame is none.
                    if count == length
                        && let Some((header, payload)) = buffer[..count].split_first_chunk()
                    {
                        let payload = smallvec![Bytes::copy_from_slice(payload)];
                        let _ = end.send(FcFrame { header: *header, payload });
                    }
                }
                Err(error) if error == rustix::io::Errno::AGAIN => break,
                Err(_) => return,
            }
        }
        if progress {
            continue;
        }
        let may_sleep = wake.may_sleep();
        // A full socket becomes writable without a word; that is looked for now and then.
        let wait = match (may_sleep, &held) {
            (false, _) => Some(Duration::ZERO),
            (true, Some(_)) => Some(Duration::from_millis(1)),
            (true, None) => None,
        };
        // While the wire is full the socket is left alone; the wire's reader wakes us.
        wake.sleep(wait, end.has_room().then_some(socket.as_fd()));
    }
}

fn transmit(socket: &OwnedFd, frame: &FcFrame) -> rustix::io::Result<()> {
    let mut message = Vec::with_capacity(LONGEST);
    message.extend_from_slice(&frame.header);
    frame.payload.iter().for_each(|piece| message.extend_from_slice(piece));
    send(socket, &message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).map(drop)
}
