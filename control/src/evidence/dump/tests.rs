//! Lines as tcpdump 4.99.3 prints them for the same bytes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use super::*;

/// 13 November 2013, 21:44:53.145756 UTC.
const T: i128 = 1_384_379_093_145_756_000;

fn hex(s: &str) -> Vec<u8> {
    let digits: String = s.split_whitespace().collect();
    let byte = |i: usize| u8::from_str_radix(&digits[i..i + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn frame(tags_and_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut f = hex("001122334455 0066778899aa");
    f.extend(hex(tags_and_type));
    f.extend(payload);
    f
}

fn ip4(protocol: u8, field: u16, payload: &[u8]) -> Vec<u8> {
    let mut p = hex("45000000 00010000 40000000 c0000201 4c0917b6");
    p[2..4].copy_from_slice(&u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
    p[6..8].copy_from_slice(&field.to_be_bytes());
    p[9] = protocol;
    p.extend(payload);
    p
}

fn ip6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut p = hex("60000000 00000040 20010db8000000000000000000000001 20010db8000000000000000000000002");
    p[4..6].copy_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    p[6] = next;
    p.extend(payload);
    p
}

fn udp(length: u16, carried: usize) -> Vec<u8> {
    let mut p = hex("d6e0 73af 0000 0000");
    p[4..6].copy_from_slice(&length.to_be_bytes());
    p.resize(8 + carried, 0);
    p
}

fn tcp(carried: usize) -> Vec<u8> {
    let mut p = hex("c000 0016 00000001 00000000 5002 0400 0000 0000");
    p.resize(20 + carried, 0);
    p
}

fn print(bytes: &[u8], wire_len: usize) -> String {
    let mut out = String::new();
    line(&mut out, &Packet { time_ns: T, bytes, wire_len: u32::try_from(wire_len).unwrap() });
    out.strip_prefix("21:44:53.145756 ").map_or(out.clone(), str::to_owned)
}

fn whole(frame: &[u8]) -> String {
    print(frame, frame.len())
}

#[test]
fn the_published_sample_is_the_first_fragment_of_a_datagram() {
    let first = frame("0800", &ip4(17, 0x2000, &udp(9224, 1472)));
    let mut out = String::new();
    line(&mut out, &Packet { time_ns: T, bytes: &first, wire_len: 1514 });
    assert_eq!(out, "21:44:53.145756 IP 192.0.2.1.55008 > 76.9.23.182.29615: UDP, length 9216");
    let later = frame("0800", &ip4(17, 0x20b9, &[0; 1480]));
    assert_eq!(whole(&later), "IP 192.0.2.1 > 76.9.23.182: ip-proto-17");
    let jumbo = frame("0800", &ip4(17, 0, &udp(9224, 9216)));
    assert_eq!(print(&jumbo[..100], 9258), "IP 192.0.2.1.55008 > 76.9.23.182.29615: UDP, length 9216");
}

#[test]
fn the_first_line_names_date_and_zone() {
    assert_eq!(header(T), "Traffic from 2013-11-13 on, all times UTC");
    assert!(!header(i128::MAX).is_empty() && !header(i128::MIN).is_empty());
}

#[test]
fn a_cut_packet_keeps_its_length() {
    let f = frame("0800", &ip4(6, 0x4000, &tcp(1400)));
    assert_eq!(print(&f[..100], f.len()), "IP 192.0.2.1.49152 > 76.9.23.182.22: tcp 1400");
    assert_eq!(print(&f[..54], f.len()), "IP 192.0.2.1.49152 > 76.9.23.182.22: tcp 1400");
    assert_eq!(print(&f[..53], f.len()), "IP 192.0.2.1.49152 > 76.9.23.182.22:  [|tcp]");
    assert_eq!(print(&f[..37], f.len()), "IP 192.0.2.1 > 76.9.23.182: [|tcp]");
    assert_eq!(print(&f[..33], f.len()), "IP  [|ip]");
    assert_eq!(print(&f[..14], f.len()), " [|ip]");
    assert_eq!(print(&f[..13], f.len()), " [|ether]");
    let f = frame("86dd", &ip6(17, &udp(108, 100)));
    assert_eq!(print(&f[..62], f.len()), "IP6 2001:db8::1.55008 > 2001:db8::2.29615: UDP, length 100");
    assert_eq!(print(&f[..61], f.len()), "IP6 2001:db8::1.55008 > 2001:db8::2.29615:  [|udp]");
}

#[test]
fn tags_are_looked_through() {
    for tags in ["8100 0064 0800", "88a8 0001 8100 0002 0800", "9100 0001 9100 0002 8100 0003 0800"] {
        let f = frame(tags, &ip4(6, 0, &tcp(0)));
        assert_eq!(whole(&f), "IP 192.0.2.1.49152 > 76.9.23.182.22: tcp 0");
    }
    assert_eq!(whole(&frame("8100 00", &[])), " [|vlan]");
}

#[test]
fn padding_is_no_part_of_a_packet() {
    let mut f = frame("0800", &ip4(17, 0, &udp(8, 0)));
    f.resize(60, 0);
    assert_eq!(whole(&f), "IP 192.0.2.1.55008 > 76.9.23.182.29615: UDP, length 0");
}

#[test]
fn arp_says_who_asks_for_whom() {
    let arp = |op: u8, mac: &str| {
        let text = format!("0001080006040{op:03x} 0266778899aa c0000201 {mac} c0000202");
        whole(&frame("0806", &hex(&text)))
    };
    assert_eq!(arp(1, "000000000000"), "ARP, Request who-has 192.0.2.2 tell 192.0.2.1, length 28");
    assert_eq!(
        arp(1, "ffffffffffff"),
        "ARP, Request who-has 192.0.2.2 (ff:ff:ff:ff:ff:ff) tell 192.0.2.1, length 28"
    );
    assert_eq!(arp(2, "000000000000"), "ARP, Reply 192.0.2.1 is-at 02:66:77:88:99:aa, length 28");
}

#[test]
fn icmp_names_what_was_not_reached() {
    let quoted = ip4(17, 0, &udp(30, 22));
    let icmp = |head: &str| {
        let mut p = hex(head);
        p.extend(&quoted);
        whole(&frame("0800", &ip4(1, 0, &p)))
    };
    let from = "IP 192.0.2.1 > 76.9.23.182: ICMP";
    assert_eq!(
        icmp("03030000 00000000"),
        format!("{from} 76.9.23.182 udp port 29615 unreachable, length 58")
    );
    assert_eq!(icmp("03010000 00000000"), format!("{from} host 76.9.23.182 unreachable, length 58"));
    assert_eq!(icmp("0b000000 00000000"), format!("{from} time exceeded in-transit, length 58"));
    assert_eq!(icmp("08000000 12340007"), format!("{from} echo request, id 4660, seq 7, length 58"));
    let mut solicited = hex("87000000 00000000 fe800000000000000000000000000001");
    let f = frame("86dd", &ip6(58, &solicited));
    let from = "IP6 2001:db8::1 > 2001:db8::2: ICMP6";
    assert_eq!(whole(&f), format!("{from}, neighbor solicitation, who has fe80::1, length 24"));
    solicited[0] = 136;
    let f = frame("86dd", &ip6(58, &solicited));
    assert_eq!(whole(&f), format!("{from}, neighbor advertisement, tgt is fe80::1, length 24"));
}

#[test]
fn extension_headers_are_named_in_their_order() {
    let mut p = hex("2c00 0502 0000 0100"); // hop by hop: router alert, padding
    p.extend(hex("1100 0001 00000009")); // fragment 0
    p.extend(udp(108, 24));
    let f = frame("86dd", &ip6(0, &p));
    assert_eq!(whole(&f), "IP6 2001:db8::1 > 2001:db8::2: HBH frag (0|32) 55008 > 29615: UDP, length 100");
    let f = frame("86dd", &ip6(44, &hex("1100 05b1 00000009 0000000000000000")));
    assert_eq!(whole(&f), "IP6 2001:db8::1 > 2001:db8::2: frag (1456|8)");
    assert_eq!(whole(&frame("86dd", &ip6(59, &[]))), "IP6 2001:db8::1 > 2001:db8::2: no next header");
}

#[test]
fn frames_without_ip_are_named() {
    let bpdu = hex("424203 0000000000 800000111111111100000000 8000002222222222 8001 0000140002000f00");
    let mut f = frame("0026", &bpdu);
    f.resize(60, 0);
    assert_eq!(
        whole(&f),
        "STP 802.1d, Config, Flags [none], bridge-id 8000.00:22:22:22:22:22.8001, length 35"
    );
    let mut pause = hex("0001 ffff");
    pause.resize(46, 0);
    assert_eq!(whole(&frame("8808", &pause)), "MPCP, Opcode Pause, length 46");
    let mut heartbeat = hex("0000000000000000 01000000 c0000209 c000020a");
    heartbeat.resize(46, 0);
    assert_eq!(
        whole(&frame("886f", &heartbeat)),
        "MS NLB heartbeat, host priority: 1, cluster IP: 192.0.2.9, host IP: 192.0.2.10"
    );
    let mut labelled = hex("0006 31 40");
    labelled.extend(ip4(6, 0, &tcp(0)));
    assert_eq!(
        whole(&frame("8847", &labelled)),
        "MPLS (label 99, tc 0, [S], ttl 64) IP 192.0.2.1.49152 > 76.9.23.182.22: tcp 0"
    );
    let f = frame("88b5", &[0; 46]);
    assert_eq!(whole(&f), "00:66:77:88:99:aa > 00:11:22:33:44:55, Unknown Ethertype (0x88b5), length 60: ");
}

#[test]
fn broken_headers_are_said_to_be_so() {
    let mut p = ip4(17, 0, &udp(12, 4));
    p[2..4].copy_from_slice(&1000_u16.to_be_bytes());
    let line = "IP truncated-ip - 968 bytes missing! 192.0.2.1.55008 > 76.9.23.182.29615: UDP, length 4";
    assert_eq!(whole(&frame("0800", &p)), line);
    p[2..4].copy_from_slice(&19_u16.to_be_bytes());
    assert_eq!(whole(&frame("0800", &p)), "IP bad-len 19");
    p[0] = 0x44;
    assert_eq!(whole(&frame("0800", &p)), "IP bad-hlen 16");
    p[0] = 0x05;
    assert_eq!(whole(&frame("0800", &p)), "IP0 (invalid)");
    assert_eq!(print(&[], 0), "[Invalid header: caplen==0, len==0]");
}

#[test]
fn packets_in_packets_end_somewhere() {
    let mut p = ip4(17, 0, &udp(8, 0));
    for _ in 0..1000 {
        p = ip4(4, 0, &p);
    }
    let text = whole(&frame("0800", &p));
    assert!(text.ends_with(" [|ip]"), "{text}");
    assert!(text.len() < 40 * (DEPTH_MAX + 2), "{text}");
}

/// The same numbers everywhere (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % n.max(1)
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let all = |payload: &[u8]| {
        let mut frames = Vec::new();
        for p in 0..=255 {
            frames.push(frame("0800", &ip4(p, 0, payload)));
            frames.push(frame("86dd", &ip6(p, payload)));
        }
        for t in [0x0806, 0x8035, 0x8847, 0x8863, 0x8864, 0x8809, 0x888e, 0x8899, 0x88a2, 0x88cc, 0x9000_u16]
        {
            frames.push(frame(&format!("{t:04x}"), payload));
        }
        for snap in [
            "424203",
            "aaaa0300000c2000",
            "aaaa0300000c2003",
            "aaaa0300000c0111",
            "aaaa030080c20001",
            "f0f07f",
        ] {
            let mut p = hex(snap);
            p.extend(payload);
            frames.push(frame("0040", &p));
        }
        frames
    };
    let mut r = Random(0x9e37_79b9_7f4a_7c15);
    let mut out = String::new();
    for round in 0..200 {
        let payload: Vec<u8> = (0..64).map(|_| u8::try_from(r.below(256)).unwrap()).collect();
        for mut f in all(&payload) {
            for _ in 0..r.below(4) {
                let at = r.below(f.len());
                f[at] = u8::try_from(r.below(256)).unwrap();
            }
            let kept = if round % 2 == 0 { f.len() } else { r.below(f.len()) };
            out.clear();
            line(
                &mut out,
                &Packet { time_ns: T, bytes: &f[..kept], wire_len: u32::try_from(f.len()).unwrap() },
            );
            assert!(!out.contains('\n') && !out.is_empty(), "{out:?}");
            assert!(out.bytes().all(|b| (b' '..0x7f).contains(&b)), "{out:?}");
        }
    }
}
