//! The Environment Abstraction Layer: once a process.

use std::ffi::{CString, c_char, c_int};
use std::marker::PhantomData;

use crate::error::Error;

/// The initialised EAL. Its end gives back hugepages and files.
#[derive(Debug)]
pub struct Eal {
    _not_send: PhantomData<*const ()>,
}

impl Eal {
    /// `rte_eal_init` with `args` behind the program's name. EAL pins the calling thread: read the affinity before.
    pub fn init(args: &[String]) -> Result<Eal, Error> {
        let object = args.join(" ");
        let invalid = |_| Error::because("rte_eal_init", object.clone(), "an argument holds a NUL byte", 22);
        let mut words = vec![CString::from(c"cordon-dataplane")];
        for a in args {
            words.push(CString::new(a.as_str()).map_err(invalid)?);
        }
        // EAL keeps pointers into its arguments for the life of the process.
        let mut argv: Vec<*mut c_char> = words.into_iter().map(CString::into_raw).collect();
        let argc = c_int::try_from(argv.len()).unwrap_or(c_int::MAX);
        argv.push(std::ptr::null_mut());
        // SAFETY: argv holds argc terminated strings and a closing null pointer; both are never freed.
        let code = unsafe { dpdk_sys::rte_eal_init(argc, Vec::leak(argv).as_mut_ptr()) };
        if code < 0 {
            let e = Error::from_errno("rte_eal_init", object);
            let advice = advice(e.errno);
            return Err(e.advise(advice));
        }
        Ok(Eal { _not_send: PhantomData })
    }

    /// Gives everything back. Ports must be closed and worker threads ended.
    pub fn cleanup(self) -> Result<(), Error> {
        // SAFETY: EAL was initialised (self exists), and is cleaned up once (self is consumed).
        let code = unsafe { dpdk_sys::rte_eal_cleanup() };
        crate::error::check("rte_eal_cleanup", String::new, code).map(drop)
    }
}

/// What usually stands behind a refusal of `rte_eal_init`; EAL's own lines on standard error say which.
fn advice(errno: i32) -> &'static str {
    match errno {
        1 | 13 => {
            "see EAL's lines above; without hugepages: hugepages.sh reserves them, or [dataplane] eal = [\"--no-huge\", \"-m\", \"512\"]; \
             without rights: run as root or with the capabilities of the shipped unit"
        }
        12 => "too little memory: reserve more hugepages (hugepages.sh), or lower -m in [dataplane] eal",
        19 | 95 => {
            "see EAL's lines above: correct inside_port or outside_port; a virtual device's driver has to exist, a NIC has to be \
             bound to vfio-pci (hugepages.sh shows it)"
        }
        22 => "see EAL's lines above: correct [dataplane] eal",
        _ => "see EAL's lines above",
    }
}

/// A thread that DPDK knows. Without it a thread has no mempool cache: three times the cost a packet.
#[derive(Debug)]
pub struct Registration {
    _not_send: PhantomData<*const ()>,
}

impl Registration {
    /// Registers the calling thread until the value is dropped.
    pub fn register() -> Result<Registration, Error> {
        // SAFETY: callable from any thread once EAL is up; fails cleanly otherwise.
        let code = unsafe { dpdk_sys::rte_thread_register() };
        if code < 0 {
            let e = Error::from_errno("rte_thread_register", "this thread");
            return Err(e.advise("DPDK has no thread number left: lower [dataplane] queues"));
        }
        Ok(Registration { _not_send: PhantomData })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: this thread was registered and, the type being bound to its thread, is the one that drops.
        unsafe { dpdk_sys::rte_thread_unregister() };
    }
}

/// The time stamp counter.
#[inline(always)]
pub fn tsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: reads a register; no memory is touched.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    compile_error!("the time stamp counter of this architecture is not read yet");
}

/// Ticks of the TSC in a second, as EAL measured them.
pub fn tsc_hz() -> u64 {
    // SAFETY: returns a number; zero before EAL is initialised.
    unsafe { dpdk_sys::rte_get_tsc_hz() }
}

/// Asks the cache for the line at the start of `bytes`; a hint without effect on correctness.
#[inline(always)]
pub fn prefetch_bytes(bytes: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no architectural effect, whatever the address.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(bytes.cast());
    }
}
