#!/usr/bin/env bash
# What 'make bench' does: all benchmarks one after the other, then the performance page. What fails or cannot run here is told
# at the end, and keeps nothing else from being measured; each leaves its results as soon as it has them.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<EOT
Usage: $0 [OPTIONS]

  --quick   short rounds, to see that everything works: about seven minutes, and no page
  others    are those of 'cargo bench -p cordon --bench packets -- --help'; with them nothing else is measured

Needs root, and a machine that does nothing else. Takes about fifteen minutes with two cores, after the programs are built.
Exit codes: 0 all was measured, 1 something failed, 2 wrong usage.
EOT
}

results=${CARGO_TARGET_DIR:-target}/bench
failed=() skipped=()

note() {
    printf 'bench: %s\n' "$1" >&2
}

measure() { # NAME COMMAND...
    local name=$1 began=$SECONDS
    shift
    note "==== $name"
    "$@" || failed+=("$name")
    note "$name took $((SECONDS - began)) s"
}

cargo_bench() { # NAME OPTIONS...
    local name=$1
    shift
    cargo bench -q -p cordon --locked --bench "$name" -- "$@"
}

beside_fastnetmon() {
    local program
    local -a lacking=()
    for program in fastnetmon trafgen ethtool; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || lacking+=("$program")
    done
    if ((${#lacking[@]})); then
        skipped+=("beside FastNetMon: there is no ${lacking[*]}; apt-get install --no-install-recommends fastnetmon netsniff-ng ethtool")
        return
    fi
    measure 'beside FastNetMon' bench/fastnetmon.py "${results%/bench}/release" "$results/fastnetmon.json" "$@"
}

main() {
    quick=()
    case ${1:-} in
        -h | --help) usage; exit ;;
        --quick) quick=(--quick) ;;
        '') ;;
        *) cargo_bench packets "$@"; exit ;;
    esac
    (($# <= 1)) || { usage >&2; exit 2; }
    ((EUID == 0)) || { note "DPDK's memory, virtual cables and a core of one's own need root"; exit 1; }

    note 'building'
    cargo build --release --workspace --locked
    cargo bench -p cordon --locked --benches --no-run
    mkdir -p "$results"
    measure 'the dataplane beside others' cargo_bench packets "${quick[@]}"
    measure 'the packet path alone' cargo_bench pipeline "${quick[@]}"
    measure 'a tick of control' cargo_bench tick "${quick[@]}"
    measure 'from a scan to its lock' cargo_bench lock "${quick[@]}"
    beside_fastnetmon "${quick[@]}"
    if ((${#quick[@]})); then
        note "no page of quick figures; 'make performance' makes one"
    else
        measure 'the performance page' bench/performance.py "$results" bench
    fi
    printf 'bench: %d failed, %d skipped, %d s\n' ${#failed[@]} ${#skipped[@]} $SECONDS
    ((!${#skipped[@]})) || printf '  skipped: %s\n' "${skipped[@]}"
    ((!${#failed[@]})) || { printf '  failed: %s\n' "${failed[@]}"; exit 1; }
}

# Read to its end before anything runs: what changes in the checkout meanwhile does not matter.
main "$@"; exit
