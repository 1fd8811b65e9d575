//! A store of C functions that begin the work, and the completions by which its end is told.

use crate::callbacks::{answer, check_granularity, unmap_of};
use crate::handle::Table;
use crate::input::{Sized0, UserData, lunette_slice, output, put, read_sized};
use crate::result::{Failure, calling_back, guard, lunette_result};
use crate::store::{LUNETTE_STORE_READ_ONLY, STORES, Store, check_flags, lunette_store};
use bytes::Bytes;
use lu_sbd::store::{AsyncStore, Capabilities, Operation};
use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, mem, ptr};
use stmf::provider::{Segments, StoreCompletion, StoreExtent, StoreOp, StoreOutcome};

/// The duty to tell the end of one operation. Any thread may fulfil it, by lunette_completion_finish; one that is given
/// up by lunette_completion_free makes the operation fail, and the initiator sees a CHECK CONDITION.
pub struct lunette_completion {
    _opaque: (),
}

/// What a store is to do.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum lunette_operation_kind {
    /// Fill `buffer` with the `length` bytes from `offset` on.
    Read = 1,
    /// Write the slices one after the other from `offset` on; together they have `length` bytes.
    Write = 2,
    /// Make everything durable whose write has been completed.
    Flush = 3,
    /// Give the range back; it reads as zeros afterwards.
    Unmap = 4,
}

/// One operation of an asynchronous store. The structure is good until `start` returns; `buffer`, `slices` and what the
/// slices point to are good until the completion is finished or freed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lunette_operation {
    /// sizeof(lunette_operation) of the library.
    pub size: usize,
    /// What to do.
    pub kind: lunette_operation_kind,
    /// First byte.
    pub offset: u64,
    /// Bytes; 0 for a flush.
    pub length: u64,
    /// Where a read puts its bytes, `length` of them; else NULL.
    pub buffer: *mut u8,
    /// What a write writes; else NULL.
    pub slices: *const lunette_slice,
    /// How many slices.
    pub slice_count: usize,
}

/// An asynchronous store of the calling program.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lunette_async_store_callbacks {
    /// sizeof(lunette_async_store_callbacks).
    pub size: usize,
    /// Bytes in the store, 1 MiB at least.
    pub capacity: u64,
    /// LUNETTE_STORE_READ_ONLY.
    pub flags: u32,
    /// Smallest range that an unmap frees, in bytes, a power of two; 0: the store has no unmap and is never asked.
    pub unmap_granularity: u32,
    /// Begins an operation and does not wait for it. Called from any thread, several at a time. The completion may be
    /// finished before it returns or later, by any thread; it belongs to the callee.
    pub start: Option<
        unsafe extern "C" fn(
            userdata: *mut c_void,
            operation: *const lunette_operation,
            completion: *mut lunette_completion,
        ),
    >,
    /// Called once, when nothing of the library refers to the store any more and no operation of it is outstanding. May
    /// be NULL.
    pub destroy: Option<unsafe extern "C" fn(userdata: *mut c_void)>,
    /// Not 0: a write may be lost at power loss until the next flush. 0: a completed write is durable and flushes are
    /// not asked for.
    pub volatile_cache: u32,
}

// SAFETY: repr(C), size first, integers and optional functions.
unsafe impl Sized0 for lunette_async_store_callbacks {}

struct CallbackStore {
    calls: lunette_async_store_callbacks,
    userdata: UserData,
}

struct Asynchronous(Arc<CallbackStore>);

/// One store operation on its way through the callbacks, in steps: each is one call of `start`.
struct Run {
    store: Arc<CallbackStore>,
    steps: VecDeque<Step>,
    completion: StoreCompletion,
    /// What the step under way points to.
    buffer: Vec<u8>,
    data: Segments,
    slices: Vec<lunette_slice>,
    kind: lunette_operation_kind,
    is_read: bool,
}

// SAFETY: the slices point into `data`, which goes with them.
unsafe impl Send for Run {}

enum Step {
    Read {
        offset: u64,
        length: usize,
    },
    Write {
        offset: u64,
        data: Segments,
    },
    /// The bytes of `unit` over and over.
    Fill {
        offset: u64,
        length: u64,
        unit: Bytes,
    },
    Flush,
    Unmap {
        offset: u64,
        length: u64,
    },
}

/// The largest piece in which a range is filled, in bytes.
const FILL_BYTES: u64 = 1 << 20;

/// A completion as C holds it.
pub(crate) struct Token(Mutex<Stage>);

enum Stage {
    /// `start` has not returned yet.
    Starting,
    /// It was finished or freed before `start` returned.
    Early(End),
    /// It is outstanding.
    Waiting(Box<Run>),
    Over,
}

enum End {
    /// 0 or an errno.
    Code(i32),
    Dropped,
}

static TOKENS: Table<Token> = Table::new("completion");

/// Makes an asynchronous store of the calling program's functions; `userdata` is given to each of them. Ownership is
/// that of lunette_store_new_callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_store_new_async(
    callbacks: *const lunette_async_store_callbacks,
    userdata: *mut c_void,
    store: *mut *mut lunette_store,
) -> lunette_result {
    guard(|| {
        let place = output(store, "store")?;
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let calls = unsafe { read_sized(callbacks, "callbacks") }?;
        check_flags(calls.flags, LUNETTE_STORE_READ_ONLY)?;
        check_granularity(calls.unmap_granularity)?;
        if calls.start.is_none() {
            return Err(Failure::null("callbacks.start"));
        }
        let made = Asynchronous(Arc::new(CallbackStore { calls, userdata: UserData(userdata) }));
        // SAFETY: not NULL, and the caller's promise.
        unsafe { put(place, STORES.insert(Arc::new(Store::Asynchronous(Arc::new(made))))) };
        Ok(())
    })
}

/// Tells that an operation is done: `error` is 0, or an error of errno.h as in lunette_store_callbacks. The completion
/// is used up, and buffers of its operation must not be touched any more.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_completion_finish(completion: *mut lunette_completion, error: i32) -> lunette_result {
    guard(|| TOKENS.remove(completion).map(|token| token.end(End::Code(error))))
}

/// Gives an operation up: it fails. The completion is used up. NULL is allowed and does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_completion_free(completion: *mut lunette_completion) -> lunette_result {
    guard(|| match completion.is_null() {
        true => Ok(()),
        false => TOKENS.remove(completion).map(|token| token.end(End::Dropped)),
    })
}

impl Token {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, end: End) {
        let run = {
            let mut stage = self.stage();
            match mem::replace(&mut *stage, Stage::Over) {
                Stage::Waiting(run) => run,
                Stage::Starting => {
                    *stage = Stage::Early(end);
                    return;
                }
                Stage::Early(_) | Stage::Over => return,
            }
        };
        if let Some(run) = run.step_ended(end) {
            run.advance();
        }
    }
}

impl Run {
    /// Goes on until a step is outstanding or all are done.
    fn advance(mut self: Box<Self>) {
        while let Some(step) = self.steps.pop_front() {
            let operation = self.prepare(step);
            let Some(start) = self.store.calls.start else { return };
            let userdata = self.store.userdata.0;
            let token = Arc::new(Token(Mutex::new(Stage::Starting)));
            let handle: *mut lunette_completion = TOKENS.insert(Arc::clone(&token));
            // SAFETY: the function is good until destroy, which waits for this run; what the operation points to lives
            // in the run.
            calling_back(|| unsafe { start(userdata, &operation, handle) });
            let mut stage = token.stage();
            match mem::replace(&mut *stage, Stage::Over) {
                Stage::Early(end) => {
                    drop(stage);
                    let Some(run) = self.step_ended(end) else { return };
                    self = run;
                }
                _ => {
                    *stage = Stage::Waiting(self);
                    return;
                }
            }
        }
        let outcome = match self.is_read {
            true => StoreOutcome::Data([Bytes::from(self.buffer)].into_iter().collect()),
            false => StoreOutcome::Done,
        };
        self.completion.finish(outcome);
    }

    /// `None` if that was the end of it.
    fn step_ended(self: Box<Self>, end: End) -> Option<Box<Self>> {
        let operation = match self.kind {
            lunette_operation_kind::Read => Operation::Read,
            lunette_operation_kind::Write => Operation::Write,
            lunette_operation_kind::Flush => Operation::Flush,
            lunette_operation_kind::Unmap => Operation::Deallocate,
        };
        match end {
            // Dropping the run drops the duty, which tells the unit so.
            End::Dropped => None,
            End::Code(code) => match answer(operation, code) {
                Ok(()) => Some(self),
                Err(error) => {
                    let error = error.into_store_error(|| "callbacks".into(), operation, None);
                    self.completion.finish(StoreOutcome::Failed(error));
                    None
                }
            },
        }
    }

    /// Keeps what the step needs, and points to it.
    fn prepare(&mut self, step: Step) -> lunette_operation {
        use lunette_operation_kind as Kind;
        let (kind, offset, length) = match step {
            Step::Read { offset, length } => {
                self.buffer = vec![0; length];
                (Kind::Read, offset, length as u64)
            }
            Step::Write { offset, data } => {
                self.data = data;
                (Kind::Write, offset, self.data.iter().map(|slice| slice.len() as u64).sum())
            }
            Step::Fill { offset, length, unit } => {
                let now = length.min(FILL_BYTES.next_multiple_of(unit.len() as u64));
                self.data.clear();
                let mut left = now as usize;
                while left > 0 {
                    let slice = unit.slice(..unit.len().min(left));
                    left -= slice.len();
                    self.data.push(slice);
                }
                if now < length {
                    self.steps.push_front(Step::Fill { offset: offset + now, length: length - now, unit });
                }
                (Kind::Write, offset, now)
            }
            Step::Flush => (Kind::Flush, 0, 0),
            Step::Unmap { offset, length } => (Kind::Unmap, offset, length),
        };
        self.kind = kind;
        self.slices.clear();
        if kind == Kind::Write {
            self.slices.extend(self.data.iter().map(|s| lunette_slice { data: s.as_ptr(), length: s.len() }));
        }
        lunette_operation {
            size: size_of::<lunette_operation>(),
            kind,
            offset,
            length,
            buffer: if kind == Kind::Read { self.buffer.as_mut_ptr() } else { ptr::null_mut() },
            slices: if kind == Kind::Write { self.slices.as_ptr() } else { ptr::null() },
            slice_count: self.slices.len(),
        }
    }
}

impl AsyncStore for Asynchronous {
    fn capacity(&self) -> u64 {
        self.0.calls.capacity
    }

    fn capabilities(&self) -> Capabilities {
        let calls = &self.0.calls;
        let mut capabilities = Capabilities::default();
        capabilities.read_only = calls.flags & LUNETTE_STORE_READ_ONLY != 0;
        capabilities.volatile_cache = calls.volatile_cache != 0;
        capabilities.unmap = (calls.unmap_granularity > 0).then(|| unmap_of(calls.unmap_granularity));
        capabilities
    }

    fn start(&self, op: StoreOp, completion: StoreCompletion) {
        let flush = |durable: bool| (durable && self.0.calls.volatile_cache != 0).then_some(Step::Flush);
        let is_read = matches!(op, StoreOp::Read { .. });
        let steps: VecDeque<Step> = match op {
            StoreOp::Read { offset, length, .. } => [Step::Read { offset, length: length as usize }].into(),
            StoreOp::Write { offset, data, durable } => {
                [Step::Write { offset, data }].into_iter().chain(flush(durable)).collect()
            }
            StoreOp::WriteSame { offset, length, pattern, durable } => {
                let unit = spread(&pattern);
                [Step::Fill { offset, length, unit }].into_iter().chain(flush(durable)).collect()
            }
            StoreOp::Deallocate { ranges } => {
                ranges.into_iter().map(|(offset, length)| Step::Unmap { offset, length }).collect()
            }
            StoreOp::Flush => flush(true).into_iter().collect(),
            StoreOp::Extents { offset, length, .. } => {
                let all = StoreExtent { offset, length, mapped: true };
                return completion.finish(StoreOutcome::Extents(vec![all]));
            }
            StoreOp::Prefetch { .. } => return completion.finish(StoreOutcome::Done),
            // What it does not know fails by the completion that is dropped.
            _ => return,
        };
        Box::new(Run {
            store: Arc::clone(&self.0),
            steps,
            completion,
            buffer: Vec::new(),
            data: Segments::new(),
            slices: Vec::new(),
            kind: lunette_operation_kind::Flush,
            is_read,
        })
        .advance();
    }
}

/// At least 64 KiB of the pattern (of zeros, if it is empty), so that a large range takes few slices.
fn spread(pattern: &Bytes) -> Bytes {
    match pattern.len() {
        0 => vec![0; 1 << 16].into(),
        length => pattern.repeat((1usize << 16).div_ceil(length)).into(),
    }
}

impl Drop for CallbackStore {
    fn drop(&mut self) {
        if let Some(destroy) = self.calls.destroy {
            // SAFETY: this is the end of the store: nothing else of it is called again.
            calling_back(|| unsafe { destroy(self.userdata.0) });
        }
    }
}

impl fmt::Debug for Asynchronous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("callbacks")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stmf::provider::{StoreDone, StoreErrorKind, StoreRequest, StoreSink, StoreToken};

    #[derive(Default)]
    struct Sink(Mutex<Vec<StoreOutcome>>);

    impl StoreSink for Sink {
        fn done(&self, done: StoreDone) {
            self.0.lock().unwrap().push(done.outcome);
        }
    }

    /// Finishes at once, but for reads, whose completions it keeps.
    unsafe extern "C" fn start(
        userdata: *mut c_void,
        operation: *const lunette_operation,
        completion: *mut lunette_completion,
    ) {
        // SAFETY: as the tests give them.
        let (seen, operation) = unsafe { (&*userdata.cast::<Mutex<Seen>>(), *operation) };
        seen.lock().unwrap().calls.push((operation.kind, operation.offset, operation.length));
        if operation.kind == lunette_operation_kind::Read {
            seen.lock().unwrap().kept.push(completion.addr());
        } else {
            let error = seen.lock().unwrap().error;
            assert_eq!(lunette_completion_finish(completion, error), lunette_result::Ok);
            assert_eq!(lunette_completion_finish(completion, 0), lunette_result::InvalidHandle);
        }
    }

    #[derive(Default)]
    struct Seen {
        calls: Vec<(lunette_operation_kind, u64, u64)>,
        kept: Vec<usize>,
        error: i32,
    }

    fn run(seen: &Mutex<Seen>, op: StoreOp) -> Arc<Sink> {
        let calls = lunette_async_store_callbacks {
            size: size_of::<lunette_async_store_callbacks>(),
            capacity: 1 << 30,
            flags: 0,
            unmap_granularity: 4096,
            start: Some(start),
            destroy: None,
            volatile_cache: 1,
        };
        let store =
            Asynchronous(Arc::new(CallbackStore { calls, userdata: UserData(ptr::from_ref(seen).cast_mut().cast()) }));
        let sink = Arc::new(Sink::default());
        let request = StoreRequest { nexus: stmf::NexusId(1), token: StoreToken(1), op: op.clone() };
        store.start(op, StoreCompletion::new(Arc::clone(&sink) as Arc<dyn StoreSink>, &request));
        sink
    }

    #[test]
    fn a_durable_fill_is_pieces_and_a_flush() {
        let seen = Mutex::default();
        let pattern = Bytes::from(vec![7; 512]);
        let sink = run(&seen, StoreOp::WriteSame { offset: 512, length: (2 << 20) + 512, pattern, durable: true });
        assert!(matches!(sink.0.lock().unwrap()[..], [StoreOutcome::Done]));
        use lunette_operation_kind::{Flush, Write};
        let expected =
            [(Write, 512, 1 << 20), (Write, 512 + (1 << 20), 1 << 20), (Write, 512 + (2 << 20), 512), (Flush, 0, 0)];
        assert_eq!(seen.lock().unwrap().calls, expected);
    }

    #[test]
    fn an_error_ends_the_steps() {
        let seen = Mutex::new(Seen { error: 28, ..Seen::default() });
        let ranges = [(0, 4096), (8192, 4096)].into_iter().collect();
        let sink = run(&seen, StoreOp::Deallocate { ranges });
        let outcomes = sink.0.lock().unwrap();
        let [StoreOutcome::Failed(error)] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert_eq!(error.kind, StoreErrorKind::NoSpace);
        assert_eq!(seen.lock().unwrap().calls.len(), 1);
    }

    #[test]
    fn a_completion_that_is_given_up_fails_the_operation() {
        let seen = Mutex::default();
        let sink = run(&seen, StoreOp::Read { offset: 0, length: 512, lands: None });
        assert!(sink.0.lock().unwrap().is_empty());
        let kept: *mut lunette_completion = ptr::without_provenance_mut(seen.lock().unwrap().kept[0]);
        assert_eq!(lunette_completion_free(kept), lunette_result::Ok);
        assert_eq!(lunette_completion_finish(kept, 0), lunette_result::InvalidHandle);
        let outcomes = sink.0.lock().unwrap();
        let [StoreOutcome::Failed(error)] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert_eq!(error.kind, StoreErrorKind::Dropped);
    }
}
