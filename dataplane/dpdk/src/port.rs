//! Ethernet ports and their queues.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;

use dpdk_sys as sys;

use crate::burst::{BURST, Burst};
use crate::error::{Error, check};
use crate::pool::Pool;

/// Where a driver refuses something for reasons of its own.
const DRIVER: &str = "the driver's lines above say why; [dataplane] mtu, cores, descriptors and mbufs are what it was asked for";
/// Where it refuses a queue.
const QUEUE: &str = "the driver's lines above say why; change [dataplane] descriptors or mtu (net_af_packet: a ring frame, framesz, \
                     has to fit a buffer, which holds a whole frame of that MTU)";

/// How a port is set up.
#[derive(Clone, Debug)]
pub struct PortSettings {
    /// Receive and transmit queues, one pair a worker.
    pub queues: u16,
    /// Descriptors of a receive queue; adjusted to what the device can.
    pub rx_descriptors: u16,
    /// Descriptors of a transmit queue.
    pub tx_descriptors: u16,
    /// Largest payload of a frame in bytes.
    pub mtu: u16,
}

/// State of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether it is up.
    pub up: bool,
    /// Mbit/s; 0 unknown.
    pub speed_mbps: u32,
}

/// Counters of a port, as the device has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Packets received.
    pub ipackets: u64,
    /// Packets sent.
    pub opackets: u64,
    /// Bytes received.
    pub ibytes: u64,
    /// Bytes sent.
    pub obytes: u64,
    /// Packets the device dropped because a receive queue was full.
    pub imissed: u64,
    /// Packets received with errors.
    pub ierrors: u64,
    /// Packets that failed to be sent.
    pub oerrors: u64,
    /// Times no buffer was free.
    pub rx_nombuf: u64,
}

/// A port. Stopped and closed when dropped; its queues must be gone by then.
#[derive(Debug)]
pub struct Port {
    id: u16,
    name: String,
    started: bool,
}

impl Port {
    /// The port of a name: a PCI address (`0000:01:00.0`) or the name of a virtual device (`net_tap0`).
    pub fn by_name(name: &str) -> Result<Port, Error> {
        const CALL: &str = "rte_eth_dev_get_port_by_name";
        let c_name =
            CString::new(name).map_err(|_| Error::because(CALL, name, "the name holds a NUL byte", 22))?;
        let mut id = 0;
        // SAFETY: a terminated name, and room for one number.
        let code = unsafe { sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut id) };
        if code < 0 {
            // A PCI address has colons, the name of a virtual device has none.
            let advice = if name.contains(':') {
                "no driver of DPDK took this NIC: is it there (lspci), and bound to vfio-pci (hugepages.sh shows and does it)?"
            } else {
                "its driver did not make this port, see its lines above: do the interface or file and the arguments that the \
                 configuration names for it exist?"
            };
            return Err(Error::from_code(CALL, name, code).advise(advice));
        }
        Ok(Port::of_id(id, name))
    }

    pub(crate) fn of_id(id: u16, name: &str) -> Port {
        Port { id, name: name.to_owned(), started: false }
    }

    /// DPDK's number of the port.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// The name it was found by.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn object(&self) -> String {
        format!("port {} {}", self.id, self.name)
    }

    fn info(&self) -> Result<sys::rte_eth_dev_info, Error> {
        let mut info = MaybeUninit::zeroed();
        // SAFETY: room for one value, zeroed; every bit pattern that DPDK writes is a valid one.
        let code = unsafe { sys::rte_eth_dev_info_get(self.id, info.as_mut_ptr()) };
        check("rte_eth_dev_info_get", || self.object(), code)?;
        // SAFETY: zeroed before and filled by the call that succeeded; pointers in it may be null.
        Ok(unsafe { info.assume_init() })
    }

    /// Name of the driver, such as `net_ixgbe`.
    pub fn driver(&self) -> Result<String, Error> {
        let info = self.info()?;
        if info.driver_name.is_null() {
            return Ok(String::new());
        }
        // SAFETY: not null; a driver's name is a terminated string in its static data.
        Ok(unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned())
    }

    /// Whether a frame longer than a buffer arrives in several segments.
    pub fn can_scatter(&self) -> Result<bool, Error> {
        Ok(self.info()?.rx_offload_capa & sys::SHIM_RX_SCATTER != 0)
    }

    /// Whether it sends a packet of several segments.
    pub fn can_send_segments(&self) -> Result<bool, Error> {
        Ok(self.info()?.tx_offload_capa & sys::SHIM_TX_MULTI_SEGS != 0)
    }

    /// The NUMA node it is plugged into; none for a virtual device.
    pub fn socket(&self) -> Option<i32> {
        // SAFETY: takes and returns numbers.
        let socket = unsafe { sys::rte_eth_dev_socket_id(self.id) };
        (socket >= 0).then_some(socket)
    }

    /// Configures the port: promiscuous, multi-segment, symmetric RSS over the queues, all rewriting off. `pools` gives a
    /// receive pool for each queue. Returns remarks on what the device cannot do.
    pub fn configure(&mut self, s: &PortSettings, pools: &[Pool]) -> Result<Vec<String>, Error> {
        let info = self.info()?;
        let mut remarks = Vec::new();
        let most = info.max_rx_queues.min(info.max_tx_queues);
        if s.queues == 0 || s.queues > most || pools.len() < usize::from(s.queues) {
            let cause = format!("{} queues are configured, the device has at most {most}", s.queues);
            let advice = "name fewer [dataplane] cores (or queues), or give a virtual device more (net_af_packet: qpairs=N)";
            return Err(Error::because("rte_eth_dev_configure", self.object(), cause, 22).advise(advice));
        }

        let mut key = SYMMETRIC_KEY;
        let mut conf = sys::rte_eth_conf::default();
        // VLAN stripping and filtering, LRO and checksum rewriting stay off: a bump in the wire changes nothing.
        conf.rxmode.offloads = info.rx_offload_capa & sys::SHIM_RX_SCATTER;
        conf.txmode.offloads = info.tx_offload_capa & sys::SHIM_TX_MULTI_SEGS;
        let limit = mtu_max(info.max_mtu, info.max_rx_pktlen);
        conf.rxmode.mtu = u32::from(s.mtu).max(u32::from(info.min_mtu)).min(limit);
        if conf.rxmode.mtu != u32::from(s.mtu) {
            remarks.push(format!(
                "{}: MTU {} instead of {}, the limit that the device reports",
                self.name, conf.rxmode.mtu, s.mtu
            ));
        }
        if s.queues > 1 {
            let flows = info.flow_type_rss_offloads & sys::SHIM_RSS_FLOWS;
            if flows == 0 {
                remarks.push(format!(
                    "{}: no RSS; the device spreads packets over queues as it likes",
                    self.name
                ));
            } else {
                conf.rxmode.mq_mode = sys::rte_eth_rx_mq_mode::RTE_ETH_MQ_RX_RSS;
                let length = if info.hash_key_size == 0 { 40 } else { info.hash_key_size };
                conf.rx_adv_conf.rss_conf.rss_key = key.as_mut_ptr();
                conf.rx_adv_conf.rss_conf.rss_key_len = length.min(SYMMETRIC_KEY_MAX);
                conf.rx_adv_conf.rss_conf.rss_hf = flows;
            }
        }
        // SAFETY: conf outlives the call, and the key behind its pointer too; DPDK copies both.
        let code = unsafe { sys::rte_eth_dev_configure(self.id, s.queues, s.queues, &raw const conf) };
        check("rte_eth_dev_configure", || self.object(), code).map_err(|e| e.advise(DRIVER))?;

        let (mut rx, mut tx) = (s.rx_descriptors, s.tx_descriptors);
        // SAFETY: room for two numbers, adjusted in place.
        let code = unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &raw mut rx, &raw mut tx) };
        check("rte_eth_dev_adjust_nb_rx_tx_desc", || self.object(), code)?;
        let socket = u32::try_from(self.socket().unwrap_or(-1)).unwrap_or(u32::MAX);
        let mut rx_conf = info.default_rxconf;
        rx_conf.offloads = conf.rxmode.offloads;
        let mut tx_conf = info.default_txconf;
        tx_conf.offloads = conf.txmode.offloads;
        for (q, pool) in (0..s.queues).zip(pools) {
            // SAFETY: the configuration outlives the call; the pool lives as long as the process.
            let code = unsafe {
                sys::rte_eth_rx_queue_setup(self.id, q, rx, socket, &raw const rx_conf, pool.raw())
            };
            check("rte_eth_rx_queue_setup", || format!("{}, queue {q}", self.object()), code)
                .map_err(|e| e.advise(QUEUE))?;
            // SAFETY: the configuration outlives the call.
            let code = unsafe { sys::rte_eth_tx_queue_setup(self.id, q, tx, socket, &raw const tx_conf) };
            check("rte_eth_tx_queue_setup", || format!("{}, queue {q}", self.object()), code)
                .map_err(|e| e.advise(QUEUE))?;
        }
        self.flow_control_off(&mut remarks);
        Ok(remarks)
    }

    /// Pause frames would let one side stop the other; a device without the call never sends them.
    fn flow_control_off(&self, remarks: &mut Vec<String>) {
        let mut fc = sys::rte_eth_fc_conf::default();
        // SAFETY: room for one value.
        if unsafe { sys::rte_eth_dev_flow_ctrl_get(self.id, &raw mut fc) } != 0 {
            return;
        }
        fc.mode = sys::rte_eth_fc_mode::RTE_ETH_FC_NONE;
        // SAFETY: a value that outlives the call.
        let code = unsafe { sys::rte_eth_dev_flow_ctrl_set(self.id, &raw mut fc) };
        if code != 0 {
            let e = Error::from_code("rte_eth_dev_flow_ctrl_set", self.object(), code);
            remarks.push(format!("{}: flow control stays on ({e})", self.name));
        }
    }

    /// Starts the port, promiscuous and for all multicast, with the RSS table spread evenly. Returns remarks.
    pub fn start(&mut self, queues: u16) -> Result<Vec<String>, Error> {
        // SAFETY: takes a number; fails cleanly for a port that is not configured.
        let code = unsafe { sys::rte_eth_dev_start(self.id) };
        check("rte_eth_dev_start", || self.object(), code).map_err(|e| e.advise(DRIVER))?;
        self.started = true;
        let mut remarks = Vec::new();
        // SAFETY: takes a number.
        let code = unsafe { sys::rte_eth_promiscuous_enable(self.id) };
        self.remark(&mut remarks, "rte_eth_promiscuous_enable", code);
        // SAFETY: takes a number.
        let code = unsafe { sys::rte_eth_allmulticast_enable(self.id) };
        self.remark(&mut remarks, "rte_eth_allmulticast_enable", code);
        let reta = self.info()?.reta_size;
        if queues > 1 && reta > 0 {
            let groups = usize::from(reta).div_ceil(64);
            let mut table = vec![sys::rte_eth_rss_reta_entry64 { mask: u64::MAX, reta: [0; 64] }; groups];
            for (i, slot) in table.iter_mut().flat_map(|g| g.reta.iter_mut()).enumerate() {
                *slot = u16::try_from(i % usize::from(queues)).unwrap_or(0);
            }
            // SAFETY: the table holds reta_size entries in groups of 64, and outlives the call.
            let code = unsafe { sys::rte_eth_dev_rss_reta_update(self.id, table.as_mut_ptr(), reta) };
            self.remark(&mut remarks, "rte_eth_dev_rss_reta_update", code);
        }
        Ok(remarks)
    }

    fn remark(&self, remarks: &mut Vec<String>, call: &'static str, code: i32) {
        // A device without the call (ENOTSUP) needs none: virtual devices pass everything anyway.
        if code < 0 && code != -95 {
            remarks.push(Error::from_code(call, self.object(), code).to_string());
        }
    }

    /// The receive side of a queue. One owner a queue: hand it to one worker.
    pub fn rx_queue(&self, queue: u16) -> RxQueue {
        RxQueue { port: self.id, queue }
    }

    /// The transmit side of a queue.
    pub fn tx_queue(&self, queue: u16) -> TxQueue {
        TxQueue { port: self.id, queue }
    }

    /// The link as the device reports it, without waiting.
    pub fn link(&self) -> Link {
        let mut link = sys::rte_eth_link::default();
        // SAFETY: room for one value.
        let code = unsafe { sys::rte_eth_link_get_nowait(self.id, &raw mut link) };
        if code != 0 {
            return Link::default();
        }
        let speed = if link.link_speed == u32::MAX { 0 } else { link.link_speed };
        Link { up: link.link_status() != 0, speed_mbps: speed }
    }

    /// Takes the link up or down.
    pub fn set_link(&self, up: bool) -> Result<(), Error> {
        if up {
            // SAFETY: takes a number.
            let code = unsafe { sys::rte_eth_dev_set_link_up(self.id) };
            check("rte_eth_dev_set_link_up", || self.object(), code).map(drop)
        } else {
            // SAFETY: takes a number.
            let code = unsafe { sys::rte_eth_dev_set_link_down(self.id) };
            check("rte_eth_dev_set_link_down", || self.object(), code).map(drop)
        }
    }

    /// The device's counters.
    pub fn stats(&self) -> Result<Stats, Error> {
        let mut s = sys::rte_eth_stats::default();
        // SAFETY: room for one value.
        let code = unsafe { sys::rte_eth_stats_get(self.id, &raw mut s) };
        check("rte_eth_stats_get", || self.object(), code)?;
        Ok(Stats {
            ipackets: s.ipackets,
            opackets: s.opackets,
            ibytes: s.ibytes,
            obytes: s.obytes,
            imissed: s.imissed,
            ierrors: s.ierrors,
            oerrors: s.oerrors,
            rx_nombuf: s.rx_nombuf,
        })
    }

    /// Stops the port. Workers must have left its queues.
    pub fn stop(&mut self) -> Result<(), Error> {
        if !self.started {
            return Ok(());
        }
        self.started = false;
        // SAFETY: takes a number.
        let code = unsafe { sys::rte_eth_dev_stop(self.id) };
        check("rte_eth_dev_stop", || self.object(), code).map(drop)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let _ = self.stop();
        // SAFETY: takes a number; the port is stopped.
        let _ = unsafe { sys::rte_eth_dev_close(self.id) };
    }
}

/// The largest MTU that `rte_eth_dev_configure` takes: a device limits the MTU, the frame, or both.
fn mtu_max(max_mtu: u16, max_frame: u32) -> u32 {
    /// What DPDK takes for header and FCS where the device does not say.
    const OVERHEAD: u32 = 18;
    let mtu = u32::from(max_mtu);
    let overhead = if max_mtu != u16::MAX && max_frame > mtu { max_frame - mtu } else { OVERHEAD };
    mtu.min(max_frame.saturating_sub(overhead))
}

/// Longest key of any device (Intel E810 and others take 52 bytes, most 40).
const SYMMETRIC_KEY_MAX: u8 = 52;

/// 0x6d5a repeated: under Toeplitz both directions of a flow hash alike (S. Woo and K. Park, "Scalable TCP Session
/// Monitoring with Symmetric Receive-side Scaling", 2012).
const SYMMETRIC_KEY: [u8; SYMMETRIC_KEY_MAX as usize] = {
    let mut key = [0x6d; SYMMETRIC_KEY_MAX as usize];
    let mut i = 1;
    while i < key.len() {
        key[i] = 0x5a;
        i += 2;
    }
    key
};

/// The receive side of a queue; not `Clone`: a queue has one poller.
#[derive(Debug)]
pub struct RxQueue {
    port: u16,
    queue: u16,
}

impl RxQueue {
    /// Receives into an empty burst; returns how many packets came.
    #[inline]
    pub fn receive(&mut self, burst: &mut Burst) -> usize {
        if !burst.is_empty() {
            return 0;
        }
        #[expect(clippy::cast_possible_truncation, reason = "32")]
        // SAFETY: the array has room for BURST packets, and the queue has this one poller.
        let n =
            unsafe { sys::shim_rx_burst(self.port, self.queue, burst.packets.as_mut_ptr(), BURST as u16) };
        burst.len = usize::from(n).min(BURST);
        burst.len
    }
}

/// The transmit side of a queue; not `Clone`: a queue has one sender.
#[derive(Debug)]
pub struct TxQueue {
    port: u16,
    queue: u16,
}

impl TxQueue {
    /// Sends what the queue takes; the rest stays in the burst. Returns how many were taken.
    #[inline]
    pub fn send(&mut self, burst: &mut Burst) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "at most 32")]
        let len = burst.len as u16;
        // SAFETY: the first `len` packets are this burst's own; those taken belong to the driver afterwards.
        let n = unsafe { sys::shim_tx_burst(self.port, self.queue, burst.packets.as_mut_ptr(), len) };
        let n = usize::from(n).min(burst.len);
        burst.forget_first(n);
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mtu_fits_the_frames_that_a_device_takes() {
        // net_af_packet names a frame only, a NIC both, net_pcap nothing.
        assert_eq!(mtu_max(u16::MAX, 1518), 1500);
        assert_eq!(mtu_max(9702, 9728), 9702);
        assert_eq!(mtu_max(u16::MAX, u32::MAX), 65_535);
        assert_eq!(mtu_max(1500, 0), 0);
    }

    #[test]
    fn the_key_hashes_both_directions_alike() {
        let toeplitz = |input: &[u8]| {
            let bit = |i: usize| u32::from(SYMMETRIC_KEY[i / 8] >> (7 - i % 8) & 1);
            let window = |at: usize| (0..32).fold(0, |w, i| w << 1 | bit(at + i));
            let set = (0..input.len() * 8).filter(|i| input[i / 8] >> (7 - i % 8) & 1 == 1);
            set.fold(0u32, |hash, at| hash ^ window(at))
        };
        let there = toeplitz(&[192, 0, 2, 10, 198, 51, 100, 7, 0x1f, 0x90, 0, 80]);
        let back = toeplitz(&[198, 51, 100, 7, 192, 0, 2, 10, 0, 80, 0x1f, 0x90]);
        assert_eq!(there, back);
        let other = toeplitz(&[192, 0, 2, 11, 198, 51, 100, 7, 0x1f, 0x90, 0, 80]);
        assert_ne!(there, other);
    }
}
