#!/usr/bin/env bash
# What 'make run', 'make test' and 'make bench' call first: installs the Debian packages that are missing and checks
# the Rust toolchain. Quick (one dpkg-query) and silent when nothing is missing; can be run as often as one likes.
#
# Tests are never switched off by hand. What a machine cannot run is left out by name (tests/run.sh): test binaries
# live_* and tests netns_* need root and network namespaces, tests tun_* /dev/net/tun, hugepages_* root and hugepages,
# captures_* the folder of captures, schemathesis_* that program, prometheus_* Prometheus, gobgp_* GoBGP, smtp_* aiosmtpd,
# xarf_* the package xarf.
set -euo pipefail

rust_min=1.95
build_packages=(dpdk dpdk-dev libdpdk-dev clang libclang-dev pkg-config make gcc libc6-dev iproute2 pciutils procps tcpdump)
# For 'make test': what it cannot do without, and what tests of single classes use.
lint_packages=(shellcheck)
tool_packages=(tshark hping3 iperf3 nmap masscan iputils-ping ethtool prometheus gobgpd jq python3-aiosmtpd valgrind netsniff-ng
    python3-venv dsniff dnsmasq-base isc-dhcp-client radvd zmap traceroute curl)
# For 'make bench', which unpacks parts of DPDK's source package, places processes on cores, and draws plots.
bench_packages=(xz-utils util-linux python3)

usage() {
    cat <<EOT
Installs what Cordon needs on Debian 12 and checks the Rust toolchain.

Usage: $0 run|test|bench

  run     what building and running needs
  test    that, and the tools that tests use
  bench   what building, running and measuring needs

Packages are installed as root with apt-get; without root the command to run is printed. Set CORDON_NO_PACKAGES=1 to
skip the packages (on another distribution: install DPDK 22.11 with its headers, clang with libclang, pkg-config).
Exit codes: 0 ready, 1 something is missing, 2 wrong usage.
EOT
}

die() {
    printf 'setup: %s\n  next: %s\n' "$1" "$2" >&2
    exit 1
}

# Prints those of its arguments that are not installed.
missing() {
    local installed name
    installed=" $(dpkg-query -W -f='${db:Status-Status}=${Package} ' "$@" 2>/dev/null || true)"
    for name in "$@"; do
        [[ $installed == *" installed=$name "* ]] || printf '%s\n' "$name"
    done
}

# Debian starts and enables a service that it installs. Tests start their own Prometheus and GoBGP; nobody asked for one that
# listens on this machine. While policy-rc.d says no nothing starts, and a service that came with this installation is
# disabled again; one that was here before is left alone.
policy=/usr/sbin/policy-rc.d
cleanup() {
    [[ -z ${own_policy:-} ]] || rm -f "$policy"
    [[ -z ${log:-} ]] || rm -f "$log"
}

install_packages() {
    trap cleanup EXIT
    log=$(mktemp)
    if [[ ! -e $policy ]]; then
        own_policy=1
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    local -a get=(apt-get -y -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120)
    printf 'setup: installing %s\n' "$*"
    # The lists on disk are enough unless they are empty or too old for what the mirror still has.
    if ! "${get[@]}" install --no-install-recommends "$@" >"$log" 2>&1; then
        if ! { "${get[@]}" update && "${get[@]}" install --no-install-recommends "$@"; } >"$log" 2>&1; then
            tail -n 30 "$log" >&2
            die "apt-get could not install: $*" "mend what apt-get says above, or install them yourself and run this again"
        fi
    fi
    local service
    for service in prometheus gobgpd radvd; do
        if [[ " $* " == *" $service "* ]] && command -v deb-systemd-helper >/dev/null; then
            deb-systemd-helper disable "$service.service" >/dev/null ||
                printf 'setup: could not disable %s.service\n  next: systemctl disable %s, unless you want it at boot\n' "$service" "$service" >&2
        fi
    done
}

check_packages() { # MODE
    local -a need=("${build_packages[@]}") lacking=()
    local -A optional=()
    local name
    if [[ $1 == test ]]; then
        need+=("${lint_packages[@]}" "${tool_packages[@]}")
        for name in "${tool_packages[@]}"; do optional[$name]=1; done
    elif [[ $1 == bench ]]; then
        need+=("${bench_packages[@]}")
    fi
    command -v apt-get >/dev/null ||
        die "this is no Debian: packages cannot be checked" "install the like of: ${need[*]}; then set CORDON_NO_PACKAGES=1"
    mapfile -t lacking < <(missing "${need[@]}")
    ((${#lacking[@]})) || return 0
    if ((EUID == 0)); then
        install_packages "${lacking[@]}"
        return
    fi
    local command="sudo apt-get install --no-install-recommends ${lacking[*]}"
    for name in "${lacking[@]}"; do
        [[ -n ${optional[$name]:-} ]] || die "packages are missing and only root can install them" "$command"
    done
    printf 'setup: without these packages some tests are skipped: %s\n  next: %s\n' "${lacking[*]}" "$command" >&2
}

check_rust() { # MODE
    local how='install Rust with rustup (https://rustup.rs), then: rustup toolchain install stable' have part
    command -v cargo >/dev/null || die "there is no cargo in PATH" "$how"
    have=$(cargo --version) || die "cargo does not run" "$how"
    have=${have#cargo }
    have=${have%% *}
    [[ $(printf '%s\n%s\n' "$rust_min" "$have" | sort -V | head -n 1) == "$rust_min" ]] ||
        die "cargo is $have, Cordon needs $rust_min or later" "rustup update stable"
    [[ $1 == test ]] || return 0
    for part in fmt clippy; do
        cargo "$part" --version >/dev/null 2>&1 || die "cargo $part is missing" "rustup component add rustfmt clippy"
    done
    cargo nextest --version >/dev/null 2>&1 ||
        printf 'setup: cargo-nextest is missing; plain cargo test takes its place\n  next: cargo install --locked cargo-nextest\n' >&2
}

# Checks the HTTP API against its document. It is no Debian package; one version of it, so that the same requests are made.
schemathesis=4.32.5
check_schemathesis() {
    local venv=${CARGO_TARGET_DIR:-target}/venv
    [[ ! -e $venv/schemathesis-$schemathesis ]] || return 0
    if ! { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check \
        "schemathesis==$schemathesis" && touch "$venv/schemathesis-$schemathesis"; } >/dev/null 2>&1; then
        printf 'setup: schemathesis could not be installed: tests that use it are skipped\n  next: python3 -m venv %q && %q install schemathesis==%s\n' \
            "$venv" "$venv/bin/pip" "$schemathesis" >&2
    fi
}

# Holds XARF reports against the official schemas, times and host names included. Apart from the other, which has pins of its own.
xarf=1.0.0
jsonschema=4.26.0
check_xarf() {
    local venv=${CARGO_TARGET_DIR:-target}/venv-xarf
    local -a wanted=("xarf==$xarf" "jsonschema[format-nongpl]==$jsonschema")
    [[ ! -e $venv/xarf-$xarf-$jsonschema ]] || return 0
    if ! { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check \
        "${wanted[@]}" && touch "$venv/xarf-$xarf-$jsonschema"; } >/dev/null 2>&1; then
        printf 'setup: xarf could not be installed: tests that use it are skipped\n  next: python3 -m venv %q && %q install %q %q\n' \
            "$venv" "$venv/bin/pip" "${wanted[@]}" >&2
    fi
}

case ${1:-} in
    run | test | bench)
        (($# == 1)) || { usage >&2; exit 2; }
        [[ -n ${CORDON_NO_PACKAGES:-} ]] || check_packages "$1"
        check_rust "$1"
        if [[ $1 == test ]]; then
            check_schemathesis
            check_xarf
        fi
        ;;
    -h | --help) usage ;;
    *) usage >&2; exit 2 ;;
esac
