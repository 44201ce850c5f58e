#!/usr/bin/env bash
# Builds the traffic source of the benchmarks, a driver for DPDK's EAL (-d), and prints its path. Can be run as often as
# one likes: what is built and up to date is left alone.
#
# A driver needs ethdev's internal headers, which Debian's binary packages leave out: they are taken from the source
# package of the installed version (16 MB, fetched once by apt with lists of its own; the system's stay as they are).
set -euo pipefail

usage() {
    cat <<EOT
Usage: $0 DIRECTORY

Builds DIRECTORY/libcordon_source.so and prints its path. Set CORDON_DPDK_SOURCE to a DPDK source tree of the installed
version where there is no Debian mirror.
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
    rm -rf "$2.part"
    mkdir -p "$2.part"
    tar -xf "${archive[0]}" -C "$2.part" --strip-components=1 --wildcards '*/lib/*.h' '*/drivers/bus/vdev/*.h'
    mv "$2.part" "$2"
    rm -rf "$apt"
}

case ${1:-} in
    -h | --help) usage; exit ;;
    '' | -*) usage >&2; exit 2 ;;
esac
mkdir -p "$1"
out=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
library=$out/libcordon_source.so

pkg-config --exists libdpdk || die 'libdpdk is not installed' './setup.sh bench'
version=$(pkg-config --modversion libdpdk)
headers=${CORDON_DPDK_SOURCE:-$out/dpdk-$version}
if [[ ! -d $headers ]]; then
    package=$(dpkg-query -W -f='${source:Version}' libdpdk-dev) ||
        die 'libdpdk-dev is no Debian package' 'set CORDON_DPDK_SOURCE to a DPDK source tree of the installed version'
    fetch "$package" "$headers"
fi

stale=
for file in "$here"/*.[ch] "$0"; do
    [[ $library -nt $file ]] || stale=1
done
if [[ -n $stale ]]; then
    # Public headers come from the installed package; the source tree only adds what that lacks.
    read -ra flags < <(pkg-config --cflags libdpdk)
    read -ra libraries < <(pkg-config --libs libdpdk)
    "${CC:-cc}" -std=gnu11 -O3 -fPIC -shared -Wall -Wextra -Werror -DALLOW_EXPERIMENTAL_API -DALLOW_INTERNAL_API \
        "${flags[@]}" -I"$headers/lib/ethdev" -I"$headers/lib/eal/include" -I"$headers/drivers/bus/vdev" \
        "$here"/*.c "${libraries[@]}" -lrte_bus_vdev -o "$library.part"
    mv "$library.part" "$library"
fi
printf '%s\n' "$library"
