//! Live objects for the management plane to act on, without a data path.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use iscsit::config::Change;
use lunette_server::admin::{Live, LiveError, ObjectState, SessionInfo};
use lunette_server::model::{Configuration, Transaction};
use stmf::Guid;
use stmf::provider::LogicalUnit;

/// Units, targets and sessions as the engine has told of them.
#[derive(Default)]
pub(crate) struct Lab {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    lus: BTreeMap<Guid, (Arc<dyn LogicalUnit>, bool)>,
    targets: BTreeMap<String, bool>,
    sessions: Vec<SessionInfo>,
    /// State changes never come to an end.
    stuck: bool,
}

impl Lab {
    /// What a server does before it joins the engine.
    pub(crate) fn load(&self, configuration: &Configuration) {
        let mut inner = self.inner.lock().unwrap();
        inner.targets = configuration.iscsi.targets().map(|target| (target.name.to_string(), true)).collect();
    }

    pub(crate) fn log_in(&self, initiator: &str, alias: Option<&str>, target: &str) {
        let mut inner = self.inner.lock().unwrap();
        let id = inner.sessions.len() as u64 + 1;
        inner.sessions.push(SessionInfo {
            id,
            initiator: initiator.into(),
            initiator_alias: alias.map(str::to_owned),
            target: target.into(),
            tag: 1,
            addresses: vec!["192.0.2.7:50000".parse().unwrap()],
            // Fri Dec 19 01:47:07 2008
            since: UNIX_EPOCH + Duration::from_secs(1_229_651_227),
            luns: 1,
        });
        assert!(inner.sessions.iter().all(|session| session.since < SystemTime::now()));
    }

    pub(crate) fn set_stuck(&self, stuck: bool) {
        self.inner.lock().unwrap().stuck = stuck;
    }
}

fn state(online: bool) -> ObjectState {
    if online { ObjectState::Online } else { ObjectState::Offline }
}

impl Live for Lab {
    fn lu_changed(&self, guid: Guid) {
        assert!(self.inner.lock().unwrap().lus.contains_key(&guid), "a unit that is online");
    }

    fn apply(&self, _configuration: &Configuration, transaction: &Transaction) {
        let mut inner = self.inner.lock().unwrap();
        for change in &transaction.iscsi {
            match change {
                Change::PutTarget(target) => {
                    inner.targets.entry(target.name.to_string()).or_insert(true);
                }
                Change::RemoveTarget(name) => {
                    inner.targets.remove(name.as_str());
                    inner.sessions.retain(|session| session.target != name.as_str());
                }
                _ => {}
            }
        }
    }

    fn register_lu(&self, lu: Arc<dyn LogicalUnit>, online: bool) -> Result<(), LiveError> {
        let guid = Guid::from_bytes(lu.guid()).unwrap();
        let before = self.inner.lock().unwrap().lus.insert(guid, (lu, online));
        if before.is_some() { Err(LiveError::Exists) } else { Ok(()) }
    }

    fn unregister_lu(&self, guid: Guid) -> Result<(), LiveError> {
        self.inner.lock().unwrap().lus.remove(&guid);
        Ok(())
    }

    fn lu_state(&self, guid: Guid) -> Option<ObjectState> {
        self.inner.lock().unwrap().lus.get(&guid).map(|(_, online)| state(*online))
    }

    fn set_lu_online(&self, guid: Guid, online: bool) -> Result<(), LiveError> {
        let mut inner = self.inner.lock().unwrap();
        if inner.stuck {
            return Err(LiveError::TimedOut);
        }
        let (_, slot) = inner.lus.get_mut(&guid).ok_or(LiveError::NotFound)?;
        *slot = online;
        Ok(())
    }

    fn target_state(&self, name: &str) -> Option<ObjectState> {
        self.inner.lock().unwrap().targets.get(name).map(|online| state(*online))
    }

    fn set_target_online(&self, name: &str, online: bool) -> Result<(), LiveError> {
        let mut inner = self.inner.lock().unwrap();
        if inner.stuck {
            return Err(LiveError::TimedOut);
        }
        *inner.targets.get_mut(name).ok_or(LiveError::NotFound)? = online;
        if !online {
            inner.sessions.retain(|session| session.target != name);
        }
        Ok(())
    }

    fn sessions(&self) -> Vec<SessionInfo> {
        self.inner.lock().unwrap().sessions.clone()
    }

    fn end_session(&self, id: u64) -> Result<(), LiveError> {
        let mut inner = self.inner.lock().unwrap();
        let before = inner.sessions.len();
        inner.sessions.retain(|session| session.id != id);
        if inner.sessions.len() < before { Ok(()) } else { Err(LiveError::NotFound) }
    }
}
