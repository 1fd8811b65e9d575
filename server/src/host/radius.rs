//! The sockets of the RADIUS client: a thread that asks servers about the proofs of logins.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use iscsi_proto::auth::chap::Proof;
use iscsit::config::{Defaults, Secret};
use iscsit::radius::{Client, ClientConfig, MAX_PACKET_BYTES, Request};
use iscsit::{ProofAnswer, ProofChecker, Provider};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// Proofs that wait for the thread; more are refused.
const MAX_WAITING: usize = 256;
/// Packets that wait for the thread; more wait in the sockets.
const MAX_PACKETS: usize = 64;

/// A proof, and who wants to know.
type Question = (Proof, ProofAnswer);
/// What came from a server: a packet, or that it cannot be reached.
type Arrival = (SocketAddr, io::Result<Vec<u8>>);

/// Hands proofs to the thread. The thread ends when this is dropped and what it was asked is answered.
struct Checker {
    questions: mpsc::Sender<Question>,
}

impl ProofChecker for Checker {
    fn check(&self, proof: Proof, answer: ProofAnswer) {
        // One too many is dropped, which answers no.
        let _ = self.questions.try_send((proof, answer));
    }
}

/// Which servers are asked now.
#[derive(Default)]
pub(super) struct Radius {
    current: Option<(Vec<SocketAddr>, Secret)>,
}

impl Radius {
    /// Takes over servers and secret. Logins that are being checked are checked by the old ones.
    pub(super) fn follow(&mut self, provider: &Provider, defaults: &Defaults) {
        let servers: Vec<SocketAddr> = defaults.radius_servers.iter().map(|portal| portal.address()).collect();
        let wanted = defaults.radius_secret.clone().filter(|_| !servers.is_empty()).map(|secret| (servers, secret));
        if wanted == self.current {
            return;
        }
        self.current.clone_from(&wanted);
        let checker = wanted.and_then(|(servers, secret)| match start(ClientConfig::new(servers, secret)) {
            Ok(checker) => Some(checker),
            Err(error) => {
                tracing::error!("RADIUS servers cannot be asked: {error}");
                None
            }
        });
        provider.set_proof_checker(checker);
    }
}

fn start(config: ClientConfig) -> io::Result<Box<dyn ProofChecker>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (questions, asked) = mpsc::channel(MAX_WAITING);
    let run = move || runtime.block_on(run(config, asked));
    std::thread::Builder::new().name("lunette-radius".into()).stack_size(512 << 10).spawn(run)?;
    Ok(Box::new(Checker { questions }))
}

async fn run(config: ClientConfig, mut questions: mpsc::Receiver<Question>) {
    let mut client: Client<ProofAnswer> = Client::new(config);
    let (deliver, mut arrivals) = mpsc::channel::<Arrival>(MAX_PACKETS);
    let mut sockets: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut open = true;
    while open || client.poll_timeout().is_some() {
        let deadline = client.poll_timeout();
        let sleep = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            question = questions.recv(), if open => match question {
                Some((proof, answer)) => ask(&mut client, &proof, answer),
                None => open = false,
            },
            Some((server, arrival)) = arrivals.recv() => match arrival {
                Ok(packet) => client.handle_datagram(server, &packet),
                Err(_) => client.handle_unreachable(Instant::now(), server),
            },
            () = sleep => client.handle_timeout(Instant::now()),
        }
        while let Some(datagram) = client.poll_transmit() {
            if send(&mut sockets, &deliver, datagram.server, &datagram.bytes).await.is_err() {
                client.handle_unreachable(Instant::now(), datagram.server);
            }
        }
        while let Some(server) = client.poll_silent() {
            tracing::warn!(%server, "a RADIUS server does not answer; others are asked first for a while");
        }
        while let Some((answer, verdict)) = client.poll_verdict() {
            answer.give(if verdict.is_accepted() { Ok(()) } else { Err(verdict.to_string()) });
        }
    }
}

fn ask(client: &mut Client<ProofAnswer>, proof: &Proof, answer: ProofAnswer) {
    let mut authenticator = [0; 16];
    match Request::new(proof) {
        None => answer.give(Err("RADIUS cannot carry its proof: MD5 and names of up to 253 bytes".into())),
        // An authenticator that can be guessed would let answers be forged.
        Some(_) if getrandom::fill(&mut authenticator).is_err() => answer.give(Err("no random numbers".into())),
        Some(request) => client.ask(Instant::now(), answer, request, authenticator),
    }
}

/// Sends by the socket that is connected to the server: it takes packets of nobody else, and hears when nobody listens.
async fn send(
    sockets: &mut HashMap<SocketAddr, Arc<UdpSocket>>,
    deliver: &mpsc::Sender<Arrival>,
    server: SocketAddr,
    bytes: &[u8],
) -> io::Result<()> {
    let socket = match sockets.get(&server) {
        Some(socket) => Arc::clone(socket),
        None => {
            let any: SocketAddr = match server {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let socket = Arc::new(UdpSocket::bind(any).await?);
            socket.connect(server).await?;
            sockets.insert(server, Arc::clone(&socket));
            tokio::spawn(receive(Arc::clone(&socket), server, deliver.clone()));
            socket
        }
    };
    socket.send(bytes).await.map(drop)
}

async fn receive(socket: Arc<UdpSocket>, server: SocketAddr, deliver: mpsc::Sender<Arrival>) {
    let mut buffer = vec![0; MAX_PACKET_BYTES];
    loop {
        let arrival = socket.recv(&mut buffer).await.map(|length| buffer[..length].to_vec());
        if deliver.send((server, arrival)).await.is_err() {
            return;
        }
    }
}
