#!/usr/bin/env bash
# A laboratory on one machine: two network namespaces joined by the appliance, nothing connected to the outside.
#
#   cordon-inside (the servers)        cordon-box (the appliance)        cordon-outside (the internet)
#   10.77.0.10, 10.77.0.11  ci0 ------ ci1  cordon-dataplane  co1 ------ co0  10.77.0.1
#
# 'lab.sh' builds it and waits for Ctrl-C, which takes all down again. 'lab.sh check' pings through it once instead of
# waiting. 'lab.sh clean' removes what a killed lab left behind.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=$(realpath -m "${CORDON_BIN:-target/release}")
namespaces=(cordon-inside cordon-outside cordon-box)
start_s=30
stop_s=5
run_dir=
daemon=

die() {
    printf 'lab: %s\n  next: %s\n' "$1" "$2" >&2
    exit 1
}

# Ends what runs in the lab's namespaces and removes them; the interfaces go with them.
take_down() {
    local name deadline pids
    if [[ -n $daemon ]]; then kill -TERM "$daemon" 2>/dev/null || true; fi
    for name in "${namespaces[@]}"; do
        [[ -e /run/netns/$name ]] || continue
        deadline=$((SECONDS + stop_s))
        mapfile -t pids < <(ip netns pids "$name")
        if ((${#pids[@]})); then kill -TERM "${pids[@]}" 2>/dev/null || true; fi
        for pid in "${pids[@]}"; do
            timeout "$((deadline > SECONDS ? deadline - SECONDS : 1))" tail -s 0.1 --pid="$pid" -f /dev/null || true
        done
        mapfile -t pids < <(ip netns pids "$name")
        if ((${#pids[@]})); then kill -KILL "${pids[@]}" 2>/dev/null || true; fi
        ip netns del "$name"
    done
    if [[ -n $daemon ]]; then wait "$daemon" 2>/dev/null || true; fi
    if [[ -n $run_dir ]]; then rm -rf "$run_dir"; fi
}

# veth pair: a host's interface and the appliance's. No offloads: they leave checksums unfinished and make frames larger
# than the MTU. The appliance's side gets no address, so that the kernel there says nothing of its own.
join() { # NAMESPACE HOST_INTERFACE BOX_INTERFACE MAC
    ip link add name "$2" netns "$1" address "$4" type veth peer name "$3" netns cordon-box
    ip netns exec "$1" ethtool -K "$2" tx off rx off gso off tso off gro off >/dev/null
    ip netns exec cordon-box ethtool -K "$3" tx off rx off gso off tso off gro off >/dev/null
    ip netns exec cordon-box sysctl -qw "net.ipv6.conf.$3.disable_ipv6=1"
    ip -n "$1" link set lo up
    ip -n "$1" link set "$2" up
    ip -n cordon-box link set "$3" arp off up
}

build() {
    local name
    for name in "${namespaces[@]}"; do ip netns add "$name"; done
    ip -n cordon-box link set lo up
    join cordon-inside ci0 ci1 02:00:00:77:00:10
    join cordon-outside co0 co1 02:00:00:77:00:01
    ip -n cordon-inside addr add 10.77.0.10/24 dev ci0
    ip -n cordon-inside addr add 10.77.0.11/24 dev ci0
    ip -n cordon-outside addr add 10.77.0.1/24 dev co0
}

start() {
    sed "s|@RUN@|$run_dir|g" bench/demo/lab.toml >"$run_dir/cordon.toml"
    ip netns exec cordon-box "$bin/cordond" run --config "$run_dir/cordon.toml" --with-dataplane \
        >"$run_dir/log" 2>&1 &
    daemon=$!
    local deadline=$((SECONDS + start_s))
    until ip netns exec cordon-inside ping -q -c 1 -W 1 10.77.0.1 >/dev/null 2>&1 &&
        "$bin/cordon" --socket "$run_dir/cordon.sock" status >/dev/null 2>&1; do
        if ! kill -0 "$daemon" 2>/dev/null || ((SECONDS >= deadline)); then
            cat "$run_dir/log" >&2
            die "the appliance forwards nothing" "the daemons' log stands above"
        fi
    done
}

explain() {
    cat <<EOT

The lab is up. Servers 10.77.0.10 and 10.77.0.11 are in cordon-inside, the internet is 10.77.0.1 in cordon-outside, and
everything between them passes Cordon. In other terminals (root):

    export PATH=$bin:\$PATH CORDON_SOCKET=$run_dir/cordon.sock
    cordon status

  Keep a ping running, and watch it:
    ip netns exec cordon-inside ping -I 10.77.0.10 10.77.0.1
    cordon top
  A server floods for some seconds (100,000 SYNs), and is locked; its ping stops:
    ip netns exec cordon-inside hping3 -q -S -p 80 -a 10.77.0.10 -i u50 -c 100000 10.77.0.1
    cordon list
    cordon incidents
  Let it back; the ping returns:
    cordon unlock 10.77.0.10 --all
  The same from outside against a server; its answers never lock it:
    ip netns exec cordon-outside hping3 -q -S -p 80 -i u50 -c 100000 10.77.0.11
  Metrics:
    ip netns exec cordon-box curl -s http://127.0.0.1:9477/metrics

Log: $run_dir/log. Ctrl-C takes all down.
EOT
}

case ${1:-} in
    '' | check) ;;
    clean) ;;
    *) printf 'Usage: %s [check|clean]\n' "$0" >&2; exit 2 ;;
esac
((EUID == 0)) || die 'network namespaces need root' 'sudo make lab'
for tool in ip ethtool ping sysctl; do
    command -v "$tool" >/dev/null || die "$tool is not installed" './setup.sh test'
done
if [[ ${1:-} == clean ]]; then
    take_down
    # There is one lab at a time: the namespaces have fixed names.
    rm -rf /dev/shm/cordon-lab.??????
    exit
fi
for name in "${namespaces[@]}"; do
    [[ ! -e /run/netns/$name ]] || die "namespace $name exists: a lab is up, or one was killed" "end it with Ctrl-C, or '$0 clean'"
done
for program in cordond cordon cordon-dataplane; do
    [[ -x $bin/$program ]] || die "$bin/$program is missing" 'make build'
done

# Tables want a file system in memory.
run_dir=$(mktemp -d /dev/shm/cordon-lab.XXXXXX)
trap take_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
build
start
if [[ ${1:-} == check ]]; then
    ip netns exec cordon-inside ping -q -c 3 -i 0.2 -W 2 -I 10.77.0.11 10.77.0.1
    exit
fi
explain
if ! wait "$daemon"; then
    tail -n 20 "$run_dir/log" >&2
    daemon=
    die 'cordond ended' "its last words stand above"
fi
