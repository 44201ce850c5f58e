//! What DPDK refused, on which object, and why.

use std::ffi::CStr;

/// A call that failed: `rte_eth_dev_start(port 1): No such device (errno 19); is the NIC bound to vfio-pci?`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}({object}): {cause} (errno {errno}){}{advice}", if advice.is_empty() { "" } else { "; " })]
pub struct Error {
    /// The DPDK function.
    pub call: &'static str,
    /// What it was called on.
    pub object: String,
    /// The cause in words.
    pub cause: String,
    /// The positive errno.
    pub errno: i32,
    /// What the operator can do about it; empty where nothing more is known.
    pub advice: String,
}

impl Error {
    /// From a negative return value, as most of ethdev gives.
    pub(crate) fn from_code(call: &'static str, object: impl Into<String>, code: i32) -> Error {
        let errno = code.saturating_abs();
        Error { call, object: object.into(), cause: describe(errno), errno, advice: String::new() }
    }

    /// From `rte_errno`, as functions that return a pointer give.
    pub(crate) fn from_errno(call: &'static str, object: impl Into<String>) -> Error {
        // SAFETY: reads a thread-local integer.
        let errno = unsafe { dpdk_sys::shim_errno() };
        Error::from_code(call, object, errno)
    }

    /// With words of our own.
    pub(crate) fn because(
        call: &'static str,
        object: impl Into<String>,
        cause: impl Into<String>,
        errno: i32,
    ) -> Error {
        Error { call, object: object.into(), cause: cause.into(), errno, advice: String::new() }
    }

    /// Adds what the operator can do.
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Error {
        self.advice = advice.into();
        self
    }
}

fn describe(errno: i32) -> String {
    // SAFETY: always returns a valid string, which lives until the thread's next call.
    let words = unsafe { dpdk_sys::rte_strerror(errno) };
    // SAFETY: not null and terminated, as above.
    unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned()
}

/// Turns a return value below zero into an error.
pub(crate) fn check(call: &'static str, object: impl FnOnce() -> String, code: i32) -> Result<i32, Error> {
    if code < 0 { Err(Error::from_code(call, object(), code)) } else { Ok(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_call_the_object_and_the_cause_then_the_advice() {
        let e = Error::because("rte_eth_dev_start", "port 1", "no such device", 19);
        assert_eq!(e.to_string(), "rte_eth_dev_start(port 1): no such device (errno 19)");
        assert_eq!(
            e.advise("plug it in").to_string(),
            "rte_eth_dev_start(port 1): no such device (errno 19); plug it in"
        );
    }
}
