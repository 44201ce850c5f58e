#!/usr/bin/env bash
# Builds what the benchmarks need besides our own programs, and can be run as often as one likes: what is built and up to
# date is left alone.
#   libcordon_source.so  the traffic source, a driver for DPDK's EAL (-d)
#   l3fwd                DPDK's own router, to compare with
#
# A driver needs ethdev's internal headers, which Debian's binary packages leave out, as they do the examples: both are
# taken from the source package of the installed version (16 MB, fetched once by apt with lists of its own; the system's
# stay as they are).
set -euo pipefail

usage() {
    cat <<EOT
Usage: $0 DIRECTORY

Builds libcordon_source.so and l3fwd in DIRECTORY. Set CORDON_DPDK_SOURCE to a DPDK source tree of the installed version
where there is no Debian mirror.
EOT
}

die() {
    printf 'build: %s\n  next: %s\n' "$1" "$2" >&2
    exit 1
}

fetch() { # VERSION-OF-PACKAGE DESTINATION
    local apt=$out/apt keys=/usr/share/keyrings/debian-archive-keyring.gpg
    mkdir -p "$apt"/{lists,cache/archives,download}
    # The archives that this machine's packages come from have their sources, too.
    apt-get indextargets --format "deb-src [signed-by=$keys] \$(REPO_URI) \$(RELEASE) main" 'Created-By: Packages' |
        grep -E ' [a-z]+(-updates|-security)? main$' | sort -u >"$apt/sources.list"
    [[ -s $apt/sources.list ]] || die 'apt knows of no Debian archive' 'apt-get update, or set CORDON_DPDK_SOURCE'
    local -a get=(
        apt-get -q
        -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache"
        -o APT::Sandbox::User=root -o Acquire::Retries=2 -o Acquire::http::Timeout=30
    )
    {
        "${get[@]}" update &&
            (cd "$apt/download" && "${get[@]}" source --download-only "dpdk=$1")
    } >&2 || die "the source package dpdk=$1 could not be fetched" \
        "mend what apt-get says above, or set CORDON_DPDK_SOURCE to a DPDK source tree"
    local -a archive=("$apt"/download/dpdk_*.orig.tar.*)
    rm -rf "$2.part" "$2"
    mkdir -p "$2.part"
    tar -xf "${archive[0]}" -C "$2.part" --strip-components=1 --wildcards \
        '*/lib/*.h' '*/drivers/bus/vdev/*.h' '*/examples/common/*' '*/examples/l3fwd/*'
    mv "$2.part" "$2"
    rm -rf "$apt"
}

stale() { # PRODUCT SOURCE...
    local product=$1 file
    shift
    for file in "$@" "$0"; do
        [[ $product -nt $file ]] || return 0
    done
    return 1
}

build_source() { # PRODUCT
    # Public headers come from the installed package; the source tree only adds what that lacks.
    "${CC:-cc}" -std=gnu11 -O3 -fPIC -shared -Wall -Wextra -Werror -DALLOW_EXPERIMENTAL_API -DALLOW_INTERNAL_API \
        "${flags[@]}" -I"$tree/lib/ethdev" -I"$tree/lib/eal/include" -I"$tree/drivers/bus/vdev" \
        "$here"/*.c "${libraries[@]}" -lrte_bus_vdev -o "$1.part"
    mv "$1.part" "$1"
}

build_l3fwd() { # PRODUCT
    rm -rf "$out/l3fwd-src"
    cp -r "$tree/examples/l3fwd" "$out/l3fwd-src"
    # Virtual devices check no checksums, and l3fwd insists on it. Its table for exact matches has room for 4 million
    # flows, 64 times what it gets here: a size for the flows there are is faster.
    sed -i 's/\.offloads = RTE_ETH_RX_OFFLOAD_CHECKSUM/.offloads = 0/' "$out/l3fwd-src/main.c"
    sed -i -E 's/(define L3FWD_HASH_ENTRIES\s+)\(1024\*1024\*[0-9]\)/\1(1024*256)/' "$out/l3fwd-src/l3fwd.h"
    local -a sources=("$out/l3fwd-src/main.c" "$out"/l3fwd-src/l3fwd_*.c)
    "${CC:-cc}" -O3 -w -DALLOW_EXPERIMENTAL_API "${flags[@]}" -I"$tree/examples/common" "${sources[@]}" \
        "${libraries[@]}" -o "$1.part"
    rm -rf "$out/l3fwd-src"
    mv "$1.part" "$1"
}

case ${1:-} in
    -h | --help) usage; exit ;;
    '' | -*) usage >&2; exit 2 ;;
esac
mkdir -p "$1"
out=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)

pkg-config --exists libdpdk || die 'libdpdk is not installed' './setup.sh bench'
version=$(pkg-config --modversion libdpdk)
tree=${CORDON_DPDK_SOURCE:-$out/dpdk-$version}
if [[ ! -d $tree/examples/l3fwd ]]; then
    package=$(dpkg-query -W -f='${source:Version}' libdpdk-dev) ||
        die 'libdpdk-dev is no Debian package' 'set CORDON_DPDK_SOURCE to a DPDK source tree of the installed version'
    fetch "$package" "$tree"
fi
read -ra flags < <(pkg-config --cflags libdpdk)
read -ra libraries < <(pkg-config --libs libdpdk)
if stale "$out/libcordon_source.so" "$here"/*.[ch]; then build_source "$out/libcordon_source.so"; fi
if stale "$out/l3fwd"; then build_l3fwd "$out/l3fwd"; fi
