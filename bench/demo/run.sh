#!/usr/bin/env bash
# 'make run': the real daemons on a machine with no NIC to spare. A capture, the project's own deterministic one or any
# other, is played into the dataplane at its own pace, again and again; metrics and the control socket are up; it runs
# until Ctrl-C.
#
# CAPTURE=FILE    play this pcap or pcapng instead
# SPEED=2         twice as fast as recorded
# INTERNAL=...    prefixes of the servers in CAPTURE, separated by spaces or commas; without it those /24 of private
#                 space that send in CAPTURE, or else the /24 of its busiest source
# METRICS=...     where metrics are served, 127.0.0.1:9477 by default; "off" for nowhere
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=${CORDON_BIN:-target/release}
capture=${CAPTURE:-}
speed=${SPEED:-1}
metrics=${METRICS:-127.0.0.1:9477}
internal=${INTERNAL:-}
internal=${internal//,/ }
# Where cordon-traffic's servers are.
own_ipv4='198.51.100.0/24'
own_ipv6='2001:db8:1::/48'
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

# Removes what demos left that were killed: a folder whose lock nobody holds. Daemons inherit the lock.
sweep() {
    local old
    while read -r old; do
        if flock -n "$old" true; then rm -rf "$old"; fi
    done < <(find /dev/shm -maxdepth 1 -type d -name 'cordon-demo.??????' -user "$EUID" -mmin +1)
}

# The /24 prefixes whose addresses count as servers in somebody's capture.
internal_of() { # FILE
    tcpdump -nn -q -r "$1" 'ip or (vlan and ip)' 2>/dev/null | awk '
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
[[ $metrics =~ ^[][0-9A-Fa-f:.]+$|^off$ ]] || die "METRICS=$metrics is no address with a port" 'make run METRICS=127.0.0.1:9478'

sweep
run_dir=$(mktemp -d /dev/shm/cordon-demo.XXXXXX)
exec 9<"$run_dir"
flock 9
trap take_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [[ -n $capture ]]; then
    [[ -f $capture && -r $capture ]] || die "cannot read $capture" 'make run CAPTURE=path/to/file.pcap'
    capture=$(realpath "$capture")
    if [[ -z $internal ]]; then
        # Cut at its end it is played as far as it goes; only a file that begins like none is refused here.
        said=$(tcpdump -c 1 -r "$capture" 2>&1 >/dev/null) || die "$capture is no capture: ${said##*: }" 'give a pcap or pcapng file'
        internal=$(internal_of "$capture") || true
    fi
    [[ -n $internal ]] || die "no IPv4 source in $capture" 'name the servers: make run CAPTURE=... INTERNAL="2001:db8::/48"'
    printf 'demo: playing %s; servers: %s\n' "$capture" "${internal//$'\n'/ }"
else
    [[ -z $internal ]] || die 'INTERNAL says who the servers of a CAPTURE are' 'make run CAPTURE=... INTERNAL=...'
    capture=$run_dir/demo.pcap
    internal="$own_ipv4 $own_ipv6"
    "$bin/cordon-traffic" --seconds 20 --pps 5000 --internal "$own_ipv4" --attack syn-flood --attack udp-flood "$capture" \
        >"$run_dir/demo.txt" || die 'cordon-traffic failed' "it says why above; /dev/shm needs 250 MB"
    printf 'demo: 20 s of ordinary load of 200 servers, played again and again; one floods with SYN from second 5, one with UDP from 6\n'
fi
[[ $capture != *[\"\\\|\&]* ]] || die "the path $capture has characters that the demo's configuration cannot hold" 'rename it'

sed -e "s|@RUN@|$run_dir|g" -e "s|@CAPTURE@|$capture|" -e "s|@SPEED@|$speed|" -e "s|@METRICS@|$metrics|" bench/demo/demo.toml >"$run_dir/cordon.toml"
for prefix in $internal; do printf '\n[[network]]\nprefix = "%s"\n' "$prefix" >>"$run_dir/cordon.toml"; done

# If this script is killed, cordond is told to stop, and stops the dataplane.
setpriv --pdeathsig TERM "$bin/cordond" run --config "$run_dir/cordon.toml" --with-dataplane --demo &
daemon=$!
wait "$daemon"
