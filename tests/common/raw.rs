//! Packets with any source address, sent from a side of the namespaces through its kernel's routes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::libc::{IPPROTO_RAW, SOCK_RAW};
use socket2::{Domain, Socket};

use super::{Namespaces, eventually};

/// What [`super::packets`] puts before an IP header.
const ETHERNET_BYTES: usize = 14;
/// How often a flood looks at the clock.
const STEP: Duration = Duration::from_millis(1);

/// A socket of each family, whose packets bring their own headers.
pub(crate) struct Raw {
    four: Socket,
    six: Socket,
}

impl Raw {
    pub(crate) fn open(ns: &Namespaces, side: &str) -> Raw {
        let open = |domain| Socket::new(domain, SOCK_RAW.into(), Some(IPPROTO_RAW.into())).unwrap();
        ns.within(side, || Raw { four: open(Domain::IPV4), six: open(Domain::IPV6) })
    }

    /// Sends the IP packet in an Ethernet frame to its destination.
    pub(crate) fn send(&self, frame: &[u8]) {
        let ip = &frame[ETHERNET_BYTES..];
        let sent = if ip[0] >> 4 == 4 {
            let length = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
            let to = Ipv4Addr::from(<[u8; 4]>::try_from(&ip[16..20]).unwrap());
            self.four.send_to(&ip[..length], &SocketAddr::from((to, 0)).into())
        } else {
            let to = Ipv6Addr::from(<[u8; 16]>::try_from(&ip[24..40]).unwrap());
            self.six.send_to(ip, &SocketAddr::from((to, 0)).into())
        };
        sent.unwrap_or_else(|e| panic!("a raw packet: {e}: {ip:02x?}"));
    }
}

/// Packets at a steady pace until it is dropped.
pub(crate) struct Flood {
    sent: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Starts one; `frame` makes the n-th packet.
    pub(crate) fn start(raw: Raw, pps: u32, frame: impl Fn(u32) -> Vec<u8> + Send + 'static) -> Flood {
        let (sent, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (sent.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let began = Instant::now();
            for n in 0.. {
                while began.elapsed() < Duration::from_secs(1) * n / pps {
                    thread::sleep(STEP);
                }
                if end.load(Relaxed) {
                    return;
                }
                raw.send(&frame(n));
                count.fetch_add(1, Relaxed);
            }
        });
        Flood { sent, stop, thread: Some(thread) }
    }

    /// Waits until so many more have been sent.
    pub(crate) fn wait_sent(&self, more: usize, deadline: Duration) {
        let goal = self.sent.load(Relaxed) + more;
        eventually(&format!("{goal} packets are sent"), deadline, || {
            assert!(!self.thread.as_ref().unwrap().is_finished(), "the flood has ended");
            (self.sent.load(Relaxed) >= goal).then_some(())
        });
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
