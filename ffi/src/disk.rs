//! Disks of a server and the view entries by which initiators see them.

use crate::input::{Sized0, bytes_mut, optional_text, put_text, read_optional, text};
use crate::result::{Failure, Outcome, guard, lunette_result};
use crate::server::{Backend, SERVERS, lunette_server, view_failure};
use crate::store::{STORES, Store, check_flags, lunette_store};
use lu_sbd::meta::NoRecord;
use lu_sbd::properties::CreateProperties;
use lu_sbd::{Limits, SbdLu};
use scsi_core::GuidHost;
use std::ffi::c_char;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use stmf::Guid;
use stmf::config::{GroupKind, NewView};
use stmf::provider::LogicalUnit;

/// The lowest LUN that is free.
pub const LUNETTE_LUN_ANY: i32 = -1;
/// No initiator sees the disk until lunette_server_add_view lets some.
pub const LUNETTE_DISK_HIDDEN: u32 = 1;
/// Writes are refused.
pub const LUNETTE_DISK_WRITE_PROTECTED: u32 = 2;
/// Every write is durable before it is answered.
pub const LUNETTE_DISK_WRITE_THROUGH: u32 = 4;
/// How many bytes the name of a disk takes, its zero byte included.
pub const LUNETTE_GUID_SIZE: usize = 33;

/// How a disk looks. What is zero or NULL has a default, but for `lun`: LUNETTE_LUN_ANY has to be said.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lunette_disk_options {
    /// sizeof(lunette_disk_options).
    pub size: usize,
    /// The LUN at which every initiator sees it, 0 to 16383, or LUNETTE_LUN_ANY.
    pub lun: i32,
    /// LUNETTE_DISK_HIDDEN, LUNETTE_DISK_WRITE_PROTECTED, LUNETTE_DISK_WRITE_THROUGH.
    pub flags: u32,
    /// Bytes in a logical block, a power of two, 512 to 32768; 0 for 512.
    pub block_bytes: u32,
    /// Bytes of the disk; 0 for all of the store.
    pub disk_bytes: u64,
    /// Its name of 32 hexadecimal digits, the first a 6; NULL generates one. Give one to a disk whose content outlives
    /// the program: initiators know it by that.
    pub guid: *const c_char,
    /// INQUIRY vendor, up to 8 characters.
    pub vendor: *const c_char,
    /// INQUIRY product, up to 16 characters.
    pub product: *const c_char,
    /// Serial number, up to 252 characters.
    pub serial: *const c_char,
    /// Text for people, up to 255 bytes.
    pub alias: *const c_char,
}

// SAFETY: repr(C), size first; integers and pointers.
unsafe impl Sized0 for lunette_disk_options {}

/// Adds a disk over a store to a running server; every initiator sees it at once.
///
/// `options` may be NULL: all defaults, at the lowest free LUN. `guid` may be NULL; else it has `guid_size` bytes, at
/// least LUNETTE_GUID_SIZE, and gets the disk's name. The store's handle stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_add_disk(
    server: *mut lunette_server,
    store: *mut lunette_store,
    options: *const lunette_disk_options,
    guid: *mut c_char,
    guid_size: usize,
) -> lunette_result {
    guard(|| {
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let options = unsafe { read_optional(options, "options") }?;
        if !guid.is_null() {
            // SAFETY: as above; nothing is done if the name has no place.
            let room = unsafe { bytes_mut(guid.cast::<u8>(), guid_size, "guid") }?;
            if room.len() < LUNETTE_GUID_SIZE {
                return Err(Failure::new(lunette_result::BufferTooSmall, "guid needs LUNETTE_GUID_SIZE bytes"));
            }
        }
        let (server, store) = (SERVERS.get(server)?, STORES.get(store)?);
        // SAFETY: as above.
        let (properties, view) = unsafe { properties(options.as_ref()) }?;
        let unit = unit(&store, &properties)?;
        let name = server.with(|server| server.add_unit(unit, view))?;
        if !guid.is_null() {
            // SAFETY: as above.
            unsafe { put_text(guid, guid_size, &format!("{name:X}")) }?;
        }
        Ok(())
    })
}

/// # Safety
/// The texts are NULL or texts.
unsafe fn properties(options: Option<&lunette_disk_options>) -> Outcome<(CreateProperties, Option<Option<u16>>)> {
    let mut properties = CreateProperties::default();
    let Some(options) = options else { return Ok((properties, Some(None))) };
    check_flags(options.flags, LUNETTE_DISK_HIDDEN | LUNETTE_DISK_WRITE_PROTECTED | LUNETTE_DISK_WRITE_THROUGH)?;
    let has = |flag| options.flags & flag != 0;
    properties.block_size = (options.block_bytes != 0).then_some(options.block_bytes);
    properties.size = (options.disk_bytes != 0).then_some(options.disk_bytes);
    properties.write_protect = has(LUNETTE_DISK_WRITE_PROTECTED).then_some(true);
    properties.write_cache_disabled = has(LUNETTE_DISK_WRITE_THROUGH).then_some(true);
    let texts = [
        ("guid", "guid", options.guid),
        ("vendor", "vid", options.vendor),
        ("product", "pid", options.product),
        ("serial", "serial", options.serial),
        ("alias", "alias", options.alias),
    ];
    for (name, property, value) in texts {
        // SAFETY: the caller's promise.
        if let Some(value) = unsafe { optional_text(value, name) }? {
            properties
                .set(property, &value)
                .map_err(|error| Failure::invalid(format!("{name} '{value}': {}", error.hint())))?;
        }
    }
    let lun = match options.lun {
        LUNETTE_LUN_ANY => None,
        lun => Some(lun_number(lun)?),
    };
    Ok((properties, (!has(LUNETTE_DISK_HIDDEN)).then_some(lun)))
}

fn lun_number(lun: i32) -> Outcome<u16> {
    let number = u16::try_from(lun).ok().filter(|lun| *lun <= stmf::config::MAX_LUN);
    number.ok_or_else(|| Failure::invalid(format!("lun {lun} is not 0 to 16383")))
}

fn unit(store: &Store, properties: &CreateProperties) -> Outcome<Arc<dyn LogicalUnit>> {
    static COUNTER: AtomicU16 = AtomicU16::new(0);
    let mut random = [0; 4];
    // A name that another program's disk has is unlikely without randomness, too: the time is in it.
    let _ = getrandom::fill(&mut random);
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
    let guid = properties.guid(GuidHost::HostId(u32::from_ne_bytes(random)), seconds as u32, counter);
    let name = store.name();
    let identity = properties
        .identity(guid, Path::new(&name), store.capacity())
        .map_err(|error| Failure::invalid(format!("{error}; {}", error.hint())))?;
    let (records, limits) = (Arc::new(NoRecord), Limits::default());
    Ok(Arc::new(match store {
        Store::Blocking(store) => SbdLu::new(identity, Arc::clone(store), records, limits),
        Store::Asynchronous(store) => SbdLu::new_async(identity, Arc::clone(store), records, limits),
    }))
}

/// Removes a disk: it disappears for every initiator, its tasks are aborted, its store is flushed.
///
/// `guid` is its name as lunette_server_add_disk gave it. Waits for what is under way at the store, 10 seconds at most.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_remove_disk(
    server: *mut lunette_server,
    guid: *const c_char,
) -> lunette_result {
    guard(|| {
        crate::result::outside_callbacks()?;
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let guid = guid_of(&unsafe { text(guid, "guid") }?)?;
        SERVERS.get(server)?.with(|server| match server.remove_unit(guid) {
            true => Ok(()),
            false => Err(no_disk(guid)),
        })
    })
}

fn guid_of(text: &str) -> Outcome<Guid> {
    text.parse().map_err(|_| Failure::invalid(format!("'{text}' is no name of a disk: 32 hexadecimal digits")))
}

fn no_disk(guid: Guid) -> Failure {
    Failure::new(lunette_result::NotFound, format!("there is no disk {guid:X}"))
}

/// Lets the initiators of a host group see a disk through the targets of a target group, at `lun` (LUNETTE_LUN_ANY: the
/// lowest free one). A group that is NULL means all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_add_view(
    server: *mut lunette_server,
    guid: *const c_char,
    host_group: *const c_char,
    target_group: *const c_char,
    lun: i32,
) -> lunette_result {
    guard(|| {
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let (guid, hosts, targets) = unsafe {
            (
                text(guid, "guid")?,
                optional_text(host_group, "host_group")?,
                optional_text(target_group, "target_group")?,
            )
        };
        let lu = guid_of(&guid)?;
        let lun = if lun == LUNETTE_LUN_ANY { None } else { Some(u64::from(lun_number(lun)?)) };
        let view = NewView { lu, host_group: hosts.as_deref(), target_group: targets.as_deref(), lun };
        SERVERS.get(server)?.with(|server| {
            server.stmf().lu(lu).ok_or_else(|| no_disk(lu))?;
            change(server, |config| Ok(config.add_view(&view)?.0))
        })
    })
}

/// Takes all view entries of a disk away: nobody sees it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_remove_views(
    server: *mut lunette_server,
    guid: *const c_char,
) -> lunette_result {
    guard(|| {
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let guid = guid_of(&unsafe { text(guid, "guid") }?)?;
        SERVERS.get(server)?.with(|server| change(server, |config| config.remove_views(guid)))
    })
}

/// Makes a host group, which holds initiators.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_add_host_group(
    server: *mut lunette_server,
    name: *const c_char,
) -> lunette_result {
    // SAFETY: the caller's promise, by the conventions at the top of the header.
    guard(|| unsafe { add_group(server, GroupKind::Host, name) })
}

/// Makes a target group, which holds targets.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_add_target_group(
    server: *mut lunette_server,
    name: *const c_char,
) -> lunette_result {
    // SAFETY: the caller's promise, by the conventions at the top of the header.
    guard(|| unsafe { add_group(server, GroupKind::Target, name) })
}

/// Puts an initiator, which need not have logged in yet, into a host group; it may be in one only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_add_host_group_member(
    server: *mut lunette_server,
    group: *const c_char,
    initiator: *const c_char,
) -> lunette_result {
    // SAFETY: the caller's promise, by the conventions at the top of the header.
    guard(|| unsafe { add_member(server, GroupKind::Host, group, initiator) })
}

/// Puts a target, which need not exist yet, into a target group; it may be in one only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_add_target_group_member(
    server: *mut lunette_server,
    group: *const c_char,
    target: *const c_char,
) -> lunette_result {
    // SAFETY: the caller's promise, by the conventions at the top of the header.
    guard(|| unsafe { add_member(server, GroupKind::Target, group, target) })
}

/// # Safety
/// `name` is NULL or a text.
unsafe fn add_group(server: *mut lunette_server, kind: GroupKind, name: *const c_char) -> Outcome {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name, "name") }?;
    SERVERS.get(server)?.with(|server| change(server, |config| config.create_group(kind, &name)))
}

/// # Safety
/// Both names are NULL or texts.
unsafe fn add_member(
    server: *mut lunette_server,
    kind: GroupKind,
    group: *const c_char,
    member: *const c_char,
) -> Outcome {
    // SAFETY: the caller's promise.
    let (group, member) = unsafe { (text(group, "group")?, text(member, "member")?) };
    SERVERS.get(server)?.with(|server| change(server, |config| config.add_member(kind, &group, &member)))
}

fn change(
    server: &dyn Backend,
    plan: impl FnOnce(&stmf::config::Config) -> Result<stmf::config::Change, stmf::ConfigError>,
) -> Outcome {
    let stmf = server.stmf();
    let change = stmf.with_config(plan).map_err(|error| view_failure(&error))?;
    stmf.commit(change);
    Ok(())
}
