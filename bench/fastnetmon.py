#!/usr/bin/env python3
"""Cordon and FastNetMon on the same frames: what a packet costs each of them, and how long after its first packet a flood
is met with a lock, or a ban.

Usage: fastnetmon.py BINARIES RESULT.json [SECONDS]
  BINARIES  cordon, cordond and cordon-dataplane: target/release
  RESULT    where the figures go: target/bench/fastnetmon.json
  SECONDS   of ordinary traffic, 10 by default

Needs root, and Debian's packages fastnetmon, netsniff-ng (trafgen) and ethtool. Everything happens in a network namespace
of its own. FastNetMon has its own defaults, reads the appliance's inside port through AF_PACKET, and reports to nobody.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PER_PACKET_TIMES, LOCK_TIMES = 10, 4
SERVER, NETWORK = "198.51.100.66", "198.51.100.0/24"
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
TRAFFIC_PPS, FLOOD_PPS = 60_000, 60_000
START_S, FLOOD_S = 30, 40


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


def frames(path, source, flags):
    """A trafgen configuration: TCP of 60 bytes to any address of 64.0.0.0/8."""
    path.write_text(
        "{ 0x02,0xff,0,0,0,1, 0x02,0,0,0,0,1, const16(0x0800), "
        f"0x45,0, const16(40), const16(1), const16(0), 64, 6, csumip(14,33), {source}, 64,drnd(3), "
        f"drnd(2), const16(443), drnd(8), 0x50,{flags}, const16(8192), const32(0), fill(0,6) }}\n"
    )


class Program:
    """A process that ends with this one."""

    def __init__(self, log, *words):
        self.log = log
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *map(str, words)],
            stdin=subprocess.DEVNULL, stdout=log.open("wb"), stderr=subprocess.STDOUT,
        )

    def said(self, text):
        if self.process.poll() is not None:
            sys.exit(f"fastnetmon.py: {self.process.args[4]} has ended:\n{self.log.read_text()}")
        return text in self.log.read_text()

    def times_ns(self, thread=None):
        """User and kernel time of all threads, or of those of a name."""
        user = kernel = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            if thread and (task / "comm").read_text().strip() != thread:
                continue
            fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
            user, kernel = user + int(fields[11]) * TICK_NS, kernel + int(fields[12]) * TICK_NS
        return user, kernel

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def received(interface):
    return int(Path(f"/sys/class/net/{interface}/statistics/rx_packets").read_text())


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


def start_cordon(binaries, folder):
    config = folder / "cordon.toml"
    config.write_text(
        f'[run]\ndir = "{folder}"\ntables = "{folder}/tables"\nstate = "{folder}/state"\n'
        '[dataplane]\nidle_sleep = "50us"\neal = ["--no-huge", "--no-shconf", "--no-telemetry", "-m", "256"]\n'
        '[control]\nmetrics = "off"\n[[wire]]\nname = "bench"\ninside = "routed"\n'
        'inside_port = "net_af_packet0,iface=gb"\noutside_port = "net_af_packet1,iface=oa"\n'
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
        "mirror_afpacket": "on", "interfaces": "gb", "networks_list_path": folder / "networks",
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


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    if os.environ.get("CORDON_BENCH_NAMESPACE") != "yes":
        os.environ["CORDON_BENCH_NAMESPACE"] = "yes"
        os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, *sys.argv])
    binaries, result = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    seconds = int(sys.argv[3]) if len(sys.argv) > 3 else 10
    set_up()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        cordond, dataplane, ask = start_cordon(binaries, folder)
        fastnetmon = start_fastnetmon(folder)
        frames(folder / "ordinary.cfg", "198,51,100,drnd(1)", "0x10")
        frames(folder / "flood.cfg", SERVER.replace(".", ","), "0x02")
        generate = lambda config, pps: Program(
            folder / f"{config}.log", "trafgen", "--dev", "ga", "--conf", folder / f"{config}.cfg", "--cpus", 1,
            "--rate", f"{pps}pps",
        )

        note("ordinary traffic")
        traffic = generate("ordinary", TRAFFIC_PPS)
        before = received("gb")
        wait("traffic arrives", START_S, lambda: received("gb") > before + 1000)
        first = (received("gb"), dataplane.times_ns("worker0"), cordond.times_ns(), fastnetmon.times_ns())
        time.sleep(seconds)
        last = (received("gb"), dataplane.times_ns("worker0"), cordond.times_ns(), fastnetmon.times_ns())
        traffic.stop()
        packets = last[0] - first[0]
        each = [[(b - a) / packets for a, b in zip(x, y)] for x, y in zip(first[1:], last[1:])]
        worker, control, rival = each

        note("a flood")
        locked = lambda: SERVER in subprocess.run([*ask, "list"], capture_output=True, text=True, check=False).stdout
        banned = lambda: (folder / "bans").exists() and SERVER in (folder / "bans").read_text()
        assert not locked() and not banned()
        before = received("gb")
        flood = generate("flood", FLOOD_PPS)
        wait("the flood arrives", START_S, lambda: received("gb") > before)
        began = time.monotonic()
        wait("cordon locks", FLOOD_S, locked)
        to_lock = time.monotonic() - began
        wait("fastnetmon bans", FLOOD_S, banned)
        to_ban = time.monotonic() - began
        for program in (flood, fastnetmon, dataplane, cordond):
            program.stop()
    write(result, packets / seconds, worker, control, rival, to_lock, to_ban)


def note(text):
    print(f"bench: fastnetmon: {text}", file=sys.stderr)


def write(result, pps, worker, control, rival, to_lock, to_ban):
    own = worker[0] + control[0]
    cost = rival[0] / own
    sooner = to_ban / to_lock
    rows = [
        {"what": f"user time a packet, ns (ordinary traffic, {pps / 1000:.0f} k packets/s)",
         "cordon": f"{own:.0f} (dataplane {worker[0]:.0f}, cordond {control[0]:.0f})", "fastnetmon": f"{rival[0]:.0f}"},
        {"what": "kernel time a packet, ns: that of veth and AF_PACKET",
         "cordon": f"{worker[1] + control[1]:.0f}", "fastnetmon": f"{rival[1]:.0f}"},
        {"what": "from the flood's first packet to lock or ban, s", "cordon": f"{to_lock:.2f}", "fastnetmon": f"{to_ban:.2f}"},
    ]
    claims = [
        {"what": "user time a packet, FastNetMon's beside Cordon's", "needed": PER_PACKET_TIMES, "median": cost,
         "holds": cost >= PER_PACKET_TIMES},
        {"what": "time from the start of a flood to FastNetMon's ban, beside Cordon's lock", "needed": LOCK_TIMES,
         "median": sooner, "holds": sooner >= LOCK_TIMES},
    ]
    for row in rows:
        print(f"{row['what']:<62} {row['cordon']:>36} {row['fastnetmon']:>12}")
    for c in claims:
        print(f"  {'yes' if c['holds'] else 'NO':<6} {c['median']:.2f}, at least {c['needed']}: {c['what']}")
    result.write_text(json.dumps({"rows": rows, "claims": claims}, indent=2) + "\n")


if __name__ == "__main__":
    main()
