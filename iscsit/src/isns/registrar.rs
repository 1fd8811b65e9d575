//! What is registered with one server, and what is to be done about it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::message::{Message, REGISTRATION_PERIOD};

/// How long to wait after a first failure; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long to wait at most.
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// A registration is repeated after a third of its life: two repetitions may get lost.
const REPEAT: Duration = Duration::from_secs(REGISTRATION_PERIOD.as_secs() / 3);

/// A target as it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its iSCSI name.
    pub name: String,
    /// Its alias.
    pub alias: Option<String>,
    /// Where it is offered, with the portal group tag, in ascending order of tags.
    pub portals: Vec<(SocketAddr, u16)>,
}

/// Everything of this server that is to be found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    /// The Entity Identifier: the name of this host.
    pub entity: String,
    /// Where Entity Status Inquiries are answered by TCP; `None`: nowhere.
    pub esi_port: Option<u16>,
    /// The targets that are online. None: nothing is registered.
    pub nodes: Vec<Node>,
}

/// What the owner is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect to the server, send these bytes, and hand back what comes, or that nothing came.
    Exchange(Vec<u8>),
}

/// How the server and we stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was to be registered yet.
    Idle,
    /// All is registered.
    Registered,
    /// All is deregistered.
    Deregistered,
    /// It is tried again: the server does not answer, or refuses.
    Failing(String),
}

/// The registration with one server.
///
/// ```text
///   set_registration / handle_answer / handle_failure / handle_timeout
///       then poll_action until None; then sleep until poll_timeout
/// ```
///
/// One exchange at a time. A change meanwhile makes another one.
#[derive(Debug)]
pub struct Registrar {
    wanted: Registration,
    /// The node and entity that were registered last, by which they are deregistered.
    registered: Option<(String, String)>,
    /// The question that is out, and whether it registers.
    question: Option<(Message, bool)>,
    /// `wanted` has changed since the last question, or that failed.
    is_stale: bool,
    due: Option<Instant>,
    pause: Duration,
    transaction: u16,
    standing: Standing,
}

impl Default for Registrar {
    fn default() -> Self {
        Self {
            wanted: Registration::default(),
            registered: None,
            question: None,
            is_stale: false,
            due: None,
            pause: FIRST_PAUSE,
            transaction: 0,
            standing: Standing::Idle,
        }
    }
}

impl Registrar {
    /// Says what is to be registered from now on.
    pub fn set_registration(&mut self, now: Instant, registration: Registration) {
        if registration != self.wanted {
            self.wanted = registration;
            self.is_stale = true;
            self.due = Some(now);
            self.pause = FIRST_PAUSE;
        }
    }

    /// The server may have forgotten us, since it has not asked after us: all is registered anew.
    pub fn refresh(&mut self, now: Instant) {
        if !self.wanted.nodes.is_empty() {
            self.due = Some(now);
        }
    }

    /// How the server and we stand.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What is to be done now.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        if self.question.is_some() || self.due.is_none_or(|due| due > now) {
            return None;
        }
        self.due = None;
        self.transaction = self.transaction.wrapping_add(1);
        let (message, registers) = match Message::register(&self.wanted, self.transaction) {
            Some(message) => (message, true),
            None => {
                let Some((source, entity)) = &self.registered else {
                    self.is_stale = false;
                    return None;
                };
                (Message::deregister(source, entity, self.transaction), false)
            }
        };
        if registers {
            // It may have got there even if the answer gets lost.
            self.registered = self.wanted.nodes.first().map(|node| (node.name.clone(), self.wanted.entity.clone()));
        }
        self.is_stale = false;
        let bytes = message.encode();
        self.question = Some((message, registers));
        Some(Action::Exchange(bytes))
    }

    /// Takes the answer to the exchange.
    pub fn handle_answer(&mut self, now: Instant, answer: &Message) {
        let Some((question, registers)) = self.question.take() else { return };
        match answer.status_for(&question) {
            Some(0) => {
                self.pause = FIRST_PAUSE;
                if registers {
                    self.standing = Standing::Registered;
                    self.due = Some(now + REPEAT);
                } else {
                    self.standing = Standing::Deregistered;
                    self.registered = None;
                }
                if self.is_stale {
                    self.due = Some(now);
                }
            }
            Some(status) => self.fail(now, format!("it refuses with status {status}")),
            None => self.fail(now, "its answer does not belong to the question".into()),
        }
    }

    /// Nothing came, or nothing that can be understood; `reason` is for the log.
    pub fn handle_failure(&mut self, now: Instant, reason: String) {
        if self.question.take().is_some() {
            self.fail(now, reason);
        }
    }

    /// When to ask [`poll_action`](Self::poll_action) again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.filter(|_| self.question.is_none())
    }

    fn fail(&mut self, now: Instant, reason: String) {
        self.standing = Standing::Failing(reason);
        let pause = if self.is_stale { Duration::ZERO } else { self.pause };
        self.due = Some(now + pause);
        self.pause = (self.pause * 2).min(LAST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(names: &[&str]) -> Registration {
        let node = |name: &&str| Node {
            name: format!("iqn.2026-11.org.example:{name}"),
            alias: None,
            portals: vec![("192.0.2.1:3260".parse().unwrap(), 1)],
        };
        Registration { entity: "array".into(), esi_port: None, nodes: names.iter().map(node).collect() }
    }

    fn question(registrar: &mut Registrar, now: Instant) -> Message {
        let Some(Action::Exchange(bytes)) = registrar.poll_action(now) else { panic!("nothing is to be done") };
        Message::decode(&bytes).unwrap().unwrap().0
    }

    #[test]
    fn targets_are_registered_kept_so_and_deregistered() {
        let (mut registrar, start) = (Registrar::default(), Instant::now());
        assert_eq!(registrar.poll_action(start), None);
        registrar.set_registration(start, wish(&["a"]));
        let first = question(&mut registrar, start);
        assert_eq!(first.function, 1);
        assert_eq!(registrar.poll_action(start), None, "one exchange at a time");
        registrar.handle_answer(start, &first.answer(0));
        assert_eq!(registrar.standing(), &Standing::Registered);
        let again = registrar.poll_timeout().unwrap();
        assert_eq!(again, start + Duration::from_secs(300));
        let repeated = question(&mut registrar, again);
        assert_eq!(repeated.function, 1);
        registrar.handle_answer(again, &repeated.answer(0));
        registrar.set_registration(again, wish(&[]));
        let last = question(&mut registrar, again);
        assert_eq!(last.function, 4);
        registrar.handle_answer(again, &last.answer(0));
        assert_eq!((registrar.standing(), registrar.poll_timeout()), (&Standing::Deregistered, None));
    }

    #[test]
    fn a_failure_is_tried_again_ever_later() {
        let (mut registrar, mut now) = (Registrar::default(), Instant::now());
        registrar.set_registration(now, wish(&["a"]));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            question(&mut registrar, now);
            registrar.handle_failure(now, "no route".into());
            let next = registrar.poll_timeout().unwrap();
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        let asked = question(&mut registrar, now);
        registrar.handle_answer(now, &asked.answer(3));
        assert_eq!(registrar.standing(), &Standing::Failing("it refuses with status 3".into()));
    }

    #[test]
    fn a_change_during_an_exchange_makes_another_one() {
        let (mut registrar, now) = (Registrar::default(), Instant::now());
        registrar.set_registration(now, wish(&["a"]));
        let first = question(&mut registrar, now);
        registrar.set_registration(now, wish(&["a", "b"]));
        registrar.handle_answer(now, &first.answer(0));
        assert_ne!(question(&mut registrar, now).encode(), first.encode());
    }

    #[test]
    fn an_answer_to_something_else_is_a_failure() {
        let (mut registrar, now) = (Registrar::default(), Instant::now());
        registrar.set_registration(now, wish(&["a"]));
        let mut answer = question(&mut registrar, now).answer(0);
        answer.transaction ^= 1;
        registrar.handle_answer(now, &answer);
        assert!(matches!(registrar.standing(), Standing::Failing(_)));
    }

    #[test]
    fn nothing_is_deregistered_that_never_was_registered() {
        let (mut registrar, now) = (Registrar::default(), Instant::now());
        registrar.set_registration(now, Registration { entity: "array".into(), ..Registration::default() });
        assert_eq!(registrar.poll_action(now), None);
    }
}
