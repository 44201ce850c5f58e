//! Numbered datagrams at a steady pace: which arrived, and when each was sent.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::Namespaces;

/// How often a receiver looks whether it is told to stop.
const LOOK: Duration = Duration::from_millis(20);
/// Room for some seconds of datagrams: a receiver that gets no core for a while loses nothing.
const ROOM: usize = 4 << 20;

#[derive(Default)]
struct State {
    sent: Vec<Instant>,
    /// By number: when it arrived.
    arrived: Vec<Option<Instant>>,
    count: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stop_sending: AtomicBool,
    stop_receiving: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// A stream from one side to the other.
pub(crate) struct Stream {
    name: String,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What became of it.
pub(crate) struct Flow {
    /// By number: when it was sent.
    pub(crate) sent: Vec<Instant>,
    /// By number: when it arrived.
    pub(crate) arrived: Vec<Option<Instant>>,
}

impl Stream {
    /// Starts sending from an address of a side (any port) to an address with port of the other.
    pub(crate) fn start(ns: &Namespaces, side: &str, from: &str, to: &str, pause: Duration) -> Stream {
        let other = if side == "in" { "out" } else { "in" };
        let address = |a: &str| if a.contains(':') { format!("[{a}]:0") } else { format!("{a}:0") };
        let receiver = ns.within(other, || UdpSocket::bind(address(to)).unwrap());
        setsockopt(&receiver, sockopt::RcvBufForce, &ROOM).unwrap();
        receiver.set_read_timeout(Some(LOOK)).unwrap();
        let sender = ns.within(side, || UdpSocket::bind(address(from)).unwrap());
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        let shared = Arc::new(Shared::default());
        let (a, b) = (shared.clone(), shared.clone());
        let threads = vec![
            thread::spawn(move || send(&sender, &a, pause)),
            thread::spawn(move || receive(&receiver, &b)),
        ];
        Stream { name: format!("{from} to {to}"), shared, threads }
    }

    /// How many were sent so far.
    pub(crate) fn sent(&self) -> usize {
        self.shared.lock().sent.len()
    }

    /// How many have arrived.
    pub(crate) fn arrived(&self) -> usize {
        self.shared.lock().count
    }

    /// Waits until so many more have been sent.
    pub(crate) fn wait_sent(&self, more: usize, deadline: Duration) {
        let goal = self.sent() + more;
        self.wait(deadline, "sent", |s| s.sent.len() >= goal);
    }

    /// Waits until so many more have arrived.
    pub(crate) fn wait_arrived(&self, more: usize, deadline: Duration) {
        let goal = self.arrived() + more;
        self.wait(deadline, "arrived", |s| s.count >= goal);
    }

    /// Waits until none arrives any more: what was on its way is there, and so many more were sent in vain.
    pub(crate) fn wait_cut_off(&self, in_vain: usize, deadline: Duration) {
        let end = Instant::now() + deadline;
        loop {
            let before = self.arrived();
            self.wait_sent(in_vain, deadline);
            if self.arrived() == before {
                return;
            }
            assert!(Instant::now() < end, "{}: {} arrived and more arrive", self.name, self.arrived());
        }
    }

    fn wait(&self, deadline: Duration, what: &str, done: impl Fn(&State) -> bool) {
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), deadline, |s| !done(s));
        let (state, timeout) = waited.unwrap_or_else(|e| e.into_inner());
        assert!(
            !timeout.timed_out(),
            "{}: not enough {what} within {deadline:?}: {} sent, {} arrived",
            self.name,
            state.sent.len(),
            state.count
        );
    }

    /// Stops sending; takes what is still on its way. Those that are lost make it wait for `patience`.
    pub(crate) fn stop(mut self, patience: Duration) -> Flow {
        self.shared.stop_sending.store(true, Relaxed);
        let receiver = self.threads.pop().unwrap();
        self.threads.pop().unwrap().join().unwrap();
        let all = |s: &mut State| s.count < s.sent.len();
        drop(self.shared.changed.wait_timeout_while(self.shared.lock(), patience, all));
        self.shared.stop_receiving.store(true, Relaxed);
        receiver.join().unwrap();
        let mut state = self.shared.lock();
        let mut arrived = std::mem::take(&mut state.arrived);
        arrived.resize(state.sent.len(), None);
        Flow { sent: std::mem::take(&mut state.sent), arrived }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.stop_sending.store(true, Relaxed);
        self.shared.stop_receiving.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Flow {
    /// Numbers that did not arrive.
    pub(crate) fn lost(&self) -> Vec<usize> {
        (0..self.sent.len()).filter(|i| self.arrived[*i].is_none()).collect()
    }
}

fn send(socket: &UdpSocket, shared: &Shared, pause: Duration) {
    for number in 0u64.. {
        if shared.stop_sending.load(Relaxed) {
            return;
        }
        shared.lock().sent.push(Instant::now());
        // A refusal that an earlier datagram met (nobody listens any more) says nothing about this one.
        let _ = socket.send(&number.to_be_bytes());
        shared.changed.notify_all();
        thread::sleep(pause);
    }
}

fn receive(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 8];
    while !shared.stop_receiving.load(Relaxed) {
        let Ok(8) = socket.recv(&mut buffer) else { continue };
        let number = usize::try_from(u64::from_be_bytes(buffer)).unwrap();
        let mut state = shared.lock();
        if state.arrived.len() <= number {
            state.arrived.resize(number + 1, None);
        }
        assert!(state.arrived[number].replace(Instant::now()).is_none(), "{number} came twice");
        state.count += 1;
        shared.changed.notify_all();
    }
}

/// The value that so many of a hundred do not exceed.
pub(crate) fn percentile(values: &mut [Duration], percent: usize) -> Duration {
    values.sort_unstable();
    values[(values.len() * percent).div_ceil(100).clamp(1, values.len()) - 1]
}
