//! A whole target inside a tokio runtime that is there already: one task owns it, two tasks a connection wait for the
//! socket. `cargo run --example loop_tokio` tells its URL.
use lunette::bytes::{Bytes, BytesMut};
use lunette::iscsit::{ConnectionId, Embedded, Surroundings, WorkerEvent};
use lunette::lu_sbd::{Limits, SbdLu, meta::NoRecord, properties::CreateProperties, store::MemoryStore};
use lunette::scsi_core::{Guid, GuidHost};
use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

const TARGET: &str = "iqn.2026-11.org.example:loop-tokio";

/// What a connection's tasks tell the one that owns the target.
enum Message {
    Received(ConnectionId, Bytes),
    /// Everything that was handed to the writer is sent.
    Sent(ConnectionId),
    Closed(ConnectionId),
}

/// A connection's tasks; they end when it is dropped.
struct Link {
    reader: JoinHandle<()>,
    writer: mpsc::UnboundedSender<Vec<Bytes>>,
    /// Lets the reader receive once more.
    permit: Arc<Notify>,
    is_reader_waiting: bool,
    is_sending: bool,
    is_closing: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("iscsi://{}/{TARGET}/0", listener.local_addr()?);
    serve(listener).await
}

/// Serves a disk of 64 MiB until something fails that should not, beside whatever else the runtime does.
pub(crate) async fn serve(listener: TcpListener) -> Result<(), Box<dyn Error>> {
    let mail = Arc::new(Notify::new());
    let waker = Arc::clone(&mail);
    let mut target = target(move || waker.notify_one())?;
    // Store operations that may wait go to the runtime's threads for that.
    target.hand_out();
    let (sender, mut messages) = mpsc::channel(256);
    let mut links: HashMap<ConnectionId, Link> = HashMap::new();
    loop {
        let due = target.poll_timeout().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, peer) = accepted?;
                stream.set_nodelay(true)?;
                // At the limit of connections the stream is dropped, which closes it.
                if let Ok(id) = target.accept(Instant::now(), stream.local_addr()?, peer) {
                    links.insert(id, link(id, stream, &sender));
                }
            }
            Some(message) = messages.recv() => match message {
                Message::Received(id, bytes) => {
                    links.get_mut(&id).into_iter().for_each(|link| link.is_reader_waiting = true);
                    target.handle_received(Instant::now(), id, bytes);
                }
                Message::Sent(id) => links.get_mut(&id).into_iter().for_each(|link| link.is_sending = false),
                Message::Closed(id) => {
                    links.remove(&id);
                    target.handle_closed(Instant::now(), id);
                }
            },
            () = mail.notified() => target.handle_mail(Instant::now()),
            () = tokio::time::sleep_until(due.into()) => target.handle_timeout(Instant::now()),
        }
        // What is to be sent and received is looked for at every connection alike, which may bring about more.
        let mut is_settled = false;
        while !is_settled {
            let ended = links.iter_mut().filter_map(|(id, link)| link.go_on(*id, &mut target).then_some(*id));
            for id in ended.collect::<Vec<_>>() {
                links.remove(&id);
                target.handle_closed(Instant::now(), id);
            }
            is_settled = true;
            while let Some(work) = target.poll_store() {
                tokio::task::spawn_blocking(|| work.run());
            }
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

fn link(id: ConnectionId, stream: TcpStream, sender: &mpsc::Sender<Message>) -> Link {
    let (input, output) = stream.into_split();
    let permit = Arc::new(Notify::new());
    let (writer, batches) = mpsc::unbounded_channel();
    let reader = tokio::spawn(read(id, input, Arc::clone(&permit), sender.clone()));
    tokio::spawn(write(id, output, batches, sender.clone()));
    Link { reader, writer, permit, is_reader_waiting: true, is_sending: false, is_closing: false }
}

async fn read(id: ConnectionId, mut input: OwnedReadHalf, permit: Arc<Notify>, to: mpsc::Sender<Message>) {
    loop {
        permit.notified().await;
        // Payloads are slices of this chunk, all the way to the store.
        let mut chunk = BytesMut::with_capacity(256 << 10);
        match input.read_buf(&mut chunk).await {
            Ok(1..) => drop(to.send(Message::Received(id, chunk.freeze())).await),
            Ok(0) | Err(_) => return drop(to.send(Message::Closed(id)).await),
        }
    }
}

/// Sends one batch after the other; there is never more than one, since the next is asked for when this one is sent.
async fn write(
    id: ConnectionId,
    mut output: OwnedWriteHalf,
    mut batches: mpsc::UnboundedReceiver<Vec<Bytes>>,
    to: mpsc::Sender<Message>,
) {
    while let Some(batch) = batches.recv().await {
        for bytes in batch {
            if output.write_all(&bytes).await.is_err() {
                return drop(to.send(Message::Closed(id)).await);
            }
        }
        drop(to.send(Message::Sent(id)).await);
    }
}

impl Link {
    /// Sends what there is, if the writer has time, and receives, if the target wants it. Whether the end is reached.
    fn go_on(&mut self, id: ConnectionId, target: &mut Embedded) -> bool {
        if !self.is_sending {
            let mut batch = Vec::new();
            if target.poll_transmit(Instant::now(), id, &mut batch) > 0 {
                self.is_sending = self.writer.send(batch).is_ok();
            } else if self.is_closing {
                return true;
            }
        }
        if self.is_reader_waiting && target.recv_hint(id).wanted > 0 {
            self.is_reader_waiting = false;
            self.permit.notify_one();
        }
        false
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The writer ends with its channel, once it has sent what it has.
        self.reader.abort();
    }
}
