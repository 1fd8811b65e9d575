//! Stores of the program: one that does at once what it is asked, and one that may tell the end later.

use super::check;
use crate::completion::*;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::{ptr, slice};

thread_local! {
    /// Completions that no callback has finished.
    pub(super) static WAITING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    /// Calls of callbacks.
    pub(super) static CALLBACKS: Cell<usize> = const { Cell::new(0) };
}

pub(super) unsafe extern "C" fn wake(_: *mut c_void) {}

fn called() {
    CALLBACKS.set(CALLBACKS.get() + 1);
}

/// # Safety
/// `userdata` is what the store was made with, and nobody else has it at the moment.
unsafe fn memory<'a>(userdata: *mut c_void) -> &'a mut Vec<u8> {
    called();
    // SAFETY: the caller's promise.
    unsafe { &mut *userdata.cast::<Vec<u8>>() }
}

pub(super) unsafe extern "C" fn read(userdata: *mut c_void, offset: u64, buffer: *mut u8, length: usize) -> i32 {
    // SAFETY: the library's promise: all calls of this fuzzer come from one thread.
    let memory = unsafe { memory(userdata) };
    let place = &memory[offset as usize..][..length];
    // SAFETY: the buffer is as long as told.
    unsafe { ptr::copy_nonoverlapping(place.as_ptr(), buffer, length) };
    0
}

pub(super) unsafe extern "C" fn write(userdata: *mut c_void, offset: u64, data: *const u8, length: usize) -> i32 {
    // SAFETY: as in read.
    let memory = unsafe { memory(userdata) };
    let place = &mut memory[offset as usize..][..length];
    // SAFETY: the data are as long as told.
    unsafe { ptr::copy_nonoverlapping(data, place.as_mut_ptr(), length) };
    0
}

pub(super) unsafe extern "C" fn flush(_: *mut c_void) -> i32 {
    called();
    0
}

pub(super) unsafe extern "C" fn unmap(userdata: *mut c_void, offset: u64, length: u64) -> i32 {
    // SAFETY: as in read.
    let memory = unsafe { memory(userdata) };
    memory[offset as usize..][..length as usize].fill(0);
    0
}

pub(super) unsafe extern "C" fn destroy(userdata: *mut c_void) {
    // SAFETY: it was made by Box::into_raw, and this is the last call.
    drop(unsafe { Box::from_raw(userdata.cast::<Vec<u8>>()) });
}

/// Carries the operation out and tells its end at once, or leaves that to a later call.
pub(super) unsafe extern "C" fn start(
    userdata: *mut c_void,
    operation: *const lunette_operation,
    completion: *mut lunette_completion,
) {
    // SAFETY: good until this returns.
    let operation = unsafe { &*operation };
    let length = operation.length as usize;
    // SAFETY: buffer and slices are as long as told.
    unsafe {
        match operation.kind {
            lunette_operation_kind::Read => drop(read(userdata, operation.offset, operation.buffer, length)),
            lunette_operation_kind::Write => {
                let mut offset = operation.offset;
                for slice in slice::from_raw_parts(operation.slices, operation.slice_count) {
                    write(userdata, offset, slice.data, slice.length);
                    offset += slice.length as u64;
                }
                assert_eq!(offset - operation.offset, operation.length, "the slices have all bytes");
            }
            lunette_operation_kind::Flush => drop(flush(userdata)),
            lunette_operation_kind::Unmap => drop(unmap(userdata, operation.offset, operation.length)),
        }
    }
    match operation.offset >> 12 & 3 {
        0 => drop(check(lunette_completion_finish(completion, 0))),
        1 => drop(check(lunette_completion_free(completion))),
        _ => WAITING.with_borrow_mut(|waiting| waiting.push(completion.addr())),
    }
}
