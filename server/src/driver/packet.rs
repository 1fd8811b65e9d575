//! An Ethernet interface under an FCoE adapter: a packet socket for its two EtherTypes.
//!
//! CAP_NET_RAW is all that it takes; the promiscuous mode is used only where it is asked for. Frames are received by `recvmmsg` into buffers that
//! are lent upwards, and sent by `sendmmsg` from the slices as they are.

use bytes::{Bytes, BytesMut};
use fct::fcoe::{Carrier, ETHERTYPE_FCOE, ETHERTYPE_FIP, EthernetLink, MacAddress};
use std::collections::VecDeque;
use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};
use stmf::provider::Segments;

/// Frames that one system call moves.
const BATCH: usize = 32;
/// A frame as long as any, with its addresses and a VLAN's number: nothing that FCoE sends is longer.
const FRAME: usize = 2304;
/// Slices of one frame; more are put together.
const MAX_SLICES: usize = 16;
/// How often the interface is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// What the socket may hold of frames that nobody has taken yet.
const RECEIVE_BUFFER: libc::c_int = 4 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct PacketLink {
    name: String,
    index: libc::c_int,
    address: MacAddress,
    socket: OwnedFd,
    listening: Option<MacAddress>,
    carrier: Carrier,
    look_at: Option<Instant>,
    received: VecDeque<Bytes>,
    spare: Vec<BytesMut>,
    sending: Vec<Segments>,
    /// The last call took everything that had come.
    drained: bool,
}

impl PacketLink {
    /// Opens an interface.
    ///
    /// # Errors
    /// Why not, and what to do, in words for the administrator.
    pub(crate) fn open(name: &str, promiscuous: bool) -> Result<Self, String> {
        let address = interface_address(name)?;
        let socket = open_socket().map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES | libc::EAFNOSUPPORT) => format!(
                "no permission to open a packet socket on '{name}': the server needs CAP_NET_RAW ('systemctl edit lunette', \
                 [Service], AmbientCapabilities=CAP_NET_RAW, RestrictAddressFamilies=AF_PACKET)"
            ),
            _ => format!("cannot open a packet socket on '{name}': {error}"),
        })?;
        let index = ask(&socket, name, libc::SIOCGIFINDEX as _).map_err(|_| missing(name))?;
        let mut link = Self {
            name: name.into(),
            // SAFETY: the request fills this field in.
            index: unsafe { index.ifr_ifru.ifru_ifindex },
            address,
            socket,
            listening: None,
            carrier: Carrier::default(),
            look_at: None,
            received: VecDeque::new(),
            spare: Vec::new(),
            sending: Vec::new(),
            drained: false,
        };
        let opened = link.filter().and_then(|()| link.bind());
        opened.map_err(|error| format!("cannot use the interface '{name}': {error}"))?;
        for group in [MacAddress::ALL_FCOE, MacAddress::ALL_ENODES, MacAddress::ALL_VN2VN] {
            link.member(group, libc::PACKET_MR_MULTICAST, true)
                .map_err(|error| format!("the interface '{name}' takes no group addresses: {error}"))?;
        }
        if promiscuous {
            let taken = link.member(MacAddress::default(), libc::PACKET_MR_PROMISC, true);
            taken.map_err(|error| format!("the interface '{name}' cannot be made promiscuous: {error}"))?;
        }
        link.carrier = link.look();
        Ok(link)
    }

    /// A descriptor of the socket to sleep on.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Has the kernel pass on frames of the two EtherTypes only; one socket for both keeps their order.
    fn filter(&self) -> io::Result<()> {
        let word = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        // The half word at 12 is the EtherType. Frames of other VLANs come without their tags, whose number is asked for; 0
        // is no VLAN but a priority. Then all of the frame, or nothing.
        let mut program = [
            word(0x28, 0, 0, 12),
            word(0x15, 1, 0, u32::from(ETHERTYPE_FCOE)),
            word(0x15, 0, 4, u32::from(ETHERTYPE_FIP)),
            word(0x20, 0, 0, (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG) as u32),
            word(0x54, 0, 0, 0x0fff),
            word(0x15, 0, 1, 0),
            word(0x06, 0, 0, 0xffff),
            word(0x06, 0, 0, 0),
        ];
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        self.option(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
        // A larger buffer needs more rights; the size that the system gives is enough to begin with.
        let _ = self.option(libc::SOL_SOCKET, libc::SO_RCVBUF, &RECEIVE_BUFFER);
        Ok(())
    }

    fn bind(&self) -> io::Result<()> {
        // SAFETY: all zeros are a value of this plain structure.
        let mut to: libc::sockaddr_ll = unsafe { zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        to.sll_ifindex = self.index;
        let length = size_of_val(&to) as libc::socklen_t;
        // SAFETY: `to` is a packet address of `length` bytes.
        check(unsafe { libc::bind(self.socket.as_raw_fd(), (&raw const to).cast(), length) })
    }

    fn member(&self, address: MacAddress, kind: libc::c_int, add: bool) -> io::Result<()> {
        // SAFETY: all zeros are a value of this plain structure.
        let mut request: libc::packet_mreq = unsafe { zeroed() };
        request.mr_ifindex = self.index;
        request.mr_type = kind as u16;
        request.mr_alen = 6;
        request.mr_address[..6].copy_from_slice(&address.0);
        let name = if add { libc::PACKET_ADD_MEMBERSHIP } else { libc::PACKET_DROP_MEMBERSHIP };
        self.option(libc::SOL_PACKET, name, &request)
    }

    fn option<T>(&self, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
        let (value, length) = ((value as *const T).cast(), size_of::<T>() as libc::socklen_t);
        // SAFETY: `value` points to `length` bytes for the time of the call.
        check(unsafe { libc::setsockopt(self.socket.as_raw_fd(), level, name, value, length) })
    }

    /// Asks the system about the interface.
    fn look(&self) -> Carrier {
        let flags = ask(&self.socket, &self.name, libc::SIOCGIFFLAGS as _);
        let mtu = ask(&self.socket, &self.name, libc::SIOCGIFMTU as _);
        let wanted = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        // SAFETY: the requests fill these fields in.
        let (flags, mtu) =
            unsafe { (flags.map_or(0, |flags| flags.ifr_ifru.ifru_flags), mtu.map_or(0, |mtu| mtu.ifr_ifru.ifru_mtu)) };
        // Only for lists: what cannot be read there is not shown.
        let speed = std::fs::read_to_string(format!("/sys/class/net/{}/speed", self.name)).ok();
        let speed = speed.and_then(|text| text.trim().parse::<u32>().ok()).unwrap_or(0) / 1000;
        Carrier { up: flags & wanted == wanted, mtu: usize::try_from(mtu).unwrap_or(0), speed }
    }

    /// Takes what has come, as far as one call goes.
    fn fill(&mut self) {
        while self.spare.len() < BATCH {
            self.spare.push(BytesMut::zeroed(FRAME));
        }
        // SAFETY: all zeros are values of these plain structures.
        let (mut vectors, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { (zeroed(), zeroed()) };
        // SAFETY: all zeros are a value of this plain structure.
        let mut senders: [libc::sockaddr_ll; BATCH] = unsafe { zeroed() };
        for at in 0..BATCH {
            vectors[at] = libc::iovec { iov_base: self.spare[at].as_mut_ptr().cast(), iov_len: FRAME };
            messages[at].msg_hdr.msg_iov = &raw mut vectors[at];
            messages[at].msg_hdr.msg_iovlen = 1;
            messages[at].msg_hdr.msg_name = (&raw mut senders[at]).cast();
            messages[at].msg_hdr.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        }
        let (socket, flags) = (self.socket.as_raw_fd(), libc::MSG_DONTWAIT);
        // SAFETY: each message names a buffer of FRAME bytes and an address, all of which live and are not moved until
        // the call is over.
        let count =
            unsafe { libc::recvmmsg(socket, messages.as_mut_ptr(), BATCH as u32, flags as _, std::ptr::null_mut()) };
        // An error is of the interface, which its carrier tells; there is nothing to take.
        let count = usize::try_from(count).unwrap_or(0);
        self.drained = count < BATCH;
        let buffers = self.spare.drain(..count).collect::<Vec<_>>();
        for (at, mut buffer) in buffers.into_iter().enumerate() {
            let length = messages[at].msg_len as usize;
            let whole = messages[at].msg_hdr.msg_flags & libc::MSG_TRUNC == 0 && length <= FRAME;
            // What this socket or another one of this machine sent comes by as well.
            let ours = senders[at].sll_pkttype == libc::PACKET_OUTGOING;
            if !whole || ours {
                self.spare.push(buffer);
                continue;
            }
            // Messages and commands are kept for long and are short: they give their buffer back.
            if length <= 256 {
                self.received.push_back(Bytes::copy_from_slice(&buffer[..length]));
                self.spare.push(buffer);
            } else {
                buffer.truncate(length);
                self.received.push_back(buffer.freeze());
            }
        }
    }
}

impl EthernetLink for PacketLink {
    fn address(&self) -> MacAddress {
        self.address
    }

    fn carrier(&mut self, now: Instant) -> Carrier {
        if self.look_at.is_none_or(|at| at <= now) {
            self.carrier = self.look();
            self.look_at = Some(now + LOOK);
        }
        self.carrier
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.look_at
    }

    fn receive(&mut self) -> Option<Bytes> {
        if self.received.is_empty() {
            if !std::mem::take(&mut self.drained) {
                self.fill();
            } else {
                // One call more would only say that there is nothing.
                return None;
            }
        }
        self.received.pop_front()
    }

    fn send(&mut self, frame: Segments) -> Result<(), Segments> {
        if self.sending.len() >= BATCH {
            self.flush();
            if self.sending.len() >= BATCH {
                return Err(frame);
            }
        }
        let frame = if frame.len() > MAX_SLICES { Segments::from_iter([Bytes::from(frame.concat())]) } else { frame };
        self.sending.push(frame);
        Ok(())
    }

    fn flush(&mut self) {
        while !self.sending.is_empty() {
            // SAFETY: all zeros are values of these plain structures.
            let mut messages: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
            let mut vectors: Vec<libc::iovec> = Vec::with_capacity(BATCH * 4);
            for frame in &self.sending {
                vectors.extend(
                    frame
                        .iter()
                        .map(|piece| libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() }),
                );
            }
            let mut next = vectors.as_mut_ptr();
            for (frame, message) in self.sending.iter().zip(&mut messages) {
                message.msg_hdr.msg_iov = next;
                message.msg_hdr.msg_iovlen = frame.len() as _;
                // SAFETY: `vectors` holds as many as all frames together have.
                next = unsafe { next.add(frame.len()) };
            }
            let (socket, count) = (self.socket.as_raw_fd(), self.sending.len() as u32);
            // SAFETY: the messages name vectors of slices that are kept in `sending`; the call only reads them.
            let sent = unsafe { libc::sendmmsg(socket, messages.as_mut_ptr(), count, libc::MSG_DONTWAIT as _) };
            match usize::try_from(sent) {
                Ok(sent @ 1..) => drop(self.sending.drain(..sent)),
                _ => match io::Error::last_os_error().raw_os_error() {
                    // The interface's queue is full.
                    Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR) => return,
                    // The first one cannot be sent, or the interface is down: lost, as on a wire.
                    _ => drop(self.sending.remove(0)),
                },
            }
        }
    }

    fn listen(&mut self, address: Option<MacAddress>) {
        if self.listening == address {
            return;
        }
        if let Some(before) = self.listening.take() {
            let _ = self.member(before, libc::PACKET_MR_UNICAST, false);
        }
        if let Some(address) = address {
            if let Err(error) = self.member(address, libc::PACKET_MR_UNICAST, true) {
                tracing::warn!("{}: the interface takes no frames to {address}: {error}", self.name);
            }
            self.listening = Some(address);
        } else {
            // What was under way belongs to a link that is no more.
            self.sending.clear();
        }
    }
}

/// The address of an Ethernet interface.
///
/// # Errors
/// There is no such interface, or it is no Ethernet.
pub(crate) fn interface_address(name: &str) -> Result<MacAddress, String> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    let socket = open(libc::AF_INET, kind).map_err(|error| format!("cannot open a socket: {error}"))?;
    let answer = ask(&socket, name, libc::SIOCGIFHWADDR as _).map_err(|_| missing(name))?;
    // SAFETY: the request fills this field in.
    let address = unsafe { answer.ifr_ifru.ifru_hwaddr };
    if address.sa_family != libc::ARPHRD_ETHER {
        return Err(format!("the interface '{name}' is no Ethernet"));
    }
    let mut bytes = [0; 6];
    bytes.iter_mut().zip(address.sa_data).for_each(|(byte, taken)| *byte = taken as u8);
    Ok(MacAddress(bytes))
}

fn missing(name: &str) -> String {
    format!("there is no interface '{name}': 'ip link' lists them")
}

/// Asks for something about an interface. By this and not by sysfs, which may show another network namespace.
fn ask(socket: &OwnedFd, name: &str, request: libc::c_ulong) -> io::Result<libc::ifreq> {
    // SAFETY: all zeros are a value of this plain structure.
    let mut question: libc::ifreq = unsafe { zeroed() };
    if name.is_empty() || name.len() >= question.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    question.ifr_name.iter_mut().zip(name.bytes()).for_each(|(place, byte)| *place = byte as libc::c_char);
    // SAFETY: `question` is the structure that these requests read and write.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), request as _, &raw mut question) })?;
    Ok(question)
}

fn open_socket() -> io::Result<OwnedFd> {
    // Bound to no protocol yet, so that nothing comes before its filter stands.
    open(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
}

fn open(family: libc::c_int, kind: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let socket = unsafe { libc::socket(family, kind, 0) };
    check(socket)?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
