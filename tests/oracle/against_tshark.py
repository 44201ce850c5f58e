#!/usr/bin/python3
"""Compares hosts.py with tshark, packet by packet: addresses, protocol, SYN, fragments.

    against_tshark.py CAPTURE...

Two differences are expected, and counted: "deeper", where tshark looks into what Cordon does not look through (PPPoE,
MPLS, SNAP, MACsec, ...), and "distrusted", where tshark names addresses from a header that formats calls malformed (cut
short, total length 0 or below the header length). Any other is printed and makes the exit code 1. Takes a quarter of a
second a capture, most of it tshark's start.
"""
import collections
import ipaddress
import subprocess
import sys

sys.dont_write_bytecode = True
import hosts

FIELDS = (
    "frame.cap_len frame.protocols ip.src ip.dst ip.proto ip.frag_offset ip.flags.mf "
    "ipv6.src ipv6.dst ipv6.fraghdr.offset ipv6.fraghdr.more ipv6.fraghdr.nxt tcp.flags"
).split()
COLUMNS = {"tcp": hosts.TCPS, "udp": hosts.UDPS, "icmp": hosts.ICMPS, "icmpv6": hosts.ICMPS}


def dissect(path):
    """What tshark says of each packet: a dictionary of fields, outermost occurrence."""
    command = ["tshark", "-n", "-r", path, "-T", "fields", "-E", "separator=/t", "-E", "occurrence=f"]
    for option in ("ip.defragment", "ipv6.defragment", "tcp.desegment_tcp_streams", "ip.check_checksum"):
        command += ["-o", f"{option}:FALSE"]
    for field in FIELDS:
        command += ["-e", field]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120, check=False)
    for line in run.stdout.splitlines():
        yield dict(zip(FIELDS, line.split("\t")))


def extends(layer):
    return layer.startswith("ipv6.") or layer in ("ah", "mipv6", "hip", "shim6")


def opinion(said):
    """The same tuple as hosts.read; None for no IP, and None in place of what tshark does not say."""
    layers = said["frame.protocols"].split(":")
    at = next((i for i, layer in enumerate(layers) if layer in ("ip", "ipv6")), None)
    if at is None or "arp" in layers[:at]:
        return None
    version = 4 if layers[at] == "ip" else 6
    if version == 4:
        number, offset, more = said["ip.proto"], said["ip.frag_offset"], said["ip.flags.mf"]
        column = {"6": hosts.TCPS, "17": hosts.UDPS, "1": hosts.ICMPS, "": None}.get(number, hosts.OTHERS)
        source, destination = said["ip.src"], said["ip.dst"]
    else:
        source, destination = said["ipv6.src"], said["ipv6.dst"]
        behind = next((i for i in range(at + 1, len(layers)) if not extends(layers[i])), len(layers))
        # Another fragment header is that of a packet quoted by ICMP.
        own = "ipv6.fraghdr" in layers[at:behind]
        offset, more = (said["ipv6.fraghdr.offset"], said["ipv6.fraghdr.more"]) if own else ("", "")
        if behind < len(layers):
            column = COLUMNS.get(layers[behind], hosts.OTHERS)
        else:
            # Nothing behind extension headers: none follows, or an option made tshark give up.
            column = None if behind > at + 1 else hosts.OTHERS
        if offset not in ("", "0"):
            number = said["ipv6.fraghdr.nxt"]
            column = {"6": hosts.TCPS, "17": hosts.UDPS, "58": hosts.ICMPS}.get(number, hosts.OTHERS)
    if not source or not destination:
        return None
    fragment = offset not in ("", "0") or more in ("1", "True")
    syn = None
    if column == hosts.TCPS and offset in ("", "0") and said["tcp.flags"]:
        syn = int(said["tcp.flags"], 16) & 0x12 == 0x02
    packed = [ipaddress.ip_address(a).packed for a in (source, destination)]
    return version, *packed, column, syn, fragment


def main():
    found = collections.Counter()
    for path in sys.argv[1:]:
        ours = list(hosts.frames(path))
        theirs = list(dissect(path))
        if len(ours) != len(theirs):
            found["different"] += 1
            print(f"{path}: {len(ours)} packets here, {len(theirs)} in tshark")
        for number, ((frame, _), said) in enumerate(zip(ours, theirs), 1):
            mine, its = hosts.read(frame), opinion(said)
            if int(said["frame.cap_len"]) != len(frame):
                kind = "different"
            elif isinstance(mine, str):
                kind = "same" if its is None else "distrusted" if mine == hosts.MALFORMED else "deeper"
            elif its is not None and all(b is None or a == b for a, b in zip(mine, its)):
                kind = "same"
            else:
                kind = "different"
            found[kind] += 1
            if kind == "different":
                print(f"{path}: packet {number}: here {mine}, tshark {its}")
    print(", ".join(f"{n} {kind}" for kind, n in sorted(found.items())))
    return 1 if found["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
