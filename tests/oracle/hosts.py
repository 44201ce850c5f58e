#!/usr/bin/python3
"""Counts what every internal address of a capture sent and received: hosts.json of `cordond replay`, worked out apart.

    hosts.py CAPTURE --internal PREFIX [--internal PREFIX ...] [--ipv6-host-length 64]
    hosts.py --jobs FILE

prints one JSON object, {"hosts": [...], "totals": {...}, "macs": {HOST: [MAC, ...]}}; "macs" says which devices sent with
each host's address. With --jobs, FILE ("-": standard input) has one job a line,
{"capture": PATH, "internal": [PREFIX, ...], "ipv6_host_length": 64}, and one line of JSON answers each; a job that
cannot be done answers {"error": TEXT}.

It shares no code with Cordon and none with tshark: it reads pcap and pcapng itself and decides by the bytes. against_tshark.py
compares it with tshark. The rules:

- Ethernet II. Tags 0x8100, 0x88a8 and 0x9100 are looked through, however many. Everything that is then neither 0x0800
  nor 0x86dd is `non_ip`: ARP (counted again as `arp`), LLC and SNAP (the field is a length), MPLS, PPPoE, MACsec, PBB, ...
- A frame that ends before its EtherType, or before its IP header, is `malformed`. So is IPv4 with another version than 4,
  a header length below 20 or beyond the frame, or a total length below the header length (0 too: no TSO on a wire);
  and IPv6 with another version than 6. A total length beyond the frame is a cut capture, and fine.
- What is behind the IP packet's own length is padding of the link and no part of it. An IPv6 payload length of 0 with
  hop-by-hop options is a jumbogram (RFC 2675) and lasts until the end of the frame.
- The protocol of IPv4 is its protocol field. That of IPv6 is the first Next Header that is no extension header; these
  are the ones of the IANA registry that carry a Next Header: hop-by-hop (0), routing (43), fragment (44),
  authentication (51), destination options (60), mobility (135), HIP (139), Shim6 (140). ESP (50) hides what follows, 253
  and 254 are anybody's, 59 says that nothing follows: `other`. Behind the header of a non-first fragment comes payload, so
  the Next Header of that fragment header is the protocol, whatever it is (RFC 8200 section 4.5). A chain that is cut
  short names no protocol: `other`.
- `icmp` is 1 in IPv4 and 58 in IPv6; 58 in IPv4 and 1 in IPv6 are `other`.
- `syn`: the flags are in the packet (first fragment or none, 14 bytes of TCP), SYN set, ACK clear.
- `fragments`: IPv4 more-fragments or offset; IPv6 more-fragments or offset in the fragment header (an atomic fragment,
  RFC 6946, is whole).
- The source counts `out` and the destination `in`, each if it lies in an --internal prefix. An IPv6 host is named by its
  first --ipv6-host-length bits; only packets of addresses in the prefixes count for it.
- `bytes`: the captured length.
"""
import argparse
import ipaddress
import json
import struct
import sys

TAGS = (0x8100, 0x88A8, 0x9100)
# Extension headers whose length is in units of 8 bytes beyond the first 8.
BY_EIGHT = frozenset((0, 43, 60, 135, 139, 140))
FRAGMENT, AUTHENTICATION = 44, 51
TCP, UDP = 6, 17
FIELDS = ("packets", "bytes", "tcp", "syn", "udp", "icmp", "fragments", "other")
PACKETS, BYTES, TCPS, SYNS, UDPS, ICMPS, FRAGMENTS, OTHERS = range(8)
MALFORMED, NON_IP, ARP = "malformed", "non_ip", "arp"


class BadCapture(Exception):
    """The file is no capture of Ethernet frames."""


def frames(path):
    """The frames of a capture as (bytes, length on the wire), until the end or the first damage."""
    with open(path, "rb") as f:
        data = f.read()
    magic = data[:4]
    if magic in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"):
        return pcap(data, "<")
    if magic in (b"\xa1\xb2\xc3\xd4", b"\xa1\xb2\x3c\x4d"):
        return pcap(data, ">")
    if magic == b"\x0a\x0d\x0d\x0a":
        return pcapng(data)
    raise BadCapture(f"{path}: neither pcap nor pcapng")


def pcap(data, order):
    link = struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF
    if link != 1:
        raise BadCapture(f"link type {link} is not Ethernet")
    header = struct.Struct(order + "IIII")
    at = 24
    while at + 16 <= len(data):
        _, _, kept, wire = header.unpack_from(data, at)
        at += 16
        if at + kept > len(data):
            return
        yield data[at : at + kept], wire
        at += kept


def pcapng(data):
    at, order, interfaces = 0, "<", []
    while at + 12 <= len(data):
        if data[at : at + 4] == b"\x0a\x0d\x0d\x0a":
            order = "<" if data[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            interfaces = []
        kind, length = struct.unpack_from(order + "II", data, at)
        if length < 12 or length % 4 or at + length > len(data):
            return
        if data[at + 4 : at + 8] != data[at + length - 4 : at + length]:
            return  # the length stands at both ends
        body = data[at + 8 : at + length - 4]
        at += length
        if kind == 1:
            link, _, snap = struct.unpack_from(order + "HHI", body)
            interfaces.append((link, snap))
            continue
        if kind == 6:
            interface, _, _, kept, wire = struct.unpack_from(order + "IIIII", body)
            frame = body[20 : 20 + kept]
        elif kind == 3:
            interface, wire = 0, struct.unpack_from(order + "I", body)[0]
            kept = wire
            if interfaces and interfaces[0][1]:
                kept = min(kept, interfaces[0][1])
            frame = body[4 : 4 + kept]
        elif kind == 2:
            interface, _, _, _, kept, wire = struct.unpack_from(order + "HHIIII", body)
            frame = body[20 : 20 + kept]
        else:
            continue
        if interface >= len(interfaces) or len(frame) < kept:
            return
        if interfaces[interface][0] != 1:
            raise BadCapture(f"link type {interfaces[interface][0]} is not Ethernet")
        yield frame, wire


def read(frame):
    """MALFORMED, NON_IP, ARP, or (IP version, source, destination, column of the protocol, whether SYN, whether a fragment)."""
    at = 12
    while True:
        if len(frame) < at + 2:
            return MALFORMED
        ethertype = frame[at] << 8 | frame[at + 1]
        at += 2
        if ethertype not in TAGS:
            break
        at += 2
    if ethertype == 0x0800:
        return read_ipv4(frame[at:])
    if ethertype == 0x86DD:
        return read_ipv6(frame[at:])
    return ARP if ethertype == 0x0806 else NON_IP


def read_ipv4(ip):
    if len(ip) < 20 or ip[0] >> 4 != 4:
        return MALFORMED
    header, total = (ip[0] & 15) * 4, ip[2] << 8 | ip[3]
    if header < 20 or header > len(ip) or total < header:
        return MALFORMED
    flags = ip[6] << 8 | ip[7]
    first = flags & 0x1FFF == 0
    column, syn = transport(ip[9], 1, ip[header:total] if first else b"")
    return 4, ip[12:16], ip[16:20], column, syn, not first or flags & 0x2000 != 0


def read_ipv6(ip):
    if len(ip) < 40 or ip[0] >> 4 != 6:
        return MALFORMED
    length, following = ip[4] << 8 | ip[5], ip[6]
    rest = ip[40:] if length == 0 and following == 0 else ip[40 : 40 + length]
    fragment = False
    protocol = None  # not known
    while True:
        if following in BY_EIGHT or following == AUTHENTICATION:
            if len(rest) < 2:
                break
            size = rest[1] * 4 + 8 if following == AUTHENTICATION else rest[1] * 8 + 8
        elif following == FRAGMENT:
            size = 8
        else:
            protocol = following
            break
        if len(rest) < size:
            break
        following_next = rest[0]
        if following == FRAGMENT:
            field = rest[2] << 8 | rest[3]
            fragment = fragment or field & 0xFFF9 != 0
            if field & 0xFFF8:
                protocol, rest = following_next, b""
                break
        following, rest = following_next, rest[size:]
    column, syn = transport(protocol, 58, rest)
    return 6, ip[8:24], ip[24:40], column, syn, fragment


def transport(protocol, icmp, segment):
    if protocol == TCP:
        return TCPS, len(segment) > 13 and segment[13] & 0x12 == 0x02
    if protocol == UDP:
        return UDPS, False
    if protocol == icmp:
        return ICMPS, False
    return OTHERS, False


class Internal:
    """From an address to the host it belongs to, or None."""

    def __init__(self, prefixes, ipv6_host_length):
        self.lengths = {4: {}, 6: {}}
        for text in prefixes:
            net = ipaddress.ip_network(text, strict=False)
            bits = net.max_prefixlen - net.prefixlen
            self.lengths[net.version].setdefault(bits, set()).add(int(net.network_address) >> bits)
        self.host_bits = 128 - ipv6_host_length
        self.known = {}

    def host(self, version, address):
        try:
            return self.known[address]
        except KeyError:
            pass
        value = int.from_bytes(address, "big")
        found = None
        if any(value >> bits in nets for bits, nets in self.lengths[version].items()):
            found = (version, value if version == 4 else value >> self.host_bits << self.host_bits)
        self.known[address] = found
        return found

    def name(self, host):
        version, value = host
        if version == 4:
            return str(ipaddress.IPv4Address(value))
        address = str(ipaddress.IPv6Address(value))
        return f"{address}/{128 - self.host_bits}" if self.host_bits else address


def count(path, prefixes, ipv6_host_length=64):
    """The counts of a capture, in the form of hosts.json, and its totals."""
    internal = Internal(prefixes, ipv6_host_length)
    lines = {}
    macs = {}
    packets = octets = 0
    unread = {MALFORMED: 0, NON_IP: 0, ARP: 0}
    for frame, _ in frames(path):
        packets += 1
        octets += len(frame)
        seen = read(frame)
        if isinstance(seen, str):
            unread[seen] += 1
            continue
        version, source, destination, column, syn, fragment = seen
        for direction, address in enumerate((source, destination)):
            host = internal.host(version, address)
            if host is None:
                continue
            line = lines.setdefault(host, ([0] * 8, [0] * 8))[direction]
            line[PACKETS] += 1
            line[BYTES] += len(frame)
            line[column] += 1
            line[SYNS] += syn
            line[FRAGMENTS] += fragment
            if direction == 0:
                macs.setdefault(host, set()).add(frame[6:12].hex(":"))
    unread[NON_IP] += unread[ARP]
    hosts = [
        {"address": internal.name(h), "out": dict(zip(FIELDS, lines[h][0])), "in": dict(zip(FIELDS, lines[h][1]))}
        for h in sorted(lines)
    ]
    return {
        "hosts": hosts,
        "totals": {"packets": packets, "bytes": octets, **unread},
        "macs": {internal.name(h): sorted(macs[h]) for h in sorted(macs)},
    }


def answer(job):
    try:
        return count(job["capture"], job["internal"], job.get("ipv6_host_length", 64))
    except (BadCapture, OSError, ValueError, KeyError) as e:
        return {"error": f"{type(e).__name__}: {e}"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("capture", nargs="?")
    parser.add_argument("--internal", action="append", default=[], metavar="PREFIX")
    parser.add_argument("--ipv6-host-length", type=int, default=64, metavar="BITS")
    parser.add_argument("--jobs", metavar="FILE", help='many at once, JSON lines; "-" is standard input')
    arguments = parser.parse_args()
    if (arguments.capture is None) == (arguments.jobs is None):
        parser.error("give either CAPTURE or --jobs FILE")
    if arguments.capture is not None:
        done = answer(
            {
                "capture": arguments.capture,
                "internal": arguments.internal,
                "ipv6_host_length": arguments.ipv6_host_length,
            }
        )
        print(json.dumps(done, indent=1))
        return 1 if "error" in done else 0
    with sys.stdin if arguments.jobs == "-" else open(arguments.jobs, encoding="utf-8") as jobs:
        for line in jobs:
            print(json.dumps(answer(json.loads(line))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
