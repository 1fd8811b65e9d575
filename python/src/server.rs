//! A running server: targets, units, who may see them, what goes wrong on purpose, what came.

use iscsit::config::{AuthMethod, ConfigError, InitiatorPatch, Patch, TargetPatch};
use lu_sbd::meta::NoRecord;
use lu_sbd::properties::CreateProperties;
use lu_sbd::{Limits, SbdLu};
use lunette_server::ChangeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use scsi_core::{Guid, GuidHost, Lun, Status};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use stmf::config::{GroupKind, NewView};
use stmf::intercept::{Fault, InterceptedLu, Interceptor, Rule, RuleId, Trace};
use stmf::provider::Disturbance;
use stmf::{NexusId, Termination};

use crate::errors;
use crate::scsi::{Sense, commands_named};
use crate::store::{Kind, Store, is_inside_a_method};
use crate::trace::Command;

/// What a LUN field names, by both common addressing methods.
pub(crate) fn lun_number(lun: Lun) -> Option<u32> {
    let bytes = lun.0;
    let rest_is_zero = bytes[2..].iter().all(|byte| *byte == 0);
    match bytes[0] >> 6 {
        0 if rest_is_zero && bytes[0] == 0 => Some(bytes[1].into()),
        1 if rest_is_zero => Some(u32::from(bytes[0] & 0x3f) << 8 | u32::from(bytes[1])),
        _ => None,
    }
}

/// A server and its interceptor.
#[pyclass(frozen, module = "lunette._native")]
pub(crate) struct Server {
    server: Mutex<Option<Arc<lunette_server::Server>>>,
    interceptor: Arc<Interceptor>,
    target: String,
    counter: AtomicU16,
    /// The process that started it: a fork of it has the object, but not the threads behind it.
    process: u32,
}

/// A session: id, initiator, target, addresses, number of LUNs.
type SessionRow = (u64, String, String, Vec<String>, usize);

/// A unit of a server.
#[pyclass(frozen, module = "lunette._native")]
pub(crate) struct Unit {
    lu: Arc<SbdLu>,
    guid: Guid,
    #[pyo3(get)]
    store: Py<Store>,
}

#[pymethods]
impl Unit {
    /// Its name: 32 hexadecimal digits.
    #[getter]
    fn guid(&self) -> String {
        format!("{:X}", self.guid)
    }

    #[getter]
    fn size(&self) -> u64 {
        self.lu.identity().size
    }

    #[getter]
    fn block_size(&self) -> u32 {
        self.lu.identity().block_size
    }

    fn __repr__(&self) -> String {
        let identity = self.lu.identity();
        format!("<Unit {:X}: {} bytes, blocks of {}>", self.guid, identity.size, identity.block_size)
    }

    /// Counters since it was made, and what stands now.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let snapshot = self.lu.snapshot();
        let counters = snapshot.statistics;
        let dict = PyDict::new(py);
        dict.set_item("commands", counters.commands)?;
        dict.set_item("reads", counters.reads)?;
        dict.set_item("read_bytes", counters.read_bytes)?;
        dict.set_item("writes", counters.writes)?;
        dict.set_item("written_bytes", counters.written_bytes)?;
        dict.set_item("unmaps", counters.unmaps)?;
        dict.set_item("flushes", counters.flushes)?;
        dict.set_item("errors", counters.errors)?;
        dict.set_item("aborted", counters.aborted)?;
        dict.set_item("tasks", snapshot.tasks)?;
        dict.set_item("sessions", snapshot.nexuses)?;
        dict.set_item("registrations", snapshot.registrations)?;
        dict.set_item("reserved", snapshot.reserved)?;
        dict.set_item("failure", snapshot.failure)?;
        Ok(dict)
    }
}

impl Server {
    fn server(&self) -> PyResult<Arc<lunette_server::Server>> {
        if self.process != std::process::id() {
            return Err(errors::forked("target"));
        }
        let server = self.server.lock().map_err(|_| errors::poisoned())?;
        server.clone().ok_or_else(|| errors::closed("target"))
    }

    fn take(&self) -> Option<Arc<lunette_server::Server>> {
        self.server.lock().ok()?.take()
    }

    fn change_iscsi(
        &self,
        py: Python<'_>,
        plan: impl FnOnce(&iscsit::config::Config) -> Result<Vec<iscsit::config::Change>, ConfigError> + Send,
    ) -> PyResult<()> {
        let server = self.server()?;
        py.detach(|| server.change_iscsi(plan)).map_err(|error| match error {
            ChangeError::Refused(error) => {
                let hint = error.hint();
                errors::config(error, hint)
            }
            error => errors::config(error, None),
        })
    }

    fn change_stmf(
        &self,
        py: Python<'_>,
        plan: impl FnOnce(&stmf::config::Config) -> Result<stmf::config::Change, stmf::ConfigError> + Send,
    ) -> PyResult<()> {
        let server = self.server()?;
        let changed = py.detach(|| {
            let stmf = server.stmf();
            stmf.with_config(plan).map(|change| stmf.commit(change))
        });
        changed.map_err(|error| errors::config(&error, Some(error.hint())))
    }
}

impl Drop for Server {
    /// Threads of the server may wait for the interpreter: it is let go of meanwhile.
    fn drop(&mut self) {
        let Some(server) = self.take() else { return };
        if self.process != std::process::id() {
            std::mem::forget(server);
        } else if is_inside_a_method() {
            // The garbage collector came by here, on a thread that the server waits for.
            std::thread::spawn(move || drop(server));
        } else {
            let mut server = Some(server);
            let _ = Python::try_attach(|py| py.detach(|| drop(server.take())));
        }
    }
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (*, target=None, threads=None, trace=4096))]
    fn new(py: Python<'_>, target: Option<String>, threads: Option<usize>, trace: usize) -> PyResult<Self> {
        let began = Instant::now();
        let mut builder = lunette_server::Server::builder().no_portal();
        if let Some(target) = target {
            builder = builder.target(target);
        }
        if let Some(threads) = threads {
            builder = builder.threads(threads.max(1));
        }
        let server = py.detach(|| builder.start()).map_err(errors::start)?;
        Ok(Self {
            target: server.target().unwrap_or_default().to_owned(),
            server: Mutex::new(Some(Arc::new(server))),
            interceptor: Arc::new(Interceptor::new(Trace::new(trace, move || began.elapsed()))),
            counter: AtomicU16::new(0),
            process: std::process::id(),
        })
    }

    /// The first target's name.
    #[getter]
    fn target(&self) -> &str {
        &self.target
    }

    /// Listens on one more address; gives it as it was bound.
    fn listen(&self, py: Python<'_>, portal: &str) -> PyResult<String> {
        let address = portal.parse().map_err(|_| {
            let hint = "write 127.0.0.1:0 or [::1]:3260; port 0 takes a free one";
            errors::config(format!("'{portal}' is no address with a port"), Some(hint.into()))
        })?;
        let server = self.server()?;
        let bound = py.detach(|| server.listen(address)).map_err(errors::listen)?;
        Ok(bound.to_string())
    }

    /// The addresses it listens on.
    fn portals(&self) -> PyResult<Vec<String>> {
        Ok(self.server()?.portals().iter().map(ToString::to_string).collect())
    }

    /// Adds a unit; everybody sees it at `lun`, or at the lowest that is free, unless it is hidden.
    #[pyo3(signature = (
        store, *, lun=None, hidden=false, guid=None, alias=None, vendor=None, product=None, serial=None,
        block_size=None, read_only=false, write_cache=true
    ))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword of one Python call")]
    fn add_unit(
        &self,
        py: Python<'_>,
        store: Py<Store>,
        lun: Option<u16>,
        hidden: bool,
        guid: Option<&str>,
        alias: Option<&str>,
        vendor: Option<&str>,
        product: Option<&str>,
        serial: Option<&str>,
        block_size: Option<u32>,
        read_only: bool,
        write_cache: bool,
    ) -> PyResult<Unit> {
        let server = self.server()?;
        let mut properties = CreateProperties::default();
        let named = [("guid", guid), ("alias", alias), ("vid", vendor), ("pid", product), ("serial", serial)];
        let size = block_size.map(|size| size.to_string());
        for (name, value) in named.into_iter().chain([("blk", size.as_deref())]) {
            if let Some(value) = value {
                let set = properties.set(name, value);
                set.map_err(|error| errors::config(&error, Some(error.hint().to_owned())))?;
            }
        }
        properties.write_protect = Some(read_only);
        properties.write_cache_disabled = Some(!write_cache);
        let kind = store.get().kind.clone();
        let (name, capacity, store_is_read_only) = match &kind {
            Kind::Blocking(store) => (store.name(), store.capacity(), store.capabilities().read_only),
            Kind::Asynchronous(store) => ("async".into(), store.capacity(), store.capabilities().read_only),
        };
        properties.write_protect = Some(read_only || store_is_read_only);
        let guid = properties.guid(self.host()?, now(), self.counter.fetch_add(1, Ordering::Relaxed));
        let identity = properties.identity(guid, Path::new(&name), capacity);
        let identity = identity.map_err(|error| errors::config(&error, Some(error.hint().to_owned())))?;
        let records = Arc::new(NoRecord);
        let lu = Arc::new(match kind {
            Kind::Blocking(store) => SbdLu::new(identity, store, records, Limits::default()),
            Kind::Asynchronous(store) => SbdLu::new_async(identity, store, records, Limits::default()),
        });
        let intercepted = InterceptedLu::new(lu.clone(), Arc::clone(&self.interceptor));
        let intercepted = Arc::new(intercepted.map_err(|error| errors::config(error, None))?);
        let added = py.detach(|| match hidden {
            true => server.add_hidden_unit(intercepted),
            false => server.add_unit(intercepted, lun),
        });
        added.map_err(errors::disk)?;
        Ok(Unit { lu, guid, store })
    }

    /// Removes a unit. `False`: it was not there.
    fn remove_unit(&self, py: Python<'_>, unit: &Unit) -> PyResult<bool> {
        let (server, guid) = (self.server()?, unit.guid);
        if is_inside_a_method() {
            return Err(errors::deadlock("a unit is not removed"));
        }
        Ok(py.detach(|| server.remove_disk(guid)))
    }

    /// Adds a target; gives its name.
    #[pyo3(signature = (name=None))]
    fn add_target(&self, py: Python<'_>, name: Option<String>) -> PyResult<String> {
        let mut made = String::new();
        let patch = TargetPatch { name, ..TargetPatch::default() };
        let random = random()?;
        self.change_iscsi(py, |config| {
            let (name, change) = config.plan_create_target(&patch, random)?;
            made = name.to_string();
            Ok(vec![change])
        })?;
        Ok(made)
    }

    /// Sets how initiators prove themselves at a target (`None`: not at all), and what the target proves itself with.
    #[pyo3(signature = (target, *, chap=None, user=None, secret=None))]
    fn set_target(
        &self,
        py: Python<'_>,
        target: &str,
        chap: Option<bool>,
        user: Option<String>,
        secret: Option<Vec<u8>>,
    ) -> PyResult<()> {
        let auth = match chap {
            None => Patch::Keep,
            Some(true) => Patch::Set(AuthMethod::Chap),
            Some(false) => Patch::Set(AuthMethod::None),
        };
        let patch = TargetPatch {
            auth,
            chap_user: user.map_or(Patch::Keep, Patch::Set),
            chap_secret: secret.map_or(Patch::Keep, Patch::Set),
            ..TargetPatch::default()
        };
        self.change_iscsi(py, |config| Ok(config.plan_modify_target(target, &patch, true)?.1))
    }

    /// Names an initiator, with what it proves itself by.
    #[pyo3(signature = (name, *, user=None, secret=None))]
    fn add_initiator(&self, py: Python<'_>, name: &str, user: Option<String>, secret: Option<Vec<u8>>) -> PyResult<()> {
        let patch = InitiatorPatch {
            chap_user: user.map_or(Patch::Keep, Patch::Set),
            chap_secret: secret.map_or(Patch::Keep, Patch::Set),
        };
        self.change_iscsi(py, |config| Ok(vec![config.plan_create_initiator(name, &patch)?]))
    }

    /// Makes a host group of initiators, or a target group. After an error there is none.
    fn add_group(&self, py: Python<'_>, kind: &str, name: &str, members: Vec<String>) -> PyResult<()> {
        let kind = group_kind(kind)?;
        self.change_stmf(py, |config| config.create_group(kind, name))?;
        for member in &members {
            if let Err(error) = self.change_stmf(py, |config| config.add_member(kind, name, member)) {
                self.change_stmf(py, |config| config.delete_group(kind, name))?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Puts one more member into a group.
    fn add_member(&self, py: Python<'_>, kind: &str, group: &str, member: &str) -> PyResult<()> {
        let kind = group_kind(kind)?;
        self.change_stmf(py, |config| config.add_member(kind, group, member))
    }

    /// Lets a unit be seen; gives the view entry's index and its LUN.
    #[pyo3(signature = (unit, *, host_group=None, target_group=None, lun=None))]
    fn add_view(
        &self,
        py: Python<'_>,
        unit: &Unit,
        host_group: Option<&str>,
        target_group: Option<&str>,
        lun: Option<u64>,
    ) -> PyResult<(u32, u16)> {
        let view = NewView { lu: unit.guid, host_group, target_group, lun };
        let mut entry = (0, 0);
        self.change_stmf(py, |config| {
            let (change, made) = config.add_view(&view)?;
            entry = (made.index, made.lun);
            Ok(change)
        })?;
        Ok(entry)
    }

    /// Takes a view entry back.
    fn remove_view(&self, py: Python<'_>, unit: &Unit, index: u32) -> PyResult<()> {
        let guid = unit.guid;
        self.change_stmf(py, |config| config.remove_view(guid, index))
    }

    /// The sessions, oldest first.
    fn sessions(&self, py: Python<'_>) -> PyResult<Vec<SessionRow>> {
        let server = self.server()?;
        let sessions = py.detach(|| server.sessions());
        let rows = sessions.into_iter().map(|session| {
            let addresses = session.addresses.iter().map(ToString::to_string).collect();
            (session.id, session.initiator, session.target, addresses, session.luns)
        });
        Ok(rows.collect())
    }

    /// Ends a session, at once or after asking the initiator to log out.
    fn end_session(&self, id: u64, at_once: bool) -> PyResult<()> {
        let how = if at_once { Termination::Kill } else { Termination::Logout };
        let ended = self.server()?.stmf().end_session(NexusId(id), how);
        ended.map_err(|error| errors::config(error, None))
    }

    /// Puts a rule in force; gives its number.
    #[pyo3(signature = (
        *, op=None, nth=1, count=None, lun=None, unit=None, initiator=None, lba=None, delay=None, sense=None,
        status=None, short_read=None, hang=false, disturb=None, after=false
    ))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword of one Python call")]
    fn inject(
        &self,
        op: Option<&str>,
        nth: u64,
        count: Option<u64>,
        lun: Option<u16>,
        unit: Option<&Unit>,
        initiator: Option<String>,
        lba: Option<(u64, u64)>,
        delay: Option<f64>,
        sense: Option<&Sense>,
        status: Option<u8>,
        short_read: Option<u32>,
        hang: bool,
        disturb: Option<&str>,
        after: bool,
    ) -> PyResult<u64> {
        let mut faults = Vec::new();
        faults.extend(sense.map(|sense| Fault::sense(sense.data())));
        faults.extend(status.map(|status| Fault::Status(Status(status))));
        faults.extend(short_read.map(Fault::ShortRead));
        faults.extend(hang.then_some(Fault::Hang));
        if let Some(disturb) = disturb {
            faults.push(match disturb {
                "drop" if after => Fault::After(Disturbance::DropConnection),
                "drop" => Fault::Before(Disturbance::DropConnection),
                "kill" if after => Fault::After(Disturbance::EndSession),
                "kill" => Fault::Before(Disturbance::EndSession),
                "header" => Fault::After(Disturbance::SpoilHeaderDigest),
                "data" => Fault::After(Disturbance::SpoilDataDigest),
                other => return Err(errors::config(format!("no disturbance '{other}'"), None)),
            });
        }
        if faults.len() > 1 {
            return Err(errors::config("a command can meet one fault only, beside a delay", None));
        }
        let fault = match (delay, faults.pop()) {
            (None, None) => {
                let hint = "give sense=, status=, delay=, short_read=, hang=, drop_connection=, kill_session= or corrupt_digest=";
                return Err(errors::config("no fault is given", Some(hint.into())));
            }
            (None, Some(fault)) => fault,
            (Some(seconds), then) => {
                let time = Duration::try_from_secs_f64(seconds).map_err(|error| errors::config(error, None))?;
                Fault::Delay(time, then.map(Box::new))
            }
        };
        let lun = match lun {
            None => None,
            Some(number) => Some(Lun::new(number).ok_or_else(|| errors::config(format!("LUN {number}"), None))?),
        };
        let rule = Rule {
            commands: op.map(commands_named).transpose()?.unwrap_or_default(),
            lun,
            unit: unit.map(|unit| unit.guid),
            initiator: initiator.map(|name| name.to_lowercase()),
            blocks: lba.map(|(start, end)| start..end),
            nth,
            count,
            ..Rule::new(fault)
        };
        Ok(self.interceptor.add(rule).0)
    }

    /// Takes a rule out of force. `False`: it was not there.
    fn remove_rule(&self, id: u64) -> bool {
        self.interceptor.remove(RuleId(id))
    }

    /// Takes all rules out of force.
    fn clear_rules(&self) {
        self.interceptor.clear();
    }

    /// How many commands met a rule.
    fn hits(&self, id: u64) -> Option<u64> {
        self.interceptor.hits(RuleId(id))
    }

    /// The commands whose number is `from` or higher.
    #[pyo3(signature = (since=0))]
    fn trace(&self, since: u64) -> Vec<Command> {
        self.interceptor.trace().since(since).into_iter().map(Command::new).collect()
    }

    /// The number that the next command gets.
    fn trace_next(&self) -> u64 {
        self.interceptor.trace().next_serial()
    }

    /// Forgets the commands that came.
    fn trace_clear(&self) {
        self.interceptor.trace().clear();
    }

    /// Waits for a command, or for its end.
    fn trace_wait(
        &self,
        py: Python<'_>,
        since: u64,
        seconds: f64,
        op: Option<&str>,
        done: bool,
    ) -> PyResult<Option<Command>> {
        let commands = op.map(commands_named).transpose()?.unwrap_or_default();
        let names: Vec<String> =
            commands.iter().map(|(opcode, action)| crate::scsi::name_of(&[*opcode, action.unwrap_or(0)])).collect();
        let deadline = Instant::now() + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
        loop {
            // In slices, so that a signal to the interpreter is heard.
            let left = deadline.saturating_duration_since(Instant::now());
            let slice = left.min(Duration::from_millis(100));
            let found = py.detach(|| {
                self.interceptor.trace().wait(since, slice, |entry| {
                    (names.is_empty() || names.contains(&crate::scsi::name_of(&entry.cdb)))
                        && (!done || entry.ended.is_some())
                })
            });
            py.check_signals()?;
            if found.is_some() || left.is_zero() {
                return Ok(found.map(Command::new));
            }
        }
    }

    /// The data path: its system interface, and what each of its threads has done.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let server = self.server()?;
        let statistics = py.detach(|| server.statistics());
        let dict = PyDict::new(py);
        dict.set_item("interface", statistics.interface)?;
        dict.set_item("half_open", statistics.half_open)?;
        dict.set_item("blocking_threads", statistics.blocking_threads)?;
        dict.set_item("threads", statistics.threads.len())?;
        dict.set_item("connections", statistics.threads.iter().map(|thread| thread.connections).sum::<u64>())?;
        dict.set_item("sessions", server.stmf().sessions().len())?;
        Ok(dict)
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> PyResult<bool> {
        Ok(self.server.lock().map_err(|_| errors::poisoned())?.is_none())
    }

    /// Stops: initiators are asked to log out and have `grace` seconds for it.
    fn close(&self, py: Python<'_>, grace: f64) -> PyResult<()> {
        let grace = Duration::try_from_secs_f64(grace).map_err(|error| errors::config(error, None))?;
        if is_inside_a_method() {
            return Err(errors::deadlock("a target is not closed"));
        }
        let Some(server) = self.take() else { return Ok(()) };
        if self.process != std::process::id() {
            std::mem::forget(server);
            return Ok(());
        }
        py.detach(|| match Arc::try_unwrap(server) {
            Ok(server) => server.stop_within(grace),
            // Another thread is in a call; the last of them stops it.
            Err(shared) => drop(shared),
        });
        Ok(())
    }
}

impl Server {
    /// What generated names are made of beside the time: random, since test machines run many at once.
    fn host(&self) -> PyResult<GuidHost> {
        let random = random()?;
        let mut host = [0; 6];
        host.copy_from_slice(&random[..6]);
        Ok(GuidHost::Mac(host))
    }
}

fn random() -> PyResult<[u8; 16]> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| errors::system(error.raw_os_error(), error))?;
    Ok(random)
}

fn now() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |time| time.as_secs() as u32)
}

fn group_kind(kind: &str) -> PyResult<GroupKind> {
    match kind {
        "host" => Ok(GroupKind::Host),
        "target" => Ok(GroupKind::Target),
        other => Err(errors::config(format!("'{other}' is neither host nor target"), None)),
    }
}
