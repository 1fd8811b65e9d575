//! Codes, the message of a thread, and the guard around each function.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// What became of a call. Numbers are never reused; later versions may add some.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum lunette_result {
    /// Done.
    Ok = 0,
    /// A pointer that must not be NULL is.
    NullParameter = 1,
    /// The handle was given back already, or is of another kind.
    InvalidHandle = 2,
    /// An argument has a value that makes no sense.
    InvalidParameter = 3,
    /// The library failed; the object should be given up.
    Panic = 4,
    /// The call was made from a callback that may not make it.
    Busy = 5,
    /// There is nothing of that name.
    NotFound = 6,
    /// There is one of that name, or the LUN is taken.
    Exists = 7,
    /// The configuration does not allow it.
    Refused = 8,
    /// The operating system refused.
    System = 9,
    /// A limit of the library is reached.
    Limit = 10,
    /// This version, or this object, does not do that.
    Unsupported = 11,
    /// The connection or server is closed.
    Closed = 12,
    /// The target refused the login.
    LoginFailed = 13,
    /// No answer in time.
    TimedOut = 14,
    /// The command ended with CHECK CONDITION; the message tells the sense.
    CheckCondition = 15,
    /// The command ended with another status than GOOD.
    BadStatus = 16,
    /// The buffer is too small for the answer.
    BufferTooSmall = 17,
    /// The peer broke the protocol.
    Protocol = 18,
}

/// A call that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: lunette_result,
    pub(crate) message: String,
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: lunette_result, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(lunette_result::InvalidParameter, message)
    }

    pub(crate) fn null(name: &str) -> Self {
        Self::new(lunette_result::NullParameter, format!("{name} is NULL"))
    }

    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(lunette_result::Busy, message)
    }

    pub(crate) fn closed(message: impl Into<String>) -> Self {
        Self::new(lunette_result::Closed, message)
    }

    pub(crate) fn system(error: impl Display) -> Self {
        Self::new(lunette_result::System, error.to_string())
    }

    pub(crate) fn refused(error: impl Display) -> Self {
        Self::new(lunette_result::Refused, error.to_string())
    }
}

thread_local! {
    static MESSAGE: RefCell<CString> = RefCell::default();
    static IN_CALLBACK: Cell<u32> = const { Cell::new(0) };
}

/// Runs the body of a function: errors become a code and the thread's message, panics too.
pub(crate) fn guard(body: impl FnOnce() -> Outcome) -> lunette_result {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return lunette_result::Ok,
        Ok(Err(failure)) => failure,
        Err(payload) => {
            let words = payload.downcast_ref::<&str>().copied().map(str::to_owned);
            let words = words.or_else(|| payload.downcast_ref::<String>().cloned());
            // Dropping a payload may panic in turn; it is small and this is rare.
            std::mem::forget(payload);
            let words = words.unwrap_or_else(|| "without a message".into());
            Failure::new(lunette_result::Panic, format!("the library panicked: {words}"))
        }
    };
    let text = CString::new(failure.message.replace('\0', " ")).unwrap_or_default();
    // A thread that is ending may have no message any more.
    let _ = MESSAGE.try_with(|message| message.replace(text));
    failure.code
}

/// Calls back into C, and knows meanwhile that it does.
pub(crate) fn calling_back<R>(call: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            let _ = IN_CALLBACK.try_with(|depth| depth.set(depth.get() - 1));
        }
    }
    let _leave = IN_CALLBACK.try_with(|depth| depth.set(depth.get() + 1)).ok().map(|()| Leave);
    call()
}

/// Refuses what would wait for the very callback that asks for it.
pub(crate) fn outside_callbacks() -> Outcome {
    match IN_CALLBACK.try_with(Cell::get) {
        Ok(1..) => Err(Failure::busy("called from a callback")),
        _ => Ok(()),
    }
}

/// What went wrong in the last call on this thread that failed, in words, with the thing and the reason; an empty text
/// if none has. The text belongs to the library and is good until the next call on this thread that fails.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_last_error() -> *const c_char {
    MESSAGE.try_with(|message| message.borrow().as_ptr()).unwrap_or(EMPTY.as_ptr())
}

const EMPTY: &CStr = c"";

/// The name of a code, such as "INVALID_HANDLE"; "UNKNOWN" for a number that is none. The text is never freed.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_result_name(result: u32) -> *const c_char {
    const NAMES: [&CStr; 19] = [
        c"OK",
        c"NULL_PARAMETER",
        c"INVALID_HANDLE",
        c"INVALID_PARAMETER",
        c"PANIC",
        c"BUSY",
        c"NOT_FOUND",
        c"EXISTS",
        c"REFUSED",
        c"SYSTEM",
        c"LIMIT",
        c"UNSUPPORTED",
        c"CLOSED",
        c"LOGIN_FAILED",
        c"TIMED_OUT",
        c"CHECK_CONDITION",
        c"BAD_STATUS",
        c"BUFFER_TOO_SMALL",
        c"PROTOCOL",
    ];
    NAMES.get(result as usize).map_or(c"UNKNOWN".as_ptr(), |name| name.as_ptr())
}

/// The version of the library, such as "0.1.0". The text is never freed.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    CStr::from_bytes_with_nul(VERSION.as_bytes()).map_or(ptr::null(), CStr::as_ptr)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> String {
        MESSAGE.with(|message| message.borrow().to_string_lossy().into_owned())
    }

    #[test]
    fn a_panic_becomes_a_code_and_a_message() {
        assert_eq!(guard(|| panic!("at {}", 7)), lunette_result::Panic);
        assert_eq!(message(), "the library panicked: at 7");
    }

    #[test]
    fn a_message_may_hold_anything() {
        assert_eq!(guard(|| Err(Failure::invalid("a\0b"))), lunette_result::InvalidParameter);
        assert_eq!(message(), "a b");
        assert_eq!(guard(|| Ok(())), lunette_result::Ok);
        assert_eq!(message(), "a b", "a success leaves it");
    }

    #[test]
    fn a_callback_is_known_for_as_long_as_it_runs() {
        assert!(calling_back(outside_callbacks).is_err());
        assert!(outside_callbacks().is_ok());
    }
}
