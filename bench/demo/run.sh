#!/usr/bin/env bash
# 'make run': the real daemons on a machine with no NIC to spare. A capture, the project's own deterministic one or any
# other, is played into the dataplane at its own pace; metrics and the control socket are up; it runs until Ctrl-C.
#
# CAPTURE=FILE    play this pcap or pcapng instead
# SPEED=2         twice as fast as recorded
# INTERNAL=...    prefixes of the servers, separated by spaces; without it those /24 of private space that send in
#                 CAPTURE, or else the /24 of its busiest source
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=${CORDON_BIN:-target/release}
capture=${CAPTURE:-}
speed=${SPEED:-1}
# cordon-traffic's servers.
own_internal='10.77.0.0/16'
run_dir=
daemon=

die() {
    printf 'demo: %s\n  next: %s\n' "$1" "$2" >&2
    exit 1
}

# cordond ends the dataplane that it started as a demo; this is for when it could not.
take_down() {
    local pids=()
    if [[ -n $daemon ]]; then
        kill -TERM "$daemon" 2>/dev/null || true
        timeout 10 tail -s 0.1 --pid="$daemon" -f /dev/null || kill -KILL "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    if [[ -n $run_dir ]]; then
        mapfile -t pids < <(pgrep -f -- "--config $run_dir/cordon.toml" || true)
        if ((${#pids[@]})); then kill -TERM "${pids[@]}" 2>/dev/null || true; fi
        for pid in "${pids[@]}"; do
            timeout 5 tail -s 0.1 --pid="$pid" -f /dev/null || kill -KILL "$pid" 2>/dev/null || true
        done
        rm -rf "$run_dir"
    fi
}

# The /24 prefixes whose addresses count as servers in somebody's capture.
internal_of() { # FILE
    tcpdump -nn -q -r "$1" ip 2>/dev/null | awk '
        $2 == "IP" && split($3, a, ".") >= 4 {
            net = a[1] "." a[2] "." a[3] ".0/24"
            packets[net]++
            if (a[1] == 10 || (a[1] == 192 && a[2] == 168) || (a[1] == 172 && a[2] >= 16 && a[2] < 32)) private[net] = 1
        }
        END {
            for (net in private) { print net; found = 1 }
            if (found) exit
            for (net in packets) if (packets[net] > most) { most = packets[net]; busiest = net }
            if (most) print busiest
        }' | sort | head -n 200
}

for program in cordond cordon cordon-dataplane cordon-traffic; do
    [[ -x $bin/$program ]] || die "$bin/$program is missing" 'make build'
done
[[ $speed =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "SPEED=$speed is no number" 'make run SPEED=2'
[[ $speed == *.* ]] || speed=$speed.0

run_dir=$(mktemp -d /dev/shm/cordon-demo.XXXXXX)
trap take_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [[ -n $capture ]]; then
    [[ -r $capture ]] || die "cannot read $capture" 'make run CAPTURE=path/to/file.pcap'
    capture=$(realpath "$capture")
    internal=${INTERNAL:-$(internal_of "$capture")}
    [[ -n $internal ]] || die "no IPv4 source in $capture" 'name the servers: make run CAPTURE=... INTERNAL="2001:db8::/48"'
else
    capture=$run_dir/demo.pcap
    "$bin/cordon-traffic" --out "$capture"
    internal=$own_internal
fi
[[ $capture != *[\"\\\|\&]* ]] || die "the path $capture has characters that the demo's configuration cannot hold" 'rename it'

sed -e "s|@RUN@|$run_dir|g" -e "s|@CAPTURE@|$capture|" -e "s|@SPEED@|$speed|" bench/demo/demo.toml >"$run_dir/cordon.toml"
for prefix in $internal; do printf '\n[[network]]\nprefix = "%s"\n' "$prefix" >>"$run_dir/cordon.toml"; done

"$bin/cordond" run --config "$run_dir/cordon.toml" --with-dataplane --demo &
daemon=$!
wait "$daemon"
