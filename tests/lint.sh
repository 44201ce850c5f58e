#!/usr/bin/env bash
# Everything that is checked without running it: format, clippy, shell scripts, systemd units.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings

mapfile -t scripts < <(find . -path ./target -prune -o -path ./.git -prune -o -name '*.sh' -print)
shellcheck .ci/run "${scripts[@]}"

if command -v systemd-analyze >/dev/null; then
    # It insists that the programs exist: check copies of the units that name one which does.
    units=$(mktemp -d)
    trap 'rm -rf "$units"' EXIT
    for unit in systemd/*.service; do
        sed -E 's|^(Exec[A-Za-z]*=)[^ ]+|\1/bin/true|' "$unit" >"$units/${unit##*/}"
    done
    # Other units of this machine may be at fault; only a complaint that names one of ours counts.
    systemd-analyze verify --man=no "$units"/*.service >"$units/said" 2>&1 || true
    if grep -F "$units/" "$units/said" || grep -E '^cordon' "$units/said"; then
        printf 'systemd/: see above\n' >&2
        exit 1
    fi
fi
