#!/usr/bin/env python3
"""Cordon and FastNetMon on the same frames: what a packet costs each of them, and how long after its first packet a flood
is met with a lock, or a ban.

Usage: fastnetmon.py BINARIES RESULT.json [--quick]
  BINARIES  cordon, cordond and cordon-dataplane: target/release
  RESULT    where the figures go: target/bench/fastnetmon.json
  --quick   short measurements: half a minute instead of one

Needs root, and Debian's packages fastnetmon, netsniff-ng (trafgen) and ethtool. Everything happens in a network namespace
of its own. FastNetMon has its own defaults, reads both of the appliance's ports through AF_PACKET, and reports to nobody.

The cost of a packet is user time: of all of FastNetMon, and of all of cordond; the dataplane measures its own by the TSC, in
polls that brought packets, while it hands what it has judged to devices that cost nothing (net_null). So it does what
FastNetMon does, and neither figure has the kernel's work for veth in it. That stands apart: FastNetMon's kernel time, and what
Cordon's polls take longer when it sends on veth.
"""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

PER_PACKET_TIMES, LOCK_TIMES = 10, 4
SERVER, NETWORK = "198.51.100.66", "198.51.100.0/24"
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
TRAFFIC_PPS, FLOOD_PPS = 100_000, 60_000  # in each direction; out
START_S, FLOOD_S = 30, 40
METRICS = "127.0.0.1:9477"
# Judged only: each direction has a wire of its own, whose other port takes everything. Then a wire as it is meant to be.
JUDGED = [("net_af_packet0,iface=gb", "net_null0,no-rx=1"), ("net_null1,no-rx=1", "net_af_packet1,iface=oa")]
SENT = [("net_af_packet0,iface=gb", "net_af_packet1,iface=oa")]


def run(*words):
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def wait(what, seconds, ask):
    """Asks every few milliseconds until the answer is true; returns it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.002)
    sys.exit(f"fastnetmon.py: {what}: not within {seconds} s")


def frames(path, source, destination, source_port, flags):
    """A trafgen configuration: TCP of 60 bytes, 6 of them payload, between random addresses of these."""
    path.write_text(
        "{ 0x02,0xff,0,0,0,1, 0x02,0,0,0,0,1, const16(0x0800), "
        f"0x45,0, const16(46), const16(1), const16(0), 64, 6, csumip(14,33), {source}, {destination}, "
        f"{source_port}, const16(443), drnd(8), 0x50,{flags}, const16(8192), const32(0), fill(0,6) }}\n"
    )


class Program:
    """A process with whatever it starts itself, as trafgen does."""

    def __init__(self, log, *words):
        self.log = log
        self.process = subprocess.Popen(
            [*map(str, words)], stdin=subprocess.DEVNULL, stdout=log.open("wb"), stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def said(self, text):
        if self.process.poll() is not None:
            sys.exit(f"fastnetmon.py: {self.process.args[0]} has ended:\n{self.log.read_text()}")
        return text in self.log.read_text()

    def times_ns(self):
        """User and kernel time of all threads, dead ones included."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) * TICK_NS, int(fields[12]) * TICK_NS

    def stop(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def received(*interfaces):
    """Packets that came in on some, since they were made."""
    return sum(int(Path(f"/sys/class/net/{i}/statistics/rx_packets").read_text()) for i in interfaces)


def set_up():
    """Two virtual cables: traffic enters `ga` and arrives at the inside port `gb`; the outside port is `oa`."""
    for a, b in (("ga", "gb"), ("oa", "ob")):
        run("ip", "link", "add", a, "type", "veth", "peer", "name", b)
        for i in (a, b):
            run("sysctl", "-qw", f"net.ipv6.conf.{i}.disable_ipv6=1")
            subprocess.run(["ethtool", "-K", i, "tx", "off", "rx", "off", "gso", "off", "tso", "off", "gro", "off"],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            run("ip", "link", "set", i, "arp", "off", "up")
    run("mount", "-t", "sysfs", "sysfs", "/sys")  # that of this namespace
    run("ip", "link", "set", "lo", "up")


def start_cordon(binaries, folder, ports):
    wires = "".join(
        f'[[wire]]\nname = "wire{i}"\ninside = "routed"\ninside_port = "{inside}"\noutside_port = "{outside}"\n'
        for i, (inside, outside) in enumerate(ports)
    )
    config = folder / "cordon.toml"
    config.write_text(
        f'[run]\ndir = "{folder}"\ntables = "{folder}/tables"\nstate = "{folder}/state"\n'
        '[dataplane]\nmbufs = 8192\nidle_sleep = "100us"\neal = ["--no-huge", "--no-shconf", "--no-telemetry", "-m", "512"]\n'
        f'[control]\nmetrics = "{METRICS}"\n{wires}'
        f'[[network]]\nprefix = "{NETWORK}"\n'
    )
    os.environ["RUNTIME_DIRECTORY"] = str(folder)
    cordond = Program(folder / "cordond.log", binaries / "cordond", "run", "--config", config)
    dataplane = Program(folder / "dataplane.log", binaries / "cordon-dataplane", "--config", config)
    wait("cordon-dataplane forwards", START_S, lambda: dataplane.said("forwarding: "))
    ask = [binaries / "cordon", "--socket", folder / "cordon.sock", "--json"]
    answers = lambda: subprocess.run([*ask, "status"], capture_output=True, check=False).returncode == 0
    wait("cordond answers", START_S, answers)
    return cordond, dataplane, ask


def start_fastnetmon(folder):
    ban = folder / "ban.sh"
    ban.write_text(f'#!/bin/sh\ncat >/dev/null\necho "$1 $4" >>{folder}/bans\n')
    ban.chmod(0o755)
    (folder / "networks").write_text(NETWORK + "\n")
    (folder / "white").write_text("")
    text = Path("/etc/fastnetmon.conf").read_text()
    for key, value in {
        "mirror_afpacket": "on", "interfaces": "gb,oa", "networks_list_path": folder / "networks",
        "white_list_path": folder / "white", "notify_script_path": ban, "disable_usage_report": "on",
        "pid_path": folder / "fastnetmon.pid", "cli_stats_file_path": folder / "stats",
        "logging_local_syslog_logging": "off", "prometheus": "off", "enable_api": "off",
        "log_file": folder / "fastnetmon.log",
    }.items():
        line = f"{key} = {value}"
        text, n = re.subn(rf"(?m)^#?\s*{key}\s*=.*$", line, text)
        text += "" if n else f"\n{line}\n"
    config = folder / "fastnetmon.conf"
    config.write_text(text)
    fastnetmon = Program(folder / "fastnetmon.out", "/usr/sbin/fastnetmon", f"--configuration_file={config}",
                         f"--log_file={folder}/fastnetmon.log")
    wait("fastnetmon writes its statistics", START_S, lambda: fastnetmon.said("") or (folder / "stats").exists())
    time.sleep(3)  # it says nothing of when it has opened its socket
    return fastnetmon


class Cordon:
    """Both daemons, between these ports."""

    def __init__(self, binaries, folder, ports):
        folder.mkdir()
        self.cordond, self.dataplane, self.ask = start_cordon(binaries, folder, ports)

    def busy(self):
        """Nanoseconds that the worker spent in polls that brought packets, and packets, since its start."""
        with urllib.request.urlopen(f"http://{METRICS}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        total = lambda name: sum(float(l.rsplit(" ", 1)[1]) for l in lines if l.startswith(name + "{"))
        return total("cordon_worker_busy_seconds_total") * 1e9, total("cordon_received_packets_total")

    def has_locked(self):
        said = subprocess.run([*self.ask, "list"], capture_output=True, text=True, check=False).stdout
        return SERVER in said

    def stop(self):
        self.dataplane.stop()
        self.cordond.stop()


def generator(folder, name, device, pps):
    # It stands for others' machines, which do not wait for this one's: servers that nobody answers for a while look suspicious.
    return Program(folder / f"{name}.log", "nice", "-n", "-10", "trafgen", "--dev", device,
                   "--conf", folder / f"{name}.cfg", "--cpus", 1, "--rate", f"{pps}pps")


def cost_of_a_packet(cordon, rival, seconds):
    """Nanoseconds a packet while traffic flows: (the dataplane's own, cordond's, FastNetMon's user, its kernel time), and
    packets a second."""
    samples = [cordon.busy()]
    before = (time.monotonic(), received("gb", "oa"), cordon.cordond.times_ns(), rival.times_ns())
    for _ in range(seconds):
        time.sleep(1)
        samples.append(cordon.busy())
    after = (time.monotonic(), received("gb", "oa"), cordon.cordond.times_ns(), rival.times_ns())
    packets = after[1] - before[1]
    each = lambda i, kind: (after[i][kind] - before[i][kind]) / packets
    # The median second: in others somebody else was given the core in the middle of a poll.
    own = statistics.median((b[0] - a[0]) / (b[1] - a[1]) for a, b in zip(samples, samples[1:]))
    return (own, each(2, 0), each(3, 0), each(3, 1)), packets / (after[0] - before[0])


def time_to_act(cordon, folder):
    """Seconds from the first packet of a flood to Cordon's lock, and to FastNetMon's ban."""
    banned = lambda: (folder / "bans").exists() and SERVER in (folder / "bans").read_text()
    assert not cordon.has_locked() and not banned()
    before = received("gb")
    flood = generator(folder, "flood", "ga", FLOOD_PPS)
    wait("the flood arrives", START_S, lambda: received("gb") > before)
    began = time.monotonic()
    wait("cordon locks", FLOOD_S, cordon.has_locked)
    to_lock = time.monotonic() - began
    wait("fastnetmon bans", FLOOD_S, banned)
    to_ban = time.monotonic() - began
    flood.stop()
    return to_lock, to_ban


def main():
    arguments = [a for a in sys.argv[1:] if a != "--quick"]
    if len(arguments) != 2:
        sys.exit(__doc__)
    if os.environ.get("CORDON_BENCH_NAMESPACE") != "yes":
        os.environ["CORDON_BENCH_NAMESPACE"] = "yes"
        # Whatever is started ends with the namespace, however this ends.
        os.execvp("unshare", ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
                              sys.executable, *sys.argv])
    binaries, result = (Path(a).resolve() for a in arguments)
    seconds = 4 if "--quick" in sys.argv else 15
    set_up()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        server = "198,51,100,drnd(1)"
        far = "64,0,0,drnd(1)"
        # 65,536 flows in the middle of their conversations, and connections that one server opens to another machine.
        ordinary = ("const16(50000)", "0x18")
        frames(folder / "ordinary.cfg", server, far, *ordinary)
        frames(folder / "answers.cfg", far, server, *ordinary)
        frames(folder / "flood.cfg", SERVER.replace(".", ","), "64,0,0,1", "drnd(2)", "0x02")
        rival = start_fastnetmon(folder)

        note("what a packet costs")
        costs = []
        traffic = generator(folder, "ordinary", "ga", TRAFFIC_PPS)
        answers = generator(folder, "answers", "ob", TRAFFIC_PPS)
        for i, ports in enumerate((JUDGED, SENT)):
            cordon = Cordon(binaries, folder / f"cordon{i}", ports)
            before = received("gb"), received("oa")
            arrived = lambda: received("gb") > before[0] + TRAFFIC_PPS and received("oa") > before[1] + TRAFFIC_PPS
            wait("traffic arrives", START_S, arrived)
            costs.append(cost_of_a_packet(cordon, rival, seconds))
            if i == 0:
                cordon.stop()
        # Answers go on: a wire on which nothing comes back says nothing about what stays unanswered.
        traffic.stop()

        note("how long until somebody acts")
        time.sleep(6)  # no average remembers the traffic before
        to_lock, to_ban = time_to_act(cordon, folder)
        for program in (answers, rival, cordon):
            program.stop()
    write(result, costs, to_lock, to_ban)


def note(text):
    print(f"bench: fastnetmon: {text}", file=sys.stderr)


def write(result, costs, to_lock, to_ban):
    (judged, control, rival, rival_kernel), pps = costs[0]
    sent = costs[1][0][0]
    own = judged + control
    cost, sooner = rival / own, to_ban / to_lock
    rows = [
        {"what": f"a packet, ns ({pps / 1000:.0f} k packets/s of 60 bytes, 256 servers)",
         "cordon": f"{own:.0f} (dataplane {judged:.0f}, cordond {control:.0f})", "fastnetmon": f"{rival:.0f}"},
        {"what": "beyond it for veth, ns: sending; receiving in the kernel", "cordon": f"{sent - judged:.0f}",
         "fastnetmon": f"{rival_kernel:.0f}"},
        {"what": "from the flood's first packet to lock or ban, s", "cordon": f"{to_lock:.2f}", "fastnetmon": f"{to_ban:.2f}"},
    ]
    claims = [
        {"what": "time a packet without veth's, FastNetMon's beside Cordon's", "needed": PER_PACKET_TIMES, "median": cost,
         "holds": cost >= PER_PACKET_TIMES},
        {"what": "time from the start of a flood to FastNetMon's ban, beside Cordon's lock", "needed": LOCK_TIMES,
         "median": sooner, "holds": sooner >= LOCK_TIMES},
    ]
    for row in rows:
        print(f"{row['what']:<66} {row['cordon']:>36} {row['fastnetmon']:>12}")
    for c in claims:
        print(f"  {'yes' if c['holds'] else 'NO':<6} {c['median']:.2f}, at least {c['needed']}: {c['what']}")
    result.write_text(json.dumps({"rows": rows, "claims": claims}, indent=2) + "\n")


if __name__ == "__main__":
    main()
