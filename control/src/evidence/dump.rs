//! The detailed traffic dump: one line a packet, as `TZ=UTC tcpdump -nn -q -r FILE` prints it (formats.md section 3).
//!
//! The decoder is our own; what its lines look like was learned by running tcpdump 4.99.3 on made and on real packets.
//! It works on packets of which only the first bytes were kept: lengths come from the headers. A packet that ends
//! before a field that its line needs ends in `[|NAME]`, where NAME is the protocol whose field is missing.
//!
//! Where tcpdump looks into what a protocol carries and that is no part of the network's own working, the line names the
//! message, or the number and the length (` ip-proto-9 44`), as tcpdump does for what it does not decode. Nothing is
//! printed below a line; tcpdump adds a hex dump to what it does not know. `tests/dump_captures.rs` names every kind of
//! line that differs.

mod arp;
mod ether;
mod icmp;
mod icmp6;
mod ip;
mod ip6;
mod l2;
mod llc;
mod ppp;
mod routing;
mod sctp;
mod transport;
mod tunnel;
mod view;
mod vrrp;

pub use capture::Packet;
pub(super) use view::put;
use view::{Cut, View};

/// IP in IP in IP …: a deeper stack is cut. tcpdump has its own limit; no real packet comes near.
const DEPTH_MAX: usize = 16;

const NS_A_SECOND: i128 = 1_000_000_000;
const SECONDS_A_DAY: i128 = 86_400;

/// The first line: the date of the first packet, and the zone of all times below. Without the end of the line.
pub fn header(first_unix_ns: i128) -> String {
    let date = crate::evidence::utc(first_unix_ns);
    format!("Traffic from {} on, all times UTC", date.strftime("%Y-%m-%d"))
}

/// Appends the line of a packet, without the end of the line. Allocates nothing but what `out` needs.
pub fn line(out: &mut String, packet: &Packet<'_>) {
    let length = usize::try_from(packet.wire_len).unwrap_or(usize::MAX);
    if packet.bytes.is_empty() {
        // Such a packet has neither time nor line; tcpdump says so in this way.
        put!(out, "[Invalid header: caplen==0{}]", if length == 0 { ", len==0" } else { "" });
        return;
    }
    time(out, packet.time_ns);
    let frame = View { bytes: packet.bytes, length: length.max(packet.bytes.len()), name: "ether" };
    if let Err(Cut(name)) = ether::frame(out, frame, DEPTH_MAX) {
        put!(out, " [|{name}]");
    }
}

/// `21:44:53.145756 `: microseconds, cut off.
fn time(out: &mut String, unix_ns: i128) {
    let seconds = unix_ns.div_euclid(NS_A_SECOND);
    let micros = unix_ns.rem_euclid(NS_A_SECOND) / 1_000;
    let of_day = seconds.rem_euclid(SECONDS_A_DAY);
    put!(out, "{:02}:{:02}:{:02}.{micros:06} ", of_day / 3600, of_day / 60 % 60, of_day % 60);
}

#[cfg(test)]
mod tests;
