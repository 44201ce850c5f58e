#!/usr/bin/env bash
# Runs all tests that this machine can run and says why it leaves out the others. The runner counts those as skipped.
# The classes are told by name; the Makefile lists them.
set -euo pipefail
cd "$(dirname "$0")/.."

skipped=() # nextest filter expressions
prefixes=() # the same for plain cargo test
live=1

# skip CLASS FILTER PREFIX REASON. A filter has to name tests, not only binaries: nextest does not count the tests
# inside a binary that it skips as a whole. And it calls a pattern that matches no binary an error.
skip() {
    printf 'skipped: %s: %s\n' "$1" "$4"
    skipped+=("not ($2)")
    prefixes+=("$3")
}

lacks() { # prints the first of these tools that is missing
    local tool
    for tool in "$@"; do
        if ! command -v "$tool" >/dev/null; then
            printf '%s' "$tool"
            return
        fi
    done
}

# Says why network namespaces cannot be used here; nothing when they can.
netns_problem() {
    local name=cordon-probe-$$ tool
    tool=$(lacks ip ethtool ping iperf3 hping3 tcpdump)
    if ((EUID != 0)); then
        printf 'not root'
    elif [[ -n $tool ]]; then
        printf '%s is not installed (./setup.sh test)' "$tool"
    elif ! ip netns add "$name" 2>/dev/null; then
        printf 'this machine lets root create no network namespace'
    else
        ip -n "$name" link add name probe0 type veth peer name probe1 2>/dev/null || printf 'this kernel has no veth'
        ip netns del "$name"
    fi
}

captures=${CORDON_CAPTURES:-../shared/captures}

problem=$(netns_problem)
if [[ -n $problem ]]; then
    live=0
    skip 'live_* and netns_*' '((binary(/^(live_|hugepages$)/) - binary(=hugepages)) & test(/./)) | test(/(^|::)netns_/)' netns_ "$problem"
fi
if ((EUID != 0)) || [[ ! -c /dev/net/tun || ! -w /dev/net/tun ]]; then
    skip 'tun_*' 'test(/(^|::)tun_/)' tun_ 'needs root and /dev/net/tun (modprobe tun)'
fi
if ((EUID != 0)) || [[ ! -w /proc/sys/vm/nr_hugepages || -n $(lacks dpdk-hugepages.py dpdk-devbind.py) ]]; then
    skip 'hugepages_*' 'test(/(^|::)hugepages_/)' hugepages_ 'needs root, a writable /proc/sys/vm/nr_hugepages, and the package dpdk'
fi
if compgen -G "$captures/*.pcap" >/dev/null; then
    CORDON_CAPTURES=$(realpath "$captures")
    export CORDON_CAPTURES
else
    skip 'captures_*' 'test(/(^|::)captures_/)' captures_ "no captures in $captures (set CORDON_CAPTURES)"
fi
if [[ -n $(lacks gobgpd gobgp) ]]; then
    skip 'gobgp_*' 'test(/(^|::)gobgp_/)' gobgp_ 'the package gobgpd is not installed (./setup.sh test)'
fi
if [[ -z ${CORDON_SCHEMATHESIS:-} ]]; then
    CORDON_SCHEMATHESIS=$(realpath -m "${CARGO_TARGET_DIR:-target}/venv/bin/schemathesis")
fi
export CORDON_SCHEMATHESIS
if [[ ! -x $CORDON_SCHEMATHESIS ]]; then
    skip 'schemathesis_*' 'test(/(^|::)schemathesis_/)' schemathesis_ "there is no $CORDON_SCHEMATHESIS (./setup.sh test)"
fi
if [[ -z ${CORDON_XARF:-} ]]; then
    CORDON_XARF=$(realpath -ms "${CARGO_TARGET_DIR:-target}/venv-xarf/bin/python")
fi
export CORDON_XARF
if ! "$CORDON_XARF" -c 'import xarf, rfc3339_validator' 2>/dev/null; then
    skip 'xarf_*' 'test(/(^|::)xarf_/)' xarf_ "$CORDON_XARF has no package xarf (./setup.sh test)"
elif ! python3 -c 'import aiosmtpd' 2>/dev/null && ! /usr/bin/python3 -c 'import aiosmtpd' 2>/dev/null; then
    skip 'xarf_*' 'test(/(^|::)xarf_/)' xarf_ 'the package python3-aiosmtpd is not installed (./setup.sh test)'
fi
if [[ -n $(lacks prometheus promtool) ]]; then
    skip 'prometheus_*' 'test(/(^|::)prometheus_/)' prometheus_ 'the package prometheus is not installed (./setup.sh test)'
fi

if ! python3 -c 'import aiosmtpd' 2>/dev/null && ! /usr/bin/python3 -c 'import aiosmtpd' 2>/dev/null; then
    skip 'smtp_*' 'test(/(^|::)smtp_/)' smtp_ 'the package python3-aiosmtpd is not installed (./setup.sh test)'
fi

budgeted=$(sed -n 's/^rustc /&/p' bench/instructions/budgets.txt)
if [[ -n $(lacks valgrind) ]]; then
    skip 'valgrind_*' 'test(/(^|::)valgrind_/)' valgrind_ 'valgrind is not installed (./setup.sh test)'
elif [[ $(rustc --version) != "$budgeted" ]]; then
    skip 'valgrind_*' 'test(/(^|::)valgrind_/)' valgrind_ "budgets of instructions hold for $budgeted, this is $(rustc --version)"
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
if cargo nextest --version >/dev/null 2>&1; then
    filter='all()'
    for class in "${skipped[@]}"; do filter+=" & $class"; done
    cargo nextest run --workspace --locked -E "$filter" 2>&1 | tee "$log" || status=$?
    closing=$(grep -a 'Summary \[' "$log" | tail -n 1 || true)
else
    # Plain cargo runs one binary after the other; live binaries are chosen by file name.
    targets=(--lib --bins)
    for file in tests/*.rs control/tests/*.rs control/*/tests/*.rs dataplane/tests/*.rs dataplane/*/tests/*.rs; do
        name=$(basename "$file" .rs)
        if [[ -e $file ]] && { ((live)) || [[ $name != live_* ]]; }; then targets+=(--test "$name"); fi
    done
    harness=(--test-threads=1)
    for prefix in "${prefixes[@]}"; do harness+=(--skip "$prefix"); done
    cargo test --workspace --locked --no-fail-fast "${targets[@]}" -- "${harness[@]}" 2>&1 | tee "$log" || status=$?
    closing=$(awk '/^test result:/ { run += $4 + $6; passed += $4; failed += $6; left += $8 + $12 }
        END { printf "Summary: %d tests run: %d passed, %d failed, %d skipped\n", run, passed, failed, left }' "$log")
    printf '%s\n' "$closing"
fi
# For whoever prints more after this and still wants to end with it.
if [[ -n ${CORDON_SUMMARY:-} ]]; then printf '%s\n' "$closing" >"$CORDON_SUMMARY"; fi
exit "$status"
