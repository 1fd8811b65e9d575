//! A whole target in compio's runtime, which is io_uring where the system has it: one thread, and two tasks a connection
//! that own its buffers. `cargo run --example loop_compio` tells its URL.
use compio::BufResult;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::{Runtime, spawn};
use compio::time::timeout_at;
use lunette::bytes::{Bytes, BytesMut};
use lunette::iscsit::{ConnectionId, Embedded, Surroundings, WorkerEvent};
use lunette::lu_sbd::{Limits, SbdLu, meta::NoRecord, properties::CreateProperties, store::MemoryStore};
use lunette::scsi_core::{Guid, GuidHost};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

const TARGET: &str = "iqn.2026-11.org.example:loop-compio";
/// Slices that one call of the system takes.
const MAX_SLICES: usize = 1024;

/// What the tasks share; all of them are on one thread.
struct Place {
    target: RefCell<Embedded>,
    links: RefCell<HashMap<ConnectionId, Rc<Link>>>,
    /// When the timer task looks next, and how it is told that it is to look earlier.
    due: Cell<Option<Instant>>,
    earlier: Notify,
}

struct Link {
    stream: TcpStream,
    may_receive: Notify,
    may_send: Notify,
    /// What is there is still sent.
    is_closing: Cell<bool>,
    is_lost: Cell<bool>,
}

fn main() -> Result<(), Box<dyn Error>> {
    Runtime::new()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("iscsi://{}/{TARGET}/0", listener.local_addr()?);
        serve(listener).await
    })
}

/// Serves a disk of 64 MiB until something fails that should not, beside whatever else the runtime does.
pub(crate) async fn serve(listener: TcpListener) -> Result<(), Box<dyn Error>> {
    let mail = Arc::new(Notify::new());
    let waker = Arc::clone(&mail);
    let place = Rc::new(Place {
        target: RefCell::new(target(move || waker.notify_one())?),
        links: RefCell::default(),
        due: Cell::default(),
        earlier: Notify::new(),
    });
    spawn(keep_time(Rc::clone(&place))).detach();
    let of_mail = Rc::clone(&place);
    spawn(async move {
        loop {
            mail.notified().await;
            of_mail.turn(|target| target.handle_mail(Instant::now()));
        }
    })
    .detach();
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        // At the limit of connections the stream is dropped, which closes it.
        if let Ok(id) = place.turn(|target| target.accept(Instant::now(), local, peer)) {
            let link = Rc::new(Link {
                stream,
                may_receive: Notify::new(),
                may_send: Notify::new(),
                is_closing: Cell::new(false),
                is_lost: Cell::new(false),
            });
            place.links.borrow_mut().insert(id, Rc::clone(&link));
            spawn(attend(Rc::clone(&place), id, link)).detach();
        }
    }
}

/// A connection from its beginning to its end.
async fn attend(place: Rc<Place>, id: ConnectionId, link: Rc<Link>) {
    // Dropping the handle ends the task.
    let _reader = spawn(receive(Rc::clone(&place), id, Rc::clone(&link)));
    send(&place, id, &link).await;
    place.links.borrow_mut().remove(&id);
    place.turn(|target| target.handle_closed(Instant::now(), id));
}

async fn receive(place: Rc<Place>, id: ConnectionId, link: Rc<Link>) {
    let mut stream = link.stream.clone();
    let mut chunk = BytesMut::new();
    loop {
        while place.target.borrow_mut().recv_hint(id).wanted == 0 {
            link.may_receive.notified().await;
        }
        // Payloads are slices of this chunk, all the way to the store.
        if chunk.capacity() < 16 << 10 {
            chunk.reserve(256 << 10);
        }
        let BufResult(received, filled) = stream.read(chunk).await;
        chunk = filled;
        match received {
            Ok(1..) => {
                let bytes = chunk.split().freeze();
                place.turn(|target| target.handle_received(Instant::now(), id, bytes));
            }
            Ok(0) | Err(_) => break,
        }
    }
    link.is_lost.set(true);
    link.may_send.notify_one();
}

/// Sends whatever there is, all of it in one call, until the connection is to end.
async fn send(place: &Place, id: ConnectionId, link: &Link) {
    let mut stream = link.stream.clone();
    while !link.is_lost.get() {
        let mut batch: Vec<Bytes> = Vec::new();
        if place.target.borrow_mut().poll_transmit(Instant::now(), id, &mut batch) == 0 {
            if link.is_closing.get() {
                return;
            }
            link.may_send.notified().await;
            continue;
        }
        batch.retain(|bytes| !bytes.is_empty());
        while !batch.is_empty() {
            let rest = batch.split_off(batch.len().min(MAX_SLICES));
            let BufResult(sent, _) = stream.write_vectored_all(batch).await;
            if sent.is_err() {
                return;
            }
            batch = rest;
        }
        // What waited for room may go on.
        place.turn(|_| {});
    }
}

async fn keep_time(place: Rc<Place>) {
    loop {
        let due = place.target.borrow().poll_timeout();
        place.due.set(due);
        let later = Instant::now() + Duration::from_secs(3600);
        if timeout_at(due.unwrap_or(later), place.earlier.notified()).await.is_err() {
            place.turn(|target| target.handle_timeout(Instant::now()));
        }
    }
}

impl Place {
    /// Does something with the target, and tells the tasks what comes of it.
    fn turn<R>(&self, f: impl FnOnce(&mut Embedded) -> R) -> R {
        let mut target = self.target.borrow_mut();
        let result = f(&mut target);
        let links = self.links.borrow();
        while let Some(event) = target.poll_event() {
            match event {
                WorkerEvent::Transmit(id) => links.get(&id).into_iter().for_each(|link| link.may_send.notify_one()),
                WorkerEvent::Receive(id) => links.get(&id).into_iter().for_each(|link| link.may_receive.notify_one()),
                WorkerEvent::Close(id) => links.get(&id).into_iter().for_each(|link| {
                    link.is_closing.set(true);
                    link.may_send.notify_one();
                }),
                _ => {}
            }
        }
        let due = target.poll_timeout();
        if due.is_some_and(|due| self.due.get().is_none_or(|told| due < told)) {
            self.due.set(due);
            self.earlier.notify_one();
        }
        result
    }
}

/// The target with its one disk, in memory: no operation of its store waits, so none is handed out.
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
