//! A whole target over nothing but the standard library: one thread owns it, two threads a connection wait for the
//! socket. `cargo run --example loop_std` tells its URL.
use lunette::bytes::Bytes;
use lunette::iscsit::{ConnectionId, Embedded, Surroundings, WorkerEvent};
use lunette::lu_sbd::{Limits, SbdLu, meta::NoRecord, properties::CreateProperties, store::MemoryStore};
use lunette::scsi_core::{Guid, GuidHost};
use std::collections::HashMap;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const TARGET: &str = "iqn.2026-11.org.example:loop-std";

/// What the threads tell the one that owns the target.
enum Message {
    Accepted(TcpStream),
    /// The reader goes on when it is told so.
    Received(ConnectionId, Bytes),
    /// Everything that was handed to the writer is sent.
    Sent(ConnectionId),
    Closed(ConnectionId),
    Mail,
}

/// A connection's threads.
struct Link {
    stream: TcpStream,
    writer: Sender<Vec<Bytes>>,
    /// Lets the reader receive once more.
    reader: SyncSender<()>,
    is_reader_waiting: bool,
    is_sending: bool,
    is_closing: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("iscsi://{}/{TARGET}/0", listener.local_addr()?);
    serve(listener)
}

/// Serves a disk of 64 MiB until something fails that should not.
pub(crate) fn serve(listener: TcpListener) -> Result<(), Box<dyn Error>> {
    let (sender, messages) = mpsc::channel();
    let acceptor = sender.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if acceptor.send(Message::Accepted(stream)).is_err() {
                return;
            }
        }
    });
    let mail = sender.clone();
    let mut target = target(move || drop(mail.send(Message::Mail)))?;
    let mut links: HashMap<ConnectionId, Link> = HashMap::new();
    loop {
        let due = target.poll_timeout().map(|due| due.saturating_duration_since(Instant::now()));
        let message = messages.recv_timeout(due.unwrap_or(Duration::from_secs(3600)));
        let now = Instant::now();
        match message {
            Ok(Message::Accepted(stream)) => {
                stream.set_nodelay(true)?;
                // A peer that has gone already has no address; at the limit of connections the stream is closed too.
                if let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr())
                    && let Ok(id) = target.accept(now, local, peer)
                {
                    links.insert(id, link(id, stream, &sender)?);
                }
            }
            Ok(Message::Received(id, bytes)) => {
                links.get_mut(&id).into_iter().for_each(|link| link.is_reader_waiting = true);
                target.handle_received(now, id, bytes);
            }
            Ok(Message::Sent(id)) => links.get_mut(&id).into_iter().for_each(|link| link.is_sending = false),
            Ok(Message::Closed(id)) => {
                if let Some(link) = links.remove(&id) {
                    let _ = link.stream.shutdown(Shutdown::Both);
                    target.handle_closed(now, id);
                }
            }
            Ok(Message::Mail) => target.handle_mail(now),
            Err(RecvTimeoutError::Timeout) => target.handle_timeout(now),
            Err(error) => return Err(error.into()),
        }
        // What is to be sent and received is looked for at every connection alike, which may bring about more.
        let mut is_settled = false;
        while !is_settled {
            links.iter_mut().for_each(|(id, link)| link.go_on(*id, &mut target));
            is_settled = true;
            while let Some(event) = target.poll_event() {
                is_settled = false;
                if let WorkerEvent::Close(id) = event {
                    links.get_mut(&id).into_iter().for_each(|link| link.is_closing = true);
                }
            }
        }
    }
}

/// The target with its one disk, in memory.
fn target(wake: impl Fn() + Send + Sync + 'static) -> Result<Embedded, Box<dyn Error>> {
    let unix_time = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs());
    let entropy = |bytes: &mut [u8]| getrandom::fill(bytes).expect("the system gives random bytes");
    let surroundings =
        Surroundings { entropy: Box::new(entropy), unix_time: Box::new(unix_time), waker: Arc::new(wake) };
    let mut target = Embedded::new(TARGET, surroundings)?;
    let guid = Guid::generate(Guid::DEFAULT_OUI, GuidHost::HostId(1), unix_time() as u32, 1);
    let identity = CreateProperties::default().identity(guid, Path::new("memory"), 64 << 20)?;
    let store = Arc::new(MemoryStore::new(64 << 20));
    target.add_unit(Arc::new(SbdLu::new(identity, store, Arc::new(NoRecord), Limits::default())), Some(0))?;
    Ok(target)
}

/// Starts the two threads of a connection; they end with its socket.
fn link(id: ConnectionId, stream: TcpStream, sender: &Sender<Message>) -> std::io::Result<Link> {
    let (mut input, mut output) = (stream.try_clone()?, stream.try_clone()?);
    let (reader, permits) = mpsc::sync_channel::<()>(1);
    let (writer, batches) = mpsc::channel::<Vec<Bytes>>();
    let from_reader = sender.clone();
    thread::spawn(move || {
        let mut chunk = vec![0; 256 << 10];
        while permits.recv().is_ok() {
            match input.read(&mut chunk) {
                Ok(length @ 1..) => {
                    let bytes = Bytes::copy_from_slice(&chunk[..length]);
                    drop(from_reader.send(Message::Received(id, bytes)));
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        drop(from_reader.send(Message::Closed(id)));
    });
    let from_writer = sender.clone();
    thread::spawn(move || {
        for batch in batches {
            let outcome = batch.iter().try_for_each(|bytes| output.write_all(bytes));
            let message = if outcome.is_ok() { Message::Sent(id) } else { Message::Closed(id) };
            drop(from_writer.send(message));
        }
    });
    Ok(Link { stream, writer, reader, is_reader_waiting: true, is_sending: false, is_closing: false })
}

impl Link {
    /// Sends what there is, if the writer has time, and receives, if the target wants it.
    fn go_on(&mut self, id: ConnectionId, target: &mut Embedded) {
        if !self.is_sending {
            let mut batch = Vec::new();
            if target.poll_transmit(Instant::now(), id, &mut batch) > 0 {
                self.is_sending = self.writer.send(batch).is_ok();
            } else if self.is_closing {
                // The reader finds out, and says so.
                let _ = self.stream.shutdown(Shutdown::Both);
            }
        }
        if self.is_reader_waiting && target.recv_hint(id).wanted > 0 {
            self.is_reader_waiting = self.reader.try_send(()).is_err();
        }
    }
}
