#!/usr/bin/env python3
"""Writes the performance page: PERFORMANCE.md and its plots, from what `cargo bench` has left in a directory.

Usage: performance.py RESULTS PAGES
  RESULTS  the directory of packets.json, pipeline.json, tick.json and lock.json: target/bench
  PAGES    where the page goes: bench
"""

import json
import math
import sys
from pathlib import Path

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 300, 60, 150, 20, 45
COLOURS = ["#1b6ca8", "#c8553d", "#588157", "#7b2d8b", "#8d99ae"]


def load(folder, name):
    """What a benchmark has written, or None where it has not been run."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


# ---- plots ----


def ticks(most):
    """About five round numbers from 0 to beyond `most`."""
    step = 10 ** math.floor(math.log10(most / 2))
    for factor in (1, 2, 5, 10):
        if most / (step * factor) <= 6:
            step *= factor
            break
    return [i * step for i in range(math.ceil(most / step) + 1)]


def short(n):
    """1 k for 1,024 as for 1,000."""
    for size, name in ((900_000, "M"), (900, "k")):
        if n >= size:
            return f"{n / (1_000_000 if name == 'M' else 1000):.0f} {name}"
    return f"{n:g}"


def plot(path, x_name, y_name, lines, logarithmic_y=False):
    """Lines [(name, [(x, y)])] over a logarithmic x axis on which 0 has a place of its own."""
    points = [p for _, line in lines for p in line]
    if not points:
        return False
    xs = sorted({x for x, _ in points})
    place = {x: i for i, x in enumerate(xs)}
    inner_w, inner_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    most = max(y for _, y in points)
    if logarithmic_y:
        low = math.floor(math.log10(min(y for _, y in points)))
        high = math.ceil(math.log10(most))
        marks = [10**e for e in range(low, high + 1)]
        height = lambda y: (math.log10(y) - low) / max(high - low, 1)
    else:
        marks = ticks(most)
        height = lambda y: y / marks[-1]
    at_x = lambda x: LEFT + inner_w * (place[x] + 0.5) / len(xs)
    at_y = lambda y: TOP + inner_h * (1 - height(y))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12" fill="#333">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for mark in marks:
        y = at_y(mark)
        out.append(f'<line x1="{LEFT}" x2="{LEFT + inner_w}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(mark)}</text>')
    for x in xs:
        out.append(f'<text x="{at_x(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{short(x)}</text>')
    out.append(f'<text x="{LEFT + inner_w / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{x_name}</text>')
    out.append(
        f'<text transform="translate(14 {TOP + inner_h / 2:.0f}) rotate(-90)" text-anchor="middle">{y_name}</text>'
    )
    for i, (name, line) in enumerate(lines):
        colour = COLOURS[i % len(COLOURS)]
        path_of = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in line)
        out.append(f'<polyline points="{path_of}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3" fill="{colour}"/>' for x, y in line]
        y = TOP + 14 + 18 * i
        out.append(f'<text x="{WIDTH - RIGHT + 12}" y="{y}" fill="{colour}">{name}</text>')
    path.write_text("\n".join(out + ["</svg>", ""]))
    return True


# ---- tables ----


def table(head, rows):
    """A table of Markdown; all columns but the first are figures."""
    line = lambda cells: "| " + " | ".join(cells) + " |"
    return "\n".join([line(head), line(["---"] + ["---:"] * (len(head) - 1))] + [line(r) for r in rows]) + "\n"


def spread(s):
    return f"{s['median']:.1f} ({s['min']:.1f}–{s['max']:.1f})"


def cycles(case):
    return case["cordon"]["cycles_per_packet"]


def claims(all_of):
    rows = []
    for results in all_of:
        for c in (results or {}).get("claims", []):
            bound = f"≥ {c['needed']:.2f}" if "needed" in c else f"≤ {c['at_most']:.2f}"
            got = f"{c['median']:.2f}"
            if "min" in c:
                got += f" ({c['min']:.2f}–{c['max']:.2f})"
            rows.append([c["what"], bound, got, "yes" if c["holds"] else "**no**"])
    return table(["what", "promised", "measured", "holds"], rows) if rows else ""


def page_of_packets(packets):
    peers = ["io", "macswap", "5tswap", "csum", "lpm", "acl", "em"]
    rows = []
    for case in packets["cases"]:
        of = lambda p: case["peers"].get(p)
        beside = [f"{of(p)['cycles_per_packet']['median']:.0f}" if of(p) else "" for p in peers]
        mpps = case["cordon"]["packets_per_second"]["median"] / 1e6
        doubt = " (!)" if case["doubts"] else ""
        rows.append([f"{case['what']}{doubt}", f"{mpps:.1f}", spread(cycles(case))] + beside)
    text = table(["case", "Mpps", "Cordon"] + peers, rows)
    if any(c["doubts"] for c in packets["cases"]):
        text += "\n(!) not to be trusted: packets were lost, or not dropped as the case says.\n"
    text += "".join(f"\nNot measured: {failure}\n" for failure in packets.get("failures", []))
    return text


def page_of_latencies(packets):
    show = lambda q: f"{q['p50']:.1f} / {q['p99']:.1f} / {q['p99.9']:.1f}"
    rows = [
        [f"{l['load_percent']} %", f"{l['offered'] / 1e6:.2f}", show(l["cordon"]), f"{l['lost']}", show(l["sleeper"]),
         f"{l['sleeper_lost']}", show(l["testpmd_io"])]
        for l in packets["latencies"]
    ]
    return table(["load", "Mpps", "Cordon", "lost", "`idle_sleep` of 100 µs", "lost", "testpmd io"], rows)


def growth(packets, tick, pages):
    """The plots: [(title, file)]."""
    case = {c["name"]: c for c in packets["cases"]} if packets else {}
    median = lambda name: cycles(case[name])["median"]
    line = lambda names, key: [(case[n][key], median(n)) for n in names if n in case]
    made = []

    def draw(title, name, *args, **more):
        if plot(pages / name, *args, **more):
            made.append((title, name))

    unit = "cycles a packet"
    hosts = [("each one flow or few", ["one-flow", "hosts-256", "hosts-4k", "hosts-64k", "hosts-1m"]),
             ("all externals new", ["udp-flood", "fresh", "fresh-1m"])]
    draw("Cost by hosts", "growth-hosts.svg", "servers with traffic", unit,
         [(name, line(names, "hosts")) for name, names in hosts])
    locks = [(f"{p} % of traffic locked", ["locks-0"] * (p == 0) + [f"locks-1k-{p}", f"locks-100k-{p}"])
             for p in (0, 50, 100)]
    draw("Cost by locks", "growth-locks.svg", "locks in force", unit,
         [(name, line(names, "locks")) for name, names in locks])
    draw("Cost by watched hosts", "growth-watched.svg", "watched servers of 65,536", unit,
         [("all traffic", line(["hosts-64k", "watched-1", "watched-1k"], "watched"))])
    scale = [("own source", ["hosts-64k", "two-workers"]), ("net_af_packet", ["af-packet", "af-packet-two"])]
    mpps = lambda name: case[name]["cordon"]["packets_per_second"]["median"] / 1e6
    draw("Packets by workers", "growth-workers.svg", "workers, a queue each", "million packets/s",
         [(name, [(case[n]["workers"], mpps(n)) for n in names if n in case]) for name, names in scale])
    if tick:
        of = lambda configured: [(c["active"], c["us"]) for c in tick["cases"] if c["configured"] == configured]
        draw("A tick by servers that moved", "growth-tick.svg", "servers that moved", "µs a tick",
             [("1 M configured", of(1 << 20)), ("1 k configured", of(1 << 10))], logarithmic_y=True)
    return made


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    results, pages = Path(sys.argv[1]), Path(sys.argv[2])
    names = ("packets", "pipeline", "tick", "lock", "fastnetmon")
    packets, pipeline, tick, lock, rival = (load(results, n) for n in names)
    text = ["# Performance\n\nWritten by `make bench`; do not edit. Every figure is of one run on one machine: ratios hold "
            "from run to run,\nabsolute figures do not. Cycles are TSC cycles of a worker's own time on its core for a "
            "64-byte packet, with what its\nvirtual device costs; median over rounds, with the least and the most.\n"]
    if packets:
        text.append(f"{packets['cpu']}, TSC {packets['tsc_hz'] / 1e9:.2f} GHz, Linux {packets['kernel']}, DPDK "
                    f"{packets['dpdk']}, commit {packets['commit']};\n{packets['rounds']} rounds of "
                    f"{packets['window_ms']} ms, buffers on {'2 MiB' if packets['hugepages'] else '4 KiB'} pages, tables "
                    f"on {'2 MiB' if packets['huge_tables'] else '4 KiB'} pages.\n")
    text.append("## What is promised\n\n" + claims([packets, tick, lock, rival]))
    plots = growth(packets, tick, pages)
    if plots:
        text.append("## Growth\n\n" + "\n".join(f"### {title}\n\n![{title}]({name})\n" for title, name in plots))
    if packets:
        text.append("## The dataplane beside others on the same devices\n\nTo the right: cycles of testpmd (io, macswap, "
                    "5tswap, csum) and of l3fwd (lpm, acl with 1,000 rules, em: exact match).\n\n" + page_of_packets(packets))
        if packets.get("latencies"):
            text.append("## Latency through the box\n\nMicroseconds from a packet's arrival to its sending, p50 / p99 / p99.9, "
                        "64 k hosts; load as a part of what was forwarded\nat most.\n\n" + page_of_latencies(packets))
    if pipeline:
        rows = [[c["what"], f"{c['cycles']:.1f} ({c['min']:.1f}–{c['max']:.1f})",
                 f"{c['orientation']:.0f}" if c["orientation"] else ""] for c in pipeline["cases"]]
        text.append("## The packet path alone\n\nAn array of prepared packets, no device, no control.\n\n"
                    + table(["case", "cycles", "orientation"], rows))
    if tick:
        rows = [[f"{c['configured']:,}", f"{c['active']:,}", f"{c['us']:,.0f} ({c['min']:,.0f}–{c['max']:,.0f})"]
                for c in tick["cases"]]
        text.append("## A tick of control\n\n" + table(["hosts configured", "hosts that moved", "µs"], rows))
    if lock:
        rows = [[f"{f['what']}, {c['targets']}", *(f"{f[k]:.1f}" for k in ("p50_ms", "p99_ms", "max_ms"))]
                for c in lock["cases"] for f in c["figures"]]
        text.append(f"## From a scan to its lock\n\nMilliseconds, over {lock['cases'][0]['runs']} runs of a scan of "
                    f"{lock['cases'][0]['pps']:,} packets a second, the real programs between two network namespaces.\n\n"
                    + table(["", "p50", "p99", "most"], rows))
    if rival:
        rows = [[r["what"], r["cordon"], r["fastnetmon"]] for r in rival["rows"]]
        text.append("## Beside FastNetMon\n\nThe same frames on veth in one run.\n\n" + table(["", "Cordon", "FastNetMon"], rows))
    (pages / "PERFORMANCE.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
