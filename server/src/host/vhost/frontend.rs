//! What a virtual machine's monitor asks for over the socket (the vhost-user protocol), and the device behind it.

use super::memory::{Gate, MOST_REGIONS, Memory, Notes};
use crate::driver::{Blocking, Wake};
use lunette_loopback::StoreJob;
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stmf::Termination;
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::*;
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use vhost_scsi::{Device, Inflight, features};
use virtio_queue::QueueT;

/// Most queues: control, events, and for requests.
pub(super) const QUEUES: usize = 2 + 64;
/// Most entries of a queue.
pub(super) const QUEUE_SIZE: u16 = 1024;
/// Store operations that are begun in one turn.
const STORES_AT_A_TIME: usize = 256;
/// How long a queue that is stopped may take to answer what is under way.
const DRAIN_TIME: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Ring {
    kick: Option<File>,
    call: Option<File>,
    is_enabled: bool,
    is_started: bool,
}

impl Ring {
    fn interrupt(&self) {
        if let Some(call) = &self.call {
            // A counter that is full has been signalled.
            let _ = rustix::io::write(call, &1u64.to_ne_bytes());
        }
    }
}

/// A connected monitor.
pub(super) struct Frontend {
    device: Device,
    memory: Option<Memory>,
    gate: Arc<Gate>,
    rings: Vec<Ring>,
    features: u64,
    wake: Arc<Wake>,
    pool: Blocking,
}

fn broken(error: io::Error) -> Error {
    Error::ReqHandlerError(error)
}

impl Frontend {
    pub(super) fn new(device: Device, wake: Arc<Wake>, pool: Blocking) -> Self {
        let rings = (0..device.queues()).map(|_| Ring::default()).collect();
        Self { device, memory: None, gate: Arc::default(), rings, features: 0, wake, pool }
    }

    /// Descriptors that are readable when the guest has kicked a queue, with the queue's number.
    pub(super) fn kicks(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        let rings = self.rings.iter().enumerate().filter(|(_, ring)| ring.is_started && ring.is_enabled);
        rings.filter_map(|(queue, ring)| Some((queue, ring.kick.as_ref()?.as_fd())))
    }

    /// The framework wants the session to end.
    pub(super) fn termination(&self) -> Option<Termination> {
        self.device.termination()
    }

    /// What reads that are under way go through to the guest's memory.
    pub(super) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// Queues that were stopped because they make no sense.
    pub(super) fn faults(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.device.poll_fault()).map(|fault| fault.to_string()).collect()
    }

    /// A queue was kicked; `true` if it has more than its turn.
    pub(super) fn kicked(&mut self, queue: usize) -> bool {
        if let Some(kick) = self.rings.get(queue).and_then(|ring| ring.kick.as_ref()) {
            // Only that it was kicked counts, and it may have been another one's turn to find that out.
            let _ = rustix::io::read(kick, &mut [0; 8]);
        }
        self.serve(queue)
    }

    /// Queues whose requests waited for memory and need not any more.
    pub(super) fn take_waiting(&mut self) -> Vec<usize> {
        std::iter::from_fn(|| self.device.poll_waiting()).collect()
    }

    /// Takes requests from a queue; `true` if there are more.
    pub(super) fn serve(&mut self, queue: usize) -> bool {
        let is_up = self.rings.get(queue).is_some_and(|ring| ring.is_started && ring.is_enabled);
        match &self.memory {
            Some(memory) if is_up => self.device.kick(Instant::now(), queue, &*memory.guest, memory),
            _ => false,
        }
    }

    /// Moves what can be moved; `true` if there is more at once.
    pub(super) fn turn(&mut self) -> bool {
        self.device.handle_mail();
        let mut left = STORES_AT_A_TIME;
        while left > 0
            && let Some(mut job) = self.device.poll_store()
        {
            left -= 1;
            if let Some(memory) = &self.memory {
                self.device.lend_room(&mut job, memory);
            }
            let StoreJob { lu, request } = job;
            match lu.try_perform(request) {
                Ok(done) => self.device.handle_store_done(&lu, done),
                Err(request) => {
                    let job = StoreJob { lu, request };
                    let completion = self.device.completion(&job);
                    self.pool.begin(job.lu, job.request, completion);
                }
            }
        }
        if let Some(memory) = &self.memory {
            self.device.run(Instant::now(), &*memory.guest);
            for queue in self.device.take_signals(&*memory.guest) {
                if let Some(ring) = self.rings.get(queue) {
                    ring.interrupt();
                }
            }
        }
        left == 0
    }

    fn ring(&mut self, index: impl TryInto<usize>) -> Result<(usize, &mut Ring)> {
        let index = index.try_into().map_err(|_| Error::InvalidParam)?;
        self.rings.get_mut(index).map(|ring| (index, ring)).ok_or(Error::InvalidParam)
    }

    fn queue(&mut self, index: u32) -> Result<&mut virtio_queue::Queue> {
        self.device.queue(index as usize).ok_or(Error::InvalidParam)
    }

    fn start(&mut self, queue: usize) {
        let Some(memory) = &self.memory else { return };
        self.device.start(Instant::now(), queue, &*memory.guest, memory);
        self.rings[queue].is_started = true;
        self.rings[queue].interrupt();
        // What was put there before is there without a kick.
        self.wake.wake();
    }

    /// Nothing that was begun may write to the guest's memory any more: waits for what the system is reading into it.
    fn take_memory_back(&mut self) {
        self.gate.close();
        self.gate = Arc::default();
        if let Some(memory) = &mut self.memory {
            memory.set_gate(Arc::clone(&self.gate));
        }
    }

    /// Waits until queues that take no more requests have answered those that they took. A unit that does not answer is not
    /// waited for without end: what is under way is noted, and goes to the guest's memory no more.
    fn drain(&mut self, queues: Range<usize>) {
        let deadline = Instant::now() + DRAIN_TIME;
        while queues.clone().any(|queue| self.device.under_way(queue) > 0) {
            if Instant::now() >= deadline {
                return self.take_memory_back();
            }
            if !self.turn() {
                let pause = if self.wake.may_sleep() { Duration::from_millis(100) } else { Duration::ZERO };
                self.wake.sleep(Some(pause), []);
                self.wake.take();
            }
        }
    }

    /// The guest begins anew.
    fn reset(&mut self) {
        self.rings.iter_mut().for_each(|ring| ring.is_started = false);
        self.drain(0..self.rings.len());
        (0..self.rings.len()).for_each(|queue| self.device.reset(queue));
        self.take_memory_back();
    }
}

impl VhostUserBackendReqHandlerMut for Frontend {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.reset();
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.reset();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(features::OFFERED | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        self.features = features;
        for queue in 0..self.rings.len() {
            if let Some(queue) = self.device.queue(queue) {
                queue.set_event_idx(features & features::RING_EVENT_IDX != 0);
            }
        }
        self.device.tell_events(features & features::HOTPLUG != 0, features & features::CHANGE != 0);
        // Without the protocol's own features there is no message that enables a ring.
        if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
            self.rings.iter_mut().for_each(|ring| ring.is_enabled = true);
        }
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy_listening: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        self.memory = Some(Memory::map(regions, files, Arc::clone(&self.gate)).map_err(broken)?);
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let size = u16::try_from(num).ok().filter(|size| size.is_power_of_two() && *size <= QUEUE_SIZE);
        self.queue(index)?.set_size(size.ok_or(Error::InvalidParam)?);
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let memory = self.memory.as_ref().ok_or(Error::InvalidOperation("rings before memory"))?;
        let place = |address| memory.guest_address(address).ok_or(Error::InvalidParam);
        let [table, available, used] = [place(descriptor)?, place(available)?, place(used)?];
        let halves = |address: u64| (Some(address as u32), Some((address >> 32) as u32));
        let queue = self.queue(index)?;
        let ((low, high), available, used) = (halves(table), halves(available), halves(used));
        queue.set_desc_table_address(low, high);
        queue.set_avail_ring_address(available.0, available.1);
        queue.set_used_ring_address(used.0, used.1);
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.queue(index)?.set_next_avail(base as u16);
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let (queue, ring) = self.ring(index)?;
        ring.is_started = false;
        // Whoever stops a machine to move it wants no request half done.
        self.drain(queue..queue + 1);
        let base = self.device.stop(queue);
        Ok(VhostUserVringState::new(index, u32::from(base)))
    }

    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let (queue, ring) = self.ring(index)?;
        ring.kick = fd;
        self.start(queue);
        Ok(())
    }

    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let (_, ring) = self.ring(index)?;
        ring.call = fd;
        // What an earlier server left is answered as soon as the queue starts, maybe before there was anything to
        // interrupt by, and that server may have ended between an answer and its interrupt. The driver would never look:
        // later answers do not pass the one that it waits for. An interrupt too many does no harm.
        ring.interrupt();
        Ok(())
    }

    fn set_vring_err(&mut self, _index: u8, _fd: Option<File>) -> Result<()> {
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::INFLIGHT_SHMFD
            | VhostUserProtocolFeatures::RESET_DEVICE)
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(QUEUES as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.ring(index)?.1.is_enabled = enable;
        self.wake.wake();
        Ok(())
    }

    fn get_config(&mut self, _offset: u32, _size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        Err(Error::InvalidOperation("the monitor has the configuration"))
    }

    fn set_config(&mut self, _offset: u32, _buf: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        Err(Error::InvalidOperation("the monitor has the configuration"))
    }

    fn set_gpu_socket(&mut self, _gpu_backend: GpuBackend) -> Result<()> {
        Err(Error::InvalidOperation("no graphics"))
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        Err(Error::InvalidOperation("no shared objects"))
    }

    fn get_inflight_fd(&mut self, inflight: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        let (queues, size) = (inflight.num_queues, inflight.queue_size);
        if usize::from(queues) > QUEUES || size > QUEUE_SIZE {
            return Err(Error::InvalidParam);
        }
        let bytes = Inflight::bytes_for(queues, size) as u64;
        let file = rustix::fs::memfd_create("lunette-inflight", MemfdFlags::CLOEXEC).map_err(|e| broken(e.into()))?;
        let file = File::from(file);
        file.set_len(bytes).map_err(broken)?;
        Ok((VhostUserInflight::new(bytes, 0, queues, size), file))
    }

    fn set_inflight_fd(&mut self, inflight: &VhostUserInflight, file: File) -> Result<()> {
        let notes = Notes::map(file, inflight.mmap_offset, inflight.mmap_size).map_err(broken)?;
        let notes = Inflight::new(Box::new(notes), inflight.num_queues, inflight.queue_size);
        self.device.set_inflight(Some(notes.ok_or(Error::InvalidParam)?));
        Ok(())
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(MOST_REGIONS as u64)
    }

    fn add_mem_region(
        &mut self,
        _region: &VhostUserSingleMemoryRegion,
        _fd: File,
        _postcopy_listening: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        Err(Error::InvalidOperation("memory comes as one table"))
    }

    fn remove_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion) -> Result<()> {
        Err(Error::InvalidOperation("memory comes as one table"))
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _fd: File,
    ) -> Result<Option<File>> {
        Err(Error::InvalidOperation("there is no state to move"))
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(Error::InvalidOperation("there is no state to move"))
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(Error::InvalidOperation("no shared memory of the device"))
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        Err(Error::InvalidOperation("writes are not logged"))
    }
}
