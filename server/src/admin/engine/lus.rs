//! Logical units: created, imported, changed, forgotten, brought on- and offline.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use lu_sbd::meta::{Identity, LoadError, RecordFile};
use lu_sbd::properties::{CreateProperties, ModifyProperties};
use lu_sbd::{ModifyError, SbdLu};
use scsi_core::GuidHost;
use stmf::Guid;

use super::error::state_change;
use super::unit::{self, Unit};
use super::views::text;
use super::{Engine, done};
use crate::admin::api::{ApiError, Done, ErrorKind, LuInfo};
use crate::admin::live::ObjectState;
use crate::model::{LuRecord, Transaction};

/// How many threads open the files of logical units when a server starts.
const START_UP_THREADS: usize = 8;
/// Fewer units are not worth a thread.
const MIN_UNITS_OF_A_THREAD: usize = 64;

impl Engine {
    pub(super) fn create_lu(
        &mut self,
        file: &str,
        size: Option<&str>,
        properties: &[String],
        force: bool,
    ) -> Result<Done, ApiError> {
        let properties = CreateProperties::parse(properties.iter().map(String::as_str), size)?;
        let file = unit::canonical(file)?;
        self.check_unused(&file)?;
        if let Some(guid) = properties.guid.filter(|guid| self.units.contains_key(guid)) {
            return Err(guid_in_use(guid));
        }
        let guid = self.new_guid(&properties);
        let record = LuRecord { guid, file, meta: properties.meta.clone() };
        let place = unit::record_file(&record);
        if place.exists() && !force {
            return Err(has_identity(&record.file, &place));
        }
        let file = record.file.clone();
        // A size is all that it takes to make a sparse file.
        let made = properties.size.is_some() && unit::make_file(&file)?;
        let before = std::fs::read(place.path()).ok();
        let added = unit::backing_size(&file).and_then(|backing| {
            unit::save(&place, &properties.identity(guid, &file, backing)?)?;
            self.add_unit(record).inspect_err(|_| {
                // What stood there comes back; if even that fails, the refusal itself is what counts.
                let _ = match &before {
                    Some(bytes) => std::fs::write(place.path(), bytes),
                    None => std::fs::remove_file(place.path()),
                };
            })
        });
        if added.is_err() && made {
            let _ = std::fs::remove_file(&file);
        }
        added?;
        Ok(self.registered(guid))
    }

    pub(super) fn import_lu(&mut self, file: &str, new_guid: bool) -> Result<Done, ApiError> {
        let given = unit::canonical(file)?;
        let (mut record, mut identity) = find_identity(&given)?;
        self.check_unused(&record.file)?;
        unit::backing_size(&record.file)?;
        if new_guid {
            identity.guid = self.new_guid(&CreateProperties::default());
            record.guid = identity.guid;
            // Whoever reserved the original has not reserved the copy.
            identity.reservations.clear();
            unit::save(&unit::record_file(&record), &identity)?;
        } else if self.units.contains_key(&record.guid) {
            return Err(guid_in_use(record.guid));
        }
        let guid = record.guid;
        self.add_unit(record)?;
        Ok(self.registered(guid))
    }

    pub(super) fn modify_lu(&mut self, lu: &str, size: Option<&str>, properties: &[String]) -> Result<Done, ApiError> {
        let properties = ModifyProperties::parse(properties.iter().map(String::as_str), size)?;
        let guid = if lu.starts_with('/') {
            let file = unit::canonical(lu)?;
            let found = self.units.values().find(|unit| unit.record.file == file).map(|unit| unit.record.guid);
            found.ok_or_else(|| not_found(lu))?
        } else {
            stmf::guid::parse(lu)?
        };
        let unit = self.units.get(&guid).ok_or_else(|| not_found(lu))?;
        match &unit.lu {
            Some(open) => {
                open.modify(&properties).map_err(|error| modify_error(error, lu))?;
                if let Some(live) = &self.live {
                    live.lu_changed(guid);
                }
            }
            None => {
                let refuse = |reason: String| ApiError::new(ErrorKind::Invalid, "meta file error").hint(reason);
                let mut identity = unit.identity().map_err(refuse)?;
                properties.apply(&mut identity)?;
                unit::save(&unit.record_file(), &identity)?;
            }
        }
        self.audit(&format!("lu {guid:X} is changed: {properties:?}"));
        Ok(Done { name: Some(text(guid)), ..done() })
    }

    pub(super) fn clear_reservations(&mut self, lu: &str) -> Result<Done, ApiError> {
        let guid = stmf::guid::parse(lu)?;
        let unit = self.units.get(&guid).ok_or_else(|| not_found(lu))?;
        let refuse = |reason: String| ApiError::new(ErrorKind::Internal, "meta file error").hint(reason);
        match &unit.lu {
            Some(open) => open.clear_reservations().map_err(|error| refuse(error.to_string()))?,
            None => {
                let mut identity = unit.identity().map_err(refuse)?;
                identity.reservations.clear();
                unit::save(&unit.record_file(), &identity)?;
            }
        }
        self.audit(&format!("all reservations of lu {guid:X} are cleared"));
        Ok(Done { name: Some(text(guid)), ..done() })
    }

    pub(super) fn delete_lu(&mut self, lu: &str, keep_views: bool) -> Result<Done, ApiError> {
        let guid = stmf::guid::parse(lu)?;
        let views = !self.configuration.stmf.views(guid).is_empty();
        let known = self.units.contains_key(&guid);
        if !known && !views {
            return Err(not_found(lu));
        }
        let mut done = done();
        let stmf = if keep_views || !views { None } else { Some(self.configuration.stmf.remove_views(guid)?) };
        if let (Some(live), Some(unit)) = (&self.live, self.units.get_mut(&guid))
            && unit.lu.take().is_some()
            && let Err(error) = live.unregister_lu(guid)
        {
            done.warnings.push(format!("{guid:X} was taken away before its commands had ended: {error}"));
        }
        let lus = if known { vec![(guid, None)] } else { Vec::new() };
        if let Err(error) = self.commit(Transaction { stmf, lus, ..Transaction::default() }) {
            self.bring_up(guid);
            return Err(error);
        }
        self.units.remove(&guid);
        Ok(done)
    }

    pub(super) fn list_lus(&self) -> Vec<LuInfo> {
        self.lu_names().into_iter().map(|guid| self.lu_info(guid)).collect()
    }

    /// A part of the list.
    pub(super) fn list_some_lus(&self, after: Option<&str>, limit: Option<usize>) -> Result<Vec<LuInfo>, ApiError> {
        let mut guids = self.lu_names();
        if let Some(after) = after {
            let after = stmf::guid::parse(after)?;
            guids.drain(..guids.partition_point(|guid| *guid <= after));
        }
        guids.truncate(limit.unwrap_or(usize::MAX));
        Ok(guids.into_iter().map(|guid| self.lu_info(guid)).collect())
    }

    /// The names of all units that are configured or have view entries, ascending.
    fn lu_names(&self) -> Vec<Guid> {
        let mut guids: Vec<Guid> = self.units.keys().copied().collect();
        guids.extend(self.configuration.stmf.units_with_views().filter(|guid| !self.units.contains_key(guid)));
        guids.sort_unstable();
        guids
    }

    fn lu_info(&self, guid: Guid) -> LuInfo {
        let mut info = LuInfo {
            guid: text(guid),
            state: None,
            view_entries: self.configuration.stmf.views(guid).len(),
            disk: None,
            file: None,
            problem: None,
        };
        let Some(unit) = self.units.get(&guid) else { return info };
        match unit.identity() {
            Ok(identity) if self.live.is_none() || unit.lu.is_some() => {
                let state = self.live.as_ref().and_then(|live| live.lu_state(guid));
                info.state = Some(state.unwrap_or(ObjectState::Offline));
                info.disk = Some(unit.disk(identity));
                info.problem = unit.lu.as_ref().and_then(|open| open.snapshot().failure);
            }
            Ok(_) => info.problem = unit.problem.clone(),
            Err(reason) => info.problem = Some(reason),
        }
        if info.state.is_none() {
            info.file = Some(unit.record.file.display().to_string());
        }
        info
    }

    pub(super) fn set_lu_state(&mut self, lu: &str, online: bool) -> Result<Done, ApiError> {
        let guid = stmf::guid::parse(lu)?;
        let live = Arc::clone(self.live()?);
        let unit = self.units.get(&guid).ok_or_else(|| not_found(lu))?;
        if unit.lu.is_none() {
            // What could not be opened before may be there now; registered, it comes to the state it is asked for.
            self.bring_up(guid);
            if let Some(problem) = self.units.get(&guid).and_then(|unit| unit.problem.clone()) {
                return Err(ApiError::new(ErrorKind::NotFound, format!("{lu}: not found")).hint(problem));
            }
        }
        live.set_lu_online(guid, online).map_err(|error| state_change(error, lu, "Logical Unit", ""))?;
        self.audit(&format!("lu {guid:X} goes {}", if online { "online" } else { "offline" }));
        Ok(done())
    }

    /// Brings every unit up that is not. Their files are opened by several threads: each costs a few system calls that
    /// wait for a disk, and a server may have thousands of units.
    pub(super) fn bring_all_up(&mut self) {
        let closed: Vec<(Guid, &Unit)> =
            self.units.iter().filter(|(_, unit)| unit.lu.is_none()).map(|(guid, unit)| (*guid, unit)).collect();
        let open = |part: &[(Guid, &Unit)]| part.iter().map(|(guid, unit)| (*guid, unit.open())).collect::<Vec<_>>();
        let size = closed.len().div_ceil(START_UP_THREADS).max(MIN_UNITS_OF_A_THREAD);
        let opened = std::thread::scope(|scope| {
            let threads: Vec<_> = closed.chunks(size).map(|part| scope.spawn(move || open(part))).collect();
            // A thread that panicked has said so; its units are tried again.
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect::<Vec<_>>()
        });
        for (guid, opened) in opened {
            self.register(guid, opened);
        }
    }

    /// Opens a unit and registers it; says in the log when that fails for a new reason.
    pub(super) fn bring_up(&mut self, guid: Guid) {
        if let Some(unit) = self.units.get(&guid).filter(|unit| unit.lu.is_none()) {
            self.register(guid, unit.open());
        }
    }

    fn register(&mut self, guid: Guid, opened: Result<Arc<SbdLu>, String>) {
        let (Some(live), Some(unit)) = (self.live.as_ref(), self.units.get_mut(&guid)) else { return };
        let online = self.configuration.stmf.settings().default_lu_state == stmf::config::DefaultState::Online;
        let registered = opened
            .and_then(|open| live.register_lu(open.clone(), online).map_err(|error| error.to_string()).map(|()| open));
        match registered {
            Ok(open) => {
                if unit.problem.take().is_some() {
                    tracing::info!("logical unit {guid:X} is back: {}", unit.record.file.display());
                }
                unit.lu = Some(open);
            }
            Err(reason) => {
                if unit.problem.as_deref() != Some(&reason) {
                    tracing::warn!("logical unit {guid:X} is not registered: {reason}");
                }
                unit.problem = Some(reason);
            }
        }
    }

    /// Makes a unit part of the configuration and brings it up.
    pub(super) fn add_unit(&mut self, record: LuRecord) -> Result<(), ApiError> {
        let guid = record.guid;
        let mut unit = Unit::new(record.clone());
        // What cannot be opened now is refused now, not found out at the next start.
        if self.live.is_some() {
            let open =
                unit.open().map_err(|reason| ApiError::new(ErrorKind::Invalid, "data file error").hint(reason))?;
            unit.lu = Some(open);
        }
        self.commit(Transaction { lus: vec![(guid, Some(record))], ..Transaction::default() })?;
        if let (Some(live), Some(open)) = (&self.live, &unit.lu) {
            let online = self.configuration.stmf.settings().default_lu_state == stmf::config::DefaultState::Online;
            if let Err(error) = live.register_lu(open.clone(), online) {
                unit.problem = Some(error.to_string());
                unit.lu = None;
            }
        }
        self.units.insert(guid, unit);
        Ok(())
    }

    fn registered(&self, guid: Guid) -> Done {
        let info = self.lu_info(guid);
        Done { name: Some(info.guid.clone()), lu: Some(Box::new(info)), ..done() }
    }

    fn check_unused(&self, file: &Path) -> Result<(), ApiError> {
        match self.units.values().find(|unit| unit.record.file == file) {
            Some(unit) => Err(ApiError::new(ErrorKind::Exists, format!("filename {}: in use", file.display()))
                .hint(format!("it is logical unit {:X}", unit.record.guid))),
            None => Ok(()),
        }
    }

    /// A name that no unit here has.
    fn new_guid(&mut self, properties: &CreateProperties) -> Guid {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let host = host();
        loop {
            self.guid_counter = self.guid_counter.checked_add(1).unwrap_or(1);
            // 32 bits of seconds, as the layout has them; they wrap in 2106.
            let guid = properties.guid(host, now as u32, self.guid_counter);
            if properties.guid.is_some() || !self.units.contains_key(&guid) {
                return guid;
            }
        }
    }
}

/// The identity that belongs to a path: of data with its record beside it, or of a record kept elsewhere.
fn find_identity(given: &Path) -> Result<(LuRecord, Identity), ApiError> {
    let beside = RecordFile::beside(given);
    let refuse = |hint: String| ApiError::new(ErrorKind::NotFound, "meta file error").hint(hint);
    match beside.load() {
        Ok(identity) => Ok((LuRecord { guid: identity.guid, file: given.to_owned(), meta: None }, identity)),
        Err(LoadError::Missing { .. }) => {
            let Ok(identity) = RecordFile::new(given).load() else {
                return Err(refuse(format!(
                    "no identity stands in {}; 'create-lu' makes a new one, '-p meta=' ones are imported by their own \
                     path",
                    beside.path().display()
                )));
            };
            let beside_data = given.to_str().and_then(|path| path.strip_suffix(".lu")).map(Into::into);
            match (&identity.data, beside_data) {
                (Some(data), _) => {
                    let meta = Some(given.to_owned());
                    Ok((LuRecord { guid: identity.guid, file: data.clone(), meta }, identity))
                }
                (None, Some(data)) => Ok((LuRecord { guid: identity.guid, file: data, meta: None }, identity)),
                (None, None) => Err(refuse(format!("{} does not say where its data are", given.display()))),
            }
        }
        Err(error) => Err(refuse(error.to_string())),
    }
}

fn not_found(lu: &str) -> ApiError {
    ApiError::new(ErrorKind::NotFound, format!("{lu}: not found")).hint("'stmfadm list-lu' shows the logical units")
}

fn modify_error(error: ModifyError, lu: &str) -> ApiError {
    match error {
        ModifyError::Property(error) => error.into(),
        ModifyError::Offline => ApiError::new(ErrorKind::Conflict, format!("{lu}: resource busy"))
            .hint("the logical unit is offline and its data are closed: stmfadm online-lu"),
        error => ApiError::new(ErrorKind::Internal, "data file error").hint(error.to_string()),
    }
}

fn guid_in_use(guid: Guid) -> ApiError {
    ApiError::new(ErrorKind::Exists, "guid in use").hint(format!(
        "logical unit {guid:X} is registered; a copy of it gets a name of its own with 'import-lu --new-guid'"
    ))
}

fn has_identity(file: &Path, place: &RecordFile) -> ApiError {
    let whose = match place.load() {
        Ok(identity) => format!("is logical unit {:X} already", identity.guid),
        Err(_) => "has the identity of a logical unit already".into(),
    };
    ApiError::new(ErrorKind::Exists, format!("{} {whose}", file.display())).hint(format!(
        "'import-lu {}' takes it over as it is; create-lu --force gives it a new identity and forgets the old one",
        file.display()
    ))
}

/// What tells this host apart in generated names: the address of its first network interface, else its machine id.
fn host() -> GuidHost {
    let address = |name: &Path| -> Option<[u8; 6]> {
        let text = std::fs::read_to_string(name.join("address")).ok()?;
        let mut bytes = [0; 6];
        let mut parts = text.trim().split(':');
        for byte in &mut bytes {
            *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
        }
        (bytes != [0; 6] && parts.next().is_none()).then_some(bytes)
    };
    let interfaces = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut paths: Vec<_> = interfaces.map(|entry| entry.path()).collect();
    paths.sort();
    if let Some(mac) = paths.iter().find_map(|path| address(path)) {
        return GuidHost::Mac(mac);
    }
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    GuidHost::HostId(id.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0x6c75_6e65))
}
