//! A target with a store of its own: `cargo run --example ram_disk` tells its URL.
use lunette::prelude::*;
#[derive(Debug)]
struct Ram(std::sync::Mutex<Vec<u8>>);
#[rustfmt::skip]
impl BackingStore for Ram {
    fn capacity(&self) -> u64 { 64 << 20 }
    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<(), StoreError> { into.copy_from_slice(&self.0.lock().unwrap()[at as usize..][..into.len()]); Ok(()) }
    fn write_at(&self, at: u64, data: &[IoSlice<'_>]) -> Result<(), StoreError> {
        let (mut disk, mut at) = (self.0.lock().unwrap(), at as usize);
        for slice in data { disk[at..at + slice.len()].copy_from_slice(slice); at += slice.len(); } Ok(()) }
    fn flush(&self) -> Result<(), StoreError> { Ok(()) }
}
#[rustfmt::skip]
fn main() { let builder = Server::builder().portal(([127, 0, 0, 1], 0).into()).disk(Disk::new(Ram(vec![0; 64 << 20].into())));
    let server = builder.start().unwrap(); println!("{}", server.url(0)); std::thread::park(); }
