//! The examples with an event loop of their own, each under our initiator.

use lunette::client::{Disk, Operation, TaskManagementFunction, discover};
use std::net::{SocketAddr, TcpListener};
use std::thread;

#[allow(dead_code)]
#[path = "../examples/loop_compio.rs"]
mod loop_compio;
#[allow(dead_code)]
#[path = "../examples/loop_mio.rs"]
mod loop_mio;
#[allow(dead_code)]
#[path = "../examples/loop_std.rs"]
mod loop_std;
#[allow(dead_code)]
#[path = "../examples/loop_tokio.rs"]
mod loop_tokio;

fn content(seed: u64, length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at / 512 * 7 + at + seed * 31) as u8).collect()
}

/// Four initiators at a time read back what they wrote, with digests and without, many commands at once, over a
/// connection that breaks, amid aborts; discovery finds the target; a login to a name that is not there is refused.
fn use_it(portal: SocketAddr, target: &str) {
    let found = discover(&format!("iscsi://{portal}")).unwrap();
    assert_eq!(found.iter().map(|target| target.name.as_str()).collect::<Vec<_>>(), [target]);
    assert_eq!(found[0].addresses, [format!("{portal},1")]);
    assert!(Disk::connect(&format!("iscsi://{portal}/{target}x/0")).is_err());
    thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || {
                let digests = ["none", "crc32c"][part as usize % 2];
                let url = format!("iscsi://{portal}/{target}/0?header_digest={digests}&data_digest={digests}");
                let disk = Disk::connect(&url).unwrap();
                assert_eq!(disk.capacity(), 64 << 20);
                let base = part << 24;
                disk.write(base, content(part, 8 << 20)).unwrap();
                assert!(disk.read(base, 8 << 20).unwrap() == content(part, 8 << 20));
                let place = |piece: u64| base + (piece << 16);
                let write = |piece: u64| Operation::Write {
                    offset: place(piece),
                    data: content(part + piece, 1 << 16).into(),
                    durable: piece.is_multiple_of(3),
                };
                let writes: Vec<_> = (0..100).map(|piece| disk.submit(write(piece)).unwrap()).collect();
                if part == 1 {
                    disk.drop_connection();
                } else if part == 2 {
                    disk.manage(TaskManagementFunction::AbortTaskSet).unwrap();
                }
                writes.into_iter().for_each(|write| drop(write.wait().unwrap()));
                for piece in 0..100 {
                    assert!(disk.read(place(piece), 1 << 16).unwrap() == content(part + piece, 1 << 16));
                }
                disk.flush().unwrap();
                disk.close().unwrap();
            });
        }
    });
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn a_loop_over_the_standard_library_serves() {
    let (listener, portal) = listener();
    thread::spawn(move || loop_std::serve(listener).unwrap());
    use_it(portal, "iqn.2026-11.org.example:loop-std");
}

#[test]
fn a_loop_over_mio_serves() {
    let (listener, portal) = listener();
    thread::spawn(move || loop_mio::serve(listener).unwrap());
    use_it(portal, "iqn.2026-11.org.example:loop-mio");
}

#[test]
fn a_task_of_a_tokio_runtime_serves_beside_others() {
    let (listener, portal) = listener();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // Something else that the runtime has to do.
            tokio::spawn(async {
                loop {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await
                }
            });
            listener.set_nonblocking(true).unwrap();
            loop_tokio::serve(tokio::net::TcpListener::from_std(listener).unwrap()).await.unwrap();
        });
    });
    use_it(portal, "iqn.2026-11.org.example:loop-tokio");
}

#[test]
fn tasks_of_a_compio_runtime_serve() {
    let (listener, portal) = listener();
    thread::spawn(move || {
        compio::runtime::Runtime::new().unwrap().block_on(async {
            loop_compio::serve(compio::net::TcpListener::from_std(listener).unwrap()).await.unwrap();
        });
    });
    use_it(portal, "iqn.2026-11.org.example:loop-compio");
}
