//! Who is asked, when again, and when somebody else.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::packet::{Answer, AnswerError, Request};
use crate::config::Secret;

/// Whom to ask, and how patiently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// The servers, the preferred one first. All know the same secret.
    pub servers: Vec<SocketAddr>,
    /// The secret shared with them.
    pub secret: Secret,
    /// How long the first transmission to a server waits for an answer; each further one twice as long.
    pub first_wait: Duration,
    /// How often a request is sent to one server before the next is asked.
    pub transmissions: u32,
    /// How long an exchange may take in all; then the login is refused. Shorter than the time a login has.
    pub limit: Duration,
    /// How long a server that did not answer is asked only after all others.
    pub rest: Duration,
    /// Most exchanges under way. A login beyond them is refused at once.
    pub max_exchanges: usize,
}

impl ClientConfig {
    /// Three transmissions to each server within three and a half seconds, 15 s for all of them, a minute of rest for one
    /// that was silent, 256 exchanges.
    pub fn new(servers: Vec<SocketAddr>, secret: Secret) -> Self {
        Self {
            servers,
            secret,
            first_wait: Duration::from_millis(500),
            transmissions: 3,
            limit: Duration::from_secs(15),
            rest: Duration::from_secs(60),
            max_exchanges: 256,
        }
    }
}

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A server says that the proof is right.
    Accepted {
        /// Which.
        server: SocketAddr,
    },
    /// A server says no.
    Rejected {
        /// Which.
        server: SocketAddr,
        /// Its words for people.
        message: Option<String>,
    },
    /// Nobody answered in time.
    NoAnswer {
        /// What was wrong with the last packet that was not believed.
        disbelieved: Option<AnswerError>,
    },
    /// There are as many exchanges as may be, or no server is configured.
    NotAsked,
}

impl Verdict {
    /// Whether the initiator may come in.
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { server } => write!(f, "the RADIUS server {server} accepts it"),
            Self::Rejected { server, message: None } => write!(f, "the RADIUS server {server} rejects it"),
            Self::Rejected { server, message: Some(words) } => {
                write!(f, "the RADIUS server {server} rejects it: {words}")
            }
            Self::NoAnswer { disbelieved: None } => f.write_str("no RADIUS server answers"),
            Self::NoAnswer { disbelieved: Some(error) } => {
                write!(f, "no RADIUS server gives an answer that can be believed: {error}")
            }
            Self::NotAsked => f.write_str("no RADIUS server could be asked"),
        }
    }
}

/// A packet to send.
#[derive(Clone, PartialEq, Eq)]
pub struct Datagram {
    /// To whom.
    pub server: SocketAddr,
    /// What.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Datagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagram").field("server", &self.server).field("bytes", &self.bytes.len()).finish()
    }
}

/// The exchanges with RADIUS servers, each named by a `T` of its owner.
///
/// ```text
///   ask / handle_datagram / handle_unreachable / handle_timeout
///       then until they give nothing: poll_verdict, poll_transmit
///       then sleep until poll_timeout
/// ```
#[derive(Debug)]
pub struct Client<T> {
    config: ClientConfig,
    servers: Vec<Server>,
    exchanges: HashMap<(usize, u8), Exchange<T>>,
    transmits: VecDeque<Datagram>,
    verdicts: VecDeque<(T, Verdict)>,
    /// Servers that fell silent and were not told of yet: at most one entry each.
    silent: VecDeque<SocketAddr>,
    next_identifier: u8,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    /// Asked after all others until then.
    resting_until: Option<Instant>,
}

#[derive(Debug)]
struct Exchange<T> {
    token: T,
    request: Request,
    authenticator: [u8; 16],
    /// Servers asked so far; the last one is being asked.
    asked: Vec<usize>,
    transmissions: u32,
    wait: Duration,
    due: Instant,
    deadline: Instant,
    disbelieved: Option<AnswerError>,
}

impl<T> Client<T> {
    /// A client with nothing under way.
    pub fn new(config: ClientConfig) -> Self {
        let servers = config.servers.iter().map(|address| Server { address: *address, resting_until: None });
        Self {
            servers: servers.collect(),
            config,
            exchanges: HashMap::new(),
            transmits: VecDeque::new(),
            verdicts: VecDeque::new(),
            silent: VecDeque::new(),
            next_identifier: 0,
        }
    }

    /// What it was made with.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Begins an exchange. `authenticator` is 16 random bytes, never used before.
    pub fn ask(&mut self, now: Instant, token: T, request: Request, authenticator: [u8; 16]) {
        let exchange = Exchange {
            token,
            request,
            authenticator,
            asked: Vec::new(),
            transmissions: 0,
            wait: self.config.first_wait,
            due: now,
            deadline: now + self.config.limit,
            disbelieved: None,
        };
        if self.exchanges.len() >= self.config.max_exchanges {
            self.verdicts.push_back((exchange.token, Verdict::NotAsked));
        } else {
            self.ask_next(now, exchange);
        }
    }

    /// Takes a packet that came from `server`.
    pub fn handle_datagram(&mut self, server: SocketAddr, bytes: &[u8]) {
        let Some(place) = self.servers.iter().position(|known| known.address == server) else { return };
        let Some(&identifier) = bytes.get(1) else { return };
        let Some(exchange) = self.exchanges.get_mut(&(place, identifier)) else { return };
        match Answer::decode(bytes, exchange.authenticator, self.config.secret.expose()) {
            // Ignored, as RFC 2865 3 asks; whoever sent it may not even be the server.
            Err(error) => exchange.disbelieved = Some(error),
            Ok(answer) => {
                self.servers[place].resting_until = None;
                if let Some(exchange) = self.exchanges.remove(&(place, identifier)) {
                    let verdict = match answer.accepted {
                        true => Verdict::Accepted { server },
                        false => Verdict::Rejected { server, message: answer.message },
                    };
                    self.verdicts.push_back((exchange.token, verdict));
                }
            }
        }
    }

    /// The network says that nobody listens at `server`: the next one is asked at once.
    pub fn handle_unreachable(&mut self, now: Instant, server: SocketAddr) {
        let Some(place) = self.servers.iter().position(|known| known.address == server) else { return };
        let keys: Vec<(usize, u8)> = self.exchanges.keys().copied().filter(|(at, _)| *at == place).collect();
        self.rest(now, place);
        for key in keys {
            if let Some(exchange) = self.exchanges.remove(&key) {
                self.ask_next(now, exchange);
            }
        }
    }

    /// Sends again, or asks somebody else, where that is due. Early calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<(usize, u8)> =
            self.exchanges.iter().filter(|(_, exchange)| exchange.next() <= now).map(|(key, _)| *key).collect();
        for key in due {
            let Some(mut exchange) = self.exchanges.remove(&key) else { continue };
            if now >= exchange.deadline {
                self.give_up(exchange);
            } else if exchange.transmissions >= self.config.transmissions {
                self.rest(now, key.0);
                self.ask_next(now, exchange);
            } else {
                exchange.wait *= 2;
                self.send(now, key, exchange);
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` while nothing is under way.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.exchanges.values().map(Exchange::next).min()
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Datagram> {
        self.transmits.pop_front()
    }

    /// The next exchange that has ended.
    pub fn poll_verdict(&mut self) -> Option<(T, Verdict)> {
        self.verdicts.pop_front()
    }

    /// The next server that did not answer and is asked after all others for a while; for the log.
    pub fn poll_silent(&mut self) -> Option<SocketAddr> {
        self.silent.pop_front()
    }

    /// Ends all exchanges without an answer.
    pub fn give_all_up(&mut self) {
        let all: Vec<_> = self.exchanges.drain().map(|(_, exchange)| exchange).collect();
        all.into_iter().for_each(|exchange| self.give_up(exchange));
    }

    /// Asks the best server that was not asked yet: in the order of the configuration, those that were silent last.
    fn ask_next(&mut self, now: Instant, mut exchange: Exchange<T>) {
        let resting = |server: &Server| server.resting_until.is_some_and(|until| now < until);
        let fresh = |place: &usize| !exchange.asked.contains(place);
        let mut order: Vec<usize> = (0..self.servers.len()).filter(fresh).collect();
        order.sort_by_key(|place| resting(&self.servers[*place]));
        for place in order {
            // An identifier tells the answers of one server apart: 256 can be under way there.
            let free = (0..=u8::MAX)
                .map(|step| self.next_identifier.wrapping_add(step))
                .find(|identifier| !self.exchanges.contains_key(&(place, *identifier)));
            if let Some(identifier) = free {
                self.next_identifier = identifier.wrapping_add(1);
                exchange.asked.push(place);
                exchange.transmissions = 0;
                exchange.wait = self.config.first_wait;
                return self.send(now, (place, identifier), exchange);
            }
        }
        self.give_up(exchange);
    }

    /// The same packet, bit by bit, each time: the server knows a repetition by it (RFC 2865 2.5).
    fn send(&mut self, now: Instant, (place, identifier): (usize, u8), mut exchange: Exchange<T>) {
        let bytes = exchange.request.encode(identifier, exchange.authenticator, self.config.secret.expose());
        self.transmits.push_back(Datagram { server: self.servers[place].address, bytes });
        exchange.transmissions += 1;
        exchange.due = now + exchange.wait;
        self.exchanges.insert((place, identifier), exchange);
    }

    fn rest(&mut self, now: Instant, place: usize) {
        let server = &mut self.servers[place];
        if server.resting_until.is_none_or(|until| until <= now) && !self.silent.contains(&server.address) {
            self.silent.push_back(server.address);
        }
        server.resting_until = Some(now + self.config.rest);
    }

    fn give_up(&mut self, exchange: Exchange<T>) {
        let verdict = match exchange.asked.is_empty() {
            true => Verdict::NotAsked,
            false => Verdict::NoAnswer { disbelieved: exchange.disbelieved },
        };
        self.verdicts.push_back((exchange.token, verdict));
    }
}

impl<T> Exchange<T> {
    fn next(&self) -> Instant {
        self.due.min(self.deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::{SECRET, answer, proof};
    use super::*;

    fn server(number: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, number], 1812))
    }

    fn client(servers: u8) -> Client<u32> {
        let servers = (1..=servers).map(server).collect();
        Client::new(ClientConfig::new(servers, Secret::new(SECRET).unwrap()))
    }

    fn ask(client: &mut Client<u32>, now: Instant, token: u32) {
        client.ask(now, token, Request::new(&proof()).unwrap(), [token as u8; 16]);
    }

    /// Lets time pass until there is a packet or a verdict.
    fn until_something(client: &mut Client<u32>, now: &mut Instant) -> Result<Datagram, (u32, Verdict)> {
        loop {
            if let Some(verdict) = client.poll_verdict() {
                return Err(verdict);
            }
            if let Some(datagram) = client.poll_transmit() {
                return Ok(datagram);
            }
            *now = client.poll_timeout().expect("something is under way");
            client.handle_timeout(*now);
        }
    }

    #[test]
    fn an_answer_decides() {
        let (mut client, now) = (client(1), Instant::now());
        for (token, code) in [(1, 2), (2, 3)] {
            ask(&mut client, now, token);
            let sent = client.poll_transmit().unwrap();
            client.handle_datagram(sent.server, &answer(code, &sent.bytes, SECRET, true));
            let (told, verdict) = client.poll_verdict().unwrap();
            assert_eq!((told, verdict.is_accepted()), (token, code == 2));
        }
        assert_eq!(client.poll_timeout(), None);
    }

    #[test]
    fn a_silent_server_is_asked_three_times_with_the_same_bytes_and_then_the_next() {
        let (mut client, start) = (client(2), Instant::now());
        let mut now = start;
        ask(&mut client, now, 1);
        let sent: Vec<Datagram> = (0..4).map(|_| until_something(&mut client, &mut now).unwrap()).collect();
        assert_eq!(sent.iter().map(|sent| sent.server).collect::<Vec<_>>(), [1, 1, 1, 2].map(server));
        assert!(sent[0] == sent[1] && sent[1] == sent[2]);
        assert_eq!(now - start, Duration::from_millis(3500));
        client.handle_datagram(server(2), &answer(2, &sent[3].bytes, SECRET, true));
        assert_eq!(client.poll_verdict(), Some((1, Verdict::Accepted { server: server(2) })));
        // The silent one rests: the next login does not wait for it.
        assert_eq!((client.poll_silent(), client.poll_silent()), (Some(server(1)), None));
        ask(&mut client, now, 2);
        assert_eq!(client.poll_transmit().unwrap().server, server(2));
        // After its rest it is the preferred one again.
        ask(&mut client, now + Duration::from_secs(61), 3);
        assert_eq!(client.poll_transmit().unwrap().server, server(1));
    }

    #[test]
    fn a_late_answer_of_the_first_server_counts_no_more_once_the_next_is_asked() {
        let (mut client, mut now) = (client(2), Instant::now());
        ask(&mut client, now, 1);
        let first = client.poll_transmit().unwrap();
        client.handle_unreachable(now, first.server);
        let second = until_something(&mut client, &mut now).unwrap();
        assert_eq!(second.server, server(2));
        client.handle_datagram(first.server, &answer(2, &first.bytes, SECRET, true));
        assert_eq!(client.poll_verdict(), None);
    }

    #[test]
    fn silence_everywhere_ends_within_the_limit() {
        let (mut client, start) = (client(8), Instant::now());
        let mut now = start;
        ask(&mut client, now, 1);
        let verdict = loop {
            if let Err(verdict) = until_something(&mut client, &mut now) {
                break verdict;
            }
        };
        assert_eq!(verdict, (1, Verdict::NoAnswer { disbelieved: None }));
        assert!(now - start <= Duration::from_secs(15));
    }

    #[test]
    fn a_packet_that_is_not_believed_is_ignored_and_told_in_the_end() {
        let (mut client, mut now) = (client(1), Instant::now());
        ask(&mut client, now, 1);
        let sent = client.poll_transmit().unwrap();
        client.handle_datagram(sent.server, &answer(2, &sent.bytes, b"another secret", true));
        client.handle_datagram(server(9), &answer(2, &sent.bytes, SECRET, true));
        assert_eq!(client.poll_verdict(), None, "neither a forgery nor a stranger decides");
        let verdict = loop {
            if let Err(verdict) = until_something(&mut client, &mut now) {
                break verdict;
            }
        };
        assert_eq!(verdict.1, Verdict::NoAnswer { disbelieved: Some(AnswerError::Authenticator) });
    }

    #[test]
    fn exchanges_are_bounded() {
        let (mut client, now) = (client(2), Instant::now());
        (0..300).for_each(|token| ask(&mut client, now, token));
        assert_eq!(client.exchanges.len(), 256);
        assert_eq!(std::iter::from_fn(|| client.poll_verdict()).count(), 44);
        client.give_all_up();
        assert_eq!(std::iter::from_fn(|| client.poll_verdict()).count(), 256);
    }

    #[test]
    fn the_secret_is_never_printed() {
        let mut client = client(1);
        ask(&mut client, Instant::now(), 1);
        let shown = format!("{client:?}");
        assert!(shown.contains("redacted") && !shown.contains("shared between"), "{shown}");
    }
}
