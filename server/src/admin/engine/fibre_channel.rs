//! Fibre Channel ports: made, forgotten, listed, their links reset.

use std::collections::BTreeMap;

use stmf::provider::hba::Wwn;

use super::{Engine, done};
use crate::admin::api::{ApiError, Done, ErrorKind, PortInfo};
use crate::admin::fibre_channel::{FcPortInfo, FcQuestions};
use crate::admin::live::{LiveError, ObjectState, SessionInfo};
use crate::fc::{FcDrivers, FcMode, FcPort};
use crate::model::Transaction;

/// Names that are made up: an IEEE extended name (type 2) of the company that logical units are named after.
const MADE_UP_PORT: u64 = 0x2100_0014_4f00_0000;
const MADE_UP_NODE: u64 = 0x2000_0014_4f00_0000;

impl Engine {
    pub(super) fn create_fc_port(
        &mut self,
        driver: String,
        mode: FcMode,
        names: (Option<&str>, Option<&str>),
        options: BTreeMap<String, String>,
    ) -> Result<Done, ApiError> {
        let (made_up_port, made_up_node) = match of_interface(&driver, &options)? {
            Some(names) => names,
            None => self.make_up_names()?,
        };
        let port_name = names.0.map_or(Ok(made_up_port), parse)?;
        // A port that was named has a node beside it, as adapters have.
        let beside = if names.0.is_some() { Wwn(port_name.0 & !(0x0f << 56)) } else { made_up_node };
        let node_name = names.1.map_or(Ok(beside), parse)?;
        let port = FcPort { port_name, node_name, mode, driver, options };
        self.check_fc_port(&port)?;
        if self.configuration.fc_ports.contains_key(&port_name) {
            return Err(ApiError::new(ErrorKind::Exists, format!("{port_name}: already exists"))
                .hint("'lunette fc list' shows the ports"));
        }
        self.commit(Transaction { fc_ports: vec![(port_name, Some(port))], ..Transaction::default() })?;
        self.number_ports();
        let listed = self.list_fc_ports(FcQuestions::default());
        let problem = listed.into_iter().find(|port| port.port_name == port_name.to_string());
        let kept = "the port is kept: it is tried again every ten seconds, and when the server starts";
        let warnings = match problem.and_then(|port| port.problem) {
            Some(problem) => vec![problem, kept.into()],
            None => Vec::new(),
        };
        Ok(Done { name: Some(port_name.to_string()), warnings, ..done() })
    }

    pub(super) fn delete_fc_port(&mut self, name: &str) -> Result<Done, ApiError> {
        let name = self.find_fc_port(name)?;
        self.commit(Transaction { fc_ports: vec![(name, None)], ..Transaction::default() })?;
        self.number_ports();
        Ok(done())
    }

    pub(super) fn list_fc_ports(&self, questions: FcQuestions) -> Vec<FcPortInfo> {
        let mut live: BTreeMap<String, FcPortInfo> = self
            .live
            .iter()
            .flat_map(|live| live.fc_ports(questions))
            .map(|port| (port.port_name.clone(), port))
            .collect();
        let info = |port: &FcPort| {
            let name = port.port_name.to_string();
            let seen = live.remove(&name).unwrap_or_default();
            FcPortInfo {
                port_name: name,
                node_name: port.node_name.to_string(),
                mode: port.mode,
                driver: port.driver.clone(),
                options: port.options.clone(),
                ..seen
            }
        };
        self.configuration.fc_ports.values().map(info).collect()
    }

    pub(super) fn reset_fc_link(&self, name: &str) -> Result<Done, ApiError> {
        let name = self.find_fc_port(name)?;
        self.live()?.reset_fc_link(name).map_err(|error| refusal(name, error))?;
        self.audit(&format!("the link of Fibre Channel port {name} is initialised anew"));
        Ok(done())
    }

    pub(super) fn set_fc_link(&self, name: &str, plugged: bool) -> Result<Done, ApiError> {
        let name = self.find_fc_port(name)?;
        self.live()?.set_fc_link(name, plugged).map_err(|error| refusal(name, error))?;
        let what = if plugged { "plugged in" } else { "unplugged" };
        self.audit(&format!("the cable of Fibre Channel port {name} is {what}"));
        Ok(done())
    }

    /// The target ports of Fibre Channel with the numbers that they were given.
    pub(super) fn list_fc_targets(&self, sessions: &[SessionInfo]) -> Vec<(Option<u16>, PortInfo)> {
        let info = |port: &FcPort| {
            let name = port.device_name();
            let seen = self.live.as_ref().and_then(|live| live.fc_target(&name));
            let (provider, alias) = seen.unwrap_or_else(|| (port.driver.clone(), None));
            let number = self.configuration.ports.get(&name).copied();
            let info = PortInfo {
                state: self.live.as_ref().and_then(|live| live.target_state(&name)).unwrap_or(ObjectState::Offline),
                provider,
                alias,
                protocol: "Fibre Channel".into(),
                sessions: sessions.iter().filter(|session| session.target == name).cloned().collect(),
                name,
            };
            (number, info)
        };
        self.configuration.fc_targets().map(info).collect()
    }

    /// Whether there is a Fibre Channel target of that folded name.
    pub(super) fn is_fc_target(&self, folded: &str) -> bool {
        self.configuration.fc_targets().any(|port| port.device_name() == folded)
    }

    /// What is wrong with adapters, a line for each.
    pub(super) fn fc_troubles(&self) -> Vec<String> {
        let ports = self.list_fc_ports(FcQuestions::default()).into_iter();
        ports.filter_map(|port| Some(format!("Fibre Channel port {}: {}", port.port_name, port.problem?))).collect()
    }

    pub(super) fn check_fc_port(&self, port: &FcPort) -> Result<(), ApiError> {
        let refused = |reason: String| {
            ApiError::new(ErrorKind::Invalid, format!("{}: {reason}", port.port_name))
                .hint("'lunette fc create-port --help' lists the options")
        };
        if port.port_name.0 == 0 || port.node_name.0 == 0 {
            return Err(refused("a world wide name is not all zeros".into()));
        }
        let checked = match &self.live {
            Some(live) => live.check_fc_port(port),
            // The drivers of a program are only known to it.
            None => FcDrivers::default().check(port),
        };
        checked.map_err(refused)
    }

    fn find_fc_port(&self, text: &str) -> Result<Wwn, ApiError> {
        let name = parse(text)?;
        if self.configuration.fc_ports.contains_key(&name) {
            return Ok(name);
        }
        Err(ApiError::new(ErrorKind::NotFound, format!("{text}: not found")).hint("'lunette fc list' shows the ports"))
    }

    /// A pair of names that no port has.
    fn make_up_names(&self) -> Result<(Wwn, Wwn), ApiError> {
        loop {
            let mut random = [0; 4];
            getrandom::fill(&mut random)
                .map_err(|error| ApiError::new(ErrorKind::Internal, format!("no random numbers: {error}")))?;
            let tail = u64::from(u32::from_be_bytes(random) & 0xff_ffff);
            let port = Wwn(MADE_UP_PORT | tail);
            if !self.configuration.fc_ports.contains_key(&port) {
                return Ok((port, Wwn(MADE_UP_NODE | tail)));
            }
        }
    }
}

/// The names that go with what the port is on, where there is such a thing.
fn of_interface(driver: &str, options: &BTreeMap<String, String>) -> Result<Option<(Wwn, Wwn)>, ApiError> {
    #[cfg(feature = "fcoe")]
    if let (crate::fc::fcoe::DRIVER, Some(interface)) = (driver, options.get("interface")) {
        let names = crate::fc::fcoe::names(interface);
        return names.map(Some).map_err(|reason| ApiError::new(ErrorKind::Invalid, reason));
    }
    let _ = (driver, options);
    Ok(None)
}

fn parse(text: &str) -> Result<Wwn, ApiError> {
    Wwn::parse(text).ok_or_else(|| {
        ApiError::new(ErrorKind::Invalid, format!("{text}: invalid WWN"))
            .hint("a world wide name is 16 hexadecimal digits, as in 210000e08b100163")
    })
}

fn refusal(name: Wwn, error: LiveError) -> ApiError {
    let kind = match error {
        LiveError::NotFound => ErrorKind::NotFound,
        LiveError::TimedOut => ErrorKind::TimedOut,
        _ => ErrorKind::Unavailable,
    };
    ApiError::new(kind, format!("{name}: {error}"))
}
