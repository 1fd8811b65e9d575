//! Reading what C gives and writing what it gets.

use crate::result::{Failure, Outcome, lunette_result};
use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::{ptr, slice};

/// Bytes in a row, as `struct iovec` has them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lunette_slice {
    /// The first byte.
    pub data: *const u8,
    /// How many.
    pub length: usize,
}

/// The pointer that callbacks get back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UserData(pub(crate) *mut c_void);

// SAFETY: it is never dereferenced here; whoever gave it promised, by the documentation of the function that took it,
// that its callbacks may run on any thread.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

/// A text; `None` for NULL.
///
/// # Safety
/// NULL, or a text that ends in a zero byte and does not change meanwhile.
pub(crate) unsafe fn optional_text(text: *const c_char, name: &str) -> Outcome<Option<String>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map(|text| Some(text.to_owned())).map_err(|_| Failure::invalid(format!("{name} is not UTF-8")))
}

/// A text.
///
/// # Safety
/// As [`optional_text`].
pub(crate) unsafe fn text(text: *const c_char, name: &str) -> Outcome<String> {
    // SAFETY: the caller's promise.
    unsafe { optional_text(text, name) }?.ok_or_else(|| Failure::null(name))
}

/// `length` bytes; NULL goes with 0.
///
/// # Safety
/// NULL, or so many bytes that do not change while the slice lives.
pub(crate) unsafe fn bytes<'a>(data: *const u8, length: usize, name: &str) -> Outcome<&'a [u8]> {
    match (data.is_null(), length) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Failure::null(name)),
        // SAFETY: the caller's promise; no object is larger than isize::MAX, so neither is this.
        (false, _) if isize::try_from(length).is_ok() => Ok(unsafe { slice::from_raw_parts(data, length) }),
        (false, _) => Err(Failure::invalid(format!("{name} is longer than memory"))),
    }
}

/// As [`bytes`], to write to.
///
/// # Safety
/// NULL, or so many bytes that nobody else touches while the slice lives.
pub(crate) unsafe fn bytes_mut<'a>(data: *mut u8, length: usize, name: &str) -> Outcome<&'a mut [u8]> {
    match (data.is_null(), length) {
        (_, 0) => Ok(&mut []),
        (true, _) => Err(Failure::null(name)),
        // SAFETY: as above.
        (false, _) if isize::try_from(length).is_ok() => Ok(unsafe { slice::from_raw_parts_mut(data, length) }),
        (false, _) => Err(Failure::invalid(format!("{name} is longer than memory"))),
    }
}

/// Refuses NULL where a result goes.
pub(crate) fn output<T>(place: *mut T, name: &str) -> Outcome<*mut T> {
    if place.is_null() { Err(Failure::null(name)) } else { Ok(place) }
}

/// Writes a result.
///
/// # Safety
/// `place` is NULL or may be written to.
pub(crate) unsafe fn put<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: the caller's promise.
        unsafe { place.write(value) };
    }
}

/// Writes a text with its zero byte.
///
/// # Safety
/// `buffer` is NULL or has `size` bytes.
pub(crate) unsafe fn put_text(buffer: *mut c_char, size: usize, text: &str) -> Outcome {
    // SAFETY: the caller's promise.
    let buffer = unsafe { bytes_mut(buffer.cast(), size, "buffer") }?;
    let Some((place, rest)) = buffer.split_at_mut_checked(text.len()) else { return Err(too_small(text)) };
    let Some(end) = rest.first_mut() else { return Err(too_small(text)) };
    place.copy_from_slice(text.as_bytes());
    *end = 0;
    Ok(())
}

fn too_small(text: &str) -> Failure {
    let wanted = text.len() + 1;
    Failure::new(lunette_result::BufferTooSmall, format!("the buffer needs {wanted} bytes"))
}

/// A structure that starts with its size.
///
/// # Safety
/// Implementors are `repr(C)`, begin with a `size_t`, and are valid when all their bytes are zero.
pub(crate) unsafe trait Sized0: Copy {
    /// Its size in the first version: what every caller has.
    const FIRST: usize = size_of::<Self>();
}

/// Reads a structure of this version or another: what an older caller does not have is zero, what a newer one has and
/// this version does not know must be.
///
/// # Safety
/// NULL, or a structure of as many bytes as its first member says.
pub(crate) unsafe fn read_sized<T: Sized0>(from: *const T, name: &str) -> Outcome<T> {
    if from.is_null() {
        return Err(Failure::null(name));
    }
    // SAFETY: it begins with its size.
    let size = unsafe { from.cast::<usize>().read_unaligned() };
    if size < T::FIRST {
        return Err(Failure::invalid(format!("the size of {name} is {size}, set it to sizeof")));
    }
    if size > size_of::<T>() {
        // SAFETY: it has so many bytes by its own word.
        let rest = unsafe { bytes(from.cast::<u8>().add(size_of::<T>()), size - size_of::<T>(), name) }?;
        if rest.iter().any(|byte| *byte != 0) {
            return Err(Failure::new(
                lunette_result::Unsupported,
                format!("{name} asks for something that this version does not know"),
            ));
        }
    }
    let mut value = MaybeUninit::<T>::zeroed();
    let known = size.min(size_of::<T>());
    // SAFETY: both have `known` bytes; T is valid with zeros behind them.
    unsafe {
        ptr::copy_nonoverlapping(from.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), known);
        Ok(value.assume_init())
    }
}

/// As [`read_sized`]; `None` for NULL.
///
/// # Safety
/// As [`read_sized`].
pub(crate) unsafe fn read_optional<T: Sized0>(from: *const T, name: &str) -> Outcome<Option<T>> {
    if from.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { read_sized(from, name) }.map(Some)
}

/// Writes a structure that starts with its size: as much of it as the caller has, whose size stays.
///
/// # Safety
/// As [`read_sized`], and it may be written to.
pub(crate) unsafe fn write_sized<T: Sized0>(to: *mut T, mut value: T) {
    // SAFETY: read_sized has looked at it before.
    let size = unsafe { to.cast::<usize>().read_unaligned() };
    // SAFETY: T begins with a size_t.
    unsafe { (&raw mut value).cast::<usize>().write_unaligned(size) };
    // SAFETY: both have so many bytes.
    unsafe { ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), to.cast::<u8>(), size.min(size_of::<T>())) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Options {
        size: usize,
        number: u64,
        later: u64,
    }

    // SAFETY: repr(C), size first, integers.
    unsafe impl Sized0 for Options {
        const FIRST: usize = 16;
    }

    fn read(options: &[u64]) -> Outcome<Options> {
        // SAFETY: the tests give as many bytes as they say.
        unsafe { read_sized(options.as_ptr().cast::<Options>(), "options") }
    }

    #[test]
    fn an_older_structure_has_zeros_and_a_newer_one_must() {
        assert_eq!(read(&[16, 5, 9]).unwrap(), Options { size: 16, number: 5, later: 0 });
        assert_eq!(read(&[24, 5, 9]).unwrap().later, 9);
        assert_eq!(read(&[32, 5, 9, 0]).unwrap().later, 9);
        assert_eq!(read(&[32, 5, 9, 1]).unwrap_err().code, lunette_result::Unsupported);
        assert_eq!(read(&[8, 5, 9]).unwrap_err().code, lunette_result::InvalidParameter);
    }

    #[test]
    fn a_result_does_not_outgrow_the_callers_structure() {
        let mut place = [16u64, 0, 77];
        let value = Options { size: 0, number: 5, later: 9 };
        // SAFETY: it has 24 bytes.
        unsafe { write_sized(place.as_mut_ptr().cast(), value) };
        assert_eq!(place, [16, 5, 77]);
    }
}
