#!/usr/bin/env bash
# Reserves hugepages and gives NICs to DPDK, shows both, and takes both back. DPDK's own dpdk-hugepages.py and
# dpdk-devbind.py do the work; this script checks first, verifies afterwards, and remembers what stood before.
set -euo pipefail

me=$0
sysfs=${CORDON_SYSFS:-/sys}
dev_root=${CORDON_DEV:-/dev}
state_dir=${CORDON_STATE_DIR:-/var/lib/cordon}
sysctl_dir=${CORDON_SYSCTL_DIR:-/etc/sysctl.d}
devbind=${CORDON_DPDK_DEVBIND:-dpdk-devbind.py}
hugetool=${CORDON_DPDK_HUGEPAGES:-dpdk-hugepages.py}
ip=${CORDON_IP:-ip}

state=$state_dir/hugepages.state
sysctl_file=$sysctl_dir/90-cordon-hugepages.conf
sysctl_mark="# Written by Cordon's hugepages.sh; 'hugepages.sh undo' removes it."
dry=0

usage() {
    cat <<EOT
Reserves hugepages and binds NICs for cordon-dataplane, and undoes it.

Usage: $me [--dry-run] COMMAND

  status                              hugepages, NICs and their drivers, what undo would restore
  reserve SIZE [--persist]            have SIZE (512M, 1G) of hugepages on each NUMA node; it replaces what is
                                      reserved now; --persist: at every boot too (spread over the nodes by the kernel)
  bind PCI... [--driver vfio-pci]     give NICs to DPDK; refuses the NIC that carries the default route
  unbind PCI...                       take NICs from their driver and leave them without one
  undo                                restore the drivers and hugepages that stood before the first change

  --dry-run                           check everything, print the commands, change nothing
  -h, --help                          this text

Exit codes: 0 done (or nothing to do), 1 failed or refused, 2 wrong usage.

Environment: CORDON_STATE_DIR (default /var/lib/cordon) holds what undo needs. CORDON_SYSCTL_DIR, CORDON_SYSFS,
CORDON_DEV, CORDON_DPDK_DEVBIND, CORDON_DPDK_HUGEPAGES and CORDON_IP replace paths and tools.
EOT
}

say() { printf '%s\n' "$*"; }
# Reports a change that was made, or in a dry run would have been.
did() { if ((dry)); then say "dry run: $*"; else say "$*"; fi; }
next() { printf '  next: %s\n' "$*"; }
warn() { printf 'warning: %s\n  next: %s\n' "$1" "$2" >&2; }
complain() { printf 'error: %s\n  next: %s\n' "$1" "$2" >&2; }
die() { complain "$1" "$2"; exit 1; }
misused() { complain "$1" "${2:-"$me --help"}"; exit 2; }

# Runs a command, or says that it would.
run() {
    if ((dry)); then say "would run: $*"; else "$@"; fi
}

need_tool() {
    command -v "$1" >/dev/null || die "$1 is not installed" "apt-get install $2"
}

# Everything that changes something passes here: the right user, one at a time, and a place to remember.
begin_change() {
    if [[ $sysfs != /sys && (-z ${CORDON_DPDK_DEVBIND:-} || -z ${CORDON_DPDK_HUGEPAGES:-}) ]]; then
        die "CORDON_SYSFS=$sysfs while DPDK's tools would act on the real /sys" \
            "set CORDON_DPDK_DEVBIND and CORDON_DPDK_HUGEPAGES too"
    fi
    ((dry)) && return
    [[ $sysfs != /sys || $EUID -eq 0 ]] || die "only root can do this" "sudo $me ..., or --dry-run to see the commands"
    mkdir -p "$state_dir" || die "cannot create $state_dir" "set CORDON_STATE_DIR to a writable folder"
    # cordond's user may own the folder; root does not write where a link of that user points.
    [[ ! -L $state && ! -L $state.new ]] || die "$state is a symbolic link" "find out who put it there, then remove it"
    exec 9<"$state_dir"
    flock -n 9 || die "another hugepages.sh is at work on $state_dir" "wait for it, then run the same command again"
}

# remember KIND KEY... VALUE: the first record of a key wins, since it is the one from before all changes.
remember() {
    ((dry)) && return
    local key=${*:1:$#-1}
    if [[ -e $state ]] && grep -qF -- "$key " "$state"; then return; fi
    printf '%s\n' "$*" >>"$state"
}

forget() {
    ((dry)) && return
    local left
    left=$(grep -vxF -- "$1" "$state" || true)
    if [[ -n $left ]]; then
        printf '%s\n' "$left" >"$state.new"
        mv "$state.new" "$state"
    else
        rm -f "$state"
    fi
}

# --- hugepages -------------------------------------------------------------------------------------------------------

page_kb() { awk '$1 == "Hugepagesize:" { print $2 }' /proc/meminfo; }

# NUMA nodes that have memory; "-" on a kernel without NUMA.
nodes() {
    local path
    if [[ ! -d $sysfs/devices/system/node ]]; then
        say -
        return
    fi
    for path in "$sysfs"/devices/system/node/node[0-9]*; do
        if [[ -d $path/hugepages ]] && ! grep -qE 'MemTotal: +0 kB' "$path/meminfo" 2>/dev/null; then
            say "${path##*/node}"
        fi
    done
}

pages_path() { # NODE KB
    if [[ $1 == - ]]; then
        say "$sysfs/kernel/mm/hugepages/hugepages-${2}kB/nr_hugepages"
    else
        say "$sysfs/devices/system/node/node$1/hugepages/hugepages-${2}kB/nr_hugepages"
    fi
}

set_pages() { # NODE KB PAGES
    local -a where=()
    [[ $1 == - ]] || where=(-n "$1")
    run "$hugetool" "${where[@]}" -p "${2}K" -r "$(($2 * $3))K"
}

size_kb() {
    [[ $1 =~ ^([1-9][0-9]{0,8})([KMGkmg])$ ]] || misused "'$1' is no size" "give one like 512M or 1G; 'undo' gives memory back"
    case ${BASH_REMATCH[2]} in
        K | k) say "${BASH_REMATCH[1]}" ;;
        M | m) say $((BASH_REMATCH[1] * 1024)) ;;
        G | g) say $((BASH_REMATCH[1] * 1024 * 1024)) ;;
    esac
}

# Puts back what stood before this call, when only some nodes could give the memory, or give it back.
reserve_failed() { # WANTED_KB
    local node_failed=$node node
    for node in "${!before[@]}"; do
        set_pages "$node" "$kb" "${before[$node]}" || true
        [[ -z ${fresh[$node]:-} ]] || forget "hugepages $node $kb ${before[$node]}"
    done
    ((now <= pages)) || die "node $node_failed keeps more than $1 kB in pages of $kb kB: somebody uses them; put back what stood before" \
        "stop what uses them (cordon-dataplane, qemu), then run the same command again"
    die "the kernel could not find $1 kB in pages of $kb kB on every node; put back what stood before" \
        "ask for less (see 'free -m'), stop what uses memory, or reserve right after boot with --persist"
}

command_reserve() {
    local size='' persist=0
    while (($#)); do
        case $1 in
            --persist) persist=1 ;;
            -*) misused "reserve does not know $1" ;;
            *) [[ -z $size ]] || misused "reserve takes one size"; size=$1 ;;
        esac
        shift
    done
    [[ -n $size ]] || misused "reserve needs a size" "$me reserve 1G"
    local want_kb kb pages node now count=0 changed=0
    want_kb=$(size_kb "$size")
    kb=$(page_kb)
    [[ -n $kb ]] || die "this kernel has no hugepages (no Hugepagesize in /proc/meminfo)" "boot a kernel with CONFIG_HUGETLBFS"
    ((want_kb % kb == 0)) || misused "$size is not a multiple of the page size, $kb kB" "round it up to whole pages"
    need_tool "$hugetool" dpdk
    begin_change
    pages=$((want_kb / kb))
    local -A before=() fresh=()
    for node in $(nodes); do
        now=$(<"$(pages_path "$node" "$kb")")
        before[$node]=$now
        count=$((count + 1))
        ((now != pages)) || continue
        if ((!dry)); then
            [[ -e $state ]] && grep -qF "hugepages $node $kb " "$state" || fresh[$node]=1
        fi
        remember hugepages "$node" "$kb" "$now"
        set_pages "$node" "$kb" "$pages" || reserve_failed "$want_kb"
        did "node $node: $now -> $pages pages of $kb kB"
        changed=1
    done
    ((changed)) || say "$pages pages of $kb kB are reserved on every node already"
    if ((persist)); then
        persist_pages $((pages * count))
    elif [[ -e $sysctl_file ]]; then
        warn "$sysctl_file still decides what is reserved at boot" "add --persist to change it too"
    fi
    next "'$me bind PCI...' gives NICs to DPDK, '$me undo' gives all back"
}

persist_pages() { # PAGES
    local line="vm.nr_hugepages = $1"
    if [[ -e $sysctl_file ]]; then
        grep -qxF "$sysctl_mark" "$sysctl_file" || die "$sysctl_file exists and is not ours" "move it away, then run the same command again"
        if grep -qxF "$line" "$sysctl_file"; then
            say "$sysctl_file says so already"
            return
        fi
    fi
    if ((dry)); then
        say "would write: $sysctl_file ($line)"
        return
    fi
    mkdir -p "$sysctl_dir"
    remember sysctl "$sysctl_file"
    printf '%s\n%s\n' "$sysctl_mark" "$line" >"$sysctl_file"
    say "wrote $sysctl_file: $line"
}

# --- NICs ------------------------------------------------------------------------------------------------------------

driver_of() { # PCI
    local link=$sysfs/bus/pci/devices/$1/driver
    if [[ -e $link ]]; then basename "$(readlink -f "$link")"; else say none; fi
}

# The network interfaces of a PCI device, wherever below it they hang (virtio puts a device in between).
interfaces_of() { # PCI
    local net
    for net in "$sysfs"/class/net/*; do
        if [[ $(readlink -f "$net") == */"$1"/* ]]; then basename "$net"; fi
    done
}

# Interfaces named by a default route, in any routing table, each followed by everything below it: the members of a
# bond, the ports of a bridge, the device under a VLAN. Prints "INTERFACE ROUTE_INTERFACE".
default_route_interfaces() {
    local routes routes6
    routes=$("$ip" -4 -o route show table all default) || die "$ip cannot list the IPv4 routes" "apt-get install iproute2"
    if ! routes6=$("$ip" -6 -o route show table all default) && [[ -e /proc/net/if_inet6 ]]; then
        die "$ip cannot list the IPv6 routes" "apt-get install iproute2"
    fi
    local route
    local -A seen=()
    for route in $(printf '%s\n%s\n' "$routes" "$routes6" | grep -oE '\bdev +[^ ]+' | awk '{ print $2 }' | sort -u); do
        seen=()
        below "$route" "$route"
    done
}

below() { # INTERFACE ROUTE_INTERFACE
    local lower
    [[ -z ${seen[$1]:-} ]] || return 0
    seen[$1]=1
    say "$1 $2"
    for lower in "$sysfs/class/net/$1"/lower_*; do
        [[ ! -e $lower ]] || below "${lower##*/lower_}" "$2"
    done
}

# Processes that hold the device open through vfio or uio. The kernel would make an unbind wait for them for ever.
users_of() { # PCI
    local node path=$sysfs/bus/pci/devices/$1
    {
        [[ ! -e $path/iommu_group ]] || say "$dev_root/vfio/$(basename "$(readlink -f "$path/iommu_group")")"
        for node in "$path"/uio/uio*; do
            [[ ! -e $node ]] || say "$dev_root/${node##*/}"
        done
    } | while read -r node; do
        { find /proc/[0-9]*/fd -lname "$node" 2>/dev/null || true; } | cut -d/ -f3
    done | sort -un
}

# Prints the full PCI address, 0000:01:00.0, of what the operator typed.
pci_address() {
    local pci=${1,,}
    [[ $pci =~ ^[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$ ]] && pci=0000:$pci
    [[ $pci =~ ^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$ ]] || misused "'$1' is no PCI address" "give one like 0000:01:00.0, from '$me status'"
    say "$pci"
}

# Says why this device must not change hands; true when it may.
may_change() { # PCI
    local pci=$1 net lower route pid upper path=$sysfs/bus/pci/devices/$1
    if [[ ! -e $path ]]; then
        complain "there is no PCI device $pci" "'$me status' lists the NICs"
        return 1
    fi
    if [[ $(<"$path/class") != 0x02* ]]; then
        complain "$pci is no network device (class $(<"$path/class"))" "'$me status' lists the NICs"
        return 1
    fi
    for net in $(interfaces_of "$pci"); do
        while read -r lower route; do
            [[ $lower == "$net" ]] || continue
            complain "$pci ($net) carries the default route (on $route): this machine would be cut off" \
                "choose another NIC, or move the default route to a management interface first"
            return 1
        done <<<"$default_routes"
        for upper in "$sysfs/class/net/$net"/upper_*; do
            [[ -e $upper ]] || continue
            complain "$pci ($net) is part of ${upper##*/upper_}" "take it out first: ip link set $net nomaster, or delete the VLAN above it"
            return 1
        done
    done
    for pid in $(users_of "$pci"); do
        complain "$pci is in use by process $pid ($(cat "/proc/$pid/comm" 2>/dev/null || say gone))" \
            "stop it first (systemctl stop cordon-dataplane); the wire is down until it runs again"
        return 1
    done
}

driver_ready() { # DRIVER
    [[ ! -e $sysfs/bus/pci/drivers/$1 ]] || return 0
    if ((dry)); then
        say "would run: modprobe $1"
        return 0
    fi
    if [[ $sysfs == /sys ]] && modprobe "$1" 2>/dev/null && [[ -e $sysfs/bus/pci/drivers/$1 ]]; then return 0; fi
    complain "this kernel has no driver $1" "install the kernel's modules, or give another with --driver (uio_pci_generic)"
    return 1
}

# Gives one device to a driver ("none": to nobody) and looks whether it happened: dpdk-devbind.py exits with 0 when it skips.
give() { # PCI DRIVER
    local pci=$1 driver=$2 out='' is
    local -a cmd=("$devbind" "--bind=$driver" "$pci")
    [[ $driver != none ]] || cmd=("$devbind" --unbind "$pci")
    if ((dry)); then
        run "${cmd[@]}"
        return
    fi
    out=$("${cmd[@]}" 2>&1) || true
    is=$(driver_of "$pci")
    if [[ $is != "$driver" ]]; then
        [[ -z $out ]] || printf '%s\n' "$out" >&2
        complain "$pci has driver $is instead of $driver" \
            "if its interface still has addresses: ip addr flush dev X && ip link set X down; see also dmesg; '$me undo' restores"
        return 1
    fi
}

change_drivers() { # DRIVER PCI...
    local driver=$1 pci was net bad=0
    shift
    need_tool "$devbind" dpdk
    [[ $sysfs != /sys ]] || need_tool lspci pciutils
    need_tool "$ip" iproute2
    begin_change
    default_routes=$(default_route_interfaces)
    for pci in "$@"; do may_change "$pci" || bad=1; done
    if ((bad == 0)) && [[ $driver != none ]]; then driver_ready "$driver" || bad=1; fi
    ((bad == 0)) || die "nothing was changed" "mend what is said above, then run the same command again"
    for pci in "$@"; do
        was=$(driver_of "$pci")
        if [[ $was == "$driver" ]]; then
            say "$pci has driver $driver already"
            continue
        fi
        net=$(interfaces_of "$pci" | xargs)
        if [[ $driver == vfio-pci && ! -e $sysfs/bus/pci/devices/$pci/iommu_group ]]; then
            warn "$pci is in no IOMMU group: DPDK cannot use it through vfio-pci as it is" \
                "switch on VT-d/AMD-Vi in the firmware and boot with intel_iommu=on iommu=pt"
        fi
        remember driver "$pci" "$was"
        give "$pci" "$driver" || exit 1
        did "$pci${net:+ ($net)}: $was -> $driver"
    done
}

command_bind() {
    local driver=vfio-pci pci
    local -a pcis=()
    while (($#)); do
        case $1 in
            --driver) [[ -n ${2:-} ]] || misused "--driver needs a name"; driver=$2; shift ;;
            --driver=?*) driver=${1#*=} ;;
            -*) misused "bind does not know $1" ;;
            *) pci=$(pci_address "$1"); pcis+=("$pci") ;;
        esac
        shift
    done
    [[ $driver =~ ^[A-Za-z0-9_-]+$ && $driver != none ]] || misused "'$driver' is no driver" "--driver vfio-pci; 'unbind' takes a NIC from its driver"
    ((${#pcis[@]})) || misused "bind needs a PCI address" "'$me status' lists the NICs"
    change_drivers "$driver" "${pcis[@]}"
    next "name the PCI address in the configuration's ports, start cordon-dataplane; '$me undo' gives it back to the kernel"
}

command_unbind() {
    local pci
    local -a pcis=()
    while (($#)); do
        [[ $1 != -* ]] || misused "unbind does not know $1"
        pci=$(pci_address "$1")
        pcis+=("$pci")
        shift
    done
    ((${#pcis[@]})) || misused "unbind needs a PCI address" "'$me status' lists the NICs"
    change_drivers none "${pcis[@]}"
    next "'$me bind PCI...' gives it to DPDK, '$me undo' to the driver it had"
}

# --- all -------------------------------------------------------------------------------------------------------------

undo_driver() { # PCI DRIVER
    local pci=$1 driver=$2
    # The folder may belong to cordond's user: what stands in it is not trusted with root's powers.
    if [[ ! $pci =~ ^[0-9a-f:.]+$ || ! $driver =~ ^[A-Za-z0-9_-]+$ ]]; then
        complain "$state: 'driver $pci $driver' is not understood" "correct or remove the line"
        return 1
    fi
    if [[ ! -e $sysfs/bus/pci/devices/$pci ]]; then
        say "$pci is no longer in this machine"
        return
    fi
    if [[ $(driver_of "$pci") == "$driver" ]]; then
        say "$pci has driver $driver already"
        return
    fi
    need_tool "$devbind" dpdk
    may_change "$pci" || return 1
    [[ $driver == none ]] || driver_ready "$driver" || return 1
    give "$pci" "$driver" || return 1
    did "$pci: back to $driver"
}

undo_pages() { # NODE KB PAGES
    local now
    if [[ ! $1 =~ ^(-|[0-9]+)$ || ! $2 =~ ^[0-9]+$ || ! $3 =~ ^[0-9]+$ ]]; then
        complain "$state: 'hugepages $*' is not understood" "correct or remove the line"
        return 1
    fi
    now=$(<"$(pages_path "$1" "$2")") || return 1
    if ((now != $3)); then
        need_tool "$hugetool" dpdk
        if ! set_pages "$1" "$2" "$3"; then
            complain "node $1 keeps more than $3 pages of $2 kB: somebody uses them" "stop cordon-dataplane, then '$me undo' again"
            return 1
        fi
    fi
    did "node $1: $now -> $3 pages of $2 kB"
}

undo_sysctl() {
    if [[ -e $sysctl_file ]] && grep -qxF "$sysctl_mark" "$sysctl_file"; then
        run rm -f "$sysctl_file" && did "$sysctl_file: removed"
    fi
}

command_undo() {
    (($# == 0)) || misused "undo takes no arguments"
    begin_change
    if [[ ! -s $state ]]; then
        say "nothing to undo: $state remembers no change"
        next "'$me status' shows what stands"
        return
    fi
    local kind a b c line bad=0 nics=0
    local -a lines=()
    mapfile -t lines <"$state"
    default_routes=$(default_route_interfaces)
    for line in "${lines[@]}"; do
        read -r kind a b c <<<"$line"
        case $kind in
            driver) undo_driver "$a" "$b" || { bad=1; continue; }; nics=1 ;;
            hugepages) undo_pages "$a" "$b" "$c" || { bad=1; continue; } ;;
            sysctl) undo_sysctl || { bad=1; continue; } ;;
            *) complain "$state: '$line' is not understood" "correct or remove the line"; bad=1; continue ;;
        esac
        forget "$line"
    done
    ((bad == 0)) || die "not all could be restored; $state keeps the rest" "mend what is said above, then '$me undo' again"
    ((nics == 0)) || next "NICs that went back to the kernel are down until 'ip link set X up' or the next boot"
}

command_status() {
    (($# == 0)) || misused "status takes no arguments"
    need_tool "$hugetool" dpdk
    need_tool "$devbind" dpdk
    local shown lower route net pci
    say "Hugepages"
    "$hugetool" -s
    [[ ! -e $sysctl_file ]] || say "At boot: $(grep -v '^#' "$sysctl_file") ($sysctl_file)"
    shown=$("$devbind" --status-dev net 2>&1) || die "dpdk-devbind.py failed: $shown" "apt-get install pciutils"
    say "$shown" | grep -v '^lspci: '
    say
    say "Default route (bind refuses these)"
    while read -r lower route; do
        [[ -n $lower ]] || continue
        say "  $lower (default route on $route)"
    done <<<"$(default_route_interfaces)"
    say
    if [[ -s $state ]]; then
        say "Before the first change, and after undo"
        sed 's/^/  /' "$state"
        next "'$me undo' restores this"
    else
        next "'$me reserve 1G', then '$me bind PCI...'; nothing to undo"
    fi
}

default_routes=''
command=''
rest=()
while (($#)); do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --dry-run) dry=1 ;;
        *) if [[ -z $command ]]; then command=$1; else rest+=("$1"); fi ;;
    esac
    shift
done
case $command in
    status | reserve | bind | unbind | undo) "command_$command" "${rest[@]}" ;;
    '') usage >&2; exit 2 ;;
    *) misused "there is no command '$command'" ;;
esac
