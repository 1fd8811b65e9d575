//! The Fibre Channel host bus adapter: what a target-mode driver implements.
//!
//! A driver author needs to know Fibre Channel frames or his firmware's commands, and nothing of SCSI. The FC port
//! provider (`fct`) owns the driver's object, calls it from one thread at a time, and does the rest: logins, name
//! server, sessions, views, reservations.
//!
//! ```text
//!            submit(HbaRequest)                  frames, or data, responses, aborts
//!     fct  ---------------------->  your Hba  ------------------------------------->  link
//!          <----------------------            <-------------------------------------
//!            poll_event() -> HbaEvent            frames, or commands, data, ends
//! ```
//!
//! Two levels, told by [`Offload::level`]:
//!
//! - [`HbaLevel::Frames`]: the driver moves frames and nothing else. It takes [`HbaRequest::Frame`] and gives
//!   [`HbaEvent::Frame`]; exchanges, sequences and FCP are done by `fct`.
//! - [`HbaLevel::Commands`]: the firmware does exchanges and FCP. The driver gives whole FCP_CMND information units and
//!   data, takes data and whole FCP_RSP information units, and passes link services on as payloads.
//!
//! Nothing is imposed: no thread, no clock (`now` is an argument where it matters), no allocator. Buffers are
//! [`Bytes`](bytes::Bytes) in lists ([`Segments`]): a driver lends its own receive memory by
//! [`Bytes::from_owner`](bytes::Bytes::from_owner) and has it back when the last slice is dropped, which may be after
//! the store has written it; it holds what it was given to send, which is the store's memory, until the hardware has
//! read it, and drops it then. Firmware that does FCP may lend memory for what is read as well ([`Hba::lend_room`]): a
//! file or block device is then read right into it, and what is to be sent is that same memory.
//!
//! # Drivers at the level of commands
//!
//! What such a driver owes, beyond passing things on:
//!
//! - **Each [`HbaRequest::Request`] has one [`HbaEvent::Reply`]**, with `None` when there is no answer and none will come: the
//!   other port refuses the exchange, it is gone, or the firmware's time for a link service is up (2 R_A_TOV). Without it `fct`
//!   waits for ever, and after 1,024 such requests asks nothing more.
//! - **Each [`HbaEvent::Service`] is kept until its [`HbaRequest::Reply`]**, which may come much later: a PRLI waits for the
//!   name server.
//! - **Each [`HbaEvent::Command`] ends once**, in one of four ways:
//!
//!   | Asked of you | You say | Then |
//!   |---|---|---|
//!   | [`Respond`](HbaRequest::Respond) | [`Ended`](HbaEvent::Ended) when it is sent, and confirmed where it asks for that | over |
//!   | [`Terminate`](HbaRequest::Terminate) | nothing | over at once; what was on its way is dropped |
//!   | [`AbortDone`](HbaRequest::AbortDone), after your [`AbortReceived`](HbaEvent::AbortReceived) | nothing | BA_ACC goes out; over |
//!   | nothing | [`Ended`](HbaEvent::Ended), because the exchange is lost: its port has logged out, the firmware gave it up | `fct` aborts the task; an [`AbortDone`](HbaRequest::AbortDone) for it follows and is ignored |
//!
//!   A driver that took a command and says none of this keeps a task of the initiator alive until its session ends.
//! - **[`HbaRequest::Receive`] is answered by data**: one or more [`HbaEvent::Data`], in order, which together are what was asked for.
//!   When the data does not come, the exchange is lost: abort it on the link and say [`HbaEvent::Ended`]. `fct` has no timer for it
//!   at this level; the firmware has.
//! - **[`HbaRequest::SendData`] before [`HbaRequest::Respond`]**: requests of one exchange are carried out in their order. Nothing
//!   tells that data is sent.
//! - **Aborts race.** A request may arrive for an exchange that you have told to be over, or that an [`HbaEvent::AbortReceived`] is
//!   on its way for: what is not known any more is dropped, only [`HbaRequest::Request`] and [`HbaRequest::Reply`] are not
//!   concerned. Between [`HbaEvent::AbortReceived`] and [`HbaRequest::AbortDone`] nothing of that exchange is sent.
//! - **[`HbaEvent::LinkDown`] ends everything** on both sides: no event for what was open before it may follow, and what you
//!   hold of it is dropped. After [`HbaRequest::Deregister`] the same holds for one remote port.
//! - **Names of exchanges are yours** for what comes in, with the highest bit clear; they are not used again.
//! - **Buffers**: what you lend in [`HbaEvent::Data`] comes back when the last slice is dropped, maybe after the exchange is over
//!   and the session is gone: it must not go back to the hardware before. What you are given to send you drop when the hardware
//!   has read it. Room that was lent ([`Hba::lend_room`]) follows the first rule.
//! - **Full rings**: [`Hba::submit`] gives the request back; say something or wake the port when there is room again.
//!
//! For those who know COMSTAR's `fct_local_port`:
//!
//! | There | Here |
//! |---|---|
//! | node and port name, alias | [`Hba::node_name`], [`Hba::port_name`]; the alias is made of [`HbaDetails::driver_name`] and [`HbaDetails::instance`] |
//! | max logins, max exchanges | [`Hba::limits`] |
//! | get_link_info, its FLOGI-done bits | [`HbaEvent::LinkUp`] with [`Link`], [`FabricLogin`] |
//! | register, deregister_remote_port | [`HbaRequest::Register`], [`HbaRequest::Deregister`] |
//! | send_cmd; its completion | [`HbaRequest::Request`]; [`HbaEvent::Reply`] |
//! | xfer_scsi_data; data transfer done | [`HbaRequest::Receive`], [`HbaRequest::SendData`]; [`HbaEvent::Data`], and nothing for what is sent |
//! | send_cmd_response; response done | [`HbaRequest::Respond`], [`HbaRequest::Reply`]; [`HbaEvent::Ended`] |
//! | abort_cmd; command aborted | [`HbaRequest::Terminate`], [`HbaRequest::Abort`]; [`HbaEvent::AbortReceived`] and [`HbaRequest::AbortDone`] |
//! | ctl | [`Hba::control`] |
//! | flogi_xchg, received FLOGI | [`HbaRequest::Request`] to [`PortId::FABRIC`], [`HbaEvent::Service`]; none where [`FabricLogin`] says so |
//! | populate_hba_details, info | [`Hba::details`], [`Hba::statistics`] |
//! | post received command, get scsi task | [`HbaEvent::Command`]: there is no task to be fetched first |
//! | post event: link up, down, reset; adapter fatal | [`HbaEvent::LinkUp`], [`HbaEvent::LinkDown`]; [`HbaEvent::Failed`] |
//! | the data buffer store | [`Segments`] of lent memory, [`Hba::lend_room`] |
//! | private areas | none: what is yours is in your `Hba` |
//!
//! # Waking
//!
//! When something happens while nobody polls (an interrupt), the driver's surroundings call whatever wakes the thread
//! that drives the port; how is between the two of them.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::{PortError, Room, Segments};

/// A world wide name: 8 bytes, big-endian. It prints as 16 lower-case digits, with `{:X}` in upper case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Wwn(pub u64);

impl Wwn {
    /// Reads 16 hexadecimal digits of either case, with or without `wwn.` before them or colons between.
    pub fn parse(text: &str) -> Option<Self> {
        let prefix = text.get(..4).filter(|prefix| prefix.eq_ignore_ascii_case("wwn."));
        let digits: String = text[prefix.map_or(0, str::len)..].chars().filter(|&c| c != ':').collect();
        let valid = digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        valid.then(|| u64::from_str_radix(&digits, 16).ok().map(Self)).flatten()
    }

    /// The device name that groups know it by: `wwn.` and 16 upper-case digits.
    pub fn device_name(self) -> String {
        format!("wwn.{self:X}")
    }
}

impl fmt::Display for Wwn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::UpperHex for Wwn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

/// An N_Port identifier: 24 bits, the address of a port on its link or fabric.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u32);

impl PortId {
    /// No address yet.
    pub const NONE: Self = Self(0);
    /// The fabric's login server, to which FLOGI goes.
    pub const FABRIC: Self = Self(0xff_fffe);
    /// The fabric controller, to which SCR goes and from which RSCN comes.
    pub const FABRIC_CONTROLLER: Self = Self(0xff_fffd);
    /// The directory server: names.
    pub const DIRECTORY: Self = Self(0xff_fffc);

    /// From the first three bytes, big-endian.
    pub const fn from_bytes(bytes: [u8; 3]) -> Self {
        Self((bytes[0] as u32) << 16 | (bytes[1] as u32) << 8 | bytes[2] as u32)
    }

    /// Three bytes, big-endian; higher bits are left out.
    pub const fn to_bytes(self) -> [u8; 3] {
        let [_, a, b, c] = self.0.to_be_bytes();
        [a, b, c]
    }

    /// Whether it is one of the well known addresses (FFFFF0h and above).
    pub const fn is_well_known(self) -> bool {
        self.0 >= 0xff_fff0
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortId({:06x})", self.0)
    }
}

/// How the port is joined to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Topology {
    /// One other N_Port, or a fabric: the answer to FLOGI tells.
    PointToPoint,
    /// A fabric, by a loop (NL_Port on an FL_Port).
    PublicLoop,
    /// A loop without a fabric: addresses are given by the loop's initialisation.
    PrivateLoop,
    /// N_Ports over Ethernet without a fabric (FC-BB-6 VN2VN): addresses are claimed, there is no FLOGI, and other
    /// ports come and go by [`HbaEvent::NeighbourUp`] and [`HbaEvent::NeighbourDown`].
    Vn2Vn,
}

/// Who does FLOGI, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FabricLogin {
    /// `fct` does it, where the topology has one.
    #[default]
    ToDo,
    /// The firmware has: a fabric took it and gave [`Link::port_id`]. `fct` registers with the name server.
    Fabric,
    /// The firmware has: the other end is an N_Port, there is no fabric, and [`Link::port_id`] is what the two agreed upon.
    NoFabric {
        /// The address of the other port, where this one has the higher name and so has to log in first (FC-LS); `fct` sends
        /// PLOGI then. [`PortId::NONE`] where the other port logs in, or the firmware does.
        log_in_to: PortId,
    },
}

/// What is known of the link when it comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// How the port is joined to others.
    pub topology: Topology,
    /// The port's address where the link itself gives one (loop, VN2VN, firmware that did FLOGI); otherwise
    /// [`PortId::NONE`], and FLOGI or the other N_Port's PLOGI gives it.
    pub port_id: PortId,
    /// Speed in gigabits per second, one of 1, 2, 4, 8, 10, 16, 32, 64; 0 when it is not established.
    pub speed: u32,
    /// Whether the firmware has done FLOGI already, and who is at the other end.
    pub fabric_login: FabricLogin,
}

/// Speeds in gigabits per second, ascending: what a port supports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speeds(pub &'static [u32]);

/// The words about an adapter that `fcinfo hba-port` prints; empty where there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HbaDetails {
    /// Manufacturer.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// What the model is, in words.
    pub model_description: String,
    /// Serial number; `not available` is printed for none.
    pub serial_number: String,
    /// Version of the hardware.
    pub hardware_version: String,
    /// Version of the firmware.
    pub firmware_version: String,
    /// Version of the boot code.
    pub option_rom_version: String,
    /// Name of the driver: the target's provider and alias are made from it (`qlt`).
    pub driver_name: String,
    /// Version of the driver.
    pub driver_version: String,
    /// Number of this port among those of the driver: the alias of `qlt` and 2 is `qlt2,0`.
    pub instance: u32,
    /// Speeds that the port can take.
    pub supported_speeds: Speeds,
}

/// Counters of the link, as RLS asks for them and `fcinfo -l` prints them. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStatistics {
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

/// What the driver moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HbaLevel {
    /// Frames.
    Frames,
    /// FCP commands, their data and responses; link services as payloads.
    Commands,
}

/// What the adapter does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// What it moves.
    pub level: HbaLevel,
    /// It answers PLOGI, PRLI and LOGO by itself, and tells by [`HbaEvent::RemotePortUp`] and
    /// [`HbaEvent::RemotePortDown`]. Only of use at [`HbaLevel::Commands`].
    pub logins: bool,
    /// Longest list of buffers that one request may carry; longer ones are split by the caller. At least 1.
    pub max_segments: usize,
    /// Longest payload that one [`HbaRequest::SendData`] may carry in bytes; longer ones are split.
    pub max_transfer_length: u32,
}

/// Sizes of the adapter's tables. All at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HbaLimits {
    /// Remote ports that may be logged in at once.
    pub max_logins: usize,
    /// Exchanges that may be open at once.
    pub max_exchanges: usize,
    /// Longest data field of a frame in bytes: a multiple of four from 256 to 2112.
    pub max_frame_payload: u16,
}

/// A frame without what the hardware adds: start, end and CRC. Class 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FcFrame {
    /// The frame header (FC-FS-5, Frame_Header).
    pub header: [u8; 24],
    /// The data field without fill bytes, 0 to 2112 bytes.
    pub payload: Segments,
}

/// Names an exchange between a driver at [`HbaLevel::Commands`] and `fct`. Chosen by whichever side begins it: the
/// driver for what comes in (the highest bit clear), `fct` for what it begins (the highest bit set). Not used again
/// while the port exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u64);

impl ExchangeId {
    /// Set in the names that `fct` chooses.
    pub const LOCAL: u64 = 1 << 63;
}

/// Which kind of link service a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkService {
    /// Extended link service (FC-LS): TYPE 01h.
    Els,
    /// Generic service (FC-GS): common transport, TYPE 20h.
    Ct,
}

/// A remote port, as PLOGI and PRLI describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemotePort {
    /// Its address.
    pub port_id: PortId,
    /// Its port name.
    pub port_name: Wwn,
    /// Its node name.
    pub node_name: Wwn,
    /// Longest data field it takes in a frame, in bytes.
    pub max_frame_payload: u16,
    /// Its FCP service parameters of PRLI (FCP-4, PRLI request FCP service parameter page); 0 before PRLI.
    pub service_parameters: u32,
}

/// What the port provider asks of the adapter.
#[derive(Debug)]
#[non_exhaustive]
pub enum HbaRequest {
    /// Send a frame: the only request at [`HbaLevel::Frames`], and not used at the other level.
    Frame(FcFrame),
    /// The port's address is this one from now on ([`HbaLevel::Commands`]).
    Address(PortId),
    /// A remote port has logged in: the firmware may make an entry for it. Again after PRLI.
    Register(RemotePort),
    /// A remote port is gone: its entry is free, its exchanges are dropped without a word.
    Deregister(PortId),
    /// Begin an exchange with a link service; its answer is an [`HbaEvent::Reply`].
    Request {
        /// The exchange.
        exchange: ExchangeId,
        /// What the payload is.
        service: LinkService,
        /// Our address; for FLOGI [`PortId::NONE`].
        from: PortId,
        /// To whom.
        to: PortId,
        /// The whole payload.
        payload: Segments,
    },
    /// The answer to an [`HbaEvent::Service`]: the exchange ends with it.
    Reply {
        /// The exchange.
        exchange: ExchangeId,
        /// The whole payload.
        payload: Segments,
    },
    /// Fetch data of a write: FCP_XFER_RDY. It comes by [`HbaEvent::Data`]. One at a time for each exchange.
    Receive {
        /// The exchange.
        exchange: ExchangeId,
        /// First byte wanted, from the beginning of the command's data.
        offset: u32,
        /// Bytes wanted, at least 1.
        length: u32,
    },
    /// Send data of a read: FCP_DATA. Pieces come in order.
    SendData {
        /// The exchange.
        exchange: ExchangeId,
        /// Where the piece begins in the command's data.
        offset: u32,
        /// The piece.
        data: Segments,
    },
    /// Send the FCP_RSP information unit; [`HbaEvent::Ended`] tells when it is sent and, where the unit asks for one,
    /// FCP_CONF has come. The exchange ends with that.
    Respond {
        /// The exchange.
        exchange: ExchangeId,
        /// The whole information unit.
        payload: Segments,
    },
    /// Forget an exchange without a word to the initiator: its command was aborted. No event follows.
    Terminate(ExchangeId),
    /// Abort an exchange on the link: ABTS. [`HbaEvent::Ended`] follows.
    Abort(ExchangeId),
    /// The answer to [`HbaEvent::AbortReceived`]: the command has no further effect, BA_ACC can go. The exchange ends.
    AbortDone(ExchangeId),
}

/// What the adapter tells the port provider.
#[derive(Debug)]
#[non_exhaustive]
pub enum HbaEvent {
    /// The link is up. Told again after each [`HbaEvent::LinkDown`], and when it was reset in between.
    LinkUp(Link),
    /// The link is down: every login and exchange is gone.
    LinkDown,
    /// The adapter is of no use any more: every login and exchange is gone, nothing more is taken and nothing more comes. It
    /// says why, in words for the administrator. Who holds it drops it and opens it anew.
    Failed(String),
    /// [`Topology::Vn2Vn`]: another port has claimed its address.
    NeighbourUp {
        /// Its address.
        port_id: PortId,
        /// Its port name.
        port_name: Wwn,
    },
    /// [`Topology::Vn2Vn`]: another port is gone.
    NeighbourDown(PortId),
    /// A remote port logged in to firmware that does logins, PRLI included.
    RemotePortUp(RemotePort),
    /// A remote port is gone, says firmware that does logins.
    RemotePortDown(PortId),
    /// A frame ([`HbaLevel::Frames`]). Frames with a wrong CRC or without an end are counted and not told.
    Frame(FcFrame),
    /// A link service came in; it is answered by [`HbaRequest::Reply`].
    Service {
        /// The exchange.
        exchange: ExchangeId,
        /// What the payload is.
        service: LinkService,
        /// From whom.
        from: PortId,
        /// To which address of ours; [`PortId::NONE`] or [`PortId::FABRIC`] before there is one.
        to: PortId,
        /// The whole payload.
        payload: Segments,
    },
    /// The answer to an [`HbaRequest::Request`]; `None`: there is none and none will come. The exchange is over.
    Reply {
        /// The exchange.
        exchange: ExchangeId,
        /// The address it came to: in the answer to FLOGI, the one that the fabric gives us.
        to: PortId,
        /// The whole payload.
        payload: Option<Segments>,
    },
    /// A command or a task management function: a whole FCP_CMND information unit.
    Command {
        /// The exchange.
        exchange: ExchangeId,
        /// From whom.
        from: PortId,
        /// To which address of ours.
        to: PortId,
        /// The originator's exchange identifier.
        ox_id: u16,
        /// The whole information unit.
        payload: Segments,
    },
    /// Data of a write came in.
    Data {
        /// The exchange.
        exchange: ExchangeId,
        /// Where it begins in the command's data.
        offset: u32,
        /// The data; memory of the driver's, lent.
        data: Segments,
    },
    /// The initiator aborts an exchange (ABTS). It is answered by [`HbaRequest::AbortDone`].
    AbortReceived(ExchangeId),
    /// An exchange is over: its response is sent (and confirmed), it is aborted, or it was lost with its remote port.
    Ended(ExchangeId),
}

/// Operations of the administrator on an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HbaControl {
    /// Switch the port on: the link comes up if there is somebody at the other end.
    Online,
    /// Switch the port off: the link goes down.
    Offline,
    /// Initialise the link anew (`fcadm force-lip`): it goes down and comes up.
    ResetLink,
}

/// A target-mode driver of one port. See the [module](self) for the two levels and for who calls what.
///
/// After [`submit`](Self::submit), and whenever the driver's surroundings were woken, the caller polls events until
/// there are none.
pub trait Hba: Send + fmt::Debug {
    /// The port's name.
    fn port_name(&self) -> Wwn;

    /// The node's name.
    fn node_name(&self) -> Wwn;

    /// The words about the adapter.
    fn details(&self) -> HbaDetails;

    /// What the adapter does by itself; the same for its life.
    fn offload(&self) -> Offload;

    /// Sizes of its tables; the same for its life.
    fn limits(&self) -> HbaLimits;

    /// Counters of the link, now.
    fn statistics(&self) -> LinkStatistics;

    /// Does what the administrator wants. May not wait: what follows is told by events.
    ///
    /// # Errors
    /// Why not, in words for the administrator.
    fn control(&mut self, now: Instant, control: HbaControl) -> Result<(), PortError>;

    /// Takes a request. What cannot be sent because the link is down is taken and dropped.
    ///
    /// # Errors
    /// The request itself when there is no room for it now. The caller keeps it, and tries again after the next event
    /// or deadline: a driver that was full gives an event, or is woken, when it is not.
    fn submit(&mut self, now: Instant, request: HbaRequest) -> Result<(), HbaRequest>;

    /// Memory of the driver's own for `length` bytes of a command's data-in from `offset` on: a store that can reads right
    /// into it. What is then given to [`HbaRequest::SendData`] are slices of the same memory, which the driver knows by
    /// their address; a store that cannot gives others, and the room is dropped unused. The memory is the driver's again
    /// when the room and the slices have been dropped, whatever has become of the exchange meanwhile.
    ///
    /// Asked only at [`HbaLevel::Commands`]. `None`, the default: the store's memory it is, as ever.
    fn lend_room(&mut self, exchange: ExchangeId, offset: u32, length: u32) -> Option<Arc<dyn Room>> {
        let _ = (exchange, offset, length);
        None
    }

    /// The next event.
    fn poll_event(&mut self, now: Instant) -> Option<HbaEvent>;

    /// When to poll again without being woken; `None`: not at all.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn world_wide_names_are_read_in_every_form() {
        let name = Wwn(0x2100_00e0_8b10_0163);
        for text in ["210000e08b100163", "wwn.210000E08B100163", "21:00:00:e0:8b:10:01:63", "WWN.210000e08b100163"] {
            assert_eq!(Wwn::parse(text), Some(name), "{text}");
        }
        for text in ["", "wwn.", "wwn.210000e08b10016", "iqn.210000e08b100163", "+10000e08b1001633", "é10000e08b100163"]
        {
            assert_eq!(Wwn::parse(text), None, "{text}");
        }
        assert_eq!((name.to_string(), name.device_name()), ("210000e08b100163".into(), "wwn.210000E08B100163".into()));
    }

    #[test]
    fn port_ids_are_three_bytes() {
        assert_eq!(PortId::from_bytes([1, 3, 0]).to_string(), "10300");
        assert_eq!(PortId(0xab01_0300).to_bytes(), [1, 3, 0]);
        assert!(PortId::DIRECTORY.is_well_known() && !PortId(0x01_0300).is_well_known());
    }
}
