//! Addresses that are no destination of a scan, and ports that offer a service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::flow::UDP;

/// Groups, broadcast and the unspecified address: nobody in particular is contacted.
pub fn is_group(a: IpAddr) -> bool {
    match a {
        IpAddr::V4(a) => a.is_multicast() || a.is_broadcast() || a.is_unspecified(),
        IpAddr::V6(a) => a.is_multicast() || a.is_unspecified(),
    }
}

/// Private, shared, link-local, documentation, benchmarking and reserved space (the special-purpose registries of IANA,
/// RFC 6890): on the internet nobody is there. Peer-to-peer nodes learn such addresses from each other and dial them all
/// day, so they count as wrong configuration, never as a scan.
pub fn is_bogon(a: IpAddr) -> bool {
    match a {
        IpAddr::V4(a) => bogon4(a),
        IpAddr::V6(a) => bogon6(a),
    }
}

fn bogon4(a: Ipv4Addr) -> bool {
    let [x, y, z, _] = a.octets();
    match x {
        0 | 10 | 127 | 240..=255 => true,
        100 => y & 0xc0 == 64,
        169 => y == 254,
        172 => y & 0xf0 == 16,
        192 => y == 168 || (y == 0 && (z == 0 || z == 2)),
        198 => y & 0xfe == 18 || (y == 51 && z == 100),
        203 => y == 0 && z == 113,
        _ => false,
    }
}

fn bogon6(a: Ipv6Addr) -> bool {
    if let Some(v4) = a.to_ipv4_mapped() {
        return bogon4(v4);
    }
    let s = a.segments();
    // Only 2000::/3 is given to the internet, and NAT64 maps (RFC 6052); of it, documentation space is not.
    let global = s[0] & 0xe000 == 0x2000 || (s[0] == 0x64 && s[1] == 0xff9b);
    !global || (s[0] == 0x2001 && s[1] == 0xdb8) || s[0] == 0x3fff
}

/// Ports above 1023 on which servers are commonly found; in order.
const TCP_SERVICES: [u16; 48] = [
    1080, 1194, 1433, 1521, 1723, 1883, 2049, 2082, 2083, 2086, 2087, 2181, 2222, 2323, 2375, 2376, 3000,
    3128, 3306, 3389, 4443, 4444, 5000, 5060, 5222, 5269, 5432, 5555, 5601, 5672, 5900, 5984, 5985, 6379,
    6443, 6667, 7001, 8000, 8006, 8080, 8081, 8443, 8883, 8888, 9000, 9200, 11211, 27017,
];
const UDP_SERVICES: [u16; 22] = [
    1194, 1434, 1701, 1812, 1813, 1900, 2049, 3478, 3479, 3702, 4500, 5004, 5060, 5061, 5093, 5353, 5683,
    10001, 11211, 25565, 27015, 51820,
];

/// Whether a port is one on which servers listen: the system ports (RFC 6335), and well-known ones above.
pub fn is_service(protocol: u8, port: u16) -> bool {
    if is_client_port_below_1024(protocol, port) {
        return false;
    }
    let above: &[u16] = if protocol == UDP { &UDP_SERVICES } else { &TCP_SERVICES };
    (1..1024).contains(&port) || above.binary_search(&port).is_ok()
}

/// Clients of DHCP listen on a system port (RFC 2131, RFC 8415).
fn is_client_port_below_1024(protocol: u8, port: u16) -> bool {
    protocol == UDP && matches!(port, 68 | 546)
}

/// Whether a port is one from which clients ask.
pub fn is_client_port(protocol: u8, port: u16) -> bool {
    port != 0 && !is_service(protocol, port)
}

/// UDP ports to which traceroute sends its probes: 33434 and on, one a probe (traceroute(8); 255 hops at most). Nothing
/// listens there, by design.
pub fn is_traceroute(port: u16) -> bool {
    (33434..33434 + 255).contains(&port)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::scan::flow::TCP;

    #[test]
    fn the_lists_of_services_are_in_order() {
        assert!(TCP_SERVICES.is_sorted() && UDP_SERVICES.is_sorted());
    }

    #[test]
    fn special_space_is_told_from_the_internet() {
        for bogon in [
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.1.1",
            "127.0.0.1",
            "198.18.0.1",
            "203.0.113.1",
            "240.0.0.1",
            "fe80::1",
            "fd00::1",
            "2001:db8::1",
            "::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_bogon(bogon.parse().unwrap()), "{bogon}");
        }
        for public in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "192.0.1.1", "2a01:4f8::1", "64:ff9b::808:808"]
        {
            assert!(!is_bogon(public.parse().unwrap()), "{public}");
        }
        assert!(is_group("224.0.0.251".parse().unwrap()) && is_group("ff02::1".parse().unwrap()));
    }

    #[test]
    fn the_port_of_a_dhcp_client_offers_no_service() {
        assert!(is_service(UDP, 67) && !is_service(UDP, 68) && is_service(TCP, 68));
    }
}
