//! A target over memory: `cargo run --example memory_disk`, then attach iscsi://127.0.0.1.
use lunette::prelude::*;
fn main() {
    let _server = Server::builder().disk(Disk::new(MemoryStore::new(64 << 20))).start().unwrap();
    std::thread::park();
}
