//! hugepages.sh from outside: hugepages for real, NICs on a machine made of files with stand-ins for DPDK's tools.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const DEVBIND: &str = r#"#!/bin/sh
echo "$@" >>"$FAKE/devbind.log"
case $1 in
    --status-dev) exit 0 ;;
    --unbind) driver= ;;
    --bind=*) driver=${1#--bind=} ;;
esac
if [ -e "$FAKE/skip" ]; then
    echo "Warning: routing table indicates that interface $2 is active. Not modifying" >&2
    exit 0
fi
rm -f "$FAKE/sys/bus/pci/devices/$2/driver"
[ -z "$driver" ] || ln -s "$FAKE/sys/bus/pci/drivers/$driver" "$FAKE/sys/bus/pci/devices/$2/driver"
"#;

/// Node 1 has memory for 100 pages only.
const HUGETOOL: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
        -n) node=$2 ;;
        -p) kb=${2%K} ;;
        -r) size=${2%K} ;;
    esac
    shift 2
done
pages=$((size / kb))
[ "$node" = 0 ] || [ $pages -le 100 ] || { echo "Unable to set pages" >&2; exit 1; }
echo $pages >"$FAKE/sys/devices/system/node/node$node/hugepages/hugepages-${kb}kB/nr_hugepages"
"#;

const IP: &str = r#"#!/bin/sh
cat "$FAKE/routes$1" 2>/dev/null || true
"#;

const FIRST: &str = "0000:01:00.0";
const SECOND: &str = "0000:01:00.1";
const DISK: &str = "0000:02:00.0";

/// A machine with two NICs on `ixgbe` (eth1, eth2), a disk on `nvme`, two NUMA nodes, and no default route.
struct Machine {
    root: tempfile::TempDir,
}

struct Run {
    code: i32,
    text: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = [output.stdout, output.stderr].concat();
        Self {
            code: output.status.code().expect("killed by a signal"),
            text: String::from_utf8(text).unwrap(),
        }
    }
}

fn script() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("hugepages.sh"))
}

impl Machine {
    fn new() -> Self {
        let machine = Self { root: tempfile::tempdir().unwrap() };
        for (name, text) in [("devbind", DEVBIND), ("hugetool", HUGETOOL), ("ip", IP)] {
            let path = machine.path(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for dir in ["sys/class/net", "sys/bus/pci/devices", "sys/bus/pci/drivers/vfio-pci", "dev/vfio"] {
            fs::create_dir_all(machine.path(dir)).unwrap();
        }
        machine.pci(FIRST, "ixgbe", "0x020000", Some(("eth1", 7)));
        machine.pci(SECOND, "ixgbe", "0x020000", Some(("eth2", 8)));
        machine.pci(DISK, "nvme", "0x010802", None);
        let kb = page_kb();
        for node in 0..2 {
            let dir = machine.path(&format!("sys/devices/system/node/node{node}/hugepages/hugepages-{kb}kB"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("nr_hugepages"), "3\n").unwrap();
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn pci(&self, address: &str, driver: &str, class: &str, net: Option<(&str, u32)>) {
        let device = self.path("sys/devices/pci0000:00").join(address);
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("class"), class).unwrap();
        let driver_dir = self.path("sys/bus/pci/drivers").join(driver);
        fs::create_dir_all(&driver_dir).unwrap();
        symlink(driver_dir, device.join("driver")).unwrap();
        symlink(&device, self.path("sys/bus/pci/devices").join(address)).unwrap();
        if let Some((name, group)) = net {
            let interface = device.join("net").join(name);
            fs::create_dir_all(&interface).unwrap();
            symlink(interface, self.path("sys/class/net").join(name)).unwrap();
            let group_dir = self.path(&format!("sys/kernel/iommu_groups/{group}"));
            fs::create_dir_all(&group_dir).unwrap();
            symlink(group_dir, device.join("iommu_group")).unwrap();
        }
    }

    /// Puts a virtual interface above another one, as a bond, bridge or VLAN is.
    fn stack(&self, upper: &str, lower: &str) {
        let net = self.path("sys/class/net");
        let device = self.path("sys/devices/virtual/net").join(upper);
        fs::create_dir_all(&device).unwrap();
        if !net.join(upper).exists() {
            symlink(&device, net.join(upper)).unwrap();
        }
        let below = fs::canonicalize(net.join(lower)).unwrap();
        symlink(&below, device.join(format!("lower_{lower}"))).unwrap();
        symlink(&device, below.join(format!("upper_{upper}"))).unwrap();
    }

    fn routes(&self, family: &str, text: &str) {
        fs::write(self.path(&format!("routes{family}")), text).unwrap();
    }

    fn driver(&self, address: &str) -> Option<String> {
        let target = fs::read_link(self.path("sys/bus/pci/devices").join(address).join("driver")).ok()?;
        Some(target.file_name().unwrap().to_str().unwrap().to_owned())
    }

    fn pages(&self) -> [String; 2] {
        let kb = page_kb();
        [0, 1].map(|node| {
            let name = format!("sys/devices/system/node/node{node}/hugepages/hugepages-{kb}kB/nr_hugepages");
            fs::read_to_string(self.path(&name)).unwrap().trim().to_owned()
        })
    }

    fn devbind_calls(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("devbind.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    fn run(&self, args: &[&str]) -> Run {
        let mut command = script();
        command
            .args(args)
            .env("FAKE", self.root.path())
            .env("CORDON_SYSFS", self.path("sys"))
            .env("CORDON_DEV", self.path("dev"))
            .env("CORDON_STATE_DIR", self.path("state"))
            .env("CORDON_SYSCTL_DIR", self.path("sysctl.d"))
            .env("CORDON_DPDK_DEVBIND", self.path("devbind"))
            .env("CORDON_DPDK_HUGEPAGES", self.path("hugetool"))
            .env("CORDON_IP", self.path("ip"));
        command.output().unwrap().into()
    }

    #[track_caller]
    fn succeeds(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{args:?}: {}", run.text);
        run.text
    }

    /// Refused with exit code 1, the reason, and what to do next; no driver was touched.
    #[track_caller]
    fn refuses(&self, args: &[&str], reason: &str) {
        let calls = self.devbind_calls();
        let run = self.run(args);
        assert_eq!(run.code, 1, "{args:?}: {}", run.text);
        assert!(run.text.contains(reason), "no '{reason}' in: {}", run.text);
        assert!(run.text.contains("next: "), "{}", run.text);
        assert_eq!(self.devbind_calls(), calls);
    }
}

fn page_kb() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("Hugepagesize:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// A size of so many pages, as an operator would give it.
fn size_of_pages(pages: u64) -> String {
    format!("{}K", pages * page_kb())
}

#[test]
fn bind_gives_nics_to_dpdk_and_undo_gives_them_back() {
    let machine = Machine::new();
    machine.succeeds(&["bind", FIRST, "01:00.1"]);
    assert_eq!(machine.driver(FIRST).unwrap(), "vfio-pci");
    assert_eq!(machine.driver(SECOND).unwrap(), "vfio-pci");
    machine.succeeds(&["undo"]);
    assert_eq!(machine.driver(FIRST).unwrap(), "ixgbe");
    assert_eq!(machine.driver(SECOND).unwrap(), "ixgbe");
    assert!(!machine.path("state/hugepages.state").exists());
    assert!(machine.succeeds(&["undo"]).contains("nothing to undo"));
}

#[test]
fn binding_again_changes_nothing_and_undo_still_knows_the_first_driver() {
    let machine = Machine::new();
    fs::create_dir(machine.path("sys/bus/pci/drivers/uio_pci_generic")).unwrap();
    machine.succeeds(&["bind", FIRST]);
    assert!(machine.succeeds(&["bind", FIRST]).contains("already"));
    assert_eq!(machine.devbind_calls().len(), 1);
    machine.succeeds(&["bind", "--driver", "uio_pci_generic", FIRST]);
    assert_eq!(machine.driver(FIRST).unwrap(), "uio_pci_generic");
    machine.succeeds(&["undo"]);
    assert_eq!(machine.driver(FIRST).unwrap(), "ixgbe");
}

#[test]
fn unbind_leaves_a_nic_without_a_driver_and_undo_restores_it() {
    let machine = Machine::new();
    machine.succeeds(&["unbind", FIRST]);
    assert_eq!(machine.driver(FIRST), None);
    machine.succeeds(&["undo"]);
    assert_eq!(machine.driver(FIRST).unwrap(), "ixgbe");
}

#[test]
fn the_default_route_is_never_bound_away() {
    let direct = "default via 192.0.2.1 dev eth1 proto static \n";
    let multipath = "default proto static \\\tnexthop via 192.0.2.1 dev eth9 weight 1 \\\tnexthop via 192.0.2.2 dev eth1 weight 1 \n";
    let table = "default dev eth1 table 77 scope link \n";
    for (family, route) in [
        ("-4", direct),
        ("-4", multipath),
        ("-4", table),
        ("-6", "default via fe80::1 dev eth1 metric 1024 \n"),
    ] {
        let machine = Machine::new();
        machine.routes(family, route);
        machine.refuses(&["bind", FIRST], "carries the default route (on eth1)");
        machine.refuses(&["unbind", FIRST], "carries the default route (on eth1)");
        machine.refuses(&["--dry-run", "bind", FIRST], "carries the default route (on eth1)");
        machine.succeeds(&["bind", SECOND]);
    }
}

#[test]
fn the_default_route_is_found_below_bonds_bridges_and_vlans() {
    for stack in [&["bond0"][..], &["br0"], &["eth1.10"], &["bond0", "bond0.10", "br0"]] {
        let machine = Machine::new();
        let top = stack.last().unwrap();
        let mut lower = "eth1";
        for upper in stack {
            machine.stack(upper, lower);
            lower = upper;
        }
        machine.routes("-4", &format!("default via 192.0.2.1 dev {top} \n"));
        machine.refuses(&["bind", FIRST], &format!("carries the default route (on {top})"));
        assert_eq!(machine.driver(FIRST).unwrap(), "ixgbe");
    }
}

#[test]
fn a_member_of_a_bridge_is_refused_until_it_is_taken_out() {
    let machine = Machine::new();
    machine.stack("br0", "eth1");
    machine.refuses(&["bind", FIRST], "is part of br0");
}

#[test]
fn one_bad_address_among_several_changes_nothing() {
    let machine = Machine::new();
    machine.refuses(&["bind", FIRST, "0000:99:00.0"], "there is no PCI device 0000:99:00.0");
    machine.refuses(&["bind", FIRST, DISK], "is no network device");
    machine.refuses(&["bind", FIRST, "--driver", "igb_uio"], "has no driver igb_uio");
    assert!(!machine.path("state/hugepages.state").exists());
}

#[test]
fn a_nic_that_a_process_holds_open_is_not_taken_from_it() {
    let machine = Machine::new();
    machine.succeeds(&["bind", FIRST]);
    let held = fs::File::create(machine.path("dev/vfio/7")).unwrap();
    let reason = format!("in use by process {}", std::process::id());
    machine.refuses(&["undo"], &reason);
    machine.refuses(&["unbind", FIRST], &reason);
    drop(held);
    machine.succeeds(&["undo"]);
    assert_eq!(machine.driver(FIRST).unwrap(), "ixgbe");
}

#[test]
fn a_bind_that_devbind_skipped_is_a_failure() {
    let machine = Machine::new();
    fs::write(machine.path("skip"), "").unwrap();
    let run = machine.run(&["bind", FIRST]);
    assert_eq!(run.code, 1, "{}", run.text);
    assert!(run.text.contains("has driver ixgbe instead of vfio-pci"), "{}", run.text);
    assert!(run.text.contains("next: "), "{}", run.text);
}

#[test]
fn a_dry_run_names_the_commands_and_changes_nothing() {
    let machine = Machine::new();
    assert!(machine.succeeds(&["bind", FIRST, "--dry-run"]).contains("--bind=vfio-pci 0000:01:00.0"));
    assert!(machine.succeeds(&["unbind", FIRST, "--dry-run"]).contains("--unbind 0000:01:00.0"));
    let text = machine.succeeds(&["reserve", &size_of_pages(32), "--persist", "--dry-run"]);
    assert!(text.contains("vm.nr_hugepages = 64"), "{text}");
    assert!(machine.devbind_calls().is_empty());
    assert_eq!(machine.pages(), ["3", "3"]);
    assert!(!machine.path("state").exists());
    assert!(!machine.path("sysctl.d").exists());

    machine.succeeds(&["bind", FIRST]);
    assert!(machine.succeeds(&["undo", "--dry-run"]).contains("--bind=ixgbe 0000:01:00.0"));
    assert_eq!(machine.driver(FIRST).unwrap(), "vfio-pci");
    assert!(machine.path("state/hugepages.state").exists());
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_is_right() {
    let machine = Machine::new();
    for args in [
        &["frobnicate"][..],
        &["reserve"],
        &["reserve", "plenty"],
        &["reserve", "0M"],
        &["reserve", "3K"],
        &["reserve", "64M", "--forever"],
        &["bind"],
        &["bind", "eth1"],
        &["bind", FIRST, "--driver"],
        &["bind", FIRST, "--driver", "none"],
        &["unbind"],
        &["undo", "now"],
    ] {
        let run = machine.run(args);
        assert_eq!(run.code, 2, "{args:?}: {}", run.text);
        assert!(run.text.contains("next: "), "{args:?}: {}", run.text);
    }
    assert_eq!(machine.run(&[]).code, 2);
    assert!(machine.succeeds(&["--help"]).contains("Exit codes"));
}

#[test]
fn every_node_gets_its_pages_and_undo_restores_each() {
    let machine = Machine::new();
    machine.succeeds(&["reserve", &size_of_pages(32), "--persist"]);
    assert_eq!(machine.pages(), ["32", "32"]);
    let written = machine.path("sysctl.d/90-cordon-hugepages.conf");
    assert!(fs::read_to_string(&written).unwrap().contains("vm.nr_hugepages = 64\n"));
    assert!(machine.succeeds(&["reserve", &size_of_pages(32), "--persist"]).contains("already"));
    machine.succeeds(&["reserve", &size_of_pages(48)]);
    machine.succeeds(&["undo"]);
    assert_eq!(machine.pages(), ["3", "3"]);
    assert!(!written.exists());
}

#[test]
fn a_reservation_that_fails_on_one_node_leaves_none() {
    let machine = Machine::new();
    machine.refuses(&["reserve", &size_of_pages(200), "--persist"], "put back what stood before");
    assert_eq!(machine.pages(), ["3", "3"]);
    assert!(!machine.path("state/hugepages.state").exists());
    assert!(!machine.path("sysctl.d").exists());
}

#[test]
fn a_file_that_is_not_ours_is_never_overwritten() {
    let machine = Machine::new();
    fs::create_dir(machine.path("sysctl.d")).unwrap();
    let theirs = machine.path("sysctl.d/90-cordon-hugepages.conf");
    fs::write(&theirs, "vm.nr_hugepages = 7\n").unwrap();
    machine.refuses(&["reserve", &size_of_pages(32), "--persist"], "is not ours");
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "vm.nr_hugepages = 7\n");
}

/// Pages of the default size on each NUMA node of this very machine.
fn real_pages() -> Vec<(PathBuf, u64)> {
    let kb = page_kb();
    let mut pages: Vec<_> = fs::read_dir("/sys/devices/system/node")
        .unwrap()
        .map(|entry| entry.unwrap().path().join(format!("hugepages/hugepages-{kb}kB/nr_hugepages")))
        .filter(|path| path.exists())
        .map(|path| {
            let count = fs::read_to_string(&path).unwrap().trim().parse().unwrap();
            (path, count)
        })
        .collect();
    pages.sort();
    pages
}

/// Gives back what the script reserved when an assertion fails half-way.
struct UndoAtEnd<'a>(&'a Path);

impl UndoAtEnd<'_> {
    fn run(&self, args: &[&str]) -> Run {
        let mut command = script();
        command.args(args).env("CORDON_STATE_DIR", self.0).env("CORDON_SYSCTL_DIR", self.0);
        command.output().unwrap().into()
    }
}

impl Drop for UndoAtEnd<'_> {
    fn drop(&mut self) {
        self.run(&["undo"]);
    }
}

#[test]
fn hugepages_are_really_reserved_shown_and_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let machine = UndoAtEnd(dir.path());
    let before = real_pages();
    // On top of what anybody else may have reserved here, so that nobody loses pages.
    let wanted = before.iter().map(|(_, count)| *count).max().unwrap() + 64 * 1024 / page_kb();
    let reserved = machine.run(&["reserve", &size_of_pages(wanted), "--persist"]);
    assert_eq!(reserved.code, 0, "{}", reserved.text);
    assert!(real_pages().iter().all(|(_, count)| *count == wanted), "{:?}", real_pages());

    let status = machine.run(&["status"]);
    assert_eq!(status.code, 0, "{}", status.text);
    let row: Vec<_> =
        status.text.lines().find(|line| line.starts_with("0 ")).unwrap().split_whitespace().collect();
    assert_eq!(row[1], wanted.to_string());
    assert!(status.text.contains("undo' restores this"), "{}", status.text);

    let undone = machine.run(&["undo"]);
    assert_eq!(undone.code, 0, "{}", undone.text);
    assert_eq!(real_pages(), before);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "undo leaves no file behind");
}

/// A network namespace that goes away with the test.
struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Self {
        let namespace = Self(format!("c{}-{name}", std::process::id()));
        assert!(Command::new("ip").args(["netns", "add", &namespace.0]).status().unwrap().success());
        namespace
    }

    fn ip(&self, args: &str) {
        let done = Command::new("ip").args(["-n", &self.0]).args(args.split_whitespace()).status().unwrap();
        assert!(done.success(), "ip {args}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

#[test]
fn netns_status_finds_the_real_kernels_default_routes_below_a_bridge() {
    let namespace = Namespace::new("routes");
    for args in [
        "link add port type veth peer name far",
        "link add name br0 type bridge",
        "link set port master br0",
        "link set port up",
        "link set far up",
        "link set br0 up",
        "addr add 10.5.0.1/24 dev br0",
        "route add default via 10.5.0.2",
        "-6 addr add fd05::1/64 dev far nodad",
        "-6 route add default via fd05::2 dev far",
    ] {
        namespace.ip(args);
    }
    let run: Run = Command::new("ip")
        .args(["netns", "exec", &namespace.0])
        .arg(script().get_program())
        .arg("status")
        .output()
        .unwrap()
        .into();
    assert_eq!(run.code, 0, "{}", run.text);
    for expected in
        ["br0 (default route on br0)", "port (default route on br0)", "far (default route on far)"]
    {
        assert!(run.text.contains(expected), "no '{expected}' in: {}", run.text);
    }
}
