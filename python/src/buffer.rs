//! Memory that Rust and Python share without copying it.

use bytes::Bytes;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};
use std::ffi::{c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes that arrived, lent to Python for reading. They live as long as any memoryview of them.
#[pyclass(frozen, name = "_Lent", module = "lunette._native")]
pub(crate) struct Lent(Bytes);

#[pymethods]
impl Lent {
    // SAFETY: `PyBuffer_FillInfo` fills the view in and keeps a reference on `slf`, which owns the bytes; they are never
    // changed, and the view is marked as read-only.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = &slf.get().0;
        // SAFETY: as above.
        unsafe { fill(view, slf.as_ptr(), bytes.as_ptr().cast_mut().cast(), bytes.len(), true, flags) }
    }
}

/// A read-only memoryview of bytes, without a copy.
pub(crate) fn lend<'py>(py: Python<'py>, bytes: Bytes) -> PyResult<Bound<'py, PyMemoryView>> {
    PyMemoryView::from(Bound::new(py, Lent(bytes))?.as_any())
}

/// Memory that Python fills and Rust takes afterwards.
#[pyclass(frozen, name = "_Filling", module = "lunette._native")]
pub(crate) struct Filling(Mutex<Filled>);

struct Filled {
    memory: Box<[u8]>,
    /// Views that Python holds. Through them it writes under its own rules; the memory stays in place meanwhile.
    exports: usize,
}

#[pymethods]
impl Filling {
    // SAFETY: the view keeps a reference on `slf`; `take` leaves the memory in place while `exports` is not zero.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let mut this = slf.get().lock();
        let (pointer, length) = (this.memory.as_mut_ptr(), this.memory.len());
        // SAFETY: as above.
        unsafe { fill(view, slf.as_ptr(), pointer.cast(), length, false, flags)? };
        this.exports += 1;
        Ok(())
    }

    // SAFETY: nothing of the view is touched.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.lock().exports -= 1;
    }
}

impl Filling {
    pub(crate) fn new(length: usize) -> Self {
        Self(Mutex::new(Filled { memory: vec![0; length].into_boxed_slice(), exports: 0 }))
    }

    /// What was filled in: the memory itself, or a copy while Python still holds a view that could change it.
    pub(crate) fn take(&self) -> Bytes {
        let mut this = self.lock();
        if this.exports == 0 {
            Bytes::from(std::mem::take(&mut this.memory).into_vec())
        } else {
            Bytes::copy_from_slice(&this.memory)
        }
    }

    fn lock(&self) -> MutexGuard<'_, Filled> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A writable memoryview of `filling`.
pub(crate) fn view<'py>(filling: &Bound<'py, Filling>) -> PyResult<Bound<'py, PyMemoryView>> {
    PyMemoryView::from(filling.as_any())
}

/// Fills a buffer view in.
///
/// # Safety
/// `view` is the one that the interpreter gave; the memory stays in place as long as the view refers to `owner`.
unsafe fn fill(
    view: *mut ffi::Py_buffer,
    owner: *mut ffi::PyObject,
    memory: *mut c_void,
    length: usize,
    read_only: bool,
    flags: c_int,
) -> PyResult<()> {
    if view.is_null() {
        return Err(PyBufferError::new_err("no view to fill in"));
    }
    // SAFETY: the caller's promise; a vector is never longer than isize::MAX.
    let result = unsafe {
        ffi::PyBuffer_FillInfo(view, owner, memory, length as ffi::Py_ssize_t, c_int::from(read_only), flags)
    };
    if result == -1 { Err(Python::attach(PyErr::fetch)) } else { Ok(()) }
}

/// The content of any object with a buffer: that of `bytes` is lent, any other, which may change, is copied.
pub(crate) fn bytes_of(object: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if object.is_exact_instance_of::<PyBytes>() {
        return Ok(Bytes::from_owner(object.extract::<PyBackedBytes>()?));
    }
    let buffer = PyBuffer::<u8>::get(object)?;
    Ok(buffer.to_vec(object.py())?.into())
}

/// What a call returned, if it has a buffer. `bytes` are lent, and so is a `bytearray` that nobody else refers to, such
/// as a slice of another; anything else is copied, since whoever holds it may change it.
pub(crate) fn bytes_returned(object: Bound<'_, PyAny>) -> PyResult<Bytes> {
    // SAFETY: a live object, looked at while attached.
    let is_unshared = || unsafe { ffi::Py_REFCNT(object.as_ptr()) } == 1;
    if object.is_exact_instance_of::<PyByteArray>() && is_unshared() {
        let array = object.cast_into::<PyByteArray>()?;
        let (pointer, length) = (array.data(), array.len());
        return Ok(Bytes::from_owner(Unshared { pointer, length, _array: array.unbind() }));
    }
    bytes_of(&object)
}

/// A `bytearray` to which there is no other reference: nobody can change it.
struct Unshared {
    pointer: *const u8,
    length: usize,
    _array: Py<PyByteArray>,
}

// SAFETY: the memory belongs to the array, which nobody else can reach, and is only read.
unsafe impl Send for Unshared {}

impl AsRef<[u8]> for Unshared {
    fn as_ref(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: the array's memory, which stays in place and as it is while the only reference is held here.
        unsafe { std::slice::from_raw_parts(self.pointer, self.length) }
    }
}

/// Copies `data` into a writable buffer, which must have room for all of it.
pub(crate) fn copy_into<'a>(
    object: &Bound<'_, PyAny>,
    slices: impl Iterator<Item = &'a [u8]>,
    length: usize,
) -> PyResult<usize> {
    let buffer = PyBuffer::<u8>::get(object)?;
    if buffer.readonly() || !buffer.is_c_contiguous() {
        return Err(PyBufferError::new_err("the buffer is read-only or not contiguous"));
    }
    if buffer.len_bytes() < length {
        return Err(PyValueError::new_err(format!("a buffer of {} bytes, {length} are needed", buffer.len_bytes())));
    }
    let (mut to, mut left) = (buffer.buf_ptr().cast::<u8>(), length);
    for slice in slices {
        let part = slice.len().min(left);
        // SAFETY: `left` bytes from `to` on are inside the buffer, which is writable and stays in place while it is
        // exported; no reference to it is made. It does not overlap with what a network received.
        unsafe {
            to.copy_from_nonoverlapping(slice.as_ptr(), part);
            to = to.add(part);
        }
        left -= part;
    }
    Ok(length - left)
}
